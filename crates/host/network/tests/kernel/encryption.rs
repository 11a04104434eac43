//! Three hosts with a network between them: what they exchange is encrypted, and nothing else is taken.
//!
//! A kernel without ESP or AES-GCM has none of it, which is said; `tests/vm` runs these on one that has both.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use network::feed::{Change, Item, ItemId, Place};
use network::{Attached, Encryption, GroupRule, Network, News, Peer, Traffic, limits};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use traffic::tunnels::{EspKey, HostTunnels, Tunnel, TunnelKeys, spi};

use crate::flow::{lost_while, sockets};
use crate::hosts::{
    ONE, TWO, WEB, assert_reaches, attach, can_encrypt, forged, group, interface, new_namespace,
    open, path_of, vpc,
};
use crate::world::{World, at, eventually, inside, on_a_host, run, serve_at};

const THREE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 3);
/// What no packet between the hosts may have in it.
const MARK: &[u8] = b"nobody between the hosts reads this";

/// A host, and the interface of its task at 172.31.0.`last`.
struct Host {
    namespace: File,
    address: Ipv4Addr,
    last: u8,
}

struct Fleet {
    hosts: [Host; 3],
    networks: Vec<Network>,
    tasks: Vec<Attached>,
    /// Where their links end.
    lan: File,
}

/// None, with a printed reason, on a kernel that encrypts nothing.
fn fleet(world: &World) -> Option<Fleet> {
    let lan = new_namespace();
    let here = File::open("/proc/thread-self/ns/net").unwrap();
    let mut namespaces = [Some(here), Some(new_namespace()), Some(new_namespace())].into_iter();
    let hosts = [(ONE, 10), (TWO, 11), (THREE, 12)].map(|(address, last)| {
        let namespace = namespaces.next().flatten().unwrap();
        Host { namespace, address, last }
    });
    inside(&lan, || {
        run("ip link add lan type bridge");
        run("ip addr add 192.0.2.9/24 dev lan");
        run("ip link set lan up");
        for host in &hosts {
            let (path, port) = (path_of(&host.namespace), format!("p{}", host.last));
            run(&format!("ip link add {port} type veth peer name under netns {path}"));
            run(&format!("ip link set {port} master lan up"));
            inside(&host.namespace, || {
                run(&format!("ip addr add {}/24 dev under", host.address));
                run("ip link set under up");
            });
        }
    });
    let mut fleet = Fleet { hosts, networks: vec![], tasks: vec![], lan };
    for (at, name) in ["one", "two", "three"].into_iter().enumerate() {
        let host = &fleet.hosts[at];
        let network = inside(&host.namespace, || open(world, name, host.address));
        if !can_encrypt(&network) {
            println!("skipped: this kernel does not encrypt: {:?}", network.encryption());
            return None;
        }
        fleet.networks.push(network);
    }
    Some(fleet)
}

fn key(from: Ipv4Addr, to: Ipv4Addr, link: u64, epoch: u64) -> EspKey {
    let seed = [from.octets(), to.octets()].concat();
    EspKey::new(std::array::from_fn(|at| {
        let number = u64::from(seed[at % 8]) + link * 7 + epoch * 13 + u64::try_from(at).unwrap();
        u8::try_from(number % 251).unwrap()
    }))
}

impl Fleet {
    /// What a host is told of another.
    fn tunnel(&self, me: usize, other: usize, epochs: &[u64], said: Said) -> Tunnel {
        let (mine, its) = (self.hosts[me].address, self.hosts[other].address);
        let keys = epochs.iter().map(|epoch| TunnelKeys {
            epoch: *epoch,
            inbound: key(its, mine, said.link, *epoch),
            outbound: key(mine, its, said.link, *epoch),
        });
        let Said { link, send, heard } = said;
        Tunnel { peer: its, link, keys: keys.collect(), send, heard }
    }

