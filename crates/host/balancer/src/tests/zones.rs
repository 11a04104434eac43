//! Balancers that keep what comes to a zone in that zone. Who comes to the machine's own address comes to the zones of the
//! interfaces that are there.

use std::net::SocketAddr;

use routing::{Interface, Kind, ListenerProtocol, Table, TargetProtocol, TargetState};

use super::world::*;

fn interface(number: u8, zone: &str) -> Interface {
    Interface {
        eni: format!("eni-0000000{number}"),
        own_vpc: None,
        address: [10, 0, 0, number].into(),
        subnet: format!("subnet-0000000{number}"),
        zone: zone.to_owned(),
        is_leaving: false,
    }
}

/// An interface in each of some zones, and a target in `a` and in `b`.
fn zonal(targets: &[SocketAddr; 2], zones: &[&str]) -> Table {
    let mut table = table(targets);
    let group = group_of(&mut table);
    for (target, zone) in group.targets.iter_mut().zip(["a", "b"]) {
        target.zone = Some(zone.to_owned());
    }
    group.cross_zone = Some(false);
    balancer(&mut table).interfaces =
        zones.iter().zip(1..).map(|(zone, number)| interface(number, zone)).collect();
    table
}

#[tokio::test]
async fn a_request_goes_to_targets_of_the_zones_that_it_came_to_and_to_no_others() {
    let (a, b) = (backend(Does::Answers("a")).await, backend(Does::Answers("b")).await);
    let mut first = zonal(&[a.address, b.address], &["a", "c"]);
    // Fail open is counted in the zone alone: that another is healthy is nothing to it.
    group_of(&mut first).targets[0].state = TargetState::Unhealthy;
    let world = World::new(first).await;
    let address = world.address().await;
    for _ in 0..10 {
        assert_eq!(get(address).await.unwrap().body, "a");
    }
    world.change(|table| group_of(table).targets[0].state = TargetState::Unused).await;
    let answer = get(address).await.unwrap();
    assert_eq!((answer.status, b.count()), (503, 0));
    world.change(|table| balancer(table).interfaces.push(interface(9, "b"))).await;
    assert_eq!(get(address).await.unwrap().body, "b");
    // The group may say otherwise for itself, and else it is as its balancer has it.
    world.change(|table| drop(balancer(table).interfaces.pop())).await;
    assert_eq!(get(address).await.unwrap().status, 503);
    world.change(|table| group_of(table).cross_zone = None).await;
    assert_eq!(get(address).await.unwrap().body, "b");
}

#[tokio::test]
async fn so_do_flows() {
    let (a, b) = (backend(Does::Answers("a")).await, backend(Does::Answers("b")).await);
    let mut first = zonal(&[a.address, b.address], &["b"]);
    group_of(&mut first).protocol = TargetProtocol::Tcp;
    let owner = balancer(&mut first);
    (owner.kind, owner.listeners[0].protocol) = (Kind::Network, ListenerProtocol::Tcp);
    let world = World::new(first).await;
    let address = world.address().await;
    for _ in 0..10 {
        assert_eq!(get(address).await.unwrap().body, "b");
    }
    world.change(|table| group_of(table).targets[1].state = TargetState::Unused).await;
    assert!(get(address).await.is_none(), "nobody of its zone is there");
    assert_eq!(a.count(), 0);
}
