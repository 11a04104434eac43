//! What a service's reconciler is shown, loaded from a view.

use std::collections::{BTreeMap, BTreeSet};

use longshore_types::{DeploymentId, InstanceId, Timestamp};
use model::instance::{Instance, InstanceStatus};
use model::service::{Rank, Scheduling};
use model::task::{LaunchType, Need, Phase, Task};
use model::{NetworkMode, Service, ServiceId, TaskDefinition, View};
use plan::fargate::selective;
use plan::service::{ServiceHost, Snapshot};
use plan::{Ask, Constraint, Host, Pool, Strategy, Unfit, binding_zones};

use super::Who;
use super::balance::load_balance;
use crate::Ecs;
use crate::task_template::{TaskSource, TaskTemplate, rules};

/// Tasks that have stopped and that one pass takes in: each is a row to write.
const ENDED_AT_ONCE_MAX: usize = 200;

/// A snapshot, and whether something was left for the next pass.
pub(super) struct LoadedSnapshot<'v> {
    pub(super) snapshot: Snapshot<'v>,
    pub(super) is_cut: bool,
}

/// `None` if there is no such service.
pub(super) fn load_snapshot<'v>(
    ecs: &Ecs,
    view: &'v View,
    who: &Who,
    rollback_id: DeploymentId,
    now: Timestamp,
) -> Option<LoadedSnapshot<'v>> {
    let service: &'v Service = view.services.get(who.account, &who.service)?;
    let (tasks, is_cut) = tasks(view, who);
    let deployments = view.deployments_of(who.account, &who.service);
    let mut snapshot = Snapshot {
        service,
        deployments: deployments.map(AsRef::as_ref).filter(|row| row.rank < Rank::Gone).collect(),
        task_sets: view.task_sets_of(who.account, &who.service).map(AsRef::as_ref).collect(),
        hosts: vec![],
        balance: BTreeMap::new(),
        balancers: BTreeMap::new(),
        forwards: BTreeMap::new(),
        powerless_roles: BTreeSet::new(),
        offered: BTreeSet::new(),
        zones: vec![],
        notes: view
            .service_events
            .get(who.account, &who.service)
            .map(|row| row.notes.clone())
            .unwrap_or_default(),
        tasks,
        rollback_id,
        now,
    };
    load_capacity(ecs, view, &mut snapshot);
    load_balance(ecs, view, &mut snapshot);
    Some(LoadedSnapshot { snapshot, is_cut })
}

/// Adds the instances and zones that matter to the service.
pub(crate) fn load_capacity(ecs: &Ecs, view: &View, snapshot: &mut Snapshot<'_>) {
    match snapshot.service.scheduling {
        Scheduling::Daemon => snapshot.hosts = every_host(ecs, view, snapshot),
        Scheduling::Replica => snapshot.hosts = hosts_of_tasks(view, &snapshot.tasks),
    }
    if snapshot.service.is_zone_rebalanced {
        snapshot.zones = zones(ecs, view, snapshot);
    }
}

/// The service's tasks, without more ended ones than a pass takes in.
fn tasks<'v>(view: &'v View, who: &Who) -> (Vec<&'v Task>, bool) {
    let mut ended = 0;
    let mut tasks = Vec::new();
    for task in view.tasks_of_service(who.account, &who.service) {
        if task.phase == Phase::Stopped {
            ended += 1;
            if ENDED_AT_ONCE_MAX < ended {
                continue;
            }
        }
        tasks.push(task.as_ref());
    }
    (tasks, ENDED_AT_ONCE_MAX < ended)
}

/// What the primary deployment's tasks are made of.
pub(super) fn primary_source(view: &View, snapshot: &Snapshot<'_>) -> Option<TaskSource> {
    let primary = snapshot.deployments.iter().find(|row| row.rank == Rank::Primary)?;
    let (account, id) = (snapshot.service.scope.account, snapshot.service.key());
    let revision = view.revision_of(account, &id, primary.revision)?;
    Some(TaskSource::of_deployment(primary.id, revision))
}

/// For a daemon: every instance of its cluster that is not deregistered.
fn every_host(ecs: &Ecs, view: &View, snapshot: &Snapshot<'_>) -> Vec<ServiceHost> {
    let service = snapshot.service;
    let account = service.scope.account;
    let source = primary_source(view, snapshot);
    let definition =
        source.as_ref().and_then(|source| view.task_definitions.get(account, &source.definition));
    let zones = source.map(|source| zones_on_instances(ecs, view, service, &source));
    let zones = zones.unwrap_or_default();
    let constraints =
        definition.map(|definition| constraints(definition, service)).unwrap_or_default();
    view.instances_of_cluster(account, &service.cluster)
        .filter(|instance| instance.status < InstanceStatus::Inactive && !instance.is_external)
        .map(|instance| ServiceHost {
            accepts: definition.is_some_and(|definition| {
                accepts(view, instance, definition, service, (&constraints, &zones))
            }),
            other_tasks: other_tasks(view, instance),
            ..host(instance)
        })
        .collect()
}

/// For all others: the instances that are not to be on any more.
fn hosts_of_tasks(view: &View, tasks: &[&Task]) -> Vec<ServiceHost> {
    let mut ids: Vec<InstanceId> = tasks.iter().filter_map(|task| task.instance).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.into_iter()
        .filter_map(|id| view.instance_of_any(id))
        .filter(|instance| instance.status != InstanceStatus::Active)
        .map(|instance| host(instance))
        .collect()
}

fn host(instance: &Instance) -> ServiceHost {
    ServiceHost {
        id: instance.id,
        arn: instance.arn(),
        status: instance.status,
        is_connected: instance.agent.connected,
        accepts: true,
        other_tasks: 0,
    }
}

