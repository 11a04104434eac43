//! Coming, going, and what is left.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use network::{GroupRule, Network, NetworkConfig, News, Peer, PortMapping, Protocol, Traffic};

use crate::flow::lost_while;
use crate::hosts::group;
use crate::world::{
    HOST_OUTSIDE, OUTSIDE, at, eni, eventually, exists, id, inside, knock, on_a_host, run, serve,
    serve_at,
};

const WEB: &str = "sg-00000000000000001";

pub(crate) fn our_links(tag: &str) -> usize {
    run("ip -o link").lines().filter(|line| line.contains(tag)).count()
}

#[test]
fn nothing_is_left_of_an_endpoint_or_of_a_region() {
    on_a_host(|world| {
        let network = world.open();
        run("nft add table inet somebody_elses");
        let task =
            world.runtime.block_on(network.attach_eni(&id("task"), eni(10, &[WEB]))).unwrap();
        world.runtime.block_on(network.attach_bridge(&id("bridged"))).unwrap();
        world.runtime.block_on(network.detach(&id("task"))).unwrap();
        world.runtime.block_on(network.detach(&id("task"))).expect("twice is as good as once");
        assert!(!exists(&task.netns));
        assert!(!run("ip route").contains("172.31.0.10"));
        let again =
            world.runtime.block_on(network.attach_eni(&id("next"), eni(10, &[WEB]))).unwrap();
        assert_eq!(again.address, task.address, "the address can be used again at once");

        world.runtime.block_on(network.uninstall()).unwrap();
        let tables = run("nft list tables");
        assert!(!tables.contains("longshore") && tables.contains("somebody_elses"), "{tables}");
        let routes = run("ip route");
        assert!(!routes.contains("172.3"), "{routes}");
        eventually("all links are gone", || our_links("0a0b0c0d") == 0);
        assert!(!exists(&world.dir.path().join("0a0b0c0d/netns")));
    });
}

#[test]
fn a_process_that_comes_back_drops_nothing_that_passes_and_leaves_nothing_of_others_in_the_table() {
    const TABLE: &str = "inet longshore_0a0b0c0d";
    on_a_host(|world| {
        let mut network = Some(world.open());
        let [from, to] = [("a", 10), ("b", 11)].map(|(name, last)| {
            let network = network.as_ref().unwrap();
            world.runtime.block_on(network.attach_eni(&id(name), eni(last, &[WEB]))).unwrap()
        });
        // The longer a table is, the longer its old chains are there while another takes its place.
        let peer = Peer::Network("172.31.0.0/16".parse().unwrap());
        let ports = (1..=2_000).map(|port| Traffic::Tcp(port..=port)).chain([Traffic::All]);
        let rules = ports.map(|traffic| GroupRule { traffic, peer: peer.clone() }).collect();
        let news = News { groups: vec![group(WEB, rules)], ..News::default() };
        world.runtime.block_on(network.as_ref().unwrap().learn(news)).unwrap();
        let chains = || run(&format!("nft list table {TABLE}")).matches("chain ").count();
        let before = chains();
        run(&format!("nft add chain {TABLE} stray"));
        run(&format!(
            "nft add set {TABLE} strays {{ type ipv4_addr; elements = {{ 192.0.2.7 }}; }}"
        ));
        run(&format!("nft add rule {TABLE} stray ip saddr @strays drop"));
        run(&format!("nft insert rule {TABLE} egress jump stray"));
        let (lost, count) = lost_while(&from, &to, || {
            for _ in 0..40 {
                drop(network.take());
                network = Some(world.open());
            }
        });
        assert!(lost.is_empty(), "of {count} were lost: {lost:?}");
        let table = run(&format!("nft list table {TABLE}"));
        assert!(chains() == before && !table.contains("stray"), "{table}");
        // One that was laid out otherwise goes as a whole.
        drop(network.take());
        run(&format!("nft delete table {TABLE}"));
        run(&format!("nft add table {TABLE}"));
        run(&format!("nft add set {TABLE} hosts {{ type ether_addr; }}"));
        let network = world.open();
        let (lost, _) = lost_while(&from, &to, || {});
        assert!(lost.is_empty() && chains() == before, "{lost:?}");
        drop(network);
    });
}

