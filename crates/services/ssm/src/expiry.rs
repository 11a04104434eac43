//! Does what parameters' policies say at their times: deletes them, and notes what is told of them (`told`).

use std::sync::Arc;

use aws_wire::ApiError;
use control::Control;
use control::reconcile::{Pass, PassFuture, Queue, Reconciler};
use longshore_types::{AccountId, Timestamp};
use model::{Key, Parameter, View};
use store::{Batch, Change};

use crate::delete::remove;

#[derive(Debug)]
pub(crate) struct ExpiringParameters(pub(crate) Arc<Control>);

/// A parameter that has such a policy.
pub(crate) type Which = (AccountId, Arc<str>);

/// When the next of its policies has something done, if one does.
fn due_at(row: &Parameter) -> Option<Timestamp> {
    let to_tell = row.notices.iter().filter(|notice| !notice.is_told).map(|notice| notice.at);
    to_tell.chain(row.expires_at).min()
}

/// Does what is due.
fn act(view: &View, batch: &mut Batch, row: &Parameter, now: Timestamp) -> Option<Timestamp> {
    if row.expires_at.is_some_and(|at| at <= now) {
        remove(view, batch, row);
        return None;
    }
    let mut next = row.clone();
    for notice in &mut next.notices {
        notice.is_told |= notice.at <= now;
    }
    let again_at = due_at(&next);
    if next != *row {
        batch.put(next);
    }
    again_at
}

impl Reconciler for ExpiringParameters {
    type Key = Which;
    type Note = ();
    type Error = ApiError;

    fn name(&self) -> &'static str {
        "expiring-parameters"
    }

    fn wake(&mut self, view: &View, change: &Change, queue: &mut Queue<Which>) {
        if let Key::Parameter(account, name) = &change.key
            && view.parameters.get(*account, name).is_some_and(|row| due_at(row).is_some())
        {
            queue.changed(&(*account, Arc::clone(name)), change.seq);
        }
    }

    fn keys(&mut self, view: &View) -> Vec<Which> {
        let ending = view.parameters.iter().filter(|row| due_at(row).is_some());
        ending.map(|row| (row.account, Arc::clone(&row.name))).collect()
    }

    fn pass(&self, key: &Which) -> PassFuture<Result<Pass<()>, ApiError>> {
        let (control, (account, name)) = (Arc::clone(&self.0), key.clone());
        Box::pin(async move {
            let decided = control.decide(|view, now| {
                let mut batch = Batch::on(view);
                let row = view.parameters.get(account, &name);
                let again_at = row.and_then(|row| act(view, &mut batch, row, now));
                Ok((batch, (view.seq, again_at)))
            });
            let (looked_at, again_at) = decided.await?;
            Ok(Pass { looked_at, again_at, is_over: again_at.is_none(), ..Pass::default() })
        })
    }
}
