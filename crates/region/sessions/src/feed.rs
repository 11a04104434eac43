//! What a host is told of VPCs: a function from the rows to the copy that its agent should have.
//!
//! One without an interface in a VPC needs to know nothing of it and is told nothing, but of interfaces to which a route
//! leads from a VPC that is connected with it. Of the default VPC's interfaces a
//! host without an address among the hosts is not told either: it reaches no other, and its own it knows. The interfaces
//! of balancers are where `plan::balancers` put them, those of VPC endpoints on the region's own machine, and are made there
//! because they are told.
//!
//! Of a default VPC that was changed, so that its packets go otherwise than those of one that is as it came, each host
//! with an interface in it is told what those go by, and of the interfaces in the same subnets; and of those there that
//! are logged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_types::{AccountId, InstanceId, RegionName, SubnetId, VpcId};
use model::elb::BalancerZone;
use model::instance::{Instance, InstanceStatus};
use model::network::{FlowLogOf, Network};
use model::vpc::{AddressPlanId, InterfaceUser, region_account};
use model::{ElbBalancer, Index, Key, View, vpc};
use plan::network_feed::{self, Here};
use traffic::feed::{Feed, Interface, Item, Place, Vni, Vpc};

/// The instance of the region's own machine, if there are balancers or endpoints: where they are unless they are elsewhere.
pub(crate) fn home_of_balancers(
    view: &View,
    is_own: impl Fn(&Instance) -> bool,
) -> Option<InstanceId> {
    let has_endpoints = || view.vpc_endpoints.iter().any(|row| row.interface().is_some());
    let has_some = view.elb_balancers.iter().next().is_some() || has_endpoints();
    if has_some { own_machine(view, is_own) } else { None }
}

/// The same whether or not there are any.
pub(crate) fn own_machine(view: &View, is_own: impl Fn(&Instance) -> bool) -> Option<InstanceId> {
    plan::balancers::own_machine(view, is_own).map(|row| row.id)
}

/// The balancers with an interface on the host of an instance.
pub(crate) fn balancers_on(
    view: &View,
    id: InstanceId,
    home: Option<InstanceId>,
) -> impl Iterator<Item = &Arc<ElbBalancer>> {
    let is_here = move |zone: &BalancerZone| zone.stand.host.or(home) == Some(id);
    view.elb_balancers.iter().filter(move |row| row.interfaces().any(is_here))
}

/// The VPCs and subnets in which balancers or interface endpoints have interfaces on a host.
fn served_on(
    view: &View,
    id: InstanceId,
    home: Option<InstanceId>,
) -> impl Iterator<Item = (AccountId, &VpcId, &SubnetId)> {
    let is_here = move |zone: &&BalancerZone| zone.stand.host.or(home) == Some(id);
    let balancers = view.elb_balancers.iter().flat_map(move |row| {
        let zones = row.zones.iter().filter(is_here);
        zones.map(move |zone| (row.scope.account, &row.vpc, &zone.subnet))
    });
    let endpoints = view.vpc_endpoints.iter().filter(move |_| home == Some(id));
    let endpoints = endpoints.flat_map(|row| {
        let zones = row.interface().into_iter().flat_map(|it| &it.zones);
        zones.map(move |zone| (row.account, &row.vpc, &zone.subnet))
    });
    balancers.chain(endpoints)
}

/// The instance on whose host an interface is, or is to be.
pub(crate) fn host_of(
    view: &View,
    row: &vpc::Interface,
    home: Option<InstanceId>,
) -> Option<InstanceId> {
    let account = row.owner.account;
    match &row.user {
        InterfaceUser::Task { task, .. } => view.tasks.get(account, task)?.instance,
        InterfaceUser::Balancer { balancer } => {
            let mut zones = view.elb_balancers.get(account, balancer)?.interfaces();
            zones.find(|zone| zone.eni == row.eni)?.stand.host.or(home)
        }
        InterfaceUser::VpcEndpoint { .. } => home,
        InterfaceUser::NatGateway { .. }
        | InterfaceUser::Person { .. }
        | InterfaceUser::Secondary { .. } => None,
    }
}

