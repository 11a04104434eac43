//! A registry that answers whatever a test wants, and remembers what it was asked.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use image::manifest::{OCI_CONFIG, OCI_LAYER, OCI_MANIFEST};
use image::{Digest, Hasher};

pub(crate) type Answer = Response<Full<Bytes>>;

/// One request that was seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
}

impl Seen {
    pub(crate) fn authorization(&self) -> Option<&str> {
        self.headers.get("authorization").and_then(|value| value.to_str().ok())
    }
}

pub(crate) struct Fake {
    pub(crate) host: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    pub(crate) async fn new(answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (answer, told) = (Arc::new(answer), Arc::clone(&seen));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, told) = (Arc::clone(&answer), Arc::clone(&told));
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let seen = Seen {
                        method: request.method().clone(),
                        path: request.uri().to_string(),
                        headers: request.headers().clone(),
                    };
                    let answered = answer(&seen);
                    told.lock().unwrap().push(seen);
                    async move {
                        if answered.extensions().get::<Silence>().is_some() {
                            std::future::pending::<()>().await;
                        }
                        Ok::<_, std::convert::Infallible>(answered)
                    }
                });
                let http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(async move {
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { host, seen }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

pub(crate) fn status(code: u16) -> Answer {
    Response::builder().status(code).body(Full::default()).unwrap()
}

#[derive(Clone)]
struct Silence;

/// No answer at all.
pub(crate) fn silence() -> Answer {
    let mut answer = status(200);
    answer.extensions_mut().insert(Silence);
    answer
}

pub(crate) fn redirect(to: &str) -> Answer {
    Response::builder().status(307).header("location", to).body(Full::default()).unwrap()
}

pub(crate) fn challenge(text: &str) -> Answer {
    Response::builder().status(401).header("www-authenticate", text).body(Full::default()).unwrap()
}

pub(crate) fn content(bytes: impl Into<Bytes>) -> Answer {
    Response::new(Full::new(bytes.into()))
}

/// An image of one layer, whose configuration claims that the layer unpacks to `diff_id`.
pub(crate) struct Made {
    pub(crate) layer: Vec<u8>,
    pub(crate) config: String,
    pub(crate) manifest: String,
}

impl Made {
    pub(crate) fn new(layer: &[u8], diff_id: &Digest) -> Self {
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
        );
        let described = |kind: &str, bytes: &[u8]| {
            let (digest, size) = (Hasher::digest(bytes), bytes.len());
            format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size}}}"#)
        };
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{},"layers":[{}]}}"#,
            described(OCI_CONFIG, config.as_bytes()),
            described(OCI_LAYER, layer),
        );
        Self { layer: layer.to_owned(), config, manifest }
    }

    pub(crate) fn digest(&self) -> Digest {
        Hasher::digest(self.manifest.as_bytes())
    }

    /// Answers what an honest registry that has this image would; nothing of another.
    pub(crate) fn serve(&self, seen: &Seen) -> Answer {
        let parts: [&[u8]; 3] = [&self.layer, self.config.as_bytes(), self.manifest.as_bytes()];
        let named = |bytes: &&[u8]| seen.path.ends_with(&Hasher::digest(bytes).to_string());
        let found = parts.into_iter().find(|bytes| named(bytes));
        let found = found.or(seen.path.ends_with("/manifests/1").then_some(parts[2]));
        found.map_or_else(|| status(404), |bytes| content(bytes.to_vec()))
    }
}
