//! StopTask: wants a task stopped. Its agent does the stopping; asking twice is asking once.

use aws_wire::{ApiError, Caller};
use control::tasks::put_task;
use ecs_api as api;
use model::task::{Input, Task, step};
use store::Batch;

use super::render_task::render;
use super::task_ref::task_id;
use crate::Ecs;
use crate::errors::Refusal;

const REASON_CHARS_MAX: usize = 1_024;

pub(super) async fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::StopTaskRequest,
) -> Result<api::StopTaskResponse, ApiError> {
    let permission =
        ecs.within(caller, "ecs:StopTask", "task", input.cluster.as_deref(), &input.task);
    let not_found = || ApiError::from(Refusal::invalid("The referenced task was not found."));
    let reason = input.reason.map(|reason| reason.chars().take(REASON_CHARS_MAX).collect());
    let stop = Input::StopRequested { reason };
    let (before, after) = ecs
        .control
        .change(caller, &permission, |view, now| {
            let cluster = ecs.cluster(view, caller, input.cluster.as_deref())?;
            let given = input.task.as_deref().unwrap_or_default();
            let id = task_id(ecs, caller, given)?;
            let row = view.tasks.get(caller.account, &id).filter(|t| t.cluster == cluster.name);
            let row = row.ok_or_else(not_found)?;
            let mut batch = Batch::on(view);
            let next = step(row, &stop, now);
            let after = next.clone().unwrap_or_else(|| Task::clone(row));
            if let Some(next) = next {
                put_task(view, &mut batch, next);
            }
            Ok((batch, (Task::clone(row), after)))
        })
        .await?;
    // ECS answers with the status from before, and with what is wanted from now on.
    let task =
        api::Task { last_status: Some(before.phase.as_str().to_owned()), ..render(&after, true) };
    Ok(api::StopTaskResponse { task: Some(task) })
}