/// What the host of an instance must know. `home` is that of the region's own machine; `meets` says of which hosts it
/// hears.
pub(crate) fn feed_of(
    view: &View,
    region: &RegionName,
    id: InstanceId,
    home: Option<InstanceId>,
    meets: impl Fn(&Instance, &Instance) -> bool,
) -> Feed {
    let own = view.instance_of_any(id).filter(|row| row.underlay().is_some());
    let is_routed = own.is_some();
    let (mut is_in_default, mut vpcs) = (false, BTreeSet::new());
    let mut serves_in_default = false;
    // Those of default VPCs, where there is anything to say of one.
    let mut here = Here::new();
    let is_any_changed = view.member_count(&Index::DefaultVpcs) > 0;
    let may_be_told = is_any_changed || view.flow_logs.iter().next().is_some();
    for (account, vpc, subnet) in served_on(view, id, home) {
        match view.vpcs.get(account, vpc).filter(|row| !row.is_default) {
            Some(_) => drop(vpcs.insert((account, vpc))),
            None => {
                serves_in_default = true;
                here.entry(account).or_default().insert(subnet);
            }
        }
    }
    for task in view.tasks_on_instance(id) {
        let Some(interface) = &task.interface else { continue };
        match &interface.own_vpc {
            Some(vpc) => drop(vpcs.insert((task.scope.account, vpc))),
            None if may_be_told => {
                is_in_default = true;
                here.entry(task.scope.account).or_default().insert(&interface.subnet);
            }
            None => is_in_default = true,
        }
    }
    let mut feed = Feed::default();
    let is_in_plane = is_routed && (is_in_default || serves_in_default);
    let judged = judged_in_plane(view, region, &here);
    let is_logged = logs_in_plane(view, &here);
    let is_plane_told = is_in_plane || serves_in_default || is_logged || !judged.is_empty();
    if vpcs.is_empty() && !is_plane_told {
        return feed;
    }
    let places = Places { instances: places(view, id, own.map(AsRef::as_ref), meets), home };
    if is_plane_told {
        let subnets: BTreeSet<&SubnetId> = judged.iter().filter_map(subnet_of).collect();
        let items = default_plane(view, region, &places, |row, mut told| {
            let is_here = told.place == Place::Here;
            told.is_logged = is_logged && is_here && view.flow_logs_on(row).next().is_some();
            let is_judged = subnets.contains(&row.subnet);
            let is_needed = row.task().is_none() || is_judged || told.is_logged;
            (is_in_plane || is_needed).then_some(told)
        });
        items.into_iter().flatten().for_each(|item| feed.put(item));
        judged.iter().cloned().for_each(|item| feed.put(item));
    }
    // What a host has an interface in itself it is told of wholly, whatever it is told of it as of a peer.
    for (account, vpc) in &vpcs {
        let place = |row: &vpc::Interface| places.of(view, row);
        let items = network_feed::peers_of(view, (*account, region), vpc, place);
        items.into_iter().for_each(|item| put_of_peer(&mut feed, item));
    }
    for (account, vpc) in vpcs {
        own_vpc(view, region, account, vpc, &places).for_each(|item| feed.put(item));
    }
    feed
}

/// What is told of default VPCs that were changed.
fn judged_in_plane(view: &View, region: &RegionName, here: &Here<'_>) -> Vec<Item> {
    if here.is_empty() || view.member_count(&Index::DefaultVpcs) == 0 {
        return vec![];
    }
    let plan = view.address_plans.get(region_account(), &AddressPlanId);
    let plane = plan.map(|plan| plan.shared_vpc(region));
    plane.map(|plane| network_feed::judged_defaults(view, region, &plane, here)).unwrap_or_default()
}

/// Whether a flow log of one of the accounts is of its default VPC, or of something in it.
fn logs_in_plane(view: &View, here: &Here<'_>) -> bool {
    let mut logs = here.keys().flat_map(|account| view.flow_logs.of(*account));
    logs.any(|log| match &log.of {
        FlowLogOf::Vpc(vpc) => view.own_vpc(log.account, vpc).is_none(),
        // Of a default VPC that nobody changed there are no rows.
        FlowLogOf::Subnet(subnet) => {
            let row = view.subnets.get(log.account, subnet);
            row.is_none_or(|row| view.own_vpc(log.account, &row.vpc).is_none())
        }
        // Those of tasks there are in no index.
        FlowLogOf::Interface(eni) => {
            let mut keys = view.members(&Index::Eni(log.account, eni.clone()));
            keys.all(|key| matches!(key, Key::Interface(_, id) if id.vpc.is_none()))
        }
    })
}

