//! The pure core against a host that does anything at any time: many seeds, crashes at every step.

use std::collections::{BTreeMap, BTreeSet};

use longshore_types::{SeededEnv, Timestamp};
use serde_json::json;

use super::failure::Failure;
use super::plan::{Action, plan};
use super::state::{Desired, ExitState, Health, Phase, Prepared, Status, TaskState};
use super::step::{Created, Found, Input, Pulled, step};
use crate::spec::{Condition, TaskSpec, parse};

const TURNS_MAX: u32 = 4_000;

/// What a container is on the host, whatever the agent believes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Run {
    Created,
    Running { since: Timestamp },
    Exited { since: Timestamp, exit: ExitState },
}

struct World {
    env: SeededEnv,
    seed: u64,
    spec: TaskSpec,
    state: TaskState,
    /// As it lies on disk: what a new agent finds.
    disk: TaskState,
    now: Timestamp,
    in_flight: BTreeSet<Action>,
    runs: BTreeMap<String, Run>,
    /// The exit of each container's last run.
    truth: BTreeMap<usize, i32>,
    reported: Vec<Status>,
    reported_codes: BTreeMap<String, i32>,
    is_stop_wanted: bool,
}

fn random_spec(env: &SeededEnv) -> TaskSpec {
    let count = 1 + env.below(4);
    let containers: Vec<serde_json::Value> = (0..count)
        .map(|index| {
            let conditions = ["START", "COMPLETE", "SUCCESS", "HEALTHY"];
            let depends: Vec<serde_json::Value> = (0..index)
                .filter(|_| env.below(3) == 0)
                .map(|on| {
                    let condition = conditions[env.below(4) as usize];
                    json!({ "containerName": format!("c{on}"), "condition": condition })
                })
                .collect();
            let health = json!({"Healthcheck": {"Test": ["CMD", "true"]}}).to_string();
            json!({
                "name": format!("c{index}"), "image": "hello",
                "essential": env.below(2) == 0 || index + 1 == count,
                "dependsOn": depends, "healthCheckType": "docker",
                "startTimeout": if env.below(2) == 0 { Some(20) } else { None },
                "stopTimeout": 1 + env.below(30),
                "restartPolicy": {
                    "enabled": env.below(4) == 0, "ignoredExitCodes": [7],
                    "restartAttemptPeriod": 60 },
                "dockerConfig": { "config": health },
            })
        })
        .collect();
    let arn = "arn:aws:ecs:us-east-1:000000000000:task/demo/00112233445566778899aabbccddeeff";
    let task = json!({ "arn": arn, "containers": containers });
    parse(&serde_json::from_value(task).unwrap()).unwrap()
}

impl World {
    fn new(seed: u64) -> Self {
        let env = SeededEnv::from_seed(seed);
        let spec = random_spec(&env);
        let mut number = 0;
        let state = TaskState::new(&spec, || {
            number += 1;
            number
        });
        Self {
            now: Timestamp(1_000_000),
            disk: state.clone(),
            state,
            spec,
            env,
            seed,
            in_flight: BTreeSet::new(),
            runs: BTreeMap::new(),
            truth: BTreeMap::new(),
            reported: Vec::new(),
            reported_codes: BTreeMap::new(),
            is_stop_wanted: false,
        }
    }

    fn take(&mut self, input: Input) {
        let before: Vec<(Phase, u32)> =
            self.state.containers.iter().map(|c| (c.phase, c.restarts)).collect();
        step(&self.spec, &mut self.state, input.clone(), self.now);
        for (index, (phase, restarts)) in before.into_iter().enumerate() {
            let after = &self.state.containers[index];
            let is_recovery = matches!(input, Input::Missing { .. });
            assert!(
                phase <= after.phase || restarts < after.restarts || is_recovery,
                "seed {}: container {index} moved back by {input:?}",
                self.seed
            );
        }
    }

