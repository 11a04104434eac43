//! VPCs with a router of their own: ranges that overlap, ways out, and ACLs.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};

use longshore_types::{SecurityGroupId, SeededEnv};
use network::feed::{
    AclEntry, Feed, Interface, Item, NatGateway, NetworkAcl, RouteTable, Subnet, Target,
};
use network::{Attached, EniSpec, GroupRule, MacAddr, Network, Peer, SecurityGroup, Traffic};
use traffic::path::{Answers, AnswersPart, Step};
use traffic::{Content, Packet};

use crate::feeds::{self, cidr, entry, open_acl};
use crate::hosts;
use crate::world::{
    OUTSIDE, World, at, eventually, exists, id, inside, knock, knock_udp, on_a_host, run, serve,
    serve_at,
};

const OPEN: &str = "sg-00000000000000001";
const ONE: &str = "vpc-00000000000000001";
const TWO: &str = "vpc-00000000000000002";

/// What the region tells of VPCs, made up piece by piece. Each VPC is 10.0.0.0/16 with subnets of /24.
#[derive(Default)]
struct Told {
    feed: Feed,
}

/// The last digit of a VPC's id is that of the ids of all that is in it.
fn digit(vpc: &str) -> char {
    vpc.chars().last().unwrap()
}

impl Told {
    fn vpc(mut self, id: &str) -> Self {
        self.feed.put(feeds::vpc(id.parse().unwrap(), "10.0.0.0/16"));
        self
    }

    /// The subnet 10.0.`number`.0/24, with a table and an ACL of its own that allows all.
    fn subnet(mut self, vpc: &str, number: u8, routes: &[(&str, Target)]) -> Self {
        let digit = digit(vpc);
        self.feed.put(Item::Subnet(Subnet {
            id: format!("subnet-{number:07x}{digit}").parse().unwrap(),
            vpc: vpc.parse().unwrap(),
            range: cidr(&format!("10.0.{number}.0/24")),
            table: format!("rtb-{number:07x}{digit}").parse().unwrap(),
            acl: format!("acl-{number:07x}{digit}").parse().unwrap(),
            withheld: None,
        }));
        self.feed.put(Item::RouteTable(RouteTable {
            id: format!("rtb-{number:07x}{digit}").parse().unwrap(),
            vpc: vpc.parse().unwrap(),
            routes: feeds::routes(routes),
        }));
        let acl = open_acl(&format!("acl-{number:07x}{digit}"), vpc.parse().unwrap());
        self.feed.put(Item::NetworkAcl(acl));
        self
    }

    fn acl(mut self, vpc: &str, number: u8, ingress: Vec<AclEntry>, egress: Vec<AclEntry>) -> Self {
        let id = format!("acl-{number:07x}{}", digit(vpc)).parse().unwrap();
        self.feed.put(Item::NetworkAcl(NetworkAcl {
            id,
            vpc: vpc.parse().unwrap(),
            ingress,
            egress,
        }));
        self
    }

    fn nat(mut self, vpc: &str, subnet: u8, public: [u8; 4]) -> Self {
        self.feed.put(Item::NatGateway(NatGateway {
            id: format!("nat-0000000{}", digit(vpc)).parse().unwrap(),
            vpc: vpc.parse().unwrap(),
            subnet: format!("subnet-{subnet:07x}{}", digit(vpc)).parse().unwrap(),
            public: Some(public.into()),
        }));
        self
    }

    fn interface(
        mut self,
        vpc: &str,
        (subnet, last): (u8, u8),
        groups: &[&str],
        public: Option<[u8; 4]>,
    ) -> Self {
        let of =
            (vpc.parse().unwrap(), format!("subnet-{subnet:07x}{}", digit(vpc)).parse().unwrap());
        let (id, address) = (eni_id(vpc, subnet, last), [10, 0, subnet, last].into());
        let interface = feeds::interface(&id, of, address, groups);
        let public = public.map(Into::into);
        self.feed.put(Item::Interface(Interface { public, ..interface }));
        self
    }

    /// The same on another host, where only these interfaces are.
    fn seen_from(&self, here: &[String], others: Ipv4Addr) -> Self {
        Self { feed: feeds::seen_from(&self.feed, here, others) }
    }