fn subnet_of(item: &Item) -> Option<&SubnetId> {
    match item {
        Item::Subnet(subnet) => Some(&subnet.id),
        Item::Vpc(_)
        | Item::RouteTable(_)
        | Item::NetworkAcl(_)
        | Item::NatGateway(_)
        | Item::Peering(_)
        | Item::Interface(_) => None,
    }
}

/// One that several VPCs on the host have as a peer has its public address where one of them has names of it: whose peers
/// have is said of each connection.
fn put_of_peer(feed: &mut Feed, mut item: Item) {
    if let Item::Interface(it) = &mut item {
        let before = feed.interfaces.get(&it.id);
        it.public = it.public.or(before.and_then(|before| before.public));
    }
    feed.put(item);
}

/// Where interfaces are that a host can reach.
struct Places {
    instances: BTreeMap<InstanceId, Place>,
    /// Of the interfaces of balancers that are on no other host, and of endpoints.
    home: Option<InstanceId>,
}

impl Places {
    fn of(&self, view: &View, row: &vpc::Interface) -> Option<Place> {
        self.instances.get(&host_of(view, row, self.home)?).copied()
    }
}

/// Where interfaces are that a host can reach.
fn places(
    view: &View,
    here: InstanceId,
    own: Option<&Instance>,
    meets: impl Fn(&Instance, &Instance) -> bool,
) -> BTreeMap<InstanceId, Place> {
    let is_met = |row: &Instance| {
        row.status < InstanceStatus::Inactive
            && row.id != here
            && own.is_some_and(|own| meets(own, row))
    };
    let others = view.instances.iter().filter(|row| is_met(row));
    let others = others.filter_map(|row| Some((row.id, Place::At(row.underlay()?))));
    others.chain([(here, Place::Here)]).collect()
}

/// The range that all accounts' default VPCs share, as one VPC, and the interfaces in it as `tell` has them.
fn default_plane(
    view: &View,
    region: &RegionName,
    places: &Places,
    tell: impl Fn(&vpc::Interface, Interface) -> Option<Interface>,
) -> Option<impl Iterator<Item = Item>> {
    let plan = view.address_plans.get(region_account(), &AddressPlanId)?;
    let id = plan.shared_vpc(region);
    let vpc = Vpc {
        vni: Vni::of(&id),
        id: id.clone(),
        ranges: vec![plan.block],
        has_dns: true,
        has_dns_hostnames: true,
        is_default: true,
    };
    let shared = view.interfaces.iter().take_while(|row| !row.is_apart);
    let interfaces: Vec<Item> = shared
        .filter_map(|row| tell(row, interface(view, row, &id, places)?))
        .map(Item::Interface)
        .collect();
    Some([Item::Vpc(vpc)].into_iter().chain(interfaces))
}

/// A VPC with addresses of its own, with all that says how packets go in it.
fn own_vpc(
    view: &View,
    region: &RegionName,
    account: AccountId,
    vpc: &VpcId,
    places: &Places,
) -> impl Iterator<Item = Item> {
    let items = network_feed::items_of(&Network::new(view, account, region), vpc);
    let interfaces = network_feed::apart(view, Some(vpc)).take_while(|row| row.vpc == *vpc);
    let interfaces: Vec<Item> = interfaces
        .filter_map(|row| Some(Item::Interface(interface(view, row, vpc, places)?)))
        .collect();
    items.into_iter().chain(interfaces)
}

