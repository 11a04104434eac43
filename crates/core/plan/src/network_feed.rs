//! What hosts are told of a VPC, from its rows: its subnets, how packets leave them, and what judges those.
//!
//! Nothing is told that is not so now: a route whose target is gone leads nowhere, and a gateway that has failed is
//! not there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use longshore_types::{
    AccountId, NatGatewayId, NetworkAclId, RegionName, RouteTableId, SubnetId, VpcId,
};
use model::network::{
    AclEntry, AclNetwork, NatState, Network, NetworkAcl, RouteTable, RouteTarget,
};
use model::vpc::{Interface, InterfaceId, region_account};
use model::{Key, View};
use traffic::Traffic;
use traffic::feed::{self, Feed, Item, Peered, Peering, Place, Target, Vni, Withheld};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// All that is told of a VPC but its interfaces; nothing of one that is not there.
pub fn items_of(network: &Network<'_>, id: &VpcId) -> Vec<Item> {
    let Some(vpc) = network.vpc(id) else { return vec![] };
    let mut items = vec![Item::Vpc(feed::Vpc {
        id: vpc.id.clone(),
        vni: Vni::of(&vpc.id),
        ranges: vpc.blocks().collect(),
        has_dns: vpc.dns_support,
        has_dns_hostnames: vpc.dns_hostnames,
        is_default: vpc.is_default,
    })];
    let subnets = network.subnets_of(id);
    let mut tables: Vec<_> = subnets.iter().filter_map(|it| network.table_of(it)).collect();
    tables.sort_by(|a, b| a.id.cmp(&b.id));
    tables.dedup();
    items.extend(tables.iter().map(|table| Item::RouteTable(of_table(network, table))));
    let mut acls: Vec<_> = subnets.iter().filter_map(|it| network.acl(&it.acl.acl)).collect();
    acls.sort_by(|a, b| a.id.cmp(&b.id));
    acls.dedup();
    items.extend(acls.iter().map(|acl| Item::NetworkAcl(of_acl(acl))));
    items.extend(subnets.iter().filter_map(|subnet| {
        Some(Item::Subnet(feed::Subnet {
            id: subnet.id.clone(),
            vpc: subnet.vpc.clone(),
            range: subnet.block,
            table: network.table_of(subnet)?.id.clone(),
            acl: subnet.acl.acl.clone(),
            withheld: None,
        }))
    }));
    let gateways = network.users(id.as_str()).filter_map(|key| {
        let Key::NatGateway(account, id) = key else { return None };
        network.view().nat_gateways.get(*account, id)
    });
    let available = gateways.filter(|gateway| gateway.state == NatState::Available);
    items.extend(available.map(|gateway| {
        Item::NatGateway(feed::NatGateway {
            id: gateway.id.clone(),
            vpc: gateway.vpc.clone(),
            subnet: gateway.subnet.clone(),
            public: gateway.public.as_ref().map(|(address, _)| *address),
        })
    }));
    items
}

/// The subnets of default VPCs in which a host has interfaces, by the accounts whose they are.
pub type Here<'v> = BTreeMap<AccountId, BTreeSet<&'v SubnetId>>;

