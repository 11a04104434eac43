//! What all connections of the process share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use longshore_types::{Clock, IdSource};
use tokio::sync::{Notify, watch};

use crate::http::CookieKey;
use crate::limits::{ACCOUNT_CONNECTIONS_MAX, CONNECTIONS_MAX};
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
    /// Connections of clients that are open, and flows.
    pub(crate) connections: AtomicUsize,
    /// The same by account.
    accounts: Mutex<BTreeMap<String, usize>>,
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
            accounts: Mutex::default(),
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

/// Counts a connection, or a flow, while it lives.
#[derive(Debug)]
pub(crate) struct Counted {
    shared: Arc<Shared>,
    account: String,
}

impl Counted {
    /// None: there are as many as there may be, of all or of the account.
    pub(crate) fn new(shared: &Arc<Shared>, account: &str) -> Option<Self> {
        if shared.connections.load(Relaxed) >= CONNECTIONS_MAX {
            return None;
        }
        let mut accounts = shared.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let of_account = accounts.entry(account.to_owned()).or_default();
        if *of_account >= ACCOUNT_CONNECTIONS_MAX {
            return None;
        }
        *of_account += 1;
        drop(accounts);
        shared.connections.fetch_add(1, Relaxed);
        Some(Self { shared: Arc::clone(shared), account: account.to_owned() })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shared.connections.fetch_sub(1, Relaxed);
        let mut accounts = self.shared.accounts.lock().unwrap_or_else(PoisonError::into_inner);
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
    use longshore_types::{OsIds, SystemClock};

    use super::*;
    use crate::sockets::Sockets;

    #[test]
    fn an_account_leaves_room_for_the_others() {
        let sockets = Sockets::start(Arc::new(crate::tests::Nowhere)).unwrap();
        let (logs, _writer) =
            crate::log::channel("/nowhere".into(), "eu-north-1".to_owned(), Arc::new(SystemClock));
        let key = CookieKey::new(&[0; CookieKey::BYTES]);
        let shared = Shared::new(Arc::new(SystemClock), Arc::new(OsIds), key, logs, sockets);
        let shared = Arc::new(shared);
        let take = |account| Counted::new(&shared, account);
        let mut held: Vec<Counted> =
            (0..ACCOUNT_CONNECTIONS_MAX).map(|_| take("greedy").unwrap()).collect();
        assert!(take("greedy").is_none());
        assert!(take("other").is_some());
        held.pop();
        assert!(take("greedy").is_some());
        drop(held);
        assert_eq!(
            (shared.connections.load(Relaxed), shared.accounts.lock().unwrap().len()),
            (0, 0)
        );
    }
}
