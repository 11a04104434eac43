//! VPCs that are connected: whom packets reach across, on one host and between hosts, and that `traffic::path` says so.

use std::fs::File;
use std::net::Ipv4Addr;

use longshore_types::{VpcId, VpcPeeringId};
use network::feed::{
    Change, Feed, Interface, Item, ItemId, NetworkAcl, Peering, Place, RouteTable, Subnet, Target,
    Vni,
};
use network::{Attached, EniSpec, GroupRule, MacAddr, Network, Peer, SecurityGroup, Traffic};
use traffic::path::{Groups, Step, Way};
use traffic::{Content, Packet};

use crate::feeds::{self, cidr, open_acl};
use crate::hosts;
use crate::world::{
    OUTSIDE, World, at, eventually, exists, id, inside, knock, knock_udp, on_a_host, run, serve,
    serve_at,
};

const OPEN: &str = "sg-00000000000000001";
/// The group of clients, and that of servers, which lets those in by their group.
const WEB: &str = "sg-00000000000000002";
const DB: &str = "sg-00000000000000003";

fn vpc_id(vpc: u8) -> VpcId {
    format!("vpc-0000000000000000{vpc}").parse().unwrap()
}

fn pcx(one: u8, other: u8) -> VpcPeeringId {
    format!("pcx-00000{}{}0", one.min(other), one.max(other)).parse().unwrap()
}

fn eni_id(vpc: u8, subnet: u8, last: u8) -> String {
    format!("eni-00{vpc:02x}{subnet:02x}{last:02x}")
}

fn peered(one: u8, other: u8) -> Target {
    Target::Peering(pcx(one, other))
}

/// What the region knows, of which each host is told its part.
#[derive(Clone, Default)]
struct Told(Feed);

impl Told {
    /// The VPC 10.`number`.0.0/16 with its subnets 1 and 2, of which the first has these routes.
    fn vpc(mut self, number: u8, routes: &[(&str, Target)]) -> Self {
        let id = vpc_id(number);
        self.0.put(feeds::vpc(id.clone(), &format!("10.{number}.0.0/16")));
        let acl = open_acl(&format!("acl-0000000{number}"), id.clone());
        for subnet in [1, 2] {
            self.0.put(Item::Subnet(Subnet {
                id: format!("subnet-00000{number}0{subnet}").parse().unwrap(),
                vpc: id.clone(),
                range: cidr(&format!("10.{number}.{subnet}.0/24")),
                table: format!("rtb-00000{number}0{subnet}").parse().unwrap(),
                acl: acl.id.clone(),
                withheld: None,
            }));
        }
        self.0.put(Item::NetworkAcl(acl));
        self.routes(number, 1, routes).routes(number, 2, &[])
    }

    fn routes(mut self, vpc: u8, subnet: u8, routes: &[(&str, Target)]) -> Self {
        self.0.put(Item::RouteTable(RouteTable {
            id: format!("rtb-00000{vpc}0{subnet}").parse().unwrap(),
            vpc: vpc_id(vpc),
            routes: feeds::routes(routes),
        }));
        self
    }

    fn interface(mut self, vpc: u8, subnet: u8, last: u8, group: &str) -> Self {
        let of = (vpc_id(vpc), format!("subnet-00000{vpc}0{subnet}").parse().unwrap());
        let (id, address) = (eni_id(vpc, subnet, last), [10, vpc, subnet, last].into());
        self.0.put(Item::Interface(feeds::interface(&id, of, address, &[group])));
        self
    }

    fn peering(mut self, one: u8, other: u8) -> Self {
        let [first, second] = Vni::of_peering(&pcx(one, other));
        for (near, far, number, peer_number) in
            [(one, other, first, second), (other, one, second, first)]
        {
            let (id, vpc, peer) = (pcx(one, other), vpc_id(near), vpc_id(far));
            let has_names = false;
            self.0.put(Item::Peering(Peering { id, vpc, peer, number, peer_number, has_names }));
        }
        self
    }

