//! DescribeTasks: tasks by id or ARN, the unknown ones among the failures.

use aws_api::ecs as api;
use aws_wire::{ApiError, Caller};
use longshore_types::TaskArn;

use super::show_task::show;
use super::task_ref::task_id;
use crate::errors::Refusal;
use crate::region::Region;

const TASKS_MAX: usize = 100;

pub(super) fn handle(
    region: &Region,
    caller: &Caller,
    input: api::DescribeTasksRequest,
) -> Result<api::DescribeTasksResponse, ApiError> {
    let view = region.view();
    let cluster = region.cluster(&view, caller, input.cluster.as_deref())?;
    let named = input.tasks.unwrap_or_default();
    if named.is_empty() {
        return Err(Refusal::invalid("Tasks cannot be empty.").into());
    }
    if named.len() > TASKS_MAX {
        let message = format!("Tasks can have at most {TASKS_MAX} items.");
        return Err(Refusal::invalid(message).into());
    }
    let with_tags = input.include.iter().flatten().any(|each| *each == api::TaskField::Tags);
    let (mut tasks, mut failures) = (Vec::with_capacity(named.len()), Vec::new());
    for given in &named {
        let id = task_id(region, caller, given)?;
        let row = view.tasks.get(caller.account, &id);
        match row.filter(|task| task.cluster == cluster.name) {
            Some(task) => tasks.push(show(task, with_tags)),
            None => {
                let scope = region.scope(caller);
                let arn = TaskArn { scope, cluster: cluster.name.clone(), id };
                failures.push(api::Failure {
                    arn: Some(arn.to_string()),
                    reason: Some("MISSING".to_owned()),
                    detail: None,
                });
            }
        }
    }
    Ok(api::DescribeTasksResponse { tasks: Some(tasks), failures: Some(failures) })
}
