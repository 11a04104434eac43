//! What the table of a VPC's router says besides what all tables say: which way leads out, with which address, and
//! what network ACLs let cross a subnet's border.
//!
//! Everything here is compiled from what the region told ([`traffic::feed`]), and `traffic::path` says the same of
//! one packet. A change of it replaces the table as a whole; endpoints come and go as elements of maps.
//!
//! **Invariant:** what leaves by the uplink had a route of its subnet's table that says so, known connections
//! included.

use std::cmp::Reverse;
use std::net::Ipv4Addr;

use longshore_types::{Cidr, VpcId};
use traffic::Direction;
use traffic::feed::{Feed, Interface, NatGateway, NetworkAcl, Route, RouteTable, Subnet, Target};

use super::{
    AMAZON_DNS, DNS_PORT, EGRESS, HOSTS, INGRESS, LINK_LOCAL, ROUTER_OUT, Table, World,
    address_element, carries, filter,
};
use crate::endpoint::Endpoint;
use crate::names::LinkName;
use crate::netns::INSIDE_NAME;
use crate::nft::expr::Rule;
use crate::nft::{Batch, DataType, Element, Hook, HookNumber, Value, Verdict};
use crate::publish::Protocol;

pub(super) const ACL_OUT: &str = "acl_out_of";
pub(super) const ACL_IN: &str = "acl_in_of";
pub(super) const WAYS: &str = "way_of";
pub(super) const LEAVES: &str = "leaves_of";
/// The public address of an interface, and the interface's of a public address.
const PUBLIC: &str = "public_of";
const PRIVATE: &str = "private_of";
/// The interfaces that have one.
const WITH_PUBLIC: &str = "with_public";
/// Whether a packet may go to a peer.
const PEER_WAYS: &str = "peer_way_of";
/// The interfaces of peers that there are ways to.
pub(super) const PEERED: &str = "peered";

impl Table {
    /// The whole table of a VPC's router.
    pub(super) fn add_router(&mut self, batch: &mut Batch, world: World<'_>, vpc: &VpcId) {
        for map in [EGRESS, INGRESS, ACL_OUT, ACL_IN, WAYS, LEAVES, PEER_WAYS] {
            batch.add_map(map, DataType::Address, DataType::Verdict);
        }
        for map in [PUBLIC, PRIVATE] {
            batch.add_map(map, DataType::Address, DataType::Address);
        }
        batch.add_set(WITH_PUBLIC, DataType::Address);
        batch.add_set(PEERED, DataType::Address);
        let peered: Vec<Element> = world.peered.keys().map(|at| address_element(*at)).collect();
        batch.add_elements(PEERED, &peered);
        batch.add_map(super::PUBLISHED, DataType::ProtocolAndPort, DataType::AddressAndPort);
        batch.add_set(HOSTS, DataType::Address);
        Self::add_hosts(batch, world.hosts);
        self.add_guard(batch);
        let has_dns = world.feed.vpcs.get(vpc).is_some_and(|vpc| vpc.has_dns);
        self.add_router_filters(batch, has_dns);
        self.add_router_input(batch);
        let feed = world.feed;
        for acl in feed.acls.values().filter(|acl| acl.vpc == *vpc) {
            add_acl(batch, acl);
        }
        for nat in feed.nat_gateways.values().filter(|nat| nat.vpc == *vpc) {
            add_nat(batch, feed, nat);
        }
        for table in feed.tables.values().filter(|table| table.vpc == *vpc) {
            add_ways(batch, feed, table);
            add_peer_ways(batch, feed, table);
        }
        for subnet in feed.subnets.values().filter(|subnet| subnet.vpc == *vpc) {
            add_subnet(batch, feed, subnet, None);
        }
        self.add_router_translation(batch, has_dns);
        let endpoints: Vec<&Endpoint> = world.endpoints.values().collect();
        self.add_endpoints(batch, world, &endpoints);
    }

