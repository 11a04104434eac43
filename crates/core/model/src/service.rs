//! A service: the promise of so many tasks of one revision, and the rows that tell how it is kept.
//!
//! [`Service`] is what callers asked for. Each change of what its tasks look like is a
//! [`ServiceRevision`]; bringing one about is a [`Deployment`]. Services whose tasks are driven from
//! outside have [`TaskSet`]s instead. What happened is in [`ServiceEvents`].
//!
//! **Invariants:** no count is kept that follows from tasks; of a service's deployments at most one
//! is primary; a task names the deployment or task set that it was made for, for life.

mod connect;
mod deployment;
mod event;
mod settings;
mod shift;
mod stage;
mod task_set;

use std::fmt;

use longshore_types::{
    AccountId, ClusterName, RevisionId, Scope, ServiceArn, ServiceName, ServiceRevisionArn,
    TaskDefinitionId, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::cluster::StrategyItem;
use crate::discovery::MapId;
use crate::document::Document;
use crate::elb::ElbPath;
use crate::table::Record;
use crate::tags::Tags;
use crate::task::LaunchType;
use crate::view::Index;

pub use connect::{
    ConnectEndpoint, ConnectOffer, ConnectProtocol, EGRESS_PORT, OfferTls, ServiceConnect,
    TEST_HEADER, TestHeader, VIP_NUMBER_MAX,
};
pub use deployment::{
    Deployment, DeploymentKey, Rank, Rollback, RollbackCause, Shortage, SourceRevision, WaitReason,
};
pub use event::{
    CompletedDeployment, EVENT_TASKS_MAX, SERVICE_EVENTS_MAX, ServiceEvent, ServiceEventKind,
    ServiceEvents, ServiceNotes,
};
pub use settings::{
    Breaker, BreakerThreshold, DeploymentSettings, PlacementConstraint, PlacementStrategy,
    Propagate,
};
pub use shift::{
    Hook, HookAction, HookCall, HookRun, Lifecycle, Pause, PauseState, Share, Shift, Strategy,
};
pub use stage::Stage;
pub use task_set::{TaskSet, TaskSetStatus};

/// Names a service within its account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceId {
    pub cluster: ClusterName,
    pub name: ServiceName,
}

impl fmt::Display for ServiceId {
    /// `demo/web`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.cluster, self.name)
    }
}

/// A service's life, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ServiceStatus {
    Active,
    /// Deleted; some of its tasks are not stopped yet.
    Draining,
    /// Deleted, and still described for a while; the name is free again.
    Inactive,
}

impl ServiceStatus {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Draining => "DRAINING",
            Self::Inactive => "INACTIVE",
        }
    }
}

/// How many tasks a service has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Scheduling {
    /// As many as are desired.
    Replica,
    /// One on each instance that will have it.
    Daemon,
}

impl Scheduling {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replica => "REPLICA",
            Self::Daemon => "DAEMON",
        }
    }
}

/// Who moves a service from one revision to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Controller {
    /// The region, by rolling deployments.
    Ecs,
    /// Somebody outside, by task sets.
    External,
}

impl Controller {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ecs => "ECS",
            Self::External => "EXTERNAL",
        }
    }
}

/// On what a revision's tasks run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RevisionCapacity {
    Launch(LaunchType),
    Strategy(Vec<StrategyItem>),
}

impl RevisionCapacity {
    /// On what kind of capacity the tasks run: a strategy's providers are all of one kind, and those
    /// of one's own are made of instances.
    pub fn launch(&self) -> LaunchType {
        match self {
            Self::Launch(launch) => *launch,
            Self::Strategy(items) if items.iter().any(StrategyItem::is_fargate) => {
                LaunchType::Fargate
            }
            Self::Strategy(_) => LaunchType::Ec2,
        }
    }

    /// The providers that a strategy names.
    pub fn providers(&self) -> impl Iterator<Item = &str> {
        let items = match self {
            Self::Launch(_) => &[],
            Self::Strategy(items) => items.as_slice(),
        };
        items.iter().map(|item| item.capacity_provider.as_str())
    }
}

/// A service. Written by its callers' requests, but for what says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    pub scope: Scope,
    pub cluster: ClusterName,
    pub name: ServiceName,
    /// `Inactive` is written by the reconciler, once no task is left.
    pub status: ServiceStatus,
    pub scheduling: Scheduling,
    pub controller: Controller,
    /// 0 for daemons.
    pub desired_count: u32,
    /// What the primary deployment aims at; none with an external controller. The reconciler writes
    /// it too, when a deployment is rolled back.
    pub revision: Option<RevisionId>,
    pub deployment: DeploymentSettings,
    pub constraints: Vec<PlacementConstraint>,
    pub strategies: Vec<PlacementStrategy>,
    pub health_check_grace_s: Option<u32>,
    pub is_zone_rebalanced: bool,
    pub enable_managed_tags: bool,
    pub propagate: Propagate,
    pub enable_execute_command: bool,
    pub role: Option<String>,
    pub tags: Tags,
    pub created_at: Timestamp,
    /// The ARN of who created it.
    pub created_by: String,
    /// Set once it is deleted.
    pub deleted_at: Option<Timestamp>,
    /// Grows by one with every change.
    pub version: u64,
}

