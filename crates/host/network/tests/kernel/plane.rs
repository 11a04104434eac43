//! Default VPCs that were changed, in the network that all default VPCs share with the host.

use std::net::Ipv4Addr;

use longshore_types::VpcId;
use network::feed::{
    AclEntry, Change, Feed, Interface, Item, NatGateway, NetworkAcl, RouteTable, Subnet, Target,
    Withheld,
};
use network::{
    Attached, EniSpec, GroupRule, Network, News, Peer, PortMapping, Protocol, SecurityGroup,
    Traffic,
};

use crate::feeds::{self, cidr, entry, open_acl};
use crate::hosts;
use crate::names::{AMAZON, ask_udp, serve_names};
use crate::world::{
    HOST_OUTSIDE, OUTSIDE, World, at, eni, eventually, id, inside, knock, on_a_host, run, serve,
    serve_at,
};

const PLANE: &str = "vpc-00000000000000042";
const OWN: &str = "vpc-00000001";
const OPEN: &str = "sg-00000001";
const NAT: [u8; 4] = [198, 18, 0, 9];
const PEER: [u8; 4] = [198, 18, 0, 7];

fn plane() -> VpcId {
    PLANE.parse().unwrap()
}

fn igw() -> Vec<(&'static str, Target)> {
    vec![("0.0.0.0/0", Target::InternetGateway)]
}

fn by_nat() -> Vec<(&'static str, Target)> {
    vec![("0.0.0.0/0", Target::NatGateway("nat-0000000d".parse().unwrap()))]
}

/// The range that default VPCs share, and an interface of a VPC of its own with a public address.
fn as_it_came() -> Feed {
    let mut feed = Feed::default();
    feed.put(Item::Vpc(hosts::vpc()));
    let own: VpcId = OWN.parse().unwrap();
    feed.put(feeds::vpc(own.clone(), "10.0.0.0/16"));
    put_subnet(&mut feed, &own, "10.0.1.0/24", &igw());
    let of = (own, "subnet-00000001".parse().unwrap());
    let interface = feeds::interface("eni-00000001", of, [10, 0, 1, 7].into(), &[OPEN]);
    feed.put(Item::Interface(Interface { public: Some(PEER.into()), ..interface }));
    feed
}

/// With a table and an ACL of its own that allows all; the third number of its range is the end of its id in the plane.
fn put_subnet(feed: &mut Feed, vpc: &VpcId, range: &str, routes: &[(&str, Target)]) {
    let end = match vpc.as_str() {
        OWN => "00000001".to_owned(),
        _ => format!("0000d00{}", cidr(range).first().octets()[2]),
    };
    feed.put(Item::Subnet(Subnet {
        id: format!("subnet-{end}").parse().unwrap(),
        vpc: vpc.clone(),
        range: cidr(range),
        table: format!("rtb-{end}").parse().unwrap(),
        acl: format!("acl-{end}").parse().unwrap(),
        withheld: None,
    }));
    feed.put(Item::RouteTable(RouteTable {
        id: format!("rtb-{end}").parse().unwrap(),
        vpc: vpc.clone(),
        routes: feeds::routes(routes),
    }));
    feed.put(Item::NetworkAcl(open_acl(&format!("acl-{end}"), vpc.clone())));
}

/// Subnets 172.31.1.0/24 and so on with these routes, an interface at 4 in each, and a NAT gateway in the first.
fn changed(routes: &[Vec<(&str, Target)>]) -> Feed {
    let mut feed = as_it_came();
    for (number, routes) in (1_u8..).zip(routes) {
        put_subnet(&mut feed, &plane(), &format!("172.31.{number}.0/24"), routes);
        let of = (plane(), format!("subnet-0000d00{number}").parse().unwrap());
        let address = [172, 31, number, 4].into();
        let interface = feeds::interface(&format!("eni-0000d00{number}"), of, address, &[OPEN]);
        feed.put(Item::Interface(interface));
    }
    feed.put(Item::NatGateway(NatGateway {
        id: "nat-0000000d".parse().unwrap(),
        vpc: plane(),
        subnet: "subnet-0000d001".parse().unwrap(),
        public: Some(NAT.into()),
    }));
    feed
}

