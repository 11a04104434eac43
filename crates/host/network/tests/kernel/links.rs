//! A link is its endpoint's alone: what is done late to an old one never hits a new one.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use network::{Attached, Network};

use crate::life::killed_child;
use crate::world::{HOST_OUTSIDE, World, at, eni, eventually, id, knock, on_a_host, run, serve_at};

const WEB: &str = "sg-00000000000000001";

/// The names of the host's ends, of prepared links too.
fn links() -> BTreeSet<String> {
    let listed = run("ip -o link");
    let names = listed.lines().filter_map(|line| line.split(": ").nth(1)?.split('@').next());
    names.filter(|name| name.starts_with("ls0a0b0c0d")).map(str::to_owned).collect()
}

fn link_to(address: Ipv4Addr) -> String {
    let route = run(&format!("ip route get {address}"));
    let words: Vec<&str> = route.split_whitespace().collect();
    words[words.iter().position(|word| *word == "dev").unwrap() + 1].to_owned()
}

fn attach(world: &World, network: &Network, last: u8) -> Attached {
    let name = id(&format!("task-{last}"));
    world.runtime.block_on(network.attach_eni(&name, eni(last, &[WEB]))).unwrap()
}

/// What each start is worth: the interface is there, and the host reaches it.
fn all_answer(endpoints: &[Attached]) {
    for endpoint in endpoints {
        assert!(at(endpoint, || run("ip -o link")).contains("eth0"), "{} lost", endpoint.address);
        serve_at(endpoint, 80);
        assert!(knock(endpoint.address, 80).is_some(), "{} is cut off", endpoint.address);
    }
}

#[test]
fn a_late_deletion_never_hits_a_link_of_the_next_process() {
    for _ in 0..2 {
        on_a_host(|world| {
            let network = world.open();
            for last in 10..40 {
                attach(world, &network, last);
            }
            for last in 10..20 {
                let name = id(&format!("task-{last}"));
                world.runtime.block_on(network.detach(&name)).unwrap();
            }
            drop(network);
            // Somebody is still in the namespace of the last to go, so that its link stays until it is
            // deleted by hand: by then, all that is to be deleted late is.
            let last = Ipv4Addr::new(172, 31, 0, 39);
            let lingerer = File::open(world.dir.path().join("0a0b0c0d/netns/task-39")).unwrap();
            let (old, lingering) = (links(), link_to(last));

            let network = world.open();
            world.runtime.block_on(network.reconcile(&[])).unwrap();
            eventually("only the lingering link is left of the old ones", || {
                old.intersection(&links()).all(|link| *link == lingering)
            });
            let new: Vec<_> = (50..90).map(|last| attach(world, &network, last)).collect();
            eventually("the lingering link is deleted", || !links().contains(&lingering));
            all_answer(&new);
            drop(lingerer);
        });
    }
}

#[test]
fn a_links_name_is_never_given_twice() {
    on_a_host(|world| {
        let mut seen = BTreeSet::new();
        for _ in 0..3 {
            let network = world.open();
            for last in 10..14 {
                let name = link_to(attach(world, &network, last).address);
                assert!(seen.insert(name.clone()), "{name} was given before");
            }
            world.runtime.block_on(network.reconcile(&[])).unwrap();
            drop(network);
            eventually("the links are gone", || seen.is_disjoint(&links()));
        }
    });
}

#[test]
fn starts_right_after_a_kill_keep_their_links() {
    for after_ms in [0, 3, 11, 19] {
        on_a_host(|world| {
            let config = world.config("0a0b0c0d", "172.31.0.0/16");
            killed_child(&config.run_dir, Duration::from_millis(after_ms));
            let lingerer = File::open(config.run_dir.join("netns/task-19")).unwrap();
            let lingering = link_to(Ipv4Addr::new(172, 31, 0, 19));
            let network = world.open();
            world.runtime.block_on(network.reconcile(&[id("server"), id("task-10")])).unwrap();
            let new: Vec<_> = (50..90).map(|last| attach(world, &network, last)).collect();
            eventually("the lingering link is deleted", || !links().contains(&lingering));
            all_answer(&new);
            assert!(knock(HOST_OUTSIDE, 8080).is_none(), "nobody listens at the server yet");
            drop(lingerer);
        });
    }
}

#[test]
fn a_start_that_fails_leaves_a_route_of_others_alone() {
    on_a_host(|world| {
        let network = world.open();
        run("ip route add 172.31.0.77/32 dev wan scope link proto static");
        let failed = world.runtime.block_on(network.attach_eni(&id("task"), eni(77, &[WEB])));
        assert!(failed.is_err());
        assert!(run("ip route").contains("172.31.0.77 dev wan"), "it was theirs");
        let (first, second) = (attach(world, &network, 10), attach(world, &network, 11));
        run(&format!("ip route add {}/32 dev wan metric 7", first.address));
        world.runtime.block_on(network.detach(&id("task-10"))).unwrap();
        assert!(run("ip route").contains("172.31.0.10 dev wan"), "so was this");
        all_answer(&[second]);
    });
}

#[test]
fn many_go_and_come_at_once() {
    on_a_host(|world| {
        let network = world.open();
        for round in 0..4 {
            let some: Vec<_> = (10..40).map(|last| attach(world, &network, last)).collect();
            all_answer(&some[..3]);
            if round % 2 == 0 {
                world.runtime.block_on(network.reconcile(&[])).unwrap();
            } else {
                for last in 10..40 {
                    let name = id(&format!("task-{last}"));
                    world.runtime.block_on(network.detach(&name)).unwrap();
                }
            }
            thread::yield_now();
        }
    });
}
