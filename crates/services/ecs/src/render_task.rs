//! A task as answers show it.

use ecs_api as api;
use longshore_types::{ClusterArn, Timestamp};
use model::View;
use model::task::{
    Binding, Container, ContainerOverride, ContainerPhase, Health, LaunchType, Overrides, Phase,
    Protocol, StopCause, Task, TaskInterface,
};
use model::task_definition::ARCHITECTURE_ATTRIBUTE;

use crate::waiting::NO_FARGATE;

/// What of a task's instance is shown with the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Since when its agent is not connected.
    away_since: Option<Timestamp>,
    architecture: &'static str,
}

impl Default for Seen {
    fn default() -> Self {
        Self { away_since: None, architecture: ARCHITECTURE }
    }
}

impl Seen {
    pub(super) fn of(view: &View, task: &Task) -> Self {
        let Some(instance) = task.instance.and_then(|id| view.instance_of_any(id)) else {
            return Self::default();
        };
        let named = instance.attributes.get(ARCHITECTURE_ATTRIBUTE).and_then(Option::as_deref);
        Self {
            away_since: (!instance.agent.connected).then_some(instance.agent.changed_at),
            architecture: match named {
                Some("arm64") => "arm64",
                Some("x86_64") => "x86_64",
                Some(_) | None => ARCHITECTURE,
            },
        }
    }
}

/// A task that was just made, or changed by whoever asks. `include: TAGS` decides about the tags.
pub(super) fn render(task: &Task, with_tags: bool) -> api::Task {
    render_seen(task, with_tags, Seen::default())
}

pub(super) fn render_seen(task: &Task, with_tags: bool, seen: Seen) -> api::Task {
    // What has stopped is not out of reach any more.
    let away_since = seen.away_since.filter(|_| task.phase < Phase::Stopped);
    let connectivity = match away_since {
        Some(_) => api::Connectivity::Disconnected,
        None => api::Connectivity::Connected,
    };
    let cluster = ClusterArn { scope: task.scope.clone(), name: task.cluster.clone() };
    let is_fargate = task.launch == LaunchType::Fargate;
    let cpu = task.cpu.unwrap_or(task.need.resources.cpu);
    let memory = task.memory.unwrap_or(task.need.resources.memory);
    let arn = task.arn().to_string();
    let storage = || task.ephemeral_storage_gib.and_then(|gib| i32::try_from(gib).ok());
    api::Task {
        attachments: Some(task.interface.iter().map(|interface| attachment(interface)).collect()),
        attributes: Some(attributes(task, seen.architecture)),
        availability_zone: task.zone.as_deref().map(str::to_owned),
        capacity_provider_name: task.capacity_provider.as_deref().map(str::to_owned),
        cluster_arn: Some(cluster.to_string()),
        connectivity: task.times.connectivity.map(|_| connectivity),
        connectivity_at: task.times.connectivity.map(|at| away_since.unwrap_or(at)),
        container_instance_arn: task.instance_arn().map(|arn| arn.to_string()),
        containers: Some(task.containers.iter().map(|each| container(task, &arn, each)).collect()),
        cpu: Some(cpu.0.to_string()),
        created_at: Some(task.times.created),
        desired_status: Some(task.desired.as_str().to_owned()),
        enable_execute_command: Some(task.enable_execute_command),
        execution_stopped_at: task.times.execution_stopped,
        group: Some(task.group.clone()),
        health_status: Some(health(task.health())),
        inference_accelerators: Some(vec![]),
        last_status: Some(task.phase.as_str().to_owned()),
        launch_type: Some(task.launch.as_str().into()),
        memory: Some(memory.0.to_string()),
        overrides: Some(overrides(task)),
        platform_version: task.platform_version.clone(),
        platform_family: task.platform_family.clone(),
        pull_started_at: task.times.pull_started,
        pull_stopped_at: task.times.pull_stopped,
        started_at: task.times.started,
        started_by: task.started_by.clone(),
        stop_code: task.stop_cause.as_ref().map(|cause| cause.code().into()),
        stopped_at: task.times.stopped,
        stopped_reason: task.stop_cause.as_ref().map(ToString::to_string),
        stopping_at: task.times.stopping,
        tags: Some(if with_tags { crate::tags::render(&task.tags) } else { vec![] }),
        task_arn: Some(arn),
        task_definition_arn: Some(task.definition_arn().to_string()),
        version: i64::try_from(task.version).ok(),
        ephemeral_storage: is_fargate.then(|| api::EphemeralStorage { size_in_gib: storage() }),
        trusted_execution_summary: None,
        fargate_ephemeral_storage: is_fargate.then(|| api::TaskEphemeralStorage {
            size_in_gib: storage(),
            ..api::TaskEphemeralStorage::default()
        }),
    }
}