    /// A host's part, as the region's `plan::network_feed` makes it: the VPCs in which it has interfaces, and of their
    /// peers whom routes lead to.
    fn part(&self, here: &[String], others: Ipv4Addr) -> Self {
        let all = feeds::seen_from(&self.0, here, others);
        let own: Vec<VpcId> = all
            .interfaces
            .values()
            .filter(|it| it.place == Place::Here)
            .map(|it| it.vpc.clone())
            .collect();
        let mut part = Feed::default();
        for vpc in &own {
            for it in all.peered_of(vpc).into_values() {
                part.put(Item::Interface(it.interface.clone()));
            }
        }
        for item in all.items() {
            let vpc = match &item {
                Item::Vpc(it) => &it.id,
                Item::Subnet(it) => &it.vpc,
                Item::RouteTable(it) => &it.vpc,
                Item::NetworkAcl(it) => &it.vpc,
                Item::NatGateway(it) => &it.vpc,
                Item::Peering(it) => &it.vpc,
                Item::Interface(it) => &it.vpc,
            };
            if own.contains(vpc) {
                part.put(item);
            }
        }
        Self(part)
    }

    fn tell(&self, world: &World, network: &Network) {
        feeds::tell(world, network, &self.0, groups().into_values().collect());
    }

    fn at(&self, attached: &Attached) -> &Interface {
        let mut all = self.0.interfaces.values();
        all.find(|it| it.address == attached.address).unwrap()
    }

    /// What is said of a connection, and of the way back.
    fn says(&self, from: &Attached, to: &Attached, content: Content) -> bool {
        let (from, to) = (self.at(from), self.at(to));
        let packet = Packet { source: from.address, destination: to.address, content };
        let mut path = self.0.path_from(&groups(), from, &packet);
        let arrives = matches!(path.last(), Some(Step::Route { way: Way::Peer { .. }, .. }));
        if arrives {
            path.extend(self.0.path_from_peer(&groups(), to, &packet));
        }
        let back = self.0.way_out(to, from.address);
        arrives && path.iter().all(Step::passes) && matches!(back, Way::Peer { .. })
    }
}

fn groups() -> Groups {
    let all = || GroupRule { traffic: Traffic::All, peer: Peer::Network(cidr("0.0.0.0/0")) };
    let by_group =
        GroupRule { traffic: Traffic::Tcp(80..=80), peer: Peer::Group(WEB.parse().unwrap()) };
    let group =
        |id: &str, ingress| SecurityGroup { id: id.parse().unwrap(), ingress, egress: vec![all()] };
    let all = [group(OPEN, vec![all()]), group(WEB, vec![]), group(DB, vec![by_group])];
    all.into_iter().map(|group| (group.id.clone(), group)).collect()
}

fn attach(world: &World, network: &Network, place: [u8; 3], group: &str) -> Attached {
    let [vpc, subnet, last] = place;
    let address = [10, vpc, subnet, last].into();
    let spec = feeds::spec(&eni_id(vpc, subnet, last), address, &[group]);
    let name = id(&format!("{vpc}-{subnet}-{last}"));
    let attached = world.runtime.block_on(network.attach_eni(&name, spec)).unwrap();
    serve_at(&attached, 80);
    serve_at(&attached, 81);
    attached
}

/// Has the kernel and the path say the same of a connection, and that it is so.
fn check(told: &Told, from: &Attached, to: &Attached, port: u16, answers: bool) {
    let what = format!("{} to {}:{port}", from.address, to.address);
    assert_eq!(told.says(from, to, Content::Tcp(port)), answers, "path: {what}");
    if answers {
        eventually(&what, || at(from, || knock(to.address, port)) == Some(from.address));
    } else {
        assert_eq!(at(from, || knock(to.address, port)), None, "kernel: {what}");
    }
}

