//! Whether a connection between two ends is let through, and by what: what the hosts do with its first packet, said
//! from rows.
//!
//! In a VPC with addresses of its own the way is [`Feed::path_from`], from the same copy that hosts are told and compile
//! routes and filters from; so it is in a default VPC that was changed. In one that is as it came, whose way out is the
//! host's, the groups of both ends are asked.

use std::net::Ipv4Addr;
use std::sync::Arc;

use longshore_types::{
    AccountId, Cidr, NetworkAclId, RegionName, RouteTableId, SecurityGroupId, SecurityGroupRuleId,
    VpcId,
};
use model::network::Network;
use model::vpc::{AddressPlan, AddressPlanId, Interface, InterfaceId, region_account};
use model::{Key, View, WholeGroup, view::Index};
use traffic::feed::{Feed, Place};
use traffic::path::{self, AnswersPart, Groups, Way};
use traffic::{Content, Direction, Packet, judge};

use crate::network_feed;

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// An interface of the account.
    Interface(Arc<Interface>),
    /// What is no interface of the account.
    Address(Ipv4Addr),
}

/// One place on the way, and what becomes of the packet there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The groups of an interface.
    Groups { interface: Arc<Interface>, direction: Direction, outcome: Outcome },
    /// The network ACL of an interface's subnet.
    Acl {
        interface: Arc<Interface>,
        acl: Option<NetworkAclId>,
        direction: Direction,
        /// The number of the entry that fits; none fits: it is dropped.
        entry: Option<u16>,
        passes: bool,
    },
    /// Where an interface's packets are led.
    Route { from: Arc<Interface>, table: Option<RouteTableId>, way: Way },
    /// Where the answers of an interface that is reached from outside are led.
    Back { from: Arc<Interface>, table: Option<RouteTableId>, way: Way },
    /// What the network ACL of an interface's subnet makes of the answers, which it judges as any packet.
    Answers {
        interface: Arc<Interface>,
        acl: NetworkAclId,
        direction: Direction,
        parts: Vec<AnswersPart>,
    },
    /// The interface has no address by which anybody outside its VPC knows it.
    NoPublicAddress(Arc<Interface>),
}

/// What an interface's groups make of the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This rule of this group lets it pass.
    Passes { group: SecurityGroupId, rule: SecurityGroupRuleId },
    /// None of these groups has a rule for it.
    Dropped { groups: Vec<SecurityGroupId> },
}

impl Step {
    pub fn passes(&self) -> bool {
        match self {
            Self::Groups { outcome: Outcome::Passes { .. }, .. } => true,
            Self::Groups { outcome: Outcome::Dropped { .. }, .. } | Self::NoPublicAddress(_) => {
                false
            }
            Self::Acl { passes, .. } => *passes,
            Self::Route { way, .. } => way.leads(),
            Self::Back { way, .. } => matches!(way, Way::Internet { .. } | Way::Peer { .. }),
            Self::Answers { parts, .. } => parts.iter().any(|part| part.passes),
        }
    }
}

impl End {
    pub fn interface(&self) -> Option<&Arc<Interface>> {
        match self {
            Self::Interface(interface) => Some(interface),
            Self::Address(_) => None,
        }
    }
}

/// The account's interfaces at an address, private or public: several VPCs may have the same.
pub fn interfaces_at(view: &View, account: AccountId, address: Ipv4Addr) -> Vec<Arc<Interface>> {
    let apart = view.vpcs.of(account).map(|row| InterfaceId { vpc: Some(row.id.clone()), address });
    let private = apart.chain([InterfaceId::shared(address)]);
    let mut ids: Vec<InterfaceId> = private.collect();
    for key in view.members(&Index::PublicAddress(address)) {
        if let Key::Interface(_, id) = key {
            ids.push(id.clone());
        }
        if let Key::ElasticAddress(owner, id) = key {
            let row = view.elastic_addresses.get(*owner, id);
            let its = row.and_then(|row| row.association.as_ref());
            ids.extend(
                its.map(|it| InterfaceId { vpc: Some(it.vpc.clone()), address: it.private }),
            );
        }
    }
    let rows = ids.iter().filter_map(|id| view.interfaces.get(region_account(), id));
    rows.filter(|row| row.owner.account == account).cloned().collect()
}

