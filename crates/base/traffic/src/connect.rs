//! What a host is told of Service Connect: which tasks there are in which namespace, and what those reach by its names.
//!
//! A host hears of the namespaces that its tasks are in and of no others. It is told again of an endpoint when something
//! of it changed, and of a namespace whole when it begins with it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use longshore_types::{AccountId, TaskId, Timestamp, VpcId};
use serde::{Deserialize, Serialize};

use crate::figures::Counted;

/// The addresses that names of Service Connect mean: in each task its own, which lead to the host's proxy.
pub const CONNECT_RANGE: (Ipv4Addr, u8) = (Ipv4Addr::new(127, 255, 0, 0), 16);
/// Where in a task's network its host's proxy takes what goes to [`CONNECT_RANGE`].
pub const CONNECT_PORT: u16 = 15_001;

/// How an endpoint is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ConnectProtocol {
    Tcp,
    Http,
    Http2,
    Grpc,
}

/// A task on the host that is in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectClient {
    pub task: TaskId,
    pub account: AccountId,
    /// `ns-…`
    pub namespace: String,
    /// `cluster/service`, whose task it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    pub address: Ipv4Addr,
    /// The VPC that it is in, if that has addresses of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc: Option<VpcId>,
}

/// A name and a port of a namespace, with those that serve there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectEndpoint {
    /// `srv-…`
    pub id: String,
    /// `ns-…`
    pub namespace: String,
    /// In lower case.
    pub name: String,
    /// What the name means.
    pub address: Ipv4Addr,
    pub port: u16,
    pub protocol: ConnectProtocol,
    /// After which a connection ends that carries nothing; 0: never.
    pub idle_s: u32,
    /// How long a request may take; 0: as long as it takes.
    pub request_s: u32,
    /// How requests are parted between those that serve; none: they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<ConnectSplit>,
    /// What those that are met with TLS have to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<ConnectIdentity>,
    pub instances: Vec<ConnectInstance>,
}

/// How requests go to those of one deployment and of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectSplit {
    /// Of all requests those that go to green, in thousandths.
    pub green: u16,
    /// Requests that go to green whatever its share is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<TestHeader>,
}

/// The header that tells a test from other requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TestHeader {
    pub name: String,
    /// The very value; none: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// To which part of those that serve a task belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ConnectPart {
    #[default]
    Production,
    Green,
    /// What it holds goes on, and nothing new is led to it.
    Off,
}

impl ConnectPart {
    fn is_production(&self) -> bool {
        *self == Self::Production
    }
}

/// Who serves at an endpoint, as its certificate says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectIdentity {
    /// The name that the certificate is for.
    pub name: String,
    /// In PEM: who must have signed it.
    pub authority: String,
}

/// A task that serves at an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectInstance {
    pub task: TaskId,
    pub address: Ipv4Addr,
    pub port: u16,
    /// Of its container, where its host's proxy takes what comes to `port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_port: Option<u16>,
    #[serde(default, skip_serializing_if = "ConnectPart::is_production")]
    pub part: ConnectPart,
    /// It is met with TLS, and shows the endpoint's identity.
    #[serde(default, skip_serializing_if = "is_not")]
    pub has_tls: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc: Option<VpcId>,
    pub since: Timestamp,
    /// Nothing new is led to it; what it holds may go on until then. By the region's clock where the region says so, and by
    /// the host's own where its proxy reads it ([`HostConnect::by_clock`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drains_until: Option<Timestamp>,
}

fn is_not(it: &bool) -> bool {
    !it
}

/// A port of a task on the host, in front of which the host's proxy stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectServer {
    pub task: TaskId,
    pub account: AccountId,
    /// `srv-…`
    pub endpoint: String,
    pub address: Ipv4Addr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vpc: Option<VpcId>,
    pub protocol: ConnectProtocol,
    /// Of the container, which is met there within the task's network.
    pub container_port: u16,
    /// At which others come. If it is the container's own, what comes is led to the proxy, and to nobody else.
    pub port: u16,
    /// As of the endpoint.
    pub idle_s: u32,
    /// It is met with TLS: while there is no certificate, by nobody.
    #[serde(default, skip_serializing_if = "is_not")]
    pub has_tls: bool,
    /// What is shown to whoever comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<ConnectCertificate>,
}

impl ConnectServer {
    /// Whether it is met with TLS. Who was told before there was [`Self::has_tls`] knows it by the certificate.
    pub fn is_secure(&self) -> bool {
        self.has_tls || self.certificate.is_some()
    }

    /// What tells it from the others of a host.
    pub fn id(&self) -> String {
        format!("{}/{}", self.task, self.endpoint)
    }
}

/// A certificate with its key. It leaves the region only for hosts with tasks that serve by it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectCertificate {
    /// In PEM, with that of who signed it.
    pub chain: String,
    /// In PEM.
    pub key: String,
}

impl std::fmt::Debug for ConnectCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConnectCertificate(…)")
    }
}

