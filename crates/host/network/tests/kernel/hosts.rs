//! Two hosts with a network between them: tasks of the default VPC reach each other across, as their groups say.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use longshore_types::VpcId;
use network::feed::{Change, Interface, Item, ItemId, Place, Vni, Vpc};
use network::{
    Attached, Encryption, GroupRule, Network, News, Peer, SecurityGroup, Traffic, limits,
};
use nix::sched::{CloneFlags, unshare};

use crate::world::{
    World, at, eni, eventually, exists, id, inside, knock, knock_udp, on_a_host, run, serve,
    serve_at,
};

pub(crate) const WEB: &str = "sg-00000000000000001";
pub(crate) const DB: &str = "sg-00000000000000002";
const VPC: &str = "vpc-00000000000000042";
pub(crate) const ONE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const TWO: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// A machine beside the hosts that is none.
const STRANGER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);

/// A second host; the test's own thread is in the first. Both are plugged into a third namespace's bridge.
pub(crate) struct Other {
    pub(crate) namespace: File,
    stranger: File,
}

pub(crate) fn new_namespace() -> File {
    std::thread::scope(|scope| {
        let made = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            run("ip link set lo up");
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        made.join().unwrap()
    })
}

pub(crate) fn path_of(namespace: &File) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd())
}

pub(crate) fn another_host() -> Other {
    let (namespace, stranger) = (new_namespace(), new_namespace());
    let here = File::open("/proc/thread-self/ns/net").unwrap();
    inside(&stranger, || {
        run("ip link add lan type bridge");
        run(&format!("ip addr add {STRANGER}/24 dev lan"));
        run("ip link set lan up");
        for (host, port, address) in [(&here, "one", ONE), (&namespace, "two", TWO)] {
            let path = path_of(host);
            run(&format!("ip link add {port} type veth peer name under netns {path}"));
            run(&format!("ip link set {port} master lan up"));
            inside(host, || {
                run(&format!("ip addr add {address}/24 dev under"));
                run("ip link set under up");
            });
        }
    });
    serve(&namespace, 9);
    // A link is up when the kernel gets to it.
    eventually("the hosts see each other", || knock(TWO, 9) == Some(ONE));
    Other { namespace, stranger }
}

pub(crate) fn open(world: &World, name: &str, underlay: Ipv4Addr) -> Network {
    let mut config = world.config("0a0b0c0d", "172.31.0.0/16");
    config.run_dir = world.dir.path().join(name);
    config.underlay = Some(underlay);
    world.runtime.block_on(Network::open(config)).unwrap()
}

pub(crate) fn can_encrypt(network: &Network) -> bool {
    matches!(network.encryption(), Some(Encryption::Able { .. }))
}

pub(crate) fn vpc() -> Vpc {
    let id: VpcId = VPC.parse().unwrap();
    Vpc {
        vni: Vni::of(&id),
        id,
        ranges: vec!["172.31.0.0/16".parse().unwrap()],
        has_dns: true,
        has_dns_hostnames: true,
        is_default: true,
    }
}

/// The interface at 172.31.0.`last`.
pub(crate) fn interface(last: u8, groups: &[&str], place: Place) -> Item {
    Item::Interface(Interface {
        id: format!("eni-000000{last:02x}").parse().unwrap(),
        vpc: VPC.parse().unwrap(),
        subnet: "subnet-00000001".parse().unwrap(),
        address: [172, 31, 0, last].into(),
        groups: groups.iter().map(|group| group.parse().unwrap()).collect(),
        public: None,
        place,
        is_balancers: false,
        is_logged: false,
    })
}

pub(crate) fn group(id: &str, ingress: Vec<GroupRule>) -> SecurityGroup {
    let egress = vec![GroupRule {
        traffic: Traffic::All,
        peer: Peer::Network("0.0.0.0/0".parse().unwrap()),
    }];
    SecurityGroup { id: id.parse().unwrap(), ingress, egress }
}

