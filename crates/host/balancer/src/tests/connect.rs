//! What Service Connect asks of the engine: patience, an end to each request, HTTP/2 without TLS, and targets left alone.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use longshore_types::Timestamp;
use routing::{Action, CheckProtocol, ProtocolVersion, TargetProtocol, TargetState, WeightedGroup};
use tokio::net::{TcpListener, TcpStream};

use super::world::*;

/// A table as proxies have them: nobody checks a target.
fn unchecked(targets: &[std::net::SocketAddr]) -> routing::Table {
    let mut table = table(targets);
    let group = group_of(&mut table);
    group.health.protocol = CheckProtocol::None;
    group.avoids_outliers = true;
    group.targets.iter_mut().for_each(|target| target.state = TargetState::Healthy);
    table
}

#[tokio::test]
async fn a_patient_balancer_waits_for_a_target_that_is_about_to_listen() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let good = backend(Does::Answers("later")).await;
    let mut table = unchecked(&[address]);
    balancer(&mut table).attributes.patience_ms = 20_000;
    let world = World::new(table).await;
    let asked = tokio::spawn(get(world.address().await));
    world
        .change(|table| {
            let target = target(good.address);
            group_of(table).targets.push(routing::Target { state: TargetState::Healthy, ..target });
        })
        .await;
    let answer = asked.await.unwrap().unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "later"));
}

#[tokio::test]
async fn a_patient_balancer_waits_for_a_group_that_has_nobody_yet() {
    let good = backend(Does::Answers("first")).await;
    let mut table = unchecked(&[]);
    balancer(&mut table).attributes.patience_ms = 20_000;
    let world = World::new(table).await;
    let asked = tokio::spawn(get(world.address().await));
    world
        .change(|table| {
            let target = target(good.address);
            group_of(table).targets.push(routing::Target { state: TargetState::Healthy, ..target });
        })
        .await;
    assert_eq!(asked.await.unwrap().unwrap().status, 200);
}

/// Leads to parts of the group by these weights.
fn part(table: &mut routing::Table, weights: &[(u8, u32)]) {
    let group = group_id();
    let weighted = |(part, weight): &(u8, u32)| WeightedGroup {
        group: group.clone(),
        weight: *weight,
        part: Some(*part),
    };
    let groups = weights.iter().map(weighted).collect();
    balancer(table).listeners[0].rules[0].action = Action::Forward { groups, sticky_s: None };
}

#[tokio::test]
async fn a_request_goes_where_its_part_went_while_it_waited() {
    let leaving = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let production = backend(Does::Answers("production")).await;
    let mut table = unchecked(&[production.address, leaving.local_addr().unwrap()]);
    balancer(&mut table).attributes.patience_ms = 20_000;
    group_of(&mut table).targets[1].part = 1;
    // Whoever ends the handshake has got nothing of the request.
    group_of(&mut table).protocol = TargetProtocol::Https;
    part(&mut table, &[(0, 0), (1, 100)]);
    let world = World::new(table).await;
    let asked = tokio::spawn(get(world.address().await));
    drop(leaving.accept().await.unwrap());
    drop(leaving);
    world
        .change(|table| {
            group_of(table).protocol = TargetProtocol::Http;
            part(table, &[(0, 100), (1, 0)]);
        })
        .await;
    let answer = asked.await.unwrap().unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "production"));
}

#[tokio::test]
async fn a_request_ends_when_its_time_is_over_though_its_connection_may_idle_longer() {
    let slow = backend(Does::Hangs).await;
    let mut table = unchecked(&[slow.address]);
    let attributes = &mut balancer(&mut table).attributes;
    (attributes.idle_timeout_s, attributes.request_timeout_s) = (3_600, 1);
    let world = World::new(table).await;
    assert_eq!(get(world.address().await).await.unwrap().status, 504);
}

#[tokio::test]
async fn http2_is_spoken_without_tls_where_clients_begin_with_it() {
    let good = backend(Does::Answers("plain")).await;
    let mut table = unchecked(&[good.address]);
    balancer(&mut table).listeners[0].attributes.h2_prior_knowledge = true;
    assert_eq!(group_of(&mut table).version, ProtocolVersion::Http1);
    let world = World::new(table).await;
    let stream = TcpStream::connect(world.address().await).await.unwrap();
    let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = shaken.await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://backend/").body(Full::new(Bytes::new())).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "plain");
}

#[tokio::test]
async fn a_target_that_fails_again_and_again_is_left_alone_for_a_while_and_longer_each_time() {
    use routing::choose::Readiness;
    let sockets = crate::sockets::Sockets::start(std::sync::Arc::new(super::Nowhere)).unwrap();
    let given =
        routing::Target { state: TargetState::Healthy, ..target("127.0.0.1:9".parse().unwrap()) };
    let (now, changed) = (Timestamp(1_000_000), std::sync::Arc::default());
    let live = crate::target::LiveTarget::new(group_id(), &given, now, changed, sockets);
    let is_avoided = |at: Timestamp| live.candidate(at).readiness == Readiness::Unhealthy;
    let fail = |times: u32, at: Timestamp| {
        (0..times).for_each(|_| live.note(true));
        live.judge_as_outlier(at);
    };
    fail(4, now);
    assert!(!is_avoided(now.plus_ms(1)), "four may happen");
    fail(1, now.plus_ms(5_000));
    let after = |seconds: u64| now.plus_ms(5_000 + seconds * 1_000);
    assert!(is_avoided(after(29)) && !is_avoided(after(31)));
    fail(5, after(40));
    assert!(is_avoided(after(40 + 59)), "twice as long");
    assert!(!is_avoided(after(40 + 61)));
}