/// The attribute that tells why a task is not placed yet.
const WAITING_ATTRIBUTE: &str = "longshore.waits-for";
/// The attribute that tells what is known of an end beyond `stoppedReason`.
const STOPPED_ATTRIBUTE: &str = "longshore.stopped-because";
/// What the region and its agents run on.
pub(crate) const ARCHITECTURE: &str =
    if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };

/// What a waiting task waits for, and how exactly one ended, is told in attributes: ECS has no other
/// place for it.
fn attributes(task: &Task, architecture: &str) -> Vec<api::Attribute> {
    let attribute = |name: &str, value: &str| api::Attribute {
        name: Some(name.to_owned()),
        value: Some(value.to_owned()),
        ..api::Attribute::default()
    };
    let mut all = vec![attribute(ARCHITECTURE_ATTRIBUTE, architecture)];
    match &task.waiting {
        _ if !task.is_unplaced() => {}
        Some(waiting) => all.push(attribute(WAITING_ATTRIBUTE, &waiting.tally)),
        None if task.launch == LaunchType::Fargate => {
            all.push(attribute(WAITING_ATTRIBUTE, NO_FARGATE))
        }
        None => {}
    }
    if let Some(StopCause::EssentialContainerExited { detail: Some(detail), .. }) =
        task.stop_cause.as_deref()
    {
        all.push(attribute(STOPPED_ATTRIBUTE, detail));
    }
    all
}

fn attachment(interface: &TaskInterface) -> api::Attachment {
    let detail = |name: &str, value: String| api::KeyValuePair {
        name: Some(name.to_owned()),
        value: Some(value),
    };
    api::Attachment {
        id: Some(interface.attachment.to_string()),
        r#type: Some("ElasticNetworkInterface".to_owned()),
        status: Some(interface.phase.as_str().to_owned()),
        details: Some(vec![
            detail("subnetId", interface.subnet.to_string()),
            detail("networkInterfaceId", interface.eni.to_string()),
            detail("macAddress", interface.mac.clone()),
            detail("privateDnsName", interface.private_dns_name.clone()),
            detail("privateIPv4Address", interface.address.to_string()),
        ]),
    }
}

fn container(task: &Task, arn: &str, container: &Container) -> api::Container {
    let seen = &container.seen;
    let interface = task.interface.iter().map(|interface| api::NetworkInterface {
        attachment_id: Some(interface.attachment.to_string()),
        private_ipv4_address: Some(interface.address.to_string()),
        ipv6_address: None,
    });
    // Before an agent has spoken, a container is where its task is.
    let last_status = match seen.phase {
        ContainerPhase::Pending if task.phase == Phase::Provisioning => "PENDING",
        phase => phase.as_str(),
    };
    api::Container {
        container_arn: Some(task.container_arn(container)),
        task_arn: Some(arn.to_owned()),
        name: Some(container.name.to_string()),
        image: Some(container.image.clone()),
        image_digest: seen.image_digest.clone(),
        runtime_id: seen.runtime_id.clone(),
        last_status: Some(last_status.to_owned()),
        exit_code: seen.exit_code,
        reason: seen.reason.clone(),
        network_bindings: Some(seen.bindings.iter().map(binding).collect()),
        network_interfaces: Some(interface.collect()),
        health_status: Some(health(seen.health)),
        managed_agents: None,
        cpu: Some(container.cpu.unwrap_or_default().0.to_string()),
        memory: container.memory.map(|memory| memory.0.to_string()),
        memory_reservation: container.memory_reservation.map(|memory| memory.0.to_string()),
        gpu_ids: (!container.gpus.is_empty()).then(|| container.gpus.clone()),
        gpu_sharing_strategy: None,
        neuron_device_ids: None,
    }
}

