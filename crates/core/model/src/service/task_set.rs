//! A task set: a part of a service whose deployments are driven from outside.

use longshore_types::{
    AccountId, ClusterName, DeploymentId, Scope, ServiceName, TaskDefinitionId, TaskSetArn,
    Timestamp,
};
use serde::{Deserialize, Serialize};

use super::{DeploymentKey, RevisionCapacity, ServiceId, Shortage};
use crate::document::Document;
use crate::table::Record;
use crate::tags::Tags;

/// What a task set is to its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TaskSetStatus {
    Primary,
    Active,
    /// Deleted; some of its tasks are not stopped yet.
    Draining,
}

impl TaskSetStatus {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "PRIMARY",
            Self::Active => "ACTIVE",
            Self::Draining => "DRAINING",
        }
    }
}

/// A task set. Written by requests, but for what says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskSet {
    pub scope: Scope,
    pub cluster: ClusterName,
    pub service: ServiceName,
    pub id: DeploymentId,
    pub external_id: Option<String>,
    pub status: TaskSetStatus,
    pub definition: TaskDefinitionId,
    pub capacity: RevisionCapacity,
    pub platform_version: Option<String>,
    pub platform_family: Option<String>,
    /// `networkConfiguration` in JSON, as it was sent.
    pub network: Option<Document>,
    /// Of the service's desired count, in hundredths of a percent: 0 to 10,000.
    pub scale_basis_points: u32,
    pub tags: Tags,
    /// Tries after one another that brought no task that lasted. Written by the reconciler.
    pub failures: u32,
    /// Written by the reconciler.
    pub last_failure_at: Option<Timestamp>,
    /// Why the last of them failed, for people. Written by the reconciler.
    #[serde(default)]
    pub last_failure: Option<String>,
    /// Whether all its tasks are there and nothing else is under way. Written by the reconciler.
    #[serde(default)]
    pub is_steady: bool,
    /// When it last became steady or ceased to be. Written by the reconciler.
    #[serde(default)]
    pub steadiness_changed_at: Option<Timestamp>,
    /// Written by the reconciler.
    pub shortage: Option<Shortage>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Grows by one with every change.
    pub version: u64,
}

impl TaskSet {
    pub fn service_id(&self) -> ServiceId {
        ServiceId { cluster: self.cluster.clone(), name: self.service.clone() }
    }

    pub fn key(&self) -> DeploymentKey {
        DeploymentKey { service: self.service_id(), id: self.id }
    }

    pub fn arn(&self) -> TaskSetArn {
        let (scope, cluster) = (self.scope.clone(), self.cluster.clone());
        TaskSetArn { scope, cluster, service: self.service.clone(), id: self.id }
    }

    /// The word that `stabilityStatus` shows.
    pub const fn stability(&self) -> &'static str {
        if self.is_steady { "STEADY_STATE" } else { "STABILIZING" }
    }

    /// How many tasks it shall have of a service that desires so many, rounded up.
    pub fn desired(&self, service_desired: u32) -> u32 {
        let scaled = u64::from(service_desired) * u64::from(self.scale_basis_points);
        u32::try_from(scaled.div_ceil(10_000)).unwrap_or(u32::MAX)
    }
}

impl Record for TaskSet {
    type Id = DeploymentKey;

    fn account(&self) -> AccountId {
        self.scope.account
    }

    fn id(&self) -> DeploymentKey {
        self.key()
    }
}
