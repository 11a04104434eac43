//! Signed requests while thousands of unsigned callers hold on to what they can get.

use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::client::Connection;
use crate::report::{Report, percentile};
use crate::world::World;

const SOCKETS: usize = 10_000;
/// Files that this process opens beside them.
const OTHER_FILES: usize = 200;
/// How long the signed requests are measured.
const WINDOW: Duration = Duration::from_secs(5);
const TARGET: &str = "AmazonEC2ContainerServiceV20141113.ListClusters";

/// What an unsigned caller sends, and what it goes on sending.
const KINDS: [(&str, &str); 6] = [
    ("", ""),
    (
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 33554432\r\nx-amz-target: AmazonEC2ContainerRegistry_V20150921.UploadLayerPart\r\n\r\n",
        "",
    ),
    (
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\nx-amz-target: AmazonEC2ContainerServiceV20141113.ListClusters\r\n\r\n",
        "",
    ),
    (
        "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nx-amz-target: AmazonEC2ContainerServiceV20141113.ListClusters\r\n\r\n",
        "1\r\n \r\n",
    ),
    ("POST / HTTP/1.1\r\nhost: x\r\n", "a: b\r\n"),
    ("PATCH /v2/a/blobs/uploads/x HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n", "x"),
];

pub(crate) async fn signed_requests(world: &World, report: &mut Report) -> io::Result<()> {
    let quiet = measure(world).await?;
    raise_open_files(SOCKETS + OTHER_FILES);
    let mut held = Vec::with_capacity(SOCKETS);
    for number in 0..SOCKETS {
        let (first, more) = KINDS[number % KINDS.len()];
        let mut stream = TcpStream::connect(&world.target.host).await?;
        let _ = stream.write_all(first.as_bytes()).await;
        held.push((stream, more));
    }
    let holding = tokio::spawn(async move {
        loop {
            for (stream, more) in &held {
                let _ = stream.try_write(more.as_bytes());
            }
            sleep(Duration::from_millis(100)).await;
        }
    });
    let held = measure(world).await;
    holding.abort();
    let (kept, fresh) = held?;
    let what = format!("signed requests beside {SOCKETS} who hold on, p99");
    let ours = format!("{kept:.1} ms, {fresh:.1} ms on a new connection");
    let peers = format!("without them {:.1} ms, {:.1} ms", quiet.0, quiet.1);
    report.add(what, "≤ 50 ms", ours, peers);
    Ok(())
}

/// The 99th percentile in milliseconds: over one connection, and over a new one each time.
async fn measure(world: &World) -> io::Result<(f64, f64)> {
    let mut connection = Connection::open(&world.target).await?;
    let (mut kept, mut fresh) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    while begun.elapsed() < WINDOW {
        let asked = Instant::now();
        connection.call("ecs", TARGET, b"{}").await?;
        kept.push(asked.elapsed().as_secs_f64() * 1e3);
        let asked = Instant::now();
        Connection::open(&world.target).await?.call("ecs", TARGET, b"{}").await?;
        fresh.push(asked.elapsed().as_secs_f64() * 1e3);
        sleep(Duration::from_millis(2)).await;
    }
    Ok((percentile(&mut kept, 0.99), percentile(&mut fresh, 0.99)))
}

/// By `prlimit`, which every Linux has, since this crate calls nothing that is unsafe.
pub(crate) fn raise_open_files(files: usize) {
    let files = files.to_string();
    let pid = std::process::id().to_string();
    let limit = format!("--nofile={files}:");
    let raised = std::process::Command::new("prlimit").args(["--pid", &pid, &limit]).status();
    if !raised.is_ok_and(|status| status.success()) {
        eprintln!("bench: this process may not open {files} files");
    }
}