    fn tell(&self, world: &World, network: &Network, groups: Vec<SecurityGroup>) {
        feeds::tell(world, network, &self.feed, groups);
    }
}

fn eni_id(vpc: &str, subnet: u8, last: u8) -> String {
    format!("eni-{subnet:04x}{last:03x}{}", digit(vpc))
}

fn nat_of(vpc: &str) -> Target {
    Target::NatGateway(format!("nat-0000000{}", digit(vpc)).parse().unwrap())
}

fn open_group() -> SecurityGroup {
    let all = || vec![GroupRule { traffic: Traffic::All, peer: Peer::Network(cidr("0.0.0.0/0")) }];
    SecurityGroup { id: OPEN.parse().unwrap(), ingress: all(), egress: all() }
}

fn spec(vpc: &str, (subnet, last): (u8, u8), groups: &[&str]) -> EniSpec {
    feeds::spec(&eni_id(vpc, subnet, last), [10, 0, subnet, last].into(), groups)
}

fn attach(
    world: &World,
    network: &Network,
    vpc: &str,
    place: (u8, u8),
    groups: &[&str],
) -> Attached {
    let name = id(&format!("{vpc}-{}-{}", place.0, place.1));
    let attaching = network.attach_eni(&name, spec(vpc, place, groups));
    let attached = world.runtime.block_on(attaching).unwrap();
    serve_at(&attached, 80);
    attached
}

fn reaches(from: &Attached, to: Ipv4Addr) -> bool {
    at(from, || knock(to, 80)).is_some()
}

fn assert_seen_as(from: &Attached, to: Ipv4Addr, seen: Ipv4Addr) {
    eventually("it is reached", || at(from, || knock(to, 80)) == Some(seen));
}

#[test]
fn two_vpcs_have_the_same_addresses_and_nothing_to_do_with_each_other() {
    on_a_host(|world| {
        let network = world.open();
        let told = [ONE, TWO].into_iter().fold(Told::default(), |told, vpc| {
            let told = told.vpc(vpc).subnet(vpc, 1, &[]);
            told.interface(vpc, (1, 4), &[OPEN], None).interface(vpc, (1, 5), &[OPEN], None)
        });
        let told = told.interface(TWO, (1, 6), &[OPEN], None);
        told.tell(world, &network, vec![open_group()]);
        let [first, second] = [ONE, TWO].map(|vpc| attach(world, &network, vpc, (1, 4), &[OPEN]));
        let peer = attach(world, &network, ONE, (1, 5), &[OPEN]);
        let other = attach(world, &network, TWO, (1, 6), &[OPEN]);
        assert_eq!(first.address, second.address);
        assert_seen_as(&first, peer.address, first.address);
        assert_seen_as(&other, second.address, other.address);
        assert!(!reaches(&second, peer.address), "it is in the other VPC");
        assert!(!reaches(&first, other.address));
        assert!(!reaches(&first, OUTSIDE), "no route leads out");
        // An agent that is killed: everything goes on, and the next one knows it.
        drop(network);
        let network = world.open();
        assert_seen_as(&first, peer.address, first.address);
        let name = id(&format!("{ONE}-1-5"));
        let again = network.attach_eni(&name, spec(ONE, (1, 5), &[OPEN]));
        assert_eq!(world.runtime.block_on(again).unwrap(), peer);
        world.runtime.block_on(network.detach(&name)).unwrap();
        assert!(!reaches(&first, peer.address));
        world.runtime.block_on(network.counters(&id(&format!("{TWO}-1-6")))).unwrap();
        world.runtime.block_on(network.reconcile(&[id(&format!("{ONE}-1-4"))])).unwrap();
        assert!(!exists(&other.netns) && exists(&first.netns));
        world.runtime.block_on(network.uninstall()).unwrap();
        assert!(!exists(&first.netns));
        assert!(!run("ip -o link").contains("0a0b0c0d"));
        assert_eq!(run("nft list tables"), "");
    });
}

