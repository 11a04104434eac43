//! What is counted of requests and connections, and that it outlives the balancers that it is counted for.

use routing::{
    Action, CheckProtocol, CountedFor, Kind, ListenerProtocol, TargetProtocol, TargetState,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use traffic::figures::Counted;

use super::world::*;

fn named(table: &mut routing::Table) {
    balancer(table).attributes.figures = Some("web".to_owned());
}

async fn counted(world: &World, is_wanted: impl Fn(&Counted) -> bool) -> Counted {
    let has = |report: &routing::Report| report.figures.get("web").is_some_and(&is_wanted);
    let report = world.reported("figures", has).await;
    report.figures["web"].clone()
}

#[tokio::test]
async fn requests_are_counted_with_what_came_of_them() {
    let good = backend(Does::Answers("hello")).await;
    let bad = backend(Does::Writes(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")).await;
    let mut table = table(&[good.address]);
    named(&mut table);
    let world = World::new(table).await;
    world.change(|table| group_of(table).targets[0].registered_at.0 += 1).await;
    let report = world.reported("that nobody came", |_| true).await;
    assert!(report.figures.is_empty(), "there is nothing to count");
    let mut caller = Caller::new(world.address().await).await;
    for _ in 0..3 {
        assert_eq!(caller.ask(GET).await.unwrap().status, 200);
    }
    // Reports come with what changes.
    world.change(|table| group_of(table).targets[0].registered_at.0 += 1).await;
    let seen = counted(&world, |it| it.requests == 3).await;
    assert_eq!((seen.answers, seen.answered()), ([3, 0, 0, 0], 3));
    assert_eq!((seen.connections, seen.open), (1, 1));
    assert_eq!(seen.bytes_in, 3 * GET.len() as u64);
    assert!(seen.bytes_out > 0);
    drop(caller);
    world.change(|table| *group_of(table) = group(&[bad.address])).await;
    assert_eq!(get(world.address().await).await.unwrap().status, 503);
    world.change(|table| group_of(table).targets[0].registered_at.0 += 1).await;
    let seen = counted(&world, |it| it.requests == 4 && it.open == 0).await;
    assert_eq!((seen.answers, seen.connections), ([3, 0, 0, 1], 2));
    world.change(|table| drop(std::mem::take(&mut table.balancers))).await;
    assert_eq!(counted(&world, |_| true).await.requests, 4);
}

#[tokio::test]
async fn bytes_of_flows_are_counted_in_both_directions() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut table = table(&[listener.local_addr().unwrap()]);
    named(&mut table);
    balancer(&mut table).kind = Kind::Network;
    balancer(&mut table).listeners[0].protocol = ListenerProtocol::Tcp;
    let its = group_of(&mut table);
    (its.protocol, its.health.protocol) = (TargetProtocol::Tcp, CheckProtocol::None);
    its.targets[0].state = TargetState::Healthy;
    let world = World::new(table).await;
    let mut client = TcpStream::connect(world.address().await).await.unwrap();
    client.write_all(b"ping").await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    server.read_exact(&mut [0; 4]).await.unwrap();
    server.write_all(b"pong!").await.unwrap();
    drop(server);
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.unwrap();
    drop(client);
    world.change(|table| group_of(table).targets[0].registered_at.0 += 1).await;
    let seen = counted(&world, |it| it.open == 0 && it.connections == 1).await;
    assert_eq!((seen.bytes_in, seen.bytes_out, seen.requests), (4, 5, 0));
}

#[tokio::test]
async fn a_metered_balancer_counts_by_group_what_targets_did_and_by_itself_what_it_said() {
    let good = backend(Does::Answers("hello")).await;
    let mut table = table(&[good.address]);
    balancer(&mut table).attributes.is_metered = true;
    let id = balancer(&mut table).id.clone();
    let group = group_of(&mut table).id.clone();
    let name = |group| CountedFor { balancer: id.clone(), zone: None, group }.name();
    let (all, of_group) = (name(None), name(Some(group)));
    let world = World::new(table).await;
    let mut caller = Caller::new(world.address().await).await;
    for _ in 0..2 {
        assert_eq!(caller.ask(GET).await.unwrap().status, 200);
    }
    world
        .change(|table| {
            let rule = balancer(table).listeners[0].rules.last_mut().unwrap();
            let body = String::new();
            rule.action = Action::FixedResponse { status: 503, content_type: None, body };
        })
        .await;
    assert_eq!(caller.ask(GET).await.unwrap().status, 503);
    world.change(|table| group_of(table).targets[0].registered_at.0 += 1).await;
    let told = |report: &routing::Report| {
        report.figures.get(&all).is_some_and(|it| it.own_answers == [0, 0, 1, 0, 0, 1, 0])
    };
    let report = world.reported("what it said itself", told).await;
    let (all, of_group) = (&report.figures[&all], &report.figures[&of_group]);
    assert_eq!((all.requests, all.connections, all.open), (0, 1, 1));
    assert_eq!(
        (of_group.requests, of_group.answers, of_group.own_answers),
        (2, [2, 0, 0, 0], [0; 7])
    );
    assert_eq!(of_group.answered(), 2);
}
