//! Log drivers: what becomes of a container's output.
//!
//! The shim writes output into a spool on disk, so a container never waits for us; a pipeline a run
//! reads the spool and ships it. A pipeline belongs to nobody: it goes on after its task has ended,
//! and a new agent takes it up where the old one stopped.
//!
//! **Invariant:** a position is written down only after everything before it was accepted; and what is sent
//! has been written down before, so that whoever goes on can send the very same again, under its name.

mod awslogs;
mod batch;
mod budget;
mod json_file;
mod lines;
mod options;
mod remote;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use files::whole::{self, Durability};
use futures_util::future::BoxFuture;
use longshore_types::{Chain, Clock, PutToken, Steps, TaskArn, Token};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::{info, warn};

pub use lines::{LogEvent, Reach};
pub use options::{LogTarget, OptionError};
pub(crate) use remote::tag::extra as wanted_of_container;
pub use remote::{RemoteReach, RunAbout, SinkError};

use self::budget::Budget;
use self::options::{AwslogsOptions, JsonOptions};
use crate::engine::{CredentialsBook, Held};
use crate::ports::{Output, Position, Runtime};
use crate::spec::{LogDriver, LogSpec};
use crate::state_dir::StateDir;
use acs::RoleCredentials;

pub const SPOOL_SEGMENT_BYTES_MAX: u64 = 1 << 20;
pub const SPOOL_BYTES_MAX: u64 = 256 << 20;
/// How much of the last line is remembered.
const LAST_LINE_MAX: usize = 1024;
/// How long a finished pipeline is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);
const CHECK_TRIES_MAX: u32 = 10;
const CHECK_WAIT_MS_MAX: u64 = 5_000;

/// Why the log service refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct LogServiceError {
    pub code: String,
    pub message: String,
    /// The same may work later.
    pub is_transient: bool,
    /// Of those: whoever was asked is not there, or not itself.
    pub is_away: bool,
}

/// Why a run's output cannot go where its definition says.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error(transparent)]
    Option(#[from] OptionError),
    #[error("failed to send to Cloudwatch: {0}")]
    NotAdmitted(LogServiceError),
    #[error("failed to create Cloudwatch log stream: {0}")]
    NoStream(LogServiceError),
    #[error("{}", Chain(.0))]
    Remote(SinkError),
    /// What one of these says, less the values of options that are kept elsewhere.
    #[error("{0}")]
    Hidden(String),
}

/// CloudWatch Logs, as far as a log driver needs it. What exists is created successfully.
pub trait LogService: Send + Sync + Debug {
    /// Whether lines may be sent there at all.
    fn check(&self, _target: &LogTarget) -> Result<(), LogServiceError> {
        Ok(())
    }
    fn create_group(
        &self,
        target: LogTarget,
        role: Option<RoleCredentials>,
    ) -> BoxFuture<'_, Result<(), LogServiceError>>;
    fn create_stream(
        &self,
        target: LogTarget,
        role: Option<RoleCredentials>,
    ) -> BoxFuture<'_, Result<(), LogServiceError>>;
    /// Answers with the number of events that were refused. Events that come again under the token that
    /// they were last put with are taken once.
    fn put(
        &self,
        target: LogTarget,
        role: Option<RoleCredentials>,
        token: PutToken,
        events: Arc<Vec<LogEvent>>,
    ) -> BoxFuture<'_, Result<u64, LogServiceError>>;
}

/// One run of a container, and where its output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunLog {
    /// Also the name of its spool.
    pub id: String,
    pub task: TaskArn,
    pub container: String,
    pub runtime_id: String,
    pub spec: LogSpec,
    pub is_tty: bool,
    /// Options that are kept elsewhere: they are not written down.
    pub secret_options: BTreeMap<String, Token>,
    /// What lines say of the container, for drivers that send it along.
    pub about: Option<RunAbout>,
}

impl RunLog {
    /// All options of its driver.
    fn options(&self) -> BTreeMap<String, String> {
        let mut all = self.spec.options.clone();
        all.extend(self.secret_options.iter().map(|(k, v)| (k.clone(), v.reveal().to_owned())));
        all
    }

