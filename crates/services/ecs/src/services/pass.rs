//! One service's reconcile pass: a snapshot, a plan, and one batch that carries it out.
//!
//! **Invariant:** what is written in one batch belongs together: a failure is counted in the batch in
//! which its task is marked as taken in. What does not fit the batch is left to the next pass; tasks
//! that are left to it are started or stopped by no more than what the reconciler then says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_wire::ApiError;
use control::reconcile::Pass;
use control::tasks::{ROWS_OF_TASK_MAX, put_task};
use control::traffic::put_forward;
use longshore_types::{AccountId, DeploymentId, TaskId, Timestamp, Uuid};
use model::service::{
    Controller, Deployment, Rank, Scheduling, ServiceEvent, ServiceEventKind, ServiceNotes,
    ServiceStatus, Shortage, TaskSet,
};
use model::task::{Input, Phase, Task, step};
use model::{Index, Key, MapService, Row, Service, ServiceEvents, ServiceRevision, View};
use plan::service::{ServicePlan, Snapshot, reconcile};
use store::{BATCH_ROWS_MAX, Batch};
use tracing::info;

use super::Who;
use super::balance::{NotYet, Targets, is_balance_due};
use super::connect::parted;
use super::interest::Interest;
use super::missing::missing_groups;
use super::snapshot::{LoadedSnapshot, load_snapshot};
use super::starts::{Maker, Unplaced};
use crate::Ecs;
use crate::service_spec::with_seen_digests;
use crate::task_template::TaskSource;

/// After a pass a service rests a millisecond for each so many tasks, at most [`REST_MS_MAX`], so that a burst of
/// reports costs one pass and not one each.
const TASKS_PER_REST_MS: usize = 10;
const REST_MS_MAX: u64 = 100;
/// A deadline sooner than this after a pass that did nothing is put off until then; a changed row is not.
const IDLE_MS_MIN: u64 = 20;
/// A shortage for the same reason is written as an event again after this long at the earliest: a hundred events are
/// kept, and instances that come one by one would push out all others.
const SAID_AGAIN_MS: u64 = 5 * 60_000;
/// Tasks of a deployment whose reports are read for image digests.
const WITNESSES_MAX: usize = 3;

type Done = Pass<Option<Interest>>;

/// What a decision came to.
#[derive(Debug, Default)]
struct Outcome {
    done: Done,
    started: usize,
    stopped: usize,
    /// Whether a task was stopped before it was anywhere.
    has_over: bool,
}

/// Has one service looked at, and does what is to be done for it.
pub(super) async fn run(ecs: &Ecs, who: &Who) -> Result<Done, ApiError> {
    let rollback_id = DeploymentId::mint(ecs.control.ids.as_ref());
    // Most passes find nothing to do; only those that do keep others from deciding.
    if let Some(done) = glance(ecs, who, rollback_id) {
        return Ok(done);
    }
    let decided = ecs.control.decide(|view, now| {
        let mut batch = Batch::on(view);
        let mut outcome = match load_snapshot(ecs, view, who, rollback_id, now) {
            None => Outcome { done: over(), ..Outcome::default() },
            Some(loaded) => ServicePass::new(ecs, view, who, &loaded, now).carry_out(&mut batch)?,
        };
        let is_written = !batch.is_empty();
        outcome.done.looked_at = if is_written { view.seq.next() } else { view.seq };
        Ok((batch, outcome))
    });
    let Outcome { done, started, stopped, .. } = decided.await?;
    if started + stopped > 0 {
        info!(service = %who.service, started, stopped, "service moved");
    }
    Ok(done)
}

/// There is no such service.
fn over() -> Done {
    Done { is_over: true, ..Done::default() }
}

