//! Whom a durable change concerns: rows in, services to look at out.
//!
//! Looking once too often costs time, once too seldom breaks a promise: in doubt a service is woken.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};

use longshore_types::{AccountId, InstanceId};
use model::instance::{Instance, InstanceStatus};
use model::service::ServiceStatus;
use model::task::{Desired, Launch, Phase, Task};
use model::{Index, Key, Seq, ServiceId, View};
use store::{Change, Changed};

use super::lost::Silences;
use super::picture::instance_of;
use super::queue::{Queue, Topic, Who};

/// What is remembered of instances, to tell changes that matter from others.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    instances: BTreeMap<(AccountId, InstanceId), Seen>,
}

/// What placement asks of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    status: InstanceStatus,
    is_connected: bool,
    /// Of its attributes, its capacity provider and what it offers.
    digest: u64,
}

impl Wakes {
    /// Finds out whom `changed` concerns, as of `view`, which has it.
    pub(super) fn absorb(
        &mut self,
        view: &View,
        changed: Changed,
        queue: &mut Queue,
        silences: &mut Silences,
    ) {
        match changed {
            Changed::Everything => self.everything(view, queue, silences),
            Changed::Rows(rows) => {
                for Change { seq, key } in rows {
                    self.row(view, seq, &key, queue, silences);
                }
            }
        }
    }

    fn everything(&mut self, view: &View, queue: &mut Queue, silences: &mut Silences) {
        self.instances = view.instances.iter().map(|row| (id_of(row), Seen::of(row))).collect();
        silences.look_at_all(view);
        for key in view.members(&Index::LiveServices) {
            if let Key::Service(account, service) = key {
                let who = Who { account: *account, service: service.clone() };
                queue.changed(&who, view.seq);
            }
        }
    }

    fn row(
        &mut self,
        view: &View,
        seq: Seq,
        key: &Key,
        queue: &mut Queue,
        silences: &mut Silences,
    ) {
        let mut changed = |account: AccountId, service: &ServiceId| {
            // One that is over is no longer looked at.
            let row = view.services.get(account, service);
            if row.is_some_and(|row| row.status < ServiceStatus::Inactive) {
                queue.changed(&Who { account, service: service.clone() }, seq);
            }
        };
        match key {
            Key::Service(account, id) => changed(*account, id),
            Key::Deployment(account, id) | Key::TaskSet(account, id) => {
                changed(*account, &id.service);
            }
            Key::Task(account, id) => {
                let Some(task) = view.tasks.get(*account, id) else { return };
                if let Some(service) = service_of(task).filter(|_| concerns_its_service(task)) {
                    changed(*account, &service);
                }
                freed(view, task, seq, queue);
                placed(task, seq, queue);
            }
            Key::ContainerInstance(account, id) => {
                self.instance(view, *account, *id, queue, silences);
            }
            // With managed scaling tasks wait that had no room before.
            Key::CapacityProvider(account, _) => {
                queue.wake_everywhere(Some(*account), seq, &[Topic::Room, Topic::Quota]);
            }
            Key::Cluster(..)
            | Key::TaskFamily(..)
            | Key::TaskDefinition(..)
            | Key::ServiceRevision(..)
            | Key::ServiceEvents(..)
            | Key::Interface(..)
            | Key::AddressPlan(..)
            | Key::AccountSetting(..)
            | Key::ClientToken(..)
            | Key::EcrRepository(..)
            | Key::EcrManifest(..)
            | Key::EcrTag(..)
            | Key::EcrLayer(..) => {}
        }
    }

    /// What is remembered is the row as it is by now, so whoever is woken is to look at no less: it will
    /// not be told of that change again.
    fn instance(
        &mut self,
        view: &View,
        account: AccountId,
        id: InstanceId,
        queue: &mut Queue,
        silences: &mut Silences,
    ) {
        let Some(row) = view.instances.get(account, &id) else {
            self.instances.remove(&(account, id));
            silences.forget(account, id);
            return;
        };
        silences.look_at(row);
        let seen = Seen::of(row);
        match self.instances.entry((account, id)) {
            Entry::Occupied(known) if *known.get() == seen => return,
            Entry::Occupied(mut known) => {
                known.insert(seen);
            }
            Entry::Vacant(new) => {
                new.insert(seen);
            }
        }
        let seq = view.seq;
        for task in view.tasks_on_instance(id) {
            if let Some(service) = service_of(task) {
                queue.changed(&Who { account: task.scope.account, service }, seq);
            }
        }
        let topics = [Topic::Daemon, Topic::Zones, Topic::Room];
        queue.wake_cluster(account, &row.cluster, seq, &topics);
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
    let service = task.service.as_ref().filter(|service| !service.is_settled)?;
    Some(ServiceId { cluster: task.cluster.clone(), name: service.name.clone() })
}

/// On its way to running a task is only waited for.
fn concerns_its_service(task: &Task) -> bool {
    Phase::Running <= task.phase || task.desired == Desired::Stopped
}

/// A task that waited leaves its place among those that wait. It may run by the time this is told.
fn placed(task: &Task, seq: Seq, queue: &mut Queue) {
    let has_place = task.instance.is_some() && task.phase <= Phase::Running;
    if has_place && task.capacity_provider.is_some() {
        let account = task.scope.account;
        queue.wake_cluster(account, &task.cluster, seq, &[Topic::Quota]);
    }
}

/// A task that has stopped leaves room, and one fewer that counts. It may be taken in by its service
/// already when this is told.
fn freed(view: &View, task: &Task, seq: Seq, queue: &mut Queue) {
    if task.phase < Phase::Stopped {
        return;
    }
    let account = task.scope.account;
    if task.launch != Launch::Fargate && task.instance.is_some() {
        queue.wake_cluster(account, &task.cluster, seq, &[Topic::Room]);
    }
    // Daemons leave an instance that drains after all others, whosever those were.
    let instance = task.instance.and_then(|id| instance_of(view, id));
    if let Some(row) = instance.filter(|row| row.status == InstanceStatus::Draining) {
        let (owner, cluster) = (row.scope.account, &row.cluster);
        queue.wake_cluster(owner, cluster, seq, &[Topic::Daemon]);
    }
    let waited = task.instance.is_none() && task.capacity_provider.is_some();
    if task.interface.is_some() {
        // Addresses are the region's, whoever has them.
        queue.wake_everywhere(None, seq, &[Topic::Quota]);
    } else if task.launch == Launch::Fargate || waited {
        queue.wake_everywhere(Some(account), seq, &[Topic::Quota]);
    }
}
