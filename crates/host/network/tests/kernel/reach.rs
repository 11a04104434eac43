//! Who reaches whom.

use std::net::Ipv4Addr;

use network::{GroupRule, Peer, SecurityGroup, Traffic};

use crate::world::{
    HOST_OUTSIDE, OUTSIDE, at, eni, id, inside, knock, knock_udp, on_a_host, run, serve, serve_at,
};

const WEB: &str = "sg-00000000000000001";
const DB: &str = "sg-00000000000000002";

#[test]
fn members_of_a_group_reach_each_other_and_others_do_not() {
    on_a_host(|world| {
        let network = world.open();
        let attach =
            |name, spec| world.runtime.block_on(network.attach_eni(&id(name), spec)).unwrap();
        let first = attach("first", eni(10, &[WEB]));
        let second = attach("second", eni(11, &[WEB, DB]));
        let stranger = attach("stranger", eni(12, &[DB]));
        let alone = attach("alone", eni(13, &[]));
        for endpoint in [&first, &second, &stranger, &alone] {
            serve_at(endpoint, 80);
        }
        assert_eq!(at(&first, || knock(second.address, 80)), Some(first.address));
        assert_eq!(at(&first, || knock_udp(second.address, 80)), Some(first.address));
        assert_eq!(at(&second, || knock(first.address, 80)), Some(second.address));
        assert_eq!(at(&second, || knock(stranger.address, 80)), Some(second.address));
        assert_eq!(at(&first, || knock(stranger.address, 80)), None, "no group in common");
        assert_eq!(at(&stranger, || knock_udp(first.address, 80)), None);
        assert_eq!(at(&first, || knock(alone.address, 80)), None, "no groups at all");
        for endpoint in [&first, &stranger, &alone] {
            let seen = knock(endpoint.address, 80);
            assert_eq!(seen, Some(network.host_address()), "the host reaches all");
            assert_eq!(knock_udp(endpoint.address, 80), seen);
        }
    });
}

#[test]
fn the_way_out_is_translated_and_the_way_in_is_shut() {
    on_a_host(|world| {
        let network = world.open();
        let task =
            world.runtime.block_on(network.attach_eni(&id("task"), eni(10, &[WEB]))).unwrap();
        let bridged = world.runtime.block_on(network.attach_bridge(&id("bridged"))).unwrap();
        serve(&world.outside, 80);
        for endpoint in [&task, &bridged] {
            serve_at(endpoint, 80);
            assert_eq!(at(endpoint, || knock(OUTSIDE, 80)), Some(HOST_OUTSIDE));
            assert_eq!(at(endpoint, || knock_udp(OUTSIDE, 80)), Some(HOST_OUTSIDE));
            assert_eq!(inside(&world.outside, || knock(endpoint.address, 80)), None);
            assert_eq!(inside(&world.outside, || knock_udp(endpoint.address, 80)), None);
        }
        assert_eq!(at(&bridged, || knock(task.address, 80)), None);
        assert_eq!(at(&task, || knock(bridged.address, 80)), None);
        assert_eq!(at(&task, || knock(Ipv4Addr::new(172, 31, 9, 9), 80)), None);
        let seen = run("nft list ruleset");
        assert!(seen.contains("table inet longshore_0a0b0c0d"), "{seen}");
    });
}

#[test]
fn the_inside_looks_as_it_does_on_aws() {
    on_a_host(|world| {
        let network = world.open();
        let spec = eni(10, &[WEB]);
        let mac = spec.mac.to_string();
        let task = world.runtime.block_on(network.attach_eni(&id("task"), spec)).unwrap();
        assert_eq!(task.nameserver, Ipv4Addr::new(172, 31, 0, 2));
        let link = at(&task, || run("ip addr show dev eth0"));
        assert!(link.contains("inet 172.31.0.10/20") && link.contains(&mac), "{link}");
        assert!(!link.contains("inet6"), "{link}");
        let routes = at(&task, || run("ip route"));
        assert!(routes.contains("default via 172.31.0.1 dev eth0"), "{routes}");
        let again = world.runtime.block_on(network.attach_eni(&id("task"), eni(10, &[WEB])));
        assert_eq!(again.unwrap(), task, "asking twice gives the same");
        let other = world.runtime.block_on(network.attach_eni(&id("task"), eni(11, &[WEB])));
        assert!(other.is_err());
        let taken = world.runtime.block_on(network.attach_eni(&id("other"), eni(10, &[WEB])));
        assert_eq!(taken.unwrap_err().to_string(), "the address 172.31.0.10 belongs to task");
        let before = world.runtime.block_on(network.counters(&id("task"))).unwrap();
        serve_at(&task, 80);
        knock(task.address, 80).unwrap();
        let after = world.runtime.block_on(network.counters(&id("task"))).unwrap();
        assert!(after.rx_packets > before.rx_packets && after.tx_bytes > before.tx_bytes);
    });
}

#[test]
fn a_forged_source_is_dropped() {
    on_a_host(|world| {
        let network = world.open();
        let attach =
            |name, spec| world.runtime.block_on(network.attach_eni(&id(name), spec)).unwrap();
        let victim = attach("victim", eni(10, &[WEB]));
        let friend = attach("friend", eni(11, &[WEB]));
        let forger = attach("forger", eni(12, &[DB]));
        serve_at(&victim, 80);
        // A neighbour's address, which would be let in, and one of the outside.
        for forged in [friend.address.to_string(), "203.0.113.77".to_owned()] {
            let outcome = at(&forger, || {
                run(&format!("ip addr add {forged}/32 dev eth0"));
                run(&format!("ip route replace default via 172.31.0.1 dev eth0 src {forged}"));
                knock_udp(victim.address, 80)
            });
            assert_eq!(outcome, None);
        }
        let guard = run("nft list chain inet longshore_0a0b0c0d guard");
        let spoofed = guard.lines().find(|line| line.contains("fib saddr")).unwrap();
        assert!(!spoofed.contains("packets 0"), "{guard}");
        let loopback = at(&forger, || {
            run("ip route replace default via 172.31.0.1 dev eth0");
            run("ip route replace local 127.0.0.0/8 dev lo table local");
            knock_udp(victim.address, 80)
        });
        assert_eq!(loopback, None);
    });
}

