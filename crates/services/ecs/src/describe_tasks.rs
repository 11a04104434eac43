//! DescribeTasks: tasks by id or ARN, the unknown ones among the failures.
//!
//! It is what waiters and consoles ask over and over, a hundred tasks at a time, of which few have
//! changed. So in JSON, the protocol of all of them, it is put together from texts that are kept.

use std::sync::Arc;

use aws_wire::service::{Answer, Call};
use aws_wire::{ApiError, Caller, json};
use ecs_api as api;
use longshore_types::TaskArn;
use model::Task;

use super::render_task::{Seen, render_seen};
use super::task_ref::task_id;
use crate::Ecs;
use crate::errors::Refusal;

const TASKS_MAX: usize = 100;

/// What was asked for.
struct Found {
    tasks: Vec<(Arc<Task>, Seen)>,
    failures: Vec<api::Failure>,
    with_tags: bool,
}

pub(super) fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::DescribeTasksRequest,
) -> Result<api::DescribeTasksResponse, ApiError> {
    let Found { tasks, failures, with_tags } = find(ecs, caller, input)?;
    let tasks = tasks.iter().map(|(task, seen)| render_seen(task, with_tags, *seen)).collect();
    Ok(api::DescribeTasksResponse { tasks: Some(tasks), failures: Some(failures) })
}

/// The same answer, as JSON.
pub(crate) fn handle_json(ecs: &Ecs, caller: &Caller, call: &Call<'_>) -> Result<Answer, ApiError> {
    let Found { tasks, failures, with_tags } = find(ecs, caller, call.input()?)?;
    let texts = ecs.rendered_tasks.texts(&tasks, with_tags);
    let length: usize = texts.iter().map(|text| text.len() + 1).sum();
    let mut body = Vec::with_capacity(length + 64);
    body.extend_from_slice(b"{\"tasks\":[");
    for (position, text) in texts.iter().enumerate() {
        if position > 0 {
            body.push(b',');
        }
        body.extend_from_slice(text);
    }
    body.extend_from_slice(b"],\"failures\":[");
    for (position, failure) in failures.iter().enumerate() {
        if position > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&json::to_vec(failure));
    }
    body.extend_from_slice(b"]}");
    Ok(call.written_answer(body))
}

fn find(ecs: &Ecs, caller: &Caller, input: api::DescribeTasksRequest) -> Result<Found, ApiError> {
    let permission = ecs.within(
        caller,
        "ecs:DescribeTasks",
        "task",
        input.cluster.as_deref(),
        input.tasks.iter().flatten(),
    );
    let view = ecs.control.read(caller, &permission)?;
    let cluster = ecs.cluster(&view, caller, input.cluster.as_deref())?;
    let named = input.tasks.unwrap_or_default();
    if named.is_empty() {
        return Err(Refusal::invalid("Tasks cannot be empty.").into());
    }
    if named.len() > TASKS_MAX {
        let message = format!("Tasks can have at most {TASKS_MAX} items.");
        return Err(Refusal::invalid(message).into());
    }
    let include = input.include.unwrap_or_default();
    if let Some(unknown) = include.iter().find(|field| !field.is_known()) {
        return Err(Refusal::invalid(format!("{unknown} should be one of [TAGS]")).into());
    }
    let with_tags = include.contains(&api::TaskField::Tags);
    let (mut tasks, mut failures) = (Vec::with_capacity(named.len()), Vec::new());
    for given in &named {
        let id = task_id(ecs, caller, given)?;
        let row = view.tasks.get(caller.account, &id);
        match row.filter(|task| task.cluster == cluster.name) {
            Some(task) => tasks.push((Arc::clone(task), Seen::of(&view, task))),
            None => {
                let scope = ecs.control.scope(caller);
                let arn = TaskArn { scope, cluster: cluster.name.clone(), id };
                failures.push(api::Failure {
                    arn: Some(arn.to_string()),
                    reason: Some("MISSING".to_owned()),
                    detail: None,
                });
            }
        }
    }
    Ok(Found { tasks, failures, with_tags })
}

#[cfg(test)]
mod tests {
    use aws_wire::service::{Inbound, Protocol};
    use ecs_api::SERVICE;
    use http::HeaderMap;

    use super::*;
    use crate::task_tests::world::World;

    #[tokio::test]
    async fn the_answer_in_json_is_the_answer_in_any_protocol() {
        let world = World::new().await;
        let ran = world.run(|input| input.count = Some(3)).await.tasks.unwrap();
        let arns = ran.into_iter().filter_map(|task| task.task_arn);
        let missing = ["0".repeat(32), "1".repeat(32)];
        let input = api::DescribeTasksRequest {
            tasks: Some(arns.chain(missing).collect()),
            include: Some(vec![api::TaskField::Tags]),
            ..api::DescribeTasksRequest::default()
        };
        let root = world.root();
        let typed = handle(world.ecs(), &root, input.clone()).unwrap();
        assert_eq!(typed.tasks.as_ref().map(Vec::len), Some(3));
        let (body, headers) = (json::to_vec(&input), HeaderMap::new());
        let inbound = Inbound { path: "/", query: "", headers: &headers, body: &body };
        let call = Call {
            service: &SERVICE,
            operation: SERVICE.operation("DescribeTasks").unwrap(),
            protocol: Protocol::AwsJson11,
            inbound,
            form: None,
            request_id: root.request_id,
        };
        for _ in 0..2 {
            let answer = handle_json(world.ecs(), &root, &call).unwrap();
            assert_eq!(answer.body, json::to_vec(&typed));
        }
    }
}
