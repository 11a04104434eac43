//! What could not be done is tried again after a pause, which grows for as long as it fails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{REFUSED_PAUSE, REFUSED_PAUSE_MAX};

/// What failed last, each with when it is tried again and how long that is after it failed.
#[derive(Debug)]
pub(crate) struct Retries<K>(Mutex<BTreeMap<K, (Instant, Duration)>>);

impl<K> Default for Retries<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord + Clone> Retries<K> {
    fn held(&self) -> MutexGuard<'_, BTreeMap<K, (Instant, Duration)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of all that there is to do, what is tried now. Whatever else failed is forgotten.
    pub(crate) fn due(&self, all: Vec<K>) -> Vec<K> {
        let (now, all) = (Instant::now(), all.into_iter().collect::<BTreeSet<K>>());
        let mut held = self.held();
        held.retain(|key, _| all.contains(key));
        let is_due = |key: &K| held.get(key).is_none_or(|(next, _)| *next <= now);
        all.into_iter().filter(is_due).collect()
    }

    /// It failed; says whether that is to be told: once the pause is as long as it gets, it was.
    pub(crate) fn failed(&self, key: &K) -> bool {
        let mut held = self.held();
        let before = held.get(key).map(|(_, pause)| *pause * 2);
        let pause = before.unwrap_or(REFUSED_PAUSE).min(REFUSED_PAUSE_MAX);
        held.insert(key.clone(), (Instant::now() + pause, pause));
        pause < REFUSED_PAUSE_MAX
    }

    pub(crate) fn done(&self, key: &K) {
        self.held().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_fails_is_tried_the_less_often_the_longer_it_does() {
        let retries = Retries::default();
        let is_due = || !retries.due(vec!["a"]).is_empty();
        let (mut told, mut pause) = (0, REFUSED_PAUSE);
        for _ in 0..20 {
            assert!(is_due());
            told += usize::from(retries.failed(&"a"));
            assert!(!is_due());
            tokio::time::advance(pause).await;
            pause = (pause * 2).min(REFUSED_PAUSE_MAX);
        }
        assert_eq!(told, 7);
        retries.failed(&"a");
        assert_eq!(retries.due(vec!["b"]), ["b"]);
        assert!(is_due(), "it was not to be done in between");
        retries.failed(&"a");
        retries.done(&"a");
        assert!(is_due());
    }
}
