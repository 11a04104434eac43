//! A task and its containers as Amazon's agent describes them to themselves: versions 2, 3 and 4.
//!
//! Pure: from what is known of a task to what is shown. What is not known is left out, as there.

use serde_json::{Map, Value, json};

use super::asked::Version;
use crate::engine::TaskView;
use crate::engine::state::{ContainerState, Desired, Health, Phase};
use crate::spec::{ContainerSpec, EniSpec, NetworkMode};
use longshore_types::{Cidr, Timestamp};

/// What is known beside the task itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Around {
    /// The cluster as this host calls it.
    pub(super) cluster: String,
    pub(super) tags: Option<Tagged>,
    pub(super) clock: Option<Clock>,
    pub(super) storage: Option<Storage>,
    /// By container and volume, where each is on the host.
    pub(super) volumes: Vec<Vec<Volume>>,
}

/// The tags of a task and its instance, and what kept them from being read.
#[derive(Clone, Debug, Default)]
pub(super) struct Tagged {
    pub(super) task: Option<Map<String, Value>>,
    pub(super) instance: Option<Map<String, Value>>,
    pub(super) errors: Vec<Value>,
}

/// How far the host's clock may be off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub(super) error_us_max: u64,
    pub(super) is_synchronized: bool,
    pub(super) read_at: Timestamp,
}

/// A Fargate task's disk, in MiB.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage {
    pub(super) used_mib: u64,
    pub(super) limit_mib: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Volume {
    pub(super) name: Option<String>,
    pub(super) source: String,
    pub(super) destination: String,
}

/// Collects what is there.
#[derive(Default)]
struct Keys(Map<String, Value>);

impl Keys {
    fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.0.insert(key.to_owned(), value.into());
    }

    fn put_some(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }

    fn put_time(&mut self, key: &str, at: Option<Timestamp>) {
        self.put_some(key, at.map(Timestamp::iso8601));
    }

    fn put_list(&mut self, key: &str, list: Vec<Value>) {
        if !list.is_empty() {
            self.put(key, list);
        }
    }
}

pub(super) fn task(view: &TaskView, around: &Around, version: Version) -> Value {
    let (spec, state) = (&view.spec, &view.state);
    let mut keys = Keys::default();
    let cluster = if spec.is_fargate { &spec.about.cluster_arn } else { &around.cluster };
    keys.put("Cluster", cluster.clone());
    keys.put("TaskARN", spec.arn.to_string());
    keys.put("Family", spec.family.clone());
    keys.put("Revision", spec.version.clone());
    keys.put("DesiredStatus", desired(state.desired));
    keys.put("KnownStatus", known_of_task(&state.containers));
    let mut limits = Keys::default();
    limits.put_some("CPU", spec.cpu_millis.map(vcpus));
    limits.put_some("Memory", spec.memory_bytes.map(|bytes| bytes >> 20));
    if !limits.0.is_empty() {
        keys.put("Limits", limits.0);
    }
    keys.put_time("PullStartedAt", state.pull_started_at);
    keys.put_time("PullStoppedAt", state.pull_stopped_at);
    keys.put_time("ExecutionStoppedAt", state.execution_stopped_at);
    keys.put_some("AvailabilityZone", spec.about.zone.clone());
    let containers =
        (0..spec.containers.len()).map(|index| container(view, index, around, version));
    keys.put("Containers", containers.collect::<Vec<Value>>());
    if let Some(tags) = &around.tags {
        keys.put_some("TaskTags", tags.task.clone());
        keys.put_some("ContainerInstanceTags", tags.instance.clone());
    }
    if version == Version::V4 {
        newer(&mut keys, view, around);
    }
    Value::Object(keys.0)
}

