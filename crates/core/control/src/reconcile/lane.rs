//! One registered reconciler: its queue, its passes and what is told of them.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use futures_util::FutureExt;
use longshore_types::{Chain, Timestamp};
use model::View;
use store::Changed;
use tokio::time::Instant;
use tracing::{error, warn};

use super::status::{FailedPass, Status};
use super::turns::Turns;
use super::{FULL_PASS_GAP_MS_MAX, Pass, PassFuture, Queue, RETRY_MS, Reconciler};

/// A pass that has ended, whosever it was.
pub(super) struct Ended {
    pub(super) lane: usize,
    outcome: Box<dyn Any + Send>,
}

/// A reconciler whose key is nobody's business but its own.
pub(super) trait Lane: Send {
    /// Queues whom the changes concern.
    fn absorb(&mut self, view: &View, changed: &Changed, now: Timestamp);

    /// Queues every key, spread over time, if that is due.
    fn full_pass_if_due(&mut self, view: &View, now: Timestamp);

    /// The next pass that is due, as far as more may be under way.
    fn next(&mut self, now: Timestamp) -> Option<PassFuture<Ended>>;

    fn finish(&mut self, ended: Ended, now: Timestamp);

    /// When the next pass or full pass is due, if nothing happens until then.
    fn next_alarm(&self) -> Option<Timestamp>;

    /// Whether as many passes are under way as may be.
    fn is_busy(&self) -> bool;
}

/// See [`Lane`].
pub(super) struct LaneOf<R: Reconciler> {
    reconciler: R,
    queue: Queue<R::Key>,
    turns: Turns<R::Key>,
    number: usize,
    status: Status,
    under_way: usize,
    full_pass_ms: u64,
    full_pass_due: Timestamp,
}

/// What became of one pass.
struct Outcome<R: Reconciler> {
    key: R::Key,
    /// `None`: it panicked.
    result: Option<Result<Pass<R::Note>, R::Error>>,
    took: Duration,
}

impl<R: Reconciler> LaneOf<R> {
    /// A lane with every key yet to look at.
    pub(super) fn new(
        reconciler: R,
        status: &Status,
        full_pass: Duration,
        view: &View,
        now: Timestamp,
    ) -> Self {
        let number = status.register(reconciler.name());
        let full_pass_ms = u64::try_from(full_pass.as_millis()).unwrap_or(u64::MAX);
        let mut lane = Self {
            reconciler,
            queue: Queue::default(),
            turns: Turns::default(),
            number,
            status: status.clone(),
            under_way: 0,
            full_pass_ms,
            full_pass_due: now.plus_ms(full_pass_ms),
        };
        lane.look_at_everything(view, now);
        lane
    }

    fn look_at_everything(&mut self, view: &View, now: Timestamp) {
        for key in self.keys(view, now) {
            self.queue.changed(&key, view.seq);
        }
        self.tell();
    }

    fn keys(&mut self, view: &View, now: Timestamp) -> Vec<R::Key> {
        let reconciler = &mut self.reconciler;
        catch_unwind(AssertUnwindSafe(|| reconciler.keys(view))).unwrap_or_else(|_| {
            error!(reconciler = self.reconciler.name(), "listing what to reconcile panicked");
            self.full_pass_due = now.plus_ms(RETRY_MS);
            Vec::new()
        })
    }

    fn tell(&self) {
        let (keys, ready) = (self.queue.len(), self.queue.ready() + self.turns.waiting());
        let (under_way, next_alarm) = (self.under_way, self.queue.next_alarm());
        self.status.update(self.number, |status| {
            status.keys = keys;
            status.ready = ready;
            status.under_way = under_way;
            status.next_alarm = next_alarm;
        });
    }

    /// The key whose pass begins now. To the queue one that waits for its owner's turn is in its pass already.
    fn take(&mut self, now: Timestamp) -> Option<R::Key> {
        while let Some(key) = self.queue.next(now) {
            match self.reconciler.owner(&key) {
                None => return Some(key),
                Some(owner) => self.turns.wait(owner, key),
            }
        }
        self.turns.next(self.reconciler.passes_each_max())
    }

