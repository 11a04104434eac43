//! What the table of the host's own network says of default VPCs that were changed: which of their packets go out, with
//! which address, and what network ACLs let cross a subnet's border.
//!
//! All default VPCs share one range of addresses and the host's own network; of one that is as it came nothing is told, and
//! its packets pass none of this. Endpoints in subnets that are told of are keys of maps, and their packets go as in a
//! VPC with a router ([`super::router`]), but that the world knows each by the address that it has.
//!
//! Accounts have the same ranges there: who is in a subnet is said by a set of addresses, and not by the subnet's range.
//!
//! **Invariant:** a packet of an endpoint whose subnet is told of leaves its VPC only where a route of the subnet's table
//! says so, known connections included, and one of an endpoint of which that is yet to be told goes nowhere. What the host
//! itself sends and is sent is not asked about, nor what bridged containers are, whose address is the host's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use longshore_types::{Cidr, SubnetId, VpcId};
use traffic::feed::{Feed, PUBLIC_POOL, RouteTable, Subnet, Target, Withheld};

use super::router::{
    ACL_IN, ACL_OUT, LEAVES, WAYS, add_acl, add_nat, add_subnet, by_prefix, chain_of, is_reached,
    subnet_chain, table_of,
};
use super::{DNS_PORT, NAMESERVERS, Table, World, address_element, filter};
use crate::endpoint::Endpoint;
use crate::nft::expr::Rule;
use crate::nft::{Batch, DataType, Element, HookNumber, Value, Verdict};
use crate::publish::Protocol;
use traffic::Direction;

/// The endpoints that nobody outside reaches, since no answer would leave.
const SHUT: &str = "shut_from_outside";
/// Those that no name is answered to.
const NAMELESS: &str = "nameless";

/// What endpoints are in the maps, by address, with all that was put there of each.
pub(super) type Judged = BTreeMap<Ipv4Addr, Vec<(&'static str, Element)>>;

/// The addresses of the interfaces in each subnet that is told of.
pub(super) type Members = BTreeMap<SubnetId, BTreeSet<Ipv4Addr>>;

/// The VPC that all default VPCs are on a host, if of some of them is told how their packets go.
pub(crate) fn judged_vpc(feed: &Feed) -> Option<&VpcId> {
    let is_default = |vpc: &VpcId| feed.vpcs.get(vpc).is_some_and(|vpc| vpc.is_default);
    feed.subnets.values().map(|subnet| &subnet.vpc).find(|vpc| is_default(vpc))
}

/// The subnet of an endpoint, if it is one that is told of.
fn judged_subnet<'f>(feed: &'f Feed, endpoint: &Endpoint) -> Option<&'f Subnet> {
    let interface = feed.interfaces.get(endpoint.eni.as_ref()?)?;
    let vpc = feed.vpcs.get(&interface.vpc).filter(|vpc| vpc.is_default)?;
    let subnet = feed.subnet_of(interface)?;
    (subnet.vpc == vpc.id && interface.address == endpoint.address).then_some(subnet)
}

/// Whether it is told how an endpoint's packets go in a default VPC that was changed.
pub(crate) fn is_judged(feed: &Feed, endpoint: &Endpoint) -> bool {
    judged_subnet(feed, endpoint).is_some()
}

/// Whether two copies say the same of how packets of default VPCs go.
pub(crate) fn is_judged_alike(one: &Feed, other: &Feed) -> bool {
    let (Some(vpc), Some(others)) = (judged_vpc(one), judged_vpc(other)) else {
        return judged_vpc(one).is_none() && judged_vpc(other).is_none();
    };
    vpc == others
        && one.subnets_in(vpc).eq(other.subnets_in(vpc))
        && one.tables_in(vpc).eq(other.tables_in(vpc))
        && one.acls_in(vpc).eq(other.acls_in(vpc))
        && one.nat_gateways_in(vpc).eq(other.nat_gateways_in(vpc))
}

/// Who is in the subnets that are told of.
fn members(feed: &Feed) -> Members {
    let Some(vpc) = judged_vpc(feed) else { return Members::new() };
    let mut all: Members =
        feed.subnets_in(vpc).map(|subnet| (subnet.id.clone(), BTreeSet::new())).collect();
    for interface in feed.interfaces.values() {
        if let Some(members) = all.get_mut(&interface.subnet)
            && feed.subnet_of(interface).is_some()
        {
            members.insert(interface.address);
        }
    }
    all
}

fn members_set(subnet: &SubnetId) -> String {
    chain_of("within", subnet.as_str())
}

