//! [`Images`] by the image store and its puller: pulls of one image for one account share one.
//!
//! A pull goes on to its end though nobody waits for it any more: what it has of a layer, other pulls of that layer wait
//! for, whoever they are for.
//!
//! **Invariant:** what an account may not fetch, it does not get because another one has fetched it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use image::{
    Auth, Digest, Event, ImageError, ImageStore, Progress, PullError, PulledImage, Puller,
    Reference,
};
use longshore_types::Chain;
use tracing::{info, warn};

use crate::ports::{Images, LocalImage};

/// Images that nobody used for this long may go.
const UNUSED_MS_MIN: u64 = 3 * 24 * 3_600_000;
/// The same where little is left of the disk.
const UNUSED_MS_MIN_WHEN_SHORT: u64 = 3_600_000;
const FREE_PERCENT_MIN: u64 = 15;

type Pull = Shared<BoxFuture<'static, Result<LocalImage, Arc<PullError>>>>;
type Listener = Box<dyn FnOnce(String) + Send>;

/// An image, who wants it, and whether with a login: the region's registry has other images for other
/// accounts, and none for those who show nothing.
type Wanted = (Reference, Option<String>, bool);

/// A pull under way, and who wants to know its digest early.
struct Flight {
    pull: Pull,
    listeners: Arc<Mutex<Listeners>>,
}

#[derive(Default)]
struct Listeners {
    digest: Option<String>,
    waiting: Vec<Listener>,
}

impl Listeners {
    fn hear(&mut self, digest: &str) {
        self.digest = Some(digest.to_owned());
        for listener in self.waiting.drain(..) {
            listener(digest.to_owned());
        }
    }

    fn add(&mut self, listener: Listener) {
        match &self.digest {
            Some(digest) => listener(digest.clone()),
            None => self.waiting.push(listener),
        }
    }
}

/// Images of this host.
pub struct StoreImages {
    puller: Puller,
    /// Logins for other registries, as `docker login` writes them; read at each pull.
    logins: Option<PathBuf>,
    /// What their layers may take of the disk.
    bytes_max: Option<u64>,
    flights: Arc<Mutex<BTreeMap<Wanted, Flight>>>,
}

impl std::fmt::Debug for StoreImages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoreImages")
    }
}

impl StoreImages {
    pub fn new(puller: Puller) -> Self {
        Self { puller, logins: None, bytes_max: None, flights: Arc::default() }
    }

    /// Shows other registries the logins of this file, if it is there: Docker's `config.json`.
    #[must_use]
    pub fn with_logins(mut self, file: PathBuf) -> Self {
        self.logins = Some(file);
        self
    }

    /// Keeps what is not in use within so much disk.
    #[must_use]
    pub fn within(mut self, bytes_max: Option<u64>) -> Self {
        self.bytes_max = bytes_max;
        self
    }

    fn take_off(&self, wanted: Wanted, auth: Auth) -> Flight {
        let listeners: Arc<Mutex<Listeners>> = Arc::default();
        let puller = self.puller.clone();
        let auth = auth.or(known_logins(self.logins.as_deref()));
        let heard = Arc::clone(&listeners);
        let flights = Arc::clone(&self.flights);
        let (shown, key) = (wanted.0.to_string(), wanted.clone());
        let of_dead = Arc::clone(&self.flights);
        let work = async move {
            let progress = Progress::new(move |event| {
                if let (Event::Resolved { digest, .. }, Ok(mut listeners)) = (event, heard.lock()) {
                    listeners.hear(&digest.to_string());
                }
            });
            let result = puller.pull(&wanted.0, &auth, &progress).await;
            if let Ok(mut flights) = flights.lock() {
                flights.remove(&wanted);
            }
            result.map(local).map_err(Arc::new)
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "ends with the pull, which no registry can hold up for ever"
        )]
        let work = tokio::spawn(work);
        let pull = async move {
            work.await.unwrap_or_else(|_| {
                // Whoever comes next begins anew.
                if let Ok(mut flights) = of_dead.lock() {
                    flights.remove(&key);
                }
                Err(Arc::new(PullError::Store { image: shown, source: ImageError::Worker }))
            })
        };
        Flight { pull: pull.boxed().shared(), listeners }
    }
}

/// The logins of this file, if it is there.
pub(super) fn known_logins(file: Option<&Path>) -> Auth {
    let Some(file) = file else { return Auth::none() };
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Auth::none(),
        Err(error) => {
            warn!(file = %file.display(), %error, "logins of registries not read");
            return Auth::none();
        }
    };
    Auth::from_docker_config(&text).unwrap_or_else(|error| {
        warn!(file = %file.display(), %error, "logins of registries are not as docker writes them");
        Auth::none()
    })
}

fn unused_ms_min(store: &ImageStore) -> u64 {
    // Before any image does: what it leaves is measured.
    store.make_room();
    match store.free_percent() {
        Some(free) if free < FREE_PERCENT_MIN => {
            info!(free, "disk is nearly full, unused images go early");
            UNUSED_MS_MIN_WHEN_SHORT
        }
        Some(_) | None => UNUSED_MS_MIN,
    }
}

fn local(image: PulledImage) -> LocalImage {
    LocalImage {
        digest: image.manifest_digest.to_string(),
        config: image.config.clone(),
        layers: image.layers.clone(),
        name: None,
        lease: Arc::new(image.lease),
    }
}