/// `None` if there is something to do.
fn glance(ecs: &Ecs, who: &Who, rollback_id: DeploymentId) -> Option<Done> {
    let view = ecs.control.store.latest();
    let now = ecs.control.clock.now();
    let looked_at = view.seq;
    let Some(loaded) = load_snapshot(ecs, &view, who, rollback_id, now) else {
        return Some(Done { looked_at, ..over() });
    };
    let snapshot = &loaded.snapshot;
    let plan = reconcile(snapshot);
    let is_short = snapshot.deployments.iter().any(|row| row.shortage.is_some())
        || snapshot.task_sets.iter().any(|row| row.shortage.is_some());
    let is_idle = plan.is_idle()
        && !is_balance_due(ecs, &view, snapshot)
        && parted(&view, snapshot.service, &snapshot.deployments).is_empty()
        && missing_groups(&view, snapshot).is_empty()
        && !is_short
        && !loaded.is_cut
        && learnt_digests(ecs, &view, snapshot).is_empty();
    is_idle.then(|| Done {
        looked_at,
        again_at: plan.look_again_at.map(|at| at.max(now.plus_ms(IDLE_MS_MIN))),
        rests_until: rest(snapshot, now),
        is_cut: false,
        is_over: snapshot.service.status >= ServiceStatus::Inactive,
        note: interest(snapshot.service, &[]),
    })
}

fn interest(service: &Service, unplaced: &[(DeploymentId, Unplaced)]) -> Option<Interest> {
    (service.status < ServiceStatus::Inactive).then(|| Interest {
        is_daemon: service.scheduling == Scheduling::Daemon,
        is_rebalanced: service.is_zone_rebalanced,
        awaits_capacity: unplaced.iter().any(|(_, unplaced)| !unplaced.is_quota),
        awaits_quota: unplaced.iter().any(|(_, unplaced)| unplaced.is_quota),
    })
}

fn rest(snapshot: &Snapshot<'_>, now: Timestamp) -> Timestamp {
    match u64::try_from(snapshot.tasks.len() / TASKS_PER_REST_MS).unwrap_or(REST_MS_MAX) {
        0 => Timestamp(0),
        ms => now.plus_ms(ms.min(REST_MS_MAX)),
    }
}

/// Revisions of which a task has said by now what their images are.
fn learnt_digests(ecs: &Ecs, view: &View, snapshot: &Snapshot<'_>) -> Vec<ServiceRevision> {
    let (account, service) = (snapshot.service.scope.account, snapshot.service.key());
    let mut learnt = Vec::new();
    for deployment in &snapshot.deployments {
        let Some(revision) = view.revision_of(account, &service, deployment.revision) else {
            continue;
        };
        if revision.images.iter().all(|image| image.digest.is_some()) {
            continue;
        }
        let Some(definition) = view.task_definitions.get(account, &revision.definition) else {
            continue;
        };
        let Ok(document) = ecs.documents.read(definition) else { continue };
        let is_its = |task: &&&Task| {
            let of = task.service.as_ref().map(|service| service.deployment);
            let has_said = task.containers.iter().any(|each| each.seen.image_digest.is_some());
            of == Some(deployment.id) && has_said
        };
        let witnesses = snapshot.tasks.iter().filter(is_its).take(WITNESSES_MAX);
        learnt.extend(
            witnesses.filter_map(|task| with_seen_digests(revision, &document, task)).next(),
        );
    }
    learnt
}

/// A pass within its decision.
struct ServicePass<'t> {
    ecs: &'t Ecs,
    view: &'t View,
    account: AccountId,
    snapshot: &'t Snapshot<'t>,
    plan: ServicePlan,
    now: Timestamp,
    is_cut: bool,
    outcome: Outcome,
    /// What happened, in the order in which it is told.
    events: Vec<ServiceEventKind>,
    unplaced: Vec<(DeploymentId, Unplaced)>,
    /// Deployments and task sets whose starts were not all tried.
    untried: Vec<DeploymentId>,
}

impl<'t> ServicePass<'t> {
    fn new(
        ecs: &'t Ecs,
        view: &'t View,
        who: &Who,
        loaded: &'t LoadedSnapshot<'t>,
        now: Timestamp,
    ) -> Self {
        let snapshot = &loaded.snapshot;
        Self {
            ecs,
            view,
            account: who.account,
            snapshot,
            plan: reconcile(snapshot),
            now,
            is_cut: loaded.is_cut,
            outcome: Outcome::default(),
            events: Vec::new(),
            unplaced: Vec::new(),
            untried: Vec::new(),
        }
    }

