//! The worker's turns taken by hand: actions end when the seed says so, also between two looks at the
//! plan, which on a host with several threads happens at any time.

use std::sync::{Arc, Mutex};

use longshore_types::SeededEnv;
use serde_json::json;
use tokio::sync::mpsc;

use super::plan::Action;
use super::state::{Phase, Status, TaskState};
use super::step::Input;
use super::tests::{context, task};
use super::worker::{Message, Operations, TaskView, Worker};
use crate::fakes::{FakeNetworks, FakeRegion, FakeRuntime};
use crate::spec;

const TURNS_MAX: u32 = 2_000;

struct Turns {
    _dir: tempfile::TempDir,
    /// Keeps the inbox open.
    _inbox: mpsc::Sender<Message>,
    env: SeededEnv,
    seed: u64,
    runtime: FakeRuntime,
    region: FakeRegion,
    worker: Worker,
    operations: Operations,
}

impl Turns {
    fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (runtime, region) = (FakeRuntime::default(), FakeRegion::default());
        let task = task(json!([{ "name": "a" }, { "name": "b" }, { "name": "c" }]));
        let task = serde_json::from_value(task).unwrap();
        let spec = Arc::new(spec::parse(&task).unwrap());
        let mut number = 0;
        let state = TaskState::new(&spec, || {
            number += 1;
            number
        });
        let (sender, inbox) = mpsc::channel(64);
        let view = TaskView { spec: Arc::clone(&spec), state: Arc::new(state.clone()) };
        let context = Arc::new(context(&dir, &runtime, &FakeNetworks::default(), &region));
        let worker = Worker {
            log: context.dirs.task_log(spec.arn.id, &task),
            context,
            spec,
            state,
            inbox,
            own: sender.downgrade(),
            shown: Arc::new(Mutex::new(view)),
            images: std::collections::BTreeMap::new(),
            is_to_stop: tokio::sync::watch::Sender::new(false),
        };
        let env = SeededEnv::from_seed(seed);
        let operations = Operations::default();
        Self { _dir: dir, _inbox: sender, env, seed, runtime, region, worker, operations }
    }

    /// One look at the plan. What it began may end before the next look, and the next look may come
    /// before its result is taken in.
    async fn turn(&mut self) {
        let now = self.worker.context.clock.now();
        self.worker.set_going(&mut self.operations, now);
        let mut ends: Vec<Action> = self.operations.in_flight.keys().copied().collect();
        ends.retain(|action| ends_by_itself(*action) && self.env.below(2) == 0);
        for action in ends {
            while !self.operations.in_flight[&action].is_finished() {
                tokio::task::yield_now().await;
            }
        }
        if self.env.below(3) == 0 {
            self.worker.hear_more(&mut self.operations);
        }
    }

    async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..TURNS_MAX {
            if is_so(self) {
                return;
            }
            self.turn().await;
        }
        panic!("seed {}: never {what}: {:#?}", self.seed, self.worker.state);
    }
}

fn ends_by_itself(action: Action) -> bool {
    match action {
        Action::Watch { .. } | Action::Check { .. } => false,
        Action::Prepare
        | Action::Pull(_)
        | Action::OpenLog(_)
        | Action::Create(_)
        | Action::Start(_)
        | Action::Signal(_)
        | Action::Kill(_)
        | Action::Discard(_)
        | Action::Drain(_)
        | Action::Release
        | Action::Tell(_) => true,
    }
}

#[tokio::test]
async fn an_action_that_ended_between_two_turns_is_not_begun_again() {
    for seed in 0..60 {
        let mut turns = Turns::new(seed);
        let is_running = |turns: &Turns| {
            turns.worker.state.containers.iter().all(|each| each.phase == Phase::Running)
        };
        turns.until("running", is_running).await;
        let created = turns.runtime.created();
        assert_eq!(created.len(), 3, "seed {seed}: {created:?}");
        assert!(created.values().all(|times| *times == 1), "seed {seed}: {created:?}");
        let started = turns.runtime.history();
        assert_eq!(started.len(), 3, "seed {seed}: only three starts and no end: {started:?}");
        turns.worker.take(Input::StopRequested);
        turns
            .until("finished", |turns| {
                turns.worker.state.is_finished() && turns.operations.in_flight.is_empty()
            })
            .await;
        let reported: Vec<Status> =
            turns.region.reported().iter().map(|event| event.status).collect();
        assert_eq!(reported.last(), Some(&Status::Stopped), "seed {seed}");
        assert_eq!(reported.iter().filter(|status| **status == Status::Stopped).count(), 1);
        assert!(turns.runtime.is_clean(), "seed {seed}");
    }
}
