//! DescribeContainerInstances: instances by id or ARN, the unknown ones among the failures. Those that were deregistered are
//! shown as `INACTIVE` for a while.

use aws_wire::{ApiError, Caller};
use ecs_api as api;

use super::failure;
use super::instance_ref::{InstanceRef, instance_ref_of_any};
use super::render_instance::{Include, render};
use crate::Ecs;
use crate::errors::Refusal;

const INSTANCES_MAX: usize = 100;

pub(super) fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::DescribeContainerInstancesRequest,
) -> Result<api::DescribeContainerInstancesResponse, ApiError> {
    let permission = ecs.within(
        caller,
        "ecs:DescribeContainerInstances",
        "container-instance",
        input.cluster.as_deref(),
        input.container_instances.iter().flatten(),
    );
    let view = ecs.control.read(caller, &permission)?;
    let cluster = ecs.cluster(&view, caller, input.cluster.as_deref())?;
    let named = input.container_instances.unwrap_or_default();
    if named.is_empty() {
        return Err(Refusal::client("Container Instances cannot be empty.").into());
    }
    if named.len() > INSTANCES_MAX {
        let message = format!("Container Instances can have at most {INSTANCES_MAX} items.");
        return Err(Refusal::invalid(message).into());
    }
    let wanted = input.include.unwrap_or_default();
    if let Some(unknown) = wanted.iter().find(|field| !field.is_known()) {
        let values = api::ContainerInstanceField::VALUES.join(",");
        return Err(Refusal::invalid(format!("{unknown} should be one of [{values}]")).into());
    }
    let include = Include {
        tags: wanted.contains(&api::ContainerInstanceField::Tags),
        health: wanted.contains(&api::ContainerInstanceField::ContainerInstanceHealth),
    };
    let (mut instances, mut failures) = (Vec::new(), Vec::new());
    for given in &named {
        match instance_ref_of_any(ecs, caller, &view, cluster, given)? {
            InstanceRef::Found(instance) => instances.push(render(&view, instance, include)),
            InstanceRef::Missing { arn } => failures.push(failure(arn, "MISSING")),
        }
    }
    Ok(api::DescribeContainerInstancesResponse {
        container_instances: Some(instances),
        failures: Some(failures),
    })
}
