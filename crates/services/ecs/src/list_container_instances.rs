//! ListContainerInstances: the ARNs of a cluster's instances, by status and by expression.

use aws_wire::{ApiError, Caller};
use control::paging::{PageRequest, page};
use ecs_api as api;
use model::instance::{Instance, InstanceStatus};
use plan::{Expression, Host};

use crate::Ecs;
use crate::errors::Refusal;

pub(super) fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::ListContainerInstancesRequest,
) -> Result<api::ListContainerInstancesResponse, ApiError> {
    let permission = ecs.on_cluster(caller, "ecs:ListContainerInstances", input.cluster.as_deref());
    let view = ecs.control.read(caller, &permission)?;
    let cluster = ecs.cluster(&view, caller, input.cluster.as_deref())?;
    let filter: Option<Expression> = match input.filter.as_deref() {
        None | Some("") => None,
        Some(text) => Some(text.parse().map_err(|why| {
            Refusal::invalid(format!("Invalid filter expression '{text}': {why}"))
        })?),
    };
    let is_wanted = status_filter(input.status.as_ref())?;
    let passes = |instance: &Instance| {
        is_wanted(instance.status)
            && filter.as_ref().is_none_or(|filter| {
                let tasks = view.tasks_on_instance(instance.id).map(AsRef::as_ref);
                filter.matches(&Host::new(instance, tasks).facts())
            })
    };
    let instances = view.instances_of_cluster(caller.account, &cluster.name);
    let arns = instances
        .filter(|instance| passes(instance))
        .map(|instance| (instance.id, instance.arn().to_string()));
    let page = page(PageRequest::new(&input.next_token, input.max_results), arns)?;
    Ok(api::ListContainerInstancesResponse {
        container_instance_arns: Some(page.items),
        next_token: page.next_token,
    })
}

/// Without a status: all that are not gone.
fn status_filter(
    status: Option<&api::ContainerInstanceStatus>,
) -> Result<impl Fn(InstanceStatus) -> bool, ApiError> {
    let wanted = match status {
        None => None,
        Some(api::ContainerInstanceStatus::Active) => Some(Some(InstanceStatus::Active)),
        Some(api::ContainerInstanceStatus::Draining) => Some(Some(InstanceStatus::Draining)),
        // Stations that an instance passes through at once here.
        Some(
            api::ContainerInstanceStatus::Registering
            | api::ContainerInstanceStatus::Deregistering
            | api::ContainerInstanceStatus::RegistrationFailed,
        ) => Some(None),
        Some(other) => {
            let message = format!(
                "status should be one of [ACTIVE,DRAINING,REGISTERING,DEREGISTERING,\
                 REGISTRATION_FAILED], not {other}"
            );
            return Err(Refusal::invalid(message).into());
        }
    };
    Ok(move |status| match wanted {
        None => status != InstanceStatus::Inactive,
        Some(wanted) => wanted == Some(status),
    })
}
