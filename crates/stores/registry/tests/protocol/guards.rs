//! Where the client goes and what it shows there, whatever a registry says.

use std::sync::Arc;

use image::{
    Auth, Basic, ClientConfig, Egress, Hasher, ImageStore, Ownership, Progress, PullError, Puller,
    PullerConfig, Reference, StoreConfig, Transport,
};
use longshore_types::SeededEnv;

use crate::fake::{Fake, Made, challenge, content, redirect, silence, status};

/// This host, as it may be written.
const SPELLINGS: [&str; 7] =
    ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "017700000001", "localhost", "0.0.0.0"];

struct Client {
    puller: Puller,
    _dir: tempfile::TempDir,
}

impl Client {
    fn new(egress: Egress) -> Self {
        Self::with(egress, PullerConfig::default())
    }

    fn with(egress: Egress, puller: PullerConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = StoreConfig { ownership: Ownership::Ignore, ..StoreConfig::new(dir.path()) };
        let env = Arc::new(SeededEnv::from_seed(1));
        let store = ImageStore::open(config, env).unwrap();
        let platform = image::manifest::Platform::linux("amd64");
        let config = PullerConfig { platform, ..puller };
        let quick = ClientConfig {
            retries_max: 1,
            retry_pause_ms: 1,
            plain_http: SPELLINGS.map(str::to_owned).into(),
            egress,
            ..ClientConfig::default()
        };
        Self { puller: Puller::new(store, Transport::new(quick), config), _dir: dir }
    }

    async fn pull(&self, name: &str, auth: &Auth) -> Result<(), PullError> {
        let reference: Reference = name.parse().unwrap();
        self.puller.pull(&reference, auth, &Progress::none()).await.map(drop)
    }
}

fn made() -> Made {
    // Two blocks of zeros: an archive of nothing.
    let layer = vec![0; 1024];
    let diff_id = Hasher::digest(&layer);
    Made::new(&layer, &diff_id)
}

async fn honest() -> Fake {
    let made = made();
    Fake::new(move |seen| made.serve(seen)).await
}

#[tokio::test]
async fn a_registry_on_this_host_is_asked_only_if_it_was_allowed_by_its_name() {
    let fake = honest().await;
    let port = fake.host.rsplit_once(':').unwrap().1.to_owned();
    let guarded = Client::new(Egress::default());
    for host in SPELLINGS {
        let error = guarded.pull(&format!("{host}:{port}/x:1"), &Auth::none()).await.unwrap_err();
        assert!(matches!(error, PullError::NotAllowed { .. }), "{host}: {error}");
        assert!(error.to_string().contains("--allow-registry"), "{error}");
        assert!(!error.is_away());
    }
    assert_eq!(fake.seen().len(), 0);
    let told = Client::new(Egress::default().allow(fake.host.clone()));
    told.pull(&format!("{}/x:1", fake.host), &Auth::none()).await.unwrap();
}

#[tokio::test]
async fn a_redirect_or_a_token_server_is_guarded_as_the_registry_is() {
    // On a second loopback address, which stands for any other place of this host.
    let inside = honest().await;
    let target = format!("http://{}/latest/meta-data", inside.host);
    let to = target.clone();
    let redirects = Fake::new(move |_| redirect(&to)).await;
    let realm = format!("Bearer realm=\"{target}\",service=\"x\",scope=\"y\"");
    let tokens = Fake::new(move |_| challenge(&realm)).await;
    let egress = Egress::default().allow(redirects.host.clone()).allow(tokens.host.clone());
    for fake in [&redirects, &tokens] {
        let client = Client::new(egress.clone());
        let error = client.pull(&format!("{}/x:1", fake.host), &Auth::none()).await.unwrap_err();
        assert!(matches!(error, PullError::NotAllowed { .. }), "{error}");
    }
    assert_eq!(inside.seen().len(), 0);
}

#[tokio::test]
async fn nobody_is_led_to_a_registry_that_is_allowed_by_its_own_name() {
    let inside = honest().await;
    let target = format!("http://{}/v2/x/manifests/1", inside.host);
    let elsewhere = Fake::new(move |_| redirect(&target)).await;
    // It is reached by a range that is not closed, as one on another host would be.
    let port = elsewhere.host.rsplit_once(':').unwrap().1.to_owned();
    let Some(address) = own_address() else {
        eprintln!("skipped: this machine has loopback addresses only");
        return;
    };
    let relay = relay(&address, &format!("127.0.0.1:{port}")).await;
    let config = ClientConfig {
        plain_http: vec![relay.clone()],
        retries_max: 0,
        egress: Egress::default().allow(inside.host.clone()),
        ..ClientConfig::default()
    };
    let client = Client::new(Egress::default());
    let store = client.puller.store().clone();
    let puller = Puller::new(store, Transport::new(config), PullerConfig::default());
    let reference: Reference = format!("{relay}/x:1").parse().unwrap();
    let error = puller.pull(&reference, &Auth::none(), &Progress::none()).await.unwrap_err();
    assert!(error.to_string().contains("allowed by its own name only"), "{error}");
    assert_eq!(inside.seen().len(), 0);
}

/// An address of this machine that is not loopback.
fn own_address() -> Option<String> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback()).then(|| ip.to_string())
}

