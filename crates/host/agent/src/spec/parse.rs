//! From a payload's task to a [`TaskSpec`], or to the sentence that says why not.

use std::collections::BTreeMap;

use longshore_types::TaskArn;

use super::container::parse_container;
use super::{About, EniSpec, Sharing, TaskSpec, VolumeSpec};
use crate::limits::EPHEMERAL_STORAGE_GIB;

/// Why a task cannot even be looked at; its text goes into the task's `reason`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTask {
    #[error("UnrecogniedTaskError: Error loading task - {0}")]
    Unreadable(String),
    #[error("TaskDependencyError: {0}")]
    Dependency(String),
    #[error("ResourceInitializationError: {0}")]
    Unavailable(String),
}

pub(super) fn unreadable(why: impl std::fmt::Display) -> InvalidTask {
    InvalidTask::Unreadable(why.to_string())
}

pub fn parse_task_arn(text: &str) -> Result<TaskArn, InvalidTask> {
    text.parse().map_err(|why| unreadable(format!("the task's ARN must be {why}: {text}")))
}

/// Checks a task and resolves its names.
pub fn parse(task: &acs::Task) -> Result<TaskSpec, InvalidTask> {
    let arn = parse_task_arn(&task.arn)?;
    refuse_unavailable(task)?;
    let is_awsvpc = task.network_mode.as_deref() == Some("awsvpc")
        || (task.network_mode.is_none() && !task.elastic_network_interfaces.is_empty());
    let names: Vec<&str> = task.containers.iter().map(|container| &*container.name).collect();
    if names.is_empty() {
        return Err(unreadable("the task has no container"));
    }
    for (index, name) in names.iter().enumerate() {
        if name.is_empty() || names[..index].contains(name) {
            return Err(unreadable(format!("container name \"{name}\" is empty or used twice")));
        }
    }
    let mut containers = Vec::with_capacity(names.len());
    for container in &task.containers {
        containers.push(parse_container(task, container, &names, is_awsvpc)?);
    }
    let is_fargate = task.launch_type.as_deref().is_some_and(|kind| kind.starts_with("FARGATE"));
    let storage_gib = task.ephemeral_storage_gib.map(u64::from).filter(|gib| 0 < *gib);
    let storage_gib = storage_gib.or(is_fargate.then_some(EPHEMERAL_STORAGE_GIB));
    let spec = TaskSpec {
        arn,
        family: task.family.clone().unwrap_or_default(),
        version: task.version.clone().unwrap_or_default(),
        volumes: parse_volumes(&task.volumes)?,
        cpu_millis: task.cpu.filter(|cpu| *cpu > 0.0).map(to_millis),
        memory_bytes: task.memory.filter(|mib| *mib > 0).and_then(mib_to_bytes),
        storage_bytes: storage_gib.map(|gib| gib << 30),
        eni: if is_awsvpc { Some(parse_eni(task)?) } else { None },
        pid: parse_sharing("pidMode", task.pid_mode.as_deref())?,
        ipc: parse_sharing("ipcMode", task.ipc_mode.as_deref())?,
        has_execution_role: task.execution_role_credentials.is_some()
            || task.execution_credentials_id.is_some(),
        credentials_id: credentials_id(task),
        is_fargate,
        lease_epoch: task.is_fenced.then(|| task.lease_epoch.unwrap_or(0)),
        about: about(task),
        containers,
    };
    refuse_cycles(&spec)?;
    Ok(spec)
}

fn about(task: &acs::Task) -> About {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    About {
        cluster_arn: task.task_cluster_arn.clone().unwrap_or_default(),
        launch_type: given(&task.launch_type).unwrap_or_else(|| "EC2".to_owned()),
        zone: given(&task.zone),
        vpc: given(&task.vpc_id),
        group: given(&task.group),
        service: given(&task.service_name),
    }
}

/// It goes into a path and comes back in one.
fn credentials_id(task: &acs::Task) -> Option<String> {
    let given = task.role_credentials.as_ref().map(|role| &role.credentials_id);
    let id = given.or(task.credentials_id.as_ref())?;
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    (!id.is_empty() && id.bytes().all(is_plain)).then(|| id.clone())
}

