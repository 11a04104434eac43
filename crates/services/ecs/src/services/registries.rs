//! Tasks of services with `serviceRegistries` as instances of services of Cloud Map.
//!
//! A task is an instance from when it runs until it is to stop; with custom health it begins as unhealthy until its
//! containers' checks have passed, and is none while they fail. What an instance is to be is a function of the task's
//! row, so a pass compares both and is told nothing.
//!
//! **Invariant:** an instance that says a task is there only while that task is wanted and runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_wire::ApiError;
use control::Control;
use control::reconcile::{Pass, PassFuture, Queue, Reconciler};
use control::tasks::put_task;
use longshore_types::{AccountId, TaskId, Timestamp};
use model::discovery::{MapHealth, MapRecord};
use model::service::ServiceRegistry;
use model::task::{Desired, Health, Input, Phase, Task, step};
use model::{Index, Key, MapInstance, MapInstanceId, MapService, ServiceRevision, View};
use store::{Batch, Change};

use super::connect;
use crate::Ecs;

/// Instances of one service of Cloud Map, as at Amazon.
const INSTANCES_MAX: usize = 1_000;
/// How soon it is looked again whether a full service of Cloud Map has room.
const ROOM_PAUSE_MS: u64 = 1_000;

type Which = (AccountId, TaskId);

/// Keeps the instances that tasks are.
#[derive(Debug)]
pub(crate) struct Registries {
    control: Arc<Control>,
}

impl Registries {
    pub(crate) fn new(ecs: &Arc<Ecs>) -> Self {
        Self { control: Arc::clone(&ecs.control) }
    }
}

fn has_instances(view: &View, which: &Which) -> bool {
    view.member_count(&Index::TaskMapInstances(which.0, which.1)) > 0
}

/// Whether a task may have to be an instance of something.
fn is_concerned(view: &View, task: &Task) -> bool {
    let serves = task.phase == Phase::Running && task.desired == Desired::Running;
    let has_registries =
        || view.revision_of_task(task).is_some_and(|revision| !revision.registries.is_empty());
    task.is_connected() || (serves && (has_registries() || connect::is_offered(view, task)))
}

/// The instances that a task is to be.
fn wanted(view: &View, task: &Task) -> Vec<MapInstance> {
    if task.phase != Phase::Running || task.desired != Desired::Running {
        return Vec::new();
    }
    let Some(revision) = view.revision_of_task(task) else { return Vec::new() };
    let all = revision.registries.iter().filter_map(|each| {
        let service = view.map_services.get(task.scope.account, &each.service)?;
        instance(view, task, service, each)
    });
    all.collect()
}

fn instance(
    view: &View,
    task: &Task,
    service: &MapService,
    registry: &ServiceRegistry,
) -> Option<MapInstance> {
    let health = match service.has_custom_health {
        true => Some(custom_health(task)?),
        false => None,
    };
    Some(MapInstance {
        scope: service.scope.clone(),
        service: Arc::clone(&service.id),
        instance: task.id.to_string().into(),
        attributes: attributes(view, task, service, registry)?,
        health,
        task: Some(task.id),
        has_names: service.dns.is_some(),
        request: None,
        connect: None,
    })
}

/// None: its containers' checks fail, and it is taken away.
fn custom_health(task: &Task) -> Option<MapHealth> {
    let is_checked = task.containers.iter().any(|each| each.essential && each.is_health_checked);
    match (is_checked, task.health()) {
        (false, _) | (true, Health::Healthy) => Some(MapHealth::Healthy),
        (true, Health::Unknown) => Some(MapHealth::Unhealthy),
        (true, Health::Unhealthy) => None,
    }
}

fn attributes(
    view: &View,
    task: &Task,
    service: &MapService,
    registry: &ServiceRegistry,
) -> Option<BTreeMap<String, String>> {
    let mut all = described(view, task)?;
    let has_srv = service.dns.as_ref().is_none_or(|dns| dns.has(MapRecord::Srv));
    if let Some(port) = registry.port.or(registry.container_port).filter(|_| has_srv) {
        all.insert("AWS_INSTANCE_PORT".to_owned(), port.to_string());
    }
    Some(all)
}

/// What every instance says of its task.
pub(super) fn described(view: &View, task: &Task) -> Option<BTreeMap<String, String>> {
    let address = task.interface.as_ref()?.address.to_string();
    let mut all = BTreeMap::new();
    let mut set = |key: &str, value: String| {
        all.insert(key.to_owned(), value);
    };
    set("AWS_INSTANCE_IPV4", address);
    if let Some(zone) = &task.zone {
        set("AVAILABILITY_ZONE", zone.to_string());
    }
    set("REGION", task.scope.region.to_string());
    set("ECS_CLUSTER_NAME", task.cluster.to_string());
    if let Some(made_for) = &task.service {
        set("ECS_SERVICE_NAME", made_for.name.to_string());
    }
    set("ECS_TASK_DEFINITION_FAMILY", task.definition.family.to_string());
    // Fargate shows no instance.
    if task.instance_arn().is_some()
        && let Some(instance) = task.instance.and_then(|id| view.instance_of_any(id))
        && let Some(id) = &instance.ec2_instance_id
    {
        set("EC2_INSTANCE_ID", id.clone());
    }
    Some(all)
}

