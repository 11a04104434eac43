//! DeregisterTaskDefinition: a revision that no new task may be started from.

use aws_wire::{ApiError, Caller};
use control::Permission;
use ecs_api as api;
use model::{TaskDefinition, TaskDefinitionStatus};
use store::Batch;

use super::render_task_definition::render;
use crate::Ecs;
use crate::errors::Refusal;
use crate::names::TaskDefinitionRef;

pub(super) async fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::DeregisterTaskDefinitionRequest,
) -> Result<api::DeregisterTaskDefinitionResponse, ApiError> {
    let permission = Permission::to("ecs:DeregisterTaskDefinition").on("*");
    let given = input.task_definition.unwrap_or_default();
    let id = match ecs.task_definition_ref(caller, &given)? {
        TaskDefinitionRef::Revision(id) => id,
        TaskDefinitionRef::Latest(_) => {
            return Err(Refusal::client("Revision is missing.").into());
        }
    };
    let row = ecs
        .control
        .change(caller, &permission, |view, now| {
            let found = view.task_definitions.get(caller.account, &id);
            let mut row = TaskDefinition::clone(found.ok_or(Refusal::NoSuchTaskDefinition)?);
            if row.status != TaskDefinitionStatus::Active {
                let message = "The specified task definition is inactive.";
                return Err(Refusal::client(message).into());
            }
            row.status = TaskDefinitionStatus::Inactive;
            row.deregistered_at = Some(now);
            let mut batch = Batch::on(view);
            batch.put(row.clone());
            Ok((batch, row))
        })
        .await?;
    let shown = render(ecs, &row)?;
    Ok(api::DeregisterTaskDefinitionResponse { task_definition: Some(shown) })
}
