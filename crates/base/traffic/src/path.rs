//! The way of one packet through a VPC, step by step, as hosts lead and judge it.
//!
//! Hosts compile what is asked here into routes and filters. Each step is asked only if those before let the
//! packet pass, so the last step of a path says what becomes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use longshore_types::{
    NatGatewayId, NetworkAclId, RouteTableId, SecurityGroupId, VpcId, VpcPeeringId,
};

use crate::feed::{AclEntry, Feed, Interface, NatGateway, NetworkAcl, Subnet, Target};
use crate::groups::{SecurityGroup, Traffic};
use crate::judge::{Content, Direction, Packet, judge};

/// From which ports callers may come, and to which their answers go.
pub const EPHEMERAL_PORTS: RangeInclusive<u16> = 1_024..=u16::MAX;

/// The groups of which rules are known.
pub type Groups = BTreeMap<SecurityGroupId, SecurityGroup>;

/// One place on the way, and what becomes of the packet there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The groups of an interface.
    Groups {
        interface: Interface,
        direction: Direction,
        /// The group that lets it pass, and the place of the rule among those of the direction.
        admitted: Option<(SecurityGroupId, usize)>,
    },
    /// The network ACL of an interface's subnet, where the packet crosses the subnet's border.
    Acl {
        interface: Interface,
        /// None: the subnet's own is not known, and nothing passes.
        acl: Option<NetworkAclId>,
        direction: Direction,
        /// The entry that fits, by its number. What none fits is dropped.
        entry: Option<u16>,
        passes: bool,
    },
    /// Where the packet is led.
    Route { table: Option<RouteTableId>, way: Way },
}

/// What the network ACL of an interface's subnet makes of the answers to a packet that it let pass: it knows no connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    pub interface: Interface,
    pub acl: NetworkAclId,
    /// Which way the answers go.
    pub direction: Direction,
    /// In the order of their ports.
    pub parts: Vec<AnswersPart>,
}

/// Answers to some of the ports to which they may go, of which the same is true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswersPart {
    /// None: of a protocol without ports.
    pub ports: Option<RangeInclusive<u16>>,
    /// The entry that fits, by its number. What none fits is dropped.
    pub entry: Option<u16>,
    pub passes: bool,
}

/// Where a packet goes that leaves an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// To another interface of the VPC.
    Interface(Interface),
    /// The address is one of the VPC's that no interface has.
    Nobody,
    /// Out, with the interface's public address.
    Internet {
        public: Ipv4Addr,
    },
    /// There is an internet gateway, and the interface has no public address.
    NoPublicAddress,
    /// Out, with the address of a NAT gateway.
    Nat {
        gateway: NatGatewayId,
        public: Ipv4Addr,
    },
    /// The gateway has itself no way out.
    NatWithoutWay {
        gateway: NatGatewayId,
    },
    /// To an interface of another VPC, over a connection with it.
    Peer {
        peering: VpcPeeringId,
        to: Interface,
    },
    /// The connection leads to no interface with the address.
    PeerNobody {
        peering: VpcPeeringId,
    },
    /// The address is that of a peer's interface, to which another table of the VPC leads, or the peer's alone; this one
    /// leads elsewhere.
    BesidePeer {
        peering: VpcPeeringId,
    },
    Blackhole,
    NoRoute,
}

impl Step {
    pub fn passes(&self) -> bool {
        match self {
            Self::Groups { admitted, .. } => admitted.is_some(),
            Self::Acl { passes, .. } => *passes,
            Self::Route { way, .. } => way.leads(),
        }
    }
}

impl Way {
    /// The address that a packet has outside the VPC.
    pub fn public(&self) -> Option<Ipv4Addr> {
        match self {
            Self::Internet { public } | Self::Nat { public, .. } => Some(*public),
            Self::Interface(_)
            | Self::Nobody
            | Self::NoPublicAddress
            | Self::NatWithoutWay { .. }
            | Self::Peer { .. }
            | Self::PeerNobody { .. }
            | Self::BesidePeer { .. }
            | Self::Blackhole
            | Self::NoRoute => None,
        }
    }

    /// Whether the packet gets anywhere.
    pub fn leads(&self) -> bool {
        match self {
            Self::Interface(_) | Self::Internet { .. } | Self::Nat { .. } | Self::Peer { .. } => {
                true
            }
            Self::Nobody
            | Self::NoPublicAddress
            | Self::NatWithoutWay { .. }
            | Self::PeerNobody { .. }
            | Self::BesidePeer { .. }
            | Self::Blackhole
            | Self::NoRoute => false,
        }
    }
}

