//! Websockets, and every connection that is passed through: bytes in both directions until both have ended, or
//! nothing went for too long.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use tokio::time::Instant;

use super::connection::Client;
use crate::limits::{HANDSHAKE_WAIT_MAX, TUNNEL_BUFFER_BYTES};
use crate::log::Entry;
use crate::shared::Phase;
use crate::target::{Lease, until_cut};

/// Joins a client's and a target's connection once both have switched.
pub(super) fn spawn(
    client: &Client,
    to_client: OnUpgrade,
    to_target: OnUpgrade,
    lease: Lease,
    idle: Duration,
    entry: Option<Box<Entry>>,
) {
    let shared = Arc::clone(&client.shared);
    // The client's connection ends as such with the switch.
    let snapshot = Arc::clone(&client.shared.snapshot.borrow());
    let account = snapshot.listeners.get(&client.listener).map(|it| &*it.balancer.account);
    let connection = client.shared.connections.go_on(account.unwrap_or_default());
    let users = client.users.clone();
    let open = client.came_to.as_ref().map(|it| client.shared.at_interfaces.go_on(&it.eni));
    let cut = lease.cut();
    let work = async move {
        let both = async { tokio::join!(to_client, to_target) };
        let Ok((Ok(a), Ok(b))) = tokio::time::timeout(HANDSHAKE_WAIT_MAX, both).await else {
            return;
        };
        let copied = Arc::<Copied>::default();
        tokio::select! {
            _ = relay(TokioIo::new(a), TokioIo::new(b), idle, &copied) => {}
            () = until_cut(cut) => {}
            () = shared.until(Phase::Over) => {}
        }
        if let Some(mut entry) = entry {
            entry.tunnelled(copied.sent.load(Relaxed), copied.received.load(Relaxed));
        }
        drop(lease);
        drop((connection, open, users));
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "ends with either side, the cut, or the process"
    )]
    tokio::spawn(work);
}

/// How much went, whatever ends it.
#[derive(Debug, Default)]
pub(crate) struct Copied {
    /// To the client.
    pub(crate) sent: AtomicU64,
    /// From it.
    pub(crate) received: AtomicU64,
}

/// Copies both ways between a client and a target. An error if one side broke or both were idle.
pub(crate) async fn relay<A, B>(a: A, b: B, idle: Duration, copied: &Copied) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let activity = Arc::new(Activity { begun: Instant::now(), last_ms: AtomicU64::new(0) });
    let mut a = Watched { inner: a, activity: Arc::clone(&activity), written: &copied.sent };
    let mut b = Watched { inner: b, activity: Arc::clone(&activity), written: &copied.received };
    let size = TUNNEL_BUFFER_BYTES;
    let copying = copy_bidirectional_with_sizes(&mut a, &mut b, size, size);
    tokio::pin!(copying);
    loop {
        let deadline = activity.last() + idle;
        tokio::select! {
            ended = &mut copying => return ended.map(|_| ()),
            () = tokio::time::sleep_until(deadline) => {
                if activity.last() + idle <= Instant::now() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
        }
    }
}

struct Activity {
    begun: Instant,
    last_ms: AtomicU64,
}

impl Activity {
    fn touch(&self) {
        let ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(ms, Relaxed);
    }

    fn last(&self) -> Instant {
        self.begun + Duration::from_millis(self.last_ms.load(Relaxed))
    }
}

/// A stream that notes when bytes went.
struct Watched<'c, S> {
    inner: S,
    activity: Arc<Activity>,
    written: &'c AtomicU64,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if polled.is_ready() {
            self.activity.touch();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        if polled.is_ready() {
            self.activity.touch();
        }
        if let Poll::Ready(Ok(written)) = &polled {
            self.written.fetch_add(u64::try_from(*written).unwrap_or(0), Relaxed);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
