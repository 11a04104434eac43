//! Whom a durable change concerns: rows in, services to look at out.
//!
//! Looking once too often costs time, once too seldom breaks a promise: in doubt a service is queued.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use control::reconcile::Queue;
use longshore_types::{AccountId, InstanceId};
use model::instance::{Instance, InstanceStatus};
use model::service::ServiceStatus;
use model::task::{Desired, LaunchType, Phase, Task};
use model::{Key, Seq, ServiceId, View};
use store::Change;

use super::Who;
use super::interest::{Interests, Topic};

/// What is remembered of instances, to tell changes that matter from others.
#[derive(Debug, Default)]
pub(super) struct SeenInstances(BTreeMap<(AccountId, InstanceId), Seen>);

/// What placement asks of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    status: InstanceStatus,
    is_connected: bool,
    /// Of its attributes, its capacity provider and what it offers.
    digest: u64,
}

impl SeenInstances {
    pub(super) fn of(view: &View) -> Self {
        Self(view.instances.iter().map(|row| (id_of(row), Seen::of(row))).collect())
    }

    /// Whether the row differs from what was seen of it before in what placement asks.
    fn is_news(&mut self, row: &Instance) -> bool {
        let seen = Seen::of(row);
        self.0.insert(id_of(row), seen) != Some(seen)
    }
}

/// Queues the services that the change of a row concerns, as of `view`, which has it.
pub(super) fn row(
    view: &View,
    change: &Change,
    instances: &mut SeenInstances,
    interests: &Interests,
    queue: &mut Queue<Who>,
) {
    let Change { seq, key } = change;
    let seq = *seq;
    let changed = |account: AccountId, service: &ServiceId, queue: &mut Queue<Who>| {
        // One that is over is no longer looked at.
        let row = view.services.get(account, service);
        if row.is_some_and(|row| row.status < ServiceStatus::Inactive) {
            queue.changed(&Who { account, service: service.clone() }, seq);
        }
    };
    match key {
        Key::Service(account, id) => changed(*account, id, queue),
        Key::Deployment(account, id) | Key::TaskSet(account, id) => {
            changed(*account, &id.service, queue);
        }
        Key::Task(account, id) => {
            let Some(task) = view.tasks.get(*account, id) else { return };
            if let Some(service) = service_of(task).filter(|_| concerns_its_service(task)) {
                changed(*account, &service, queue);
            }
            freed(view, task, seq, interests, queue);
            placed(task, seq, interests, queue);
        }
        Key::ContainerInstance(account, id) => match view.instances.get(*account, id) {
            Some(row) if instances.is_news(row) => instance(view, row, interests, queue),
            Some(_) => {}
            None => drop(instances.0.remove(&(*account, *id))),
        },
        // Whoever takes a target away lets its task go in the same batch.
        Key::ElbTarget(account, id) => {
            if let Some(task) = view.elb_targets.get(*account, id).and_then(|it| it.task.as_ref()) {
                changed(*account, &task.service, queue);
            }
        }
        // It is not made again under its name, and whoever has tasks in it is to say so.
        Key::ElbGroup(account, path) if view.elb_groups.get(*account, path).is_none() => {
            for row in view.services.of(*account) {
                changed(*account, &row.key(), queue);
            }
        }
        // With managed scaling tasks wait that had no capacity before.
        Key::CapacityProvider(account, _) => {
            let topics = [Topic::Capacity, Topic::Quota];
            interests.wake_everywhere(Some(*account), seq, &topics, queue);
        }
        Key::Cluster(..)
        | Key::TaskFamily(..)
        | Key::TaskDefinition(..)
        | Key::ServiceRevision(..)
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
        | Key::EcrRegistry(..)
        | Key::EcrScanning(..)
        | Key::IamMfaDevice(..) => {}
    }
}

/// What is remembered is the row as it is by now, so whoever is woken is to look at no less: it will
/// not be told of that change again.
fn instance(view: &View, row: &Instance, interests: &Interests, queue: &mut Queue<Who>) {
    let seq = view.seq;
    for task in view.tasks_on_instance(row.id) {
        if let Some(service) = service_of(task) {
            queue.changed(&Who { account: task.scope.account, service }, seq);
        }
    }
    let topics = [Topic::Daemon, Topic::Zones, Topic::Capacity];
    interests.wake_cluster(row.scope.account, &row.cluster, seq, &topics, queue);
    if row.takes_fargate() {
        // It has room for everybody's.
        interests.wake_everywhere(None, seq, &[Topic::Quota], queue);
    }
}

impl Seen {
    fn of(row: &Instance) -> Self {
        let mut hasher = DefaultHasher::new();
        row.attributes.hash(&mut hasher);
        row.capacity_provider.hash(&mut hasher);
        (row.total.cpu.0, row.total.memory.0).hash(&mut hasher);
        row.reserved_ports.hash(&mut hasher);
        Self { status: row.status, is_connected: row.agent.connected, digest: hasher.finish() }
    }
}

fn id_of(row: &Instance) -> (AccountId, InstanceId) {
    (row.scope.account, row.id)
}

/// The service whose reconciler still looks at the task.
fn service_of(task: &Task) -> Option<ServiceId> {
    let service = task.service.as_ref().filter(|service| !service.is_accounted)?;
    Some(ServiceId { cluster: task.cluster.clone(), name: service.name.clone() })
}

/// On its way to running a task is only waited for.
fn concerns_its_service(task: &Task) -> bool {
    Phase::Running <= task.phase || task.desired == Desired::Stopped
}

/// A task that waited leaves its place among those that wait. It may run by the time this is told.
fn placed(task: &Task, seq: Seq, interests: &Interests, queue: &mut Queue<Who>) {
    let has_place = task.instance.is_some() && task.phase <= Phase::Running;
    if has_place && task.capacity_provider.is_some() {
        let account = task.scope.account;
        interests.wake_cluster(account, &task.cluster, seq, &[Topic::Quota], queue);
    }
}

/// A task that has stopped leaves capacity, and one fewer that counts. It may be taken in by its service
/// already when this is told.
fn freed(view: &View, task: &Task, seq: Seq, interests: &Interests, queue: &mut Queue<Who>) {
    if task.phase < Phase::Stopped {
        return;
    }
    let account = task.scope.account;
    if task.launch != LaunchType::Fargate && task.instance.is_some() {
        interests.wake_cluster(account, &task.cluster, seq, &[Topic::Capacity], queue);
    }
    // Daemons leave an instance that drains after all others, whosever those were.
    let instance = task.instance.and_then(|id| view.instance_of_any(id));
    if let Some(row) = instance.filter(|row| row.status == InstanceStatus::Draining) {
        let (owner, cluster) = (row.scope.account, &row.cluster);
        interests.wake_cluster(owner, cluster, seq, &[Topic::Daemon], queue);
    }
    let waited = task.instance.is_none() && task.capacity_provider.is_some();
    if task.interface.is_some() || instance.is_some_and(|row| row.takes_fargate()) {
        // Addresses are the region's, and so is room for Fargate, whoever has them.
        interests.wake_everywhere(None, seq, &[Topic::Quota], queue);
    } else if task.launch == LaunchType::Fargate || waited {
        interests.wake_everywhere(Some(account), seq, &[Topic::Quota], queue);
    }
}