impl Service {
    pub fn key(&self) -> ServiceId {
        ServiceId { cluster: self.cluster.clone(), name: self.name.clone() }
    }

    pub fn arn(&self) -> ServiceArn {
        let (scope, cluster) = (self.scope.clone(), self.cluster.clone());
        ServiceArn { scope, cluster, service: self.name.clone() }
    }

    /// The group that its tasks are in: `service:web`.
    pub fn group(&self) -> String {
        format!("service:{}", self.name)
    }
}

impl Record for Service {
    type Id = ServiceId;

    fn account(&self) -> AccountId {
        self.scope.account
    }

    fn id(&self) -> ServiceId {
        self.key()
    }

    fn indexes(&self) -> Vec<Index> {
        let mut indexes = vec![Index::ClusterServices(self.scope.account, self.cluster.clone())];
        if self.status < ServiceStatus::Inactive {
            indexes.push(Index::LiveServices);
        }
        indexes
    }
}

/// Names a revision within its account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RevisionKey {
    pub service: ServiceId,
    pub id: RevisionId,
}

impl fmt::Display for RevisionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.id)
    }
}

/// The image of one container of a revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionImage {
    pub container: String,
    /// As the task definition names it.
    pub image: String,
    /// What the name meant when it was first looked up; every task of the revision runs this.
    /// None: not known yet, or `versionConsistency` is disabled.
    pub digest: Option<String>,
}

/// Where a container's port is offered: one of `loadBalancers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceBalancer {
    pub group: ElbPath,
    pub container: String,
    pub port: u16,
    /// `advancedConfiguration`: what deployments shift traffic by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alternate: Option<AlternateGroup>,
}

impl ServiceBalancer {
    /// The other one of its two groups, if it has two.
    pub fn other(&self, group: &ElbPath) -> Option<&ElbPath> {
        let alternate = &self.alternate.as_ref()?.group;
        if *group == self.group { Some(alternate) } else { Some(&self.group) }
    }

    /// Whether a group is one of its own.
    pub fn has(&self, group: &ElbPath) -> bool {
        *group == self.group || self.alternate.as_ref().is_some_and(|it| it.group == *group)
    }
}

/// What routes a service's traffic, and is rewritten to shift it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TrafficRule {
    /// A rule of an application balancer's listener, which may be the default one.
    Rule(ElbPath),
    /// A network balancer's listener.
    Listener(ElbPath),
}

impl TrafficRule {
    pub fn arn(&self, scope: &Scope) -> String {
        match self {
            Self::Rule(path) => crate::elb::arn(scope, "listener-rule", path),
            Self::Listener(path) => crate::elb::arn(scope, "listener", path),
        }
    }

    pub fn path(&self) -> &ElbPath {
        match self {
            Self::Rule(path) | Self::Listener(path) => path,
        }
    }
}

/// The second group of a balancer's, and the rules that say which of the two has traffic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AlternateGroup {
    pub group: ElbPath,
    pub production: TrafficRule,
    pub test: Option<TrafficRule>,
    /// The role with which the rules are changed.
    pub role: String,
}

/// Where its tasks are found by name: one of `serviceRegistries`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRegistry {
    /// Of Cloud Map.
    pub service: MapId,
    #[serde(default)]
    pub container: Option<String>,
    #[serde(default)]
    pub container_port: Option<u16>,
    #[serde(default)]
    pub port: Option<u16>,
}

/// What the tasks of a service look like: fixed once made, but for the digests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRevision {
    pub scope: Scope,
    pub cluster: ClusterName,
    pub service: ServiceName,
    pub id: RevisionId,
    pub definition: TaskDefinitionId,
    pub capacity: RevisionCapacity,
    pub platform_version: Option<String>,
    pub platform_family: Option<String>,
    /// `networkConfiguration` in JSON, as it was sent.
    pub network: Option<Document>,
    pub images: Vec<RevisionImage>,
    /// The target groups that its tasks are registered in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub load_balancers: Vec<ServiceBalancer>,
    /// The services of Cloud Map that its tasks are instances of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registries: Vec<ServiceRegistry>,
    /// The namespace that its tasks are in; none: they neither reach others by names of Service Connect nor are reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<ServiceConnect>,
    pub created_at: Timestamp,
}

impl ServiceRevision {
    pub fn arn(&self) -> ServiceRevisionArn {
        let (scope, cluster) = (self.scope.clone(), self.cluster.clone());
        ServiceRevisionArn { scope, cluster, service: self.service.clone(), id: self.id }
    }

    pub fn service_id(&self) -> ServiceId {
        ServiceId { cluster: self.cluster.clone(), name: self.service.clone() }
    }

    /// The digest that a container's image is pinned to.
    pub fn digest_of(&self, container: &str) -> Option<&str> {
        let image = self.images.iter().find(|image| image.container == container)?;
        image.digest.as_deref()
    }
}

impl Record for ServiceRevision {
    type Id = RevisionKey;

    fn account(&self) -> AccountId {
        self.scope.account
    }

    fn id(&self) -> RevisionKey {
        RevisionKey { service: self.service_id(), id: self.id }
    }
}
