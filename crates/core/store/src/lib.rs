//! How a decision becomes durable: read a view, decide, submit against what was read.
//!
//! Rows are written, not commands: a file made by an older release needs no old code to be read.
//! Two views exist at any time. [`Store::latest`] has every accepted batch and is what decisions
//! read; [`Store::durable`] has only what is on disk and is what answers and effects are made from.
//! They differ by the group of commits that is being written, a millisecond's worth.
//!
//! **Invariant:** a batch is applied whole or not at all, in one order that everyone sees, and an
//! acknowledged one survives SIGKILL and power loss. [`memory`] and [`sqlite`] pass one suite.

#![allow(
    clippy::disallowed_types,
    reason = "maps that are looked up by key; no decision goes through them in order"
)]

mod batch;
mod feed;
mod ledger;
pub mod memory;
pub mod sqlite;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use model::View;
use tokio::sync::watch;

pub use batch::{Batch, CommitError, Pending};
pub use feed::{Change, Changed, Changes};
pub use memory::MemoryStore;
pub use model::{Dep, Index, Key, Kind, Row, Seq};
pub use sqlite::{OpenError, SqliteOptions, SqliteStore};

/// The most rows that one batch may write and delete, those of waiting events aside.
pub const BATCH_ROWS_MAX: usize = 500;

/// The most batches that may wait for the disk, and so are written with one sync; more are refused.
pub const BATCHES_WAITING_MAX: usize = 65_536;

/// With less room than this on the disk nothing new is written.
pub const DISK_FULL_BYTES: u64 = 1 << 20;

/// The most changed rows that wait for one watcher; one that lags more is told to look at everything.
pub const CHANGES_WAITING_MAX: usize = 65_536;

/// Keeps the region's rows.
pub trait Store: Send + Sync + fmt::Debug {
    /// The state with every accepted batch, durable or not yet: what decisions read.
    fn latest(&self) -> Arc<View>;

    /// The state as it is on disk: what answers and effects are made from.
    fn durable(&self) -> Arc<View>;

    /// Accepts all of `batch` or none of it. It is in [`Store::latest`] when this returns, and on
    /// disk when the [`Pending`] says so. A batch without rows waits for what it was based on.
    fn submit(&self, batch: Batch) -> Result<Pending, CommitError>;

    /// Wakes whoever watches each time that the durable state has moved on.
    fn subscribe(&self) -> watch::Receiver<Seq>;

    /// Tells which rows change from now on, each once its commit is durable.
    fn changes(&self) -> Changes;

    /// Submits and waits until it is on disk.
    fn commit(
        &self,
        batch: Batch,
    ) -> Pin<Box<dyn Future<Output = Result<Seq, CommitError>> + Send + '_>> {
        let submitted = self.submit(batch);
        Box::pin(async move { submitted?.await })
    }
}