/// What a host must know of default VPCs that were changed, to judge the packets of its own interfaces: these are all in
/// what the default VPCs of all accounts share, `plane`. Nothing is told of one whose packets go as they would had nobody
/// changed it, nor of what is about no interface of the host.
pub fn judged_defaults(
    view: &View,
    region: &RegionName,
    plane: &VpcId,
    here: &Here<'_>,
) -> Vec<Item> {
    let mut all = Vec::new();
    for (account, subnets) in here {
        let Some(vpc) = view.vpcs.of(*account).find(|row| row.is_default) else { continue };
        let network = Network::new(view, *account, region);
        let Some(items) = judged_items(&network, &vpc.id) else { continue };
        let withheld = match (vpc.dns_support, vpc.dns_hostnames) {
            (true, true) => None,
            (true, false) => Some(Withheld::OfInterfaces),
            (false, _) => Some(Withheld::All),
        };
        let vpc = || plane.clone();
        let Feed { tables, acls, subnets, nat_gateways, .. } = used_in(subnets, items);
        let tables = tables.into_values();
        all.extend(tables.map(|it| Item::RouteTable(feed::RouteTable { vpc: vpc(), ..it })));
        let acls = acls.into_values();
        all.extend(acls.map(|it| Item::NetworkAcl(feed::NetworkAcl { vpc: vpc(), ..it })));
        let subnets = subnets.into_values();
        all.extend(subnets.map(|it| Item::Subnet(feed::Subnet { vpc: vpc(), withheld, ..it })));
        let gateways = nat_gateways.into_values();
        all.extend(gateways.map(|it| Item::NatGateway(feed::NatGateway { vpc: vpc(), ..it })));
    }
    all
}

/// Of a VPC's items those by which packets of interfaces in these subnets go: that of a NAT gateway to which one of their
/// tables leads, and of the subnet that it is in, are among them.
fn used_in(here: &BTreeSet<&SubnetId>, items: Vec<Item>) -> Feed {
    let mut feed: Feed = items.into_iter().collect();
    let own = feed.subnets.values().filter(|subnet| here.contains(&subnet.id));
    let routes = own.filter_map(|it| feed.tables.get(&it.table)).flat_map(|it| &it.routes);
    let gateways = routes.filter_map(|route| match &route.target {
        Target::NatGateway(id) => Some(id.clone()),
        Target::InternetGateway | Target::Peering(_) | Target::Blackhole => None,
    });
    let gateways: BTreeSet<NatGatewayId> = gateways.collect();
    feed.nat_gateways.retain(|id, _| gateways.contains(id));
    let theirs: BTreeSet<SubnetId> =
        feed.nat_gateways.values().map(|it| it.subnet.clone()).collect();
    feed.subnets.retain(|id, _| here.contains(id) || theirs.contains(id));
    let tables: BTreeSet<RouteTableId> = feed.subnets.values().map(|it| it.table.clone()).collect();
    feed.tables.retain(|id, _| tables.contains(id));
    let acls: BTreeSet<NetworkAclId> = feed.subnets.values().map(|it| it.acl.clone()).collect();
    feed.acls.retain(|id, _| acls.contains(id));
    feed
}

/// Whether packets of a default VPC may go otherwise than they would had nobody changed it.
pub fn is_judged(network: &Network<'_>, id: &VpcId) -> bool {
    judged_items(network, id).is_some()
}

/// What is told of a default VPC if packets may go otherwise in it than they would had nobody changed it.
fn judged_items(network: &Network<'_>, id: &VpcId) -> Option<Vec<Item>> {
    let is_stored = network.unchanged_default().is_none();
    let vpc = network.vpc(id).filter(|vpc| is_stored && vpc.is_default)?;
    let items = items_of(network, id);
    let lets_all = |entries: &[feed::AclEntry]| {
        let first = entries.first();
        first.is_some_and(|it| it.is_allowed && it.traffic == Traffic::All && it.peer.prefix() == 0)
    };
    let is_open = |item: &Item| match item {
        Item::RouteTable(table) => {
            let is_out = |route: &feed::Route| route.target == Target::InternetGateway;
            let mut routes = table.routes.iter();
            routes.any(|it| it.destination.prefix() == 0) && table.routes.iter().all(is_out)
        }
        Item::NetworkAcl(acl) => lets_all(&acl.ingress) && lets_all(&acl.egress),
        Item::Vpc(_)
        | Item::Subnet(_)
        | Item::NatGateway(_)
        | Item::Peering(_)
        | Item::Interface(_) => true,
    };
    let has_names = vpc.dns_support && vpc.dns_hostnames;
    (!has_names || !items.iter().all(is_open)).then_some(items)
}