    /// An error as it may be told: it becomes the reason of a task, which many may read.
    fn without_secrets(&self, error: LogError) -> LogError {
        let said = error.to_string();
        // Addresses are said in a form of their own.
        let host = |text: &str| text.split_once("://").map(|(_, rest)| rest.to_owned());
        let values = self.secret_options.values().map(Token::reveal);
        let mut values: Vec<String> =
            values.flat_map(|text| [Some(text.to_owned()), host(text)]).flatten().collect();
        values.retain(|text| !text.is_empty());
        values.sort_by_key(|text| std::cmp::Reverse(text.len()));
        let hidden = values.iter().fold(said.clone(), |said, value| said.replace(value, "***"));
        if hidden == said { error } else { LogError::Hidden(hidden) }
    }
}

/// What lies beside a spool: enough for another agent to go on.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Note {
    task: TaskArn,
    container: String,
    runtime_id: String,
    driver: String,
    #[serde(default)]
    execution_role: bool,
    options: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    about: Option<RunAbout>,
    /// Where to read on.
    position: Position,
    #[serde(flatten)]
    shipped: Shipped,
}

/// How far a run's output has been shipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Shipped {
    /// Without one, both streams are at the note's position.
    reach: Option<Reach>,
    /// How many puts there were.
    puts: u64,
    /// How far the put goes of which nobody knows yet whether it was taken; it is the last of `puts`.
    sending: Option<Reach>,
    /// How long the file is that it goes to, if it goes to one.
    file_bytes: Option<u64>,
}

/// How far a pipeline is.
#[derive(Clone, Debug, Default)]
struct Progress {
    is_done: bool,
    last_line: Option<String>,
}

/// All pipelines of this host.
#[derive(Debug)]
pub struct LogShipping {
    runtime: Arc<dyn Runtime>,
    service: Arc<dyn LogService>,
    clock: Arc<dyn Clock>,
    dirs: StateDir,
    budget: Budget,
    /// Whom other drivers than the region's may send to.
    reach: RemoteReach,
    pipelines: Arc<Mutex<BTreeMap<String, Followed>>>,
}

/// A pipeline as others see it.
#[derive(Clone, Debug)]
struct Followed {
    progress: watch::Receiver<Progress>,
    /// Whether the run has ended, as far as anybody here knows.
    is_over: Arc<AtomicBool>,
    /// The task whose router it is sent to, if it is.
    routed_in: Option<TaskArn>,
    /// Whether whoever takes it has ended for good.
    is_sink_gone: watch::Sender<bool>,
}

impl LogShipping {
    pub fn new(
        runtime: Arc<dyn Runtime>,
        service: Arc<dyn LogService>,
        clock: Arc<dyn Clock>,
        dirs: StateDir,
    ) -> Self {
        let budget = Budget::default();
        let reach = RemoteReach::default();
        Self { runtime, service, clock, dirs, budget, reach, pipelines: Arc::default() }
    }

    /// Whom drivers may send to that send to others than the region.
    #[must_use]
    pub fn reaching(self, reach: RemoteReach) -> Self {
        Self { reach, ..self }
    }

    /// Checks a run's options, and that its stream exists or can be made.
    pub(crate) async fn check(
        &self,
        log: &RunLog,
        credentials: &CredentialsBook,
    ) -> Result<(), LogError> {
        let checked = self.check_driver(log, credentials).await;
        checked.map_err(|error| log.without_secrets(error))
    }

    async fn check_driver(
        &self,
        log: &RunLog,
        credentials: &CredentialsBook,
    ) -> Result<(), LogError> {
        match log.spec.driver {
            LogDriver::None => Ok(()),
            LogDriver::JsonFile => Ok(JsonOptions::read(log).map(drop)?),
            LogDriver::Awslogs => {
                let options = AwslogsOptions::read(log)?;
                self.service.check(&options.target).map_err(LogError::NotAdmitted)?;
                let role = match writer(log, credentials) {
                    Some(writer) => Some(writer.execution().await),
                    None => None,
                };
                self.make_stream(&options, role).await
            }
            LogDriver::Syslog
            | LogDriver::Fluentd
            | LogDriver::Gelf
            | LogDriver::Splunk
            | LogDriver::Firelens => remote::check(log, &self.reach, &self.dirs.volumes()).await,
        }
    }