/// The way of the packet that opens a connection and what stops its answers, up to where something is dropped; empty if
/// neither end is the account's.
pub fn explain(
    view: &View,
    region: &RegionName,
    account: AccountId,
    [from, to]: [&End; 2],
    content: Content,
) -> Vec<Step> {
    let network = Network::new(view, account, region);
    let asked = Asked { view, network, account, region };
    let mut steps = Vec::new();
    let left = match from {
        End::Address(address) => Left { source: *address, answers: Vec::new() },
        End::Interface(from) => match asked.leave(from, to, content, &mut steps) {
            Some(left) => left,
            None => return steps,
        },
    };
    if let End::Interface(to) = to {
        if let Some(Step::Route { from, way: Way::Peer { .. }, .. }) = steps.last() {
            let from = from.clone();
            asked.arrive_from_peer(&from, to, content, &mut steps);
        } else {
            let is_inside = from.interface().is_some_and(|from| is_one_vpc(from, to));
            if !(is_inside && asked.has_ways(to)) {
                asked.arrive(left.source, to, content, &mut steps);
            }
        }
    }
    go_on(&mut steps, left.answers);
    steps
}

/// Takes further steps, until one lets nothing pass.
fn go_on(steps: &mut Vec<Step>, further: impl IntoIterator<Item = Step>) {
    for step in further {
        if steps.last().is_some_and(|last| !last.passes()) {
            return;
        }
        steps.push(step);
    }
}

/// A packet that has left its sender's VPC, or came to the other end in it.
struct Left {
    source: Ipv4Addr,
    /// What the ACLs on the way make of its answers.
    answers: Vec<Step>,
}

fn is_one_vpc(one: &Interface, other: &Interface) -> bool {
    one.is_apart == other.is_apart && (!one.is_apart || one.vpc == other.vpc)
}

struct Asked<'v> {
    view: &'v View,
    network: Network<'v>,
    account: AccountId,
    region: &'v RegionName,
}

