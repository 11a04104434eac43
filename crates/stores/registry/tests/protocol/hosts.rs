//! Hosts that take layers from each other where the registry says so, and what becomes of a pull when they do ill.

use std::collections::BTreeSet;
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http::{Method, StatusCode};
use image::{
    Auth, Basic, ClientConfig, Digest, Egress, Hasher, ImageStore, LayerSharing, OfferedLimits,
    Ownership, Progress, Puller, PullerConfig, Reference, SharingConfig, StoreConfig, Transport,
};
use longshore_types::{OsIds, SystemClock, Timestamp};
use registry::Holders;
use tar::{Builder, Header};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use trust::{Fingerprint, LayerHolder, PeerIdentity, TicketKey};

use crate::world::{ACCOUNT, OTHER, World};

const BYTES: usize = 3 << 20;
const HALF: usize = 1 << 20;

/// What the region would know.
#[derive(Debug, Default)]
struct Directory(Mutex<Vec<(SocketAddrV4, Fingerprint, TicketKey)>>);

impl Holders for Directory {
    fn of(&self, layer: &Digest, asker: &Fingerprint) -> Vec<LayerHolder> {
        let until = Timestamp(60_000);
        let known = self.0.lock().unwrap();
        let holders = known.iter().filter(|(_, certificate, _)| certificate != asker);
        let holder = |(address, certificate, key): &(SocketAddrV4, Fingerprint, TicketKey)| {
            let ticket = key.grant(layer, asker, until);
            LayerHolder { address: *address, certificate: *certificate, ticket }
        };
        holders.map(holder).collect()
    }
}

fn local(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new([127, 0, 0, 1].into(), port)
}

/// A layer with one file of bytes that repeat late.
fn layer() -> Vec<u8> {
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        u8::try_from(state >> 56).unwrap()
    };
    let body: Vec<u8> = (0..BYTES).map(|_| next()).collect();
    let mut tar = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_size(body.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "data", body.as_slice()).unwrap();
    tar.into_inner().unwrap()
}

struct Fleet {
    world: World,
    directory: Arc<Directory>,
    image: Reference,
    digest: Digest,
}

impl Fleet {
    async fn new() -> Self {
        let world = World::new().await;
        let directory = Arc::<Directory>::default();
        world.registry.held_by(Arc::clone(&directory) as _);
        let layer = layer();
        let digest = world.push_blob("web", &layer).await;
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{digest}"]}}}}"#
        );
        let config_digest = world.push_blob("web", config.as_bytes()).await;
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{config_digest}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}","size":{}}}]}}"#,
            image::manifest::OCI_MANIFEST,
            image::manifest::OCI_CONFIG,
            config.len(),
            layer.len(),
        );
        let (_, put) = world.put_manifest("web", "1", &manifest).await;
        assert_eq!(put.status, StatusCode::CREATED, "{put:?}");
        let image = format!("{}/web:1", world.host).parse().unwrap();
        Self { world, directory, image, digest }
    }

    fn names(&self, port: u16, certificate: Fingerprint, key: TicketKey) {
        self.directory.0.lock().unwrap().push((local(port), certificate, key));
    }

    async fn pull(&self, host: &Host) -> Vec<u8> {
        let login = Basic::new("AWS", ACCOUNT);
        let auth = Auth::none().with(self.world.host.clone(), login).owned_by(ACCOUNT);
        let image = host.puller.pull(&self.image, &auth, &Progress::none()).await.unwrap();
        std::fs::read(image.layers[0].join("data")).unwrap()
    }

    /// A host that says it has the layer, and does as it likes once it is asked: sends bytes, and closes or waits.
    async fn bad_host(&self, body: Vec<u8>, waits: bool) -> Arc<AtomicUsize> {
        let identity = PeerIdentity::make().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(identity.server_config().unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        self.names(port, identity.fingerprint(), TicketKey::mint(&OsIds));
        let asked = Arc::new(AtomicUsize::new(0));
        let (counted, size) = (Arc::clone(&asked), layer().len());
        tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                let mut stream = acceptor.accept(stream).await.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                let mut line = Vec::new();
                while !line.ends_with(b"\n") {
                    line.push(stream.read_u8().await.unwrap());
                }
                stream.write_all(format!("ok {size}\n").as_bytes()).await.unwrap();
                stream.write_all(&body).await.ok();
                stream.flush().await.ok();
                kept.extend(waits.then_some(stream));
            }
        });
        asked
    }
}

