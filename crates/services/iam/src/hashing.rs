//! Making hashes of passwords.
//!
//! **Invariant:** a hash is made on a thread of its own, few at once and few that wait, so that whoever guesses
//! passwords keeps nobody's requests waiting; and strangers do not take the places of those who are known.

use std::num::NonZeroU32;
use std::sync::Arc;

use aws_wire::ApiError;
use longshore_types::Token;
use tokio::sync::Semaphore;
use vault::PasswordHash;

use crate::errors::Refusal;
use crate::limits::{HASHES_AT_ONCE, HASHES_WAITING_MAX};

/// For whom a hash is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    /// Who has shown a key or a password.
    Known,
    Stranger,
}

/// Where hashes of passwords are made.
#[derive(Debug)]
pub(crate) struct Hashing {
    pub(crate) rounds: NonZeroU32,
    working: Arc<Semaphore>,
    known: Semaphore,
    strangers: Semaphore,
}

impl Hashing {
    pub(crate) fn new(rounds: NonZeroU32) -> Self {
        Self {
            rounds,
            working: Arc::new(Semaphore::new(HASHES_AT_ONCE)),
            known: Semaphore::new(HASHES_WAITING_MAX),
            strangers: Semaphore::new(HASHES_WAITING_MAX),
        }
    }

    pub(crate) async fn hash(
        &self,
        password: Token,
        salt: Token,
        rounds: NonZeroU32,
        whom: For,
    ) -> Result<PasswordHash, ApiError> {
        let places = match whom {
            For::Known => &self.known,
            For::Stranger => &self.strangers,
        };
        let _place = places.try_acquire().map_err(|_| Refusal::TooManyPasswords.wire())?;
        let closed = |error| ApiError::fault("failed to wait for a password's hash", error);
        let turn = Arc::clone(&self.working).acquire_owned().await.map_err(closed)?;
        let made = tokio::task::spawn_blocking(move || {
            let hash = PasswordHash::of(&password, &salt, rounds);
            drop(turn);
            hash
        });
        made.await.map_err(|error| ApiError::fault("failed to hash a password", error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn strangers_leave_places_to_those_who_are_known() {
        let hashing = Hashing::new(NonZeroU32::new(2).unwrap());
        let token = |text: &str| Token::from_text(text.to_owned());
        let ask =
            async |whom| hashing.hash(token("password"), token("salt"), hashing.rounds, whom).await;
        let many = u32::try_from(HASHES_WAITING_MAX).unwrap();
        let all = hashing.strangers.try_acquire_many(many).unwrap();
        assert_eq!(ask(For::Stranger).await.unwrap_err().code, "Throttling");
        ask(For::Known).await.unwrap();
        drop(all);
        ask(For::Stranger).await.unwrap();
    }
}