impl Asked<'_> {
    /// Leads the packet out of its sender's VPC, or all the way if the other end is in it. Answers its source then, if it
    /// is not dropped.
    fn leave(
        &self,
        from: &Arc<Interface>,
        to: &End,
        content: Content,
        steps: &mut Vec<Step>,
    ) -> Option<Left> {
        let destination = match to {
            End::Address(address) => *address,
            End::Interface(to) if is_one_vpc(from, to) || self.is_by_peering(from, to) => {
                to.address
            }
            End::Interface(to) => {
                let public = self.public_of(to);
                if public.is_none() {
                    steps.push(Step::NoPublicAddress(to.clone()));
                }
                public?
            }
        };
        let packet = Packet { source: from.address, destination, content };
        if !self.has_ways(from) {
            steps.push(self.groups(from, Direction::Out, &packet));
            let passes = steps.iter().all(Step::passes);
            return passes.then(|| Left { source: from.address, answers: Vec::new() });
        }
        let (feed, groups) = self.vpc(&from.vpc);
        let sender = self.told(from);
        let path = feed.path_from(&groups, &sender, &packet);
        let answers = self.answers(&feed, &path, &packet, from);
        steps.extend(path.into_iter().map(|step| self.step(step, from)));
        let leaves = |step: &Step| {
            let Step::Route { way, .. } = step else { return None };
            way.public()
        };
        let passes = steps.iter().all(Step::passes);
        let source = steps.iter().find_map(leaves).unwrap_or(from.address);
        passes.then_some(Left { source, answers })
    }

    /// Whether an interface of another VPC is meant by its own address: where a connection leads there, or would be the
    /// only way.
    fn is_by_peering(&self, from: &Interface, to: &Interface) -> bool {
        if !(from.is_apart && to.is_apart) {
            return false;
        }
        let (feed, _) = self.vpc(&from.vpc);
        let sender = network_feed::interface(self.view, from, &from.vpc, Place::Here);
        let peering = self.view.peering_between(self.account, &from.vpc, &to.vpc);
        if let Way::Peer { to: found, .. } = feed.way_out(&sender, to.address) {
            return found.id == to.eni;
        }
        peering.is_some() && self.public_of(to).is_none()
    }

    /// Leads a packet to an interface over a connection of its VPC with another.
    fn arrive_from_peer(
        &self,
        from: &Arc<Interface>,
        to: &Arc<Interface>,
        content: Content,
        steps: &mut Vec<Step>,
    ) {
        let packet = Packet { source: from.address, destination: to.address, content };
        let (feed, groups) = self.vpc(&to.vpc);
        let receiver = network_feed::interface(self.view, to, &to.vpc, Place::Here);
        let path = feed.path_from_peer(&groups, &receiver, &packet);
        let answers = self.answers(&feed, &path, &packet, to);
        let path: Vec<Step> = path.into_iter().map(|step| self.step(step, to)).collect();
        let table = feed.subnet_of(&receiver).map(|subnet| subnet.table.clone());
        let way = feed.way_out(&receiver, from.address);
        let back = Step::Back { from: to.clone(), table, way };
        go_on(steps, path.into_iter().chain(answers).chain([back]));
    }

    /// Leads a packet from outside its VPC to an interface.
    fn arrive(
        &self,
        source: Ipv4Addr,
        to: &Arc<Interface>,
        content: Content,
        steps: &mut Vec<Step>,
    ) {
        let packet = Packet { source, destination: to.address, content };
        // Bridged containers are the host's, about whose packets neither tables nor ACLs are asked.
        let is_bridged = !to.is_apart && self.is_in_plan(source, |plan| plan.bridge);
        if is_bridged || !self.has_ways(to) {
            steps.push(self.groups(to, Direction::In, &packet));
            return;
        }
        if self.public_of(to).is_none() {
            steps.push(Step::NoPublicAddress(to.clone()));
            return;
        }
        let (feed, groups) = self.vpc(&to.vpc);
        let receiver = self.told(to);
        let path = feed.path_to(&groups, &receiver, &packet);
        let answers = self.answers(&feed, &path, &packet, to);
        let path: Vec<Step> = path.into_iter().map(|step| self.step(step, to)).collect();
        // Within what all default VPCs share answers need no way out.
        let is_near = !to.is_apart && self.is_in_plan(source, |plan| Some(plan.block));
        let back = (!is_near).then(|| {
            let table = feed.subnet_of(&receiver).map(|subnet| subnet.table.clone());
            let way = feed.way_out(&receiver, source);
            Step::Back { from: to.clone(), table, way }
        });
        go_on(steps, path.into_iter().chain(answers).chain(back));
    }

    /// Whether an address is in a range of the region's plan.
    fn is_in_plan(&self, address: Ipv4Addr, range: fn(&AddressPlan) -> Option<Cidr>) -> bool {
        let plan = self.view.address_plans.get(region_account(), &AddressPlanId);
        plan.and_then(|plan| range(plan)).is_some_and(|range| range.contains(address))
    }

    /// Whether route tables and network ACLs are asked about an interface's packets.
    fn has_ways(&self, interface: &Interface) -> bool {
        interface.is_apart || network_feed::is_judged(&self.network, &interface.vpc)
    }

    fn told(&self, row: &Interface) -> traffic::feed::Interface {
        let told = network_feed::interface(self.view, row, &row.vpc, Place::Here);
        let public = if row.is_apart { told.public } else { Some(row.address) };
        traffic::feed::Interface { public, ..told }
    }

    /// The interfaces in a VPC.
    fn interfaces(&self, vpc: &VpcId) -> Vec<&Arc<Interface>> {
        let subnets = self.network.subnets_of(vpc);
        let indexes = subnets.iter().map(|it| Index::SubnetInterfaces(self.account, it.id.clone()));
        let keys = indexes.flat_map(|index| self.view.members(&index));
        let rows = keys.filter_map(|key| {
            let Key::Interface(owner, id) = key else { return None };
            self.view.interfaces.get(*owner, id)
        });
        rows.collect()
    }

    /// In the default VPC an interface is known outside by its own address.
    fn public_of(&self, to: &Interface) -> Option<Ipv4Addr> {
        if to.is_apart { self.view.public_address_of(to) } else { Some(to.address) }
    }

    /// What hosts are told of a VPC, and the groups of its interfaces.
    fn vpc(&self, id: &VpcId) -> (Feed, Groups) {
        // Others have no host, and nobody answers there.
        let place =
            |row: &Interface| (row.task().is_some() || row.is_at_home()).then_some(Place::Here);
        let of = (self.account, self.region);
        let peers = network_feed::peers_of(self.view, of, id, place);
        let own = network_feed::items_of(&self.network, id);
        let mut feed: Feed = peers.into_iter().chain(own).collect();
        let mut groups = Groups::new();
        for row in self.interfaces(id) {
            if place(row).is_some() {
                feed.put(traffic::feed::Item::Interface(self.told(row)));
            }
            for group in &row.security_groups {
                if let Some(whole) = self.view.security_group(self.account, group) {
                    groups.insert(group.clone(), whole.compile());
                }
            }
        }
        (feed, groups)
    }

    /// A step of a path that begins or ends at `near`.
    fn step(&self, step: path::Step, near: &Arc<Interface>) -> Step {
        match step {
            path::Step::Groups { interface, direction, admitted } => {
                let id = self.id_of(&interface);
                let row = self.view.interfaces.get(region_account(), &id).unwrap_or(near);
                let rule = admitted.and_then(|(group, place)| self.rule(group, direction, place));
                let dropped = || Outcome::Dropped { groups: interface.groups.clone() };
                let outcome = rule.unwrap_or_else(dropped);
                Step::Groups { interface: row.clone(), direction, outcome }
            }
            path::Step::Acl { interface, acl, direction, entry, passes } => {
                let id = self.id_of(&interface);
                let row = self.view.interfaces.get(region_account(), &id).unwrap_or(near);
                Step::Acl { interface: row.clone(), acl, direction, entry, passes }
            }
            path::Step::Route { table, way } => Step::Route { from: near.clone(), table, way },
        }
    }

    /// What the ACLs of a path that begins or ends at `near` make of the answers.
    fn answers(
        &self,
        feed: &Feed,
        path: &[path::Step],
        packet: &Packet,
        near: &Arc<Interface>,
    ) -> Vec<Step> {
        let answers = feed.answers(path, packet).into_iter();
        let step = |path::Answers { interface, acl, direction, parts }| {
            let id = self.id_of(&interface);
            let row = self.view.interfaces.get(region_account(), &id).unwrap_or(near);
            Step::Answers { interface: row.clone(), acl, direction, parts }
        };
        answers.map(step).collect()
    }

    fn id_of(&self, told: &traffic::feed::Interface) -> InterfaceId {
        let vpc = self.view.own_vpc(self.account, &told.vpc);
        InterfaceId { vpc, address: told.address }
    }

    fn rule(&self, group: SecurityGroupId, direction: Direction, place: usize) -> Option<Outcome> {
        let whole = self.view.security_group(self.account, &group)?;
        let rule = whole.compiled_rule(direction == Direction::Out, place)?.id.clone();
        Some(Outcome::Passes { group, rule })
    }

    /// What the groups of an interface of the default VPC make of a packet.
    fn groups(&self, interface: &Arc<Interface>, direction: Direction, packet: &Packet) -> Step {
        let groups = interface.security_groups.iter();
        let wholes: Vec<WholeGroup> =
            groups.filter_map(|group| self.view.security_group(self.account, group)).collect();
        let compiled: Vec<_> = wholes.iter().map(WholeGroup::compile).collect();
        let is_member = |group: &SecurityGroupId, address: Ipv4Addr| {
            let row = self.view.interfaces.get(region_account(), &InterfaceId::shared(address));
            let row = row.filter(|row| row.owner.account == self.account);
            row.is_some_and(|row| row.security_groups.contains(group))
        };
        let admitted = judge(&compiled, direction, packet, &is_member);
        let admitted = admitted.map(|it| (it.group.id.clone(), it.rule));
        let rule = admitted.and_then(|(group, place)| self.rule(group, direction, place));
        let dropped = || Outcome::Dropped { groups: interface.security_groups.clone() };
        Step::Groups {
            interface: interface.clone(),
            direction,
            outcome: rule.unwrap_or_else(dropped),
        }
    }
}

