//! ListTaskDefinitions: the ARNs of revisions, by family and number.

use aws_wire::{ApiError, Caller};
use control::Permission;
use control::paging::{PageRequest, page, page_descending};
use ecs_api as api;
use ecs_api::SortOrder;
use model::TaskDefinitionStatus;

use crate::Ecs;
use crate::errors::Refusal;

pub(super) fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::ListTaskDefinitionsRequest,
) -> Result<api::ListTaskDefinitionsResponse, ApiError> {
    let permission = Permission::to("ecs:ListTaskDefinitions").on("*");
    let status = read_status(input.status.as_ref())?;
    let family = input.family_prefix.filter(|family| !family.is_empty());
    let view = ecs.control.read(caller, &permission)?;
    let revisions = view
        .task_definitions
        .of(caller.account)
        .filter(|row| row.status == status)
        .filter(|row| family.as_ref().is_none_or(|family| row.id.family.as_str() == family))
        .map(|row| (row.id.clone(), row.arn(&ecs.control.config.region).to_string()));
    let request = PageRequest::new(&input.next_token, input.max_results);
    let page = match input.sort {
        None | Some(SortOrder::Asc) => page(request, revisions)?,
        Some(SortOrder::Desc) => page_descending(request, revisions.rev())?,
        Some(other) => {
            return Err(Refusal::invalid(format!("{other} should be one of [ASC,DESC]")).into());
        }
    };
    Ok(api::ListTaskDefinitionsResponse {
        task_definition_arns: Some(page.items),
        next_token: page.next_token,
    })
}

fn read_status(
    given: Option<&api::TaskDefinitionStatus>,
) -> Result<TaskDefinitionStatus, ApiError> {
    match given {
        None | Some(api::TaskDefinitionStatus::Active) => Ok(TaskDefinitionStatus::Active),
        Some(api::TaskDefinitionStatus::Inactive) => Ok(TaskDefinitionStatus::Inactive),
        Some(api::TaskDefinitionStatus::DeleteInProgress) => {
            Ok(TaskDefinitionStatus::DeleteInProgress)
        }
        Some(other) => {
            let values = api::TaskDefinitionStatus::VALUES.join(",");
            Err(Refusal::invalid(format!("{other} should be one of [{values}]")).into())
        }
    }
}