/// What is new of Service Connect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostConnect {
    /// Tasks that are in a namespace from now on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<ConnectClient>,
    /// Those that are in none any more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gone_clients: Vec<TaskId>,
    /// Each whole, in place of what was said of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<ConnectEndpoint>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gone_endpoints: Vec<String>,
    /// Each whole, in place of what was said of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<ConnectServer>,
    /// By [`ConnectServer::id`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gone_servers: Vec<String>,
}

impl HostConnect {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The same by the clock of a host, by which it is `now`, where the region's said `told_at`: what is left of a time is
    /// as long on both.
    #[must_use]
    pub fn by_clock(mut self, told_at: Timestamp, now: Timestamp) -> Self {
        for instance in self.endpoints.iter_mut().flat_map(|endpoint| &mut endpoint.instances) {
            let left = |until: Timestamp| now.plus_ms(until.since_ms(told_at));
            instance.drains_until = instance.drains_until.map(left);
        }
        self
    }

    /// Goes on with what a later message says, which is part of the same.
    pub fn extend(&mut self, next: Self) {
        self.clients.extend(next.clients);
        self.gone_clients.extend(next.gone_clients);
        self.endpoints.extend(next.endpoints);
        self.gone_endpoints.extend(next.gone_endpoints);
        self.servers.extend(next.servers);
        self.gone_servers.extend(next.gone_servers);
    }
}

/// All that a host knows of Service Connect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectTable {
    /// The commit of the region that it is as of.
    pub version: u64,
    pub clients: BTreeMap<TaskId, ConnectClient>,
    /// By id.
    pub endpoints: BTreeMap<String, ConnectEndpoint>,
    /// By [`ConnectServer::id`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub servers: BTreeMap<String, ConnectServer>,
}

impl ConnectTable {
    /// Takes in what was told as of a commit: all there is, or what changed. A certificate that the region cannot tell again,
    /// since its key is disabled, is shown on until it ends.
    pub fn learn(&mut self, version: u64, mut told: HostConnect, is_whole: bool) {
        if is_whole {
            let before = std::mem::take(self).servers;
            let without = |it: &&mut ConnectServer| it.has_tls && it.certificate.is_none();
            for server in told.servers.iter_mut().filter(without) {
                let known = before.get(&server.id());
                server.certificate = known.and_then(|known| known.certificate.clone());
            }
        }
        self.version = version;
        for task in &told.gone_clients {
            self.clients.remove(task);
        }
        for id in &told.gone_endpoints {
            self.endpoints.remove(id);
        }
        for id in &told.gone_servers {
            self.servers.remove(id);
        }
        self.servers.extend(told.servers.into_iter().map(|server| (server.id(), server)));
        self.clients.extend(told.clients.into_iter().map(|client| (client.task, client)));
        self.endpoints.extend(told.endpoints.into_iter().map(|it| (it.id.clone(), it)));
    }

    /// What makes `later` of this one.
    pub fn change_to(&self, later: &Self) -> HostConnect {
        let clients = later.clients.values();
        let endpoints = later.endpoints.values();
        let is_gone = |id: &&String| !later.endpoints.contains_key(*id);
        let servers = later.servers.iter().filter(|(id, it)| self.servers.get(*id) != Some(it));
        let gone_servers = self.servers.keys().filter(|id| !later.servers.contains_key(*id));
        HostConnect {
            clients: clients.filter(|it| self.clients.get(&it.task) != Some(it)).cloned().collect(),
            gone_clients: self
                .clients
                .keys()
                .filter(|task| !later.clients.contains_key(task))
                .copied()
                .collect(),
            endpoints: endpoints
                .filter(|it| self.endpoints.get(&it.id) != Some(it))
                .cloned()
                .collect(),
            gone_endpoints: self.endpoints.keys().filter(is_gone).cloned().collect(),
            servers: servers.map(|(_, it)| it.clone()).collect(),
            gone_servers: gone_servers.cloned().collect(),
        }
    }

    /// What the names mean that a client may ask for, with their ports and those that serve there.
    pub fn endpoints_of<'t>(
        &'t self,
        client: &'t ConnectClient,
    ) -> impl Iterator<Item = &'t ConnectEndpoint> {
        self.endpoints.values().filter(|it| it.namespace == client.namespace)
    }
}

/// What a host's proxy says: by which commit it serves, and what it still holds for whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectReport {
    pub version: u64,
    /// Requests and connections by the tasks that serve them; those with none are left out.
    pub in_flight: BTreeMap<TaskId, u32>,
    /// Tasks of the host in whose networks the proxy takes what goes to endpoints.
    pub ready: BTreeSet<TaskId>,
    /// What was counted since then.
    pub counting_since: Timestamp,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub figures: Vec<ConnectFigures>,
}

