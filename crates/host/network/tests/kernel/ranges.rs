//! Ranges of addresses: what others use, what is claimed, and what is left of it.

use network::{Cidr, NetTag, Network, claim_ranges, ranges_in_use};

use crate::life::our_links;
use crate::world::{World, eni, eventually, exists, id, on_a_host, run};

const TAG: &str = "0a0b0c0d";

fn net(text: &str) -> Cidr {
    text.parse().unwrap()
}

fn tag(text: &str) -> NetTag {
    text.parse().unwrap()
}

fn open(world: &World, vpc: &str, bridge: &str) -> Network {
    let mut config = world.config(TAG, vpc);
    config.bridge = Some(net(bridge));
    world.runtime.block_on(Network::open(config)).unwrap()
}

/// All routes, addresses, links and rules in which these words are, and our table for our tag.
fn traces(of: &str) -> Vec<String> {
    let commands = ["ip route show table all", "ip -o addr", "ip -o link", "ip rule"];
    let seen = commands.map(run).concat() + &run("nft list tables");
    seen.lines().filter(|line| line.contains(of)).map(str::to_owned).collect()
}

#[test]
fn addresses_and_routes_of_every_table_are_in_use() {
    on_a_host(|_| {
        run("ip addr add 172.31.5.4/20 dev wan");
        run("ip route add 10.9.0.0/16 dev wan table 77");
        run("ip route add blackhole 172.29.0.0/16");
        run("ip route add 0.0.0.0/1 dev wan metric 3");
        run("ip addr add 10.50.0.1 peer 10.51.0.1/32 dev wan");
        let taken = ranges_in_use(tag(TAG)).unwrap();
        // The rest of a cloud's network is reached by the default route: nothing but the address tells.
        for used in
            ["172.31.200.0/24", "10.9.1.0/24", "172.29.0.0/16", "10.50.0.0/16", "10.51.0.0/24"]
        {
            assert!(taken.iter().any(|it| it.overlaps(net(used))), "{used} in {taken:?}");
        }
        for free in ["172.30.0.0/16", "10.8.0.0/16"] {
            let in_the_way = taken.iter().find(|it| it.overlaps(net(free)));
            assert_eq!(in_the_way, None, "{free}");
        }
        let refused = claim_ranges(tag(TAG), net("10.9.0.0/16"), net("172.30.0.0/20")).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "this machine already has routes into the range 10.9.0.0/16"
        );
        assert_eq!(
            traces("unreachable"),
            Vec::<String>::new(),
            "nothing is left of a refused claim"
        );
    });
}

#[test]
fn a_claim_is_in_the_way_of_others_only() {
    on_a_host(|world| {
        let (first, second) = (tag(TAG), tag("bbbbbbbb"));
        claim_ranges(first, net("172.31.0.0/16"), net("172.30.0.0/20")).unwrap();
        claim_ranges(first, net("172.31.0.0/16"), net("172.30.0.0/20")).expect("twice is once");
        assert!(claim_ranges(second, net("172.31.0.0/16"), net("172.29.0.0/20")).is_err());
        let network = open(world, "172.31.0.0/16", "172.30.0.0/20");
        world.runtime.block_on(network.attach_eni(&id("task"), eni(10, &[]))).unwrap();
        let is_in_use =
            |tag, range| ranges_in_use(tag).unwrap().iter().any(|it| it.overlaps(range));
        for range in ["172.31.0.0/16", "172.30.0.0/20"] {
            assert!(!is_in_use(first, net(range)), "{range}");
            assert!(is_in_use(second, net(range)), "{range}");
        }
        assert!(!is_in_use(second, net("172.30.16.0/20")), "the next part is free");
        world.runtime.block_on(network.uninstall()).unwrap();
        assert!(!is_in_use(second, net("172.31.0.0/16")));
    });
}

#[test]
fn ranges_that_moved_leave_nothing_behind() {
    on_a_host(|world| {
        drop(open(world, "172.31.0.0/16", "172.30.0.0/20"));
        run("ip route add unreachable 172.28.0.0/16 metric 7");
        let network = open(world, "172.27.0.0/16", "172.26.0.0/20");
        for old in ["172.31.", "172.30."] {
            assert_eq!(traces(old), Vec::<String>::new());
        }
        assert_eq!(network.host_address().to_string(), "172.26.0.1");
        assert_eq!(network.bridge_range(), net("172.26.0.0/20"));
        assert_eq!(traces("172.28.").len(), 1, "it is somebody else's");
        world.runtime.block_on(network.uninstall()).unwrap();
    });
}

#[test]
fn bridged_containers_keep_their_range_while_they_live() {
    on_a_host(|world| {
        let network = open(world, "172.31.0.0/16", "172.30.0.0/20");
        let old = world.runtime.block_on(network.attach_bridge(&id("old"))).unwrap();
        drop(network);
        let network = open(world, "172.31.0.0/16", "172.26.0.0/20");
        assert_eq!(network.bridge_range(), net("172.30.0.0/20"));
        assert!(exists(&old.netns));
        world.runtime.block_on(network.detach(&id("old"))).unwrap();
        drop(network);
        let network = open(world, "172.31.0.0/16", "172.26.0.0/20");
        assert_eq!(network.bridge_range(), net("172.26.0.0/20"));
        assert_eq!(traces("172.30."), Vec::<String>::new());
        world.runtime.block_on(network.uninstall()).unwrap();
    });
}

#[test]
fn all_of_a_region_can_be_removed_without_knowing_its_ranges() {
    on_a_host(|world| {
        let network = open(world, "172.31.0.0/16", "172.30.0.0/20");
        let task = world.runtime.block_on(network.attach_eni(&id("task"), eni(10, &[]))).unwrap();
        world.runtime.block_on(network.attach_bridge(&id("bridged"))).unwrap();
        let _lingerer = std::fs::File::open(&task.netns).unwrap();
        drop(network);
        // Claims of an older region of the same directory.
        let metric = tag(TAG).metric();
        run(&format!("ip route add unreachable 172.20.0.0/16 proto static metric {metric}"));
        let run_dir = world.dir.path().join(TAG);
        network::remove(tag(TAG), &run_dir).unwrap();
        eventually("all links are gone", || our_links(TAG) == 0);
        for of in ["172.3", "172.2", TAG] {
            assert_eq!(traces(of), Vec::<String>::new());
        }
        assert!(!exists(&run_dir.join("netns")));
        network::remove(tag(TAG), &run_dir).expect("twice is as good as once");
        network::remove(tag("cccccccc"), &world.dir.path().join("never")).expect("so is nothing");
    });
}
