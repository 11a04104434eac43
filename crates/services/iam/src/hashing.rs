//! Making hashes of passwords, and how often one may be guessed.
//!
//! **Invariants:** a hash is made on a thread of its own, few at once and few that wait, so that whoever guesses
//! passwords keeps nobody's requests waiting; and what is said of a wrong password does not say whether there is one.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use aws_wire::ApiError;
use longshore_types::{AccountId, Timestamp, Token};
use tokio::sync::Semaphore;
use vault::PasswordHash;

use crate::errors::Refusal;
use crate::limits::{GUESSED_MAX, GUESSES_MAX, GUESSES_MS, HASHES_AT_ONCE, HASHES_WAITING_MAX};

/// Where hashes of passwords are made.
#[derive(Debug)]
pub(crate) struct Hashing {
    pub(crate) rounds: NonZeroU32,
    working: Arc<Semaphore>,
    waiting: Semaphore,
    wrong: Mutex<BTreeMap<(AccountId, String), Wrong>>,
}

/// The wrong passwords of a name since the first of them.
#[derive(Clone, Copy, Debug)]
struct Wrong {
    count: u32,
    since: Timestamp,
}

impl Hashing {
    pub(crate) fn new(rounds: NonZeroU32) -> Self {
        Self {
            rounds,
            working: Arc::new(Semaphore::new(HASHES_AT_ONCE)),
            waiting: Semaphore::new(HASHES_WAITING_MAX),
            wrong: Mutex::default(),
        }
    }

    pub(crate) async fn hash(
        &self,
        password: Token,
        salt: Token,
        rounds: NonZeroU32,
    ) -> Result<PasswordHash, ApiError> {
        let _place = self.waiting.try_acquire().map_err(|_| Refusal::TooManyPasswords.wire())?;
        let closed = |error| ApiError::fault("failed to wait for a password's hash", error);
        let turn = Arc::clone(&self.working).acquire_owned().await.map_err(closed)?;
        let made = tokio::task::spawn_blocking(move || {
            let hash = PasswordHash::of(&password, &salt, rounds);
            drop(turn);
            hash
        });
        made.await.map_err(|error| ApiError::fault("failed to hash a password", error))
    }

    /// Refuses who has been wrong too often of late.
    pub(crate) fn may_try(
        &self,
        account: AccountId,
        user: &str,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        let is_shut = wrong.get(&(account, user.to_ascii_lowercase())).is_some_and(|wrong| {
            GUESSES_MAX <= wrong.count && now.since_ms(wrong.since) < GUESSES_MS
        });
        if is_shut { Err(Refusal::TooManyGuesses.wire()) } else { Ok(()) }
    }

    pub(crate) fn was_wrong(&self, account: AccountId, user: &str, now: Timestamp) {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.retain(|_, wrong| now.since_ms(wrong.since) < GUESSES_MS);
        let name = (account, user.to_ascii_lowercase());
        if !wrong.contains_key(&name) && GUESSED_MAX <= wrong.len() {
            let oldest = wrong.iter().min_by_key(|(_, wrong)| wrong.since);
            let oldest = oldest.map(|(name, _)| name.clone());
            oldest.and_then(|name| wrong.remove(&name));
        }
        let known = wrong.entry(name).or_insert(Wrong { count: 0, since: now });
        known.count = known.count.saturating_add(1);
    }

    pub(crate) fn was_right(&self, account: AccountId, user: &str) {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.remove(&(account, user.to_ascii_lowercase()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_was_guessed_at_too_often_is_shut_for_a_while_and_others_are_not() {
        let hashing = Hashing::new(PasswordHash::ROUNDS);
        let account: AccountId = "111122223333".parse().unwrap();
        let at = |ms| Timestamp(1_000_000 + ms);
        for _ in 1..GUESSES_MAX {
            hashing.was_wrong(account, "Ann", at(0));
        }
        assert!(hashing.may_try(account, "ann", at(1)).is_ok());
        hashing.was_wrong(account, "ann", at(1));
        assert!(hashing.may_try(account, "ANN", at(2)).is_err());
        assert!(hashing.may_try(account, "bob", at(2)).is_ok());
        assert!(hashing.may_try(account, "ann", at(GUESSES_MS)).is_ok());
        hashing.was_right(account, "ann");
        assert!(hashing.may_try(account, "ann", at(2)).is_ok());
        for number in 0..2 * GUESSED_MAX {
            hashing.was_wrong(account, &format!("n{number}"), at(3));
        }
        assert_eq!(hashing.wrong.lock().unwrap().len(), GUESSED_MAX);
    }
}
