//! From a payload's container to a [`ContainerSpec`]. What it asks for and cannot have becomes its
//! `refusal`; only what cannot be understood makes the whole task invalid.

use std::collections::BTreeMap;

use super::docker::{apply_config, apply_host_config};
use super::parse::{InvalidTask, mib_to_bytes, unreadable};
use super::{
    Condition, ConfigFile, ContainerSpec, Dependency, FirelensSpec, HostSpec, Link, LogDriver,
    LogSpec, Mount, NetworkMode, ObjectName, PortSpec, ProcessSpec, Protocol, RegistryAuth,
    RestartSpec, Router, SecretProvider, SecretSpec, SecretTarget, VolumesFrom,
};

const MEMORY_MIB_MIN: i64 = 4;
const CPU_SHARES_MIN: i64 = 2;
const CPU_SHARES_MAX: i64 = 262_144;
const RESTART_ATTEMPT_PERIOD_S: u64 = 300;
/// A range of ports is expanded; more than this is surely a mistake.
const PORTS_MAX: usize = 1_000;

/// One container of a task whose containers have these `names`.
pub(super) fn parse_container(
    task: &acs::Task,
    container: &acs::task::Container,
    names: &[&str],
    is_awsvpc: bool,
) -> Result<ContainerSpec, InvalidTask> {
    let index_of = |name: &str| names.iter().position(|other| *other == name);
    let seconds = |value: Option<i64>| {
        value.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0).map(|v| v.saturating_mul(1000))
    };
    let memory = container.memory.filter(|mib| *mib > 0).map(|mib| mib.max(MEMORY_MIB_MIN));
    let shares = container.cpu.unwrap_or(0).clamp(CPU_SHARES_MIN, CPU_SHARES_MAX);
    let mut spec = ContainerSpec {
        name: container.name.clone(),
        arn: container.container_arn.clone(),
        image: container.image.clone(),
        command: container.command.clone(),
        entrypoint: container.entry_point.clone(),
        environment: container.environment.clone(),
        secrets: container.secrets.iter().map(parse_secret).collect(),
        environment_files: Vec::new(),
        gpus: gpus(task, &container.name),
        essential: container.essential,
        depends_on: Vec::new(),
        links: Vec::new(),
        mounts: Vec::new(),
        volumes_from: Vec::new(),
        ports: parse_ports(&container.port_mappings)?,
        start_timeout_ms: seconds(container.start_timeout),
        stop_timeout_ms: seconds(container.stop_timeout),
        restart: container.restart_policy.as_ref().filter(|policy| policy.enabled).map(|policy| {
            RestartSpec {
                ignored_exit_codes: policy.ignored_exit_codes.clone(),
                attempt_period_ms: policy
                    .restart_attempt_period
                    .unwrap_or(RESTART_ATTEMPT_PERIOD_S)
                    .saturating_mul(1000),
            }
        }),
        registry: RegistryAuth::None,
        network: if is_awsvpc { NetworkMode::Awsvpc } else { mode_of(task)? },
        health: None,
        log: LogSpec {
            driver: LogDriver::JsonFile,
            execution_role: container.logs_auth_strategy.as_deref() == Some("ExecutionRole"),
            options: BTreeMap::new(),
        },
        firelens: None,
        process: ProcessSpec::default(),
        host: HostSpec {
            cpu_shares: u64::try_from(shares).unwrap_or(2),
            memory_bytes: memory.and_then(mib_to_bytes),
            ..HostSpec::default()
        },
        managed_agents: managed_agents(container),
        refusal: None,
    };
    resolve_names(&mut spec, container, index_of);
    apply_overrides(&mut spec, container.overrides.as_deref())?;
    apply_registry(&mut spec, container);
    apply_docker(&mut spec, container, is_awsvpc);
    match container.firelens_configuration.as_ref().map(parse_firelens) {
        None => {}
        Some(Ok(firelens)) => spec.firelens = Some(firelens),
        Some(Err(why)) => refuse(&mut spec, format!("ResourceInitializationError: {why}")),
    }
    follow_router(&mut spec, task, names);
    refuse_container(&mut spec, task, container);
    Ok(spec)
}

/// The GPUs that the task has for a container.
fn gpus(task: &acs::Task, container: &str) -> Vec<String> {
    let is_its = |it: &&serde_json::Value| {
        let containers = it.get("containers").and_then(serde_json::Value::as_array);
        containers.is_some_and(|all| all.iter().any(|name| name == container))
    };
    let id = |it: &serde_json::Value| Some(it.get("name")?.as_str()?.to_owned());
    task.associations.iter().filter(is_its).filter_map(id).collect()
}