#[cfg(test)]
mod tests {
    use longshore_types::{Scope, Timestamp, Uuid};
    use model::network::{InternetGateway, Route, RouteTable, RouteTarget};
    use model::vpc::InterfaceUser;
    use model::{Row, RuleMatch, RulePeer, SecurityGroup, SecurityGroupRule, Seq};

    use super::*;
    use crate::network_feed::tests;

    struct World {
        view: View,
        account: AccountId,
        /// A VPC with addresses of its own, 10.0.0.0/16: its subnet 0 by the main table, subnet 1 by one without routes.
        vpc: VpcId,
        region: RegionName,
        default: SecurityGroup,
        seq: u64,
    }

    impl World {
        fn new() -> Self {
            let (view, vpc) = tests::view();
            let account = tests::account();
            let plan: &AddressPlan =
                view.address_plans.get(region_account(), &AddressPlanId).unwrap();
            let default = plan.default_group(account).group;
            let region = "us-east-1".parse().unwrap();
            Self { account, vpc, region, default, seq: 100, view }
        }

        fn put(&mut self, row: impl Into<Row>) {
            self.seq += 1;
            self.view.put(Seq(self.seq), &row.into());
        }

        fn interface(&mut self, address: &str, groups: &[&SecurityGroupId]) -> Interface {
            let address: Ipv4Addr = address.parse().unwrap();
            let [first, _, third, last] = address.octets();
            let is_apart = first == 10;
            let vpc = if is_apart { self.vpc.clone() } else { "vpc-12345678".parse().unwrap() };
            let row = Interface {
                address,
                eni: format!("eni-{first:02x}00{third:02x}{last:02x}").parse().unwrap(),
                owner: Scope { region: self.region.clone(), account: self.account },
                user: InterfaceUser::Task {
                    cluster: "demo".parse().unwrap(),
                    task: format!("{last:032x}").parse().unwrap(),
                    attachment: Uuid::from_random([last; 16]),
                },
                vpc,
                subnet: format!("subnet-0000000{third}").parse().unwrap(),
                security_groups: groups.iter().map(|group| (*group).clone()).collect(),
                zone: "us-east-1a".to_owned(),
                mac: String::new(),
                assign_public_ip: false,
                created_at: Timestamp(0),
                is_apart,
                public: None,
            };
            self.put(row.clone());
            row
        }