fn from_group(port: u16, peer: &str) -> GroupRule {
    GroupRule { traffic: Traffic::Tcp(port..=port), peer: Peer::Group(peer.parse().unwrap()) }
}

fn groups() -> Vec<SecurityGroup> {
    vec![group(WEB, vec![]), group(DB, vec![from_group(5432, WEB)])]
}

fn tell(world: &World, network: &Network, items: Vec<Item>, is_whole: bool) {
    let network_change = Change { put: items, gone: vec![] };
    let groups = if is_whole { groups() } else { vec![] };
    let news = News { groups, network: network_change, is_whole, ..News::default() };
    world.runtime.block_on(network.learn(news)).unwrap();
}

pub(crate) fn attach(
    world: &World,
    network: &Network,
    name: &str,
    last: u8,
    groups: &[&str],
) -> Attached {
    world.runtime.block_on(network.attach_eni(&id(name), eni(last, groups))).unwrap()
}

/// A packet may be lost where the machine has much to do.
pub(crate) fn assert_reaches(from: &Attached, to: &Attached) {
    eventually("a way is found", || at(from, || knock(to.address, 5432)) == Some(from.address));
}

/// Both hosts, opened, `web` at .10 on the first and `db` at .11 on the second, and all of it told.
struct Pair {
    other: Other,
    one: Network,
    two: Network,
    web: Attached,
    db: Attached,
}

fn pair(world: &World) -> Pair {
    let other = another_host();
    let one = open(world, "one", ONE);
    let two = inside(&other.namespace, || open(world, "two", TWO));
    tell(world, &one, vec![Item::Vpc(vpc()), interface(11, &[DB], Place::At(TWO))], true);
    tell(world, &two, vec![Item::Vpc(vpc()), interface(10, &[WEB], Place::At(ONE))], true);
    let web = attach(world, &one, "web", 10, &[WEB]);
    let db = attach(world, &two, "db", 11, &[DB]);
    serve_at(&db, 5432);
    serve_at(&web, 80);
    Pair { other, one, two, web, db }
}

#[test]
fn tasks_on_two_hosts_reach_each_other_by_the_rule_of_a_group_and_not_without() {
    on_a_host(|world| {
        let Pair { one, two, web, db, other: _other } = pair(world);
        assert_reaches(&web, &db);
        serve_at(&db, 5433);
        assert_eq!(at(&web, || knock(db.address, 5433)), None, "no rule speaks for it");
        assert_eq!(at(&db, || knock(web.address, 80)), None, "its group admits nobody");
        let all = GroupRule { traffic: Traffic::All, peer: Peer::Group(DB.parse().unwrap()) };
        let news = News { groups: vec![group(WEB, vec![all])], ..News::default() };
        world.runtime.block_on(one.learn(news)).unwrap();
        eventually("an answer by UDP", || {
            at(&db, || knock_udp(web.address, 80)) == Some(db.address)
        });
        // A member that is none any more.
        tell(world, &two, vec![interface(10, &[], Place::At(ONE))], false);
        assert_eq!(at(&web, || knock(db.address, 5432)), None);
        tell(world, &two, vec![interface(10, &[WEB, DB], Place::At(ONE))], false);
        assert_reaches(&web, &db);
        // Nobody told where .12 is.
        assert_eq!(at(&web, || knock([172, 31, 0, 12].into(), 5432)), None);
    });
}

#[test]
fn packets_between_hosts_are_as_large_as_the_way_takes() {
    on_a_host(|world| {
        let Pair { one, two: _two, web, db, other: _other } = pair(world);
        let all = GroupRule {
            traffic: Traffic::All,
            peer: Peer::Network("172.31.0.0/16".parse().unwrap()),
        };
        let news = News { groups: vec![group(WEB, vec![all])], ..News::default() };
        world.runtime.block_on(one.learn(news)).unwrap();
        let heard = at(&web, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 7)).unwrap());
        heard.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let sent = at(&db, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
        // 28 bytes of headers make them as large as the link takes, and what is larger is sent in pieces. Less fits where
        // what goes between hosts can be encrypted.
        let mtu = if can_encrypt(&one) { 1416 } else { 1450 };
        assert!(at(&db, || run("ip link show eth0")).contains(&format!("mtu {mtu}")));
        for length in [mtu - 28, 4000] {
            eventually("it arrives", || {
                assert_eq!(sent.send_to(&vec![0; length], (web.address, 7)).unwrap(), length);
                heard.recv(&mut [0; 8000]).is_ok_and(|heard| heard == length)
            });
        }
    });
}