impl Table {
    /// Whether an endpoint is to be judged and is not, since it was there before anybody told of it.
    pub(crate) fn lacks(&self, feed: &Feed, endpoint: &Endpoint) -> bool {
        self.plan.router.is_none()
            && !self.judged.contains_key(&endpoint.address)
            && (endpoint.awaits_ways || is_judged(feed, endpoint))
    }

    /// Nothing while no default VPC is told of, nor an endpoint waits for that.
    pub(super) fn add_plane(&mut self, batch: &mut Batch, world: World<'_>) {
        let feed = world.feed;
        self.judged.clear();
        self.members = members(feed);
        self.is_plane_judged = false;
        let vpc = judged_vpc(feed);
        if vpc.is_none() && !world.endpoints.values().any(|it| it.awaits_ways) {
            return;
        }
        self.is_plane_judged = true;
        for map in [ACL_OUT, ACL_IN, WAYS, LEAVES, SHUT] {
            batch.add_map(map, DataType::Address, DataType::Verdict);
        }
        batch.add_set(NAMELESS, DataType::Address);
        for (subnet, members) in &self.members {
            let set = members_set(subnet);
            batch.add_set(&set, DataType::Address);
            batch.add_elements(&set, &addresses(members));
        }
        if let Some(vpc) = vpc {
            feed.acls_in(vpc).for_each(|acl| add_acl(batch, acl));
            feed.nat_gateways_in(vpc).for_each(|nat| add_nat(batch, feed, nat));
            feed.tables_in(vpc).for_each(|table| add_ways(batch, feed, table));
            for subnet in feed.subnets_in(vpc) {
                add_subnet(batch, feed, subnet, Some(&members_set(&subnet.id)));
            }
        }
        self.add_plane_filters(batch);
        self.withhold_names(batch);
    }

    /// Has the table know who is in its subnets by what is told now. Of the subnets themselves nothing else is told.
    pub(crate) fn change_members(&mut self, batch: &mut Batch, feed: &Feed) {
        if !self.is_plane_judged {
            return;
        }
        let after = members(feed);
        for (subnet, before) in &self.members {
            let set = members_set(subnet);
            let Some(after) = after.get(subnet) else { continue };
            batch.delete_elements(&set, &addresses(before.difference(after)));
            batch.add_elements(&set, &addresses(after.difference(before)));
        }
        self.members = after;
    }

    fn add_plane_filters(&self, batch: &mut Batch) {
        let links = self.links();
        let four = || Rule::new().ipv4(true);
        let from_us = || four().incoming(&links, true);
        // From the world: neither from an endpoint nor from another host's.
        let arrives = || {
            let arrives = four().outgoing(&links, true).incoming(&links, false);
            match &self.plan.overlay {
                Some(link) => arrives.incoming_exactly(link.as_str(), false),
                None => arrives,
            }
        };
        let mut ways = vec![
            arrives().established().then(Verdict::Accept),
            arrives().destination_verdict(SHUT),
            Rule::new().incoming(&links, false).then(Verdict::Accept),
        ];
        let bridge = self.plan.bridge;
        let local = self.plan.ranges.iter().chain([&bridge]);
        ways.extend(local.map(|it| four().destination_in(*it, true).then(Verdict::Accept)));
        ways.push(four().source_verdict(WAYS));
        let to_us = || four().outgoing(&links, true);
        let within = || from_us().outgoing(&links, true);
        let to_bridge = within().destination_in(bridge, true).then(Verdict::Accept);
        let from_bridge = within().source_in(bridge, true).then(Verdict::Accept);
        let chains = [
            // Stateless: before anything is known of a connection.
            ("acl_out", -3, vec![to_bridge, from_us().source_verdict(ACL_OUT)]),
            ("acl_in", 0, vec![from_bridge, to_us().destination_verdict(ACL_IN)]),
            ("ways", 1, ways),
        ];
        for (chain, priority, rules) in chains {
            batch.add_base_chain(chain, filter(HookNumber::Forward, priority));
            rules.iter().for_each(|rule| batch.add_rule(chain, rule.exprs()));
        }
    }