/// What belongs to services that are not there: said at once, for the whole task.
fn refuse_unavailable(task: &acs::Task) -> Result<(), InvalidTask> {
    let unavailable = |what: String| Err(InvalidTask::Unavailable(what));
    let is_gpu = |it: &&serde_json::Value| it.get("type").is_some_and(|kind| kind == "gpu");
    if let Some(association) = task.associations.iter().find(|it| !is_gpu(it)) {
        let kind = association.get("type").and_then(|kind| kind.as_str()).unwrap_or("unknown");
        return unavailable(format!("devices of type {kind} are not available on this host"));
    }
    if task.proxy_configuration.is_some() {
        return unavailable("proxyConfiguration (App Mesh) is not available".into());
    }
    let used = ["serviceconnectdetail", "amazonebs", "s3files"];
    for attachment in &task.attachments {
        let kind = attachment.attachment_type.as_deref().unwrap_or_default();
        if used.contains(&kind) {
            return unavailable(format!("attachments of type {kind} are not available"));
        }
    }
    Ok(())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to what a host can have"
)]
fn to_millis(cpu: f64) -> u64 {
    (cpu.clamp(0.0, 100_000.0) * 1000.0).round() as u64
}

pub(super) fn mib_to_bytes(mib: i64) -> Option<u64> {
    u64::try_from(mib).ok()?.checked_mul(1 << 20)
}

fn parse_sharing(what: &str, text: Option<&str>) -> Result<Sharing, InvalidTask> {
    match text {
        None | Some("") => Ok(Sharing::Private),
        Some("host") => Ok(Sharing::Host),
        Some("task") => Ok(Sharing::Task),
        Some("none") if what == "ipcMode" => Ok(Sharing::None),
        Some(other) => Err(unreadable(format!("{what} must be host or task, not \"{other}\""))),
    }
}

fn parse_eni(task: &acs::Task) -> Result<EniSpec, InvalidTask> {
    let eni = task
        .elastic_network_interfaces
        .first()
        .ok_or_else(|| unreadable("an awsvpc task needs an elastic network interface"))?;
    let address = eni
        .ipv4_addresses
        .iter()
        .find(|address| address.primary)
        .or(eni.ipv4_addresses.first())
        .ok_or_else(|| unreadable("eni message validation: no ipv4 addresses"))?;
    let gateway = eni
        .subnet_gateway_ipv4_address
        .as_deref()
        .ok_or_else(|| unreadable("eni message validation: no subnet gateway ipv4 address"))?;
    let (gateway, prefix) = gateway
        .split_once('/')
        .and_then(|(host, prefix)| Some((host.parse().ok()?, prefix.parse().ok()?)))
        .ok_or_else(|| unreadable(format!("invalid subnet gateway address: {gateway}")))?;
    if eni.mac_address.is_empty() {
        return Err(unreadable("eni message validation: empty mac address"));
    }
    let groups = eni.security_groups.iter().map(|group| {
        group.parse().map_err(|why| unreadable(format!("a security group must be {why}")))
    });
    Ok(EniSpec {
        id: eni.ec2_id.clone(),
        address: address
            .private_address
            .parse()
            .map_err(|_| unreadable(format!("invalid address: {}", address.private_address)))?,
        prefix,
        gateway,
        mac: eni.mac_address.clone(),
        security_groups: groups.collect::<Result<_, _>>()?,
        assign_public_ip: eni.assign_public_ip.unwrap_or(true),
        is_judged: eni.is_judged,
        dns_servers: eni.domain_name_servers.clone(),
        dns_search: eni.domain_name.clone(),
        private_dns_name: eni.private_dns_name.clone(),
    })
}

fn parse_volumes(
    volumes: &[acs::task::Volume],
) -> Result<BTreeMap<String, VolumeSpec>, InvalidTask> {
    let mut parsed = BTreeMap::new();
    for volume in volumes {
        let kind = volume.kind.as_deref().unwrap_or("host");
        let spec = match kind {
            "host" => {
                let host = volume.host.as_ref().ok_or_else(|| {
                    unreadable(format!("volume {} of type host has no host", volume.name))
                })?;
                match host.source_path.as_deref() {
                    None | Some("") => VolumeSpec::Task,
                    Some(path) if path.starts_with('/') => VolumeSpec::Host { path: path.into() },
                    Some(path) => {
                        return Err(unreadable(format!("volume path is not absolute: {path}")));
                    }
                }
            }
            "docker" => parse_docker_volume(volume)?,
            "efs" | "fsxWindowsFileServer" | "attachment" | "s3files" => {
                VolumeSpec::Unsupported { why: format!("volumes of type {kind} are not available") }
            }
            other => return Err(unreadable(format!("unrecognized volume type: {other}"))),
        };
        parsed.insert(volume.name.clone(), spec);
    }
    Ok(parsed)
}

