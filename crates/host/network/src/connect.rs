//! Service Connect on a host: names of endpoints for the tasks of their namespaces, and the way of what goes to their
//! addresses to the host's proxy.
//!
//! What the region told lies in one file, by which the proxy serves ([`table_file`]); what the proxy says of itself lies in
//! another ([`report_file`]). Each has one writer, and either process may be away.
//!
//! **Invariant:** a name is answered only once the file that the proxy serves by says what it means.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use files::whole::{self, Durability};
use longshore_types::{Cidr, TaskId, VpcId};
use tracing::warn;
use traffic::connect::{CONNECT_PORT, CONNECT_RANGE, ConnectReport, ConnectTable};

use crate::error::NetworkError;
use crate::limits::{PROXY_FRONT_WAIT_MAX, PROXY_WAIT_MAX};
use crate::names::EndpointId;
use crate::netlink::Socket;
use crate::nft::expr::Rule;
use crate::nft::{Batch, Hook, HookNumber};
use crate::publish::Protocol;
use crate::records::Records;
use crate::zones::{A, SAME_NAME, begin, read, resource, soa};

/// How long an answer may be remembered: what an endpoint's name means changes only when nobody offers it any more.
const TTL_S: u32 = 2;
/// The table in the network of a task that is in a namespace.
const TABLE: &str = "longshore_connect";
const CHAIN: &str = "egress";
const INGRESS_CHAIN: &str = "ingress";

/// What the proxy of the host whose network keeps its files in `run_dir` serves by: a [`ConnectTable`].
pub fn table_file(run_dir: &Path) -> PathBuf {
    run_dir.join("connect.json")
}

/// What the proxy says of itself: a [`ConnectReport`].
pub fn report_file(run_dir: &Path) -> PathBuf {
    run_dir.join("connect-report.json")
}

/// Where the network of a task is mounted on its host. `own_vpc` is its VPC if that has addresses of its own.
pub fn task_namespace(run_dir: &Path, task: TaskId, own_vpc: Option<&VpcId>) -> PathBuf {
    Records::of_vpc(run_dir, own_vpc).namespace(&EndpointId::from(task))
}

/// Has whatever goes to an endpoint's address from the network of the calling thread come to [`CONNECT_PORT`] there instead.
/// It may be asked again.
pub fn lead_egress() -> Result<SocketAddr, NetworkError> {
    let (network, prefix) = CONNECT_RANGE;
    let range = Cidr::new(network, prefix).expect("16 bits are a prefix");
    let mut batch = Batch::new(TABLE.to_owned());
    batch.replace_table();
    batch.add_base_chain(CHAIN, Hook { kind: "nat", number: HookNumber::Output, priority: -100 });
    let led = Rule::new().ipv4(true).destination_in(range, true).protocol(Protocol::Tcp.number());
    batch.add_rule(CHAIN, led.dnat(Ipv4Addr::LOCALHOST, CONNECT_PORT).exprs());
    batch.apply(&mut Socket::netfilter()?)?;
    Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), CONNECT_PORT))
}

/// Has whatever comes from elsewhere to `from`, an address and port of the network of the calling thread, go to `to` there
/// instead. Asking again for the same port replaces what was; nothing takes it away, so that what was led to a proxy that is
/// gone reaches nobody.
pub fn lead_ingress(from: SocketAddrV4, to: SocketAddrV4) -> Result<(), NetworkError> {
    let here = Cidr::new(*from.ip(), 32).expect("32 bits are a prefix");
    let mut batch = Batch::new(format!("{TABLE}_{}", from.port()));
    batch.replace_table();
    let hook = Hook { kind: "nat", number: HookNumber::Prerouting, priority: -100 };
    batch.add_base_chain(INGRESS_CHAIN, hook);
    let led = Rule::new().ipv4(true).destination_in(here, true).protocol(Protocol::Tcp.number());
    let led = led.ports(&(from.port()..=from.port())).dnat(*to.ip(), to.port());
    batch.add_rule(INGRESS_CHAIN, led.exprs());
    Ok(batch.apply(&mut Socket::netfilter()?)?)
}

/// What is known, from the file.
pub(crate) fn load(run_dir: &Path) -> ConnectTable {
    let read = whole::read_json::<ConnectTable>(&table_file(run_dir));
    match read.and_then(whole::Found::value) {
        Ok(table) => table.unwrap_or_default(),
        Err(error) => {
            warn!(%error, "what was told of Service Connect cannot be read; it is told again");
            ConnectTable::default()
        }
    }
}

