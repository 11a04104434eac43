//! What ECS tells EventBridge of: tasks, deployments, services and container instances whose rows change.
//!
//! A document has the members that describing answers have, rendered by the same functions, with times as texts. What did not
//! change for who watches makes no event: a row's own notes, or what is derived elsewhere.

use std::collections::BTreeSet;

use aws_wire::codec::Record;
use aws_wire::json;
use control::ports::EventSource;
use control::told::{Changes, Told};
use ecs_api as api;
use events::Json;
use longshore_types::{ClusterArn, InstanceId, Scope, Timestamp};
use model::service::{ServiceEvent, ServiceEventKind, ServiceStatus};
use model::{Deployment, Instance, Key, Kind, ServiceEvents, Task};
use plan::service::rollout_reason;

use crate::render_instance::{self, Include};
use crate::render_task::{Seen, render_seen};

/// Tells of ECS's rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EcsEvents;

impl EventSource for EcsEvents {
    fn source(&self) -> &'static str {
        "aws.ecs"
    }

    fn kinds(&self) -> &'static [Kind] {
        &[Kind::Task, Kind::Deployment, Kind::ServiceEvents, Kind::ContainerInstance]
    }

    fn tell(&self, changes: &Changes<'_>) -> Vec<Told> {
        let (before, after) = (changes.before, changes.after);
        let mut told = Vec::new();
        // Each is told of once, whatever of it and of its tasks changed.
        let mut instances = BTreeSet::new();
        for key in changes.keys {
            match key {
                Key::Task(account, id) => {
                    let was = before.tasks.get(*account, id).map(AsRef::as_ref);
                    let is = after.tasks.get(*account, id).map(AsRef::as_ref);
                    instances.extend(resources_changed(was, is));
                    let Some(is) = is.filter(|is| was.is_none_or(|was| differs(was, is))) else {
                        continue;
                    };
                    told.push(of_task(is, Seen::of(after, is), changes.now));
                }
                Key::Deployment(account, id) => {
                    let was = before.deployments.get(*account, id);
                    let Some(is) = after.deployments.get(*account, id) else { continue };
                    let service = after.services.get(*account, &is.service_id());
                    let is_there = service.is_some_and(|it| it.status == ServiceStatus::Active);
                    let state = |row: &Deployment| row.stage.rollout_state();
                    if is_there && was.map(|was| state(was)) != Some(state(is)) {
                        told.push(of_deployment(is, changes.now));
                    }
                }
                Key::ServiceEvents(account, id) => {
                    let was = before.service_events.get(*account, id);
                    let Some(is) = after.service_events.get(*account, id) else { continue };
                    let last = was.and_then(|was| was.events.last()).map(|event| event.id);
                    let known = is.events.iter().position(|event| Some(event.id) == last);
                    let new = is.events.iter().skip(known.map_or(0, |at| at + 1));
                    told.extend(new.filter_map(|event| of_service(is, event)));
                }
                Key::ContainerInstance(account, id) => {
                    let was = before.instances.get(*account, id).map(AsRef::as_ref);
                    let is = after.instances.get(*account, id).map(AsRef::as_ref);
                    let Some(is) = is else { continue };
                    if was.is_none_or(|was| instance_differs(was, is)) {
                        instances.insert(is.id);
                    }
                }
                _ => {}
            }
        }
        let account = changes.keys.first().map(Key::account);
        for instance in instances.into_iter().filter_map(|id| after.instance_of_any(id)) {
            if Some(instance.scope.account) == account {
                let shown = render_instance::render(after, instance, Include::default());
                told.push(of_instance(instance, shown, changes.now));
            }
        }
        told
    }
}

/// Whether the change of a task is one that is told.
fn differs(was: &Task, is: &Task) -> bool {
    let seen = |task: &Task| {
        let interface = task.interface.as_ref().map(|interface| interface.phase);
        (task.phase, task.desired, task.times.connectivity, task.instance, interface)
    };
    let containers = |task: &Task| -> Vec<_> {
        task.containers.iter().map(|each| (each.seen.phase, each.seen.exit_code)).collect()
    };
    seen(was) != seen(is) || containers(was) != containers(is)
}

/// The container instance of which a task takes resources or gives them back, in the eyes of its owner.
fn resources_changed(was: Option<&Task>, is: Option<&Task>) -> Option<InstanceId> {
    let taken = |task: Option<&Task>| task.filter(|task| task.occupies())?.instance_arn();
    let (was, is) = (taken(was), taken(is));
    if was == is { None } else { is.or(was).map(|arn| arn.id) }
}

fn instance_differs(was: &Instance, is: &Instance) -> bool {
    let agent = |row: &Instance| {
        let agent = &row.agent;
        (agent.connected, agent.version.clone(), agent.hash.clone(), agent.docker_version.clone())
    };
    (was.status, &was.attributes, was.total) != (is.status, &is.attributes, is.total)
        || agent(was) != agent(is)
}

