//! DescribeTaskDefinition: one revision, or the latest active one of a family.

use aws_wire::{ApiError, Caller};
use control::Permission;
use ecs_api as api;
use ecs_api::TaskDefinitionField;

use super::render_task_definition::render;
use crate::Ecs;
use crate::errors::Refusal;
use crate::tags;

pub(super) fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::DescribeTaskDefinitionRequest,
) -> Result<api::DescribeTaskDefinitionResponse, ApiError> {
    let permission = Permission::to("ecs:DescribeTaskDefinition").on("*");
    let include = input.include.unwrap_or_default();
    if let Some(unknown) = include.iter().find(|field| !field.is_known()) {
        return Err(Refusal::invalid(format!("{unknown} should be one of [TAGS]")).into());
    }
    let view = ecs.control.read(caller, &permission)?;
    let given = input.task_definition.unwrap_or_default();
    let row = ecs.task_definition(&view, caller, &given)?;
    let with_tags = include.contains(&TaskDefinitionField::Tags);
    Ok(api::DescribeTaskDefinitionResponse {
        task_definition: Some(render(ecs, row)?),
        tags: with_tags.then(|| tags::render(&row.tags)),
    })
}
