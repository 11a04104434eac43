//! DeleteTaskSet: its tasks stop, and then it is no more.

use aws_wire::{ApiError, Caller};
use ecs_api as api;
use model::service::{TaskSet, TaskSetStatus};
use store::Batch;

use super::{find, render_changed, service_of};
use crate::Ecs;
use crate::errors::Refusal;

pub(crate) async fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::DeleteTaskSetRequest,
) -> Result<api::DeleteTaskSetResponse, ApiError> {
    let permission = ecs.on_task_sets(
        caller,
        "ecs:DeleteTaskSet",
        input.cluster.as_deref(),
        input.service.as_deref(),
        &input.task_set,
    );
    let is_forced = input.force.unwrap_or(false);
    let set = ecs
        .control
        .change(caller, &permission, |view, now| {
            let given = (input.cluster.as_deref(), input.service.as_deref());
            let service = service_of(ecs, view, caller, given.0, given.1)?;
            let mut set =
                TaskSet::clone(find(ecs, view, caller, service, input.task_set.as_deref())?);
            let mut batch = Batch::on(view);
            // Asked for twice, done once.
            if set.status == TaskSetStatus::Draining {
                return Ok((batch, set));
            }
            if !is_forced {
                check_idle(&set)?;
            }
            set.status = TaskSetStatus::Draining;
            set.updated_at = now;
            set.version += 1;
            batch.put(set.clone());
            Ok((batch, set))
        })
        .await?;
    Ok(api::DeleteTaskSetResponse { task_set: Some(render_changed(ecs, &set)?) })
}

/// What is in use goes by force only.
fn check_idle(set: &TaskSet) -> Result<(), ApiError> {
    let why = if set.scale_basis_points > 0 {
        "it is scaled above 0. Scale it to 0"
    } else if set.status == TaskSetStatus::Primary {
        "it is the primary task set of the service. Make another one primary"
    } else {
        return Ok(());
    };
    let message = format!("The task set cannot be deleted while {why}, or use force.");
    Err(Refusal::invalid(message).into())
}
