//! A service's reconciler: compares a snapshot of its rows with what the service asks for, and plans actions.
//!
//! [`reconcile`] is level-triggered: it is never told *what* changed, so a wake-up that is lost or
//! repeated is harmless and a restart needs no special path. It takes in what happened to the tasks
//! ([`outcomes`]), decides what becomes of the deployments, and then which tasks start and stop
//! ([`rolling`], [`shifting`], [`daemon`], [`external`]).
//!
//! **Invariants:** its own actions never leave fewer healthy tasks than the floor, nor make more tasks
//! than the ceiling ([`limits`]); a protected task is stopped for no scale-in and no deployment; a
//! task that failed is counted once; once a plan is carried out, the same snapshot has no actions.

mod daemon;
mod external;
mod inventory;
pub mod limits;
mod order;
mod outcomes;
mod pass;
mod rolling;
mod shifting;
mod snapshot;
pub mod split;
mod wait_reasons;

#[cfg(test)]
mod tests;

use model::service::{Controller, Scheduling, ServiceStatus};

pub use limits::{Sizes, backoff_ms, breaker_threshold};
pub use snapshot::{Balance, Place, ServiceHost, ServicePlan, Snapshot, Start, TargetFailure};
pub use wait_reasons::{
    BreakerStatus, BreakerView, Counts, breaker, count_tasks, counts, desired_count,
    rollout_reason, service_counts, task_set_counts, wait_reasons,
};

use pass::Pass;

/// Plans one pass: what to start and stop, and which rows to write.
pub fn reconcile(snapshot: &Snapshot<'_>) -> ServicePlan {
    let mut pass = Pass::new(snapshot);
    pass.take_in();
    match (snapshot.service.status, snapshot.service.controller, snapshot.service.scheduling) {
        (ServiceStatus::Inactive, _, _) => {}
        (ServiceStatus::Draining, _, _) => pass.wind_down(),
        (ServiceStatus::Active, Controller::External, _) => external::decide(&mut pass),
        (ServiceStatus::Active, Controller::Ecs, Scheduling::Replica) => {
            pass.follow_deployments();
            rolling::decide(&mut pass);
        }
        (ServiceStatus::Active, Controller::Ecs, Scheduling::Daemon) => {
            pass.follow_deployments();
            daemon::decide(&mut pass);
        }
    }
    pass.into_plan()
}
