//! The way to the agent from a bridge that somebody else made.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::thread;

use network::{lead_to_agent, lead_to_agent_no_more};
use nix::sched::{CloneFlags, unshare};

use crate::world::{HOST_OUTSIDE, OUTSIDE, World, inside, knock, on_a_host, run, serve};

const AGENT: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 2);
/// Where a cloud would say a machine's own credentials.
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const CONTAINER: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 2);
const PORT: u16 = 8080;

/// A container on the bridge `docked`, on a host that leads to all that its outside has.
fn container_of(world: &World) -> File {
    let namespace = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        File::open("/proc/thread-self/ns/net").unwrap()
    };
    let container = thread::spawn(namespace).join().unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), container.as_raw_fd());
    run("ip link add docked type bridge");
    run("ip addr add 172.30.0.1/16 dev docked");
    run("ip link set docked up");
    run(&format!("ip link add port type veth peer name eth0 netns {path}"));
    run("ip link set port master docked up");
    inside(&container, || {
        run(&format!("ip addr add {CONTAINER}/16 dev eth0"));
        run("ip link set eth0 up");
        run("ip route add default via 172.30.0.1");
    });
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    inside(&world.outside, || {
        run(&format!("ip addr add {METADATA}/32 dev lo"));
        run(&format!("ip route add {AGENT} via {HOST_OUTSIDE}"));
    });
    serve(&world.outside, PORT);
    serve(&File::open("/proc/thread-self/ns/net").unwrap(), PORT);
    container
}

#[test]
fn containers_of_another_bridge_reach_the_agent_and_nothing_else_that_is_link_local() {
    on_a_host(|world| {
        let container = container_of(world);
        let reached = |to| inside(&container, || knock(to, PORT));
        assert_eq!((reached(AGENT), reached(METADATA)), (None, Some(CONTAINER)));
        for _ in 0..2 {
            lead_to_agent("docked", AGENT, false).unwrap();
            assert_eq!((reached(AGENT), reached(METADATA)), (Some(CONTAINER), None));
        }
        assert_eq!(knock(METADATA, PORT), Some(HOST_OUTSIDE), "the host itself does");
        // By these the agent tells its host from neighbours, who can send there too.
        assert_eq!(knock(AGENT, PORT), Some(AGENT));
        assert_eq!(inside(&world.outside, || knock(AGENT, PORT)), Some(OUTSIDE));
        for _ in 0..2 {
            lead_to_agent("docked", AGENT, true).unwrap();
            assert_eq!((reached(AGENT), reached(METADATA)), (Some(CONTAINER), Some(CONTAINER)));
        }
        lead_to_agent("docked", AGENT, false).unwrap();
        run("ip link delete docked");
        for _ in 0..2 {
            lead_to_agent_no_more("docked").unwrap();
            assert!(!run("ip rule").contains("docked"));
        }
    });
}
