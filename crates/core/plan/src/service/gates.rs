//! What is shown of a service's deployments: counts, what each waits for, the breaker, and sentences.
//!
//! Everything here is derived from the same picture that the reconciler decides from, whenever it is
//! asked for.

use std::collections::BTreeMap;

use longshore_types::DeploymentId;
use model::service::{
    Controller, Deployment, Gate, Rank, Rollout, Scheduling, Service, ServiceStatus, Shortage,
    TaskSet,
};
use model::task::{Desired, Phase, Task};

use super::census::{Standing, count};
use super::limits::{Sizes, breaker_threshold};
use super::picture::Picture;
use super::turn::{Plan, Turn};
use super::{daemon, external, rolling};

/// How many tasks there are and shall be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub desired: u32,
    /// On the way to running.
    pub pending: u32,
    pub running: u32,
}

/// How many tasks the service shall have: `desiredCount`.
pub fn desired_count(picture: &Picture<'_>) -> u32 {
    match (picture.service.status, picture.service.scheduling) {
        (ServiceStatus::Draining | ServiceStatus::Inactive, _) => 0,
        (ServiceStatus::Active, Scheduling::Replica) => picture.service.desired_count,
        (ServiceStatus::Active, Scheduling::Daemon) => daemon::desired(picture),
    }
}

/// Pending and running tasks among those given: of one deployment or task set, or of all.
pub fn count_tasks<'t>(
    tasks: impl IntoIterator<Item = &'t Task>,
    of: Option<DeploymentId>,
) -> Counts {
    let mut counts = Counts::default();
    for task in tasks {
        let is_meant = |id| task.service.as_ref().is_some_and(|service| service.deployment == id);
        if !of.is_none_or(is_meant) {
            continue;
        }
        counts.running += u32::from(task.phase == Phase::Running);
        let is_pending = task.phase < Phase::Running && task.desired == Desired::Running;
        counts.pending += u32::from(is_pending);
    }
    counts
}

/// The counts of the whole service.
pub fn service_counts(picture: &Picture<'_>) -> Counts {
    let desired = desired_count(picture);
    Counts { desired, ..count_tasks(picture.tasks.iter().copied(), None) }
}

/// The counts of one deployment. One that was superseded desires what it still has.
pub fn counts(picture: &Picture<'_>, deployment: &Deployment) -> Counts {
    let counts = count_tasks(picture.tasks.iter().copied(), Some(deployment.id));
    let desired = match deployment.rank {
        Rank::Primary => desired_count(picture),
        Rank::Active => counts.pending + counts.running,
        Rank::Gone => 0,
    };
    Counts { desired, ..counts }
}

/// The counts of one task set; `desired` is its `computedDesiredCount`.
pub fn task_set_counts(picture: &Picture<'_>, set: &TaskSet) -> Counts {
    let counts = count_tasks(picture.tasks.iter().copied(), Some(set.id));
    let desired = external::desired(&Turn::new(picture), set);
    Counts { desired, ..counts }
}

/// What each deployment or task set waits for; those that wait for nothing have no gate.
pub fn gates(picture: &Picture<'_>) -> BTreeMap<DeploymentId, Vec<Gate>> {
    let mut turn = Turn::new(picture);
    turn.take_in();
    let mut gates = BTreeMap::new();
    if picture.service.status != ServiceStatus::Active {
        return gates;
    }
    if picture.service.controller == Controller::External {
        for row in &turn.task_sets {
            let plan = external::plan_task_set(&turn, &row.is);
            let id = row.is.id;
            gates.insert(id, gates_of(&turn, id, &plan, row.is.shortage.as_ref()));
        }
        return gates;
    }
    turn.follow_deployments();
    let plan = match picture.service.scheduling {
        Scheduling::Replica => rolling::plan_service(&turn),
        Scheduling::Daemon => daemon::plan_service(&turn),
    };
    let Some(at) = turn.primary() else { return gates };
    let primary = &turn.deployments[at].is;
    if primary.rollout != Rollout::Failed {
        let mut waits = gates_of(&turn, primary.id, &plan, primary.shortage.as_ref());
        let bake = turn.picture.service.deployment.bake_minutes;
        if let (Some(since), Some(minutes), Rollout::InProgress) =
            (primary.baking_since, bake, primary.rollout)
        {
            let until = since.plus_ms(u64::from(minutes) * 60_000);
            waits.push(Gate::Bake { until });
        }
        gates.insert(primary.id, waits);
    }
    gates
}