pub(crate) fn save(run_dir: &Path, table: &ConnectTable) -> Result<(), NetworkError> {
    let failed = |source| NetworkError::io("write down what Service Connect is", source);
    let text = serde_json::to_vec(table).map_err(|error| failed(error.into()))?;
    whole::write(&table_file(run_dir), &text, Durability::DiesWithTheMachine).map_err(failed)
}

/// What the proxy said last; none if there is none, or never was.
pub(crate) fn report(run_dir: &Path) -> Option<ConnectReport> {
    let read = whole::read_json::<ConnectReport>(&report_file(run_dir));
    read.and_then(whole::Found::value).ok().flatten()
}

/// How long a task waits for its host's proxy, and whether it may start only once that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProxyWait {
    pub(crate) most: Duration,
    pub(crate) is_needed: bool,
}

/// None: the task is in no namespace.
pub(crate) fn proxy_wait(table: &ConnectTable, task: TaskId) -> Option<ProxyWait> {
    let is_needed = table.servers.values().any(|it| it.task == task && it.is_secure());
    let most = if is_needed { PROXY_FRONT_WAIT_MAX } else { PROXY_WAIT_MAX };
    table.clients.contains_key(&task).then_some(ProxyWait { most, is_needed })
}

type Meanings = Arc<BTreeMap<String, Vec<Ipv4Addr>>>;

/// What names of endpoints mean to whoever asks.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectNames {
    clients: BTreeMap<Ipv4Addr, Meanings>,
    /// Of VPCs with addresses of their own, whose tasks ask as one.
    vpcs: BTreeMap<VpcId, Meanings>,
}

impl ConnectNames {
    pub(crate) fn of(table: &ConnectTable) -> Self {
        let mut namespaces: BTreeMap<&str, BTreeMap<String, Vec<Ipv4Addr>>> = BTreeMap::new();
        for endpoint in table.endpoints.values() {
            let names = namespaces.entry(&endpoint.namespace).or_default();
            let meanings = names.entry(endpoint.name.clone()).or_default();
            if !meanings.contains(&endpoint.address) {
                meanings.push(endpoint.address);
            }
        }
        let namespaces: BTreeMap<&str, Meanings> =
            namespaces.into_iter().map(|(id, names)| (id, Arc::new(names))).collect();
        let mut names = Self::default();
        let mut in_vpcs: BTreeMap<VpcId, BTreeMap<String, Vec<Ipv4Addr>>> = BTreeMap::new();
        for client in table.clients.values() {
            let Some(own) = namespaces.get(client.namespace.as_str()) else { continue };
            match &client.vpc {
                None => drop(names.clients.insert(client.address, Arc::clone(own))),
                Some(vpc) => {
                    let all = in_vpcs.entry(vpc.clone()).or_default();
                    for (name, meanings) in own.iter() {
                        all.entry(name.clone()).or_insert_with(|| meanings.clone());
                    }
                }
            }
        }
        names.vpcs = in_vpcs.into_iter().map(|(vpc, all)| (vpc, Arc::new(all))).collect();
        names
    }