/// The VPC's end of each of its active connections.
pub fn peerings_of(view: &View, account: AccountId, vpc: &VpcId) -> Vec<Peering> {
    let rows = view.active_peerings(account, vpc).into_iter();
    let sides = rows.filter_map(|row| {
        let (near, far) = row.seen_from(vpc)?;
        let [number, peer_number] = row.numbers_from(vpc);
        Some(Peering {
            id: row.id.clone(),
            vpc: near.vpc.clone(),
            peer: far.vpc.clone(),
            number,
            peer_number,
            has_names: far.allows_names,
        })
    });
    sides.collect()
}

/// What is told of a VPC's peers: its connections, and of the interfaces on the other side those that a route of either
/// side leads to. `place` says where an interface is, if it is anywhere.
pub fn peers_of(
    view: &View,
    (account, region): (AccountId, &RegionName),
    vpc: &VpcId,
    place: impl Fn(&Interface) -> Option<Place>,
) -> Vec<Item> {
    let peerings = peerings_of(view, account, vpc);
    if peerings.is_empty() {
        return vec![];
    }
    let mut all: Feed = items_of(&Network::new(view, account, region), vpc).into_iter().collect();
    for row in view.active_peerings(account, vpc) {
        let Some((_, far)) = row.seen_from(vpc) else { continue };
        let network = Network::new(view, far.account, region);
        items_of(&network, &far.vpc).into_iter().for_each(|item| all.put(item));
        for row in apart(view, Some(&far.vpc)).take_while(|row| row.vpc == far.vpc) {
            if let Some(place) = place(row) {
                all.put(Item::Interface(interface(view, row, &far.vpc, place)));
            }
        }
    }
    peerings.into_iter().for_each(|it| all.put(Item::Peering(it)));
    let interfaces = all.peered_of(vpc).into_values().map(|Peered { peering, interface }| {
        // Nothing else of it concerns the peer.
        Item::Interface(feed::Interface {
            public: interface.public.filter(|_| peering.has_names),
            is_balancers: false,
            is_logged: false,
            ..interface.clone()
        })
    });
    all.peerings_of(vpc).cloned().map(Item::Peering).chain(interfaces).collect()
}

/// Interfaces in VPCs with addresses of their own, by VPC: from the first of `vpc` on, or all.
pub fn apart<'v>(view: &'v View, vpc: Option<&VpcId>) -> impl Iterator<Item = &'v Arc<Interface>> {
    let first = vpc
        .cloned()
        .unwrap_or_else(|| "vpc-00000000".parse().expect("no id of a VPC comes before this one"));
    let first = InterfaceId { vpc: Some(first), address: Ipv4Addr::UNSPECIFIED };
    view.interfaces.from(region_account(), first)
}

/// One interface as hosts are told of it. `vpc` is its VPC's id as they know it.
pub fn interface(view: &View, row: &Interface, vpc: &VpcId, place: Place) -> feed::Interface {
    feed::Interface {
        id: row.eni.clone(),
        vpc: vpc.clone(),
        subnet: row.subnet.clone(),
        address: row.address,
        groups: row.security_groups.clone(),
        public: view.public_address_of(row),
        place,
        is_balancers: row.is_at_home(),
        // Of the many in what all default VPCs share it is looked for where it matters.
        is_logged: row.is_apart && view.flow_logs_on(row).next().is_some(),
    }
}

fn of_table(network: &Network<'_>, table: &RouteTable) -> feed::RouteTable {
    let routes = table.by_block(network).into_iter().map(|(destination, target)| feed::Route {
        destination,
        target: match target {
            target if !network.is_active(&table.vpc, target) => Target::Blackhole,
            RouteTarget::InternetGateway(_) => Target::InternetGateway,
            RouteTarget::NatGateway(id) => Target::NatGateway(id.clone()),
            RouteTarget::VpcPeering(id) => Target::Peering(id.clone()),
        },
    });
    feed::RouteTable { id: table.id.clone(), vpc: table.vpc.clone(), routes: routes.collect() }
}

