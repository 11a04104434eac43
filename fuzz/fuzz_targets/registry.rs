//! Any method, path, query and headers at a registry with one account's repository: never our fault, and never another's blob.

#![no_main]

use std::sync::{Arc, LazyLock};

use aws_wire::Origin;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use libfuzzer_sys::fuzz_target;
use longshore_types::{OsIds, SystemClock};
use registry::memory::{MemoryCatalog, NumberAuthorizer};
use registry::{Parts, Registry};

type World =
    (tempfile::TempDir, Registry<MemoryCatalog, NumberAuthorizer>, tokio::runtime::Runtime);

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("secret"), "only the host may read this")
        .expect("it is written");
    let parts = Parts {
        dir: dir.path().join("registry"),
        catalog: MemoryCatalog::default(),
        authorizer: NumberAuthorizer,
        clock: Arc::new(SystemClock),
        ids: Arc::new(OsIds),
    };
    std::fs::create_dir_all(&parts.dir).expect("a directory");
    let registry = Registry::open(parts).expect("an empty directory is a registry");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    (dir, registry, runtime)
});

const METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::PUT,
    Method::POST,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

fuzz_target!(|data: &[u8]| {
    let Some((&which, rest)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(rest);
    let mut lines = text.splitn(4, '\n');
    let mut next = || lines.next().unwrap_or_default();
    let uri = format!("/v2/{}", next());
    let request = Request::builder()
        .method(&METHODS[usize::from(which & 7) % METHODS.len()])
        .uri(uri)
        .header("content-range", next())
        .header("content-type", next());
    // Basic `AWS:123456789012`, or nobody.
    let request = if which & 0x80 == 0 {
        request.header("authorization", "Basic QVdTOjEyMzQ1Njc4OTAxMg==")
    } else {
        request
    };
    let Ok(request) = request.body(Full::new(Bytes::from(next().to_owned()))) else { return };
    let (_, registry, runtime) = &*WORLD;
    runtime.block_on(async {
        let answer = registry.handle(request, &Origin::default()).await;
        assert!(answer.status().as_u16() < 500, "{}", answer.status());
        if let Ok(body) = answer.into_body().collect().await {
            let body = body.to_bytes();
            assert!(!body.windows(13).any(|window| window == b"only the host"));
        }
    });
});