struct Host {
    puller: Puller,
    sharing: Arc<LayerSharing>,
    dir: tempfile::TempDir,
}

impl Host {
    async fn new(fleet: &Fleet) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = StoreConfig {
            ownership: Ownership::Ignore,
            offered: OfferedLimits { bytes_max: 1 << 30, free_bytes_min: 0 },
            ..StoreConfig::new(dir.path())
        };
        let store = ImageStore::open(config, Arc::new(SystemClock)).unwrap();
        let sharing = SharingConfig {
            registry: fleet.world.host.clone(),
            bytes_per_second_max: 1 << 30,
            egress: Egress::anywhere(),
        };
        let sharing = Arc::new(LayerSharing::new(sharing, store.offered().clone()).unwrap());
        let key = TicketKey::mint(&OsIds);
        sharing.granted_by(key.clone(), Timestamp(0));
        let serving = Arc::clone(&sharing);
        tokio::spawn(async move { serving.serve(local(0)).await });
        while sharing.told().is_none() {
            tokio::task::yield_now().await;
        }
        fleet.names(sharing.told().unwrap().port, sharing.fingerprint(), key);
        let config = PullerConfig {
            platform: image::manifest::Platform::linux("amd64"),
            sharing: Some(Arc::clone(&sharing)),
            ..PullerConfig::default()
        };
        let client = ClientConfig {
            retries_max: 1,
            retry_pause_ms: 1,
            egress: Egress::anywhere(),
            ..ClientConfig::default()
        };
        Self { puller: Puller::new(store, Transport::new(client), config), sharing, dir }
    }

    fn taken(&self) -> usize {
        usize::try_from(self.sharing.told().unwrap().taken).unwrap()
    }

    fn partial(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("partial")).unwrap().count()
    }
}

fn content() -> Vec<u8> {
    let layer = layer();
    layer[512..512 + BYTES].to_vec()
}

#[tokio::test]
async fn the_second_host_takes_a_layer_from_the_first_and_the_third_from_either() {
    let fleet = Fleet::new().await;
    let hosts = [Host::new(&fleet).await, Host::new(&fleet).await, Host::new(&fleet).await];
    let size = layer().len();
    for (host, taken) in hosts.iter().zip([0, size, size]) {
        assert_eq!(fleet.pull(host).await, content());
        assert_eq!((host.taken(), host.partial()), (taken, 0));
        assert!(host.sharing.told().unwrap().layers.contains(&fleet.digest), "it gives it too");
    }
    // Of what images may take, what is kept for others is the first to go.
    let store = hosts[0].puller.store();
    store.collect(&BTreeSet::new(), u64::MAX, Some((BYTES + (1 << 20)) as u64)).unwrap();
    assert!(hosts[0].sharing.told().unwrap().layers.is_empty() && store.list().len() == 1);
    let given: u64 = hosts.iter().map(|host| host.sharing.told().unwrap().given).sum();
    assert_eq!(usize::try_from(given).unwrap(), 2 * size);
}

#[tokio::test]
async fn what_a_host_sends_that_is_not_the_layer_is_not_used_and_it_is_not_asked_again() {
    let fleet = Fleet::new().await;
    let mut lie = layer();
    lie[BYTES / 2] ^= 1;
    let asked = fleet.bad_host(lie.clone(), true).await;
    let host = Host::new(&fleet).await;
    assert_eq!(fleet.pull(&host).await, content());
    // It says that it is another one.
    let again = fleet.bad_host(lie, true).await;
    assert_eq!((asked.load(Ordering::Relaxed), host.taken()), (1, layer().len()));
    assert_eq!(host.partial(), 0);
    // The image goes, and is pulled again.
    let store = host.puller.store();
    store.unname(&fleet.image).unwrap();
    store.collect(&BTreeSet::new(), 0, None).unwrap();
    assert!(store.list().is_empty());
    assert_eq!(fleet.pull(&host).await, content());
    assert_eq!((asked.load(Ordering::Relaxed), again.load(Ordering::Relaxed)), (1, 0));
}

