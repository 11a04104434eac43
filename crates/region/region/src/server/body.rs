//! Reading a request's body: bounded in size, in pace, and in what all bodies hold together.

use std::borrow::Cow;
use std::future::Future as _;
use std::io::Read as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_wire::service::Service;
use bytes::{Bytes, BytesMut};
use flate2::read::GzDecoder;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, Sleep};

use super::budget::{Lease, NoRoom};
use super::limits;

/// The body of a request as those behind the listener read it.
pub type RequestBody = Paced<Incoming>;

/// Why a body breaks off.
#[derive(Debug, thiserror::Error)]
pub enum PacedError {
    #[error("the body did not arrive in time")]
    TooSlow,
    #[error("the connection broke off")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why a body could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    TooLarge,
    TooSlow,
    NoRoom,
    /// It is not compressed as its head says.
    NotGzip,
    /// The connection broke off; nobody is there to hear.
    Broken,
}

/// A body whose sender keeps to a least rate. Only the time in which more of it is waited for
/// counts: when the reader is slow, that is not the sender's fault.
#[derive(Debug)]
pub struct Paced<B> {
    body: B,
    pace: Pace,
    received: u64,
    waited: Duration,
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// How slow a sender may be.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// How long it may fall behind, in all.
    grace: Duration,
    /// Bytes a second.
    rate_min: u64,
    idle_max: Duration,
}

const PACE: Pace = Pace {
    grace: limits::BODY_GRACE,
    rate_min: limits::BODY_RATE_MIN,
    idle_max: limits::BODY_IDLE_MAX,
};

/// The one service whose clients compress what they send.
const COMPRESSED: &str = "monitoring";

/// A body as it was before its sender compressed it, which the signature is not over. That is done for one service alone and
/// for who names a key that there is; what it becomes is charged as it becomes more.
pub(super) fn inflated<'a>(
    service: Option<&Service>,
    headers: &HeaderMap,
    body: &'a Bytes,
    lease: &Lease,
) -> Result<Cow<'a, [u8]>, BodyError> {
    let is_meant = service.is_some_and(|service| service.name == COMPRESSED)
        && headers.get(CONTENT_ENCODING).is_some_and(|value| value.as_bytes() == b"gzip");
    if !is_meant || lease.is_strangers() {
        return Ok(Cow::Borrowed(body));
    }
    let mut decoder = GzDecoder::new(&body[..]);
    let (mut whole, mut piece) = (Vec::new(), [0; 16 << 10]);
    loop {
        let length = decoder.read(&mut piece).map_err(|_| BodyError::NotGzip)?;
        if length == 0 {
            return Ok(Cow::Owned(whole));
        }
        if limits::INFLATED_BYTES_MAX - whole.len() < length {
            return Err(BodyError::TooLarge);
        }
        lease.charge(length).map_err(|NoRoom| BodyError::NoRoom)?;
        whole.extend_from_slice(&piece[..length]);
    }
}

/// A whole body and its hash, in hexadecimal.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) bytes: Bytes,
    pub(super) hash: String,
}

impl Whole {
    /// The body of a request that has none.
    pub(super) fn empty() -> Self {
        Self { bytes: Bytes::new(), hash: hex::encode(Sha256::digest(b"")) }
    }
}

impl<B> Paced<B> {
    pub(super) fn new(body: B) -> Self {
        let waited = Duration::ZERO;
        Self { body, pace: PACE, received: 0, waited, since: None, timer: None }
    }

    /// How long the next piece may take.
    fn patience(&self) -> Duration {
        let Pace { grace, rate_min, idle_max } = self.pace;
        let earned = Duration::from_millis(self.received.saturating_mul(1000) / rate_min);
        grace.saturating_add(earned).saturating_sub(self.waited).min(idle_max)
    }
}

impl<B> HttpBody for Paced<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    type Data = Bytes;
    type Error = PacedError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, PacedError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            if let Some(since) = self.since.take() {
                self.waited += since.elapsed();
                self.timer = None;
            }
            if let Some(Ok(frame)) = &frame {
                let length = frame.data_ref().map_or(0, Bytes::len);
                self.received = self.received.saturating_add(length as u64);
            }
            return Poll::Ready(
                frame.map(|frame| frame.map_err(|error| PacedError::Broken(Box::new(error)))),
            );
        }
        if self.since.is_none() {
            let now = Instant::now();
            self.since = Some(now);
            self.timer = Some(Box::pin(tokio::time::sleep_until(now + self.patience())));
        }
        match self.timer.as_mut().map(|timer| timer.as_mut().poll(cx)) {
            Some(Poll::Ready(())) => Poll::Ready(Some(Err(PacedError::TooSlow))),
            Some(Poll::Pending) | None => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Reads a whole body of at most `bytes_max`; `lease` holds its room.
pub(super) async fn read<B>(
    body: &mut Paced<B>,
    bytes_max: usize,
    lease: &Lease,
) -> Result<Whole, BodyError>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let reading = tokio::time::timeout(limits::BODY_WAIT_MAX, collect(body, bytes_max, lease));
    tokio::select! {
        biased;
        () = lease.cut() => Err(BodyError::NoRoom),
        read = reading => read.unwrap_or(Err(BodyError::TooSlow)),
    }
}

