//! Where a machine is reached at its own address.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use routing::{Kind, ListenerProtocol, PublishedPort, TargetProtocol};
use tokio::net::TcpStream;

use super::world::*;

#[tokio::test]
async fn a_port_that_is_a_tasks_is_left_to_it_and_what_is_open_goes_on() {
    let a = backend(Does::Answers("a")).await;
    let world = World::new(table(&[a.address])).await;
    let address = world.address().await;
    let mut caller = Caller::new(address).await;
    assert_eq!(caller.ask(GET).await.unwrap().body, "a");
    let publish = |is_datagram, port| {
        move |table: &mut routing::Table| {
            table.published = [PublishedPort { is_datagram, port }].into();
        }
    };
    world.change(publish(true, address.port())).await;
    assert_eq!(world.address().await, address, "it is one of datagrams");
    world.change(publish(false, address.port())).await;
    let other = world.address().await;
    assert_ne!(other.port(), address.port());
    // The task's own socket.
    let own = std::net::TcpListener::bind(address).unwrap();
    assert_eq!(caller.ask(GET).await.unwrap().body, "a", "on the connection of before");
    assert_eq!(get(other).await.unwrap().body, "a");
    drop(own);
    world.change(|table| table.published.clear()).await;
    assert_eq!(world.address().await, other, "it was none of its own");
    // The next process has the same.
    let next = world.next().await;
    assert_eq!(next.address().await, other);
    world.ended().await;
    let (region, dir) = next.kill().await;
    let again = World::with(region, dir).await;
    assert_eq!(again.address().await, other);
    again.end().await;
}

#[tokio::test]
async fn a_listener_comes_back_to_its_own_port_once_that_is_free_and_nobody_is_at_the_other() {
    let a = backend(Does::Answers("a")).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let own = taken.local_addr().unwrap();
    let mut served = table(&[a.address]);
    balancer(&mut served).listeners[0].port = own.port();
    let world = World::new(served).await;
    let other = world.address().await;
    assert_ne!(other, own);
    let mut caller = Caller::new(other).await;
    assert_eq!(caller.ask(GET).await.unwrap().body, "a");
    drop(taken);
    world.change(|_| {}).await;
    assert_eq!(world.address().await, other, "somebody is there");
    drop(caller);
    let is_back = |report: &routing::Report| report.local.iter().any(|it| it.1 == own);
    for _ in 0..200 {
        world.change(|_| {}).await;
        if world.region.report.borrow().as_ref().is_some_and(is_back) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    world.reported("its own port", is_back).await;
    assert_eq!(get(own).await.unwrap().body, "a");
    assert!(TcpStream::connect(other).await.is_err(), "nobody listens there any more");
    // A task's is left to it, and stays its own.
    let publish = PublishedPort { is_datagram: false, port: own.port() };
    world.change(|table| table.published = [publish].into()).await;
    let is_away = |report: &routing::Report| report.local.iter().all(|it| it.1 != own);
    world.reported("another port", is_away).await;
    world.change(|_| {}).await;
    world.reported("another port still", is_away).await;
    world.end().await;
}

#[tokio::test]
async fn the_next_process_is_reached_where_it_is_told_and_nowhere_else() {
    let a = backend(Does::Answers("a")).await;
    let world = World::new(table(&[a.address])).await;
    let address = world.address().await;
    let moved: IpAddr = "127.0.0.2".parse().unwrap();
    let (region, dir) = (Arc::clone(&world.region), Arc::clone(&world.dir));
    let before = world.asked().await;
    let next = World::after_at(before, region, dir, Some(moved)).await;
    let is_moved = |report: &routing::Report| report.local.iter().any(|it| it.1.ip() == moved);
    let report = next.reported("the other address", is_moved).await;
    world.ended().await;
    assert_eq!(get(report.local[0].1).await.unwrap().body, "a");
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens there any more");
    // And then nowhere.
    let (region, dir) = (Arc::clone(&next.region), Arc::clone(&next.dir));
    let before = next.asked().await;
    let last = World::after_at(before, region, dir, None).await;
    last.reported("no address", |report| report.local.is_empty()).await;
    next.ended().await;
    assert!(TcpStream::connect(report.local[0].1).await.is_err());
    last.end().await;
}

#[tokio::test]
async fn a_listener_keeps_its_port_where_one_address_has_the_other_in_it() {
    let a = backend(Does::Answers("a")).await;
    let mut served = table(&[a.address]);
    // That of the other tests is another one's once it is let go.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    balancer(&mut served).listeners[0].port = free.port();
    let world = World::new(served).await;
    let address = world.address().await;
    let all: IpAddr = "0.0.0.0".parse().unwrap();
    let mut last = world;
    for local in [all, address.ip()] {
        let (region, dir) = (Arc::clone(&last.region), Arc::clone(&last.dir));
        let before = last.asked().await;
        let next = World::after_at(before, region, dir, Some(local)).await;
        let is_there = |report: &routing::Report| report.local.iter().any(|it| it.1.ip() == local);
        let report = next.reported("the other address", is_there).await;
        last.ended().await;
        assert_eq!(report.local[0].1.port(), address.port());
        assert_eq!(get(address).await.unwrap().body, "a");
        last = next;
    }
    last.end().await;
}

#[tokio::test]
async fn a_listener_of_streams_and_datagrams_keeps_the_ports_of_both() {
    let a = backend(Does::Answers("a")).await;
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let own = taken.local_addr().unwrap();
    let mut served = table(&[a.address]);
    balancer(&mut served).kind = Kind::Network;
    balancer(&mut served).listeners[0].protocol = ListenerProtocol::TcpUdp;
    balancer(&mut served).listeners[0].port = own.port();
    group_of(&mut served).protocol = TargetProtocol::TcpUdp;
    let world = World::new(served).await;
    let both = |report: &routing::Report| report.local.len() == 2;
    let ports = |report: &routing::Report| {
        report.local.iter().map(|(_, address)| address.port()).collect::<BTreeSet<_>>()
    };
    let before = ports(&world.reported("both", both).await);
    assert!(before.contains(&own.port()) && before.len() == 2, "{before:?} {own}");
    let (region, dir) = world.kill().await;
    region.report.send_replace(None);
    let again = World::with(region, dir).await;
    assert_eq!(ports(&again.reported("both again", both).await), before);
    again.end().await;
}
