//! A registry elsewhere, as small as one can be: what it gives is what a test put there, and it remembers what it was
//! asked.

#![allow(clippy::disallowed_methods, reason = "it ends with its test")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use image::Hasher;
use longshore_types::Digest;
use serde_json::json;

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[derive(Debug, Default)]
struct State {
    /// Content type and bytes, by path.
    gives: BTreeMap<String, (&'static str, Vec<u8>)>,
    asked: Vec<String>,
    /// What it answers instead of all that it has.
    fails_with: Option<StatusCode>,
}

#[derive(Debug)]
pub(crate) struct FakeUpstream {
    /// `127.0.0.1:1234`
    pub(crate) host: String,
    state: Mutex<State>,
}

/// One of an image's manifests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Put {
    pub(crate) digest: Digest,
    pub(crate) layer: Digest,
    size: usize,
}

impl FakeUpstream {
    pub(crate) async fn new() -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let upstream = Arc::new(Self { host, state: Mutex::default() });
        let serving = Arc::downgrade(&upstream);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Some(upstream) = serving.upgrade() else { return };
                let service = hyper::service::service_fn(move |request| {
                    let upstream = Arc::clone(&upstream);
                    async move { Ok::<_, Infallible>(upstream.answer(&request)) }
                });
                tokio::spawn(async move {
                    let http = hyper::server::conn::http1::Builder::new();
                    http.serve_connection(TokioIo::new(stream), service).await.ok();
                });
            }
        });
        upstream
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let mut state = self.state();
        let path = request.uri().path().to_owned();
        state.asked.push(format!("{} {path}", request.method()));
        if let Some(status) = state.fails_with {
            return Response::builder().status(status).body(Full::default()).unwrap();
        }
        match state.gives.get(&path) {
            None => Response::builder().status(404).body(Full::default()).unwrap(),
            Some((kind, bytes)) => Response::builder()
                .header("content-type", *kind)
                .header("docker-content-digest", Hasher::digest(bytes).to_string())
                .body(Full::from(bytes.clone()))
                .unwrap(),
        }
    }

    /// What it was asked since the last time that somebody asked this.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state().asked)
    }

    pub(crate) fn fails_with(&self, status: Option<StatusCode>) {
        self.state().fails_with = status;
    }

    fn put(&self, path: String, kind: &'static str, bytes: &[u8]) {
        self.state().gives.insert(path, (kind, bytes.to_vec()));
    }

    /// Gives other bytes where a blob is asked for.
    pub(crate) fn damage(&self, name: &str, blob: &Digest, bytes: &[u8]) {
        self.put(format!("/v2/{name}/blobs/{blob}"), "application/octet-stream", bytes);
    }

    fn manifest(&self, name: &str, tag: Option<&str>, kind: &'static str, bytes: &[u8]) -> Digest {
        let digest = Hasher::digest(bytes);
        self.put(format!("/v2/{name}/manifests/{digest}"), kind, bytes);
        if let Some(tag) = tag {
            self.put(format!("/v2/{name}/manifests/{tag}"), kind, bytes);
        }
        digest
    }

    /// Puts an image of one layer.
    pub(crate) fn image(&self, name: &str, tag: Option<&str>, layer: &str) -> Put {
        let config = json!({ "architecture": "amd64", "os": "linux", "layer": layer }).to_string();
        let blob = |bytes: &[u8]| {
            let digest = Hasher::digest(bytes);
            self.damage(name, &digest, bytes);
            (digest, bytes.len())
        };
        let (config, layer) = (blob(config.as_bytes()), blob(layer.as_bytes()));
        let describe = |kind: &str, (digest, size): (Digest, usize)| {
            json!({
                "mediaType": format!("application/vnd.oci.image.{kind}"),
                "digest": digest.to_string(), "size": size,
            })
        };
        let manifest = json!({
            "schemaVersion": 2, "mediaType": IMAGE, "config": describe("config.v1+json", config),
            "layers": [describe("layer.v1.tar", layer)],
        })
        .to_string();
        let digest = self.manifest(name, tag, IMAGE, manifest.as_bytes());
        Put { digest, layer: layer.0, size: manifest.len() }
    }

    /// Puts a list of images.
    pub(crate) fn index(&self, name: &str, tag: &str, images: &[Put]) -> Digest {
        let each = |put: &Put| {
            json!({
                "mediaType": IMAGE, "digest": put.digest.to_string(), "size": put.size,
                "platform": { "architecture": "amd64", "os": "linux" },
            })
        };
        let manifests: Vec<_> = images.iter().map(each).collect();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        self.manifest(name, Some(tag), INDEX, index.to_string().as_bytes())
    }
}