    async fn make_stream(
        &self,
        options: &AwslogsOptions,
        role: Option<RoleCredentials>,
    ) -> Result<(), LogError> {
        if !options.creates_stream {
            return Ok(());
        }
        let target = || options.target.clone();
        let mut wait_ms = 200;
        for attempt in 1.. {
            let mut made = self.service.create_stream(target(), role.clone()).await;
            let is_missing = |error: &LogServiceError| error.code == "ResourceNotFoundException";
            if options.creates_group && made.as_ref().is_err_and(is_missing) {
                made = match self.service.create_group(target(), role.clone()).await {
                    Ok(()) => self.service.create_stream(target(), role.clone()).await,
                    Err(error) => Err(error),
                };
            }
            match made {
                Ok(()) => break,
                // The region itself is waited for: that it is away is no fault of the task's.
                Err(error)
                    if error.is_transient
                        && (attempt < CHECK_TRIES_MAX
                            || error.is_away && options.target.endpoint.is_none()) =>
                {
                    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                    wait_ms = (wait_ms * 2).min(CHECK_WAIT_MS_MAX);
                }
                Err(error) => return Err(LogError::NoStream(error)),
            }
        }
        Ok(())
    }

    /// How much of a run's output may wait on disk.
    pub fn spool_bytes_max(log: &LogSpec) -> u64 {
        options::spool_bytes_max(&log.options)
    }