fn parse_firelens(value: &serde_json::Value) -> Result<FirelensSpec, String> {
    let router = match value.get("type").and_then(serde_json::Value::as_str) {
        Some("fluentd") => Router::Fluentd,
        Some("fluentbit") => Router::Fluentbit,
        other => return Err(format!("unknown firelens type: {}", other.unwrap_or_default())),
    };
    let option = |key: &str| value.get("options")?.get(key)?.as_str();
    let config_file = match (option("config-file-type"), option("config-file-value")) {
        (None, _) => None,
        (Some("file"), Some(path)) if path.starts_with('/') => {
            Some(ConfigFile::OfImage(path.to_owned()))
        }
        (Some("file"), _) => return Err("config-file-value must be an absolute path".to_owned()),
        (Some("s3"), Some(arn)) if let Some(object) = ObjectName::parse(arn) => {
            Some(ConfigFile::Object(object))
        }
        (Some("s3"), _) => return Err("config-file-value must be the ARN of an object".to_owned()),
        (Some(other), _) => return Err(format!("unknown config-file-type: {other}")),
    };
    let adds_metadata = option("enable-ecs-log-metadata") != Some("false");
    Ok(FirelensSpec { router, adds_metadata, config_file })
}

/// Whoever logs to the task's router starts after it, and so stops before it.
fn follow_router(spec: &mut ContainerSpec, task: &acs::Task, names: &[&str]) {
    if spec.log.driver != LogDriver::Firelens {
        return;
    }
    let is_router = |container: &acs::task::Container| container.firelens_configuration.is_some();
    let router = task.containers.iter().position(is_router);
    match router.filter(|router| names.get(*router) != Some(&&*spec.name)) {
        Some(on) => spec.depends_on.push(Dependency { on, condition: Condition::Start }),
        None => refuse(
            spec,
            "ResourceInitializationError: the log driver awsfirelens needs another container of the task that has a \
             firelensConfiguration"
                .to_owned(),
        ),
    }
}

fn mode_of(task: &acs::Task) -> Result<NetworkMode, InvalidTask> {
    match task.network_mode.as_deref() {
        None | Some("" | "bridge" | "default") => Ok(NetworkMode::Bridge),
        Some("host") => Ok(NetworkMode::Host),
        Some("none") => Ok(NetworkMode::None),
        Some(other) => Err(unreadable(format!("unknown network mode: {other}"))),
    }
}

fn managed_agents(container: &acs::task::Container) -> Vec<String> {
    let name = |agent: &serde_json::Value| Some(agent.get("name")?.as_str()?.to_owned());
    container.managed_agents.iter().filter_map(name).collect()
}

fn parse_ports(mappings: &[acs::task::PortMapping]) -> Result<Vec<PortSpec>, InvalidTask> {
    let mut ports = Vec::new();
    for mapping in mappings {
        let protocol = match mapping.protocol.as_deref() {
            None | Some("" | "tcp") => Protocol::Tcp,
            Some("udp") => Protocol::Udp,
            Some(other) => return Err(unreadable(format!("unknown protocol: {other}"))),
        };
        let port = |value: u32| {
            u16::try_from(value).map_err(|_| unreadable(format!("port {value} is out of range")))
        };
        let host_port = port(mapping.host_port.unwrap_or(0))?;
        match (&mapping.container_port_range, mapping.container_port) {
            (Some(range), _) => {
                let (first, last) = range
                    .split_once('-')
                    .and_then(|(a, b)| Some((a.parse::<u16>().ok()?, b.parse::<u16>().ok()?)))
                    .filter(|(first, last)| 0 < *first && first <= last)
                    .ok_or_else(|| unreadable(format!("invalid container port range: {range}")))?;
                ports.extend((first..=last).map(|container_port| PortSpec {
                    container_port,
                    host_port: 0,
                    protocol,
                    range: Some(first),
                }));
            }
            (None, Some(value)) => {
                let container_port = port(value)?;
                ports.push(PortSpec { container_port, host_port, protocol, range: None });
            }
            (None, None) => return Err(unreadable("a port mapping has no container port")),
        }
        if ports.len() > PORTS_MAX {
            return Err(unreadable(format!("more than {PORTS_MAX} ports are mapped")));
        }
    }
    Ok(ports)
}

