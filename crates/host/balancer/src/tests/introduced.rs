//! Clients that network balancers introduce to an application balancer.

use routing::{ClientRule, Introducers, Table};
use tokio::net::TcpStream;

use super::world::*;
use crate::tcp::proxy_v2;

/// A table whose balancer is the target of one that comes from `introducer`.
fn behind(introducer: [u8; 4], target: std::net::SocketAddr) -> Table {
    let mut table = table(&[target]);
    balancer(&mut table).introducers = Some(Introducers {
        addresses: [introducer.into()].into(),
        inside: vec!["10.0.0.0/8".parse().unwrap()],
    });
    table
}

fn header(client: &str) -> Vec<u8> {
    proxy_v2(client.parse().unwrap(), "10.0.0.1:80".parse().unwrap())
}

#[tokio::test]
async fn a_client_that_is_introduced_is_told_to_targets() {
    let a = backend(Does::Echoes).await;
    let world = World::new(behind([127, 0, 0, 1], a.address)).await;
    let address = world.address().await;
    let mut caller = Caller::new(address).await;
    let header = header("203.0.113.7:4711");
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
    let sent = get(address).await.unwrap().body.to_ascii_lowercase();
    assert!(sent.contains("x-forwarded-for: 127.0.0.1\r\n"), "{sent}");
}

#[tokio::test]
async fn nobody_else_introduces_anybody() {
    let a = backend(Does::Echoes).await;
    let world = World::new(behind([10, 0, 0, 9], a.address)).await;
    let mut caller = Caller::new(world.address().await).await;
    caller.write(&header("203.0.113.7:4711")).await;
    let answer = caller.ask(GET).await;
    assert!(answer.is_none_or(|answer| answer.status == 400));
    assert_eq!(a.count(), 0);
}

#[tokio::test]
async fn a_client_that_is_introduced_comes_in_as_groups_say() {
    let a = backend(Does::Answers("a")).await;
    let mut table = behind([127, 0, 0, 1], a.address);
    let port = balancer(&mut table).listeners[0].port;
    balancer(&mut table).clients = Some(vec![ClientRule {
        is_datagram: Some(false),
        ports: port..=port,
        from: "198.51.100.0/24".parse().unwrap(),
    }]);
    let world = World::new(table).await;
    let address = world.address().await;
    let come = async |client: &str| {
        let mut caller = Caller::new(address).await;
        caller.write(&header(client)).await;
        caller.ask(GET).await.map(|answer| answer.status)
    };
    assert_eq!(come("198.51.100.9:1").await, Some(200));
    assert_eq!(
        come("10.1.2.3:1").await,
        Some(200),
        "the network balancer has judged those of the VPC"
    );
    assert_eq!(come("203.0.113.7:1").await, None);
    // What cannot be read is nobody.
    let mut caller = Caller::over(TcpStream::connect(address).await.unwrap());
    let mut unreadable = header("198.51.100.9:1");
    unreadable[13] = 0;
    caller.write(&unreadable).await;
    assert!(caller.is_ended().await);
}