    /// Begins to ship a run's output, unless that is under way.
    pub(crate) fn follow(&self, log: &RunLog, credentials: &CredentialsBook) {
        if log.spec.driver == LogDriver::None || self.is_followed(&log.id) {
            return;
        }
        let spool = self.dirs.spools().join(&log.id);
        if !spool.is_dir() {
            return; // all of it was shipped by an earlier agent
        }
        let note = self.note_of(&log.id);
        let position = note.as_ref().map(|note| note.position).unwrap_or_default();
        let mut shipped = note.map(|note| note.shipped).unwrap_or_default();
        shipped.reach.get_or_insert(Reach::at(position));
        let output = match self.runtime.output(&spool, position) {
            Ok(output) => output,
            Err(error) => {
                warn!(run = log.id, error = %error, "output not readable");
                return;
            }
        };
        let (sender, receiver) = watch::channel(Progress::default());
        let is_over = Arc::new(AtomicBool::new(false));
        let is_sink_gone = watch::Sender::new(false);
        let sink_gone = is_sink_gone.subscribe();
        let followed = Followed {
            progress: receiver,
            is_over: Arc::clone(&is_over),
            routed_in: (log.spec.driver == LogDriver::Firelens).then(|| log.task.clone()),
            is_sink_gone,
        };
        let Ok(mut pipelines) = self.pipelines.lock() else { return };
        if pipelines.insert(log.id.clone(), followed).is_some() {
            return;
        }
        drop(pipelines);
        let pipeline = Pipeline {
            log: log.clone(),
            output,
            shipped,
            note: NoteFile {
                path: self.note_path(&log.id),
                spool,
                steps: self.dirs.steps().clone(),
            },
            progress: sender,
            is_over,
            sink_gone,
            clock: Arc::clone(&self.clock),
        };
        let (reach, sockets) = (self.reach.clone(), self.dirs.volumes());
        let writer = writer(log, credentials);
        let pipelines = Arc::clone(&self.pipelines);
        let (service, budget) = (Arc::clone(&self.service), self.budget.clone());
        let file = self.dirs.containers().join(&log.id).join(format!("{}-json.log", log.id));
        let log = log.clone();
        #[expect(
            clippy::disallowed_methods,
            reason = "a pipeline a run: it ends with the run, and is in `pipelines` until then"
        )]
        tokio::spawn(async move {
            pipeline.note.write(&log, &pipeline.shipped);
            match log.spec.driver {
                LogDriver::Awslogs => awslogs::ship(pipeline, service, writer, budget).await,
                LogDriver::JsonFile => json_file::ship(pipeline, file).await,
                LogDriver::Syslog
                | LogDriver::Fluentd
                | LogDriver::Gelf
                | LogDriver::Splunk
                | LogDriver::Firelens => remote::ship(pipeline, reach, sockets).await,
                LogDriver::None => {}
            }
            // Whoever asks a little later still learns its last line.
            tokio::time::sleep(REMEMBERED).await;
            if let Ok(mut pipelines) = pipelines.lock() {
                pipelines.remove(&log.id);
            }
        });
    }

    /// A task's router has ended for good: what it did not take, nobody will.
    pub(crate) fn router_ended(&self, task: &TaskArn) {
        let Ok(pipelines) = self.pipelines.lock() else { return };
        for followed in pipelines.values().filter(|it| it.routed_in.as_ref() == Some(task)) {
            followed.is_sink_gone.send_replace(true);
        }
    }

    fn is_followed(&self, id: &str) -> bool {
        self.pipelines.lock().is_ok_and(|pipelines| pipelines.contains_key(id))
    }

    /// Waits until a run's output is out, but not for ever; answers with its last line.
    pub async fn drained(&self, id: &str, limit: Duration) -> Option<String> {
        let followed = self.pipelines.lock().ok()?.get(id).cloned();
        let Followed { progress: mut receiver, is_over, .. } = followed?;
        is_over.store(true, Ordering::Relaxed);
        let done = receiver.wait_for(|progress| progress.is_done);
        if tokio::time::timeout(limit, done).await.is_err() {
            warn!(run = id, "output is shipped later");
        }
        let progress = receiver.borrow();
        progress.last_line.clone()
    }

    /// Answers once a run's output is out; nothing if there is nothing to wait for.
    pub fn shipped(&self, id: &str) -> Option<BoxFuture<'static, ()>> {
        let Followed { progress: mut receiver, .. } =
            self.pipelines.lock().ok()?.get(id).cloned()?;
        if receiver.borrow().is_done {
            return None;
        }
        Some(Box::pin(async move { drop(receiver.wait_for(|progress| progress.is_done).await) }))
    }

    fn note_path(&self, id: &str) -> PathBuf {
        self.dirs.spools().join(format!("{id}.json"))
    }

    fn note_of(&self, id: &str) -> Option<Note> {
        serde_json::from_slice(&std::fs::read(self.note_path(id)).ok()?).ok()
    }

    /// Goes on with the spools whose tasks are gone; removes those that nothing is known of, and notes
    /// whose spool is gone.
    pub(crate) fn take_up_orphans(&self, runs: &BTreeSet<String>, credentials: &CredentialsBook) {
        let Ok(entries) = std::fs::read_dir(self.dirs.spools()) else { return };
        for entry in entries.flatten() {
            let path = entry.path();
            if !path.is_dir() {
                // A spool is made before its note, and goes before it: nobody needs this one any more.
                if path.extension().is_some_and(|it| it == "json")
                    && !path.with_extension("").is_dir()
                {
                    let _ = std::fs::remove_file(&path);
                }
                continue;
            }
            let Ok(id) = entry.file_name().into_string() else { continue };
            if runs.contains(&id) {
                continue;
            }
            match self.note_of(&id) {
                Some(note) => {
                    info!(run = id, "output of an ended container is shipped");
                    self.follow(&note.run_log(id.clone()), credentials);
                    if let Some(followed) =
                        self.pipelines.lock().ok().and_then(|it| it.get(&id).cloned())
                    {
                        followed.is_over.store(true, Ordering::Relaxed);
                        // Its task is gone, and with it the router.
                        followed.is_sink_gone.send_replace(followed.routed_in.is_some());
                    }
                }
                None => drop(files::dir::remove_tree(&path)),
            }
        }
    }
}

/// Whose credentials a run's log is written with; the host's own if nobody's.
fn writer(log: &RunLog, credentials: &CredentialsBook) -> Option<Held> {
    log.spec.execution_role.then(|| credentials.hold(&log.task))
}

impl Note {
    fn run_log(self, id: String) -> RunLog {
        let driver = LogDriver::from_word(&self.driver).unwrap_or(LogDriver::JsonFile);
        RunLog {
            id,
            task: self.task,
            container: self.container,
            runtime_id: self.runtime_id,
            spec: LogSpec { driver, execution_role: self.execution_role, options: self.options },
            is_tty: false,
            secret_options: BTreeMap::new(),
            about: self.about,
        }
    }
}

