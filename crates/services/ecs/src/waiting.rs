//! Tasks that wait for capacity: placed oldest first, whenever there may be some.
//!
//! [`place_waiting`] decides for one pool; [`WaitingTasks`] reconciles those in which tasks wait. Nothing
//! is polled: rows that may mean capacity, or a task that needs some, wake it.
//!
//! **Invariants:** of tasks that are alike the older one goes first; a task that fits nowhere keeps no
//! other from its place, and its row says what kept it from one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use aws_wire::ApiError;
use control::reconcile::{Pass, PassFuture, Queue, Reconciler};
use control::tasks::put_task;
use longshore_types::{
    AccountId, ClusterName, InstanceId, Resources, TaskDefinitionId, TaskId, Timestamp,
};
use model::capacity_provider::GROUP_ATTRIBUTE;
use model::instance::{Instance, InstanceStatus};
use model::service::{PlacementConstraint, PlacementStrategy, Scheduling};
use model::task::{Input, LaunchType, Need, Phase, StopCause, Task, Waiting, step};
use model::{CapacityProvider, Index, Key, RequiredAttribute, Service, ServiceId, View};
use plan::fargate::selective;
use plan::scaling::{Reservation, wanted_instances};
use plan::{Ask, NoPlace, Pool, Refusals, Strategy};
use store::{Batch, Change};
use tracing::{info, warn};

use crate::Ecs;
use crate::errors::Refusal;
use crate::fleet::FleetReservation;
use crate::gpus;
use crate::task_template::rules;

#[cfg(test)]
mod tests;

/// Tasks that are placed with one decision, and those of which is written why they were not.
const PLACED_AT_ONCE_MAX: usize = 100;

/// Why a Fargate task waits.
pub(crate) const NO_FARGATE: &str =
    "no connected instance that takes Fargate tasks has room for it";
/// What Fargate says when it has no room.
pub(crate) const FARGATE_FULL: &str = "Capacity is unavailable at this time. Please try again later or in a different availability zone";
/// Why a task waits whose provider has no instance at all.
pub(crate) const NO_INSTANCES: &str = "no instance belongs to the capacity provider";
const NO_PROVIDER: &str = "the capacity provider is gone";

/// The capacity that some waiting tasks have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WaitingPool {
    /// Everybody's.
    Fargate,
    /// The instances of a cluster's capacity providers.
    Cluster(AccountId, ClusterName),
}

/// What one decision came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) tasks: Vec<(TaskId, InstanceId)>,
    /// Whether there was more to place than one decision does.
    pub(crate) has_more: bool,
}

/// The pools in which tasks wait.
pub(crate) fn pools(view: &View) -> BTreeSet<WaitingPool> {
    unplaced(view).map(|task| pool_of(task)).collect()
}

fn pool_of(task: &Task) -> WaitingPool {
    match task.launch {
        LaunchType::Fargate => WaitingPool::Fargate,
        LaunchType::Ec2 | LaunchType::External => {
            WaitingPool::Cluster(task.scope.account, task.cluster.clone())
        }
    }
}

/// The tasks of a cluster that wait for one of its instances.
pub(crate) fn waiting_in<'v>(
    view: &'v View,
    account: AccountId,
    cluster: &ClusterName,
) -> impl Iterator<Item = &'v Arc<Task>> + use<'v> {
    let cluster = cluster.clone();
    unplaced(view).filter(move |task| {
        task.scope.account == account
            && task.cluster == cluster
            && task.launch != LaunchType::Fargate
    })
}

/// Finds places for the tasks that wait in a pool, and writes them into `batch`; also why others found
/// none, if that is new.
pub(crate) fn place_waiting(
    ecs: &Ecs,
    view: &View,
    batch: &mut Batch,
    pool: &WaitingPool,
    now: Timestamp,
) -> Placed {
    match pool {
        WaitingPool::Fargate => {
            let tasks = unplaced(view).filter(|task| task.launch == LaunchType::Fargate);
            place_fargate(ecs, view, batch, by_age(tasks), now)
        }
        WaitingPool::Cluster(account, cluster) => {
            let tasks = by_age(waiting_in(view, *account, cluster));
            let fleet = ecs.fleet(view, *account, cluster);
            let pass = WaitingPass { view, batch, fleet, now, refused: Vec::new(), noted: 0 };
            pass.place(tasks)
        }
    }
}

