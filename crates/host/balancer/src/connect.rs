//! Service Connect as a table: each task of a namespace has a balancer of its own for each endpoint there, which is met at
//! the endpoint's address within the task's network and reaches those that serve from there.
//!
//! So the server sees the client's own address, and the client's security groups hold.
//!
//! Of what is met with TLS, or at a port of the proxy's, the server's host has a balancer too, which stands in front of the
//! container in the task's network. There the client's TLS ends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use longshore_types::{AccountId, Timestamp, VpcId};
use routing::{
    Action, Alpn, Balancer, BalancerAttributes, BalancerId, Certificate, CertificateId, CheckPort,
    CheckProtocol, Condition, Front, GroupId, HealthCheck, Interface, InterfaceRef, Kind, Listener,
    ListenerAttributes, ListenerId, ListenerProtocol, Matcher, Pattern, ProtocolVersion, Report,
    Rule, RuleId, Scheme, Stickiness, Table, Target, TargetGroup, TargetIdentity, TargetKey,
    TargetProtocol, TargetState, TlsSettings, Transforms, WeightedGroup, egress_listener,
};
use traffic::connect::{
    ConnectClient, ConnectEndpoint, ConnectFigures, ConnectInstance, ConnectPart, ConnectProtocol,
    ConnectReport, ConnectServer, ConnectSplit, ConnectTable,
};
use traffic::figures::Counted;

use crate::limits::{CONNECT_PATIENCE_MS, FOREVER_S};

/// What a proxy serves by.
pub fn table(connect: &ConnectTable) -> Table {
    let mut table = Table { version: connect.version, ..Table::default() };
    let names = Names::of(connect);
    for client in connect.clients.values() {
        table.egress.insert(interface(client));
        for endpoint in connect.endpoints_of(client) {
            let group = group(client, endpoint);
            for address in names.addresses(client, endpoint) {
                let balancer = balancer(client, endpoint, address, &group.id);
                table.balancers.insert(balancer.id.clone(), balancer);
            }
            table.groups.insert(group.id.clone(), group);
        }
    }
    for server in connect.servers.values() {
        let group = group_behind(server);
        let balancer = balancer_before(server, &group.id);
        if let Some(shown) = &server.certificate {
            let certificate =
                Certificate { chain_pem: shown.chain.clone(), key_pem: shown.key.clone() };
            table.certificates.insert(certificate_of(server), certificate);
        }
        table.balancers.insert(balancer.id.clone(), balancer);
        table.groups.insert(group.id.clone(), group);
    }
    table
}

/// The name under which is counted what a service asks at an endpoint, or what comes in to those who serve there.
fn counted_as(account: AccountId, client: Option<&str>, endpoint: &str) -> String {
    format!("{account}|{}|{endpoint}", client.unwrap_or_default())
}

fn figures((name, counted): (&String, &Counted)) -> Option<ConnectFigures> {
    let mut parts = name.split('|');
    let (account, client, endpoint) = (parts.next()?, parts.next()?, parts.next()?);
    Some(ConnectFigures {
        account: account.parse().ok()?,
        client: Some(client.to_owned()).filter(|client| !client.is_empty()),
        endpoint: endpoint.to_owned(),
        counted: counted.clone(),
    })
}

/// What a proxy's report says of those that serve.
pub fn report(report: &Report) -> ConnectReport {
    let mut told = ConnectReport { version: report.version, ..ConnectReport::default() };
    for target in report.targets.iter().filter(|target| target.in_flight > 0) {
        if let Ok(task) = target.target.id.parse() {
            *told.in_flight.entry(task).or_default() += target.in_flight;
        }
    }
    told.counting_since = report.counting_since;
    told.figures = report.figures.iter().filter_map(figures).collect();
    told.ready = report.egress.iter().filter_map(|it| it.eni.parse().ok()).collect();
    told
}

/// The interface of a client: its network is found by its task.
fn interface(client: &ConnectClient) -> InterfaceRef {
    let own_vpc = client.vpc.as_ref().map(ToString::to_string);
    InterfaceRef { eni: client.task.to_string(), own_vpc }
}

/// What names may mean, for all clients at once: each of them has a balancer for each endpoint.
struct Names<'t> {
    /// Of VPCs with addresses of their own, the namespaces that somebody there is in.
    namespaces: BTreeMap<&'t VpcId, BTreeSet<&'t str>>,
    endpoints: BTreeMap<&'t str, Vec<&'t ConnectEndpoint>>,
}

