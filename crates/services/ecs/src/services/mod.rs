//! What keeps services' promises: the shell around `plan::service`.
//!
//! [`wake`] finds out which services a changed row concerns, [`pass`] has one service looked at by the
//! pure reconciler and makes its actions durable, all of one pass in one batch. [`lost`] ends the tasks of
//! instances whose heartbeat timed out. Both are run by the region's reconcile driver.
//!
//! Level-triggered: a pass looks at all that its service has. What waits for time has an alarm, what waits
//! for others is woken by their change. [`rolls`] begins deployments for secrets that have changed.

mod balance;
pub(crate) mod connect;
mod interest;
pub(crate) mod lost;
mod missing;
mod pass;
pub(crate) mod registries;
pub(crate) mod rolls;
#[cfg(test)]
mod simulation;
mod snapshot;
mod starts;
#[cfg(test)]
mod tests;
mod wake;

use std::sync::Arc;

use aws_wire::ApiError;
use control::reconcile::{Pass, PassFuture, Queue, Reconciler};
use longshore_types::AccountId;
use model::{Index, Key, ServiceId, View};
use store::Change;

use crate::Ecs;
pub(crate) use balance::load_balance;
use interest::{Interest, Interests};
pub(crate) use snapshot::load_capacity;
use wake::SeenInstances;

/// Passes of different services that are under way at once: while one waits for the disk, others decide.
const PASSES_MAX: usize = 64;
/// Daemons go before all others.
const RANK_OF_REPLICAS: u8 = 1;

/// Names a service within the region.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Who {
    pub(crate) account: AccountId,
    pub(crate) service: ServiceId,
}

/// Keeps every service that is not inactive as it is wanted.
#[derive(Debug)]
pub(crate) struct Services {
    ecs: Arc<Ecs>,
    seen: SeenInstances,
    interests: Interests,
}

impl Services {
    pub(crate) fn new(ecs: &Arc<Ecs>) -> Self {
        Self {
            ecs: Arc::clone(ecs),
            seen: SeenInstances::default(),
            interests: Interests::default(),
        }
    }
}

impl Reconciler for Services {
    type Key = Who;
    /// What the service waits for now; `None` if it is over.
    type Note = Option<Interest>;
    type Error = ApiError;

    fn name(&self) -> &'static str {
        "services"
    }

    fn passes_max(&self) -> usize {
        PASSES_MAX
    }

    fn wake(&mut self, view: &View, change: &Change, queue: &mut Queue<Who>) {
        wake::row(view, change, &mut self.seen, &self.interests, queue);
    }

    fn keys(&mut self, view: &View) -> Vec<Who> {
        self.seen = SeenInstances::of(view);
        let services = view.members(&Index::LiveServices).filter_map(|key| match key {
            Key::Service(account, service) => {
                Some(Who { account: *account, service: service.clone() })
            }
            _ => None,
        });
        services.collect()
    }

    fn pass(&self, who: &Who) -> PassFuture<Result<Pass<Option<Interest>>, ApiError>> {
        let (ecs, who) = (Arc::clone(&self.ecs), who.clone());
        Box::pin(async move { pass::run(&ecs, &who).await })
    }

    fn finished(&mut self, who: &Who, interest: Option<Interest>, queue: &mut Queue<Who>) {
        let interest = interest.unwrap_or_default();
        self.interests.set(who, interest);
        queue.set_rank(who, if interest.is_daemon { 0 } else { RANK_OF_REPLICAS });
    }
}