impl NetworkAcl {
    /// The first entry that fits a packet.
    pub fn judge(&self, direction: Direction, packet: &Packet) -> Option<&AclEntry> {
        let (entries, peer) = match direction {
            Direction::In => (&self.ingress, packet.source),
            Direction::Out => (&self.egress, packet.destination),
        };
        entries.iter().find(|it| it.peer.contains(peer) && it.traffic.covers(packet.content))
    }

    /// What becomes of the answers to a packet, that go in a direction.
    fn judge_answers(&self, direction: Direction, packet: &Packet) -> Vec<AnswersPart> {
        let part = |port: u16, ports: Option<RangeInclusive<u16>>| {
            let entry = self.judge(direction, &packet.answer(port));
            let passes = entry.is_some_and(|entry| entry.is_allowed);
            AnswersPart { ports, entry: entry.map(|entry| entry.number), passes }
        };
        match packet.content {
            Content::Tcp(_) | Content::Udp(_) => {}
            Content::Icmp { .. } | Content::Other(_) => return vec![part(0, None)],
        }
        let entries = match direction {
            Direction::In => &self.ingress,
            Direction::Out => &self.egress,
        };
        // Between where ranges of entries begin and end, all ports are alike.
        let (first, last) = EPHEMERAL_PORTS.into_inner();
        let mut starts = BTreeSet::from([first]);
        for entry in entries {
            if let Traffic::Tcp(ports) | Traffic::Udp(ports) = &entry.traffic {
                let edges = [Some(*ports.start()), ports.end().checked_add(1)];
                starts.extend(edges.into_iter().flatten().filter(|port| first < *port));
            }
        }
        let starts: Vec<u16> = starts.into_iter().collect();
        let ends = starts.iter().skip(1).map(|next| next - 1).chain([last]);
        let mut parts: Vec<AnswersPart> = Vec::new();
        for (start, end) in starts.iter().zip(ends) {
            let next = part(*start, Some(*start..=end));
            match parts.last_mut() {
                Some(before) if (before.entry, before.passes) == (next.entry, next.passes) => {
                    before.ports =
                        before.ports.as_ref().map(|ports| RangeInclusive::new(*ports.start(), end));
                }
                Some(_) | None => parts.push(next),
            }
        }
        parts
    }
}

impl Answers {
    /// Whether answers to any port get through.
    pub fn passes(&self) -> bool {
        self.parts.iter().any(|part| part.passes)
    }
}

impl Feed {
    /// The subnet of an interface, if it is one of the interface's VPC and the address lies in it.
    pub fn subnet_of(&self, interface: &Interface) -> Option<&Subnet> {
        let subnet = self.subnets.get(&interface.subnet)?;
        let is_its = subnet.vpc == interface.vpc && subnet.range.contains(interface.address);
        is_its.then_some(subnet)
    }

    /// Whether an address is one of a subnet's own. The ranges of default VPCs are all accounts': there it is one of an
    /// interface in it.
    fn is_within(&self, subnet: &Subnet, address: Ipv4Addr) -> bool {
        let is_shared = self.vpcs.get(&subnet.vpc).is_some_and(|vpc| vpc.is_default);
        let is_its = |it: &Interface| it.subnet == subnet.id && it.address == address;
        subnet.range.contains(address) && (!is_shared || self.interfaces.values().any(is_its))
    }

    /// The ACL of a subnet.
    pub fn acl_of(&self, subnet: &Subnet) -> Option<&NetworkAcl> {
        self.acls.get(&subnet.acl).filter(|acl| acl.vpc == subnet.vpc)
    }

