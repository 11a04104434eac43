//! 100 MB pushed and pulled over loopback, as a client sees it: until the registry has synced and
//! acknowledged, until the last byte has arrived.
#![allow(clippy::disallowed_methods, reason = "what runs beside it ends with the process")]
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench")]

use std::convert::Infallible;
use std::sync::Arc;

use aws_wire::Origin;
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use image::{Digest, Hasher};
use longshore_types::{OsIds, SystemClock};
use registry::memory::{MemoryCatalog, NumberAuthorizer};
use registry::{Parts, Registry, Repository};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const BYTES: usize = 100_000_000;
/// base64 of `AWS:123456789012`
const LOGIN: &str = "authorization: Basic QVdTOjEyMzQ1Njc4OTAxMg==\r\nhost: x\r\n";

async fn serve(registry: Arc<Registry<MemoryCatalog, NumberAuthorizer>>, listener: TcpListener) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let registry = Arc::clone(&registry);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let registry = Arc::clone(&registry);
                async move { Ok::<_, Infallible>(registry.handle(request, &Origin::default()).await) }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            http.max_buf_size(1 << 20);
            let stream = hyper_util::rt::TokioIo::new(stream);
            let _ = http.serve_connection(stream, service).await;
        });
    }
}

/// Sends a head and a body, and gives the answer's head.
async fn exchange(stream: &mut TcpStream, head: String, body: &[u8]) -> String {
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(answer).unwrap()
}

async fn push(stream: &mut TcpStream, body: &[u8], digest: &Digest) {
    let head = format!(
        "POST /v2/web/blobs/uploads/?digest={digest} HTTP/1.1\r\n{LOGIN}content-length: {}\r\n\r\n",
        body.len()
    );
    let answer = exchange(stream, head, body).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

async fn pull(stream: &mut TcpStream, digest: &Digest, buffer: &mut [u8]) {
    let head = format!("GET /v2/web/blobs/{digest} HTTP/1.1\r\n{LOGIN}\r\n");
    let answer = exchange(stream, head, b"").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let mut left = BYTES;
    while left > 0 {
        let want = buffer.len().min(left);
        let count = stream.read(&mut buffer[..want]).await.unwrap();
        assert!(count > 0, "the registry hung up");
        left -= count;
    }
}

fn transfer(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let catalog = MemoryCatalog::default();
    let account = "123456789012".parse().unwrap();
    catalog.create(Repository { account, name: "web".parse().unwrap() }, false);
    let registry = Registry::open(Parts {
        dir: dir.path().to_owned(),
        catalog,
        authorizer: NumberAuthorizer,
        clock: Arc::new(SystemClock),
        ids: Arc::new(OsIds),
    });
    let registry = Arc::new(registry.unwrap());
    let body: Bytes = (0..BYTES).map(|n| u8::try_from((n ^ (n >> 8)) & 255).unwrap()).collect();
    let digest = Hasher::digest(&body);
    let mut stream = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(registry, listener));
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    });
    let mut group = criterion.benchmark_group("registry");
    group.sample_size(10).throughput(Throughput::Bytes(BYTES as u64));
    group.bench_function("push 100 MB", |bencher| {
        bencher.iter(|| runtime.block_on(push(&mut stream, &body, &digest)));
    });
    let mut buffer = vec![0; 512 << 10];
    group.bench_function("pull 100 MB", |bencher| {
        bencher.iter(|| runtime.block_on(pull(&mut stream, &digest, &mut buffer)));
    });
    group.finish();
}

criterion_group!(benches, transfer);
criterion_main!(benches);
