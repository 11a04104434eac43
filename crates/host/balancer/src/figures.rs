//! What is counted of the requests and connections that come by some balancers, for whoever asks how a service fares.
//!
//! Figures only grow while the process lives, but for what is open at the moment. They outlive the balancers that they are
//! counted for: what a client that is gone had asked was asked all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use routing::{Action, Balancer, CountedFor, GroupId, InterfaceRef, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use traffic::figures::{Counted, OWN_ANSWERS, TIME_BUCKETS, bucket_of};

use crate::limits::FIGURES_MAX;

/// What is counted under one name.
#[derive(Debug)]
pub(crate) struct Figures {
    requests: AtomicU64,
    grpc_requests: AtomicU64,
    connections: AtomicU64,
    open: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    client_tls_errors: AtomicU64,
    target_tls_errors: AtomicU64,
    /// Of 2xx to 5xx.
    answers: [AtomicU64; 4],
    times: [AtomicU64; TIME_BUCKETS],
    times_us: AtomicU64,
    own_answers: [AtomicU64; OWN_ANSWERS.len()],
    target_connect_errors: AtomicU64,
}

impl Default for Figures {
    fn default() -> Self {
        let none = AtomicU64::default;
        Self {
            requests: none(),
            grpc_requests: none(),
            connections: none(),
            open: none(),
            bytes_in: none(),
            bytes_out: none(),
            client_tls_errors: none(),
            target_tls_errors: none(),
            answers: std::array::from_fn(|_| none()),
            times: std::array::from_fn(|_| none()),
            times_us: none(),
            own_answers: std::array::from_fn(|_| none()),
            target_connect_errors: none(),
        }
    }
}

impl Figures {
    pub(crate) fn requested(&self, is_grpc: bool) {
        self.requests.fetch_add(1, Relaxed);
        if is_grpc {
            self.grpc_requests.fetch_add(1, Relaxed);
        }
    }

    /// A target answered, so long after the request came.
    pub(crate) fn answered(&self, status: u16, after: Duration) {
        if let Some(count) =
            usize::from(status / 100).checked_sub(2).and_then(|at| self.answers.get(at))
        {
            count.fetch_add(1, Relaxed);
        }
        let us = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        self.times[bucket_of(us)].fetch_add(1, Relaxed);
        self.times_us.fetch_add(us, Relaxed);
    }

    /// The balancer itself answered.
    pub(crate) fn answered_itself(&self, status: u16) {
        let class = format!("{}XX", status / 100);
        let status = status.to_string();
        for (name, count) in OWN_ANSWERS.iter().zip(&self.own_answers) {
            if *name == class || *name == status {
                count.fetch_add(1, Relaxed);
            }
        }
    }

    pub(crate) fn target_connect_failed(&self) {
        self.target_connect_errors.fetch_add(1, Relaxed);
    }

    pub(crate) fn client_tls_failed(&self) {
        self.client_tls_errors.fetch_add(1, Relaxed);
    }

    pub(crate) fn target_tls_failed(&self) {
        self.target_tls_errors.fetch_add(1, Relaxed);
    }

    fn counted(&self) -> Counted {
        let read = |count: &AtomicU64| count.load(Relaxed);
        Counted {
            requests: read(&self.requests),
            grpc_requests: read(&self.grpc_requests),
            connections: read(&self.connections),
            open: read(&self.open),
            bytes_in: read(&self.bytes_in),
            bytes_out: read(&self.bytes_out),
            client_tls_errors: read(&self.client_tls_errors),
            target_tls_errors: read(&self.target_tls_errors),
            answers: std::array::from_fn(|at| read(&self.answers[at])),
            times: self.times.iter().map(read).collect(),
            times_us: read(&self.times_us),
            own_answers: std::array::from_fn(|at| read(&self.own_answers[at])),
            target_connect_errors: read(&self.target_connect_errors),
        }
    }
}

/// All figures of a process, by name.
#[derive(Debug, Default)]
pub(crate) struct FiguresBook(Mutex<BTreeMap<String, Arc<Figures>>>);

impl FiguresBook {
    /// Those of a name; none once there are too many names.
    fn named(&self, name: &str) -> Option<Arc<Figures>> {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = book.get(name) {
            return Some(Arc::clone(known));
        }
        if FIGURES_MAX <= book.len() {
            // Those of balancers that are no more, and by which nothing is open. Whoever asks has been told of them.
            book.retain(|_, figures| Arc::strong_count(figures) > 1);
        }
        if FIGURES_MAX <= book.len() {
            return None;
        }
        Some(Arc::clone(book.entry(name.to_owned()).or_default()))
    }

    pub(crate) fn counted(&self) -> BTreeMap<String, Counted> {
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.iter().map(|(name, figures)| (name.clone(), figures.counted())).collect()
    }
}

/// A name under which is counted. It takes one of the book's places with the first that there is to count: of most there
/// never is anything.
#[derive(Debug)]
pub(crate) struct Tally {
    book: Arc<FiguresBook>,
    name: String,
    figures: OnceLock<Option<Arc<Figures>>>,
}