fn of_acl(acl: &NetworkAcl) -> feed::NetworkAcl {
    let entries = |is_egress: bool| {
        let entries = acl.entries.iter().filter(move |entry| entry.is_egress == is_egress);
        let mut entries: Vec<feed::AclEntry> = entries.filter_map(of_entry).collect();
        entries.sort_by_key(|entry| entry.number);
        entries
    };
    feed::NetworkAcl {
        id: acl.id.clone(),
        vpc: acl.vpc.clone(),
        ingress: entries(false),
        egress: entries(true),
    }
}

/// `None` for one that no packet of a host can match.
fn of_entry(entry: &AclEntry) -> Option<feed::AclEntry> {
    let AclNetwork::Ipv4(peer) = entry.network else { return None };
    let ports = |ports: Option<(u16, u16)>| -> RangeInclusive<u16> {
        let (first, last) = ports.unwrap_or((0, u16::MAX));
        first..=last
    };
    let code = |number: i32| u8::try_from(number).ok();
    let traffic = match entry.protocol {
        None => Traffic::All,
        Some(TCP) => Traffic::Tcp(ports(entry.ports)),
        Some(UDP) => Traffic::Udp(ports(entry.ports)),
        Some(ICMP) => {
            let (kind, of_kind) = entry.icmp.unwrap_or((-1, -1));
            Traffic::Icmp(code(kind).map(|kind| (kind, code(of_kind))))
        }
        Some(number) => Traffic::Protocol(number),
    };
    Some(feed::AclEntry { number: entry.number, is_allowed: entry.allows, traffic, peer })
}

#[cfg(test)]
pub(crate) mod tests {
    use longshore_types::{AccountId, Cidr, PrefixListId, RegionName};
    use model::network::{
        AddressFamily, InternetGateway, PrefixEntry, PrefixList, Route, RouteDestination,
        SubnetRow, SubnetTable, VpcRow,
    };
    use model::vpc::AddressPlan;
    use model::{Kind, Row, Seq, View};

    use super::*;

    pub(crate) fn account() -> AccountId {
        "111111111111".parse().unwrap()
    }

    /// A view with a VPC of its own beside the default one, of the same shape.
    pub(crate) fn view() -> (View, VpcId) {
        let mut view = View::default();
        let block = "172.31.0.0/16".parse().unwrap();
        let plan = AddressPlan { block, bridge: None, seed: 7 };
        let region: RegionName = "us-east-1".parse().unwrap();
        let of_default = plan.default_network(account(), &region);
        view.put(Seq(1), &Row::from(plan));
        let vpc: VpcId = "vpc-0123456789abcdef0".parse().unwrap();
        let mut row =
            VpcRow { id: vpc.clone(), is_default: false, ..VpcRow::clone(&of_default.vpc) };
        row.first.block = "10.0.0.0/16".parse().unwrap();
        row.main_table = "rtb-00000001".parse().unwrap();
        view.put(Seq(2), &Row::from(row.clone()));
        let gateway = RouteTarget::NatGateway("nat-00000001".parse().unwrap());
        let anywhere: Cidr = "0.0.0.0/0".parse().unwrap();
        let routes = vec![Route { destination: anywhere.into(), target: gateway }];
        let main = RouteTable { account: account(), id: row.main_table, vpc: vpc.clone(), routes };
        view.put(Seq(3), &Row::from(main.clone()));
        let own = RouteTable { id: "rtb-00000002".parse().unwrap(), routes: vec![], ..main };
        let table = SubnetTable {
            association: "rtbassoc-00000001".parse().unwrap(),
            table: own.id.clone(),
        };
        view.put(Seq(4), &Row::from(own));
        let mut acl = NetworkAcl::open(account(), "acl-00000001".parse().unwrap(), vpc.clone());
        acl.entries.push(AclEntry {
            is_egress: false,
            number: 50,
            allows: false,
            protocol: Some(ICMP),
            ports: None,
            icmp: Some((8, -1)),
            network: AclNetwork::Ipv4("10.0.0.0/8".parse().unwrap()),
        });
        acl.entries.push(AclEntry {
            network: AclNetwork::Ipv6("::/0".to_owned()),
            ..AclEntry::all(false, 101)
        });
        view.put(Seq(5), &Row::from(acl.clone()));
        for (number, table) in [(0_u8, None), (1, Some(table))] {
            let template = &of_default.subnets[usize::from(number)];
            let mut subnet = SubnetRow {
                id: format!("subnet-0000000{number}").parse().unwrap(),
                vpc: vpc.clone(),
                block: format!("10.0.{number}.0/24").parse().unwrap(),
                is_default: false,
                table,
                ..SubnetRow::clone(template)
            };
            subnet.acl.acl = acl.id.clone();
            view.put(Seq(6), &Row::from(subnet));
        }
        (view, vpc)
    }

