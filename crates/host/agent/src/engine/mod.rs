//! The task engine: takes in what the region wants, runs it, and says what became of it.
//!
//! [`state`] is what is known of a task, [`step`] how that changes, [`plan`] what follows from it;
//! all three are pure. A [`worker`] a task carries plans out ([`execute`]).

pub(crate) mod context;
#[cfg(test)]
mod crash;
mod depend;
mod event;
mod execute;
mod failure;
mod firelens;
mod health;
mod held;
mod launch;
mod objects;
mod plan;
mod pre_pull;
mod pull;
mod recover;
pub mod secrets;
#[cfg(test)]
mod simulation;
pub mod state;
mod step;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod turns;
mod volumes;
mod worker;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use longshore_types::TaskArn;
use network::News;
use sandbox::FENCED_OFF;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};
use traffic::connect::ConnectReport;

pub use context::Region;
pub(crate) use context::{
    Context, CredentialsBook, Held, InstanceBook, OwnersBook, TaskCredentials,
};
pub(crate) use failure::Failure;
pub(crate) use launch::parse_size;
pub(crate) use objects::{ObjectError, ObjectsBook};
pub(crate) use secrets::SecretsBook;
pub(crate) use volumes::VolumeError;
#[doc(hidden)]
pub use volumes::{NotFilled, fill_volume};
pub(crate) use volumes::{shared_volume, volumes_shown};
pub use worker::TaskView;

use self::pre_pull::PrePulls;
use self::state::{Desired, Status, TaskEvent, TaskState};
use self::step::Input;
use self::worker::{Message, Worker};
use crate::lease::Renewed;
use crate::limits::{TASKS_MAX, TOMBSTONES_MAX};
use crate::ports::NetError;
use crate::spec::{self, TaskSpec};
use acs::RoleCredentials;
use acs::message::PrePull;

const COULD_NOT_PROGRESS: &str = "TaskStateError: Agent could not progress task's state to stopped";
const INBOX: usize = 64;

/// What became of one task of a payload.
#[derive(Debug)]
pub enum Accepted {
    /// It is ours; acknowledge it once this has answered.
    Taken(oneshot::Receiver<()>),
    /// There was nothing to do.
    Known,
    /// It cannot be read. The region was told why, and must not get an acknowledgement.
    Invalid,
}

/// All tasks of this host.
#[derive(Clone, Debug)]
pub struct Engine {
    context: Arc<Context>,
    tasks: Arc<Mutex<Tasks>>,
    pre_pulls: PrePulls,
}

#[derive(Debug, Default)]
struct Tasks {
    live: BTreeMap<TaskArn, Handle>,
    /// Ended lately.
    ended: VecDeque<TaskArn>,
}

#[derive(Debug)]
struct Handle {
    inbox: mpsc::Sender<Message>,
    shown: worker::Shown,
}

impl Engine {
    /// Takes up what an earlier agent left, then is ready for the region's wishes.
    pub(crate) async fn open(context: Arc<Context>) -> Self {
        let pre_pulls = PrePulls::begin(&context);
        let engine = Self { context, tasks: Arc::default(), pre_pulls };
        recover::recover(&engine).await;
        engine
    }

    /// Has the host's interfaces routed and judged by what the region told.
    pub(crate) async fn learn(&self, news: News) -> Result<(), NetError> {
        self.context.networks.learn(news).await
    }

    /// Has images fetched that tasks may ask for later.
    pub(crate) fn pre_pull(&self, wanted: PrePull) {
        self.pre_pulls.add(wanted, self.context.clock.now());
    }

    /// What the host's proxy of Service Connect said last.
    pub(crate) async fn connect_report(&self) -> Option<ConnectReport> {
        self.context.networks.connect_report().await
    }

    /// Takes in one task of a payload. Handles resent ones as well as new ones.
    pub async fn accept(&self, task: serde_json::Value) -> Accepted {
        let arn = task.get("arn").and_then(|arn| arn.as_str()).unwrap_or_default().to_owned();
        let wants_stop = wants_stop(&task);
        match spec::parse_task_arn(&arn) {
            Err(invalid) => {
                warn!(task = arn, reason = %invalid, "task refused");
                return Accepted::Invalid;
            }
            Ok(arn) => {
                if let Some(accepted) = self.accept_known(&arn, wants_stop).await {
                    return accepted;
                }
            }
        }
        let read = serde_json::from_value::<acs::Task>(task)
            .map_err(|why| spec::InvalidTask::Unreadable(why.to_string()))
            .and_then(|task| Ok((spec::parse(&task)?, task)));
        match read {
            Ok((spec, task)) => self.accept_new(spec, task).await,
            Err(invalid) => {
                warn!(task = arn, reason = %invalid, "task refused");
                if let Ok(arn) = spec::parse_task_arn(&arn) {
                    self.refuse(arn, invalid.to_string());
                }
                Accepted::Invalid
            }
        }
    }

