//! What wakes the sessions: rows of tasks and instances that became durable.

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_wire::ApiError;
use control::Control;
use control::reconcile::{Pass, PassFuture, Queue, Reconciler};
use longshore_types::{AccountId, InstanceId, SecurityGroupId, TaskId, Timestamp};
use model::instance::{Instance, InstanceStatus};
use model::task::Phase;
use model::{Index, Key, View};
use store::{BATCH_ROWS_MAX, Batch, Change};

use crate::Sessions;
use crate::feed::{host_of, instances_with_ways};

/// Writes that nobody is connected, before requests are served.
pub async fn prepare(control: &Control) -> Result<(), ApiError> {
    let started = control.clock.now();
    let decide = |view: &View, _: Timestamp| {
        let batch = nobody_is_connected(view, started);
        let is_done = batch.len() < BATCH_ROWS_MAX;
        Ok((batch, is_done))
    };
    while !control.decide(decide).await? {}
    Ok(())
}

/// Has the sessions of agents look at their tasks when these have something new for them, ends those of
/// instances that are gone, and forgets the figures of tasks that are over.
#[derive(Debug)]
pub(crate) struct Orders {
    pub(crate) sessions: Arc<Sessions>,
}

/// Whose session, or whose figures.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum OrdersKey {
    Instance(InstanceId),
    EndedTask(TaskId),
    /// Those of all instances where an interface has the group.
    Group(AccountId, SecurityGroupId),
    /// Those of all instances, since a name of the account changed.
    Names(AccountId),
    /// Those of all instances, since what is logged of flows changed.
    Logged,
    /// Those of all instances whose hosts reach each other's interfaces.
    Plane,
    /// Those of all instances with an interface in a VPC with addresses of its own, or in a default one that was changed.
    OwnVpcs,
}

/// How often at most hosts are told of each other's interfaces: a burst of starts is told as one.
const PLANE_REST_MS: u64 = 100;

impl Reconciler for Orders {
    type Key = OrdersKey;
    type Note = ();
    type Error = ApiError;

    fn name(&self) -> &'static str {
        "orders"
    }

    fn wake(&mut self, view: &View, change: &Change, queue: &mut Queue<OrdersKey>) {
        if let Key::Task(account, id) = &change.key {
            match view.tasks.get(*account, id) {
                Some(task) if task.has_orders() => {
                    if let Some(instance) = task.instance {
                        queue.changed(&OrdersKey::Instance(instance), change.seq);
                    }
                    if task.interface.is_some() && self.sessions.are_spread() {
                        queue.changed(&OrdersKey::Plane, change.seq);
                    }
                }
                Some(task) if task.phase < Phase::Stopped => {}
                Some(_) | None => queue.changed(&OrdersKey::EndedTask(*id), change.seq),
            }
        } else if let Key::ContainerInstance(account, id) = &change.key {
            let row = view.instances.get(*account, id);
            let may_end = |row: &Arc<Instance>| {
                row.status == InstanceStatus::Inactive || !row.agent.connected
            };
            if row.is_none_or(may_end) {
                queue.changed(&OrdersKey::Instance(*id), change.seq);
            }
            if self.sessions.are_spread() {
                queue.changed(&OrdersKey::Plane, change.seq);
            }
        } else if let Key::Interface(_, id) = &change.key {
            if id.vpc.is_some() {
                queue.changed(&OrdersKey::OwnVpcs, change.seq);
            } else if self.sessions.are_spread() {
                queue.changed(&OrdersKey::Plane, change.seq);
            }
        } else if let Key::FlowLog(..) = &change.key {
            queue.changed(&OrdersKey::Logged, change.seq);
        } else if is_of_own_vpc(&change.key) {
            queue.changed(&OrdersKey::OwnVpcs, change.seq);
        } else if let Key::SecurityGroup(account, id) = &change.key {
            queue.changed(&OrdersKey::Group(*account, id.clone()), change.seq);
        } else if let Key::MapNamespace(account, _)
        | Key::MapService(account, _)
        | Key::MapInstance(account, _) = &change.key
        {
            queue.changed(&OrdersKey::Names(*account), change.seq);
        } else if let Key::ElbBalancer(account, _) | Key::VpcEndpoint(account, _) = &change.key {
            queue.changed(&OrdersKey::Names(*account), change.seq);
            queue.changed(&OrdersKey::OwnVpcs, change.seq);
        }
    }

    fn keys(&mut self, view: &View) -> Vec<OrdersKey> {
        let connected = view.instances.iter().filter(|row| row.agent.connected);
        connected.map(|row| OrdersKey::Instance(row.id)).collect()
    }

    fn pass(&self, key: &OrdersKey) -> PassFuture<Result<Pass<()>, ApiError>> {
        let (sessions, key) = (Arc::clone(&self.sessions), key.clone());
        Box::pin(async move {
            let view = sessions.control.view();
            match key {
                OrdersKey::Instance(id) => match known(&view, id) {
                    Some(row) => {
                        sessions.retire_before(id, row.agent.session);
                        sessions.notify(id);
                    }
                    None => {
                        sessions.retire(id);
                        sessions.control.connect_hosts.forget(id);
                        sessions.control.connect_figures.forget(id);
                    }
                },
                OrdersKey::EndedTask(id) => sessions.forget(id),
                OrdersKey::Group(account, id) => {
                    let home = sessions.home_of_balancers(&view);
                    for instance in instances_of_group(&view, account, &id, home) {
                        sessions.notify(instance);
                    }
                }
                // Each session finds out by one look whether it has to say something.
                OrdersKey::Names(_) | OrdersKey::Logged => {
                    for row in view.instances.iter().filter(|row| row.agent.connected) {
                        sessions.notify(row.id);
                    }
                }
                OrdersKey::Plane => {
                    sessions.notify_spread();
                    return Ok(rest(&sessions, &view));
                }
                OrdersKey::OwnVpcs => {
                    // Also where the last balancer has gone.
                    let own = sessions.own_machine(&view);
                    for instance in instances_with_ways(&view, own).into_iter().chain(own) {
                        sessions.notify(instance);
                    }
                    return Ok(rest(&sessions, &view));
                }
            }
            Ok(Pass { looked_at: view.seq, is_over: true, ..Pass::default() })
        })
    }
}