    /// At whichever address the relay is asked.
    fn withhold_names(&self, batch: &mut Batch) {
        let links = self.links();
        let host = Cidr::host(self.plan.host);
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let asked = || {
                let asked = Rule::new().ipv4(true).incoming(&links, true).source_in_set(NAMELESS);
                asked.protocol(protocol.number())
            };
            let own = self.plan.dns_port;
            let rules = [
                asked().destination_in_set(NAMESERVERS).ports(&(DNS_PORT..=DNS_PORT)),
                asked().destination_in(host, true).ports(&(own..=own)),
            ];
            for rule in rules {
                batch.add_rule("guard", rule.counted().then(Verdict::Drop).exprs());
            }
        }
    }

    /// With which address packets leave that go to what has one of the region's public addresses here. Behind the host
    /// they have the host's.
    pub(super) fn plane_leaves(&self) -> Option<Rule> {
        let to_publics = Rule::new().ipv4(true).outgoing(&self.links(), true);
        let to_publics = to_publics.destination_in(PUBLIC_POOL, true);
        self.is_plane_judged.then(|| to_publics.source_verdict(LEAVES))
    }

    /// What the maps say of endpoints from now on.
    pub(super) fn judge(
        &mut self,
        world: World<'_>,
        endpoints: &[&Endpoint],
    ) -> Vec<(&'static str, Vec<Element>)> {
        if !self.is_plane_judged {
            return Vec::new();
        }
        let mut new = Vec::new();
        for endpoint in endpoints {
            let elements = match judged_subnet(world.feed, endpoint) {
                Some(subnet) => elements_of(world.feed, subnet, endpoint.address),
                None if endpoint.awaits_ways => shut(endpoint.address),
                None => continue,
            };
            new.extend(elements.iter().cloned());
            self.judged.insert(endpoint.address, elements);
        }
        by_map(new)
    }

    /// What they said of endpoints until now.
    pub(super) fn judge_no_more(
        &mut self,
        endpoints: &[&Endpoint],
    ) -> Vec<(&'static str, Vec<Element>)> {
        let gone = endpoints.iter().filter_map(|endpoint| self.judged.remove(&endpoint.address));
        by_map(gone.flatten().collect())
    }
}

fn addresses<'a>(all: impl IntoIterator<Item = &'a Ipv4Addr>) -> Vec<Element> {
    all.into_iter().map(|address| address_element(*address)).collect()
}

fn by_map(elements: Vec<(&'static str, Element)>) -> Vec<(&'static str, Vec<Element>)> {
    let mut maps: BTreeMap<&'static str, Vec<Element>> = BTreeMap::new();
    for (map, element) in elements {
        maps.entry(map).or_default().push(element);
    }
    maps.into_iter().collect()
}

/// Of one whose subnet is yet to be told of.
fn shut(at: Ipv4Addr) -> Vec<(&'static str, Element)> {
    let drop = || Element { key: at.octets().to_vec(), value: Some(Value::Verdict(Verdict::Drop)) };
    [ACL_OUT, ACL_IN, WAYS].map(|map| (map, drop())).into()
}

fn elements_of(feed: &Feed, subnet: &Subnet, at: Ipv4Addr) -> Vec<(&'static str, Element)> {
    let verdict = |verdict: Verdict| Element {
        key: at.octets().to_vec(),
        value: Some(Value::Verdict(verdict)),
    };
    let mut elements = vec![
        (ACL_OUT, verdict(Verdict::Goto(subnet_chain(subnet, Direction::Out)))),
        (ACL_IN, verdict(Verdict::Goto(subnet_chain(subnet, Direction::In)))),
    ];
    match table_of(feed, subnet) {
        Some(table) => {
            let chain = |kind| Verdict::Goto(chain_of(kind, table.id.as_str()));
            elements.push((WAYS, verdict(chain("ways"))));
            elements.push((LEAVES, verdict(chain("leaves"))));
        }
        // One that is not told of leads nowhere.
        None => elements.push((WAYS, verdict(Verdict::Drop))),
    }
    if !is_reached(feed, subnet) {
        elements.push((SHUT, verdict(Verdict::Drop)));
    }
    if subnet.withheld == Some(Withheld::All) {
        elements.push((NAMELESS, address_element(at)));
    }
    elements
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
                batch.add_rule(&ways, to().then(Verdict::Accept).exprs());
                batch.add_rule(&leaves, to().then(Verdict::Accept).exprs());
            }
            (Target::NatGateway(id), Some(public)) => {
                let onward = Verdict::Goto(chain_of("nat", id.as_str()));
                batch.add_rule(&ways, to().then(onward).exprs());
                batch.add_rule(&leaves, to().snat(public).exprs());
            }
            (Target::NatGateway(_) | Target::Peering(_) | Target::Blackhole, _) => {
                batch.add_rule(&ways, to().counted().then(Verdict::Drop).exprs());
                batch.add_rule(&leaves, to().then(Verdict::Accept).exprs());
            }
        }
    }
    batch.add_rule(&ways, Rule::new().counted().then(Verdict::Drop).exprs());
}
