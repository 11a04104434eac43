//! Connections to one target: opened when wanted, kept for the next request, noticed when they end.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use crate::http::body::RequestBody;
use crate::limits::{
    ANSWER_HEAD_BYTES_MAX, CONNECT_WAIT_MAX, HEADERS_MAX, IDLE_CONNECTION_AGE_MAX,
    IDLE_CONNECTIONS_MAX,
};
use crate::target::{Lease, LiveTarget, until_cut};
use crate::tls::Meeting;

pub(crate) type Http1 = http1::SendRequest<RequestBody>;
pub(crate) type Http2 = http2::SendRequest<RequestBody>;

/// What is kept open to a target.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: Mutex<Vec<(Http1, Instant)>>,
    shared: Mutex<Option<Http2>>,
}

impl Pool {
    /// The connection used last, if there is one: whoever takes it waits until it is ready, which it is but for a moment.
    pub(crate) fn take(&self) -> Option<Http1> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((sender, since)) = idle.pop() {
            if since.elapsed() > IDLE_CONNECTION_AGE_MAX {
                // Those below are older still.
                idle.clear();
                return None;
            }
            if !sender.is_closed() {
                return Some(sender);
            }
        }
        None
    }

    pub(crate) fn put(&self, sender: Http1) {
        if sender.is_closed() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_CONNECTIONS_MAX {
            idle.push((sender, Instant::now()));
        }
    }

    pub(crate) fn clear(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Closes what was idle for too long.
    pub(crate) fn sweep(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(sender, since)| {
            !sender.is_closed() && since.elapsed() <= IDLE_CONNECTION_AGE_MAX
        });
    }

    pub(crate) fn shared(&self) -> Option<Http2> {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.clone().filter(|sender| !sender.is_closed())
    }

    pub(crate) fn share(&self, sender: Http2) {
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
    }
}

/// Why there is no connection to a target.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("failed to connect")]
    Refused(#[source] io::Error),
    #[error("connecting took too long")]
    TimedOut,
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
    #[error("the TLS handshake took too long")]
    TlsTimedOut,
    #[error("failed to begin HTTP")]
    Http(#[source] hyper::Error),
}

impl ConnectError {
    /// Whether the target was there, and no TLS was agreed with it. Who hangs up is not there: so does whoever stands in front
    /// of nobody.
    pub(crate) fn is_of_tls(&self) -> bool {
        match self {
            Self::Tls(error) => !matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
            ),
            Self::TlsTimedOut => true,
            Self::Refused(_) | Self::TimedOut | Self::Http(_) => false,
        }
    }
}

pub(crate) async fn tcp(target: &LiveTarget) -> Result<TcpStream, ConnectError> {
    let stream = timeout(CONNECT_WAIT_MAX, target.connect(target.address)).await;
    let stream = stream.map_err(|_| ConnectError::TimedOut)?.map_err(ConnectError::Refused)?;
    // It delays small writes only; without it they are late, and nothing else.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// TLS to a target.
pub(crate) async fn tls(
    stream: TcpStream,
    meeting: Meeting<'_>,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, ConnectError> {
    let address = stream.peer_addr().map_err(ConnectError::Tls)?;
    let by_address = || ServerName::IpAddress(address.ip().into());
    let name = meeting.name.cloned().unwrap_or_else(by_address);
    let shaken = TlsConnector::from(Arc::clone(meeting.config)).connect(name, stream);
    let shaken = timeout(CONNECT_WAIT_MAX, shaken).await;
    shaken.map_err(|_| ConnectError::TlsTimedOut)?.map_err(ConnectError::Tls)
}

/// A new HTTP/1.1 connection, driven until it ends or the target is cut.
pub(crate) async fn http1(
    lease: &Lease,
    meeting: Option<Meeting<'_>>,
) -> Result<Http1, ConnectError> {
    let stream = tcp(&lease.target).await?;
    match meeting {
        None => http1_over(stream, lease).await,
        Some(meeting) => http1_over(tls(stream, meeting).await?, lease).await,
    }
}

async fn http1_over<S>(stream: S, lease: &Lease) -> Result<Http1, ConnectError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_headers(HEADERS_MAX).max_header_size(ANSWER_HEAD_BYTES_MAX);
    let shaken = builder.handshake(TokioIo::new(stream)).await;
    let (sender, connection) = shaken.map_err(ConnectError::Http)?;
    let cut = lease.cut();
    #[expect(clippy::disallowed_methods, reason = "ends with its sender, its peer or the cut")]
    tokio::spawn(async move {
        tokio::select! {
            // What went wrong is said to whoever waits for an answer.
            _ = connection.with_upgrades() => {}
            () = until_cut(cut) => {}
        }
    });
    Ok(sender)
}

/// A new HTTP/2 connection: with TLS by ALPN, without it because the group says so.
pub(crate) async fn http2(
    lease: &Lease,
    meeting: Option<Meeting<'_>>,
) -> Result<Http2, ConnectError> {
    let stream = tcp(&lease.target).await?;
    match meeting {
        None => http2_over(stream, lease).await,
        Some(meeting) => http2_over(tls(stream, meeting).await?, lease).await,
    }
}

async fn http2_over<S>(stream: S, lease: &Lease) -> Result<Http2, ConnectError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new());
    builder.max_header_list_size(u32::try_from(ANSWER_HEAD_BYTES_MAX).unwrap_or(u32::MAX));
    let shaken = builder.handshake(TokioIo::new(stream)).await;
    let (sender, connection) = shaken.map_err(ConnectError::Http)?;
    let cut = lease.cut();
    #[expect(clippy::disallowed_methods, reason = "ends with its senders, its peer or the cut")]
    tokio::spawn(async move {
        tokio::select! {
            _ = connection => {}
            () = until_cut(cut) => {}
        }
    });
    Ok(sender)
}
