//! A host and a region that exist only in memory, and keep the ports' contracts.
//!
//! A fake container runs until it is told to end: by [`FakeRuntime::end`], or by a signal it obeys.
//! What is created here outlives the engine, as on a real host, so a test can start another.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use image::{Auth, ImageConfig, PullError, Reference};
use longshore_types::{AccountId, Clock, PutToken, Steps, TaskArn, Timestamp, Token};
use network::PortError;
use sandbox::{
    ContainerId, ContainerSpec, DiskRoom, ExecResult, ExecSpec, Exit, GroupId, GroupLimits, Phase,
    Position, Recovered, SandboxError, Started, Stats, StorageUse, Usage,
};
use tokio::sync::Notify;

use crate::client::CallError;
use crate::endpoint::{Protection, ProtectionState};
use crate::engine::Region;
use crate::engine::secrets::{Parameters, SecretId};
use crate::engine::state::{Binding, TaskEvent};
use crate::logdriver::{LogEvent, LogService, LogServiceError, LogTarget};
use crate::ports::{
    Attached, CountedFlows, Counters, Images, LocalImage, NetError, Networks, Output, OutputItem,
    Piece, Runtime, Signal, StdStream,
};
use crate::spec::{EniSpec, ObjectName, PortSpec, RegistryAuth};
use acs::RoleCredentials;

pub(crate) fn position(offset: u64) -> Position {
    let value = serde_json::json!({ "segment": 0, "offset": offset, "within": 0 });
    serde_json::from_value(value).unwrap()
}

fn offset(position: Position) -> usize {
    let value = serde_json::to_value(position).unwrap();
    usize::try_from(value["offset"].as_u64().unwrap()).unwrap()
}

/// The system's clock, moved by hand as well.
#[derive(Debug, Default)]
pub(crate) struct TestClock;

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        longshore_types::SystemClock.now()
    }
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

/// Who hears of the steps of a fake, which outlives agents, changes with them.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeardSteps(Arc<Mutex<Steps>>);

impl HeardSteps {
    pub(crate) fn heard_by(&self, steps: &Steps) {
        *self.0.lock().unwrap() = steps.clone();
    }

    /// Not while anything is locked: it may never return.
    fn reached(&self, name: &'static str) {
        let steps = self.0.lock().unwrap().clone();
        steps.reached(name);
    }
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

    fn create(&self, spec: ContainerSpec) -> BoxFuture<'_, Result<(), SandboxError>> {
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

/// Images that are always here, save those that are called missing.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeImages {
    pub(crate) config: ImageConfig,
    /// How often somebody wanted an image of a registry that was away.
    pub(crate) asked_in_vain: Arc<AtomicU32>,
}

impl FakeImages {
    fn image(&self) -> LocalImage {
        LocalImage {
            digest: format!("sha256:{}", "ab".repeat(32)),
            config: self.config.clone(),
            layers: vec![],
            lease: Arc::new(()),
        }
    }
}

impl Images for FakeImages {
    fn pull(
        &self,
        image: Reference,
        auth: Auth,
        on_digest: Box<dyn FnOnce(String) + Send>,
    ) -> BoxFuture<'_, Result<LocalImage, Arc<PullError>>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            // A registry that takes the second login only, or none at all.
            let is_taken = |name: &str| match image.to_string().contains(name) {
                true => name == "expired" && auth.owner() == Some("login 1"),
                false => true,
            };
            if !is_taken("expired") || !is_taken("unwelcome") {
                let (image, host) = (image.to_string(), image.registry.clone());
                let why = "no basic auth credentials".to_owned();
                return Err(Arc::new(PullError::Denied { image, host, why, is_unknown: true }));
            }
            // Registries that are away for the first ten times that they are asked.
            if image.to_string().contains("away")
                && self.asked_in_vain.fetch_add(1, Ordering::SeqCst) < 10
            {
                let (image, host) = (image.to_string(), image.registry.clone());
                return Err(Arc::new(PullError::Unreachable { image, host, why: "away".into() }));
            }
            if image.to_string().contains("missing") {
                return Err(Arc::new(PullError::NotFound { image: image.to_string() }));
            }
            on_digest(self.image().digest);
            Ok(self.image())
        })
    }

    fn find(&self, _image: Reference, _digest: String) -> BoxFuture<'_, Option<LocalImage>> {
        Box::pin(async { Some(self.image()) })
    }

    fn collect(&self) -> BoxFuture<'_, usize> {
        Box::pin(async { 0 })
    }
}

