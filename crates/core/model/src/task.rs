//! A task: what is wanted of it, what its agent last said of it, and why it stopped.
//!
//! **Invariants:** a task never moves back ([`Phase`] only grows); what stops has a cause; a field is
//! written either by the control plane or from reports, never by both. The transitions are in
//! [`step`]; this module has the row.

#[expect(clippy::disallowed_types, reason = "sets that are asked for a value, never gone through")]
mod sharing;
mod step;
mod stored;

use std::fmt;
use std::net::Ipv4Addr;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use longshore_types::{
    AccountId, ClusterName, ContainerName, CpuUnits, DeploymentId, EniId, InstanceArn, InstanceId,
    MemoryMib, Resources, Scope, SecurityGroupId, ServiceName, SubnetId, TaskArn,
    TaskDefinitionArn, TaskDefinitionId, TaskId, Timestamp, Uuid, VpcId,
};
use serde::{Deserialize, Serialize};

use crate::service::{PlacementConstraint, PlacementStrategy, ServiceId};
use crate::table::Record;
use crate::tags::Tags;
use crate::view::{Index, Tally};
use crate::vpc::InterfaceId;

pub use crate::task_definition::Protocol;
pub use sharing::Sharing;
pub use step::{ContainerReport, HealthReport, Input, Report, step};

/// How far a task has come. Declaration order is life order: a task never moves back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Phase {
    Provisioning,
    Pending,
    Activating,
    Running,
    Deactivating,
    Stopping,
    Deprovisioning,
    Stopped,
}

impl Phase {
    /// The word that `lastStatus` shows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provisioning => "PROVISIONING",
            Self::Pending => "PENDING",
            Self::Activating => "ACTIVATING",
            Self::Running => "RUNNING",
            Self::Deactivating => "DEACTIVATING",
            Self::Stopping => "STOPPING",
            Self::Deprovisioning => "DEPROVISIONING",
            Self::Stopped => "STOPPED",
        }
    }
}

/// What the control plane wants of a task. It only ever turns from running to stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Desired {
    Running,
    Stopped,
}

impl Desired {
    /// The word that `desiredStatus` shows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Stopped => "STOPPED",
        }
    }
}

/// On what kind of capacity a task runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LaunchType {
    Ec2,
    Fargate,
    External,
}

impl LaunchType {
    /// The word that `launchType` shows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ec2 => "EC2",
            Self::Fargate => "FARGATE",
            Self::External => "EXTERNAL",
        }
    }
}

/// Why a task stopped; `stoppedReason` and `stopCode` are rendered from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopCause {
    /// Somebody called `StopTask`.
    Requested { reason: Option<String> },
    /// A container that the task cannot be without exited.
    EssentialContainerExited {
        container: ContainerName,
        exit_code: Option<i32>,
        /// What else its agent knows of it: the signal, the limit that was hit, its last line.
        #[serde(default)]
        detail: Option<String>,
    },
    /// It never ran; `reason` is the agent's sentence, or ours.
    FailedToStart { reason: String },
    /// Its instance was deregistered by force.
    InstanceDeregistered { instance: InstanceArn },
    /// The agent ended it for a reason of its own after it had run.
    AgentStopped { reason: String },
    /// Its service has more tasks than it shall have, or another revision.
    ServiceScaled { deployment: DeploymentId },
    /// Its service found it unhealthy.
    Unhealthy { service: ServiceName },
    /// Its service's load balancer found it unhealthy; `group` is the target group's ARN.
    TargetUnhealthy { service: ServiceName, group: String },
    /// Its instance drains, and its service has it elsewhere.
    InstanceDraining { instance: InstanceArn },
    /// Its service moves it to another zone.
    ZoneRebalanced { service: ServiceName },
    /// Its instance has not been heard of for too long.
    InstanceLost { instance: InstanceArn },
    /// The Spot capacity that it ran on is needed elsewhere.
    SpotInterrupted,
}

/// What a task shows that could not go on without one of its containers.
pub const ESSENTIAL_CONTAINER_EXITED: &str = "Essential container in task exited";

/// What `StopTask` shows when its caller gave no reason.
pub const STOPPED_BY_USER: &str = "Task stopped by user";

