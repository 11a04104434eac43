//! Hosts that keep to it, and hosts that do not.

use std::path::Path;

use longshore_types::{SeededEnv, SystemClock};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::blobs::BlobWriter;
use crate::hash::Hasher;
use crate::manifest::Descriptor;

const BYTES: usize = 3 << 20;
/// What a host that gives up in the middle has sent.
const HALF: usize = 1 << 20;

fn bytes() -> Vec<u8> {
    (0..BYTES).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

fn layer() -> Descriptor {
    let text = serde_json::json!({"mediaType": "application/vnd.oci.image.layer.v1.tar",
        "digest": Hasher::digest(&bytes()).to_string(), "size": BYTES});
    serde_json::from_value(text).unwrap()
}

/// A host that takes layers.
fn taker(dir: &Path) -> LayerSharing {
    let limits = OfferedLimits { bytes_max: 1 << 30, free_bytes_min: 0 };
    let offered = OfferedLayers::open(dir.join("offered"), limits, Arc::new(SystemClock)).unwrap();
    let config = SharingConfig {
        registry: "region:4566".to_owned(),
        bytes_per_second_max: 1 << 30,
        egress: Egress::anywhere(),
    };
    LayerSharing::new(config, offered).unwrap()
}

/// One that waits for nobody.
fn hurried(dir: &Path) -> LayerSharing {
    let short = Duration::from_millis(700);
    let patience = Patience {
        connect: short,
        answer: short,
        idle: short,
        window: 2 * short,
        window_bytes_min: 1 << 20,
        ..Patience::default()
    };
    LayerSharing { patience, ..taker(dir) }
}

fn key(seed: u64) -> TicketKey {
    TicketKey::mint(&SeededEnv::from_seed(seed))
}

fn ticket(taker: &LayerSharing) -> LayerTicket {
    key(1).grant(&layer().digest, &taker.fingerprint(), Timestamp(60_000))
}

/// A host that has the layer and listens, with the directory that it lies in.
struct Giver {
    sharing: Arc<LayerSharing>,
    address: SocketAddrV4,
    _dir: tempfile::TempDir,
}

impl Giver {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sharing = Arc::new(taker(dir.path()));
        let path = dir.path().join("layer");
        std::fs::write(&path, bytes()).unwrap();
        sharing.offered.put(&path, &layer().digest).unwrap();
        sharing.granted_by(key(1), Timestamp(0));
        let serving = Arc::clone(&sharing);
        tokio::spawn(async move { serving.serve("127.0.0.1:0".parse().unwrap()).await });
        while sharing.told().is_none() {
            tokio::task::yield_now().await;
        }
        let address = SocketAddrV4::new([127, 0, 0, 1].into(), sharing.told().unwrap().port);
        Self { sharing, address, _dir: dir }
    }

    fn holder(&self, ticket: LayerTicket) -> LayerHolder {
        LayerHolder { address: self.address, certificate: self.sharing.fingerprint(), ticket }
    }
}

fn writer(dir: &Path) -> BlobWriter {
    BlobWriter::append(&dir.join("partial"), Hasher::sha256()).unwrap()
}

async fn take(
    taker: &LayerSharing,
    holder: &LayerHolder,
    writer: BlobWriter,
) -> (BlobWriter, Result<(), String>) {
    let layer = layer();
    let until = tokio::time::Instant::now() + taker.time_for(&layer);
    let taken = fetch_rest(taker, holder, &layer, writer, (&|_| {}, until));
    let limit = Duration::from_secs(60);
    let (writer, ended) = tokio::time::timeout(limit, taken).await.expect("nobody is waited for");
    (writer.unwrap(), ended.map_err(|error| error.to_string()))
}

