//! Containers that exist only in memory.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::future::BoxFuture;
use longshore_types::{Clock as _, Timestamp};
use sandbox::{
    ContainerId, ContainerSpec, DiskRoom, ExecResult, ExecSpec, Exit, GroupId, GroupLimits, Phase,
    Position, Recovered, SandboxError, Started, Stats, StorageUse, Usage,
};
use tokio::sync::Notify;

use super::{HeardSteps, TestClock};
use crate::ports::{Output, OutputItem, Piece, Runtime, Signal, StdStream, Surroundings};

pub(crate) fn position(offset: u64) -> Position {
    let value = serde_json::json!({ "segment": 0, "offset": offset, "within": 0 });
    serde_json::from_value(value).unwrap()
}

fn offset(position: Position) -> usize {
    let value = serde_json::to_value(position).unwrap();
    usize::try_from(value["offset"].as_u64().unwrap()).unwrap()
}

#[derive(Debug)]
struct Run {
    spec: ContainerSpec,
    phase: Phase,
    started_at: Option<Timestamp>,
    exit: Option<Exit>,
}

#[derive(Debug, Default)]
struct Host {
    runs: BTreeMap<String, Run>,
    groups: BTreeMap<String, GroupLimits>,
    /// What was printed into each spool, and whether that is all.
    output: BTreeMap<PathBuf, (Vec<(StdStream, String)>, bool)>,
    /// What the next start of a container of this name answers.
    start_errors: BTreeMap<String, SandboxError>,
    deaf: bool,
    exec_code: i32,
    /// What each group is said to take; a disk without news has plenty of room.
    storage: BTreeMap<String, StorageUse>,
    room: Option<DiskRoom>,
    log: Vec<String>,
    /// How often each run was created.
    created: BTreeMap<String, u32>,
}

/// Containers that exist only here.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeRuntime {
    host: Arc<Mutex<Host>>,
    changed: Arc<Notify>,
    steps: HeardSteps,
}

impl FakeRuntime {
    pub(crate) fn steps(&self) -> &HeardSteps {
        &self.steps
    }

    fn host(&self) -> MutexGuard<'_, Host> {
        self.host.lock().unwrap()
    }

    /// The one run whose first argument is this.
    pub(crate) fn run_named(&self, arg: &str) -> Option<String> {
        let host = self.host();
        let mut found = host.runs.iter().filter(|(_, run)| run.spec.args[0] == arg);
        found.next_back().map(|(id, _)| id.clone())
    }

    pub(crate) fn is_running(&self, arg: &str) -> bool {
        let id = self.run_named(arg);
        let host = self.host();
        id.is_some_and(|id| host.runs.get(&id).is_some_and(|run| run.phase == Phase::Running))
    }

    pub(crate) fn print(&self, arg: &str, line: &str) {
        let id = self.run_named(arg).unwrap();
        let mut host = self.host();
        let sandbox::LogSink::Spool { dir, .. } = host.runs[&id].spec.log.clone() else { return };
        host.output.entry(dir).or_default().0.push((StdStream::Stdout, line.to_owned()));
        drop(host);
        self.changed.notify_waiters();
    }

    pub(crate) fn end(&self, arg: &str, code: i32, oom_killed: bool) {
        let id = self.run_named(arg).unwrap();
        self.end_run(&id, code, oom_killed);
    }

    /// Ends after the kernel refused it processes.
    pub(crate) fn end_at_limit(&self, arg: &str, code: i32, limit: u64) {
        let id = self.run_named(arg).unwrap();
        self.end_with(&id, code, false, Some(limit));
    }

    /// Ends it with this code if it runs.
    pub(crate) fn end_if_running(&self, arg: &str, code: i32) {
        if self.is_running(arg) {
            self.end(arg, code, false);
        }
    }

    pub(crate) fn end_run(&self, id: &str, code: i32, oom_killed: bool) {
        self.end_with(id, code, oom_killed, None);
    }

    fn end_with(&self, id: &str, code: i32, oom_killed: bool, pids_limit_hit: Option<u64>) {
        let mut host = self.host();
        let Some(run) = host.runs.get_mut(id).filter(|run| run.phase == Phase::Running) else {
            return;
        };
        run.phase = Phase::Exited;
        run.exit = Some(Exit {
            code,
            oom_killed,
            pids_limit_hit,
            finished_at: TestClock.now(),
            reason: None,
        });
        let log = run.spec.log.clone();
        host.log.push(format!("end {id}"));
        if let sandbox::LogSink::Spool { dir, .. } = log {
            host.output.entry(dir).or_default().1 = true;
        }
        drop(host);
        self.changed.notify_waiters();
    }

    /// The order in which containers were started and ended, by their first argument.
    pub(crate) fn history(&self) -> Vec<String> {
        self.host().log.clone()
    }

    /// How often each run was created, whatever became of it.
    pub(crate) fn created(&self) -> BTreeMap<String, u32> {
        self.host().created.clone()
    }

    /// The machine starts anew: every process is gone, and so is what lives in the kernel.
    pub(crate) fn reboot(&self) {
        let mut host = self.host();
        host.groups.clear();
        for run in host.runs.values_mut().filter(|run| run.phase == Phase::Running) {
            run.phase = Phase::Exited;
            let reason = Some("the host was restarted while the container ran".to_owned());
            let finished_at = TestClock.now();
            run.exit = Some(Exit {
                code: 137,
                oom_killed: false,
                pids_limit_hit: None,
                finished_at,
                reason,
            });
        }
        host.runs.retain(|_, run| run.phase == Phase::Exited);
        host.output.values_mut().for_each(|(_, is_over)| *is_over = true);
    }

    pub(crate) fn fail_start(&self, arg: &str, error: SandboxError) {
        self.host().start_errors.insert(arg.to_owned(), error);
    }

    pub(crate) fn set_deaf(&self, deaf: bool) {
        self.host().deaf = deaf;
    }

    pub(crate) fn set_exec_code(&self, code: i32) {
        self.host().exec_code = code;
    }

    pub(crate) fn set_storage(&self, group: &str, used: StorageUse) {
        self.host().storage.insert(group.to_owned(), used);
    }

    pub(crate) fn set_room(&self, room: DiskRoom) {
        self.host().room = Some(room);
    }

    pub(crate) fn group_limits(&self, group: &str) -> GroupLimits {
        self.host().groups[group]
    }

    pub(crate) fn spec(&self, arg: &str) -> ContainerSpec {
        let id = self.run_named(arg).unwrap();
        self.host().runs[&id].spec.clone()
    }

    pub(crate) fn is_clean(&self) -> bool {
        let host = self.host();
        host.runs.is_empty() && host.groups.is_empty()
    }

    /// Puts a container there that no agent knows of.
    pub(crate) fn plant(&self, id: &str) {
        let rootfs = sandbox::Rootfs { lower: vec![], scratch: "/nowhere".into(), readonly: false };
        let spec = ContainerSpec::new(
            id.parse().unwrap(),
            "stranger".parse().unwrap(),
            rootfs,
            vec!["stranger".into()],
        );
        let run = Run { spec, phase: Phase::Running, started_at: Some(Timestamp(1)), exit: None };
        let mut host = self.host();
        host.runs.insert(id.to_owned(), run);
        host.groups.insert("stranger".to_owned(), GroupLimits::default());
    }

    fn missing(id: &ContainerId) -> SandboxError {
        SandboxError::NotFound { id: id.clone() }
    }
}

