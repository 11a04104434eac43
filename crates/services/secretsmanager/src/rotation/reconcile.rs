//! Does what is next of each rotation.
//!
//! A step is asked for at least once: a region that ends between asking and writing it down asks again, for a task by the
//! same token, so that it is the same task.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_wire::ApiError;
use control::ports::NotRun;
use control::reconcile::{Pass, PassFuture, Queue, Reconciler};
use longshore_types::{AccountId, TaskId, Timestamp, Uuid};
use model::secret::{RotationRun, RotationTask};
use model::{Key, Secret, Seq, View};
use store::{Batch, Change};
use tracing::{info, warn};

use super::plan::{Came, Next, apply, begin, cancel, next, under_way};
use super::target::{Target, event};
use crate::SecretsManager;
use crate::limits::{ROTATIONS_AT_ONCE, ROTATIONS_OF_ACCOUNT, STEP_TASK_MS_MAX};
use crate::values::make_room;

/// A secret that is rotated.
pub(crate) type Which = (AccountId, Arc<str>);

#[derive(Debug)]
pub(crate) struct Rotations {
    service: Arc<SecretsManager>,
    /// Whose step a task does: known from the rows.
    tasks: BTreeMap<(AccountId, TaskId), Which>,
}

impl Rotations {
    pub(crate) fn new(service: Arc<SecretsManager>) -> Self {
        Self { service, tasks: BTreeMap::new() }
    }

    fn note(&mut self, row: &Secret) {
        let task = under_way(row).and_then(|(_, run)| run.task);
        if let Some(task) = task {
            let which = (row.account, Arc::clone(&row.name));
            self.tasks.insert((row.account, task.id), which);
        }
    }
}

impl Reconciler for Rotations {
    type Key = Which;
    type Note = ();
    type Error = ApiError;

    fn name(&self) -> &'static str {
        "secret-rotations"
    }

    fn passes_max(&self) -> usize {
        ROTATIONS_AT_ONCE
    }

    fn owner(&self, key: &Which) -> Option<AccountId> {
        Some(key.0)
    }

    fn passes_each_max(&self) -> usize {
        ROTATIONS_OF_ACCOUNT
    }

    fn wake(&mut self, view: &View, change: &Change, queue: &mut Queue<Which>) {
        match &change.key {
            Key::Secret(account, name) => {
                if let Some(row) =
                    view.secrets.get(*account, name).filter(|it| it.rotation.is_some())
                {
                    self.note(row);
                    queue.changed(&(*account, Arc::clone(name)), change.seq);
                }
            }
            Key::Task(account, id) if !self.tasks.is_empty() => {
                let is_over =
                    view.tasks.get(*account, id).is_none_or(|task| task.times.stopped.is_some());
                let which = match is_over {
                    true => self.tasks.remove(&(*account, *id)),
                    false => None,
                };
                if let Some(which) = which {
                    queue.changed(&which, change.seq);
                }
            }
            // Nothing of other kinds concerns a rotation.
            _ => {}
        }
    }

    fn keys(&mut self, view: &View) -> Vec<Which> {
        self.tasks.clear();
        let rotated: Vec<&Arc<Secret>> =
            view.secrets.iter().filter(|row| row.rotation.is_some()).collect();
        for row in &rotated {
            self.note(row);
        }
        rotated.into_iter().map(|row| (row.account, Arc::clone(&row.name))).collect()
    }

    fn pass(&self, key: &Which) -> PassFuture<Result<Pass<()>, ApiError>> {
        let (service, (account, name)) = (Arc::clone(&self.service), key.clone());
        Box::pin(async move { service.rotate_next(account, &name).await })
    }
}

/// What a decision leaves to be done.
enum Left {
    Nothing { seq: Seq, again_at: Option<Timestamp>, is_over: bool },
    Again { seq: Seq },
    Stop(TaskId),
    Call(Arc<Secret>),
}

impl SecretsManager {
    async fn rotate_next(&self, account: AccountId, name: &Arc<str>) -> Result<Pass<()>, ApiError> {
        match self.decide_next(account, name).await? {
            Left::Nothing { seq, again_at, is_over } => {
                Ok(Pass { looked_at: seq, again_at, is_over, ..Pass::default() })
            }
            // The row was written, which leads to another pass.
            Left::Again { seq } => Ok(Pass { looked_at: seq, ..Pass::default() }),
            Left::Stop(task) => {
                self.tasks.stop(account, task, "Its rotation is over.").await?;
                let seq = self.forget(account, name, task).await?;
                Ok(Pass { looked_at: seq, ..Pass::default() })
            }
            Left::Call(secret) => {
                let seq = self.call(&secret).await?;
                Ok(Pass { looked_at: seq, ..Pass::default() })
            }
        }
    }