fn gates_of(
    turn: &Turn<'_, '_>,
    id: DeploymentId,
    plan: &Plan,
    shortage: Option<&Shortage>,
) -> Vec<Gate> {
    let own = turn.census.of_deployment(id);
    let with = |standing: Standing| {
        own.iter().filter(move |member| member.stays() && member.standing == standing)
    };
    let mut gates = Vec::new();
    let will_start: u32 = plan.starts.iter().map(|start| start.tasks).sum();
    let without_room = shortage.map_or(0, |shortage| shortage.tasks);
    let waiting = of_waiting(with(Standing::Pending).map(|member| member.task));
    let starting = count(with(Standing::Pending)) + will_start.saturating_sub(without_room);
    let starting = starting - waiting.as_ref().map_or(0, |shortage| shortage.tasks);
    if starting > 0 {
        gates.push(Gate::Starting { tasks: starting });
    }
    let unproven = count(with(Standing::Unproven)) + count(with(Standing::Failing));
    if unproven > 0 {
        gates.push(Gate::Healthy { tasks: unproven });
    }
    gates.extend(shortage.filter(|_| plan.needed > 0).cloned().map(Gate::Room));
    gates.extend(waiting.map(Gate::Room));
    gates.extend(plan.backoff_until.map(|until| Gate::Backoff { until }));
    let before = turn.census.but(Some(id)).filter(|_| turn.task_sets.is_empty());
    let going = plan.stops.len();
    let stopping = count(before.filter(|member| !member.is_wanted())) + count(0..going);
    if stopping > 0 {
        gates.push(Gate::Stopping { tasks: stopping });
    }
    if plan.protected > 0 {
        gates.push(Gate::Protected { tasks: plan.protected });
    }
    if plan.is_stuck {
        let settings = &turn.picture.service.deployment;
        let Sizes { floor, ceiling, .. } = Sizes::of(settings, plan.desired);
        gates.push(Gate::Limits { healthy_min: floor, max: ceiling });
    }
    gates
}

/// The tasks that are made already and wait for a place, with why the oldest has none.
fn of_waiting<'t>(tasks: impl Iterator<Item = &'t Task>) -> Option<Shortage> {
    let waiting: Vec<&Task> = tasks.filter(|task| task.waiting.is_some()).collect();
    let oldest = waiting.iter().min_by_key(|task| (task.times.created, task.id))?;
    let tally = oldest.waiting.as_ref().map(|waiting| waiting.tally.clone()).unwrap_or_default();
    let since = oldest.times.created;
    Some(Shortage { tasks: count(waiting.iter()), tally, since })
}

/// `rolloutStateReason`, and `statusReason` of a service deployment that is not done yet.
pub fn rollout_reason(deployment: &Deployment, gates: &[Gate]) -> String {
    let id = deployment.id;
    let base = match (deployment.rollout, &deployment.rollout_reason) {
        (Rollout::Failed, Some(reason)) => return reason.clone(),
        (Rollout::Failed, None) => return format!("ECS deployment {id} failed."),
        (Rollout::Completed, _) => return format!("ECS deployment {id} completed."),
        (Rollout::InProgress, Some(reason)) => reason.clone(),
        (Rollout::InProgress, None) => format!("ECS deployment {id} in progress."),
    };
    let waits: Vec<String> = gates.iter().map(Gate::to_string).collect();
    let mut reason = base;
    if !waits.is_empty() {
        reason = format!("{reason} Waiting for {}.", waits.join("; "));
    }
    if let Some(last) = deployment.last_failure.as_ref().filter(|_| deployment.streak > 0) {
        reason = format!("{reason} The last task that failed: {last}.");
    }
    reason
}

/// `deploymentCircuitBreaker.status` of a service deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerStatus {
    Disabled,
    Monitoring,
    MonitoringComplete,
    Triggered,
}

impl BreakerStatus {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "DISABLED",
            Self::Monitoring => "MONITORING",
            Self::MonitoringComplete => "MONITORING_COMPLETE",
            Self::Triggered => "TRIGGERED",
        }
    }
}

/// `deploymentCircuitBreaker` of a service deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerView {
    pub status: BreakerStatus,
    pub failures: u32,
    pub threshold: u32,
}

/// How the breaker of a deployment stands; `desired` is the service's [`desired_count`].
pub fn breaker(service: &Service, deployment: &Deployment, desired: u32) -> BreakerView {
    let breaker = service.deployment.breaker.filter(|breaker| breaker.is_enabled);
    let status = match (breaker, deployment.is_tripped, deployment.rollout) {
        (_, true, _) => BreakerStatus::Triggered,
        (None, false, _) => BreakerStatus::Disabled,
        (Some(_), false, Rollout::InProgress) if !deployment.status.is_final() => {
            BreakerStatus::Monitoring
        }
        (Some(_), false, _) => BreakerStatus::MonitoringComplete,
    };
    let threshold = breaker.map_or(0, |breaker| breaker_threshold(&breaker, desired));
    BreakerView { status, failures: deployment.failures, threshold }
}
