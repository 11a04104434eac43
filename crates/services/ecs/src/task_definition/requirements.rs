//! `requiresAttributes`: the capabilities that an instance's agent must have announced.

use std::collections::BTreeSet;

use aws_wire::ApiError;
use ecs_api::{ContainerDefinition, LogDriver, OSFamily, Volume};
use model::task_definition::{ARCHITECTURE_ATTRIBUTE, FENCE, OS_ATTRIBUTE, TASK_SIZE_ATTRIBUTE};
use model::{NetworkMode, RequiredAttribute, Tags};

use super::{Draft, list, text};
use crate::errors::Refusal;

const AMAZON: &str = "com.amazonaws.ecs.capability.";
const ECS: &str = "ecs.capability.";
/// 10 vCPU: a larger task needs a host that says that it takes such ones.
const USUAL_CPU_UNITS_MAX: u32 = 10_240;

impl Draft {
    /// By name.
    pub(super) fn requires_attributes(&self) -> Vec<RequiredAttribute> {
        let mut names = Names::default();
        self.require_of_task(&mut names);
        for volume in list(&self.request.volumes) {
            require_of_volume(volume, &mut names);
        }
        let has_role = !text(&self.request.execution_role_arn).is_empty();
        for container in self.containers() {
            require_of_process(container, &mut names);
            require_of_image(container, has_role, &mut names);
            require_of_logging(container, has_role, &mut names);
        }
        names.0.into_iter().map(|name| RequiredAttribute { name, value: None }).collect()
    }

    /// What an instance must be for its tasks, beside what its agent can do: found by placement, and not shown.
    pub(super) fn requires_platform(&self) -> Vec<RequiredAttribute> {
        let platform = self.request.runtime_platform.clone().unwrap_or_default();
        let required =
            |name: &str, value: Option<String>| RequiredAttribute { name: name.to_owned(), value };
        let architecture = platform.cpu_architecture.map(|kind| kind.as_str().to_ascii_lowercase());
        let is_linux = platform.operating_system_family == Some(OSFamily::Linux);
        let has_size = self.cpu.is_some() || self.memory.is_some();
        let size = has_size.then(|| required(TASK_SIZE_ATTRIBUTE, None));
        let system = is_linux.then(|| required(OS_ATTRIBUTE, Some("linux".to_owned())));
        let processor = architecture.map(|kind| required(ARCHITECTURE_ATTRIBUTE, Some(kind)));
        [size, processor, system].into_iter().flatten().collect()
    }

    fn require_of_task(&self, names: &mut Names) {
        let request = &self.request;
        let is_host = self.mode == Some(NetworkMode::Host);
        let is_awsvpc = self.mode == Some(NetworkMode::Awsvpc);
        names.ecs(is_awsvpc, "task-eni");
        names.docker(is_awsvpc || is_host, "1.18");
        let has_role = !text(&request.task_role_arn).is_empty();
        names.amazon(has_role, "task-iam-role");
        names.amazon(has_role && is_host, "task-iam-role-network-host");
        let shares_namespace = request.pid_mode.is_some() || request.ipc_mode.is_some();
        names.ecs(shares_namespace, "pid-ipc-namespace-sharing");
        names.ecs(request.proxy_configuration.is_some(), "aws-appmesh");
        names.ecs(request.ephemeral_storage.is_some(), "extensible-ephemeral-storage");
        let is_large = self.cpu.is_some_and(|cpu| USUAL_CPU_UNITS_MAX < cpu.0);
        names.ecs(is_large, "increased-task-cpu-limit");
    }
}

/// Tasks that are fenced need a host that holds to it. Whether they are is settled when they are registered: what could
/// be meant for a fence and is none is refused then.
pub(super) fn requires_fence(tags: &Tags) -> Result<Option<RequiredAttribute>, ApiError> {
    match tags.get(FENCE).map(String::as_str) {
        Some("true") => Ok(Some(RequiredAttribute { name: FENCE.to_owned(), value: None })),
        Some("false") | None => Ok(None),
        Some(other) => {
            let message = format!(
                "The tag {FENCE} of a task definition must be 'true' or 'false', not '{other}'."
            );
            Err(Refusal::client(message).into())
        }
    }
}

/// Capabilities by their full names.
#[derive(Default)]
struct Names(BTreeSet<String>);

impl Names {
    fn amazon(&mut self, is_needed: bool, capability: &str) {
        if is_needed {
            self.0.insert(format!("{AMAZON}{capability}"));
        }
    }

    fn ecs(&mut self, is_needed: bool, capability: &str) {
        if is_needed {
            self.0.insert(format!("{ECS}{capability}"));
        }
    }

    /// The version of Docker's remote API that first had something.
    fn docker(&mut self, is_needed: bool, version: &str) {
        if is_needed {
            self.0.insert(format!("{AMAZON}docker-remote-api.{version}"));
        }
    }
}