impl<'t> Names<'t> {
    fn of(connect: &'t ConnectTable) -> Self {
        let mut names = Self { namespaces: BTreeMap::new(), endpoints: BTreeMap::new() };
        for client in connect.clients.values() {
            if let Some(vpc) = &client.vpc {
                names.namespaces.entry(vpc).or_default().insert(&client.namespace);
            }
        }
        for endpoint in connect.endpoints.values() {
            names.endpoints.entry(&endpoint.name).or_default().push(endpoint);
        }
        names
    }

    /// The addresses by which a client may mean an endpoint. In VPCs with addresses of their own those that ask are told by
    /// VPC alone, so that a name may have been answered as it is in another namespace that somebody there is in. Of others,
    /// another account's among them, an address may be that of another name here.
    fn addresses(&self, client: &ConnectClient, endpoint: &ConnectEndpoint) -> Vec<Ipv4Addr> {
        let mut all = vec![endpoint.address];
        let beside = client.vpc.as_ref().and_then(|vpc| self.namespaces.get(vpc));
        let named = self.endpoints.get(endpoint.name.as_str());
        if let Some((beside, named)) = beside.zip(named) {
            let others = named.iter().filter(|it| beside.contains(it.namespace.as_str()));
            all.extend(others.map(|it| it.address));
            all.sort_unstable();
            all.dedup();
        }
        all
    }
}

fn balancer(
    client: &ConnectClient,
    endpoint: &ConnectEndpoint,
    address: Ipv4Addr,
    group: &GroupId,
) -> Balancer {
    let id = &endpoint.id;
    let going_to = SocketAddr::new(IpAddr::V4(address), endpoint.port);
    let is_tcp = endpoint.protocol == ConnectProtocol::Tcp;
    let idle_s = if endpoint.idle_s == 0 { FOREVER_S } else { endpoint.idle_s };
    let id_of = |which: &str| RuleId(format!("{}/{id}{which}", client.task));
    let rules = match &endpoint.split {
        None => vec![forward_all(id_of(""), group)],
        Some(split) => parted((id_of(""), id_of("/test")), group, split, is_tcp),
    };
    let listener = Listener {
        id: egress_listener(&interface(client), going_to),
        port: endpoint.port,
        protocol: if is_tcp { ListenerProtocol::Tcp } else { ListenerProtocol::Http },
        tls: None,
        rules,
        attributes: ListenerAttributes {
            tcp_idle_timeout_s: idle_s,
            h2_prior_knowledge: is_h2(endpoint.protocol),
            ..ListenerAttributes::default()
        },
    };
    Balancer {
        id: BalancerId(format!("connect/{}/{going_to}", client.task)),
        name: format!("connect/{}/{}", endpoint.name, client.task),
        account: client.account.to_string(),
        kind: if is_tcp { Kind::Network } else { Kind::Application },
        scheme: Scheme::Internal,
        interfaces: vec![],
        clients: None,
        introducers: None,
        attributes: BalancerAttributes {
            idle_timeout_s: idle_s,
            client_keep_alive_s: FOREVER_S,
            preserve_host_header: true,
            // Nobody is between the two that either does not know: what a balancer said of its client stays as it is.
            describes_client: false,
            patience_ms: CONNECT_PATIENCE_MS,
            request_timeout_s: endpoint.request_s,
            figures: client
                .service
                .as_ref()
                .map(|service| counted_as(client.account, Some(service), id)),
            ..BalancerAttributes::default()
        },
        // Endpoints have no cookies.
        cookie_key: None,
        listeners: vec![listener],
    }
}

/// The number of a part of an endpoint's group.
fn part_of(part: ConnectPart) -> u8 {
    match part {
        ConnectPart::Production => 0,
        ConnectPart::Green => 1,
        ConnectPart::Off => 2,
    }
}