    /// Where packets of an interface to an address outside its VPC go.
    pub fn way_out(&self, from: &Interface, to: Ipv4Addr) -> Way {
        let table = self.subnet_of(from).and_then(|subnet| self.tables.get(&subnet.table));
        let Some(table) = table.filter(|table| table.vpc == from.vpc) else { return Way::NoRoute };
        let peered = self.peered_of(&from.vpc).remove(&to);
        match (table.lookup(to).map(|route| &route.target), peered) {
            (None, _) => Way::NoRoute,
            (Some(Target::Blackhole), _) => Way::Blackhole,
            (Some(Target::Peering(id)), peered) => {
                if self.peering(id, &from.vpc).is_none() {
                    return Way::Blackhole;
                }
                let peering = id.clone();
                match peered {
                    Some(it) if it.peering.id == *id => {
                        Way::Peer { peering, to: it.interface.clone() }
                    }
                    Some(it) => Way::BesidePeer { peering: it.peering.id.clone() },
                    None => Way::PeerNobody { peering },
                }
            }
            // One table of routes leads all of a VPC's packets on a host, and then each subnet's is asked.
            (Some(_), Some(it)) => Way::BesidePeer { peering: it.peering.id.clone() },
            (Some(Target::InternetGateway), None) => {
                from.public.map_or(Way::NoPublicAddress, |public| Way::Internet { public })
            }
            (Some(Target::NatGateway(id)), None) => match self.nat_gateway(id, from) {
                None => Way::Blackhole,
                Some(nat) => match nat.public.filter(|_| self.nat_leads(nat, to)) {
                    Some(public) => Way::Nat { gateway: id.clone(), public },
                    None => Way::NatWithoutWay { gateway: id.clone() },
                },
            },
        }
    }

    fn nat_gateway(&self, id: &NatGatewayId, from: &Interface) -> Option<&NatGateway> {
        self.nat_gateways.get(id).filter(|nat| nat.vpc == from.vpc)
    }

    /// Whether the subnet in which a NAT gateway stands has a route to the internet for an address.
    pub fn nat_leads(&self, nat: &NatGateway, to: Ipv4Addr) -> bool {
        let subnet = self.subnets.get(&nat.subnet).filter(|subnet| subnet.vpc == nat.vpc);
        let table = subnet.and_then(|subnet| self.tables.get(&subnet.table));
        let table = table.filter(|table| table.vpc == nat.vpc);
        let route = table.and_then(|table| table.lookup(to));
        route.is_some_and(|route| route.target == Target::InternetGateway)
    }

    /// The way of a packet that opens a connection from an interface, up to where it is dropped.
    pub fn path_from(&self, groups: &Groups, from: &Interface, packet: &Packet) -> Vec<Step> {
        let mut path = Vec::new();
        let inside = self.interfaces_of(&from.vpc);
        let members = self.members(&from.vpc);
        let to = inside.get(&packet.destination).copied();
        let is_inside =
            self.vpcs.get(&from.vpc).is_some_and(|vpc| vpc.contains(packet.destination));
        let way = match to {
            Some(to) => Way::Interface(to.clone()),
            None if is_inside => Way::Nobody,
            None => self.way_out(from, packet.destination),
        };
        let asked = [
            self.groups_step(groups, from, Direction::Out, packet, &members),
            self.acl_step(from, packet.destination, Direction::Out, packet),
            Some(self.route_step(from, is_inside, way)),
            to.and_then(|to| self.acl_step(to, packet.source, Direction::In, packet)),
            to.and_then(|to| self.groups_step(groups, to, Direction::In, packet, &members)),
        ];
        for step in asked.into_iter().flatten() {
            let passes = step.passes();
            path.push(step);
            if !passes {
                break;
            }
        }
        path
    }

    /// What ACLs make of the answers to a packet, all of whose path let it pass: from where they begin to where they are
    /// awaited. Groups are not asked, which know the connection.
    pub fn answers(&self, path: &[Step], packet: &Packet) -> Vec<Answers> {
        let judged = |step: &Step| {
            let Step::Acl { interface, acl: Some(acl), direction, .. } = step else { return None };
            let direction = match direction {
                Direction::In => Direction::Out,
                Direction::Out => Direction::In,
            };
            let parts = self.acls.get(acl)?.judge_answers(direction, packet);
            Some(Answers { interface: interface.clone(), acl: acl.clone(), direction, parts })
        };
        path.iter().rev().filter_map(judged).collect()
    }

    /// The interfaces by which members of groups are known in a VPC: its own and those of peers.
    fn members(&self, vpc: &VpcId) -> BTreeMap<Ipv4Addr, &Interface> {
        let mut members = self.interfaces_of(vpc);
        members.extend(self.peered_of(vpc).into_iter().map(|(at, it)| (at, it.interface)));
        members
    }

    /// The way of a packet from a peer to an interface.
    pub fn path_from_peer(&self, groups: &Groups, to: &Interface, packet: &Packet) -> Vec<Step> {
        self.path_in(groups, to, packet, &self.members(&to.vpc))
    }

    /// The way of a packet from outside its VPC to an interface, by its public address.
    pub fn path_to(&self, groups: &Groups, to: &Interface, packet: &Packet) -> Vec<Step> {
        self.path_in(groups, to, packet, &BTreeMap::new())
    }