fn open_group() -> SecurityGroup {
    let all = || vec![GroupRule { traffic: Traffic::All, peer: Peer::Network(cidr("0.0.0.0/0")) }];
    SecurityGroup { id: OPEN.parse().unwrap(), ingress: all(), egress: all() }
}

fn tell(world: &World, network: &Network, feed: &Feed) {
    feeds::tell(world, network, feed, vec![open_group()]);
}

/// The interface in the subnet of a number.
fn attach(world: &World, network: &Network, number: u8) -> Attached {
    let spec = feeds::spec(&format!("eni-0000d00{number}"), [172, 31, number, 4].into(), &[OPEN]);
    let name = id(&format!("changed-{number}"));
    let attached = world.runtime.block_on(network.attach_eni(&name, spec)).unwrap();
    serve_at(&attached, 80);
    attached
}

/// An interface of a default VPC that is as it came.
fn attach_plain(world: &World, network: &Network) -> Attached {
    let name = id("plain");
    let attaching = network.attach_eni(&name, eni(9, &[OPEN]));
    let attached = world.runtime.block_on(attaching).unwrap();
    serve_at(&attached, 80);
    attached
}

fn reaches(from: &Attached, to: Ipv4Addr) -> bool {
    at(from, || knock(to, 80)).is_some()
}

fn is_reached_from_outside(world: &World, to: &Attached) -> bool {
    inside(&world.outside, || knock(to.address, 80)).is_some()
}

fn assert_seen_as(from: &Attached, to: Ipv4Addr, seen: Ipv4Addr) {
    eventually("it is reached", || at(from, || knock(to, 80)) == Some(seen));
}

#[test]
fn a_changed_default_vpcs_tables_say_who_gets_out_and_of_one_that_is_as_it_came_none_is_asked() {
    on_a_host(|world| {
        serve(&world.outside, 80);
        let network = world.open();
        tell(world, &network, &changed(&[igw(), by_nat(), vec![]]));
        let [open, hidden, isolated] = [1, 2, 3].map(|number| attach(world, &network, number));
        let plain = attach_plain(world, &network);
        let spec = feeds::spec("eni-00000001", [10, 0, 1, 7].into(), &[OPEN]);
        let peer = world.runtime.block_on(network.attach_eni(&id("peer"), spec)).unwrap();
        serve_at(&peer, 80);
        for task in [&plain, &open, &hidden] {
            assert_seen_as(task, OUTSIDE, HOST_OUTSIDE);
        }
        assert!(!reaches(&isolated, OUTSIDE) && !reaches(&isolated, PEER.into()));
        assert_seen_as(&hidden, PEER.into(), NAT.into());
        assert_seen_as(&open, PEER.into(), open.address);
        // Within the VPC all reach each other, and the host reaches all.
        assert_seen_as(&isolated, open.address, isolated.address);
        assert_seen_as(&plain, isolated.address, plain.address);
        for task in [&plain, &open, &hidden, &isolated] {
            assert!(knock(task.address, 80).is_some(), "the host reaches {}", task.address);
        }
        assert!(is_reached_from_outside(world, &open) && is_reached_from_outside(world, &plain));
        assert!(!is_reached_from_outside(world, &hidden), "no answer would leave as itself");
        assert!(!is_reached_from_outside(world, &isolated));
        // An agent that is killed: the next one judges as it did.
        drop(network);
        let network = world.open();
        assert!(!reaches(&isolated, OUTSIDE));
        assert_seen_as(&hidden, PEER.into(), NAT.into());
        // Routes that come, and that go, for whoever runs.
        let hole = ("203.0.113.0/24", Target::Blackhole);
        let holed = vec![("0.0.0.0/0", Target::InternetGateway), hole];
        tell(world, &network, &changed(&[holed, by_nat(), igw()]));
        assert_seen_as(&isolated, OUTSIDE, HOST_OUTSIDE);
        assert!(!reaches(&open, OUTSIDE));
        assert!(!reaches(&hidden, OUTSIDE), "its gateway has no way there either");
        assert_seen_as(&hidden, PEER.into(), NAT.into());
        world.runtime.block_on(network.detach(&id("changed-3"))).unwrap();
        let again = attach(world, &network, 3);
        assert_seen_as(&again, OUTSIDE, HOST_OUTSIDE);
        // Once nothing is told of it any more, nothing is asked.
        tell(world, &network, &as_it_came());
        assert_seen_as(&open, OUTSIDE, HOST_OUTSIDE);
        assert!(is_reached_from_outside(world, &hidden));
        assert!(!run("nft list table inet longshore_0a0b0c0d").contains("acl_out"));
        world.runtime.block_on(network.uninstall()).unwrap();
        assert_eq!(run("nft list tables"), "");
    });
}

