//! What our table says: a function from the endpoints and groups to rules.
//!
//! Four questions are asked of a packet, each in a chain of its own hook, so that being let through by
//! one never spares it the next: is its source who it says (`guard`), may its sender send it (`egress`),
//! may its receiver have it (`ingress`), may it reach the host itself (`input`). Endpoints are found by
//! address in verdict maps, so their number costs nothing on the way.
//!
//! **Invariant:** a packet from or to one of our interfaces that no rule speaks for is dropped; a packet
//! that has nothing to do with our interfaces is left alone.

mod overlay;
mod plane;
mod router;
mod translation;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use longshore_types::{Cidr, SecurityGroupId, VpcId};
use traffic::feed::Feed;
use traffic::{GroupRule, Peer, SecurityGroup, Traffic};

use self::plane::{Judged, Members};
pub(crate) use self::plane::{is_judged, is_judged_alike, judged_vpc};
use self::translation::published_element;
use crate::endpoint::{Binding, Endpoint, Role};
use crate::names::{LinkName, NetTag};
use crate::nft::expr::Rule;
use crate::nft::renew::Remains;
use crate::nft::{Batch, DataType, Element, Hook, HookNumber, Value, Verdict};
use crate::overlay::Remote;
use crate::publish::Protocol;

const ICMP: u8 = 1;
const DNS_PORT: u16 = 53;
/// Where AWS's resolver answers in every VPC.
pub(crate) const AMAZON_DNS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 253);

/// Where hosts have services for themselves alone, such as their cloud's metadata and credentials.
pub(crate) const LINK_LOCAL: Cidr = match Cidr::from_octets([169, 254, 0, 0], 16) {
    Some(range) => range,
    None => panic!("the range is written without host bits"),
};

/// The same in IPv6, where they are known: all of Amazon's, Google's, and OpenStack's.
const LINK_LOCAL_6: [Ipv6Range; 3] = [
    Ipv6Range { network: Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0), prefix: 32 },
    Ipv6Range { network: Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), prefix: 128 },
    Ipv6Range { network: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe), prefix: 128 },
];

const PUBLISHED: &str = "published";
const EGRESS_CHAIN: &str = "egress";
const EGRESS: &str = "egress_of";
const INGRESS: &str = "ingress_of";
const NAMESERVERS: &str = "nameservers";
const HOSTS: &str = "hosts";
const ROUTER_OUT: &str = "router_out";

/// What does not change while the table is ours.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) tag: NetTag,
    /// The addresses of endpoints with an interface of their own; the first is the primary range.
    pub(crate) ranges: Vec<Cidr>,
    pub(crate) bridge: Cidr,
    /// The host's own address towards endpoints.
    pub(crate) host: Ipv4Addr,
    /// Where on `host` the DNS relay listens.
    pub(crate) dns_port: u16,
    pub(crate) services: Vec<LocalService>,
    pub(crate) is_host_open: bool,
    pub(crate) is_link_local_open: bool,
    /// Whoever is in it and in the host's own network is judged too.
    pub(crate) tasks: Option<ControlGroup>,
    /// The link to other hosts, where this one has an address for them.
    pub(crate) overlay: Option<LinkName>,
    /// The VPC whose router the table is of; none in the host's own network.
    pub(crate) router: Option<VpcId>,
}

/// A control group of version 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlGroup {
    /// How far it is below the root.
    pub level: u32,
    pub id: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Ipv6Range {
    pub(crate) network: Ipv6Addr,
    pub(crate) prefix: u32,
}

impl Ipv6Range {
    pub(crate) fn mask(&self) -> Ipv6Addr {
        Ipv6Addr::from_bits(u128::MAX.checked_shl(128 - self.prefix).unwrap_or(0))
    }
}

impl Plan {
    pub(crate) fn contains(&self, address: Ipv4Addr) -> bool {
        self.ranges.iter().any(|range| range.contains(address))
    }

    /// The address that packets of this namespace's own carry to endpoints; a router sends none.
    pub(crate) fn own_address(&self) -> Option<Ipv4Addr> {
        self.router.is_none().then_some(self.host)
    }

    pub(crate) fn resolver(&self) -> Option<Ipv4Addr> {
        self.ranges.first()?.nth(2)
    }