#[tokio::test]
async fn what_hosts_that_break_off_do_not_give_comes_from_another_host_or_the_registry() {
    let fleet = Fleet::new().await;
    let half = layer()[..HALF].to_vec();
    let asked = fleet.bad_host(half.clone(), false).await;
    let host = Host::new(&fleet).await;
    assert_eq!(fleet.pull(&host).await, content());
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert!(host.taken() <= HALF && host.partial() == 0, "{}", host.taken());
    // The next asks it again, and then the first host for the rest.
    let next = Host::new(&fleet).await;
    assert_eq!(fleet.pull(&next).await, content());
    assert_eq!((asked.load(Ordering::Relaxed), next.taken()), (2, layer().len()));
    assert_eq!(next.partial(), 0);
}

#[tokio::test]
async fn a_host_that_stops_sending_is_not_waited_for() {
    let fleet = Fleet::new().await;
    let asked = fleet.bad_host(layer()[..HALF].to_vec(), true).await;
    let host = Host::new(&fleet).await;
    assert_eq!(fleet.pull(&host).await, content());
    assert_eq!((asked.load(Ordering::Relaxed), host.taken()), (1, HALF));
}

#[tokio::test]
async fn a_host_that_sends_the_beginning_of_something_else_spoils_no_other_source() {
    let fleet = Fleet::new().await;
    fleet.bad_host(vec![0; HALF], true).await;
    let host = Host::new(&fleet).await;
    assert_eq!(fleet.pull(&host).await, content());
    assert_eq!(host.partial(), 0);
}

#[tokio::test]
async fn holders_are_told_to_those_who_may_have_the_layer_itself() {
    let fleet = Fleet::new().await;
    let host = Host::new(&fleet).await;
    let asker = Fingerprint::of(b"asker");
    let path = format!("/v2/web/blobs/{}?holders-for={asker}", fleet.digest);
    let ask = |as_: String, method: Method, path: String| {
        let world = &fleet.world;
        async move {
            let got = world.ask_as(&as_, method, &path, &[], "").await;
            (got.status, got.header("longshore-layer-holders").to_owned())
        }
    };
    let (status, told) = ask(ACCOUNT.to_owned(), Method::HEAD, path.clone()).await;
    assert_eq!(status, StatusCode::OK);
    let told = trust::read_holders(&told).unwrap();
    assert_eq!(told[0].certificate, host.sharing.fingerprint());
    let may = format!("{ACCOUNT}/GetBlob");
    assert!(!ask(may, Method::HEAD, path.clone()).await.1.is_empty());
    let looks = format!("{ACCOUNT}/CheckBlob");
    let denied = (StatusCode::FORBIDDEN, String::new());
    assert_eq!(ask(looks, Method::HEAD, path.clone()).await, denied);
    let absent = (StatusCode::NOT_FOUND, String::new());
    assert_eq!(ask(OTHER.to_owned(), Method::HEAD, path.clone()).await, absent);
    let none = path.replace(&fleet.digest.hex(), &Hasher::digest(b"none").hex());
    assert_eq!(ask(ACCOUNT.to_owned(), Method::HEAD, none).await, absent);
    for silent in
        [path.replace("holders-for", "holders"), format!("{path}0"), path.replace("?", "?x=1&y=")]
    {
        let (status, told) = ask(ACCOUNT.to_owned(), Method::HEAD, silent).await;
        assert_eq!((status, told.as_str()), (StatusCode::OK, ""));
    }
    let (status, told) = ask(ACCOUNT.to_owned(), Method::GET, path).await;
    assert_eq!((status, told.as_str()), (StatusCode::OK, ""), "the layer itself comes");
}
