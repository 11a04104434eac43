//! How fast an account's rules have tasks run.
//!
//! A rule may want what the tasks themselves cause that it has run; so they make no more than the region bears, whatever
//! rules there are.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use longshore_types::{AccountId, Timestamp};

use crate::limits::{TASK_MS, TASKS_BURST};

/// Up to when each account's tasks take its time; one that is in the past has had none lately.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<BTreeMap<AccountId, Timestamp>>);

impl Pace {
    /// Takes a place for so many tasks, and says how long there is until it.
    pub(crate) fn take(&self, account: AccountId, tasks: u64, now: Timestamp) -> u64 {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, until| now < *until);
        let most = now.plus_ms(TASKS_BURST * TASK_MS + tasks * TASK_MS * 8);
        let until = all.entry(account).or_insert(now);
        // By a clock that was ahead.
        *until = (*until).min(most);
        let wait_ms = until.since_ms(now).saturating_sub(TASKS_BURST * TASK_MS);
        *until = until.plus_ms(tasks * TASK_MS);
        wait_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_s_tasks_follow_each_other_after_the_first_ones() {
        let pace = Pace::default();
        let [one, other] = ["000000000001", "000000000002"].map(|id| id.parse().unwrap());
        let now = Timestamp(1_000_000);
        let waits: Vec<_> = (0..103).map(|_| pace.take(one, 1, now)).collect();
        assert!(waits[..=100].iter().all(|wait| *wait == 0));
        assert_eq!(waits[101..], [TASK_MS, 2 * TASK_MS]);
        assert_eq!(pace.take(other, 10, now), 0, "the other has its own");
        let later = now.plus_ms(3 * TASK_MS);
        assert_eq!(pace.take(one, 1, later), 0);
        // The clock is set back by a day.
        assert!(pace.take(one, 1, Timestamp(0)) <= 10 * TASK_MS);
    }
}
