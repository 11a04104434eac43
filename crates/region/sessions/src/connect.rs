//! What a host is told of Service Connect: its tasks that are in a namespace, and the endpoints there.
//!
//! A function from the rows; the endpoints of a namespace are looked at again only when something of it changed.

use std::collections::{BTreeMap, BTreeSet};

use control::ConnectNamespace;
use longshore_types::InstanceId;
use model::discovery::{MapConnect, MapId};
use model::task::{Phase, Task};
use model::{Dep, Index, MapInstance, MapService, Seq, View};
use traffic::connect::{
    ConnectClient, ConnectEndpoint, ConnectInstance, ConnectTable, HostConnect,
};

/// Instances in one message, of which each is some 150 bytes: a frame stays well below its limit.
const INSTANCES_PER_MESSAGE_MAX: usize = 4_000;

/// What one session told of it so far.
#[derive(Debug, Default)]
pub(crate) struct ToldConnect {
    table: ConnectTable,
    /// As of which commit what is said of a namespace was made.
    namespaces: BTreeMap<ConnectNamespace, Option<Seq>>,
}

impl ToldConnect {
    /// What is new for a host that is about to be sent `next`.
    pub(crate) fn due(
        &mut self,
        view: &View,
        instance: InstanceId,
        next: &[&Task],
        is_whole: bool,
    ) -> HostConnect {
        if is_whole {
            *self = Self::default();
        }
        let mut after = ConnectTable::default();
        let known = self.table.clients.iter();
        let known = known.filter(|(id, client)| {
            let row = view.tasks.get(client.account, id);
            row.is_some_and(|row| row.phase < Phase::Stopped && row.instance == Some(instance))
        });
        after.clients = known.map(|(id, client)| (*id, client.clone())).collect();
        let all = view.tasks_on_instance(instance).map(AsRef::as_ref).filter(|_| is_whole);
        let fresh = all.chain(next.iter().copied()).filter_map(|task| client(view, task));
        after.clients.extend(fresh.map(|client| (client.task, client)));
        let namespaces: BTreeSet<ConnectNamespace> =
            after.clients.values().map(namespace).collect();
        self.namespaces.retain(|namespace, _| namespaces.contains(namespace));
        for namespace in namespaces {
            let index = Index::MapConnect(namespace.0, MapId::clone(&namespace.1));
            let now = view.changed_at(&Dep::All(index));
            if self.namespaces.get(&namespace) == Some(&now) {
                let told = self.table.endpoints.values();
                let told = told.filter(|it| *it.namespace == *namespace.1).cloned();
                after.endpoints.extend(told.map(|it| (it.id.clone(), it)));
            } else {
                after.endpoints.extend(endpoints(view, &namespace).map(|it| (it.id.clone(), it)));
                self.namespaces.insert(namespace, now);
            }
        }
        let change = self.table.change_to(&after);
        self.table = after;
        change
    }

    /// The namespaces that the host is told of.
    pub(crate) fn namespaces(&self) -> BTreeSet<ConnectNamespace> {
        self.namespaces.keys().cloned().collect()
    }
}

fn namespace(client: &ConnectClient) -> ConnectNamespace {
    (client.account, client.namespace.as_str().into())
}

/// A task, if its revision is in a namespace.
fn client(view: &View, task: &Task) -> Option<ConnectClient> {
    let connect = view.revision_of_task(task)?.connect.as_ref()?;
    let interface = task.interface.as_ref()?;
    Some(ConnectClient {
        task: task.id,
        account: task.scope.account,
        namespace: connect.namespace.to_string(),
        address: interface.address,
        vpc: interface.own_vpc.clone(),
    })
}

fn endpoints<'v>(
    view: &'v View,
    (account, namespace): &ConnectNamespace,
) -> impl Iterator<Item = ConnectEndpoint> + use<'v> {
    let services = view.connect_services_in(*account, namespace);
    services.map(|(service, made)| endpoint(view, service, made))
}

fn endpoint(view: &View, service: &MapService, made: &MapConnect) -> ConnectEndpoint {
    let endpoint = &made.endpoint;
    let instances = view.map_instances_of(service.scope.account, &service.id);
    ConnectEndpoint {
        id: service.id.to_string(),
        namespace: service.namespace.to_string(),
        name: endpoint.name.clone(),
        address: endpoint.address(),
        port: endpoint.port,
        protocol: endpoint.protocol,
        idle_s: endpoint.idle_s,
        request_s: endpoint.request_s,
        instances: instances.filter_map(|row| self::instance(view, row)).collect(),
    }
}

/// None of what somebody registered by hand: nobody knows in whose network its address is.
fn instance(view: &View, row: &MapInstance) -> Option<ConnectInstance> {
    let (connect, id) = (row.connect.as_ref()?, row.task?);
    let task = view.tasks.get(row.scope.account, &id)?;
    Some(ConnectInstance {
        task: id,
        address: row.ipv4()?,
        port: row.port()?,
        vpc: task.interface.as_ref()?.own_vpc.clone(),
        since: connect.since,
        drains_until: connect.drains_until,
    })
}

/// In parts that fit a message each; none if there is nothing.
pub(crate) fn parts(connect: HostConnect) -> Vec<HostConnect> {
    if connect.is_empty() {
        return Vec::new();
    }
    let HostConnect { clients, gone_clients, endpoints, gone_endpoints } = connect;
    let first = HostConnect { clients, gone_clients, gone_endpoints, ..HostConnect::default() };
    let (mut parts, mut instances) = (vec![first], 0);
    for endpoint in endpoints {
        // An endpoint counts too, though nobody serves there.
        let its = 1 + endpoint.instances.len();
        if instances > 0 && INSTANCES_PER_MESSAGE_MAX < instances + its {
            parts.push(HostConnect::default());
            instances = 0;
        }
        instances += its;
        parts.last_mut().expect("there is a first part").endpoints.push(endpoint);
    }
    parts
}
