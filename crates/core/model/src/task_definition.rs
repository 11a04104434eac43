//! Task definitions: an immutable document per revision, and beside it what placement reads.

pub use longshore_types::TransportProtocol as Protocol;
use longshore_types::{
    AccountId, ContainerName, CpuUnits, Family, MemoryMib, RegionName, Resources, Scope,
    TaskDefinitionArn, TaskDefinitionId, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::document::Document;
use crate::table::Record;
use crate::tags::Tags;
use crate::view::Index;

/// Counts a family's revisions. It outlives them, so that no number is ever used twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskFamily {
    pub account: AccountId,
    pub family: Family,
    pub last_revision: u32,
}

impl Record for TaskFamily {
    type Id = Family;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> Family {
        self.family.clone()
    }
}

/// A revision's life, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TaskDefinitionStatus {
    Active,
    Inactive,
    /// Gone as soon as no task uses it any more.
    DeleteInProgress,
}

impl TaskDefinitionStatus {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Inactive => "INACTIVE",
            Self::DeleteInProgress => "DELETE_IN_PROGRESS",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// What Linux tasks without a mode get.
    Bridge,
    Host,
    Awsvpc,
    None,
}

impl NetworkMode {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::Awsvpc => "awsvpc",
            Self::None => "none",
        }
    }
}

/// A launch type that a definition can be run with, or asks to be checked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Compatibility {
    External,
    Ec2,
    Fargate,
    ManagedInstances,
}

impl Compatibility {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::External => "EXTERNAL",
            Self::Ec2 => "EC2",
            Self::Fargate => "FARGATE",
            Self::ManagedInstances => "MANAGED_INSTANCES",
        }
    }
}

/// A port that a container wants on its instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortNeed {
    pub container_port: u16,
    /// 0: any free one of the instance.
    pub host_port: u16,
    pub protocol: Protocol,
}

/// What one container takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerNeeds {
    pub name: ContainerName,
    pub image: String,
    pub essential: bool,
    pub cpu: CpuUnits,
    /// The hard limit.
    pub memory: Option<MemoryMib>,
    /// The soft limit, which is what placement counts if it is there.
    pub memory_reservation: Option<MemoryMib>,
    pub ports: Vec<PortNeed>,
    pub gpus: u32,
}

/// An attribute that an instance must have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequiredAttribute {
    pub name: String,
    pub value: Option<String>,
}

/// Of what kind an instance's processors are.
pub const ARCHITECTURE_ATTRIBUTE: &str = "ecs.cpu-architecture";
pub const OS_ATTRIBUTE: &str = "ecs.os-type";
/// Other kinds that an instance's operator says it runs as well, by emulation; separated by commas.
pub const EMULATES_ATTRIBUTE: &str = "longshore.emulates";
/// The instance ends fenced tasks itself when it is out of touch with the region; and the tag, with the value `true`,
/// of a task definition whose tasks are fenced.
pub const FENCE: &str = "longshore.fence";
/// The instance's agent holds a whole task to its size.
pub const TASK_SIZE_ATTRIBUTE: &str = "ecs.capability.task-cpu-mem-limit";

impl RequiredAttribute {
    /// Whether ECS shows it among a task definition's `requiresAttributes`: it places by these without saying so.
    pub fn is_shown(&self) -> bool {
        !matches!(&*self.name, ARCHITECTURE_ATTRIBUTE | OS_ATTRIBUTE | TASK_SIZE_ATTRIBUTE | FENCE)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskDefinition {
    pub account: AccountId,
    pub id: TaskDefinitionId,
    pub status: TaskDefinitionStatus,
    /// The `TaskDefinition` shape in JSON: what was sent with the defaults filled in, without
    /// ARN, revision, status and times, which are in this row.
    pub document: Document,
    pub tags: Tags,
    pub registered_at: Timestamp,
    /// The ARN of who registered it.
    pub registered_by: String,
    pub deregistered_at: Option<Timestamp>,
    pub delete_requested_at: Option<Timestamp>,

    pub network_mode: NetworkMode,
    /// `true` if the document names a network mode.
    pub network_mode_given: bool,
    pub requires_compatibilities: Vec<Compatibility>,
    /// What it was found able to run on.
    pub compatibilities: Vec<Compatibility>,
    /// Limits of the task as a whole, if it has them.
    pub cpu: Option<CpuUnits>,
    pub memory: Option<MemoryMib>,
    pub containers: Vec<ContainerNeeds>,
    pub requires_attributes: Vec<RequiredAttribute>,
    /// Expressions of `memberOf` constraints.
    pub placement_expressions: Vec<String>,
    /// `X86_64` or `ARM64`, if it insists.
    pub cpu_architecture: Option<String>,
    pub operating_system_family: Option<String>,
    pub task_role: Option<String>,
    pub execution_role: Option<String>,
    pub ephemeral_storage_gib: Option<u32>,
    /// What the document asks for and this region cannot do: running it is refused, naming these.
    pub cannot_run: Vec<String>,
}

impl TaskDefinition {
    /// Whether its tasks end by themselves on a host that is out of touch, before they are replaced.
    pub fn is_fenced(&self) -> bool {
        self.requires_attributes.iter().any(|required| required.name == FENCE)
    }

    pub fn arn(&self, region: &RegionName) -> TaskDefinitionArn {
        let scope = Scope { region: region.clone(), account: self.account };
        TaskDefinitionArn { scope, id: self.id.clone() }
    }

    /// What a task of it takes from an instance, before overrides: the task's limits where it has
    /// them, else the sum over its containers of the soft limit, or the hard one if there is none.
    pub fn needs(&self) -> Resources {
        let containers = self.containers.iter().fold(Resources::default(), |sum, container| {
            let memory = container.memory_reservation.or(container.memory).unwrap_or_default();
            sum.saturating_add(Resources { cpu: container.cpu, memory })
        });
        Resources {
            cpu: self.cpu.unwrap_or(containers.cpu),
            memory: self.memory.unwrap_or(containers.memory),
        }
    }
}

impl Record for TaskDefinition {
    type Id = TaskDefinitionId;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> TaskDefinitionId {
        self.id.clone()
    }

    fn indexes(&self) -> Vec<Index> {
        match self.status {
            TaskDefinitionStatus::DeleteInProgress => vec![Index::EndingDefinitions],
            TaskDefinitionStatus::Active | TaskDefinitionStatus::Inactive => Vec::new(),
        }
    }
}
