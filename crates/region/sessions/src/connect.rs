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
use model::{Dep, Index, Key, MapInstance, MapService, Seq, View};
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
    /// Of namespaces with certificates whose keys could not be opened: the keys of KMS on which that depends, as they were.
    closed: BTreeMap<ConnectNamespace, Vec<(Key, Option<Seq>)>>,
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
            if self.namespaces.get(&namespace) == Some(&now) && !self.may_open(view, &namespace) {
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
        let servers = looked_at.flat_map(|client| servers(view, client, &self.table, open));
        after.servers.extend(servers.map(|server| (server.id(), server)));
        self.closed.retain(|it, _| self.namespaces.contains_key(it) && !moved.contains(it));
        for server in after.servers.values().filter(|it| it.has_tls && it.certificate.is_none()) {
            let of = after.clients.get(&server.task).map(namespace).filter(|it| moved.contains(it));
            if let Some((of, key)) = of.zip(sealed_by(view, server)) {
                let seq = view.seq_of(&key);
                self.closed.entry(of).or_default().push((key, seq));
            }
        }
        let change = self.table.change_to(&after);
        self.table = after;
        change
    }

    /// Whether a key of the namespace that could not be opened may be opened now.
    fn may_open(&self, view: &View, namespace: &ConnectNamespace) -> bool {
        let mut keys = self.closed.get(namespace).into_iter().flatten();
        keys.any(|(key, seq)| view.seq_of(key) != *seq)
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

/// The key of KMS that was asked for to seal the key of what a server shows.
fn sealed_by(view: &View, server: &ConnectServer) -> Option<Key> {
    let row = view.map_services.get(server.account, &server.endpoint.as_str().into())?;
    let (account, id) = row.connect.as_ref()?.certificate.as_ref()?.sealed_by?;
    Some(Key::KmsKey(account, id))
}

/// The ports of a task in front of which its host's proxy is to stand. One that is met with TLS is among them without its
/// certificate too, so that nobody is served in the clear. What was told before is shown on if its key is not to be had now.
fn servers(
    view: &View,
    client: &ConnectClient,
    told: &ConnectTable,
    open: &OpenKey<'_>,
) -> Vec<ConnectServer> {
    let task = view.tasks.get(client.account, &client.task);
    let connect = task.and_then(|task| view.revision_of_task(task)?.connect.as_ref());
    let offers = connect.into_iter().flat_map(|connect| &connect.offers);
    let server = |offer: &ConnectOffer| {
        let mut server = ConnectServer {
            task: client.task,
            account: client.account,
            endpoint: offer.service.to_string(),
            address: client.address,
            vpc: client.vpc.clone(),
            protocol: offer.endpoint.protocol,
            container_port: offer.container_port,
            port: offer.port(),
            idle_s: offer.endpoint.idle_s,
            has_tls: offer.tls.is_some(),
            certificate: None,
        };
        server.certificate = offer.tls.as_ref().and_then(|_| {
            let row = view.map_services.get(client.account, &offer.service)?;
            let shown = row.connect.as_ref()?.certificate.as_ref()?;
            let chain = format!("{}{}", shown.certificate, shown.authority);
            let known = || told.servers.get(&server.id())?.certificate.clone();
            match open(row, shown) {
                Some(key) => Some(ConnectCertificate { chain, key }),
                None => known().filter(|known| known.chain == chain),
            }
        });
        server
    };
    offers.filter(|offer| offer.is_fronted()).map(server).collect()
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use control::testing::rows::{connected_service, task_of_service};
    use longshore_types::{Timestamp, Uuid};
    use model::kms::{KeyManager, KeyState};
    use model::service::{ConnectEndpoint as Offered, OfferTls, ServiceId};
    use model::{KmsKey, ResourceText, Row, Tags};
    use traffic::connect::ConnectProtocol;

    use super::*;

    const KEY: Uuid = Uuid::from_random([9; 16]);

    /// A task of a service that offers one port, and what a session has told of it.
    struct World {
        view: View,
        seq: u64,
        task: Task,
        told: ToldConnect,
        /// Whether keys can be opened.
        opens: Cell<bool>,
    }

    impl World {
        fn new(has_tls: bool) -> Self {
            let task = task_of_service(1);
            let (told, opens) = (ToldConnect::default(), Cell::new(true));
            let mut world = Self { view: View::default(), seq: 0, task: task.clone(), told, opens };
            let key = (task.scope.account, KEY);
            let offer = ConnectOffer {
                service: "srv-1".into(),
                discovery_name: "shop".to_owned(),
                container_port: 80,
                endpoint: offered(),
                tls: has_tls.then_some(OfferTls { kms_key: Some(key), role: None }),
                ingress_port: (!has_tls).then_some(9_443),
                test: None,
            };
            for row in connected_service(&task, "ns-1".into(), vec![offer]) {
                world.put(row);
            }
            world.put(task);
            world.key(KeyState::Enabled);
            world.certificate(None);
            world
        }

        fn put(&mut self, row: impl Into<Row>) {
            self.seq += 1;
            self.view.put(Seq(self.seq), &row.into());
        }

        fn key(&mut self, state: KeyState) {
            let account = self.task.scope.account;
            self.put(KmsKey {
                account,
                id: KEY,
                manager: KeyManager::Customer,
                description: String::new(),
                state,
                created_at: Timestamp(1),
                policy: ResourceText::new("{}", BTreeMap::new()),
                tags: Tags::new(),
                materials: vec![],
                rotation: None,
                grants: BTreeMap::new(),
            });
        }

        /// What the endpoint's certificate is from now on.
        fn certificate(&mut self, text: Option<&str>) {
            let scope = self.task.scope.clone();
            let certificate = text.map(|text| EndpointCertificate {
                certificate: text.to_owned(),
                authority: String::new(),
                sealed_key: String::new(),
                sealed_by: Some((scope.account, KEY)),
                issued_at: Timestamp(1),
                not_after: Timestamp(2),
            });
            let cluster = self.task.cluster.clone();
            let owner = ServiceId { cluster, name: "web".parse().unwrap() };
            let made = MapConnect { owner, endpoint: offered(), certificate, split: None };
            self.put(MapService {
                scope,
                id: "srv-1".into(),
                namespace: "ns-1".into(),
                name: "shop".to_owned(),
                description: None,
                dns: None,
                has_custom_health: false,
                created_at: Timestamp(1),
                request: None,
                revision: 0,
                attributes: BTreeMap::new(),
                tags: Tags::new(),
                connect: Some(made),
            });
        }

        fn due(&mut self, is_whole: bool) -> HostConnect {
            let open = |_: &MapService, shown: &EndpointCertificate| {
                self.opens.get().then(|| format!("key of {}", shown.certificate))
            };
            self.told.due(&self.view, self.task.instance.unwrap(), &[], is_whole, &open)
        }

        /// Of the only server: whether it is met with TLS, and the key that it has.
        fn server(&self) -> (bool, Option<&str>) {
            assert_eq!(self.told.table.servers.len(), 1, "it is never left out");
            let server = self.told.table.servers.values().next().unwrap();
            (server.has_tls, server.certificate.as_ref().map(|it| it.key.as_str()))
        }
    }

    fn offered() -> Offered {
        let protocol = ConnectProtocol::Http;
        Offered { name: "shop".to_owned(), port: 80, number: 1, protocol, idle_s: 0, request_s: 15 }
    }

    #[test]
    fn what_is_met_with_tls_is_told_without_a_certificate_too_and_with_it_once_there_is_one() {
        let mut world = World::new(true);
        assert_eq!(world.due(true).servers.len(), 1);
        assert_eq!(world.server(), (true, None), "nobody is served in the clear meanwhile");
        world.certificate(Some("first"));
        assert_eq!(world.due(false).servers.len(), 1);
        assert_eq!(world.server(), (true, Some("key of first")));
        assert!(world.due(false).is_empty());
        let mut plain = World::new(false);
        plain.due(true);
        assert_eq!(plain.server(), (false, None));
    }

    #[test]
    fn a_key_that_could_not_be_opened_is_asked_for_again_once_the_one_of_kms_has_changed() {
        let mut world = World::new(true);
        world.certificate(Some("first"));
        world.opens.set(false);
        world.due(true);
        assert_eq!(world.server(), (true, None));
        world.opens.set(true);
        assert!(world.due(false).is_empty(), "nothing has changed that it depends on");
        world.key(KeyState::Enabled);
        assert_eq!(world.due(false).servers.len(), 1);
        assert_eq!(world.server(), (true, Some("key of first")));
        // What is shown stays, though it could not be told anew.
        world.opens.set(false);
        world.certificate(Some("first"));
        assert!(world.due(false).servers.is_empty());
        assert_eq!(world.server(), (true, Some("key of first")));
        world.certificate(Some("second"));
        world.due(false);
        assert_eq!(world.server(), (true, None), "the first was followed by another");
    }
}
