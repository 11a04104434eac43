//! Asks whoever is named by deployments' lifecycle hooks whether they go on: runs tasks, and asks servers.
//!
//! The service's reconciler begins a hook and waits for what becomes of it; that is written here, into the deployment's
//! row, which wakes that one. [`plan`] says what is next. A task is asked for at least once, by the same token, so that
//! it is the same task; a server may be asked twice where the region ends between asking and writing down what it said.

mod event;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_wire::ApiError;
use control::iam::{Assumption, CannotAssume};
use control::ports::{NotRun, TaskAsk, TaskRunner as _};
use control::reconcile::{Pass, PassFuture, Queue, Reconciler};
use longshore_types::{AccountId, TaskId, Timestamp};
use model::service::{HookCall, Pause, ServiceStatus};
use model::{Deployment, DeploymentKey, Key, Seq, View};
use store::{Batch, Change};
use tracing::info;

use self::event::{Asked, event};
use self::plan::{Next, Said, apply, next, read_answer};
use crate::Ecs;
use crate::service_spec::Target;

/// Hooks that are asked at once.
const ASKED_AT_ONCE: usize = 64;
/// Of those, as many of one account: whoever is asked may take a minute to answer.
const ASKED_OF_ACCOUNT: usize = 4;
/// How long a role is acted as: for one question.
const ROLE_MS: u64 = 60_000;
const STARTED_BY: &str = "ecs-lifecycle-hook";

/// One of the hooks that a deployment came to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HookAt {
    account: AccountId,
    deployment: DeploymentKey,
    /// Its place among them.
    place: usize,
}

#[derive(Debug)]
pub(crate) struct LifecycleHooks {
    ecs: Arc<Ecs>,
    /// What a task was run for: known from the rows.
    tasks: BTreeMap<(AccountId, TaskId), HookAt>,
}

impl LifecycleHooks {
    pub(crate) fn new(ecs: &Arc<Ecs>) -> Self {
        Self { ecs: Arc::clone(ecs), tasks: BTreeMap::new() }
    }

    /// The hooks of a deployment that there is something to do about.
    fn note(&mut self, row: &Deployment) -> Vec<HookAt> {
        let account = row.scope.account;
        let mut noted = Vec::new();
        let pauses = row.shift.iter().flat_map(|shift| &shift.pauses);
        for (place, pause) in pauses.enumerate() {
            let Some(run) = &pause.run else { continue };
            let at = HookAt { account, deployment: row.key(), place };
            if let Some(task) = run.task {
                self.tasks.insert((account, task), at.clone());
            }
            if pause.is_open() || run.task.is_some() {
                noted.push(at);
            }
        }
        noted
    }
}

impl Reconciler for LifecycleHooks {
    type Key = HookAt;
    type Note = ();
    type Error = ApiError;

    fn name(&self) -> &'static str {
        "lifecycle-hooks"
    }

    fn passes_max(&self) -> usize {
        ASKED_AT_ONCE
    }

    fn owner(&self, key: &HookAt) -> Option<AccountId> {
        Some(key.account)
    }

    fn passes_each_max(&self) -> usize {
        ASKED_OF_ACCOUNT
    }

    fn wake(&mut self, view: &View, change: &Change, queue: &mut Queue<HookAt>) {
        match &change.key {
            Key::Deployment(account, key) => {
                if let Some(row) = view.deployments.get(*account, key) {
                    for at in self.note(row) {
                        queue.changed(&at, change.seq);
                    }
                }
            }
            // One that is deleted asks nobody any more.
            Key::Service(account, id) => {
                for row in view.deployments_of(*account, id) {
                    for at in self.note(row) {
                        queue.changed(&at, change.seq);
                    }
                }
            }
            Key::Task(account, id) if !self.tasks.is_empty() => {
                let is_over =
                    view.tasks.get(*account, id).is_none_or(|task| task.times.stopped.is_some());
                let at = if is_over { self.tasks.remove(&(*account, *id)) } else { None };
                if let Some(at) = at {
                    queue.changed(&at, change.seq);
                }
            }
            // Nothing of other kinds concerns a hook.
            _ => {}
        }
    }

    fn keys(&mut self, view: &View) -> Vec<HookAt> {
        self.tasks.clear();
        view.deployments.iter().flat_map(|row| self.note(row)).collect()
    }

    fn pass(&self, key: &HookAt) -> PassFuture<Result<Pass<()>, ApiError>> {
        let (ecs, at) = (Arc::clone(&self.ecs), key.clone());
        Box::pin(async move { ecs.follow_hook(&at).await })
    }
}

