//! What the outcomes of tasks do to their deployments: failures are counted, the breaker trips, rollouts are
//! rolled back or completed.

use std::collections::BTreeSet;

use longshore_types::{DeploymentId, TaskId, Timestamp};
use model::service::{
    CompletedDeployment, Deployment, Lifecycle, Rank, Rollback, RollbackCause, ServiceEventKind,
    SourceRevision, Stage,
};
use model::task::{Desired, Phase, StopCause, Task};

use super::inventory::{Readiness, TaskInventory, count, is_health_checked};
use super::limits::{EARLY_END_MS, FAILED_SHOWN_MS, breaker_threshold};
use super::pass::{Pass, TaskPlan, Tracked, earlier};
use super::shifting::{is_cleaning_up, is_given_up};
use super::wait_reasons::desired_count;

/// What a task's end means for its deployment: only the blameless are not counted as failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// It was stopped on purpose, its instance went, or it had served before it ended.
    Blameless,
    NeverRan,
    /// It ended by itself within [`EARLY_END_MS`] of its start, without having been healthy.
    EndedEarly,
    Unhealthy,
}

fn ending(task: &Task) -> Ending {
    match task.stop_cause.as_deref() {
        Some(StopCause::FailedToStart { .. }) => Ending::NeverRan,
        Some(StopCause::EssentialContainerExited { .. } | StopCause::AgentStopped { .. }) => {
            let Some(started) = task.times.started else { return Ending::NeverRan };
            let ended = task.times.stopping.or(task.times.stopped).unwrap_or(started);
            let is_seen = task.service.as_ref().is_some_and(|service| service.is_ready);
            let was_healthy = is_seen && is_health_checked(task);
            if ended.since_ms(started) < EARLY_END_MS && !was_healthy {
                Ending::EndedEarly
            } else {
                Ending::Blameless
            }
        }
        Some(StopCause::Unhealthy { .. } | StopCause::TargetUnhealthy { .. }) => Ending::Unhealthy,
        Some(
            StopCause::Requested { .. }
            | StopCause::InstanceDeregistered { .. }
            | StopCause::ServiceScaled { .. }
            | StopCause::InstanceDraining { .. }
            | StopCause::ZoneRebalanced { .. }
            | StopCause::InstanceLost { .. }
            | StopCause::SpotInterrupted,
        )
        | None => Ending::Blameless,
    }
}

/// Why a task failed that failed its health checks; also the mark by which the breaker knows that kind.
const UNHEALTHY: &str = "task failed container health checks";
/// The same of a load balancer's checks.
const TARGET_UNHEALTHY: &str = "task failed ELB health checks";

/// Why a task failed, without the full stop.
fn failure_of(task: &Task) -> String {
    match task.stop_cause.as_deref() {
        Some(StopCause::EssentialContainerExited { detail: Some(detail), .. }) => {
            detail.trim_end_matches('.').to_owned()
        }
        Some(StopCause::EssentialContainerExited { container, exit_code: Some(code), .. }) => {
            format!("container {container} exited with code {code}")
        }
        Some(StopCause::Unhealthy { .. }) => UNHEALTHY.to_owned(),
        Some(StopCause::TargetUnhealthy { .. }) => TARGET_UNHEALTHY.to_owned(),
        Some(cause) => cause.to_string().trim_end_matches('.').to_owned(),
        None => "the task stopped".to_owned(),
    }
}

fn stopped_at(task: &Task) -> Timestamp {
    task.times.stopped.unwrap_or(task.times.created)
}

/// Counts a failed try, and says whether it was another than the last: tasks that were started before the last
/// failure are of the same try, so that a deployment of a hundred tasks fails once and not a hundred times.
fn count_try(streak: &mut u32, last: &mut Option<Timestamp>, task: &Task) -> bool {
    let at = stopped_at(task);
    let is_another = last.is_none_or(|last| last <= task.times.created);
    if is_another {
        *streak = streak.saturating_add(1);
    }
    *last = Some(last.map_or(at, |last| last.max(at)));
    is_another
}