    fn path_in(
        &self,
        groups: &Groups,
        to: &Interface,
        packet: &Packet,
        members: &BTreeMap<Ipv4Addr, &Interface>,
    ) -> Vec<Step> {
        let packet = Packet { destination: to.address, ..*packet };
        let acl = self.acl_step(to, packet.source, Direction::In, &packet);
        let judged = self.groups_step(groups, to, Direction::In, &packet, members);
        match acl {
            Some(acl) if !acl.passes() => vec![acl],
            acl => acl.into_iter().chain(judged).collect(),
        }
    }

    fn route_step(&self, from: &Interface, is_inside: bool, way: Way) -> Step {
        // Inside the VPC the local route counts, whatever the table says.
        let subnet = self.subnet_of(from).filter(|_| !is_inside);
        Step::Route { table: subnet.map(|subnet| subnet.table.clone()), way }
    }

    fn groups_step(
        &self,
        groups: &Groups,
        interface: &Interface,
        direction: Direction,
        packet: &Packet,
        members: &BTreeMap<Ipv4Addr, &Interface>,
    ) -> Option<Step> {
        // A network balancer may have no groups: then there is nobody to ask.
        if interface.is_balancers && interface.groups.is_empty() {
            return None;
        }
        let is_member = |group: &SecurityGroupId, address: Ipv4Addr| {
            members.get(&address).is_some_and(|it| it.groups.contains(group))
        };
        let its = interface.groups.iter().filter_map(|id| groups.get(id));
        let admitted = judge(its, direction, packet, &is_member);
        let admitted = admitted.map(|it| (it.group.id.clone(), it.rule));
        Some(Step::Groups { interface: interface.clone(), direction, admitted })
    }