impl Images for StoreImages {
    fn pull(
        &self,
        reference: Reference,
        auth: Auth,
        on_digest: Box<dyn FnOnce(String) + Send>,
    ) -> BoxFuture<'_, Result<LocalImage, Arc<PullError>>> {
        let pull = {
            let mut flights = self.flights.lock().expect("nothing panics while it holds these");
            let wanted = (reference, auth.owner().map(str::to_owned), auth.is_empty());
            let flight =
                flights.entry(wanted.clone()).or_insert_with(|| self.take_off(wanted, auth));
            if let Ok(mut listeners) = flight.listeners.lock() {
                listeners.add(on_digest);
            }
            flight.pull.clone()
        };
        Box::pin(pull)
    }

    fn find(&self, reference: Reference, digest: String) -> BoxFuture<'_, Option<LocalImage>> {
        let store = self.puller.store().clone();
        let find = move || {
            let digest: Digest = digest.parse().ok()?;
            let found = store.image(&digest);
            match found {
                Ok(found) => found.map(local),
                Err(error) => {
                    warn!(image = %reference, error = %Chain(&error), "image not readable");
                    None
                }
            }
        };
        Box::pin(async move { tokio::task::spawn_blocking(find).await.ok().flatten() })
    }

    fn collect(&self) -> BoxFuture<'_, usize> {
        let store = self.puller.store().clone();
        Box::pin(async move {
            // What is in use has a lease.
            let bytes_max = self.bytes_max;
            let collect = move || store.collect(&BTreeSet::new(), unused_ms_min(&store), bytes_max);
            match tokio::task::spawn_blocking(collect).await {
                Ok(Ok(collected)) => collected.images,
                Ok(Err(error)) => {
                    warn!(error = %Chain(&error), "images not collected");
                    0
                }
                Err(_) => 0,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use image::{Hasher, PullerConfig, StoreConfig, Transport};
    use longshore_types::SystemClock;
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::watch;

    use super::*;

    /// A registry with one image, which answers nothing about its layer before it may.
    struct Registry {
        manifest: Vec<u8>,
        config: Vec<u8>,
        layer: Vec<u8>,
        asked: watch::Sender<bool>,
        open: watch::Sender<bool>,
    }

    impl Registry {
        fn new() -> Self {
            // No file: two blocks of zeros.
            let layer = vec![0; 1024];
            let digest = |bytes: &[u8]| Hasher::digest(bytes).to_string();
            let config = json!({"config": {},
                "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}});
            let config = config.to_string().into_bytes();
            let oci = "application/vnd.oci.image";
            let manifest = json!({"schemaVersion": 2, "mediaType": format!("{oci}.manifest.v1+json"),
                "config": {"mediaType": format!("{oci}.config.v1+json"), "digest": digest(&config),
                    "size": config.len()},
                "layers": [{"mediaType": format!("{oci}.layer.v1.tar"), "digest": digest(&layer),
                    "size": layer.len()}]});
            let (asked, open) = (watch::Sender::new(false), watch::Sender::new(false));
            Self { manifest: manifest.to_string().into_bytes(), config, layer, asked, open }
        }

        async fn answer(&self, mut stream: TcpStream) -> Option<()> {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.ok()?);
            }
            let head = String::from_utf8(head).ok()?;
            let (method, rest) = head.split_once(' ')?;
            let path = rest.split(' ').next()?;
            let body = match path {
                _ if path.ends_with(&Hasher::digest(&self.layer).to_string()) => {
                    self.asked.send_replace(true);
                    self.open.subscribe().wait_for(|open| *open).await.ok()?;
                    &self.layer
                }
                _ if path.ends_with(&Hasher::digest(&self.config).to_string()) => &self.config,
                _ => &self.manifest,
            };
            let kind = "application/vnd.oci.image.manifest.v1+json";
            let digest = Hasher::digest(body);
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nDocker-Content-Digest: {digest}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).await.ok()?;
            if method != "HEAD" {
                stream.write_all(body).await.ok()?;
            }
            stream.shutdown().await.ok()
        }
    }

    async fn serve(registry: Arc<Registry>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let registry = Arc::clone(&registry);
                tokio::spawn(async move { registry.answer(stream).await });
            }
        });
        address
    }

    #[tokio::test]
    async fn a_pull_that_everybody_left_is_in_no_others_way() {
        let registry = Arc::new(Registry::new());
        let address = serve(Arc::clone(&registry)).await;
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(StoreConfig::new(dir.path()), Arc::new(SystemClock)).unwrap();
        let config = image::ClientConfig {
            egress: image::Egress::anywhere(),
            plain_http: [address.to_string()].into_iter().collect(),
            ..image::ClientConfig::default()
        };
        let puller = Puller::new(store, Transport::new(config), PullerConfig::default());
        let images = StoreImages::new(puller);
        let reference: Reference = format!("{address}/web:1").parse().unwrap();
        let pull = |owner: &str| {
            images.pull(reference.clone(), Auth::none().owned_by(owner), Box::new(drop))
        };
        let mut asked = registry.asked.subscribe();
        tokio::select! {
            pulled = pull("one") => panic!("its layer came too early: {:?}", pulled.map(|it| it.digest)),
            _ = asked.wait_for(|asked| *asked) => {}
        }
        registry.open.send_replace(true);
        let patience = Duration::from_secs(20);
        let pulled =
            tokio::time::timeout(patience, pull("other")).await.expect("it is not held up");
        assert_eq!(pulled.unwrap().digest, Hasher::digest(&registry.manifest).to_string());
    }
}
