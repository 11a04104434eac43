//! The agent's door to containers.
//!
//! It keeps nothing in memory that matters: what there is, is in the containers' directories and
//! in their shims, so that an agent that was killed and a new one see the same.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ::files::whole;
use longshore_types::{Chain, Clock, Steps, SystemClock};
use nix::sys::signal::Signal;
use tokio::time::timeout;

use crate::cgroup::{Cgroups, FavorMoves, GroupNumber};
use crate::client::Client;
use crate::error::{Doing, SandboxError};
use crate::files::{self, Files};
use crate::ids::{ContainerId, GroupId};
use crate::pool::{Places, Pool};
use crate::proto::{Create, Failure, Record, Reply, Request};
use crate::recover;
use crate::spec::{
    ContainerSpec, ExecResult, ExecSpec, Exit, GroupLimits, IpcMode, LogSink, PidMode,
    SandboxConfig, Started, Stats,
};
use crate::spool::{LogReader, Position, Watcher, seal};
use crate::storage::{self, DiskRoom, StorageUse};
use crate::usage::Usage;

/// How long a shim may take to create or start a container: the disk may be slow.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// A shim that dies while it makes a container is replaced so often.
const CREATE_TRIES_MAX: u32 = 4;
/// What a killed container may take to end, before its control group is emptied by force.
const KILLED_MAX: Duration = Duration::from_secs(10);
/// What is reported for a container whose shim was killed.
const EXIT_LOST: i32 = 137;
pub(crate) const REASON_LOST: &str =
    "the process that watched the container was killed, and the container with it";

/// Containers of this host. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sandboxes {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: SandboxConfig,
    pub(crate) cgroups: Cgroups,
    pool: Pool,
    /// The machine has started anew since somebody last recovered: nothing of before is left.
    pub(crate) has_rebooted: AtomicBool,
    watcher: Watcher,
    _favor: FavorMoves,
}

impl Inner {
    fn files(&self, id: &ContainerId) -> Files {
        Files::of(&self.config.state_dir, &self.config.run_dir, id)
    }
}

