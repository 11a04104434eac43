//! What a host is told of VPCs: a function from the rows to the copy that its agent should have.
//!
//! One without an interface in a VPC needs to know nothing of it and is told nothing. Of the default VPC's interfaces a
//! host without an address among the hosts is not told either: it reaches no other, and its own it knows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use longshore_types::{AccountId, InstanceId, RegionName, VpcId};
use model::instance::{Instance, InstanceStatus, UNDERLAY_ATTRIBUTE};
use model::network::Network;
use model::vpc::{AddressPlanId, InterfaceId, region_account};
use model::{View, vpc};
use plan::network_feed;
use traffic::feed::{Feed, Interface, Item, Place, Vni, Vpc};

/// The host's address among the hosts, where its agent said one.
pub(crate) fn underlay(instance: &Instance) -> Option<Ipv4Addr> {
    instance.attributes.get(UNDERLAY_ATTRIBUTE)?.as_deref()?.parse().ok()
}

/// What the host of an instance must know.
pub(crate) fn feed_of(view: &View, region: &RegionName, id: InstanceId) -> Feed {
    let is_routed = view.instance_of_any(id).is_some_and(|row| underlay(row).is_some());
    let (mut is_in_default, mut own) = (false, BTreeSet::new());
    for task in view.tasks_on_instance(id) {
        match task.interface.as_ref().map(|interface| &interface.own_vpc) {
            Some(Some(vpc)) => drop(own.insert((task.scope.account, vpc))),
            Some(None) => is_in_default = true,
            None => {}
        }
    }
    let mut feed = Feed::default();
    if own.is_empty() && !(is_routed && is_in_default) {
        return feed;
    }
    let places = places(view, id, is_routed);
    if is_routed && is_in_default {
        default_plane(view, region, &places).into_iter().flatten().for_each(|item| feed.put(item));
    }
    for (account, vpc) in own {
        own_vpc(view, region, account, vpc, &places).for_each(|item| feed.put(item));
    }
    feed
}

/// Where interfaces are that a host can reach.
fn places(view: &View, here: InstanceId, is_routed: bool) -> BTreeMap<InstanceId, Place> {
    let others = view
        .instances
        .iter()
        .filter(|row| is_routed && row.status < InstanceStatus::Inactive && row.id != here);
    let others = others.filter_map(|row| Some((row.id, Place::At(underlay(row)?))));
    others.chain([(here, Place::Here)]).collect()
}

/// The range that all accounts' default VPCs share, as one VPC, and every task's interface in it.
fn default_plane(
    view: &View,
    region: &RegionName,
    places: &BTreeMap<InstanceId, Place>,
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
        .filter_map(|row| Some(Item::Interface(interface(view, row, &id, places)?)))
        .collect();
    Some([Item::Vpc(vpc)].into_iter().chain(interfaces))
}

/// A VPC with addresses of its own, with all that says how packets go in it.
fn own_vpc(
    view: &View,
    region: &RegionName,
    account: AccountId,
    vpc: &VpcId,
    places: &BTreeMap<InstanceId, Place>,
) -> impl Iterator<Item = Item> {
    let items = network_feed::items_of(&Network::new(view, account, region), vpc);
    let interfaces = apart(view, Some(vpc)).take_while(|row| row.vpc == *vpc);
    let interfaces: Vec<Item> = interfaces
        .filter_map(|row| Some(Item::Interface(interface(view, row, vpc, places)?)))
        .collect();
    items.into_iter().chain(interfaces)
}

/// Interfaces in VPCs with addresses of their own, by VPC: from the first of `vpc` on, or all.
fn apart<'v>(view: &'v View, vpc: Option<&VpcId>) -> impl Iterator<Item = &'v Arc<vpc::Interface>> {
    let first = vpc
        .cloned()
        .unwrap_or_else(|| "vpc-00000000".parse().expect("no id of a VPC comes before this one"));
    let first = InterfaceId { vpc: Some(first), address: Ipv4Addr::UNSPECIFIED };
    view.interfaces.from(region_account(), first)
}

/// The instances whose hosts are told of VPCs with addresses of their own.
pub(crate) fn instances_in_own_vpcs(view: &View) -> BTreeSet<InstanceId> {
    let tasks = apart(view, None)
        .filter_map(|row| view.tasks.get(row.owner.account, &row.task()?)?.instance);
    tasks.collect()
}

fn interface(
    view: &View,
    row: &vpc::Interface,
    vpc: &VpcId,
    places: &BTreeMap<InstanceId, Place>,
) -> Option<Interface> {
    let task = view.tasks.get(row.owner.account, &row.task()?)?;
    let place = *places.get(&task.instance?)?;
    Some(Interface {
        id: row.eni.clone(),
        vpc: vpc.clone(),
        subnet: row.subnet.clone(),
        address: row.address,
        groups: row.security_groups.clone(),
        public: view.public_address_of(row),
        place,
    })
}

#[cfg(test)]
mod tests {
    use control::testing::rows::{instance, task};
    use longshore_types::{EniId, Timestamp};
    use model::vpc::{AddressPlan, InterfaceUser};
    use model::{Row, Seq, Task};

    use super::*;

    struct World {
        view: View,
        seq: u64,
    }

    impl World {
        fn new() -> Self {
            let mut world = Self { view: View::default(), seq: 0 };
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
            let feed = feed_of(&self.view, &"eu-north-1".parse().unwrap(), id);
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
            let feed = feed_of(&world.view, &region, id);
            feed.interfaces.values().map(|it| (it.address.octets()[3], it.place)).collect()
        };
        let at = |last| Place::At(Ipv4Addr::new(192, 0, 2, last));
        assert_eq!(told(one), [(11, Place::Here), (12, at(2))].into());
        let all = [(11, at(1)), (12, Place::Here), (13, Place::Here), (15, Place::Here)].into();
        assert_eq!(told(two), all, "a host without an address among them is reached by none");
        assert_eq!(told(alone), [(14, Place::Here)].into());
        assert_eq!(instances_in_own_vpcs(&world.view), [one, two, alone].into());
    }
}
