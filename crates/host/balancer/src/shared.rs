//! What all connections of the process share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use longshore_types::{Clock, IdSource};
use tokio::sync::{Notify, watch};

use crate::http::CookieKey;
use crate::live::Snapshot;
use crate::log::LogSink;
use crate::sockets::Sockets;
use crate::tls::ToTargets;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) snapshot: watch::Sender<Arc<Snapshot>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) cookies: CookieKey,
    pub(crate) to_targets: ToTargets,
    pub(crate) sockets: Sockets,
    pub(crate) logs: LogSink,
    /// True once the process is to end: what is open is finished, and nothing new is taken.
    pub(crate) closing: watch::Sender<bool>,
    /// Rung when the region is to be told something.
    pub(crate) changed: Arc<Notify>,
    /// Connections of clients that are open.
    pub(crate) connections: AtomicUsize,
    seeds: AtomicU64,
}

impl Shared {
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
        cookies: CookieKey,
        logs: LogSink,
        sockets: Sockets,
    ) -> Self {
        let mut first = [0; 8];
        ids.fill(&mut first);
        Self {
            snapshot: watch::Sender::new(Arc::default()),
            clock,
            ids,
            cookies,
            to_targets: ToTargets::new(),
            sockets,
            logs,
            closing: watch::Sender::new(false),
            changed: Arc::default(),
            connections: AtomicUsize::new(0),
            seeds: AtomicU64::new(u64::from_be_bytes(first)),
        }
    }

    pub(crate) fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Another number each time, spread over all of `u64`; nobody's secret depends on it.
    pub(crate) fn seed(&self) -> u64 {
        routing::choose::spread(self.seeds.fetch_add(1, Relaxed))
    }
}
