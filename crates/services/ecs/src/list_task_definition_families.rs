//! ListTaskDefinitionFamilies: families that begin with a prefix, by name.

use aws_wire::{ApiError, Caller};
use control::Permission;
use control::paging::{PageRequest, page};
use ecs_api as api;
use ecs_api::TaskDefinitionFamilyStatus;
use model::{TaskDefinitionStatus, TaskFamily, View};

use crate::Ecs;
use crate::errors::Refusal;

pub(super) fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::ListTaskDefinitionFamiliesRequest,
) -> Result<api::ListTaskDefinitionFamiliesResponse, ApiError> {
    let permission = Permission::to("ecs:ListTaskDefinitionFamilies").on("*");
    let wanted = match input.status {
        None | Some(TaskDefinitionFamilyStatus::All) => None,
        Some(TaskDefinitionFamilyStatus::Active) => Some(true),
        Some(TaskDefinitionFamilyStatus::Inactive) => Some(false),
        Some(other) => {
            let values = TaskDefinitionFamilyStatus::VALUES.join(",");
            return Err(Refusal::invalid(format!("{other} should be one of [{values}]")).into());
        }
    };
    let prefix = input.family_prefix.unwrap_or_default();
    let view = ecs.control.read(caller, &permission)?;
    let families = view
        .families
        .of(caller.account)
        .filter(|row| row.family.as_str().starts_with(&prefix))
        .filter(|row| match is_active(&view, row) {
            Some(is_active) => wanted.is_none_or(|wanted| wanted == is_active),
            None => false,
        })
        .map(|row| (row.family.clone(), row.family.to_string()));
    let page = page(PageRequest::new(&input.next_token, input.max_results), families)?;
    Ok(api::ListTaskDefinitionFamiliesResponse {
        families: Some(page.items),
        next_token: page.next_token,
    })
}

/// Whether a family has an active revision; `None` if it has none at all any more.
fn is_active(view: &View, row: &TaskFamily) -> Option<bool> {
    let mut revisions = view
        .revisions(row.account, &row.family)
        .filter(|row| row.status != TaskDefinitionStatus::DeleteInProgress)
        .peekable();
    revisions.peek()?;
    Some(revisions.any(|row| row.status == TaskDefinitionStatus::Active))
}