/// What is told of together.
fn rest(sessions: &Sessions, view: &View) -> Pass<()> {
    let rests_until = Timestamp(sessions.control.clock.now().0 + PLANE_REST_MS);
    Pass { looked_at: view.seq, rests_until, ..Pass::default() }
}

/// Whether hosts with interfaces in such a VPC may have to know of the change.
fn is_of_own_vpc(key: &Key) -> bool {
    matches!(
        key,
        Key::Vpc(..)
            | Key::Subnet(..)
            | Key::RouteTable(..)
            | Key::NetworkAcl(..)
            | Key::InternetGateway(..)
            | Key::NatGateway(..)
            | Key::ElasticAddress(..)
            | Key::PrefixList(..)
            | Key::VpcPeering(..)
    )
}

/// The instances on which an interface has the group: a task's, or a balancer's.
fn instances_of_group(
    view: &View,
    account: AccountId,
    group: &SecurityGroupId,
    home: Option<InstanceId>,
) -> BTreeSet<InstanceId> {
    let interfaces = view.members(&Index::GroupInterfaces(account, group.clone()));
    let instances = interfaces.filter_map(|key| {
        let Key::Interface(owner, address) = key else { return None };
        let interface = view.interfaces.get(*owner, address)?;
        host_of(view, interface, home)
    });
    instances.collect()
}

pub(crate) fn known(view: &View, id: InstanceId) -> Option<&Arc<Instance>> {
    view.instance_of_any(id).filter(|row| row.status < InstanceStatus::Inactive)
}

/// No session outlives its region. Nor could anybody be heard while it was away: whoever has tasks is waited for anew,
/// those included whose sessions the region itself has ended as it stopped.
fn nobody_is_connected(view: &View, started: Timestamp) -> Batch {
    let mut batch = Batch::on(view);
    let is_waited_for = |row: &Instance| {
        row.status < InstanceStatus::Inactive
            && row.agent.silent_since() != Some(started)
            && view.tasks_on_instance(row.id).next().is_some()
    };
    let waits = view.instances.iter().filter(|row| row.agent.connected || is_waited_for(row));
    for row in waits.take(BATCH_ROWS_MAX) {
        let mut next = Instance::clone(row);
        next.agent.connected = false;
        next.agent.changed_at = started;
        next.agent.heard_at = None;
        next.version += 1;
        batch.put(next);
    }
    batch
}