/// Production's requests by weights, and tests to green. Of bytes nobody knows what is a test.
fn parted(
    (id, test_id): (RuleId, RuleId),
    group: &GroupId,
    split: &ConnectSplit,
    is_tcp: bool,
) -> Vec<Rule> {
    const ALL: u16 = 1_000;
    let green = split.green.min(ALL);
    let weighted = |part: ConnectPart, weight: u16| WeightedGroup {
        group: group.clone(),
        weight: u32::from(weight),
        part: Some(part_of(part)),
    };
    let forward = |groups| Action::Forward { groups, sticky_s: None };
    let production =
        vec![weighted(ConnectPart::Production, ALL - green), weighted(ConnectPart::Green, green)];
    let mut rules = vec![Rule { action: forward(production), ..forward_all(id, group) }];
    if let Some(test) = split.test.as_ref().filter(|_| !is_tcp) {
        let value = match &test.value {
            Some(value) => Pattern::Exact(value.clone()),
            None => Pattern::Wildcard("*".to_owned()),
        };
        rules.push(Rule {
            priority: Some(1),
            conditions: vec![Condition::HttpHeader {
                name: test.name.clone(),
                values: vec![value],
            }],
            action: forward(vec![weighted(ConnectPart::Green, 1)]),
            ..forward_all(test_id, group)
        });
    }
    rules
}

/// The policy of listeners that take nothing before TLS 1.3.
const NEWEST_TLS: &str = "ELBSecurityPolicy-TLS13-1-3-2021-06";

fn certificate_of(server: &ConnectServer) -> CertificateId {
    CertificateId(format!("connect/{}", server.id()))
}

/// What stands in front of a container of the host's.
fn balancer_before(server: &ConnectServer, group: &GroupId) -> Balancer {
    let id = format!("connect/in/{}", server.id());
    let is_tcp = server.protocol == ConnectProtocol::Tcp;
    let idle_s = if server.idle_s == 0 { FOREVER_S } else { server.idle_s };
    // Without its certificate nothing is agreed there: whoever comes is sent away.
    let tls = server.is_secure().then(|| TlsSettings {
        policy: NEWEST_TLS.to_owned(),
        default_certificate: certificate_of(server),
        certificates: vec![],
        alpn: Alpn::None,
    });
    let protocol = match (is_tcp, tls.is_some()) {
        (true, true) => ListenerProtocol::Tls,
        (true, false) => ListenerProtocol::Tcp,
        (false, true) => ListenerProtocol::Https,
        (false, false) => ListenerProtocol::Http,
    };
    let is_in_place = server.port == server.container_port;
    let listener = Listener {
        id: ListenerId(id.clone()),
        port: server.port,
        protocol,
        tls,
        rules: vec![forward_all(RuleId(id.clone()), group)],
        attributes: ListenerAttributes {
            tcp_idle_timeout_s: idle_s,
            h2_prior_knowledge: is_h2(server.protocol),
            front: Some(if is_in_place { Front::InPlace } else { Front::Beside }),
            ..ListenerAttributes::default()
        },
    };
    Balancer {
        id: BalancerId(id.clone()),
        name: id,
        account: server.account.to_string(),
        kind: if is_tcp { Kind::Network } else { Kind::Application },
        scheme: Scheme::Internal,
        introducers: Default::default(),
        interfaces: vec![Interface {
            is_leaving: false,
            eni: server.task.to_string(),
            own_vpc: server.vpc.as_ref().map(ToString::to_string),
            address: IpAddr::V4(server.address),
            subnet: String::new(),
            zone: String::new(),
        }],
        clients: None,
        attributes: BalancerAttributes {
            idle_timeout_s: idle_s,
            client_keep_alive_s: FOREVER_S,
            http2: is_h2(server.protocol),
            preserve_host_header: true,
            describes_client: false,
            // Connections are another task's to take if this one takes none; requests on one that is open are its own.
            patience_ms: if is_tcp { 0 } else { CONNECT_PATIENCE_MS },
            figures: Some(counted_as(server.account, None, &server.endpoint)),
            ..BalancerAttributes::default()
        },
        cookie_key: None,
        listeners: vec![listener],
    }
}

fn group_behind(server: &ConnectServer) -> TargetGroup {
    let id = GroupId(format!("connect/in/{}", server.id()));
    let by = InterfaceRef {
        eni: server.task.to_string(),
        own_vpc: server.vpc.as_ref().map(ToString::to_string),
    };
    let target = Target {
        key: TargetKey { id: server.task.to_string(), port: server.container_port },
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        by: Some(by),
        zone: None,
        part: 0,
        shows_identity: false,
        registered_at: Timestamp(0),
        // Whether it is led anything is for the clients' proxies to know.
        state: TargetState::Healthy,
    };
    let targets = vec![target];
    TargetGroup { avoids_outliers: false, targets, ..group_of(id, server.protocol) }
}