        /// A group of the own VPC or the default one, with a rule that lets a peer's packets to port 80 in.
        fn web(&mut self, id: &str, peer: RulePeer) -> SecurityGroupId {
            let web: SecurityGroupId = id.parse().unwrap();
            let name = "web".to_owned();
            self.put(SecurityGroup { id: web.clone(), name, ..self.default.clone() });
            let rules = [(false, RulePeer::Ipv6("::/0".to_owned()), 1), (false, peer, 2)];
            for (is_egress, peer, number) in rules {
                let rule: SecurityGroupRuleId =
                    format!("sgr-000{}{number:02x}", &id[8..]).parse().unwrap();
                self.put(SecurityGroupRule {
                    account: self.account,
                    id: rule,
                    group: web.clone(),
                    is_egress,
                    matches: RuleMatch { protocol: Some(6), ports: Some((80, 80)), peer },
                    description: None,
                });
            }
            web
        }

        /// Lets members of a group send to everybody.
        fn let_out(&mut self, group: &SecurityGroupId) {
            let anywhere = RulePeer::Ipv4("0.0.0.0/0".parse().unwrap());
            self.put(SecurityGroupRule {
                account: self.account,
                id: format!("sgr-0f{}", &group.as_str()[5..]).parse().unwrap(),
                group: group.clone(),
                is_egress: true,
                matches: RuleMatch { protocol: None, ports: None, peer: anywhere },
                description: None,
            });
        }

        fn asked(&self, from: &End, to: &End, port: u16) -> Vec<Step> {
            let content = Content::Tcp(port);
            explain(&self.view, &self.region, self.account, [from, to], content)
        }
    }

    fn end(row: &Interface) -> End {
        End::Interface(Arc::new(row.clone()))
    }

    fn outside() -> End {
        End::Address(Ipv4Addr::new(1, 1, 1, 1))
    }

    fn outcome(step: &Step) -> &Outcome {
        let Step::Groups { outcome, .. } = step else { panic!("no groups are asked: {step:?}") };
        outcome
    }