impl StopCause {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Requested { .. } => "UserInitiated",
            Self::EssentialContainerExited { .. } => "EssentialContainerExited",
            Self::FailedToStart { .. } => "TaskFailedToStart",
            Self::InstanceDeregistered { .. } => "TerminationNotice",
            Self::AgentStopped { .. } => "EssentialContainerExited",
            Self::ServiceScaled { .. }
            | Self::Unhealthy { .. }
            | Self::TargetUnhealthy { .. }
            | Self::InstanceDraining { .. }
            | Self::ZoneRebalanced { .. } => "ServiceSchedulerInitiated",
            Self::InstanceLost { .. } => "TerminationNotice",
            Self::SpotInterrupted => "SpotInterruption",
        }
    }
}

impl fmt::Display for StopCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requested { reason: Some(reason) } => f.write_str(reason),
            Self::Requested { reason: None } => f.write_str(STOPPED_BY_USER),
            Self::EssentialContainerExited { .. } => f.write_str(ESSENTIAL_CONTAINER_EXITED),
            Self::FailedToStart { reason } | Self::AgentStopped { reason } => f.write_str(reason),
            Self::InstanceDeregistered { instance } => {
                write!(f, "Container instance {instance} was deregistered.")
            }
            Self::ServiceScaled { deployment } => {
                write!(f, "Scaling activity initiated by (deployment {deployment})")
            }
            Self::Unhealthy { .. } => f.write_str("Task failed container health checks"),
            Self::TargetUnhealthy { group, .. } => {
                write!(f, "Task failed ELB health checks in (target-group {group})")
            }
            Self::InstanceDraining { instance } => {
                write!(f, "Container instance {instance} is draining.")
            }
            Self::ZoneRebalanced { .. } => {
                f.write_str("Task stopped to keep the service balanced across Availability Zones.")
            }
            Self::InstanceLost { instance } => {
                write!(f, "Container instance {instance} has not been heard of for too long.")
            }
            Self::SpotInterrupted => f.write_str("Your Spot Task was interrupted."),
        }
    }
}

/// A port of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostPort {
    pub protocol: Protocol,
    pub port: u16,
}

/// What a task takes of an instance for as long as it lives there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Need {
    pub resources: Resources,
    /// The fixed host ports; dynamic ones are chosen by the agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<HostPort>,
    /// Of all its containers; none is shared.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gpus: u32,
}

impl Need {
    /// Of all but ports.
    pub(crate) fn reserved(&self) -> Reserved {
        let Resources { cpu, memory } = self.resources;
        Reserved { cpu: cpu.0.into(), memory: memory.0.into(), gpus: self.gpus.into() }
    }
}

/// What is reserved for tasks, or what instances have for them, together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reserved {
    /// CPU units: 1,024 are a core.
    pub cpu: u64,
    /// MiB.
    pub memory: u64,
    pub gpus: u64,
}

impl Reserved {
    /// With `count` times as much as `each` besides.
    pub fn and(self, count: u64, each: Self) -> Self {
        let add = |all: u64, one: u64| all.saturating_add(one.saturating_mul(count));
        Self {
            cpu: add(self.cpu, each.cpu),
            memory: add(self.memory, each.memory),
            gpus: add(self.gpus, each.gpus),
        }
    }
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Where a container's port is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_port_range: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_port_range: Option<String>,
}

/// How far a container has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ContainerPhase {
    Pending,
    Running,
    Stopped,
}

impl ContainerPhase {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Stopped => "STOPPED",
        }
    }
}

/// The verdict of a health check.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Health {
    #[default]
    Unknown,
    Healthy,
    Unhealthy,
}

impl Health {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Healthy => "HEALTHY",
            Self::Unhealthy => "UNHEALTHY",
        }
    }
}

/// One container of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", from = "stored::Container")]
pub struct Container {
    pub id: Uuid,
    #[serde(flatten)]
    pub asked: Arc<AskedContainer>,
    /// Written from the agent's reports only.
    pub seen: SeenContainer,
    /// The GPUs of its instance that it has to itself, chosen with the instance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<String>,
}