fn unplaced(view: &View) -> impl Iterator<Item = &Arc<Task>> {
    view.unplaced_tasks()
}

fn by_age<'v>(tasks: impl Iterator<Item = &'v Arc<Task>>) -> Vec<&'v Arc<Task>> {
    let mut tasks: Vec<_> = tasks.collect();
    tasks.sort_unstable_by_key(|task| (task.times.created, task.id));
    tasks
}

fn place_fargate(
    ecs: &Ecs,
    view: &View,
    batch: &mut Batch,
    tasks: Vec<&Arc<Task>>,
    now: Timestamp,
) -> Placed {
    let mut instances = ecs.fargate(view);
    let mut placed = Placed::default();
    let mut refused: Vec<(Resources, Vec<RequiredAttribute>)> = Vec::new();
    for task in tasks {
        if PLACED_AT_ONCE_MAX <= placed.tasks.len() {
            placed.has_more = true;
            break;
        }
        let need = task.need.resources;
        let definition = view.task_definitions.get(task.scope.account, &task.definition);
        let requires = selective(definition.map_or(&[][..], |row| &row.requires_attributes));
        // One like it that needs no more found none: of thousands that wait not each is tried.
        let is_no_less = |(least, of): &(Resources, Vec<RequiredAttribute>)| {
            *of == requires && least.cpu <= need.cpu && least.memory <= need.memory
        };
        if refused.iter().any(is_no_less) {
            continue;
        }
        // Its interface is there: where its zone has no room, it goes elsewhere as if no instance were in it.
        let own = task.zone.as_deref().filter(|zone| instances.takes_in(zone, &requires));
        let own: Vec<String> = own.map(str::to_owned).into_iter().collect();
        let found = match instances.place(need, &requires, &own) {
            Err(NoPlace::NoRoom) if !own.is_empty() => instances.place(need, &requires, &[]),
            found => found,
        };
        let instance = match found {
            Ok(instance) => instance,
            Err(NoPlace::NoHost) => break,
            Err(NoPlace::NoRoom) => {
                refused.push((need, requires));
                continue;
            }
        };
        if let Some(next) = step(task, &Input::Placed { instance, zone: None }, now) {
            placed.tasks.push((next.id, instance));
            put_task(view, batch, next);
        }
    }
    placed
}

/// Why a task found no place. Its row keeps the sentence.
#[derive(Clone, Debug)]
enum Unplaced {
    NoProvider,
    DefinitionGone(TaskDefinitionId),
    /// A rule that could be read when it was given.
    BadRule(Refusal),
    NoInstances,
    Refused(Arc<Refusals>),
}

impl fmt::Display for Unplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProvider => f.write_str(NO_PROVIDER),
            Self::DefinitionGone(definition) => write!(f, "{definition} is gone"),
            Self::BadRule(refusal) => f.write_str(&ApiError::from(refusal.clone()).message),
            Self::NoInstances => f.write_str(NO_INSTANCES),
            Self::Refused(refusals) => refusals.fmt(f),
        }
    }
}

/// One decision about the tasks of one cluster.
struct WaitingPass<'t> {
    view: &'t View,
    batch: &'t mut Batch,
    fleet: FleetReservation<'t>,
    now: Timestamp,
    /// A task of each shape that found no capacity, and why: others like it need not be tried.
    refused: Vec<(&'t Task, Unplaced)>,
    /// How many tallies were written.
    noted: usize,
}

impl<'t> WaitingPass<'t> {
    fn place(mut self, tasks: Vec<&'t Arc<Task>>) -> Placed {
        let mut placed = Placed::default();
        for task in tasks {
            if PLACED_AT_ONCE_MAX <= placed.tasks.len() {
                placed.has_more = true;
                break;
            }
            match self.find(task) {
                Ok(instance) => {
                    let zone = self.fleet.zone(instance);
                    let input = Input::Placed { instance, zone: zone.map(str::to_owned) };
                    let definition =
                        self.view.task_definitions.get(task.scope.account, &task.definition);
                    if let Some(mut next) = step(task, &input, self.now)
                        && definition.is_some_and(|row| {
                            gpus::pin(self.view, self.batch, row, instance, &mut next)
                        })
                    {
                        placed.tasks.push((next.id, instance));
                        put_task(self.view, self.batch, next);
                    }
                }
                Err(why) => self.note(task, &why),
            }
        }
        placed
    }