/// VPCs 1 and 2, and 2 and 3, are connected, and each routes all of 10.0.0.0/8 that way.
fn chain() -> Told {
    Told::default()
        .vpc(1, &[("10.0.0.0/8", peered(1, 2)), ("0.0.0.0/0", peered(1, 2))])
        .vpc(
            2,
            &[
                ("10.1.0.0/16", peered(1, 2)),
                ("10.3.0.0/16", peered(2, 3)),
                ("0.0.0.0/0", Target::InternetGateway),
            ],
        )
        .vpc(3, &[("10.0.0.0/8", peered(2, 3))])
        .peering(1, 2)
        .peering(2, 3)
        .interface(1, 1, 4, WEB)
        .interface(1, 1, 5, OPEN)
        .interface(1, 2, 4, OPEN)
        .interface(2, 1, 4, DB)
        .interface(2, 1, 5, OPEN)
        .interface(2, 2, 4, OPEN)
        .interface(3, 1, 4, OPEN)
}

#[test]
fn connected_vpcs_reach_each_other_on_one_host_as_routes_and_groups_of_both_say() {
    on_a_host(|world| {
        serve(&world.outside, 80);
        let network = world.open();
        let told = chain();
        told.tell(world, &network);
        let make = |place, group| attach(world, &network, place, group);
        let (web, one) = (make([1, 1, 4], WEB), make([1, 1, 5], OPEN));
        let isolated = make([1, 2, 4], OPEN);
        let (db, two) = (make([2, 1, 4], DB), make([2, 1, 5], OPEN));
        let mute = make([2, 2, 4], OPEN);
        let three = make([3, 1, 4], OPEN);
        check(&told, &one, &two, 80, true);
        check(&told, &two, &one, 80, true);
        check(&told, &two, &three, 80, true);
        // By a group of the peer, and by no other.
        check(&told, &web, &db, 80, true);
        check(&told, &web, &db, 81, false);
        check(&told, &one, &db, 80, false);
        check(&told, &three, &db, 80, false);
        // Subnets without a route: no way there, and none back.
        check(&told, &isolated, &two, 80, false);
        check(&told, &two, &isolated, 80, false);
        check(&told, &one, &mute, 80, false);
        assert_eq!(at(&one, || knock_udp(mute.address, 80)), None);
        // Not from peer to peer, nor out by a peer's gateway.
        check(&told, &one, &three, 80, false);
        assert_eq!(at(&one, || knock(OUTSIDE, 80)), None);
        // An agent that is killed: everything goes on, and the next one knows it.
        drop(network);
        let network = world.open();
        check(&told, &one, &two, 80, true);
        // A member that is none any more.
        let other = told.clone().interface(1, 1, 4, OPEN);
        other.tell(world, &network);
        assert_eq!(at(&web, || knock(db.address, 80)), None);
        told.tell(world, &network);
        check(&told, &web, &db, 80, true);
        // The ACL of the receiver's subnet.
        let mut shut = told.clone();
        let acl = open_acl("acl-00000002", vpc_id(2));
        shut.0.put(Item::NetworkAcl(NetworkAcl { ingress: vec![], ..acl }));
        shut.tell(world, &network);
        check(&shut, &one, &two, 80, false);
        // The connection is deleted, and its routes are blackholes; the other goes on.
        let mut gone = told.clone();
        let sides = [1, 2].map(|vpc| ItemId::Peering((pcx(1, 2), vpc_id(vpc))));
        gone.0.apply(Change { put: vec![], gone: sides.into() });
        gone.tell(world, &network);
        check(&gone, &one, &two, 80, false);
        check(&gone, &two, &three, 80, true);
        let router = world.dir.path().join(format!("0a0b0c0d/netns/router.{}", vpc_id(1)));
        let router = File::open(router).unwrap();
        assert!(!inside(&router, || run("ip -o link")).contains("lp"), "its link is gone");
        // The same again, with the router of one VPC made anew.
        let left = gone.part(&[eni_id(2, 1, 5), eni_id(3, 1, 4)], hosts::TWO);
        world.runtime.block_on(network.detach(&id("1-1-5"))).unwrap();
        world.runtime.block_on(network.detach(&id("1-1-4"))).unwrap();
        world.runtime.block_on(network.detach(&id("1-2-4"))).unwrap();
        left.tell(world, &network);
        assert!(!exists(&world.dir.path().join(format!("0a0b0c0d/netns/router.{}", vpc_id(1)))));
        told.tell(world, &network);
        let one = attach(world, &network, [1, 1, 5], OPEN);
        check(&told, &one, &two, 80, true);
        check(&told, &two, &one, 80, true);
        world.runtime.block_on(network.uninstall()).unwrap();
        assert!(!run("ip -o link").contains("0a0b0c0d"));
        assert_eq!(run("nft list tables"), "");
    });
}

