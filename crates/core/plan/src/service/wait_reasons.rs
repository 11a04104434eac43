//! What answers show of a service's deployments: counts, what each waits for, the breaker, and sentences.
//!
//! Nothing of it is stored: it is computed from the snapshot that the reconciler would decide from, when a caller asks.

use std::collections::BTreeMap;

use longshore_types::DeploymentId;
use model::service::{
    Controller, Deployment, Rank, Scheduling, Service, ServiceStatus, Shortage, Stage, TaskSet,
    WaitReason,
};
use model::task::{Desired, Phase, Task};

use super::inventory::{Readiness, count};
use super::limits::{Sizes, breaker_threshold};
use super::pass::{Pass, TaskPlan};
use super::snapshot::Snapshot;
use super::{daemon, external, rolling, shifting};

/// How many tasks there are, and how many are desired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub desired: u32,
    /// On the way to running.
    pub pending: u32,
    pub running: u32,
}

/// How many tasks the service shall have: `desiredCount`.
pub fn desired_count(snapshot: &Snapshot<'_>) -> u32 {
    match (snapshot.service.status, snapshot.service.scheduling) {
        (ServiceStatus::Draining | ServiceStatus::Inactive, _) => 0,
        (ServiceStatus::Active, Scheduling::Replica) => snapshot.service.desired_count,
        (ServiceStatus::Active, Scheduling::Daemon) => daemon::desired(snapshot),
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
pub fn service_counts(snapshot: &Snapshot<'_>) -> Counts {
    let desired = desired_count(snapshot);
    Counts { desired, ..count_tasks(snapshot.tasks.iter().copied(), None) }
}

/// The counts of one deployment. One that was superseded desires what it still has.
pub fn counts(snapshot: &Snapshot<'_>, deployment: &Deployment) -> Counts {
    let counts = count_tasks(snapshot.tasks.iter().copied(), Some(deployment.id));
    let desired = match deployment.rank {
        Rank::Primary => desired_count(snapshot),
        Rank::Active => counts.pending + counts.running,
        Rank::Gone => 0,
    };
    Counts { desired, ..counts }
}

/// The counts of one task set; `desired` is its `computedDesiredCount`.
pub fn task_set_counts(snapshot: &Snapshot<'_>, set: &TaskSet) -> Counts {
    let counts = count_tasks(snapshot.tasks.iter().copied(), Some(set.id));
    let desired = external::desired(&Pass::new(snapshot), set);
    Counts { desired, ..counts }
}

/// What each deployment or task set waits for; those that wait for nothing have no wait reason.
pub fn wait_reasons(snapshot: &Snapshot<'_>) -> BTreeMap<DeploymentId, Vec<WaitReason>> {
    let mut pass = Pass::new(snapshot);
    pass.take_in();
    let mut wait_reasons = BTreeMap::new();
    if snapshot.service.status != ServiceStatus::Active {
        return wait_reasons;
    }
    if snapshot.service.controller == Controller::External {
        for row in &pass.task_sets {
            let plan = external::plan_task_set(&pass, &row.is);
            let id = row.is.id;
            wait_reasons.insert(id, wait_reasons_of(&pass, id, &plan, row.is.shortage.as_ref()));
        }
        return wait_reasons;
    }
    pass.follow_deployments();
    let plan = match snapshot.service.scheduling {
        Scheduling::Replica => rolling::plan_service(&pass),
        Scheduling::Daemon => daemon::plan_service(&pass),
    };
    let Some(at) = pass.primary() else { return wait_reasons };
    let primary = &pass.deployments[at].is;
    if !primary.stage.has_failed() {
        let mut waits = wait_reasons_of(&pass, primary.id, &plan, primary.shortage.as_ref());
        let bake = pass.snapshot.service.deployment.bake_minutes;
        if let (Some(since), Some(minutes), true) =
            (primary.baking_since, bake, primary.stage.is_rolling())
        {
            let until = since.plus_ms(u64::from(minutes) * 60_000);
            waits.push(WaitReason::Bake { until });
        }
        waits.extend(shifting::waits_of(primary));
        wait_reasons.insert(primary.id, waits);
    }
    wait_reasons
}

fn wait_reasons_of(
    pass: &Pass<'_, '_>,
    id: DeploymentId,
    plan: &TaskPlan,
    shortage: Option<&Shortage>,
) -> Vec<WaitReason> {
    let own = pass.inventory.of_deployment(id);
    let with = |readiness: Readiness| {
        own.iter().filter(move |view| view.stays() && view.readiness == readiness)
    };
    let mut wait_reasons = Vec::new();
    let will_start: u32 = plan.starts.iter().map(|start| start.tasks).sum();
    let unplaced = shortage.map_or(0, |shortage| shortage.tasks);
    let waiting = of_waiting(with(Readiness::Pending).map(|view| view.task));
    let starting = count(with(Readiness::Pending)) + will_start.saturating_sub(unplaced);
    let starting = starting - waiting.as_ref().map_or(0, |shortage| shortage.tasks);
    if starting > 0 {
        wait_reasons.push(WaitReason::Starting { tasks: starting });
    }
    let unproven = count(with(Readiness::Unproven)) + count(with(Readiness::Failing));
    if unproven > 0 {
        wait_reasons.push(WaitReason::Healthy { tasks: unproven });
    }
    wait_reasons.extend(shortage.filter(|_| plan.needed > 0).cloned().map(WaitReason::Capacity));
    wait_reasons.extend(waiting.map(WaitReason::Capacity));
    wait_reasons.extend(plan.backoff_until.map(|until| WaitReason::Backoff { until }));
    let before = pass.inventory.but(Some(id)).filter(|_| pass.task_sets.is_empty());
    let going = plan.stops.len();
    let stopping = count(before.filter(|view| !view.is_wanted())) + count(0..going);
    if stopping > 0 {
        wait_reasons.push(WaitReason::Stopping { tasks: stopping });
    }
    if plan.protected > 0 {
        wait_reasons.push(WaitReason::Protected { tasks: plan.protected });
    }
    if plan.is_blocked {
        let settings = &pass.snapshot.service.deployment;
        let Sizes { floor, ceiling, .. } = Sizes::of(settings, plan.desired);
        wait_reasons.push(WaitReason::Limits { healthy_min: floor, max: ceiling });
    }
    wait_reasons
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
pub fn rollout_reason(deployment: &Deployment, wait_reasons: &[WaitReason]) -> String {
    let id = deployment.id;
    let said = deployment.rollout_reason.clone();
    if deployment.stage.has_failed() {
        return said.unwrap_or_else(|| format!("ECS deployment {id} failed."));
    }
    if deployment.stage == Stage::Completed {
        return format!("ECS deployment {id} completed.");
    }
    let mut reason = said.unwrap_or_else(|| format!("ECS deployment {id} in progress."));
    let waits: Vec<String> = wait_reasons.iter().map(WaitReason::to_string).collect();
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
    let is_watched = deployment.stage.is_rolling() && !deployment.stage.is_final();
    let status = match (breaker, deployment.is_tripped, is_watched) {
        (_, true, _) => BreakerStatus::Triggered,
        (None, false, _) => BreakerStatus::Disabled,
        (Some(_), false, true) => BreakerStatus::Monitoring,
        (Some(_), false, false) => BreakerStatus::MonitoringComplete,
    };
    let threshold = breaker.map_or(0, |breaker| breaker_threshold(&breaker, desired));
    BreakerView { status, failures: deployment.failures, threshold }
}