/// Whether the instance would do, were it active and connected and had it capacity.
fn accepts(
    view: &View,
    instance: &Instance,
    definition: &TaskDefinition,
    service: &Service,
    (constraints, zones): (&[Constraint], &[String]),
) -> bool {
    let (need, group) = (Need::default(), service.group());
    let ask = Ask {
        need: &need,
        group: &group,
        pool: Pool::Own,
        requires: &definition.requires_attributes,
        zones,
        constraints,
        strategies: &[],
    };
    let tasks = || view.tasks_on_instance(instance.id).map(AsRef::as_ref);
    let fit = if instance.status == InstanceStatus::Active && instance.agent.connected {
        plan::fit(&Host::new(instance, tasks()), &ask)
    } else {
        let mut supposed = instance.clone();
        supposed.status = InstanceStatus::Active;
        supposed.agent.connected = true;
        plan::fit(&Host::new(&supposed, tasks()), &ask)
    };
    match fit {
        Ok(()) => true,
        Err(Unfit::Attribute { .. } | Unfit::Zone | Unfit::MemberOf | Unfit::Inactive) => false,
        Err(
            Unfit::Draining
            | Unfit::AgentDisconnected
            | Unfit::DistinctInstance
            | Unfit::Cpu { .. }
            | Unfit::Memory { .. }
            | Unfit::Gpu { .. }
            | Unfit::Port(_),
        ) => true,
    }
}

/// Tasks on a draining instance that daemons wait for.
fn other_tasks(view: &View, instance: &Instance) -> u32 {
    if instance.status == InstanceStatus::Active {
        return 0;
    }
    let is_daemon = |task: &Task| {
        let Some(service) = &task.service else { return false };
        let id = ServiceId { cluster: task.cluster.clone(), name: service.name.clone() };
        let row = view.services.get(task.scope.account, &id);
        row.is_some_and(|row| row.scheduling == Scheduling::Daemon)
    };
    let others = view.tasks_on_instance(instance.id).filter(|task| !is_daemon(task));
    u32::try_from(others.count()).unwrap_or(u32::MAX)
}

/// What a source's tasks are made of, if they have interfaces of their own.
fn with_interfaces<'v>(
    ecs: &Ecs,
    view: &'v View,
    service: &Service,
    source: &TaskSource,
) -> Option<TaskTemplate<'v>> {
    let account = service.scope.account;
    let definition = view.task_definitions.get(account, &source.definition)?;
    let kind = source.capacity.launch();
    let template = || TaskTemplate::of_service(ecs, view, service, source, kind).ok();
    if definition.network_mode == NetworkMode::Awsvpc { template() } else { None }
}

/// The zones by which a source's tasks are bound to instances of the cluster, for what has interfaces of its own.
fn zones_on_instances(
    ecs: &Ecs,
    view: &View,
    service: &Service,
    source: &TaskSource,
) -> Vec<String> {
    let template = with_interfaces(ecs, view, service, source);
    let named = template.map(|template| template.zones()).unwrap_or_default();
    let instances = view.instances_of_cluster(service.scope.account, &service.cluster);
    binding_zones(&named, Pool::Own, instances.map(AsRef::as_ref)).to_vec()
}

/// The zones that tasks of the service may be in.
fn zones(ecs: &Ecs, view: &View, snapshot: &Snapshot<'_>) -> Vec<String> {
    let service = snapshot.service;
    let Some(source) = primary_source(view, snapshot) else { return vec![] };
    let kind = source.capacity.launch();
    if kind == LaunchType::Fargate {
        let template = TaskTemplate::of_service(ecs, view, service, &source, kind);
        let Ok(template) = template else { return vec![] };
        let mut zones = template.open_zones(view);
        let requires = selective(&template.definition.requires_attributes);
        let hosts = ecs.fargate(view);
        if zones.iter().any(|zone| hosts.takes_in(zone, &requires)) {
            zones.retain(|zone| hosts.takes_in(zone, &requires));
        }
        return zones;
    }
    let account = service.scope.account;
    let Some(definition) = view.task_definitions.get(account, &source.definition) else {
        return vec![];
    };
    let constraints = constraints(definition, service);
    let open = with_interfaces(ecs, view, service, &source).map(|it| it.open_zones(view));
    let bound = zones_on_instances(ecs, view, service, &source);
    let providers: Vec<&str> = source.capacity.providers().collect();
    let mut zones: Vec<String> = view
        .instances_of_cluster(account, &service.cluster)
        .filter(|instance| instance.status == InstanceStatus::Active && instance.agent.connected)
        .filter(|instance| instance.is_external == (kind == LaunchType::External))
        .filter(|instance| {
            let provider = instance.capacity_provider.as_deref();
            providers.is_empty() || provider.is_some_and(|name| providers.contains(&name))
        })
        .filter(|instance| accepts(view, instance, definition, service, (&constraints, &bound)))
        .filter_map(|instance| instance.zone().map(str::to_owned))
        .collect();
    // A task is in the zone of its interface, wherever its host stands.
    zones.retain(|zone| open.as_ref().is_none_or(|open| open.contains(zone)));
    zones.sort_unstable();
    zones.dedup();
    zones
}

/// The definition's expressions and the service's rules together; what can't be read was refused when
/// it was sent.
pub(super) fn constraints(definition: &TaskDefinition, service: &Service) -> Vec<Constraint> {
    rules::constraints(definition, &service.constraints).unwrap_or_default()
}

pub(super) fn strategies(service: &Service) -> Vec<Strategy> {
    if service.strategies.is_empty() {
        return vec![Strategy::of_services()];
    }
    rules::strategies(&service.strategies)
}
