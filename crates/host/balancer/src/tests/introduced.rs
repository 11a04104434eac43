//! Clients that network balancers introduce to an application balancer. Needs root.

use std::net::SocketAddr;
use std::sync::Arc;

use nix::mount::{MntFlags, umount2};
use routing::{ClientRule, Introducers, Table};

use super::interfaces::{One, appear, at_interfaces, come_to, interface};
use super::world::*;
use crate::tcp::proxy_v2;

/// Where the balancer's interface is, and where network balancers' are.
const OWN: &str = "127.0.0.1";

/// A table whose balancer is the target of one that comes from `introducer`.
fn behind(introducer: [u8; 4], target: SocketAddr) -> Table {
    let mut table = table(&[target]);
    balancer(&mut table).introducers = Some(Introducers {
        addresses: [introducer.into()].into(),
        inside: vec!["10.0.0.0/8".parse().unwrap()],
    });
    table
}

fn header(client: &str, came_to: &str) -> Vec<u8> {
    proxy_v2(client.parse().unwrap(), format!("{came_to}:80").parse().unwrap())
}

/// A balancer at an interface, and the network that this is in.
struct AtInterface {
    world: World,
    network: std::fs::File,
    place: std::path::PathBuf,
    _dir: tempfile::TempDir,
}

impl AtInterface {
    /// None: that needs root.
    async fn of(mut table: Table) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: needs root to make network namespaces");
            return None;
        }
        at_interfaces(&mut table, vec![interface(1, "eu-north-1a")]);
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("interface");
        let world = World::on(table, Arc::new(One(place.clone()))).await;
        let network = appear(&place, "nothing");
        Some(Self { world, network, place, _dir: dir })
    }

    async fn caller(&self) -> Caller<tokio::net::TcpStream> {
        Caller::over(come_to(&self.network, OWN).await)
    }

    async fn end(self) {
        self.world.end().await;
        umount2(&self.place, MntFlags::MNT_DETACH).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_introduced_is_told_to_targets() {
    let a = backend(Does::Echoes).await;
    let Some(it) = AtInterface::of(behind([127, 0, 0, 1], a.address)).await else { return };
    let mut caller = it.caller().await;
    let header = header("203.0.113.7:4711", OWN);
    // In pieces, as it may come.
    for piece in header.chunks(5) {
        caller.write(piece).await;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    for _ in 0..2 {
        let sent = caller.ask(GET).await.unwrap().body.to_ascii_lowercase();
        assert!(sent.contains("x-forwarded-for: 203.0.113.7\r\n"), "{sent}");
    }
    // The introducer speaks for itself too, when it checks.
    let sent = it.caller().await.ask(GET).await.unwrap().body.to_ascii_lowercase();
    assert!(sent.contains("x-forwarded-for: 127.0.0.1\r\n"), "{sent}");
    it.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_introduces_anybody() {
    let a = backend(Does::Echoes).await;
    let Some(it) = AtInterface::of(behind([10, 0, 0, 9], a.address)).await else { return };
    let mut caller = it.caller().await;
    let answer = caller.ask(&[header("203.0.113.7:4711", OWN).as_slice(), GET].concat()).await;
    assert!(answer.is_none_or(|answer| answer.status == 400));
    assert_eq!(a.count(), 0);
    it.end().await;
}

#[tokio::test]
async fn at_the_machines_own_address_an_introducers_number_is_anybodys() {
    let a = backend(Does::Echoes).await;
    let world = World::new(behind([127, 0, 0, 1], a.address)).await;
    let mut caller = Caller::new(world.address().await).await;
    let answer = caller.ask(&[header("203.0.113.7:4711", OWN).as_slice(), GET].concat()).await;
    assert!(answer.is_none_or(|answer| answer.status == 400));
    assert_eq!(a.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_introduced_comes_in_as_groups_say() {
    let a = backend(Does::Answers("a")).await;
    let mut table = behind([127, 0, 0, 1], a.address);
    balancer(&mut table).clients = Some(vec![ClientRule {
        is_datagram: Some(false),
        ports: 8080..=8080,
        from: "198.51.100.0/24".parse().unwrap(),
    }]);
    let Some(it) = AtInterface::of(table).await else { return };
    let come = async |client: &str, came_to: &str| {
        let mut caller = it.caller().await;
        let answer = caller.ask(&[header(client, came_to).as_slice(), GET].concat()).await;
        answer.map(|answer| answer.status)
    };
    assert_eq!(come("198.51.100.9:1", OWN).await, Some(200));
    let judged = come("10.1.2.3:1", OWN).await;
    assert_eq!(judged, Some(200), "the network balancer has judged those of the VPC");
    let outside = come("10.1.2.3:1", "10.1.0.1").await;
    assert_eq!(outside, None, "by a machine's own address nobody is of the VPC");
    assert_eq!(come("203.0.113.7:1", OWN).await, None);
    // What cannot be read is nobody.
    let mut caller = it.caller().await;
    let mut unreadable = header("198.51.100.9:1", OWN);
    unreadable[13] = 0;
    caller.write(&unreadable).await;
    assert!(caller.is_ended().await);
    it.end().await;
}