    /// One turn of the shell: save, plan, and let something happen.
    fn turn(&mut self) {
        self.disk = self.state.clone();
        let plan = plan(&self.spec, &self.state, self.now);
        self.in_flight.retain(|action| {
            !action.is_abandoned_when_unplanned() || plan.actions.contains(action)
        });
        for action in plan.actions {
            let is_blocked = self.in_flight.iter().any(|other| match action {
                Action::Release => !matches!(other, Action::Tell(_)),
                Action::Tell(_) => matches!(other, Action::Tell(_)),
                _ => action.holds().is_some() && action.holds() == other.holds(),
            });
            if !is_blocked {
                self.in_flight.insert(action);
            }
        }
        match self.env.below(20) {
            0 => self.crash(),
            1 => self.end_some_run(),
            2 => {
                self.now = self.now.plus_ms(u64::from(self.env.below(40_000)));
                self.take(Input::Tick);
            }
            3 if self.env.below(10) == 0 => self.want_stop(),
            _ => self.finish_some_action(),
        }
        self.now = self.now.plus_ms(u64::from(self.env.below(20)));
    }

    fn want_stop(&mut self) {
        self.is_stop_wanted = true;
        self.take(Input::StopRequested);
    }

    fn end_run(&mut self, id: &str, code: i32) {
        let Some(Run::Running { since }) = self.runs.get(id).cloned() else { return };
        let exit = ExitState::plain(Some(code), self.now);
        self.runs.insert(id.to_owned(), Run::Exited { since, exit });
        let owner = self.state.containers.iter().position(|c| c.run_id() == id);
        if let Some(index) = owner {
            self.truth.insert(index, code);
        }
    }

    fn end_some_run(&mut self) {
        let running: Vec<String> = self
            .runs
            .iter()
            .filter(|(_, run)| matches!(run, Run::Running { .. }))
            .map(|(id, _)| id.clone())
            .collect();
        if !running.is_empty() {
            let id = &running[self.env.below(u32::try_from(running.len()).unwrap()) as usize];
            let code = [0, 0, 1, 7][self.env.below(4) as usize];
            self.end_run(&id.clone(), code);
        }
    }

    fn finish_some_action(&mut self) {
        let actions: Vec<Action> = self.in_flight.iter().copied().collect();
        if actions.is_empty() {
            return;
        }
        let action = actions[self.env.below(u32::try_from(actions.len()).unwrap()) as usize];
        let is_failed = self.env.below(40) == 0;
        let failed = || Failure::ImageGone { image: "it".to_owned() };
        let input = match action {
            Action::Prepare => Input::Prepared(Ok(Prepared::default())),
            Action::Pull(container) => Input::Pulled {
                container,
                at: self.now,
                result: if is_failed { Err(failed()) } else { Ok(Pulled::default()) },
            },
            Action::OpenLog(container) => Input::LogOpened {
                container,
                result: if is_failed { Err(failed()) } else { Ok(()) },
            },
            Action::Create(container) => {
                let id = self.state.containers[container].run_id();
                if !is_failed {
                    self.runs.insert(id, Run::Created);
                }
                let result = if is_failed { Err(failed()) } else { Ok(Created::default()) };
                Input::Created { container, result }
            }
            Action::Start(container) => self.start(container, is_failed),
            Action::Watch { container, restarts } => {
                let id = self.state.containers[container].run_id();
                match self.runs.get(&id) {
                    Some(Run::Exited { exit, .. }) => {
                        Input::Exited { container, restarts, exit: exit.clone(), reason: None }
                    }
                    _ => return,
                }
            }
            Action::Check { container, restarts } => {
                let health =
                    if self.env.below(3) == 0 { Health::Unhealthy } else { Health::Healthy };
                let said = crate::engine::state::HealthSaid { exit_code: 0, output: String::new() };
                self.take(Input::Checked { container, restarts, health, said });
                return;
            }
            Action::Signal(container) => {
                self.check_stop_order(container);
                if self.env.below(2) == 0 {
                    let id = self.state.containers[container].run_id();
                    self.end_run(&id, 143);
                }
                Input::Signalled { container, at: self.now }
            }
            Action::Kill(container) => {
                let id = self.state.containers[container].run_id();
                self.end_run(&id, 137);
                Input::Killed { container, at: self.now }
            }
            Action::Discard(container) => {
                self.runs.remove(&self.state.containers[container].run_id());
                Input::Discarded { container }
            }
            Action::Drain(container) => Input::Drained { container, last_line: None },
            Action::Release => {
                self.runs.clear();
                Input::Released
            }
            Action::Tell(number) => {
                self.hear(number);
                Input::Told { number }
            }
        };
        self.in_flight.remove(&action);
        self.take(input);
    }

