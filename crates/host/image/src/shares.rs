//! Permits of which everybody has a share: whoever is slow holds up their own, not others.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// As many permits for each key, which exist as long as somebody holds or wants one of them.
#[derive(Debug)]
pub(crate) struct Shares<K> {
    of_each: usize,
    known: Mutex<HashMap<K, Weak<Semaphore>>>,
}

impl<K: Eq + Hash> Shares<K> {
    pub(crate) fn new(of_each: usize) -> Self {
        Self { of_each: of_each.max(1), known: Mutex::new(HashMap::new()) }
    }

    /// Waits for a permit among those of `key`. None if there will be none any more.
    pub(crate) async fn enter(&self, key: K) -> Option<OwnedSemaphorePermit> {
        let share = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|_, share| share.strong_count() > 0);
            known.get(&key).and_then(Weak::upgrade).unwrap_or_else(|| {
                let fresh = Arc::new(Semaphore::new(self.of_each));
                known.insert(key, Arc::downgrade(&fresh));
                fresh
            })
        };
        share.acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_holds_all_of_a_share_holds_up_nobody_elses() {
        let shares = Shares::new(2);
        let held = [shares.enter("slow").await, shares.enter("slow").await];
        assert!(futures_util::FutureExt::now_or_never(shares.enter("slow")).is_none());
        assert!(shares.enter("other").await.is_some());
        drop(held);
        assert!(shares.enter("slow").await.is_some());
        let _third = shares.enter("third").await;
        assert_eq!(shares.known.lock().unwrap().len(), 1, "what nobody holds is forgotten");
    }
}