/// Interfaces that are only a list.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeNetworks {
    pub(crate) endpoints: Arc<Mutex<BTreeMap<String, Vec<Binding>>>>,
    pub(crate) groups: Arc<Mutex<BTreeMap<String, network::SecurityGroup>>>,
    pub(crate) feed: Arc<Mutex<network::feed::Feed>>,
    pub(crate) steps: HeardSteps,
}

impl FakeNetworks {
    fn attach(&self, endpoint: &str) -> BoxFuture<'_, Result<Attached, NetError>> {
        self.steps.reached("endpoint to be attached");
        self.endpoints.lock().unwrap().entry(endpoint.to_owned()).or_default();
        let netns = PathBuf::from(format!("/run/netns/{endpoint}"));
        let address = "172.30.0.9".parse().unwrap();
        let nameserver = Some("172.30.0.1".parse().unwrap());
        self.steps.reached("endpoint attached");
        Box::pin(async move { Ok(Attached { netns, address, nameserver, seen_as: None }) })
    }
}

impl Networks for FakeNetworks {
    fn attach_eni(
        &self,
        endpoint: &str,
        _eni: EniSpec,
    ) -> BoxFuture<'_, Result<Attached, NetError>> {
        self.attach(endpoint)
    }

    fn attach_bridge(&self, endpoint: &str) -> BoxFuture<'_, Result<Attached, NetError>> {
        self.attach(endpoint)
    }

    fn publish(
        &self,
        endpoint: &str,
        ports: Vec<PortSpec>,
    ) -> BoxFuture<'_, Result<Vec<Binding>, NetError>> {
        let bindings: Vec<Binding> = ports
            .iter()
            .map(|port| Binding {
                container_port: port.container_port,
                host_port: if port.host_port == 0 { 49_200 } else { port.host_port },
                protocol: port.protocol,
                range: port.range,
            })
            .collect();
        self.steps.reached("ports to be published");
        let mut endpoints = self.endpoints.lock().unwrap();
        if endpoints.get(endpoint).is_some_and(|known| *known == bindings) {
            return Box::pin(async { Ok(bindings) });
        }
        let taken = endpoints.values().flatten().find(|known| {
            bindings.iter().any(|b| b.host_port == known.host_port && b.host_port < 49_000)
        });
        let result = match taken {
            Some(binding) => Err(NetError::Network(
                PortError::Taken { port: binding.host_port, protocol: network::Protocol::Tcp }
                    .into(),
            )),
            None => {
                endpoints.insert(endpoint.to_owned(), bindings.clone());
                Ok(bindings)
            }
        };
        drop(endpoints);
        self.steps.reached("ports published");
        Box::pin(async move { result })
    }

    fn connect_report(&self) -> BoxFuture<'_, Option<traffic::connect::ConnectReport>> {
        Box::pin(async { None })
    }

    fn learn(&self, news: network::News) -> BoxFuture<'_, Result<(), NetError>> {
        let mut known = self.groups.lock().unwrap();
        let mut feed = self.feed.lock().unwrap();
        if news.is_whole {
            known.clear();
            *feed = network::feed::Feed::default();
        }
        known.extend(news.groups.into_iter().map(|group| (group.id.to_string(), group)));
        feed.apply(news.network);
        Box::pin(async { Ok(()) })
    }

    fn detach(&self, endpoint: &str) -> BoxFuture<'_, Result<(), NetError>> {
        self.steps.reached("endpoint to be detached");
        self.endpoints.lock().unwrap().remove(endpoint);
        self.steps.reached("endpoint detached");
        Box::pin(async { Ok(()) })
    }

    fn reconcile(&self, endpoints: Vec<String>) -> BoxFuture<'_, Result<(), NetError>> {
        self.endpoints.lock().unwrap().retain(|name, _| endpoints.contains(name));
        Box::pin(async { Ok(()) })
    }

    fn counters(&self, _endpoint: &str) -> BoxFuture<'_, Result<Counters, NetError>> {
        Box::pin(async { Ok(Counters::default()) })
    }

    fn flows(&self) -> BoxFuture<'_, Result<CountedFlows, NetError>> {
        Box::pin(async { Ok(CountedFlows::default()) })
    }
}

