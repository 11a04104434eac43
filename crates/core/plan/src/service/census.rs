//! How a service's tasks stand: which can be counted on, which must be replaced, which may be stopped.

use std::collections::{BTreeMap, BTreeSet};

use longshore_types::{DeploymentId, InstanceArn, InstanceId, Timestamp};
use model::instance::InstanceStatus;
use model::task::{Desired, Health, Phase, Task};

use super::limits::{SETTLE_AFTER_FAILURE_MS, SETTLE_MS};
use super::picture::Picture;

/// How a task that is not stopped stands, in the order in which stopping it costs more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
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
pub(super) struct Member<'a> {
    pub(super) task: &'a Task,
    pub(super) deployment: DeploymentId,
    pub(super) standing: Standing,
    pub(super) leave: Option<Leave>,
    pub(super) is_protected: bool,
}

impl Member<'_> {
    pub(super) fn is_wanted(&self) -> bool {
        self.standing != Standing::Stopping
    }

    /// Wanted, and not to be replaced.
    pub(super) fn stays(&self) -> bool {
        self.is_wanted() && self.leave.is_none()
    }

    pub(super) fn is_running(&self) -> bool {
        self.standing >= Standing::Failing
    }
}

/// A service's tasks that are not stopped.
#[derive(Clone, Debug, Default)]
pub(super) struct Census<'a> {
    pub(super) members: BTreeMap<DeploymentId, Vec<Member<'a>>>,
    /// When some task stands otherwise even if nothing happens.
    pub(super) look_again_at: Option<Timestamp>,
}

impl<'a> Census<'a> {
    /// `cautious` are the deployments and task sets whose last tries failed.
    pub(super) fn of(picture: &Picture<'a>, cautious: &BTreeSet<DeploymentId>) -> Self {
        let leaving: BTreeMap<InstanceId, &InstanceArn> = picture
            .hosts
            .iter()
            .filter(|host| host.status != InstanceStatus::Active)
            .map(|host| (host.id, &host.arn))
            .collect();
        let grace_ms = u64::from(picture.service.health_check_grace_s.unwrap_or(0)) * 1000;
        let mut census = Self::default();
        for &task in &picture.tasks {
            let Some(service) = &task.service else { continue };
            if task.phase == Phase::Stopped {
                continue;
            }
            let deployment = service.deployment;
            let is_cautious = cautious.contains(&deployment);
            let settle_ms = if is_cautious { SETTLE_AFTER_FAILURE_MS } else { SETTLE_MS };
            let standing = census.standing(task, settle_ms, picture.now);
            let mut leave = task
                .instance
                .and_then(|id| leaving.get(&id))
                .map(|arn| Leave::Draining((*arn).clone()));
            if standing == Standing::Failing && leave.is_none() {
                let patience_ends = task.times.started.unwrap_or_default().plus_ms(grace_ms);
                if patience_ends <= picture.now {
                    leave = Some(Leave::Unhealthy);
                } else {
                    census.wake_at(patience_ends);
                }
            }
            let is_protected = task.is_protected(picture.now);
            let member = Member { task, deployment, standing, leave, is_protected };
            census.members.entry(deployment).or_default().push(member);
        }
        census
    }

    pub(super) fn of_deployment(&self, id: DeploymentId) -> &[Member<'a>] {
        self.members.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Those of every other deployment.
    pub(super) fn but(&self, id: Option<DeploymentId>) -> impl Iterator<Item = &Member<'a>> {
        self.members.iter().filter(move |(each, _)| Some(**each) != id).flat_map(|(_, all)| all)
    }

    fn wake_at(&mut self, at: Timestamp) {
        self.look_again_at = Some(self.look_again_at.map_or(at, |known| known.min(at)));
    }

    fn standing(&mut self, task: &Task, settle_ms: u64, now: Timestamp) -> Standing {
        if task.desired == Desired::Stopped || task.phase > Phase::Running {
            return Standing::Stopping;
        }
        if task.phase < Phase::Running {
            return Standing::Pending;
        }
        if is_health_checked(task) {
            return match task.health() {
                Health::Healthy => Standing::Healthy,
                Health::Unhealthy => Standing::Failing,
                Health::Unknown => Standing::Unproven,
            };
        }
        let is_known = task.service.as_ref().is_some_and(|service| service.is_seen_running);
        let settled_at = task.times.started.unwrap_or(task.times.created).plus_ms(settle_ms);
        if is_known || settled_at <= now {
            Standing::Healthy
        } else {
            self.wake_at(settled_at);
            Standing::Unproven
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
