//! Balancers that keep what comes to a zone in that zone. Needs root, but for what comes to the machine's own address.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use nix::mount::{MntFlags, umount2};
use routing::{Kind, ListenerProtocol, Table, TargetProtocol, TargetState};

use super::interfaces::{One, appear, at_interfaces, come_to, interface};
use super::world::*;

/// The interfaces in zones `a` and `b`.
const A: &str = "127.0.0.1";
const B: &str = "127.0.0.2";

/// An interface in each of two zones, and two targets in each.
fn zonal(targets: &[SocketAddr; 4]) -> Table {
    let mut table = table(targets);
    let group = group_of(&mut table);
    for (target, zone) in group.targets.iter_mut().zip(["a", "a", "b", "b"]) {
        target.zone = Some(zone.to_owned());
    }
    group.cross_zone = Some(false);
    balancer(&mut table).interfaces = vec![interface(1, "a"), interface(2, "b")];
    table
}

async fn backends() -> [Backend; 4] {
    [
        backend(Does::Answers("a1")).await,
        backend(Does::Answers("a2")).await,
        backend(Does::Answers("b1")).await,
        backend(Does::Answers("b2")).await,
    ]
}

struct Zonal {
    world: World,
    network: std::fs::File,
    place: PathBuf,
    _dir: tempfile::TempDir,
}

impl Zonal {
    /// None: that needs root.
    async fn of(mut table: Table) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: needs root to make network namespaces");
            return None;
        }
        let interfaces = balancer(&mut table).interfaces.clone();
        at_interfaces(&mut table, interfaces);
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("interface");
        let world = World::on(table, Arc::new(One(place.clone()))).await;
        let network = appear(&place, "nothing");
        Some(Self { world, network, place, _dir: dir })
    }

    /// Who answers whom comes to an interface; none: nobody.
    async fn get(&self, interface: &str) -> Option<Answered> {
        Caller::over(come_to(&self.network, interface).await).ask(GET).await
    }

    /// Who answers so many in a row.
    async fn who(&self, interface: &str, count: usize) -> Vec<String> {
        let mut bodies = Vec::new();
        for _ in 0..count {
            bodies.push(self.get(interface).await.map_or_else(String::new, |it| it.body));
        }
        bodies
    }

    async fn end(self) {
        self.world.end().await;
        umount2(&self.place, MntFlags::MNT_DETACH).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_to_targets_of_the_zone_that_it_came_to_and_to_no_others() {
    let backends = backends().await;
    let mut table = zonal(&backends.each_ref().map(|it| it.address));
    // Fail open is counted in the zone alone: that others are healthy is nothing to it.
    for target in &mut group_of(&mut table).targets[..2] {
        target.state = TargetState::Unhealthy;
    }
    let Some(it) = Zonal::of(table).await else { return };
    assert!(it.who(A, 6).await.iter().all(|body| body.starts_with('a')));
    assert!(it.who(B, 6).await.iter().all(|body| body.starts_with('b')));
    let out = |table: &mut Table| {
        for target in &mut group_of(table).targets[..2] {
            target.state = TargetState::Unused;
        }
    };
    it.world.change(out).await;
    assert_eq!(it.get(A).await.unwrap().status, 503);
    // The group may say otherwise for itself, and else it is as its balancer has it.
    it.world.change(|table| group_of(table).cross_zone = None).await;
    assert!(it.who(A, 2).await.iter().all(|body| body.starts_with('b')));
    it.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_target_of_a_zone_has_its_turn_however_clients_take_turns_with_zones() {
    let backends = backends().await;
    let table = zonal(&backends.each_ref().map(|it| it.address));
    let Some(it) = Zonal::of(table).await else { return };
    for _ in 0..2 {
        it.get(A).await.unwrap();
        it.get(B).await.unwrap();
    }
    assert_eq!(backends.each_ref().map(Backend::count), [1; 4]);
    it.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_in_another_zone_from_now_on_is_used_there() {
    let backends = backends().await;
    let table = zonal(&backends.each_ref().map(|it| it.address));
    let Some(it) = Zonal::of(table).await else { return };
    assert!(it.who(A, 4).await.iter().all(|body| body.starts_with('a')));
    it.world.change(|table| group_of(table).targets[0].zone = Some("b".to_owned())).await;
    assert_eq!(it.who(A, 3).await, ["a2"; 3]);
    assert!(it.who(B, 6).await.contains(&"a1".to_owned()));
    it.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_do_flows() {
    let backends = backends().await;
    let mut table = zonal(&backends.each_ref().map(|it| it.address));
    group_of(&mut table).protocol = TargetProtocol::Tcp;
    let owner = balancer(&mut table);
    (owner.kind, owner.listeners[0].protocol) = (Kind::Network, ListenerProtocol::Tcp);
    let Some(it) = Zonal::of(table).await else { return };
    assert!(it.who(B, 6).await.iter().all(|body| body.starts_with('b')));
    let out = |table: &mut Table| {
        for target in &mut group_of(table).targets[2..] {
            target.state = TargetState::Unused;
        }
    };
    it.world.change(out).await;
    assert!(it.get(B).await.is_none(), "nobody of its zone is there");
    it.end().await;
}

#[tokio::test]
async fn who_comes_to_the_machines_own_address_gets_targets_of_every_zone() {
    let backends = backends().await;
    let mut table = zonal(&backends.each_ref().map(|it| it.address));
    // The other interface is on another host.
    balancer(&mut table).interfaces.truncate(1);
    let world = World::new(table).await;
    let address = world.address().await;
    for _ in 0..4 {
        get(address).await.unwrap();
    }
    assert_eq!(backends.map(|it| it.count()), [1; 4]);
}
