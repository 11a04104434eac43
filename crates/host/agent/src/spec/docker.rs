//! Reads Docker's `Config` and `HostConfig` objects, laid over what the payload's own members say.
//!
//! Every key is either acted upon or refused: one that we do not know, with a value that means
//! something, is an error that names it.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{
    Bind, ContainerSpec, Device, HealthSpec, LogDriver, NetworkMode, PortSpec, Protocol, Ulimit,
};

const HEALTH_INTERVAL_MS: u64 = 30_000;
const HEALTH_TIMEOUT_MS: u64 = 30_000;
const HEALTH_RETRIES: u32 = 3;
/// What cannot be done of what a `Config` or `HostConfig` says, in Docker's words where it has some.
#[derive(Debug, thiserror::Error)]
pub(super) enum DockerError {
    #[error("unable to decode: not a JSON object")]
    NotAnObject,
    #[error("unable to decode: {why}")]
    NotJson { why: serde_json::Error },
    #[error("unable to decode {key}: {why}")]
    Member { key: String, why: serde_json::Error },
    #[error("{key}={value} is not supported")]
    Unsupported { key: String, value: Value },
    #[error("docker health check is nil while container health check type is DOCKER")]
    NoHealthCheck,
    #[error("container health check type is not DOCKER while docker health check is set")]
    UnusedHealthCheck,
    #[error("unable to decode Healthcheck: unknown test type {kind}")]
    HealthTest { kind: String },
    #[error("unable to decode Healthcheck: the test has no command")]
    NoHealthCommand,
    #[error("logging driver {name} is not supported")]
    LogDriver { name: String },
    #[error("NetworkMode {name} is not supported")]
    NetworkMode { name: String },
    #[error("bad format for add-host: \"{entry}\"")]
    ExtraHost { entry: String },
    #[error("Invalid {what}: {text}")]
    Port { what: &'static str, text: String },
    #[error("You should always set the Memory limit when using Memoryswap limit")]
    SwapWithoutMemory,
    #[error("Minimum memoryswap limit should be larger than memory limit")]
    SwapBelowMemory,
    #[error("invalid value: {value}, valid memory swappiness range is 0-100")]
    Swappiness { value: i64 },
    #[error("ulimit soft limit must be less than or equal to hard limit: {name} {soft} > {hard}")]
    Ulimit { name: String, soft: i64, hard: i64 },
    #[error("SecurityOpt \"{option}\" is not supported on this host")]
    SecurityOption { option: String },
    #[error("invalid volume specification: '{text}'")]
    Bind { text: String },
}

/// Docker refuses less.
const MEMORY_BYTES_MIN: i64 = 4 << 20;

/// A decoded object whose members are taken out one by one.
struct Members {
    object: Map<String, Value>,
}

impl Members {
    fn read(text: &str) -> Result<Self, DockerError> {
        match serde_json::from_str(text) {
            Ok(Value::Object(object)) => Ok(Self { object }),
            Ok(Value::Null) => Ok(Self { object: Map::new() }),
            Ok(_) => Err(DockerError::NotAnObject),
            Err(why) => Err(DockerError::NotJson { why }),
        }
    }