/// What was asked of a container, and stays as it was. Read as if it were the container's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AskedContainer {
    pub name: ContainerName,
    pub image: String,
    #[serde(skip_serializing_if = "is_false")]
    pub essential: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuUnits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryMib>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_reservation: Option<MemoryMib>,
    /// The digest that is run whatever the image's tag means by now; set for services' tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned_digest: Option<String>,
    /// Whether its definition has a health check.
    #[serde(skip_serializing_if = "is_false")]
    pub is_health_checked: bool,
}

impl Deref for Container {
    type Target = AskedContainer;

    fn deref(&self) -> &AskedContainer {
        &self.asked
    }
}

/// What is left out of a stored row: it is read as what it was.
fn is_false(flag: &bool) -> bool {
    !flag
}

/// What the agent said of a container, merged from reports that each tell only what changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenContainer {
    pub phase: ContainerPhase,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bindings: Vec<Binding>,
    pub health: Health,
}

impl Default for SeenContainer {
    fn default() -> Self {
        Self {
            phase: ContainerPhase::Pending,
            runtime_id: None,
            image_digest: None,
            exit_code: None,
            reason: None,
            bindings: Vec::new(),
            health: Health::Unknown,
        }
    }
}

/// How far a task's interface has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AttachmentPhase {
    Precreated,
    Attaching,
    Attached,
    Deleted,
}

impl AttachmentPhase {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Precreated => "PRECREATED",
            Self::Attaching => "ATTACHING",
            Self::Attached => "ATTACHED",
            Self::Deleted => "DELETED",
        }
    }
}

/// The elastic network interface of an `awsvpc` task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskInterface {
    /// Names the attachment, not the interface.
    pub attachment: Uuid,
    pub eni: EniId,
    pub subnet: SubnetId,
    pub security_groups: Vec<SecurityGroupId>,
    pub address: Ipv4Addr,
    pub mac: String,
    pub private_dns_name: String,
    pub assign_public_ip: bool,
    pub phase: AttachmentPhase,
    /// Its VPC, if that has addresses of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_vpc: Option<VpcId>,
}

impl TaskInterface {
    /// What its row is found by.
    pub fn row_id(&self) -> InterfaceId {
        InterfaceId { vpc: self.own_vpc.clone(), address: self.address }
    }
}

/// What a request changed of one container of its task definition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerOverride {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<Vec<(String, String)>>,
    /// Pairs of type and value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment_files: Option<Vec<(String, String)>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_reservation: Option<u32>,
    /// Pairs of type and value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_requirements: Option<Vec<(String, String)>>,
}

/// What a request changed of its task definition, as it was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Overrides {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<ContainerOverride>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_role_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_role_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage_gib: Option<u32>,
}

impl Overrides {
    /// Whether nothing is other than the task definition has it.
    fn is_none(&self) -> bool {
        *self == Self::default()
    }

    pub fn of(&self, container: &str) -> Option<&ContainerOverride> {
        self.containers.iter().find(|each| each.name == container)
    }
}

/// The service that made a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskService {
    pub name: ServiceName,
    /// The deployment or task set that it was made for.
    pub deployment: DeploymentId,
    /// Written by the service's reconciler: it has seen the task running for long enough, or with
    /// its health checks passed, to count on it.
    #[serde(rename = "isSeenRunning")]
    pub is_ready: bool,
    /// Written by the service's reconciler, once it has taken in that the task has stopped.
    #[serde(rename = "isSettled")]
    pub is_accounted: bool,
    /// Written by the service's reconciler, together with the rows of its targets: it is registered with load
    /// balancers. Taken back once all of these are gone; until then it is not told to stop.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_registered: bool,
    /// Written together with its instances of Service Connect: others reach it by them. Taken back once all of these are
    /// gone; until then it is not told to stop.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_connected: bool,
}

/// What is kept of a task that waits for capacity: what its place must be like, and why there was none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// Of the request that made it. The task definition's, and its service's, come on top.
    pub constraints: Vec<PlacementConstraint>,
    /// Of the request that made it; for a service's task those of the service count.
    pub strategies: Vec<PlacementStrategy>,
    /// Those of its subnets, if it has an interface of its own and waits for an instance of launch type EC2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<String>,
    /// What kept it from a place when one was last looked for.
    pub tally: String,
}

/// When what happened, in the order of a task's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Times {
    pub created: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connectivity: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_started: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_stopped: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopping: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_stopped: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Timestamp>,
}

