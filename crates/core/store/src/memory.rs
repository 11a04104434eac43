//! The whole contract, in memory: for tests, and for regions that are thrown away.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::View;
use tokio::sync::watch;

use crate::batch::{Batch, CommitError, Pending};
use crate::feed::{Changes, Feed};
use crate::ledger::Ledger;
use crate::{Seq, Store};

/// A store whose disk is its memory.
#[derive(Debug)]
pub struct MemoryStore {
    ledger: Mutex<Ledger>,
    durable_seq: watch::Sender<Seq>,
    feed: Feed,
}

impl MemoryStore {
    pub fn new() -> Self {
        Self {
            ledger: Mutex::new(Ledger::new(View::default())),
            durable_seq: watch::Sender::default(),
            feed: Feed::default(),
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Store for MemoryStore {
    fn latest(&self) -> Arc<View> {
        self.ledger().latest()
    }

    fn durable(&self) -> Arc<View> {
        self.ledger().durable()
    }

    fn submit(&self, batch: Batch) -> Result<Pending, CommitError> {
        let mut ledger = self.ledger();
        let view = ledger.accept(&batch)?;
        let seq = view.seq;
        ledger.make_durable(view);
        if !batch.is_empty() {
            self.durable_seq.send_replace(seq);
            if self.feed.is_watched() {
                // Under the lock, so that watchers hear of commits in their order.
                self.feed.tell(&batch.changes(seq).collect::<Vec<_>>());
            }
        }
        Ok(Pending::ready(seq))
    }

    fn subscribe(&self) -> watch::Receiver<Seq> {
        self.durable_seq.subscribe()
    }

    fn changes(&self) -> Changes {
        // Under the lock: what a view taken later does not have, is told.
        let _ledger = self.ledger();
        self.feed.watch()
    }
}
