//! Interfaces of balancers: there because the region tells of them, and judged as tasks' are.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use longshore_types::{EniId, VpcId};
use network::feed::{Change, Feed, Interface, Item, Place, Subnet, Vni, Vpc};
use network::{
    EniSpec, GroupRule, MacAddr, Network, News, Peer, SecurityGroup, Traffic, balancer_namespace,
};

use crate::feeds;
use crate::world::{World, at, eventually, exists, id, inside, knock, on_a_host, serve, serve_at};

const BALANCERS: &str = "sg-000000000000000b1";
const BEHIND: &str = "sg-000000000000000b2";
const ENI: &str = "eni-00000000000000009";
const TASK: u8 = 4;
const BALANCER: u8 = 9;

/// A VPC in which one task is behind one balancer.
struct Setting {
    vpc: VpcId,
    own: bool,
    network: [u8; 2],
}

fn own() -> Setting {
    Setting { vpc: "vpc-00000000000000001".parse().unwrap(), own: true, network: [10, 0] }
}

fn default() -> Setting {
    Setting { vpc: "vpc-00000000000000003".parse().unwrap(), own: false, network: [172, 31] }
}

impl Setting {
    fn address(&self, last: u8) -> Ipv4Addr {
        [self.network[0], self.network[1], 0, last].into()
    }

    fn range(&self, prefix: u8) -> longshore_types::Cidr {
        format!("{}/{prefix}", self.address(0)).parse().unwrap()
    }

    fn feed(&self, balancers_groups: Option<&[&str]>) -> Feed {
        let interface = |eni: &str, last, groups: &[&str], is_balancers| {
            Item::Interface(Interface {
                id: eni.parse().unwrap(),
                vpc: self.vpc.clone(),
                subnet: "subnet-00000001".parse().unwrap(),
                address: self.address(last),
                groups: groups.iter().map(|group| group.parse().unwrap()).collect(),
                public: None,
                place: Place::Here,
                is_balancers,
                is_logged: false,
            })
        };
        let vpc = Item::Vpc(Vpc {
            vni: Vni::of(&self.vpc),
            id: self.vpc.clone(),
            ranges: vec![self.range(16)],
            has_dns: true,
            has_dns_hostnames: true,
            is_default: !self.own,
        });
        let subnet = self.own.then(|| {
            Item::Subnet(Subnet {
                id: "subnet-00000001".parse().unwrap(),
                vpc: self.vpc.clone(),
                range: self.range(24),
                table: "rtb-00000001".parse().unwrap(),
                acl: "acl-00000001".parse().unwrap(),
                withheld: None,
            })
        });
        let acl =
            self.own.then(|| Item::NetworkAcl(feeds::open_acl("acl-00000001", self.vpc.clone())));
        let task = interface("eni-00000000000000004", TASK, &[BEHIND], false);
        let balancer = balancers_groups.map(|groups| interface(ENI, BALANCER, groups, true));
        [Some(vpc), subnet, acl, Some(task), balancer].into_iter().flatten().collect()
    }

    fn tell(&self, world: &World, network: &Network, balancers_groups: Option<&[&str]>) {
        let network_items = self.feed(balancers_groups).items().collect();
        let rule = |peer| vec![GroupRule { traffic: Traffic::All, peer }];
        let everywhere = || rule(Peer::Network("0.0.0.0/0".parse().unwrap()));
        let group = |group: &str, ingress| SecurityGroup {
            id: group.parse().unwrap(),
            ingress,
            egress: everywhere(),
        };
        let groups = vec![
            group(BALANCERS, everywhere()),
            group(BEHIND, rule(Peer::Group(BALANCERS.parse().unwrap()))),
        ];
        let network_news = Change { put: network_items, gone: vec![] };
        let news = News { groups, network: network_news, is_whole: true, ..News::default() };
        world.runtime.block_on(network.learn(news)).unwrap();
    }

    fn attach(&self, world: &World, network: &Network) -> network::Attached {
        let spec = EniSpec {
            id: Some("eni-00000000000000004".parse().unwrap()),
            address: self.address(TASK),
            prefix: 24,
            gateway: self.address(1),
            mac: MacAddr::new([2, 0, 0, 0, 0, TASK]),
            security_groups: vec![BEHIND.parse().unwrap()],
            assign_public_ip: false,
            is_judged: false,
        };
        let attached = world.runtime.block_on(network.attach_eni(&id("task"), spec)).unwrap();
        serve_at(&attached, 80);
        attached
    }

    fn namespace(&self, world: &World) -> PathBuf {
        let eni: EniId = ENI.parse().unwrap();
        let run_dir = world.dir.path().join("0a0b0c0d");
        balancer_namespace(&run_dir, &eni, self.own.then_some(&self.vpc))
    }

    /// By which address the task sees the balancer, if it is reached.
    fn balancer_seen_as(&self, world: &World) -> Option<Ipv4Addr> {
        let namespace = File::open(self.namespace(world)).unwrap();
        inside(&namespace, || knock(self.address(TASK), 80))
    }
}

#[test]
fn a_balancers_interface_is_made_as_it_is_told_of_and_judged_by_its_groups() {
    for place in [own(), default()] {
        on_a_host(|world| {
            let network = world.open();
            place.tell(world, &network, Some(&[BALANCERS]));
            let task = place.attach(world, &network);
            eventually("the balancer reaches the task", || {
                place.balancer_seen_as(world) == Some(place.address(BALANCER))
            });
            serve(&File::open(place.namespace(world)).unwrap(), 443);
            let seen = at(&task, || knock(place.address(BALANCER), 443));
            assert_eq!(seen, Some(place.address(TASK)));
            // Its groups change under what is open in it.
            place.tell(world, &network, Some(&[BEHIND]));
            assert_eq!(place.balancer_seen_as(world), None);
            assert_eq!(at(&task, || knock(place.address(BALANCER), 443)), None);
            place.tell(world, &network, Some(&[BALANCERS]));
            assert_eq!(at(&task, || knock(place.address(BALANCER), 443)), seen);
            // A network balancer may have no groups, and everybody in the VPC reaches it then.
            place.tell(world, &network, Some(&[]));
            assert_eq!(at(&task, || knock(place.address(BALANCER), 443)), seen);
            assert_eq!(place.balancer_seen_as(world), None, "it is no member of a group");
            place.tell(world, &network, Some(&[BALANCERS]));
            // It is no task's, so no list of tasks ends it, nor does the end of an agent.
            drop(network);
            let network = world.open();
            world.runtime.block_on(network.reconcile(&[id("task")])).unwrap();
            assert_eq!(at(&task, || knock(place.address(BALANCER), 443)), seen);
            place.tell(world, &network, Some(&[BALANCERS]));
            assert_eq!(place.balancer_seen_as(world), Some(place.address(BALANCER)));
            place.tell(world, &network, None);
            assert!(!exists(&place.namespace(world)));
            world.runtime.block_on(network.uninstall()).unwrap();
        });
    }
}