/// What a decision leaves to be done.
enum Left {
    Nothing { seq: Seq, again_at: Option<Timestamp>, is_over: bool },
    Stop(TaskId),
    Call { row: Arc<Deployment>, call: Box<HookCall> },
}

/// The hook that a key names, and who is asked at it.
fn found<'v>(
    view: &'v View,
    at: &HookAt,
) -> Option<(&'v Arc<Deployment>, &'v Pause, &'v HookCall)> {
    let row = view.deployments.get(at.account, &at.deployment)?;
    let pause = row.shift.as_ref()?.pauses.get(at.place)?;
    let hook = row.settings.hooks.get(usize::try_from(pause.hook).ok()?)?;
    Some((row, pause, hook.call.as_deref()?))
}

/// Whether anybody waits for what a hook comes to.
fn is_awaited(view: &View, row: &Deployment, pause: &Pause) -> bool {
    let service = view.services.get(row.scope.account, &row.service_id());
    service.is_some_and(|service| service.status == ServiceStatus::Active)
        && plan::is_at(row, pause)
}

impl Ecs {
    async fn follow_hook(&self, at: &HookAt) -> Result<Pass<()>, ApiError> {
        match self.decide_hook(at).await? {
            Left::Nothing { seq, again_at, is_over } => {
                Ok(Pass { looked_at: seq, again_at, is_over, ..Pass::default() })
            }
            Left::Stop(task) => {
                let why = "The lifecycle hook that it was run for is over.";
                self.stop(at.account, task, why).await?;
                let forget = |pause: &mut Pause, _: Timestamp| {
                    if let Some(run) = pause.run.as_mut().filter(|run| run.task == Some(task)) {
                        run.task = None;
                    }
                };
                let (seq, _) = self.write_hook(at, |_, _| true, forget).await?;
                Ok(Pass { looked_at: seq, ..Pass::default() })
            }
            Left::Call { row, call } => {
                let seq = self.call_hook(at, &row, &call).await?;
                Ok(Pass { looked_at: seq, ..Pass::default() })
            }
        }
    }

    async fn decide_hook(&self, at: &HookAt) -> Result<Left, ApiError> {
        let decided = self.control.decide(|view, now| {
            let (seq, mut batch) = (view.seq, Batch::on(view));
            let over = Left::Nothing { seq, again_at: None, is_over: true };
            let Some((row, pause, call)) = found(view, at) else { return Ok((batch, over)) };
            let run = pause.run.as_deref().cloned().unwrap_or_default();
            let task = run.task.and_then(|id| view.tasks.get(at.account, &id)).map(|row| &**row);
            let left = match next(pause, is_awaited(view, row, pause), task, now) {
                Next::Nothing => Left::Nothing { seq, again_at: None, is_over: !pause.is_open() },
                Next::Wait(until) => Left::Nothing { seq, again_at: until, is_over: false },
                Next::Stop(task) => Left::Stop(task),
                Next::Call => {
                    Left::Call { row: Arc::clone(row), call: Box::new(HookCall::clone(call)) }
                }
                Next::Over(said) => {
                    let mut changed = Deployment::clone(row);
                    let pauses = changed.shift.as_mut().map(|shift| &mut shift.pauses);
                    if let Some(pause) = pauses.and_then(|it| it.get_mut(at.place)) {
                        apply(pause, said, &call.target, now);
                    }
                    put(&mut batch, changed, now);
                    Left::Nothing { seq, again_at: None, is_over: false }
                }
            };
            Ok((batch, left))
        });
        decided.await
    }

