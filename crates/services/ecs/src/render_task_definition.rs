//! A task definition as answers show it: the document, and beside it what its row knows.

use aws_wire::{ApiError, json};
use ecs_api as api;
use model::TaskDefinition;

use crate::Ecs;
use crate::tags;

/// The document of a row, with everything that the row adds.
pub(crate) fn render(ecs: &Ecs, row: &TaskDefinition) -> Result<api::TaskDefinition, ApiError> {
    Ok(complete(ecs, row, document(row)?))
}

/// The document as it was registered, with the defaults filled in.
pub(crate) fn document(row: &TaskDefinition) -> Result<api::TaskDefinition, ApiError> {
    json::from_slice(row.document.as_str().as_bytes()).map_err(|error| {
        ApiError::fault(format!("failed to read task definition {}", row.id), error)
    })
}

pub(super) fn complete(
    ecs: &Ecs,
    row: &TaskDefinition,
    document: api::TaskDefinition,
) -> api::TaskDefinition {
    let attribute = |required: &model::RequiredAttribute| api::Attribute {
        name: Some(required.name.clone()),
        value: required.value.clone(),
        ..Default::default()
    };
    let compatibilities = row.compatibilities.iter().map(|launch| launch.as_str().into());
    api::TaskDefinition {
        task_definition_arn: Some(row.arn(&ecs.control.config.region).to_string()),
        revision: i32::try_from(row.id.revision).ok(),
        status: Some(row.status.as_str().into()),
        requires_attributes: Some(
            row.requires_attributes.iter().filter(|it| it.is_shown()).map(attribute).collect(),
        ),
        compatibilities: Some(compatibilities.collect()),
        registered_at: Some(row.registered_at),
        deregistered_at: row.deregistered_at,
        delete_requested_at: row.delete_requested_at,
        registered_by: Some(row.registered_by.clone()),
        ..document
    }
}

pub(super) fn render_tags(row: &TaskDefinition) -> Option<Vec<api::Tag>> {
    Some(tags::render(&row.tags)).filter(|tags| !tags.is_empty())
}
