//! One process takes another's place, and clients notice nothing of it.

use std::fs::{File, TryLockError};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use routing::{ListenerProtocol, TargetProtocol, TargetState};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;

use super::world::*;
use crate::Predecessor;

#[tokio::test(flavor = "multi_thread")]
async fn no_connection_is_refused_and_no_request_lost_while_processes_take_over_from_each_other() {
    let a = backend(Does::Answers("a")).await;
    let mut world = World::new(table(&[a.address])).await;
    let address = world.address().await;
    let (end, ended) = watch::channel(false);
    let asks = (0..4).map(|number| {
        let ended = ended.clone();
        tokio::spawn(async move {
            let mut asked = 0;
            while !*ended.borrow() {
                // Half of them keep their connections until they are told to close.
                let mut caller = Caller::new(address).await;
                loop {
                    let answer = caller.ask(GET).await.expect("an answer");
                    assert_eq!(answer.status, 200, "after {asked} requests");
                    asked += 1;
                    let is_last = answer.head.to_ascii_lowercase().contains("connection: close");
                    if is_last || number % 2 == 0 || *ended.borrow() {
                        break;
                    }
                }
            }
            asked
        })
    });
    let asks: Vec<_> = asks.collect();
    for _ in 0..5 {
        let before = a.count();
        while a.count() < before + 100 {
            tokio::task::yield_now().await;
        }
        let next = world.next().await;
        std::mem::replace(&mut world, next).ended().await;
        assert_eq!(world.address().await, address);
    }
    end.send_replace(true);
    let mut all = 0;
    for ask in asks {
        all += ask.await.unwrap();
    }
    assert!(all >= 500, "{all}");
    world.end().await;
}

#[tokio::test]
async fn what_the_first_still_holds_is_told_by_the_second_and_answered_by_the_first() {
    let (open, gate) = watch::channel(false);
    let (a, b) = (backend(Does::Waits(gate)).await, backend(Does::Answers("b")).await);
    let mut patient = table(&[a.address]);
    balancer(&mut patient).attributes.idle_timeout_s = 60;
    let first = World::new(patient).await;
    let address = first.address().await;
    let mut caller = Caller::new(address).await;
    caller.write(GET).await;
    while a.count() == 0 {
        tokio::task::yield_now().await;
    }
    let second = first.next().await;
    second
        .change(|table| {
            let until = now().plus_ms(60_000);
            group_of(table).targets[0].state = TargetState::Draining { until };
            group_of(table).targets.push(target(b.address));
        })
        .await;
    second.reported("one in flight", |it| it.version == 2 && it.targets[0].in_flight == 1).await;
    assert_eq!(get(address).await.unwrap().body, "b");
    // A third hears of it by the second.
    let third = second.next().await;
    third.reported("one in flight still", |it| it.targets[0].in_flight == 1).await;
    // The second holds nothing, and stays for the sake of the first.
    third.change(|_| {}).await;
    assert_eq!(third.region.report.borrow().as_ref().unwrap().targets[0].in_flight, 1);
    open.send_replace(true);
    let answer = caller.answer().await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "late"));
    first.ended().await;
    second.ended().await;
    third.reported("none in flight", |it| it.version == 3 && it.targets[0].in_flight == 0).await;
    assert_eq!(get(address).await.unwrap().body, "b");
    third.end().await;
}

#[tokio::test]
async fn a_process_that_ends_before_it_serves_takes_nothing_over() {
    let a = backend(Does::Answers("a")).await;
    let world = World::new(table(&[a.address])).await;
    let address = world.address().await;
    let state = world.dir.path().join("state");
    // Whoever comes in is given all.
    let mode = std::fs::metadata(&state).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
    for _ in 0..2 {
        let state = state.clone();
        let ask = move || Predecessor::ask(&state);
        let asked = tokio::task::spawn_blocking(ask).await.unwrap().unwrap();
        drop(asked.expect("what it gives"));
        assert_eq!(get(address).await.unwrap().body, "a");
        // Its table may change again.
        world.change(|_| {}).await;
    }
    let next = world.next().await;
    world.ended().await;
    assert_eq!(get(address).await.unwrap().body, "a");
    next.end().await;
}

