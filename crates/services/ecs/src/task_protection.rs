//! GetTaskProtection and UpdateTaskProtection: tasks that their service may not stop for a while.
//!
//! Only tasks of services can be protected. A protection ends by itself: whoever looks at one compares
//! with the time, so nothing has to be written when it expires.

use aws_wire::{ApiError, Caller};
use ecs_api as api;
use longshore_types::{ClusterName, DeploymentId, TaskArn, TaskId, Timestamp};
use model::service::Rank;
use model::task::{Desired, Phase, Task};
use model::{Index, Key, ServiceId, View};
use store::Batch;

use super::task_ref::task_id;
use crate::Ecs;
use crate::errors::Refusal;

const READ_TASKS_MAX: usize = 100;
const UPDATED_TASKS_MAX: usize = 10;
const MINUTES_MAX: i32 = 2_880;
const MINUTES_DEFAULT: i32 = 120;
const MINUTE_MS: u64 = 60_000;

pub(super) async fn handle_get(
    ecs: &Ecs,
    caller: &Caller,
    input: api::GetTaskProtectionRequest,
) -> Result<api::GetTaskProtectionResponse, ApiError> {
    let permission = ecs.within(
        caller,
        "ecs:GetTaskProtection",
        "task",
        input.cluster.as_deref(),
        input.tasks.iter().flatten(),
    );
    let view = ecs.control.read(caller, &permission)?;
    let cluster = ecs.cluster(&view, caller, input.cluster.as_deref())?;
    let named = named(ecs, caller, input.tasks, READ_TASKS_MAX)?;
    let (mut protected, mut failures) = (Vec::new(), Vec::new());
    for id in named {
        match find(&view, caller, &cluster.name, id) {
            Ok(task) => protected.push(render(task, caller.now)),
            Err(unfit) => failures.push(unfit.failure(ecs, caller, &cluster.name, id)),
        }
    }
    Ok(api::GetTaskProtectionResponse {
        protected_tasks: Some(protected),
        failures: Some(failures),
    })
}

pub(super) async fn handle_update(
    ecs: &Ecs,
    caller: &Caller,
    input: api::UpdateTaskProtectionRequest,
) -> Result<api::UpdateTaskProtectionResponse, ApiError> {
    let permission = ecs.within(
        caller,
        "ecs:UpdateTaskProtection",
        "task",
        input.cluster.as_deref(),
        input.tasks.iter().flatten(),
    );
    let Some(is_enabled) = input.protection_enabled else {
        return Err(Refusal::invalid("protectionEnabled can not be blank.").into());
    };
    let lasts_ms = lasts_ms(is_enabled, input.expires_in_minutes)?;
    let named = named(ecs, caller, input.tasks, UPDATED_TASKS_MAX)?;
    let given = input.cluster.as_deref();
    let (protected, failures) = ecs
        .control
        .change(caller, &permission, |view, now| {
            let cluster = &ecs.cluster(view, caller, given)?.name;
            let mut batch = Batch::on(view);
            let (mut protected, mut failures) = (Vec::new(), Vec::new());
            for &id in &named {
                let until = lasts_ms.map(|ms| now.plus_ms(ms));
                match change(view, caller, cluster, id, until, now, &mut batch) {
                    Ok(task) => {
                        protected.push(render(&task, now));
                        batch.put(task);
                    }
                    Err(unfit) => failures.push(unfit.failure(ecs, caller, cluster, id)),
                }
            }
            Ok((batch, (protected, failures)))
        })
        .await?;
    Ok(api::UpdateTaskProtectionResponse {
        protected_tasks: Some(protected),
        failures: Some(failures),
    })
}

/// Why a task can't be protected, or is not known to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unfit {
    Missing,
    /// Of no service, or at its end.
    NotValid,
    /// A deployment of its service waits for protected tasks already.
    DeploymentBlocked,
}

impl Unfit {
    fn failure(
        self,
        ecs: &Ecs,
        caller: &Caller,
        cluster: &ClusterName,
        id: TaskId,
    ) -> api::Failure {
        let (reason, detail) = match self {
            Self::Missing => ("MISSING", None),
            Self::NotValid => (
                "TASK_NOT_VALID",
                Some(
                    "The specified task is not part of an Amazon ECS service or is stopping. Only \
                     Amazon ECS service-managed tasks can be protected. Verify the task ID or ARN \
                     and try again.",
                ),
            ),
            Self::DeploymentBlocked => (
                "DEPLOYMENT_BLOCKED",
                Some(
                    "Task protection can't be set because one or more protected tasks are \
                     preventing the service deployment from reaching the steady state. Unset task \
                     protection on the existing tasks or wait for it to expire, and try again.",
                ),
            ),
        };
        let arn = TaskArn { scope: ecs.control.scope(caller), cluster: cluster.clone(), id };
        api::Failure {
            arn: Some(arn.to_string()),
            reason: Some(reason.to_owned()),
            detail: detail.map(str::to_owned),
        }
    }
}