    /// None where the packet stays in the subnet, or is of the services that no ACL is asked about.
    fn acl_step(
        &self,
        interface: &Interface,
        peer: Ipv4Addr,
        direction: Direction,
        packet: &Packet,
    ) -> Option<Step> {
        let subnet = self.subnet_of(interface);
        if peer.is_link_local() || subnet.is_some_and(|subnet| self.is_within(subnet, peer)) {
            return None;
        }
        let acl = subnet.and_then(|subnet| self.acl_of(subnet));
        let entry = acl.and_then(|acl| acl.judge(direction, packet));
        Some(Step::Acl {
            interface: interface.clone(),
            acl: acl.map(|acl| acl.id.clone()),
            direction,
            entry: entry.map(|entry| entry.number),
            passes: entry.is_some_and(|entry| entry.is_allowed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::{Item, Place, Route, RouteTable, Vni, Vpc};
    use crate::groups::Traffic;
    use crate::judge::Content;

    const VPC: &str = "vpc-00000001";

    fn cidr(text: &str) -> longshore_types::Cidr {
        text.parse().unwrap()
    }

    fn route(range: &str, target: Target) -> Route {
        Route { destination: cidr(range), target }
    }

    fn subnet(number: u8, range: &str) -> Item {
        Item::Subnet(Subnet {
            id: format!("subnet-0000000{number}").parse().unwrap(),
            vpc: VPC.parse().unwrap(),
            range: cidr(range),
            table: format!("rtb-0000000{number}").parse().unwrap(),
            acl: "acl-00000001".parse().unwrap(),
            withheld: None,
        })
    }

    fn table(number: u8, routes: Vec<Route>) -> Item {
        let id = format!("rtb-0000000{number}").parse().unwrap();
        Item::RouteTable(RouteTable { id, vpc: VPC.parse().unwrap(), routes })
    }

    fn interface(subnet: u8, last: u8, public: Option<[u8; 4]>) -> Interface {
        Interface {
            id: format!("eni-0000{subnet:02x}{last:02x}").parse().unwrap(),
            vpc: VPC.parse().unwrap(),
            subnet: format!("subnet-0000000{subnet}").parse().unwrap(),
            address: [10, 0, subnet, last].into(),
            groups: vec!["sg-00000001".parse().unwrap()],
            public: public.map(Into::into),
            place: Place::Here,
            is_balancers: false,
            is_logged: false,
        }
    }

    /// A public subnet 1, a private one 2 behind a NAT gateway, and an isolated one 3.
    fn feed(interfaces: &[&Interface]) -> Feed {
        let nat: NatGatewayId = "nat-00000001".parse().unwrap();
        let entry = |number, is_allowed, peer| AclEntry {
            number,
            is_allowed,
            traffic: Traffic::All,
            peer: cidr(peer),
        };
        let all = vec![entry(90, false, "10.0.3.66/32"), entry(100, true, "0.0.0.0/0")];
        let mut feed: Feed = [
            Item::Vpc(Vpc {
                id: VPC.parse().unwrap(),
                vni: Vni::try_from(1).unwrap(),
                ranges: vec![cidr("10.0.0.0/16")],
                has_dns: true,
                has_dns_hostnames: true,
                is_default: false,
            }),
            subnet(1, "10.0.1.0/24"),
            subnet(2, "10.0.2.0/24"),
            subnet(3, "10.0.3.0/24"),
            table(1, vec![route("0.0.0.0/0", Target::InternetGateway)]),
            table(
                2,
                vec![
                    route("0.0.0.0/0", Target::NatGateway(nat.clone())),
                    route("192.0.2.0/24", Target::Blackhole),
                ],
            ),
            table(3, vec![]),
            Item::NetworkAcl(NetworkAcl {
                id: "acl-00000001".parse().unwrap(),
                vpc: VPC.parse().unwrap(),
                ingress: all.clone(),
                egress: all,
            }),
            Item::NatGateway(NatGateway {
                id: nat,
                vpc: VPC.parse().unwrap(),
                subnet: "subnet-00000001".parse().unwrap(),
                public: Some([198, 18, 0, 9].into()),
            }),
        ]
        .into_iter()
        .collect();
        interfaces.iter().for_each(|it| feed.put(Item::Interface((*it).clone())));
        feed
    }

    fn groups() -> Groups {
        let group = SecurityGroup::default_rules("sg-00000001".parse().unwrap());
        [(group.id.clone(), group)].into()
    }

    fn last(feed: &Feed, from: &Interface, to: [u8; 4]) -> Step {
        let packet =
            Packet { source: from.address, destination: to.into(), content: Content::Tcp(80) };
        feed.path_from(&groups(), from, &packet).pop().unwrap()
    }

    #[test]
    fn a_packet_goes_where_its_subnets_table_leads() {
        let public = interface(1, 4, Some([198, 18, 0, 4]));
        let plain = interface(1, 5, None);
        let private = interface(2, 4, None);
        let isolated = interface(3, 4, None);
        let feed = feed(&[&public, &plain, &private, &isolated]);
        let way = |from: &Interface, to: [u8; 4]| match last(&feed, from, to) {
            Step::Route { way, .. } => way,
            other => panic!("{other:?}"),
        };
        let world = [203, 0, 113, 5];
        assert_eq!(way(&public, world), Way::Internet { public: [198, 18, 0, 4].into() });
        assert_eq!(way(&plain, world), Way::NoPublicAddress);
        let gateway: NatGatewayId = "nat-00000001".parse().unwrap();
        assert_eq!(way(&private, world), Way::Nat { gateway, public: [198, 18, 0, 9].into() });
        assert_eq!(way(&private, [192, 0, 2, 1]), Way::Blackhole);
        assert_eq!(way(&isolated, world), Way::NoRoute);
        assert_eq!(way(&public, [10, 0, 9, 9]), Way::Nobody);
        let arrives = last(&feed, &public, [10, 0, 2, 4]);
        assert!(
            matches!(arrives, Step::Groups { direction: Direction::In, .. }) && arrives.passes()
        );
    }

    #[test]
    fn a_nat_gateway_needs_a_way_out_itself() {
        let private = interface(2, 4, None);
        let mut feed = feed(&[&private]);
        let to = [203, 0, 113, 5].into();
        feed.put(table(1, vec![]));
        assert!(matches!(feed.way_out(&private, to), Way::NatWithoutWay { .. }));
        feed.nat_gateways.clear();
        assert_eq!(feed.way_out(&private, to), Way::Blackhole);
        feed.tables.clear();
        assert_eq!(feed.way_out(&private, to), Way::NoRoute);
    }

    #[test]
    fn an_acl_is_asked_in_order_at_the_border_of_a_subnet_and_not_within() {
        let one = interface(1, 4, None);
        let [blocked, neighbour] = [66, 67].map(|last| interface(3, last, None));
        let mut feed = feed(&[&one, &blocked, &neighbour]);
        let stopped = last(&feed, &one, [10, 0, 3, 66]);
        assert!(matches!(stopped, Step::Acl { entry: Some(90), passes: false, .. }), "{stopped:?}");
        assert!(last(&feed, &one, [10, 0, 3, 67]).passes());
        assert!(last(&feed, &neighbour, [10, 0, 3, 66]).passes(), "they are in one subnet");
        feed.acls.clear();
        assert!(
            !last(&feed, &one, [10, 0, 3, 67]).passes(),
            "one that is not known lets nothing pass"
        );
    }

    #[test]
    fn answers_are_judged_by_the_other_direction_of_each_acl_that_let_the_packet_pass() {
        let [one, near, far] =
            [(1, 4), (1, 5), (2, 4)].map(|(net, last)| interface(net, last, None));
        let mut feed = feed(&[&one, &near, &far]);
        let answers = |feed: &Feed, to: &Interface, content: Content| {
            let packet = Packet { source: one.address, destination: to.address, content };
            let path = feed.path_from(&groups(), &one, &packet);
            assert!(path.iter().all(Step::passes), "{path:?}");
            feed.answers(&path, &packet)
        };
        let part = |ports: RangeInclusive<u16>, entry: Option<u16>, passes: bool| AnswersPart {
            ports: Some(ports),
            entry,
            passes,
        };
        let whole = answers(&feed, &far, Content::Tcp(80));
        let [back, home] = whole.as_slice() else { panic!("{whole:?}") };
        assert_eq!((&back.interface, back.direction), (&far, Direction::Out));
        assert_eq!((&home.interface, home.direction), (&one, Direction::In));
        assert_eq!(back.parts, [part(1_024..=65_535, Some(100), true)]);
        assert_eq!(answers(&feed, &near, Content::Tcp(80)), [], "within a subnet none is asked");
        // Of a part of the ports it says which, and the entries of other peers and protocols are not about them.
        let acl = feed.acls.values_mut().next().unwrap();
        let entry = |number, is_allowed, traffic, peer| AclEntry {
            number,
            is_allowed,
            traffic,
            peer: cidr(peer),
        };
        acl.ingress = vec![
            entry(10, true, Traffic::Tcp(80..=80), "0.0.0.0/0"),
            entry(20, false, Traffic::Tcp(40_000..=40_009), "10.0.2.0/24"),
            entry(30, false, Traffic::Tcp(1_024..=65_535), "10.0.9.0/24"),
            entry(40, true, Traffic::Udp(80..=80), "0.0.0.0/0"),
            entry(50, true, Traffic::Tcp(32_768..=60_999), "10.0.0.0/16"),
            entry(60, true, Traffic::Icmp(Some((8, None))), "0.0.0.0/0"),
        ];
        let whole = answers(&feed, &far, Content::Tcp(80));
        let expected = [
            part(1_024..=32_767, None, false),
            part(32_768..=39_999, Some(50), true),
            part(40_000..=40_009, Some(20), false),
            part(40_010..=60_999, Some(50), true),
            part(61_000..=65_535, None, false),
        ];
        assert_eq!(whole[1].parts, expected);
        assert!(whole[0].passes() && whole[1].passes());
        let of_udp = answers(&feed, &far, Content::Udp(80));
        assert_eq!(of_udp[1].parts, [part(1_024..=65_535, None, false)]);
        assert!(!of_udp[1].passes());
        // The answer to an echo is another kind of message.
        let of_echo = answers(&feed, &far, Content::Icmp { kind: 8, code: 0 });
        assert!(of_echo[0].passes() && !of_echo[1].passes(), "{of_echo:?}");
    }

    #[test]
    fn who_has_an_address_of_a_default_vpcs_subnet_and_is_not_in_it_is_asked_by_its_acl() {
        let [one, other] = [4, 5].map(|last| interface(1, last, None));
        let mut feed = feed(&[&one, &other]);
        feed.acls.values_mut().for_each(|acl| acl.ingress.clear());
        let from = |feed: &Feed, last: u8| {
            let source = [10, 0, 1, last].into();
            let packet = Packet { source, destination: one.address, content: Content::Tcp(80) };
            feed.path_to(&groups(), &one, &packet).remove(0)
        };
        assert!(matches!(from(&feed, 77), Step::Groups { .. }), "its range is its own");
        feed.vpcs.values_mut().for_each(|vpc| vpc.is_default = true);
        assert!(matches!(from(&feed, 77), Step::Acl { passes: false, .. }));
        assert!(matches!(from(&feed, 5), Step::Groups { .. }));
        assert!(last(&feed, &other, [10, 0, 1, 4]).passes());
    }
}
