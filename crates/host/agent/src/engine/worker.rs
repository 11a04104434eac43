//! One task's own loop: carries out what [`super::plan`] names and feeds back what came of it.
//!
//! **Invariant:** a state is on disk before anything that follows from it is begun, so an agent that
//! was killed finds at least what it had caused.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use longshore_types::{Chain, TaskArn, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tracing::{debug, error, info};

use super::context::Context;
use super::execute::{self, Done};
use super::plan::{Action, plan};
use super::state::{Desired, Status, TaskState};
use super::step::{Input, step};
use crate::ports::LocalImage;
use crate::spec::TaskSpec;
use crate::state_dir::TaskLog;

/// What a worker can be told.
#[derive(Debug)]
pub(super) enum Message {
    Input(Input),
    /// Answered once the task survives a power cut.
    Sync(oneshot::Sender<()>),
}

/// A task as others may see it.
#[derive(Clone, Debug)]
pub struct TaskView {
    pub spec: Arc<TaskSpec>,
    pub state: Arc<TaskState>,
}

/// Where a worker shows its task.
pub(super) type Shown = Arc<Mutex<TaskView>>;

pub(super) struct Worker {
    pub(super) context: Arc<Context>,
    pub(super) spec: Arc<TaskSpec>,
    pub(super) log: TaskLog,
    pub(super) state: TaskState,
    pub(super) inbox: mpsc::Receiver<Message>,
    /// For what reports more than once.
    pub(super) own: mpsc::WeakSender<Message>,
    pub(super) shown: Shown,
    pub(super) images: BTreeMap<usize, LocalImage>,
    /// For what waits for others: whether the task is to stop.
    pub(super) is_to_stop: watch::Sender<bool>,
}

/// Runs a task to its end; answers with its name so that it can be forgotten.
pub(super) async fn run(mut worker: Worker) -> TaskArn {
    let mut operations = Operations::default();
    let mut is_saved = false;
    loop {
        if !is_saved {
            worker.save();
        }
        let now = worker.context.clock.now();
        let wake_at = worker.set_going(&mut operations, now);
        if worker.state.is_finished() && operations.in_flight.is_empty() {
            break;
        }
        let sleep_ms = wake_at.map(|at| at.since_ms(now).max(1));
        let before = worker.state.clone();
        tokio::select! {
            done = operations.doing.join_next(), if !operations.doing.is_empty() => {
                worker.finish(done, &mut operations);
            }
            message = worker.inbox.recv() => match message {
                Some(message) => worker.hear(message),
                // The engine is gone: the agent ends, and the containers go on.
                None => return worker.spec.arn.clone(),
            },
            () = sleep(sleep_ms) => worker.take(Input::Tick),
        }
        worker.hear_more(&mut operations);
        is_saved = before == worker.state;
    }
    worker.forget();
    worker.spec.arn.clone()
}

/// What is being done.
///
/// **Invariant:** an action stays in flight until its result was taken in, even if it has ended: the
/// state does not know of its result before, so it is still planned, and would begin again.
#[derive(Debug, Default)]
pub(super) struct Operations {
    pub(super) in_flight: BTreeMap<Action, AbortHandle>,
    doing: JoinSet<Done>,
}

impl Operations {
    /// Two operations never handle one container at a time, and a release waits for all of them.
    fn may_begin(&self, action: Action) -> bool {
        if self.in_flight.contains_key(&action) {
            return false;
        }
        let is_in_the_way = |other: &Action| match action {
            Action::Release => !matches!(other, Action::Tell(_)),
            Action::Tell(_) => matches!(other, Action::Tell(_)),
            Action::Signal(_) | Action::Kill(_) | Action::Check { .. } | Action::Watch { .. } => {
                false
            }
            Action::Prepare
            | Action::OpenLog(_)
            | Action::Pull(_)
            | Action::Create(_)
            | Action::Start(_)
            | Action::Discard(_)
            | Action::Drain(_) => action.holds().is_some() && action.holds() == other.holds(),
        };
        !self.in_flight.keys().any(is_in_the_way)
    }

