//! What keeps services' promises: the shell around `plan::service`.
//!
//! The store tells which rows changed, [`wake`] finds out whom that concerns, [`queue`] says whose turn
//! it is, and [`turn`] has one service looked at by the pure reconciler and makes its moves durable, all
//! of one turn in one batch. [`lost`] gives up the tasks of instances that have been silent for too long.
//!
//! Level-triggered: at start every service is looked at, and a turn looks at all that its service has.
//! Nothing is polled: what waits for time has an alarm, what waits for others is woken by their change.
//!
//! **Invariants:** a service has one turn at a time; a change that a turn could not have seen leads to
//! another one.

mod lost;
mod picture;
mod queue;
#[cfg(test)]
mod simulation;
mod starts;
#[cfg(test)]
mod tests;
mod turn;
mod wake;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use aws_wire::ApiError;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use longshore_types::{AccountId, Chain, InstanceId, Timestamp};
use store::{Changed, Changes};
use tracing::warn;

use crate::region::Region;
use lost::Silences;
pub(crate) use picture::look_around;
use queue::{Done, Queue, Who};
use wake::Wakes;

/// Turns of different services that are under way at once: while one waits for the disk, others decide.
const TURNS_AT_ONCE_MAX: usize = 64;
/// How long after a turn that failed the next one is tried.
const RETRY_MS: u64 = 1_000;
/// A sleep is cut into pieces of this length, so that a clock that was set is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// Everything that the shell knows; all of it is found again in the rows.
#[derive(Debug)]
pub(crate) struct Shell {
    region: Arc<Region>,
    changes: Changes,
    queue: Queue,
    wakes: Wakes,
    silences: Silences,
}

/// One thing to do, and what to do it with.
enum Job {
    Turn(Who),
    GiveUp(AccountId, InstanceId),
}

/// One thing done.
enum Outcome {
    Turn(Who, Result<Done, ApiError>),
    GiveUp(AccountId, InstanceId, Result<(), ApiError>),
}

impl Shell {
    /// A shell that has everything yet to look at.
    pub(crate) fn new(region: &Arc<Region>) -> Self {
        let mut shell = Self {
            region: Arc::clone(region),
            changes: region.store.changes(),
            queue: Queue::default(),
            wakes: Wakes::default(),
            silences: Silences::default(),
        };
        shell.absorb(Changed::Everything);
        shell
    }

    /// Works until the region ends.
    pub(crate) async fn run(mut self) {
        let mut under_way: FuturesUnordered<Pin<Box<dyn Future<Output = Outcome> + Send>>> =
            FuturesUnordered::new();
        loop {
            self.absorb_waiting();
            while under_way.len() < TURNS_AT_ONCE_MAX {
                let Some(job) = self.next_job() else { break };
                under_way.push(Box::pin(guarded(Arc::clone(&self.region), job)));
            }
            let sleep = self.time_to_next_alarm();
            tokio::select! {
                changed = self.changes.next() => self.absorb(changed),
                Some(outcome) = under_way.next() => self.finish(outcome),
                // With as many turns under way as may be, whoever is due waits for one of them.
                () = tokio::time::sleep(sleep), if under_way.len() < TURNS_AT_ONCE_MAX => {}
            }
        }
    }

    /// Does one thing that is due; `false` if there is none.
    #[cfg(test)]
    pub(crate) async fn step(&mut self) -> bool {
        self.absorb_waiting();
        let Some(job) = self.next_job() else { return false };
        let outcome = work(Arc::clone(&self.region), job).await;
        self.finish(outcome);
        true
    }

    fn absorb_waiting(&mut self) {
        let changed = self.changes.take();
        if !changed.is_empty() {
            self.absorb(changed);
        }
    }

    fn absorb(&mut self, changed: Changed) {
        let view = self.region.store.latest();
        self.wakes.absorb(&view, changed, &mut self.queue, &mut self.silences);
    }

    fn next_job(&mut self) -> Option<Job> {
        let now = self.region.clock.now();
        let silence_ms = self.region.config.instance_silence_ms;
        if let Some((account, id)) = self.silences.next(silence_ms, now) {
            return Some(Job::GiveUp(account, id));
        }
        self.queue.next(now).map(Job::Turn)
    }

    fn finish(&mut self, outcome: Outcome) {
        let now = self.region.clock.now();
        match outcome {
            Outcome::Turn(who, Ok(done)) => self.queue.done(&who, done),
            Outcome::Turn(who, Err(error)) => {
                warn!(service = %who.service, error = %Chain(&error), "a service's turn failed");
                self.queue.failed(&who, now.plus_ms(RETRY_MS));
            }
            Outcome::GiveUp(_, _, Ok(())) => {}
            Outcome::GiveUp(account, id, Err(error)) => {
                warn!(instance = %id, error = %Chain(&error), "giving up an instance's tasks failed");
                let silence_ms = self.region.config.instance_silence_ms;
                let since = Timestamp(now.plus_ms(RETRY_MS).0.saturating_sub(silence_ms));
                self.silences.put_back(account, id, since);
            }
        }
    }

    /// When the next thing is due, if nothing happens until then.
    pub(crate) fn next_alarm(&self) -> Option<Timestamp> {
        let silence_ms = self.region.config.instance_silence_ms;
        let alarms = [self.queue.next_alarm(), self.silences.next_alarm(silence_ms)];
        alarms.into_iter().flatten().min()
    }

    fn time_to_next_alarm(&self) -> Duration {
        let now = self.region.clock.now();
        self.next_alarm().map_or(SLEEP_MAX, |at| {
            Duration::from_millis(at.0.saturating_sub(now.0)).min(SLEEP_MAX)
        })
    }
}

/// A defect that shows with one service is not to stop the others.
async fn guarded(region: Arc<Region>, job: Job) -> Outcome {
    let error = ApiError::fault("failed to finish a turn", TurnPanicked);
    let panicked = match &job {
        Job::Turn(who) => Outcome::Turn(who.clone(), Err(error)),
        Job::GiveUp(account, id) => Outcome::GiveUp(*account, *id, Err(error)),
    };
    AssertUnwindSafe(work(region, job)).catch_unwind().await.unwrap_or(panicked)
}

/// What is left of a panic, whose message is in the log already.
#[derive(Debug, thiserror::Error)]
#[error("the turn panicked")]
struct TurnPanicked;

async fn work(region: Arc<Region>, job: Job) -> Outcome {
    match job {
        Job::Turn(who) => {
            let done = turn::take(&region, &who).await;
            Outcome::Turn(who, done)
        }
        Job::GiveUp(account, id) => {
            let done = lost::give_up(&region, account, id).await;
            Outcome::GiveUp(account, id, done)
        }
    }
}
