//! The one reconcile driver: every loop of a region is a [`Reconciler`] that is registered with a
//! [`Driver`].
//!
//! A reconciler names the keys that a changed row concerns, and reconciles one key at a time: it looks
//! at all that there is of it, does what is missing, and says when it wants to look again. The driver
//! reads [`store::Store::changes`], queues keys, runs passes within bounds, tries failed ones again,
//! and looks at every key in a slow full pass besides, so that a lost wake-up costs time and not truth.
//! A panic in a pass ends that pass only.
//!
//! **Invariants:** a key has at most one pass at a time; a change that a pass could not have seen leads
//! to another one.

mod driver;
mod forgetting;
mod lane;
mod queue;
mod status;
#[cfg(test)]
mod tests;
mod turns;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use longshore_types::{AccountId, Timestamp};
use model::{Seq, View};
use store::Change;

pub use driver::{Driver, Environment};
pub use forgetting::{FORGOTTEN_AT_ONCE_MAX, Forgetting};
pub use queue::Queue;
pub use status::{FailedPass, ReconcilerStatus, Status};

/// How long after a failed pass the next one is tried.
pub const RETRY_MS: u64 = 1_000;
/// How often every key is looked at, whatever changed.
pub const FULL_PASS: Duration = Duration::from_secs(300);
/// A full pass is spread: keys follow each other by this at most.
pub const FULL_PASS_GAP_MS_MAX: u64 = 10;

/// A future that outlives the borrow it was made from.
pub type PassFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// One loop of the region.
///
/// Idempotent: a pass that is run twice does nothing the second time.
pub trait Reconciler: Send + 'static {
    /// What one pass is about.
    type Key: Ord + Clone + fmt::Debug + Send + Sync + 'static;
    /// What a pass leaves for [`Reconciler::finished`].
    type Note: Send + 'static;
    /// Why a pass came to nothing.
    type Error: std::error::Error + Send + 'static;

    /// In the field's words, for logs and status: `services`, `lost-hosts`.
    fn name(&self) -> &'static str;

    /// Passes of different keys that may be under way at once.
    fn passes_max(&self) -> usize {
        1
    }

    /// Whose a key is, where that counts: accounts with keys that are due take turns, so that one with many of them, or with
    /// slow ones, keeps no other waiting.
    fn owner(&self, _key: &Self::Key) -> Option<AccountId> {
        None
    }

    /// Passes of one account's keys that may be under way at once.
    fn passes_each_max(&self) -> usize {
        usize::MAX
    }

    /// Queues the keys that a durable change concerns, as of `view`, which has it. In doubt a key is
    /// queued: looking once too often costs time, once too seldom breaks a promise.
    fn wake(&mut self, view: &View, change: &Change, queue: &mut Queue<Self::Key>);

    /// Every key for which there may be something to do. Whatever is remembered to tell changes that
    /// matter from others is made anew.
    fn keys(&mut self, view: &View) -> Vec<Self::Key>;

    /// Looks at one key and does what is missing.
    fn pass(&self, key: &Self::Key) -> PassFuture<Result<Pass<Self::Note>, Self::Error>>;

    /// Called when a pass has ended well, before its key is queued again.
    fn finished(&mut self, _key: &Self::Key, _note: Self::Note, _queue: &mut Queue<Self::Key>) {}
}

/// The one key of a reconciler that goes by time alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NowAndThen;

/// What a pass came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass<N> {
    /// The pass knew of every commit up to this one.
    pub looked_at: Seq,
    /// When it wants another pass, whatever happens until then.
    pub again_at: Option<Timestamp>,
    /// Before then its key is left alone, whatever happens.
    pub rests_until: Timestamp,
    /// There was more to do than one decision does.
    pub is_cut: bool,
    /// There is nothing of the key any more.
    pub is_over: bool,
    pub note: N,
}
