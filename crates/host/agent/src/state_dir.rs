//! The agent's files: one a task, and a small one for the instance.
//!
//! A task changes a dozen times within a second or two, and each time it must be on disk before
//! anything follows from it. So its file is a log of JSON lines: first the task as it was asked for,
//! then its states, of which the last one counts.
//!
//! **Invariant:** a line without its end was never written. What was saved survives the agent; what
//! was also synced survives the machine.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use files::Reserve;
use files::format::Step;
use files::whole::{self, Durability, Found};
use longshore_types::{Chain, Steps, TaskId};
use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use crate::engine::state::TaskState;
use crate::limits::TASK_LOG_BYTES_MAX;

/// What raises the agent's files to the version of this release, in order. A member that came later is an
/// `Option` or has a default, and needs none; another meaning, another word, another name of a file is a step
/// here, with a test on the files of the release before (`tests/corpus`).
const FORMAT_STEPS: &[Step] = &[];

/// What could not be done to which file.
#[derive(Debug, thiserror::Error)]
#[error("failed to {doing} {path}")]
pub struct StateError {
    doing: &'static str,
    path: String,
    source: io::Error,
}

fn failed<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StateError + 'a {
    move |source| StateError { doing, path: path.display().to_string(), source }
}

/// A task as it lies on disk: as it was asked for, without credentials, and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskRecord {
    pub task: acs::Task,
    pub state: TaskState,
}

/// What the agent knows of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceRecord {
    pub container_instance_arn: Option<String>,
    pub cluster: Option<String>,
    /// The highest sequence number seen, of payloads and manifests alike.
    pub sequence: i64,
}

impl Default for InstanceRecord {
    fn default() -> Self {
        Self { container_instance_arn: None, cluster: None, sequence: -1 }
    }
}

/// The directories of the agent's state.
#[derive(Clone, Debug)]
pub struct StateDir {
    root: PathBuf,
    steps: Steps,
    reserve: Arc<Reserve>,
}

impl StateDir {
    pub fn open(root: &Path) -> Result<Self, StateError> {
        let reserve = Arc::new(Reserve::none());
        let this = Self { root: root.to_owned(), steps: Steps::default(), reserve };
        files::private::make_dirs(root).map_err(failed("create", root))?;
        let raised = files::format::raise(root, FORMAT_STEPS);
        raised.map_err(|error| failed("open", root)(error.into()))?;
        for dir in [this.tasks(), this.volumes(), this.shared(), this.spools(), this.containers()] {
            files::private::make_dirs(&dir).map_err(failed("create", &dir))?;
        }
        for dir in [&this.root, &this.tasks(), &this.spools()] {
            whole::sweep(dir).map_err(failed("sweep", dir))?;
        }
        Ok(this)
    }

    /// Of all that is kept here.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Keeps room for the files of tasks when the disk is full. An agent does without rather than not at all.
    pub fn with_reserve(self) -> Self {
        match Reserve::hold(&self.root) {
            Ok(reserve) => Self { reserve: Arc::new(reserve), ..self },
            Err(error) => {
                warn!(error = %Chain(&error), "no room reserved on the disk");
                self
            }
        }
    }

    /// Takes again what of that room was given, once there is some.
    pub(crate) fn tend_reserve(&self) {
        if let Err(error) = self.reserve.make_whole() {
            debug!(error = %Chain(&error), "reserved room not taken again");
        }
    }

    /// Has `steps` told of what is written, before and after.
    pub fn heard_by(self, steps: Steps) -> Self {
        Self { steps, ..self }
    }

    pub(crate) fn steps(&self) -> &Steps {
        &self.steps
    }

    fn tasks(&self) -> PathBuf {
        self.root.join("tasks")
    }

    /// Volumes that live as long as their task, a directory each.
    pub fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// Volumes that outlive tasks.
    pub fn shared(&self) -> PathBuf {
        self.root.join("shared-volumes")
    }

    /// Output that was not shipped yet.
    pub fn spools(&self) -> PathBuf {
        self.root.join("spool")
    }

    /// Writable layers, `/etc/hosts` and the like, and json-file logs; a directory a run.
    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    fn task_file(&self, id: TaskId) -> PathBuf {
        self.tasks().join(format!("{id}.json"))
    }