    /// What is asked of the router itself or by way of it, of the host's services: nobody's rules are about them.
    fn to_services(&self, has_dns: bool) -> Vec<Rule> {
        let dns = Rule::new().ipv4(true).destination_in(Cidr::host(AMAZON_DNS), true);
        let dns = [Protocol::Tcp, Protocol::Udp]
            .map(|protocol| dns.clone().protocol(protocol.number()).ports(&(DNS_PORT..=DNS_PORT)));
        let services = self.plan.services.iter().map(|service| {
            let at = Rule::new().ipv4(true).destination_in(Cidr::host(service.address), true);
            at.protocol(Protocol::Tcp.number()).ports(&(service.port..=service.port))
        });
        dns.into_iter().filter(|_| has_dns).chain(services).collect()
    }

    fn add_router_filters(&self, batch: &mut Batch, has_dns: bool) {
        let links = self.links();
        let services = || self.to_services(has_dns).into_iter().map(|it| it.then(Verdict::Accept));
        let local = || Rule::new().ipv4(true);
        let from_us = Rule::new().incoming(&links, false).then(Verdict::Accept);
        let to_us = Rule::new().outgoing(&links, false).then(Verdict::Accept);
        let shut = || Rule::new().counted().then(Verdict::Drop);
        let no_six = || Rule::new().ipv4(false).counted().then(Verdict::Drop);

        // Stateless: before anything is known of a connection.
        let mut out = vec![from_us.clone(), no_six()];
        out.push(local().destination_in(LINK_LOCAL, true).then(Verdict::Accept));
        out.extend([Rule::new().source_verdict(ACL_OUT), shut()]);
        let mut inward = vec![to_us.clone(), no_six()];
        inward.push(local().source_in(LINK_LOCAL, true).then(Verdict::Accept));
        inward.extend([Rule::new().destination_verdict(ACL_IN), shut()]);

        let known = |mut rules: Vec<Rule>, by: Rule| {
            rules.extend([
                Rule::new().established().then(Verdict::Accept),
                Rule::new().invalid().counted().then(Verdict::Drop),
                by,
                shut(),
            ]);
            rules
        };
        let mut egress = Vec::from_iter(self.overlay_passage());
        egress.extend(self.peers_passage());
        egress.extend([from_us, no_six()]);
        egress.extend(self.overlay_forgery());
        egress.extend(services());
        let egress = known(egress, Rule::new().source_verdict(EGRESS));
        let ingress = known(vec![to_us, no_six()], Rule::new().destination_verdict(INGRESS));

        let to_peers = || Rule::new().outgoing(LinkName::PEERS, true);
        let mut ways = vec![
            to_peers().source_verdict(PEER_WAYS),
            to_peers().counted().then(Verdict::Drop),
            Rule::new().outgoing(INSIDE_NAME, false).then(Verdict::Accept),
            Rule::new().incoming(&links, false).counted().then(Verdict::Drop),
        ];
        ways.extend(services());
        ways.push(local().destination_in(LINK_LOCAL, true).counted().refuse());
        ways.extend([Rule::new().source_verdict(WAYS), shut()]);

        let chains = [
            // First what its sender may send, then what its receiver may have: between the two it is counted (`flows`).
            ("acl_out", -3, out),
            ("egress", -2, egress),
            ("acl_in", 0, inward),
            ("ingress", 1, ingress),
            ("ways", 2, ways),
        ];
        for (chain, priority, rules) in chains {
            batch.add_base_chain(chain, filter(HookNumber::Forward, priority));
            rules.iter().for_each(|rule| batch.add_rule(chain, rule.exprs()));
        }
    }

    /// The router is nobody's to talk to: it answers pings, and takes other hosts' packets in.
    fn add_router_input(&self, batch: &mut Batch) {
        batch.add_base_chain("input", filter(HookNumber::Input, 0));
        let rules = [
            Rule::new().incoming_exactly("lo", true).then(Verdict::Accept),
            Rule::new().established().then(Verdict::Accept),
            Rule::new()
                .incoming(&self.links(), true)
                .protocol(1)
                .icmp(8, None)
                .then(Verdict::Accept),
            Rule::new().counted().then(Verdict::Drop),
        ];
        rules.iter().for_each(|rule| batch.add_rule("input", rule.exprs()));
    }