fn parse_docker_volume(volume: &acs::task::Volume) -> Result<VolumeSpec, InvalidTask> {
    let name = &volume.name;
    let docker = volume
        .docker_volume_configuration
        .as_ref()
        .ok_or_else(|| unreadable(format!("volume {name} has no dockerVolumeConfiguration")))?;
    let driver = docker.driver.as_deref().unwrap_or("local");
    if !matches!(driver, "local" | "") {
        return Ok(VolumeSpec::Unsupported {
            why: format!("volume driver {driver} is not available"),
        });
    }
    if let Some(option) = docker.driver_opts.keys().next() {
        return Ok(VolumeSpec::Unsupported {
            why: format!("option {option} of the local volume driver is not available"),
        });
    }
    match docker.scope.as_deref() {
        None | Some("task") => Ok(VolumeSpec::Task),
        Some("shared") => {
            Ok(VolumeSpec::Shared { name: name.clone(), autoprovision: docker.autoprovision })
        }
        Some(other) => Err(unreadable(format!("volume {name}: unknown scope \"{other}\""))),
    }
}

fn refuse_cycles(spec: &TaskSpec) -> Result<(), InvalidTask> {
    // Containers whose dependencies are all settled are settled in turn; a cycle never is.
    let mut settled = vec![false; spec.containers.len()];
    loop {
        let ready: Vec<usize> = (0..spec.containers.len())
            .filter(|&index| {
                !settled[index] && spec.containers[index].depends_on.iter().all(|d| settled[d.on])
            })
            .collect();
        if ready.is_empty() {
            break;
        }
        for index in ready {
            settled[index] = true;
        }
    }
    match settled.iter().position(|is_settled| !is_settled) {
        None => Ok(()),
        Some(index) => Err(InvalidTask::Dependency(format!(
            "The task's containers depend on each other in a circle that container \"{}\" is part of",
            spec.containers[index].name
        ))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{ContainerSpec, LogDriver, NetworkMode};
    use super::*;

    const ARN: &str =
        "arn:aws:ecs:us-east-1:000000000000:task/demo/00112233445566778899aabbccddeeff";

    fn task(container: serde_json::Value) -> acs::Task {
        let mut container = container;
        let defaults = json!({"name": "web", "image": "hello:1", "essential": true});
        for (key, value) in defaults.as_object().unwrap() {
            container.as_object_mut().unwrap().entry(key).or_insert(value.clone());
        }
        serde_json::from_value(json!({"arn": ARN, "containers": [container]})).unwrap()
    }

    fn only(container: serde_json::Value) -> ContainerSpec {
        parse(&task(container)).unwrap().containers.remove(0)
    }

    #[test]
    fn docker_strings_are_laid_over_the_payloads_own_members() {
        let spec = only(json!({
            "memory": 64, "cpu": 0, "healthCheckType": "docker",
            "dockerConfig": {
                "config": json!({"User": "nobody", "Healthcheck": {
                    "Test": ["CMD", "true"], "Interval": 5_000_000_000_i64, "Retries": 2}}).to_string(),
                "hostConfig": json!({"NetworkMode": "host", "CapAdd": ["NET_ADMIN"],
                    "LogConfig": {"Type": "awslogs", "Config": {"awslogs-group": "g"}},
                    "Tmpfs": {"/run": "size=1m"}, "ShmSize": 1 << 20}).to_string(),
            }
        }));
        assert_eq!(spec.refusal, None);
        assert_eq!(spec.host.memory_bytes, Some(64 << 20));
        assert_eq!(spec.host.cpu_shares, 2);
        assert_eq!(spec.network, NetworkMode::Host);
        assert_eq!(spec.log.driver, LogDriver::Awslogs);
        assert_eq!(spec.process.user.as_deref(), Some("nobody"));
        let health = spec.health.unwrap();
        assert_eq!((health.interval_ms, health.retries, health.timeout_ms), (5000, 2, 30_000));
    }

    #[test]
    fn a_wish_that_we_cannot_grant_is_named_and_never_ignored() {
        let host = |object: serde_json::Value| {
            only(json!({"dockerConfig": {"hostConfig": object.to_string()}})).refusal
        };
        assert_eq!(
            host(json!({"CpusetCpus": "0"})).as_deref(),
            Some("HostConfigError: CpusetCpus=\"0\" is not supported")
        );
        assert_eq!(host(json!({"CpusetCpus": "", "OomKillDisable": false, "Mounts": null})), None);
        assert!(host(json!({"LogConfig": {"Type": "logentries"}})).unwrap().contains("logentries"));
        assert!(host(json!({"Ulimits": [{"Name": "nofile", "Soft": 9, "Hard": 2}]})).is_some());
        assert!(host(json!([])).unwrap().starts_with("HostConfigError: unable to decode"));
        let config = only(json!({"healthCheckType": "docker"})).refusal.unwrap();
        assert!(config.starts_with("DockerClientConfigError: "), "{config}");
        assert_eq!(
            only(json!({"secrets": [{"name": "PASSWORD", "valueFrom": "p"}]})).refusal,
            None
        );
    }

    #[test]
    fn confinement_that_is_to_be_taken_away_is_kept_for_who_has_it() {
        let of = |options: serde_json::Value| {
            let host = json!({ "SecurityOpt": options }).to_string();
            only(json!({"dockerConfig": {"hostConfig": host}})).host.unconfined_by
        };
        let asked = json!(["apparmor:unconfined", "label:disable", "no-new-privileges"]);
        assert_eq!(of(asked), ["apparmor=unconfined", "label=disable"]);
        assert!(of(json!(["apparmor:mine"])).is_empty());
    }

    #[test]
    fn overrides_know_only_a_command() {
        assert_eq!(only(json!({"overrides": "{}"})).command, None);
        let spec = only(json!({"command": ["a"], "overrides": "{\"command\":[\"b\"]}"}));
        assert_eq!(spec.command, Some(vec!["b".to_owned()]));
        let error = parse(&task(json!({"overrides": "{\"cpu\":1}"}))).unwrap_err().to_string();
        assert!(error.starts_with("UnrecogniedTaskError: Error loading task - "), "{error}");
    }

    #[test]
    fn a_circle_of_dependencies_is_refused() {
        let task: acs::Task = serde_json::from_value(json!({"arn": ARN, "containers": [
            {"name": "a", "image": "i", "dependsOn": [{"containerName": "b", "condition": "START"}]},
            {"name": "b", "image": "i", "dependsOn": [{"containerName": "a", "condition": "START"}]},
        ]}))
        .unwrap();
        assert!(matches!(parse(&task), Err(InvalidTask::Dependency(_))));
    }

    #[test]
    fn only_tasks_of_ones_own_instances_have_no_limit_of_storage() {
        let storage = |launch: &str, gib: Option<u32>| {
            let mut task = task(json!({}));
            (task.launch_type, task.ephemeral_storage_gib) = (Some(launch.to_owned()), gib);
            parse(&task).unwrap().storage_bytes
        };
        assert_eq!(storage("FARGATE", None), Some(20 << 30));
        assert_eq!(storage("FARGATE_SPOT", Some(21)), Some(21 << 30));
        assert_eq!(storage("EC2", None), None);
        assert_eq!(storage("FARGATE", Some(0)), Some(20 << 30));
        assert_eq!(storage("FARGATE", Some(u32::MAX)), Some(u64::from(u32::MAX) << 30));
    }

    #[test]
    fn ports_and_volumes_are_checked() {
        let spec =
            only(json!({"portMappings": [{"containerPortRange": "80-82", "protocol": "udp"}]}));
        assert_eq!(spec.ports.len(), 3);
        assert!(spec.ports.iter().all(|port| port.range == Some(80)));
        assert!(parse(&task(json!({"portMappings": [{"containerPort": 70_000}]}))).is_err());
        let refusal = only(json!({"mountPoints": [{"sourceVolume": "x", "containerPath": "/x"}]}));
        assert_eq!(refusal.refusal.unwrap(), "HostConfigError: Invalid volume referenced: x");
    }

    #[test]
    fn an_awsvpc_task_needs_its_interface() {
        let mut task = task(json!({}));
        task.network_mode = Some("awsvpc".into());
        assert!(parse(&task).is_err());
        task.elastic_network_interfaces = serde_json::from_value(json!([{
            "ec2Id": "eni-0123456789abcdef0", "macAddress": "0a:00:00:00:00:01",
            "ipv4Addresses": [{"privateAddress": "172.31.0.9", "primary": true}],
            "subnetGatewayIpv4Address": "172.31.0.1/20",
        }]))
        .unwrap();
        let eni = parse(&task).unwrap().eni.unwrap();
        assert_eq!((eni.prefix, eni.address.to_string()), (20, "172.31.0.9".into()));
    }
}
