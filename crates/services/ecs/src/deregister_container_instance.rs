//! DeregisterContainerInstance: an instance leaves its cluster; with `force`, whatever runs on it.

use aws_wire::{ApiError, Caller};
use control::access::may_operate;
use control::tasks::{STOPPED_AT_ONCE_MAX, put_task};
use ecs_api as api;
use model::instance::{Instance, InstanceStatus};
use model::task::{Input, Task, step};
use store::Batch;

use super::instance_ref::{InstanceRef, instance_ref};
use super::render_instance::{Include, render};
use crate::Ecs;
use crate::errors::Refusal;

pub(super) async fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::DeregisterContainerInstanceRequest,
) -> Result<api::DeregisterContainerInstanceResponse, ApiError> {
    loop {
        if let Some(shown) = decide_once(ecs, caller, &input).await? {
            return Ok(api::DeregisterContainerInstanceResponse {
                container_instance: Some(shown),
            });
        }
    }
}

/// Of a host with many tasks some are stopped with one decision, and the last of them makes it inactive; none is
/// answered before. Until then it drains: what comes in the place of those that were stopped is not placed there.
pub(super) async fn decide_once(
    ecs: &Ecs,
    caller: &Caller,
    input: &api::DeregisterContainerInstanceRequest,
) -> Result<Option<api::ContainerInstance>, ApiError> {
    let permission =
        ecs.on_cluster(caller, "ecs:DeregisterContainerInstance", input.cluster.as_deref());
    let force = input.force.unwrap_or(false);
    ecs.control
        .change(caller, &permission, |view, now| {
            let cluster = ecs.cluster(view, caller, input.cluster.as_deref())?;
            let given = input.container_instance.as_deref().unwrap_or_default();
            let found = instance_ref(ecs, caller, view, cluster, given)?;
            let InstanceRef::Found(instance) = found else {
                let message = "The referenced container instance was not found.";
                return Err(Refusal::invalid(message).into());
            };
            if !may_operate(caller, instance) {
                let message = "This access key does not belong to the container instance.";
                return Err(ApiError::client("AccessDeniedException", message));
            }
            let tasks: Vec<&Task> =
                view.tasks_on_instance(instance.id).map(AsRef::as_ref).collect();
            if !force && !tasks.is_empty() {
                return Err(Refusal::invalid("Found running tasks on the instance.").into());
            }
            let mut batch = Batch::on(view);
            batch.rely(model::Index::InstanceTasks(instance.id));
            let lost = Input::InstanceDeregistered { instance: instance.arn() };
            let stopped: Vec<Task> =
                tasks.iter().filter_map(|task| step(task, &lost, now)).collect();
            let is_last = stopped.len() <= STOPPED_AT_ONCE_MAX;
            for task in stopped.into_iter().take(STOPPED_AT_ONCE_MAX) {
                put_task(view, &mut batch, task);
            }
            let mut next = Instance::clone(instance);
            next.version += 1;
            if !is_last {
                next.status = InstanceStatus::Draining;
                batch.put(next);
                return Ok((batch, None));
            }
            next.status = InstanceStatus::Inactive;
            next.agent.connected = false;
            next.agent.changed_at = now;
            let shown = render(view, &next, Include::default());
            batch.put(next);
            Ok((batch, Some(shown)))
        })
        .await
}
