//! Destroys keys whose waiting period is over, and gives keys new material that rotate.

use std::sync::Arc;

use aws_wire::ApiError;
use control::Control;
use control::reconcile::{Pass, PassFuture, Queue, Reconciler};
use longshore_types::{AccountId, Timestamp, Uuid};
use model::kms::{KeyRotation, KeyState, MaterialCause};
use model::{Key, KmsKey, View};
use store::{Batch, Change};

use crate::Kms;
use crate::rotation::next_at;

#[derive(Debug)]
pub(crate) struct KeyChores(pub(crate) Arc<Control>);

pub(crate) type Which = (AccountId, Uuid);

/// When something is to be done with a key, if anything ever is.
fn due_at(row: &KmsKey) -> Option<Timestamp> {
    match row.state {
        KeyState::PendingDeletion(at) => Some(at),
        KeyState::Enabled => row.rotation.map(|rotation| rotation.next_at),
        // It rotates when it is enabled again.
        KeyState::Disabled => None,
    }
}

/// Does what is due, and says when the next thing is.
fn chore(
    control: &Control,
    view: &View,
    now: Timestamp,
    key: &Which,
) -> (Batch, Option<Timestamp>) {
    let mut batch = Batch::on(view);
    let (account, id) = *key;
    let Some(row) = view.kms_keys.get(account, &id) else { return (batch, None) };
    match due_at(row) {
        None => (batch, None),
        Some(at) if now < at => (batch, Some(at)),
        Some(_) if matches!(row.state, KeyState::PendingDeletion(_)) => {
            batch.delete(Key::KmsKey(account, id));
            for alias in view.kms_aliases.of(account).filter(|alias| alias.key == id) {
                batch.delete(Key::KmsAlias(account, Arc::clone(&alias.name)));
            }
            (batch, None)
        }
        Some(_) => {
            let mut next = KmsKey::clone(row);
            Kms::rotate(control, &mut next, MaterialCause::Automatic, now);
            next.rotation = next.rotation.map(|KeyRotation { period_days, .. }| KeyRotation {
                period_days,
                next_at: next_at(period_days, now),
            });
            let again_at = due_at(&next);
            batch.put(next);
            (batch, again_at)
        }
    }
}

impl Reconciler for KeyChores {
    type Key = Which;
    type Note = ();
    type Error = ApiError;

    fn name(&self) -> &'static str {
        "kms-keys"
    }

    fn wake(&mut self, view: &View, change: &Change, queue: &mut Queue<Which>) {
        if let Key::KmsKey(account, id) = &change.key
            && view.kms_keys.get(*account, id).is_some_and(|row| due_at(row).is_some())
        {
            queue.changed(&(*account, *id), change.seq);
        }
    }

    fn keys(&mut self, view: &View) -> Vec<Which> {
        let busy = view.kms_keys.iter().filter(|row| due_at(row).is_some());
        busy.map(|row| (row.account, row.id)).collect()
    }

    fn pass(&self, key: &Which) -> PassFuture<Result<Pass<()>, ApiError>> {
        let (control, key) = (Arc::clone(&self.0), *key);
        Box::pin(async move {
            let decided = control.decide(|view, now| {
                let (batch, again_at) = chore(&control, view, now, &key);
                Ok((batch, (view.seq, again_at)))
            });
            let (looked_at, again_at) = decided.await?;
            Ok(Pass { looked_at, again_at, is_over: again_at.is_none(), ..Pass::default() })
        })
    }
}