    #[test]
    fn a_connection_is_judged_at_both_ends_and_the_rule_that_lets_it_pass_is_named() {
        let mut world = World::new();
        let default = world.default.id.clone();
        let web = world.web("sg-00000001", RulePeer::Group(default.clone()));
        let [client, server] =
            [world.interface("172.31.0.10", &[&default]), world.interface("172.31.0.11", &[&web])]
                .map(|row| end(&row));
        let there = world.asked(&client, &server, 80);
        assert_eq!(there.len(), 2);
        assert!(there.iter().all(Step::passes));
        let admits = "sgr-00000102".parse().unwrap();
        assert_eq!(*outcome(&there[1]), Outcome::Passes { group: web.clone(), rule: admits });
        let other = world.asked(&client, &server, 81);
        assert_eq!(*outcome(&other[1]), Outcome::Dropped { groups: vec![web.clone()] });
        let back = world.asked(&server, &client, 80);
        let dropped = Outcome::Dropped { groups: vec![web] };
        assert_eq!(*outcome(&back[0]), dropped, "no rule lets it out");
        assert_eq!(back.len(), 1, "nothing is asked of what was dropped");
        assert_eq!(world.asked(&client, &outside(), 80).len(), 1, "the outside has no groups");
        assert_eq!(world.asked(&outside(), &outside(), 80), []);
    }

    #[test]
    fn in_a_vpc_of_its_own_routes_and_acls_are_asked_too() {
        let mut world = World::new();
        let ten = RulePeer::Ipv4("10.0.0.0/8".parse().unwrap());
        let web = world.web("sg-00000001", ten);
        world.let_out(&web);
        let near = world.interface("10.0.0.10", &[&web]);
        let far = world.interface("10.0.1.10", &[&web]);
        let path = world.asked(&end(&near), &end(&far), 80);
        assert!(path.iter().all(Step::passes), "{path:?}");
        assert_eq!(path.len(), 7, "groups, ACL, the local route, ACL, groups, two ACLs: {path:?}");
        let denied = world.asked(&end(&near), &end(&far), 81);
        assert_eq!(
            *outcome(denied.last().unwrap()),
            Outcome::Dropped { groups: vec![web.clone()] }
        );
        // The main table's gateway is not there, and the other has no routes.
        let out = world.asked(&end(&near), &outside(), 443);
        assert!(matches!(out.last().unwrap(), Step::Route { way: Way::Blackhole, .. }), "{out:?}");
        let out = world.asked(&end(&far), &outside(), 443);
        assert!(matches!(out.last().unwrap(), Step::Route { way: Way::NoRoute, .. }), "{out:?}");
        let nobody = End::Address(Ipv4Addr::new(10, 0, 0, 99));
        let out = world.asked(&end(&near), &nobody, 443);
        assert!(matches!(out.last().unwrap(), Step::Route { way: Way::Nobody, .. }), "{out:?}");
    }

    #[test]
    fn a_connection_whose_answers_an_acl_stops_is_not_let_through() {
        use model::network::{AclEntry, NetworkAcl};
        let mut world = World::new();
        let web = world.web("sg-00000001", RulePeer::Ipv4("0.0.0.0/0".parse().unwrap()));
        world.let_out(&web);
        let near = end(&world.interface("10.0.0.10", &[&web]));
        let far = end(&world.interface("10.0.1.10", &[&web]));
        let subnet = world.view.subnets.iter().find(|row| row.vpc == world.vpc).unwrap();
        let acl = world.view.network_acls.get(world.account, &subnet.acl.acl).unwrap();
        let acl = NetworkAcl::clone(acl);
        let mut inward = AclEntry::all(false, 100);
        (inward.protocol, inward.ports) = (Some(6), Some((80, 80)));
        let with = |entries: Vec<AclEntry>| NetworkAcl { entries, ..acl.clone() };
        world.put(with(vec![inward.clone(), AclEntry::all(true, 100)]));
        let path = world.asked(&near, &far, 80);
        assert_eq!(path.len(), 7, "{path:?}");
        let Step::Answers { direction: Direction::In, interface, parts, .. } = &path[6] else {
            panic!("{path:?}")
        };
        assert_eq!(Some(interface), near.interface());
        assert!(!path[6].passes() && parts.len() == 1, "{parts:?}");
        let mut answers = inward.clone();
        (answers.number, answers.ports) = (110, Some((32_768, 60_999)));
        world.put(with(vec![inward.clone(), answers, AclEntry::all(true, 100)]));
        let path = world.asked(&near, &far, 80);
        assert!(path.iter().all(Step::passes), "{path:?}");
        let Step::Answers { parts, .. } = &path[6] else { panic!("{path:?}") };
        let passing: Vec<_> = parts.iter().filter(|part| part.passes).collect();
        assert_eq!(passing[0].ports, Some(32_768..=60_999));
        // What may not leave again is stopped where it begins.
        let mut outward = inward.clone();
        outward.is_egress = true;
        world.put(with(vec![AclEntry::all(false, 100), outward]));
        let path = world.asked(&near, &far, 80);
        assert_eq!(path.len(), 6, "{path:?}");
        assert!(matches!(&path[5], Step::Answers { direction: Direction::Out, .. }));
        assert!(!path[5].passes());
    }

