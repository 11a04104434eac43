//! What a host must know of the VPCs in which it has interfaces: a copy that the region keeps up to date by
//! [`Change`]s.
//!
//! An item is told whole or not at all, and names others by id. One that is named and not there, or that lies
//! outside what names it, is as good as absent: no route, no way out, nothing let through. So a copy that is old
//! or odd lets less pass and never more ([`Feed::oddities`] says what is left aside).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;

use longshore_types::{
    Cidr, EniId, NatGatewayId, NetworkAclId, RouteTableId, SecurityGroupId, SubnetId, VpcId,
    VpcPeeringId,
};
use serde::{Deserialize, Serialize};

use crate::groups::Traffic;
pub use crate::peering::{Peered, Peering, PeeringSide};

/// The region's public addresses: those of interfaces and of NAT gateways. The block is set apart for tests between
/// networks, so nobody is reached by its addresses but through the region; they are real on hosts, and leave these behind
/// the host's own.
pub const PUBLIC_POOL: Cidr =
    Cidr::from_octets([198, 18, 0, 0], 16).expect("there are no bits below the prefix");

/// The number by which a VPC's packets are told apart between hosts: that of its VXLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vni(u32);

/// The number does not fit. Its text completes "… must be".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a number from 1 to 16777215")]
pub struct NotAVni;

impl Vni {
    const MAX: u32 = (1 << 24) - 1;

    /// The number that the last digits of a VPC's id make. Whoever draws an id sees to it that no other VPC of the
    /// region has the same.
    pub fn of(vpc: &VpcId) -> Self {
        Self(Self::of_digits(vpc.as_str()).clamp(1, Self::MAX))
    }

    /// The number that the last digits of an id make.
    pub(crate) fn of_digits(id: &str) -> u32 {
        let digits = id.get(id.len().saturating_sub(6)..).unwrap_or_default();
        u32::from_str_radix(digits, 16).unwrap_or_default()
    }

    pub fn value(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Vni {
    type Error = NotAVni;

    fn try_from(number: u32) -> Result<Self, NotAVni> {
        if (1..=Self::MAX).contains(&number) { Ok(Self(number)) } else { Err(NotAVni) }
    }
}

impl From<Vni> for u32 {
    fn from(vni: Vni) -> Self {
        vni.0
    }
}

/// A network of its own, whose addresses mean nothing outside of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vpc {
    pub id: VpcId,
    pub vni: Vni,
    /// The first is the primary one, whose base plus two is the resolver.
    pub ranges: Vec<Cidr>,
    /// Whether the resolver answers.
    pub has_dns: bool,
    /// Whether interfaces have public names.
    pub has_dns_hostnames: bool,
    /// The region's default VPC: its range is the host's own, and its way out is the host's.
    pub is_default: bool,
}

/// A part of a VPC's addresses, with what its interfaces have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    pub id: SubnetId,
    pub vpc: VpcId,
    pub range: Cidr,
    pub table: RouteTableId,
    pub acl: NetworkAclId,
    /// Which names are kept from its interfaces, where they are in what all default VPCs share; of other VPCs that is said
    /// of the VPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withheld: Option<Withheld>,
}

/// Names that are not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Withheld {
    /// All: the resolver does not answer.
    All,
    /// Those that interfaces have by their addresses.
    OfInterfaces,
}

/// Where packets go that leave a subnet. The most specific route counts, whatever their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    pub id: RouteTableId,
    pub vpc: VpcId,
    pub routes: Vec<Route>,
}

/// One line of a route table. The local routes of the VPC's own ranges are not among them: they are always there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub destination: Cidr,
    pub target: Target,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// The VPC's internet gateway, which is attached: a way out for interfaces with a public address.
    InternetGateway,
    NatGateway(NatGatewayId),
    /// A connection with another VPC, which is active.
    Peering(VpcPeeringId),
    /// Whatever it was, it is not there any more, or detached: packets are dropped.
    Blackhole,
}

/// Rules of a subnet that know no connections: each packet is judged, in either direction, by the first that fits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAcl {
    pub id: NetworkAclId,
    pub vpc: VpcId,
    /// By their numbers, the lowest first. What none fits is dropped.
    pub ingress: Vec<AclEntry>,
    pub egress: Vec<AclEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclEntry {
    pub number: u16,
    pub is_allowed: bool,
    pub traffic: Traffic,
    /// Of the source where it is about ingress, of the destination otherwise.
    pub peer: Cidr,
}

