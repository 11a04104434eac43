//! A registry on a real port, and a client that shows what it answers.

use std::path::Path;
use std::sync::Arc;

use aws_wire::Origin;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use image::Digest;
use longshore_types::{OsIds, SystemClock};
use registry::memory::{MemoryCatalog, NumberAuthorizer};
use registry::{Parts, Registry, Repository};

pub(crate) type TestRegistry = Registry<MemoryCatalog, NumberAuthorizer>;

pub(crate) const ACCOUNT: &str = "123456789012";
pub(crate) const OTHER: &str = "210987654321";

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) registry: Arc<TestRegistry>,
    pub(crate) host: String,
    client: Client<HttpConnector, Full<Bytes>>,
    serving: tokio::task::JoinHandle<()>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the answer is JSON")
    }

    pub(crate) fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
    }
}

pub(crate) fn repository(account: &str, name: &str) -> Repository {
    Repository {
        account: account.parse().expect("an account"),
        name: name.parse().expect("a name"),
    }
}

pub(crate) fn open(dir: &Path, catalog: MemoryCatalog) -> TestRegistry {
    let parts = Parts {
        dir: dir.to_owned(),
        catalog,
        authorizer: NumberAuthorizer,
        clock: Arc::new(SystemClock),
        ids: Arc::new(OsIds),
    };
    Registry::open(parts).expect("an empty directory is a registry")
}

async fn serve(registry: Arc<TestRegistry>, listener: tokio::net::TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let registry = Arc::clone(&registry);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let registry = Arc::clone(&registry);
                async move {
                    Ok::<_, std::convert::Infallible>(
                        registry.handle(request, &Origin::default()).await,
                    )
                }
            });
            let http = hyper::server::conn::http1::Builder::new();
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl World {
    /// A registry with the repositories `web` and `api`, and `fixed`, whose tags don't move.
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let catalog = MemoryCatalog::default();
        for (account, name) in
            [(ACCOUNT, "web"), (ACCOUNT, "api"), (ACCOUNT, "team/app"), (OTHER, "web")]
        {
            catalog.create(repository(account, name), false);
        }
        catalog.create(repository(ACCOUNT, "fixed"), true);
        let registry = Arc::new(open(dir.path(), catalog));
        Self::serve(dir, registry).await
    }

    async fn serve(dir: tempfile::TempDir, registry: Arc<TestRegistry>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let host = listener.local_addr().expect("it is bound").to_string();
        let serving = tokio::spawn(serve(Arc::clone(&registry), listener));
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { dir, registry, host, client, serving }
    }

    /// Another process on the same directory. The catalog is asked anew for its repositories.
    pub(crate) async fn restart(self) -> Self {
        self.serving.abort();
        drop(self.registry);
        let catalog = MemoryCatalog::default();
        catalog.create(repository(ACCOUNT, "web"), false);
        let registry = Arc::new(open(self.dir.path(), catalog));
        Self::serve(self.dir, registry).await
    }

    /// Serves nobody any more.
    pub(crate) fn stop(&self) {
        self.serving.abort();
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Got {
        let answer = self.client.request(request).await.expect("the registry answers");
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.expect("the answer is whole").to_bytes();
        Got { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn ask_as(
        &self,
        account: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Got {
        use base64::Engine as _;
        let login = base64::engine::general_purpose::STANDARD.encode(format!("AWS:{account}"));
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.host))
            .header("authorization", format!("Basic {login}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Full::new(body.into())).expect("a request")).await
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Got {
        self.ask_as(ACCOUNT, method, path, &[], body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Got {
        self.ask(Method::GET, path, "").await
    }

    /// Uploads a blob into `name` in one request.
    pub(crate) async fn push_blob(&self, name: &str, bytes: &[u8]) -> Digest {
        let digest = image::Hasher::digest(bytes);
        let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        let got = self.ask(Method::POST, &path, bytes.to_vec()).await;
        assert_eq!(got.status, StatusCode::CREATED, "{got:?}");
        digest
    }

    /// Puts a manifest with one layer, and answers what was said to it.
    pub(crate) async fn push_image(&self, name: &str, tag: &str, layer: &[u8]) -> (Digest, Got) {
        let config = self.push_blob(name, b"{\"rootfs\":{}}").await;
        let layer = self.push_blob(name, layer).await;
        let manifest = manifest(&config, &layer, "");
        self.put_manifest(name, tag, &manifest).await
    }

    pub(crate) async fn put_manifest(
        &self,
        name: &str,
        tag: &str,
        manifest: &str,
    ) -> (Digest, Got) {
        let path = format!("/v2/{name}/manifests/{tag}");
        let kind = [("content-type", image::manifest::OCI_MANIFEST)];
        let got = self.ask_as(ACCOUNT, Method::PUT, &path, &kind, manifest.to_owned()).await;
        (image::Hasher::digest(manifest.as_bytes()), got)
    }
}

/// A manifest with one layer; `more` goes between its members.
pub(crate) fn manifest(config: &Digest, layer: &Digest, more: &str) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}",{more}"config":{{"mediaType":"{}","digest":"{config}","size":13}},"layers":[{{"mediaType":"{}","digest":"{layer}","size":5}}]}}"#,
        image::manifest::OCI_MANIFEST,
        image::manifest::OCI_CONFIG,
        image::manifest::OCI_LAYER,
    )
}
