//! UpdateTaskSet: another scale.

use aws_wire::{ApiError, Caller};
use ecs_api as api;
use model::service::TaskSet;
use store::Batch;

use super::{find, read_scale, refuse_draining, render_changed, service_of};
use crate::Ecs;
use crate::errors::Refusal;

pub(crate) async fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::UpdateTaskSetRequest,
) -> Result<api::UpdateTaskSetResponse, ApiError> {
    let permission = ecs.on_task_sets(
        caller,
        "ecs:UpdateTaskSet",
        input.cluster.as_deref(),
        input.service.as_deref(),
        &input.task_set,
    );
    let scale = input.scale.as_ref();
    let scale = scale.ok_or_else(|| Refusal::invalid("Scale can not be blank."))?;
    let scale = read_scale(scale)?;
    let set = ecs
        .control
        .change(caller, &permission, |view, now| {
            let given = (input.cluster.as_deref(), input.service.as_deref());
            let service = service_of(ecs, view, caller, given.0, given.1)?;
            let found = find(ecs, view, caller, service, input.task_set.as_deref())?;
            refuse_draining(found)?;
            let mut set = TaskSet::clone(found);
            let mut batch = Batch::on(view);
            if set.scale_basis_points != scale {
                set.scale_basis_points = scale;
                set.updated_at = now;
                set.version += 1;
                batch.put(set.clone());
            }
            Ok((batch, set))
        })
        .await?;
    Ok(api::UpdateTaskSetResponse { task_set: Some(render_changed(ecs, &set)?) })
}