/// A region that notes what it is told, and can be away.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeRegion {
    reported: Arc<Mutex<Vec<(TaskArn, TaskEvent)>>>,
    is_away: Arc<Mutex<bool>>,
    changed: Arc<Notify>,
    pub(crate) log_lines: Arc<Mutex<VecDeque<(String, String)>>>,
    groups: Arc<Mutex<Vec<String>>>,
    /// Values of secrets and parameters.
    pub(crate) secrets: Arc<Mutex<BTreeMap<String, String>>>,
    /// What the store of objects has.
    pub(crate) objects: Arc<Mutex<BTreeMap<ObjectName, String>>>,
    /// The status with which each object is refused, instead of what the store has.
    pub(crate) objects_fail: Arc<Mutex<Option<u16>>>,
    /// With what code it will have no more streams.
    refuses_streams: Arc<Mutex<Option<&'static str>>>,
    /// Access keys that are no longer good.
    expired: Arc<Mutex<Vec<String>>>,
    /// The key of each put, `""` for the host's own, and whether it was good.
    pub(crate) puts: Arc<Mutex<Vec<(String, bool)>>>,
    /// By writer.
    last_puts: Arc<Mutex<BTreeMap<u64, u64>>>,
    /// Logins that were forgotten; the next one has this number.
    pub(crate) forgotten: Arc<AtomicU32>,
    pub(crate) steps: HeardSteps,
}

impl FakeRegion {
    pub(crate) fn expire(&self, access_key: &str) {
        self.expired.lock().unwrap().push(access_key.to_owned());
    }

    pub(crate) fn set_away(&self, away: bool) {
        *self.is_away.lock().unwrap() = away;
        self.changed.notify_waiters();
    }

    pub(crate) fn reported(&self) -> Vec<TaskEvent> {
        self.reported.lock().unwrap().iter().map(|(_, event)| event.clone()).collect()
    }

    pub(crate) fn refuse_streams(&self, code: &'static str) {
        *self.refuses_streams.lock().unwrap() = Some(code);
    }

    pub(crate) fn make_group(&self, name: &str) {
        self.groups.lock().unwrap().push(name.to_owned());
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.log_lines.lock().unwrap().iter().map(|(_, line)| line.clone()).collect()
    }

    async fn present(&self) {
        loop {
            let changed = self.changed.notified();
            if !*self.is_away.lock().unwrap() {
                return;
            }
            changed.await;
        }
    }
}

impl Region for FakeRegion {
    fn tell(&self, task: TaskArn, event: TaskEvent) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.present().await;
            self.steps.reached("event to be told");
            self.reported.lock().unwrap().push((task, event));
            self.changed.notify_waiters();
            self.steps.reached("event told");
        })
    }

    fn login(
        &self,
        _account: AccountId,
        _auth: RegistryAuth,
        _role: Option<RoleCredentials>,
    ) -> BoxFuture<'_, Result<Auth, CallError>> {
        let number = self.forgotten.load(Ordering::SeqCst);
        Box::pin(async move { Ok(Auth::none().owned_by(format!("login {number}"))) })
    }

    fn forget_login(
        &self,
        _account: AccountId,
        _auth: &RegistryAuth,
        _role: Option<&RoleCredentials>,
    ) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
    }

    fn secret(
        &self,
        id: SecretId,
        _role: RoleCredentials,
    ) -> BoxFuture<'_, Result<Token, CallError>> {
        let value = self.secrets.lock().unwrap().get(&id.secret).cloned();
        let missing = || CallError::Refused {
            status: 400,
            code: "ResourceNotFoundException".to_owned(),
            message: "Secrets Manager can't find the specified secret.".to_owned(),
        };
        Box::pin(async move { value.map(Token::from_text).ok_or_else(missing) })
    }

    fn parameters(
        &self,
        names: Vec<String>,
        _role: RoleCredentials,
    ) -> BoxFuture<'_, Result<Parameters, CallError>> {
        let known = self.secrets.lock().unwrap();
        let (there, invalid): (Vec<_>, Vec<_>) =
            names.into_iter().partition(|name| known.contains_key(name));
        let values = there.into_iter().map(|name| {
            let value = Token::from_text(known[&name].clone());
            (name, value)
        });
        let values = values.collect();
        Box::pin(async move { Ok(Parameters { values, invalid }) })
    }

    fn object(
        &self,
        object: ObjectName,
        _role: RoleCredentials,
    ) -> BoxFuture<'_, Result<Bytes, CallError>> {
        let found = self.objects.lock().unwrap().get(&object).cloned();
        let missing = || CallError::Refused {
            status: 404,
            code: "NoSuchKey".to_owned(),
            message: "The specified key does not exist.".to_owned(),
        };
        Box::pin(async move {
            if *self.is_away.lock().unwrap() {
                let (endpoint, why) = ("region".to_owned(), "away".to_owned());
                return Err(CallError::Unreachable { endpoint, why });
            }
            if let Some(status) = *self.objects_fail.lock().unwrap() {
                let (code, message) = ("InternalError".to_owned(), "Try again.".to_owned());
                return Err(CallError::Refused { status, code, message });
            }
            found.map(Bytes::from).ok_or_else(missing)
        })
    }

    fn tags(&self, resource: String) -> BoxFuture<'_, Result<Vec<(String, String)>, CallError>> {
        let pair = ("of".to_owned(), resource);
        Box::pin(async { Ok(vec![pair]) })
    }

    fn protection(
        &self,
        task: TaskArn,
        change: Option<Protection>,
        _role: RoleCredentials,
    ) -> BoxFuture<'_, Result<ProtectionState, CallError>> {
        let is_on = change.and_then(|change| change.protection_enabled).unwrap_or(false);
        let state = serde_json::json!({ "ProtectionEnabled": is_on, "TaskArn": task.to_string() });
        Box::pin(async { Ok(ProtectionState::Protected(state)) })
    }

    fn is_own(&self, host: &str) -> bool {
        host == "region:4566"
    }
}