    fn tell_of_interfaces(&self, world: &World) {
        for (me, network) in self.networks.iter().enumerate() {
            let places = self.hosts.iter().enumerate().map(|(other, host)| {
                let place = if other == me { Place::Here } else { Place::At(host.address) };
                interface(host.last, &[WEB], place)
            });
            let put = [Item::Vpc(vpc())].into_iter().chain(places).collect();
            let all = GroupRule {
                traffic: Traffic::All,
                peer: Peer::Network("172.31.0.0/16".parse().unwrap()),
            };
            let groups = vec![group(WEB, vec![all])];
            let network_change = Change { put, gone: vec![] };
            let news = News { groups, network: network_change, ..News::default() };
            world.runtime.block_on(network.learn(news)).unwrap();
        }
    }

    fn attach_tasks(&mut self, world: &World) {
        for (host, network) in self.hosts.iter().zip(&self.networks) {
            let task = inside(&host.namespace, || {
                attach(world, network, &format!("t{}", host.last), host.last, &[WEB])
            });
            serve_at(&task, 5432);
            self.tasks.push(task);
        }
    }

    /// Every host of every other.
    fn tell(&self, world: &World, epochs: &[u64], said: Said) {
        for me in 0..self.networks.len() {
            self.tell_one(world, me, epochs, said);
        }
    }

    fn tell_one(&self, world: &World, me: usize, epochs: &[u64], said: Said) {
        let others = (0..self.networks.len()).filter(|other| *other != me);
        let put = others.map(|other| self.tunnel(me, other, epochs, said)).collect();
        let tunnels = HostTunnels { put, gone: vec![] };
        let news = News { tunnels, ..News::default() };
        world.runtime.block_on(self.networks[me].learn(news)).unwrap();
    }

    /// All of them encrypt by the epoch, and have a task each.
    fn encrypt(&mut self, world: &World) {
        self.tell(world, &[4, 5], Said::default());
        self.tell(world, &[4, 5], Said { send: Some(5), heard: Some(5), ..Said::default() });
        self.tell_of_interfaces(world);
        self.attach_tasks(world);
    }
}

#[derive(Clone, Copy, Debug)]
struct Said {
    link: u64,
    send: Option<u64>,
    heard: Option<u64>,
}

impl Default for Said {
    fn default() -> Self {
        Self { link: 1, send: None, heard: None }
    }
}

/// What passes between the hosts.
struct Capture(OwnedFd);

#[derive(Debug, Default, PartialEq, Eq)]
struct Captured {
    encrypted: usize,
    clear: usize,
    with_mark: usize,
}

impl Capture {
    fn begin(lan: &File) -> Self {
        inside(lan, || {
            let (family, kind) = (AddressFamily::Packet, SockType::Raw);
            let fd = socket(family, kind, SockFlag::empty(), SockProtocol::EthAll).unwrap();
            setsockopt(&fd, sockopt::RcvBufForce, &(16 << 20)).unwrap();
            setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::milliseconds(50)).unwrap();
            Self(fd)
        })
    }

    fn end(self) -> Captured {
        let (mut found, mut frame) = (Captured::default(), vec![0; 65_536]);
        while let Ok(length) = recv(self.0.as_raw_fd(), &mut frame, MsgFlags::empty()) {
            let frame = &frame[..length];
            let is_ip = frame.get(12..14) == Some(&[0x08, 0x00]);
            match frame.get(23) {
                Some(50) if is_ip => found.encrypted += 1,
                Some(17)
                    if is_ip && frame.get(36..38) == Some(&limits::TUNNEL_PORT.to_be_bytes()) =>
                {
                    found.clear += 1;
                }
                _ => {}
            }
            let has_mark = frame.windows(MARK.len()).any(|window| window == MARK);
            found.with_mark += usize::from(has_mark);
        }
        found
    }
}

fn is_heard(sent: &UdpSocket, heard: &UdpSocket) -> bool {
    sent.send(MARK).unwrap();
    let mut buffer = [0; 64];
    heard.recv(&mut buffer).is_ok_and(|length| &buffer[..length] == MARK)
}

