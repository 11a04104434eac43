//! The task inventory: a service's tasks that have not stopped, by deployment, each with its readiness.
//!
//! It is built anew in each pass from the snapshot alone. Where a task's readiness will change by the clock, the
//! earliest such moment is kept, and the reconciler runs again then.

use std::collections::{BTreeMap, BTreeSet};

use longshore_types::{DeploymentId, InstanceArn, InstanceId, Timestamp};
use model::instance::InstanceStatus;
use model::task::{Desired, Health, Phase, Task};

use super::limits::{READY_AFTER_FAILURE_MS, READY_AFTER_MS};
use super::snapshot::{Balance, Snapshot, TargetFailure};

/// How far a task that has not stopped serves. The order is that in which tasks are stopped: the lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Readiness {
    /// Its desired status is STOPPED, and it has not stopped yet.
    Stopping,
    /// It has not reached RUNNING.
    Pending,
    /// It runs, and its health checks fail.
    Failing,
    /// It runs, and its health checks have not passed yet; without checks, it has run for less than
    /// [`READY_AFTER_MS`] or [`READY_AFTER_FAILURE_MS`].
    Unproven,
    /// It runs, and its health checks pass; without checks, it has run for long enough. It counts towards the
    /// floor.
    Healthy,
}

/// Why a task must be replaced although its deployment is the right one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// Its health checks failed, and the service's grace period is over.
    Unhealthy,
    /// A load balancer's checks failed, and the grace period is over.
    TargetUnhealthy(TargetFailure),
    /// Its instance is draining or gone.
    Draining(InstanceArn),
}

impl Leave {
    /// Whether checks failed, of whichever kind.
    pub(super) fn is_unhealthy(&self) -> bool {
        match self {
            Self::Unhealthy | Self::TargetUnhealthy(_) => true,
            Self::Draining(_) => false,
        }
    }
}

/// A task that has not stopped, as the reconciler sees it.
#[derive(Clone, Debug)]
pub(super) struct TaskView<'a> {
    pub(super) task: &'a Task,
    pub(super) deployment: DeploymentId,
    pub(super) readiness: Readiness,
    pub(super) leave: Option<Leave>,
    pub(super) is_protected: bool,
}

impl TaskView<'_> {
    pub(super) fn is_wanted(&self) -> bool {
        self.readiness != Readiness::Stopping
    }

    /// Wanted, and nothing asks for its replacement.
    pub(super) fn stays(&self) -> bool {
        self.is_wanted() && self.leave.is_none()
    }

    pub(super) fn is_running(&self) -> bool {
        self.readiness >= Readiness::Failing
    }
}

/// A service's tasks that have not stopped, by deployment or task set.
#[derive(Clone, Debug, Default)]
pub(super) struct TaskInventory<'a> {
    pub(super) views: BTreeMap<DeploymentId, Vec<TaskView<'a>>>,
    /// The earliest time at which a task's readiness changes by the clock alone.
    pub(super) look_again_at: Option<Timestamp>,
}

impl<'a> TaskInventory<'a> {
    /// `cautious` are the deployments and task sets whose last tries failed: their tasks count as healthy only
    /// after [`READY_AFTER_FAILURE_MS`].
    pub(super) fn of(snapshot: &Snapshot<'a>, cautious: &BTreeSet<DeploymentId>) -> Self {
        let leaving: BTreeMap<InstanceId, &InstanceArn> = snapshot
            .hosts
            .iter()
            .filter(|host| host.status != InstanceStatus::Active)
            .map(|host| (host.id, &host.arn))
            .collect();
        let grace_ms = u64::from(snapshot.service.health_check_grace_s.unwrap_or(0)) * 1000;
        let mut inventory = Self::default();
        for &task in &snapshot.tasks {
            let Some(service) = &task.service else { continue };
            if task.phase == Phase::Stopped {
                continue;
            }
            let deployment = service.deployment;
            let is_cautious = cautious.contains(&deployment);
            let ready_after_ms = if is_cautious { READY_AFTER_FAILURE_MS } else { READY_AFTER_MS };
            let balance = snapshot.balance.get(&task.id);
            let readiness = inventory.readiness(task, balance, ready_after_ms, snapshot.now);
            let mut leave = task
                .instance
                .and_then(|id| leaving.get(&id))
                .map(|arn| Leave::Draining((*arn).clone()));
            if readiness == Readiness::Failing && leave.is_none() {
                let patience_ends = task.times.started.unwrap_or_default().plus_ms(grace_ms);
                if patience_ends <= snapshot.now {
                    leave = Some(match balance {
                        Some(Balance::Failing(failure)) => Leave::TargetUnhealthy(failure.clone()),
                        Some(Balance::Awaited | Balance::Healthy) | None => Leave::Unhealthy,
                    });
                } else {
                    inventory.wake_at(patience_ends);
                }
            }
            let is_protected = task.is_protected(snapshot.now);
            let view = TaskView { task, deployment, readiness, leave, is_protected };
            inventory.views.entry(deployment).or_default().push(view);
        }
        inventory
    }

    pub(super) fn of_deployment(&self, id: DeploymentId) -> &[TaskView<'a>] {
        self.views.get(&id).map_or(&[], Vec::as_slice)
    }

    /// The tasks of every other deployment, or of all.
    pub(super) fn but(&self, id: Option<DeploymentId>) -> impl Iterator<Item = &TaskView<'a>> {
        self.views.iter().filter(move |(each, _)| Some(**each) != id).flat_map(|(_, all)| all)
    }

    fn wake_at(&mut self, at: Timestamp) {
        self.look_again_at = Some(self.look_again_at.map_or(at, |known| known.min(at)));
    }

    fn readiness(
        &mut self,
        task: &Task,
        balance: Option<&Balance>,
        ready_after_ms: u64,
        now: Timestamp,
    ) -> Readiness {
        if task.desired == Desired::Stopped || task.phase > Phase::Running {
            return Readiness::Stopping;
        }
        if task.phase < Phase::Running {
            return Readiness::Pending;
        }
        // Where load balancers check a task, it is no matter of time; both they and its own checks must be content.
        let balanced = balance.map(|balance| match balance {
            Balance::Awaited => Readiness::Unproven,
            Balance::Healthy => Readiness::Healthy,
            Balance::Failing(_) => Readiness::Failing,
        });
        if is_health_checked(task) {
            let own = match task.health() {
                Health::Healthy => Readiness::Healthy,
                Health::Unhealthy => Readiness::Failing,
                Health::Unknown => Readiness::Unproven,
            };
            return balanced.map_or(own, |balanced| balanced.min(own));
        }
        if let Some(balanced) = balanced {
            return balanced;
        }
        let is_known = task.service.as_ref().is_some_and(|service| service.is_ready);
        let ready_at = task.times.started.unwrap_or(task.times.created).plus_ms(ready_after_ms);
        if is_known || ready_at <= now {
            Readiness::Healthy
        } else {
            self.wake_at(ready_at);
            Readiness::Unproven
        }
    }
}

/// Whether an essential container has a health check: then its result decides, not the time it runs.
pub(super) fn is_health_checked(task: &Task) -> bool {
    task.containers.iter().any(|each| each.essential && each.is_health_checked)
}

/// The length of an iterator, capped at `u32::MAX`.
pub(super) fn count<T>(many: impl Iterator<Item = T>) -> u32 {
    u32::try_from(many.count()).unwrap_or(u32::MAX)
}