    #[test]
    fn a_host_is_told_what_is_so_and_in_an_order_in_which_nothing_is_named_before_it_is_told() {
        let (view, vpc) = view();
        let region: RegionName = "us-east-1".parse().unwrap();
        let network = Network::new(&view, account(), &region);
        let mut told = feed::Feed::default();
        for item in items_of(&network, &vpc) {
            if let Item::Subnet(subnet) = &item {
                assert!(told.vpcs.contains_key(&subnet.vpc));
                assert!(told.tables.contains_key(&subnet.table));
                assert!(told.acls.contains_key(&subnet.acl));
            }
            told.put(item);
        }
        assert_eq!((told.vpcs.len(), told.subnets.len(), told.tables.len()), (1, 2, 2));
        let main = &told.tables[&"rtb-00000001".parse().unwrap()];
        assert_eq!(main.routes[0].target, Target::Blackhole, "there is no such gateway");
        let acl = told.acls.values().next().unwrap();
        let ingress: Vec<(u16, bool)> =
            acl.ingress.iter().map(|entry| (entry.number, entry.is_allowed)).collect();
        assert_eq!(ingress, [(50, false), (100, true)], "those of IPv6 are about no packet");
        assert_eq!(acl.ingress[0].traffic, Traffic::Icmp(Some((8, None))));
        assert_eq!(acl.egress.len(), 1);
        let none = items_of(&network, &"vpc-00000000".parse().unwrap());
        assert_eq!(none, []);
    }

    #[test]
    fn a_route_by_a_list_is_one_for_each_block_that_no_other_route_is_for() {
        let (mut view, vpc) = view();
        let region: RegionName = "us-east-1".parse().unwrap();
        let block = |text: &str| -> Cidr { text.parse().unwrap() };
        let list: PrefixListId = "pl-00000001".parse().unwrap();
        let entries = ["0.0.0.0/0", "192.0.2.0/24"]
            .map(|text| PrefixEntry { network: AclNetwork::Ipv4(block(text)), description: None });
        view.put(
            Seq(7),
            &Row::from(PrefixList {
                account: account(),
                id: list.clone(),
                name: "offices".to_owned(),
                family: AddressFamily::Ipv4,
                max_entries: 5,
                version: 1,
                is_modified: false,
                is_restored: false,
                earlier: vec![],
                entries: entries.into(),
            }),
        );
        let gateway = InternetGateway {
            account: account(),
            id: "igw-00000001".parse().unwrap(),
            vpc: Some(vpc.clone()),
        };
        let out = RouteTarget::InternetGateway(gateway.id.clone());
        view.put(Seq(8), &Row::from(gateway));
        let main = view.route_tables.get(account(), &"rtb-00000001".parse().unwrap()).unwrap();
        let mut main = RouteTable::clone(main);
        let gone: PrefixListId = "pl-00000002".parse().unwrap();
        for list in [list, gone] {
            main.routes
                .push(Route { destination: RouteDestination::List(list), target: out.clone() });
        }
        let row = Row::from(main);
        let stored = row.to_json().unwrap();
        view.put(Seq(9), &Row::from_json(Kind::RouteTable, &stored).unwrap());
        let network = Network::new(&view, account(), &region);
        let told: feed::Feed = items_of(&network, &vpc).into_iter().collect();
        let main = &told.tables[&"rtb-00000001".parse().unwrap()];
        let routes: Vec<_> =
            main.routes.iter().map(|route| (route.destination, route.target.clone())).collect();
        let expected = [
            (block("0.0.0.0/0"), Target::Blackhole),
            (block("192.0.2.0/24"), Target::InternetGateway),
        ];
        assert_eq!(routes, expected);
    }

