//! How clients that are in no VPC come to internet-facing balancers: at the own addresses of the machines that have an
//! interface of them.
//!
//! The process on each machine says where that is. **Invariant:** a machine is believed of the balancers that have an
//! interface there and of no others, and is named only while such an interface is.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use longshore_types::Timestamp;
use model::elb::{balancer_path, path_of};
use model::{ElbBalancer, ElbListener, Instance, View};
use routing::ListenerId;
use traffic::{NameEntry, NamedInstance, NamedService};

use crate::Elb;
use crate::feed::{Host, Known, Node};
use crate::health::{FRESH_MS, is_fresh};
use crate::listeners::of_balancer;

/// How long an answer may be remembered, as within VPCs.
const TTL_S: u32 = 10;

/// A listener at a machine's own address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListeningAt {
    /// None: the region's own machine.
    pub host: Host,
    /// `app/web/0123456789abcdef`
    pub balancer: String,
    /// In AWS's words.
    pub protocol: &'static str,
    /// The listener's own.
    pub port: u16,
    pub address: SocketAddr,
}

/// What is known of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameOutside {
    /// It is a balancer's, which is reached so.
    Known(NameEntry),
    /// It is a balancer's, and not every process has been heard since the region's start.
    NotYet,
    /// It is no balancer's.
    Nobodys,
}

impl Elb {
    /// Where listeners are reached at machines' own addresses, by what was heard lately.
    pub fn listening(&self) -> Vec<ListeningAt> {
        let (view, now) = (self.control.view(), self.control.clock.now());
        let known = self.feed.known();
        let fresh = known.nodes.iter().filter(|(_, node)| is_fresh(node, now));
        let said = fresh.flat_map(|(host, node)| node.local.iter().map(move |it| (host, it)));
        let listening = said.filter_map(|(host, (id, address))| {
            let (balancer, listener) = named(&view, *host, id)?;
            Some(ListeningAt {
                host: *host,
                balancer: balancer.path().to_string(),
                protocol: listener.protocol.as_str(),
                port: listener.port,
                address: *address,
            })
        });
        let mut listening: Vec<ListeningAt> = listening.collect();
        listening.sort_by(|a, b| {
            (&a.balancer, a.port, a.host, a.address).cmp(&(&b.balancer, b.port, b.host, b.address))
        });
        listening
    }

    /// What a name means to whoever asks from an address that is in no VPC.
    pub fn name_outside(&self, name: &str, asker: IpAddr) -> NameOutside {
        let (view, now) = (self.control.view(), self.control.clock.now());
        let Some(row) = of_name(&view, name) else { return NameOutside::Nobodys };
        let known = self.feed.known();
        let is_own = |it: &Instance| self.control.access.is_of_own_machine(it);
        let addresses = addresses(&view, &known, row, (now, asker), &is_own);
        if addresses.is_empty() && !row.is_internal && now.since_ms(known.since) < FRESH_MS {
            return NameOutside::NotYet;
        }
        let instance = |address: Ipv4Addr| NamedInstance {
            id: address.to_string(),
            ipv4: Some(address),
            is_healthy: true,
            ..NamedInstance::default()
        };
        let instances = addresses.into_iter().map(instance).collect();
        NameOutside::Known(NameEntry {
            account: row.scope.account,
            vpc: None,
            zone: row.dns_name(),
            negative_ttl_s: TTL_S,
            service: Some(NamedService {
                a_ttl_s: Some(TTL_S),
                instances,
                ..NamedService::default()
            }),
        })
    }
}

/// The balancer with a name, in lower case.
fn of_name<'v>(view: &'v View, name: &str) -> Option<&'v Arc<ElbBalancer>> {
    let bare = name.strip_prefix("internal-").unwrap_or(name);
    let begins_so = |text: &str, row: &ElbBalancer| {
        text.get(..row.name.len()).is_some_and(|start| start.eq_ignore_ascii_case(&row.name))
    };
    let mut rows =
        view.elb_balancers.iter().filter(|row| begins_so(name, row) || begins_so(bare, row));
    rows.find(|row| row.dns_name().eq_ignore_ascii_case(name))
}

/// What a machine says of one of its listeners, if it may.
fn named<'v>(
    view: &'v View,
    host: Host,
    id: &ListenerId,
) -> Option<(&'v Arc<ElbBalancer>, &'v Arc<ElbListener>)> {
    let account = id.0.split(':').nth(4)?.parse().ok()?;
    let path = id.0.split_once(":listener/")?.1;
    let balancer = view.elb_balancers.get(account, &balancer_path(path).into())?;
    path_of(&balancer.scope, &id.0)?;
    let listener = view.elb_listeners.get(account, &path.into())?;
    let is_there = !balancer.is_internal && balancer.zones_on(host).next().is_some();
    is_there.then_some((balancer, listener))
}

/// The addresses of those machines at which the most of a balancer's listeners have their own ports: a name says nothing of
/// ports, and at a listener's own port of another machine somebody else may be.
fn addresses(
    view: &View,
    known: &Known,
    row: &ElbBalancer,
    (now, asker): (Timestamp, IpAddr),
    is_own: &dyn Fn(&Instance) -> bool,
) -> BTreeSet<Ipv4Addr> {
    if row.is_internal {
        return BTreeSet::new();
    }
    let wanted: Vec<(String, u16)> = of_balancer(view, row.scope.account, &row.path())
        .map(|listener| (listener.arn(), listener.port))
        .collect();
    let hosts: BTreeSet<Host> = row.named_zones().map(|zone| zone.stand.host).collect();
    let of_host = |host: &Host| {
        let node = known.nodes.get(host).filter(|node| is_fresh(node, now))?;
        let said = wanted.iter().flat_map(|(arn, port)| of_listener(node, arn, *port));
        let mut at: Option<IpAddr> = None;
        let mut count = 0;
        for (address, is_its_port) in said {
            at = Some(address);
            count += usize::from(is_its_port);
        }
        let address = reachable(view, *host, at?, asker, is_own)?;
        Some((count, address))
    };
    let all: Vec<(usize, Ipv4Addr)> = hosts.iter().filter_map(of_host).collect();
    let most = all.iter().map(|(count, _)| *count).max();
    all.into_iter().filter(|(count, _)| Some(*count) == most).map(|(_, it)| it).collect()
}

/// Where a process says that a listener is, and whether at its own port.
fn of_listener<'n>(
    node: &'n Node,
    arn: &'n str,
    port: u16,
) -> impl Iterator<Item = (IpAddr, bool)> + 'n {
    let its = node.local.iter().filter(move |(id, _)| id.0 == arn);
    its.map(move |(_, address)| (address.ip(), address.port() == port))
}

/// The address by which an asker reaches a machine that listens at `at`.
fn reachable(
    view: &View,
    host: Host,
    at: IpAddr,
    asker: IpAddr,
    is_own: &dyn Fn(&Instance) -> bool,
) -> Option<Ipv4Addr> {
    // Also of IPv6: that has those of IPv4 in it.
    if at.is_unspecified() {
        let instance = match host {
            Some(id) => view.instance_of_any(id),
            None => plan::balancers::own_machine(view, is_own),
        };
        return instance?.underlay();
    }
    let IpAddr::V4(address) = at else { return None };
    // Its own loopback address leads each machine to itself.
    (!address.is_loopback() || asker.is_loopback()).then_some(address)
}