    /// The link-local addresses at which something of ours answers; inside, they alone have a route.
    pub(crate) fn link_local_served(&self) -> impl Iterator<Item = Ipv4Addr> {
        let services = self.services.iter().map(|service| service.address);
        let served = services.chain([AMAZON_DNS]).filter(|address| LINK_LOCAL.contains(*address));
        served.filter(|_| !self.is_link_local_open)
    }
}

/// A TCP service of this machine that every endpoint sees at an address of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalService {
    /// Where endpoints see it, for instance 169.254.170.2 and 80.
    pub address: Ipv4Addr,
    pub port: u16,
    /// Where it listens on [`crate::Network::host_address`].
    pub listens_on: u16,
}

/// Everything that the table is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct World<'a> {
    pub(crate) groups: &'a KnownGroups,
    pub(crate) endpoints: &'a BTreeMap<crate::names::EndpointId, Endpoint>,
    /// Interfaces of other hosts, by their addresses.
    pub(crate) remotes: &'a BTreeMap<Ipv4Addr, Remote>,
    /// The addresses of those hosts.
    pub(crate) hosts: &'a BTreeSet<Ipv4Addr>,
    /// Interfaces of other VPCs that a router leads to, with their groups.
    pub(crate) peered: &'a BTreeMap<Ipv4Addr, Vec<SecurityGroupId>>,
    /// What is known of VPCs.
    pub(crate) feed: &'a Feed,
}

/// The world as a worker knows it. No method of the worker's, whose table is changed meanwhile.
macro_rules! world_of {
    ($worker:expr) => {
        crate::ruleset::World {
            groups: &$worker.groups,
            endpoints: &$worker.endpoints,
            remotes: &$worker.overlay.remotes,
            hosts: &$worker.peers,
            peered: &$worker.peered,
            feed: &$worker.feed,
        }
    };
}
pub(crate) use world_of;

/// The groups of which rules are known; `None` before anybody told of any.
pub(crate) type KnownGroups = Option<BTreeMap<SecurityGroupId, SecurityGroup>>;

impl World<'_> {
    /// A group that nobody told of lets nothing pass, once there was somebody who tells.
    fn group(&self, id: &SecurityGroupId) -> SecurityGroup {
        match self.groups {
            None => SecurityGroup::default_rules(id.clone()),
            Some(known) => {
                known.get(id).cloned().unwrap_or_else(|| SecurityGroup::closed(id.clone()))
            }
        }
    }
}

/// Mirrors which groups and combinations of groups have chains in the kernel.
#[derive(Debug)]
pub(crate) struct Table {
    plan: Plan,
    /// Groups whose members are known by address, because a rule or an interface names them.
    sets: BTreeSet<SecurityGroupId>,
    /// Groups whose rules are there, because an interface has them.
    chains: BTreeSet<SecurityGroupId>,
    combinations: BTreeMap<Vec<SecurityGroupId>, u32>,
    /// Whether maps are there of endpoints in default VPCs that were changed, and which endpoints are in them.
    is_plane_judged: bool,
    judged: Judged,
    members: Members,
}