    /// A place for the task, or what kept it from one.
    fn find(&mut self, task: &'t Task) -> Result<InstanceId, Unplaced> {
        if let Some((_, why)) = self.refused.iter().find(|(other, _)| is_alike(other, task)) {
            return Err(why.clone());
        }
        let found = self.ask(task);
        if let Err(why) = &found {
            self.refused.push((task, why.clone()));
        }
        found
    }

    fn ask(&mut self, task: &Task) -> Result<InstanceId, Unplaced> {
        let account = task.scope.account;
        let provider = provider_of(self.view, task).ok_or(Unplaced::NoProvider)?;
        let definition = self.view.task_definitions.get(account, &task.definition);
        let definition =
            definition.ok_or_else(|| Unplaced::DefinitionGone(task.definition.clone()))?;
        let (given, asked) = rules_of(self.view, task);
        let constraints = rules::constraints(definition, given).map_err(Unplaced::BadRule)?;
        let strategies = match task.service.is_some() && asked.is_empty() {
            true => vec![Strategy::of_services()],
            false => rules::strategies(asked),
        };
        let named = task.waiting.as_ref().map_or(&[][..], |waiting| &waiting.zones);
        let ask = Ask {
            need: &task.need,
            group: &task.group,
            pool: Pool::Group(provider.group_name()),
            requires: &definition.requires_attributes,
            zones: named,
            constraints: &constraints,
            strategies: &strategies,
        };
        let seed = seed(task.id, self.now);
        // Its interface is in one of the zones already: that one comes first.
        let own: Vec<String> = task.zone.iter().map(ToString::to_string).collect();
        if 1 < named.len() && !self.fleet.binding_zones(&own, ask.pool).is_empty() {
            let near = Ask { zones: &own, ..ask };
            let plan = self.fleet.place_in(self.batch, &near, 1, seed);
            if let Some(instance) = plan.placements.first() {
                return Ok(*instance);
            }
        }
        let plan = self.fleet.place_in(self.batch, &ask, 1, seed);
        plan.placements.first().copied().ok_or_else(|| match plan.refusals {
            Some(refusals) if !refusals.is_empty() => Unplaced::Refused(refusals),
            Some(_) | None => Unplaced::NoInstances,
        })
    }

    /// Writes down why a task waits on, if that is news.
    fn note(&mut self, task: &Task, why: &Unplaced) {
        let tally = why.to_string();
        let is_known = task.waiting.as_ref().is_some_and(|waiting| waiting.tally == tally);
        if is_known || PLACED_AT_ONCE_MAX <= self.noted {
            return;
        }
        self.noted += 1;
        let mut next = task.clone();
        let waiting = next.waiting.take().unwrap_or_default();
        next.waiting = Some(Box::new(Waiting { tally, ..*waiting }));
        next.version += 1;
        put_task(self.view, self.batch, next);
    }
}

/// Ends the waiting of tasks that nobody replaces and for which no capacity came in time: as ECS does it,
/// they stop. Says how many.
pub(crate) fn stop_overdue(
    view: &View,
    batch: &mut Batch,
    waits_ms_max: u64,
    now: Timestamp,
) -> usize {
    let is_over = |task: &&Arc<Task>| {
        let waited_ms = now.since_ms(task.times.created);
        task.service.is_none() && task.launch != LaunchType::Fargate && waits_ms_max <= waited_ms
    };
    let mut ended = 0;
    for task in unplaced(view).filter(is_over).take(PLACED_AT_ONCE_MAX) {
        let tally = task.waiting.as_ref().map_or(NO_INSTANCES, |waiting| waiting.tally.as_str());
        let provider = task.capacity_provider.as_deref().unwrap_or_default();
        let reason = format!(
            "Task failed to start: capacity provider {provider} had no room for it in time ({tally})"
        );
        let input = Input::Unwanted(StopCause::FailedToStart { reason });
        if let Some(next) = step(task, &input, now) {
            warn!(task = %next.id, %provider, %tally, "task waited for room in vain");
            put_task(view, batch, next);
            ended += 1;
        }
    }
    ended
}

