//! A blob of a hundred megabytes, pushed and pulled, beside Debian's docker-registry.

use std::io;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::client::Connection;
use crate::report::{Report, percentile};
use crate::world::World;

const BLOB_BYTES: usize = 100_000_000;
const ROUNDS: u8 = 5;

pub(crate) async fn push_and_pull(world: &World, report: &mut Report) -> io::Result<()> {
    let mut api = Connection::open(&world.target).await?;
    api.call(
        "ecr",
        "AmazonEC2ContainerRegistry_V20150921.CreateRepository",
        b"{\"repositoryName\":\"load\"}",
    )
    .await?;
    let answer = api
        .call("ecr", "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken", b"{}")
        .await?;
    let answer: serde_json::Value = serde_json::from_slice(&answer)?;
    let token = answer["authorizationData"][0]["authorizationToken"].as_str().unwrap_or_default();
    let ours = rounds(&world.target.host, &format!("authorization: Basic {token}\r\n")).await?;
    let theirs = docker_registry(world).await;
    let (push, pull) = match &theirs {
        Ok((push, pull)) => {
            (format!("docker-registry {push:.0} ms"), format!("docker-registry {pull:.2} GB/s"))
        }
        Err(why) => (why.to_string(), why.to_string()),
    };
    report.add(
        "registry: push of a 100 MB blob, p50",
        "≤ 250 ms",
        format!("{:.0} ms", ours.0),
        push,
    );
    report.add(
        "registry: pull rate of a 100 MB blob, p50",
        "≥ 1.5 GB/s",
        format!("{:.2} GB/s", ours.1),
        pull,
    );
    Ok(())
}

async fn docker_registry(world: &World) -> io::Result<(f64, f64)> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let host = format!("127.0.0.1:{port}");
    let folder = world.folder.path().join("peer-registry");
    std::fs::create_dir_all(&folder)?;
    let config = folder.join("config.yml");
    let text = format!(
        "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {host}\n",
        folder.display()
    );
    std::fs::write(&config, text)?;
    let mut peer: Child = Command::new("docker-registry")
        .arg("serve")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|_| io::Error::other("absent: docker-registry"))?;
    let mut result = Err(io::Error::other("docker-registry did not start"));
    for _ in 0..100 {
        if TcpStream::connect(&host).await.is_ok() {
            result = rounds(&host, "").await;
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    peer.kill()?;
    peer.wait()?;
    result
}

/// Milliseconds of a push and GB/s of a pull, each the median.
async fn rounds(host: &str, headers: &str) -> io::Result<(f64, f64)> {
    let (mut pushes, mut pulls) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let mut blob = vec![round; BLOB_BYTES];
        blob[..8].copy_from_slice(&u64::from(std::process::id()).to_le_bytes());
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(&blob)));
        let begun = Instant::now();
        push(host, headers, &digest, &blob).await?;
        pushes.push(begun.elapsed().as_secs_f64() * 1e3);
        let begun = Instant::now();
        pull(host, headers, &digest, BLOB_BYTES).await?;
        #[expect(clippy::cast_precision_loss, reason = "a size in bytes")]
        pulls.push(BLOB_BYTES as f64 / 1e9 / begun.elapsed().as_secs_f64());
    }
    Ok((percentile(&mut pushes, 0.5), percentile(&mut pulls, 0.5)))
}

async fn push(host: &str, headers: &str, digest: &str, blob: &[u8]) -> io::Result<()> {
    let mut stream = TcpStream::connect(host).await?;
    let request = format!(
        "POST /v2/load/blobs/uploads/ HTTP/1.1\r\nhost: {host}\r\n{headers}content-length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let head = read_head(&mut stream).await?.0;
    let place = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("location").then(|| value.trim().to_owned())
    });
    let place = place.ok_or_else(|| io::Error::other(format!("no location: {head}")))?;
    let path = place.find("/v2/").map_or(place.as_str(), |at| &place[at..]);
    let joint = if path.contains('?') { '&' } else { '?' };
    let request = format!(
        "PUT {path}{joint}digest={digest} HTTP/1.1\r\nhost: {host}\r\n{headers}\
         content-type: application/octet-stream\r\ncontent-length: {}\r\n\r\n",
        blob.len()
    );
    stream.write_all(request.as_bytes()).await?;
    stream.write_all(blob).await?;
    let head = read_head(&mut stream).await?.0;
    if head.contains(" 201 ") { Ok(()) } else { Err(io::Error::other(head)) }
}

async fn pull(host: &str, headers: &str, digest: &str, size: usize) -> io::Result<()> {
    let mut stream = TcpStream::connect(host).await?;
    let request = format!("GET /v2/load/blobs/{digest} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let (head, mut have) = read_head(&mut stream).await?;
    if !head.contains(" 200 ") {
        return Err(io::Error::other(head));
    }
    let mut buffer = vec![0; 1 << 20];
    while have < size {
        match stream.read(&mut buffer).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => have += read,
        }
    }
    Ok(())
}

/// An answer's head, and how many bytes of its body came with it.
async fn read_head(stream: &mut TcpStream) -> io::Result<(String, usize)> {
    let mut bytes = Vec::with_capacity(64 << 10);
    loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            return Ok((String::from_utf8_lossy(&bytes[..at]).into_owned(), bytes.len() - at - 4));
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