#[test]
fn what_hosts_exchange_is_encrypted_and_nothing_is_taken_in_the_clear() {
    on_a_host(|world| {
        let Some(mut fleet) = fleet(world) else { return };
        fleet.encrypt(world);
        let capture = Capture::begin(&fleet.lan);
        for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 1)] {
            let (sent, heard) = sockets(&fleet.tasks[from], &fleet.tasks[to]);
            assert!(is_heard(&sent, &heard), "{from} to {to}");
            assert_reaches(&fleet.tasks[from], &fleet.tasks[to]);
        }
        let found = capture.end();
        assert!(found.encrypted > 20, "{found:?}");
        assert_eq!((found.clear, found.with_mark), (0, 0), "{found:?}");
        // Every way has a key of its own.
        let states = run("ip xfrm state");
        let keys: BTreeSet<&str> = states.lines().filter(|line| line.contains("aead")).collect();
        assert_eq!(
            keys.len(),
            2 * (2 + 1),
            "two that come and one that goes, of two hosts: {states}"
        );

        // Well made, from a host's own address, to its tunnel: but in the clear.
        let (_, heard) = sockets(&fleet.tasks[0], &fleet.tasks[1]);
        drop(heard);
        let heard = at(&fleet.tasks[1], || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 7)).unwrap());
        heard.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
        let speak = || {
            inside(&fleet.lan, || {
                let socket = UdpSocket::bind((ONE, 0)).unwrap();
                let tunnel = SocketAddrV4::new(TWO, limits::TUNNEL_PORT);
                let packet = forged(fleet.tasks[0].address, fleet.tasks[1].address);
                drop(socket.send_to(&packet, tunnel));
            });
            heard.recv(&mut [0; 16]).is_ok()
        };
        inside(&fleet.lan, || run(&format!("ip addr add {ONE}/32 dev lan")));
        assert!(!speak(), "it was taken in the clear");
        // It is for that alone that it is not.
        let tunnels = HostTunnels { put: vec![], gone: vec![ONE] };
        let news = News { tunnels, ..News::default() };
        world.runtime.block_on(fleet.networks[1].learn(news)).unwrap();
        assert!(speak(), "the packet is well made");
    });
}

#[test]
fn a_host_speaks_by_its_key_with_its_own_address_alone() {
    on_a_host(|world| {
        let Some(mut fleet) = fleet(world) else { return };
        fleet.encrypt(world);
        let heard = at(&fleet.tasks[1], || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 7)).unwrap());
        heard.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
        let bytes = *key(THREE, TWO, 1, 5).bytes();
        let key: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        // The third host, in the hands of somebody else, who has what its kernel had.
        let packet = forged(fleet.tasks[2].address, fleet.tasks[1].address);
        let speaks_as = |address: Ipv4Addr, number: u32| {
            inside(&fleet.hosts[2].namespace, || {
                run("ip xfrm state flush");
                run("ip xfrm policy flush");
                run(&format!(
                    "ip xfrm state add src {address} dst {TWO} proto esp spi {:#x} mode transport reqid 1 \
                     replay-window 32 flag esn replay-oseq {number:#x} aead rfc4106(gcm(aes)) 0x{key} 128",
                    spi(THREE, 5)
                ));
                run(&format!(
                    "ip xfrm policy add src {address} dst {TWO} dir out tmpl src {address} dst {TWO} proto esp \
                     mode transport reqid 1"
                ));
                let socket = UdpSocket::bind((address, 0)).unwrap();
                socket.send_to(&packet, (TWO, limits::TUNNEL_PORT)).unwrap();
            });
            heard.recv(&mut [0; 16]).is_ok()
        };
        inside(&fleet.hosts[2].namespace, || run(&format!("ip addr add {ONE}/32 dev under")));
        assert!(speaks_as(THREE, 5_000), "the packet is well made");
        assert!(!speaks_as(ONE, 6_000), "it is taken for another host");
        assert!(speaks_as(THREE, 7_000));
        assert!(!speaks_as(THREE, 7_000), "a number is taken twice");
    });
}