impl Runtime for FakeRuntime {
    fn create_group(
        &self,
        group: GroupId,
        limits: GroupLimits,
    ) -> BoxFuture<'_, Result<(), SandboxError>> {
        self.steps.reached("group to be made");
        self.host().groups.insert(group.to_string(), limits);
        self.steps.reached("group made");
        Box::pin(async { Ok(()) })
    }

    fn remove_group(&self, group: GroupId) -> BoxFuture<'_, Result<(), SandboxError>> {
        self.steps.reached("group to be removed");
        self.host().groups.remove(group.as_str());
        self.steps.reached("group removed");
        Box::pin(async { Ok(()) })
    }

    fn groups(&self) -> BoxFuture<'_, Result<Vec<GroupId>, SandboxError>> {
        let groups = self.host().groups.keys().map(|name| name.parse().unwrap()).collect();
        Box::pin(async { Ok(groups) })
    }

    fn create(
        &self,
        spec: ContainerSpec,
        _around: Surroundings,
    ) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.steps.reached("container to be created");
            let mut host = self.host();
            if let sandbox::LogSink::Spool { dir, .. } = &spec.log {
                std::fs::create_dir_all(dir).unwrap();
                host.output.entry(dir.clone()).or_default();
            }
            assert!(host.groups.contains_key(spec.group.as_str()), "a container without a group");
            let id = spec.id.to_string();
            *host.created.entry(id.clone()).or_default() += 1;
            let run = Run { spec, phase: Phase::Created, started_at: None, exit: None };
            assert!(host.runs.insert(id, run).is_none(), "a container is created twice");
            drop(host);
            self.steps.reached("container created");
            Ok(())
        })
    }

    fn start(&self, id: ContainerId) -> BoxFuture<'_, Result<Started, SandboxError>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.steps.reached("container to be started");
            let mut host = self.host();
            let arg = host.runs.get(id.as_str()).map(|run| run.spec.args[0].clone());
            let arg = arg.ok_or_else(|| Self::missing(&id))?;
            if let Some(error) = host.start_errors.remove(&arg) {
                return Err(error);
            }
            host.log.push(format!("start {arg}"));
            let run = host.runs.get_mut(id.as_str()).unwrap();
            assert_eq!(run.phase, Phase::Created, "a container is started twice");
            let at = TestClock.now();
            (run.phase, run.started_at) = (Phase::Running, Some(at));
            drop(host);
            self.steps.reached("container started");
            Ok(Started { pid: 1, at })
        })
    }

    fn hold(&self, spec: ContainerSpec) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(async move {
            self.steps.reached("namespaces to be held");
            let mut host = self.host();
            assert!(host.groups.contains_key(spec.group.as_str()), "a holder without a group");
            let id = spec.id.to_string();
            if host.runs.get(&id).is_none_or(|run| run.phase != Phase::Running) {
                let started_at = Some(TestClock.now());
                let run = Run { spec, phase: Phase::Running, started_at, exit: None };
                host.runs.insert(id.clone(), run);
                *host.created.entry(id).or_default() += 1;
            }
            drop(host);
            self.steps.reached("namespaces held");
            Ok(())
        })
    }

    fn signal(&self, id: ContainerId, signal: Signal) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(async move {
            self.steps.reached("signal to be sent");
            let dies = {
                let mut host = self.host();
                let deaf = host.deaf;
                let run = host.runs.get_mut(id.as_str()).ok_or_else(|| Self::missing(&id))?;
                if run.phase != Phase::Running {
                    return Err(SandboxError::NotRunning { id });
                }
                let arg = run.spec.args[0].clone();
                host.log.push(format!("signal {} {arg}", signal.0));
                signal == Signal::KILL || !deaf
            };
            if dies {
                self.end_run(id.as_str(), 128 + signal.0, false);
            }
            self.steps.reached("signal sent");
            Ok(())
        })
    }

    fn wait(&self, id: ContainerId) -> BoxFuture<'_, Result<Exit, SandboxError>> {
        Box::pin(async move {
            loop {
                let changed = self.changed.notified();
                {
                    let host = self.host();
                    let run = host.runs.get(id.as_str()).ok_or_else(|| Self::missing(&id))?;
                    if let Some(exit) = &run.exit {
                        return Ok(exit.clone());
                    }
                }
                changed.await;
            }
        })
    }

    fn exec(
        &self,
        _id: ContainerId,
        _exec: ExecSpec,
    ) -> BoxFuture<'_, Result<ExecResult, SandboxError>> {
        let exit_code = self.host().exec_code;
        Box::pin(async move { Ok(ExecResult { exit_code, output: Vec::new() }) })
    }

    fn stats(&self, id: ContainerId) -> BoxFuture<'_, Result<Stats, SandboxError>> {
        let is_there = self.host().runs.contains_key(id.as_str());
        Box::pin(
            async move { if is_there { Ok(Stats::default()) } else { Err(Self::missing(&id)) } },
        )
    }

    fn usage(&self, id: ContainerId) -> BoxFuture<'_, Result<Usage, SandboxError>> {
        let is_there = self.host().runs.contains_key(id.as_str());
        Box::pin(
            async move { if is_there { Ok(Usage::default()) } else { Err(Self::missing(&id)) } },
        )
    }

    fn delete(&self, id: ContainerId) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(async move {
            self.steps.reached("container to be deleted");
            self.end_run(id.as_str(), 137, false);
            self.host().runs.remove(id.as_str());
            self.steps.reached("container deleted");
            Ok(())
        })
    }

    fn recover(&self) -> BoxFuture<'_, Result<Vec<Recovered>, SandboxError>> {
        let host = self.host();
        let found = host.runs.values().map(|run| Recovered {
            id: run.spec.id.clone(),
            group: run.spec.group.clone(),
            phase: run.phase,
            pid: None,
            started_at: run.started_at,
            exit: run.exit.clone(),
        });
        let found = found.collect();
        Box::pin(async { Ok(found) })
    }

    fn storage(
        &self,
        group: GroupId,
        _trees: Vec<PathBuf>,
    ) -> BoxFuture<'_, Result<StorageUse, SandboxError>> {
        let used = self.host().storage.get(group.as_str()).copied().unwrap_or_default();
        Box::pin(async move { Ok(used) })
    }

    fn disk_room(&self, _path: PathBuf) -> BoxFuture<'_, Result<DiskRoom, SandboxError>> {
        let plenty =
            DiskRoom { bytes_free: 1 << 40, bytes: 1 << 41, files_free: 1 << 30, files: 1 << 31 };
        let room = self.host().room.unwrap_or(plenty);
        Box::pin(async move { Ok(room) })
    }

    fn output(&self, spool: &Path, from: Position) -> io::Result<Box<dyn Output>> {
        let spool = spool.to_owned();
        Ok(Box::new(FakeOutput { runtime: self.clone(), spool, next: offset(from) }))
    }
}

struct FakeOutput {
    runtime: FakeRuntime,
    spool: PathBuf,
    next: usize,
}

impl Output for FakeOutput {
    fn next(&mut self) -> BoxFuture<'_, io::Result<OutputItem>> {
        Box::pin(async move {
            loop {
                let changed = self.runtime.changed.notified();
                {
                    let host = self.runtime.host();
                    let Some((lines, is_over)) = host.output.get(&self.spool) else {
                        return Ok(OutputItem::End);
                    };
                    if let Some((stream, text)) = lines.get(self.next) {
                        self.next += 1;
                        return Ok(OutputItem::Piece(Piece {
                            at: TestClock.now(),
                            stream: *stream,
                            is_partial: false,
                            bytes: text.clone().into(),
                            next: position(self.next as u64),
                        }));
                    }
                    if *is_over {
                        return Ok(OutputItem::End);
                    }
                }
                changed.await;
            }
        })
    }

    fn acknowledge(&mut self, _position: Position) {}
}
