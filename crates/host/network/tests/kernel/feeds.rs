//! What tests of VPCs tell a host, piece by piece.

use std::net::Ipv4Addr;

use longshore_types::{SubnetId, VpcId};
use network::feed::{
    AclEntry, Change, Feed, Interface, Item, NetworkAcl, Place, Route, Target, Vni, Vpc,
};
use network::{EniSpec, MacAddr, Network, News, SecurityGroup, Traffic};

use crate::world::World;

pub(crate) fn cidr(text: &str) -> longshore_types::Cidr {
    text.parse().unwrap()
}

/// A VPC with a router of its own.
pub(crate) fn vpc(id: VpcId, range: &str) -> Item {
    Item::Vpc(Vpc {
        vni: Vni::of(&id),
        id,
        ranges: vec![cidr(range)],
        has_dns: true,
        has_dns_hostnames: true,
        is_default: false,
    })
}

pub(crate) fn entry(number: u16, is_allowed: bool, traffic: Traffic, peer: &str) -> AclEntry {
    AclEntry { number, is_allowed, traffic, peer: cidr(peer) }
}

/// An ACL that lets everything pass.
pub(crate) fn open_acl(id: &str, vpc: VpcId) -> NetworkAcl {
    let all = || vec![entry(100, true, Traffic::All, "0.0.0.0/0")];
    NetworkAcl { id: id.parse().unwrap(), vpc, ingress: all(), egress: all() }
}

pub(crate) fn routes(routes: &[(&str, Target)]) -> Vec<Route> {
    let route = |(range, target): &(&str, Target)| Route {
        destination: cidr(range),
        target: target.clone(),
    };
    routes.iter().map(route).collect()
}

/// An interface here.
pub(crate) fn interface(
    id: &str,
    (vpc, subnet): (VpcId, SubnetId),
    address: Ipv4Addr,
    groups: &[&str],
) -> Interface {
    Interface {
        id: id.parse().unwrap(),
        vpc,
        subnet,
        address,
        groups: groups.iter().map(|group| group.parse().unwrap()).collect(),
        public: None,
        place: Place::Here,
        is_balancers: false,
        is_logged: false,
    }
}

/// The same interface as it is attached: in a /24, behind its first address.
pub(crate) fn spec(id: &str, address: Ipv4Addr, groups: &[&str]) -> EniSpec {
    let [a, b, c, d] = address.octets();
    EniSpec {
        id: Some(id.parse().unwrap()),
        address,
        prefix: 24,
        gateway: [a, b, c, 1].into(),
        mac: MacAddr::new([2, a, b, 0, c, d]),
        security_groups: groups.iter().map(|group| group.parse().unwrap()).collect(),
        assign_public_ip: false,
        is_judged: false,
    }
}

/// As a host sees it where only these interfaces are.
pub(crate) fn seen_from(feed: &Feed, here: &[String], others: Ipv4Addr) -> Feed {
    let mut feed = feed.clone();
    for interface in feed.interfaces.values_mut() {
        let is_here = here.iter().any(|id| id == interface.id.as_str());
        interface.place = if is_here { Place::Here } else { Place::At(others) };
    }
    feed
}

/// All of it.
pub(crate) fn tell(world: &World, network: &Network, feed: &Feed, groups: Vec<SecurityGroup>) {
    let change = Change { put: feed.items().collect(), gone: vec![] };
    let news = News { groups, network: change, is_whole: true, ..News::default() };
    world.runtime.block_on(network.learn(news)).unwrap();
}