/// What came with version 4.
fn newer(keys: &mut Keys, view: &TaskView, around: &Around) {
    let spec = &view.spec;
    keys.put("LaunchType", spec.about.launch_type.clone());
    keys.put_some("ServiceName", spec.about.service.clone());
    keys.put_some("Group", spec.about.group.clone());
    if !spec.is_fargate {
        keys.put_some("VPCID", spec.about.vpc.clone());
    }
    if let Some(tags) = &around.tags {
        keys.put_list("Errors", tags.errors.clone());
    }
    keys.put("FaultInjectionEnabled", false);
    if let Some(clock) = around.clock.filter(|_| spec.is_fargate) {
        let word = if clock.is_synchronized { "SYNCHRONIZED" } else { "NOT_SYNCHRONIZED" };
        let drift = json!({
            "ClockErrorBound": milliseconds(clock.error_us_max),
            "ReferenceTimestamp": clock.read_at.iso8601(),
            "ClockSynchronizationStatus": word,
        });
        keys.put("ClockDrift", drift);
    }
    if let Some(storage) = around.storage.filter(|_| spec.is_fargate) {
        let metrics = json!({ "Utilized": storage.used_mib, "Reserved": storage.limit_mib });
        keys.put("EphemeralStorageMetrics", metrics);
    }
}

pub(super) fn container(view: &TaskView, index: usize, around: &Around, version: Version) -> Value {
    let (spec, state) = (&view.spec.containers[index], &view.state.containers[index]);
    let mut keys = Keys::default();
    keys.put("DockerId", state.runtime_id.clone());
    keys.put("Name", spec.name.clone());
    keys.put("DockerName", docker_name(view, index));
    keys.put("Image", spec.image.clone());
    keys.put("ImageID", state.digest.clone().unwrap_or_default());
    keys.put_list("Ports", ports(spec, state, version));
    keys.put("Labels", json!(spec.process.labels));
    keys.put("DesiredStatus", desired(view.state.desired));
    keys.put("KnownStatus", known(state.phase));
    keys.put_some("ExitCode", state.exit.as_ref().and_then(|exit| exit.code));
    let mut limits = Keys::default();
    limits.put("CPU", spec.host.cpu_shares);
    limits.put("Memory", spec.host.memory_bytes.unwrap_or(0) >> 20);
    keys.put("Limits", limits.0);
    keys.put_time("CreatedAt", state.created_at.or(state.started_at));
    keys.put_time("StartedAt", state.started_at);
    keys.put_time("FinishedAt", state.exit.as_ref().map(|exit| exit.at));
    keys.put("Type", "NORMAL");
    keys.put_list("Networks", networks(view, index, version).into_iter().collect());
    if spec.health.is_some() {
        keys.put("Health", health(state));
    }
    if !view.spec.is_fargate {
        keys.put_list("Volumes", volumes(around.volumes.get(index)));
    }
    keys.put("LogDriver", spec.log.driver.as_str());
    if !spec.log.options.is_empty() {
        keys.put("LogOptions", json!(spec.log.options));
    }
    if version == Version::V4 {
        keys.put_some("ContainerARN", spec.arn.clone());
        if view.spec.is_fargate {
            keys.put("Snapshotter", "overlayfs");
        }
        if spec.restart.is_some() {
            keys.put("RestartCount", state.restarts);
        }
    }
    Value::Object(keys.0)
}

fn desired(desired: Desired) -> &'static str {
    match desired {
        Desired::Running => "RUNNING",
        Desired::Stopped => "STOPPED",
    }
}

/// Docker's steps, in Amazon's agent's words.
fn known(phase: Phase) -> &'static str {
    match phase {
        Phase::Waiting => "NONE",
        Phase::Pulled => "PULLED",
        Phase::Created => "CREATED",
        Phase::Running | Phase::Exited => "RUNNING",
        Phase::Stopped => "STOPPED",
    }
}

/// That of the container that is furthest behind.
fn known_of_task(containers: &[ContainerState]) -> &'static str {
    known(containers.iter().map(|container| container.phase).min().unwrap_or_default())
}

/// On one's own instances Docker's kind of name, which says what it belongs to; on Fargate the container's.
pub(crate) fn docker_name(view: &TaskView, index: usize) -> String {
    let name = &view.spec.containers[index].name;
    if view.spec.is_fargate {
        return name.clone();
    }
    let runtime_id = &view.state.containers[index].runtime_id;
    let (task, number) = runtime_id.split_once('-').unwrap_or((runtime_id, "0"));
    let task: String = task.chars().take(12).collect();
    let number: u32 = number.parse().unwrap_or(0);
    format!("ecs-{}-{}-{name}-{task}{number:08x}", view.spec.family, view.spec.version)
}

