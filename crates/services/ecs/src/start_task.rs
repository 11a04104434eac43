//! StartTask: puts a task on each of the instances that are named, or says why not.

use aws_wire::{ApiError, Caller};
use control::tasks::put_task;
use ecs_api as api;
use model::Key;
use model::instance::{Instance, InstanceStatus};
use model::task::{LaunchType, Task};
use plan::{Ask, Host, Pool, Unfit, binding_zones};
use store::Batch;

use super::instance_ref::{InstanceRef, instance_ref};
use super::render_task::render;
use super::task_template::{Common, Place, TaskTemplate};
use crate::Ecs;
use crate::errors::Refusal;
use crate::permissions::TaskRequest;
use crate::tags;

const INSTANCES_MAX: usize = 10;

pub(super) async fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::StartTaskRequest,
) -> Result<api::StartTaskResponse, ApiError> {
    let named = input.container_instances.clone().unwrap_or_default();
    let common = Common {
        task_definition: input.task_definition.clone(),
        enable_ecs_managed_tags: input.enable_ecs_managed_tags,
        enable_execute_command: input.enable_execute_command,
        group: input.group.clone(),
        network_configuration: input.network_configuration.clone(),
        overrides: input.overrides.clone(),
        propagate_tags: input.propagate_tags.clone(),
        started_by: input.started_by.clone(),
        tags: input.tags.clone(),
        volume_configurations: input.volume_configurations.clone(),
    };
    let asked = TaskRequest {
        cluster: input.cluster.as_deref(),
        task_definition: input.task_definition.as_deref(),
        overrides: input.overrides.as_ref(),
        enable_execute_command: input.enable_execute_command,
        ..TaskRequest::default()
    };
    let tags = tags::read(input.tags.clone())?;
    let (tasks, failures) = ecs
        .control
        .decide(|view, now| {
            let permission = ecs.starting(view, caller, "ecs:StartTask", &asked, &tags);
            let permission = ecs.on_instances(caller, permission, asked.cluster, &named);
            ecs.control.authorize(view, caller, &permission)?;
            let mut batch = Batch::on(view);
            let cluster = ecs.cluster(view, caller, input.cluster.as_deref())?;
            batch.rely(Key::Cluster(caller.account, cluster.name.clone()));
            check_named(&named)?;
            let kind = kind_of(ecs, view, caller, cluster, &named);
            let template = TaskTemplate::read(ecs, view, caller, cluster, kind, None, &common)?;
            let (mut tasks, mut failures) = (Vec::<Task>::new(), Vec::new());
            let zones = template.zones();
            let of_cluster = view.instances_of_cluster(caller.account, &cluster.name);
            let zones = binding_zones(&zones, Pool::Own, of_cluster.map(AsRef::as_ref));
            for given in &named {
                let found = instance_ref(ecs, caller, view, cluster, given)?;
                let instance = match found {
                    InstanceRef::Found(instance) => instance,
                    InstanceRef::Missing { arn } => {
                        failures.push(failure(arn, "MISSING", None));
                        continue;
                    }
                };
                let on = view.tasks_on_instance(instance.id).map(AsRef::as_ref);
                let own = tasks.iter().filter(|task| task.instance == Some(instance.id));
                let host = Host::new(instance, on.chain(own));
                if instance.is_external != (kind == LaunchType::External) {
                    failures.push(failure(instance.arn().to_string(), "ATTRIBUTE", mixed()));
                    continue;
                }
                if let Err(unfit) = fit(&host, &template, zones) {
                    let detail = Some(format!("The instance is {unfit}."));
                    failures.push(failure(instance.arn().to_string(), unfit.wire_reason(), detail));
                    continue;
                }
                batch.rely(Key::ContainerInstance(caller.account, instance.id));
                batch.rely(model::Index::InstanceTasks(instance.id));
                let place = Place {
                    instance: Some(instance.id),
                    zone: instance.zone().map(str::to_owned),
                    capacity_provider: None,
                };
                let task = template.make(ecs, view, &mut batch, place, now)?;
                tasks.push(task.clone());
                put_task(view, &mut batch, task);
            }
            Ok((batch, (tasks, failures)))
        })
        .await?;
    Ok(api::StartTaskResponse {
        tasks: Some(tasks.iter().map(|task| render(task, true)).collect()),
        failures: Some(failures),
    })
}

fn check_named(named: &[String]) -> Result<(), ApiError> {
    if named.is_empty() {
        return Err(Refusal::invalid("Container Instances cannot be empty.").into());
    }
    if named.len() > INSTANCES_MAX {
        let message = format!("containerInstances can have at most {INSTANCES_MAX} items.");
        return Err(Refusal::invalid(message).into());
    }
    Ok(())
}

/// External instances have tasks of their own kind, which are started by themselves.
fn kind_of(
    ecs: &Ecs,
    view: &model::View,
    caller: &Caller,
    cluster: &model::Cluster,
    named: &[String],
) -> LaunchType {
    let found = |given: &String| match instance_ref(ecs, caller, view, cluster, given) {
        Ok(InstanceRef::Found(Instance { is_external, .. })) => Some(*is_external),
        Ok(InstanceRef::Missing { .. }) | Err(_) => None,
    };
    let found: Vec<bool> = named.iter().filter_map(found).collect();
    let are_external = !found.is_empty() && found.iter().all(|is_external| *is_external);
    if are_external { LaunchType::External } else { LaunchType::Ec2 }
}

/// Why an external instance has no task beside those of instances of EC2.
fn mixed() -> Option<String> {
    Some(
        "The instance is external, and others that are named are not: name it without them."
            .to_owned(),
    )
}

/// The caller places: strategies and constraints play no part, capacity and abilities do.
fn fit(host: &Host<'_>, template: &TaskTemplate<'_>, zones: &[String]) -> Result<(), Unfit> {
    if host.instance.status == InstanceStatus::Draining {
        return Err(Unfit::Draining);
    }
    let ask = Ask {
        need: &template.need,
        group: &template.group,
        pool: Pool::Own,
        requires: &template.definition.requires_attributes,
        zones,
        constraints: &[],
        strategies: &[],
    };
    plan::fit(host, &ask)
}

fn failure(arn: String, reason: &str, detail: Option<String>) -> api::Failure {
    api::Failure { arn: Some(arn), reason: Some(reason.to_owned()), detail }
}
