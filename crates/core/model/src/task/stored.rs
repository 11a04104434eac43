//! A task's row as it lies on disk: one flat object, so that what tasks share in memory is nobody's concern
//! who reads the file, and rows of before it was shared are read as they are.
//!
//! What is empty, absent or false is left out when a row is written, and read as that.

use std::sync::Arc;

use longshore_types::{
    ClusterName, ContainerName, CpuUnits, InstanceId, MemoryMib, Scope, TaskDefinitionId, TaskId,
    Timestamp, Uuid,
};
use serde::Deserialize;

use super::{
    Asked, AskedContainer, Desired, LaunchType, Need, Overrides, Phase, SeenContainer, StopCause,
    TaskInterface, TaskService, Times, Waiting,
};
use crate::tags::Tags;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Task {
    id: TaskId,
    scope: Scope,
    cluster: ClusterName,
    definition: TaskDefinitionId,
    launch: LaunchType,
    capacity_provider: Option<Arc<str>>,
    platform_version: Option<String>,
    platform_family: Option<String>,
    group: String,
    started_by: Option<String>,
    service: Option<TaskService>,
    protected_until: Option<Timestamp>,
    #[serde(default)]
    tags: Tags,
    cpu: Option<CpuUnits>,
    memory: Option<MemoryMib>,
    ephemeral_storage_gib: Option<u32>,
    #[serde(default)]
    enable_execute_command: bool,
    #[serde(default)]
    overrides: Overrides,
    need: Need,
    zone: Option<Arc<str>>,
    instance: Option<InstanceId>,
    waiting: Option<Box<Waiting>>,
    desired: Desired,
    stop_cause: Option<Box<StopCause>>,
    phase: Phase,
    interface: Option<Box<TaskInterface>>,
    containers: Vec<super::Container>,
    times: Times,
    version: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Container {
    id: Uuid,
    name: ContainerName,
    image: String,
    #[serde(default)]
    essential: bool,
    cpu: Option<CpuUnits>,
    memory: Option<MemoryMib>,
    memory_reservation: Option<MemoryMib>,
    pinned_digest: Option<String>,
    #[serde(default)]
    is_health_checked: bool,
    seen: SeenContainer,
    #[serde(default)]
    gpus: Vec<String>,
}

impl From<Task> for super::Task {
    fn from(row: Task) -> Self {
        let asked = Asked {
            scope: row.scope,
            cluster: row.cluster,
            definition: row.definition,
            launch: row.launch,
            platform_version: row.platform_version,
            platform_family: row.platform_family,
            group: row.group,
            started_by: row.started_by,
            tags: row.tags,
            cpu: row.cpu,
            memory: row.memory,
            ephemeral_storage_gib: row.ephemeral_storage_gib,
            enable_execute_command: row.enable_execute_command,
            overrides: row.overrides,
            need: row.need,
        };
        Self {
            id: row.id,
            asked: Arc::new(asked),
            capacity_provider: row.capacity_provider,
            service: row.service,
            protected_until: row.protected_until,
            zone: row.zone,
            instance: row.instance,
            waiting: row.waiting,
            desired: row.desired,
            stop_cause: row.stop_cause,
            phase: row.phase,
            interface: row.interface,
            containers: row.containers,
            times: row.times,
            version: row.version,
        }
    }
}

impl From<Container> for super::Container {
    fn from(row: Container) -> Self {
        let asked = AskedContainer {
            name: row.name,
            image: row.image,
            essential: row.essential,
            cpu: row.cpu,
            memory: row.memory,
            memory_reservation: row.memory_reservation,
            pinned_digest: row.pinned_digest,
            is_health_checked: row.is_health_checked,
        };
        Self { id: row.id, asked: Arc::new(asked), seen: row.seen, gpus: row.gpus }
    }
}