impl Table {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            plan,
            sets: BTreeSet::new(),
            chains: BTreeSet::new(),
            combinations: BTreeMap::new(),
            is_plane_judged: false,
            judged: Judged::new(),
            members: Members::new(),
        }
    }

    pub(crate) fn batch(&self) -> Batch {
        Batch::new(self.plan.tag.table())
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// A VPC's ranges may become more.
    pub(crate) fn set_ranges(&mut self, ranges: Vec<Cidr>) {
        self.plan.ranges = ranges;
    }

    /// What the table of a VPC's router is made with.
    pub(crate) fn router_plan(&self, vpc: &traffic::feed::Vpc) -> Plan {
        Plan {
            ranges: vpc.ranges.clone(),
            tasks: None,
            router: Some(vpc.id.clone()),
            ..self.plan.clone()
        }
    }

    /// Where the kernel cannot tell whose a packet is; whether it was asked to.
    pub(crate) fn without_tasks(&mut self) -> bool {
        self.plan.tasks.take().is_some()
    }

    /// Who is in the host's network and is to be kept from what is for the host alone.
    fn walled_tasks(&self) -> Option<ControlGroup> {
        self.plan.tasks.filter(|_| !self.plan.is_link_local_open)
    }

    /// The whole table afresh, in place of whatever is there. Where it is said what that is, no packet is dropped by it.
    pub(crate) fn replace(&mut self, world: World<'_>, there: Option<Remains>) -> Batch {
        let mut batch = self.batch();
        self.sets.clear();
        self.chains.clear();
        self.combinations.clear();
        match there {
            Some(there) => batch.renew_table(there),
            None => batch.replace_table(),
        }
        if let Some(vpc) = self.plan.router.clone() {
            self.add_router(&mut batch, world, &vpc);
            return batch;
        }
        batch.add_map(PUBLISHED, DataType::ProtocolAndPort, DataType::AddressAndPort);
        batch.add_map(EGRESS, DataType::Address, DataType::Verdict);
        batch.add_map(INGRESS, DataType::Address, DataType::Verdict);
        batch.add_set(NAMESERVERS, DataType::Address);
        batch.add_elements(NAMESERVERS, &self.nameservers());
        batch.add_set(HOSTS, DataType::Address);
        Self::add_hosts(&mut batch, world.hosts);
        self.add_guard(&mut batch);
        self.add_bridge_ingress(&mut batch);
        self.add_router_egress(&mut batch);
        self.add_filters(&mut batch);
        self.add_input(&mut batch);
        self.add_output(&mut batch);
        self.add_plane(&mut batch, world);
        self.add_translation(&mut batch);
        let endpoints: Vec<&Endpoint> = world.endpoints.values().collect();
        self.add_endpoints(&mut batch, world, &endpoints);
        batch
    }

    /// Adds what `endpoints` need; chains of groups seen for the first time included.
    pub(crate) fn add_endpoints(
        &mut self,
        batch: &mut Batch,
        world: World<'_>,
        endpoints: &[&Endpoint],
    ) {
        for endpoint in endpoints {
            if let Role::Eni { groups } = &endpoint.role {
                self.ensure_combination(batch, world, groups);
            }
        }
        let (mut egress, mut ingress) = (Vec::new(), Vec::new());
        let mut members: BTreeMap<&SecurityGroupId, Vec<Element>> = BTreeMap::new();
        let mut published = Vec::new();
        for endpoint in endpoints {
            egress.push(verdict_element(endpoint.address, self.egress_verdict(endpoint)));
            ingress.push(verdict_element(endpoint.address, self.ingress_verdict(endpoint)));
            for public in endpoint.publics() {
                egress.push(verdict_element(*public, self.egress_verdict(endpoint)));
                ingress.push(verdict_element(*public, Verdict::Accept));
            }
            for group in endpoint.groups() {
                members.entry(group).or_default().push(address_element(endpoint.address));
            }
            published.extend(endpoint.bindings().iter().map(|it| published_element(endpoint, it)));
        }
        batch.add_elements(EGRESS, &egress);
        batch.add_elements(INGRESS, &ingress);
        for (map, elements) in self.router_elements(world, endpoints) {
            batch.add_elements(map, &elements);
        }
        for (map, elements) in self.judge(world, endpoints) {
            batch.add_elements(map, &elements);
        }
        for (group, elements) in members {
            batch.add_elements(&members_set(group), &elements);
        }
        batch.add_elements(PUBLISHED, &published);
    }

    /// Removes what `endpoints` had. Chains of their groups stay until the table is replaced.
    pub(crate) fn remove_endpoints(
        &mut self,
        batch: &mut Batch,
        world: World<'_>,
        endpoints: &[&Endpoint],
    ) {
        let (mut egress, mut ingress, mut published) = (Vec::new(), Vec::new(), Vec::new());
        let mut members: BTreeMap<&SecurityGroupId, Vec<Element>> = BTreeMap::new();
        for endpoint in endpoints {
            egress.push(verdict_element(endpoint.address, self.egress_verdict(endpoint)));
            ingress.push(verdict_element(endpoint.address, self.ingress_verdict(endpoint)));
            for public in endpoint.publics() {
                egress.push(verdict_element(*public, self.egress_verdict(endpoint)));
                ingress.push(verdict_element(*public, Verdict::Accept));
            }
            for group in endpoint.groups() {
                members.entry(group).or_default().push(address_element(endpoint.address));
            }
            published.extend(endpoint.bindings().iter().map(|it| published_element(endpoint, it)));
        }
        for (map, elements) in self.router_elements(world, endpoints) {
            batch.delete_elements(map, &elements);
        }
        for (map, elements) in self.judge_no_more(endpoints) {
            batch.delete_elements(map, &elements);
        }
        batch.delete_elements(PUBLISHED, &published);
        for (group, elements) in members {
            batch.delete_elements(&members_set(group), &elements);
        }
        batch.delete_elements(INGRESS, &ingress);
        batch.delete_elements(EGRESS, &egress);
    }

    pub(crate) fn publish(batch: &mut Batch, endpoint: &Endpoint, bindings: &[Binding]) {
        let elements: Vec<_> =
            bindings.iter().map(|binding| published_element(endpoint, binding)).collect();
        batch.add_elements(PUBLISHED, &elements);
    }

    fn nameservers(&self) -> Vec<Element> {
        let vpc_dns = self.plan.resolver();
        [Some(AMAZON_DNS), vpc_dns, Some(self.plan.host)]
            .into_iter()
            .flatten()
            .map(address_element)
            .collect()
    }

    fn links(&self) -> String {
        self.plan.tag.link_prefix()
    }

    /// Before anything else is made of a packet: drops what lies about its source.
    fn add_guard(&self, batch: &mut Batch) {
        let links = self.links();
        let ours = || Rule::new().incoming(&links, true);
        batch.add_base_chain("guard", filter(HookNumber::Prerouting, -300));
        let loopback = Cidr::new(Ipv4Addr::LOCALHOST, 8).expect("8 bits are a prefix");
        self.add_overlay_guard(batch);
        let others = Rule::new().incoming(&links, false).then(Verdict::Accept);
        let rules = [
            others,
            ours().ipv4(false).counted().then(Verdict::Drop),
            // They could ask for another way than the one that is judged here.
            ours().has_options().counted().then(Verdict::Drop),
            ours().spoofed().counted().then(Verdict::Drop),
            ours().destination_in(loopback, true).counted().then(Verdict::Drop),
        ];
        rules.iter().for_each(|rule| batch.add_rule("guard", rule.exprs()));
    }

    /// What a bridged container lets in: published ports, and its like.
    fn add_bridge_ingress(&self, batch: &mut Batch) {
        batch.add_chain("bridge_in");
        let like = Rule::new().incoming(&self.links(), true).source_in(self.plan.bridge, true);
        let rules = [
            Rule::new().was_redirected().then(Verdict::Accept),
            like.then(Verdict::Accept),
            Rule::new().counted().then(Verdict::Drop),
        ];
        rules.iter().for_each(|rule| batch.add_rule("bridge_in", rule.exprs()));
    }

    fn add_filters(&self, batch: &mut Batch) {
        let links = self.links();
        batch.add_base_chain(EGRESS_CHAIN, filter(HookNumber::Forward, -2));
        batch.add_base_chain("ingress", filter(HookNumber::Forward, 0));
        let not_from_us = Rule::new().incoming(&links, false).then(Verdict::Accept);
        let not_to_us = Rule::new().outgoing(&links, false).then(Verdict::Accept);
        for (chain, others) in [(EGRESS_CHAIN, not_from_us), ("ingress", not_to_us)] {
            let by_endpoint = match chain {
                EGRESS_CHAIN => Rule::new().source_verdict(EGRESS),
                _ => Rule::new().destination_verdict(INGRESS),
            };
            let mut rules = vec![others, Rule::new().ipv4(false).counted().then(Verdict::Drop)];
            if chain == EGRESS_CHAIN {
                rules.splice(0..0, self.overlay_passage());
                rules.extend(self.overlay_forgery());
                rules.extend(self.link_local_refusal());
            }
            rules.extend([
                Rule::new().established().then(Verdict::Accept),
                Rule::new().invalid().counted().then(Verdict::Drop),
                by_endpoint,
                Rule::new().counted().then(Verdict::Drop),
            ]);
            rules.iter().for_each(|rule| batch.add_rule(chain, rule.exprs()));
        }
    }

    /// What is asked of one of our own link-local services has another destination by the time that it
    /// is judged. So the rest is refused, before connections that are known are let pass.
    fn link_local_refusal(&self) -> Option<Rule> {
        let asked = Rule::new().incoming(&self.links(), true).destination_in(LINK_LOCAL, true);
        (!self.plan.is_link_local_open).then(|| asked.counted().refuse())
    }

    /// What endpoints may ask of the host, and that nobody else reaches what is meant for them.
    fn add_input(&self, batch: &mut Batch) {
        let links = self.links();
        let ours = || Rule::new().incoming(&links, true);
        batch.add_base_chain("input", filter(HookNumber::Input, 0));
        let mut rules = self.overlay_input();
        rules.extend(self.link_local_refusal());
        rules.extend([
            ours().established().then(Verdict::Accept),
            ours().was_redirected().then(Verdict::Accept),
            ours().protocol(ICMP).icmp(8, None).then(Verdict::Accept),
        ]);
        let host = Cidr::host(self.plan.host);
        // Asked at the very address where it listens, the relay is reached without a translation.
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let dns = ours().destination_in(host, true).protocol(protocol.number());
            let port = self.plan.dns_port;
            rules.push(dns.ports(&(port..=port)).then(Verdict::Accept));
        }
        if self.plan.is_link_local_open {
            rules.push(ours().destination_in(LINK_LOCAL, true).then(Verdict::Accept));
        }
        if self.plan.is_host_open {
            rules.push(ours().source_in(self.plan.bridge, true).then(Verdict::Accept));
        }
        rules.push(ours().counted().refuse());
        rules.push(
            Rule::new()
                .ipv4(true)
                .incoming(&links, false)
                .incoming_exactly("lo", false)
                .destination_in(host, true)
                .counted()
                .then(Verdict::Drop),
        );
        rules.iter().for_each(|rule| batch.add_rule("input", rule.exprs()));
    }

    /// What tasks in the host's own network may not ask for. Options could ask for another way than the
    /// one that is judged.
    fn add_output(&self, batch: &mut Batch) {
        let Some(tasks) = self.plan.tasks else { return };
        let four = || Rule::new().ipv4(true);
        // The way to other hosts stays shut to them where the host's own services are opened.
        let mut rules = Vec::from_iter(self.to_hosts_by_tunnel());
        if self.walled_tasks().is_some() {
            rules.extend([four().destination_in(LINK_LOCAL, true), four().has_options()]);
            rules.extend(LINK_LOCAL_6.iter().map(|net| Rule::new().destination_in_6(net)));
        }
        if rules.is_empty() {
            return;
        }
        batch.add_base_chain("output", filter(HookNumber::Output, 0));
        for rule in rules {
            batch.add_rule("output", rule.sent_by(tasks).counted().refuse().exprs());
        }
    }

    fn ensure_combination(
        &mut self,
        batch: &mut Batch,
        world: World<'_>,
        groups: &[SecurityGroupId],
    ) {
        if groups.is_empty() || self.combinations.contains_key(groups) {
            return;
        }
        for group in groups {
            self.ensure_group(batch, world, group);
        }
        let number = u32::try_from(self.combinations.len()).expect("fewer than endpoints");
        self.combinations.insert(groups.to_vec(), number);
        for (chain, direction) in [(combination_in(number), "in"), (combination_out(number), "out")]
        {
            batch.add_chain(&chain);
            for group in groups {
                let jump = Verdict::Jump(group_chain(group, direction));
                batch.add_rule(&chain, Rule::new().then(jump).exprs());
            }
            batch.add_rule(&chain, Rule::new().counted().then(Verdict::Drop).exprs());
        }
    }

    fn ensure_group(&mut self, batch: &mut Batch, world: World<'_>, id: &SecurityGroupId) {
        if !self.chains.insert(id.clone()) {
            return;
        }
        for direction in ["in", "out"] {
            batch.add_chain(&group_chain(id, direction));
        }
        self.fill_group(batch, world, id);
    }

    /// Gives groups the rules that they have by now, in place of those of before. Members and combinations
    /// stay; a group that no interface has is left for when one has.
    pub(crate) fn change_groups<'g>(
        &mut self,
        batch: &mut Batch,
        world: World<'_>,
        changed: impl IntoIterator<Item = &'g SecurityGroupId>,
    ) {
        for id in changed {
            if self.chains.contains(id) {
                for direction in ["in", "out"] {
                    batch.flush_chain(&group_chain(id, direction));
                }
                self.fill_group(batch, world, id);
            }
        }
    }

    fn fill_group(&mut self, batch: &mut Batch, world: World<'_>, id: &SecurityGroupId) {
        let group = world.group(id);
        // A group that has members has its set already, by its own chains.
        for named in group.peers().chain([id]) {
            if self.sets.insert(named.clone()) {
                batch.add_set(&members_set(named), DataType::Address);
                let remotes = world.remotes.iter().filter(|(_, it)| it.groups.contains(named));
                let peered = world.peered.iter().filter(|(_, groups)| groups.contains(named));
                let others = remotes.map(|(at, _)| at).chain(peered.map(|(at, _)| at));
                let remotes: Vec<_> = others.map(|at| address_element(*at)).collect();
                batch.add_elements(&members_set(named), &remotes);
            }
        }
        let directions = [("in", &group.ingress), ("out", &group.egress)];
        for (direction, rules) in directions {
            let chain = group_chain(id, direction);
            for rule in rules {
                batch.add_rule(&chain, group_rule(rule, direction == "in").exprs());
            }
        }
    }

    fn egress_verdict(&self, endpoint: &Endpoint) -> Verdict {
        match &endpoint.role {
            Role::Bridge { .. } => Verdict::Accept,
            Role::Router { .. } => Verdict::Goto(ROUTER_OUT.to_owned()),
            Role::Eni { groups } => match self.combinations.get(groups) {
                Some(number) => Verdict::Goto(combination_out(*number)),
                None => Verdict::Accept,
            },
        }
    }

    fn ingress_verdict(&self, endpoint: &Endpoint) -> Verdict {
        match &endpoint.role {
            Role::Bridge { .. } => Verdict::Goto("bridge_in".to_owned()),
            Role::Router { .. } => Verdict::Drop,
            Role::Eni { groups } => match self.combinations.get(groups) {
                Some(number) => Verdict::Goto(combination_in(*number)),
                // A network balancer may have no groups, and is open to its VPC then.
                None if endpoint.id.is_balancers() => Verdict::Accept,
                None => Verdict::Drop,
            },
        }
    }
}