#[test]
fn what_was_there_before_its_subnet_was_told_of_is_judged_from_then_on() {
    on_a_host(|world| {
        serve(&world.outside, 80);
        let network = world.open();
        tell(world, &network, &as_it_came());
        let isolated = attach(world, &network, 1);
        assert_seen_as(&isolated, OUTSIDE, HOST_OUTSIDE);
        tell(world, &network, &changed(&[vec![]]));
        assert!(!reaches(&isolated, OUTSIDE));
        // Also where another interface of its subnet was told of before.
        let mut feed = changed(&[vec![]]);
        let later = feed.interfaces.remove(&"eni-0000d001".parse().unwrap()).unwrap();
        tell(world, &network, &feed);
        world.runtime.block_on(network.detach(&id("changed-1"))).unwrap();
        let isolated = attach(world, &network, 1);
        assert_seen_as(&isolated, OUTSIDE, HOST_OUTSIDE);
        feed.put(Item::Interface(later));
        tell(world, &network, &feed);
        assert!(!reaches(&isolated, OUTSIDE) && knock(isolated.address, 80).is_some());
    });
}

#[test]
fn of_an_interface_that_is_to_be_judged_nothing_passes_before_it_is_told_by_what() {
    on_a_host(|world| {
        serve(&world.outside, 80);
        let attach = |network: &Network, number: u8| {
            let name = id(&format!("changed-{number}"));
            let address = [172, 31, number, 4].into();
            let spec = feeds::spec(&format!("eni-0000d00{number}"), address, &[OPEN]);
            let spec = EniSpec { is_judged: true, ..spec };
            let attached = world.runtime.block_on(network.attach_eni(&name, spec)).unwrap();
            serve_at(&attached, 80);
            attached
        };
        let is_shut = |to: &Attached, plain: &Attached| {
            let host = knock(to.address, 80).is_some();
            host && !reaches(to, OUTSIDE)
                && !reaches(plain, to.address)
                && !is_reached_from_outside(world, to)
        };
        let network = world.open();
        let groups = vec![open_group()];
        world.runtime.block_on(network.change_security_groups(groups)).unwrap();
        let (first, plain) = (attach(&network, 1), attach_plain(world, &network));
        assert!(is_shut(&first, &plain), "nobody told anything");
        assert_seen_as(&plain, OUTSIDE, HOST_OUTSIDE);
        drop(network);
        let network = world.open();
        assert!(is_shut(&first, &plain), "nor the next process");
        tell(world, &network, &changed(&[igw(), igw()]));
        assert_seen_as(&first, OUTSIDE, HOST_OUTSIDE);
        assert_seen_as(&plain, first.address, plain.address);
        // What is told cannot be written down.
        let file = world.dir.path().join("0a0b0c0d/feed.json");
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir_all(file.join("in the way")).unwrap();
        let change =
            Change { put: changed(&[igw(), igw(), igw()]).items().collect(), gone: vec![] };
        let news = News { network: change, ..News::default() };
        world.runtime.block_on(network.learn(news)).unwrap_err();
        let third = attach(&network, 3);
        assert!(is_shut(&third, &plain));
        assert_seen_as(&first, OUTSIDE, HOST_OUTSIDE);
        std::fs::remove_dir_all(&file).unwrap();
        tell(world, &network, &changed(&[igw(), igw(), igw()]));
        assert_seen_as(&third, OUTSIDE, HOST_OUTSIDE);
        // Of one of which nothing is told by then its account has undone what it had changed.
        tell(world, &network, &as_it_came());
        for task in [&attach(&network, 2), &first, &third] {
            assert_seen_as(task, OUTSIDE, HOST_OUTSIDE);
        }
        drop(network);
        let _network = world.open();
        assert_seen_as(&first, OUTSIDE, HOST_OUTSIDE);
    });
}

