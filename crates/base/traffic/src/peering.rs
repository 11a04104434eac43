//! Connections between two VPCs: who of the peer is reached, and by whom a packet may come.
//!
//! A peering is told of from the side of one VPC; a host with interfaces in both is told of both sides. Of the peer's
//! interfaces those count that a route of either side leads to. What comes over a peering ends at an interface of the
//! VPC: neither its ways out nor its other peers are for the peer.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use longshore_types::{VpcId, VpcPeeringId};
use serde::{Deserialize, Serialize};

use crate::feed::{Feed, Interface, Target, Vni};

/// One side of an active connection between two VPCs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peering {
    pub id: VpcPeeringId,
    /// Whose side it is.
    pub vpc: VpcId,
    /// The VPC on the other side.
    pub peer: VpcId,
    /// Of packets between hosts that are for `vpc`.
    pub number: Vni,
    /// Of those that are for `peer`.
    pub peer_number: Vni,
    /// Whether public names of the peer's interfaces lead to their own addresses.
    #[serde(default)]
    pub has_names: bool,
}

/// What a side of a peering is known by.
pub type PeeringSide = (VpcPeeringId, VpcId);

/// An interface of a peer, with the connection that leads there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peered<'f> {
    pub peering: &'f Peering,
    pub interface: &'f Interface,
}

impl Vni {
    /// The numbers of packets over a connection: to the requester's VPC, and to the accepter's. Whoever draws an id sees
    /// to it that nothing else of the region has them.
    pub fn of_peering(id: &VpcPeeringId) -> [Self; 2] {
        let even = Self::of_digits(id.as_str()).max(2) & !1;
        [even, even | 1].map(|number| Self::try_from(number).expect("it has 24 bits and is not 0"))
    }
}

impl Peering {
    pub fn side(&self) -> PeeringSide {
        (self.id.clone(), self.vpc.clone())
    }
}

impl Feed {
    /// The connections of a VPC.
    pub fn peerings_of(&self, vpc: &VpcId) -> impl Iterator<Item = &Peering> {
        self.peerings.values().filter(move |peering| peering.vpc == *vpc)
    }