    /// The answer to whoever asks from an address, or from a VPC with addresses of its own; none if the name is no
    /// endpoint's to them. A name without dots is asked for in the domain first that resolvers search, and some ask no
    /// further: it means the same there.
    pub(crate) fn answer(
        &self,
        asker: IpAddr,
        vpc: Option<&VpcId>,
        searched: Option<&str>,
        message: &[u8],
    ) -> Option<Vec<u8>> {
        let meanings = match (vpc, asker) {
            (Some(vpc), _) => self.vpcs.get(vpc)?,
            (None, IpAddr::V4(address)) => self.clients.get(&address)?,
            (None, IpAddr::V6(_)) => return None,
        };
        let question = read(message)?;
        let bare = || question.name.strip_suffix(searched?)?.strip_suffix('.');
        let addresses = meanings
            .get(&question.name)
            .or_else(|| meanings.get(bare().filter(|name| !name.contains('.'))?))?;
        let mut answer = begin(message, &question);
        if question.kind == A {
            answer[6..8].copy_from_slice(&u16::try_from(addresses.len()).ok()?.to_be_bytes());
            for address in addresses {
                answer.extend(resource(&SAME_NAME, A, TTL_S, &address.octets()));
            }
        } else {
            answer[8..10].copy_from_slice(&[0, 1]);
            answer.extend(soa(&question.name, TTL_S));
        }
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use traffic::connect::{
        ConnectClient, ConnectEndpoint, ConnectProtocol, ConnectServer, HostConnect,
    };

    use super::*;
    use crate::zones::tests::question;

    fn endpoint(namespace: &str, name: &str, last: u8) -> ConnectEndpoint {
        ConnectEndpoint {
            id: format!("srv-{namespace}-{last}"),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            address: Ipv4Addr::new(127, 255, 0, last),
            port: 80,
            protocol: ConnectProtocol::Tcp,
            idle_s: 1,
            request_s: 0,
            split: None,
            identity: None,
            instances: vec![],
        }
    }

    fn client(number: u8, namespace: &str, vpc: Option<&str>) -> ConnectClient {
        ConnectClient {
            task: format!("{number:032x}").parse().unwrap(),
            account: "000000000000".parse().unwrap(),
            namespace: namespace.to_owned(),
            service: None,
            address: Ipv4Addr::new(172, 31, 0, number),
            vpc: vpc.map(|id| id.parse().unwrap()),
        }
    }

    #[test]
    fn a_task_that_is_met_with_tls_starts_only_once_the_proxy_stands_before_it() {
        let clients: Vec<_> = [1, 2, 3].map(|number| client(number, "ns-1", None)).into();
        let server = |at: usize, has_tls: bool| ConnectServer {
            task: clients[at].task,
            account: clients[at].account,
            endpoint: "srv-1".to_owned(),
            address: clients[at].address,
            vpc: None,
            protocol: ConnectProtocol::Http,
            container_port: 80,
            port: 8080,
            idle_s: 0,
            has_tls,
            certificate: None,
        };
        let servers = vec![server(1, false), server(2, true)];
        let mut table = ConnectTable::default();
        let told = HostConnect { clients: clients.clone(), servers, ..HostConnect::default() };
        table.learn(1, told, true);
        let is_needed = |task| proxy_wait(&table, task).map(|it| it.is_needed);
        let needed = clients.iter().map(|it| is_needed(it.task)).collect::<Vec<_>>();
        assert_eq!(needed, [Some(false), Some(false), Some(true)]);
        assert_eq!(is_needed(client(4, "ns-1", None).task), None, "it is in no namespace");
    }

    #[test]
    fn a_task_is_answered_for_the_names_of_its_namespace_alone() {
        let mut table = ConnectTable::default();
        let endpoints = vec![
            endpoint("ns-1", "backend", 1),
            endpoint("ns-1", "api.prod", 2),
            endpoint("ns-2", "backend", 3),
        ];
        let vpc = "vpc-00000001";
        let clients =
            vec![client(1, "ns-1", None), client(2, "ns-2", None), client(3, "ns-2", Some(vpc))];
        table.learn(1, HostConnect { clients, endpoints, ..HostConnect::default() }, true);
        let names = ConnectNames::of(&table);
        let asked = |number: u8, name: &str| {
            let asker = IpAddr::V4(Ipv4Addr::new(172, 31, 0, number));
            let answer = names.answer(asker, None, Some("here.internal"), &question(name, 1))?;
            Some(answer[answer.len() - 4..].to_vec())
        };
        assert_eq!(asked(1, "backend"), Some(vec![127, 255, 0, 1]));
        assert_eq!(asked(1, "Api.Prod"), Some(vec![127, 255, 0, 2]));
        assert_eq!(asked(1, "backend.here.internal"), Some(vec![127, 255, 0, 1]));
        assert_eq!(asked(1, "api.prod.here.internal"), None);
        assert_eq!(asked(2, "backend"), Some(vec![127, 255, 0, 3]));
        assert_eq!(asked(2, "api.prod"), None, "it is passed on");
        assert_eq!(asked(3, "backend"), None, "its own address is another VPC's");
        let router = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        let vpc: VpcId = vpc.parse().unwrap();
        assert!(names.answer(router, Some(&vpc), None, &question("backend", 1)).is_some());
        let six = names.answer(router, Some(&vpc), None, &question("backend", 28)).unwrap();
        assert_eq!(six[3] & 0x0f, 0, "the name is there, without such an address");
        assert_eq!(six[6..10], [0, 0, 0, 1]);
    }
}