#[tokio::test]
async fn one_that_is_told_to_end_while_another_takes_over_does_not_end_that_one() {
    let a = backend(Does::Answers("a")).await;
    let first = World::new(table(&[a.address])).await;
    let address = first.address().await;
    let given = first.asked().await;
    let (region, dir) = (Arc::clone(&first.region), Arc::clone(&first.dir));
    first.end().await;
    let second = World::after(given, region, dir).await;
    second.change(|_| {}).await;
    assert_eq!(get(address).await.unwrap().body, "a");
    second.end().await;
}

#[tokio::test]
async fn nobody_else_has_the_role_while_one_that_was_told_to_end_finishes() {
    let (open, gate) = watch::channel(false);
    let a = backend(Does::Waits(gate)).await;
    let mut patient = table(&[a.address]);
    balancer(&mut patient).attributes.idle_timeout_s = 60;
    let mut world = World::new(patient).await;
    let address = world.address().await;
    let lock = File::open(world.dir.path().join(LOCK)).unwrap();
    let mut caller = Caller::new(address).await;
    caller.write(GET).await;
    while a.count() == 0 {
        tokio::task::yield_now().await;
    }
    world.tell_to_end();
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
    open.send_replace(true);
    assert_eq!(caller.answer().await.unwrap().status, 200);
    world.ended().await;
    lock.lock().unwrap();
}

#[tokio::test]
async fn one_that_cannot_be_asked_at_first_can_be_later() {
    let a = backend(Does::Answers("a")).await;
    let first = World::new(table(&[a.address])).await;
    first.address().await;
    let (region, dir) = first.kill().await;
    let state = dir.path().join("state");
    let in_the_way = state.join("handover.sock.new");
    std::fs::create_dir(&in_the_way).unwrap();
    let world = World::with(region, dir).await;
    world.address().await;
    assert!(Predecessor::ask(&state).unwrap().is_none());
    std::fs::remove_dir(&in_the_way).unwrap();
    let mut looks = 0;
    loop {
        let state = state.clone();
        let asked = tokio::task::spawn_blocking(move || Predecessor::ask(&state)).await.unwrap();
        if asked.unwrap().is_some() {
            break;
        }
        looks += 1;
        assert!(looks < 1_000, "it cannot be asked");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.end().await;
}

#[test]
fn nobody_gives_a_place_away_where_nobody_is() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Predecessor::ask(dir.path()).unwrap().is_none());
    assert!(Predecessor::ask(&dir.path().join("nowhere")).unwrap().is_none());
}

#[tokio::test]
async fn an_answer_to_a_datagram_that_is_on_its_way_is_passed_on_by_the_first() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut table = table(&[socket.local_addr().unwrap()]);
    balancer(&mut table).kind = routing::Kind::Network;
    balancer(&mut table).listeners[0].protocol = ListenerProtocol::Udp;
    group_of(&mut table).protocol = TargetProtocol::Udp;
    let first = World::new(table).await;
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(first.address().await).await.unwrap();
    client.send(b"one").await.unwrap();
    let (mut buffer, mut back) = ([0; 8], [0; 8]);
    let (_, asker) = socket.recv_from(&mut buffer).await.unwrap();
    let second = first.next().await;
    second.reported("one in flight", |it| it.targets[0].in_flight == 1).await;
    socket.send_to(b"late", asker).await.unwrap();
    assert_eq!(client.recv(&mut back).await.unwrap(), 4);
    // What comes from now on is the second's.
    client.send(b"two").await.unwrap();
    let (_, other) = socket.recv_from(&mut buffer).await.unwrap();
    assert_ne!(other, asker);
    socket.send_to(b"next", other).await.unwrap();
    assert_eq!(client.recv(&mut back).await.unwrap(), 4);
    assert_eq!(&back[..4], b"next");
    // Told to end, the first does not wait for the flow.
    first.end().await;
    second.end().await;
}