/// A task. What was asked of it stays as it was; what is wanted and what is seen follow.
///
/// What it has in common with the other tasks of its request is kept once for all of them, and what most
/// tasks never have lies elsewhere: a region holds a million of these, and writes one several times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", from = "stored::Task")]
pub struct Task {
    pub id: TaskId,
    #[serde(flatten)]
    pub asked: Arc<Asked>,
    /// Set instead of a launch type when a strategy chose the capacity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity_provider: Option<Arc<str>>,
    /// Set for tasks that a service made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<TaskService>,
    /// Until when it is protected from being stopped by its service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protected_until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<Arc<str>>,

    /// Where it was placed. Written once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// Set while it waits for a place among the instances of a capacity provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Box<Waiting>>,
    /// Written by the control plane only.
    pub desired: Desired,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_cause: Option<Box<StopCause>>,

    pub phase: Phase,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<Box<TaskInterface>>,
    pub containers: Vec<Container>,
    pub times: Times,
    /// Grows by one with every change.
    pub version: u64,
}

/// What was asked of a task, and what follows from it. Read and written as if it were the task's own; it is
/// the task's own as soon as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    pub scope: Scope,
    pub cluster: ClusterName,
    pub definition: TaskDefinitionId,
    pub launch: LaunchType,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform_family: Option<String>,
    pub group: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_by: Option<String>,
    #[serde(skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
    /// Task-level CPU, after overrides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuUnits>,
    /// Task-level memory, after overrides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryMib>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage_gib: Option<u32>,
    #[serde(skip_serializing_if = "is_false")]
    pub enable_execute_command: bool,
    #[serde(skip_serializing_if = "Overrides::is_none")]
    pub overrides: Overrides,
    pub need: Need,
}

impl Deref for Task {
    type Target = Asked;

    fn deref(&self) -> &Asked {
        &self.asked
    }
}

impl DerefMut for Task {
    fn deref_mut(&mut self) -> &mut Asked {
        Arc::make_mut(&mut self.asked)
    }
}

impl Task {
    pub fn arn(&self) -> TaskArn {
        TaskArn { scope: self.scope.clone(), cluster: self.cluster.clone(), id: self.id }
    }

    pub fn definition_arn(&self) -> TaskDefinitionArn {
        TaskDefinitionArn { scope: self.scope.clone(), id: self.definition.clone() }
    }

    /// The instance's ARN, in the account and cluster of the task: Fargate shows none.
    pub fn instance_arn(&self) -> Option<InstanceArn> {
        let id = self.instance.filter(|_| self.launch != LaunchType::Fargate)?;
        Some(InstanceArn { scope: self.scope.clone(), cluster: self.cluster.clone(), id })
    }

    /// `arn:aws:ecs:<region>:<account>:container/<cluster>/<task>/<container>`
    pub fn container_arn(&self, container: &Container) -> String {
        let Scope { region, account } = &self.scope;
        let (cluster, task) = (&self.cluster, self.id);
        format!("arn:aws:ecs:{region}:{account}:container/{cluster}/{task}/{}", container.id)
    }

    /// `arn:aws:ecs:<region>:<account>:attachment/<id>`
    pub fn attachment_arn(&self, attachment: Uuid) -> String {
        let Scope { region, account } = &self.scope;
        format!("arn:aws:ecs:{region}:{account}:attachment/{attachment}")
    }

    /// Whether it holds resources of its instance: from its placement until it is stopped.
    pub fn occupies(&self) -> bool {
        self.instance.is_some() && self.phase < Phase::Stopped
    }

    /// Whether it has targets of load balancers.
    pub fn is_registered(&self) -> bool {
        self.service.as_ref().is_some_and(|service| service.is_registered)
    }

    /// Whether others reach it by Service Connect.
    pub fn is_connected(&self) -> bool {
        self.service.as_ref().is_some_and(|service| service.is_connected)
    }

    /// Whether something leads requests to it: load balancers, or Service Connect.
    pub fn is_in_routing(&self) -> bool {
        self.is_registered() || self.is_connected()
    }

    /// It is to stop, and may still have requests in flight: its agent is not told before its targets are gone.
    pub fn is_held(&self) -> bool {
        self.desired == Desired::Stopped && self.phase < Phase::Stopping && self.is_in_routing()
    }

