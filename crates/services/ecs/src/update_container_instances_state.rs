//! UpdateContainerInstancesState: takes instances out of placement, or back in.
//!
//! Draining stops nothing that was started by hand, as in ECS; only services move their tasks away.

use aws_wire::{ApiError, Caller};
use control::access::may_operate;
use ecs_api as api;
use model::instance::{Instance, InstanceStatus};
use store::Batch;

use super::failure;
use super::instance_ref::{InstanceRef, instance_ref};
use super::render_instance::{Include, render};
use crate::Ecs;
use crate::errors::Refusal;

const INSTANCES_MAX: usize = 10;

pub(super) async fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::UpdateContainerInstancesStateRequest,
) -> Result<api::UpdateContainerInstancesStateResponse, ApiError> {
    let permission = ecs.within(
        caller,
        "ecs:UpdateContainerInstancesState",
        "container-instance",
        input.cluster.as_deref(),
        input.container_instances.iter().flatten(),
    );
    let named = input.container_instances.unwrap_or_default();
    let status = match &input.status {
        Some(api::ContainerInstanceStatus::Active) => InstanceStatus::Active,
        Some(api::ContainerInstanceStatus::Draining) => InstanceStatus::Draining,
        _ => {
            let message = "Container instances status should be one of [ACTIVE,DRAINING]";
            return Err(Refusal::invalid(message).into());
        }
    };
    let (instances, failures) = ecs
        .control
        .change(caller, &permission, |view, _| {
            let cluster = ecs.cluster(view, caller, input.cluster.as_deref())?;
            if named.is_empty() {
                return Err(Refusal::invalid("Container Instances cannot be empty.").into());
            }
            if named.len() > INSTANCES_MAX {
                let message = format!("containerInstances can have at most {INSTANCES_MAX} items.");
                return Err(Refusal::invalid(message).into());
            }
            let mut batch = Batch::on(view);
            let (mut instances, mut failures) = (Vec::new(), Vec::new());
            for given in &named {
                let found = instance_ref(ecs, caller, view, cluster, given)?;
                let instance = match found {
                    InstanceRef::Found(instance) => instance,
                    InstanceRef::Missing { arn } => {
                        failures.push(failure(arn, "MISSING"));
                        continue;
                    }
                };
                if !may_operate(caller, instance) {
                    let message = "This access key does not belong to the container instance.";
                    return Err(ApiError::client("AccessDeniedException", message));
                }
                let mut next = Instance::clone(instance);
                if next.status != status {
                    next.status = status;
                    next.version += 1;
                }
                instances.push(render(view, &next, Include::default()));
                if next != *instance {
                    batch.put(next);
                }
            }
            Ok((batch, (instances, failures)))
        })
        .await?;
    Ok(api::UpdateContainerInstancesStateResponse {
        container_instances: Some(instances),
        failures: Some(failures),
    })
}
