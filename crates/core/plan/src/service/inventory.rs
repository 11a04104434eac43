//! How a service's tasks stand: which can be counted on, which must be replaced, which may be stopped.

use std::collections::{BTreeMap, BTreeSet};

use longshore_types::{DeploymentId, InstanceArn, InstanceId, Timestamp};
use model::instance::InstanceStatus;
use model::task::{Desired, Health, Phase, Task};

use super::limits::{READY_AFTER_FAILURE_MS, READY_AFTER_MS};
use super::snapshot::Snapshot;

/// How a task that is not stopped stands, in the order in which stopping it costs more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Readiness {
    /// It is not wanted any more and has not stopped yet.
    Stopping,
    /// It does not run yet.
    Pending,
    /// It runs, and its health checks fail.
    Failing,
    /// It runs; its health checks have not passed yet, or it has not run for long.
    Unproven,
    Healthy,
}

/// Why a task cannot stay although its deployment is the right one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    Unhealthy,
    Draining(InstanceArn),
}

/// A task that is not stopped.
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

    /// Wanted, and not to be replaced.
    pub(super) fn stays(&self) -> bool {
        self.is_wanted() && self.leave.is_none()
    }

    pub(super) fn is_running(&self) -> bool {
        self.readiness >= Readiness::Failing
    }
}

/// A service's tasks that are not stopped.
#[derive(Clone, Debug, Default)]
pub(super) struct TaskInventory<'a> {
    pub(super) views: BTreeMap<DeploymentId, Vec<TaskView<'a>>>,
    /// When some task stands otherwise even if nothing happens.
    pub(super) look_again_at: Option<Timestamp>,
}

impl<'a> TaskInventory<'a> {
    /// `cautious` are the deployments and task sets whose last tries failed.
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
            let readiness = inventory.readiness(task, ready_after_ms, snapshot.now);
            let mut leave = task
                .instance
                .and_then(|id| leaving.get(&id))
                .map(|arn| Leave::Draining((*arn).clone()));
            if readiness == Readiness::Failing && leave.is_none() {
                let patience_ends = task.times.started.unwrap_or_default().plus_ms(grace_ms);
                if patience_ends <= snapshot.now {
                    leave = Some(Leave::Unhealthy);
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

    /// Those of every other deployment.
    pub(super) fn but(&self, id: Option<DeploymentId>) -> impl Iterator<Item = &TaskView<'a>> {
        self.views.iter().filter(move |(each, _)| Some(**each) != id).flat_map(|(_, all)| all)
    }

    fn wake_at(&mut self, at: Timestamp) {
        self.look_again_at = Some(self.look_again_at.map_or(at, |known| known.min(at)));
    }

    fn readiness(&mut self, task: &Task, ready_after_ms: u64, now: Timestamp) -> Readiness {
        if task.desired == Desired::Stopped || task.phase > Phase::Running {
            return Readiness::Stopping;
        }
        if task.phase < Phase::Running {
            return Readiness::Pending;
        }
        if is_health_checked(task) {
            return match task.health() {
                Health::Healthy => Readiness::Healthy,
                Health::Unhealthy => Readiness::Failing,
                Health::Unknown => Readiness::Unproven,
            };
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

/// Whether the task's health is told by checks and not only by its running.
pub(super) fn is_health_checked(task: &Task) -> bool {
    task.containers.iter().any(|each| each.essential && each.is_health_checked)
}

/// So many, held at the largest count.
pub(super) fn count<T>(many: impl Iterator<Item = T>) -> u32 {
    u32::try_from(many.count()).unwrap_or(u32::MAX)
}
