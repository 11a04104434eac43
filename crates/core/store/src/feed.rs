//! What changed, told to whoever watches: the keys of each durable commit.
//!
//! Nothing is gathered while nobody watches. A watcher that falls too far behind is not waited for and
//! its memory does not grow: it is told to look at everything.
//!
//! **Invariant:** when a watcher is told of a change, the durable view has it already.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::{Key, Seq};
use tokio::sync::Notify;

use crate::CHANGES_WAITING_MAX;

/// A row that was written or removed, and the last commit that did so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub seq: Seq,
    pub key: Key,
}

/// What a watcher has not been told yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// These rows, in the order of their commits; a row may be named more than once.
    Rows(Vec<Change>),
    /// Too many rows to name them.
    Everything,
}

impl Changed {
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Rows(rows) => rows.is_empty(),
            Self::Everything => false,
        }
    }
}

/// A watcher's end. It hears of everything that becomes durable after it was made.
#[derive(Debug)]
pub struct Changes {
    watcher: Arc<Watcher>,
    watched: Arc<AtomicUsize>,
}

impl Changes {
    /// What there is now; nothing if nothing changed since it was last asked.
    pub fn take(&self) -> Changed {
        std::mem::replace(&mut *self.watcher.waiting(), Changed::Rows(Vec::new()))
    }

    /// Waits until there is something. Being cancelled loses nothing.
    pub async fn next(&self) -> Changed {
        loop {
            let changed = self.take();
            if !changed.is_empty() {
                return changed;
            }
            self.watcher.wake.notified().await;
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.watched.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Watcher {
    waiting: Mutex<Changed>,
    wake: Notify,
}

impl Watcher {
    fn waiting(&self) -> MutexGuard<'_, Changed> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, changes: &[Change]) {
        let mut waiting = self.waiting();
        if let Changed::Rows(rows) = &mut *waiting {
            if CHANGES_WAITING_MAX < rows.len() + changes.len() {
                *waiting = Changed::Everything;
            } else {
                rows.extend_from_slice(changes);
            }
        }
        drop(waiting);
        self.wake.notify_one();
    }

    fn tell_everything(&self) {
        *self.waiting() = Changed::Everything;
        self.wake.notify_one();
    }
}

/// The store's end.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    watchers: Mutex<Vec<Arc<Watcher>>>,
    /// How many watchers there are, to be asked without a lock.
    watched: Arc<AtomicUsize>,
}

impl Feed {
    pub(crate) fn watch(&self) -> Changes {
        let waiting = Mutex::new(Changed::Rows(Vec::new()));
        let watcher = Arc::new(Watcher { waiting, wake: Notify::new() });
        self.watchers().push(Arc::clone(&watcher));
        self.watched.fetch_add(1, Ordering::Relaxed);
        Changes { watcher, watched: Arc::clone(&self.watched) }
    }

    /// Whether anybody wants to know.
    pub(crate) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed) > 0
    }

    /// To be called once `changes` are in the durable view.
    pub(crate) fn tell(&self, changes: &[Change]) {
        if !changes.is_empty() {
            self.each(|watcher| watcher.tell(changes));
        }
    }

    /// To be called when what was accepted has been undone: decisions may have seen it.
    pub(crate) fn tell_everything(&self) {
        self.each(Watcher::tell_everything);
    }

    fn each(&self, tell: impl Fn(&Watcher)) {
        let mut watchers = self.watchers();
        // A watcher that only we still hold has gone.
        watchers.retain(|watcher| 1 < Arc::strong_count(watcher));
        watchers.iter().for_each(|watcher| tell(watcher));
    }

    fn watchers(&self) -> MutexGuard<'_, Vec<Arc<Watcher>>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
