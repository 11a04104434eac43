//! What Amazon fills in where a request is silent, so that its answer shows it.

use ecs_api::{ContainerDefinition, HealthCheck, PortMapping, TransportProtocol};
use longshore_types::AccountId;
use model::NetworkMode;

use super::Draft;

const HEALTH_INTERVAL_S: i32 = 30;
const HEALTH_TIMEOUT_S: i32 = 5;
const HEALTH_RETRIES: i32 = 3;

impl Draft {
    /// Roles that were given by their names alone become those of the account.
    pub(super) fn complete_roles(&mut self, account: AccountId) {
        for role in [&mut self.request.task_role_arn, &mut self.request.execution_role_arn] {
            *role = role.take().map(|given| role_arn(account, given));
        }
    }

    /// Called once, after every check.
    pub(super) fn fill_in(&mut self) {
        let mode = self.effective_mode();
        let request = &mut self.request;
        // Sizes are shown in units, however they were written.
        request.cpu = self.cpu.map(|cpu| cpu.0.to_string());
        request.memory = self.memory.map(|memory| memory.0.to_string());
        request.volumes.get_or_insert_default();
        request.placement_constraints.get_or_insert_default();
        for container in request.container_definitions.iter_mut().flatten() {
            fill_in_container(container, mode);
        }
        for volume in request.volumes.iter_mut().flatten() {
            if let Some(efs) = &mut volume.efs_volume_configuration {
                efs.root_directory.get_or_insert_with(|| "/".to_owned());
            }
            let has_body = volume.docker_volume_configuration.is_some()
                || volume.efs_volume_configuration.is_some()
                || volume.s3files_volume_configuration.is_some()
                || volume.fsx_windows_file_server_volume_configuration.is_some()
                || volume.configured_at_launch == Some(true);
            if !has_body {
                volume.host.get_or_insert_default();
            }
        }
    }
}

/// The ARN of a role that may be given by its name, with its path.
pub(crate) fn role_arn(account: AccountId, given: String) -> String {
    match bare_name(&given) {
        Some(name) => format!("arn:aws:iam::{account}:role/{name}"),
        None => given,
    }
}

/// Whether a role can be meant: one of the account by its name, or one of any account by its ARN.
pub(crate) fn is_role(given: &str) -> bool {
    let parts: Vec<&str> = given.splitn(6, ':').collect();
    match parts[..] {
        ["arn", partition, "iam", "", account, resource] => {
            let path = resource.strip_prefix("role/").unwrap_or_default();
            let name = path.rsplit('/').next().unwrap_or_default();
            !partition.is_empty()
                && account.parse::<AccountId>().is_ok()
                && path.bytes().all(|byte| byte.is_ascii_graphic())
                && bare_name(name).is_some()
        }
        _ => bare_name(given).is_some(),
    }
}

fn bare_name(given: &str) -> Option<&str> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-/".contains(&byte);
    let name = given.trim_start_matches('/');
    (!name.is_empty() && name.bytes().all(is_word)).then_some(name)
}

fn fill_in_container(container: &mut ContainerDefinition, mode: NetworkMode) {
    container.cpu.get_or_insert(0);
    container.essential.get_or_insert(true);
    container.environment.get_or_insert_default();
    container.mount_points.get_or_insert_default();
    container.volumes_from.get_or_insert_default();
    container.system_controls.get_or_insert_default();
    if let Some(check) = &mut container.health_check {
        fill_in_health_check(check);
    }
    for mapping in container.port_mappings.get_or_insert_default() {
        fill_in_mapping(mapping, mode);
    }
}

/// A start period that nobody asked for stays absent: none is off, and shown so.
fn fill_in_health_check(check: &mut HealthCheck) {
    check.interval.get_or_insert(HEALTH_INTERVAL_S);
    check.timeout.get_or_insert(HEALTH_TIMEOUT_S);
    check.retries.get_or_insert(HEALTH_RETRIES);
}

fn fill_in_mapping(mapping: &mut PortMapping, mode: NetworkMode) {
    mapping.protocol.get_or_insert(TransportProtocol::Tcp);
    if mapping.container_port_range.is_some() {
        return;
    }
    let is_shared = matches!(mode, NetworkMode::Awsvpc | NetworkMode::Host);
    match (is_shared, mapping.host_port) {
        (true, None | Some(0)) => mapping.host_port = mapping.container_port,
        (false, None) => mapping.host_port = Some(0),
        (_, Some(_)) => {}
    }
}
