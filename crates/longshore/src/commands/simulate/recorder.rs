//! What was seen of a simulated fleet: how many tasks got how far, and how long each took.
//!
//! Agents and load write here, the report reads. **Invariant:** a task counts as running or stopped
//! once the region has acknowledged the report, which it does when that is durable.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longshore_types::TaskId;
use tokio::time::Instant;

/// How far a task was seen to come, by whoever was first to see it.
#[derive(Clone, Copy, Debug)]
enum Mark {
    Accepted(Instant),
    Running(Instant),
    Both,
}

#[derive(Debug, Default)]
struct Seen {
    marks: HashMap<TaskId, Mark>,
    to_running: Vec<Duration>,
    calls: Vec<Duration>,
    last_running: Option<Instant>,
    last_stopped: Option<Instant>,
}

/// Shared by everyone who sees something.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    seen: Mutex<Seen>,
    running: AtomicU64,
    stopped: AtomicU64,
    connected: AtomicU64,
    reconnects: AtomicU64,
}

impl Recorder {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The region's answer, which names the task, is here.
    pub(super) fn accepted(&self, task: TaskId, at: Instant) {
        let mut seen = self.seen();
        match seen.marks.get(&task).copied() {
            // Its agent was told, started it and was acknowledged before the caller was answered.
            Some(Mark::Running(_)) => {
                seen.marks.insert(task, Mark::Both);
                seen.to_running.push(Duration::ZERO);
            }
            Some(Mark::Accepted(_) | Mark::Both) => {}
            None => {
                seen.marks.insert(task, Mark::Accepted(at));
            }
        }
    }

    /// The region has acknowledged that the task runs.
    pub(super) fn running(&self, task: TaskId, at: Instant) {
        let mut seen = self.seen();
        match seen.marks.get(&task).copied() {
            Some(Mark::Accepted(accepted)) => {
                seen.marks.insert(task, Mark::Both);
                seen.to_running.push(at.saturating_duration_since(accepted));
            }
            Some(Mark::Running(_) | Mark::Both) => return,
            None => {
                seen.marks.insert(task, Mark::Running(at));
            }
        }
        seen.last_running = Some(at);
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    /// All tasks that nobody accepted one by one, as a service's: they were wanted at `since`.
    pub(super) fn accept_all(&self, since: Instant) {
        let mut seen = self.seen();
        let Seen { marks, to_running, .. } = &mut *seen;
        for mark in marks.values_mut() {
            if let Mark::Running(at) = *mark {
                to_running.push(at.saturating_duration_since(since));
                *mark = Mark::Both;
            }
        }
    }

    /// The region has acknowledged that the task has stopped.
    pub(super) fn stopped(&self, at: Instant) {
        self.seen().last_stopped = Some(at);
        self.stopped.fetch_add(1, Ordering::Relaxed);
    }

    /// One call of RunTask was answered.
    pub(super) fn called(&self, took: Duration) {
        self.seen().calls.push(took);
    }

    pub(super) fn joined(&self, is_again: bool) {
        self.connected.fetch_add(1, Ordering::Relaxed);
        if is_again {
            self.reconnects.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn left(&self) {
        self.connected.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn connected_count(&self) -> u64 {
        self.connected.load(Ordering::Relaxed)
    }

    pub(super) fn reconnect_count(&self) -> u64 {
        self.reconnects.load(Ordering::Relaxed)
    }

    pub(super) fn running_count(&self) -> u64 {
        self.running.load(Ordering::Relaxed)
    }

    pub(super) fn stopped_count(&self) -> u64 {
        self.stopped.load(Ordering::Relaxed)
    }

    pub(super) fn last_running(&self) -> Option<Instant> {
        self.seen().last_running
    }

    pub(super) fn last_stopped(&self) -> Option<Instant> {
        self.seen().last_stopped
    }

    pub(super) fn to_running(&self) -> Spread {
        Spread::of(self.seen().to_running.clone())
    }

    pub(super) fn calls(&self) -> Spread {
        Spread::of(self.seen().calls.clone())
    }
}

/// Where most of many durations are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spread {
    pub(super) count: usize,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
}

impl Spread {
    fn of(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        let at = |hundredths: usize| {
            let rank = (all.len() * hundredths).div_ceil(100).max(1);
            all.get(rank - 1).copied().unwrap_or_default()
        };
        Self { count: all.len(), p50: at(50), p99: at(99) }
    }
}

#[cfg(test)]
mod tests {
    use longshore_types::SeededEnv;

    use super::*;

    #[tokio::test]
    async fn a_task_counts_once_however_often_it_is_reported_and_in_whatever_order() {
        let env = SeededEnv::from_seed(1);
        let (first, second) = (TaskId::mint(&env), TaskId::mint(&env));
        let recorder = Recorder::default();
        let start = Instant::now();
        let later = start + Duration::from_millis(30);
        recorder.accepted(first, start);
        recorder.running(first, later);
        recorder.running(first, later);
        recorder.running(second, start);
        recorder.accepted(second, later);
        assert_eq!(recorder.running_count(), 2);
        let spread = recorder.to_running();
        assert_eq!((spread.count, spread.p50, spread.p99), (2, Duration::ZERO, later - start));
    }

    #[tokio::test]
    async fn tasks_of_a_service_are_timed_from_when_it_was_asked_for() {
        let env = SeededEnv::from_seed(2);
        let recorder = Recorder::default();
        let start = Instant::now();
        recorder.running(TaskId::mint(&env), start + Duration::from_millis(10));
        recorder.accept_all(start);
        recorder.accept_all(start);
        assert_eq!(recorder.to_running().count, 1);
        assert_eq!(recorder.to_running().p50, Duration::from_millis(10));
    }

    #[test]
    fn a_spread_names_the_middle_and_the_end() {
        let spread = Spread::of((1..=100).rev().map(Duration::from_millis).collect());
        assert_eq!((spread.p50.as_millis(), spread.p99.as_millis()), (50, 99));
        assert_eq!(Spread::of(Vec::new()), Spread::default());
    }
}