    fn add_router_translation(&self, batch: &mut Batch, has_dns: bool) {
        let nat = |number, priority| Hook { kind: "nat", number, priority };
        let links = self.links();
        batch.add_base_chain("redirect", nat(HookNumber::Prerouting, -100));
        if let Some(resolver) = self.plan.resolver().filter(|_| has_dns) {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let asked = Rule::new().ipv4(true).incoming(&links, true);
                let asked = asked.destination_in(Cidr::host(resolver), true);
                let asked = asked.protocol(protocol.number()).ports(&(DNS_PORT..=DNS_PORT));
                batch.add_rule("redirect", asked.dnat(AMAZON_DNS, DNS_PORT).exprs());
            }
        }
        let arrives = Rule::new().ipv4(true).incoming_exactly(INSIDE_NAME, true);
        batch.add_rule("redirect", arrives.dnat_by_address(PRIVATE).exprs());

        batch.add_base_chain("leave", nat(HookNumber::Postrouting, 100));
        let leaves = || Rule::new().ipv4(true).outgoing(INSIDE_NAME, true);
        let service = leaves().destination_in(LINK_LOCAL, true).masquerade();
        batch.add_rule("leave", service.exprs());
        batch.add_rule("leave", leaves().source_verdict(LEAVES).exprs());
    }

    /// What a VPC's packets may reach by way of the host: neither the default VPC's range nor bridged containers.
    pub(super) fn add_router_egress(&self, batch: &mut Batch) {
        batch.add_chain(ROUTER_OUT);
        let shut = self.plan.ranges.iter().chain([&self.plan.bridge]);
        let shut = shut.map(|range| Rule::new().destination_in(*range, true).counted().refuse());
        let rules = shut.chain([Rule::new().then(Verdict::Accept)]);
        rules.for_each(|rule| batch.add_rule(ROUTER_OUT, rule.exprs()));
    }

    /// What the maps of a router's table say of endpoints. One whose subnet is not known has no way.
    pub(super) fn router_elements(
        &self,
        world: World<'_>,
        endpoints: &[&Endpoint],
    ) -> Vec<(&'static str, Vec<Element>)> {
        if self.plan.router.is_none() {
            return Vec::new();
        }
        let verdict = |address: Ipv4Addr, chain: String| Element {
            key: address.octets().to_vec(),
            value: Some(Value::Verdict(Verdict::Goto(chain))),
        };
        let address = |key: Ipv4Addr, value: Ipv4Addr| Element {
            key: key.octets().to_vec(),
            value: Some(Value::Data(value.octets().to_vec())),
        };
        let maps = [ACL_OUT, ACL_IN, WAYS, LEAVES, PUBLIC, PRIVATE, WITH_PUBLIC, PEER_WAYS];
        let mut maps: Vec<(&'static str, Vec<Element>)> = maps.map(|map| (map, Vec::new())).into();
        for endpoint in endpoints {
            let Some((interface, subnet)) = self.interface_of(world.feed, endpoint) else {
                continue;
            };
            let at = endpoint.address;
            maps[0].1.push(verdict(at, subnet_chain(subnet, Direction::Out)));
            maps[1].1.push(verdict(at, subnet_chain(subnet, Direction::In)));
            if table_of(world.feed, subnet).is_some() {
                maps[2].1.push(verdict(at, chain_of("ways", subnet.table.as_str())));
                maps[3].1.push(verdict(at, chain_of("leaves", subnet.table.as_str())));
                maps[7].1.push(verdict(at, chain_of("peers", subnet.table.as_str())));
            }
            if let Some(public) = interface.public.filter(|_| is_reached(world.feed, subnet)) {
                maps[4].1.push(address(at, public));
                maps[5].1.push(address(public, at));
                maps[6].1.push(address_element(at));
            }
        }
        maps.retain(|(_, elements)| !elements.is_empty());
        maps
    }

    fn interface_of<'f>(
        &self,
        feed: &'f Feed,
        endpoint: &Endpoint,
    ) -> Option<(&'f Interface, &'f Subnet)> {
        let interface = feed.interfaces.get(endpoint.eni.as_ref()?)?;
        let is_it = Some(&interface.vpc) == self.plan.router.as_ref()
            && interface.address == endpoint.address;
        Some((interface, feed.subnet_of(interface).filter(|_| is_it)?))
    }
}