impl Sandboxes {
    /// Needs root, and a tokio runtime. Whoever made containers for an earlier agent is ended here, those
    /// that are made are found with [`Sandboxes::recover`].
    pub fn open(config: SandboxConfig) -> Result<Self, SandboxError> {
        if !nix::unistd::geteuid().is_root() {
            let denied = io::Error::from(io::ErrorKind::PermissionDenied);
            return Err(SandboxError::io("run containers without root", denied));
        }
        for dir in [&config.run_dir, &config.state_dir] {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.doing_at("create", dir)?;
            whole::sweep(dir).doing_at("sweep", dir)?;
        }
        let favor = FavorMoves::on();
        let cgroups = Cgroups::detect(&config.cgroup_parent)?;
        cgroups.all().make()?;
        recover::end_unfinished(&config, &cgroups);
        let pool = Pool::start(
            &config.shim_command,
            Places {
                log: config.state_dir.join("shims.log"),
                run_dir: config.run_dir.clone(),
                cgroup_parent: config.cgroup_parent.clone(),
            },
            config.pool_size,
        )
        .doing("prepare to start shims")?;
        let has_rebooted = AtomicBool::new(recover::has_rebooted(&config));
        // Early, before any container could have used up what there is of this.
        let watcher = Watcher::start();
        let inner = Inner { config, cgroups, pool, has_rebooted, watcher, _favor: favor };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The control group of all containers, by which the host's packet filter knows their sockets. `None`
    /// where version 2 is not mounted.
    pub fn group_number(&self) -> Option<GroupNumber> {
        self.inner.cgroups.number_of_all()
    }

    /// Makes a task's control group, or sets its limits anew.
    pub async fn create_group(
        &self,
        group: &GroupId,
        limits: GroupLimits,
    ) -> Result<(), SandboxError> {
        let group = group.clone();
        self.blocking(move |inner| {
            let cgroup = inner.cgroups.group(&group);
            cgroup.make()?;
            cgroup.limit_group(&limits)
        })
        .await
    }

    /// Removes a task's control group and kills whatever is in it. A missing one is fine.
    pub async fn remove_group(&self, group: &GroupId) -> Result<(), SandboxError> {
        let group = group.clone();
        self.blocking(move |inner| inner.cgroups.group(&group).remove()).await
    }

    /// Makes everything but the application itself. After an error nothing is left.
    pub async fn create(&self, spec: ContainerSpec) -> Result<(), SandboxError> {
        let id = spec.id.clone();
        let files = self.files(&id);
        let pid_of = match &spec.pid {
            PidMode::Join(other) => Some(self.running_pid(other)?),
            PidMode::Private | PidMode::Host => None,
        };
        let ipc_of = match &spec.ipc {
            IpcMode::Join(other) => Some(self.running_pid(other)?),
            IpcMode::Private | IpcMode::Host | IpcMode::None => None,
        };
        if !files.create()? {
            return Err(SandboxError::AlreadyExists { id });
        }
        let made = self.create_in(&files, spec, pid_of, ipc_of).await;
        if made.is_err() {
            // What failed is what to tell; leftovers are found again by `recover`.
            if let Err(error) = self.delete(&id).await {
                tracing::warn!(container = %id, %error, "failed container could not be removed");
            }
        }
        made
    }

    async fn create_in(
        &self,
        files: &Files,
        spec: ContainerSpec,
        pid_of: Option<i32>,
        ipc_of: Option<i32>,
    ) -> Result<(), SandboxError> {
        let id = spec.id.clone();
        let config = &self.inner.config;
        // What only holds namespaces has nothing to be run by another.
        let runtime = config.runtime.clone().filter(|_| !spec.pause);
        let record = Record {
            group: spec.group.clone(),
            scratch: spec.rootfs.scratch.clone(),
            spool: match &spec.log {
                LogSink::Spool { dir, .. } => Some(dir.clone()),
                LogSink::Discard => None,
            },
            shim_pid: None,
            pid: None,
            is_starting: false,
            started_at: None,
            failed: None,
            runtime: runtime.clone(),
        };
        let request = Request::Create(Box::new(Create {
            state_dir: config.state_dir.clone(),
            run_dir: config.run_dir.clone(),
            socket: self.socket(&id),
            spec,
            pid_of,
            ipc_of,
            runtime,
        }));
        config.steps.reached("container begun");
        for attempt in 1.. {
            files.write_record(&record)?;
            config.steps.reached("container recorded");
            let mut client = self.inner.pool.take().await.doing("start a shim")?;
            match answer(&id, client.ask(&request, &config.steps)).await {
                Ok(Reply::Created { .. }) => break,
                Ok(other) => return Err(unexpected(&id, other)),
                // Somebody killed the shim. Nothing of the container ran, so another may make it.
                Err(SandboxError::Shim { why, .. })
                    if attempt < CREATE_TRIES_MAX && !client.is_alive() =>
                {
                    tracing::warn!(container = %id, why, "shim replaced while it made a container");
                    self.take_apart(&id, record.clone()).await?;
                }
                Err(error) => return Err(error),
            }
        }
        config.steps.reached("container created");
        Ok(())
    }

    /// Lets the application run. It does so once, however often it is asked for, and says the same each
    /// time; also where an earlier agent asked and did not live to hear the answer.
    pub async fn start(&self, id: &ContainerId) -> Result<Started, SandboxError> {
        let asked = self.ask(id, &Request::Start).await;
        self.inner.config.steps.reached("container started");
        match asked {
            Ok(Reply::Started(started)) => Ok(started),
            Ok(other) => Err(unexpected(id, other)),
            Err(error) => {
                let record = self.files(id).read_record()?;
                Err(record
                    .and_then(|record| record.failed)
                    .and_then(Failure::error)
                    .unwrap_or(error))
            }
        }
    }

    /// Makes and starts a container that only holds namespaces, unless it is there and runs. One that does not
    /// run any more, or that an earlier agent half made, is made anew.
    pub async fn hold(&self, spec: ContainerSpec) -> Result<(), SandboxError> {
        let id = spec.id.clone();
        if self.start(&id).await.is_ok() && self.files(&id).read_exit()?.is_none() {
            return Ok(());
        }
        self.delete(&id).await?;
        self.create(spec).await?;
        self.start(&id).await.map(|_| ())
    }

    /// Sends a signal to the container's first process.
    pub async fn signal(&self, id: &ContainerId, signal: Signal) -> Result<(), SandboxError> {
        match self.ask(id, &Request::Signal { number: signal as i32 }).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(id, other)),
        }
    }

    /// Waits for the container's end; also of one that an earlier agent started, and as often as
    /// one likes.
    pub async fn wait(&self, id: &ContainerId) -> Result<Exit, SandboxError> {
        let files = self.files(id);
        let mut was_refused = false;
        loop {
            if let Some(exit) = files.read_exit()? {
                return Ok(exit);
            }
            if files.read_record()?.is_none() {
                return Err(SandboxError::NotFound { id: id.clone() });
            }
            match Client::connect(&self.socket(id)).await.doing("connect to a shim")? {
                Some(mut client) => match client.ask(&Request::Wait, &Steps::default()).await {
                    Ok(Reply::Exited(exit)) => return Ok(exit),
                    Ok(Reply::Failed(error)) => return Err(error),
                    Ok(other) => return Err(unexpected(id, other)),
                    // It ended; the next turn finds out how.
                    Err(_) => {}
                },
                // The exit is on disk before the socket goes, so that the second look decides.
                None if was_refused => return self.lost(id, REASON_LOST).await,
                None => was_refused = true,
            }
        }
    }

    /// Runs a command inside a running container.
    pub async fn exec(
        &self,
        id: &ContainerId,
        command: ExecSpec,
    ) -> Result<ExecResult, SandboxError> {
        let limit = ANSWER_MAX + Duration::from_millis(command.timeout_ms);
        let mut client = self.connect(id).await?;
        let asked = timeout(limit, client.ask(&Request::Exec(command), &Steps::default())).await;
        match self.unless_ended(id, understood(id, asked))? {
            Reply::Executed(result) => Ok(result),
            other => Err(unexpected(id, other)),
        }
    }

    /// What the container has used so far.
    pub async fn stats(&self, id: &ContainerId) -> Result<Stats, SandboxError> {
        let id = id.clone();
        self.blocking(move |inner| {
            let record = inner.files(&id).read_record()?;
            let Some(record) = record else { return Err(SandboxError::NotFound { id }) };
            Ok(inner.cgroups.container(&record.group, &id).stats())
        })
        .await
    }

    /// What a container has used so far, in full.
    pub async fn usage(&self, id: &ContainerId) -> Result<Usage, SandboxError> {
        let id = id.clone();
        self.blocking(move |inner| {
            let record = inner.files(&id).read_record()?;
            let Some(record) = record else { return Err(SandboxError::NotFound { id }) };
            Ok(inner.cgroups.container(&record.group, &id).usage())
        })
        .await
    }

    /// What all containers of a group have used so far.
    pub async fn group_stats(&self, group: &GroupId) -> Result<Stats, SandboxError> {
        let group = group.clone();
        self.blocking(move |inner| Ok(inner.cgroups.group(&group).stats())).await
    }

    /// What the files in `trees`, which belong to `group`, take of the disk, with what its processes
    /// hold open of files that were removed.
    pub async fn storage(
        &self,
        group: &GroupId,
        trees: Vec<PathBuf>,
    ) -> Result<StorageUse, SandboxError> {
        let group = group.clone();
        self.blocking(move |inner| {
            Ok(storage::measure(&trees, &inner.cgroups.group(&group).pids()))
        })
        .await
    }

    /// What is left of the disk that `path` is on.
    pub async fn disk_room(&self, path: PathBuf) -> Result<DiskRoom, SandboxError> {
        self.blocking(move |_| storage::room(&path).doing_at("ask for the room at", &path)).await
    }

    /// Kills the container if it runs and removes everything of it: processes, control group,
    /// writable layer, spool. A missing one is fine.
    pub async fn delete(&self, id: &ContainerId) -> Result<(), SandboxError> {
        let files = self.files(id);
        let Some(record) = files.read_record()? else { return files.remove() };
        if files.read_exit()?.is_none() && record.pid.is_some() {
            // It may be gone already, or its shim may; the group is emptied below in any case.
            let _ = self.signal(id, Signal::SIGKILL).await;
            let _ = timeout(KILLED_MAX, self.wait(id)).await;
            self.inner.config.steps.reached("container killed");
        }
        self.take_apart(id, record.clone()).await?;
        let id = id.clone();
        self.blocking(move |inner| {
            files::remove_tree(&record.scratch)?;
            inner.config.steps.reached("layer removed");
            if let Some(spool) = &record.spool {
                files::remove_tree(spool)?;
            }
            inner.config.steps.reached("output removed");
            // Last: as long as it is there, a new agent finds the container and tries again.
            inner.files(&id).remove()?;
            inner.config.steps.reached("container removed");
            Ok(())
        })
        .await
    }

    /// Removes what lives of a container, and what serves its making; not what it wrote.
    pub(crate) async fn take_apart(
        &self,
        id: &ContainerId,
        record: Record,
    ) -> Result<(), SandboxError> {
        let (id, socket) = (id.clone(), self.socket(id));
        self.blocking(move |inner| {
            if let Some(runtime) = &record.runtime
                && let Err(error) = runtime.delete(&id, &inner.files(&id))
            {
                // It may be gone from this host; what it made, we remove too.
                tracing::warn!(container = %id, error = %Chain(&error), "left behind by its runtime");
            }
            inner.cgroups.container(&record.group, &id).remove()?;
            inner.config.steps.reached("control group removed");
            match fs::remove_file(&socket) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).doing_at("remove", &socket);
                }
                Ok(()) | Err(_) => {}
            }
            inner.files(&id).remove_run()
        })
        .await
    }

    /// The groups there are, for whoever wants to remove those that nobody needs.
    pub async fn groups(&self) -> Result<Vec<GroupId>, SandboxError> {
        self.blocking(|inner| {
            let names = inner.cgroups.all().children();
            Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
        })
        .await
    }

    /// Follows what a container printed into `spool`, from `from` on.
    pub fn logs(&self, spool: &Path, from: Position) -> Result<LogReader, SandboxError> {
        LogReader::open(&self.inner.watcher, spool, from)
    }

    /// The shim is gone and left no exit: ends what is left of the container, and says so.
    pub(crate) async fn lost(
        &self,
        id: &ContainerId,
        why: &'static str,
    ) -> Result<Exit, SandboxError> {
        let id = id.clone();
        self.blocking(move |inner| {
            let files = inner.files(&id);
            if let Some(exit) = files.read_exit()? {
                return Ok(exit);
            }
            let Some(record) = files.read_record()? else {
                return Err(SandboxError::NotFound { id });
            };
            let cgroup = inner.cgroups.container(&record.group, &id);
            cgroup.kill()?;
            if let Some(exit) = files.read_exit()? {
                return Ok(exit);
            }
            let now = SystemClock.now();
            let exit = Exit {
                code: EXIT_LOST,
                oom_killed: cgroup.oom_kills() > 0,
                pids_limit_hit: cgroup.pids_limit_hit(),
                finished_at: now,
                reason: Some(why.to_owned()),
            };
            files.write_exit(&exit)?;
            if let Some(spool) = &record.spool {
                seal(spool, now).doing_at("end the spool", spool)?;
            }
            tracing::warn!(container = %id, why, "container was lost");
            Ok(exit)
        })
        .await
    }

    /// The first process of a container that is there and has not ended.
    fn running_pid(&self, id: &ContainerId) -> Result<i32, SandboxError> {
        let files = self.files(id);
        let not_running = || SandboxError::NotRunning { id: id.clone() };
        if files.read_exit()?.is_some() {
            return Err(not_running());
        }
        let record = files.read_record()?;
        record.and_then(|record| record.pid).ok_or_else(not_running)
    }

    pub(crate) async fn ask(
        &self,
        id: &ContainerId,
        request: &Request,
    ) -> Result<Reply, SandboxError> {
        let mut client = self.connect(id).await?;
        let answered = answer(id, client.ask(request, &self.inner.config.steps)).await;
        self.unless_ended(id, answered)
    }

    /// A shim that ended instead of answering did so because its container had.
    fn unless_ended(
        &self,
        id: &ContainerId,
        answered: Result<Reply, SandboxError>,
    ) -> Result<Reply, SandboxError> {
        match answered {
            Err(SandboxError::Shim { .. }) if self.files(id).read_exit()?.is_some() => {
                Err(SandboxError::NotRunning { id: id.clone() })
            }
            answered => answered,
        }
    }

    async fn connect(&self, id: &ContainerId) -> Result<Client, SandboxError> {
        match Client::connect(&self.socket(id)).await.doing("connect to a shim")? {
            Some(client) => Ok(client),
            None if self.files(id).read_record()?.is_none() => {
                Err(SandboxError::NotFound { id: id.clone() })
            }
            None => Err(SandboxError::NotRunning { id: id.clone() }),
        }
    }

    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, SandboxError> + Send + 'static,
    ) -> Result<T, SandboxError> {
        let inner = Arc::clone(&self.inner);
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.unwrap_or_else(|error| Err(SandboxError::io("work on files", io::Error::other(error))))
    }

    pub(crate) fn files(&self, id: &ContainerId) -> Files {
        self.inner.files(id)
    }

    pub(crate) fn socket(&self, id: &ContainerId) -> PathBuf {
        self.inner.config.run_dir.join(id.as_str())
    }
}

async fn answer(
    id: &ContainerId,
    asking: impl Future<Output = io::Result<Reply>>,
) -> Result<Reply, SandboxError> {
    understood(id, timeout(ANSWER_MAX, asking).await)
}

fn understood(
    id: &ContainerId,
    asked: Result<io::Result<Reply>, tokio::time::error::Elapsed>,
) -> Result<Reply, SandboxError> {
    let failed = |why: String| SandboxError::Shim { id: id.clone(), why };
    match asked {
        Ok(Ok(Reply::Failed(error))) => Err(error),
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed("it did not answer in time".into())),
    }
}

fn unexpected(id: &ContainerId, reply: Reply) -> SandboxError {
    SandboxError::Shim { id: id.clone(), why: format!("unexpected answer {reply:?}") }
}