    async fn decide_next(&self, account: AccountId, name: &Arc<str>) -> Result<Left, ApiError> {
        let version = Uuid::mint(self.control.ids.as_ref()).to_string();
        let decided = self.control.decide(|view, now| {
            let seq = view.seq;
            let mut batch = Batch::on(view);
            let Some(row) = view.secrets.get(account, name) else {
                return Ok((batch, Left::Nothing { seq, again_at: None, is_over: true }));
            };
            let task = under_way(row).and_then(|(_, run)| run.task);
            let task = task.and_then(|task| view.tasks.get(account, &task.id));
            let mut changed = Secret::clone(row);
            match next(row, task.map(|task| &**task), now) {
                Next::Nothing => {
                    let is_over = row.rotation.is_none();
                    return Ok((batch, Left::Nothing { seq, again_at: None, is_over }));
                }
                Next::WaitUntil(at) => {
                    let again_at = Some(at).filter(|at| at.0 != u64::MAX);
                    return Ok((batch, Left::Nothing { seq, again_at, is_over: false }));
                }
                Next::Stop(task) => return Ok((batch, Left::Stop(task))),
                Next::Call => return Ok((batch, Left::Call(Arc::clone(row)))),
                Next::Begin => {
                    begin(&mut changed, version.clone(), false, now);
                    make_room(&mut changed, now, &mut batch)?;
                }
                Next::Drop => {
                    cancel(&mut changed);
                }
                Next::Over(outcome) => self.end_step(&mut changed, outcome, now),
                Next::Late(task) => {
                    let why = format!(
                        "the task {task} took longer than {} minutes",
                        STEP_TASK_MS_MAX / 60_000
                    );
                    self.end_step(&mut changed, Err(why), now);
                    if let Some(rotation) = changed.rotation.as_deref_mut() {
                        rotation.leftover = Some(task);
                    }
                }
            }
            batch.rely(Key::Secret(account, Arc::clone(name))).put(changed);
            Ok((batch, Left::Again { seq }))
        });
        decided.await
    }

    fn end_step(&self, secret: &mut Secret, outcome: Result<(), String>, now: Timestamp) {
        let arn = self.control.secret_arn(secret);
        match apply(secret, outcome, now) {
            Some(Came::Rotated) => info!(secret = %arn, "secret rotated"),
            Some(Came::Tested) => info!(secret = %arn, "rotation tested"),
            Some(Came::Failed(why)) => warn!(secret = %arn, error = %why, "rotation failed"),
            Some(Came::NextStep) | None => {}
        }
    }

    async fn forget(
        &self,
        account: AccountId,
        name: &Arc<str>,
        task: TaskId,
    ) -> Result<Seq, ApiError> {
        let decided = self.control.decide(|view, _| {
            let mut batch = Batch::on(view);
            if let Some(row) = view.secrets.get(account, name) {
                let mut changed = Secret::clone(row);
                let rotation = changed.rotation.as_deref_mut();
                if let Some(rotation) = rotation.filter(|it| it.leftover == Some(task)) {
                    rotation.leftover = None;
                    batch.rely(Key::Secret(account, Arc::clone(name))).put(changed);
                }
            }
            Ok((batch, view.seq))
        });
        decided.await
    }

    /// Has the step done that is next, or its task begun.
    async fn call(&self, secret: &Secret) -> Result<Seq, ApiError> {
        let Some((rotation, run)) = under_way(secret) else { return Ok(Seq(0)) };
        match Target::parse(&rotation.target) {
            Err(why) => self.called(secret, run, Err(why.message)).await,
            Ok(Target::Hook(url)) => {
                let event = event(&self.control.secret_arn(secret), run);
                let outcome = self.hooks.ask(&url, event).await;
                self.called(secret, run, outcome.map(|_| None)).await
            }
            Ok(Target::Task(_)) => {
                let ask = self.task_of(secret, rotation, run);
                match self.tasks.run(secret.account, &ask).await {
                    Ok(task) => self.called(secret, run, Ok(Some(task))).await,
                    // What is ours is tried again by the driver, and is no attempt of theirs.
                    Err(NotRun::Refused(error)) if error.is_fault() => Err(error),
                    Err(why) => {
                        let why = format!("a task of {} was not run: {why}", ask.definition);
                        self.called(secret, run, Err(why)).await
                    }
                }
            }
        }
    }

    /// Writes down what a call came to: a task, or the step's end. If another is next by now, a task is stopped.
    async fn called(
        &self,
        secret: &Secret,
        run: &RotationRun,
        outcome: Result<Option<TaskId>, String>,
    ) -> Result<Seq, ApiError> {
        let decided = self.control.decide(|view, now| {
            let mut batch = Batch::on(view);
            let row = view.secrets.get(secret.account, &secret.name);
            let same = row.filter(|row| {
                row.uid == secret.uid && under_way(row).is_some_and(|(_, now)| now == run)
            });
            let Some(row) = same else { return Ok((batch, (view.seq, false))) };
            let mut changed = Secret::clone(row);
            match &outcome {
                Ok(Some(task)) => {
                    let due_at = now.plus_ms(STEP_TASK_MS_MAX);
                    let run = changed.rotation.as_deref_mut().and_then(|it| it.run.as_mut());
                    if let Some(run) = run {
                        run.task = Some(RotationTask { id: *task, due_at });
                    }
                }
                Ok(None) => self.end_step(&mut changed, Ok(()), now),
                Err(why) => self.end_step(&mut changed, Err(why.clone()), now),
            }
            batch.rely(Key::Secret(row.account, Arc::clone(&row.name))).put(changed);
            Ok((batch, (view.seq, true)))
        });
        let (seq, is_written) = decided.await?;
        if let (false, Ok(Some(task))) = (is_written, outcome) {
            self.tasks.stop(secret.account, task, "Its rotation is over.").await?;
        }
        Ok(seq)
    }
}
