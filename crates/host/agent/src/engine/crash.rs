//! The agent dies at every step of a task's life, one after the other, and another goes on: on fakes that
//! keep what the kernel and the disk keep.
//!
//! A step is one effect on the host, or one write of the agent's own; death comes between two of them.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use longshore_types::Steps;
use serde_json::{Value, json};
use tokio::runtime::Builder;
use tokio::task::{LocalSet, spawn_local};

use super::state::{Status, TaskEvent};
use super::tests::{context_heard_by, stop, task};
use super::{Accepted, Engine};
use crate::fakes::{FakeNetworks, FakeRegion, FakeRuntime};

const LIFE_MAX: Duration = Duration::from_secs(20);
const STEPS_MAX: i64 = 500;
const LINES: [&str; 3] = ["one", "two", "three"];

/// Burns by one with every step. From its end on nothing happens any more.
#[derive(Debug)]
struct Fuse {
    left: AtomicI64,
    is_out: AtomicBool,
    at: Mutex<&'static str>,
}

impl Fuse {
    fn of(steps: i64) -> Arc<Self> {
        let (left, is_out) = (AtomicI64::new(steps), AtomicBool::new(false));
        Arc::new(Self { left, is_out, at: Mutex::new("never") })
    }

    fn steps(self: &Arc<Self>) -> Steps {
        let fuse = Arc::clone(self);
        Steps::heard_by(move |name| {
            if fuse.left.fetch_sub(1, Ordering::SeqCst) == 0 {
                *fuse.at.lock().unwrap() = name;
                fuse.is_out.store(true, Ordering::SeqCst);
            }
            if fuse.is_out.load(Ordering::SeqCst) {
                // Whoever did this does nothing more, and says nothing.
                resume_unwind(Box::new(()));
            }
        })
    }

    fn is_out(&self) -> bool {
        self.is_out.load(Ordering::SeqCst)
    }
}

/// How the task comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    ByItself,
    OnRequest,
}

/// What outlives agents, and what the region remembers.
struct World {
    dir: tempfile::TempDir,
    runtime: FakeRuntime,
    networks: FakeNetworks,
    region: FakeRegion,
    task: Value,
    end: End,
    is_acknowledged: bool,
    is_stop_acknowledged: bool,
    has_printed: bool,
}

impl World {
    /// One agent's life; true if the task has come to its end in it.
    fn live(&mut self, fuse: &Arc<Fuse>) -> bool {
        let steps = fuse.steps();
        self.runtime.steps().heard_by(&steps);
        self.networks.steps.heard_by(&steps);
        self.region.steps.heard_by(&steps);
        let life = Builder::new_current_thread().enable_all().build().unwrap();
        let is_done = life.block_on(async {
            let local = LocalSet::new();
            let drive = local.run_until(self.drive(steps, fuse));
            tokio::time::timeout(LIFE_MAX, drive).await.unwrap_or_else(|_| {
                panic!("{self} stuck, after {fuse:?}: {:#?}", self.region.reported())
            })
        });
        drop(life);
        is_done
    }