impl LogService for FakeRegion {
    fn create_group(
        &self,
        target: LogTarget,
        _role: Option<RoleCredentials>,
    ) -> BoxFuture<'_, Result<(), LogServiceError>> {
        self.make_group(&target.group);
        Box::pin(async { Ok(()) })
    }

    fn create_stream(
        &self,
        target: LogTarget,
        _role: Option<RoleCredentials>,
    ) -> BoxFuture<'_, Result<(), LogServiceError>> {
        let is_there = self.groups.lock().unwrap().contains(&target.group);
        let is_away = *self.is_away.lock().unwrap();
        let refuses = *self.refuses_streams.lock().unwrap();
        Box::pin(async move {
            if let Some(code) = refuses {
                return Err(LogServiceError {
                    code: code.into(),
                    message: "no more".into(),
                    is_transient: true,
                    is_away: false,
                });
            }
            if is_away {
                return Err(LogServiceError {
                    code: "RequestError".into(),
                    message: "away".into(),
                    is_transient: true,
                    is_away: true,
                });
            }
            is_there.then_some(()).ok_or_else(|| LogServiceError {
                code: "ResourceNotFoundException".into(),
                message: "The specified log group does not exist.".into(),
                is_transient: false,
                is_away: false,
            })
        })
    }

    fn put(
        &self,
        target: LogTarget,
        role: Option<RoleCredentials>,
        token: PutToken,
        events: Arc<Vec<LogEvent>>,
    ) -> BoxFuture<'_, Result<u64, LogServiceError>> {
        Box::pin(async move {
            self.steps.reached("events to be put");
            let key = role.map(|role| role.access_key_id).unwrap_or_default();
            let is_good = !self.expired.lock().unwrap().contains(&key);
            self.puts.lock().unwrap().push((key, is_good));
            if !is_good {
                return Err(LogServiceError {
                    code: "ExpiredTokenException".into(),
                    message: "The security token included in the request is expired".into(),
                    is_transient: false,
                    is_away: false,
                });
            }
            if *self.is_away.lock().unwrap() {
                return Err(LogServiceError {
                    code: "RequestError".into(),
                    message: "away".into(),
                    is_transient: true,
                    is_away: true,
                });
            }
            let known = self.last_puts.lock().unwrap().insert(token.writer, token.put);
            if known != Some(token.put) {
                let mut lines = self.log_lines.lock().unwrap();
                let line = |event: &LogEvent| (target.stream.clone(), event.text.clone());
                lines.extend(events.iter().map(line));
            }
            self.steps.reached("events put");
            Ok(0)
        })
    }
}