#[test]
fn a_rule_that_goes_is_gone_in_a_vpc_of_ones_own_with_nothing_else_told() {
    on_a_host(|world| {
        let network = world.open();
        let told = Told::default().vpc(ONE).subnet(ONE, 1, &[]);
        let told = told.interface(ONE, (1, 4), &[OPEN], None);
        let told = told.interface(ONE, (1, 5), &[OPEN], None);
        told.tell(world, &network, vec![open_group()]);
        let [one, other] = [4, 5].map(|last| attach(world, &network, ONE, (1, last), &[OPEN]));
        assert_seen_as(&one, other.address, one.address);
        let closed = SecurityGroup { ingress: vec![], ..open_group() };
        world.runtime.block_on(network.change_security_groups(vec![closed])).unwrap();
        assert!(!reaches(&one, other.address));
        world.runtime.block_on(network.change_security_groups(vec![open_group()])).unwrap();
        assert_seen_as(&one, other.address, one.address);
    });
}

#[test]
fn a_subnets_table_says_who_gets_out_and_as_whom() {
    on_a_host(|world| {
        serve(&world.outside, 80);
        let (public, nat, peer) = ([198, 18, 0, 4], [198, 18, 0, 9], [198, 18, 0, 7]);
        let igw = [("0.0.0.0/0", Target::InternetGateway)];
        let network = world.open();
        let base = || {
            Told::default()
                .vpc(ONE)
                .subnet(ONE, 1, &igw)
                .subnet(ONE, 3, &[])
                .nat(ONE, 1, nat)
                .interface(ONE, (1, 4), &[OPEN], Some(public))
                .interface(ONE, (1, 5), &[OPEN], None)
                .interface(ONE, (2, 4), &[OPEN], None)
                .interface(ONE, (3, 4), &[OPEN], None)
                .vpc(TWO)
                .subnet(TWO, 1, &igw)
                .interface(TWO, (1, 7), &[OPEN], Some(peer))
        };
        let private = [("0.0.0.0/0", nat_of(ONE))];
        base().subnet(ONE, 2, &private).tell(world, &network, vec![open_group()]);
        let of = |place| attach(world, &network, ONE, place, &[OPEN]);
        let (open, plain, hidden, isolated) = (of((1, 4)), of((1, 5)), of((2, 4)), of((3, 4)));
        let world_side = attach(world, &network, TWO, (1, 7), &[OPEN]);
        let peer: Ipv4Addr = peer.into();
        assert_seen_as(&open, peer, public.into());
        assert_seen_as(&hidden, peer, nat.into());
        assert_seen_as(&world_side, public.into(), peer);
        assert_seen_as(&hidden, OUTSIDE, crate::world::HOST_OUTSIDE);
        assert!(!reaches(&plain, peer), "an internet gateway is for public addresses");
        assert!(!reaches(&isolated, peer));
        assert!(!reaches(&world_side, nat.into()), "nobody gets in by a NAT gateway");
        assert_seen_as(&isolated, open.address, isolated.address);
        // A blackhole for a part, then the route gone: open connections end too.
        let holed = [("0.0.0.0/0", nat_of(ONE)), ("198.18.0.0/24", Target::Blackhole)];
        base().subnet(ONE, 2, &holed).tell(world, &network, vec![open_group()]);
        assert!(!reaches(&hidden, peer));
        assert_seen_as(&hidden, OUTSIDE, crate::world::HOST_OUTSIDE);
        base().subnet(ONE, 2, &[]).tell(world, &network, vec![open_group()]);
        assert!(!reaches(&hidden, OUTSIDE));
        // The gateway's own subnet has no way out.
        let told = base().subnet(ONE, 2, &private).subnet(ONE, 1, &[]);
        told.tell(world, &network, vec![open_group()]);
        assert!(!reaches(&hidden, OUTSIDE) && !reaches(&open, OUTSIDE));
        // It has one to a part of what is led to the gateway.
        let part = [("203.0.113.0/24", Target::InternetGateway)];
        let told = base().subnet(ONE, 2, &private).subnet(ONE, 1, &part);
        told.tell(world, &network, vec![open_group()]);
        assert_seen_as(&hidden, OUTSIDE, crate::world::HOST_OUTSIDE);
        assert!(!reaches(&hidden, peer));
    });
}