/// A way out for interfaces without a public address. Told of while it is available only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatGateway {
    pub id: NatGatewayId,
    pub vpc: VpcId,
    /// Where it stands: its own way out is by this subnet's route table.
    pub subnet: SubnetId,
    /// What packets carry that leave through it; none: a private one, which leads nowhere outside.
    pub public: Option<Ipv4Addr>,
}

/// One interface of a VPC, of this host or another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    pub id: EniId,
    pub vpc: VpcId,
    pub subnet: SubnetId,
    pub address: Ipv4Addr,
    pub groups: Vec<SecurityGroupId>,
    /// The address that the world knows it by.
    pub public: Option<Ipv4Addr>,
    pub place: Place,
    /// A load balancer's or a VPC endpoint's and no task's: the host that it is on makes it by itself.
    #[serde(default)]
    pub is_balancers: bool,
    /// Whether its packets are counted for a flow log.
    #[serde(default)]
    pub is_logged: bool,
}

/// On which host an interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// On the host that is told.
    Here,
    /// On the one with this address in the hosts' own network.
    At(Ipv4Addr),
}

/// One thing that a host is told of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Item {
    Vpc(Vpc),
    Subnet(Subnet),
    RouteTable(RouteTable),
    NetworkAcl(NetworkAcl),
    NatGateway(NatGateway),
    Peering(Peering),
    Interface(Interface),
}

/// What one thing is known by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ItemId {
    Vpc(VpcId),
    Subnet(SubnetId),
    RouteTable(RouteTableId),
    NetworkAcl(NetworkAclId),
    NatGateway(NatGatewayId),
    Peering(PeeringSide),
    Interface(EniId),
}

/// What is new: items that came or changed, each whole, and items that are no more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    #[serde(default)]
    pub put: Vec<Item>,
    #[serde(default)]
    pub gone: Vec<ItemId>,
}

impl Change {
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.gone.is_empty()
    }
}

/// All that a host was told of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Feed {
    pub vpcs: BTreeMap<VpcId, Vpc>,
    pub subnets: BTreeMap<SubnetId, Subnet>,
    pub tables: BTreeMap<RouteTableId, RouteTable>,
    pub acls: BTreeMap<NetworkAclId, NetworkAcl>,
    pub nat_gateways: BTreeMap<NatGatewayId, NatGateway>,
    pub peerings: BTreeMap<PeeringSide, Peering>,
    pub interfaces: BTreeMap<EniId, Interface>,
}

impl Feed {
    /// Takes in what is new. Of two items with one id the later counts.
    pub fn apply(&mut self, change: Change) {
        for id in change.gone {
            match id {
                ItemId::Vpc(id) => drop(self.vpcs.remove(&id)),
                ItemId::Subnet(id) => drop(self.subnets.remove(&id)),
                ItemId::RouteTable(id) => drop(self.tables.remove(&id)),
                ItemId::NetworkAcl(id) => drop(self.acls.remove(&id)),
                ItemId::NatGateway(id) => drop(self.nat_gateways.remove(&id)),
                ItemId::Peering(id) => drop(self.peerings.remove(&id)),
                ItemId::Interface(id) => drop(self.interfaces.remove(&id)),
            }
        }
        for item in change.put {
            self.put(item);
        }
    }

    pub fn put(&mut self, item: Item) {
        match item {
            Item::Vpc(it) => drop(self.vpcs.insert(it.id.clone(), it)),
            Item::Subnet(it) => drop(self.subnets.insert(it.id.clone(), it)),
            Item::RouteTable(it) => drop(self.tables.insert(it.id.clone(), it)),
            Item::NetworkAcl(it) => drop(self.acls.insert(it.id.clone(), it)),
            Item::NatGateway(it) => drop(self.nat_gateways.insert(it.id.clone(), it)),
            Item::Peering(it) => drop(self.peerings.insert(it.side(), it)),
            Item::Interface(it) => drop(self.interfaces.insert(it.id.clone(), it)),
        }
    }