/// What makes a task's instances what they are to be, and when it is to be looked again.
fn reconcile(
    control: &Control,
    view: &View,
    (account, task): Which,
    now: Timestamp,
) -> (Batch, Option<Timestamp>) {
    let mut batch = Batch::on(view);
    let row = view.tasks.get(account, &task);
    let mut wanted = row.map(|row| self::wanted(view, row)).unwrap_or_default();
    let is_free = |instance: &MapInstance| is_free(control, view, task, instance);
    let offered = row.map(|row| connect::wanted(view, row, now, is_free)).unwrap_or_default();
    let drains = offered.iter().filter_map(|row| row.connect.as_ref()?.drains_until);
    let again_at = drains.map(|until| until.min(now.plus_ms(connect::CONFIRM_PAUSE_MS))).min();
    let is_offered = !offered.is_empty();
    wanted.extend(offered);
    let known: BTreeMap<MapInstanceId, &Arc<MapInstance>> =
        view.map_instances_of_task(account, task).map(|row| (row.key(), row)).collect();
    let (mut raised, mut is_full) = (BTreeMap::new(), false);
    for row in &wanted {
        let before = known.get(&row.key());
        if before.is_some_and(|before| ***before == *row) {
            continue;
        }
        let index = Index::MapInstances(account, Arc::clone(&row.service));
        if before.is_none() && INSTANCES_MAX <= view.member_count(&index) {
            is_full = true;
            continue;
        }
        // Health is nothing that a revision tells of.
        if before.is_none_or(|before| before.attributes != row.attributes) {
            raised.insert(Arc::clone(&row.service), ());
        }
        batch.rely(Key::Task(account, task));
        batch.put(row.clone());
    }
    for id in known.keys().filter(|id| !wanted.iter().any(|row| row.key() == **id)) {
        raised.insert(Arc::clone(&id.service), ());
        batch.delete(Key::MapInstance(account, id.clone()));
    }
    if let Some(row) = row {
        let input = match (is_offered, row.desired) {
            (true, Desired::Running) if !row.is_connected() => Some(Input::Connected),
            (false, Desired::Stopped) if row.is_connected() => Some(Input::Disconnected),
            (true | false, Desired::Running | Desired::Stopped) => None,
        };
        if let Some(next) = input.and_then(|input| step(row, &input, now)) {
            batch.rely(Key::Task(account, task));
            put_task(view, &mut batch, next);
        }
    }
    for service in raised.keys().filter_map(|id| view.map_services.get(account, id)) {
        batch.put(MapService { revision: service.revision + 1, ..MapService::clone(service) });
    }
    let for_room = is_full.then(|| now.plus_ms(ROOM_PAUSE_MS));
    (batch, again_at.into_iter().chain(for_room).min())
}

/// `None` if there is something to do. Of a task that drains it is asked again and again what every host said: only what
/// came of it keeps others from deciding.
fn glance(control: &Control, key: Which) -> Option<Pass<()>> {
    let view = control.store.latest();
    let (batch, again_at) = reconcile(control, &view, key, control.clock.now());
    let is_over = again_at.is_none();
    let done = Pass { looked_at: view.seq, again_at, is_over, ..Pass::default() };
    batch.is_empty().then_some(done)
}

/// Whether nothing is led to an instance that drains.
fn is_free(control: &Control, view: &View, task: TaskId, instance: &MapInstance) -> bool {
    let account = instance.scope.account;
    let known = view.map_instances.get(account, &instance.key());
    let known = known.and_then(|known| known.connect.as_ref());
    let drains = known.filter(|known| known.drains_until.is_some());
    let since = view.seq_of(&Key::MapInstance(account, instance.key()));
    let (Some(known), Some(since)) = (drains, since) else { return false };
    let namespace = (account, Arc::clone(&known.namespace));
    control.connect_hosts.is_free(view, &namespace, since, task)
}

impl Reconciler for Registries {
    type Key = Which;
    type Note = ();
    type Error = ApiError;

    fn name(&self) -> &'static str {
        "service-registries"
    }

    fn wake(&mut self, view: &View, change: &Change, queue: &mut Queue<Which>) {
        let Key::Task(account, id) = &change.key else { return };
        let task = view.tasks.get(*account, id).filter(|task| task.service.is_some());
        let which = (*account, *id);
        if task.is_some_and(|task| is_concerned(view, task)) || has_instances(view, &which) {
            queue.changed(&which, change.seq);
        }
    }

    fn keys(&mut self, view: &View) -> Vec<Which> {
        let known =
            view.map_instances.iter().filter_map(|row| Some((row.scope.account, row.task?)));
        let mut all: Vec<Which> = known.collect();
        for key in view.members(&Index::LiveServices) {
            let Key::Service(account, id) = key else { continue };
            let revision = view.services.get(*account, id).and_then(|row| row.revision);
            let revision = revision.and_then(|it| view.revision_of(*account, id, it));
            let has_some = |revision: &Arc<ServiceRevision>| {
                !revision.registries.is_empty() || revision.connect.is_some()
            };
            let has_some = revision.is_some_and(has_some);
            // One that is held from before is let go by nobody else, though it is no instance any more.
            let concerned =
                view.tasks_of_service(*account, id).filter(|task| has_some || task.is_connected());
            all.extend(concerned.map(|task| (*account, task.id)));
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    fn pass(&self, key: &Which) -> PassFuture<Result<Pass<()>, ApiError>> {
        let (control, key) = (Arc::clone(&self.control), *key);
        Box::pin(async move {
            if let Some(done) = glance(&control, key) {
                return Ok(done);
            }
            let decided = control.decide(|view, now| {
                let (batch, again_at) = reconcile(&control, view, key, now);
                Ok((batch, (view.seq, again_at)))
            });
            let (looked_at, again_at) = decided.await?;
            Ok(Pass { looked_at, again_at, is_over: again_at.is_none(), ..Pass::default() })
        })
    }
}