#[test]
fn a_public_address_goes_from_one_vpc_to_another_at_once_and_outlives_an_agent_that_was_killed() {
    on_a_host(|world| {
        let network = world.open();
        let public = [198, 18, 0, 4];
        let igw = [("0.0.0.0/0", Target::InternetGateway)];
        let told = |holder: &str| {
            [ONE, TWO].into_iter().fold(Told::default(), |told, vpc| {
                let told = told.vpc(vpc).subnet(vpc, 1, &igw);
                told.interface(vpc, (1, 4), &[OPEN], (vpc == holder).then_some(public))
            })
        };
        told(ONE).tell(world, &network, vec![open_group()]);
        let [one, two] = [ONE, TWO].map(|vpc| attach(world, &network, vpc, (1, 4), &[OPEN]));
        // By which of them it is answered, a listener of its own says.
        serve_at(&one, 81);
        serve_at(&two, 82);
        let leads = |to_one: bool| {
            let knocks = |port| knock(public.into(), port).is_some();
            (knocks(81), knocks(82)) == (to_one, !to_one)
        };
        eventually("it leads to the first", || leads(true));
        for holder in [TWO, ONE] {
            told(holder).tell(world, &network, vec![open_group()]);
            eventually("it leads to the other", || leads(holder == ONE));
        }
        // Killed after it was written down and before it was led.
        drop(network);
        run("ip route del 198.18.0.4");
        let network = world.open();
        eventually("it is led again", || leads(true));
        world.runtime.block_on(network.uninstall()).unwrap();
    });
}

#[test]
fn addresses_that_a_vpc_gave_up_are_outside_of_it() {
    on_a_host(|world| {
        serve(&world.outside, 80);
        let network = world.open();
        let igw = [("0.0.0.0/0", Target::InternetGateway)];
        let told = Told::default().vpc(ONE).subnet(ONE, 1, &igw);
        let mut told = told.interface(ONE, (1, 4), &[OPEN], Some([198, 18, 0, 4]));
        let mut wider = told.feed.vpcs[&ONE.parse().unwrap()].clone();
        let narrow = wider.clone();
        wider.ranges.push(longshore_types::Cidr::host(OUTSIDE));
        told.feed.put(Item::Vpc(wider));
        told.tell(world, &network, vec![open_group()]);
        let task = attach(world, &network, ONE, (1, 4), &[OPEN]);
        assert!(!reaches(&task, OUTSIDE), "nobody has this address of the VPC's");
        told.feed.put(Item::Vpc(narrow));
        told.tell(world, &network, vec![open_group()]);
        assert_seen_as(&task, OUTSIDE, crate::world::HOST_OUTSIDE);
    });
}