/// Whether an interface of the subnet is reached by its public address: only where its table leads out by an
/// internet gateway.
pub(super) fn is_reached(feed: &Feed, subnet: &Subnet) -> bool {
    let leads = |table: &RouteTable| {
        table.routes.iter().any(|route| route.target == Target::InternetGateway)
    };
    table_of(feed, subnet).is_some_and(leads)
}

pub(super) fn table_of<'f>(feed: &'f Feed, subnet: &Subnet) -> Option<&'f RouteTable> {
    feed.tables.get(&subnet.table).filter(|table| table.vpc == subnet.vpc)
}

pub(super) fn add_acl(batch: &mut Batch, acl: &NetworkAcl) {
    for (direction, entries) in [(Direction::In, &acl.ingress), (Direction::Out, &acl.egress)] {
        let chain = acl_chain(acl, direction);
        batch.add_chain(&chain);
        for entry in entries {
            let rule = match direction {
                Direction::In => Rule::new().source_in(entry.peer, true),
                Direction::Out => Rule::new().destination_in(entry.peer, true),
            };
            let verdict = if entry.is_allowed { Verdict::Accept } else { Verdict::Drop };
            batch.add_rule(&chain, carries(rule, &entry.traffic).then(verdict).exprs());
        }
        batch.add_rule(&chain, Rule::new().counted().then(Verdict::Drop).exprs());
    }
}

/// Within a subnet its ACL is not asked. Where others have addresses of its range too, a set says who is in it.
pub(super) fn add_subnet(batch: &mut Batch, feed: &Feed, subnet: &Subnet, members: Option<&str>) {
    for direction in [Direction::In, Direction::Out] {
        let chain = subnet_chain(subnet, direction);
        batch.add_chain(&chain);
        let within = match (direction, members) {
            (Direction::In, None) => Rule::new().source_in(subnet.range, true),
            (Direction::Out, None) => Rule::new().destination_in(subnet.range, true),
            (Direction::In, Some(members)) => Rule::new().source_in_set(members),
            (Direction::Out, Some(members)) => Rule::new().destination_in_set(members),
        };
        batch.add_rule(&chain, within.then(Verdict::Accept).exprs());
        let asked = match feed.acl_of(subnet) {
            Some(acl) => Rule::new().then(Verdict::Goto(acl_chain(acl, direction))),
            None => Rule::new().counted().then(Verdict::Drop),
        };
        batch.add_rule(&chain, asked.exprs());
    }
}

/// The most specific first, and of two alike a blackhole.
pub(super) fn by_prefix(table: &RouteTable) -> Vec<&Route> {
    let mut routes: Vec<_> = table.routes.iter().collect();
    routes.sort_by_key(|route| {
        (Reverse(route.destination.prefix()), route.target != Target::Blackhole)
    });
    routes
}