/// For how long; `None` takes the protection away, whatever is said about minutes.
fn lasts_ms(is_enabled: bool, minutes: Option<i32>) -> Result<Option<u64>, ApiError> {
    if !is_enabled {
        return Ok(None);
    }
    let minutes = minutes.unwrap_or(MINUTES_DEFAULT);
    match u64::try_from(minutes) {
        Ok(lasts) if (1..=MINUTES_MAX).contains(&minutes) => Ok(Some(lasts * MINUTE_MS)),
        _ => {
            let message = format!("expiresInMinutes must be between 1 and {MINUTES_MAX}.");
            Err(Refusal::invalid(message).into())
        }
    }
}

fn named(
    ecs: &Ecs,
    caller: &Caller,
    given: Option<Vec<String>>,
    max: usize,
) -> Result<Vec<TaskId>, ApiError> {
    let given = given.unwrap_or_default();
    if given.is_empty() {
        return Err(Refusal::invalid("Tasks cannot be empty.").into());
    }
    if max < given.len() {
        return Err(Refusal::invalid(format!("Tasks can have at most {max} items.")).into());
    }
    let mut ids = Vec::with_capacity(given.len());
    for given in &given {
        let id = task_id(ecs, caller, given)?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

fn find<'v>(
    view: &'v View,
    caller: &Caller,
    cluster: &ClusterName,
    id: TaskId,
) -> Result<&'v Task, Unfit> {
    let task = view.tasks.get(caller.account, &id).filter(|task| task.cluster == *cluster);
    let task = task.ok_or(Unfit::Missing)?;
    let is_live = task.desired == Desired::Running && task.phase < Phase::Deactivating;
    if task.service.is_some() && is_live { Ok(task) } else { Err(Unfit::NotValid) }
}

/// The task with its new protection.
fn change(
    view: &View,
    caller: &Caller,
    cluster: &ClusterName,
    id: TaskId,
    until: Option<Timestamp>,
    now: Timestamp,
    batch: &mut Batch,
) -> Result<Task, Unfit> {
    let task = find(view, caller, cluster, id)?;
    if until.is_some()
        && let Some(service) = &task.service
    {
        let service = ServiceId { cluster: cluster.clone(), name: service.name.clone() };
        if is_blocked(view, caller, &service, now) {
            return Err(Unfit::DeploymentBlocked);
        }
        batch.rely(Index::ServiceTasks(caller.account, service.clone()));
        batch.rely(Key::Service(caller.account, service));
    }
    let mut next = task.clone();
    next.protected_until = until;
    next.version += 1;
    Ok(next)
}

fn is_blocked(view: &View, caller: &Caller, service: &ServiceId, now: Timestamp) -> bool {
    let superseded: Vec<DeploymentId> = view
        .deployments_of(caller.account, service)
        .filter(|deployment| deployment.rank == Rank::Active)
        .map(|deployment| deployment.id)
        .collect();
    let tasks = view.tasks_of_service(caller.account, service).map(AsRef::as_ref);
    waits_for_protected_only(&superseded, tasks, now)
}

/// Whether superseded deployments have tasks left, all of which are protected: then nothing but the
/// end of their protection gets the service on, and more protection would only hold it up.
fn waits_for_protected_only<'t>(
    superseded: &[DeploymentId],
    tasks: impl Iterator<Item = &'t Task>,
    now: Timestamp,
) -> bool {
    let is_superseded = |task: &&Task| {
        let deployment = task.service.as_ref().map(|service| service.deployment);
        task.desired == Desired::Running
            && deployment.is_some_and(|deployment| superseded.contains(&deployment))
    };
    let mut left = tasks.filter(is_superseded).peekable();
    left.peek().is_some() && left.all(|task| task.is_protected(now))
}

fn render(task: &Task, now: Timestamp) -> api::ProtectedTask {
    let until = task.protected_until.filter(|until| now < *until);
    api::ProtectedTask {
        task_arn: Some(task.arn().to_string()),
        protection_enabled: Some(until.is_some()),
        expiration_date: until,
    }
}

#[cfg(test)]
mod tests;
