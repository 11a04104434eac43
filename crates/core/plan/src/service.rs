//! A service's reconciler: looks at what is, at what was promised, and names the next moves.
//!
//! [`reconcile`] is level-triggered: it is never told *what* changed, so a wake-up that is lost or
//! repeated is harmless and a restart needs no special path. It takes in what happened to the tasks
//! ([`book`]), decides what becomes of the deployments, and then which tasks start and stop
//! ([`rolling`], [`daemon`], [`external`]).
//!
//! **Invariants:** our own moves never leave fewer healthy tasks than the floor, nor make more tasks
//! than the ceiling ([`limits`]); a protected task is stopped for no scale-in and no deployment; a
//! task that failed is counted once; once a verdict is carried out, the same picture has no moves.

mod book;
mod census;
mod daemon;
mod external;
mod gates;
pub mod limits;
mod order;
mod picture;
mod rolling;
mod turn;

#[cfg(test)]
mod tests;

use model::service::{Controller, Scheduling, ServiceStatus};

pub use gates::{
    BreakerStatus, BreakerView, Counts, breaker, count_tasks, counts, desired_count, gates,
    rollout_reason, service_counts, task_set_counts,
};
pub use limits::{Sizes, backoff_ms, breaker_threshold};
pub use picture::{Picture, Place, ServiceHost, Start, Verdict};

use turn::Turn;

/// Decides one turn: what to start and stop, and what to write down.
pub fn reconcile(picture: &Picture<'_>) -> Verdict {
    let mut turn = Turn::new(picture);
    turn.take_in();
    match (picture.service.status, picture.service.controller, picture.service.scheduling) {
        (ServiceStatus::Inactive, _, _) => {}
        (ServiceStatus::Draining, _, _) => turn.wind_down(),
        (ServiceStatus::Active, Controller::External, _) => external::decide(&mut turn),
        (ServiceStatus::Active, Controller::Ecs, Scheduling::Replica) => {
            turn.follow_deployments();
            rolling::decide(&mut turn);
        }
        (ServiceStatus::Active, Controller::Ecs, Scheduling::Daemon) => {
            turn.follow_deployments();
            daemon::decide(&mut turn);
        }
    }
    turn.verdict()
}
