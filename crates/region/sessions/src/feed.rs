//! What a host is told of VPCs: a function from the rows to the copy that its agent should have.
//!
//! A host that has no address among the hosts reaches no other, and one without an interface in a VPC needs to know
//! nothing of it: both are told nothing.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use longshore_types::{InstanceId, RegionName};
use model::instance::{Instance, InstanceStatus, UNDERLAY_ATTRIBUTE};
use model::vpc::{AddressPlanId, region_account};
use model::{View, vpc};
use traffic::feed::{Feed, Interface, Item, Place, Vni, Vpc};

/// The host's address among the hosts, where its agent said one.
pub(crate) fn underlay(instance: &Instance) -> Option<Ipv4Addr> {
    instance.attributes.get(UNDERLAY_ATTRIBUTE)?.as_deref()?.parse().ok()
}

/// What the host of an instance must know.
pub(crate) fn feed_of(view: &View, region: &RegionName, id: InstanceId) -> Feed {
    let is_routed = view.instance_of_any(id).is_some_and(|row| underlay(row).is_some());
    let has_interface = || view.tasks_on_instance(id).any(|task| task.interface.is_some());
    if !is_routed || !has_interface() {
        return Feed::default();
    }
    default_plane(view, region, id).into_iter().flatten().collect()
}

/// The range that all accounts' default VPCs share, as one VPC, and every task's interface in it.
fn default_plane(
    view: &View,
    region: &RegionName,
    here: InstanceId,
) -> Option<impl Iterator<Item = Item>> {
    let plan = view.address_plans.get(region_account(), &AddressPlanId)?;
    let id = plan.default_vpc(region_account(), region).id;
    let vpc = Vpc {
        vni: Vni::of(&id),
        id: id.clone(),
        ranges: vec![plan.block],
        has_dns: true,
        has_dns_hostnames: true,
        is_default: true,
    };
    let places: BTreeMap<InstanceId, Place> = view
        .instances
        .iter()
        .filter(|row| row.status < InstanceStatus::Inactive && row.id != here)
        .filter_map(|row| Some((row.id, Place::At(underlay(row)?))))
        .chain([(here, Place::Here)])
        .collect();
    // Hosts connect no VPC with addresses of its own yet, and no task is in one.
    let shared = view.interfaces.iter().filter(|row| !row.is_apart);
    let interfaces: Vec<Item> = shared
        .filter_map(|row| Some(Item::Interface(interface(view, row, &id, &places)?)))
        .collect();
    Some([Item::Vpc(vpc)].into_iter().chain(interfaces))
}

fn interface(
    view: &View,
    row: &vpc::Interface,
    vpc: &longshore_types::VpcId,
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
        public: None,
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
            let mut task = task(number.into());
            task.instance = Some(host);
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
                vpc: "vpc-12345678".parse().unwrap(),
                subnet: "subnet-12345678".parse().unwrap(),
                security_groups: interface.security_groups.clone(),
                zone: "eu-north-1a".to_owned(),
                mac: String::new(),
                assign_public_ip: false,
                created_at: Timestamp(0),
                is_apart: false,
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
}