    fn carry_out(mut self, batch: &mut Batch) -> Result<Outcome, ApiError> {
        self.rely(batch);
        for revision in learnt_digests(self.ecs, self.view, self.snapshot) {
            batch.put(revision);
        }
        self.change_tasks(batch);
        self.start(batch)?;
        let is_shortage_new = self.write_rows(batch);
        self.write_events(batch);
        let service = self.plan.service.as_ref().unwrap_or(self.snapshot.service);
        // A task that was never anywhere has stopped already, and is to be taken in.
        let is_again = self.is_cut || is_shortage_new || self.outcome.has_over;
        let rests_until = if is_again { Timestamp(0) } else { rest(self.snapshot, self.now) };
        let interest = interest(service, &self.unplaced);
        let is_quiet = batch.is_empty();
        let again_at = self.plan.look_again_at;
        let soonest = if is_quiet { self.now.plus_ms(IDLE_MS_MIN) } else { self.now };
        self.outcome.done = Done {
            again_at: again_at.map(|at| at.max(soonest)),
            rests_until,
            is_cut: is_again,
            is_over: interest.is_none(),
            note: interest,
            ..Done::default()
        };
        Ok(self.outcome)
    }

    fn rely(&self, batch: &mut Batch) {
        let service = self.snapshot.service.key();
        batch.rely(Key::Service(self.account, service.clone()));
        batch.rely(Index::ServiceTasks(self.account, service));
        for row in &self.snapshot.deployments {
            batch.rely(Key::Deployment(self.account, row.key()));
        }
        for row in &self.snapshot.task_sets {
            batch.rely(Key::TaskSet(self.account, row.key()));
        }
    }

    /// Rows that are written whatever tasks are.
    fn rows_kept(&self) -> usize {
        let (deployments, sets) = (self.snapshot.deployments.len(), self.snapshot.task_sets.len());
        // The service, its events, a new deployment; each deployment and its revision, each task set.
        let endpoints = Index::MapConnectsOf(self.account, self.snapshot.service.key());
        let endpoints = self.view.member_count(&endpoints);
        3 + 2 * deployments + sets + self.plan.forwards.len() + endpoints
    }

    /// Stops tasks and marks those that were taken in, as many as the batch takes.
    fn change_tasks(&mut self, batch: &mut Batch) {
        let by_id: BTreeMap<TaskId, &Task> =
            self.snapshot.tasks.iter().map(|task| (task.id, *task)).collect();
        let row = |id: &TaskId| by_id.get(id).map(|task| Task::clone(task));
        let mut changed: BTreeMap<TaskId, Task> = BTreeMap::new();
        for mut task in self.plan.accounted.iter().filter_map(row) {
            if let Some(service) = &mut task.service {
                service.is_accounted = true;
            }
            task.version += 1;
            changed.insert(task.id, task);
        }
        let rows_max = BATCH_ROWS_MAX.saturating_sub(self.rows_kept() + batch.len());
        let mut stopped: BTreeSet<TaskId> = BTreeSet::new();
        for (id, cause) in &self.plan.stops {
            // A task that was never placed gives its addresses back at once.
            let others = (ROWS_OF_TASK_MAX - 1) * stopped.len();
            if rows_max < changed.len() + others + ROWS_OF_TASK_MAX {
                self.is_cut = true;
                break;
            }
            let next =
                row(id).and_then(|row| step(&row, &Input::Unwanted(cause.clone()), self.now));
            let Some(next) = next else { continue };
            stopped.insert(*id);
            if next.phase == Phase::Stopped {
                self.outcome.has_over = true;
            }
            changed.insert(*id, next);
        }
        for id in &self.plan.ready {
            let others = (ROWS_OF_TASK_MAX - 1) * stopped.len();
            if rows_max < changed.len() + others + 1 && !changed.contains_key(id) {
                self.is_cut = true;
                break;
            }
            let Some(task) = changed.remove(id).or_else(|| row(id)) else { continue };
            changed.insert(*id, seen(task));
        }
        let others = (ROWS_OF_TASK_MAX - 1) * stopped.len();
        let targets = self.follow_targets(&mut changed, rows_max.saturating_sub(others));
        self.outcome.stopped = stopped.len();
        self.say_what_stopped(&stopped);
        self.events.extend(targets.write(batch));
        self.events.extend(missing_groups(self.view, self.snapshot));
        for task in changed.into_values() {
            put_task(self.view, batch, task);
        }
    }