/// The instances whose hosts are told how packets go: in VPCs with addresses of their own, and in default VPCs that were
/// changed.
pub(crate) fn instances_with_ways(view: &View, home: Option<InstanceId>) -> BTreeSet<InstanceId> {
    let apart = network_feed::apart(view, None).filter_map(|row| host_of(view, row, home));
    let mut all: BTreeSet<InstanceId> = apart.collect();
    for key in view.members(&Index::DefaultVpcs) {
        let Key::Vpc(account, id) = key else { continue };
        let subnets = view.members(&Index::Ec2Uses(*account, id.as_str().into()));
        let subnets = subnets.filter_map(|key| {
            let Key::Subnet(account, id) = key else { return None };
            Some(Index::SubnetInterfaces(*account, id.clone()))
        });
        let rows = subnets.flat_map(|index| view.members(&index)).filter_map(|key| {
            let Key::Interface(owner, id) = key else { return None };
            view.interfaces.get(*owner, id)
        });
        all.extend(rows.filter_map(|row| host_of(view, row, home)));
    }
    all
}

fn interface(view: &View, row: &vpc::Interface, vpc: &VpcId, places: &Places) -> Option<Interface> {
    Some(network_feed::interface(view, row, vpc, places.of(view, row)?))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::Ipv4Addr;

    use control::testing::rows::{instance, task};
    use longshore_types::{EniId, Timestamp};
    use model::elb::{BalancerKind, Stand};
    use model::instance::UNDERLAY_ATTRIBUTE;
    use model::network::{VpcBlock, VpcRow};
    use model::vpc::{AddressPlan, InterfaceUser};
    use model::{ElbBalancer, Row, Seq, Task};

    use super::*;

    struct World {
        view: View,
        seq: u64,
        home: Option<InstanceId>,
    }

    impl World {
        fn new() -> Self {
            let mut world = Self { view: View::default(), seq: 0, home: None };
            let block = "172.31.0.0/16".parse().unwrap();
            world.put(AddressPlan { block, bridge: None, seed: 7 });
            world
        }

        fn put(&mut self, row: impl Into<Row>) {
            self.seq += 1;
            self.view.put(Seq(self.seq), &row.into());
        }

        fn host(&mut self, number: u8, underlay: Option<&str>) -> InstanceId {
            let mut row = instance(format!("{number:032x}").parse().unwrap());
            if let Some(address) = underlay {
                row.attributes.insert(UNDERLAY_ATTRIBUTE.to_owned(), Some(address.to_owned()));
            }
            let id = row.id;
            self.put(row);
            id
        }

        fn task(&mut self, number: u8, host: InstanceId) -> Task {
            self.task_in(None, number, host)
        }

        fn task_in(&mut self, own: Option<&str>, number: u8, host: InstanceId) -> Task {
            let mut task = task(number.into());
            task.instance = Some(host);
            let own: Option<VpcId> = own.map(|id| id.parse().unwrap());
            task.interface.as_mut().unwrap().own_vpc.clone_from(&own);
            let address = Ipv4Addr::new(172, 31, 0, number);
            let interface = task.interface.clone().unwrap();
            let eni: EniId = format!("eni-000000{number:02x}").parse().unwrap();
            self.put(vpc::Interface {
                address,
                eni,
                owner: task.scope.clone(),
                user: InterfaceUser::Task {
                    cluster: task.cluster.clone(),
                    task: task.id,
                    attachment: interface.attachment,
                },
                vpc: own.clone().unwrap_or_else(|| "vpc-12345678".parse().unwrap()),
                subnet: "subnet-12345678".parse().unwrap(),
                security_groups: interface.security_groups.clone(),
                zone: "eu-north-1a".to_owned(),
                mac: String::new(),
                assign_public_ip: false,
                created_at: Timestamp(0),
                is_apart: own.is_some(),
                public: None,
            });
            self.put(task.clone());
            task
        }

        fn told(&self, id: InstanceId) -> BTreeMap<Ipv4Addr, Place> {
            let feed =
                feed_of(&self.view, &"eu-north-1".parse().unwrap(), id, self.home, |_, _| true);
            assert_eq!(feed.oddities(), []);
            feed.interfaces.values().map(|it| (it.address, it.place)).collect()
        }
    }

    #[test]
    fn a_host_is_told_where_other_hosts_interfaces_are_once_it_has_one_itself() {
        let mut world = World::new();
        let one = world.host(1, Some("192.0.2.1"));
        let two = world.host(2, Some("192.0.2.2"));
        let alone = world.host(3, None);
        world.task(11, one);
        assert!(world.told(two).is_empty(), "it has no interface yet");
        world.task(12, two);
        world.task(13, alone);
        let [a, b] = [11, 12].map(|last| Ipv4Addr::new(172, 31, 0, last));
        let at = |last| Place::At(Ipv4Addr::new(192, 0, 2, last));
        assert_eq!(world.told(one), [(a, Place::Here), (b, at(2))].into());
        assert_eq!(world.told(two), [(a, at(1)), (b, Place::Here)].into());
        assert!(world.told(alone).is_empty(), "it reaches no other host");
    }

    #[test]
    fn of_vpcs_with_addresses_of_their_own_a_host_is_told_those_in_which_it_has_an_interface() {
        let mut world = World::new();
        let one = world.host(1, Some("192.0.2.1"));
        let two = world.host(2, Some("192.0.2.2"));
        let alone = world.host(3, None);
        world.task_in(Some("vpc-0000000a"), 11, one);
        world.task_in(Some("vpc-0000000a"), 12, two);
        world.task_in(Some("vpc-0000000b"), 13, two);
        world.task_in(Some("vpc-0000000b"), 14, alone);
        world.task(15, two);
        let region = "eu-north-1".parse().unwrap();
        let told = |id| -> BTreeMap<u8, Place> {
            let feed = feed_of(&world.view, &region, id, None, |_, _| true);
            feed.interfaces.values().map(|it| (it.address.octets()[3], it.place)).collect()
        };
        let at = |last| Place::At(Ipv4Addr::new(192, 0, 2, last));
        assert_eq!(told(one), [(11, Place::Here), (12, at(2))].into());
        let all = [(11, at(1)), (12, Place::Here), (13, Place::Here), (15, Place::Here)].into();
        assert_eq!(told(two), all, "a host without an address among them is reached by none");
        assert_eq!(told(alone), [(14, Place::Here)].into());
        assert_eq!(instances_with_ways(&world.view, None), [one, two, alone].into());
    }

    #[test]
    fn of_a_default_vpc_that_was_changed_each_host_is_told_that_has_an_interface_in_one() {
        use model::network::RouteTable;
        let mut world = World::new();
        let alone = world.host(1, None);
        let routed = world.host(2, Some("192.0.2.2"));
        let idle = world.host(3, None);
        let region: RegionName = "eu-north-1".parse().unwrap();
        let plan = world.view.address_plans.get(region_account(), &AddressPlanId).unwrap();
        let default = plan.default_network(task(1).scope.account, &region);
        let subnet = default.subnets[0].id.clone();
        let other = world.host(4, None);
        let other_routed = world.host(5, Some("192.0.2.5"));
        let stranger: AccountId = "222222222222".parse().unwrap();
        let tasks = [(11, alone), (12, routed), (13, alone), (14, other), (15, other_routed)];
        for (number, host) in tasks {
            let mut task = world.task(number, host);
            let id = model::vpc::InterfaceId::shared(Ipv4Addr::new(172, 31, 0, number));
            let row = world.view.interfaces.get(region_account(), &id).unwrap();
            let mut row = vpc::Interface::clone(row);
            // The third and those after it are in another account's, which is as it came.
            if number < 13 {
                row.subnet = subnet.clone();
                task.interface.as_mut().unwrap().subnet = subnet.clone();
            } else {
                world.view.remove(Seq(world.seq), &Row::from(task.clone()).key());
                task.scope.account = stranger;
                row.owner.account = stranger;
            }
            world.put(row);
            world.put(task);
        }
        let [a, b] = [11, 12].map(|last| Ipv4Addr::new(172, 31, 0, last));
        assert!(world.told(alone).is_empty());
        default.rows().into_iter().for_each(|row| world.put(row));
        assert!(world.told(alone).is_empty(), "packets go as they did");
        let before = feed_of(&world.view, &region, other_routed, None, |_, _| true);
        world.put(RouteTable { routes: vec![], ..RouteTable::clone(&default.table) });
        assert_eq!(world.told(alone), [(a, Place::Here)].into());
        let far = (Ipv4Addr::new(172, 31, 0, 15), Place::At(Ipv4Addr::new(192, 0, 2, 5)));
        assert_eq!(world.told(routed), [(b, Place::Here), far].into());
        assert!(world.told(other).is_empty(), "it has none of that account");
        let after = feed_of(&world.view, &region, other_routed, None, |_, _| true);
        assert_eq!((before.interfaces.len(), before), (2, after), "of others it hears as before");
        assert!(world.told(idle).is_empty(), "it has no interface");
        let feed = feed_of(&world.view, &region, alone, None, |_, _| true);
        let shared = feed.vpcs.values().next().unwrap();
        assert!(shared.is_default && feed.vpcs.len() == 1);
        assert_eq!((feed.subnets.len(), feed.tables.len(), feed.acls.len()), (1, 1, 1));
        assert!(feed.subnets.values().all(|it| it.vpc == shared.id && it.withheld.is_none()));
        assert!(feed.tables.values().all(|it| it.routes.is_empty()));
        assert_eq!(instances_with_ways(&world.view, None), [alone, routed].into());
        let silent = VpcRow { dns_support: false, ..VpcRow::clone(&default.vpc) };
        world.put(silent);
        let feed = feed_of(&world.view, &region, alone, None, |_, _| true);
        let withheld = Some(traffic::feed::Withheld::All);
        assert!(feed.subnets.values().all(|it| it.withheld == withheld));
    }

    #[test]
    fn of_a_default_vpcs_interfaces_those_that_are_logged_are_told_to_their_host() {
        use model::network::{FlowLog, LoggedTraffic};
        let mut world = World::new();
        let (alone, other) = (world.host(1, None), world.host(2, None));
        let region: RegionName = "eu-north-1".parse().unwrap();
        let plan = world.view.address_plans.get(region_account(), &AddressPlanId).unwrap();
        let account = task(1).scope.account;
        let default = plan.default_network(account, &region);
        for (number, host) in [(11, alone), (12, alone), (13, other)] {
            world.task(number, host);
            let id = model::vpc::InterfaceId::shared(Ipv4Addr::new(172, 31, 0, number));
            let row = world.view.interfaces.get(region_account(), &id).unwrap();
            let mut row = vpc::Interface::clone(row);
            row.vpc = default.vpc.id.clone();
            row.subnet = default.subnets[usize::from(number == 12)].id.clone();
            world.put(row);
        }
        assert!(world.told(alone).is_empty());
        world.put(FlowLog {
            account,
            id: "fl-00000001".parse().unwrap(),
            of: FlowLogOf::Subnet(default.subnets[0].id.clone()),
            traffic: LoggedTraffic::All,
            group: "/flows".to_owned(),
            role: "arn:aws:iam::000000000000:role/flows".to_owned(),
            interval_s: 60,
            format: None,
            created_at: Timestamp(0),
            failure: None,
        });
        let feed = feed_of(&world.view, &region, alone, None, |_, _| true);
        assert!(feed.interfaces.values().all(|it| it.is_logged) && feed.subnets.is_empty());
        assert_eq!(world.told(alone), [([172, 31, 0, 11].into(), Place::Here)].into());
    }

    #[test]
    fn of_a_connected_vpc_a_host_is_told_the_interfaces_that_a_route_leads_to() {
        use model::network::{
            NetworkAcl, PeeringEnd, PeeringState, Route, RouteTable, RouteTarget, SubnetAcl,
            SubnetRow, VpcPeering,
        };
        let mut world = World::new();
        let one = world.host(1, Some("192.0.2.1"));
        let two = world.host(2, Some("192.0.2.2"));
        let account = task(1).scope.account;
        let ends = [("vpc-0000000a", 1), ("vpc-0000000b", 2)].map(|(id, digit): (&str, u8)| {
            let vpc = VpcRow {
                main_table: format!("rtb-0000000{digit}").parse().unwrap(),
                ..vpc_row(id)
            };
            let acl: longshore_types::NetworkAclId = format!("acl-0000000{digit}").parse().unwrap();
            world.put(NetworkAcl::open(account, acl.clone(), vpc.id.clone()));
            world.put(SubnetRow {
                account,
                id: format!("subnet-0000000{digit}").parse().unwrap(),
                vpc: vpc.id.clone(),
                block: "172.31.0.0/20".parse().unwrap(),
                zone: "eu-north-1a".to_owned(),
                zone_id: "eun1-az1".to_owned(),
                map_public_ip: false,
                table: None,
                acl: SubnetAcl {
                    association: format!("aclassoc-0000000{digit}").parse().unwrap(),
                    acl,
                },
                is_default: false,
            });
            world.put(RouteTable {
                account,
                id: vpc.main_table.clone(),
                vpc: vpc.id.clone(),
                routes: vec![],
            });
            let end = PeeringEnd { account, vpc: vpc.id.clone(), allows_names: false };
            world.put(vpc);
            end
        });
        // Their addresses are told apart by their VPCs' blocks, which are made up here.
        let mut first = vpc_row("vpc-0000000a");
        first.main_table = "rtb-00000001".parse().unwrap();
        first.first.block = "10.0.0.0/16".parse().unwrap();
        world.put(first);
        world.task_in(Some("vpc-0000000a"), 11, one);
        world.task_in(Some("vpc-0000000b"), 12, two);
        let [requester, accepter] = ends;
        let peering = VpcPeering {
            id: "pcx-00000010".parse().unwrap(),
            requester,
            accepter,
            state: PeeringState::Active,
            created_at: Timestamp(1),
        };
        world.put(peering.clone());
        let region = "eu-north-1".parse().unwrap();
        let told = |world: &World| -> Vec<u8> {
            let feed = feed_of(&world.view, &region, one, None, |_, _| true);
            assert_eq!(feed.vpcs.len(), 1, "of the peer itself nothing is told");
            feed.interfaces.values().map(|it| it.address.octets()[3]).collect()
        };
        assert_eq!(told(&world), [11], "no route leads there");
        let route = |to: &str| Route {
            destination: to.parse::<longshore_types::Cidr>().unwrap().into(),
            target: RouteTarget::VpcPeering(peering.id.clone()),
        };
        let table = |to| RouteTable {
            account,
            id: "rtb-00000001".parse().unwrap(),
            vpc: "vpc-0000000a".parse().unwrap(),
            routes: vec![route(to)],
        };
        world.put(table("172.31.8.0/24"));
        assert_eq!(told(&world), [11], "nor to this part of it");
        world.put(table("172.31.0.0/24"));
        assert_eq!(told(&world), [11, 12]);
        let by = account;
        world.put(VpcPeering { state: PeeringState::Deleted { at: Timestamp(2), by }, ..peering });
        assert_eq!(told(&world), [11]);
    }

    #[test]
    fn a_peer_of_two_has_its_public_address_if_one_of_them_has_its_names() {
        let peer = |public: Option<[u8; 4]>| Interface {
            id: "eni-00000001".parse().unwrap(),
            vpc: "vpc-0000000c".parse().unwrap(),
            subnet: "subnet-0000000c".parse().unwrap(),
            address: [10, 3, 0, 4].into(),
            groups: vec![],
            public: public.map(Into::into),
            place: Place::Here,
            is_balancers: false,
            is_logged: false,
        };
        let known = Some([198, 51, 100, 7]);
        for told in [[known, None], [None, known], [known, known]] {
            let mut feed = Feed::default();
            for public in told {
                put_of_peer(&mut feed, Item::Interface(peer(public)));
            }
            assert_eq!(feed.interfaces.into_values().next(), Some(peer(known)), "{told:?}");
        }
    }

    #[test]
    fn the_interfaces_of_balancers_are_on_the_regions_own_machine_and_told_to_those_who_reach_it() {
        let mut world = World::new();
        let own = world.host(1, Some("192.0.2.1"));
        let other = world.host(2, Some("192.0.2.2"));
        let strange = world.host(3, Some("192.0.2.3"));
        let (default, apart) = ("vpc-12345678", "vpc-0000000a");
        for (number, vpc) in [(21, default), (22, apart)] {
            let is_apart = vpc == apart;
            let mut balancer = balancer(number, vpc);
            balancer.zones.push(BalancerZone {
                zone: "eu-north-1a".to_owned(),
                subnet: "subnet-12345678".parse().unwrap(),
                eni: format!("eni-000000{number:02x}").parse().unwrap(),
                address: Ipv4Addr::new(172, 31, 0, number),
                stand: Stand::default(),
                passed_over: Vec::new(),
                is_unwell: false,
            });
            world.put(vpc::Interface {
                address: Ipv4Addr::new(172, 31, 0, number),
                eni: format!("eni-000000{number:02x}").parse().unwrap(),
                owner: balancer.scope.clone(),
                user: InterfaceUser::Balancer { balancer: balancer.path() },
                vpc: vpc.parse().unwrap(),
                subnet: "subnet-12345678".parse().unwrap(),
                security_groups: vec![],
                zone: "eu-north-1a".to_owned(),
                mac: String::new(),
                assign_public_ip: false,
                created_at: Timestamp(0),
                is_apart,
                public: None,
            });
            world.put(balancer);
        }
        world.put(vpc_row(apart));
        assert_eq!(home_of_balancers(&world.view, |row| row.id == own), Some(own));
        assert_eq!(home_of_balancers(&world.view, |_| false), None);
        world.task(12, other);
        world.task_in(Some(apart), 13, other);
        world.home = Some(own);
        let [a, b, c, d] = [21, 22, 12, 13].map(|last| Ipv4Addr::new(172, 31, 0, last));
        let at = |last| Place::At(Ipv4Addr::new(192, 0, 2, last));
        let here = Place::Here;
        assert_eq!(world.told(own), [(a, here), (b, here), (c, at(2)), (d, at(2))].into());
        assert_eq!(world.told(other), [(a, at(1)), (b, at(1)), (c, here), (d, here)].into());
        assert!(world.told(strange).is_empty());
        let told =
            feed_of(&world.view, &"eu-north-1".parse().unwrap(), own, Some(own), |_, _| true);
        let of_balancers = told.interfaces.values().filter(|it| it.is_balancers);
        assert_eq!(of_balancers.count(), 2);
        // On another host, where there is nothing else, as on one that has tasks too.
        for (host, last, number) in [(strange, 3, 21), (other, 2, 22)] {
            let name = format!("web{number}");
            let row = world.view.elb_balancers.iter().find(|row| row.name == name);
            let mut row = ElbBalancer::clone(row.unwrap());
            row.zones[0].stand = Stand { host: Some(host), ..Stand::default() };
            world.put(row);
            let address = Ipv4Addr::new(172, 31, 0, number);
            assert_eq!(world.told(host)[&address], here);
            assert_eq!(world.told(other)[&address], if host == other { here } else { at(last) });
        }
        assert!(world.told(own).is_empty(), "it has nothing of either VPC any more");
        let alone = balancers_on(&world.view, strange, Some(own)).map(|row| row.name.clone());
        assert_eq!(alone.collect::<Vec<_>>(), ["web21"]);
        let own_vpcs = instances_with_ways(&world.view, Some(own));
        assert!(own_vpcs.contains(&other) && !own_vpcs.contains(&own));
    }

    pub(crate) fn vpc_row(id: &str) -> VpcRow {
        let association = "vpc-cidr-assoc-00000001".parse().unwrap();
        VpcRow {
            account: task(1).scope.account,
            id: id.parse().unwrap(),
            first: VpcBlock { association, block: "172.31.0.0/16".parse().unwrap() },
            secondary: vec![],
            dns_support: true,
            dns_hostnames: true,
            dhcp_options: None,
            main_table: "rtb-00000001".parse().unwrap(),
            main_association: "rtbassoc-00000001".parse().unwrap(),
            default_acl: "acl-00000001".parse().unwrap(),
            default_group: "sg-00000001".parse().unwrap(),
            is_default: false,
        }
    }

    fn balancer(number: u8, vpc: &str) -> ElbBalancer {
        ElbBalancer {
            scope: task(1).scope.clone(),
            kind: BalancerKind::Application,
            name: format!("web{number}"),
            digits: format!("{number:016x}"),
            dns_number: 1,
            is_internal: true,
            vpc: vpc.parse().unwrap(),
            zones: vec![],
            leaving: vec![],
            security_groups: vec![],
            exempts_private_links: false,
            attributes: BTreeMap::new(),
            tags: BTreeMap::new(),
            created_at: Timestamp(0),
            shifts: Vec::new(),
        }
    }
}