fn binding(binding: &Binding) -> api::NetworkBinding {
    api::NetworkBinding {
        bind_ip: binding.bind_ip.clone(),
        container_port: binding.container_port.map(i32::from),
        host_port: binding.host_port.map(i32::from),
        protocol: binding.protocol.map(|protocol| match protocol {
            Protocol::Tcp => api::TransportProtocol::Tcp,
            Protocol::Udp => api::TransportProtocol::Udp,
        }),
        container_port_range: binding.container_port_range.clone(),
        host_port_range: binding.host_port_range.clone(),
    }
}

fn health(health: Health) -> api::HealthStatus {
    match health {
        Health::Healthy => api::HealthStatus::Healthy,
        Health::Unhealthy => api::HealthStatus::Unhealthy,
        Health::Unknown => api::HealthStatus::Unknown_,
    }
}

/// Every container is named, those without a change too, as ECS answers.
fn overrides(task: &Task) -> api::TaskOverride {
    let Overrides { cpu, memory, task_role_arn, execution_role_arn, ephemeral_storage_gib, .. } =
        &task.overrides;
    let containers = task.containers.iter().map(|container| {
        let unchanged = || api::ContainerOverride {
            name: Some(container.name.to_string()),
            ..api::ContainerOverride::default()
        };
        task.overrides.of(container.name.as_str()).map_or_else(unchanged, container_override)
    });
    api::TaskOverride {
        container_overrides: Some(containers.collect()),
        cpu: cpu.clone(),
        inference_accelerator_overrides: Some(vec![]),
        execution_role_arn: execution_role_arn.clone(),
        memory: memory.clone(),
        task_role_arn: task_role_arn.clone(),
        ephemeral_storage: ephemeral_storage_gib
            .map(|gib| api::EphemeralStorage { size_in_gib: i32::try_from(gib).ok() }),
    }
}

fn container_override(changed: &ContainerOverride) -> api::ContainerOverride {
    let amount = |amount: Option<u32>| amount.and_then(|amount| i32::try_from(amount).ok());
    let pair = |(name, value): &(String, String)| api::KeyValuePair {
        name: Some(name.clone()),
        value: Some(value.clone()),
    };
    api::ContainerOverride {
        name: Some(changed.name.clone()),
        command: changed.command.clone(),
        environment: changed.environment.as_ref().map(|pairs| pairs.iter().map(pair).collect()),
        environment_files: changed.environment_files.as_ref().map(|files| {
            let file = |(kind, value): &(String, String)| api::EnvironmentFile {
                r#type: Some(kind.as_str().into()),
                value: Some(value.clone()),
            };
            files.iter().map(file).collect()
        }),
        cpu: amount(changed.cpu),
        memory: amount(changed.memory),
        memory_reservation: amount(changed.memory_reservation),
        resource_requirements: changed.resource_requirements.as_ref().map(|list| {
            let requirement = |(kind, value): &(String, String)| api::ResourceRequirement {
                r#type: Some(kind.as_str().into()),
                value: Some(value.clone()),
                ..api::ResourceRequirement::default()
            };
            list.iter().map(requirement).collect()
        }),
    }
}
