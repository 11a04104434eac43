//! Deletes secrets whose recovery window is over.

use std::sync::Arc;

use aws_wire::ApiError;
use control::Control;
use control::reconcile::{Pass, PassFuture, Queue, Reconciler};
use longshore_types::{AccountId, Timestamp};
use model::{Key, Secret, View};
use store::{Batch, Change};

use crate::delete::remove;

#[derive(Debug)]
pub(crate) struct DeletedSecrets(pub(crate) Arc<Control>);

/// A secret that is to be deleted.
pub(crate) type Which = (AccountId, Arc<str>);

/// When a secret goes, if it does.
fn due_at(row: &Secret) -> Option<Timestamp> {
    row.deletion.map(|deletion| deletion.due_at)
}

impl Reconciler for DeletedSecrets {
    type Key = Which;
    type Note = ();
    type Error = ApiError;

    fn name(&self) -> &'static str {
        "deleted-secrets"
    }

    fn wake(&mut self, view: &View, change: &Change, queue: &mut Queue<Which>) {
        if let Key::Secret(account, name) = &change.key
            && view.secrets.get(*account, name).is_some_and(|row| due_at(row).is_some())
        {
            queue.changed(&(*account, Arc::clone(name)), change.seq);
        }
    }

    fn keys(&mut self, view: &View) -> Vec<Which> {
        let ending = view.secrets.iter().filter(|row| due_at(row).is_some());
        ending.map(|row| (row.account, Arc::clone(&row.name))).collect()
    }

    fn pass(&self, key: &Which) -> PassFuture<Result<Pass<()>, ApiError>> {
        let (control, (account, name)) = (Arc::clone(&self.0), key.clone());
        Box::pin(async move {
            let decided = control.decide(|view, now| {
                let mut batch = Batch::on(view);
                let row = view.secrets.get(account, &name);
                let again_at = row.and_then(|row| due_at(row)).filter(|at| now < *at);
                if let Some(row) = row.filter(|row| due_at(row).is_some() && again_at.is_none()) {
                    remove(&mut batch, row);
                }
                Ok((batch, (view.seq, again_at)))
            });
            let (looked_at, again_at) = decided.await?;
            Ok(Pass { looked_at, again_at, is_over: again_at.is_none(), ..Pass::default() })
        })
    }
}
