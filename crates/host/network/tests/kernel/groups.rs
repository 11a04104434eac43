//! Security groups that change while their members run.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use longshore_types::{SecurityGroupId, SeededEnv};
use network::{Attached, GroupRule, Network, Peer, SecurityGroup, Traffic};
use traffic::{Content, Direction, Packet, judge};

use crate::world::{World, at, eni, id, knock, knock_udp, on_a_host, serve_at};

const WEB: &str = "sg-00000000000000001";
const DB: &str = "sg-00000000000000002";
const OPS: &str = "sg-00000000000000003";

fn group(id: &str) -> SecurityGroupId {
    id.parse().unwrap()
}

fn allow(traffic: Traffic, peer: Peer) -> GroupRule {
    GroupRule { traffic, peer }
}

fn anywhere() -> Peer {
    Peer::Network("0.0.0.0/0".parse().unwrap())
}

fn open_out(id: &str, ingress: Vec<GroupRule>) -> SecurityGroup {
    SecurityGroup { id: group(id), ingress, egress: vec![allow(Traffic::All, anywhere())] }
}

fn attach(world: &World, network: &Network, name: &str, last: u8, groups: &[&str]) -> Attached {
    world.runtime.block_on(network.attach_eni(&id(name), eni(last, groups))).unwrap()
}

fn change(world: &World, network: &Network, groups: Vec<SecurityGroup>) {
    world.runtime.block_on(network.change_security_groups(groups)).unwrap();
}

fn set(world: &World, network: &Network, groups: Vec<SecurityGroup>) {
    world.runtime.block_on(network.set_security_groups(groups)).unwrap();
}

#[test]
fn a_change_of_one_group_is_in_force_once_it_is_answered_and_leaves_the_others_alone() {
    on_a_host(|world| {
        let network = world.open();
        let to_db = |port: u16| allow(Traffic::Tcp(port..=port), Peer::Group(group(WEB)));
        set(world, &network, vec![open_out(WEB, vec![]), open_out(DB, vec![])]);
        let web = attach(world, &network, "web", 10, &[WEB]);
        let db = attach(world, &network, "db", 11, &[DB]);
        serve_at(&db, 5432);
        serve_at(&web, 80);
        assert_eq!(at(&web, || knock(db.address, 5432)), None);
        change(world, &network, vec![open_out(DB, vec![to_db(5432)])]);
        assert_eq!(at(&web, || knock(db.address, 5432)), Some(web.address));
        assert_eq!(at(&db, || knock(web.address, 80)), None, "the other group is as it was");
        // A peer that no interface had until now.
        let from_ops = allow(Traffic::Tcp(5432..=5432), Peer::Group(group(OPS)));
        change(world, &network, vec![open_out(DB, vec![from_ops]), open_out(OPS, vec![])]);
        assert_eq!(at(&web, || knock(db.address, 5432)), None);
        let ops = attach(world, &network, "ops", 12, &[OPS, WEB]);
        assert_eq!(at(&ops, || knock(db.address, 5432)), Some(ops.address));
        // Nothing may leave any more: of two groups the other one still speaks.
        change(world, &network, vec![SecurityGroup::closed(group(OPS))]);
        assert_eq!(at(&ops, || knock(db.address, 5432)), Some(ops.address));
        change(world, &network, vec![SecurityGroup::closed(group(WEB))]);
        assert_eq!(at(&ops, || knock(db.address, 5432)), None);
    });
}

#[test]
fn a_connection_that_was_let_in_goes_on_when_its_rule_goes() {
    on_a_host(|world| {
        let network = world.open();
        let from_web = allow(Traffic::Tcp(7..=7), Peer::Group(group(WEB)));
        set(world, &network, vec![open_out(WEB, vec![]), open_out(DB, vec![from_web])]);
        let web = attach(world, &network, "web", 10, &[WEB]);
        let db = attach(world, &network, "db", 11, &[DB]);
        let listener = at(&db, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 7)).unwrap());
        let mut client = at(&web, || TcpStream::connect((db.address, 7)).unwrap());
        let mut server = listener.accept().unwrap().0;
        change(world, &network, vec![open_out(DB, vec![])]);
        assert_eq!(at(&web, || knock(db.address, 7)), None, "no new one");
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        server.write_all(b"still here").unwrap();
        let mut heard = [0; 10];
        client.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"still here");
    });
}