    /// Asks, and writes down what was said: or which task is to say it.
    async fn call_hook(
        &self,
        at: &HookAt,
        row: &Deployment,
        call: &HookCall,
    ) -> Result<Seq, ApiError> {
        let Some(pause) = row.shift.as_ref().and_then(|shift| shift.pauses.get(at.place)) else {
            return Ok(Seq(0));
        };
        let view = self.control.view();
        let text = event(&view, row, pause, call);
        let said = match Target::parse(&call.target) {
            Err(why) => Said::Failed(why.message),
            Ok(Target::Url(url)) => {
                drop(view);
                // After that nobody waits for an answer any more.
                let left_ms = pause.expires_at.since_ms(self.control.clock.now());
                let asked = self.hooks.ask(&url, text.to_json());
                match tokio::time::timeout(Duration::from_millis(left_ms), asked).await {
                    Ok(Ok(answer)) => read_answer(&answer, &call.target),
                    Ok(Err(why)) => Said::Unheard(why),
                    Err(_) => {
                        Said::Unheard("it did not answer before its time was over".to_owned())
                    }
                }
            }
            Ok(Target::Task) => {
                let ask = ask(&view, row, pause, call, &text, at.place);
                let refused = self.refused(&view, row, call, &ask);
                drop(view);
                match refused {
                    Some(why) => Said::Failed(why),
                    None => match self.run(at.account, &ask).await {
                        Ok(task) => Said::Task(task),
                        // What is ours is tried again by the driver, and is no attempt of theirs.
                        Err(NotRun::Refused(error)) if error.is_fault() => return Err(error),
                        Err(why @ NotRun::Refused(_)) => Said::Unheard(why.to_string()),
                        Err(why @ NotRun::NoRoom(_)) => Said::NoRoom(why.to_string()),
                    },
                }
            }
        };
        info!(deployment = %row.id, stage = %pause.stage, target = %call.target, ?said, "lifecycle hook asked");
        let begun = match &said {
            Said::Task(task) => Some(*task),
            _ => None,
        };
        let same = |now: &Pause, view: &View| {
            let row = found(view, at).map(|(row, ..)| row);
            now == pause && row.is_some_and(|row| is_awaited(view, row, now))
        };
        let write =
            |pause: &mut Pause, now: Timestamp| apply(pause, said.clone(), &call.target, now);
        let (seq, is_written) = self.write_hook(at, same, write).await?;
        if let Some(task) = begun.filter(|_| !is_written) {
            self.stop(at.account, task, "The lifecycle hook that it was run for is over.").await?;
        }
        Ok(seq)
    }

    /// Why the role of a hook may not have its task run.
    fn refused(
        &self,
        view: &View,
        row: &Deployment,
        call: &HookCall,
        ask: &TaskAsk,
    ) -> Option<String> {
        let role = call.role.as_deref().unwrap_or_default();
        let source = row.service_arn().to_string();
        let asked = Assumption {
            role,
            service: "ecs.amazonaws.com",
            source: &source,
            source_account: row.scope.account,
            session_name: STARTED_BY,
            lasts_ms: ROLE_MS,
        };
        let acting = self.control.acting_as(view, &asked, self.control.clock.now());
        let caller = match acting {
            Ok(caller) => caller,
            Err(
                why @ (CannotAssume::Absent | CannotAssume::Foreign | CannotAssume::NotTrusted),
            ) => {
                return Some(format!("ECS was unable to assume role {role}: {why}."));
            }
        };
        let permission = self.permission(view, &caller, ask);
        let denied = self.control.authorize(view, &caller, &permission).err()?;
        Some(format!(
            "ECS was unable to invoke hook target {} due to {}",
            call.target, denied.message
        ))
    }

    /// Changes a hook's row if it is the same still.
    async fn write_hook(
        &self,
        at: &HookAt,
        is_same: impl Fn(&Pause, &View) -> bool + Send + Sync,
        change: impl Fn(&mut Pause, Timestamp) + Send + Sync,
    ) -> Result<(Seq, bool), ApiError> {
        let decided = self.control.decide(|view, now| {
            let mut batch = Batch::on(view);
            let Some((row, ..)) = found(view, at).filter(|(_, pause, _)| is_same(pause, view))
            else {
                return Ok((batch, (view.seq, false)));
            };
            let mut changed = Deployment::clone(row);
            let pauses = changed.shift.as_mut().map(|shift| &mut shift.pauses);
            if let Some(pause) = pauses.and_then(|it| it.get_mut(at.place)) {
                change(pause, now);
            }
            if changed != **row {
                put(&mut batch, changed, now);
            }
            Ok((batch, (view.seq, true)))
        });
        decided.await
    }
}

fn put(batch: &mut Batch, mut row: Deployment, now: Timestamp) {
    row.updated_at = now;
    row.version += 1;
    batch.rely(Key::Deployment(row.scope.account, row.key())).put(row);
}

/// The task that a hook is asked by.
fn ask(
    view: &View,
    row: &Deployment,
    pause: &Pause,
    call: &HookCall,
    text: &Asked,
    place: usize,
) -> TaskAsk {
    let pair = |name: &str, value: String| (name.to_owned(), value);
    let revision = view.revision_of(row.scope.account, &row.service_id(), row.revision);
    let calls = pause.run.as_ref().map_or(0, |run| run.calls);
    TaskAsk {
        definition: call.target.clone(),
        cluster: Some(row.cluster.to_string()),
        environment: vec![
            pair("LIFECYCLE_HOOK_STAGE", pause.stage.to_string()),
            pair("LIFECYCLE_HOOK_DEPLOYMENT_ARN", text.deployment.clone()),
            pair("LIFECYCLE_HOOK_EVENT", text.to_json()),
        ],
        started_by: STARTED_BY.to_owned(),
        token: format!("hook-{}-{place}-{calls}", row.id.0),
        network: revision.and_then(|revision| revision.network.clone()),
    }
}