impl Tally {
    pub(crate) fn new(book: &Arc<FiguresBook>, name: &str) -> Self {
        Self { book: Arc::clone(book), name: name.to_owned(), figures: OnceLock::new() }
    }

    /// Where it is counted; none once there are too many names. Asked once: the next table asks anew.
    pub(crate) fn figures(&self) -> Option<&Arc<Figures>> {
        self.figures.get_or_init(|| self.book.named(&self.name)).as_ref()
    }
}

/// Where a listener's requests and connections are counted.
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    /// All of them, under the name that its balancer has for that.
    named: Option<Tally>,
    /// By zone, where they are counted apart.
    apart: Vec<OfZone>,
}

#[derive(Debug)]
struct OfZone {
    zone: Option<String>,
    all: Tally,
    groups: BTreeMap<GroupId, Tally>,
}

impl Tallies {
    pub(crate) fn new(book: &Arc<FiguresBook>, balancer: &Balancer, listener: &Listener) -> Self {
        let named = balancer.attributes.figures.as_deref().map(|name| Tally::new(book, name));
        if !balancer.attributes.is_metered {
            return Self { named, apart: Vec::new() };
        }
        let groups = listener.rules.iter().flat_map(|rule| match &rule.action {
            Action::Forward { groups, .. } => groups.as_slice(),
            Action::Redirect { .. } | Action::FixedResponse { .. } => &[],
        });
        let groups: BTreeSet<&GroupId> = groups.map(|it| &it.group).collect();
        let zones = balancer.interfaces.iter().map(|it| Some(it.zone.as_str())).chain([None]);
        let zones: BTreeSet<Option<&str>> = zones.collect();
        let tally = |zone: Option<&str>, group: Option<&GroupId>| {
            let (zone, group) = (zone.map(str::to_owned), group.cloned());
            let counted = CountedFor { balancer: balancer.id.clone(), zone, group };
            Tally::new(book, &counted.name())
        };
        let apart = zones.into_iter().map(|zone| OfZone {
            zone: zone.map(str::to_owned),
            all: tally(zone, None),
            groups: groups.iter().map(|id| (GroupId::clone(id), tally(zone, Some(id)))).collect(),
        });
        Self { named, apart: apart.collect() }
    }

    /// Where it is counted that somebody asks, whatever comes of it.
    pub(crate) fn named(&self) -> Option<&Arc<Figures>> {
        self.named.as_ref()?.figures()
    }

    /// Where is counted what comes to an interface; with a group, what of it goes there.
    pub(crate) fn of(
        &self,
        balancer: &Balancer,
        came_to: Option<&InterfaceRef>,
        group: Option<&GroupId>,
    ) -> Option<&Arc<Figures>> {
        if self.named.is_some() {
            return self.named();
        }
        self.apart(balancer, came_to, group)
    }

    /// The same of what is counted apart alone.
    pub(crate) fn apart(
        &self,
        balancer: &Balancer,
        came_to: Option<&InterfaceRef>,
        group: Option<&GroupId>,
    ) -> Option<&Arc<Figures>> {
        let its = |came_to: &InterfaceRef| {
            balancer.interfaces.iter().find(|it| it.eni == came_to.eni).map(|it| it.zone.as_str())
        };
        let zone = came_to.and_then(its);
        let of_zone = self.apart.iter().find(|it| it.zone.as_deref() == zone)?;
        match group {
            Some(group) => of_zone.groups.get(group)?.figures(),
            None => of_zone.all.figures(),
        }
    }
}

/// A client's connection that is counted, while it is open.
#[derive(Debug)]
pub(crate) struct Metered<S> {
    inner: S,
    figures: Option<Arc<Figures>>,
}

impl<S> Metered<S> {
    pub(crate) fn new(inner: S, figures: Option<Arc<Figures>>) -> Self {
        if let Some(figures) = &figures {
            figures.connections.fetch_add(1, Relaxed);
            figures.open.fetch_add(1, Relaxed);
        }
        Self { inner, figures }
    }
}

impl Metered<()> {
    /// A datagram came from the client, or went to it.
    pub(crate) fn passed(&self, bytes: usize, is_from_client: bool) {
        if let Some(figures) = &self.figures {
            let count = if is_from_client { &figures.bytes_in } else { &figures.bytes_out };
            count.fetch_add(bytes as u64, Relaxed);
        }
    }
}

impl<S> Drop for Metered<S> {
    fn drop(&mut self) {
        if let Some(figures) = &self.figures {
            figures.open.fetch_sub(1, Relaxed);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if let Some(figures) = &self.figures {
            figures.bytes_in.fetch_add((buf.filled().len() - before) as u64, Relaxed);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> Metered<S> {
    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        if let (Some(figures), Poll::Ready(Ok(count))) = (&self.figures, written) {
            figures.bytes_out.fetch_add(*count as u64, Relaxed);
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.wrote(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