#[test]
fn an_address_does_not_inherit_its_predecessors_connections() {
    on_a_host(|world| {
        let network = world.open();
        let attach =
            |name, spec| world.runtime.block_on(network.attach_eni(&id(name), spec)).unwrap();
        let peer = attach("peer", eni(10, &[WEB]));
        let first = attach("first", eni(11, &[WEB]));
        serve_at(&first, 80);
        let socket = at(&peer, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
        socket.connect((first.address, 80)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let ask = || socket.send(b"?").and_then(|_| socket.recv(&mut [0; 64]));
        ask().unwrap();
        world.runtime.block_on(network.detach(&id("first"))).unwrap();
        let second = attach("second", eni(11, &["sg-00000000000000002"]));
        serve_at(&second, 80);
        assert!(ask().is_err(), "the old connection must not reach the new holder");
    });
}

#[test]
fn a_udp_port_is_found_by_those_who_knocked_before_it_was_published() {
    on_a_host(|world| {
        let network = world.open();
        let socket = inside(&world.outside, || UdpSocket::bind((OUTSIDE, 0)).unwrap());
        socket.connect((HOST_OUTSIDE, 8080)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let ask = || socket.send(b"?").and_then(|_| socket.recv(&mut [0; 64]));
        // Somebody listens who does not answer, so that the kernel keeps the connection in mind.
        let listener = UdpSocket::bind((HOST_OUTSIDE, 8080)).unwrap();
        ask().unwrap_err();
        drop(listener);
        let server = world.runtime.block_on(network.attach_bridge(&id("server"))).unwrap();
        serve_at(&server, 80);
        let request = PortMapping {
            container_port: 80,
            host_port: 8080,
            protocol: Protocol::Udp,
            follows: false,
        };
        world.runtime.block_on(network.publish(&id("server"), &[request])).unwrap();
        ask().unwrap();
    });
}

#[test]
fn dockers_filter_lets_our_packets_through_while_we_are_there() {
    on_a_host(|world| {
        run("iptables -P FORWARD DROP");
        run("iptables -N DOCKER-USER");
        run("iptables -A DOCKER-USER -s 10.1.2.3 -j DROP");
        run("iptables -I FORWARD -j DOCKER-USER");
        let before = run("iptables -S");
        let network = world.open();
        let attach =
            |name, spec| world.runtime.block_on(network.attach_eni(&id(name), spec)).unwrap();
        let (first, second) = (attach("first", eni(10, &[WEB])), attach("second", eni(11, &[WEB])));
        serve_at(&second, 80);
        serve(&world.outside, 80);
        assert!(at(&first, || knock(second.address, 80)).is_some());
        assert!(at(&first, || knock(OUTSIDE, 80)).is_some());
        let again = world.open();
        let during = run("iptables -S DOCKER-USER");
        assert_eq!(
            during.matches("ls0a0b0c0d+").count(),
            2,
            "said once, however often opened: {during}"
        );
        drop(network);
        world.runtime.block_on(again.uninstall()).unwrap();
        assert_eq!(run("iptables -S"), before);
    });
}

#[test]
fn two_regions_on_one_machine_do_not_touch_each_other() {
    on_a_host(|world| {
        let open = |tag, vpc| world.runtime.block_on(Network::open(world.config(tag, vpc)));
        let first = open("aaaaaaaa", "172.31.0.0/16").unwrap();
        let taken = open("bbbbbbbb", "172.31.0.0/16").unwrap_err();
        assert_eq!(
            taken.to_string(),
            "this machine already has routes into the range 172.31.0.0/16"
        );
        let second = open("bbbbbbbb", "10.77.0.0/16").unwrap();
        assert!(!first.bridge_range().overlaps(second.bridge_range()));
        let mut spec = eni(10, &[WEB]);
        let ours = world.runtime.block_on(first.attach_eni(&id("task"), spec.clone())).unwrap();
        spec.address = Ipv4Addr::new(10, 77, 0, 10);
        spec.gateway = Ipv4Addr::new(10, 77, 0, 1);
        let theirs = world.runtime.block_on(second.attach_eni(&id("task"), spec)).unwrap();
        serve_at(&ours, 80);
        serve_at(&theirs, 80);
        assert_eq!(at(&ours, || knock(theirs.address, 80)), None);
        assert_eq!(at(&theirs, || knock(ours.address, 80)), None);
        assert!(knock(ours.address, 80).is_some() && knock(theirs.address, 80).is_some());

        let server = world.runtime.block_on(second.attach_bridge(&id("server"))).unwrap();
        serve_at(&server, 80);
        let request = PortMapping {
            container_port: 80,
            host_port: 8080,
            protocol: Protocol::Tcp,
            follows: false,
        };
        world.runtime.block_on(second.publish(&id("server"), &[request])).unwrap();
        assert!(at(&ours, || knock(HOST_OUTSIDE, 8080)).is_some(), "by a published port they meet");
        world.runtime.block_on(first.attach_bridge(&id("server"))).unwrap();
        let error = world.runtime.block_on(first.publish(&id("server"), &[request])).unwrap_err();
        assert_eq!(error.to_string(), "host port 8080/tcp is already in use");

        world.runtime.block_on(first.uninstall()).unwrap();
        assert!(knock(theirs.address, 80).is_some());
        assert_eq!(inside(&world.outside, || knock(HOST_OUTSIDE, 8080)), Some(OUTSIDE));
        eventually("the first region's links are gone", || our_links("aaaaaaaa") == 0);
        assert!(our_links("bbbbbbbb") > 0);
    });
}

const CHILD_DIR: &str = "LONGSHORE_TEST_CHILD_DIR";

/// Not a test by itself: the process that the next test kills. It inherits that test's namespace.
#[test]
#[ignore = "run by another test as a process of its own"]
#[expect(clippy::disallowed_methods, reason = "the one way to hand a test process its directory")]
fn a_process_to_be_killed() {
    let Ok(dir) = std::env::var(CHILD_DIR) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let vpc = "172.31.0.0/16".parse().unwrap();
    let config = NetworkConfig::new("0a0b0c0d".parse().unwrap(), dir.into(), vpc);
    runtime.block_on(async {
        let network = Network::open(config).await.unwrap();
        for last in 10..20 {
            let name = id(&format!("task-{last}"));
            network.attach_eni(&name, eni(last, &[WEB])).await.unwrap();
        }
        network.attach_bridge(&id("server")).await.unwrap();
        let request = PortMapping {
            container_port: 80,
            host_port: 8080,
            protocol: Protocol::Tcp,
            follows: false,
        };
        network.publish(&id("server"), &[request]).await.unwrap();
        println!("ready");
        // Killed somewhere in here.
        for round in 0.. {
            let name = id(&format!("round-{round}"));
            network.attach_eni(&name, eni(30, &[WEB])).await.unwrap();
            network.detach(&name).await.unwrap();
        }
    });
}

pub(crate) fn killed_child(dir: &std::path::Path, after: Duration) {
    let mut child = Command::new("/proc/self/exe")
        .args(["--exact", "life::a_process_to_be_killed", "--ignored", "--nocapture"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("ready")));
    thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn endpoints_outlive_a_killed_process_and_the_next_one_adopts_them() {
    for after_ms in [0, 7, 23] {
        on_a_host(|world| {
            let config = world.config("0a0b0c0d", "172.31.0.0/16");
            killed_child(&config.run_dir, Duration::from_millis(after_ms));
            let file = |name: &str| File::open(config.run_dir.join("netns").join(name)).unwrap();
            let (server, client) = (file("server"), file("task-10"));
            serve(&server, 80);
            serve(&file("task-11"), 80);
            assert!(inside(&client, || knock(Ipv4Addr::new(172, 31, 0, 11), 80)).is_some());
            assert!(inside(&world.outside, || knock(HOST_OUTSIDE, 8080)).is_some());
            drop((server, client));

            let network = world.open();
            assert!(inside(&world.outside, || knock(HOST_OUTSIDE, 8080)).is_some());
            assert!(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)).is_err(), "held again");
            let kept = [id("server"), id("task-10"), id("task-11")];
            world.runtime.block_on(network.reconcile(&kept)).unwrap();
            assert!(
                inside(&file("task-10"), || knock(Ipv4Addr::new(172, 31, 0, 11), 80)).is_some()
            );
            let same = world.runtime.block_on(network.attach_eni(&id("task-10"), eni(10, &[WEB])));
            assert_eq!(same.unwrap().address, Ipv4Addr::new(172, 31, 0, 10));
            let mounted = std::fs::read_dir(config.run_dir.join("netns")).unwrap().count();
            let recorded = std::fs::read_dir(config.run_dir.join("endpoints")).unwrap().count();
            assert_eq!((mounted, recorded), (3, 3));
            world.runtime.block_on(network.uninstall()).unwrap();
            eventually("all links are gone", || our_links("0a0b0c0d") == 0);
        });
    }
}