async fn collect<B>(
    body: &mut Paced<B>,
    bytes_max: usize,
    lease: &Lease,
) -> Result<Whole, BodyError>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    // Hashed piece by piece: at once it would keep others waiting for as long as a large body takes.
    let mut hash = Sha256::new();
    let mut bytes = Bytes::new();
    let mut more = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match error {
            PacedError::TooSlow => BodyError::TooSlow,
            PacedError::Broken(_) => BodyError::Broken,
        })?;
        let Ok(piece) = frame.into_data() else { continue };
        if bytes_max - (bytes.len() + more.len()) < piece.len() {
            return Err(BodyError::TooLarge);
        }
        lease.charge(piece.len()).map_err(|NoRoom| BodyError::NoRoom)?;
        hash.update(&piece);
        if bytes.is_empty() && more.is_empty() && body.is_end_stream() {
            bytes = piece;
            continue;
        }
        // Copied, since a small piece may be part of a large buffer.
        more.extend_from_slice(&piece);
    }
    let bytes = if more.is_empty() { bytes } else { more.freeze() };
    Ok(Whole { bytes, hash: hex::encode(hash.finalize()) })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::budget::{Budget, Share};
    use super::*;

    /// Sends `size` bytes every `period`, for ever or so many times.
    struct Drip {
        size: usize,
        period: Duration,
        left: usize,
        next: Pin<Box<Sleep>>,
    }

    impl HttpBody for Drip {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
            if self.left == 0 {
                return Poll::Ready(None);
            }
            std::task::ready!(self.next.as_mut().poll(cx));
            self.left -= 1;
            self.next = Box::pin(tokio::time::sleep(self.period));
            Poll::Ready(Some(Ok(Frame::data(vec![b'x'; self.size].into()))))
        }
    }

    async fn read_drip(size: usize, period_ms: u64, left: usize) -> Result<usize, BodyError> {
        let period = Duration::from_millis(period_ms);
        let next = Box::pin(tokio::time::sleep(period));
        let mut body = Paced::new(Drip { size, period, left, next });
        let idle_max = Duration::from_secs(2);
        body.pace = Pace { grace: Duration::from_millis(500), rate_min: 4 << 10, idle_max };
        let lease = Arc::new(Budget::default()).lease(Share::Stranger([10, 0, 0, 1].into()));
        read(&mut body, 1 << 20, &lease).await.map(|whole| whole.bytes.len())
    }

    #[tokio::test]
    async fn one_who_drips_or_stands_still_is_cut_and_one_who_keeps_the_rate_is_not() {
        assert_eq!(read_drip(1, 10, usize::MAX).await, Err(BodyError::TooSlow));
        assert_eq!(read_drip(1 << 19, 3_600_000, 1).await, Err(BodyError::TooSlow), "silent");
        assert_eq!(read_drip(8 << 10, 20, 40).await, Ok(40 * (8 << 10)));
        assert_eq!(read_drip(1 << 19, 1, 3).await, Err(BodyError::TooLarge));
    }

    #[tokio::test]
    async fn pieces_are_put_together_and_hashed() {
        let frames = [&b"{\"a\""[..], &b":1}"[..]]
            .map(|piece| Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(piece))));
        let stream = futures_util::stream::iter(frames);
        let mut body = Paced::new(http_body_util::StreamBody::new(stream));
        let lease = Arc::new(Budget::default()).lease(Share::Stranger([10, 0, 0, 1].into()));
        let whole = read(&mut body, 100, &lease).await.unwrap();
        assert_eq!(whole.bytes, "{\"a\":1}");
        assert_eq!(whole.hash, hex::encode(Sha256::digest(b"{\"a\":1}")));
    }

    #[test]
    fn a_compressed_body_is_read_for_who_may_send_one_and_is_charged_as_long_as_it_becomes() {
        let packed = |text: &[u8]| -> Bytes {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            std::io::Write::write_all(&mut out, text).unwrap();
            out.finish().unwrap().into()
        };
        let budget = Arc::new(Budget::default());
        let account: longshore_types::AccountId = "000000000001".parse().unwrap();
        let lease = |share| budget.lease(share);
        let known = lease(Share::Account(account));
        let (small, long) = (packed(b"{}"), packed(&vec![b'x'; limits::INFLATED_BYTES_MAX]));
        let bomb = packed(&vec![b'x'; limits::INFLATED_BYTES_MAX + 1]);
        let mut headers = HeaderMap::new();
        let clouds = Service { name: COMPRESSED, ..ecs_api::SERVICE };
        let clouds = Some(&clouds);
        assert_eq!(&*inflated(clouds, &headers, &small, &known).unwrap(), &small[..], "as said");
        headers.insert(CONTENT_ENCODING, "gzip".parse().unwrap());
        assert_eq!(&*inflated(clouds, &headers, &small, &known).unwrap(), b"{}");
        let others = Some(&ecs_api::SERVICE);
        assert_eq!(&*inflated(others, &headers, &small, &known).unwrap(), &small[..]);
        assert_eq!(&*inflated(None, &headers, &small, &known).unwrap(), &small[..]);
        let stranger = lease(Share::Stranger([10, 0, 0, 1].into()));
        assert_eq!(&*inflated(clouds, &headers, &small, &stranger).unwrap(), &small[..]);
        assert_eq!(inflated(clouds, &headers, &bomb, &known), Err(BodyError::TooLarge));
        drop(known);
        let lie = Bytes::from_static(b"{}");
        let known = lease(Share::Account(account));
        assert_eq!(inflated(clouds, &headers, &lie, &known), Err(BodyError::NotGzip));
        // Long ones take the room of their account.
        let mut all = Vec::new();
        let fits = limits::VERIFIED_BYTES_OF_ACCOUNT_MAX / limits::INFLATED_BYTES_MAX;
        for _ in 0..fits {
            let each = lease(Share::Account(account));
            inflated(clouds, &headers, &long, &each).unwrap();
            all.push(each);
        }
        let one_more = inflated(clouds, &headers, &long, &known);
        assert_eq!(one_more, Err(BodyError::NoRoom));
    }
}