/// Whether what keeps one task from a place keeps the other.
fn is_alike(one: &Task, other: &Task) -> bool {
    let rules = |task: &Task| {
        let waiting = task.waiting.as_ref()?;
        Some((waiting.constraints.clone(), waiting.zones.clone()))
    };
    one.capacity_provider == other.capacity_provider
        && one.definition == other.definition
        && one.need == other.need
        && one.group == other.group
        && rules(one) == rules(other)
}

/// The rules of the request that made it, or of its service as they are now.
fn rules_of<'t>(
    view: &'t View,
    task: &'t Task,
) -> (&'t [PlacementConstraint], &'t [PlacementStrategy]) {
    match (service_of(view, task), &task.waiting) {
        (Some(service), _) => (&service.constraints, &service.strategies),
        (None, Some(waiting)) => (&waiting.constraints, &waiting.strategies),
        (None, None) => (&[], &[]),
    }
}

fn service_of<'v>(view: &'v View, task: &Task) -> Option<&'v Arc<Service>> {
    let name = task.service.as_ref()?.name.clone();
    view.services.get(task.scope.account, &ServiceId { cluster: task.cluster.clone(), name })
}

fn provider_of<'v>(view: &'v View, task: &Task) -> Option<&'v Arc<CapacityProvider>> {
    let name = task.capacity_provider.as_deref()?.to_owned();
    view.capacity_providers.get(task.scope.account, &name).filter(|row| row.is_active())
}

/// Chance, from what differs from task to task.
fn seed(task: TaskId, now: Timestamp) -> u64 {
    let bytes = task.to_bytes();
    bytes.iter().take(8).fold(now.0, |all, byte| all.rotate_left(8) ^ u64::from(*byte))
}

/// How many instances a capacity provider has, and how many it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DesiredCapacity {
    pub(crate) provider: String,
    pub(crate) group: String,
    pub(crate) instances: u32,
    pub(crate) wanted: u32,
}

/// What the providers of a cluster with managed scaling would have of their groups.
pub(crate) fn desired_capacities(
    view: &View,
    account: AccountId,
    cluster: &ClusterName,
) -> Vec<DesiredCapacity> {
    let Some(row) = view.active_cluster(account, cluster) else { return Vec::new() };
    let managed = row.capacity_providers.iter().filter_map(|name| {
        let provider = view.capacity_providers.get(account, name)?;
        (provider.is_active() && provider.scaling.is_enabled).then_some(provider)
    });
    managed.map(|provider| desired_capacity(view, account, cluster, provider)).collect()
}

fn desired_capacity(
    view: &View,
    account: AccountId,
    cluster: &ClusterName,
    provider: &CapacityProvider,
) -> DesiredCapacity {
    let group = Some(provider.group_name());
    let is_its = |row: &&Arc<Instance>| {
        row.status != InstanceStatus::Inactive
            && row.attributes.get(GROUP_ATTRIBUTE).and_then(Option::as_deref) == group
    };
    let instances: Vec<_> = view.instances_of_cluster(account, cluster).filter(is_its).collect();
    let is_busy = |row: &&&Arc<Instance>| {
        view.tasks_on_instance(row.id).any(|task| {
            service_of(view, task).is_none_or(|service| service.scheduling != Scheduling::Daemon)
        })
    };
    let size = |row: &Arc<Instance>| (row.total.cpu.0, row.total.memory.0);
    let largest: Option<Resources> =
        instances.iter().max_by_key(|row| size(row)).map(|row| row.total);
    let mut waiting: Vec<(Need, u32)> = Vec::new();
    for task in waiting_in(view, account, cluster) {
        if task.capacity_provider.as_deref() != Some(provider.name.as_str()) {
            continue;
        }
        match waiting.iter_mut().find(|(need, _)| *need == task.need) {
            Some((_, count)) => *count += 1,
            None => waiting.push((task.need.clone(), 1)),
        }
    }
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let reservation = Reservation {
        instances: number(instances.len()),
        busy: number(instances.iter().filter(is_busy).count()),
        size: largest,
        waiting: &waiting,
    };
    DesiredCapacity {
        provider: provider.name.clone(),
        group: provider.group_name().to_owned(),
        instances: reservation.instances,
        wanted: wanted_instances(&reservation, &provider.scaling),
    }
}