    fn abandon_unplanned(&mut self, planned: &[Action]) {
        self.in_flight.retain(|action, handle| {
            let is_abandoned = action.is_abandoned_when_unplanned() && !planned.contains(action);
            if is_abandoned {
                handle.abort();
            }
            !is_abandoned
        });
    }
}

async fn sleep(ms: Option<u64>) {
    match ms {
        Some(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        None => std::future::pending().await,
    }
}

impl Worker {
    /// Begins what is planned and not under way; when to look again although nothing was heard.
    pub(super) fn set_going(
        &self,
        operations: &mut Operations,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let plan = plan(&self.spec, &self.state, now);
        let is_to_stop = self.state.desired == Desired::Stopped;
        self.is_to_stop
            .send_if_modified(|known| std::mem::replace(known, is_to_stop) != is_to_stop);
        operations.abandon_unplanned(&plan.actions);
        for action in plan.actions {
            if operations.may_begin(action) {
                let handle = operations.doing.spawn(execute::begin(self, action));
                operations.in_flight.insert(action, handle);
            }
        }
        plan.wake_at
    }

    pub(super) fn take(&mut self, input: Input) {
        let was = self.state.reported;
        let now = self.context.clock.now();
        step(&self.spec, &mut self.state, input, now);
        if was < self.state.reported {
            let status = self.state.reported.map_or("PENDING", Status::as_str);
            let task = &self.spec.arn;
            debug!(%task, status, "task moved");
        }
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Input(input) => self.take(input),
            Message::Sync(answer) => {
                // Dropping the answer leaves the payload unacknowledged.
                if !self.save() {
                    return;
                }
                let (dirs, id) = (self.context.dirs.clone(), self.spec.arn.id);
                tokio::task::spawn_blocking(move || match dirs.sync_task(id) {
                    Err(error) => error!(error = %Chain(&error), "task not synced"),
                    Ok(()) => drop(answer.send(())),
                });
            }
        }
    }

    /// Takes in whatever else is there, so that one save serves it all.
    pub(super) fn hear_more(&mut self, operations: &mut Operations) {
        while let Ok(message) = self.inbox.try_recv() {
            self.hear(message);
        }
        while let Some(done) = operations.doing.try_join_next() {
            self.finish(Some(done), operations);
        }
    }

    fn finish(&mut self, done: Option<Result<Done, JoinError>>, operations: &mut Operations) {
        match done {
            Some(Ok(Done { action, inputs, image })) => {
                operations.in_flight.remove(&action);
                debug!(task = %self.spec.arn, ?action, "action done");
                if let Some((container, image)) = image {
                    self.images.insert(container, image);
                }
                for input in inputs {
                    self.take(input);
                }
            }
            Some(Err(error)) if error.is_panic() => {
                operations.in_flight.retain(|_, handle| handle.id() != error.id());
                error!(task = %self.spec.arn, error = %Chain(&error), "an action panicked");
            }
            Some(Err(_)) | None => {}
        }
    }

    fn save(&mut self) -> bool {
        let saved = self.log.save(&self.state);
        if let Err(error) = &saved {
            error!(task = %self.spec.arn, error = %Chain(error), "task not saved");
        }
        if let Ok(mut shown) = self.shown.lock() {
            shown.state = Arc::new(self.state.clone());
        }
        self.context.changed.notify_waiters();
        saved.is_ok()
    }

    fn forget(&self) {
        let task = &self.spec.arn;
        if let Err(error) = self.context.dirs.forget_task(task.id) {
            error!(%task, error = %Chain(&error), "task not forgotten");
        }
        self.context.credentials.forget(task);
        for container in &self.state.containers {
            self.context.owners.forget(&container.endpoint_id);
        }
        self.context.secrets.forget(task);
        self.context.objects.forget(task);
        info!(%task, "task ended");
    }
}
