//! One worker per key: whoever comes second waits and then finds the work done.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// A lock for each key, which exists as long as somebody holds or wants it.
#[derive(Debug)]
pub struct Flights<K> {
    locks: Mutex<HashMap<K, Weak<AsyncMutex<()>>>>,
}

impl<K> Default for Flights<K> {
    fn default() -> Self {
        Self { locks: Mutex::new(HashMap::new()) }
    }
}

impl<K: Eq + Hash> Flights<K> {
    /// Waits until nobody else works on `key`.
    pub async fn enter(&self, key: K) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| lock.strong_count() > 0);
            let known = locks.get(&key).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let fresh = Arc::new(AsyncMutex::new(()));
                locks.insert(key, Arc::downgrade(&fresh));
                fresh
            })
        };
        lock.lock_owned().await
    }
}
