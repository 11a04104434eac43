//! How much output may be in memory on its way, of one run and of all.
//!
//! Output waits in its spool on disk; what is in memory is only what is about to be sent. Every run has a
//! little of its own, so that nobody's lines wait for another's. A run that is louder takes one of a few
//! seats, with which it may hold a whole batch; without one it sends smaller batches.
//!
//! **Invariant:** runs hold [`OWN_BYTES_MAX`] each, [`SEAT_BYTES_MAX`] with one of [`SEATS_MAX`] seats, and one
//! piece of output more at most.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a run may hold without a seat.
pub(crate) const OWN_BYTES_MAX: usize = 32 << 10;
/// What a run may hold with a seat: a batch of small events takes so much, or one that is being sent
/// together with three events of the largest size that are not complete.
pub(crate) const SEAT_BYTES_MAX: usize = 3 << 20;
pub(crate) const SEATS_MAX: usize = 8;

/// Shared by all runs of a host. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    seats: Arc<Semaphore>,
    held: Arc<AtomicUsize>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { seats: Arc::new(Semaphore::new(SEATS_MAX)), held: Arc::default() }
    }
}

impl Budget {
    /// A run's part, which is empty at first.
    pub(crate) fn join(&self) -> Share {
        Share { budget: self.clone(), held: 0, seat: None }
    }

    /// What all runs hold together.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

/// What one run holds.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Budget,
    held: usize,
    seat: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// Takes note of how much is held now; asks for a seat if that is much, and gives it back if not.
    pub(crate) fn hold(&mut self, bytes: usize) {
        let total = &self.budget.held;
        total.fetch_add(bytes, Ordering::Relaxed);
        total.fetch_sub(self.held, Ordering::Relaxed);
        self.held = bytes;
        if bytes < OWN_BYTES_MAX {
            self.seat = None;
        } else if self.seat.is_none() {
            self.seat = Arc::clone(&self.budget.seats).try_acquire_owned().ok();
        }
    }

    /// Whether more may be read.
    pub(crate) fn has_room(&self) -> bool {
        self.held < if self.seat.is_some() { SEAT_BYTES_MAX } else { OWN_BYTES_MAX }
    }

    /// Whether only a seat would make room.
    pub(crate) fn is_crowded(&self) -> bool {
        self.seat.is_none() && OWN_BYTES_MAX <= self.held
    }

    /// Waits for a seat.
    pub(crate) async fn take_seat(&mut self) {
        // Nobody closes it.
        self.seat = Arc::clone(&self.budget.seats).acquire_owned().await.ok();
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.held, Ordering::Relaxed);
    }
}