#[test]
fn rules_of_groups_are_enforced_both_ways_and_can_change() {
    on_a_host(|world| {
        let network = world.open();
        let any = "0.0.0.0/0".parse().unwrap();
        let allow = |traffic, peer| GroupRule { traffic, peer };
        let web = SecurityGroup {
            id: WEB.parse().unwrap(),
            ingress: vec![
                allow(Traffic::Tcp(80..=81), Peer::Network(any)),
                allow(Traffic::Icmp(Some((8, None))), Peer::Network(any)),
            ],
            egress: vec![allow(Traffic::Tcp(5432..=5432), Peer::Group(DB.parse().unwrap()))],
        };
        let db = SecurityGroup {
            id: DB.parse().unwrap(),
            ingress: vec![allow(Traffic::Tcp(5432..=5432), Peer::Group(WEB.parse().unwrap()))],
            egress: vec![],
        };
        let set = |groups| world.runtime.block_on(network.set_security_groups(groups)).unwrap();
        set(vec![web.clone(), db.clone()]);
        let attach =
            |name, spec| world.runtime.block_on(network.attach_eni(&id(name), spec)).unwrap();
        let front = attach("front", eni(10, &[WEB]));
        let back = attach("back", eni(11, &[DB]));
        for port in [80, 81, 82, 5432] {
            serve_at(&front, port);
            serve_at(&back, port);
        }
        serve(&world.outside, 80);
        assert_eq!(inside(&world.outside, || knock(front.address, 80)), Some(OUTSIDE));
        assert_eq!(inside(&world.outside, || knock(front.address, 81)), Some(OUTSIDE));
        assert_eq!(inside(&world.outside, || knock(front.address, 82)), None);
        assert_eq!(inside(&world.outside, || knock_udp(front.address, 80)), None);
        assert_eq!(at(&front, || knock(back.address, 5432)), Some(front.address));
        assert_eq!(at(&front, || knock(back.address, 80)), None);
        assert_eq!(at(&back, || knock(front.address, 80)), None, "nothing may leave the database");
        assert_eq!(at(&front, || knock(OUTSIDE, 80)), None);

        set(vec![
            SecurityGroup { egress: vec![allow(Traffic::All, Peer::Network(any))], ..web },
            db,
        ]);
        assert_eq!(at(&front, || knock(OUTSIDE, 80)), Some(HOST_OUTSIDE));
        assert_eq!(at(&front, || knock(back.address, 80)), None);
    });
}

#[test]
fn an_endpoint_reaches_of_the_host_only_what_it_is_meant_to() {
    on_a_host(|world| {
        let mut config = world.config("0a0b0c0d", "172.31.0.0/16");
        config.services = vec![network::LocalService {
            address: Ipv4Addr::new(169, 254, 170, 2),
            port: 80,
            listens_on: 5179,
        }];
        let network = world.runtime.block_on(network::Network::open(config)).unwrap();
        let task =
            world.runtime.block_on(network.attach_eni(&id("task"), eni(10, &[WEB]))).unwrap();
        let host = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        serve(&host, 5179);
        serve(&host, 22);
        let metadata = Ipv4Addr::new(169, 254, 170, 2);
        assert_eq!(at(&task, || knock(metadata, 80)), Some(task.address));
        assert_eq!(at(&task, || knock(network.host_address(), 22)), None);
        assert_eq!(at(&task, || knock(HOST_OUTSIDE, 22)), None);
        assert_eq!(knock(network.host_address(), 22), Some(network.host_address()));
        let from_outside = inside(&world.outside, || knock(network.host_address(), 5179));
        assert_eq!(from_outside, None, "what is meant for endpoints is not for the outside");
    });
}

#[test]
fn what_this_process_serves_is_reached_at_its_address_and_says_truly_who_asks() {
    on_a_host(|world| {
        let metadata = Ipv4Addr::new(169, 254, 170, 2);
        let mut config = world.config("0a0b0c0d", "172.31.0.0/16");
        config.served_here = vec![(metadata, 80)];
        let network = world.runtime.block_on(network::Network::open(config)).unwrap();
        let listener = network.listeners().remove(0);
        assert!(network.listeners().is_empty(), "there is one, for who asks first");
        std::thread::spawn(move || {
            while let Ok((mut stream, from)) = listener.accept() {
                drop(std::io::Write::write_all(&mut stream, from.ip().to_string().as_bytes()));
            }
        });
        let task =
            world.runtime.block_on(network.attach_eni(&id("task"), eni(10, &[WEB]))).unwrap();
        let bridged = world.runtime.block_on(network.attach_bridge(&id("bridged"))).unwrap();
        let asked = || {
            let mut text = String::new();
            let mut stream = std::net::TcpStream::connect((metadata, 80)).unwrap();
            std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
            text.parse::<Ipv4Addr>().unwrap()
        };
        assert_eq!(at(&task, asked), task.address);
        assert_eq!(at(&bridged, asked), bridged.address);
        // Where the host's own processes cannot be told apart, all of them are led there.
        let own = asked();
        assert!(own != task.address && own != bridged.address, "{own}");
    });
}