#[test]
fn an_address_that_moves_is_followed_and_its_old_connections_are_not_its_own() {
    on_a_host(|world| {
        let Pair { one, two, web, db, other } = pair(world);
        assert_reaches(&web, &db);
        let flows = || inside(&other.namespace, || run("cat /proc/thread-self/net/nf_conntrack"));
        assert!(flows().contains("172.31.0.11"));
        // To the first host: told late, made early.
        world.runtime.block_on(two.detach(&id("db"))).unwrap();
        let moved = attach(world, &one, "db", 11, &[DB]);
        serve_at(&moved, 5432);
        assert_reaches(&web, &moved);
        tell(world, &one, vec![interface(11, &[DB], Place::Here)], false);
        tell(world, &two, vec![interface(11, &[DB], Place::At(ONE))], false);
        eventually("old connections are cleared", || !flows().contains("172.31.0.11"));
        let ops = attach(world, &two, "ops", 12, &[WEB]);
        tell(world, &one, vec![interface(12, &[WEB], Place::At(TWO))], false);
        assert_reaches(&ops, &moved);
        // And back: told early, gone late.
        tell(world, &one, vec![interface(11, &[DB], Place::At(TWO))], false);
        assert_reaches(&web, &moved);
        tell(world, &two, vec![interface(11, &[DB], Place::Here)], false);
        let back = attach(world, &two, "db", 11, &[DB]);
        serve_at(&back, 5432);
        world.runtime.block_on(one.detach(&id("db"))).unwrap();
        assert_reaches(&web, &back);
    });
}

#[test]
fn what_was_told_of_hosts_is_in_force_before_anybody_is_told_again_and_ends_with_the_region() {
    on_a_host(|world| {
        let Pair { one, two, web, db, other } = pair(world);
        drop((one, two));
        // A route of before, to an interface that ended meanwhile.
        inside(&other.namespace, || {
            run("ip route add 172.31.0.77 via 192.0.2.1 dev lx0a0b0c0d proto static onlink")
        });
        let two = inside(&other.namespace, || open(world, "two", TWO));
        let one = open(world, "one", ONE);
        assert_reaches(&web, &db);
        let routes = inside(&other.namespace, || run("ip route show dev lx0a0b0c0d"));
        assert!(routes.contains("172.31.0.10") && !routes.contains("172.31.0.77"), "{routes}");
        let gone =
            Change { put: vec![], gone: vec![ItemId::Interface("eni-0000000a".parse().unwrap())] };
        let news = News { network: gone, ..News::default() };
        world.runtime.block_on(two.learn(news)).unwrap();
        assert_eq!(at(&web, || knock(db.address, 5432)), None);
        assert_eq!(inside(&other.namespace, || run("ip route show dev lx0a0b0c0d")), "");
        world.runtime.block_on(two.uninstall()).unwrap();
        world.runtime.block_on(one.uninstall()).unwrap();
        for namespace in [&other.namespace, &File::open("/proc/thread-self/ns/net").unwrap()] {
            let links = inside(namespace, || run("ip -o link"));
            assert!(!links.contains("0a0b0c0d"), "{links}");
            assert_eq!(inside(namespace, || run("nft list tables")), "");
        }
        assert!(!exists(&Path::new(world.dir.path()).join("two/feed.json")));
    });
}

