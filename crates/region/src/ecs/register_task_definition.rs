//! RegisterTaskDefinition: a document becomes the next revision of its family.

use aws_api::ecs;
use aws_wire::{ApiError, Caller};
use longshore_types::TaskDefinitionId;
use model::{TaskDefinition, TaskFamily};
use store::Batch;

use super::show_task_definition::{complete, show_tags};
use super::task_definition::Draft;
use crate::access::principal_arn;
use crate::errors::Refusal;
use crate::region::Region;
use crate::tags;

pub(super) async fn handle(
    region: &Region,
    caller: &Caller,
    mut input: ecs::RegisterTaskDefinitionRequest,
) -> Result<ecs::RegisterTaskDefinitionResponse, ApiError> {
    let tags = tags::read(input.tags.take())?;
    let draft = Draft::read(input)?;
    let family = draft.family.clone();
    let (row, shape) = draft.into_row(caller.account, tags, principal_arn(caller))?;
    let row = region
        .decide(|view, now| {
            let last =
                view.families.get(caller.account, &family).map_or(0, |row| row.last_revision);
            let max = region.config.limits.revisions_per_family_max;
            if max <= last {
                return Err(Refusal::RevisionLimit { max }.into());
            }
            let revision = last + 1;
            let row = TaskDefinition {
                id: TaskDefinitionId { family: family.clone(), revision },
                registered_at: now,
                ..row.clone()
            };
            let mut batch = Batch::on(view);
            batch.put(TaskFamily {
                account: caller.account,
                family: family.clone(),
                last_revision: revision,
            });
            batch.put(row.clone());
            Ok((batch, row))
        })
        .await?;
    Ok(ecs::RegisterTaskDefinitionResponse {
        tags: show_tags(&row),
        task_definition: Some(complete(region, &row, shape)),
    })
}
