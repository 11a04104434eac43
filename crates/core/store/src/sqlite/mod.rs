//! The embedded store: one SQLite file that people can open, copy and stream to a backup.
//!
//! One thread owns the connection. It takes every batch that waits, writes them in one transaction
//! and answers after the sync: many decisions, one fsync. If a write fails, everything that was
//! accepted and is not on disk is undone and refused, and the store goes on.

mod file;
mod load;
mod log;
mod schema;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use model::View;
use tokio::sync::{oneshot, watch};

use crate::batch::{Batch, CommitError, Pending};
use crate::feed::{Changes, Feed};
use crate::ledger::Ledger;
use crate::{BATCHES_WAITING_MAX, Seq, Store};

use file::{FileLock, LogReserve};
use writer::{Work, Writer};

/// How a file is opened.
#[derive(Clone, Debug, Default)]
pub struct SqliteOptions {
    /// The most pages of 4 KiB that the file may grow to; unlimited if absent.
    pub pages_max: Option<u32>,
    /// Keeps room for changes when the disk is full. Batches that make new rows are refused then, and those that
    /// only change or remove some are written: what is there can still be stopped.
    pub has_reserve: bool,
}

/// Why a file can't be our store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path} is in use by another region{}", owner_text(.owner.as_deref()))]
    InUse { path: PathBuf, owner: Option<String> },
    #[error("{path} is a database, but not a region's")]
    NotOurs { path: PathBuf },
    #[error(
        "{path} was written by {}, with schema version {found}; this is release {} and knows \
         versions up to {known}: start the newer release again, or restore a copy of before it",
        release_text(.release.as_deref()),
        env!("CARGO_PKG_VERSION")
    )]
    TooNew { path: PathBuf, found: i64, known: i64, release: Option<String> },
    #[error("{path} has a row that can't be read: {kind} {id}")]
    BadRow { path: PathBuf, kind: String, id: String, source: serde_json::Error },
    #[error("{path} has a row of a kind that this release doesn't know: {kind} {id}")]
    UnknownKind { path: PathBuf, kind: String, id: String },
    #[error("failed to lock {path}")]
    Lock { path: PathBuf, source: std::io::Error },
    #[error("failed to open {path}")]
    Open { path: PathBuf, source: rusqlite::Error },
    #[error("failed to start the store's writer")]
    Thread { source: std::io::Error },
}

fn owner_text(owner: Option<&str>) -> String {
    owner.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

fn release_text(release: Option<&str>) -> String {
    release.map_or_else(|| "a newer release".to_owned(), |name| format!("release {name}"))
}

/// What submitters and the writer share.
#[derive(Debug)]
struct Shared {
    ledger: Mutex<Ledger>,
    durable_seq: watch::Sender<Seq>,
    feed: Feed,
    waiting: AtomicUsize,
    reserve: Option<LogReserve>,
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A store in a file of SQLite's.
#[derive(Debug)]
pub struct SqliteStore {
    shared: Arc<Shared>,
    /// Taken, and so closed, when the store is dropped.
    queue: Option<mpsc::Sender<Work>>,
    writer: Option<JoinHandle<()>>,
    _lock: FileLock,
}

impl SqliteStore {
    /// Opens or creates the file at `path`, and reads it all.
    pub fn open(path: &Path, options: &SqliteOptions) -> Result<Self, OpenError> {
        let lock = FileLock::take(path)?;
        let connection = file::connect(path, options)?;
        let (view, log) = load::load(path, &connection)?;
        let reserve = options.has_reserve.then(|| LogReserve::take(path)).flatten();
        let shared = Arc::new(Shared {
            durable_seq: watch::Sender::new(view.seq),
            feed: Feed::default(),
            ledger: Mutex::new(Ledger::new(view)),
            waiting: AtomicUsize::new(0),
            reserve,
        });
        let (queue, works) = mpsc::channel();
        let writer = Writer::new(connection, log, works, Arc::clone(&shared));
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| OpenError::Thread { source })?;
        Ok(Self { shared, queue: Some(queue), writer: Some(writer), _lock: lock })
    }
}

impl Store for SqliteStore {
    fn latest(&self) -> Arc<View> {
        self.shared.ledger().latest()
    }

    fn durable(&self) -> Arc<View> {
        self.shared.ledger().durable()
    }

    fn submit(&self, batch: Batch) -> Result<Pending, CommitError> {
        let queue = self.queue.as_ref().ok_or(CommitError::Closed)?;
        if BATCHES_WAITING_MAX <= self.shared.waiting.load(Ordering::Relaxed) {
            return Err(CommitError::Overloaded);
        }
        let is_full = self.shared.reserve.as_ref().is_some_and(LogReserve::is_disk_full);
        // Accepting and queueing are one step, so that the queue is in the order of commits.
        let mut ledger = self.shared.ledger();
        let latest = ledger.latest();
        if is_full && batch.writes.iter().any(|row| latest.seq_of(&row.key()).is_none()) {
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(CommitError::Failed(Arc::new(full)));
        }
        drop(latest);
        let seq = ledger.accept(&batch)?.seq;
        if batch.is_empty() && ledger.is_settled() {
            return Ok(Pending::ready(seq));
        }
        let (answer, receiver) = oneshot::channel();
        let Batch { writes, deletes, .. } = batch;
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        if queue.send(Work { seq, writes, deletes, answer }).is_err() {
            ledger.roll_back();
            return Err(CommitError::Closed);
        }
        Ok(Pending::waiting(seq, receiver))
    }

    fn subscribe(&self) -> watch::Receiver<Seq> {
        self.shared.durable_seq.subscribe()
    }

    fn changes(&self) -> Changes {
        // Under the lock: what a view taken later does not have, is told.
        let _ledger = self.shared.ledger();
        self.shared.feed.watch()
    }
}

impl Drop for SqliteStore {
    /// Writes what waits, closes the file, then gives up the lock.
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the store's writer panicked");
        }
    }
}