    async fn drive(&mut self, steps: Steps, fuse: &Arc<Fuse>) -> bool {
        let context =
            context_heard_by(&self.dir, &self.runtime, &self.networks, &self.region, steps);
        let opened = spawn_local(async { Engine::open(Arc::new(context)).await });
        let Ok(engine) = opened.await else { return false };
        if !self.is_acknowledged {
            self.is_acknowledged = taken(&engine, &self.task).await && !fuse.is_out();
        }
        let mut is_started = false;
        while !fuse.is_out() && !self.is_over() {
            is_started |= self.runtime.is_running("web");
            if is_started && !self.has_printed {
                LINES.iter().for_each(|line| self.runtime.print("web", line));
                self.has_printed = true;
                // Some of it goes out before the end, and some with it.
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            match self.end {
                End::ByItself if is_started => self.runtime.end_if_running("web", 7),
                End::OnRequest if is_started && !self.is_stop_acknowledged => {
                    self.is_stop_acknowledged = taken(&engine, &stop()).await && !fuse.is_out();
                }
                End::ByItself | End::OnRequest => {}
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        !fuse.is_out()
    }

    /// Told, let go and forgotten.
    fn is_over(&self) -> bool {
        let tasks = std::fs::read_dir(self.dir.path().join("tasks")).unwrap();
        self.region.reported().iter().any(|event| event.status == Status::Stopped)
            && tasks.count() == 0
    }

    /// What the json-file driver wrote.
    fn json_lines(&self) -> Vec<String> {
        let runs = std::fs::read_dir(self.dir.path().join("containers")).unwrap().flatten();
        let files = runs.flat_map(|run| std::fs::read_dir(run.path()).unwrap().flatten());
        let text = files.map(|file| std::fs::read_to_string(file.path()).unwrap());
        let text: Vec<String> = text.collect();
        let entry = |line: &str| serde_json::from_str::<Value>(line).unwrap();
        let lines = text.iter().flat_map(|text| text.lines());
        let log = |entry: Value| entry["log"].as_str().unwrap().trim_end().to_owned();
        lines.map(|line| log(entry(line))).collect()
    }

    fn check(&self, fuse: &Fuse) {
        let reported = self.region.reported();
        let when = format!("{self}, killed at {fuse:?}");
        assert!(self.runtime.is_clean(), "{when}");
        assert!(self.networks.endpoints.lock().unwrap().is_empty(), "{when}");
        let spools = std::fs::read_dir(self.dir.path().join("spool")).unwrap();
        let spools: Vec<_> = spools.map(|entry| entry.unwrap().file_name()).collect();
        assert!(spools.is_empty(), "{when}: {spools:?}");
        let history = self.runtime.history();
        let starts = history.iter().filter(|entry| *entry == "start web").count();
        assert_eq!(starts, 1, "{when}: {history:?}");
        // An event whose acceptance the agent did not live to note is told once more, as it was.
        let mut events: Vec<&TaskEvent> = reported.iter().collect();
        events.dedup();
        let statuses: Vec<Status> = events.iter().map(|event| event.status).collect();
        let all = [Status::Pending, Status::Running, Status::Stopped];
        assert!(
            statuses.is_sorted() && statuses.contains(&Status::Stopped),
            "{when}: {reported:#?}"
        );
        assert!(statuses.iter().all(|status| all.contains(status)));
        let code = events.iter().rev().find_map(|event| event.containers.first()?.exit_code);
        let expected = if self.end == End::ByItself { 7 } else { 143 };
        assert_eq!(code, Some(expected), "{when}: {reported:#?}");
        let is_shipped = self.task["containers"][0].get("dockerConfig").is_some();
        let lines = if is_shipped { self.region.lines() } else { self.json_lines() };
        assert_eq!(lines, LINES, "{when}");
        let reason = events.last().and_then(|event| event.containers.first()?.reason.clone());
        assert_eq!(reason, None, "{when}");
    }
}

impl std::fmt::Display for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a task that ends {:?}: {}", self.end, self.task["containers"])
    }
}

/// Whether the payload was acknowledged.
async fn taken(engine: &Engine, task: &Value) -> bool {
    match engine.accept(task.clone()).await {
        Accepted::Taken(synced) => synced.await.is_ok(),
        Accepted::Known => true,
        Accepted::Invalid => panic!("the task is valid"),
    }
}

#[test]
fn a_task_runs_once_and_wholly_whatever_step_its_agent_dies_at() {
    let bridged = json!({ "name": "web", "portMappings": [
        { "containerPort": 80, "hostPort": 8080 }, { "containerPort": 81 }] });
    let plain = json!({ "name": "web" });
    let options = json!({ "awslogs-group": "g", "awslogs-stream-prefix": "s" });
    let log = json!({ "LogConfig": { "Type": "awslogs", "Config": options } });
    let logged = json!({ "name": "web", "dockerConfig": { "hostConfig": log.to_string() } });
    let mut deaths = 0;
    for (container, end, pid_mode) in [
        (&plain, End::ByItself, ""),
        (&plain, End::ByItself, "task"),
        (&logged, End::ByItself, ""),
        (&bridged, End::ByItself, ""),
        (&plain, End::OnRequest, ""),
        (&bridged, End::OnRequest, "task"),
    ] {
        let mut task = task(json!([container]));
        task["pidMode"] = pid_mode.into();
        for steps in 0..STEPS_MAX {
            let mut world = World {
                dir: tempfile::tempdir().unwrap(),
                runtime: FakeRuntime::default(),
                networks: FakeNetworks::default(),
                region: FakeRegion::default(),
                task: task.clone(),
                end,
                is_acknowledged: false,
                is_stop_acknowledged: false,
                has_printed: false,
            };
            world.region.make_group("g");
            let fuse = Fuse::of(steps);
            let is_done = world.live(&fuse);
            if !is_done {
                deaths += 1;
                assert!(world.live(&Fuse::of(i64::MAX)));
            }
            world.check(&fuse);
            if is_done {
                break;
            }
            assert!(steps + 1 < STEPS_MAX, "it never comes to an end");
        }
    }
    assert!(60 < deaths, "{deaths} deaths are not every step");
}