    /// What its agent is told to have of it.
    pub fn desired_of_agent(&self) -> Desired {
        if self.is_held() { Desired::Running } else { self.desired }
    }

    /// Whether its agent may have something to hear of it that it did not report itself. Running tasks change
    /// often, by their agent's own words.
    pub fn has_orders(&self) -> bool {
        match self.desired {
            Desired::Running => self.phase < Phase::Running,
            Desired::Stopped => self.phase < Phase::Stopped && !self.is_held(),
        }
    }

    /// Whether its service may not stop it now.
    pub fn is_protected(&self, now: Timestamp) -> bool {
        self.protected_until.is_some_and(|until| now < until)
    }

    /// Waits for an instance to be placed on.
    pub fn is_unplaced(&self) -> bool {
        self.instance.is_none() && self.desired == Desired::Running && self.phase < Phase::Stopped
    }

    /// Unhealthy as soon as one essential container is, healthy once all checked ones are.
    pub fn health(&self) -> Health {
        let is_judged = |c: &&Container| c.essential && c.is_health_checked;
        let worst = self.containers.iter().filter(is_judged).map(|c| match c.seen.health {
            Health::Unhealthy => 0,
            Health::Unknown => 1,
            Health::Healthy => 2,
        });
        match worst.min() {
            Some(0) => Health::Unhealthy,
            Some(2) => Health::Healthy,
            Some(_) | None => Health::Unknown,
        }
    }

    pub fn container_mut(&mut self, name: &str) -> Option<&mut Container> {
        self.containers.iter_mut().find(|each| each.name.as_str() == name)
    }
}

impl Record for Task {
    type Id = TaskId;

    fn account(&self) -> AccountId {
        self.scope.account
    }

    fn id(&self) -> TaskId {
        self.id
    }

    fn indexes(&self) -> Vec<Index> {
        let account = self.scope.account;
        let mut indexes = Vec::with_capacity(4);
        indexes.push(Index::ClusterTasks(account, self.cluster.clone()));
        match self.phase {
            Phase::Stopped => {
                indexes.push(Index::StoppedTasks(self.times.stopped.unwrap_or_default().seconds()));
                indexes.extend(self.instance.map(Index::EndedTasks));
            }
            Phase::Provisioning
            | Phase::Pending
            | Phase::Activating
            | Phase::Running
            | Phase::Deactivating
            | Phase::Stopping
            | Phase::Deprovisioning => {
                if self.launch == LaunchType::Fargate {
                    indexes.push(Index::FargateTasks(account));
                }
                indexes.extend(self.instance.map(Index::InstanceTasks));
            }
        }
        if self.is_unplaced() {
            indexes.push(Index::UnplacedTasks);
        }
        if self.has_orders() {
            indexes.extend(self.instance.map(Index::InstanceOrders));
        }
        if let Some(service) = self.service.as_ref().filter(|service| !service.is_accounted) {
            let id = ServiceId { cluster: self.cluster.clone(), name: service.name.clone() };
            indexes.push(Index::ServiceTasks(account, id));
        }
        indexes
    }

    fn tallies(&self) -> Vec<Tally> {
        let (account, cluster) = (self.scope.account, || self.cluster.clone());
        let mut tallies = Vec::with_capacity(4);
        tallies.push(Tally::DefinitionTasks(account, self.definition.clone()));
        match self.phase {
            Phase::Provisioning | Phase::Pending | Phase::Activating => {
                tallies.push(Tally::PendingTasks(account, cluster(), self.launch));
            }
            Phase::Running => {
                tallies.push(Tally::RunningTasks(account, cluster(), self.launch));
                if self.launch != LaunchType::Fargate {
                    tallies.push(Tally::RunningNeeds(account, cluster(), self.need.reserved()));
                }
            }
            Phase::Deactivating | Phase::Stopping | Phase::Deprovisioning => {
                tallies.push(Tally::StoppingTasks(account, cluster(), self.launch));
            }
            Phase::Stopped => {}
        }
        if let Some(provider) =
            self.capacity_provider.as_ref().filter(|_| self.phase < Phase::Stopped)
        {
            tallies.push(Tally::ProviderTasks(account, cluster(), Arc::clone(provider)));
        }
        tallies
    }
}