/// What a host's proxy counted of an endpoint: of what a service asked there, or of what came in to tasks of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectFigures {
    pub account: AccountId,
    /// `cluster/service`; none of what came in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// `srv-…`
    pub endpoint: String,
    pub counted: Counted,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(number: u8) -> TaskId {
        format!("{number:032x}").parse().unwrap()
    }

    fn server(number: u8, certificate: Option<&ConnectCertificate>) -> ConnectServer {
        ConnectServer {
            task: task(number),
            account: "000000000000".parse().unwrap(),
            endpoint: "srv-b".to_owned(),
            address: Ipv4Addr::new(172, 31, 0, number),
            vpc: None,
            protocol: ConnectProtocol::Http,
            container_port: 80,
            port: 80,
            idle_s: 300,
            has_tls: true,
            certificate: certificate.cloned(),
        }
    }

    fn table(names: &[&str], tasks: &[u8]) -> ConnectTable {
        let endpoint = |name: &&str| ConnectEndpoint {
            id: format!("srv-{name}"),
            namespace: "ns-1".to_owned(),
            name: (*name).to_owned(),
            address: Ipv4Addr::new(127, 255, 0, 1),
            port: 80,
            protocol: ConnectProtocol::Http,
            idle_s: 300,
            request_s: 15,
            split: None,
            identity: None,
            instances: vec![],
        };
        let client = |number: &u8| ConnectClient {
            task: task(*number),
            account: "000000000000".parse().unwrap(),
            namespace: "ns-1".to_owned(),
            service: None,
            address: Ipv4Addr::new(172, 31, 0, *number),
            vpc: None,
        };
        let told = HostConnect {
            clients: tasks.iter().map(client).collect(),
            endpoints: names.iter().map(endpoint).collect(),
            ..HostConnect::default()
        };
        let mut table = ConnectTable::default();
        table.learn(1, told, true);
        table
    }

    #[test]
    fn a_certificate_that_cannot_be_told_again_is_shown_on() {
        let certificate = ConnectCertificate { chain: "c".to_owned(), key: "k".to_owned() };
        let server = |certificate: Option<&ConnectCertificate>| server(1, certificate);
        let told =
            |server: ConnectServer| HostConnect { servers: vec![server], ..HostConnect::default() };
        let mut table = ConnectTable::default();
        table.learn(1, told(server(Some(&certificate))), true);
        table.learn(2, told(server(None)), true);
        assert_eq!(table.servers.into_values().next(), Some(server(Some(&certificate))));
        let mut fresh = ConnectTable::default();
        fresh.learn(2, told(server(None)), true);
        assert_eq!(fresh.servers.into_values().next(), Some(server(None)));
    }

    #[test]
    fn as_much_time_is_left_by_any_clock() {
        let instance = |number, drains_until| ConnectInstance {
            task: task(number),
            address: Ipv4Addr::new(172, 31, 0, number),
            port: 80,
            container_port: None,
            part: ConnectPart::Production,
            has_tls: false,
            vpc: None,
            since: Timestamp(1),
            drains_until,
        };
        let (until, over) = (Some(Timestamp(70_000)), Some(Timestamp(50_000)));
        let mut told = HostConnect {
            endpoints: table(&["a"], &[]).endpoints.into_values().collect(),
            ..HostConnect::default()
        };
        told.endpoints[0].instances =
            vec![instance(1, None), instance(2, until), instance(3, over)];
        let told_at = Timestamp(60_000);
        for now in [1_000, 60_000, 900_000] {
            let heard = told.clone().by_clock(told_at, Timestamp(now));
            let drains = heard.endpoints[0].instances.iter().map(|it| it.drains_until);
            let [left, none] = [now + 10_000, now].map(|at| Some(Timestamp(at)));
            assert_eq!(drains.collect::<Vec<_>>(), [None, left, none]);
        }
    }

    #[test]
    fn a_change_makes_the_later_table_of_the_earlier_one() {
        let (mut earlier, mut later) = (table(&["a", "b"], &[1, 2]), table(&["b", "c"], &[2, 3]));
        let server = |number, key: &str| {
            server(number, Some(&ConnectCertificate { chain: String::new(), key: key.to_owned() }))
        };
        for (table, servers) in [
            (&mut earlier, [server(1, "old"), server(2, "old")]),
            (&mut later, [server(2, "new"), server(3, "new")]),
        ] {
            table.servers = servers.into_iter().map(|it| (it.id(), it)).collect();
        }
        assert!(!format!("{later:?}").contains("new"), "keys are in no log");
        later.endpoints.get_mut("srv-b").unwrap().port = 81;
        later.version = 7;
        let change = earlier.change_to(&later);
        assert_eq!((change.clients.len(), change.gone_clients.len()), (1, 1));
        assert_eq!((change.endpoints.len(), change.gone_endpoints.len()), (2, 1));
        assert_eq!((change.servers.len(), change.gone_servers.len()), (2, 1));
        let text = serde_json::to_string(&change).unwrap();
        earlier.learn(7, serde_json::from_str(&text).unwrap(), false);
        assert_eq!(earlier, later);
        assert!(earlier.change_to(&later).is_empty());
    }
}