    fn start(&mut self, container: usize, is_failed: bool) -> Input {
        let id = self.state.containers[container].run_id();
        if is_failed {
            let why = Failure::NoCommand { image: "it".to_owned() };
            return Input::Started { container, result: Err(why) };
        }
        assert_eq!(self.runs.get(&id), Some(&Run::Created), "seed {}: {id}", self.seed);
        self.runs.insert(id, Run::Running { since: self.now });
        Input::Started { container, result: Ok(self.now) }
    }

    /// Nothing is stopped while something that depends on it still runs.
    fn check_stop_order(&self, container: usize) {
        for (index, spec) in self.spec.containers.iter().enumerate() {
            if spec.depends_on.iter().any(|dependency| dependency.on == container) {
                let id = self.state.containers[index].run_id();
                let is_running = matches!(self.runs.get(&id), Some(Run::Running { .. }));
                assert!(!is_running, "seed {}: c{container} before c{index}", self.seed);
            }
        }
    }

    fn hear(&mut self, number: u64) {
        let Some(event) = self.state.outbox.front().filter(|event| event.number == number) else {
            return;
        };
        let last = self.reported.last().copied();
        assert!(last < Some(Status::Stopped), "seed {}: reported after the end", self.seed);
        assert!(last <= Some(event.status), "seed {}: reported backwards", self.seed);
        self.reported.push(event.status);
        for change in &event.containers {
            if let Some(code) = change.exit_code {
                self.reported_codes.insert(change.name.clone(), code);
            }
        }
    }

    /// The agent is killed; a new one finds the disk and the host.
    fn crash(&mut self) {
        self.in_flight.clear();
        self.state = self.disk.clone();
        let mut inputs = Vec::new();
        let is_anything_left = !self.runs.is_empty();
        for (container, known) in self.state.containers.iter().enumerate() {
            let id = known.run_id();
            let missing = Input::Missing { container, has_image: self.env.below(2) == 0 };
            inputs.push(match self.runs.get(&id).cloned() {
                Some(Run::Created) if known.phase == Phase::Created => continue,
                Some(Run::Created) => {
                    self.runs.remove(&id);
                    missing
                }
                Some(Run::Running { since }) => {
                    Input::Found { container, found: Found::Running { started_at: since } }
                }
                Some(Run::Exited { since, exit }) => {
                    let found = Found::Exited { started_at: since, exit, reason: None };
                    Input::Found { container, found }
                }
                None => missing,
            });
        }
        if !is_anything_left {
            inputs.push(Input::Unprepared);
        }
        for input in inputs {
            self.take(input);
        }
    }

    fn check_start_order(&self) {
        for (index, spec) in self.spec.containers.iter().enumerate() {
            let id = self.state.containers[index].run_id();
            if !matches!(self.runs.get(&id), Some(Run::Running { .. })) {
                continue;
            }
            for dependency in &spec.depends_on {
                let other = &self.state.containers[dependency.on];
                let is_met = match dependency.condition {
                    Condition::Create | Condition::Start | Condition::Healthy => other.has_run(),
                    Condition::Complete | Condition::Success => other.phase == Phase::Stopped,
                };
                assert!(is_met, "seed {}: c{index} ran before c{}", self.seed, dependency.on);
            }
        }
    }

    fn run(mut self) {
        let mut turns = 0;
        while !(self.state.is_finished() && self.in_flight.is_empty()) {
            self.turn();
            self.check_start_order();
            turns += 1;
            if turns == TURNS_MAX / 2 && self.state.desired == Desired::Running {
                self.want_stop();
            }
            assert!(turns < TURNS_MAX, "seed {}: stuck in {:#?}", self.seed, self.state);
        }
        assert_eq!(self.reported.last(), Some(&Status::Stopped), "seed {}", self.seed);
        assert!(self.runs.is_empty(), "seed {}: left behind {:?}", self.seed, self.runs);
        for (index, code) in &self.truth {
            let name = &self.spec.containers[*index].name;
            assert_eq!(self.reported_codes.get(name), Some(code), "seed {}: {name}", self.seed);
        }
    }
}

#[test]
fn every_task_ends_in_order_and_no_exit_code_is_lost_whatever_happens() {
    for seed in 0..3_000 {
        World::new(seed).run();
    }
}

#[test]
fn a_plan_is_the_same_when_asked_twice() {
    for seed in 0..200 {
        let mut world = World::new(seed);
        for _ in 0..50 {
            let (spec, state, now) = (&world.spec, &world.state, world.now);
            assert_eq!(plan(spec, state, now), plan(spec, state, now), "seed {seed}");
            world.turn();
        }
    }
}