    #[test]
    fn over_a_connection_both_vpcs_are_asked_and_the_way_back_too() {
        use model::network::{PeeringEnd, PeeringState, SubnetRow, VpcPeering, VpcRow};
        let mut world = World::new();
        let mut peer =
            VpcRow::clone(world.view.vpcs.get(world.account, &world.vpc.clone()).unwrap());
        peer.id = "vpc-0123456789abcdef1".parse().unwrap();
        peer.first.block = "10.9.0.0/16".parse().unwrap();
        let table = world.view.route_tables.get(world.account, &peer.main_table).unwrap();
        let mut near = RouteTable::clone(table);
        let mut far = near.clone();
        (far.id, far.vpc) = ("rtb-00000009".parse().unwrap(), peer.id.clone());
        peer.main_table = far.id.clone();
        let subnets: Vec<SubnetRow> =
            world.view.subnets.iter().map(|row| SubnetRow::clone(row)).collect();
        let template = subnets.into_iter().find(|row| row.table.is_none()).unwrap();
        let acl = world.view.network_acls.get(world.account, &template.acl.acl).unwrap();
        let mut acl = model::network::NetworkAcl::clone(acl);
        (acl.id, acl.vpc) = ("acl-00000009".parse().unwrap(), peer.id.clone());
        let mut subnet = SubnetRow {
            id: "subnet-00000009".parse().unwrap(),
            vpc: peer.id.clone(),
            block: "10.9.9.0/24".parse().unwrap(),
            ..template
        };
        subnet.acl.acl = acl.id.clone();
        let at = |vpc: &VpcId| PeeringEnd {
            account: world.account,
            vpc: vpc.clone(),
            allows_names: false,
        };
        let mut peering = VpcPeering {
            id: "pcx-00000010".parse().unwrap(),
            requester: at(&world.vpc),
            accepter: at(&peer.id),
            state: PeeringState::Active,
            created_at: Timestamp(1),
        };
        let route = |destination: &str| Route {
            destination: destination.parse::<longshore_types::Cidr>().unwrap().into(),
            target: RouteTarget::VpcPeering(peering.id.clone()),
        };
        (near.routes, far.routes) = (vec![route("10.9.0.0/16")], vec![]);
        let back = route("10.0.0.0/16");
        world.put(acl);
        world.put(subnet);
        world.put(peer.clone());
        world.put(near);
        world.put(far.clone());
        world.put(peering.clone());
        let web = world.web("sg-00000001", RulePeer::Ipv4("0.0.0.0/0".parse().unwrap()));
        world.let_out(&web);
        let one = world.interface("10.0.0.10", &[&web]);
        let mut other = world.interface("10.9.9.10", &[&web]);
        let moved = InterfaceId { vpc: Some(world.vpc.clone()), address: other.address };
        world.view.remove(Seq(99), &Key::Interface(region_account(), moved));
        other.vpc = peer.id.clone();
        world.put(other.clone());
        let mute = world.asked(&end(&one), &end(&other), 80);
        assert!(matches!(mute.last().unwrap(), Step::Back { way: Way::NoRoute, .. }), "{mute:?}");
        far.routes = vec![back];
        world.put(far);
        let path = world.asked(&end(&one), &end(&other), 80);
        assert!(path.iter().all(Step::passes), "{path:?}");
        assert_eq!(path.len(), 8, "groups, ACL, route, ACL, groups, and the way back: {path:?}");
        assert!(matches!(path[5], Step::Answers { direction: Direction::Out, .. }), "{path:?}");
        assert!(matches!(path[7], Step::Answers { direction: Direction::In, .. }), "{path:?}");
        let shut = world.asked(&end(&one), &end(&other), 81);
        assert!(matches!(shut.last().unwrap(), Step::Groups { direction: Direction::In, .. }));
        let nobody = End::Address(Ipv4Addr::new(10, 9, 9, 11));
        let path = world.asked(&end(&one), &nobody, 80);
        assert!(matches!(path.last().unwrap(), Step::Route { way: Way::PeerNobody { .. }, .. }));
        peering.state = PeeringState::Deleted { at: Timestamp(2), by: world.account };
        world.put(peering);
        let path = world.asked(&end(&one), &end(&other), 80);
        assert!(
            matches!(path.last().unwrap(), Step::Route { way: Way::Blackhole, .. }),
            "{path:?}"
        );
    }

