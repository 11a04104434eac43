//! Task sets: parts of a service whose deployments are driven from outside.
//!
//! A request writes down what a task set shall be; the reconciler starts and stops its tasks, and takes
//! a deleted one away once the last of them has stopped. Counts and stability are derived when shown.

mod create;
mod delete;
mod describe;
mod primary;
mod update;

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use ecs_api as api;
use longshore_types::{ClusterName, DeploymentId, TaskSetArn};
use model::service::{Controller, ServiceStatus, TaskSet, TaskSetStatus};
use model::{Service, ServiceId, View};
use plan::service::Counts;

use super::render_service::{RenderedCapacity, amount, cluster_arn, definition_arn};
use super::service_spec::{render_network, resolved_platform};
use crate::Ecs;
use crate::errors::Refusal;
use crate::tags;

pub(super) use create::handle as handle_create;
pub(super) use delete::handle as handle_delete;
pub(super) use describe::handle as handle_describe;
pub(super) use primary::handle as handle_update_primary;
pub(super) use update::handle as handle_update;

/// All of a percentage, in hundredths of a percent.
const WHOLE: u32 = 10_000;

/// The service whose task sets a request is about: an active one that is driven from outside.
fn service_of<'v>(
    ecs: &Ecs,
    view: &'v View,
    caller: &Caller,
    cluster: Option<&str>,
    service: Option<&str>,
) -> Result<&'v Arc<Service>, ApiError> {
    let cluster = ecs.cluster(view, caller, cluster)?;
    let service = ecs.service(view, caller, cluster, service.unwrap_or_default())?;
    if service.status != ServiceStatus::Active {
        return Err(Refusal::ServiceNotActive.into());
    }
    if service.controller != Controller::External {
        let message = "Amazon ECS only supports task set management on services configured to use \
                       external deployment controllers.";
        return Err(Refusal::invalid(message).into());
    }
    Ok(service)
}

/// The id in an id or an ARN; `None` if it is one of another service.
fn set_id(
    ecs: &Ecs,
    caller: &Caller,
    service: &ServiceId,
    given: &str,
) -> Result<Option<DeploymentId>, ApiError> {
    let bad = || Refusal::BadIdentifier { given: given.to_owned() };
    if !given.starts_with("arn:") {
        return given.parse().map(Some).map_err(|_| bad().into());
    }
    let arn: TaskSetArn = given.parse().map_err(|_| bad())?;
    ecs.check_scope(caller, &arn.scope)?;
    let is_its = arn.cluster == service.cluster && arn.service == service.name;
    Ok(is_its.then_some(arn.id))
}

/// The task set that a request names.
fn find<'v>(
    ecs: &Ecs,
    view: &'v View,
    caller: &Caller,
    service: &Service,
    given: Option<&str>,
) -> Result<&'v Arc<TaskSet>, ApiError> {
    let given = given.unwrap_or_default();
    if given.is_empty() {
        return Err(Refusal::invalid("Task set can not be blank.").into());
    }
    let id = set_id(ecs, caller, &service.key(), given)?;
    let mut sets = view.task_sets_of(caller.account, &service.key());
    sets.find(|set| Some(set.id) == id).ok_or_else(|| {
        let message = "The specified task set does not exist.";
        ApiError::client("TaskSetNotFoundException", message)
    })
}

/// A part of the service's desired count, in hundredths of a percent.
fn read_scale(given: &api::Scale) -> Result<u32, ApiError> {
    if let Some(unit) = given.unit.as_ref().filter(|unit| **unit != api::ScaleUnit::Percent) {
        let message = format!("scale.unit should be one of [PERCENT], not {unit}");
        return Err(Refusal::invalid(message).into());
    }
    let value = given.value.unwrap_or(0.0);
    if !(0.0..=100.0).contains(&value) {
        let message = "scale.value must be between 0 and 100.";
        return Err(Refusal::invalid(message).into());
    }
    // Printed and read again, which no cast can get wrong.
    let text = format!("{:.0}", value * 100.0);
    Ok(text.parse().unwrap_or(WHOLE).min(WHOLE))
}