    /// Registers tasks as targets and deregisters them, as they are by now.
    fn follow_targets(
        &mut self,
        changed: &mut BTreeMap<TaskId, Task>,
        rows_max: usize,
    ) -> Targets<'t> {
        let mut targets = Targets::new(self.ecs, self.view, self.snapshot, self.now);
        for task in &self.snapshot.tasks {
            let task = changed.get(&task.id).unwrap_or(task);
            if !targets.concern(task) {
                continue;
            }
            let rows_left = rows_max.saturating_sub(changed.len() + targets.rows());
            match targets.follow(task, rows_left) {
                Ok(Some(next)) => drop(changed.insert(next.id, next)),
                Ok(None) => {}
                Err(NotYet::Room) => {
                    self.is_cut = true;
                    break;
                }
                // Others may be whom it waits for.
                Err(NotYet::Address) => self.is_cut = true,
            }
        }
        targets
    }

    /// Says what the reconciler says, less what was left to the next pass.
    fn say_what_stopped(&mut self, stopped: &BTreeSet<TaskId>) {
        for what in std::mem::take(&mut self.plan.events) {
            match what {
                ServiceEventKind::Stopped { task_set, tasks } => {
                    let tasks: Vec<TaskId> =
                        tasks.into_iter().filter(|task| stopped.contains(task)).collect();
                    if !tasks.is_empty() {
                        self.events.push(ServiceEventKind::Stopped { task_set, tasks });
                    }
                }
                ServiceEventKind::Unhealthy { task }
                | ServiceEventKind::TargetUnhealthy { task, .. }
                    if !stopped.contains(&task) => {}
                what => self.events.push(what),
            }
        }
    }

    fn start(&mut self, batch: &mut Batch) -> Result<(), ApiError> {
        let service = self.plan.service.clone();
        let service = service.as_ref().unwrap_or(self.snapshot.service);
        let mut maker = Maker {
            ecs: self.ecs,
            view: self.view,
            service,
            tasks: &self.snapshot.tasks,
            now: self.now,
            rows_left: BATCH_ROWS_MAX.saturating_sub(self.rows_kept() + batch.len()),
            fargate_made: 0,
            waiting_made: 0,
        };
        let is_external = service.controller == Controller::External;
        let mut started: BTreeMap<DeploymentId, Vec<TaskId>> = BTreeMap::new();
        for start in std::mem::take(&mut self.plan.starts) {
            let Some(source) = self.source(start.deployment) else { continue };
            let made = maker.start(batch, &source, &start)?;
            if made.is_cut {
                self.is_cut = true;
                self.untried.push(start.deployment);
            }
            for task in &made.tasks {
                started.entry(start.deployment).or_default().push(task.id);
            }
            self.outcome.started += made.tasks.len();
            self.unplaced
                .extend(made.unplaced.into_iter().map(|unplaced| (start.deployment, unplaced)));
        }
        for (id, tasks) in started {
            let task_set = is_external.then_some(id);
            self.events.extend(ServiceEventKind::started(task_set, &tasks));
        }
        Ok(())
    }

    /// What tasks of a deployment or task set are made of.
    fn source(&self, id: DeploymentId) -> Option<TaskSource> {
        let known = self.snapshot.deployments.iter().copied();
        let deployment = self.plan.new_deployment.iter().chain(known).find(|row| row.id == id);
        if let Some(deployment) = deployment {
            let service = self.snapshot.service.key();
            let revision = self.view.revision_of(self.account, &service, deployment.revision)?;
            return Some(TaskSource::of_deployment(id, revision));
        }
        let set = self.snapshot.task_sets.iter().find(|row| row.id == id)?;
        Some(TaskSource::of_task_set(set))
    }

    /// Writes what became of the service, its deployments and its task sets; whether tasks were found
    /// to be short that were not before, or the other way round.
    fn write_rows(&mut self, batch: &mut Batch) -> bool {
        let (deployments, is_new) = self.deployments();
        let (sets, is_new_of_set) = self.task_sets();
        let gone = std::mem::take(&mut self.plan.gone_task_sets);
        for (rule, groups) in std::mem::take(&mut self.plan.forwards) {
            put_forward(self.view, batch, self.account, &rule, groups);
        }
        for row in self.parted(&deployments) {
            batch.rely(Key::MapService(self.account, Arc::clone(&row.id)));
            batch.put(row);
        }
        // Beside the service and its events.
        let rows_max = BATCH_ROWS_MAX.saturating_sub(batch.len() + sets.len() + gone.len() + 2);
        self.is_cut |= rows_max < deployments.len();
        batch.writes.extend(deployments.into_iter().take(rows_max).map(Row::from));
        batch.writes.extend(sets.into_iter().map(Row::from));
        batch.deletes.extend(gone.into_iter().map(|key| Key::TaskSet(self.account, key)));
        // With tasks left to take in, it is not over.
        let is_over = |row: &Service| row.status == ServiceStatus::Inactive;
        if self.is_cut && self.plan.service.as_ref().is_some_and(is_over) {
            self.plan.service = None;
        }
        if let Some(service) = &self.plan.service {
            batch.put(service.clone());
        }
        is_new || is_new_of_set
    }

    /// What becomes of endpoints with the deployments that changed.
    fn parted(&self, changed: &[Deployment]) -> Vec<MapService> {
        let is_changed = |row: &&&Deployment| changed.iter().any(|it| it.id == row.id);
        let kept = self.snapshot.deployments.iter().filter(|row| !is_changed(row)).copied();
        let rows = kept.chain(changed).filter(|row| row.rank < Rank::Gone);
        parted(self.view, self.snapshot.service, &rows.collect::<Vec<_>>())
    }

    /// The deployments that changed, the primary one first: the others may be left to the next pass.
    fn deployments(&mut self) -> (Vec<Deployment>, bool) {
        let new = self.plan.new_deployment.take();
        let changed = std::mem::take(&mut self.plan.deployments).into_iter().chain(new.clone());
        let mut deployments: BTreeMap<DeploymentId, Deployment> =
            changed.map(|row| (row.id, row)).collect();
        let mut is_new = false;
        for known in self.snapshot.deployments.iter().copied().chain(&new) {
            let now = deployments.get(&known.id).unwrap_or(known);
            let shortage = self.shortage(known.id, now.shortage.as_ref());
            if shortage != now.shortage && now.rank < Rank::Gone {
                is_new |= tasks_of(shortage.as_ref()) != tasks_of(now.shortage.as_ref());
                let mut next = now.clone();
                next.shortage = shortage;
                next.updated_at = self.now;
                next.version = known.version + 1;
                deployments.insert(known.id, next);
            }
        }
        let mut deployments: Vec<Deployment> = deployments.into_values().collect();
        deployments.sort_by_key(|row| row.rank != Rank::Primary);
        (deployments, is_new)
    }

    /// The task sets that changed.
    fn task_sets(&mut self) -> (Vec<TaskSet>, bool) {
        let changed = std::mem::take(&mut self.plan.task_sets).into_iter();
        let mut sets: BTreeMap<DeploymentId, TaskSet> = changed.map(|row| (row.id, row)).collect();
        let mut is_new = false;
        for known in self.snapshot.task_sets.iter().copied() {
            let now = sets.get(&known.id).unwrap_or(known);
            let shortage = self.shortage(known.id, now.shortage.as_ref());
            if shortage != now.shortage && !self.plan.gone_task_sets.contains(&known.key()) {
                is_new |= tasks_of(shortage.as_ref()) != tasks_of(now.shortage.as_ref());
                let mut next = now.clone();
                next.shortage = shortage;
                next.updated_at = self.now;
                next.version = known.version + 1;
                sets.insert(known.id, next);
            }
        }
        (sets.into_values().collect(), is_new)
    }

    /// What is short of a deployment or task set from now on; what is new is said.
    fn shortage(&mut self, id: DeploymentId, before: Option<&Shortage>) -> Option<Shortage> {
        if self.untried.contains(&id) {
            return before.cloned();
        }
        let unplaced =
            self.unplaced.iter().filter(|(of, unplaced)| *of == id && !unplaced.is_unreported);
        let tasks = unplaced.clone().map(|(_, unplaced)| unplaced.tasks).sum();
        let (_, first) = unplaced.clone().next()?;
        let tally = first.tally.clone();
        if before.is_none_or(|before| before.tally != tally && self.is_news(first)) {
            self.events.push(first.event.clone());
        }
        let since = before.map_or(self.now, |before| before.since);
        Some(Shortage { tasks, tally, since })
    }

    /// Whether it is another thing that is missing than was said last, or long since.
    fn is_news(&self, unplaced: &Unplaced) -> bool {
        let service = self.snapshot.service.key();
        let row = self.view.service_events.get(self.account, &service);
        let said =
            row.into_iter().flat_map(|row| row.events.iter().rev()).find_map(|event| match &event
                .what
            {
                ServiceEventKind::Unplaceable { why } | ServiceEventKind::Blocked { why } => {
                    Some((event.at, why))
                }
                ServiceEventKind::SteadyState { .. }
                | ServiceEventKind::Started { .. }
                | ServiceEventKind::Stopped { .. }
                | ServiceEventKind::Unhealthy { .. }
                | ServiceEventKind::TargetsRegistered { .. }
                | ServiceEventKind::TargetsDeregistered { .. }
                | ServiceEventKind::GroupMissing { .. }
                | ServiceEventKind::DrainBegun { .. }
                | ServiceEventKind::TargetUnhealthy { .. }
                | ServiceEventKind::NeverRan { .. }
                | ServiceEventKind::Failing { .. }
                | ServiceEventKind::DeploymentCompleted { .. }
                | ServiceEventKind::DeploymentFailed { .. }
                | ServiceEventKind::RollingBack { .. } => None,
            });
        said.is_none_or(|(at, why)| {
            SAID_AGAIN_MS <= self.now.since_ms(at) || !why.contains(&unplaced.clause)
        })
    }

    fn write_events(&mut self, batch: &mut Batch) {
        let notes = self.plan.notes.take();
        if notes.is_none() && self.events.is_empty() {
            return;
        }
        let service = self.snapshot.service;
        let known = self.view.service_events.get(self.account, &service.key());
        let mut row = known.map_or_else(
            || ServiceEvents {
                scope: service.scope.clone(),
                cluster: service.cluster.clone(),
                service: service.name.clone(),
                events: Vec::new(),
                notes: ServiceNotes::default(),
            },
            |row| ServiceEvents::clone(row),
        );
        if let Some(notes) = notes {
            row.notes = notes;
        }
        for what in self.events.drain(..) {
            let id = Uuid::mint(self.ecs.control.ids.as_ref());
            row.add(ServiceEvent { id, at: self.now, what });
        }
        batch.put(row);
    }
}

fn seen(mut task: Task) -> Task {
    if let Some(service) = &mut task.service {
        service.is_ready = true;
    }
    task.version += 1;
    task
}

fn tasks_of(shortage: Option<&Shortage>) -> u32 {
    shortage.map_or(0, |shortage| shortage.tasks)
}
