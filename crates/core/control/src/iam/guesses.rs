//! How often something secret and short may be guessed: a password, a one-time code.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use longshore_types::{AccountId, Timestamp};

/// Wrong guesses of a name within this time, after which it is not asked any more until the time is over.
pub const GUESSES_MAX: u32 = 10;
pub const GUESSES_MS: u64 = 15 * 60_000;
/// Names whose wrong guesses are counted.
pub const GUESSED_MAX: usize = 10_000;

/// The wrong guesses of late. They are forgotten when the region ends.
#[derive(Debug, Default)]
pub struct Guesses(Mutex<BTreeMap<(AccountId, String), Wrong>>);

/// Those of a name since the first of them.
#[derive(Clone, Copy, Debug)]
struct Wrong {
    count: u32,
    since: Timestamp,
}

impl Guesses {
    /// Whether another guess is taken.
    pub fn may_try(&self, account: AccountId, name: &str, now: Timestamp) -> bool {
        let wrong = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = wrong.get(&(account, name.to_ascii_lowercase()));
        known.is_none_or(|wrong| {
            wrong.count < GUESSES_MAX || GUESSES_MS <= now.since_ms(wrong.since)
        })
    }

    pub fn was_wrong(&self, account: AccountId, name: &str, now: Timestamp) {
        let mut wrong = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.retain(|_, wrong| now.since_ms(wrong.since) < GUESSES_MS);
        let name = (account, name.to_ascii_lowercase());
        if !wrong.contains_key(&name) && GUESSED_MAX <= wrong.len() {
            let oldest = wrong.iter().min_by_key(|(_, wrong)| wrong.since);
            let oldest = oldest.map(|(name, _)| name.clone());
            oldest.and_then(|name| wrong.remove(&name));
        }
        let known = wrong.entry(name).or_insert(Wrong { count: 0, since: now });
        known.count = known.count.saturating_add(1);
    }

    pub fn was_right(&self, account: AccountId, name: &str) {
        let mut wrong = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.remove(&(account, name.to_ascii_lowercase()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_was_guessed_at_too_often_is_shut_for_a_while_and_others_are_not() {
        let guesses = Guesses::default();
        let account: AccountId = "111122223333".parse().unwrap();
        let at = |ms| Timestamp(1_000_000 + ms);
        for _ in 1..GUESSES_MAX {
            guesses.was_wrong(account, "Ann", at(0));
        }
        assert!(guesses.may_try(account, "ann", at(1)));
        guesses.was_wrong(account, "Ann", at(1));
        assert!(!guesses.may_try(account, "ANN", at(2)));
        assert!(guesses.may_try(account, "bob", at(2)));
        assert!(guesses.may_try(account, "ann", at(GUESSES_MS)));
        guesses.was_right(account, "ann");
        assert!(guesses.may_try(account, "ann", at(2)));
        for number in 0..2 * GUESSED_MAX {
            guesses.was_wrong(account, &format!("n{number}"), at(3));
        }
        assert_eq!(guesses.0.lock().unwrap().len(), GUESSED_MAX);
    }
}