impl<'a> Pass<'_, 'a> {
    /// Counts the outcomes of tasks that stopped, and marks those that have become healthy.
    pub(super) fn take_in(&mut self) {
        self.account_for_ended();
        self.inventory = self.take_inventory();
        if self.mark_ready() {
            // A success ends the row of failures, and with it the longer time that tasks had to run.
            self.inventory = self.take_inventory();
            self.mark_ready();
        }
    }

    fn take_inventory(&self) -> TaskInventory<'a> {
        let deployments =
            self.deployments.iter().filter(|row| row.is.streak > 0).map(|row| row.is.id);
        let task_sets =
            self.task_sets.iter().filter(|row| row.is.failures > 0).map(|row| row.is.id);
        let cautious: BTreeSet<DeploymentId> = deployments.chain(task_sets).collect();
        TaskInventory::of(self.snapshot, &cautious)
    }

    /// Counts each stopped task's outcome once: it is marked as accounted in the same batch.
    fn account_for_ended(&mut self) {
        let is_of_service = |task: &&Task| task.service.is_some();
        let all = || self.snapshot.tasks.iter().copied().filter(is_of_service);
        let mut ended: Vec<&'a Task> = all()
            .filter(|task| {
                let is_accounted =
                    task.service.as_ref().is_some_and(|service| service.is_accounted);
                task.phase == Phase::Stopped && !is_accounted
            })
            .collect();
        ended.sort_by_key(|task| (stopped_at(task), task.id));
        let proven: BTreeSet<DeploymentId> = all()
            .filter(|task| task.phase == Phase::Running && task.desired == Desired::Running)
            .filter_map(|task| task.service.as_ref())
            .filter(|service| service.is_ready)
            .map(|service| service.deployment)
            .collect();
        for task in ended {
            self.plan.accounted.push(task.id);
            let Some(service) = &task.service else { continue };
            let ending = ending(task);
            if ending == Ending::Blameless {
                continue;
            }
            let is_proven = proven.contains(&service.deployment);
            let id = service.deployment;
            let mut is_another = false;
            let is_blue = self.is_blue(id);
            if let Some(row) = self.deployments.iter_mut().find(|row| row.is.id == id) {
                if is_blue {
                    row.is.last_failure = Some(failure_of(task));
                    count_try(&mut row.is.streak, &mut row.is.last_failure_at, task);
                }
                is_another = charge(&mut row.is, task, ending, is_proven);
            }
            if let Some(row) = self.task_sets.iter_mut().find(|row| row.is.id == id) {
                let set = &mut row.is;
                set.last_failure = Some(failure_of(task));
                is_another = count_try(&mut set.failures, &mut set.last_failure_at, task);
            }
            // Once a try, however many tasks were started with it.
            if let Some(StopCause::FailedToStart { reason }) = task.stop_cause.as_deref()
                && is_another
            {
                self.say(ServiceEventKind::NeverRan {
                    why: reason.trim_end_matches('.').to_owned(),
                });
            }
        }
    }

    /// Marks tasks that have become healthy; true if that ended a row of failures.
    fn mark_ready(&mut self) -> bool {
        let mut proven: BTreeSet<DeploymentId> = BTreeSet::new();
        let mut running: BTreeSet<DeploymentId> = BTreeSet::new();
        let mut seen: Vec<TaskId> = Vec::new();
        for view in self.inventory.but(None) {
            if view.is_running() {
                running.insert(view.deployment);
            }
            let is_known = view.task.service.as_ref().is_some_and(|each| each.is_ready);
            if view.readiness == Readiness::Healthy && !is_known {
                proven.insert(view.deployment);
                seen.push(view.task.id);
            }
        }
        self.ready.extend(seen);
        let mut is_ended = false;
        for row in &mut self.deployments {
            let deployment = &mut row.is;
            deployment.has_run |= running.contains(&deployment.id);
            if proven.contains(&deployment.id) {
                is_ended |= deployment.streak > 0;
                deployment.streak = 0;
                let breaker = self.snapshot.service.deployment.breaker;
                if breaker.and_then(|breaker| breaker.resets_on_healthy_task).unwrap_or(true) {
                    deployment.failures = 0;
                }
            }
        }
        for row in self.task_sets.iter_mut().filter(|row| proven.contains(&row.is.id)) {
            is_ended |= row.is.failures > 0;
            row.is.failures = 0;
        }
        is_ended
    }

    /// Moves deployments to their next stages: started, superseded, stopped by request, failed, rolled back.
    pub(super) fn follow_deployments(&mut self) {
        let now = self.now();
        let Some(at) = self.primary() else { return };
        let primary = self.deployments[at].is.id;
        for row in &mut self.deployments {
            if row.is.id != primary && row.is.rank == Rank::Primary {
                row.is.rank = Rank::Active;
            }
        }
        let deployment = &mut self.deployments[at].is;
        deployment.started_at.get_or_insert(now);
        match deployment.stage {
            Stage::Pending => deployment.stage = Stage::InProgress,
            Stage::StopRequested => {
                end(deployment, Stage::Stopped, "Stopped by request.", now);
                deployment.stopped_at = Some(now);
                set_failure(deployment, "ECS deployment stopped by request.");
            }
            Stage::RollbackRequested => {
                set_failure(deployment, "ECS deployment stopped by request.");
                self.roll_back(at, RollbackCause::Requested, None);
            }
            Stage::InProgress
            | Stage::RollingBack
            | Stage::Superseded
            | Stage::Stopped
            | Stage::RolledBack
            | Stage::RollbackFailed
            | Stage::Completed
            | Stage::Restoring
            | Stage::RestoreFailed => {}
        }
        self.trip();
        self.supersede();
        self.follow_shift();
    }

    /// The circuit breaker: ends the primary deployment once its failures reach the threshold, and rolls back if the
    /// service asks for that.
    fn trip(&mut self) {
        let Some(at) = self.primary() else { return };
        let Some(breaker) = self.snapshot.service.deployment.breaker.filter(|each| each.is_enabled)
        else {
            return;
        };
        let threshold = breaker_threshold(&breaker, desired_count(self.snapshot));
        let now = self.now();
        let deployment = &mut self.deployments[at].is;
        // Blue is being stopped: there is no way back.
        let is_over =
            deployment.shift.as_ref().is_some_and(|shift| shift.stage == Lifecycle::CleanUp);
        if is_over || !deployment.stage.is_rolling() || deployment.failures < threshold {
            return;
        }
        let why = match deployment.last_failure.as_deref() {
            Some(UNHEALTHY) => "tasks failed container health checks",
            Some(TARGET_UNHEALTHY) => "tasks failed ELB health checks",
            Some(_) | None => "tasks failed to start",
        };
        let id = deployment.id;
        deployment.is_tripped = true;
        set_failure(deployment, &format!("ECS deployment circuit breaker: {why}."));
        self.say(ServiceEventKind::DeploymentFailed { deployment: id, why: why.to_owned() });
        let undone = self.deployments.iter().position(|row| is_undone_by(&row.is, id));
        if let Some(undone) = undone {
            self.deployments[at].is.stage = Stage::RestoreFailed;
            let last = self.deployments[at].is.last_failure.clone();
            let undone = &mut self.deployments[undone].is;
            let reason = with_last(&format!("The rollback failed: {why}."), last.as_deref());
            end(undone, Stage::RollbackFailed, &reason, now);
        } else if breaker.rolls_back
            && (self.notes.completed.is_some() || self.blue_of(at).is_some())
        {
            self.roll_back(at, RollbackCause::Breaker, None);
        } else {
            let deployment = &mut self.deployments[at].is;
            let reason = format!("Service deployment failed: {why}.");
            let reason = with_last(&reason, deployment.last_failure.as_deref());
            deployment.stopped_at = Some(now);
            end(deployment, Stage::Stopped, &reason, now);
        }
    }

    /// What there is to go back to: the last deployment that was completed, or else the one that serves
    /// while this one shifts traffic, although it was superseded or stopped before it was completed.
    fn before(&self, at: usize) -> Option<CompletedDeployment> {
        let id = self.deployments[at].is.id;
        let completed = self.notes.completed.filter(|each| each.deployment != id);
        completed.or_else(|| self.blue_of(at))
    }

    /// Goes back to what was before: to the deployment itself if it is still there, so that its tasks
    /// stay, and to its revision otherwise.
    fn roll_back(&mut self, at: usize, cause: RollbackCause, said: Option<String>) {
        let now = self.now();
        let before = self.before(at);
        let bad = &mut self.deployments[at].is;
        let Some(target) = before else {
            let why = "There is no completed deployment to go back to.";
            end(bad, Stage::RollbackFailed, why, now);
            return;
        };
        bad.rank = Rank::Active;
        bad.stage = Stage::RollingBack;
        let why = match (&said, cause.sentence()) {
            (Some(said), _) => said.as_str(),
            (None, sentence) => sentence,
        };
        bad.status_reason = Some(with_last(why, bad.last_failure.as_deref()));
        let reason = match cause {
            RollbackCause::Breaker => "circuit breaker: rolling back to deploymentId",
            RollbackCause::Requested => "stopped by request: rolling back to deploymentId",
            RollbackCause::Hook | RollbackCause::Network | RollbackCause::TimedOut => {
                "failed: rolling back to deploymentId"
            }
        };
        self.route_back(at);
        let bad = self.deployments[at].is.clone();
        let known = self.deployments.iter().position(|row| row.is.id == target.deployment);
        let mut next = match known {
            Some(known) => {
                let mut next = self.deployments[known].is.clone();
                if !next.stage.was_done() {
                    // It is brought to its end now: what was said of how it ended is so no more.
                    (next.status_reason, next.stopped_at, next.finished_at) = (None, None, None);
                }
                Deployment { stage: Stage::Restoring, ..next }
            }
            None => self.undoing(&bad, target),
        };
        next.rank = Rank::Primary;
        next.rollout_reason = Some(format!("ECS deployment {reason} {}.", target.deployment));
        next.is_tripped = false;
        next.failures = 0;
        // It may try at once; its tasks are doubted as before.
        next.last_failure_at = None;
        next.baking_since = None;
        let by = next.id;
        let revision = target.revision;
        let rollback = Rollback { cause, started_at: now, revision, by, reason: said };
        self.deployments[at].is.rollback = Some(rollback);
        match known {
            Some(known) => self.deployments[known].is = next,
            None => self.deployments.push(Tracked { was: None, is: next }),
        }
        let service = self.service.get_or_insert_with(|| self.snapshot.service.clone());
        service.revision = Some(target.revision);
        self.say(ServiceEventKind::RollingBack { to: by });
    }

    /// Ends a deployment that cannot shift traffic, and goes back where there is something to go back to.
    pub(super) fn fail_shift(&mut self, at: usize, cause: RollbackCause, why: &str) {
        let now = self.now();
        let id = self.deployments[at].is.id;
        let has_before = self.before(at).is_some() && self.deployments[at].is.undoes.is_none();
        let became = if has_before { "rolled back" } else { "failed" };
        let reason = format!("Service deployment {became} because {why}");
        let said = reason.trim_end_matches('.').to_owned();
        self.say(ServiceEventKind::DeploymentFailed { deployment: id, why: said });
        let deployment = &mut self.deployments[at].is;
        set_failure(deployment, &reason);
        if has_before {
            return self.roll_back(at, cause, Some(reason));
        }
        self.route_back(at);
        let deployment = &mut self.deployments[at].is;
        deployment.stopped_at = Some(now);
        end(deployment, Stage::Stopped, &reason, now);
    }

    fn undoing(&self, bad: &Deployment, target: CompletedDeployment) -> Deployment {
        let now = self.now();
        let id = self.snapshot.rollback_id;
        Deployment {
            undoes: Some(bad.id),
            sources: self.sources(),
            stage: Stage::InProgress,
            started_at: Some(now),
            ..Deployment::new(self.snapshot.service, id, None, target.revision, now)
        }
    }

    /// The revisions that the service has tasks of.
    fn sources(&self) -> Vec<SourceRevision> {
        let of = |row: &Tracked<'_, Deployment>| {
            let views = self.inventory.of_deployment(row.is.id);
            let wanted = || views.iter().filter(|view| view.is_wanted());
            let source = SourceRevision {
                revision: row.is.revision,
                requested: count(wanted()),
                running: count(wanted().filter(|view| view.is_running())),
                pending: count(wanted().filter(|view| !view.is_running())),
            };
            (source.requested > 0).then_some(source)
        };
        self.deployments.iter().filter_map(of).collect()
    }

    /// Ends the records of deployments that were in progress when a newer one began.
    fn supersede(&mut self) {
        let Some(primary) = self.primary().map(|at| self.deployments[at].is.id) else { return };
        let now = self.now();
        for at in 0..self.deployments.len() {
            let row = &self.deployments[at].is;
            if row.id == primary {
                continue;
            }
            if is_cleaning_up(row) {
                self.complete(at);
            } else if is_given_up(row, primary) {
                self.route_back(at);
            }
        }
        // What is missing of blue is missed by whoever starts its tasks.
        let blue = self.deployments.iter().map(|row| row.is.id).find(|id| self.is_blue(*id));
        for row in self.deployments.iter_mut().filter(|row| row.is.id != primary) {
            let deployment = &mut row.is;
            if blue != Some(deployment.id) {
                deployment.shortage = None;
            }
            if deployment.stage.is_final() || is_undone_by(deployment, primary) {
                continue;
            }
            let reason = format!("Superseded by deployment {primary}.");
            deployment.stopped_at = Some(now);
            deployment.rollout_reason.get_or_insert_with(|| {
                format!("ECS deployment {} superseded by {primary}.", deployment.id)
            });
            let stage = deployment.stage.superseded();
            end(deployment, stage, &reason, now);
        }
    }

    /// Carries out the plan for the tasks, and what follows from it for the deployments.
    pub(super) fn carry_out(&mut self, plan: &TaskPlan) {
        self.apply_task_plan(plan, None);
        if let Some(at) = self.primary() {
            if plan.is_steady || plan.is_replaced {
                self.complete(at);
            }
            let deployment = &mut self.deployments[at].is;
            if plan.needed == 0 {
                deployment.shortage = None;
            }
            let row = &self.deployments[at].is;
            let (id, streak, why) = (row.id, row.streak, row.last_failure.clone());
            self.note_failing(id, streak, why);
            self.note_blocked(at, plan);
        }
        self.let_go();
        let is_completed =
            self.primary().is_some_and(|at| self.deployments[at].is.stage == Stage::Completed);
        self.note_steadiness(plan.is_steady && is_completed);
    }

    /// Takes deployments that are over and have no tasks out of the service's list. One that failed
    /// stays for a while: clients look every few seconds, and what they look for is its failure.
    fn let_go(&mut self) {
        let now = self.now();
        let mut look_again_at = None;
        let blue = self.deployments.iter().map(|row| row.is.id).find(|id| self.is_blue(*id));
        for row in &mut self.deployments {
            // One that is being undone is still to be told how that ended.
            let is_over = row.is.stage.is_final();
            let is_empty = self.inventory.of_deployment(row.is.id).is_empty();
            if row.is.rank != Rank::Active || !is_over || !is_empty || blue == Some(row.is.id) {
                continue;
            }
            let failed_at = row.is.rollback.as_ref().map(|rollback| rollback.started_at);
            match failed_at.map(|at| at.plus_ms(FAILED_SHOWN_MS)).filter(|until| now < *until) {
                Some(until) => look_again_at = earlier(look_again_at, Some(until)),
                None => row.is.rank = Rank::Gone,
            }
        }
        self.wake_at(look_again_at);
    }

    /// Every task of a deployment is there: it is done, or watched for a while before it is.
    fn complete(&mut self, at: usize) {
        let now = self.now();
        let settings = &self.snapshot.service.deployment;
        // Of those that shift traffic it is a stage before this.
        let of_row = &self.deployments[at].is.settings;
        let bake_minutes = match settings.strategy.is_rolling() && of_row.strategy.is_rolling() {
            true => settings.bake_minutes.unwrap_or(0),
            false => 0,
        };
        let deployment = &mut self.deployments[at].is;
        if !deployment.stage.is_rolling() {
            return;
        }
        if bake_minutes > 0 {
            let since = *deployment.baking_since.get_or_insert(now);
            let until = since.plus_ms(u64::from(bake_minutes) * 60_000);
            if now < until {
                self.wake_at(Some(until));
                return;
            }
        }
        // The record of one that was completed before says when that was.
        if !deployment.stage.is_final() || deployment.finished_at.is_none() {
            deployment.finished_at = Some(now);
        }
        deployment.stage = Stage::Completed;
        deployment.rollout_reason = None;
        let (id, revision) = (deployment.id, deployment.revision);
        for row in self.deployments.iter_mut().filter(|row| is_undone_by(&row.is, id)) {
            row.is.stage = Stage::RolledBack;
            row.is.finished_at = Some(now);
        }
        self.notes.completed = Some(CompletedDeployment { deployment: id, revision });
        self.say(ServiceEventKind::DeploymentCompleted { deployment: id });
    }

    fn note_blocked(&mut self, at: usize, plan: &TaskPlan) {
        let id = self.deployments[at].is.id;
        if !plan.is_blocked {
            self.notes.blocked_said = None;
        } else if self.notes.blocked_said != Some(id) {
            self.notes.blocked_said = Some(id);
            let why = BLOCKED.to_owned();
            self.say(ServiceEventKind::Blocked { why });
        }
    }
}

