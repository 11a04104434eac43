//! What a host is told of Service Connect: its tasks that are in a namespace, and the endpoints there.
//!
//! A function from the rows; the endpoints of a namespace are looked at again only when something of it changed.

use std::collections::{BTreeMap, BTreeSet};

use control::ConnectNamespace;
use control::authority::identity_of;
use longshore_types::InstanceId;
use model::discovery::{EndpointCertificate, MapConnect, MapId};
use model::service::ConnectOffer;
use model::task::{Phase, Task};
use model::{Dep, Index, MapInstance, MapService, Seq, View};
use traffic::connect::{
    ConnectCertificate, ConnectClient, ConnectEndpoint, ConnectIdentity, ConnectInstance,
    ConnectPart, ConnectServer, ConnectSplit, ConnectTable, HostConnect,
};

/// Instances in one message, of which each is some 150 bytes: a frame stays well below its limit.
const INSTANCES_PER_MESSAGE_MAX: usize = 4_000;

/// Those with certificates are some three kilobytes each.
const SERVERS_PER_MESSAGE_MAX: usize = 200;

/// What opens the key of an endpoint's certificate; none that cannot be opened.
pub(crate) type OpenKey<'a> = dyn Fn(&MapService, &EndpointCertificate) -> Option<String> + 'a;

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
        open: &OpenKey<'_>,
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
        let is_known = |client: &ConnectClient| self.table.clients.contains_key(&client.task);
        let fresh = after.clients.values().filter(|client| !is_known(client));
        let mut moved: BTreeSet<ConnectNamespace> = fresh.map(namespace).collect();
        for namespace in namespaces {
            let index = Index::MapConnect(namespace.0, MapId::clone(&namespace.1));
            let now = view.changed_at(&Dep::All(index));
            if self.namespaces.get(&namespace) == Some(&now) {
                let told = self.table.endpoints.values();
                let told = told.filter(|it| *it.namespace == *namespace.1).cloned();
                after.endpoints.extend(told.map(|it| (it.id.clone(), it)));
            } else {
                after.endpoints.extend(endpoints(view, &namespace).map(|it| (it.id.clone(), it)));
                moved.insert(namespace.clone());
                self.namespaces.insert(namespace, now);
            }
        }
        let known = self.table.servers.iter().filter(|(_, server)| {
            let client = after.clients.get(&server.task);
            client.is_some_and(|client| !moved.contains(&namespace(client)))
        });
        after.servers = known.map(|(id, server)| (id.clone(), server.clone())).collect();
        let looked_at = after.clients.values().filter(|client| moved.contains(&namespace(client)));
        let servers = looked_at.flat_map(|client| servers(view, client, open));
        after.servers.extend(servers.map(|server| (server.id(), server)));
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
        service: task.service.as_ref().map(|of| format!("{}/{}", task.cluster, of.name)),
        address: interface.address,
        vpc: interface.own_vpc.clone(),
    })
}

/// The ports of a task in front of which its host's proxy is to stand. One whose certificate is not there yet is left out.
fn servers(view: &View, client: &ConnectClient, open: &OpenKey<'_>) -> Vec<ConnectServer> {
    let task = view.tasks.get(client.account, &client.task);
    let connect = task.and_then(|task| view.revision_of_task(task)?.connect.as_ref());
    let offers = connect.into_iter().flat_map(|connect| &connect.offers);
    let server = |offer: &ConnectOffer| {
        let certificate = match &offer.tls {
            None => None,
            Some(_) => {
                let row = view.map_services.get(client.account, &offer.service)?;
                let shown = row.connect.as_ref()?.certificate.as_ref()?;
                let chain = format!("{}{}", shown.certificate, shown.authority);
                Some(ConnectCertificate { chain, key: open(row, shown)? })
            }
        };
        Some(ConnectServer {
            task: client.task,
            account: client.account,
            endpoint: offer.service.to_string(),
            address: client.address,
            vpc: client.vpc.clone(),
            protocol: offer.endpoint.protocol,
            container_port: offer.container_port,
            port: offer.port(),
            idle_s: offer.endpoint.idle_s,
            certificate,
        })
    };
    offers.filter(|offer| offer.is_fronted()).filter_map(server).collect()
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
        split: made.split.as_ref().map(|split| {
            let green = split.green.as_ref();
            ConnectSplit {
                green: green.map_or(0, |green| green.production.0),
                test: green.and_then(|green| green.test.clone()),
            }
        }),
        identity: made.certificate.as_ref().map(|certificate| ConnectIdentity {
            name: identity_of(service),
            authority: certificate.authority.clone(),
        }),
        instances: instances.filter_map(|row| self::instance(view, row)).collect(),
    }
}

/// None of what somebody registered by hand: nobody knows in whose network its address is.
fn instance(view: &View, row: &MapInstance) -> Option<ConnectInstance> {
    let (connect, id) = (row.connect.as_ref()?, row.task?);
    let task = view.tasks.get(row.scope.account, &id)?;
    let offers = view.revision_of_task(task).and_then(|it| it.connect.as_ref());
    let mut offers = offers.into_iter().flat_map(|connect| &connect.offers);
    let fronted = offers.find(|it| it.service == row.service).filter(|it| it.is_fronted());
    Some(ConnectInstance {
        task: id,
        address: row.ipv4()?,
        port: row.port()?,
        container_port: fronted.map(|offer| offer.container_port),
        part: part(view, row, task),
        has_tls: fronted.is_some_and(|offer| offer.tls.is_some()),
        vpc: task.interface.as_ref()?.own_vpc.clone(),
        since: connect.since,
        drains_until: connect.drains_until,
    })
}

/// To which part of those that serve a task belongs.
fn part(view: &View, row: &MapInstance, task: &Task) -> ConnectPart {
    let service = view.map_services.get(row.scope.account, &row.service);
    let split = service.and_then(|service| service.connect.as_ref()?.split.as_ref());
    let parted = split.zip(task.service.as_ref());
    parted.map_or(ConnectPart::Production, |(split, of)| split.part(of.deployment))
}

/// In parts that fit a message each; none if there is nothing.
pub(crate) fn parts(connect: HostConnect) -> Vec<HostConnect> {
    if connect.is_empty() {
        return Vec::new();
    }
    let HostConnect { clients, gone_clients, endpoints, gone_endpoints, servers, gone_servers } =
        connect;
    let first = HostConnect {
        clients,
        gone_clients,
        gone_endpoints,
        gone_servers,
        ..HostConnect::default()
    };
    let (mut parts, mut instances) = (vec![first], 0);
    let mut servers = servers.into_iter().peekable();
    while servers.peek().is_some() {
        let some = servers.by_ref().take(SERVERS_PER_MESSAGE_MAX).collect();
        match parts.last_mut().filter(|last| last.servers.is_empty()) {
            Some(last) => last.servers = some,
            None => parts.push(HostConnect { servers: some, ..HostConnect::default() }),
        }
    }
    for endpoint in endpoints {
        // An endpoint counts too, though nobody serves there, and the certificate of its authority as several.
        let its = 1 + endpoint.instances.len() + endpoint.identity.as_ref().map_or(0, |_| 8);
        if instances > 0 && INSTANCES_PER_MESSAGE_MAX < instances + its {
            parts.push(HostConnect::default());
            instances = 0;
        }
        instances += its;
        parts.last_mut().expect("there is a first part").endpoints.push(endpoint);
    }
    parts
}