/// One run's output being shipped.
struct Pipeline {
    log: RunLog,
    output: Box<dyn Output>,
    shipped: Shipped,
    note: NoteFile,
    progress: watch::Sender<Progress>,
    is_over: Arc<AtomicBool>,
    sink_gone: watch::Receiver<bool>,
    clock: Arc<dyn Clock>,
}

impl Pipeline {
    /// Remembers the last thing that was said.
    fn saw(&self, line: &str) {
        let line = line.trim_end();
        if line.trim().is_empty() {
            return;
        }
        let end = (0..=line.len().min(LAST_LINE_MAX)).rev().find(|end| line.is_char_boundary(*end));
        let line = line[..end.unwrap_or(0)].to_owned();
        self.progress.send_modify(|progress| progress.last_line = Some(line));
    }

    /// Whether the run has ended, whatever of its output is still to be read.
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Whether whoever takes the output has ended for good.
    fn is_sink_gone(&self) -> bool {
        *self.sink_gone.borrow()
    }

    /// Sleeps, but not on once nobody is left to wait for.
    fn sleep(&self, pause: Duration) -> impl Future<Output = ()> + use<> {
        let mut gone = self.sink_gone.clone();
        async move {
            let ended = async {
                if gone.wait_for(|is_gone| *is_gone).await.is_err() {
                    // Where nobody can say so any more, the time decides.
                    std::future::pending::<()>().await;
                }
            };
            let _ = tokio::time::timeout(pause, ended).await;
        }
    }

    fn reach(&self) -> Reach {
        self.shipped.reach.unwrap_or_default()
    }

    /// Everything up to `reach` is about to be put; the put's number.
    fn sends(&mut self, reach: Reach) -> u64 {
        if self.shipped.sending != Some(reach) {
            self.shipped.puts += 1;
            self.shipped.sending = Some(reach);
            self.note.write(&self.log, &self.shipped);
        }
        self.shipped.puts
    }

    /// Everything up to `reach` is where it belongs.
    fn settled(&mut self, reach: Reach) {
        self.note_down(Shipped { reach: Some(reach), sending: None, ..self.shipped });
    }

    /// Everything up to `reach` is in a file of so many bytes.
    fn settled_in_file(&mut self, reach: Reach, bytes: u64) {
        let (reach, file_bytes) = (Some(reach), Some(bytes));
        self.note_down(Shipped { reach, file_bytes, ..self.shipped });
    }

    fn note_down(&mut self, shipped: Shipped) {
        if shipped == self.shipped {
            return;
        }
        self.shipped = shipped;
        self.note.write(&self.log, &self.shipped);
        self.output.acknowledge(self.reach().first());
    }

    fn finish(self) {
        self.note.remove();
        self.progress.send_modify(|progress| progress.is_done = true);
    }
}

#[derive(Clone, Debug)]
struct NoteFile {
    path: PathBuf,
    spool: PathBuf,
    steps: Steps,
}

impl NoteFile {
    fn write(&self, log: &RunLog, shipped: &Shipped) {
        self.steps.reached("note to be written");
        let note = Note {
            task: log.task.clone(),
            container: log.container.clone(),
            runtime_id: log.runtime_id.clone(),
            driver: log.spec.driver.as_str().to_owned(),
            about: log.about.clone(),
            execution_role: log.spec.execution_role,
            options: log.spec.options.clone(),
            position: shipped.reach.unwrap_or_default().first(),
            shipped: *shipped,
        };
        let text = serde_json::to_vec(&note).expect("a note has string keys only");
        // What was shipped after the last one is shipped twice, with or without the machine.
        let written = whole::write(&self.path, &text, Durability::DiesWithTheMachine);
        if let Err(error) = written {
            warn!(run = log.id, error = %error, "position not written down");
        }
        self.steps.reached("note written");
    }

    /// The spool first: a note without a spool is harmless, and removed by the next agent.
    fn remove(&self) {
        self.steps.reached("spool to be removed");
        let _ = files::dir::remove_tree(&self.spool);
        self.steps.reached("spool removed");
        let _ = std::fs::remove_file(&self.path);
        self.steps.reached("note removed");
    }
}
