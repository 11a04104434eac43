//! TLS, HTTP/2, websockets, and connections that are passed through.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use routing::{
    Certificate, CertificateId, Kind, ListenerProtocol, Table, TargetProtocol, TlsSettings,
};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::world::*;
use crate::tls::ToTargets;

/// A certificate of its own authority for some names.
fn certificate(names: &[&str]) -> Certificate {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    Certificate { chain_pem: made.cert.pem(), key_pem: made.signing_key.serialize_pem() }
}

/// Gives the listener TLS; the certificates are the default's and the named hosts'.
pub(super) fn with_tls(table: &mut Table, protocol: ListenerProtocol) -> [Vec<u8>; 2] {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    let all = [certificate(&["default.example"]), certificate(&["a.example", "*.wild.example"])];
    let id = |name: &str| CertificateId(name.to_owned());
    table.certificates = [(id("default"), all[0].clone()), (id("a"), all[1].clone())].into();
    let listener = &mut balancer(table).listeners[0];
    listener.protocol = protocol;
    listener.tls = Some(TlsSettings {
        policy: "ELBSecurityPolicy-TLS13-1-2-2021-06".to_owned(),
        default_certificate: id("default"),
        certificates: vec![id("a")],
        alpn: routing::Alpn::None,
    });
    all.map(|one| CertificateDer::from_pem_slice(one.chain_pem.as_bytes()).unwrap().to_vec())
}

pub(super) async fn tls(world: &World, name: &str, is_h2: bool) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(world.address().await).await.unwrap();
    let configs = ToTargets::new();
    let config = if is_h2 { configs.h2 } else { configs.h1 };
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(config).connect(name, stream).await.unwrap()
}