    #[test]
    fn of_a_changed_default_vpc_a_host_is_told_what_its_own_interfaces_packets_go_by() {
        let subnet =
            |number: u8| -> SubnetId { format!("subnet-0000000{number}").parse().unwrap() };
        let vpc: VpcId = "vpc-00000001".parse().unwrap();
        let nat: NatGatewayId = "nat-00000001".parse().unwrap();
        let mut items = vec![Item::NatGateway(feed::NatGateway {
            id: nat.clone(),
            vpc: vpc.clone(),
            subnet: subnet(1),
            public: None,
        })];
        let anywhere: Cidr = "0.0.0.0/0".parse().unwrap();
        for (number, target) in
            [(1_u8, Target::InternetGateway), (2, Target::NatGateway(nat)), (3, Target::Blackhole)]
        {
            let table: RouteTableId = format!("rtb-0000000{number}").parse().unwrap();
            let acl: NetworkAclId = format!("acl-0000000{number}").parse().unwrap();
            items.push(Item::RouteTable(feed::RouteTable {
                id: table.clone(),
                vpc: vpc.clone(),
                routes: vec![feed::Route { destination: anywhere, target }],
            }));
            items.push(Item::NetworkAcl(feed::NetworkAcl {
                id: acl.clone(),
                vpc: vpc.clone(),
                ingress: vec![],
                egress: vec![],
            }));
            items.push(Item::Subnet(feed::Subnet {
                id: subnet(number),
                vpc: vpc.clone(),
                range: format!("172.31.{number}.0/24").parse().unwrap(),
                table,
                acl,
                withheld: None,
            }));
        }
        let told = |here: &[u8]| {
            let here: Vec<SubnetId> = here.iter().map(|number| subnet(*number)).collect();
            let feed = used_in(&here.iter().collect(), items.clone());
            let subnets: Vec<SubnetId> = feed.subnets.keys().cloned().collect();
            (subnets, [feed.tables.len(), feed.acls.len(), feed.nat_gateways.len()])
        };
        assert_eq!(told(&[1]), (vec![subnet(1)], [1, 1, 0]));
        assert_eq!(told(&[2]), (vec![subnet(1), subnet(2)], [2, 2, 1]), "its gateway's way too");
        assert_eq!(told(&[3]), (vec![subnet(3)], [1, 1, 0]));
        assert_eq!(told(&[9]), (vec![], [0, 0, 0]));
    }

    #[test]
    fn the_default_vpc_is_told_of_like_any_other() {
        let (view, _) = view();
        let region: RegionName = "us-east-1".parse().unwrap();
        let network = Network::new(&view, account(), &region);
        let default = network.default_vpc().unwrap().id.clone();
        let items = items_of(&network, &default);
        let is_out = |item: &Item| {
            let Item::RouteTable(table) = item else { return false };
            table.routes[0].target == Target::InternetGateway
        };
        assert_eq!(items.len(), 6);
        assert!(items.iter().any(is_out));
    }
}