#[test]
fn vpcs_of_the_same_addresses_span_hosts_and_stay_apart() {
    on_a_host(|world| {
        let other = hosts::another_host();
        let one = hosts::open(world, "one", hosts::ONE);
        let two = inside(&other.namespace, || hosts::open(world, "two", hosts::TWO));
        let told = [ONE, TWO].into_iter().fold(Told::default(), |told, vpc| {
            let told = told.vpc(vpc).subnet(vpc, 1, &[]).subnet(vpc, 2, &[]);
            told.interface(vpc, (1, 4), &[OPEN], None).interface(vpc, (2, 4), &[OPEN], None)
        });
        let here = [ONE, TWO].map(|vpc| eni_id(vpc, 1, 4));
        let there = [ONE, TWO].map(|vpc| eni_id(vpc, 2, 4));
        told.seen_from(&here, hosts::TWO).tell(world, &one, vec![open_group()]);
        told.seen_from(&there, hosts::ONE).tell(world, &two, vec![open_group()]);
        let near = [ONE, TWO].map(|vpc| attach(world, &one, vpc, (1, 4), &[OPEN]));
        let far = attach(world, &two, ONE, (2, 4), &[OPEN]);
        assert_seen_as(&near[0], far.address, near[0].address);
        assert!(!reaches(&near[1], far.address), "in its own VPC nobody is there yet");
        let twin = attach(world, &two, TWO, (2, 4), &[OPEN]);
        assert_seen_as(&near[1], twin.address, near[1].address);
        assert_seen_as(&far, near[0].address, far.address);
        // What the hosts' agents leave when they are killed is found and goes on.
        drop((one, two));
        let two = inside(&other.namespace, || hosts::open(world, "two", hosts::TWO));
        let one = hosts::open(world, "one", hosts::ONE);
        assert_seen_as(&near[0], far.address, near[0].address);
        // The last interface of a VPC goes, and its router with it.
        world.runtime.block_on(two.detach(&id(&format!("{TWO}-2-4")))).unwrap();
        let mut left = told.seen_from(&there[..1], hosts::ONE);
        left.feed.interfaces.retain(|_, it| it.vpc.as_str() == ONE);
        left.tell(world, &two, vec![open_group()]);
        assert!(!exists(&world.dir.path().join(format!("two/netns/router.{TWO}"))));
        assert_seen_as(&near[0], far.address, near[0].address);
        world.runtime.block_on(two.uninstall()).unwrap();
        world.runtime.block_on(one.uninstall()).unwrap();
        for namespace in [&other.namespace, &File::open("/proc/thread-self/ns/net").unwrap()] {
            assert!(!inside(namespace, || run("ip -o link")).contains("0a0b0c0d"));
            assert_eq!(inside(namespace, || run("nft list tables")), "");
        }
    });
}

#[test]
fn who_asks_a_service_of_the_host_is_known_by_its_vpc_and_its_address_there() {
    on_a_host(|world| {
        let service = SocketAddrV4::new([169, 254, 170, 2].into(), 80);
        let mut config = world.config("0a0b0c0d", "172.31.0.0/16");
        config.served_here = vec![(*service.ip(), service.port())];
        let network = world.runtime.block_on(Network::open(config)).unwrap();
        let listener = network.listeners().remove(0);
        let told = [ONE, TWO].into_iter().fold(Told::default(), |told, vpc| {
            let told = told.vpc(vpc).subnet(vpc, 1, &[]);
            told.interface(vpc, (1, 4), &[OPEN], None).interface(vpc, (1, 5), &[OPEN], None)
        });
        told.tell(world, &network, vec![open_group()]);
        let places = [(ONE, 4), (ONE, 5), (TWO, 4)];
        let tasks = places.map(|(vpc, last)| attach(world, &network, vpc, (1, last), &[OPEN]));
        let behind = |from| world.runtime.block_on(network.behind(from, service)).unwrap();
        let mut held = Vec::new();
        for task in tasks.iter().chain(&tasks) {
            held.push(at(task, || TcpStream::connect(service).unwrap()));
            let (_, from) = listener.accept().unwrap();
            let SocketAddr::V4(from) = from else { panic!("{from}") };
            assert_eq!(Some(*from.ip()), task.seen_as);
            assert_eq!(behind(from), Some(task.address));
            // One that is not there, and one that no router has.
            assert_eq!(behind(SocketAddrV4::new(*from.ip(), 1)), None);
            assert_eq!(behind(SocketAddrV4::new(task.address, from.port())), None);
        }
        assert_ne!(tasks[0].seen_as, tasks[2].seen_as, "each VPC has a router of its own");
    });
}

fn any_entries(random: &SeededEnv) -> Vec<AclEntry> {
    let mut entries: Vec<AclEntry> = (0..random.below(3))
        .map(|number| {
            let port = 80 + u16::try_from(random.below(3)).unwrap();
            let traffic = match random.below(4) {
                0 => Traffic::All,
                1 => Traffic::Tcp(port..=port),
                2 => Traffic::Udp(80..=port),
                _ => Traffic::Tcp(0..=65_535),
            };
            let peers = ["10.0.1.4/32", "10.0.2.0/24", "0.0.0.0/0"];
            let peer = peers[random.below(3) as usize];
            entry(u16::try_from(number).unwrap() + 1, random.below(2) == 0, traffic, peer)
        })
        .collect();
    if random.below(4) > 0 {
        entries.push(entry(100, true, Traffic::All, "0.0.0.0/0"));
    }
    entries
}