#[tokio::test]
async fn a_layer_is_taken_from_a_host_that_has_it_and_gone_on_with_where_it_broke_off() {
    let (giver, dir) = (Giver::new().await, tempfile::tempdir().unwrap());
    let taker = taker(dir.path());
    let mut begun = writer(dir.path());
    begun.write(&bytes()[..HALF]).unwrap();
    let (mut writer, ended) = take(&taker, &giver.holder(ticket(&taker)), begun).await;
    assert_eq!(ended, Ok(()));
    writer.verify(&layer().digest).unwrap();
    let rest = u64::try_from(BYTES - HALF).unwrap();
    assert_eq!(taker.taken.load(Ordering::Relaxed), rest);
    assert_eq!(giver.sharing.told().unwrap().given, rest);
}

#[tokio::test]
async fn a_host_gives_nothing_that_the_region_did_not_grant_to_who_asks() {
    let (giver, dir) = (Giver::new().await, tempfile::tempdir().unwrap());
    let (taker, other) = (taker(dir.path()), PeerIdentity::make().unwrap());
    let (layer, own) = (layer().digest, taker.fingerprint());
    let none = Digest::Sha256([9; 32]);
    let later = Timestamp(60_000);
    for (what, ticket) in [
        ("another region's", key(2).grant(&layer, &own, later)),
        ("over", key(1).grant(&layer, &own, Timestamp(0))),
        ("of another layer", key(1).grant(&none, &own, later)),
        ("of another host", key(1).grant(&layer, &other.fingerprint(), later)),
    ] {
        let (writer, ended) = take(&taker, &giver.holder(ticket), writer(dir.path())).await;
        assert!(ended.unwrap_err().contains("no "), "{what}");
        assert_eq!(writer.written(), 0, "{what}");
    }
    // The region has granted by another key since, as after a new session.
    giver.sharing.granted_by(key(3), Timestamp(0));
    let (_, ended) = take(&taker, &giver.holder(ticket(&taker)), writer(dir.path())).await;
    assert!(ended.unwrap_err().contains("granted no such thing"));
    giver.sharing.granted_by(key(1), Timestamp(0));
    giver.sharing.offered.shrink_to(0);
    let (_, ended) = take(&taker, &giver.holder(ticket(&taker)), writer(dir.path())).await;
    assert!(ended.unwrap_err().contains("not here any more"));
    *held(&giver.sharing.grants) = None;
    let (_, ended) = take(&taker, &giver.holder(ticket(&taker)), writer(dir.path())).await;
    assert!(ended.is_err(), "before the region has said by what it grants");
    assert_eq!(giver.sharing.told().unwrap().given, 0);
}

