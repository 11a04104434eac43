//! What must hold after each step, whatever has happened.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use longshore_types::{InstanceId, Resources, TaskId};
use model::service::{Controller, Rank, Scheduling, Service, ServiceStatus, Shortage};
use model::task::{Desired, Health, LaunchType, Phase, StopCause, Task};
use model::{Deployment, Key, Row, TaskSet, View};
use plan::service::Sizes;

use super::world::World;

/// What was seen of tasks, to tell that none moves back or elsewhere.
#[derive(Debug, Default)]
pub(super) struct Watch {
    tasks: BTreeMap<TaskId, (Phase, Option<InstanceId>, u64)>,
}

impl World {
    /// Compares the state before one job of the shell with the state after it.
    pub(super) fn check_step(&mut self, before: &View) {
        let after = self.view();
        if before.seq == after.seq {
            return;
        }
        let at = format!("seed {} at {}", self.seed, self.now());
        for service in after.services.iter() {
            check_moves(&at, service, before, &after, self);
            check_ranks(&at, service, &after);
        }
        check_instances(&at, &after);
        check_interfaces(&at, &after);
        self.check_tasks(&at, &after);
    }

    fn check_tasks(&mut self, at: &str, view: &View) {
        for task in view.tasks.iter() {
            let now = (task.phase, task.instance, task.version);
            if let Some((phase, instance, version)) = self.watch.tasks.insert(task.id, now) {
                let is_over = phase < Phase::Stopped && task.phase == Phase::Stopped;
                self.check_fence(at, task, is_over);
                assert!(phase <= task.phase, "{at}: task {} moved back", task.id);
                assert!(version <= task.version, "{at}: task {} is an older one", task.id);
                assert!(
                    instance.is_none() || instance == task.instance,
                    "{at}: task {} was placed twice",
                    task.id
                );
            }
        }
    }
}

impl World {
    /// A fenced task that counts as lost has ended where it was.
    fn check_fence(&self, at: &str, task: &Task, is_over: bool) {
        let is_lost = matches!(task.stop_cause.as_deref(), Some(StopCause::InstanceLost { .. }));
        if !is_over || !is_lost || task.definition.family.as_str() != "fenced" {
            return;
        }
        for host in &self.hosts {
            let phase = host.tasks.get(&task.id).map(|local| local.phase);
            let has_ended = phase.is_none_or(|phase| phase == Phase::Stopped);
            assert!(has_ended, "{at}: task {} is lost, and {phase:?} where it was", task.id);
        }
    }
}

/// Whether a task counts as being there for those who need it.
fn serves(task: &Task) -> bool {
    task.phase == Phase::Running
        && task.desired == Desired::Running
        && task.health() != Health::Unhealthy
}

/// Our own actions keep to the floor and to the ceiling, and spare what is protected.
fn check_moves(at: &str, service: &Service, before: &View, after: &View, world: &World) {
    if service.status != ServiceStatus::Active
        || service.scheduling != Scheduling::Replica
        || service.controller != Controller::Ecs
    {
        return;
    }
    let (account, id) = (service.scope.account, service.key());
    let sizes = Sizes::of(&service.deployment, service.desired_count);
    let (mut started, mut stopped) = (0, 0);
    let (mut live, mut serving) = (0, 0);
    for task in after.tasks_of_service(account, &id) {
        let was = before.tasks.get(account, &task.id);
        started += u32::from(was.is_none());
        live += u32::from(task.phase < Phase::Stopped);
        serving += u32::from(serves(task));
        let is_our_stop = was.is_some_and(|was| was.desired == Desired::Running)
            && match task.stop_cause.as_deref() {
                Some(
                    StopCause::ServiceScaled { .. }
                    | StopCause::TargetUnhealthy { .. }
                    | StopCause::InstanceDraining { .. }
                    | StopCause::ZoneRebalanced { .. },
                ) => true,
                Some(_) | None => false,
            };
        if is_our_stop && let Some(was) = was {
            stopped += u32::from(serves(was));
            assert!(!was.is_protected(world.now()), "{at}: {} was protected", task.id);
        }
    }
    let name = &service.name;
    if started > 0 {
        let mut deployments = after.deployments_of(account, &id);
        let shifts =
            deployments.any(|row| row.rank == Rank::Primary && !row.settings.strategy.is_rolling());
        let twice = if shifts { 2 * sizes.desired } else { 0 };
        let ceiling = sizes.ceiling.max(twice);
        assert!(live <= ceiling, "{at}: {name} has {live} tasks, {ceiling} are the most");
    }
    let mut deployments = after.deployments_of(account, &id);
    // Those of one that was given up serve nobody.
    let is_given_up = deployments.any(|row| row.rank == Rank::Active && row.shift.is_some());
    if stopped > 0 && !is_given_up {
        let floor = sizes.floor;
        assert!(floor <= serving, "{at}: {name} is left with {serving}, {floor} are the fewest");
    }
}

