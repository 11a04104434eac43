//! The driver: changes in, passes out.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use longshore_types::{Clock, Timestamp};
use store::{Changed, Changes, Store};

use super::lane::{Ended, Lane, LaneOf};
use super::status::Status;
use super::{FULL_PASS, PassFuture, Reconciler};

/// A sleep is cut into pieces of this length, so that a clock that was set is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// What a driver lives on.
#[derive(Debug)]
pub struct Environment {
    pub store: Arc<dyn Store>,
    /// The store's changes, from before the first reconciler is registered.
    pub changes: Changes,
    pub clock: Arc<dyn Clock>,
    pub full_pass: Duration,
}

impl Environment {
    /// Of a region as people run it.
    pub fn of(store: &Arc<dyn Store>, clock: &Arc<dyn Clock>) -> Self {
        Self {
            store: Arc::clone(store),
            changes: store.changes(),
            clock: Arc::clone(clock),
            full_pass: FULL_PASS,
        }
    }
}

/// Runs reconcilers. What it knows is found again in the rows.
pub struct Driver {
    environment: Environment,
    lanes: Vec<Box<dyn Lane>>,
    status: Status,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Driver {
    pub fn new(environment: Environment) -> Self {
        Self { environment, lanes: Vec::new(), status: Status::default() }
    }

    /// Takes a reconciler in; everything of it is yet to be looked at.
    pub fn register<R: Reconciler>(&mut self, reconciler: R) {
        let Environment { store, clock, full_pass, .. } = &self.environment;
        let (view, now) = (store.latest(), clock.now());
        let lane = LaneOf::new(reconciler, &self.status, *full_pass, &view, now);
        self.lanes.push(Box::new(lane));
    }

    /// What each reconciler is doing.
    pub fn status(&self) -> Status {
        self.status.clone()
    }

    /// Works until it is dropped.
    pub async fn run(mut self) {
        let mut under_way: FuturesUnordered<PassFuture<Ended>> = FuturesUnordered::new();
        loop {
            self.absorb_waiting();
            let now = self.look_at_the_clock();
            for lane in &mut self.lanes {
                while let Some(pass) = lane.next(now) {
                    under_way.push(pass);
                }
            }
            let sleep = self.time_to_next_alarm();
            tokio::select! {
                changed = self.environment.changes.next() => self.absorb(&changed),
                Some(ended) = under_way.next() => self.finish(ended),
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    /// Does one pass that is due; `false` if there is none. For tests, whose passes follow each other.
    pub async fn step(&mut self) -> bool {
        self.absorb_waiting();
        let now = self.look_at_the_clock();
        let Some(pass) = self.lanes.iter_mut().find_map(|lane| lane.next(now)) else {
            return false;
        };
        let ended = pass.await;
        self.finish(ended);
        true
    }

    /// When the next pass is due, if nothing happens until then.
    pub fn next_alarm(&self) -> Option<Timestamp> {
        self.lanes.iter().filter_map(|lane| lane.next_alarm()).min()
    }

    fn absorb_waiting(&mut self) {
        let changed = self.environment.changes.take();
        if !changed.is_empty() {
            self.absorb(&changed);
        }
    }

    fn absorb(&mut self, changed: &Changed) {
        let (view, now) = (self.environment.store.latest(), self.environment.clock.now());
        for lane in &mut self.lanes {
            lane.absorb(&view, changed, now);
        }
    }

    fn look_at_the_clock(&mut self) -> Timestamp {
        let now = self.environment.clock.now();
        if self.next_alarm().is_some_and(|at| at <= now) {
            let view = self.environment.store.latest();
            for lane in &mut self.lanes {
                lane.full_pass_if_due(&view, now);
            }
        }
        now
    }

    fn finish(&mut self, ended: Ended) {
        let now = self.environment.clock.now();
        if let Some(lane) = self.lanes.get_mut(ended.lane) {
            lane.finish(ended, now);
        }
    }

    /// With as many passes under way as may be, whoever is due waits for one of them to end.
    fn time_to_next_alarm(&self) -> Duration {
        let now = self.environment.clock.now();
        let free = self.lanes.iter().filter(|lane| !lane.is_busy());
        free.filter_map(|lane| lane.next_alarm()).min().map_or(SLEEP_MAX, |at| {
            Duration::from_millis(at.0.saturating_sub(now.0)).min(SLEEP_MAX)
        })
    }
}