fn shown(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn https_shows_the_certificate_of_the_host_that_was_named() {
    let a = backend(Does::Echoes).await;
    let mut table = table(&[a.address]);
    let [default, own] = with_tls(&mut table, ListenerProtocol::Https);
    let world = World::new(table).await;
    for (name, expected) in [
        ("a.example", &own),
        ("x.wild.example", &own),
        ("x.y.wild.example", &default),
        ("wild.example", &default),
        ("other.example", &default),
    ] {
        assert_eq!(&shown(&tls(&world, name, false).await), expected, "{name}");
    }
    let mut caller = Caller::over(tls(&world, "a.example", false).await);
    let sent = caller.ask(GET).await.unwrap().body.to_ascii_lowercase();
    assert!(sent.contains("x-forwarded-proto: https\r\n"), "{sent}");
}

#[tokio::test]
async fn a_target_is_told_of_tls_by_the_names_that_the_listener_has_for_it() {
    let a = backend(Does::Echoes).await;
    let mut table = table(&[a.address]);
    with_tls(&mut table, ListenerProtocol::Https);
    balancer(&mut table).attributes.tls_headers = true;
    let world = World::new(table).await;
    let ask = b"GET / HTTP/1.1\r\nHost: a.example\r\nX-Amzn-Tls-Version: SSLv2\r\n\
                X-Version: SSLv2\r\n\r\n";
    let mut caller = Caller::over(tls(&world, "a.example", false).await);
    let sent = caller.ask(ask).await.unwrap().body.to_ascii_lowercase();
    assert!(sent.contains("x-amzn-tls-version: tlsv1.3\r\n"), "{sent}");
    assert!(sent.contains("x-amzn-tls-cipher-suite: "), "{sent}");
    assert!(sent.contains("x-version: sslv2\r\n"), "nobody else's name: {sent}");
    let rename = |table: &mut Table| {
        balancer(table).listeners[0].attributes.tls_version_name = Some("X-Version".to_owned());
    };
    world.change(rename).await;
    let mut caller = Caller::over(tls(&world, "a.example", false).await);
    let sent = caller.ask(ask).await.unwrap().body.to_ascii_lowercase();
    assert!(sent.contains("x-version: tlsv1.3\r\n") && !sent.contains("sslv2"), "{sent}");
    assert!(sent.contains("x-amzn-tls-cipher-suite: "), "{sent}");
    assert!(!sent.contains("x-amzn-tls-version"), "{sent}");
}

#[tokio::test]
async fn a_certificate_changes_for_the_next_connection_and_ends_none() {
    let a = backend(Does::Answers("hello")).await;
    let mut table = table(&[a.address]);
    with_tls(&mut table, ListenerProtocol::Https);
    let world = World::new(table).await;
    let before = tls(&world, "a.example", false).await;
    let old = shown(&before);
    let mut caller = Caller::over(before);
    assert_eq!(caller.ask(GET).await.unwrap().body, "hello");
    let mut new = None;
    world.change(|table| new = Some(with_tls(table, ListenerProtocol::Https))).await;
    let [_, own] = new.unwrap();
    assert_ne!(own, old);
    assert_eq!(shown(&tls(&world, "a.example", false).await), own);
    assert_eq!(caller.ask(GET).await.unwrap().body, "hello", "the old connection goes on");
}

#[tokio::test]
async fn a_policy_says_which_versions_are_spoken() {
    let a = backend(Does::Answers("hello")).await;
    for (policy, versions) in [
        ("ELBSecurityPolicy-TLS13-1-3-2021-06", &[true, false][..]),
        ("ELBSecurityPolicy-TLS13-1-2-2021-06", &[true, true]),
        ("ELBSecurityPolicy-2016-08", &[false, true]),
    ] {
        let mut table = table(&[a.address]);
        with_tls(&mut table, ListenerProtocol::Https);
        let listener = &mut balancer(&mut table).listeners[0];
        listener.tls.as_mut().unwrap().policy = policy.to_owned();
        let world = World::new(table).await;
        let both = [&rustls::version::TLS13, &rustls::version::TLS12];
        for (version, is_spoken) in both.into_iter().zip(versions) {
            let config = crate::tls::client_config(&[version], &[]);
            let stream = TcpStream::connect(world.address().await).await.unwrap();
            let name = ServerName::try_from("a.example").unwrap();
            let shaken = TlsConnector::from(config).connect(name, stream).await;
            assert_eq!(shaken.is_ok(), *is_spoken, "{policy} {:?}", version.version);
        }
    }
}

#[tokio::test]
async fn requests_go_on_to_targets_by_tls() {
    let a = backend(Does::Echoes).await;
    let mut table = table(&[tls_before(a.address).await]);
    group_of(&mut table).protocol = TargetProtocol::Https;
    let world = World::new(table).await;
    let answer = get(world.address().await).await.unwrap();
    assert_eq!((answer.status, a.count()), (200, 1));
    // One that ends the handshake is none.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closing = listener.local_addr().unwrap();
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let mut table = self::table(&[closing]);
    group_of(&mut table).protocol = TargetProtocol::Https;
    let world = World::new(table).await;
    assert_eq!(get(world.address().await).await.unwrap().status, 502);
}

/// Ends TLS before a target.
async fn tls_before(target: std::net::SocketAddr) -> std::net::SocketAddr {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let own = certificate(&["target.example"]);
    let chain = vec![CertificateDer::from_pem_slice(own.chain_pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut client) = acceptor.accept(stream).await else { return };
                let mut server = TcpStream::connect(target).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn http2_comes_to_an_http1_target_as_http1() {
    let a = backend(Does::Echoes).await;
    let mut table = table(&[a.address]);
    with_tls(&mut table, ListenerProtocol::Https);
    let world = World::new(table).await;
    let stream = tls(&world, "a.example", true).await;
    let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = shaken.await.unwrap();
    let driving = tokio::spawn(connection);
    let mut asked = tokio::task::JoinSet::new();
    for at in 0..20 {
        let mut sender = sender.clone();
        asked.spawn(async move {
            let request = Request::post(format!("https://a.example/{at}"))
                .header("cookie", "a=1")
                .header("cookie", "b=2")
                .body(Full::new(Bytes::from("body")))
                .unwrap();
            let answer = sender.send_request(request).await.unwrap();
            assert_eq!(answer.status(), 200);
            answer.into_body().collect().await.unwrap().to_bytes()
        });
    }
    while let Some(body) = asked.join_next().await {
        let sent = String::from_utf8(body.unwrap().to_vec()).unwrap();
        assert!(sent.starts_with("POST /"), "{sent}");
        assert!(sent.contains("cookie: a=1; b=2\r\n"), "{sent}");
        assert!(sent.contains("host: a.example:22\r\n"), "{sent}");
        assert!(sent.ends_with("\r\n\r\nbody"), "{sent}");
    }
    drop(sender);
    let _ = driving.await;
}

#[tokio::test]
async fn heads_that_are_too_large_answer_400_by_http2_too() {
    let a = backend(Does::Answers("a")).await;
    let mut table = table(&[a.address]);
    with_tls(&mut table, ListenerProtocol::Https);
    let world = World::new(table).await;
    let stream = tls(&world, "a.example", true).await;
    let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = shaken.await.unwrap();
    let driving = tokio::spawn(connection);
    for (count, status) in [(4, 200), (5, 400)] {
        let mut request = Request::get("https://a.example/");
        for at in 0..count {
            request = request.header(format!("x-{at}"), "y".repeat(15_000));
        }
        let request = request.body(Full::new(Bytes::new())).unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status(), status, "{count}");
    }
    drop(sender);
    let _ = driving.await;
}

#[tokio::test]
async fn a_group_of_another_protocol_version_answers_464() {
    let a = backend(Does::Answers("a")).await;
    let mut table = table(&[a.address]);
    group_of(&mut table).version = routing::ProtocolVersion::Http2;
    let world = World::new(table).await;
    assert_eq!(get(world.address().await).await.unwrap().status, 464);
    assert_eq!(a.count(), 0);
}

/// A target that switches to another protocol and then sends back what it is sent.
async fn websocket() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        // A check connects, and says nothing.
        let (mut stream, head) = loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            if let Some((head, _)) = read_message(&mut stream, &mut Vec::new()).await {
                break (stream, head);
            }
        };
        assert!(head.contains("upgrade: websocket\r\n"), "{head}");
        assert!(head.contains("sec-websocket-key: k\r\n"), "{head}");
        let switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
            Upgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n";
        stream.write_all(switched).await.unwrap();
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    });
    address
}

