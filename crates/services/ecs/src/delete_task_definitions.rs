//! DeleteTaskDefinitions: inactive revisions go as soon as no task uses them any more.

use aws_wire::{ApiError, Caller};
use ecs_api as api;
use model::{TaskDefinition, TaskDefinitionStatus, View};
use store::Batch;

use super::failure;
use super::render_task_definition::render;
use crate::Ecs;
use crate::errors::Refusal;
use crate::names::TaskDefinitionRef;

const PER_CALL_MAX: usize = 10;

const STILL_ACTIVE: &str = "The specified task definition is still in ACTIVE status. Please \
                            deregister the target and try again.";
const INVALID: &str = "The specified task definition identifier is invalid. Specify a valid name \
                       or ARN and try again.";
const MISSING: &str = "The specified task definition does not exist. Specify a valid account, \
                       family, revision and try again.";

pub(super) async fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::DeleteTaskDefinitionsRequest,
) -> Result<api::DeleteTaskDefinitionsResponse, ApiError> {
    let permission = ecs.on(
        caller,
        "ecs:DeleteTaskDefinitions",
        "task-definition",
        input.task_definitions.iter().flatten(),
    );
    let asked = input.task_definitions.unwrap_or_default();
    if asked.is_empty() {
        return Err(Refusal::invalid("Task definitions can not be empty.").into());
    }
    if PER_CALL_MAX < asked.len() {
        let message =
            format!("At most {PER_CALL_MAX} task definitions can be deleted in one call.");
        return Err(Refusal::invalid(message).into());
    }
    let (rows, failures) = ecs
        .control
        .change(caller, &permission, |view, now| {
            let mut batch = Batch::on(view);
            let (mut rows, mut failures) = (Vec::new(), Vec::new());
            for given in &asked {
                match find(ecs, view, caller, given) {
                    Ok(mut row) => {
                        row.status = TaskDefinitionStatus::DeleteInProgress;
                        row.delete_requested_at.get_or_insert(now);
                        batch.put(row.clone());
                        rows.push(row);
                    }
                    Err(failed) => failures.push(failed),
                }
            }
            Ok((batch, (rows, failures)))
        })
        .await?;
    let shown: Result<Vec<_>, _> = rows.iter().map(|row| render(ecs, row)).collect();
    Ok(api::DeleteTaskDefinitionsResponse {
        task_definitions: Some(shown?),
        failures: Some(failures),
    })
}

fn find(
    ecs: &Ecs,
    view: &View,
    caller: &Caller,
    given: &str,
) -> Result<TaskDefinition, api::Failure> {
    let id = match ecs.task_definition_ref(caller, given) {
        Ok(TaskDefinitionRef::Revision(id)) => id,
        Ok(TaskDefinitionRef::Latest(_)) | Err(_) => return Err(failure(given, INVALID)),
    };
    let Some(row) = view.task_definitions.get(caller.account, &id) else {
        return Err(failure(given, MISSING));
    };
    if row.status == TaskDefinitionStatus::Active {
        let arn = row.arn(&ecs.control.config.region).to_string();
        return Err(failure(arn, STILL_ACTIVE));
    }
    Ok(TaskDefinition::clone(row))
}
