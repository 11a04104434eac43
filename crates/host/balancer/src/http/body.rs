//! Bodies on their way, in both directions: counted, timed, and let go of at their end.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::log::Entry;
use crate::pool::Http1;
use crate::target::Lease;

/// What both directions of one request note down.
#[derive(Debug)]
pub(crate) struct Exchange {
    begun: Instant,
    /// When all of it must be done.
    ends: Option<Instant>,
    last_ms: AtomicU64,
    pub(crate) received: AtomicU64,
    is_upload_done: AtomicBool,
}

impl Exchange {
    /// `most_s`: how long it may take in all; 0: as long as it takes.
    pub(crate) fn new(most_s: u32) -> Arc<Self> {
        let begun = Instant::now();
        Arc::new(Self {
            begun,
            ends: (most_s != 0).then(|| begun + Duration::from_secs(u64::from(most_s))),
            last_ms: AtomicU64::new(0),
            received: AtomicU64::new(0),
            is_upload_done: AtomicBool::new(false),
        })
    }

    /// Bytes went in some direction.
    pub(crate) fn touch(&self) {
        let ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(ms, Relaxed);
    }

    pub(crate) fn deadline(&self, idle: Duration) -> Instant {
        let idle = self.begun + Duration::from_millis(self.last_ms.load(Relaxed)) + idle;
        self.ends.map_or(idle, |ends| ends.min(idle))
    }

    pub(crate) fn is_upload_done(&self) -> bool {
        self.is_upload_done.load(Relaxed)
    }

    /// Waits for something as long as bytes go in some direction at least once in `idle`.
    pub(crate) async fn within<F: Future>(&self, idle: Duration, wanted: F) -> Option<F::Output> {
        tokio::pin!(wanted);
        let sleep = tokio::time::sleep_until(self.deadline(idle));
        tokio::pin!(sleep);
        loop {
            tokio::select! {
                biased;
                output = &mut wanted => return Some(output),
                () = &mut sleep => {
                    let deadline = self.deadline(idle);
                    if deadline <= Instant::now() {
                        return None;
                    }
                    sleep.as_mut().reset(deadline);
                }
            }
        }
    }
}

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the other side stopped sending")]
    Peer(#[from] hyper::Error),
    #[error("nothing came for too long")]
    Idle,
}

/// A client's body on its way to a target.
#[derive(Debug)]
pub(crate) enum RequestBody {
    Empty,
    Client { incoming: Incoming, exchange: Arc<Exchange> },
}

impl RequestBody {
    pub(crate) fn new(incoming: Incoming, exchange: &Arc<Exchange>) -> Self {
        if incoming.is_end_stream() {
            exchange.is_upload_done.store(true, Relaxed);
            return Self::Empty;
        }
        Self::Client { incoming, exchange: Arc::clone(exchange) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client { .. } => false,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self::Client { incoming, exchange } = self.get_mut() else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut *incoming).poll_frame(cx));
        exchange.touch();
        if let Some(Ok(frame)) = &frame {
            let bytes = frame.data_ref().map_or(0, Bytes::remaining);
            exchange.received.fetch_add(bytes as u64, Relaxed);
        }
        if frame.is_none() || incoming.is_end_stream() {
            exchange.is_upload_done.store(true, Relaxed);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Peer)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client { incoming, .. } => incoming.size_hint(),
        }
    }
}

/// The body of an answer to a client.
#[derive(Debug)]
pub(crate) enum AnswerBody {
    Full { bytes: Option<Bytes>, log: Option<Box<Entry>> },
    Relay(Box<Relay>),
}

impl AnswerBody {
    pub(crate) fn full(bytes: Bytes) -> Self {
        Self::Full { bytes: Some(bytes).filter(|bytes| !bytes.is_empty()), log: None }
    }

    pub(crate) fn empty() -> Self {
        Self::full(Bytes::new())
    }

    /// The entry is written when the body is done or dropped.
    pub(crate) fn logged(mut self, entry: Box<Entry>) -> Self {
        match &mut self {
            Self::Full { log, .. } => *log = Some(entry),
            Self::Relay(relay) => relay.log = Some(entry),
        }
        self
    }
}

/// A target's body on its way to a client.
#[derive(Debug)]
pub(crate) struct Relay {
    incoming: Incoming,
    exchange: Arc<Exchange>,
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    lease: Option<Lease>,
    /// Goes back to the pool at the end.
    sender: Option<Http1>,
    log: Option<Box<Entry>>,
}

impl Relay {
    pub(crate) fn new(
        incoming: Incoming,
        exchange: Arc<Exchange>,
        idle: Duration,
        lease: Lease,
        sender: Option<Http1>,
    ) -> Self {
        let mut relay =
            Self { incoming, exchange, idle, timer: None, lease: Some(lease), sender, log: None };
        if relay.incoming.is_end_stream() {
            relay.finish();
        }
        relay
    }

    fn finish(&mut self) {
        let (Some(lease), sender) = (self.lease.take(), self.sender.take()) else { return };
        // Of an answer that came before the request was sent whole, the rest is still being sent.
        if let Some(sender) = sender
            && self.exchange.is_upload_done()
            && !lease.target.is_out()
        {
            lease.target.pool.put(sender);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) {
            self.exchange.touch();
            if let (Some(Ok(frame)), Some(log)) = (&frame, &mut self.log) {
                log.sent += frame.data_ref().map_or(0, Bytes::remaining) as u64;
            }
            if let (Some(Err(_)), Some(lease)) = (&frame, &self.lease) {
                lease.target.note(true);
                self.sender = None;
            }
            if frame.is_none() || self.incoming.is_end_stream() {
                self.finish();
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Peer)));
        }
        let deadline = self.exchange.deadline(self.idle);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        while timer.as_mut().poll(cx).is_ready() {
            let deadline = self.exchange.deadline(self.idle);
            if deadline <= Instant::now() {
                return Poll::Ready(Some(Err(BodyError::Idle)));
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Full { bytes, log } => {
                let bytes = bytes.take();
                if let (Some(bytes), Some(log)) = (&bytes, log) {
                    log.sent += bytes.len() as u64;
                }
                Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
            }
            Self::Relay(relay) => relay.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full { bytes, .. } => bytes.is_none(),
            Self::Relay(relay) => relay.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full { bytes, .. } => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Self::Relay(relay) => relay.incoming.size_hint(),
        }
    }
}