    /// Every item, those first that others name.
    pub fn items(&self) -> impl Iterator<Item = Item> {
        let vpcs = self.vpcs.values().cloned().map(Item::Vpc);
        let tables = self.tables.values().cloned().map(Item::RouteTable);
        let acls = self.acls.values().cloned().map(Item::NetworkAcl);
        let subnets = self.subnets.values().cloned().map(Item::Subnet);
        let nat_gateways = self.nat_gateways.values().cloned().map(Item::NatGateway);
        let peerings = self.peerings.values().cloned().map(Item::Peering);
        let interfaces = self.interfaces.values().cloned().map(Item::Interface);
        let vpcs = vpcs.chain(tables).chain(acls).chain(subnets).chain(nat_gateways);
        vpcs.chain(peerings).chain(interfaces)
    }

    /// What makes `after` of this.
    pub fn change_to(&self, after: &Self) -> Change {
        let mut change = Change::default();
        let Change { put, gone } = &mut change;
        differ(&self.vpcs, &after.vpcs, (put, Item::Vpc), (gone, ItemId::Vpc));
        differ(&self.tables, &after.tables, (put, Item::RouteTable), (gone, ItemId::RouteTable));
        differ(&self.acls, &after.acls, (put, Item::NetworkAcl), (gone, ItemId::NetworkAcl));
        differ(&self.subnets, &after.subnets, (put, Item::Subnet), (gone, ItemId::Subnet));
        let nat = (Item::NatGateway, ItemId::NatGateway);
        differ(&self.nat_gateways, &after.nat_gateways, (put, nat.0), (gone, nat.1));
        let peering = (Item::Peering, ItemId::Peering);
        differ(&self.peerings, &after.peerings, (put, peering.0), (gone, peering.1));
        let interface = (Item::Interface, ItemId::Interface);
        differ(&self.interfaces, &after.interfaces, (put, interface.0), (gone, interface.1));
        change
    }

    /// The subnets of a VPC.
    pub fn subnets_in(&self, vpc: &VpcId) -> impl Iterator<Item = &Subnet> {
        self.subnets.values().filter(move |it| it.vpc == *vpc)
    }

    /// Its route tables.
    pub fn tables_in(&self, vpc: &VpcId) -> impl Iterator<Item = &RouteTable> {
        self.tables.values().filter(move |it| it.vpc == *vpc)
    }

    /// Its network ACLs.
    pub fn acls_in(&self, vpc: &VpcId) -> impl Iterator<Item = &NetworkAcl> {
        self.acls.values().filter(move |it| it.vpc == *vpc)
    }

    /// Its NAT gateways.
    pub fn nat_gateways_in(&self, vpc: &VpcId) -> impl Iterator<Item = &NatGateway> {
        self.nat_gateways.values().filter(move |it| it.vpc == *vpc)
    }

    /// The interfaces of a VPC that can be: at an address of its ranges that no other of them has. Of two at one
    /// address the first by id counts.
    pub fn interfaces_of(&self, vpc: &VpcId) -> BTreeMap<Ipv4Addr, &Interface> {
        let mut found = BTreeMap::new();
        let Some(vpc) = self.vpcs.get(vpc) else { return found };
        for interface in self.interfaces.values().filter(|it| it.vpc == vpc.id) {
            if vpc.contains(interface.address) {
                found.entry(interface.address).or_insert(interface);
            }
        }
        found
    }

    /// The VPCs that can be: of two with one number neither is, since hosts could not tell them apart.
    pub fn distinct_vpcs(&self) -> impl Iterator<Item = &Vpc> {
        let mut seen: BTreeMap<Vni, u32> = BTreeMap::new();
        for vpc in self.vpcs.values() {
            *seen.entry(vpc.vni).or_default() += 1;
        }
        self.vpcs.values().filter(move |vpc| seen.get(&vpc.vni) == Some(&1))
    }