    /// The interfaces of a VPC's peers that packets may go to or come from, by address. Of two at one address that of the
    /// first connection by id counts.
    pub fn peered_of(&self, vpc: &VpcId) -> BTreeMap<Ipv4Addr, Peered<'_>> {
        let mut found = BTreeMap::new();
        let Some(own) = self.vpcs.get(vpc) else { return found };
        for peering in self.peerings_of(vpc) {
            let its = self.interfaces.values().filter(|it| it.vpc == peering.peer);
            for interface in its.filter(|it| self.is_led(peering, it)) {
                if !own.contains(interface.address) {
                    found.entry(interface.address).or_insert(Peered { peering, interface });
                }
            }
        }
        found
    }

    /// Whether packets go between a VPC and an interface of its peer: where a table of the VPC leads there, or, if
    /// none leads that address elsewhere, a route of the peer leads back. So a peer takes no packets away. Who is told
    /// of the interface and not of its VPC was told because it is so.
    fn is_led(&self, peering: &Peering, interface: &Interface) -> bool {
        let tables = self.tables.values().filter(|table| table.vpc == peering.vpc);
        let targets = tables.filter_map(|table| Some(&table.lookup(interface.address)?.target));
        let there = Target::Peering(peering.id.clone());
        let ways: Vec<&Target> = targets.filter(|it| **it != Target::Blackhole).collect();
        if !ways.is_empty() {
            return ways.contains(&&there);
        }
        if !self.vpcs.contains_key(&peering.peer) {
            return true;
        }
        let table = self.subnet_of(interface).and_then(|subnet| self.tables.get(&subnet.table));
        table.is_some_and(|table| table.routes.iter().any(|route| route.target == there))
    }

    /// A connection that a route of a VPC names.
    pub(crate) fn peering(&self, id: &VpcPeeringId, vpc: &VpcId) -> Option<&Peering> {
        self.peerings.get(&(id.clone(), vpc.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::{Item, ItemId, Place, Route, RouteTable, Subnet, Vpc};

    fn vpc(digit: u8) -> Vpc {
        let id: VpcId = format!("vpc-0000000{digit}").parse().unwrap();
        Vpc {
            vni: Vni::of(&id),
            id,
            ranges: vec![format!("10.{digit}.0.0/16").parse().unwrap()],
            has_dns: true,
            has_dns_hostnames: true,
            is_default: false,
        }
    }

    fn interface(vpc: u8, last: u8) -> Interface {
        Interface {
            id: format!("eni-0000{vpc:02x}{last:02x}").parse().unwrap(),
            vpc: format!("vpc-0000000{vpc}").parse().unwrap(),
            subnet: format!("subnet-0000000{vpc}").parse().unwrap(),
            address: [10, vpc, 0, last].into(),
            groups: vec![],
            public: None,
            place: Place::Here,
            is_balancers: false,
            is_logged: false,
        }
    }

    fn peering(near: u8, far: u8) -> Peering {
        let id: VpcPeeringId = "pcx-00000010".parse().unwrap();
        let [number, peer_number] = Vni::of_peering(&id);
        let [vpc, peer] = [near, far].map(|it| vpc(it).id);
        Peering { id, vpc, peer, number, peer_number, has_names: false }
    }

    fn subnet(vpc: u8, routes: &[(&str, Target)]) -> [Item; 2] {
        let vpc_id: VpcId = format!("vpc-0000000{vpc}").parse().unwrap();
        let table = RouteTable {
            id: format!("rtb-0000000{vpc}").parse().unwrap(),
            vpc: vpc_id.clone(),
            routes: routes
                .iter()
                .map(|(to, target)| Route {
                    destination: to.parse().unwrap(),
                    target: target.clone(),
                })
                .collect(),
        };
        let subnet = Subnet {
            id: format!("subnet-0000000{vpc}").parse().unwrap(),
            vpc: vpc_id,
            range: format!("10.{vpc}.0.0/24").parse().unwrap(),
            table: table.id.clone(),
            acl: "acl-00000001".parse().unwrap(),
            withheld: None,
        };
        [Item::RouteTable(table), Item::Subnet(subnet)]
    }

    #[test]
    fn what_a_table_of_the_vpc_leads_elsewhere_no_way_back_leads_to_a_peer() {
        let ids: [VpcPeeringId; 2] = ["pcx-00000010", "pcx-00000020"].map(|id| id.parse().unwrap());
        let via = |at: usize| Target::Peering(ids[at].clone());
        let outside: Ipv4Addr = [8, 8, 8, 8].into();
        let mut at_outside = interface(2, 8);
        at_outside.address = outside;
        let mut wide = vpc(2);
        wide.ranges.push("8.8.8.0/24".parse().unwrap());
        // VPC 3 has the same addresses, and was connected later.
        let twin = Interface { address: [10, 2, 0, 4].into(), ..interface(3, 4) };
        let same = Vpc { ranges: vpc(2).ranges, ..vpc(3) };
        let items = [
            Item::Vpc(vpc(1)),
            Item::Vpc(wide),
            Item::Vpc(same),
            Item::Peering(peering(1, 2)),
            Item::Peering(Peering { id: ids[1].clone(), ..peering(1, 3) }),
            Item::Interface(at_outside),
            Item::Interface(interface(2, 4)),
            Item::Interface(twin),
        ];
        let mut feed: Feed = items.into_iter().collect();
        subnet(2, &[("10.1.0.0/16", via(0))]).into_iter().for_each(|it| feed.put(it));
        if let Some(subnet) = feed.subnets.values_mut().next() {
            subnet.range = "0.0.0.0/0".parse().unwrap();
        }
        let found = |own: &[(&str, Target)]| {
            let mut feed = feed.clone();
            subnet(1, own).into_iter().for_each(|it| feed.put(it));
            let peered = feed.peered_of(&vpc(1).id).into_iter();
            peered.map(|(at, it)| (at, it.peering.id.clone())).collect::<Vec<_>>()
        };
        let four: Ipv4Addr = [10, 2, 0, 4].into();
        let by = |at: usize| ids[at].clone();
        let out = ("0.0.0.0/0", Target::InternetGateway);
        assert_eq!(
            found(&[]),
            [(outside, by(0)), (four, by(0))],
            "nothing of ours leads elsewhere"
        );
        assert_eq!(found(&[("0.0.0.0/0", Target::Blackhole)]).len(), 2, "nor does that");
        assert_eq!(found(std::slice::from_ref(&out)), [], "the world is where it was");
        let own = [("10.2.0.0/16", via(0)), out.clone()];
        assert_eq!(found(&own), [(four, by(0))]);
        assert_eq!(found(&[("10.2.0.0/16", via(1)), out]), [(four, by(1))], "the table says which");
    }

    #[test]
    fn what_was_told_for_another_vpc_of_the_host_leads_nothing_away() {
        let mut feed: Feed =
            [Item::Vpc(vpc(1)), Item::Peering(peering(1, 2))].into_iter().collect();
        feed.put(Item::Interface(interface(2, 4)));
        let out = [("0.0.0.0/0", Target::InternetGateway)];
        subnet(1, &out).into_iter().for_each(|it| feed.put(it));
        assert_eq!(feed.peered_of(&vpc(1).id).len(), 0);
    }

    #[test]
    fn numbers_of_a_connection_are_two_and_none_is_zero() {
        for (id, numbers) in [("pcx-00000000", [2, 3]), ("pcx-00abcdef", [0xab_cdee, 0xab_cdef])] {
            let found = Vni::of_peering(&id.parse().unwrap()).map(Vni::value);
            assert_eq!(found, numbers, "{id}");
        }
    }

    #[test]
    fn a_peers_interfaces_count_where_a_route_of_either_side_leads() {
        let there = Target::Peering("pcx-00000010".parse().unwrap());
        let mut feed: Feed =
            [Item::Vpc(vpc(1)), Item::Peering(peering(1, 2))].into_iter().collect();
        feed.put(Item::Interface(interface(2, 4)));
        feed.put(Item::Interface(interface(3, 4)));
        let found = |feed: &Feed| feed.peered_of(&vpc(1).id).keys().copied().collect::<Vec<_>>();
        let four: Ipv4Addr = [10, 2, 0, 4].into();
        assert_eq!(found(&feed), [four], "it was told for that, and no other VPC's");
        feed.put(Item::Vpc(vpc(2)));
        subnet(2, &[]).into_iter().for_each(|it| feed.put(it));
        assert!(found(&feed).is_empty(), "nothing leads there");
        subnet(1, &[("10.2.0.0/30", there.clone())]).into_iter().for_each(|it| feed.put(it));
        assert!(found(&feed).is_empty(), "another part of the peer");
        subnet(1, &[("10.2.0.0/16", there.clone())]).into_iter().for_each(|it| feed.put(it));
        assert_eq!(found(&feed), [four]);
        subnet(1, &[]).into_iter().for_each(|it| feed.put(it));
        subnet(2, &[("10.1.0.0/24", there)]).into_iter().for_each(|it| feed.put(it));
        assert_eq!(found(&feed), [four], "it may send to us");
        let stranger = interface(3, 4).id;
        assert_eq!(feed.oddities(), [crate::feed::Oddity::InterfaceOutside(stranger)]);
        let text = serde_json::to_string(&feed.items().collect::<Vec<_>>()).unwrap();
        let again: Feed = serde_json::from_str::<Vec<Item>>(&text).unwrap().into_iter().collect();
        assert_eq!(again, feed);
        let gone = ItemId::Peering(peering(1, 2).side());
        feed.apply(crate::feed::Change { put: vec![], gone: vec![gone] });
        assert!(found(&feed).is_empty());
    }
}