fn ports(spec: &ContainerSpec, state: &ContainerState, version: Version) -> Vec<Value> {
    let bound = state.bindings.iter().map(|binding| {
        let mut port = json!({
            "ContainerPort": binding.container_port,
            "Protocol": binding.protocol.as_str(),
            "HostPort": binding.host_port,
        });
        if version == Version::V4 {
            port["HostIp"] = "0.0.0.0".into();
        }
        port
    });
    if !state.bindings.is_empty() {
        return bound.collect();
    }
    let own = spec.ports.iter().map(
        |port| json!({ "ContainerPort": port.container_port, "Protocol": port.protocol.as_str() }),
    );
    own.collect()
}

fn networks(view: &TaskView, index: usize, version: Version) -> Option<Value> {
    let (spec, state) = (&view.spec.containers[index], &view.state.containers[index]);
    match (spec.network, &view.spec.eni) {
        (NetworkMode::Awsvpc, Some(eni)) => Some(interface(eni, version)),
        (NetworkMode::Awsvpc, None) => None,
        (NetworkMode::Bridge, _) => {
            let addresses: Vec<String> = state.address.iter().map(ToString::to_string).collect();
            Some(json!({ "NetworkMode": "bridge", "IPv4Addresses": addresses }))
        }
        (NetworkMode::Host, _) => Some(json!({ "NetworkMode": "host", "IPv4Addresses": [] })),
        (NetworkMode::None, _) => Some(json!({ "NetworkMode": "none", "IPv4Addresses": [] })),
    }
}

fn interface(eni: &EniSpec, version: Version) -> Value {
    let mut keys = Keys::default();
    keys.put("NetworkMode", "awsvpc");
    keys.put("IPv4Addresses", vec![eni.address.to_string()]);
    if version == Version::V4 {
        keys.put("AttachmentIndex", 0);
        keys.put("MACAddress", eni.mac.clone());
        let subnet = Cidr::new(eni.address, eni.prefix);
        let subnet = subnet.map(|subnet| format!("{}/{}", subnet.first(), subnet.prefix()));
        keys.put_some("IPv4SubnetCIDRBlock", subnet);
        keys.put_list("DomainNameServers", texts(&eni.dns_servers));
        keys.put_list("DomainNameSearchList", texts(&eni.dns_search));
        keys.put_some("PrivateDNSName", eni.private_dns_name.clone());
        let gateway = format!("{}/{}", eni.gateway, eni.prefix);
        keys.put("SubnetGatewayIpv4Address", gateway);
    }
    Value::Object(keys.0)
}

fn texts(list: &[String]) -> Vec<Value> {
    list.iter().cloned().map(Value::from).collect()
}

fn health(state: &ContainerState) -> Value {
    let mut keys = Keys::default();
    let word = match state.health {
        Health::Unknown => "UNKNOWN",
        Health::Healthy => "HEALTHY",
        Health::Unhealthy => "UNHEALTHY",
    };
    keys.put("status", word);
    keys.put_time("statusSince", state.health_since);
    if let Some(said) = &state.health_said {
        keys.put_some("exitCode", Some(said.exit_code).filter(|code| *code != 0));
        keys.put_some("output", Some(said.output.clone()).filter(|text| !text.is_empty()));
    }
    Value::Object(keys.0)
}

fn volumes(volumes: Option<&Vec<Volume>>) -> Vec<Value> {
    let shown = |volume: &Volume| {
        let mut keys = Keys::default();
        keys.put_some("DockerName", volume.name.clone());
        keys.put("Source", volume.source.clone());
        keys.put("Destination", volume.destination.clone());
        Value::Object(keys.0)
    };
    volumes.into_iter().flatten().map(shown).collect()
}

#[expect(clippy::cast_precision_loss, reason = "thousandths of a CPU fit a double exactly")]
fn vcpus(millis: u64) -> f64 {
    millis as f64 / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn milliseconds(us: u64) -> f64 {
    us as f64 / 1000.0
}

#[cfg(test)]
mod tests;