fn refuse_draining(set: &TaskSet) -> Result<(), ApiError> {
    match set.status {
        TaskSetStatus::Primary | TaskSetStatus::Active => Ok(()),
        TaskSetStatus::Draining => {
            Err(Refusal::invalid("The specified task set is draining.").into())
        }
    }
}

/// A service's task sets as `DescribeServices` shows them: the primary one first, then the latest.
pub(super) fn render_all<'v>(
    service: &Service,
    sets: impl Iterator<Item = &'v TaskSet>,
    counts: impl Fn(&TaskSet) -> Counts,
) -> Result<Vec<api::TaskSet>, ApiError> {
    let mut sets: Vec<&TaskSet> = sets.collect();
    sets.sort_by_key(|set| (set.status, Reverse((set.created_at, set.id))));
    sets.into_iter().map(|set| render(service, set, counts(set), false)).collect()
}

/// A task set as answers show it.
fn render(
    service: &Service,
    set: &TaskSet,
    counts: Counts,
    with_tags: bool,
) -> Result<api::TaskSet, ApiError> {
    let capacity = RenderedCapacity::of(&set.capacity);
    let is_steady = set.is_steady && counts.running == counts.desired && counts.pending == 0;
    Ok(api::TaskSet {
        id: Some(set.id.to_string()),
        task_set_arn: Some(set.arn().to_string()),
        service_arn: Some(service.arn().to_string()),
        cluster_arn: Some(cluster_arn(service)),
        external_id: set.external_id.clone(),
        status: Some(set.status.as_str().to_owned()),
        task_definition: Some(definition_arn(&set.scope, &set.definition)),
        computed_desired_count: amount(counts.desired),
        pending_count: amount(counts.pending),
        running_count: amount(counts.running),
        created_at: Some(set.created_at),
        updated_at: Some(set.updated_at),
        launch_type: capacity.launch_type,
        capacity_provider_strategy: capacity.strategy,
        platform_version: resolved_platform(set.platform_version.as_deref()),
        platform_family: set.platform_family.clone(),
        network_configuration: render_network(set.network.as_ref())?,
        load_balancers: Some(vec![]),
        service_registries: Some(vec![]),
        scale: Some(api::Scale {
            value: Some(f64::from(set.scale_basis_points) / 100.0),
            unit: Some(api::ScaleUnit::Percent),
        }),
        stability_status: Some(match is_steady {
            true => api::StabilityStatus::SteadyState,
            false => api::StabilityStatus::Stabilizing,
        }),
        stability_status_at: Some(set.steadiness_changed_at.unwrap_or(set.created_at)),
        tags: Some(if with_tags { tags::render(&set.tags) } else { vec![] }),
        ..api::TaskSet::default()
    })
}

/// What a request made of a task set, as it is shown at once.
fn render_changed(ecs: &Ecs, set: &TaskSet) -> Result<api::TaskSet, ApiError> {
    let view = ecs.control.view();
    let service = view.services.get(set.scope.account, &set.service_id());
    let service = service.ok_or(Refusal::ServiceNotFound)?;
    render(service, set, counts_of(&view, service, set), true)
}

/// The tasks that it shall have, and those that it has.
fn counts_of(view: &View, service: &Service, set: &TaskSet) -> Counts {
    let tasks = view.tasks_of_service(service.scope.account, &service.key());
    let counts = plan::service::count_tasks(tasks.map(AsRef::as_ref), Some(set.id));
    let desired = match set.status {
        TaskSetStatus::Primary | TaskSetStatus::Active => set.desired(service.desired_count),
        TaskSetStatus::Draining => 0,
    };
    Counts { desired, ..counts }
}

/// Where the task sets of a service are, for messages and tokens.
fn scope_text(cluster: &ClusterName, service: &ServiceId) -> String {
    format!("{cluster}/{}", service.name)
}
