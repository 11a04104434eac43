//! A client's connection: served until it is idle, old, or told to end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use routing::{InterfaceRef, ListenerId};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::body::{AnswerBody, BodyError};
use super::handle;
use super::refusal::{self, Muted};
use crate::impatient::Impatient;
use crate::limits::{
    H2_HEAD_BYTES_MAX, H2_REQUESTS_MAX, H2_STREAMS_MAX, HEAD_BYTES_MAX, HEADERS_MAX,
};
use crate::listen::{Door, Users};
use crate::shared::{Phase, Shared};
use crate::tls::TlsFacts;

/// A connection of a client, and what its requests share.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) shared: Arc<Shared>,
    pub(crate) listener: ListenerId,
    /// None: the machine's own address.
    pub(crate) came_to: Option<InterfaceRef>,
    pub(crate) users: Users,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) tls: Option<TlsFacts>,
    pub(crate) is_h2: bool,
    /// `TID_…`, as logs name it.
    pub(crate) trace: String,
    opened: Instant,
    keep_alive: Duration,
    idle: Duration,
    requests: AtomicU64,
    open: AtomicU64,
    last_end_ms: AtomicU64,
}

/// How long a connection may live, and idle; fixed when it is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) keep_alive: Duration,
    pub(crate) idle: Duration,
}

impl Client {
    pub(crate) fn new(
        shared: Arc<Shared>,
        Door { listener, interface: came_to, users, .. }: Door,
        (peer, local): (SocketAddr, SocketAddr),
        tls: Option<TlsFacts>,
        times: Times,
    ) -> Self {
        let trace = shared.trace();
        let is_h2 = tls.as_ref().is_some_and(|tls| tls.is_h2);
        let (opened, Times { keep_alive, idle }) = (Instant::now(), times);
        let (requests, open, last_end_ms) =
            (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        Self {
            shared,
            listener,
            came_to,
            users,
            peer,
            local,
            tls,
            is_h2,
            trace,
            opened,
            keep_alive,
            idle,
            requests,
            open,
            last_end_ms,
        }
    }

    /// Whether the client is to be told that this answer is the last on its connection.
    pub(crate) fn is_last(&self) -> bool {
        self.shared.is_closing() || self.opened.elapsed() >= self.keep_alive
    }

    fn age_ms(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether an HTTP/2 connection is to be told to go away.
    fn is_over(&self) -> bool {
        let idle_ms = self.age_ms().saturating_sub(self.last_end_ms.load(Relaxed));
        let is_idle = self.open.load(Relaxed) == 0 && idle_ms >= ms(self.idle);
        is_idle
            || self.is_leaving()
            || self.is_last()
            || self.requests.load(Relaxed) >= H2_REQUESTS_MAX
    }

    /// Whether the interface that it came to is about to go.
    fn is_leaving(&self) -> bool {
        let snapshot = self.shared.snapshot.borrow();
        let live = snapshot.listeners.get(&self.listener);
        live.is_some_and(|live| live.balancer.is_leaving(self.came_to.as_ref()))
    }

    /// How many requests there were, if the answer of each is written.
    pub(super) fn answered(&self) -> Option<u64> {
        (self.open.load(Relaxed) == 0).then(|| self.requests.load(Relaxed))
    }

    /// Counts a request as open until the value is dropped.
    fn opens(self: &Arc<Self>) -> Open {
        self.requests.fetch_add(1, Relaxed);
        self.open.fetch_add(1, Relaxed);
        Open(Arc::clone(self))
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

struct Open(Arc<Client>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.last_end_ms.store(self.0.age_ms(), Relaxed);
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// An answer's body, with which its request is open.
struct Held {
    body: AnswerBody,
    _open: Open,
}

impl Body for Held {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Serves a connection until it ends.
pub(crate) async fn serve<S>(client: Client, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let client = Arc::new(client);
    let stream = Impatient::new(stream, client.idle);
    if client.is_h2 { serve_h2(client, stream).await } else { serve_h1(client, stream).await }
}

async fn serve_h1<S>(client: Arc<Client>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(client.idle)
        .max_buf_size(HEAD_BYTES_MAX * 2)
        .max_header_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    let service = service_fn(|request| {
        let client = Arc::clone(&client);
        let open = client.opens();
        async move {
            let answer = handle::handle(&client, request).await;
            if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                // From here on what is written is not the parser's.
                client.open.fetch_add(1, Relaxed);
            }
            Ok::<_, Infallible>(answer.map(|body| Held { body, _open: open }))
        }
    });
    let stream = Muted::new(stream, Arc::clone(&client));
    let mut connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut ended = tokio::select! {
        ended = &mut connection => Some(ended),
        () = client.shared.until(Phase::HandedOver) => None,
    };
    if ended.is_none() {
        // A kept connection is closed with its next answer, which says so: closed while it is idle, it could
        // cross with a request that is on its way.
        ended = tokio::select! {
            ended = &mut connection => Some(ended),
            () = client.shared.idle_grace() => None,
        };
    }
    if ended.is_none() {
        Pin::new(&mut connection).graceful_shutdown();
        ended = tokio::select! {
            ended = &mut connection => Some(ended),
            () = client.shared.until(Phase::Over) => None,
        };
    }
    // What else went wrong on it concerns the client alone, who knows.
    let Some(Err(error)) = ended else { return };
    if (error.is_parse() || error.is_timeout())
        && let Some(parts) = connection.into_parts()
        && let Some(why) = refusal::why(&error, &parts.read_buf)
    {
        Box::pin(refusal::refuse(&client, parts.io.into_inner().opened(), why)).await;
    }
}

async fn serve_h2<S>(client: Arc<Client>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS_MAX)
        .max_header_list_size(u32::try_from(H2_HEAD_BYTES_MAX).unwrap_or(u32::MAX));
    let service = service_fn(|request| {
        let client = Arc::clone(&client);
        let open = client.opens();
        async move {
            let _open = open;
            Ok::<_, Infallible>(handle::handle(&client, request).await)
        }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    loop {
        let look = client.idle.min(Duration::from_secs(1));
        tokio::select! {
            _ = &mut connection => return,
            () = client.shared.until(Phase::HandedOver) => break,
            () = tokio::time::sleep(look) => if client.is_over() { break },
        }
    }
    connection.as_mut().graceful_shutdown();
    let is_closing = client.shared.is_closing();
    tokio::select! {
        _ = connection => {}
        () = client.shared.until(Phase::Over) => {}
        () = tokio::time::sleep(client.keep_alive), if !is_closing => {}
    }
}
