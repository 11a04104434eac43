//! A container instance as answers show it: what is left and how many tasks it has is derived here.

use std::collections::{BTreeMap, BTreeSet};

use ecs_api as api;
use model::View;
use model::instance::{GPU_RESOURCE, Instance, InstanceHealth, OtherResource};
use model::task::{HostPort, LaunchType, Phase, Protocol, Task};

use crate::gpus;

/// `include` decides about tags and health.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Include {
    pub(super) tags: bool,
    pub(super) health: bool,
}

pub(super) fn render(view: &View, instance: &Instance, include: Include) -> api::ContainerInstance {
    // Fargate's tasks are not the instance's in the eyes of its owner.
    let tasks: Vec<&Task> = view
        .tasks_on_instance(instance.id)
        .map(AsRef::as_ref)
        .filter(|task| task.launch != LaunchType::Fargate)
        .collect();
    let running = tasks.iter().filter(|task| task.phase >= Phase::Running).count();
    let count = |number: usize| i32::try_from(number).ok();
    let left = instance.remaining(tasks.iter().map(|task| &task.need));
    let held: BTreeSet<&str> = tasks.iter().flat_map(|task| gpus::held(task)).collect();
    let mut others_left = instance.other_resources.clone();
    for gpus in others_left.iter_mut().filter(|each| each.name == GPU_RESOURCE) {
        gpus.strings.retain(|id| !held.contains(id.as_str()));
    }
    let agent = &instance.agent;
    api::ContainerInstance {
        container_instance_arn: Some(instance.arn().to_string()),
        ec2_instance_id: instance.ec2_instance_id.clone(),
        capacity_provider_name: instance.capacity_provider.clone(),
        version: i64::try_from(instance.version).ok(),
        version_info: Some(api::VersionInfo {
            agent_version: agent.version.clone(),
            agent_hash: agent.hash.clone(),
            docker_version: agent.docker_version.clone(),
        }),
        remaining_resources: Some(resources(
            left.resources.cpu.0,
            left.resources.memory.0,
            &left.taken_ports.iter().copied().collect::<Vec<_>>(),
            &others_left,
        )),
        registered_resources: Some(resources(
            instance.total.cpu.0,
            instance.total.memory.0,
            &instance.reserved_ports.iter().copied().collect::<Vec<_>>(),
            &instance.other_resources,
        )),
        status: Some(instance.status.as_str().to_owned()),
        agent_connected: Some(agent.connected),
        running_tasks_count: count(running),
        pending_tasks_count: count(tasks.len() - running),
        agent_update_status: crate::update_container_agent::status(view, instance),
        attributes: Some(attributes(&instance.attributes)),
        registered_at: Some(instance.registered_at),
        attachments: Some(vec![]),
        tags: Some(if include.tags { crate::tags::render(&instance.tags) } else { vec![] }),
        health_status: include.health.then(|| health(instance)),
        ..api::ContainerInstance::default()
    }
}

pub(super) fn attributes(all: &BTreeMap<String, Option<String>>) -> Vec<api::Attribute> {
    all.iter()
        .map(|(name, value)| api::Attribute {
            name: Some(name.clone()),
            value: value.clone(),
            ..api::Attribute::default()
        })
        .collect()
}

fn resources(
    cpu: u32,
    memory: u32,
    ports: &[HostPort],
    others: &[OtherResource],
) -> Vec<api::Resource> {
    let integer = |name: &str, value: Option<i32>| api::Resource {
        name: Some(name.to_owned()),
        r#type: Some("INTEGER".to_owned()),
        double_value: Some(0.0),
        long_value: Some(0),
        integer_value: value,
        string_set_value: None,
    };
    let set = |name: &str, values: Vec<String>| api::Resource {
        name: Some(name.to_owned()),
        r#type: Some("STRINGSET".to_owned()),
        double_value: Some(0.0),
        long_value: Some(0),
        integer_value: Some(0),
        string_set_value: Some(values),
    };
    let of = |wanted: Protocol| {
        let ports = ports.iter().filter(|port| port.protocol == wanted);
        ports.map(|port| port.port.to_string()).collect()
    };
    let amount = |amount: u32| i32::try_from(amount).ok();
    let mut all = vec![
        integer("CPU", amount(cpu)),
        integer("MEMORY", amount(memory)),
        set("PORTS", of(Protocol::Tcp)),
        set("PORTS_UDP", of(Protocol::Udp)),
    ];
    all.extend(others.iter().map(|other| match other.kind.as_str() {
        "STRINGSET" => set(&other.name, other.strings.clone()),
        _ => integer(&other.name, other.integer),
    }));
    all
}

fn health(instance: &Instance) -> api::ContainerInstanceHealthStatus {
    let detail = |part: &InstanceHealth| api::InstanceHealthCheckResult {
        r#type: Some(part.kind.as_str().into()),
        status: Some(part.status.as_str().into()),
        last_updated: Some(part.updated_at),
        last_status_change: Some(part.changed_at),
        ..api::InstanceHealthCheckResult::default()
    };
    api::ContainerInstanceHealthStatus {
        overall_status: Some(instance.overall_health().into()),
        details: Some(instance.health.iter().map(detail).collect()),
    }
}
