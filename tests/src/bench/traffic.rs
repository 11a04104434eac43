//! Requests of a load generator: kept-alive, by HTTP/2, with a handshake each, and paced.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsConnector;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
/// After so long a request counts as lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests a second of a paced load.
pub(crate) const PACE: usize = 2_000;
/// Who share the pace: half keep their connection, half do not.
const WALKERS: usize = 100;

/// What became of requests.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// How long each took that was answered with 200.
    pub(crate) seconds: Vec<f64>,
    /// Those that were answered otherwise, or not.
    pub(crate) lost: usize,
}

impl Seen {
    fn add(&mut self, other: Self) {
        self.seconds.extend(other.seconds);
        self.lost += other.lost;
    }

    fn note(&mut self, began: Instant, outcome: io::Result<u16>) {
        match outcome {
            Ok(200) => self.seconds.push(began.elapsed().as_secs_f64()),
            Ok(_) | Err(_) => self.lost += 1,
        }
    }
}

/// One HTTP/1.1 exchange; the status, once the whole body came, and whether the connection may be used again.
async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
) -> io::Result<(u16, bool)> {
    stream.write_all(REQUEST).await?;
    buffer.clear();
    let head_end = loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8_lossy(&buffer[..head_end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    while buffer.len() < head_end + length {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok((status, !head.contains("connection: close")))
}

async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Whether the other side has not closed it.
pub(crate) fn is_open(stream: &TcpStream) -> bool {
    let mut byte = [0];
    matches!(stream.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Waits until a request is answered with 200.
pub(crate) async fn until_answered(port: u16, patience: Duration) -> io::Result<()> {
    let end = Instant::now() + patience;
    let mut buffer = Vec::new();
    while Instant::now() < end {
        if let Ok(mut stream) = connect("127.0.0.1", port).await
            && let Ok(Ok((200, _))) = timeout(PATIENCE, exchange(&mut stream, &mut buffer)).await
        {
            return Ok(());
        }
        sleep(Duration::from_millis(50)).await;
    }
    Err(io::Error::other(format!("no answer at port {port} in time")))
}

/// Requests one after the other on each of some connections to this machine.
pub(crate) async fn kept(port: u16, connections: usize, window: Duration) -> io::Result<Seen> {
    kept_by("127.0.0.1", port, connections, window).await
}

/// The same to a task.
pub(crate) async fn kept_at(host: &str, connections: usize, window: Duration) -> io::Result<Seen> {
    kept_by(host, 8080, connections, window).await
}

async fn kept_by(host: &str, port: u16, connections: usize, window: Duration) -> io::Result<Seen> {
    let mut streams = Vec::new();
    for _ in 0..connections {
        streams.push(connect(host, port).await?);
    }
    let end = Instant::now() + window;
    let mut running = JoinSet::new();
    for mut stream in streams {
        running.spawn(async move {
            let (mut seen, mut buffer) = (Seen::default(), Vec::new());
            while Instant::now() < end {
                let began = Instant::now();
                let outcome = exchange(&mut stream, &mut buffer).await;
                let is_over = outcome.is_err();
                seen.note(began, outcome.map(|(status, _)| status));
                if is_over {
                    break;
                }
            }
            seen
        });
    }
    all(running).await
}

async fn all(mut running: JoinSet<Seen>) -> io::Result<Seen> {
    let mut seen = Seen::default();
    while let Some(each) = running.join_next().await {
        seen.add(each.map_err(io::Error::other)?);
    }
    Ok(seen)
}

/// A client's side of TLS that trusts one certificate.
fn tls(pem: &str, protocol: &[u8]) -> io::Result<TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(io::Error::other)?;
    roots.add(certificate).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(io::Error::other)?.with_root_certificates(roots);
    let mut config = config.with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    // Each handshake is a whole one.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").expect("a name")
}

/// A new connection with a handshake and one request, again and again.
pub(crate) async fn handshakes(
    port: u16,
    pem: &str,
    clients: usize,
    window: Duration,
) -> io::Result<Seen> {
    let connector = tls(pem, b"http/1.1")?;
    let end = Instant::now() + window;
    let mut running = JoinSet::new();
    for _ in 0..clients {
        let connector = connector.clone();
        running.spawn(async move {
            let (mut seen, mut buffer) = (Seen::default(), Vec::new());
            while Instant::now() < end {
                let began = Instant::now();
                let outcome = async {
                    let stream = connect("127.0.0.1", port).await?;
                    let mut stream = connector.connect(localhost(), stream).await?;
                    exchange(&mut stream, &mut buffer).await
                };
                seen.note(began, outcome.await.map(|(status, _)| status));
            }
            seen
        });
    }
    all(running).await
}

/// The one HTTP/2 connection that streams share, and the next once a server has ended it, as each does after so many
/// requests.
struct Shared {
    port: u16,
    connector: TlsConnector,
    /// The connection that is there, and how many there were before it.
    current: tokio::sync::Mutex<(usize, Option<http2::SendRequest<Empty<Bytes>>>)>,
}

impl Shared {
    /// The connection that follows `over`, if there was one.
    async fn after(
        &self,
        over: Option<usize>,
    ) -> io::Result<(usize, http2::SendRequest<Empty<Bytes>>)> {
        let mut current = self.current.lock().await;
        if let (number, Some(sender)) = &*current
            && over.is_none_or(|over| over < *number)
            && !sender.is_closed()
        {
            return Ok((*number, sender.clone()));
        }
        let stream = connect("127.0.0.1", self.port).await?;
        let stream = self.connector.connect(localhost(), stream).await?;
        let made = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = made.map_err(io::Error::other)?;
        // It ends when nobody has a sender any more.
        tokio::spawn(connection);
        let number = current.0 + 1;
        *current = (number, Some(sender.clone()));
        Ok((number, sender))
    }
}

/// One request of a stream; its status, once the whole body came.
async fn ask(sender: &mut http2::SendRequest<Empty<Bytes>>) -> io::Result<u16> {
    sender.ready().await.map_err(io::Error::other)?;
    let request = Request::get("https://localhost/").body(Empty::<Bytes>::new());
    let request = request.map_err(io::Error::other)?;
    let answer = sender.send_request(request).await.map_err(io::Error::other)?;
    let status = answer.status().as_u16();
    answer.into_body().collect().await.map_err(io::Error::other)?;
    Ok(status)
}

/// Requests one after the other on each of some streams of one HTTP/2 connection. A request that the connection's end
/// cut off is sent once more, by the next.
pub(crate) async fn streams(
    port: u16,
    pem: &str,
    streams: usize,
    window: Duration,
) -> io::Result<Seen> {
    let shared = Arc::new(Shared {
        port,
        connector: tls(pem, b"h2")?,
        current: tokio::sync::Mutex::default(),
    });
    let end = Instant::now() + window;
    let mut running = JoinSet::new();
    for _ in 0..streams {
        let shared = Arc::clone(&shared);
        running.spawn(async move {
            let mut seen = Seen::default();
            let mut held = None;
            while Instant::now() < end {
                let began = Instant::now();
                let outcome = async {
                    let (number, mut sender) = match held.take() {
                        Some(held) => held,
                        None => shared.after(None).await?,
                    };
                    if let Ok(status) = ask(&mut sender).await {
                        held = Some((number, sender));
                        return Ok(status);
                    }
                    let (number, mut sender) = shared.after(Some(number)).await?;
                    let status = ask(&mut sender).await?;
                    held = Some((number, sender));
                    Ok(status)
                };
                seen.note(began, outcome.await);
            }
            seen
        });
    }
    all(running).await
}

/// A load at a steady pace until it is ended.
#[derive(Debug)]
pub(crate) struct Paced {
    is_over: Arc<AtomicBool>,
    running: JoinSet<Seen>,
}

impl Paced {
    pub(crate) fn start(port: u16) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut running = JoinSet::new();
        let step = Duration::from_secs(1) * u32::try_from(WALKERS).unwrap_or(1)
            / u32::try_from(PACE).unwrap_or(1);
        for number in 0..WALKERS {
            let is_over = Arc::clone(&is_over);
            running.spawn(async move {
                let mut seen = Seen::default();
                let mut kept = None;
                let mut next = Instant::now() + step * u32::try_from(number).unwrap_or(0) / 100;
                let mut buffer = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    sleep_until(next).await;
                    // What could not be sent in time is not sent later: the pace is a most.
                    next = (next + step).max(Instant::now());
                    let began = Instant::now();
                    let outcome = timeout(PATIENCE, walk(port, &mut kept, &mut buffer)).await;
                    if number % 2 == 1 {
                        kept = None;
                    }
                    seen.note(began, outcome.unwrap_or_else(|late| Err(late.into())));
                }
                seen
            });
        }
        Self { is_over, running }
    }

    pub(crate) async fn end(self) -> io::Result<Seen> {
        self.is_over.store(true, Ordering::Relaxed);
        all(self.running).await
    }
}

/// One request, on the kept connection if there is one. A connection that was closed between two requests is no loss: the
/// next goes by a new one. One that is closed once the request was sent is.
async fn walk(port: u16, kept: &mut Option<TcpStream>, buffer: &mut Vec<u8>) -> io::Result<u16> {
    if let Some(mut stream) = kept.take().filter(is_open) {
        let (status, goes_on) = exchange(&mut stream, buffer).await?;
        *kept = goes_on.then_some(stream);
        return Ok(status);
    }
    let mut stream = connect("127.0.0.1", port).await?;
    let (status, goes_on) = exchange(&mut stream, buffer).await?;
    *kept = goes_on.then_some(stream);
    Ok(status)
}
