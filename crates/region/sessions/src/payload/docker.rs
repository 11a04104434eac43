//! `dockerConfig`: what Docker calls `Config` and `HostConfig`, each a string of JSON.
//!
//! The agent lays these over what it computes itself, and a key that is present wins. So only what a
//! definition says is written, in Docker's spelling and units: bytes, and nanoseconds.

use acs::task::DockerConfig;
use ecs_api as api;
use model::task::Task;
use serde_json::{Map, Value, json};

use super::{Environment, is_fargate, network_mode};

/// Open files of a Fargate container, unless its definition says.
const FARGATE_OPEN_FILES: i32 = 65_535;
const NANOSECONDS: i64 = 1_000_000_000;
const MIB: i64 = 1 << 20;

pub(super) fn of_container(
    task: &Task,
    definition: &api::TaskDefinition,
    container: &api::ContainerDefinition,
    environment: &Environment<'_>,
) -> DockerConfig {
    DockerConfig {
        version: Some(version(container).to_owned()),
        config: Some(Value::Object(config(task, container)).to_string()),
        host_config: Some(
            Value::Object(host_config(task, definition, container, environment)).to_string(),
        ),
    }
}

/// The oldest Docker API that knows all that is asked for; the agent offers no newer ones lightly.
fn version(container: &api::ContainerDefinition) -> &'static str {
    let linux = container.linux_parameters.as_ref();
    if container.health_check.as_ref().is_some_and(|check| check.start_period.is_some()) {
        "1.29"
    } else if linux.is_some_and(|linux| linux.init_process_enabled == Some(true)) {
        "1.25"
    } else if container.health_check.is_some() || is_some(container.system_controls.as_deref()) {
        "1.24"
    } else if linux.is_some_and(|linux| linux.shared_memory_size.is_some() || linux.tmpfs.is_some())
    {
        "1.22"
    } else {
        "1.18"
    }
}

fn is_some<T>(list: Option<&[T]>) -> bool {
    list.is_some_and(|list| !list.is_empty())
}

/// Collects what is there.
#[derive(Default)]
struct Keys(Map<String, Value>);

impl Keys {
    fn put(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.0.insert(key.to_owned(), value.into());
        }
    }

    fn put_list<T>(&mut self, key: &str, list: Option<&[T]>, item: impl Fn(&T) -> Value) {
        if let Some(list) = list.filter(|list| !list.is_empty()) {
            self.0.insert(key.to_owned(), list.iter().map(item).collect());
        }
    }
}

fn config(task: &Task, container: &api::ContainerDefinition) -> Map<String, Value> {
    let mut keys = Keys::default();
    keys.put("User", container.user.clone());
    keys.put("WorkingDir", container.working_directory.clone());
    keys.put("Hostname", container.hostname.clone());
    keys.put("Tty", container.pseudo_terminal.filter(|yes| *yes));
    keys.put("OpenStdin", container.interactive.filter(|yes| *yes));
    keys.put("NetworkDisabled", container.disable_networking.filter(|yes| *yes));
    keys.put("Healthcheck", container.health_check.as_ref().map(health_check));
    let name = container.name.clone().unwrap_or_default();
    let own = [
        ("cluster", task.cluster.to_string()),
        ("container-name", name),
        ("task-arn", task.arn().to_string()),
        ("task-definition-family", task.definition.family.to_string()),
        ("task-definition-version", task.definition.revision.to_string()),
    ];
    let mut labels: Map<String, Value> = own
        .into_iter()
        .map(|(key, value)| (format!("com.amazonaws.ecs.{key}"), value.into()))
        .collect();
    let defined = container.docker_labels.iter().flatten();
    labels.extend(defined.map(|(key, value)| (key.clone(), value.clone().into())));
    keys.put("Labels", Some(labels));
    keys.0
}

fn health_check(check: &api::HealthCheck) -> Value {
    let mut keys = Keys::default();
    let nanoseconds = |seconds: Option<i32>| seconds.map(|s| i64::from(s) * NANOSECONDS);
    // Without a word that says how: one string with blanks is a line for a shell, others are words.
    let test = check.command.clone().unwrap_or_default();
    let is_marked =
        test.first().is_some_and(|w| matches!(w.as_str(), "NONE" | "CMD" | "CMD-SHELL"));
    let test = match test.len() {
        1 if !is_marked && test.iter().any(|line| line.contains(char::is_whitespace)) => {
            vec!["CMD-SHELL".to_owned(), test.concat()]
        }
        _ if !is_marked => std::iter::once("CMD".to_owned()).chain(test).collect(),
        _ => test,
    };
    keys.put("Test", Some(test));
    keys.put("Interval", nanoseconds(check.interval.or(Some(30))));
    keys.put("Timeout", nanoseconds(check.timeout.or(Some(5))));
    keys.put("Retries", check.retries.or(Some(3)));
    keys.put("StartPeriod", nanoseconds(check.start_period));
    Value::Object(keys.0)
}