#[test]
fn a_changed_default_vpcs_acls_judge_what_crosses_a_subnets_border_and_not_what_the_host_sends() {
    on_a_host(|world| {
        serve(&world.outside, 80);
        let network = world.open();
        let with = |ingress: Vec<AclEntry>, egress: Vec<AclEntry>| {
            let mut feed = changed(&[igw(), igw()]);
            let id = "acl-0000d002".parse().unwrap();
            feed.put(Item::NetworkAcl(NetworkAcl { id, vpc: plane(), ingress, egress }));
            feed
        };
        let all = |number| entry(number, true, Traffic::All, "0.0.0.0/0");
        let no_web = entry(50, false, Traffic::Tcp(80..=80), "172.31.0.0/16");
        tell(world, &network, &with(vec![no_web, all(100)], vec![all(100)]));
        let [open, guarded] = [1, 2].map(|number| attach(world, &network, number));
        let plain = attach_plain(world, &network);
        assert!(!reaches(&open, guarded.address) && !reaches(&plain, guarded.address));
        assert_seen_as(&guarded, open.address, guarded.address);
        assert_seen_as(&guarded, OUTSIDE, HOST_OUTSIDE);
        assert!(is_reached_from_outside(world, &guarded), "the entry is about the VPC");
        assert!(knock(guarded.address, 80).is_some(), "the host reaches it whatever it says");
        // Stateless: the answers need an entry too.
        let answers = entry(100, true, Traffic::Tcp(1..=1024), "0.0.0.0/0");
        tell(world, &network, &with(vec![answers.clone()], vec![all(100)]));
        assert!(!reaches(&guarded, OUTSIDE), "its answers come to another port");
        assert_seen_as(&open, guarded.address, open.address);
        tell(world, &network, &with(vec![all(100)], vec![]));
        assert!(!reaches(&guarded, OUTSIDE) && !reaches(&open, guarded.address));
        assert!(knock(guarded.address, 80).is_some());
        assert_seen_as(&open, plain.address, open.address);
    });
}

#[test]
fn whoever_has_an_address_of_a_subnets_range_and_is_not_in_it_is_asked_by_its_acl() {
    on_a_host(|world| {
        let network = world.open();
        let (own, others) = ("subnet-0000d001", "subnet-0000e001");
        let mut feed = changed(&[igw()]);
        let subnet = feed.subnets[&own.parse().unwrap()].clone();
        let acl = "acl-0000e001".parse().unwrap();
        feed.put(Item::NetworkAcl(open_acl("acl-0000e001", plane())));
        feed.put(Item::Subnet(Subnet { id: others.parse().unwrap(), acl, ..subnet }));
        let shut = NetworkAcl {
            id: "acl-0000d001".parse().unwrap(),
            vpc: plane(),
            ingress: vec![],
            egress: vec![],
        };
        feed.put(Item::NetworkAcl(shut));
        let put = |feed: &mut Feed, eni: &str, subnet: &str, last: u8| {
            let of = (plane(), subnet.parse().unwrap());
            let interface = feeds::interface(eni, of, [172, 31, 1, last].into(), &[OPEN]);
            feed.put(Item::Interface(interface));
        };
        put(&mut feed, "eni-0000e077", others, 77);
        tell(world, &network, &feed);
        let attach = |eni: &str, last: u8| {
            let spec = feeds::spec(eni, [172, 31, 1, last].into(), &[OPEN]);
            let attached = world.runtime.block_on(network.attach_eni(&id(eni), spec)).unwrap();
            serve_at(&attached, 80);
            attached
        };
        let [guarded, stranger] =
            [("eni-0000d001", 4), ("eni-0000e077", 77)].map(|(eni, last)| attach(eni, last));
        assert!(!reaches(&stranger, guarded.address) && !reaches(&guarded, stranger.address));
        // One that comes is in the subnet from then on, until it is told of no more.
        let before = feed.clone();
        put(&mut feed, "eni-0000d005", own, 5);
        tell(world, &network, &feed);
        let neighbour = attach("eni-0000d005", 5);
        assert_seen_as(&neighbour, guarded.address, neighbour.address);
        assert_seen_as(&guarded, neighbour.address, guarded.address);
        assert!(!reaches(&stranger, neighbour.address));
        drop(network);
        let network = world.open();
        assert!(!reaches(&stranger, guarded.address));
        assert_seen_as(&neighbour, guarded.address, neighbour.address);
        let mut after = before;
        put(&mut after, "eni-0000d005", others, 5);
        tell(world, &network, &after);
        assert!(!reaches(&neighbour, guarded.address), "it is another account's");
    });
}