    async fn accept_known(&self, arn: &TaskArn, wants_stop: bool) -> Option<Accepted> {
        let inbox = {
            let tasks = self.lock();
            if tasks.ended.contains(arn) {
                return Some(Accepted::Known);
            }
            tasks.live.get(arn).map(|handle| handle.inbox.clone())
        };
        match (inbox, wants_stop) {
            (Some(inbox), true) => {
                let _ = inbox.send(Message::Input(Input::StopRequested)).await;
                Some(sync(&inbox).await)
            }
            (Some(inbox), false) => Some(sync(&inbox).await),
            (None, true) => {
                self.refuse(arn.clone(), COULD_NOT_PROGRESS.to_owned());
                Some(Accepted::Known)
            }
            (None, false) => None,
        }
    }

    async fn accept_new(&self, mut spec: TaskSpec, mut task: acs::Task) -> Accepted {
        let arn = spec.arn.clone();
        if spec.lease_epoch.is_some() {
            task.lease_epoch = Some(self.context.lease.epoch().unwrap_or(0));
            spec.lease_epoch = task.lease_epoch;
        }
        if TASKS_MAX <= self.lock().live.len() {
            let reason = format!("ResourceInitializationError: this host runs {TASKS_MAX} tasks");
            self.refuse(arn, reason);
            return Accepted::Known;
        }
        let credentials = TaskCredentials {
            application: task.role_credentials.take(),
            execution: task.execution_role_credentials.take(),
        };
        task.execution_credentials_id =
            credentials.execution.as_ref().map(|role| role.credentials_id.clone());
        task.credentials_id.clone_from(&spec.credentials_id);
        self.context.credentials.put(&arn, credentials);
        let state = TaskState::new(&spec, || self.random());
        info!(task = %arn, family = spec.family, "task accepted");
        let inbox = self.spawn(spec, &task, state, BTreeMap::new());
        sync(&inbox).await
    }

    fn random(&self) -> u32 {
        let mut bytes = [0; 4];
        self.context.ids.fill(&mut bytes);
        u32::from_be_bytes(bytes)
    }