    fn fail(&mut self, key: &R::Key, why: String, now: Timestamp) {
        let name = self.reconciler.name();
        warn!(reconciler = name, ?key, error = %why, "reconcile pass failed");
        self.queue.failed(key, now.plus_ms(RETRY_MS));
        let failed = FailedPass { key: format!("{key:?}"), error: why, at: now };
        self.status.update(self.number, |status| {
            status.failures += 1;
            status.last_failure = Some(failed);
        });
    }
}

impl<R: Reconciler> Lane for LaneOf<R> {
    fn absorb(&mut self, view: &View, changed: &Changed, now: Timestamp) {
        let rows = match changed {
            Changed::Everything => return self.look_at_everything(view, now),
            Changed::Rows(rows) => rows,
        };
        let (reconciler, queue) = (&mut self.reconciler, &mut self.queue);
        let waking = AssertUnwindSafe(|| {
            for change in rows {
                reconciler.wake(view, change, queue);
            }
        });
        if catch_unwind(waking).is_err() {
            error!(
                reconciler = self.reconciler.name(),
                "finding out whom a change concerns panicked"
            );
            self.full_pass_due = now;
        }
    }

    fn full_pass_if_due(&mut self, view: &View, now: Timestamp) {
        if now < self.full_pass_due {
            return;
        }
        self.full_pass_due = now.plus_ms(self.full_pass_ms);
        let keys = self.keys(view, now);
        let count = u64::try_from(keys.len()).unwrap_or(u64::MAX).max(1);
        let gap_ms = (self.full_pass_ms / 2 / count).min(FULL_PASS_GAP_MS_MAX);
        for (position, key) in (0..).zip(&keys) {
            self.queue.at(key, now.plus_ms(gap_ms.saturating_mul(position)));
        }
        self.status.update(self.number, |status| status.last_full_pass_at = Some(now));
    }

    fn next(&mut self, now: Timestamp) -> Option<PassFuture<Ended>> {
        if self.is_busy() {
            return None;
        }
        let key = self.take(now)?;
        self.under_way += 1;
        let (lane, pass) = (self.number, self.reconciler.pass(&key));
        Some(Box::pin(async move {
            let started = Instant::now();
            let result = AssertUnwindSafe(pass).catch_unwind().await.ok();
            let outcome = Outcome::<R> { key, result, took: started.elapsed() };
            Ended { lane, outcome: Box::new(outcome) }
        }))
    }

    fn finish(&mut self, ended: Ended, now: Timestamp) {
        let outcome = ended.outcome.downcast::<Outcome<R>>().expect("a lane's passes are its own");
        let Outcome { key, result, took } = *outcome;
        self.under_way -= 1;
        if let Some(owner) = self.reconciler.owner(&key) {
            self.turns.ended(owner);
        }
        match result {
            Some(Ok(pass)) => {
                let Pass { looked_at, again_at, rests_until, is_cut, is_over, note } = pass;
                self.reconciler.finished(&key, note, &mut self.queue);
                let pass = Pass { looked_at, again_at, rests_until, is_cut, is_over, note: () };
                self.queue.done(&key, &pass);
            }
            Some(Err(error)) => self.fail(&key, Chain(&error).to_string(), now),
            // Its message is in the log already.
            None => self.fail(&key, "it panicked".to_owned(), now),
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.status.update(self.number, |status| {
            status.passes += 1;
            status.last_pass_at = Some(now);
            status.last_pass_micros = micros;
            status.longest_pass_micros = status.longest_pass_micros.max(micros);
        });
        self.tell();
    }

    fn next_alarm(&self) -> Option<Timestamp> {
        let alarm = self.queue.next_alarm().unwrap_or(self.full_pass_due);
        Some(alarm.min(self.full_pass_due))
    }

    fn is_busy(&self) -> bool {
        self.reconciler.passes_max() <= self.under_way
    }
}
