//! Targets that have to show who they are, and what stands in front of such a target on its own host.

use std::net::SocketAddr;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use routing::{
    Certificate, CertificateId, CheckProtocol, Front, Kind, ListenerProtocol, Table, Target,
    TargetIdentity, TargetProtocol, TargetState, TlsSettings,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::world::*;

/// Who signs certificates.
struct Signer {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Signer {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, name: &str) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let made = params.signed_by(&key, &self.issuer).unwrap();
        Certificate { chain_pem: made.pem(), key_pem: key.serialize_pem() }
    }

    fn identity(&self, name: &str) -> TargetIdentity {
        TargetIdentity { name: name.to_owned(), authority_pem: self.pem.clone() }
    }
}

fn shown() -> CertificateId {
    CertificateId("shown".to_owned())
}

/// A table of what stands in front of a target, and shows a certificate.
fn front_of(target: SocketAddr, certificate: Certificate, is_tcp: bool) -> Table {
    let mut table = unchecked(&[target], is_tcp);
    let balancer = balancer(&mut table);
    balancer.attributes.http2 = false;
    let listener = &mut balancer.listeners[0];
    listener.protocol = if is_tcp { ListenerProtocol::Tls } else { ListenerProtocol::Https };
    listener.attributes.front = Some(Front::Beside);
    listener.tls = Some(TlsSettings {
        policy: "ELBSecurityPolicy-TLS13-1-3-2021-06".to_owned(),
        default_certificate: shown(),
        certificates: vec![],
        alpn: routing::Alpn::None,
    });
    table.certificates.insert(shown(), certificate);
    table
}

fn unchecked(targets: &[SocketAddr], is_tcp: bool) -> Table {
    let mut table = table(targets);
    if is_tcp {
        balancer(&mut table).kind = Kind::Network;
        balancer(&mut table).listeners[0].protocol = ListenerProtocol::Tcp;
    }
    let group = group_of(&mut table);
    if is_tcp {
        group.protocol = TargetProtocol::Tcp;
    }
    group.health.protocol = CheckProtocol::None;
    group.targets.iter_mut().for_each(|target| target.state = TargetState::Healthy);
    table
}

/// A table of whoever asks targets that have to show an identity.
fn asking(targets: &[SocketAddr], identity: TargetIdentity, is_tcp: bool) -> Table {
    let mut table = unchecked(targets, is_tcp);
    let group = group_of(&mut table);
    group.identity = Some(identity);
    group.targets.iter_mut().for_each(|target| target.shows_identity = true);
    table
}

#[tokio::test]
async fn a_target_is_asked_only_once_it_has_shown_who_it_is() {
    let (signer, stranger) = (Signer::new(), Signer::new());
    let served = backend(Does::Answers("itself")).await;
    let front = |certificate| World::new(front_of(served.address, certificate, false));
    let own = front(signer.sign("srv-1.internal")).await;
    let another = front(signer.sign("srv-2.internal")).await;
    let claims = front(stranger.sign("srv-1.internal")).await;
    let identity = || signer.identity("srv-1.internal");
    let asks = World::new(asking(&[own.address().await], identity(), false)).await;
    let answer = get(asks.address().await).await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "itself"));
    for wrong in [another.address().await, claims.address().await] {
        let before = served.count();
        let asks = World::new(asking(&[wrong], identity(), false)).await;
        assert_eq!(get(asks.address().await).await.unwrap().status, 502);
        assert_eq!(served.count(), before, "nothing was said to it");
        let both = [wrong, own.address().await];
        let asks = World::new(asking(&both, identity(), false)).await;
        for _ in 0..4 {
            assert_eq!(get(asks.address().await).await.unwrap().status, 200, "the other is asked");
        }
    }
}

#[tokio::test]
async fn of_a_group_some_may_show_who_they_are_and_others_be_met_in_the_clear() {
    let signer = Signer::new();
    let [new, old] = [backend(Does::Answers("new")).await, backend(Does::Answers("old")).await];
    let front = World::new(front_of(new.address, signer.sign("srv.internal"), false)).await;
    let mut table = asking(&[front.address().await], signer.identity("srv.internal"), false);
    let plain = Target { state: TargetState::Healthy, ..target(old.address) };
    group_of(&mut table).targets.push(plain);
    let asks = World::new(table).await;
    for _ in 0..8 {
        assert_eq!(get(asks.address().await).await.unwrap().status, 200);
    }
    assert!(new.count() > 0 && old.count() > 0, "{} {}", new.count(), old.count());
}

/// A server of bytes that says back what it hears.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    address
}

async fn said_back(address: SocketAddr) -> Option<[u8; 4]> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"ping").await.unwrap();
    let mut heard = [0; 4];
    stream.read_exact(&mut heard).await.ok()?;
    Some(heard)
}

#[tokio::test]
async fn flows_go_only_to_those_who_have_shown_who_they_are() {
    let (signer, stranger) = (Signer::new(), Signer::new());
    let served = echo().await;
    let front = |certificate| World::new(front_of(served, certificate, true));
    let own = front(signer.sign("srv.internal")).await;
    let claims = front(stranger.sign("srv.internal")).await;
    let identity = || signer.identity("srv.internal");
    let (own, claims) = (own.address().await, claims.address().await);
    let asks = World::new(asking(&[claims, own], identity(), true)).await;
    for _ in 0..4 {
        assert_eq!(said_back(asks.address().await).await, Some(*b"ping"));
    }
    let asks = World::new(asking(&[claims], identity(), true)).await;
    assert_eq!(said_back(asks.address().await).await, None);
}

#[tokio::test]
async fn a_certificate_is_renewed_while_requests_go_on() {
    let signer = Signer::new();
    let served = backend(Does::Answers("itself")).await;
    let front = front_of(served.address, signer.sign("srv.internal"), false);
    let front = World::new(front).await;
    let asks = asking(&[front.address().await], signer.identity("srv.internal"), false);
    let asks = World::new(asks).await;
    for _ in 0..3 {
        let mut caller = Caller::new(asks.address().await).await;
        assert_eq!(caller.ask(GET).await.unwrap().status, 200);
        let next = signer.sign("srv.internal");
        front.change(|table| drop(table.certificates.insert(shown(), next))).await;
        assert_eq!(caller.ask(GET).await.unwrap().status, 200);
        // Another connection to the target is opened for it.
        asks.change(|table| group_of(table).targets[0].registered_at.0 += 1).await;
        assert_eq!(caller.ask(GET).await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn what_stands_in_front_of_nobody_takes_nothing() {
    let signer = Signer::new();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let good = backend(Does::Answers("another")).await;
    for is_tcp in [false, true] {
        let front = World::new(front_of(address, signer.sign("srv.internal"), is_tcp)).await;
        let behind = if is_tcp { echo().await } else { good.address };
        let other = World::new(front_of(behind, signer.sign("srv.internal"), is_tcp)).await;
        let both = [front.address().await, other.address().await];
        let asks = World::new(asking(&both, signer.identity("srv.internal"), is_tcp)).await;
        for _ in 0..4 {
            match is_tcp {
                true => assert_eq!(said_back(asks.address().await).await, Some(*b"ping")),
                false => assert_eq!(get(asks.address().await).await.unwrap().status, 200),
            }
        }
    }
}
