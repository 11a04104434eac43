//! The line to the region: the table comes, reports go. Neither stops the other, nor what is served.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use files::whole::{self, Durability};
use futures_util::future::BoxFuture;
use longshore_types::Chain;
use routing::{REPORT_INTERVAL_MS, Report, Table, Update};
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{Mutex, MutexGuard, watch};
use tokio::time::timeout;
use tracing::{info, warn};

use crate::handover;
use crate::limits::{READ_WAIT, REPORT_PAUSE, RETRY_PAUSE};
use crate::listen::Listeners;
use crate::live::Snapshot;
use crate::shared::Shared;

/// Why the region was not heard.
#[derive(Debug, thiserror::Error)]
#[error("failed to {doing}")]
pub struct FeedError {
    pub doing: &'static str,
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// The region as a balancer's process knows it.
pub trait Feed: Send + Sync + std::fmt::Debug {
    /// What changed since `version` (0: everything is asked for), at once if something did, else after `wait` at the latest.
    fn read(&self, version: u64, wait: Duration) -> BoxFuture<'_, Result<Update, FeedError>>;
    fn report(&self, report: Report) -> BoxFuture<'_, Result<(), FeedError>>;
}

/// The file in which the last table is kept: with it a process begins while the region is away.
#[derive(Clone, Debug)]
pub(crate) struct Saved(pub(crate) PathBuf);

impl Saved {
    /// The table as it was served last; empty if there is none that can be read.
    pub(crate) fn load(&self) -> Table {
        match whole::read_json::<Table>(&self.0).and_then(whole::Found::value) {
            Ok(table) => table.unwrap_or_default(),
            Err(error) => {
                warn!(error = %Chain(&error), "the saved table cannot be read; the region's is waited for");
                Table::default()
            }
        }
    }

    async fn save(&self, table: &Table) {
        let Ok(text) = serde_json::to_vec(table) else { return };
        let path = self.0.clone();
        let write = move || whole::write(&path, &text, Durability::DiesWithTheMachine);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(write).await {
            warn!(error = %Chain(&error), "the table could not be saved");
        }
    }
}

/// The table that is served by, and the sockets that are opened for it.
#[derive(Debug)]
pub(crate) struct ServedTable(Mutex<Arc<Table>>);

impl ServedTable {
    pub(crate) fn new(table: Table) -> Self {
        Self(Mutex::new(Arc::new(table)))
    }

    /// No other is served by while this is held.
    pub(crate) async fn stays(&self) -> MutexGuard<'_, Arc<Table>> {
        self.0.lock().await
    }
}

/// Reads tables and serves by them, while the process lives.
pub(crate) async fn follow(
    (shared, missing_wait): (Arc<Shared>, Duration),
    feed: Arc<dyn Feed>,
    listeners: Arc<Listeners>,
    saved: Saved,
    served: Arc<ServedTable>,
) {
    let mut table = Arc::clone(&*served.stays().await);
    let mut is_away = false;
    // What was saved is served, but whether it is the region's is yet to be heard: a region that was set up anew
    // counts its versions from the beginning.
    let mut known = 0;
    loop {
        // An address or an interface may come to this machine, or a port become free.
        let wait = if listeners.is_missing_some(&table) { missing_wait } else { READ_WAIT };
        let read = timeout(READ_WAIT * 2, feed.read(known, wait)).await;
        let update = match read {
            Ok(Ok(update)) => update,
            Ok(Err(error)) => {
                if !is_away {
                    warn!(error = %Chain(&error), "region is away, serving on by the last table");
                }
                is_away = true;
                tokio::time::sleep(RETRY_PAUSE).await;
                continue;
            }
            Err(_) => continue,
        };
        if is_away {
            info!("region is back");
        }
        is_away = false;
        if update == Update::Unchanged {
            if listeners.may_change(&table) {
                let _stays = served.stays().await;
                let before = listeners.said();
                listeners.follow(&table).await;
                // It is looked again and again, for as long as something is not there.
                if listeners.said() != before {
                    shared.changed.notify_one();
                }
            }
            continue;
        }
        let Some(next) = table.updated(update) else {
            // A change of another version: everything is asked for.
            known = 0;
            continue;
        };
        known = next.version;
        if next != *table {
            table = Arc::new(next);
            let mut last = served.stays().await;
            apply(&shared, &listeners, &table).await;
            *last = Arc::clone(&table);
            // Whoever has taken over saves its own.
            if !listeners.is_handed_over() {
                saved.save(&table).await;
            }
        }
    }
}

/// Serves by a table from now on.
pub(crate) async fn apply(shared: &Arc<Shared>, listeners: &Listeners, table: &Table) {
    let before = Arc::clone(&shared.snapshot.borrow());
    let next = Snapshot::new(table, &before, shared);
    let next = Arc::new(next);
    shared.snapshot.send_replace(Arc::clone(&next));
    next.settle(table, &before);
    listeners.follow(table).await;
    shared.changed.notify_one();
}

/// Whom a process tells what it sees.
#[derive(Debug)]
pub(crate) struct Teller {
    pub(crate) shared: Arc<Shared>,
    pub(crate) feed: Arc<dyn Feed>,
    pub(crate) listeners: Arc<Listeners>,
    pub(crate) node: String,
    /// What the process before this one still holds.
    pub(crate) before: watch::Receiver<Option<Report>>,
    /// The process after it, once there is one: it is told in the region's place.
    pub(crate) successor: Mutex<Option<OwnedWriteHalf>>,
}

impl Teller {
    /// Tells what is seen, whenever that changed and now and then, while the process lives.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let pause = Duration::from_millis(REPORT_INTERVAL_MS);
            let _ = timeout(pause, self.shared.changed.notified()).await;
            // What changes at the same time is told at once.
            tokio::time::sleep(REPORT_PAUSE).await;
            let snapshot = Arc::clone(&self.shared.snapshot.borrow());
            if !snapshot.is_settled() {
                continue;
            }
            let own = snapshot.report(&self.node, &self.shared.at_interfaces);
            let mut report = handover::with_held(own, self.before.borrow().as_ref());
            report.local = self.listeners.local();
            report.egress = self.listeners.egress();
            report.serving = self.listeners.serving();
            report.counting_since = self.shared.counting_since;
            report.figures = self.shared.figures.counted();
            if !self.tell(report).await {
                tokio::time::sleep(RETRY_PAUSE).await;
                self.shared.changed.notify_one();
            }
        }
    }

    async fn tell(&self, report: Report) -> bool {
        if !self.listeners.is_handed_over() {
            return matches!(timeout(READ_WAIT, self.feed.report(report)).await, Ok(Ok(())));
        }
        // Of one that has ended too: this one will soon. It is told whole, however long that takes: what is cut short is
        // nothing that it can read on from, and it would take this one for ended.
        if let Some(successor) = &mut *self.successor.lock().await {
            let _: io::Result<()> = handover::tell(successor, report).await;
        }
        true
    }
}