#[test]
fn what_comes_from_another_host_is_asked_by_the_acl_of_the_subnet_that_it_comes_to() {
    on_a_host(|world| {
        let other = hosts::another_host();
        let one = hosts::open(world, "one", hosts::ONE);
        let two = inside(&other.namespace, || hosts::open(world, "two", hosts::TWO));
        let neighbour = "eni-0000d025";
        let told = |ingress: Vec<AclEntry>| {
            let mut feed = changed(&[vec![], vec![]]);
            let of = (plane(), "subnet-0000d002".parse().unwrap());
            let interface = feeds::interface(neighbour, of, [172, 31, 2, 5].into(), &[OPEN]);
            feed.put(Item::Interface(interface));
            let egress = vec![entry(100, true, Traffic::All, "0.0.0.0/0")];
            let id = "acl-0000d002".parse().unwrap();
            feed.put(Item::NetworkAcl(NetworkAcl { id, vpc: plane(), ingress, egress }));
            feed.vpcs.retain(|id, _| *id == plane());
            feed.subnets.retain(|_, it| it.vpc == plane());
            feed.tables.retain(|_, it| it.vpc == plane());
            feed.acls.retain(|_, it| it.vpc == plane());
            feed.interfaces.retain(|_, it| it.vpc == plane());
            for (network, here, far) in [
                (&one, ["eni-0000d001", neighbour].as_slice(), hosts::TWO),
                (&two, ["eni-0000d002"].as_slice(), hosts::ONE),
            ] {
                let here: Vec<String> = here.iter().map(|id| (*id).to_owned()).collect();
                tell(world, network, &feeds::seen_from(&feed, &here, far));
            }
        };
        told(vec![entry(100, true, Traffic::All, "0.0.0.0/0")]);
        let (first, second) = (attach(world, &one, 1), attach(world, &two, 2));
        let spec = feeds::spec(neighbour, [172, 31, 2, 5].into(), &[OPEN]);
        let near = world.runtime.block_on(one.attach_eni(&id("near"), spec)).unwrap();
        // Neither table has a way out, which is not asked for within the VPC.
        assert_seen_as(&first, second.address, first.address);
        assert_seen_as(&second, first.address, second.address);
        told(vec![entry(100, true, Traffic::All, "192.0.2.0/24")]);
        assert!(!reaches(&first, second.address) && !reaches(&second, first.address));
        assert_seen_as(&near, second.address, near.address);
    });
}

#[test]
fn bridged_containers_are_the_host_to_a_changed_default_vpcs_tasks() {
    on_a_host(|world| {
        let network = world.open();
        let mut feed = changed(&[vec![]]);
        // Its own VPC may ask it and be answered, and nobody else.
        let own = || vec![entry(100, true, Traffic::All, "172.31.0.0/16")];
        let id_of = "acl-0000d001".parse().unwrap();
        let acl = NetworkAcl { id: id_of, vpc: plane(), ingress: own(), egress: own() };
        feed.put(Item::NetworkAcl(acl));
        tell(world, &network, &feed);
        let isolated = attach(world, &network, 1);
        let bridged = world.runtime.block_on(network.attach_bridge(&id("bridged"))).unwrap();
        serve_at(&bridged, 80);
        let mapping = PortMapping {
            container_port: 80,
            host_port: 8080,
            protocol: Protocol::Tcp,
            follows: false,
        };
        world.runtime.block_on(network.publish(&id("bridged"), &[mapping])).unwrap();
        assert!(reaches(&bridged, isolated.address));
        assert!(at(&isolated, || knock(HOST_OUTSIDE, 8080)).is_some(), "by its published port");
        assert!(!reaches(&isolated, OUTSIDE));
        assert!(!is_reached_from_outside(world, &isolated));
    });
}