/// Finds places for waiting tasks, one pool at a time.
#[derive(Debug)]
pub(crate) struct WaitingTasks {
    ecs: Arc<Ecs>,
    /// What operators were told of how many instances are wanted, so that they are told changes only.
    reported: BTreeMap<WaitingPool, Vec<DesiredCapacity>>,
}

impl WaitingTasks {
    pub(crate) fn new(ecs: &Arc<Ecs>) -> Self {
        Self { ecs: Arc::clone(ecs), reported: BTreeMap::new() }
    }
}

impl Reconciler for WaitingTasks {
    type Key = WaitingPool;
    /// How many instances the pool's providers want; `None` once no task waits.
    type Note = Option<Vec<DesiredCapacity>>;
    type Error = ApiError;

    fn name(&self) -> &'static str {
        "waiting-tasks"
    }

    fn wake(&mut self, view: &View, change: &Change, queue: &mut Queue<WaitingPool>) {
        // Most of the time nothing waits.
        if view.member_count(&Index::UnplacedTasks) == 0 && queue.is_empty() {
            return;
        }
        let seq = change.seq;
        let cluster = |account: AccountId, cluster: &ClusterName, queue: &mut Queue<_>| {
            queue.changed(&WaitingPool::Cluster(account, cluster.clone()), seq);
        };
        match &change.key {
            Key::Task(account, id) => {
                let Some(task) = view.tasks.get(*account, id) else { return };
                if task.is_unplaced() {
                    queue.changed(&pool_of(task), seq);
                } else if task.phase == Phase::Stopped {
                    // Its capacity is free, in its own pool and in that of the instance it was on.
                    queue.changed(&pool_of(task), seq);
                    if let Some(row) = task.instance.and_then(|id| view.instance_of_any(id)) {
                        cluster(row.scope.account, &row.cluster, queue);
                        if row.takes_fargate() {
                            queue.changed(&WaitingPool::Fargate, seq);
                        }
                    }
                }
            }
            Key::ContainerInstance(account, id) => {
                queue.changed(&WaitingPool::Fargate, seq);
                if let Some(row) = view.instances.get(*account, id) {
                    cluster(row.scope.account, &row.cluster, queue);
                }
            }
            // Tasks of a service are placed by the rules that hold now.
            Key::Service(account, id) => cluster(*account, &id.cluster, queue),
            Key::Cluster(account, name) => cluster(*account, name, queue),
            Key::CapacityProvider(account, _) => {
                let is_its = |pool: &WaitingPool| match pool {
                    WaitingPool::Fargate => false,
                    WaitingPool::Cluster(owner, _) => owner == account,
                };
                for pool in pools(view).into_iter().filter(is_its) {
                    queue.changed(&pool, seq);
                }
            }
            Key::TaskFamily(..)
            | Key::TaskDefinition(..)
            | Key::ServiceRevision(..)
            | Key::Deployment(..)
            | Key::TaskSet(..)
            | Key::ServiceEvents(..)
            | Key::Interface(..)
            | Key::AddressPlan(..)
            | Key::TunnelSecret(..)
            | Key::AccountSetting(..)
            | Key::ClientToken(..)
            | Key::EcrRepository(..)
            | Key::EcrManifest(..)
            | Key::EcrTag(..)
            | Key::EcrLayer(..)
            | Key::EcrPullThroughRule(..)
            | Key::EcrTemplate(..)
            | Key::IamUser(..)
            | Key::IamGroup(..)
            | Key::IamRole(..)
            | Key::IamPolicy(..)
            | Key::IamInstanceProfile(..)
            | Key::IamAccessKey(..)
            | Key::IamKeyUse(..)
            | Key::IamOidcProvider(..)
            | Key::IamAccount(..)
            | Key::AcmCertificate(..)
            | Key::MapNamespace(..)
            | Key::MapService(..)
            | Key::MapInstance(..)
            | Key::MapOperation(..)
            | Key::KmsKey(..)
            | Key::KmsAlias(..)
            | Key::LogPolicy(..)
            | Key::Secret(..)
            | Key::SecretVersion(..)
            | Key::Parameter(..)
            | Key::ParameterVersion(..)
            | Key::JoinToken(..)
            | Key::Node(..)
            | Key::Activation(..)
            | Key::SecurityGroup(..)
            | Key::SecurityGroupRule(..)
            | Key::Ec2Tags(..)
            | Key::Vpc(..)
            | Key::Subnet(..)
            | Key::RouteTable(..)
            | Key::InternetGateway(..)
            | Key::NatGateway(..)
            | Key::ElasticAddress(..)
            | Key::NetworkAcl(..)
            | Key::DhcpOptions(..)
            | Key::PrefixList(..)
            | Key::VpcEndpoint(..)
            | Key::FlowLog(..)
            | Key::VpcPeering(..)
            | Key::DefaultVpcGone(..)
            | Key::MetricAlarm(..)
            | Key::AlarmHistory(..)
            | Key::ScalableTarget(..)
            | Key::ScalingActivities(..)
            | Key::EventRule(..)
            | Key::PendingEvent(..)
            | Key::ElbBalancer(..)
            | Key::ElbGroup(..)
            | Key::ElbListener(..)
            | Key::ElbRule(..)
            | Key::ElbTarget(..)
            | Key::EcrRegistry(..)
            | Key::EcrScanning(..)
            | Key::IamMfaDevice(..) => {}
        }
    }

    fn keys(&mut self, view: &View) -> Vec<WaitingPool> {
        let reported = self.reported.keys().cloned();
        reported.chain(pools(view)).collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn pass(
        &self,
        pool: &WaitingPool,
    ) -> PassFuture<Result<Pass<Option<Vec<DesiredCapacity>>>, ApiError>> {
        let (ecs, pool) = (Arc::clone(&self.ecs), pool.clone());
        Box::pin(async move { run(&ecs, &pool).await })
    }

    fn finished(
        &mut self,
        pool: &WaitingPool,
        desired: Option<Vec<DesiredCapacity>>,
        _queue: &mut Queue<WaitingPool>,
    ) {
        let before = self.reported.remove(pool).unwrap_or_default();
        let Some(desired) = desired else { return };
        for desired in desired.iter().filter(|desired| !before.contains(desired)) {
            let DesiredCapacity { provider, group, instances, wanted } = desired;
            info!(?pool, %provider, %group, instances, wanted, "instances wanted");
        }
        if !desired.is_empty() {
            self.reported.insert(pool.clone(), desired);
        }
    }
}

/// Places what can be placed with one decision, and says how many instances are wanted for the rest.
async fn run(
    ecs: &Ecs,
    pool: &WaitingPool,
) -> Result<Pass<Option<Vec<DesiredCapacity>>>, ApiError> {
    let view = ecs.control.store.latest();
    if !unplaced(&view).any(|task| pool_of(task) == *pool) {
        return Ok(Pass { looked_at: view.seq, is_over: true, ..Pass::default() });
    }
    drop(view);
    let decided = ecs.control.decide(|view, now| {
        let mut batch = Batch::on(view);
        let placed = place_waiting(ecs, view, &mut batch, pool, now);
        let looked_at = if batch.is_empty() { view.seq } else { view.seq.next() };
        Ok((batch, (placed, looked_at)))
    });
    let (placed, looked_at) = decided.await?;
    for (task, instance) in &placed.tasks {
        info!(%task, %instance, "waiting task placed");
    }
    let desired = match pool {
        WaitingPool::Fargate => Vec::new(),
        WaitingPool::Cluster(account, cluster) => {
            desired_capacities(&ecs.control.store.latest(), *account, cluster)
        }
    };
    Ok(Pass { looked_at, is_cut: placed.has_more, note: Some(desired), ..Pass::default() })
}
