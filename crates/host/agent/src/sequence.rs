//! The highest sequence number that was seen, of payloads and manifests alike, kept on disk.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use longshore_types::Chain;
use tracing::error;

use crate::state_dir::{InstanceRecord, StateDir};

#[derive(Debug)]
pub(crate) struct Sequence {
    dirs: StateDir,
    seen: AtomicI64,
    saved: Mutex<InstanceRecord>,
}

impl Sequence {
    pub(crate) fn new(dirs: StateDir, record: InstanceRecord) -> Self {
        let seen = AtomicI64::new(record.sequence);
        Self { dirs, seen, saved: Mutex::new(record) }
    }

    /// Raises it; false if it was at least as high already.
    pub(crate) fn raise(&self, to: i64) -> bool {
        self.seen.fetch_max(to, Ordering::SeqCst) < to
    }

    /// Writes down what was seen. Blocks; many callers share one write.
    pub(crate) fn save(&self) {
        let Ok(mut saved) = self.saved.lock() else { return };
        let seen = self.seen.load(Ordering::SeqCst);
        if seen <= saved.sequence {
            return;
        }
        let record = InstanceRecord { sequence: seen, ..saved.clone() };
        match self.dirs.save_instance(&record) {
            Ok(()) => *saved = record,
            Err(error) => error!(error = %Chain(&error), "sequence not saved"),
        }
    }
}