#[test]
fn the_resolver_answers_nobody_of_a_default_vpc_that_has_none() {
    on_a_host(|world| {
        serve_names(world);
        let network = world.open();
        let mut feed = changed(&[igw(), igw()]);
        let mut subnet = feed.subnets[&"subnet-0000d002".parse().unwrap()].clone();
        subnet.withheld = Some(Withheld::All);
        feed.put(Item::Subnet(subnet));
        tell(world, &network, &feed);
        let [asks, other] = [2, 1].map(|number| attach(world, &network, number));
        for server in [AMAZON, Ipv4Addr::new(172, 31, 0, 2), network.host_address()] {
            assert_eq!(at(&asks, || ask_udp(server, 53, 1)), None, "{server}");
            assert_eq!(at(&other, || ask_udp(server, 53, 2)), Some(0), "{server}");
        }
        tell(world, &network, &changed(&[igw(), igw()]));
        assert_eq!(at(&asks, || ask_udp(AMAZON, 53, 3)), Some(0));
    });
}

#[test]
fn packets_of_a_default_vpcs_logged_interfaces_are_counted_up_to_their_last() {
    on_a_host(|world| {
        serve(&world.outside, 80);
        let network = world.open();
        let mut feed = changed(&[igw(), igw()]);
        let egress = vec![
            entry(50, false, Traffic::Tcp(81..=81), "0.0.0.0/0"),
            entry(100, true, Traffic::All, "0.0.0.0/0"),
        ];
        let ingress = vec![entry(100, true, Traffic::All, "0.0.0.0/0")];
        let id = "acl-0000d001".parse().unwrap();
        feed.put(Item::NetworkAcl(NetworkAcl { id, vpc: plane(), ingress, egress }));
        feed.interfaces.values_mut().for_each(|it| it.is_logged = it.vpc == plane());
        tell(world, &network, &feed);
        let [one, two] = [1, 2].map(|number| attach(world, &network, number));
        let read = || world.runtime.block_on(network.flows()).unwrap();
        assert_eq!(read().logged.len(), 2);
        assert!(reaches(&one, two.address) && reaches(&one, OUTSIDE));
        assert!(at(&one, || knock(two.address, 81)).is_none());
        let flows = read().flows;
        let counted = |to: Ipv4Addr, port: u16, is_egress: bool| {
            let its = flows.iter().filter(|it| {
                (it.key.destination, it.key.destination_port) == (to, port)
                    && it.is_egress == is_egress
            });
            its.fold([0, 0], |[accepted, rejected], it| {
                [accepted + it.accepted.packets, rejected + it.rejected.packets]
            })
        };
        for (to, is_egress) in [(two.address, true), (two.address, false), (OUTSIDE, true)] {
            let [accepted, rejected] = counted(to, 80, is_egress);
            assert!(accepted >= 4 && rejected == 0, "{to} {is_egress}: {flows:?}");
        }
        let [accepted, rejected] = counted(two.address, 81, true);
        assert!(accepted == 0 && rejected >= 1, "{flows:?}");
        assert_eq!(counted(two.address, 81, false), [0, 0], "it never came there");
        // One that ends: what it sent since the last reading is told once more.
        assert!(reaches(&two, OUTSIDE));
        world.runtime.block_on(network.detach(&crate::world::id("changed-2"))).unwrap();
        feed.interfaces.retain(|_, it| it.address != two.address);
        tell(world, &network, &feed);
        let last = read();
        let of_two = last.flows.iter().filter(|it| it.key.source == two.address);
        assert!(of_two.map(|it| it.accepted.packets).sum::<u64>() >= 4, "{last:?}");
        assert_eq!(read().logged.len(), 1);
        // A table that somebody took away is made again, whatever is told meanwhile.
        run("nft delete table inet longshore_0a0b0c0d_flows");
        assert_eq!(read().logged.len(), 0, "it cannot be read");
        assert_eq!(read().logged.len(), 1);
        assert!(reaches(&one, OUTSIDE));
        assert!(!read().flows.is_empty());
        run("nft delete table inet longshore_0a0b0c0d_flows");
        feed.interfaces.values_mut().for_each(|it| it.is_logged = false);
        tell(world, &network, &feed);
        assert_eq!(read().logged.len(), 0);
        assert!(!run("nft list tables").contains("flows"));
        world.runtime.block_on(network.uninstall()).unwrap();
        assert_eq!(run("nft list tables"), "");
    });
}