    /// What is told and cannot be, in words for a log.
    pub fn oddities(&self) -> Vec<Oddity> {
        let mut found = Vec::new();
        let distinct: BTreeSet<&VpcId> = self.distinct_vpcs().map(|vpc| &vpc.id).collect();
        let shared = self.vpcs.keys().filter(|id| !distinct.contains(id));
        found.extend(shared.map(|id| Oddity::NumberShared(id.clone())));
        for subnet in self.subnets.values() {
            let vpc = self.vpcs.get(&subnet.vpc);
            if !vpc.is_some_and(|vpc| vpc.contains(subnet.range.first())) {
                found.push(Oddity::SubnetOutside(subnet.id.clone()));
            }
        }
        let mut held = BTreeSet::new();
        let is_peers = |vpc: &VpcId| {
            !self.vpcs.contains_key(vpc) && self.peerings.values().any(|it| it.peer == *vpc)
        };
        for interface in self.interfaces.values().filter(|it| !is_peers(&it.vpc)) {
            let vpc = self.vpcs.get(&interface.vpc);
            if !vpc.is_some_and(|vpc| vpc.contains(interface.address)) {
                found.push(Oddity::InterfaceOutside(interface.id.clone()));
            } else if !held.insert((&interface.vpc, interface.address)) {
                found.push(Oddity::AddressShared(interface.id.clone()));
            }
        }
        found
    }
}

impl FromIterator<Item> for Feed {
    fn from_iter<I: IntoIterator<Item = Item>>(items: I) -> Self {
        let mut feed = Self::default();
        items.into_iter().for_each(|item| feed.put(item));
        feed
    }
}

impl Vpc {
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        self.ranges.iter().any(|range| range.contains(address))
    }

    /// Where its resolver answers, besides the address that is the same in all VPCs.
    pub fn resolver(&self) -> Option<Ipv4Addr> {
        self.ranges.first()?.nth(2)
    }
}

impl RouteTable {
    /// The route that a packet takes which is for none of the VPC's own addresses. Of two alike a blackhole
    /// counts, and otherwise the first.
    pub fn lookup(&self, destination: Ipv4Addr) -> Option<&Route> {
        let fitting = self.routes.iter().filter(|route| route.destination.contains(destination));
        let rank = |route: &Route| (route.destination.prefix(), route.target == Target::Blackhole);
        fitting.reduce(|best, next| if rank(next) > rank(best) { next } else { best })
    }
}

/// Something that was told and is left aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// Two VPCs have one number.
    NumberShared(VpcId),
    SubnetOutside(SubnetId),
    InterfaceOutside(EniId),
    /// Another interface of the VPC has its address.
    AddressShared(EniId),
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NumberShared(id) => write!(f, "{id} has the number of another VPC"),
            Self::SubnetOutside(id) => write!(f, "{id} lies outside its VPC"),
            Self::InterfaceOutside(id) => write!(f, "{id} has an address outside its VPC"),
            Self::AddressShared(id) => write!(f, "{id} has the address of another interface"),
        }
    }
}

