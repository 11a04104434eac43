//! Ends shifts whose time is over.

use std::sync::Arc;

use aws_wire::ApiError;
use control::Control;
use control::reconcile::{Pass, PassFuture, Queue, Reconciler};
use longshore_types::AccountId;
use model::elb::{ElbPath, ShiftState};
use model::{ElbBalancer, Key, View};
use store::{Batch, Change};
use tracing::info;

#[derive(Debug)]
pub(crate) struct Expiry(pub(crate) Arc<Control>);

impl Reconciler for Expiry {
    type Key = (AccountId, ElbPath);
    type Note = ();
    type Error = ApiError;

    fn name(&self) -> &'static str {
        "zonal-shifts"
    }

    fn wake(&mut self, view: &View, change: &Change, queue: &mut Queue<Self::Key>) {
        if let Key::ElbBalancer(account, path) = &change.key
            && view
                .elb_balancers
                .get(*account, path)
                .is_some_and(|row| row.active_shift().is_some())
        {
            queue.changed(&(*account, Arc::clone(path)), change.seq);
        }
    }

    fn keys(&mut self, view: &View) -> Vec<Self::Key> {
        let shifted = view.elb_balancers.iter().filter(|row| row.active_shift().is_some());
        shifted.map(|row| (row.scope.account, row.path())).collect()
    }

    fn pass(&self, (account, path): &Self::Key) -> PassFuture<Result<Pass<()>, ApiError>> {
        let (control, account, path) = (Arc::clone(&self.0), *account, Arc::clone(path));
        Box::pin(async move {
            let decided = control.decide(|view, now| {
                let mut batch = Batch::on(view);
                let row = view.elb_balancers.get(account, &path);
                let ends_at = row.and_then(|row| row.active_shift()).map(|shift| shift.expires_at);
                if let (Some(row), Some(_)) = (row, ends_at.filter(|at| *at <= now)) {
                    let mut next = ElbBalancer::clone(row);
                    next.end_shift(ShiftState::Expired);
                    batch.put(next);
                    return Ok((batch, (view.seq, None)));
                }
                Ok((batch, (view.seq, ends_at)))
            });
            let (looked_at, again_at) = decided.await?;
            if again_at.is_none() {
                info!(balancer = %path, "no zonal shift any more");
            }
            Ok(Pass { looked_at, again_at, is_over: again_at.is_none(), ..Pass::default() })
        })
    }
}