fn host_config(
    task: &Task,
    definition: &api::TaskDefinition,
    container: &api::ContainerDefinition,
    environment: &Environment<'_>,
) -> Map<String, Value> {
    let mut keys = Keys::default();
    keys.put("NetworkMode", Some(network_mode(definition)));
    keys.put("MemoryReservation", reservation(task, container));
    keys.put("Privileged", container.privileged.filter(|yes| *yes));
    keys.put("ReadonlyRootfs", container.readonly_root_filesystem.filter(|yes| *yes));
    let texts = |text: &String| Value::from(text.clone());
    keys.put_list("Dns", container.dns_servers.as_deref(), texts);
    keys.put_list("DnsSearch", container.dns_search_domains.as_deref(), texts);
    keys.put_list("SecurityOpt", container.docker_security_options.as_deref(), texts);
    keys.put_list("ExtraHosts", container.extra_hosts.as_deref(), |entry| {
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        format!("{}:{}", part(&entry.hostname), part(&entry.ip_address)).into()
    });
    let controls: Map<String, Value> = container
        .system_controls
        .iter()
        .flatten()
        .filter_map(|each| Some((each.namespace.clone()?, each.value.clone()?.into())))
        .collect();
    keys.put("Sysctls", Some(controls).filter(|controls| !controls.is_empty()));
    let ulimits = ulimits(task, container);
    keys.put("Ulimits", Some(ulimits).filter(|ulimits| !ulimits.is_empty()));
    keys.put("LogConfig", log_config(task, container, environment));
    if let Some(linux) = &container.linux_parameters {
        linux_parameters(&mut keys, task, container, linux);
    }
    keys.0
}

fn reservation(task: &Task, container: &api::ContainerDefinition) -> Option<i64> {
    let changed = task.overrides.of(container.name.as_deref().unwrap_or_default());
    let changed = changed.and_then(|changed| changed.memory_reservation).map(i64::from);
    changed.or(container.memory_reservation.map(i64::from)).map(|mib| mib * MIB)
}

fn ulimits(task: &Task, container: &api::ContainerDefinition) -> Vec<Value> {
    let limit =
        |name: &str, soft: i32, hard: i32| json!({"Name": name, "Soft": soft, "Hard": hard});
    let defined = container.ulimits.as_deref().unwrap_or_default();
    let mut all: Vec<Value> = defined
        .iter()
        .filter_map(|each| {
            Some(limit(each.name.as_ref()?.as_str(), each.soft_limit?, each.hard_limit?))
        })
        .collect();
    let has_files = defined.iter().any(|each| each.name == Some(api::UlimitName::Nofile));
    if is_fargate(task) && !has_files {
        all.push(limit("nofile", FARGATE_OPEN_FILES, FARGATE_OPEN_FILES));
    }
    all
}

fn linux_parameters(
    keys: &mut Keys,
    task: &Task,
    container: &api::ContainerDefinition,
    linux: &api::LinuxParameters,
) {
    let texts = |text: &String| Value::from(text.clone());
    if let Some(capabilities) = &linux.capabilities {
        keys.put_list("CapAdd", capabilities.add.as_deref(), texts);
        keys.put_list("CapDrop", capabilities.drop.as_deref(), texts);
    }
    keys.put_list("Devices", linux.devices.as_deref(), device);
    keys.put("Init", linux.init_process_enabled.filter(|yes| *yes));
    keys.put("ShmSize", linux.shared_memory_size.map(|mib| i64::from(mib) * MIB));
    let tmpfs: Map<String, Value> = linux.tmpfs.iter().flatten().filter_map(tmpfs).collect();
    keys.put("Tmpfs", Some(tmpfs).filter(|tmpfs| !tmpfs.is_empty()));
    if let Some(swap) = linux.max_swap {
        let changed = task.overrides.of(container.name.as_deref().unwrap_or_default());
        let memory = changed
            .and_then(|changed| changed.memory)
            .map(i64::from)
            .or(container.memory.map(i64::from));
        // Docker's figure is memory and swap together.
        keys.put("MemorySwap", memory.map(|memory| (memory + i64::from(swap)) * MIB));
        keys.put("MemorySwappiness", linux.swappiness);
    }
}

fn device(device: &api::Device) -> Value {
    let host = device.host_path.clone().unwrap_or_default();
    let letter = |permission: &api::DeviceCgroupPermission| match permission {
        api::DeviceCgroupPermission::Read => "r",
        api::DeviceCgroupPermission::Write => "w",
        api::DeviceCgroupPermission::Mknod => "m",
        api::DeviceCgroupPermission::Unknown(_) | _ => "",
    };
    let permissions: String = match device.permissions.as_deref() {
        Some(permissions) if !permissions.is_empty() => permissions.iter().map(letter).collect(),
        Some(_) | None => "rwm".to_owned(),
    };
    json!({
        "PathInContainer": device.container_path.clone().unwrap_or_else(|| host.clone()),
        "PathOnHost": host,
        "CgroupPermissions": permissions,
    })
}

fn tmpfs(mount: &api::Tmpfs) -> Option<(String, Value)> {
    let size = mount.size.map(|mib| format!("size={mib}m"));
    let options = size.into_iter().chain(mount.mount_options.iter().flatten().cloned());
    Some((mount.container_path.clone()?, options.collect::<Vec<_>>().join(",").into()))
}

/// The driver and its options. Docker's awslogs knows streams, not prefixes, so they are made here.
fn log_config(
    task: &Task,
    container: &api::ContainerDefinition,
    environment: &Environment<'_>,
) -> Option<Value> {
    let configuration = container.log_configuration.as_ref()?;
    let driver = configuration.log_driver.as_ref()?.as_str();
    let mut options = configuration.options.clone().unwrap_or_default();
    if driver == "awslogs" {
        if let Some(prefix) = options.remove("awslogs-stream-prefix") {
            let name = container.name.as_deref().unwrap_or_default();
            options.insert("awslogs-stream".to_owned(), format!("{prefix}/{name}/{}", task.id));
        }
        let region = || task.scope.region.to_string();
        options.entry("awslogs-region".to_owned()).or_insert_with(region);
        if !environment.agent_is_ours {
            let endpoint = || environment.endpoint.to_owned();
            options.entry("awslogs-endpoint".to_owned()).or_insert_with(endpoint);
        }
    }
    Some(json!({ "Type": driver, "Config": options }))
}