/// Turns names of containers into indexes. One that is not there can never be satisfied.
fn resolve_names(
    spec: &mut ContainerSpec,
    container: &acs::task::Container,
    index_of: impl Fn(&str) -> Option<usize>,
) {
    let mut missing = None;
    let mut find = |name: &str| {
        let found = index_of(name);
        if found.is_none() {
            missing = Some(name.to_owned());
        }
        found
    };
    for dependency in &container.depends_on {
        let condition = match dependency.condition.as_str() {
            "CREATE" => Condition::Create,
            "COMPLETE" => Condition::Complete,
            "SUCCESS" => Condition::Success,
            "HEALTHY" => Condition::Healthy,
            _ => Condition::Start,
        };
        if let Some(on) = find(&dependency.container_name) {
            spec.depends_on.push(Dependency { on, condition });
        }
    }
    for link in &container.links {
        let (name, alias) = link.split_once(':').unwrap_or((link, link));
        if let Some(to) = find(name) {
            spec.links.push(Link { to, alias: alias.to_owned() });
            spec.depends_on.push(Dependency { on: to, condition: Condition::Start });
        }
    }
    for from in &container.volumes_from {
        if let Some(on) = find(&from.source_container) {
            spec.volumes_from.push(VolumesFrom { container: on, read_only: from.read_only });
            spec.depends_on.push(Dependency { on, condition: Condition::Create });
        }
    }
    for mount in &container.mount_points {
        let volume = mount.source_volume.clone().unwrap_or_default();
        let path = mount.container_path.clone();
        spec.mounts.push(Mount { volume, path, read_only: mount.read_only });
    }
    if let Some(name) = missing {
        spec.refusal = Some(format!(
            "CannotStartContainerError: dependency graph: container \"{}\" depends on container \
             \"{name}\", which is not in the task",
            spec.name
        ));
    }
}

fn parse_secret(secret: &acs::task::Secret) -> SecretSpec {
    SecretSpec {
        name: secret.name.clone(),
        source: secret.value_from.clone(),
        provider: match secret.provider.as_deref() {
            Some("asm") => SecretProvider::SecretsManager,
            Some(_) | None => SecretProvider::ParameterStore,
        },
        target: match secret.target.as_deref() {
            Some("LOG_DRIVER") => SecretTarget::LogDriver,
            Some(_) | None => SecretTarget::Environment,
        },
    }
}

fn apply_overrides(spec: &mut ContainerSpec, text: Option<&str>) -> Result<(), InvalidTask> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Overrides {
        command: Option<Vec<String>>,
    }
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(()) };
    let overrides: Overrides = serde_json::from_str(text)
        .map_err(|why| unreadable(format!("overrides of container {}: {why}", spec.name)))?;
    if let Some(command) = overrides.command {
        spec.command = Some(command);
    }
    Ok(())
}

fn apply_registry(spec: &mut ContainerSpec, container: &acs::task::Container) {
    spec.registry = RegistryAuth::of(container.registry_authentication.as_ref());
}

fn apply_docker(spec: &mut ContainerSpec, container: &acs::task::Container, is_awsvpc: bool) {
    let docker = container.docker_config.clone().unwrap_or_default();
    let follows_health =
        container.health_check_type.as_deref().is_some_and(|t| t.eq_ignore_ascii_case("docker"));
    let config = docker.config.as_deref().unwrap_or("{}");
    if let Err(why) = apply_config(spec, config, follows_health) {
        refuse(spec, format!("DockerClientConfigError: {why}"));
    }
    let host_config = docker.host_config.as_deref().unwrap_or("{}");
    if let Err(why) = apply_host_config(spec, is_awsvpc, host_config) {
        refuse(spec, format!("HostConfigError: {why}"));
    }
    if spec.process.network_disabled && !is_awsvpc {
        spec.network = NetworkMode::None;
    }
}

fn refuse(spec: &mut ContainerSpec, reason: String) {
    spec.refusal.get_or_insert(reason);
}

fn refuse_container(spec: &mut ContainerSpec, task: &acs::Task, container: &acs::task::Container) {
    let name = &container.name;
    for file in &container.environment_files {
        match ObjectName::parse(&file.value).filter(|_| file.kind == "s3") {
            Some(object) => spec.environment_files.push(object),
            None => {
                let reason = format!(
                    "ResourceInitializationError: failed to download env files: container \"{name}\": unable to \
                     parse bucket and key from {}",
                    file.value
                );
                refuse(spec, reason);
            }
        }
    }
    if !container.credential_specs.is_empty() {
        refuse(spec, "HostConfigError: credentialSpecs are not available on this host".into());
    }
    for mount in spec.mounts.clone() {
        match task.volumes.iter().find(|volume| volume.name == mount.volume) {
            None => {
                let volume = &mount.volume;
                refuse(spec, format!("HostConfigError: Invalid volume referenced: {volume}"));
            }
            Some(_) if !mount.path.starts_with('/') => {
                let path = &mount.path;
                let reason = format!(
                    "CannotCreateContainerError: invalid mount config for type \"bind\": invalid \
                     mount path: '{path}' mount path must be absolute"
                );
                refuse(spec, reason);
            }
            Some(_) => {}
        }
    }
}