/// What an answer shows, with times as texts, but for members of these names.
fn document<T: Record>(shown: &T, without: &[&str]) -> Vec<(String, Json)> {
    let text = String::from_utf8(json::to_vec_with_iso_times(shown)).unwrap_or_default();
    match Json::parse(&text) {
        Ok(Json::Object(members)) => {
            members.into_iter().filter(|(name, _)| !without.contains(&name.as_str())).collect()
        }
        // It was just written.
        Ok(_) | Err(_) => Vec::new(),
    }
}

fn member(name: &str, value: impl Into<Json>) -> (String, Json) {
    (name.to_owned(), value.into())
}

fn of_task(task: &Task, seen: Seen, now: Timestamp) -> Told {
    let mut shown = render_seen(task, false, seen);
    for attachment in shown.attachments.iter_mut().flatten() {
        attachment.r#type = Some("eni".to_owned());
    }
    for container in shown.containers.iter_mut().flatten() {
        let is_checked = task.containers.iter().any(|each| {
            each.is_health_checked && Some(each.name.as_str()) == container.name.as_deref()
        });
        container.health_status = container.health_status.take().filter(|_| is_checked);
    }
    let without = ["tags", "healthStatus", "inferenceAccelerators", "fargateEphemeralStorage"];
    let mut detail = document(&shown, &without);
    detail.push(member("updatedAt", now.iso8601()));
    Told {
        detail_type: "ECS Task State Change",
        resources: vec![task.arn().to_string()],
        detail: Json::Object(detail),
    }
}

fn of_instance(instance: &Instance, shown: api::ContainerInstance, now: Timestamp) -> Told {
    let cluster = ClusterArn { scope: instance.scope.clone(), name: instance.cluster.clone() };
    let mut detail = document(&shown, &["tags", "attachments"]);
    detail.insert(0, member("clusterArn", cluster.to_string()));
    detail.push(member("updatedAt", now.iso8601()));
    Told {
        detail_type: "ECS Container Instance State Change",
        resources: vec![instance.arn().to_string()],
        detail: Json::Object(detail),
    }
}

fn of_deployment(row: &Deployment, now: Timestamp) -> Told {
    let state = row.stage.rollout_state();
    let event_type = if row.stage.has_failed() { "ERROR" } else { "INFO" };
    let detail = vec![
        member("eventType", event_type),
        member("eventName", format!("SERVICE_DEPLOYMENT_{state}")),
        member("deploymentId", row.id.to_string()),
        member("updatedAt", now.iso8601()),
        member("reason", rollout_reason(row, &[])),
    ];
    Told {
        detail_type: "ECS Deployment State Change",
        resources: vec![row.service_arn().to_string()],
        detail: Json::Object(detail),
    }
}

/// What of a service's own events EventBridge has a name for.
fn of_service(row: &ServiceEvents, event: &ServiceEvent) -> Option<Told> {
    let (event_type, name, more) = match &event.what {
        ServiceEventKind::SteadyState { task_set: None } => ("INFO", "SERVICE_STEADY_STATE", None),
        ServiceEventKind::SteadyState { task_set: Some(_) } => {
            ("INFO", "TASKSET_STEADY_STATE", None)
        }
        ServiceEventKind::Failing { .. } => ("WARN", "SERVICE_TASK_START_IMPAIRED", None),
        ServiceEventKind::Unplaceable { why } => {
            ("ERROR", "SERVICE_TASK_PLACEMENT_FAILURE", Some(member("reason", lacking(why))))
        }
        ServiceEventKind::Started { .. }
        | ServiceEventKind::Stopped { .. }
        | ServiceEventKind::Unhealthy { .. }
        | ServiceEventKind::TargetsRegistered { .. }
        | ServiceEventKind::TargetsDeregistered { .. }
        | ServiceEventKind::GroupMissing { .. }
        | ServiceEventKind::DrainBegun { .. }
        | ServiceEventKind::TargetUnhealthy { .. }
        | ServiceEventKind::NeverRan { .. }
        | ServiceEventKind::DeploymentCompleted { .. }
        | ServiceEventKind::DeploymentFailed { .. }
        | ServiceEventKind::RollingBack { .. }
        | ServiceEventKind::Blocked { .. } => return None,
    };
    let scope: &Scope = &row.scope;
    let cluster = ClusterArn { scope: scope.clone(), name: row.cluster.clone() };
    let mut detail = vec![
        member("eventType", event_type),
        member("eventName", name),
        member("clusterArn", cluster.to_string()),
        member("createdAt", event.at.iso8601()),
    ];
    detail.extend(more);
    let service = longshore_types::ServiceArn {
        scope: scope.clone(),
        cluster: row.cluster.clone(),
        service: row.service.clone(),
    };
    Some(Told {
        detail_type: "ECS Service Action",
        resources: vec![service.to_string()],
        detail: Json::Object(detail),
    })
}

/// What is lacking in EventBridge's words, where it has some.
fn lacking(why: &str) -> String {
    let words = [
        ("insufficient CPU", "RESOURCE:CPU"),
        ("insufficient memory", "RESOURCE:MEMORY"),
        ("GPU", "RESOURCE:GPU"),
    ];
    let found = words.into_iter().find(|(said, _)| why.contains(said));
    found.map_or_else(|| why.to_owned(), |(_, word)| word.to_owned())
}