#[test]
fn before_a_host_is_ready_nothing_goes_to_it_and_then_everything() {
    on_a_host(|world| {
        let Some(mut fleet) = fleet(world) else { return };
        fleet.tell(world, &[4, 5], Said::default());
        fleet.tell_of_interfaces(world);
        fleet.attach_tasks(world);
        let capture = Capture::begin(&fleet.lan);
        let (sent, heard) = sockets(&fleet.tasks[0], &fleet.tasks[1]);
        // A sender may be told so.
        drop(sent.send(MARK));
        assert!(heard.recv(&mut [0; 64]).is_err());
        let found = capture.end();
        assert_eq!((found.clear, found.with_mark, found.encrypted), (0, 0, 0));
        fleet.tell(world, &[4, 5], Said { send: Some(4), ..Said::default() });
        assert!(is_heard(&sent, &heard));
    });
}

#[test]
fn other_keys_take_their_place_under_a_flow_that_loses_nothing() {
    on_a_host(|world| {
        let Some(mut fleet) = fleet(world) else { return };
        fleet.encrypt(world);
        assert_reaches(&fleet.tasks[0], &fleet.tasks[1]);
        let (lost, count) = lost_while(&fleet.tasks[0], &fleet.tasks[1], || {
            for epoch in 6..10 {
                let epochs = [epoch - 1, epoch];
                let still = Said { send: Some(epoch - 1), heard: Some(epoch - 1), link: 1 };
                fleet.tell(world, &epochs, still);
                let new = Said { send: Some(epoch), heard: Some(epoch - 1), link: 1 };
                fleet.tell(world, &epochs, new);
                fleet.tell(world, &epochs, Said { heard: Some(epoch), ..new });
            }
        });
        assert!(lost.is_empty(), "of {count} were lost: {lost:?}");
        let states = run("ip xfrm state");
        assert_eq!(states.matches("aead").count(), 2 * (2 + 1), "{states}");
    });
}

#[test]
fn an_agent_that_comes_back_goes_on_by_the_keys_of_before() {
    on_a_host(|world| {
        let Some(mut fleet) = fleet(world) else { return };
        fleet.encrypt(world);
        let (from, to) = (&fleet.tasks[0], &fleet.tasks[1]);
        assert_reaches(from, to);
        let before = fleet.networks[1].encryption().cloned();
        let second = fleet.networks.remove(1);
        let capture = Capture::begin(&fleet.lan);
        let (mut after, hosts) = (None, &fleet.hosts);
        let (lost, count) = lost_while(from, to, || {
            drop(second);
            thread::sleep(Duration::from_millis(200));
            after = Some(inside(&hosts[1].namespace, || open(world, "two", TWO)));
        });
        assert!(lost.is_empty(), "of {count} were lost: {lost:?}");
        assert_eq!(capture.end().clear, 0);
        let after = after.unwrap();
        assert_eq!(after.encryption().cloned(), before, "it is of the same generation");
        fleet.networks.insert(1, after);
        // And goes on to others.
        let said = Said { send: Some(6), heard: Some(5), ..Said::default() };
        fleet.tell(world, &[5, 6], Said { send: None, ..said });
        fleet.tell(world, &[5, 6], said);
        assert_reaches(&fleet.tasks[1], &fleet.tasks[0]);
    });
}

#[test]
fn a_host_that_is_not_told_of_for_a_while_and_then_again_goes_on_by_the_same_keys() {
    on_a_host(|world| {
        let Some(mut fleet) = fleet(world) else { return };
        fleet.encrypt(world);
        let (sent, heard) = sockets(&fleet.tasks[0], &fleet.tasks[1]);
        (0..50).for_each(|_| assert!(is_heard(&sent, &heard)));
        // The other host hears nothing of it.
        let task = interface(11, &[WEB], Place::At(TWO));
        let Item::Interface(gone) = &task else { unreachable!("it was made as one") };
        let network = Change { put: vec![], gone: vec![ItemId::Interface(gone.id.clone())] };
        let tunnels = HostTunnels { put: vec![], gone: vec![TWO] };
        let news = News { network, tunnels, ..News::default() };
        world.runtime.block_on(fleet.networks[0].learn(news)).unwrap();
        let said = Said { send: Some(5), heard: Some(5), ..Said::default() };
        let tunnels = HostTunnels { put: vec![fleet.tunnel(0, 1, &[4, 5], said)], gone: vec![] };
        let network = Change { put: vec![task], gone: vec![] };
        let news = News { network, tunnels, ..News::default() };
        world.runtime.block_on(fleet.networks[0].learn(news)).unwrap();
        assert!(is_heard(&sent, &heard), "its numbers go on where they were");
        // Not told of until its keys are over, it has none any more.
        let gone = HostTunnels { put: vec![], gone: vec![TWO] };
        let news = News { tunnels: gone, ..News::default() };
        world.runtime.block_on(fleet.networks[0].learn(news)).unwrap();
        let put = vec![fleet.tunnel(0, 2, &[6, 7], said)];
        let news = News { tunnels: HostTunnels { put, gone: vec![] }, ..News::default() };
        world.runtime.block_on(fleet.networks[0].learn(news)).unwrap();
        let states = run("ip xfrm state");
        assert!(!states.contains("192.0.2.2") && states.contains("192.0.2.3"), "{states}");
    });
}