/// What gets out by a NAT gateway: what the table of its own subnet leads out.
pub(super) fn add_nat(batch: &mut Batch, feed: &Feed, nat: &NatGateway) {
    let chain = chain_of("nat", nat.id.as_str());
    batch.add_chain(&chain);
    let subnet = feed.subnets.get(&nat.subnet).filter(|subnet| subnet.vpc == nat.vpc);
    let table = subnet.and_then(|subnet| table_of(feed, subnet));
    for route in table.into_iter().flat_map(by_prefix) {
        let to = Rule::new().destination_in(route.destination, true);
        let rule = match &route.target {
            Target::InternetGateway => to.then(Verdict::Accept),
            Target::NatGateway(_) | Target::Peering(_) | Target::Blackhole => {
                to.counted().then(Verdict::Drop)
            }
        };
        batch.add_rule(&chain, rule.exprs());
    }
    batch.add_rule(&chain, Rule::new().counted().then(Verdict::Drop).exprs());
}

/// A route table as two chains: whether a packet may leave, and with which address it does.
fn add_ways(batch: &mut Batch, feed: &Feed, table: &RouteTable) {
    let (ways, leaves) =
        (chain_of("ways", table.id.as_str()), chain_of("leaves", table.id.as_str()));
    batch.add_chain(&ways);
    batch.add_chain(&leaves);
    for route in by_prefix(table) {
        let to = || Rule::new().destination_in(route.destination, true);
        let nat = match &route.target {
            Target::NatGateway(id) => feed.nat_gateways.get(id).filter(|nat| nat.vpc == table.vpc),
            Target::InternetGateway | Target::Peering(_) | Target::Blackhole => None,
        };
        match (&route.target, nat.and_then(|nat| nat.public)) {
            (Target::InternetGateway, _) => {
                batch
                    .add_rule(&ways, to().source_in_set(WITH_PUBLIC).then(Verdict::Accept).exprs());
                batch.add_rule(&ways, to().counted().then(Verdict::Drop).exprs());
                batch.add_rule(&leaves, to().snat_by_address(PUBLIC).exprs());
                batch.add_rule(&leaves, to().then(Verdict::Accept).exprs());
            }
            (Target::NatGateway(id), Some(public)) => {
                let onward = Verdict::Goto(chain_of("nat", id.as_str()));
                batch.add_rule(&ways, to().then(onward).exprs());
                batch.add_rule(&leaves, to().snat(public).exprs());
            }
            // Whom a peering leads to has a way of its own; who is left is nobody.
            (Target::NatGateway(_) | Target::Peering(_) | Target::Blackhole, _) => {
                batch.add_rule(&ways, to().counted().then(Verdict::Drop).exprs());
                batch.add_rule(&leaves, to().then(Verdict::Accept).exprs());
            }
        }
    }
    batch.add_rule(&ways, Rule::new().counted().then(Verdict::Drop).exprs());
}

/// The same table, asked of what goes to a peer: whether a route leads there, and to that one.
fn add_peer_ways(batch: &mut Batch, feed: &Feed, table: &RouteTable) {
    let chain = chain_of("peers", table.id.as_str());
    batch.add_chain(&chain);
    for route in by_prefix(table) {
        let to = || Rule::new().destination_in(route.destination, true);
        if let Target::Peering(id) = &route.target
            && let Some(peering) = feed.peerings.get(&(id.clone(), table.vpc.clone()))
        {
            let there = to().outgoing(&LinkName::peer_prefix(peering.number), true);
            batch.add_rule(&chain, there.then(Verdict::Accept).exprs());
        }
        batch.add_rule(&chain, to().counted().then(Verdict::Drop).exprs());
    }
    batch.add_rule(&chain, Rule::new().counted().then(Verdict::Drop).exprs());
}

pub(super) fn chain_of(kind: &str, id: &str) -> String {
    format!("{kind}_{}", id.replace('-', "_"))
}

fn acl_chain(acl: &NetworkAcl, direction: Direction) -> String {
    directed(chain_of("acl", acl.id.as_str()), direction)
}

pub(super) fn subnet_chain(subnet: &Subnet, direction: Direction) -> String {
    directed(chain_of("in", subnet.id.as_str()), direction)
}

fn directed(chain: String, direction: Direction) -> String {
    match direction {
        Direction::In => chain + "_in",
        Direction::Out => chain + "_out",
    }
}
