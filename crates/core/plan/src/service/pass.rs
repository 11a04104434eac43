//! One pass of a service's reconciler: working copies of its rows, and the plan that is being made.
//!
//! A row is changed in its copy alone; at the end those that differ from the snapshot's go into the plan.

use std::collections::{BTreeMap, BTreeSet};

use longshore_types::{DeploymentId, TaskId, Timestamp};
use model::elb::WeightedGroup;
use model::service::{
    Deployment, Rank, Service, ServiceEventKind, ServiceNotes, ServiceStatus, TaskSet, TrafficRule,
};
use model::task::StopCause;

use super::inventory::{Leave, TaskInventory, TaskView};
use super::limits::{FAST_TRIES, STEADY_AGAIN_MS, backoff_ms};
use super::snapshot::{ServicePlan, Snapshot, Start, TargetFailure};

/// A row of the snapshot, none for a new one, and its working copy.
#[derive(Debug)]
pub(super) struct Tracked<'a, T> {
    pub(super) was: Option<&'a T>,
    pub(super) is: T,
}

/// Why a task is stopped that neither its health nor its instance asks to replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It is of an earlier deployment, or there are more tasks than desired.
    Scaled,
    /// A task was started in an emptier zone for it.
    Rebalanced,
}

/// Starts and stops of a deployment together with those before it, or of a task set.
#[derive(Clone, Debug, Default)]
pub(super) struct TaskPlan {
    pub(super) starts: Vec<Start>,
    pub(super) stops: Vec<(TaskId, StopCause)>,
    /// What load balancers found of tasks that are stopped for it.
    pub(super) target_failures: Vec<(TaskId, TargetFailure)>,
    /// Tasks that are missing: desired, less those that stay. More than `starts` while the ceiling or a pause bounds them.
    pub(super) needed: u32,
    pub(super) desired: u32,
    /// Every desired task is healthy, and no other is left.
    pub(super) is_steady: bool,
    /// Of a shift that is being cleaned up: nothing is left of what it replaces.
    pub(super) is_replaced: bool,
    /// Tasks are missing, and the percentages allow neither a start nor a stop, and nothing is under way that would
    /// change that.
    pub(super) is_blocked: bool,
    /// Tasks that would be stopped if they had no scale-in protection.
    pub(super) protected: u32,
    pub(super) protected_until: Option<Timestamp>,
    /// When tasks are started again after failed tries; see [`backoff_ms`].
    pub(super) backoff_until: Option<Timestamp>,
}

impl TaskPlan {
    pub(super) fn stop(
        &mut self,
        pass: &Pass<'_, '_>,
        view: &TaskView<'_>,
        by: DeploymentId,
        why: Why,
    ) {
        let service = pass.snapshot.service.name.clone();
        let cause = match (&view.leave, why) {
            (Some(Leave::Unhealthy), _) => StopCause::Unhealthy { service },
            (Some(Leave::TargetUnhealthy(failure)), _) => {
                self.target_failures.push((view.task.id, failure.clone()));
                StopCause::TargetUnhealthy { service, group: failure.group.clone() }
            }
            (Some(Leave::Draining(instance)), _) => {
                StopCause::InstanceDraining { instance: instance.clone() }
            }
            (None, Why::Scaled) => StopCause::ServiceScaled { deployment: by },
            (None, Why::Rebalanced) => StopCause::ZoneRebalanced { service },
        };
        self.stops.push((view.task.id, cause));
    }

    /// Leaves a protected task alone, and remembers until when.
    pub(super) fn spare(&mut self, view: &TaskView<'_>) {
        self.protected += 1;
        self.protected_until = earlier(self.protected_until, view.task.protected_until);
    }
}

#[derive(Debug)]
pub(super) struct Pass<'p, 'a> {
    pub(super) snapshot: &'p Snapshot<'a>,
    /// By age.
    pub(super) deployments: Vec<Tracked<'a, Deployment>>,
    pub(super) task_sets: Vec<Tracked<'a, TaskSet>>,
    pub(super) service: Option<Service>,
    pub(super) notes: ServiceNotes,
    pub(super) inventory: TaskInventory<'a>,
    pub(super) ready: BTreeSet<TaskId>,
    /// Where rules forward to, as it is to be.
    pub(super) forwards: BTreeMap<TrafficRule, Vec<WeightedGroup>>,
    pub(super) plan: ServicePlan,
}