#[test]
fn connected_vpcs_reach_each_other_between_hosts_that_know_no_more_than_they_must() {
    on_a_host(|world| {
        let other = hosts::another_host();
        let one = hosts::open(world, "one", hosts::ONE);
        let two = inside(&other.namespace, || hosts::open(world, "two", hosts::TWO));
        let told = chain();
        // The first has VPC 1 alone, the second VPC 2 and 3.
        let first = [eni_id(1, 1, 4), eni_id(1, 1, 5)];
        let second = [eni_id(2, 1, 4), eni_id(2, 1, 5), eni_id(2, 2, 4), eni_id(3, 1, 4)];
        let (near, far) = (told.part(&first, hosts::TWO), told.part(&second, hosts::ONE));
        assert_eq!(near.0.vpcs.len(), 1);
        let is_of_three = |it: &Interface| it.vpc == vpc_id(3);
        assert!(!near.0.interfaces.values().any(is_of_three), "it learns nothing of VPC 3");
        near.tell(world, &one);
        far.tell(world, &two);
        let web = attach(world, &one, [1, 1, 4], WEB);
        let client = attach(world, &one, [1, 1, 5], OPEN);
        let db = attach(world, &two, [2, 1, 4], DB);
        let server = attach(world, &two, [2, 1, 5], OPEN);
        let mute = attach(world, &two, [2, 2, 4], OPEN);
        let three = attach(world, &two, [3, 1, 4], OPEN);
        check(&told, &client, &server, 80, true);
        check(&told, &server, &client, 80, true);
        check(&told, &web, &db, 80, true);
        check(&told, &client, &db, 80, false);
        check(&told, &client, &mute, 80, false);
        check(&told, &server, &three, 80, true);
        assert_eq!(at(&client, || knock(three.address, 80)), None, "not from peer to peer");
        assert!(!exists(&world.dir.path().join(format!("one/netns/router.{}", vpc_id(2)))));
        // What the hosts' agents leave when they are killed is found and goes on.
        drop((one, two));
        let two = inside(&other.namespace, || hosts::open(world, "two", hosts::TWO));
        let one = hosts::open(world, "one", hosts::ONE);
        check(&told, &client, &server, 80, true);
        // One of VPC 2 comes to the first host, which then has both: it is reached there, and those elsewhere still are.
        let moved = told.clone().interface(2, 1, 6, OPEN);
        let first = [first.as_slice(), &[eni_id(2, 1, 6)]].concat();
        moved.part(&first, hosts::TWO).tell(world, &one);
        moved.part(&second, hosts::ONE).tell(world, &two);
        let beside = attach(world, &one, [2, 1, 6], OPEN);
        check(&moved, &client, &beside, 80, true);
        check(&moved, &client, &server, 80, true);
        check(&moved, &server, &client, 80, true);
        check(&moved, &beside, &client, 80, true);
        // A route goes: what was open ends too, and no link is left for nothing.
        let cut = moved.clone().routes(1, 1, &[]).routes(2, 1, &[]);
        cut.part(&first, hosts::TWO).tell(world, &one);
        cut.part(&second, hosts::ONE).tell(world, &two);
        check(&cut, &client, &server, 80, false);
        check(&cut, &client, &beside, 80, false);
        world.runtime.block_on(two.uninstall()).unwrap();
        world.runtime.block_on(one.uninstall()).unwrap();
        for namespace in [&other.namespace, &File::open("/proc/thread-self/ns/net").unwrap()] {
            assert!(!inside(namespace, || run("ip -o link")).contains("0a0b0c0d"));
            assert_eq!(inside(namespace, || run("nft list tables")), "");
        }
    });
}

