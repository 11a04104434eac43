//! Making hashes of passwords.
//!
//! **Invariant:** a hash is made on a thread of its own, few at once and few that wait, so that whoever guesses
//! passwords keeps nobody's requests waiting.

use std::num::NonZeroU32;
use std::sync::Arc;

use aws_wire::ApiError;
use longshore_types::Token;
use tokio::sync::Semaphore;
use vault::PasswordHash;

use crate::errors::Refusal;
use crate::limits::{HASHES_AT_ONCE, HASHES_WAITING_MAX};

/// Where hashes of passwords are made.
#[derive(Debug)]
pub(crate) struct Hashing {
    pub(crate) rounds: NonZeroU32,
    working: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Hashing {
    pub(crate) fn new(rounds: NonZeroU32) -> Self {
        Self {
            rounds,
            working: Arc::new(Semaphore::new(HASHES_AT_ONCE)),
            waiting: Semaphore::new(HASHES_WAITING_MAX),
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
}
