//! Thousands of callers that hold on to what they can get, and what signed callers see of it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::LIST;
use super::region_api::{Running, signed};
use super::wire::{self, Sent};

/// As many as the files of this process allow beside the listener's own.
const SOCKETS: usize = 10_000;
/// A signed request that was not answered by then is one that was not answered.
const ANSWER_MAX: Duration = Duration::from_secs(20);
const LAYER_PART: &str = "AmazonEC2ContainerRegistry_V20150921.UploadLayerPart";

/// What one of them sends before it is silent, or says ever more of.
struct Hold {
    first: Vec<u8>,
    /// Sent again and again.
    more: Option<&'static [u8]>,
}

fn kinds(address: SocketAddr) -> Vec<Hold> {
    let silent = |first: Vec<u8>| Hold { first, more: None };
    let part = || Sent::post("/").target(LAYER_PART);
    let chunked = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nx-amz-target: \
        AmazonEC2ContainerServiceV20141113.ListClusters\r\n\r\n";
    let mut some = signed("ecr").target(LAYER_PART).promising(address, 32 << 20);
    some.extend_from_slice(&[b' '; 8192]);
    vec![
        silent(vec![]),
        silent(part().promising(address, 32 << 20)),
        silent(Sent::post("/").target(LIST).promising(address, 4 << 20)),
        silent(Sent::post("/").target(LIST).promising(address, 60_000)),
        Hold { first: chunked.to_vec(), more: Some(b"1\r\n \r\n") },
        Hold { first: b"POST / HTTP/1.1\r\nhost: x\r\n".to_vec(), more: Some(b"a: b\r\n") },
        silent(signed("ecr").target(LAYER_PART).promising(address, 32 << 20)),
        silent(some),
        silent(b"GET /acs/ws HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\n".to_vec()),
        silent(b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n".to_vec()),
    ]
}

/// Opens all sockets, and goes on sending on those that do.
async fn hold(address: SocketAddr, open: tokio::sync::oneshot::Sender<()>) {
    let kinds = kinds(address);
    let mut streams = Vec::with_capacity(SOCKETS);
    for number in 0..SOCKETS {
        let kind = &kinds[number % kinds.len()];
        // One that is cut while it is being opened is as good as one that is cut later.
        let Ok(mut stream) = TcpStream::connect(address).await else { continue };
        let _ = stream.write_all(&kind.first).await;
        streams.push((stream, kind.more));
    }
    let _ = open.send(());
    loop {
        for (stream, more) in &mut streams {
            if let Some(more) = more {
                let _ = stream.try_write(more);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_who_hold_on_keep_no_signed_request_from_its_answer() {
    raise_open_files();
    let region = Running::start().await;
    let address = region.address;
    let (open, opened) = tokio::sync::oneshot::channel();
    let holding = tokio::spawn(hold(address, open));
    opened.await.unwrap();
    let mut asking = JoinSet::new();
    for number in 0..400_usize {
        let size = if number % 20 == 0 { 3 << 20 } else { number };
        let body = format!("{{\"nextToken\":\"{}\"}}", "x".repeat(size));
        let request = signed("ecs").target(LIST).body(&body);
        asking.spawn(async move {
            let answering = wire::try_send(address, &request);
            let got = tokio::time::timeout(ANSWER_MAX, answering).await;
            got.ok().flatten().map(|got| got.status)
        });
    }
    let answers = asking.join_all().await;
    let answered = answers.iter().filter(|status| **status == Some(200)).count();
    holding.abort();
    assert_eq!(answered, answers.len(), "of {} signed requests", answers.len());
}
