//! What all connections of the process share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longshore_types::{Clock, IdSource, Timestamp};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::figures::FiguresBook;
use crate::http::CookieKey;
use crate::limits::{
    ACCOUNT_CONNECTIONS_MAX, ACCOUNT_FLOWS_MAX, ALL_FLOWS_MAX, CONNECTIONS_MAX, EGRESS_WAITING_MAX,
    ENDPOINT_CONNECTIONS_MAX, HANDED_OVER_IDLE, IDLE_GRACE,
};
use crate::live::Snapshot;
use crate::log::LogSink;
use crate::relay::Doors;
use crate::sockets::Sockets;
use crate::tls::ToTargets;

/// How far the process is, in the order of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Serving,
    /// Another has taken its place: it finishes what is open, and there is time.
    HandedOver,
    /// It was told to end, and finishes what is open soon.
    Ending,
    /// What is still open is cut.
    Over,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) snapshot: watch::Sender<Arc<Snapshot>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) cookies: CookieKey,
    pub(crate) to_targets: ToTargets,
    pub(crate) sockets: Sockets,
    pub(crate) doors: Arc<dyn Doors>,
    pub(crate) logs: LogSink,
    pub(crate) phase: watch::Sender<Phase>,
    /// Rung when the region is to be told something.
    pub(crate) changed: Arc<Notify>,
    /// Connections of clients that are open.
    pub(crate) connections: Arc<Counts>,
    /// Of them, those to VPC endpoints, by endpoint and client.
    pub(crate) endpoint_clients: Arc<Counts>,
    /// Connections that wait until it is known where they go, by the interface in whose network they came.
    pub(crate) waiting: Arc<Counts>,
    /// What is open at interfaces, connections and flows alike.
    pub(crate) at_interfaces: Arc<Counts>,
    /// Flows of datagrams.
    pub(crate) flows: Arc<Counts>,
    /// What is counted of requests, and since when.
    pub(crate) figures: Arc<FiguresBook>,
    pub(crate) counting_since: Timestamp,
    seeds: AtomicU64,
}

impl Shared {
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
        cookies: CookieKey,
        logs: LogSink,
        (sockets, doors): (Sockets, Arc<dyn Doors>),
    ) -> Self {
        let mut first = [0; 8];
        ids.fill(&mut first);
        let counting_since = clock.now();
        Self {
            figures: Arc::default(),
            counting_since,
            snapshot: watch::Sender::new(Arc::default()),
            clock,
            ids,
            cookies,
            to_targets: ToTargets::new(),
            sockets,
            doors,
            logs,
            phase: watch::Sender::new(Phase::Serving),
            changed: Arc::default(),
            connections: Counts::new(CONNECTIONS_MAX, ACCOUNT_CONNECTIONS_MAX),
            endpoint_clients: Counts::new(CONNECTIONS_MAX, ENDPOINT_CONNECTIONS_MAX),
            waiting: Counts::new(usize::MAX, EGRESS_WAITING_MAX),
            at_interfaces: Counts::new(usize::MAX, usize::MAX),
            flows: Counts::new(ALL_FLOWS_MAX, ACCOUNT_FLOWS_MAX),
            seeds: AtomicU64::new(u64::from_be_bytes(first)),
        }
    }

    /// Whether what is open is finished, and nothing new is taken.
    pub(crate) fn is_closing(&self) -> bool {
        Phase::Serving < *self.phase.borrow()
    }

    /// Completes once the process is so far.
    pub(crate) async fn until(&self, phase: Phase) {
        // It cannot end before this does, which borrows it.
        let _ = self.phase.subscribe().wait_for(|now| phase <= *now).await;
    }

    /// Completes once a kept connection has waited long enough for its last request.
    pub(crate) async fn idle_grace(&self) {
        self.until(Phase::HandedOver).await;
        if timeout(HANDED_OVER_IDLE, self.until(Phase::Ending)).await.is_ok() {
            tokio::time::sleep(IDLE_GRACE).await;
        }
    }

    /// Whether nothing of clients is open any more.
    pub(crate) fn is_empty(&self) -> bool {
        !self.has_connections() && self.flows.count() == 0
    }

    /// Whether connections of clients are open. One that waits is among the open ones before it waits no more.
    pub(crate) fn has_connections(&self) -> bool {
        self.waiting.count() > 0 || self.connections.count() > 0
    }

    /// Names a connection in logs: `TID_…`.
    pub(crate) fn trace(&self) -> String {
        format!("TID_{:016x}{:016x}", self.seed(), self.seed())
    }

    /// Another number each time, spread over all of `u64`; nobody's secret depends on it.
    pub(crate) fn seed(&self) -> u64 {
        routing::choose::spread(self.seeds.fetch_add(1, Relaxed))
    }
}

/// What is open, of all and by account.
#[derive(Debug)]
pub(crate) struct Counts {
    most: usize,
    most_of_account: usize,
    /// By account; none that has none.
    open: Mutex<(usize, BTreeMap<String, usize>)>,
}

/// One that is open, while it lives.
#[derive(Debug)]
pub(crate) struct Counted {
    counts: Arc<Counts>,
    account: String,
}

impl Counts {
    fn new(most: usize, most_of_account: usize) -> Arc<Self> {
        Arc::new(Self { most, most_of_account, open: Mutex::default() })
    }

    fn held(&self) -> MutexGuard<'_, (usize, BTreeMap<String, usize>)> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count(&self) -> usize {
        self.held().0
    }

    /// Whether some are open of an account.
    pub(crate) fn has(&self, account: &str) -> bool {
        self.held().1.contains_key(account)
    }

    /// None: there are as many as there may be, of all or of the account.
    pub(crate) fn take(self: &Arc<Self>, account: &str) -> Option<Counted> {
        let mut held = self.held();
        let (all, accounts) = &mut *held;
        let of_account = accounts.get(account).copied().unwrap_or(0);
        if self.most <= *all || self.most_of_account <= of_account {
            return None;
        }
        *all += 1;
        accounts.insert(account.to_owned(), of_account + 1);
        Some(Counted { counts: Arc::clone(self), account: account.to_owned() })
    }

    /// What goes on as another is counted whether or not there is room: the first is about to end.
    pub(crate) fn go_on(self: &Arc<Self>, account: &str) -> Counted {
        let mut held = self.held();
        held.0 += 1;
        *held.1.entry(account.to_owned()).or_default() += 1;
        Counted { counts: Arc::clone(self), account: account.to_owned() }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut held = self.counts.held();
        let (all, accounts) = &mut *held;
        *all -= 1;
        if let Some(of_account) = accounts.get_mut(&self.account) {
            *of_account -= 1;
            if *of_account == 0 {
                accounts.remove(&self.account);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_leaves_room_for_the_others() {
        let counts = Counts::new(8, 4);
        let mut held: Vec<Counted> = (0..4).map(|_| counts.take("greedy").unwrap()).collect();
        assert!(counts.take("greedy").is_none());
        held.extend((0..3).map(|_| counts.take("other").unwrap()));
        // One that becomes another takes its own place with it.
        held.push(counts.go_on("greedy"));
        assert!(counts.take("other").is_none() && counts.take("third").is_none(), "it is full");
        drop(held.remove(0));
        assert!(counts.take("greedy").is_none());
        assert!(counts.take("third").is_some());
        drop(held);
        assert_eq!((counts.count(), counts.held().1.len()), (0, 0));
    }
}
