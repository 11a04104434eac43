//! When users' keys and passwords, and roles, were last used, written down now and then for all of them together.

use std::sync::Arc;
use std::time::Duration;

use aws_wire::ApiError;
use control::Control;
use control::iam::{KeyUse, entity_of};
use control::reconcile::{NowAndThen, Pass, PassFuture, Queue, Reconciler};
use longshore_types::AccountId;
use model::{IamKeyUse, View};
use store::{Batch, Change};

const EVERY: Duration = Duration::from_secs(60);
/// Keys of one pass; the others wait for the next.
const KEYS_MAX: usize = 200;

/// When and for what a key, a role or a user's password was used last, written down or not yet.
pub(crate) fn last(
    control: &Control,
    view: &View,
    account: AccountId,
    key: &Arc<str>,
) -> Option<IamKeyUse> {
    let fresh = control.access.uses.last(key).map(|used| row(key, &used));
    fresh.or_else(|| view.iam_key_uses.get(account, key).map(|row| IamKeyUse::clone(row)))
}

fn row(key: &str, used: &KeyUse) -> IamKeyUse {
    IamKeyUse {
        account: used.account,
        key: key.into(),
        at: used.at,
        service: used.service.to_owned(),
        region: used.region.clone(),
    }
}

#[derive(Debug)]
pub(crate) struct Uses(pub(crate) Arc<Control>);

impl Reconciler for Uses {
    type Key = NowAndThen;
    type Note = ();
    type Error = ApiError;

    fn name(&self) -> &'static str {
        "access-key-uses"
    }

    /// It goes by time alone.
    fn wake(&mut self, _: &View, _: &Change, _: &mut Queue<NowAndThen>) {}

    fn keys(&mut self, _: &View) -> Vec<NowAndThen> {
        vec![NowAndThen]
    }

    fn pass(&self, _: &NowAndThen) -> PassFuture<Result<Pass<()>, ApiError>> {
        let control = Arc::clone(&self.0);
        Box::pin(async move {
            let looked_at = write(&control).await?;
            let now = control.clock.now();
            let again_at = u64::try_from(EVERY.as_millis()).ok().map(|ms| now.plus_ms(ms));
            Ok(Pass { looked_at, again_at, ..Pass::default() })
        })
    }
}

/// Writes what is news; costs nothing if nothing is.
pub(crate) async fn write(control: &Control) -> Result<model::Seq, ApiError> {
    let mut uses = control.access.uses.all();
    uses.truncate(KEYS_MAX);
    let seq = control.view().seq;
    if uses.is_empty() {
        return Ok(seq);
    }
    let decided = control.decide(|view, _| {
        let mut batch = Batch::on(view);
        // A key or a role that is gone by now has no last use any more.
        let known = uses.iter().filter(|(key, used)| {
            let is_key = view.iam_access_keys.get(used.account, &key.as_str().into()).is_some();
            is_key || entity_of(view, key).is_some()
        });
        for (key, used) in known {
            batch.put(row(key, used));
        }
        Ok((batch, ()))
    });
    decided.await?;
    control.access.uses.written(&uses);
    Ok(seq)
}