    #[test]
    fn who_is_near_a_changed_default_vpc_is_answered_without_a_way_out_of_it() {
        use model::network::NetworkAcl;
        let mut world = World::new();
        let [block, bridge] = ["172.31.0.0/16", "172.30.0.0/16"].map(|it| it.parse().unwrap());
        let plan = AddressPlan { block, bridge: Some(bridge), seed: 7 };
        let default = plan.default_network(world.account, &world.region);
        world.put(plan);
        default.rows().into_iter().for_each(|row| world.put(row));
        world.put(RouteTable { routes: vec![], ..RouteTable::clone(&default.table) });
        let web = world.web("sg-00000001", RulePeer::Ipv4("0.0.0.0/0".parse().unwrap()));
        let mut row = world.interface("172.31.0.10", &[&web]);
        let mut subnets = default.subnets.iter();
        let subnet = subnets.find(|subnet| subnet.block.contains(row.address)).unwrap();
        (row.vpc, row.subnet) = (subnet.vpc.clone(), subnet.id.clone());
        world.put(row.clone());
        let asked =
            |world: &World, from: [u8; 4]| world.asked(&End::Address(from.into()), &end(&row), 80);
        let lost = asked(&world, [203, 0, 113, 5]);
        assert!(matches!(lost.last().unwrap(), Step::Back { way: Way::NoRoute, .. }), "{lost:?}");
        let (others, bridged) = ([172, 31, 0, 77], [172, 30, 0, 5]);
        for near in [others, bridged] {
            let path = asked(&world, near);
            assert!(path.iter().all(Step::passes) && !path.is_empty(), "{path:?}");
        }
        world.put(NetworkAcl { entries: vec![], ..NetworkAcl::clone(&default.acl) });
        let shut = asked(&world, others);
        assert!(matches!(shut.as_slice(), [Step::Acl { passes: false, .. }]), "{shut:?}");
        assert!(asked(&world, bridged).iter().all(Step::passes));
    }

    #[test]
    fn who_has_a_public_address_is_reached_from_outside_if_its_answers_find_back() {
        let mut world = World::new();
        let web = world.web("sg-00000001", RulePeer::Ipv4("0.0.0.0/0".parse().unwrap()));
        let mut row = world.interface("10.0.0.10", &[&web]);
        let hidden = world.asked(&outside(), &end(&row), 80);
        assert!(matches!(hidden.as_slice(), [Step::NoPublicAddress(_)]), "{hidden:?}");
        row.public = Some(Ipv4Addr::new(198, 18, 0, 9));
        world.put(row.clone());
        let found = interfaces_at(&world.view, world.account, Ipv4Addr::new(198, 18, 0, 9));
        assert_eq!(found, [Arc::new(row.clone())]);
        let lost = world.asked(&outside(), &end(&row), 80);
        assert!(matches!(lost.last().unwrap(), Step::Back { way: Way::Blackhole, .. }), "{lost:?}");
        let gateway = InternetGateway {
            account: world.account,
            id: "igw-00000001".parse().unwrap(),
            vpc: Some(world.vpc.clone()),
        };
        let table = world.view.route_tables.get(world.account, &"rtb-00000001".parse().unwrap());
        let mut table = RouteTable::clone(table.unwrap());
        table.routes = vec![Route {
            destination: "0.0.0.0/0".parse::<longshore_types::Cidr>().unwrap().into(),
            target: RouteTarget::InternetGateway(gateway.id.clone()),
        }];
        world.put(gateway);
        world.put(table);
        let path = world.asked(&outside(), &end(&row), 80);
        assert!(path.iter().all(Step::passes), "{path:?}");
        assert_eq!(path.len(), 4, "ACL, groups and the way back");
        let default = world.default.id.clone();
        let stranger = world.interface("172.31.0.10", &[&default]);
        let path = world.asked(&end(&stranger), &end(&row), 80);
        assert!(path.iter().all(Step::passes) && path.len() == 5, "{path:?}");
    }
}