/// Passes connections on to a server on loopback.
async fn relay(address: &str, to: &str) -> String {
    let listener = tokio::net::TcpListener::bind((address, 0)).await.unwrap();
    let (host, to) = (listener.local_addr().unwrap().to_string(), to.to_owned());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut inner = tokio::net::TcpStream::connect(&to).await.unwrap();
            tokio::spawn(async move {
                tokio::io::copy_bidirectional(&mut stream, &mut inner).await.ok();
            });
        }
    });
    host
}

#[tokio::test]
async fn a_login_is_shown_to_its_registry_and_to_nobody_that_this_one_names() {
    let blobs = honest().await;
    let to = format!("http://{}", blobs.host.replace("127.0.0.1", "localhost"));
    let made = made();
    let registry = Fake::new(move |seen| {
        if seen.authorization() != Some("Basic bWU6c2VjcmV0") {
            return challenge("Basic realm=\"x\"");
        }
        if seen.path.contains("/blobs/") {
            redirect(&format!("{to}{}", seen.path))
        } else {
            made.serve(seen)
        }
    })
    .await;
    let client = Client::new(Egress::anywhere());
    let auth = Auth::none().with(registry.host.clone(), Basic::new("me", "secret"));
    client.pull(&format!("{}/x:1", registry.host), &auth).await.unwrap();
    assert!(!blobs.seen().is_empty());
    assert!(blobs.seen().iter().all(|seen| seen.authorization().is_none()));
}

#[tokio::test]
async fn a_token_server_on_another_host_is_shown_its_own_login_or_none() {
    let tokens = Fake::new(|seen| match seen.authorization() {
        None => status(401),
        Some(_) => content(r#"{"token":"t"}"#),
    })
    .await;
    // Its name is another one than the registry's.
    let token_host = tokens.host.replace("127.0.0.1", "localhost");
    let realm = format!("Bearer realm=\"http://{token_host}/token\",service=\"x\",scope=\"y\"");
    let made = made();
    let registry = Fake::new(move |seen| match seen.authorization() {
        Some("Bearer t") => made.serve(seen),
        _ => challenge(&realm),
    })
    .await;
    let client = Client::new(Egress::anywhere());
    let name = format!("{}/x:1", registry.host);
    let login = Auth::none().with(registry.host.clone(), Basic::new("me", "secret"));
    let error = client.pull(&name, &login).await.unwrap_err();
    assert!(matches!(error, PullError::Denied { .. }), "{error}");
    assert!(error.to_string().contains(&format!("add a login for {token_host}")), "{error}");
    assert!(tokens.seen().iter().all(|seen| seen.authorization().is_none()));
    let both = login.with(token_host, Basic::new("them", "other"));
    client.pull(&name, &both).await.unwrap();
    let shown: Vec<_> =
        tokens.seen().iter().filter_map(|s| s.authorization().map(str::to_owned)).collect();
    assert_eq!(shown, ["Basic dGhlbTpvdGhlcg=="]);
}

#[tokio::test]
async fn an_image_for_which_there_is_no_room_is_not_begun() {
    let mut made = made();
    let size = format!("\"size\":{}", made.layer.len());
    assert!(made.manifest.contains(&size));
    made.manifest = made.manifest.replace(&size, &format!("\"size\":{}", u64::MAX));
    let registry = Fake::new(move |seen| made.serve(seen)).await;
    let client = Client::new(Egress::anywhere());
    let name = format!("{}/x:1", registry.host);
    let error = client.pull(&name, &Auth::none()).await.unwrap_err();
    assert!(matches!(error, PullError::NoSpace { .. }), "{error}");
    let layer = Hasher::digest(&[0; 1024]).to_string();
    assert!(registry.seen().iter().all(|seen| !seen.path.ends_with(&layer)));
}

#[tokio::test]
async fn who_waits_for_a_slow_layer_of_their_own_keeps_nobody_from_another() {
    let zeros = vec![0; 2048];
    let (slow, quick) = (Made::new(&zeros, &Hasher::digest(&zeros)), made());
    let stuck = Hasher::digest(&slow.layer).to_string();
    let config = Hasher::digest(quick.config.as_bytes()).to_string();
    let silent = stuck.clone();
    let registry = Fake::new(move |seen| match seen.path.starts_with("/v2/slow/") {
        true if seen.path.ends_with(&silent) => silence(),
        true => slow.serve(seen),
        false => quick.serve(seen),
    })
    .await;
    let one = PullerConfig { fetches_max: 1, ..PullerConfig::default() };
    let client = Client::with(Egress::anywhere(), one);
    let pull = |name: &str, owner: &str| {
        let (puller, auth) = (client.puller.clone(), Auth::none().owned_by(owner));
        let reference: Reference = format!("{}/{name}:1", registry.host).parse().unwrap();
        tokio::spawn(
            async move { puller.pull(&reference, &auth, &Progress::none()).await.map(drop) },
        )
    };
    let asked = async |path: &str| {
        while !registry.seen().iter().any(|seen| seen.path.ends_with(path)) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let first = pull("slow", "a");
    asked(&stuck).await;
    let second = pull("x", "a");
    asked(&config).await;
    let others = tokio::time::timeout(std::time::Duration::from_secs(20), pull("x", "b")).await;
    others.expect("it waits for another's").unwrap().unwrap();
    first.abort();
    second.abort();
}