/// A VXLAN packet that carries a UDP datagram from `source`, to port 7 of `to`.
pub(crate) fn forged(source: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let vni = Vni::of(&VPC.parse().unwrap()).value().to_be_bytes();
    let mut packet = vec![8, 0, 0, 0, vni[1], vni[2], vni[3], 0];
    let [a, b, c, d] = TWO.octets();
    packet.extend([0x02, 0x4c, a, b, c, d, 0x02, 0x4c, 192, 0, 2, 1, 0x08, 0x00]);
    let mut ip = vec![0x45, 0, 0, 32, 0, 1, 0, 0, 64, 17, 0, 0];
    ip.extend(source.octets());
    ip.extend(to.octets());
    let sum = ip.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    let check = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap();
    ip[10..12].copy_from_slice(&check.to_be_bytes());
    packet.extend(ip);
    packet.extend([0, 9, 0, 7, 0, 12, 0, 0]);
    packet.extend(b"boo!");
    packet
}

#[test]
fn nobody_but_a_host_speaks_for_an_interface_of_that_host() {
    on_a_host(|world| {
        let Pair { other, two, web, db, one: _one } = pair(world);
        let udp = GroupRule {
            traffic: Traffic::Udp(7..=7),
            peer: Peer::Network("0.0.0.0/0".parse().unwrap()),
        };
        let news = News { groups: vec![group(DB, vec![udp])], ..News::default() };
        world.runtime.block_on(two.learn(news)).unwrap();
        let heard = at(&db, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 7)).unwrap());
        heard.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
        let is_heard = || heard.recv(&mut [0; 16]).is_ok();
        let tunnel = SocketAddrV4::new(TWO, limits::TUNNEL_PORT);
        let send = |packet: Vec<u8>| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            drop(socket.send_to(&packet, tunnel));
        };
        // What a host says is believed, so the packets below are right but for who sends them.
        send(forged(web.address, db.address));
        assert!(is_heard(), "the packet is well made");
        send(forged([172, 31, 0, 99].into(), db.address));
        assert!(!is_heard(), "the host has no such interface");
        send(forged([203, 0, 113, 5].into(), db.address));
        assert!(!is_heard(), "nor does it speak for the world");
        inside(&other.stranger, || send(forged(web.address, db.address)));
        assert!(!is_heard(), "a stranger is no host");
        at(&web, || send(forged(web.address, db.address)));
        assert!(!is_heard(), "a task would speak with its host's address");
        inside(&other.stranger, || {
            run("ip addr add 172.31.0.10/32 dev lan");
            run("ip route add 172.31.0.11 via 192.0.2.2 src 172.31.0.10");
            let socket = UdpSocket::bind((web.address, 0)).unwrap();
            drop(socket.send_to(b"boo!", (db.address, 7)));
        });
        assert!(!is_heard(), "addresses of the VPC come by no other way");
    });
}

#[test]
fn odd_news_opens_nothing_and_breaks_nothing() {
    on_a_host(|world| {
        let Pair { one, two, web, db, other: _other } = pair(world);
        let mut twin = vpc();
        twin.id = "vpc-a0000000000000042".parse().unwrap();
        let oddities = vec![
            interface(1, &[WEB], Place::At(Ipv4Addr::UNSPECIFIED)),
            interface(2, &[WEB], Place::At(Ipv4Addr::BROADCAST)),
            interface(3, &[WEB], Place::At(Ipv4Addr::LOCALHOST)),
            interface(4, &[WEB], Place::At(ONE)),
            interface(10, &[WEB], Place::At(TWO)),
        ];
        tell(world, &one, oddities, false);
        assert_reaches(&web, &db);
        tell(world, &two, vec![Item::Vpc(twin)], false);
        assert_eq!(at(&web, || knock(db.address, 5432)), None, "two VPCs of one number are none");
        // All of it again, as it is.
        tell(world, &two, vec![Item::Vpc(vpc()), interface(10, &[WEB], Place::At(ONE))], true);
        assert_reaches(&web, &db);
    });
}
