//! What names a task: its id or its ARN.

use aws_wire::{ApiError, Caller};
use longshore_types::{TaskArn, TaskId};

use crate::Ecs;
use crate::errors::Refusal;

/// The id in `given`; refused if it can be no task's.
pub(super) fn task_id(ecs: &Ecs, caller: &Caller, given: &str) -> Result<TaskId, ApiError> {
    if !given.starts_with("arn:") {
        return given
            .parse()
            .map_err(|_| Refusal::invalid("taskId length should be one of [32,36]").into());
    }
    let arn: TaskArn =
        given.parse().map_err(|_| Refusal::BadIdentifier { given: given.to_owned() })?;
    ecs.check_scope(caller, &arn.scope)?;
    Ok(arn.id)
}