    /// The member if it is there and not null.
    fn take<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>, DockerError> {
        match self.object.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value)
                .map(Some)
                .map_err(|why| DockerError::Member { key: key.to_owned(), why }),
        }
    }

    fn drop_all(&mut self, keys: &[&str]) {
        for key in keys {
            self.object.remove(*key);
        }
    }

    /// Whatever is left must say nothing.
    fn finish(self) -> Result<(), DockerError> {
        let says_nothing = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Bool(true) => false,
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(members) => members.is_empty(),
        };
        match self.object.into_iter().find(|(_, value)| !says_nothing(value)) {
            Some((key, value)) => Err(DockerError::Unsupported { key, value }),
            None => Ok(()),
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Healthcheck {
    test: Vec<String>,
    interval: i64,
    timeout: i64,
    start_period: i64,
    #[allow(dead_code, reason = "we probe a starting container as often as is useful")]
    start_interval: i64,
    retries: i64,
}

/// Lays `text`, a `Config`, over `spec`. The error's text lacks its prefix.
pub(super) fn apply_config(
    spec: &mut ContainerSpec,
    text: &str,
    follows_health: bool,
) -> Result<(), DockerError> {
    let mut members = Members::read(text)?;
    let process = &mut spec.process;
    process.user = members.take::<String>("User")?.filter(|user| !user.is_empty());
    process.working_dir = members.take::<String>("WorkingDir")?.filter(|dir| !dir.is_empty());
    process.hostname = members.take::<String>("Hostname")?.filter(|name| !name.is_empty());
    process.domainname = members.take::<String>("Domainname")?.filter(|name| !name.is_empty());
    process.labels = members.take("Labels")?.unwrap_or_default();
    process.tty = members.take("Tty")?.unwrap_or_default();
    process.open_stdin = members.take("OpenStdin")?.unwrap_or_default();
    process.stop_signal = members.take::<String>("StopSignal")?.filter(|name| !name.is_empty());
    process.network_disabled = members.take("NetworkDisabled")?.unwrap_or_default();
    if let Some(seconds) = members.take::<i64>("StopTimeout")? {
        spec.stop_timeout_ms = Some(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000));
    }
    if let Some(image) = members.take::<String>("Image")?.filter(|image| !image.is_empty()) {
        spec.image = image;
    }
    if let Some(command) = members.take("Cmd")? {
        spec.command = Some(command);
    }
    if let Some(entrypoint) = members.take("Entrypoint")? {
        spec.entrypoint = Some(entrypoint);
    }
    if let Some(pairs) = members.take::<Vec<String>>("Env")? {
        let split = |pair: &String| match pair.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (pair.clone(), String::new()),
        };
        spec.environment = pairs.iter().map(split).collect();
    }
    let health: Option<Healthcheck> = members.take("Healthcheck")?;
    // Ports are opened by the mappings; the streams are always attached to the log.
    members.drop_all(&["ExposedPorts", "AttachStdin", "AttachStdout", "AttachStderr", "StdinOnce"]);
    members.finish()?;
    spec.health = match (health, follows_health) {
        (None, false) => None,
        (None, true) => {
            return Err(DockerError::NoHealthCheck);
        }
        (Some(_), false) => {
            return Err(DockerError::UnusedHealthCheck);
        }
        (Some(check), true) => health_spec(check)?,
    };
    Ok(())
}

