//! What each reconciler is doing, for people.

use std::sync::{Arc, Mutex, PoisonError};

use longshore_types::Timestamp;
use serde::Serialize;

/// The last pass of a reconciler that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedPass {
    pub key: String,
    /// The error and its sources.
    pub error: String,
    pub at: Timestamp,
}

/// One reconciler, as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReconcilerStatus {
    pub name: &'static str,
    /// Keys that it keeps in mind.
    pub keys: usize,
    /// Keys that wait for their pass.
    pub ready: usize,
    /// Passes that are under way.
    pub under_way: usize,
    /// Passes that have ended since the region started.
    pub passes: u64,
    /// Of these, those that failed.
    pub failures: u64,
    pub last_pass_at: Option<Timestamp>,
    pub last_pass_micros: u64,
    pub longest_pass_micros: u64,
    pub last_failure: Option<FailedPass>,
    /// When the next pass is due, if nothing happens until then.
    pub next_alarm: Option<Timestamp>,
    pub last_full_pass_at: Option<Timestamp>,
}

/// The reconcilers of a driver, readable while it runs. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Status(Arc<Mutex<Vec<ReconcilerStatus>>>);

impl Status {
    /// In the order in which they were registered.
    pub fn read(&self) -> Vec<ReconcilerStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn register(&self, name: &'static str) -> usize {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(ReconcilerStatus { name, ..ReconcilerStatus::default() });
        all.len() - 1
    }

    pub(super) fn update(&self, number: usize, change: impl FnOnce(&mut ReconcilerStatus)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(status) = all.get_mut(number) {
            change(status);
        }
    }
}