    /// Tells the region that a task which we never ran has stopped.
    fn refuse(&self, task: TaskArn, reason: String) {
        let event = TaskEvent {
            number: 0,
            status: Status::Stopped,
            reason,
            containers: Vec::new(),
            managed_agents: Vec::new(),
            pull_started_at: None,
            pull_stopped_at: None,
            execution_stopped_at: None,
        };
        let region = Arc::clone(&self.context.region);
        #[expect(
            clippy::disallowed_methods,
            reason = "one event; the region asks for it again if it is lost"
        )]
        tokio::spawn(async move { region.tell(task, event).await });
    }

    fn spawn(
        &self,
        spec: TaskSpec,
        task: &acs::Task,
        state: TaskState,
        images: BTreeMap<usize, crate::ports::LocalImage>,
    ) -> mpsc::Sender<Message> {
        let (sender, inbox) = mpsc::channel(INBOX);
        let spec = Arc::new(spec);
        let view = TaskView { spec: Arc::clone(&spec), state: Arc::new(state.clone()) };
        let shown = Arc::new(Mutex::new(view));
        let arn = spec.arn.clone();
        if let Some(id) = &spec.credentials_id {
            self.context.credentials.name(&arn, id);
        }
        for (index, container) in state.containers.iter().enumerate() {
            self.context.owners.put(&container.endpoint_id, &arn, index);
        }
        let worker = Worker {
            context: Arc::clone(&self.context),
            log: self.context.dirs.task_log(spec.arn.id, task),
            spec,
            state,
            inbox,
            own: sender.downgrade(),
            shown: Arc::clone(&shown),
            images,
            is_to_stop: tokio::sync::watch::Sender::new(false),
        };
        let handle = Handle { inbox: sender.clone(), shown };
        self.lock().live.insert(arn, handle);
        // The worker must not keep the engine alive, nor with it its own inbox.
        let tasks = Arc::downgrade(&self.tasks);
        #[expect(
            clippy::disallowed_methods,
            reason = "a worker a task: it ends with its task, and is in `live` until then"
        )]
        tokio::spawn(async move {
            let ended = worker::run(worker).await;
            if let Some(tasks) = tasks.upgrade()
                && let Ok(mut tasks) = tasks.lock()
            {
                tasks.live.remove(&ended);
                if TOMBSTONES_MAX <= tasks.ended.len() {
                    tasks.ended.pop_front();
                }
                tasks.ended.push_back(ended);
            }
        });
        sender
    }

    /// A task that has credentials under this id, and what is known of it.
    pub(crate) fn named(
        &self,
        credentials_id: &str,
    ) -> Option<(TaskView, Option<RoleCredentials>)> {
        let (arn, role) = self.context.credentials.named(credentials_id)?;
        let shown = self.lock().live.get(&arn).map(|handle| Arc::clone(&handle.shown))?;
        let view = shown.lock().ok()?.clone();
        Some((view, role))
    }

    /// The container that asks the agent by this id, and its task.
    pub(crate) fn owner_of(&self, endpoint_id: &str) -> Option<(TaskView, usize)> {
        let (arn, index) = self.context.owners.get(endpoint_id)?;
        let shown = self.lock().live.get(&arn).map(|handle| Arc::clone(&handle.shown))?;
        let view = shown.lock().ok()?.clone();
        (index < view.spec.containers.len()).then_some((view, index))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Tasks> {
        self.tasks.lock().expect("nothing panics while it holds the tasks")
    }

    /// All tasks as they were last saved.
    pub fn views(&self) -> Vec<TaskView> {
        let shown: Vec<_> = self.lock().live.values().map(|h| Arc::clone(&h.shown)).collect();
        shown.iter().filter_map(|view| view.lock().ok().map(|view| view.clone())).collect()
    }

    /// Answers after any task has changed.
    pub async fn changed(&self) {
        self.context.changed.notified().await;
    }

    /// Wants a task stopped, as far as it is ours.
    pub async fn stop(&self, arn: &TaskArn) {
        let inbox = self.lock().live.get(arn).map(|handle| handle.inbox.clone());
        if let Some(inbox) = inbox {
            let _ = inbox.send(Message::Input(Input::StopRequested)).await;
        }
    }

    /// Stops a task that is over a limit of this host, as far as it is ours.
    pub(crate) async fn over_limit(&self, arn: &TaskArn, reason: String) {
        let inbox = self.lock().live.get(arn).map(|handle| handle.inbox.clone());
        if let Some(inbox) = inbox {
            let _ = inbox.send(Message::Input(Input::OverLimit { reason })).await;
        }
    }

    /// The region has answered what was sent then. Fenced tasks of a lease that was over meanwhile are stopped:
    /// what is left of them runs nowhere any more.
    pub(crate) async fn renew_lease(&self, sent_ms: u64, lost_after_ms: u64) {
        if self.context.lease.renew(sent_ms, lost_after_ms) != Renewed::Anew {
            return;
        }
        let epoch = self.context.lease.epoch();
        let is_over = |view: &TaskView| view.spec.lease_epoch.is_some_and(|it| Some(it) != epoch);
        for view in self.views().into_iter().filter(is_over) {
            let arn = &view.spec.arn;
            warn!(task = %arn, "a fenced task is stopped: this host was out of touch");
            self.over_limit(arn, FENCED_OFF.to_owned()).await;
            // Also if all its containers have ended already and would be started anew.
            self.stop(arn).await;
        }
    }

    /// Wants all tasks stopped, and waits until nothing of them is left on the host.
    pub async fn stop_all(&self) {
        let arns: Vec<TaskArn> = self.lock().live.keys().cloned().collect();
        for arn in &arns {
            self.stop(arn).await;
        }
        loop {
            let changed = self.context.changed.notified();
            if self.views().iter().all(|view| view.state.released) {
                return;
            }
            changed.await;
        }
    }

    /// The tasks that are wanted here: what a manifest is compared with.
    pub fn wanted(&self) -> Vec<TaskArn> {
        let views = self.views();
        let wanted = views.iter().filter(|view| view.state.desired == Desired::Running);
        wanted.map(|view| view.spec.arn.clone()).collect()
    }

    /// Replaces a task's credentials; false if the task is not ours.
    pub(crate) fn put_credentials(&self, task: &TaskArn, given: TaskCredentials) -> bool {
        let is_live = self.lock().live.contains_key(task);
        // The output of an ended task may still be on its way.
        let is_ours = is_live || self.context.credentials.is_held(task);
        if is_ours {
            self.context.credentials.put(task, given);
        }
        if !is_live {
            self.context.credentials.forget(task);
        }
        is_ours
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }
}

async fn sync(inbox: &mpsc::Sender<Message>) -> Accepted {
    let (answer, synced) = oneshot::channel();
    match inbox.send(Message::Sync(answer)).await {
        Ok(()) => Accepted::Taken(synced),
        // It has just ended.
        Err(_) => Accepted::Known,
    }
}

pub(crate) fn wants_stop(task: &serde_json::Value) -> bool {
    task.get("desiredStatus").and_then(|status| status.as_str()) == Some("STOPPED")
}
