//! One container: its definition with the overrides of the request folded in.

use std::collections::BTreeMap;

use acs::task::{
    Container, DependsOn, EnvironmentFile, MountPoint, PortMapping, RestartPolicy, VolumesFrom,
};
use ecs_api as api;
use model::task::Task;

use super::{Environment, docker, image, is_fargate, network_mode, secret};

/// Seconds that a container must have run before its policy starts it again, unless it says.
const RESTART_ATTEMPT_PERIOD_S: u64 = 300;

pub(super) fn of_container(
    task: &Task,
    definition: &api::TaskDefinition,
    container: &api::ContainerDefinition,
    environment: &Environment<'_>,
) -> Container {
    let name = container.name.clone().unwrap_or_default();
    let changed = task.overrides.of(&name);
    let arn = task.containers.iter().find(|each| each.name.as_str() == name);
    let pinned = arn.and_then(|each| each.pinned_digest.as_deref());
    let named = container.image.as_deref().unwrap_or_default();
    let registries = environment.registries();
    let image = image::exact(&image::reachable(named, &registries), pinned);
    let acts_as_role = environment.roles.execution.is_some();
    let log = container.log_configuration.as_ref().and_then(|log| log.log_driver.as_ref());
    let is_awslogs = log.is_some_and(|driver| driver.as_str() == "awslogs");
    let files = changed.and_then(|changed| changed.environment_files.as_ref());
    Container {
        container_arn: arn.map(|each| task.container_arn(each)),
        command: changed
            .and_then(|changed| changed.command.clone())
            .or_else(|| container.command.clone())
            .filter(|command| !command.is_empty()),
        entry_point: container.entry_point.clone().filter(|entry| !entry.is_empty()),
        environment: environment_of(task, container),
        environment_files: match files {
            Some(files) => files.iter().map(environment_file).collect(),
            None => container.environment_files.iter().flatten().map(defined_file).collect(),
        },
        essential: container.essential.unwrap_or(true),
        cpu: Some(amount(changed.and_then(|changed| changed.cpu), container.cpu)),
        memory: Some(amount(changed.and_then(|changed| changed.memory), container.memory)),
        links: container.links.clone().unwrap_or_default(),
        volumes_from: container.volumes_from.iter().flatten().map(volume_from).collect(),
        mount_points: container.mount_points.iter().flatten().map(mount_point).collect(),
        port_mappings: container
            .port_mappings
            .iter()
            .flatten()
            .map(|mapping| port_mapping(mapping, &network_mode(definition)))
            .collect(),
        depends_on: container.depends_on.iter().flatten().map(depends_on).collect(),
        start_timeout: container.start_timeout.map(i64::from),
        stop_timeout: container.stop_timeout.map(i64::from),
        restart_policy: container.restart_policy.as_ref().map(restart_policy),
        health_check_type: container.health_check.is_some().then(|| "docker".to_owned()),
        registry_authentication: secret::registry(&task.scope, container)
            .or_else(|| image::authentication(&task.scope, named, &registries, acts_as_role)),
        secrets: secret::of_container(task, container),
        logs_auth_strategy: (is_awslogs && acts_as_role).then(|| "ExecutionRole".to_owned()),
        firelens_configuration: container.firelens_configuration.as_ref().map(firelens),
        overrides: Some("{}".to_owned()),
        docker_config: Some(docker::of_container(task, definition, container, environment)),
        name,
        image,
        ..Container::default()
    }
}

/// The definition's variables, the request's over them, and where the task runs unless they say.
fn environment_of(task: &Task, container: &api::ContainerDefinition) -> BTreeMap<String, String> {
    let platform = if is_fargate(task) { "AWS_ECS_FARGATE" } else { "AWS_ECS_EC2" };
    let mut all = BTreeMap::from([("AWS_EXECUTION_ENV".to_owned(), platform.to_owned())]);
    let defined = container.environment.iter().flatten();
    all.extend(defined.filter_map(|pair| Some((pair.name.clone()?, pair.value.clone()?))));
    let changed = task.overrides.of(container.name.as_deref().unwrap_or_default());
    if let Some(pairs) = changed.and_then(|changed| changed.environment.as_ref()) {
        all.extend(pairs.iter().cloned());
    }
    all
}

fn firelens(router: &api::FirelensConfiguration) -> serde_json::Value {
    let kind = router.r#type.as_ref().map(ToString::to_string);
    serde_json::json!({ "type": kind, "options": router.options.clone().unwrap_or_default() })
}

fn environment_file((kind, value): &(String, String)) -> EnvironmentFile {
    EnvironmentFile { value: value.clone(), kind: kind.clone() }
}

fn defined_file(file: &api::EnvironmentFile) -> EnvironmentFile {
    EnvironmentFile {
        value: file.value.clone().unwrap_or_default(),
        kind: file.r#type.as_ref().map_or_else(|| "s3".to_owned(), ToString::to_string),
    }
}

fn volume_from(from: &api::VolumeFrom) -> VolumesFrom {
    VolumesFrom {
        source_container: from.source_container.clone().unwrap_or_default(),
        read_only: from.read_only.unwrap_or(false),
    }
}

fn mount_point(mount: &api::MountPoint) -> MountPoint {
    MountPoint {
        source_volume: Some(mount.source_volume.clone().unwrap_or_default()),
        container_path: mount.container_path.clone().unwrap_or_default(),
        read_only: mount.read_only.unwrap_or(false),
    }
}

/// A task with an address of its own, or the host's, has no ports to map: they are what they are.
fn port_mapping(mapping: &api::PortMapping, network_mode: &str) -> PortMapping {
    let host_port = match network_mode {
        "bridge" => mapping.host_port.or(mapping.container_port.map(|_| 0)),
        _ => mapping.container_port,
    };
    PortMapping {
        container_port: port(mapping.container_port),
        host_port: port(host_port),
        container_port_range: mapping.container_port_range.clone(),
        protocol: Some(
            mapping.protocol.as_ref().map_or_else(|| "tcp".to_owned(), ToString::to_string),
        ),
    }
}

fn depends_on(dependency: &api::ContainerDependency) -> DependsOn {
    DependsOn {
        container_name: dependency.container_name.clone().unwrap_or_default(),
        condition: dependency.condition.as_ref().map_or_else(String::new, ToString::to_string),
    }
}

fn restart_policy(policy: &api::ContainerRestartPolicy) -> RestartPolicy {
    RestartPolicy {
        enabled: policy.enabled.unwrap_or(false),
        ignored_exit_codes: policy.ignored_exit_codes.clone().unwrap_or_default(),
        restart_attempt_period: Some(
            policy
                .restart_attempt_period
                .and_then(|seconds| u64::try_from(seconds).ok())
                .unwrap_or(RESTART_ATTEMPT_PERIOD_S),
        ),
    }
}

/// The request's number, the definition's, or none.
fn amount(asked: Option<u32>, defined: Option<i32>) -> i64 {
    asked.map(i64::from).or_else(|| defined.map(i64::from)).unwrap_or(0)
}

/// A port that was checked to be one when it was registered.
fn port(number: Option<i32>) -> Option<u32> {
    number.and_then(|number| u32::try_from(number).ok())
}