    /// What keeps a task's states. Nothing is written before the first of them.
    pub fn task_log(&self, id: TaskId, task: &acs::Task) -> TaskLog {
        let head = line(&task.without_credentials());
        let (steps, reserve) = (self.steps.clone(), Arc::clone(&self.reserve));
        TaskLog { path: self.task_file(id), head, bytes: 0, steps, reserve }
    }

    /// Makes what was last saved of the task survive a power cut.
    pub fn sync_task(&self, id: TaskId) -> Result<(), StateError> {
        let path = self.task_file(id);
        match self.reserve.with_room(|| whole::sync(&path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("sync", &path)(error))
            }
            Ok(()) | Err(_) => {
                self.steps.reached("task synced");
                Ok(())
            }
        }
    }

    pub fn forget_task(&self, id: TaskId) -> Result<(), StateError> {
        let path = self.task_file(id);
        self.steps.reached("task to be forgotten");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &path)(error));
            }
            Ok(()) | Err(_) => {}
        }
        self.steps.reached("task forgotten");
        Ok(())
    }

    /// All tasks, and the files that could not be read as one.
    pub fn load_tasks(&self) -> Result<(Vec<TaskRecord>, Vec<StateError>), StateError> {
        let dir = self.tasks();
        let mut records = Vec::new();
        let mut unreadable = Vec::new();
        for entry in fs::read_dir(&dir).map_err(failed("list", &dir))? {
            let path = entry.map_err(failed("list", &dir))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                let _ = fs::remove_file(&path);
                continue;
            }
            let record = fs::read(&path).and_then(|text| read_log(&text));
            match record {
                Ok(record) => records.push(record),
                Err(error) => {
                    unreadable.push(failed("read", &path)(error));
                    let _ = fs::rename(&path, path.with_extension("unreadable"));
                }
            }
        }
        Ok((records, unreadable))
    }

    pub fn load_instance(&self) -> Result<InstanceRecord, StateError> {
        let path = self.root.join("instance.json");
        let found = whole::read_json(&path).and_then(Found::value);
        Ok(found.map_err(failed("read", &path))?.unwrap_or_default())
    }

    /// Synced: the same instance must come back after a power cut.
    pub fn save_instance(&self, record: &InstanceRecord) -> Result<(), StateError> {
        let path = self.root.join("instance.json");
        let text = serde_json::to_vec(record).expect("a record has string keys only");
        let written = || whole::write(&path, &text, Durability::Synced);
        self.reserve.with_room(written).map_err(failed("write", &path))
    }
}

/// A task's file as long as the task goes on.
#[derive(Debug)]
pub struct TaskLog {
    path: PathBuf,
    head: Vec<u8>,
    /// What is in the file; nothing that could be gone on with after a failure.
    bytes: usize,
    steps: Steps,
    reserve: Arc<Reserve>,
}

impl TaskLog {
    pub fn save(&mut self, state: &TaskState) -> Result<(), StateError> {
        self.steps.reached("task to be saved");
        let line = line(state);
        let bytes = std::mem::take(&mut self.bytes) + line.len();
        let is_begun = bytes != line.len() && bytes <= TASK_LOG_BYTES_MAX;
        // Half a line is nothing that could be gone on with.
        if is_begun && append(&self.path, &line).is_ok() {
            self.bytes = bytes;
        } else {
            let text = [&self.head[..], &line[..]].concat();
            let replaced = self.reserve.with_room(|| replace(&self.path, &text));
            replaced.map_err(failed("write", &self.path))?;
            self.bytes = text.len();
        }
        self.steps.reached("task saved");
        Ok(())
    }
}

fn line(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec(value).expect("what is saved has string keys only");
    text.push(b'\n');
    text
}

/// The task and its last whole state. What a crash of the machine left of the lines after a synced
/// one may be anything.
fn read_log(text: &[u8]) -> io::Result<TaskRecord> {
    let mut lines = text.split_inclusive(|byte| *byte == b'\n');
    let task = serde_json::from_slice(lines.next().unwrap_or_default())?;
    let whole = lines.rev().filter(|line| line.ends_with(b"\n"));
    let state = whole.filter_map(|line| serde_json::from_slice(line).ok()).next();
    let state = state.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no state"))?;
    Ok(TaskRecord { task, state })
}

/// A task's first states are synced before anybody is told of it; what they replace later was.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let durability =
        if path.exists() { Durability::Synced } else { Durability::SyncedBeforeAPromise };
    whole::write(path, text, durability)
}

