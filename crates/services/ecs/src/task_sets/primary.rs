//! UpdateServicePrimaryTaskSet: which task set serves.

use aws_wire::{ApiError, Caller};
use ecs_api as api;
use longshore_types::Timestamp;
use model::service::{TaskSet, TaskSetStatus};
use store::Batch;

use super::{find, refuse_draining, render_changed, service_of};
use crate::Ecs;

pub(crate) async fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::UpdateServicePrimaryTaskSetRequest,
) -> Result<api::UpdateServicePrimaryTaskSetResponse, ApiError> {
    let permission = ecs.within(
        caller,
        "ecs:UpdateServicePrimaryTaskSet",
        "service",
        input.cluster.as_deref(),
        &input.service,
    );
    let set = ecs
        .control
        .change(caller, &permission, |view, now| {
            let given = (input.cluster.as_deref(), input.service.as_deref());
            let service = service_of(ecs, view, caller, given.0, given.1)?;
            let chosen = find(ecs, view, caller, service, input.primary_task_set.as_deref())?;
            refuse_draining(chosen)?;
            let mut batch = Batch::on(view);
            for set in view.task_sets_of(caller.account, &service.key()) {
                if set.status == TaskSetStatus::Primary && set.id != chosen.id {
                    batch.put(with_status(set, TaskSetStatus::Active, now));
                }
            }
            let primary = with_status(chosen, TaskSetStatus::Primary, now);
            if primary.status != chosen.status {
                batch.put(primary.clone());
            }
            Ok((batch, primary))
        })
        .await?;
    let task_set = Some(render_changed(ecs, &set)?);
    Ok(api::UpdateServicePrimaryTaskSetResponse { task_set })
}

fn with_status(set: &TaskSet, status: TaskSetStatus, now: Timestamp) -> TaskSet {
    if set.status == status {
        return set.clone();
    }
    TaskSet { status, updated_at: now, version: set.version + 1, ..set.clone() }
}
