//! Logs besides those of requests: of connections, of checks, and of what network balancers pass through.

use std::sync::Arc;

use routing::{AccessLogs, Alpn, CheckProtocol, Finding, ListenerProtocol, Table};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::protocols::{network, tcp_target, tls, with_tls};
use super::world::*;

fn to(bucket: &str) -> Option<AccessLogs> {
    Some(AccessLogs { bucket: bucket.to_owned(), prefix: String::new() })
}

/// The one file in a bucket, once the balancer has ended.
async fn log_of(world: World, bucket: &str) -> (String, String) {
    let dir = Arc::clone(&world.dir);
    world.end().await;
    let mut files = logged(&dir.path().join("logs").join(bucket));
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

#[tokio::test]
async fn each_connection_is_told_of_with_its_trace_whether_or_not_it_came_about() {
    let a = backend(Does::Answers("a")).await;
    let mut plain = table(&[a.address]);
    let attributes = &mut balancer(&mut plain).attributes;
    (attributes.connection_logs, attributes.access_logs) = (to("connections"), to("requests"));
    let world = World::new(plain).await;
    get(world.address().await).await.unwrap();
    let dir = Arc::clone(&world.dir);
    let (name, log) = log_of(world, "connections").await;
    assert!(
        name.contains("/conn_log_000000000000_elasticloadbalancing_eu-north-1_app.web."),
        "{name}"
    );
    let line = log.lines().next().unwrap();
    let of = fields(line);
    assert_eq!(of.len(), 12, "{line}");
    assert_eq!((of[1], &of[4..11]), ("127.0.0.1", &["-"; 7][..]), "{line}");
    let (_, requests) = logged(&dir.path().join("logs/requests")).remove(0);
    let of_request = fields(requests.lines().next().unwrap());
    assert_eq!(of_request[29], of[11], "one connection has one trace");

    let mut secret = table(&[a.address]);
    with_tls(&mut secret, ListenerProtocol::Https);
    balancer(&mut secret).attributes.connection_logs = to("connections");
    let world = World::new(secret).await;
    drop(tls(&world, "a.example", false).await);
    let mut none = TcpStream::connect(world.address().await).await.unwrap();
    none.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let _ = none.read_to_end(&mut Vec::new()).await;
    let (_, log) = log_of(world, "connections").await;
    let mut lines: Vec<_> = log.lines().map(fields).collect();
    lines.sort_by_key(|line| line[10]);
    assert_eq!(lines.len(), 2, "{log}");
    assert_eq!((lines[0][4], lines[0][10]), ("-", "Failed:UnmappedConnectionError"), "{log}");
    assert_eq!((lines[1][4], lines[1][10]), ("TLSv1.3", "Success"), "{log}");
    assert!(lines[1][6].parse::<f64>().is_ok(), "{log}");
}

#[tokio::test]
async fn each_check_of_an_application_balancers_target_is_told_of() {
    let a = backend(Does::Answers("a")).await;
    let check = |matcher: &str| {
        let mut checked: Table = table(&[a.address]);
        balancer(&mut checked).attributes.health_check_logs = to("checks");
        let group = group_of(&mut checked);
        group.id = routing::GroupId(
            "arn:aws:elasticloadbalancing:eu-north-1:0:targetgroup/web/73e2".to_owned(),
        );
        group.health.protocol = CheckProtocol::Http;
        group.health.matcher = matcher.parse().unwrap();
        group.targets[0].state = routing::TargetState::Initial;
        group.health.unhealthy_count = 1;
        let id = group.id.clone();
        let group = checked.groups.remove(&group_id()).unwrap();
        checked.groups.insert(id.clone(), group);
        let forward = vec![routing::WeightedGroup { group: id, weight: 1, part: None }];
        balancer(&mut checked).listeners[0].rules[0].action =
            routing::Action::Forward { groups: forward, sticky_s: None };
        checked
    };
    for (matcher, status, reason) in [("200", "PASS", "-"), ("201", "FAIL", "ResponseCodeMismatch")]
    {
        let world = World::new(check(matcher)).await;
        world.reported("checked", |report| report.targets[0].finding != Finding::Initial).await;
        let (name, log) = log_of(world, "checks").await;
        assert!(
            name.contains("/health_check_log_000000000000_elasticloadbalancing_eu-north-1_app."),
            "{name}"
        );
        let of = fields(log.lines().next().unwrap());
        assert_eq!(of.len(), 8, "{log}");
        assert_eq!((of[0], of[3]), ("http", a.address.to_string().as_str()));
        assert_eq!(of[4..], ["web", status, "200", reason], "{log}");
    }
}

#[tokio::test]
async fn a_connection_by_tls_of_a_network_balancer_is_told_of_once_it_has_ended() {
    let mut flows = network(&[tcp_target().await], ListenerProtocol::Tls);
    with_tls(&mut flows, ListenerProtocol::Tls);
    let owner = balancer(&mut flows);
    owner.name = "net/flows/0123456789abcdef".to_owned();
    owner.attributes.access_logs = to("flows");
    owner.listeners[0].tls.as_mut().unwrap().alpn = Alpn::Http1Only;
    let world = World::new(flows).await;
    for name in ["a.example", "b.example"] {
        let mut stream = tls(&world, name, false).await;
        stream.write_all(b"secret").await.unwrap();
        stream.shutdown().await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    let (name, log) = log_of(world, "flows").await;
    assert!(
        name.contains("_elasticloadbalancing_eu-north-1_net.flows.0123456789abcdef_2"),
        "{name}"
    );
    let mut lines: Vec<_> = log.lines().map(fields).collect();
    lines.sort_by_key(|line| line[17]);
    let of = &lines[0];
    assert_eq!(of.len(), 22, "{log}");
    assert_eq!((lines[1][17], lines[1][12]), ("b.example", "default"), "{log}");
    assert_eq!(
        (of[0], of[1], of[3], of[4]),
        ("tls", "2.0", "net/flows/0123456789abcdef", "listener")
    );
    assert_eq!((of[9], of[10], of[12]), ("6", "6", "a"), "{log}");
    assert_eq!((of[15], of[17]), ("tlsv13", "a.example"), "{log}");
}