#[test]
fn keys_that_the_kernel_has_lost_are_not_used_again_and_nothing_goes_in_the_clear_meanwhile() {
    on_a_host(|world| {
        let Some(mut fleet) = fleet(world) else { return };
        fleet.encrypt(world);
        assert_reaches(&fleet.tasks[0], &fleet.tasks[1]);
        let before = fleet.networks[1].encryption().cloned();
        drop(fleet.networks.remove(1));
        let two = &fleet.hosts[1];
        let after = inside(&two.namespace, || {
            run("ip xfrm state flush");
            open(world, "two", TWO)
        });
        assert!(matches!(after.encryption(), Some(Encryption::Able { .. })));
        assert_ne!(after.encryption().cloned(), before, "its keys must be others");
        fleet.networks.insert(1, after);
        let capture = Capture::begin(&fleet.lan);
        let (sent, heard) = sockets(&fleet.tasks[1], &fleet.tasks[0]);
        drop(sent.send(MARK));
        assert!(heard.recv(&mut [0; 64]).is_err());
        assert_eq!(capture.end().clear, 0);
        let said = Said { link: 2, ..Said::default() };
        fleet.tell(world, &[4, 5], said);
        fleet.tell(world, &[4, 5], Said { send: Some(5), heard: Some(5), ..said });
        assert!(is_heard(&sent, &heard));
    });
}

#[test]
fn a_host_whose_keys_cannot_be_is_shut_alone() {
    on_a_host(|world| {
        let Some(mut fleet) = fleet(world) else { return };
        let clash = format!("{:#x}", spi(THREE, 4));
        run(&format!(
            "ip xfrm state add src 192.0.2.7 dst {ONE} proto esp spi {clash} mode transport \
             aead rfc4106(gcm(aes)) 0x{} 128",
            "07".repeat(20)
        ));
        fleet.encrypt(world);
        assert_reaches(&fleet.tasks[0], &fleet.tasks[1]);
        let capture = Capture::begin(&fleet.lan);
        for (from, to) in [(0, 2), (2, 0)] {
            let (sent, heard) = sockets(&fleet.tasks[from], &fleet.tasks[to]);
            drop(sent.send(MARK));
            assert!(heard.recv(&mut [0; 64]).is_err());
        }
        assert_eq!(capture.end().clear, 0);
        // Once the number is free it goes, with whatever the host is told next.
        run(&format!("ip xfrm state delete src 192.0.2.7 dst {ONE} proto esp spi {clash}"));
        let (sent, heard) = sockets(&fleet.tasks[0], &fleet.tasks[2]);
        world.runtime.block_on(fleet.networks[0].learn(News::default())).unwrap();
        assert!(is_heard(&sent, &heard));
        fleet.tell(world, &[4, 5], Said { send: Some(5), heard: Some(5), ..Said::default() });
        assert!(is_heard(&sent, &heard));
    });
}