/// What a host answers to a line.
async fn answer(giver: &Giver, identity: &PeerIdentity, line: &[u8]) -> String {
    let config = identity.client_config(giver.sharing.fingerprint()).unwrap();
    let stream = TcpStream::connect(giver.address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::IpAddress((*giver.address.ip()).into());
    let mut stream = connector.connect(name, stream).await.unwrap();
    stream.write_all(line).await.unwrap();
    let mut answer = Vec::new();
    // It may break off a line that does not end.
    stream.read_to_end(&mut answer).await.ok();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn who_asks_for_anything_but_a_layer_is_given_nothing() {
    let giver = Giver::new().await;
    let stranger = PeerIdentity::make().unwrap();
    let ticket = key(1).grant(&layer().digest, &stranger.fingerprint(), Timestamp(60_000));
    let digest = layer().digest;
    let right = format!("layer1 {digest} 0 {ticket}\n");
    let given = answer(&giver, &stranger, right.as_bytes()).await;
    assert!(given.starts_with(&format!("ok {BYTES}\n")), "{}", &given[..given.len().min(99)]);
    for line in [
        right.replace(&digest.to_string(), "../../../../etc/shadow"),
        right.replace(&digest.hex(), &format!("/../../{}", digest.hex())),
        right.replace(" 0 ", &format!(" {BYTES} ")),
        right.replace(" 0 ", " -1 "),
        right.replace("layer1", "GET /"),
        format!("layer1 {} 0 {ticket}\n", "a".repeat(100_000)),
        "\n".to_owned(),
    ] {
        let given = answer(&giver, &stranger, line.as_bytes()).await;
        assert!(given.is_empty() || given.starts_with("no "), "{given}");
    }
    // Whoever says nothing is let go, and keeps no other from being served.
    let silent = answer(&giver, &stranger, b"layer1 ").await;
    assert!(silent.is_empty(), "{silent}");
    assert!(answer(&giver, &stranger, right.as_bytes()).await.starts_with("ok "));
}

/// A host that does as it likes once it was asked.
struct Fake {
    holder: LayerHolder,
}

type Heard = TlsStream<TcpStream>;

impl Fake {
    async fn new<F>(ticket: LayerTicket, act: impl Fn(Heard) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Option<Heard>> + Send + 'static,
    {
        let identity = PeerIdentity::make().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(identity.server_config().unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut line = Vec::new();
                while !line.ends_with(b"\n") {
                    line.push(stream.read_u8().await.unwrap());
                }
                kept.extend(act(stream).await);
            }
        });
        let address = SocketAddrV4::new([127, 0, 0, 1].into(), port);
        Self { holder: LayerHolder { address, certificate: identity.fingerprint(), ticket } }
    }
}

async fn sends(mut stream: Heard, head: String, body: Vec<u8>, keeps: bool) -> Option<Heard> {
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(&body).await.ok()?;
    stream.flush().await.ok()?;
    keeps.then_some(stream)
}

#[tokio::test]
async fn what_a_bad_host_leaves_undone_another_one_does() {
    let (giver, dir) = (Giver::new().await, tempfile::tempdir().unwrap());
    let (hurried, patient) = (hurried(dir.path()), taker(dir.path()));
    let of = || ticket(&hurried);
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = |listener: &TcpListener| LayerHolder {
        address: SocketAddrV4::new([127, 0, 0, 1].into(), listener.local_addr().unwrap().port()),
        certificate: Fingerprint::of(b""),
        ticket: of(),
    };
    let hanging = at(&nobody);
    let gone = at(&TcpListener::bind("127.0.0.1:0").await.unwrap());
    let other = LayerHolder { certificate: Fingerprint::of(b"other"), ..giver.holder(of()) };
    let head = || format!("ok {BYTES}\n");
    let half = || bytes()[..HALF].to_vec();
    let silent = Fake::new(of(), |stream| async { Some(stream) }).await;
    let closing = Fake::new(of(), |_| async { None }).await;
    let short = Fake::new(of(), |it| sends(it, "ok 5\n".to_owned(), vec![0; 5], true)).await;
    let long = Fake::new(of(), |it| sends(it, format!("ok {}\n", u64::MAX), vec![], true)).await;
    let babbling = Fake::new(of(), |it| sends(it, "o".repeat(9_999), vec![], true)).await;
    let resetting = Fake::new(of(), move |it| sends(it, head(), half(), false)).await;
    let stopping = Fake::new(of(), move |it| sends(it, head(), half(), true)).await;
    let dripping = Fake::new(of(), move |mut stream| async move {
        stream.write_all(head().as_bytes()).await.ok()?;
        for byte in bytes() {
            stream.write_all(&[byte]).await.ok()?;
            stream.flush().await.ok()?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        None
    })
    .await;
    for (what, holder, written) in [
        ("absent", gone, 0..=0),
        ("hanging", hanging, 0..=0),
        ("another one", other, 0..=0),
        ("silent", silent.holder, 0..=0),
        ("closing", closing.holder, 0..=0),
        ("short", short.holder, 0..=0),
        ("long", long.holder, 0..=0),
        ("babbling", babbling.holder, 0..=0),
        ("resetting", resetting.holder, 0..=HALF),
        ("stopping", stopping.holder, HALF..=HALF),
        ("dripping", dripping.holder, 1..=1_000),
    ] {
        std::fs::remove_file(dir.path().join("partial")).ok();
        let (back, ended) = take(&hurried, &holder, writer(dir.path())).await;
        assert!(ended.is_err(), "{what}");
        let came = usize::try_from(back.written()).unwrap();
        assert!(written.contains(&came), "{what}: {came}");
        let (mut back, ended) = take(&patient, &giver.holder(ticket(&patient)), back).await;
        assert_eq!(ended, Ok(()), "{what}");
        back.verify(&layer().digest).unwrap();
    }
}

#[tokio::test]
async fn hosts_that_give_just_enough_do_not_hold_a_pull_for_as_long_as_a_layer_is_large() {
    let dir = tempfile::tempdir().unwrap();
    let taker = taker(dir.path());
    let window_bytes_min = 1;
    let layer_min = Duration::from_secs(1);
    let patience = Patience { window_bytes_min, layer_min, ..taker.patience };
    let taker = LayerSharing { patience, ..taker };
    let steady = Fake::new(ticket(&taker), move |mut stream| async move {
        stream.write_all(format!("ok {BYTES}\n").as_bytes()).await.ok()?;
        for byte in bytes() {
            stream.write_all(&[byte]).await.ok()?;
            stream.flush().await.ok()?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    })
    .await;
    let (back, ended) = take(&taker, &steady.holder, writer(dir.path())).await;
    assert_eq!(ended, Err("the time for layers from hosts is over".to_owned()));
    assert!(back.written() > 0, "the registry goes on there");
}

/// One that nobody reaches, at an address of its own.
async fn gone(there: &LayerHolder, last: u8) -> LayerHolder {
    let ip = [127, 0, 0, last];
    let listener = TcpListener::bind((Ipv4Addr::from(ip), 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    LayerHolder { address: SocketAddrV4::new(ip.into(), port), ..there.clone() }
}

#[tokio::test]
async fn where_no_host_is_reached_none_is_asked_for_a_while() {
    let (giver, dir) = (Giver::new().await, tempfile::tempdir().unwrap());
    let taker = taker(dir.path());
    let there = giver.holder(ticket(&taker));
    let [a, b, c] = [gone(&there, 2).await, gone(&there, 3).await, gone(&there, 4).await];
    for holder in [&a, &b, &there, &a, &b] {
        std::fs::remove_file(dir.path().join("partial")).ok();
        assert!(taker.reaches_hosts());
        drop(take(&taker, holder, writer(dir.path())).await);
    }
    drop(take(&taker, &c, writer(dir.path())).await);
    assert!(!taker.reaches_hosts());
}

#[tokio::test]
async fn one_host_that_is_not_reached_keeps_nobody_from_the_others() {
    let (giver, dir) = (Giver::new().await, tempfile::tempdir().unwrap());
    let taker = taker(dir.path());
    let there = giver.holder(ticket(&taker));
    let gone = gone(&there, 2).await;
    // As the layers of one image do.
    for _ in 0..2 * UNREACHED_MAX {
        drop(take(&taker, &gone, writer(dir.path())).await);
    }
    assert!(taker.reaches_hosts() && taker.is_away(&gone) && !taker.is_away(&there));
    let anew = LayerHolder { certificate: Fingerprint::of(b"anew"), ..gone.clone() };
    assert!(!taker.is_away(&anew), "its agent was started anew");
    taker.reached(&gone, true);
    assert!(!taker.is_away(&gone));
}

#[tokio::test]
async fn a_host_is_not_asked_at_an_address_of_this_one() {
    let (giver, dir) = (Giver::new().await, tempfile::tempdir().unwrap());
    let mut taker = taker(dir.path());
    taker.config.egress = Egress::default();
    let (_, ended) = take(&taker, &giver.holder(ticket(&taker)), writer(dir.path())).await;
    assert!(ended.unwrap_err().contains("loopback"));
}

#[tokio::test]
async fn who_sent_something_else_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let taker = taker(dir.path());
    let host = |number: usize| Ipv4Addr::from(0x0a00_0000 + u32::try_from(number).unwrap());
    taker.distrust(&[host(1)]);
    assert!(taker.is_distrusted(&host(1)) && !taker.is_distrusted(&host(2)));
    let many: Vec<_> = (0..2 * PASSED_OVER_MAX).map(host).collect();
    taker.distrust(&many);
    assert_eq!(held(&taker.distrusted).len(), PASSED_OVER_MAX);
}