fn differ<K: Ord + Clone, V: PartialEq + Clone>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
    (put, item): (&mut Vec<Item>, impl Fn(V) -> Item),
    (gone, id): (&mut Vec<ItemId>, impl Fn(K) -> ItemId),
) {
    let changed = after.iter().filter(|(key, value)| before.get(*key) != Some(*value));
    put.extend(changed.map(|(_, value)| item(value.clone())));
    gone.extend(before.keys().filter(|key| !after.contains_key(*key)).cloned().map(id));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vpc(id: &str, range: &str) -> Vpc {
        let id: VpcId = id.parse().unwrap();
        Vpc {
            vni: Vni::of(&id),
            id,
            ranges: vec![range.parse().unwrap()],
            has_dns: true,
            has_dns_hostnames: false,
            is_default: false,
        }
    }

    fn interface(number: u8, vpc: &Vpc, address: [u8; 4]) -> Interface {
        Interface {
            id: format!("eni-000000{number:02x}").parse().unwrap(),
            vpc: vpc.id.clone(),
            subnet: "subnet-00000001".parse().unwrap(),
            address: address.into(),
            groups: vec!["sg-00000001".parse().unwrap()],
            public: None,
            place: Place::At([192, 0, 2, 1].into()),
            is_balancers: false,
            is_logged: false,
        }
    }

    #[test]
    fn a_number_is_made_of_the_last_digits_of_an_id_and_fits() {
        for (id, number) in [
            ("vpc-0123456789abcdef0", 0x00bc_def0),
            ("vpc-12345678", 0x0034_5678),
            ("vpc-ff000000", 1),
        ] {
            assert_eq!(Vni::of(&id.parse().unwrap()).value(), number, "{id}");
        }
        assert_eq!(Vni::try_from(0), Err(NotAVni));
        assert_eq!(Vni::try_from(1 << 24), Err(NotAVni));
        assert!(serde_json::from_str::<Vni>("16777216").is_err());
    }

    #[test]
    fn a_copy_follows_by_changes() {
        let (one, two) = (vpc("vpc-00000001", "10.0.0.0/16"), vpc("vpc-00000002", "10.0.0.0/16"));
        let before: Feed =
            [Item::Vpc(one.clone()), Item::Interface(interface(1, &one, [10, 0, 0, 4]))]
                .into_iter()
                .collect();
        let after: Feed = [
            Item::Vpc(one.clone()),
            Item::Vpc(two.clone()),
            Item::Interface(interface(2, &two, [10, 0, 0, 4])),
        ]
        .into_iter()
        .collect();
        let change = before.change_to(&after);
        assert_eq!(change.put.len(), 2, "what stays is not said again");
        assert_eq!(change.gone, [ItemId::Interface("eni-00000001".parse().unwrap())]);
        let text = serde_json::to_string(&change).unwrap();
        let mut copy = before.clone();
        copy.apply(serde_json::from_str(&text).unwrap());
        assert_eq!(copy, after);
        assert!(copy.change_to(&after).is_empty());
        assert_eq!(after.items().collect::<Feed>(), after);
    }

    #[test]
    fn what_cannot_be_is_left_aside_and_named() {
        let one = vpc("vpc-00000001", "10.0.0.0/16");
        let twin = vpc("vpc-a0000001", "10.1.0.0/16");
        let [first, second] = [1, 2].map(|number| interface(number, &one, [10, 0, 0, 4]));
        let outside = interface(3, &one, [10, 1, 0, 4]);
        let subnet = Subnet {
            id: "subnet-00000001".parse().unwrap(),
            vpc: one.id.clone(),
            range: "10.9.0.0/24".parse().unwrap(),
            table: "rtb-00000001".parse().unwrap(),
            acl: "acl-00000001".parse().unwrap(),
            withheld: None,
        };
        let mut feed: Feed = [first.clone(), second.clone(), outside.clone()]
            .map(Item::Interface)
            .into_iter()
            .collect();
        assert!(feed.interfaces_of(&one.id).is_empty(), "nobody told of their VPC");
        feed.put(Item::Vpc(one.clone()));
        feed.put(Item::Subnet(subnet.clone()));
        let there: Vec<&Interface> = feed.interfaces_of(&one.id).into_values().collect();
        assert_eq!(there, [&first]);
        feed.put(Item::Vpc(twin.clone()));
        assert_eq!(feed.distinct_vpcs().count(), 0);
        let odd = [
            Oddity::NumberShared(one.id),
            Oddity::NumberShared(twin.id),
            Oddity::SubnetOutside(subnet.id),
            Oddity::AddressShared(second.id),
            Oddity::InterfaceOutside(outside.id),
        ];
        assert_eq!(feed.oddities(), odd);
    }

    #[test]
    fn the_most_specific_route_counts_and_a_blackhole_before_its_like() {
        let route = |range: &str, target| Route { destination: range.parse().unwrap(), target };
        let table = RouteTable {
            id: "rtb-00000001".parse().unwrap(),
            vpc: "vpc-00000001".parse().unwrap(),
            routes: vec![
                route("0.0.0.0/0", Target::InternetGateway),
                route("10.9.0.0/16", Target::InternetGateway),
                route("10.9.0.0/16", Target::Blackhole),
                route("10.9.1.0/24", Target::NatGateway("nat-00000001".parse().unwrap())),
            ],
        };
        let target = |to: [u8; 4]| table.lookup(to.into()).map(|route| route.target.clone());
        assert_eq!(target([1, 1, 1, 1]), Some(Target::InternetGateway));
        assert_eq!(target([10, 9, 0, 1]), Some(Target::Blackhole));
        assert!(matches!(target([10, 9, 1, 1]), Some(Target::NatGateway(_))));
        let none = RouteTable { routes: vec![], ..table };
        assert_eq!(none.lookup([1, 1, 1, 1].into()), None);
    }
}