fn append(path: &Path, text: &[u8]) -> io::Result<()> {
    let opened = OpenOptions::new().append(true).open(path);
    opened.and_then(|mut file| file.write_all(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_comes_back_without_credentials() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let mut record = TaskRecord { task: acs::Task::default(), state: TaskState::default() };
        record.task.arn = "a".into();
        record.task.role_credentials = Some(acs::RoleCredentials::default());
        let mut log = state.task_log(TaskId::from_bytes([1; 16]), &record.task);
        log.save(&TaskState { events: 7, ..TaskState::default() }).unwrap();
        log.save(&record.state).unwrap();
        state.sync_task(TaskId::from_bytes([1; 16])).unwrap();
        std::fs::write(dir.path().join("tasks/bad.json"), "{").unwrap();
        let (records, unreadable) = state.load_tasks().unwrap();
        record.task.role_credentials = None;
        assert_eq!(records, [record]);
        assert_eq!(unreadable.len(), 1);
        state.forget_task(TaskId::from_bytes([1; 16])).unwrap();
        state.forget_task(TaskId::from_bytes([1; 16])).unwrap();
        assert_eq!(state.load_tasks().unwrap().0, []);
    }

    #[test]
    fn the_last_whole_state_counts_and_the_file_stays_small() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = StateDir::open(dir.path()).unwrap();
        let id = TaskId::from_bytes([2; 16]);
        let task = acs::Task { arn: "a".into(), ..acs::Task::default() };
        let mut log = dirs.task_log(id, &task);
        let state = |events| TaskState { events, ..TaskState::default() };
        let path = dirs.task_file(id);
        for events in 0..2_000 {
            log.save(&state(events)).unwrap();
            assert!(fs::metadata(&path).unwrap().len() <= TASK_LOG_BYTES_MAX as u64);
        }
        assert_eq!(dirs.load_tasks().unwrap().0[0].state, state(1_999));
        // The machine went down in the middle of a line, or left something else in its place.
        for rest in [&br#"{"desired":"Run"#[..], b"\0\0\0\0\n", b"\0\0\0"] {
            OpenOptions::new().append(true).open(&path).unwrap().write_all(rest).unwrap();
            let (records, unreadable) = dirs.load_tasks().unwrap();
            assert_eq!((records[0].state.events, unreadable.len()), (1_999, 0));
        }
        // Whoever goes on with it starts a new file.
        dirs.task_log(id, &task).save(&state(5)).unwrap();
        assert_eq!(dirs.load_tasks().unwrap().0, [TaskRecord { task, state: state(5) }]);
    }

    /// A state in which every member says something.
    fn full() -> TaskState {
        use crate::engine::state::{
            Binding, ContainerChange, ContainerState, Desired, ExitState, GaveUp, Health,
            ManagedAgentChange, Phase, Prepared, Status, StopCause, TaskEvent,
        };
        use longshore_types::Timestamp;
        let binding = Binding {
            container_port: 80,
            host_port: 32_768,
            protocol: crate::spec::Protocol::Udp,
            range: None,
        };
        let change = ContainerChange {
            name: "web".to_owned(),
            status: Status::Running,
            runtime_id: Some("web-1".to_owned()),
            image_digest: Some("sha256:00".to_owned()),
            exit_code: Some(3),
            reason: Some("it ended".to_owned()),
            bindings: vec![binding.clone()],
        };
        let managed = ManagedAgentChange {
            container: "web".to_owned(),
            agent: "ExecuteCommandAgent".to_owned(),
            reason: "none".to_owned(),
        };
        let event = TaskEvent {
            number: 4,
            status: Status::Pending,
            reason: "why".to_owned(),
            containers: vec![change],
            managed_agents: vec![managed],
            pull_started_at: Some(Timestamp(1)),
            pull_stopped_at: Some(Timestamp(2)),
            execution_stopped_at: Some(Timestamp(3)),
        };
        let exit = ExitState {
            code: Some(137),
            oom_killed: true,
            pids_limit_hit: Some(9),
            at: Timestamp(7),
        };
        let container = ContainerState {
            runtime_id: "web-1".to_owned(),
            phase: Phase::Exited,
            digest: Some("sha256:00".to_owned()),
            stop_signal: Some("SIGQUIT".to_owned()),
            address: Some([172, 17, 0, 2].into()),
            netns: Some("/run/netns/a".into()),
            bindings: vec![binding],
            started_at: Some(Timestamp(5)),
            exit: Some(exit),
            last_exit_code: Some(1),
            reason: Some("it ended".to_owned()),
            has_log: true,
            gave_up: Some(GaveUp { reason: "no".to_owned(), exit_code: Some(2) }),
            last_line: Some("bye".to_owned()),
            restarts: 2,
            health: Health::Unhealthy,
            health_since: Some(Timestamp(6)),
            stop_sent_at: Some(Timestamp(8)),
            kill_sent_at: Some(Timestamp(9)),
            reported: Some(Status::Running),
            // Members that the releases of the corpora did not have.
            endpoint_id: String::new(),
            created_at: None,
            health_said: None,
        };
        let prepared = Prepared {
            netns: Some("/run/netns/b".into()),
            address: Some([10, 0, 0, 9].into()),
            nameserver: Some([10, 0, 0, 2].into()),
            seen_as: None,
        };
        TaskState {
            desired: Desired::Stopped,
            stop_cause: Some(StopCause::EssentialExited { container: 0 }),
            containers: vec![container],
            prepared: Some(prepared),
            released: true,
            pull_started_at: Some(Timestamp(1)),
            pull_stopped_at: Some(Timestamp(2)),
            execution_stopped_at: Some(Timestamp(3)),
            reported: Some(Status::Stopped),
            outbox: [event].into(),
            events: 5,
            change_at: Some(Timestamp(4)),
        }
    }

    const TASK: &str =
        "arn:aws:ecs:us-east-1:000000000000:task/c/0202020202020202020202020202020202";

    fn corpora() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
    }

    /// Makes a new corpus, before a release: its directory is named in `LONGSHORE_CORPUS`.
    #[test]
    #[ignore = "makes a new corpus"]
    fn keep() {
        let dir = std::env::var_os("LONGSHORE_CORPUS").unwrap();
        let state = StateDir::open(Path::new(&dir)).unwrap();
        let task = acs::Task { arn: TASK.into(), ..acs::Task::default() };
        let mut log = state.task_log(TaskId::from_bytes([2; 16]), &task);
        log.save(&TaskState::default()).unwrap();
        log.save(&full()).unwrap();
        let arn = "arn:aws:ecs:us-east-1:000000000000:container-instance/c/01".to_owned();
        let cluster = Some("c".to_owned());
        let record =
            InstanceRecord { container_instance_arn: Some(arn), cluster, sequence: 1 << 24 };
        state.save_instance(&record).unwrap();
    }

    #[test]
    fn the_files_of_every_release_are_read_and_lose_nothing() {
        let mut releases = 0;
        for corpus in fs::read_dir(corpora()).unwrap() {
            let corpus = corpus.unwrap().path();
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("tasks")).unwrap();
            for entry in fs::read_dir(corpus.join("tasks")).unwrap() {
                let path = entry.unwrap().path();
                fs::copy(&path, dir.path().join("tasks").join(path.file_name().unwrap())).unwrap();
            }
            fs::copy(corpus.join("instance.json"), dir.path().join("instance.json")).unwrap();
            let state = StateDir::open(dir.path()).unwrap();
            let (records, unreadable) = state.load_tasks().unwrap();
            assert_eq!((records.len(), unreadable.len()), (1, 0), "{}", corpus.display());
            assert_eq!(records[0].task.arn, TASK);
            assert_eq!(records[0].state, full(), "{}", corpus.display());
            let instance = state.load_instance().unwrap();
            assert_eq!((instance.cluster.as_deref(), instance.sequence), (Some("c"), 1 << 24));
            assert!(dir.path().join(files::format::FILE).exists());
            releases += 1;
        }
        assert!(releases > 0);
    }

    #[test]
    fn files_of_a_newer_release_are_refused_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let newer = r#"{"version":1000,"release":"9.9.9"}"#;
        fs::write(dir.path().join(files::format::FILE), newer).unwrap();
        let error = StateDir::open(dir.path()).unwrap_err();
        let text = Chain(&error).to_string();
        assert!(text.contains("release 9.9.9"), "{text}");
    }

    #[test]
    fn an_instance_that_was_never_registered_has_no_arn() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        assert_eq!(state.load_instance().unwrap().sequence, -1);
        let record = InstanceRecord { sequence: 7, ..InstanceRecord::default() };
        state.save_instance(&record).unwrap();
        assert_eq!(state.load_instance().unwrap(), record);
    }
}