impl<'p, 'a> Pass<'p, 'a> {
    pub(super) fn new(snapshot: &'p Snapshot<'a>) -> Self {
        let track = |row: &&'a Deployment| Tracked { was: Some(*row), is: (*row).clone() };
        let mut deployments: Vec<_> = snapshot.deployments.iter().map(track).collect();
        deployments.sort_by_key(|row| (row.is.created_at, row.is.id));
        let track = |row: &&'a TaskSet| Tracked { was: Some(*row), is: (*row).clone() };
        let mut task_sets: Vec<_> = snapshot.task_sets.iter().map(track).collect();
        task_sets.sort_by_key(|row| (row.is.created_at, row.is.id));
        Self {
            snapshot,
            deployments,
            task_sets,
            service: None,
            notes: snapshot.notes.clone(),
            inventory: TaskInventory::default(),
            ready: BTreeSet::new(),
            forwards: snapshot.forwards.clone(),
            plan: ServicePlan::default(),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.snapshot.now
    }

    pub(super) fn say(&mut self, what: ServiceEventKind) {
        self.plan.events.push(what);
    }

    pub(super) fn wake_at(&mut self, at: Option<Timestamp>) {
        self.plan.look_again_at = earlier(self.plan.look_again_at, at);
    }

    /// Where the primary deployment is.
    pub(super) fn primary(&self) -> Option<usize> {
        self.deployments.iter().rposition(|row| row.is.rank == Rank::Primary)
    }

    /// When a deployment or task set may try again, if its last tries failed.
    pub(super) fn next_try(&self, streak: u32, last: Option<Timestamp>) -> Option<Timestamp> {
        let at = last?.plus_ms(backoff_ms(streak));
        (self.now() < at).then_some(at)
    }

    /// Takes the plan for the tasks into the plan.
    pub(super) fn apply_task_plan(&mut self, plan: &TaskPlan, task_set: Option<DeploymentId>) {
        let stopped: Vec<TaskId> = plan.stops.iter().map(|(task, _)| *task).collect();
        for (task, cause) in &plan.stops {
            if matches!(cause, StopCause::Unhealthy { .. }) {
                self.say(ServiceEventKind::Unhealthy { task: *task });
            }
        }
        for (task, failure) in &plan.target_failures {
            let TargetFailure { group, instance, port, why } = failure.clone();
            self.say(ServiceEventKind::TargetUnhealthy { task: *task, instance, port, group, why });
        }
        self.plan.events.extend(ServiceEventKind::stopped(task_set, &stopped));
        self.plan.starts.extend(plan.starts.iter().cloned());
        self.plan.stops.extend(plan.stops.iter().cloned());
        self.wake_at(plan.backoff_until);
        self.wake_at(plan.protected_until);
    }

    /// Says once that the tasks of a deployment or task set keep failing.
    pub(super) fn note_failing(&mut self, id: DeploymentId, streak: u32, why: Option<String>) {
        if streak == 0 {
            self.notes.failing_said.remove(&id);
        } else if streak > FAST_TRIES && self.notes.failing_said.insert(id) {
            self.say(ServiceEventKind::Failing { why });
        }
    }

    /// Forgets what was said of deployments and task sets that are no more.
    fn forget_the_gone(&mut self) {
        let deployments = self.deployments.iter().map(|row| (row.is.id, row.is.rank));
        let task_sets = self.task_sets.iter().map(|row| (row.is.id, Rank::Primary));
        let known: BTreeSet<DeploymentId> = deployments
            .chain(task_sets)
            .filter(|(_, rank)| *rank == Rank::Primary)
            .map(|(id, _)| id)
            .collect();
        self.notes.failing_said.retain(|id| known.contains(id));
    }

    /// Says that the service is steady when it has become so, and now and then while it stays so.
    pub(super) fn note_steadiness(&mut self, is_steady: bool) {
        if !is_steady {
            self.notes.steady_said_at = None;
            return;
        }
        let is_due = |said: Timestamp| said.plus_ms(STEADY_AGAIN_MS) <= self.now();
        if self.notes.steady_said_at.is_none_or(is_due) {
            self.say(ServiceEventKind::SteadyState { task_set: None });
            self.notes.steady_said_at = Some(self.now());
        }
        let next = self.notes.steady_said_at.map(|said| said.plus_ms(STEADY_AGAIN_MS));
        self.wake_at(next);
    }

    /// Stops every task of a deleted service, and ends the service after the last.
    pub(super) fn wind_down(&mut self) {
        let mut plan = TaskPlan::default();
        for view in self.inventory.but(None).filter(|view| view.is_wanted()) {
            let cause = StopCause::ServiceScaled { deployment: view.deployment };
            plan.stops.push((view.task.id, cause));
        }
        self.apply_task_plan(&plan, None);
        let now = self.now();
        let is_empty = self.inventory.but(None).next().is_none();
        for row in &mut self.deployments {
            let deployment = &mut row.is;
            let stage = deployment.stage.abandoned();
            if !deployment.stage.is_final() {
                deployment.status_reason = Some("The service was deleted.".to_owned());
                deployment.stopped_at.get_or_insert(now);
                deployment.finished_at.get_or_insert(now);
            }
            if deployment.stage.is_rolling() {
                deployment.rollout_reason = Some("The service was deleted.".to_owned());
            }
            deployment.stage = stage;
            deployment.shortage = None;
            if is_empty {
                deployment.rank = Rank::Gone;
            }
        }
        if is_empty {
            self.plan.gone_task_sets = self.task_sets.drain(..).map(|row| row.is.key()).collect();
            let service = self.service.get_or_insert_with(|| self.snapshot.service.clone());
            service.status = ServiceStatus::Inactive;
        }
    }

    /// The rows that changed, counted up, and all that was decided.
    pub(super) fn into_plan(mut self) -> ServicePlan {
        let now = self.now();
        self.wake_at(self.inventory.look_again_at);
        self.forget_the_gone();
        self.plan.forwards = self.changed_forwards();
        for Tracked { was, mut is } in self.deployments {
            match was {
                None => self.plan.new_deployment = Some(is),
                Some(was) if *was != is => {
                    is.updated_at = now;
                    is.version += 1;
                    self.plan.deployments.push(is);
                }
                Some(_) => {}
            }
        }
        for Tracked { was, mut is } in self.task_sets {
            if was.is_none_or(|was| *was != is) {
                is.updated_at = now;
                is.version += 1;
                self.plan.task_sets.push(is);
            }
        }
        if let Some(mut service) = self.service.filter(|service| service != self.snapshot.service) {
            service.version += 1;
            self.plan.service = Some(service);
        }
        if self.notes != self.snapshot.notes {
            self.plan.notes = Some(self.notes);
        }
        self.plan.ready = self.ready.into_iter().collect();
        self.plan
    }
}

/// The earlier of two moments, each of which may be none.
pub(super) fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