fn filter(number: HookNumber, priority: i32) -> Hook {
    Hook { kind: "filter", number, priority }
}

fn group_rule(rule: &GroupRule, is_ingress: bool) -> Rule {
    let matched = match (&rule.peer, is_ingress) {
        (Peer::Network(net), true) => Rule::new().source_in(*net, true),
        (Peer::Network(net), false) => Rule::new().destination_in(*net, true),
        (Peer::Group(group), true) => Rule::new().source_in_set(&members_set(group)),
        (Peer::Group(group), false) => Rule::new().destination_in_set(&members_set(group)),
    };
    carries(matched, &rule.traffic).then(Verdict::Accept)
}

fn carries(rule: Rule, traffic: &Traffic) -> Rule {
    match traffic {
        Traffic::All => rule,
        Traffic::Tcp(ports) => rule.protocol(Protocol::Tcp.number()).ports(ports),
        Traffic::Udp(ports) => rule.protocol(Protocol::Udp.number()).ports(ports),
        Traffic::Icmp(None) => rule.protocol(ICMP),
        Traffic::Icmp(Some((kind, code))) => rule.protocol(ICMP).icmp(*kind, *code),
        Traffic::Protocol(number) => rule.protocol(*number),
    }
}

fn address_element(address: Ipv4Addr) -> Element {
    Element { key: address.octets().to_vec(), value: None }
}

fn verdict_element(address: Ipv4Addr, verdict: Verdict) -> Element {
    Element { key: address.octets().to_vec(), value: Some(Value::Verdict(verdict)) }
}

/// Names of chains and sets keep to letters, digits and underscores, which `nft` reads unquoted.
fn group_chain(group: &SecurityGroupId, direction: &str) -> String {
    format!("{}_{direction}", group.as_str().replace('-', "_"))
}

fn members_set(group: &SecurityGroupId) -> String {
    format!("members_{}", group.as_str().replace('-', "_"))
}

fn combination_in(number: u32) -> String {
    format!("groups_{number}_in")
}

fn combination_out(number: u32) -> String {
    format!("groups_{number}_out")
}