#[tokio::test]
async fn a_websocket_is_passed_through_and_counts_as_in_flight() {
    let target = websocket().await;
    let world = World::new(table(&[target])).await;
    let mut caller = Caller::new(world.address().await).await;
    let head = b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\
        Upgrade: WebSocket\r\nSec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let answer = caller.ask(head).await.unwrap();
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("sec-websocket-accept"), Some("x"));
    caller.write(b"hello").await;
    let mut back = [0; 5];
    caller.stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"hello");
    world
        .change(|table| {
            let until = now().plus_ms(300);
            group_of(table).targets[0].state = routing::TargetState::Draining { until };
        })
        .await;
    world.reported("in flight", |report| report.targets[0].in_flight == 1).await;
    assert!(caller.is_ended().await, "cut when the delay is over");
    world.reported("done", |report| report.targets[0].in_flight == 0).await;
}

/// A target that says what it got until the client has ended its half.
pub(super) async fn tcp_target() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut got = Vec::new();
            let _ = stream.read_to_end(&mut got).await;
            let _ = stream.write_all(&got).await;
        }
    });
    address
}

pub(super) fn network(targets: &[std::net::SocketAddr], protocol: ListenerProtocol) -> Table {
    let mut table = table(targets);
    balancer(&mut table).kind = Kind::Network;
    balancer(&mut table).listeners[0].protocol = protocol;
    group_of(&mut table).protocol = TargetProtocol::Tcp;
    table
}

#[tokio::test]
async fn tcp_is_passed_through_with_both_ends_named_and_half_closed() {
    let mut table = network(&[tcp_target().await], ListenerProtocol::Tcp);
    group_of(&mut table).proxy_protocol_v2 = true;
    let world = World::new(table).await;
    let mut stream = TcpStream::connect(world.address().await).await.unwrap();
    let own = stream.local_addr().unwrap();
    stream.write_all(b"over").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).await.unwrap();
    assert_eq!(&back[..12], b"\r\n\r\n\0\r\nQUIT\n");
    assert_eq!(&back[16..20], &[127, 0, 0, 1]);
    assert_eq!(&back[24..26], &own.port().to_be_bytes());
    assert_eq!(&back[28..], b"over");
}

#[tokio::test]
async fn tls_ends_at_the_balancer_and_goes_on_as_tcp() {
    let mut table = network(&[tcp_target().await], ListenerProtocol::Tls);
    with_tls(&mut table, ListenerProtocol::Tls);
    let world = World::new(table).await;
    let mut stream = tls(&world, "a.example", false).await;
    stream.write_all(b"secret").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut back = Vec::new();
    let _ = stream.read_to_end(&mut back).await;
    assert_eq!(back, b"secret");
}

#[tokio::test]
async fn a_flow_is_given_to_another_target_if_the_first_refuses() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let world = World::new(network(&[gone, tcp_target().await], ListenerProtocol::Tcp)).await;
    let address = world.address().await;
    for _ in 0..6 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).await.unwrap();
        assert_eq!(back, b"x");
    }
}

#[tokio::test]
async fn datagrams_of_a_client_go_to_one_target_and_its_answers_back() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let target = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 64];
        while let Ok((size, peer)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&buffer[..size], peer).await;
        }
    });
    let mut table = network(&[target], ListenerProtocol::Udp);
    group_of(&mut table).protocol = TargetProtocol::Udp;
    group_of(&mut table).cut_at_deregistration = true;
    let world = World::new(table).await;
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(world.address().await).await.unwrap();
    for text in [b"one", b"two"] {
        client.send(text).await.unwrap();
        let mut back = [0; 64];
        let size = client.recv(&mut back).await.unwrap();
        assert_eq!(&back[..size], text);
    }
    let drain = |table: &mut Table| {
        let until = now().plus_ms(100);
        group_of(table).targets[0].state = routing::TargetState::Draining { until };
    };
    world.change(drain).await;
    world.reported("the flow is cut", |report| report.targets[0].in_flight == 0).await;
}