fn forward_all(id: RuleId, group: &GroupId) -> Rule {
    Rule {
        id,
        priority: None,
        conditions: vec![],
        transforms: Transforms::default(),
        action: Action::Forward {
            groups: vec![WeightedGroup { group: group.clone(), weight: 1, part: None }],
            sticky_s: None,
        },
    }
}

fn is_h2(protocol: ConnectProtocol) -> bool {
    match protocol {
        ConnectProtocol::Tcp | ConnectProtocol::Http => false,
        ConnectProtocol::Http2 | ConnectProtocol::Grpc => true,
    }
}

fn group(client: &ConnectClient, endpoint: &ConnectEndpoint) -> TargetGroup {
    // An address means what it means in the client's own network.
    let instances = endpoint.instances.iter().filter(|it| it.vpc == client.vpc);
    let identity = endpoint.identity.as_ref().map(|identity| TargetIdentity {
        name: identity.name.clone(),
        authority_pem: identity.authority.clone(),
    });
    let id = GroupId(format!("connect/{}/{}", client.task, endpoint.id));
    let targets = instances.map(|instance| target(client, instance)).collect();
    TargetGroup { identity, targets, ..group_of(id, endpoint.protocol) }
}

/// A group without targets.
fn group_of(id: GroupId, protocol: ConnectProtocol) -> TargetGroup {
    let is_tcp = protocol == ConnectProtocol::Tcp;
    TargetGroup {
        id,
        protocol: if is_tcp { TargetProtocol::Tcp } else { TargetProtocol::Http },
        version: match protocol {
            ConnectProtocol::Tcp | ConnectProtocol::Http => ProtocolVersion::Http1,
            ConnectProtocol::Http2 => ProtocolVersion::Http2,
            ConnectProtocol::Grpc => ProtocolVersion::Grpc,
        },
        health: HealthCheck {
            protocol: CheckProtocol::None,
            port: CheckPort::Traffic,
            path: String::new(),
            interval_s: 30,
            timeout_s: 5,
            healthy_count: 1,
            unhealthy_count: 1,
            matcher: Matcher::default(),
        },
        algorithm: routing::Algorithm::RoundRobin,
        stickiness: Stickiness::Off,
        slow_start_s: 0,
        deregistration_delay_s: 0,
        cut_at_deregistration: true,
        cut_when_unhealthy: false,
        unhealthy_draining_s: 0,
        preserve_client_ip: false,
        proxy_protocol_v2: false,
        healthy_count_min: 1,
        healthy_percent_min: None,
        cross_zone: None,
        avoids_outliers: true,
        identity: None,
        targets: vec![],
    }
}

fn target(client: &ConnectClient, instance: &ConnectInstance) -> Target {
    // A task that serves itself is reached within, where nobody stands between.
    let is_itself = instance.task == client.task;
    let (address, port) = match is_itself {
        true => (Ipv4Addr::LOCALHOST, instance.container_port.unwrap_or(instance.port)),
        false => (instance.address, instance.port),
    };
    Target {
        key: TargetKey { id: instance.task.to_string(), port },
        address: IpAddr::V4(address),
        by: Some(interface(client)),
        zone: None,
        part: part_of(instance.part),
        shows_identity: instance.has_tls && !is_itself,
        registered_at: instance.since,
        state: match instance.drains_until {
            None => TargetState::Healthy,
            Some(until) => TargetState::Draining { until },
        },
    }
}

#[cfg(test)]
mod tests {
    use longshore_types::TaskId;
    use traffic::connect::{ConnectCertificate, ConnectIdentity, HostConnect, TestHeader};

    use super::*;

    fn task(number: u8) -> TaskId {
        format!("{number:032x}").parse().unwrap()
    }

    fn client(number: u8, namespace: &str, vpc: Option<&str>) -> ConnectClient {
        ConnectClient {
            task: task(number),
            account: "000000000000".parse().unwrap(),
            namespace: namespace.to_owned(),
            service: Some("default/web".to_owned()),
            address: Ipv4Addr::new(172, 31, 0, number),
            vpc: vpc.map(|id| id.parse().unwrap()),
        }
    }