/// Whether an answer comes: the packet gets there, and ACLs let the answer through, which has no connection for them.
fn is_said_to_answer(
    feed: &Feed,
    groups: &BTreeMap<SecurityGroupId, SecurityGroup>,
    (from, to): (&Interface, &Interface),
    content: Content,
) -> bool {
    let packet = Packet { source: from.address, destination: to.address, content };
    let there = feed.path_from(groups, from, &packet);
    // Of the ports that the kernel gives programs to call from, on either side of which entries are all alike.
    let has_port = |part: &AnswersPart| part.ports.as_ref().is_none_or(|it| it.contains(&40_000));
    let passes = |it: &Answers| it.parts.iter().any(|part| has_port(part) && part.passes);
    there.iter().all(Step::passes) && feed.answers(&there, &packet).iter().all(passes)
}

#[test]
fn the_kernel_leads_and_drops_as_the_path_says() {
    on_a_host(|world| {
        let network = world.open();
        let places = [(1, 4), (1, 5), (2, 4)];
        let base = |random: Option<&SeededEnv>| {
            let told = places.into_iter().fold(Told::default().vpc(ONE), |told, place| {
                told.interface(ONE, place, &[OPEN], None)
            });
            let told = told.subnet(ONE, 1, &[]).subnet(ONE, 2, &[]);
            match random {
                None => told,
                Some(random) => [1, 2].into_iter().fold(told, |told, number| {
                    told.acl(ONE, number, any_entries(random), any_entries(random))
                }),
            }
        };
        base(None).tell(world, &network, vec![open_group()]);
        let endpoints: Vec<Attached> =
            places.iter().map(|place| attach(world, &network, ONE, *place, &[OPEN])).collect();
        for endpoint in &endpoints {
            serve_at(endpoint, 81);
        }
        assert_seen_as(&endpoints[0], endpoints[2].address, endpoints[0].address);
        let groups: BTreeMap<_, _> = [(OPEN.parse().unwrap(), open_group())].into();
        for seed in 0..8 {
            let told = base(Some(&SeededEnv::from_seed(seed)));
            told.tell(world, &network, vec![open_group()]);
            let interfaces: BTreeMap<Ipv4Addr, &Interface> =
                told.feed.interfaces.values().map(|it| (it.address, it)).collect();
            std::thread::scope(|scope| {
                for from in &endpoints {
                    for to in endpoints.iter().filter(|to| to.address != from.address) {
                        for port in [80, 81] {
                            let (feed, groups, interfaces) = (&told.feed, &groups, &interfaces);
                            scope.spawn(move || {
                                let ends = (interfaces[&from.address], interfaces[&to.address]);
                                for content in [Content::Tcp(port), Content::Udp(port)] {
                                    let expected = is_said_to_answer(feed, groups, ends, content);
                                    let answer = at(from, || match content {
                                        Content::Tcp(_) => knock(to.address, port),
                                        _ => knock_udp(to.address, port),
                                    });
                                    assert_eq!(
                                        answer.is_some(),
                                        expected,
                                        "seed {seed}: {content:?} {ends:?} {:#?}",
                                        feed.acls
                                    );
                                }
                            });
                        }
                    }
                }
            });
        }
    });
}