#[test]
fn what_was_told_is_in_force_before_anybody_is_told_again() {
    on_a_host(|world| {
        let network = world.open();
        let from_web = allow(Traffic::Tcp(80..=80), Peer::Group(group(WEB)));
        set(world, &network, vec![open_out(WEB, vec![from_web])]);
        let first = attach(world, &network, "first", 10, &[WEB]);
        let second = attach(world, &network, "second", 11, &[WEB]);
        serve_at(&second, 80);
        serve_at(&second, 81);
        drop(network);
        let network = world.open();
        assert_eq!(at(&first, || knock(second.address, 80)), Some(first.address));
        assert_eq!(at(&first, || knock(second.address, 81)), None, "these are no default rules");
        let stranger = attach(world, &network, "stranger", 12, &[OPS]);
        assert_eq!(at(&stranger, || knock(second.address, 80)), None);
        serve_at(&stranger, 80);
        assert_eq!(at(&first, || knock(stranger.address, 80)), None, "nobody told of its group");
        set(world, &network, vec![open_out(OPS, vec![])]);
        assert_eq!(at(&first, || knock(second.address, 80)), None, "its group is not there now");
    });
}

/// Whether interfaces of both ends let a packet pass, as the judge says.
fn is_judged_to_pass(
    groups: &BTreeMap<SecurityGroupId, SecurityGroup>,
    members: &BTreeMap<Ipv4Addr, Vec<SecurityGroupId>>,
    packet: &Packet,
) -> bool {
    let is_member = |group: &SecurityGroupId, address: Ipv4Addr| {
        members.get(&address).is_some_and(|its| its.contains(group))
    };
    let of = |address| members[address].iter().map(|id| &groups[id]);
    judge(of(&packet.source), Direction::Out, packet, &is_member).is_some()
        && judge(of(&packet.destination), Direction::In, packet, &is_member).is_some()
}

fn any_rule(random: &SeededEnv) -> GroupRule {
    let port = [80, 81, 82][random.below(3) as usize];
    let traffic = match random.below(6) {
        0 => Traffic::All,
        1 => Traffic::Tcp(80..=port),
        2 => Traffic::Udp(port..=82),
        3 => Traffic::Tcp(0..=65_535),
        4 => Traffic::Protocol(17),
        _ => Traffic::Icmp(None),
    };
    let peer = match random.below(5) {
        0 => anywhere(),
        1 => Peer::Network("172.31.0.10/32".parse().unwrap()),
        2 => Peer::Network("172.31.0.12/31".parse().unwrap()),
        other => Peer::Group(group([WEB, DB][(other - 3) as usize])),
    };
    allow(traffic, peer)
}

#[test]
fn the_kernel_lets_pass_what_the_judge_says_it_does() {
    on_a_host(|world| {
        let network = world.open();
        let of: [&[&str]; 4] = [&[WEB], &[DB], &[WEB, OPS], &[DB, OPS]];
        set(world, &network, [WEB, DB, OPS].map(|id| open_out(id, vec![])).to_vec());
        let endpoints: Vec<Attached> = (0_u8..4)
            .map(|n| attach(world, &network, &format!("e{n}"), 10 + n, of[usize::from(n)]))
            .collect();
        let members = endpoints
            .iter()
            .zip(of)
            .map(|(it, groups)| (it.address, groups.iter().map(|id| group(id)).collect()))
            .collect();
        for endpoint in &endpoints {
            for port in [80, 81, 82] {
                serve_at(endpoint, port);
            }
        }
        for seed in 0..6 {
            let random = SeededEnv::from_seed(seed);
            let rules = |count: u32| (0..count).map(|_| any_rule(&random)).collect::<Vec<_>>();
            let groups = [WEB, DB, OPS].map(|id| SecurityGroup {
                id: group(id),
                ingress: rules(random.below(4)),
                egress: rules(1 + random.below(4)),
            });
            change(world, &network, groups.to_vec());
            let groups: BTreeMap<_, _> = groups.into_iter().map(|it| (it.id.clone(), it)).collect();
            thread::scope(|scope| {
                for from in &endpoints {
                    for to in endpoints.iter().filter(|to| to.address != from.address) {
                        for port in [80, 81, 82] {
                            let (groups, members) = (&groups, &members);
                            scope.spawn(move || {
                                let (source, destination) = (from.address, to.address);
                                for content in [Content::Tcp(port), Content::Udp(port)] {
                                    let packet = Packet { source, destination, content };
                                    let expected = is_judged_to_pass(groups, members, &packet);
                                    let answer = at(from, || match content {
                                        Content::Tcp(_) => knock(destination, port),
                                        _ => knock_udp(destination, port),
                                    });
                                    let said = answer.is_some();
                                    assert_eq!(
                                        said, expected,
                                        "seed {seed}: {packet:?} {groups:#?}"
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
