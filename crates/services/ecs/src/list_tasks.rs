//! ListTasks: the ARNs of a cluster's tasks that pass every filter, by id.

use aws_wire::{ApiError, Caller};
use control::paging::{PageRequest, page};
use ecs_api as api;
use longshore_types::{InstanceId, ServiceName};
use model::task::{Desired, Task};

use super::instance_ref::{InstanceRef, instance_ref};
use crate::Ecs;
use crate::errors::Refusal;

pub(super) fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::ListTasksRequest,
) -> Result<api::ListTasksResponse, ApiError> {
    let any = "*".to_owned();
    let instance = input.container_instance.as_ref().filter(|given| !given.is_empty());
    let cluster = input.cluster.as_deref();
    let permission = ecs.on_targets(caller, "ecs:ListTasks", cluster, [instance.unwrap_or(&any)]);
    let view = ecs.control.read(caller, &permission)?;
    let cluster = ecs.cluster(&view, caller, input.cluster.as_deref())?;
    check_together(&input)?;
    let desired = match &input.desired_status {
        None | Some(api::DesiredStatus::Running) => Some(Desired::Running),
        Some(api::DesiredStatus::Stopped) => Some(Desired::Stopped),
        // ECS wants no task pending.
        Some(api::DesiredStatus::Pending) => None,
        Some(other) => {
            let message =
                format!("desiredStatus should be one of [RUNNING,PENDING,STOPPED], not {other}");
            return Err(Refusal::invalid(message).into());
        }
    };
    let instance: Option<InstanceId> = match input.container_instance.as_deref() {
        None | Some("") => None,
        Some(given) => match instance_ref(ecs, caller, &view, cluster, given)? {
            InstanceRef::Found(instance) => Some(instance.id),
            InstanceRef::Missing { .. } => {
                let message = "The referenced container instance was not found.";
                return Err(Refusal::invalid(message).into());
            }
        },
    };
    let service = match input.service_name.as_deref() {
        None | Some("") => None,
        Some(given) => Some(ecs.service(&view, caller, cluster, given)?.name.clone()),
    };
    let is_of = |task: &Task, name: &ServiceName| {
        task.service.as_ref().is_some_and(|its| its.name == *name)
    };
    let passes = |task: &Task| {
        desired == Some(task.desired)
            && instance.is_none_or(|id| task.instance_arn().is_some() && task.instance == Some(id))
            && service.as_ref().is_none_or(|name| is_of(task, name))
            && is_or_absent(input.family.as_deref(), task.definition.family.as_str())
            && is_or_absent(input.started_by.as_deref(), task.started_by.as_deref().unwrap_or(""))
            && input.launch_type.as_ref().is_none_or(|kind| kind.as_str() == task.launch.as_str())
    };
    let request = PageRequest::new(&input.next_token, input.max_results);
    // From where the last page ended: nothing before it is looked at again.
    let tasks = view.tasks_of_cluster_after(caller.account, &cluster.name, request.after()?);
    let arns = tasks.filter(|task| passes(task)).map(|task| (task.id, task.arn().to_string()));
    let page = page(request, arns)?;
    Ok(api::ListTasksResponse { task_arns: Some(page.items), next_token: page.next_token })
}

fn is_or_absent(wanted: Option<&str>, actual: &str) -> bool {
    wanted.is_none_or(|wanted| wanted.is_empty() || wanted == actual)
}

fn check_together(input: &api::ListTasksRequest) -> Result<(), ApiError> {
    let is_given = |filter: &Option<String>| filter.as_ref().is_some_and(|text| !text.is_empty());
    if is_given(&input.daemon_name) {
        return Err(Refusal::client("daemonName is not supported by this region.").into());
    }
    let others = [&input.family, &input.service_name, &input.container_instance];
    if is_given(&input.started_by) && others.into_iter().any(is_given) {
        let message = "startedBy cannot be used together with family, serviceName or \
                       containerInstance.";
        return Err(Refusal::invalid(message).into());
    }
    if is_given(&input.family) && is_given(&input.service_name) {
        let message = "family and serviceName cannot be used together.";
        return Err(Refusal::invalid(message).into());
    }
    if input.launch_type.as_ref().is_some_and(|kind| !kind.is_known()) {
        let message = "launch type should be one of [EC2,FARGATE,EXTERNAL]";
        return Err(Refusal::invalid(message).into());
    }
    Ok(())
}
