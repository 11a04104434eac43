//! `requiresAttributes`: the capabilities that an instance's agent must have announced.

use std::collections::BTreeSet;

use aws_api::ecs::{ContainerDefinition, LogDriver};
use model::{NetworkMode, RequiredAttribute};

use super::{Draft, list, text};

const AMAZON: &str = "com.amazonaws.ecs.capability.";
const ECS: &str = "ecs.capability.";

impl Draft {
    /// By name.
    pub(super) fn requires_attributes(&self) -> Vec<RequiredAttribute> {
        let mut names = BTreeSet::new();
        let mode = self.effective_mode();
        let request = &self.request;
        let has_execution_role = !text(&request.execution_role_arn).is_empty();
        if mode == NetworkMode::Awsvpc {
            names.insert(format!("{ECS}task-eni"));
        }
        if !text(&request.task_role_arn).is_empty() {
            names.insert(match mode {
                NetworkMode::Host => format!("{AMAZON}task-iam-role-network-host"),
                NetworkMode::Bridge | NetworkMode::Awsvpc | NetworkMode::None => {
                    format!("{AMAZON}task-iam-role")
                }
            });
        }
        if request.pid_mode.is_some() || request.ipc_mode.is_some() {
            names.insert(format!("{ECS}pid-ipc-namespace-sharing"));
        }
        if request.proxy_configuration.is_some() {
            names.insert(format!("{ECS}aws-appmesh"));
        }
        for volume in list(&request.volumes) {
            if let Some(docker) = &volume.docker_volume_configuration {
                let driver = docker.driver.as_deref().unwrap_or("local");
                names.insert(format!("{ECS}docker-plugin.{driver}"));
            }
            if let Some(efs) = &volume.efs_volume_configuration {
                names.insert(format!("{ECS}efs"));
                if efs.authorization_config.is_some() {
                    names.insert(format!("{ECS}efsAuth"));
                }
            }
            if volume.configured_at_launch == Some(true) {
                names.insert(format!("{ECS}storage.ebs-task-volume-attach"));
            }
        }
        for container in self.containers() {
            require(container, has_execution_role, &mut names);
        }
        names.into_iter().map(|name| RequiredAttribute { name, value: None }).collect()
    }
}

fn require(container: &ContainerDefinition, has_role: bool, names: &mut BTreeSet<String>) {
    let mut amazon = |capability: &str| names.insert(format!("{AMAZON}{capability}"));
    if container.privileged == Some(true) {
        amazon("privileged-container");
    }
    let is_ecr = is_ecr_image(text(&container.image));
    if is_ecr {
        amazon("ecr-auth");
        amazon("docker-remote-api.1.18");
    }
    if container.memory_reservation.is_some() {
        amazon("docker-remote-api.1.21");
    }
    if !list(&container.ulimits).is_empty() {
        amazon("docker-remote-api.1.18");
    }
    let log = container.log_configuration.as_ref();
    let driver = log.and_then(|log| log.log_driver.as_ref());
    if let Some(driver) = driver {
        amazon(&format!("logging-driver.{driver}"));
        amazon("docker-remote-api.1.18");
        if *driver == LogDriver::Awslogs {
            amazon("docker-remote-api.1.19");
        }
    }
    if container.health_check.is_some() {
        amazon("docker-remote-api.1.24");
    }
    let init = container.linux_parameters.as_ref().and_then(|linux| linux.init_process_enabled);
    if init == Some(true) {
        amazon("docker-remote-api.1.25");
    }
    let mut ecs = |is_needed: bool, capability: &str| {
        if is_needed {
            names.insert(format!("{ECS}{capability}"));
        }
    };
    ecs(is_ecr && has_role, "execution-role-ecr-pull");
    ecs(driver == Some(&LogDriver::Awslogs) && has_role, "execution-role-awslogs");
    ecs(container.health_check.is_some(), "container-health-check");
    ecs(!list(&container.depends_on).is_empty(), "container-ordering");
    ecs(
        container.repository_credentials.is_some(),
        "private-registry-authentication.secretsmanager",
    );
    ecs(!list(&container.environment_files).is_empty(), "env-files.s3");
    let is_restarted = container.restart_policy.as_ref().and_then(|policy| policy.enabled);
    ecs(is_restarted == Some(true), "container-restart-policy");
    let has_range = list(&container.port_mappings).iter().any(|m| m.container_port_range.is_some());
    ecs(has_range, "network.container-port-range");
    if let Some(firelens) =
        container.firelens_configuration.as_ref().and_then(|f| f.r#type.as_ref())
    {
        ecs(true, &format!("firelens.{firelens}"));
    }
    for secret in list(&container.secrets) {
        ecs(
            true,
            &format!("secrets.{}.environment-variables", source_of(text(&secret.value_from))),
        );
    }
    for secret in log.map(|log| list(&log.secret_options)).unwrap_or_default() {
        ecs(true, &format!("secrets.{}.bootstrap.log-driver", source_of(text(&secret.value_from))));
    }
}

fn source_of(value_from: &str) -> &'static str {
    if value_from.contains(":secretsmanager:") { "asm" } else { "ssm" }
}

/// `<account>.dkr.ecr.<region>.amazonaws.com/…`
fn is_ecr_image(image: &str) -> bool {
    let host = image.split('/').next().unwrap_or_default();
    let parts: Vec<&str> = host.split('.').collect();
    matches!(parts.as_slice(), [account, "dkr", "ecr", _, "amazonaws", "com", ..]
        if account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()))
}