#[test]
fn hosts_that_talk_in_the_clear_come_to_encrypt_under_a_flow_that_loses_nothing() {
    on_a_host(|world| {
        let Some(mut fleet) = fleet(world) else { return };
        fleet.tell_of_interfaces(world);
        fleet.attach_tasks(world);
        assert_reaches(&fleet.tasks[0], &fleet.tasks[1]);
        let (lost, count) = lost_while(&fleet.tasks[0], &fleet.tasks[1], || {
            for said in [
                Said::default(),
                Said { send: Some(5), ..Said::default() },
                Said { send: Some(5), heard: Some(5), ..Said::default() },
            ] {
                for me in 0..3 {
                    fleet.tell_one(world, me, &[4, 5], said);
                    thread::sleep(Duration::from_millis(20));
                }
            }
        });
        assert!(lost.is_empty(), "of {count} were lost: {lost:?}");
        let capture = Capture::begin(&fleet.lan);
        let (sent, heard) = sockets(&fleet.tasks[2], &fleet.tasks[1]);
        assert!(is_heard(&sent, &heard));
        let found = capture.end();
        assert_eq!((found.clear, found.with_mark), (0, 0), "{found:?}");
    });
}

#[test]
fn packets_are_as_large_as_the_way_takes_once_they_are_encrypted() {
    on_a_host(|world| {
        let Some(mut fleet) = fleet(world) else { return };
        fleet.encrypt(world);
        assert!(at(&fleet.tasks[0], || run("ip link show eth0")).contains("mtu 1416"));
        let (sent, heard) = sockets(&fleet.tasks[0], &fleet.tasks[1]);
        let arrives = |length: usize| {
            eventually("it arrives", || {
                assert_eq!(sent.send(&vec![7; length]).unwrap(), length);
                heard.recv(&mut [0; 8_000]).is_ok_and(|heard| heard == length)
            });
        };
        arrives(1416 - 28);
        let fragments = inside(&fleet.hosts[1].namespace, || run("nstat -asz IpReasmReqds"));
        let count = fragments.lines().find(|line| line.starts_with("IpReasmReqds"));
        let count = count.and_then(|line| line.split_whitespace().nth(1)).unwrap().to_owned();
        assert_eq!(count, "0", "none of it was broken into pieces between the hosts");
        arrives(4_000);
        // Interfaces of a time when more went through at once.
        let (from, to) = (&fleet.tasks[0], &fleet.tasks[1]);
        for (host, task) in fleet.hosts.iter().zip([from, to]) {
            at(task, || run("ip link set eth0 mtu 1450"));
            inside(&host.namespace, || {
                let route = run(&format!("ip route get {}", task.address));
                let link = route.split(" dev ").nth(1).and_then(|it| it.split(' ').next()).unwrap();
                run(&format!("ip link set {link} mtu 1450"));
            });
        }
        let listener = at(to, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 81)).unwrap());
        let read = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).map(|_| all.len())
        });
        let mut stream = at(from, || TcpStream::connect((to.address, 81)).unwrap());
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(&vec![7; 1 << 20]).unwrap();
        drop(stream);
        assert_eq!(read.join().unwrap().unwrap(), 1 << 20);
    });
}

#[test]
fn nothing_of_it_is_left_behind_and_nothing_of_others_is_touched() {
    on_a_host(|world| {
        let Some(mut fleet) = fleet(world) else { return };
        let other = "src 198.51.100.1 dst 198.51.100.2";
        run(&format!(
            "ip xfrm state add {other} proto esp spi 0x1001 reqid 5 mode transport aead rfc4106(gcm(aes)) \
             0x000102030405060708090a0b0c0d0e0f10111213 128"
        ));
        run(&format!(
            "ip xfrm policy add {other} dir out tmpl {other} proto esp reqid 5 mode transport"
        ));
        fleet.encrypt(world);
        let started = Instant::now();
        let one = fleet.networks.remove(0);
        world.runtime.block_on(one.uninstall()).unwrap();
        assert!(started.elapsed() < Duration::from_secs(60));
        let (states, policies) = (run("ip xfrm state"), run("ip xfrm policy"));
        assert_eq!(states.matches("aead").count(), 1, "{states}");
        assert_eq!(policies.matches("198.51.100.1/32").count(), 1, "{policies}");
        assert!(!policies.contains("14789"), "{policies}");
    });
}