fn require_of_volume(volume: &Volume, names: &mut Names) {
    if let Some(docker) = &volume.docker_volume_configuration {
        let driver = docker.driver.as_deref().unwrap_or("local");
        names.ecs(true, &format!("docker-plugin.{driver}"));
        names.docker(true, "1.25");
    }
    if volume.efs_volume_configuration.is_some() {
        names.ecs(true, "efs");
        names.ecs(true, "efsAuth");
        names.docker(true, "1.25");
    }
    names.ecs(volume.configured_at_launch == Some(true), "storage.ebs-task-volume-attach");
}

/// ECS looks at whether a list was given, not at what is in it, where Docker's API knew none before.
fn require_of_process(container: &ContainerDefinition, names: &mut Names) {
    names.amazon(container.privileged == Some(true), "privileged-container");
    let options = list(&container.docker_security_options);
    names.amazon(options.iter().any(|option| option.starts_with("label:")), "selinux");
    names.amazon(options.iter().any(|option| option.starts_with("apparmor:")), "apparmor");
    let is_named = container.user.is_some()
        || container.hostname.is_some()
        || container.working_directory.is_some();
    let has_names = !list(&container.links).is_empty()
        || container.extra_hosts.is_some()
        || container.dns_servers.is_some()
        || container.dns_search_domains.is_some();
    names.docker(is_named || has_names, "1.17");
    names.docker(container.ulimits.is_some(), "1.18");
    names.docker(container.memory_reservation.is_some(), "1.21");
    let linux = container.linux_parameters.as_ref();
    names.docker(linux.is_some_and(|linux| !list(&linux.tmpfs).is_empty()), "1.22");
    names.docker(linux.is_some_and(|linux| linux.init_process_enabled == Some(true)), "1.25");
    if let Some(check) = &container.health_check {
        names.ecs(true, "container-health-check");
        names.docker(check.start_period.is_some(), "1.29");
        names.docker(check.start_period.is_none(), "1.24");
    }
    names.ecs(!list(&container.depends_on).is_empty(), "container-ordering");
    names.ecs(!list(&container.environment_files).is_empty(), "env-files.s3");
    let is_restarted = container.restart_policy.as_ref().and_then(|policy| policy.enabled);
    names.ecs(is_restarted == Some(true), "container-restart-policy");
    let has_range = list(&container.port_mappings).iter().any(|m| m.container_port_range.is_some());
    names.ecs(has_range, "network.container-port-range");
    for secret in list(&container.secrets) {
        let source = source_of(text(&secret.value_from));
        names.ecs(true, &format!("secrets.{source}.environment-variables"));
    }
}

fn require_of_image(container: &ContainerDefinition, has_role: bool, names: &mut Names) {
    let is_ecr = is_ecr_image(text(&container.image));
    names.amazon(is_ecr, "ecr-auth");
    names.ecs(is_ecr && has_role, "execution-role-ecr-pull");
    let has_credentials = container.repository_credentials.is_some();
    names.ecs(has_credentials, "private-registry-authentication.secretsmanager");
}

fn require_of_logging(container: &ContainerDefinition, has_role: bool, names: &mut Names) {
    if let Some(firelens) = &container.firelens_configuration {
        if let Some(kind) = &firelens.r#type {
            names.ecs(true, &format!("firelens.{kind}"));
        }
        let source = firelens.options.as_ref().and_then(|all| all.get("config-file-type"));
        if let Some(source @ ("file" | "s3")) = source.map(String::as_str) {
            names.ecs(true, &format!("firelens.options.config.{source}"));
        }
    }
    let Some(log) = &container.log_configuration else { return };
    for secret in list(&log.secret_options) {
        let source = source_of(text(&secret.value_from));
        names.ecs(true, &format!("secrets.{source}.bootstrap.log-driver"));
    }
    let Some(driver) = &log.log_driver else { return };
    names.amazon(true, &format!("logging-driver.{driver}"));
    if *driver == LogDriver::Awslogs {
        let has = |option| log.options.as_ref().is_some_and(|all| all.contains_key(option));
        names.ecs(has_role, "execution-role-awslogs");
        names.docker(true, "1.19");
        names.docker(has("mode") || has("max-buffer-size"), "1.28");
        names.docker(has("awslogs-create-group"), "1.29");
    }
}

fn source_of(value_from: &str) -> &'static str {
    if value_from.contains(":secretsmanager:") { "asm" } else { "ssm" }
}

/// `<account>.dkr.ecr.<region>.amazonaws.com/…`
pub(super) fn is_ecr_image(image: &str) -> bool {
    let host = image.split('/').next().unwrap_or_default();
    let parts: Vec<&str> = host.split('.').collect();
    matches!(parts.as_slice(), [account, "dkr", "ecr", _, "amazonaws", "com", ..]
        if account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()))
}