    fn endpoint(namespace: &str, last: u8, servers: &[(u8, Option<&str>)]) -> ConnectEndpoint {
        let instance = |(number, vpc): &(u8, Option<&str>)| ConnectInstance {
            task: task(*number),
            address: Ipv4Addr::new(172, 31, 0, *number),
            port: 8080,
            container_port: None,
            part: ConnectPart::Production,
            has_tls: false,
            vpc: vpc.map(|id| id.parse().unwrap()),
            since: Timestamp(1),
            drains_until: (*number == 9).then_some(Timestamp(7)),
        };
        ConnectEndpoint {
            id: format!("srv-{namespace}-{last}"),
            namespace: namespace.to_owned(),
            name: "backend".to_owned(),
            address: Ipv4Addr::new(127, 255, 0, last),
            port: 80,
            protocol: ConnectProtocol::Http,
            idle_s: 0,
            request_s: 15,
            split: None,
            identity: None,
            instances: servers.iter().map(instance).collect(),
        }
    }

    fn table_of(clients: Vec<ConnectClient>, endpoints: Vec<ConnectEndpoint>) -> Table {
        let mut connect = ConnectTable::default();
        let told = HostConnect { clients, endpoints, ..HostConnect::default() };
        connect.learn(3, told, true);
        table(&connect)
    }

    #[test]
    fn a_client_meets_the_endpoints_of_its_namespace_and_those_that_its_network_reaches() {
        let vpc = Some("vpc-00000001");
        let servers = [(1, None), (5, None), (6, vpc), (9, None)];
        let endpoints = vec![endpoint("ns-1", 1, &servers), endpoint("ns-2", 2, &[])];
        let table = table_of(vec![client(1, "ns-1", None), client(2, "ns-3", None)], endpoints);
        assert_eq!((table.version, table.balancers.len(), table.groups.len()), (3, 1, 1));
        assert_eq!(table.egress.len(), 2, "there may be endpoints later");
        let balancer = table.balancers.values().next().unwrap();
        assert_eq!(balancer.listeners[0].id.0, format!("{}/127.255.0.1:80", task(1)));
        assert_eq!(balancer.attributes.idle_timeout_s, FOREVER_S);
        let targets = &table.groups.values().next().unwrap().targets;
        let found: Vec<_> = targets.iter().map(|it| (it.address.to_string(), it.state)).collect();
        let healthy = TargetState::Healthy;
        let drains = TargetState::Draining { until: Timestamp(7) };
        let [own, other, leaving] = ["127.0.0.1", "172.31.0.5", "172.31.0.9"].map(str::to_owned);
        assert_eq!(found, [(own, healthy), (other, healthy), (leaving, drains)]);
        assert!(targets.iter().all(|it| it.by.as_ref().unwrap().eni == task(1).to_string()));
    }

    #[test]
    fn production_is_parted_by_shares_and_tests_go_to_green() {
        let mut endpoint = endpoint("ns-1", 1, &[(5, None), (6, None), (7, None)]);
        let test = Some(TestHeader { name: "x-test".to_owned(), value: Some("Yes".to_owned()) });
        endpoint.split = Some(ConnectSplit { green: 250, test });
        let parts = [ConnectPart::Production, ConnectPart::Green, ConnectPart::Off];
        for (instance, part) in endpoint.instances.iter_mut().zip(parts) {
            instance.part = part;
        }
        let mut plain = endpoint.clone();
        (plain.protocol, plain.id, plain.port) = (ConnectProtocol::Tcp, "srv-tcp".to_owned(), 81);
        let table = table_of(vec![client(1, "ns-1", None)], vec![endpoint, plain]);
        let group = &table.groups[&GroupId(format!("connect/{}/srv-ns-1-1", task(1)))];
        assert_eq!(group.targets.iter().map(|it| it.part).collect::<Vec<_>>(), [0, 1, 2]);
        for balancer in table.balancers.values() {
            let listener = &balancer.listeners[0];
            let is_tcp = listener.protocol == ListenerProtocol::Tcp;
            assert_eq!(listener.rules.len(), if is_tcp { 1 } else { 2 });
            let rules = routing::Rules::new(listener);
            assert!(rules.faults.is_empty());
            let Action::Forward { groups, .. } = &rules.default_rule().unwrap().rule.action else {
                panic!("it forwards");
            };
            let weights = groups.iter().map(|it| (it.part, it.weight));
            assert_eq!(weights.collect::<Vec<_>>(), [(Some(0), 750), (Some(1), 250)]);
        }
    }