fn check_ranks(at: &str, service: &Service, view: &View) {
    let deployments = view.deployments_of(service.scope.account, &service.key());
    let primaries = deployments.filter(|row| row.rank == Rank::Primary).count();
    let is_of_ours =
        service.controller == Controller::Ecs && service.status == ServiceStatus::Active;
    assert!(primaries <= 1, "{at}: {} has {primaries} primary deployments", service.name);
    assert!(!is_of_ours || primaries == 1, "{at}: {} has no primary deployment", service.name);
}

/// No instance has given what it has not.
pub(super) fn check_instances(at: &str, view: &View) {
    for instance in view.instances.iter() {
        let mut ports = BTreeSet::new();
        let mut taken = Resources::default();
        let on = view.tasks_on_instance(instance.id);
        for task in on.filter(|task| task.launch != LaunchType::Fargate) {
            taken = taken.saturating_add(task.need.resources);
            for port in &task.need.ports {
                assert!(ports.insert(*port), "{at}: {port:?} of {} is taken twice", instance.id);
            }
        }
        assert!(
            instance.total.checked_sub(taken).is_some(),
            "{at}: {taken:?} of {} are taken",
            instance.id
        );
    }
}

/// Each interface has its task, each task its own interface.
pub(super) fn check_interfaces(at: &str, view: &View) {
    let live = view.live_tasks().filter_map(|task| task.interface.as_ref());
    let addresses: Vec<_> = live.map(|interface| interface.address).collect();
    let distinct: BTreeSet<_> = addresses.iter().collect();
    assert_eq!(distinct.len(), addresses.len(), "{at}: an address was given twice");
    assert_eq!(
        view.interfaces.len(),
        addresses.len(),
        "{at}: an interface has no task, or a task none"
    );
}

/// Whether nothing was done between the two, but for writing down why tasks find no capacity.
pub(super) fn only_tallies_differ(before: &View, after: &View) -> bool {
    let shortage = |row: &Option<Shortage>| row.as_ref().map(|shortage| shortage.tasks);
    after.rows().filter(|(seq, _)| before.seq < *seq).all(|(_, row)| match &row {
        Row::ServiceEvents(_) => true,
        Row::Deployment(is) => {
            before.deployments.get(is.scope.account, &is.key()).is_some_and(|was| {
                let told = Deployment {
                    shortage: is.shortage.clone(),
                    updated_at: is.updated_at,
                    version: is.version,
                    ..Deployment::clone(was)
                };
                told == **is && shortage(&was.shortage) == shortage(&is.shortage)
            })
        }
        Row::TaskSet(is) => before.task_sets.get(is.scope.account, &is.key()).is_some_and(|was| {
            let told = TaskSet {
                shortage: is.shortage.clone(),
                updated_at: is.updated_at,
                version: is.version,
                ..TaskSet::clone(was)
            };
            told == **is && shortage(&was.shortage) == shortage(&is.shortage)
        }),
        _ => false,
    })
}

/// What differs, for people.
pub(super) fn difference(before: &View, after: &View) -> String {
    let mut text = String::new();
    for (seq, row) in after.rows().filter(|(seq, _)| before.seq < *seq) {
        let key: Key = row.key();
        let was = before.row(&key).and_then(|row| row.to_json().ok()).unwrap_or_default();
        let is = row.to_json().unwrap_or_default();
        let _ = write!(text, "\n{seq} {key}\n  was {was}\n  is  {is}");
    }
    text
}
