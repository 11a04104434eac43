//! Targets that refuse, hang, reset, or answer with something else than an answer.

use std::net::SocketAddr;

use super::world::*;

/// An address at which nobody listens.
async fn nobody() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test]
async fn bad_targets_are_told_from_each_other() {
    let cases: &[(Does, Option<u16>)] = &[
        (Does::Hangs, Some(504)),
        (Does::Resets, Some(502)),
        (Does::Writes(b""), Some(502)),
        (Does::Writes(b"HTTP/1.1 200 OK\r\nContent-Le"), Some(502)),
        (Does::Writes(b"what is this\r\n\r\n"), Some(502)),
        (Does::Writes(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"), Some(502)),
        // The head was passed on before the body proved to be short: the client's connection ends with it.
        (Does::Writes(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), None),
        (Does::Writes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"), None),
        (Does::Writes(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), Some(200)),
        (Does::Writes(b"HTTP/1.1 204 No Content\r\n\r\n"), Some(204)),
    ];
    let headers =
        format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(40_000));
    let headers: &'static [u8] = Vec::leak(headers.into_bytes());
    let cases = cases.iter().cloned().chain([(Does::Writes(headers), Some(502))]);
    for (at, (does, expected)) in cases.enumerate() {
        let bad = backend(does).await;
        let world = World::new(table(&[bad.address])).await;
        let answer = get(world.address().await).await;
        assert_eq!(answer.map(|answer| answer.status), expected, "case {at}");
        assert_eq!(bad.count(), 1, "case {at}: asked once");
    }
}

#[tokio::test]
async fn a_target_that_refuses_is_left_for_another_and_not_asked_again_at_once() {
    let good = backend(Does::Answers("good")).await;
    let world = World::new(table(&[nobody().await, good.address])).await;
    let mut caller = Caller::new(world.address().await).await;
    for _ in 0..6 {
        let post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
        let answer = caller.ask(post).await.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "good"));
    }
}

#[tokio::test]
async fn with_all_targets_refusing_the_answer_is_502() {
    let world = World::new(table(&[nobody().await, nobody().await])).await;
    assert_eq!(get(world.address().await).await.unwrap().status, 502);
}

#[tokio::test]
async fn a_request_that_may_have_begun_is_never_sent_twice() {
    let (bad, good) = (backend(Does::Resets).await, backend(Does::Answers("good")).await);
    let world = World::new(table(&[bad.address, good.address])).await;
    let address = world.address().await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
        statuses.push(Caller::new(address).await.ask(post).await.unwrap().status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 502, 502]);
    assert_eq!((bad.count(), good.count()), (2, 2));
}

#[tokio::test]
async fn a_kept_connection_that_its_target_closed_loses_no_request() {
    let a = backend(Does::AnswersAndCloses).await;
    let world = World::new(table(&[a.address])).await;
    let mut caller = Caller::new(world.address().await).await;
    for _ in 0..50 {
        let answer = caller.ask(GET).await.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "closing"));
    }
    assert_eq!(a.count(), 50);
}

#[tokio::test]
async fn a_client_that_stops_sending_its_body_is_answered_408() {
    let a = backend(Does::Answers("a")).await;
    let world = World::new(table(&[a.address])).await;
    let mut caller = Caller::new(world.address().await).await;
    let half = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf";
    assert_eq!(caller.ask(half).await.unwrap().status, 408);
}

#[tokio::test]
async fn a_client_that_sends_half_a_head_is_answered_408_and_an_idle_one_is_closed() {
    let a = backend(Does::Answers("a")).await;
    let world = World::new(table(&[a.address])).await;
    let address = world.address().await;
    let (mut half, mut idle) = (Caller::new(address).await, Caller::new(address).await);
    assert_eq!(idle.ask(GET).await.unwrap().status, 200);
    assert_eq!(half.ask(b"GET / HTTP/1.1\r\nHost: a\r\nX-").await.unwrap().status, 408);
    assert!(half.is_ended().await);
    assert!(idle.is_ended().await);
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_with_it() {
    let a = backend(Does::Hangs).await;
    let mut table = table(&[a.address]);
    balancer(&mut table).attributes.idle_timeout_s = 4000;
    let world = World::new(table).await;
    let mut caller = Caller::new(world.address().await).await;
    caller.write(GET).await;
    while a.count() == 0 {
        tokio::task::yield_now().await;
    }
    drop(caller);
    world
        .change(|table| {
            let until = now().plus_ms(3_600_000);
            group_of(table).targets[0].state = routing::TargetState::Draining { until };
        })
        .await;
    world.reported("nothing in flight", |report| report.targets[0].in_flight == 0).await;
}

#[tokio::test]
async fn half_requests_keep_nobody_from_being_served() {
    let a = backend(Does::Answers("a")).await;
    let world = World::new(table(&[a.address])).await;
    let address = world.address().await;
    let mut idle = Vec::new();
    for _ in 0..300 {
        let mut caller = Caller::new(address).await;
        caller.write(b"GET / HT").await;
        idle.push(caller);
    }
    assert_eq!(get(address).await.unwrap().status, 200);
}