fn health_spec(check: Healthcheck) -> Result<Option<HealthSpec>, DockerError> {
    let ms = |nanoseconds: i64, default: u64| match u64::try_from(nanoseconds) {
        Ok(0) | Err(_) => default,
        Ok(value) => (value / 1_000_000).max(1),
    };
    let mut words = check.test.into_iter();
    let by_shell = match words.next().as_deref() {
        None | Some("NONE") => return Ok(None),
        Some("CMD") => false,
        Some("CMD-SHELL") => true,
        Some(other) => {
            return Err(DockerError::HealthTest { kind: other.to_owned() });
        }
    };
    let argv: Vec<String> = words.collect();
    if argv.is_empty() {
        return Err(DockerError::NoHealthCommand);
    }
    Ok(Some(HealthSpec {
        argv,
        by_shell,
        interval_ms: ms(check.interval, HEALTH_INTERVAL_MS),
        timeout_ms: ms(check.timeout, HEALTH_TIMEOUT_MS),
        retries: u32::try_from(check.retries).ok().filter(|n| *n > 0).unwrap_or(HEALTH_RETRIES),
        start_period_ms: ms(check.start_period, 0),
    }))
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UlimitObject {
    name: String,
    soft: i64,
    hard: i64,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DeviceObject {
    path_on_host: String,
    #[serde(default)]
    path_in_container: String,
    #[serde(default)]
    cgroup_permissions: String,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LogConfig {
    #[serde(rename = "Type", default)]
    kind: String,
    #[serde(default)]
    config: Option<BTreeMap<String, String>>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PortBinding {
    #[serde(default)]
    host_port: String,
}

/// Lays `text`, a `HostConfig`, over `spec`. The error's text lacks its prefix.
pub(super) fn apply_host_config(
    spec: &mut ContainerSpec,
    is_awsvpc: bool,
    text: &str,
) -> Result<(), DockerError> {
    let mut members = Members::read(text)?;
    apply_network(spec, is_awsvpc, &mut members)?;
    apply_limits(spec, &mut members)?;
    apply_security(spec, &mut members)?;
    apply_files(spec, &mut members)?;
    if let Some(log) = members.take::<LogConfig>("LogConfig")? {
        spec.log.driver = match log.kind.as_str() {
            "" => LogDriver::JsonFile,
            word => LogDriver::from_word(word)
                .ok_or_else(|| DockerError::LogDriver { name: word.to_owned() })?,
        };
        spec.log.options = log.config.unwrap_or_default();
    }
    // Said by the payload's own members, which Docker would be given as these.
    members.drop_all(&["Links", "VolumesFrom"]);
    members.finish()
}

fn apply_network(
    spec: &mut ContainerSpec,
    is_awsvpc: bool,
    members: &mut Members,
) -> Result<(), DockerError> {
    if let Some(mode) = members.take::<String>("NetworkMode")?
        && !is_awsvpc
    {
        spec.network = match mode.as_str() {
            "" | "default" | "bridge" => NetworkMode::Bridge,
            "host" => NetworkMode::Host,
            "none" => NetworkMode::None,
            other => return Err(DockerError::NetworkMode { name: other.to_owned() }),
        };
    }
    let host = &mut spec.host;
    host.dns = members.take("Dns")?.unwrap_or_default();
    host.dns_search = members.take("DnsSearch")?.unwrap_or_default();
    host.dns_options = members.take("DnsOptions")?.unwrap_or_default();
    for entry in members.take::<Vec<String>>("ExtraHosts")?.unwrap_or_default() {
        let (name, address) = entry
            .split_once([':', '='])
            .ok_or_else(|| DockerError::ExtraHost { entry: entry.clone() })?;
        host.extra_hosts.push((name.to_owned(), address.to_owned()));
    }
    let bindings: Option<BTreeMap<String, Option<Vec<PortBinding>>>> =
        members.take("PortBindings")?;
    if let Some(bindings) = bindings {
        spec.ports = port_bindings(bindings)?;
    }
    Ok(())
}

fn port_bindings(
    bindings: BTreeMap<String, Option<Vec<PortBinding>>>,
) -> Result<Vec<PortSpec>, DockerError> {
    let mut ports = Vec::new();
    for (key, hosts) in bindings {
        let (port, protocol) = key.split_once('/').unwrap_or((&key, "tcp"));
        let invalid = |what, text: &str| DockerError::Port { what, text: text.to_owned() };
        let container_port = port.parse().map_err(|_| invalid("containerPort", port))?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            other => return Err(invalid("proto", other)),
        };
        for host in hosts.unwrap_or_default() {
            let host_port = match host.host_port.as_str() {
                "" => 0,
                text => text.parse().map_err(|_| invalid("hostPort", text))?,
            };
            ports.push(PortSpec { container_port, host_port, protocol, range: None });
        }
    }
    Ok(ports)
}

fn apply_limits(spec: &mut ContainerSpec, members: &mut Members) -> Result<(), DockerError> {
    let bytes = |value: Option<i64>| value.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0);
    let host = &mut spec.host;
    if let Some(shares) = members.take::<i64>("CpuShares")? {
        host.cpu_shares = u64::try_from(shares).unwrap_or(0).clamp(2, 262_144);
    }
    if let Some(memory) = members.take::<i64>("Memory")? {
        host.memory_bytes = bytes((memory > 0).then_some(memory.max(MEMORY_BYTES_MIN)));
    }
    if let Some(reservation) = members.take::<i64>("MemoryReservation")? {
        host.memory_reservation_bytes = bytes(Some(reservation));
    }
    if let Some(swap) = members.take::<i64>("MemorySwap")?.filter(|swap| *swap != 0) {
        if swap < -1 || (swap > 0 && host.memory_bytes.is_none()) {
            return Err(DockerError::SwapWithoutMemory);
        }
        if swap > 0 && bytes(Some(swap)) < host.memory_bytes {
            return Err(DockerError::SwapBelowMemory);
        }
        host.memory_swap_bytes = Some(swap);
    }
    if let Some(swappiness) = members.take::<i64>("MemorySwappiness")?.filter(|value| *value != -1)
    {
        let valid = u8::try_from(swappiness).ok().filter(|value| *value <= 100);
        host.swappiness = Some(valid.ok_or(DockerError::Swappiness { value: swappiness })?);
    }
    let period = members.take::<i64>("CpuPeriod")?.filter(|value| *value > 0).unwrap_or(100_000);
    if let Some(quota) = members.take::<i64>("CpuQuota")?.filter(|value| *value > 0) {
        host.cpu_millis = u64::try_from(quota.saturating_mul(1000) / period).ok();
    }
    if let Some(nano) = members.take::<i64>("NanoCpus")?.filter(|value| *value > 0) {
        host.cpu_millis = u64::try_from(nano / 1_000_000).ok();
    }
    host.pids_max = bytes(members.take("PidsLimit")?);
    host.shm_bytes = bytes(members.take("ShmSize")?);
    for limit in members.take::<Vec<UlimitObject>>("Ulimits")?.unwrap_or_default() {
        let UlimitObject { name, soft, hard } = limit;
        if hard != -1 && (soft == -1 || soft > hard) {
            return Err(DockerError::Ulimit { name, soft, hard });
        }
        host.ulimits.push(Ulimit { name, soft, hard });
    }
    Ok(())
}

fn apply_security(spec: &mut ContainerSpec, members: &mut Members) -> Result<(), DockerError> {
    let host = &mut spec.host;
    host.privileged = members.take("Privileged")?.unwrap_or_default();
    host.readonly_root = members.take("ReadonlyRootfs")?.unwrap_or_default();
    host.cap_add = members.take("CapAdd")?.unwrap_or_default();
    host.cap_drop = members.take("CapDrop")?.unwrap_or_default();
    host.sysctls = members.take("Sysctls")?.unwrap_or_default();
    host.init = members.take("Init")?.unwrap_or_default();
    for option in members.take::<Vec<String>>("SecurityOpt")?.unwrap_or_default() {
        let spelled = option.replace(':', "=");
        match spelled.as_str() {
            "no-new-privileges" | "no-new-privileges=true" => host.no_new_privileges = true,
            "no-new-privileges=false" => host.no_new_privileges = false,
            "seccomp=unconfined" => host.seccomp_unconfined = true,
            "seccomp=default" | "seccomp=builtin" => host.seccomp_unconfined = false,
            "apparmor=unconfined" | "label=disable" => host.unconfined_by.push(spelled),
            _ => return Err(DockerError::SecurityOption { option }),
        }
    }
    Ok(())
}

fn apply_files(spec: &mut ContainerSpec, members: &mut Members) -> Result<(), DockerError> {
    let host = &mut spec.host;
    host.tmpfs = members.take("Tmpfs")?.unwrap_or_default();
    for device in members.take::<Vec<DeviceObject>>("Devices")?.unwrap_or_default() {
        let DeviceObject { path_on_host, path_in_container, cgroup_permissions } = device;
        let or = |text: String, default: &str| {
            if text.is_empty() { default.to_owned() } else { text }
        };
        host.devices.push(Device {
            container: or(path_in_container, &path_on_host),
            permissions: or(cgroup_permissions, "rwm"),
            host: path_on_host,
        });
    }
    for bind in members.take::<Vec<String>>("Binds")?.unwrap_or_default() {
        let mut parts = bind.split(':');
        let (Some(source), Some(path)) = (parts.next(), parts.next()) else {
            return Err(DockerError::Bind { text: bind });
        };
        if !source.starts_with('/') || !path.starts_with('/') {
            return Err(DockerError::Bind { text: bind });
        }
        let read_only = parts.any(|options| options.split(',').any(|word| word == "ro"));
        host.binds.push(Bind { source: source.into(), path: path.into(), read_only });
    }
    Ok(())
}