/// ECS's words when the percentages leave no move.
const BLOCKED: &str = "was unable to stop or start tasks during a deployment because of the service \
                     deployment configuration. Update the minimumHealthyPercent or maximumPercent \
                     value and try again.";

/// Whether `by` is at undoing the deployment.
pub(super) fn is_undone_by(deployment: &Deployment, by: DeploymentId) -> bool {
    deployment.stage == Stage::RollingBack
        && deployment.rollback.as_ref().is_some_and(|rollback| rollback.by == by)
}

/// Counts a failure of the primary deployment's; whether it is of another try than the last one.
fn charge(deployment: &mut Deployment, task: &Task, ending: Ending, is_proven: bool) -> bool {
    if deployment.rank != Rank::Primary || deployment.stage.has_failed() {
        return false;
    }
    deployment.last_failure = Some(failure_of(task));
    let is_another = count_try(&mut deployment.streak, &mut deployment.last_failure_at, task);
    // As long as another runs, one that never did is no sign of a bad revision.
    let is_excused = ending == Ending::NeverRan && is_proven;
    if deployment.stage.is_rolling() && !is_excused {
        deployment.failures = deployment.failures.saturating_add(1);
    }
    is_another
}

/// Why it failed; the caller knows to what stage that leads.
fn set_failure(deployment: &mut Deployment, reason: &str) {
    deployment.rollout_reason = Some(reason.to_owned());
    deployment.shortage = None;
}

fn end(deployment: &mut Deployment, stage: Stage, reason: &str, now: Timestamp) {
    deployment.stage = stage;
    deployment.status_reason = Some(reason.to_owned());
    deployment.finished_at = Some(now);
}

/// The sentence, and how the last task failed.
fn with_last(sentence: &str, last: Option<&str>) -> String {
    match last {
        Some(last) => format!("{sentence} The last task: {last}."),
        None => sentence.to_owned(),
    }
}