#[test]
fn a_peer_takes_nothing_away_that_a_vpcs_own_tables_lead_elsewhere() {
    on_a_host(|world| {
        serve(&world.outside, 80);
        let network = world.open();
        let back = [("10.1.0.0/16", peered(1, 2)), ("10.4.0.0/16", peered(2, 4))];
        // VPC 1 leads 10.2.0.0/16 to VPC 3, which has the same addresses as VPC 2, and 4 leads all of it to VPC 2.
        let mut told = Told::default()
            .vpc(1, &[("10.2.0.0/16", peered(1, 3)), ("0.0.0.0/0", Target::InternetGateway)])
            .vpc(2, &back)
            .vpc(3, &[("10.1.0.0/16", peered(1, 3))])
            .vpc(4, &[("10.2.0.0/16", peered(2, 4)), ("203.0.113.0/24", peered(2, 4))])
            .peering(1, 2)
            .peering(1, 3)
            .peering(2, 4)
            .interface(1, 1, 4, OPEN)
            .interface(2, 1, 4, OPEN)
            .interface(2, 1, 9, OPEN)
            .interface(3, 1, 4, OPEN)
            .interface(3, 1, 9, OPEN)
            .interface(4, 1, 4, OPEN);
        let twin: longshore_types::EniId = eni_id(3, 1, 9).parse().unwrap();
        if let Some(at) = told.0.interfaces.get_mut(&twin) {
            at.address = [10, 2, 1, 9].into();
        }
        for (vpc, range) in [(2, "203.0.113.0/24"), (3, "10.2.0.0/16")] {
            told.0.vpcs.get_mut(&vpc_id(vpc)).unwrap().ranges.push(cidr(range));
        }
        told.0.subnets.values_mut().filter(|it| it.vpc == vpc_id(3)).for_each(|it| {
            it.range = cidr(&it.range.to_string().replace("10.3.", "10.2."));
        });
        let own: longshore_types::EniId = eni_id(1, 1, 4).parse().unwrap();
        told.0.interfaces.get_mut(&own).unwrap().public = Some([198, 18, 0, 4].into());
        told.0.interfaces.retain(|id, _| *id != eni_id(3, 1, 4).parse().unwrap());
        told.tell(world, &network);
        let make = |place| attach(world, &network, place, OPEN);
        let (one, two, four) = (make([1, 1, 4]), make([2, 1, 4]), make([4, 1, 4]));
        let in_two = make([2, 1, 9]);
        let spec = EniSpec {
            id: Some(eni_id(3, 1, 9).parse().unwrap()),
            address: in_two.address,
            prefix: 24,
            gateway: [10, 2, 1, 1].into(),
            mac: MacAddr::new([2, 0, 0, 3, 1, 9]),
            security_groups: vec![OPEN.parse().unwrap()],
            assign_public_ip: false,
            is_judged: false,
        };
        let in_three = world.runtime.block_on(network.attach_eni(&id("3-1-9"), spec)).unwrap();
        serve_at(&in_three, 80);
        let seen = crate::world::HOST_OUTSIDE;
        eventually("the world", || at(&one, || knock(OUTSIDE, 80)) == Some(seen));
        eventually("the one", || at(&one, || knock(in_three.address, 80)) == Some(one.address));
        check(&told, &four, &two, 80, true);
        // The peer has an interface at an address of the world.
        let outside: longshore_types::EniId = eni_id(2, 1, 5).parse().unwrap();
        let mut wide = told.clone().interface(2, 1, 5, OPEN);
        wide.0.interfaces.get_mut(&outside).unwrap().address = OUTSIDE;
        let subnet = wide.0.subnets.values_mut().find(|it| it.vpc == vpc_id(2)).unwrap();
        subnet.range = cidr("0.0.0.0/0");
        wide.tell(world, &network);
        eventually("it is there", || at(&four, || knock(OUTSIDE, 80)).is_none());
        assert_eq!(at(&one, || knock(OUTSIDE, 80)), Some(seen), "the world is where it was");
        assert_eq!(at(&one, || knock(in_three.address, 80)), Some(one.address));
        assert_eq!(at(&in_two, || knock(one.address, 80)), None, "nobody answers it");
        world.runtime.block_on(network.uninstall()).unwrap();
    });
}