#[test]
fn an_interface_of_a_vpc_that_nobody_told_of_is_in_no_other_one() {
    on_a_host(|world| {
        let network = world.open();
        let told = Told::default().interface(ONE, (1, 4), &[OPEN], None);
        told.tell(world, &network, vec![open_group()]);
        let odd = EniSpec {
            id: Some(eni_id(ONE, 1, 4).parse().unwrap()),
            address: [172, 31, 0, 9].into(),
            prefix: 20,
            gateway: [172, 31, 0, 1].into(),
            mac: MacAddr::new([2, 0, 0, 0, 0, 9]),
            security_groups: vec![],
            assign_public_ip: false,
            is_judged: false,
        };
        let refused = world.runtime.block_on(network.attach_eni(&id("stray"), odd)).unwrap_err();
        assert!(refused.to_string().contains(ONE), "{refused}");
        assert!(File::open(world.dir.path().join("0a0b0c0d/netns/stray")).is_err());
        // One whose addresses are those of the host's bridged containers is refused, and nothing else.
        let mut told = Told::default().vpc(ONE).subnet(ONE, 1, &[]).vpc(TWO).subnet(TWO, 1, &[]);
        told = told.interface(ONE, (1, 4), &[OPEN], None).interface(TWO, (1, 4), &[OPEN], None);
        let mut inhabited = told.feed.vpcs[&TWO.parse().unwrap()].clone();
        inhabited.ranges.push(network.bridge_range());
        told.feed.put(Item::Vpc(inhabited));
        told.tell(world, &network, vec![open_group()]);
        attach(world, &network, ONE, (1, 4), &[OPEN]);
        let other = id("other");
        let refused = network.attach_eni(&other, spec(TWO, (1, 4), &[OPEN]));
        let refused = world.runtime.block_on(refused).unwrap_err();
        assert!(refused.to_string().contains("overlap"), "{refused}");
    });
}

#[test]
fn packets_of_logged_interfaces_are_counted_by_what_became_of_them() {
    const SHUT: &str = "sg-00000000000000009";
    on_a_host(|world| {
        let network = world.open();
        let mut told = Told::default().vpc(ONE).subnet(ONE, 1, &[]).subnet(ONE, 2, &[]);
        told = told.interface(ONE, (1, 4), &[OPEN], None).interface(ONE, (2, 4), &[SHUT], None);
        told = told.interface(ONE, (2, 5), &[OPEN], None);
        let shut = SecurityGroup { ingress: vec![], id: SHUT.parse().unwrap(), ..open_group() };
        let groups = || vec![open_group(), shut.clone()];
        told.tell(world, &network, groups());
        let one = attach(world, &network, ONE, (1, 4), &[OPEN]);
        attach(world, &network, ONE, (2, 4), &[SHUT]);
        attach(world, &network, ONE, (2, 5), &[OPEN]);
        let read = || world.runtime.block_on(network.flows()).unwrap();
        assert!(read().logged.is_empty());
        for interface in told.feed.interfaces.values_mut() {
            interface.is_logged = interface.address != Ipv4Addr::new(10, 0, 2, 5);
        }
        told.tell(world, &network, groups());
        assert_eq!(read().logged.len(), 2);
        let (closed, open) = (Ipv4Addr::new(10, 0, 2, 4), Ipv4Addr::new(10, 0, 2, 5));
        assert!(at(&one, || knock(open, 80)).is_some() && at(&one, || knock(closed, 80)).is_none());
        assert!(at(&one, || knock_udp(closed, 53)).is_none());
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
        let [accepted, rejected] = counted(open, 80, true);
        assert!(accepted >= 4 && rejected == 0, "{flows:?}");
        assert_eq!(counted(open, 80, false), [0, 0], "its receiver is not logged");
        for (port, protocol) in [(80, 6), (53, 17)] {
            let [sent, kept] = counted(closed, port, true);
            assert!(sent >= 1 && kept == 0, "its sender may send it: {flows:?}");
            assert_eq!(counted(closed, port, false), [0, sent], "its receiver may not have it");
            assert!(flows.iter().any(|it| it.key.protocol == protocol));
        }
        let back = flows.iter().find(|it| it.key.source == open).unwrap();
        assert_eq!((back.key.source_port, back.is_egress), (80, false), "the answers");
        assert!(back.accepted.bytes >= back.accepted.packets * 40);
        assert!(read().flows.is_empty(), "it is told once");
        let router = world.dir.path().join(format!("0a0b0c0d/netns/router.{ONE}"));
        let router = File::open(router).unwrap();
        let is_counted = || inside(&router, || run("nft list tables")).contains("_flows");
        assert!(is_counted());
        // An agent that is killed leaves the table, and the next one hears that nothing is logged any more.
        drop(network);
        let network = world.open();
        told.feed.interfaces.values_mut().for_each(|it| it.is_logged = false);
        told.tell(world, &network, groups());
        assert!(world.runtime.block_on(network.flows()).unwrap().logged.is_empty());
        assert!(!is_counted());
    });
}