    #[test]
    fn those_that_have_tls_show_who_they_are_and_are_met_so_by_all_but_themselves() {
        let mut endpoint = endpoint("ns-1", 1, &[(1, None), (5, None), (6, None)]);
        endpoint.identity =
            Some(ConnectIdentity { name: "srv".to_owned(), authority: "PEM".to_owned() });
        for instance in &mut endpoint.instances[..2] {
            (instance.has_tls, instance.port) = (true, 9_443);
            instance.container_port = Some(8080);
        }
        let server = |port: u16, has_tls: bool, is_certified: bool| ConnectServer {
            task: task(1),
            account: "000000000000".parse().unwrap(),
            endpoint: format!("srv-{port}"),
            address: Ipv4Addr::new(172, 31, 0, 1),
            vpc: None,
            protocol: ConnectProtocol::Http,
            container_port: 8080,
            port,
            idle_s: 300,
            has_tls,
            certificate: is_certified
                .then(|| ConnectCertificate { chain: "chain".to_owned(), key: "key".to_owned() }),
        };
        let mut connect = ConnectTable::default();
        let clients = vec![client(1, "ns-1", None)];
        // Of the first of them it was said before there was another way to say it.
        let servers = vec![
            server(8080, false, true),
            server(8081, true, true),
            server(8082, true, false),
            server(9_443, false, false),
        ];
        let told =
            HostConnect { clients, endpoints: vec![endpoint], servers, ..HostConnect::default() };
        connect.learn(3, told, true);
        let table = table(&connect);
        let out = &table.groups[&GroupId(format!("connect/{}/srv-ns-1-1", task(1)))];
        assert_eq!(out.identity.as_ref().unwrap().name, "srv");
        let met = out.targets.iter().map(|it| (it.key.port, it.shows_identity));
        assert_eq!(met.collect::<Vec<_>>(), [(8080, false), (9_443, true), (8080, false)]);
        let before = |port: u16| {
            let id = BalancerId(format!("connect/in/{}/srv-{port}", task(1)));
            let listener = &table.balancers[&id].listeners[0];
            (listener.protocol, listener.attributes.front, listener.tls.is_some())
        };
        for (port, front) in [(8080, Front::InPlace), (8081, Front::Beside), (8082, Front::Beside)]
        {
            let secure = (ListenerProtocol::Https, Some(front), true);
            assert_eq!(before(port), secure, "{port}: never in the clear");
        }
        assert_eq!(before(9_443), (ListenerProtocol::Http, Some(Front::Beside), false));
        assert_eq!(table.certificates.len(), 2);
        let behind = &table.groups[&GroupId(format!("connect/in/{}/srv-9443", task(1)))];
        assert_eq!(behind.targets[0].address.to_string(), "127.0.0.1");
    }

    #[test]
    fn in_a_vpc_of_its_own_a_name_of_two_namespaces_leads_to_ones_own_by_either_address() {
        let vpc = Some("vpc-00000001");
        let endpoints = vec![endpoint("ns-1", 1, &[(5, vpc)]), endpoint("ns-2", 2, &[(6, vpc)])];
        let clients = vec![client(1, "ns-1", vpc), client(2, "ns-2", vpc)];
        let table = table_of(clients, endpoints);
        assert_eq!(table.balancers.len(), 4);
        let of_first = table.balancers.values().filter(|it| it.id.0.contains(&task(1).to_string()));
        let led: Vec<_> = of_first.map(|it| it.listeners[0].rules[0].action.clone()).collect();
        assert_eq!(led.len(), 2);
        assert_eq!(led[0], led[1]);
    }

    #[test]
    fn what_a_name_means_to_others_takes_no_address_of_another_name() {
        let vpc = Some("vpc-00000001");
        let (mut second, own) = (endpoint("ns-1", 1, &[]), endpoint("ns-1", 2, &[]));
        "second".clone_into(&mut second.name);
        // Another account counts its addresses from the beginning too.
        let anothers = endpoint("ns-2", 1, &[]);
        let clients = vec![client(1, "ns-1", vpc), client(2, "ns-2", Some("vpc-00000002"))];
        let table = table_of(clients, vec![second, own, anothers]);
        let mut led: Vec<(String, String)> = table
            .balancers
            .values()
            .filter(|it| it.id.0.contains(&task(1).to_string()))
            .map(|it| (it.name.clone(), it.id.0.clone()))
            .collect();
        led.sort();
        let is_at = |(name, id): &(String, String), named: &str, address: &str| {
            name.starts_with(&format!("connect/{named}/")) && id.ends_with(address)
        };
        assert_eq!(led.len(), 2, "{led:?}");
        assert!(is_at(&led[0], "backend", "/127.255.0.2:80"), "{led:?}");
        assert!(is_at(&led[1], "second", "/127.255.0.1:80"), "{led:?}");
    }
}
