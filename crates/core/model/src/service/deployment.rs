//! A deployment: bringing a service from what it has to one revision.
//!
//! One row is shown in two ways: as one of the service's `deployments`, and as a service deployment,
//! the record of a whole rollout. A rollback is a deployment of its own among the former, and part of
//! the record of the one that it undoes.

use std::fmt;

use longshore_types::{
    AccountId, ClusterName, DeploymentId, RevisionId, Scope, ServiceArn, ServiceDeploymentArn,
    ServiceDeploymentId, ServiceName, Timestamp,
};
use serde::{Deserialize, Serialize};

use super::{DeploymentSettings, Lifecycle, Service, ServiceId, Shift, Stage};
use crate::elb::ElbPath;
use crate::table::Record;

/// Names a deployment or task set within its account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeploymentKey {
    pub service: ServiceId,
    pub id: DeploymentId,
}

impl fmt::Display for DeploymentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.id)
    }
}

/// How a deployment stands among those of its service, in life order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Rank {
    /// The latest: its revision is what the service shall have.
    Primary,
    /// Superseded; its tasks go as those of the primary come.
    Active,
    /// Without tasks, no longer shown with the service.
    Gone,
}

impl Rank {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "PRIMARY",
            Self::Active => "ACTIVE",
            Self::Gone => "INACTIVE",
        }
    }
}

/// A revision that the service had when the deployment began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceRevision {
    pub revision: RevisionId,
    pub requested: u32,
    pub running: u32,
    pub pending: u32,
}

/// Why a deployment is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RollbackCause {
    /// Its tasks kept failing.
    Breaker,
    /// `StopServiceDeployment`.
    Requested,
    /// A pause ended that way.
    Hook,
    /// Its load balancers are not as they must be to shift traffic.
    Network,
    /// A stage took too long.
    TimedOut,
}

impl RollbackCause {
    /// Why, where nothing more is known.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Breaker => {
                "Service deployment rolled back because the circuit breaker threshold was exceeded."
            }
            Self::Requested => "Service deployment rolled back because of a request to stop it.",
            Self::Hook => "Service deployment rolled back because a lifecycle hook failed.",
            Self::Network => {
                "Service deployment rolled back because of invalid networking configuration."
            }
            Self::TimedOut => "Service deployment rolled back because a stage took too long.",
        }
    }
}

/// How a deployment is undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollback {
    pub cause: RollbackCause,
    pub started_at: Timestamp,
    /// What is gone back to.
    pub revision: RevisionId,
    /// The deployment that does it.
    pub by: DeploymentId,
    /// The whole sentence, where the cause does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Tasks that found no capacity when they were last tried, and why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shortage {
    pub tasks: u32,
    /// `12 instances: 7 too little memory (512 MiB needed, 128 free at most), 2 draining`
    pub tally: String,
    pub since: Timestamp,
}

/// What a deployment waits for. Derived whenever it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// Tasks were made and have not said yet that they run.
    Starting { tasks: u32 },
    /// Tasks run, and their health checks have not passed yet.
    Healthy { tasks: u32 },
    /// Tasks found no instance with enough free capacity.
    Capacity(Shortage),
    /// Tasks of before are being stopped.
    Stopping { tasks: u32 },
    /// No more tasks may start until others have stopped, and none may be stopped until others run.
    Limits { healthy_min: u32, max: u32 },
    /// Tasks kept failing; the next try is at this time.
    Backoff { until: Timestamp },
    /// Protected tasks of before may not be stopped.
    Protected { tasks: u32 },
    /// Done but for being watched for a while.
    Bake { until: Timestamp },
    /// The next part of the traffic is shifted at this time.
    NextStep { until: Timestamp },
    /// Somebody has to say how it goes on.
    Word { stage: Lifecycle, until: Timestamp },
    /// A hook has not said yet how it goes on.
    Hook { stage: Lifecycle, until: Timestamp },
}

impl fmt::Display for WaitReason {
    /// What follows "waiting for": `2 tasks to run`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tasks = |many: &u32| if *many == 1 { "1 task".into() } else { format!("{many} tasks") };
        match self {
            Self::Starting { tasks: many } => write!(f, "{} to run", tasks(many)),
            Self::Healthy { tasks: many } => write!(f, "{} to be healthy", tasks(many)),
            Self::Capacity(Shortage { tasks: many, tally, .. }) => {
                write!(f, "room for {} ({tally})", tasks(many))
            }
            Self::Stopping { tasks: many } => write!(f, "{} to stop", tasks(many)),
            Self::Limits { healthy_min, max } => write!(
                f,
                "minimumHealthyPercent or maximumPercent to be changed: no fewer than {} may be \
                 healthy and there may be no more than {max}",
                tasks(healthy_min)
            ),
            Self::Backoff { until } => write!(f, "the next try at {until}"),
            Self::Protected { tasks: many } => {
                write!(f, "the protection of {} to end", tasks(many))
            }
            Self::NextStep { until } => write!(f, "the next step of traffic at {until}"),
            Self::Word { stage, until } => {
                write!(f, "ContinueServiceDeployment at {stage}, until {until} at most")
            }
            Self::Hook { stage, until } => {
                write!(f, "the lifecycle hooks of {stage}, until {until} at most")
            }
            Self::Bake { until } => write!(f, "its bake time to end at {until}"),
        }
    }
}

/// A deployment. Made by requests and by rollbacks; all that changes is the reconciler's, but for
/// the wish to stop, which is a request's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    pub scope: Scope,
    pub cluster: ClusterName,
    pub service: ServiceName,
    pub id: DeploymentId,
    /// Its name as a record. None for one that undoes another and is part of that one's record.
    pub record: Option<ServiceDeploymentId>,
    /// The deployment that this one undoes.
    pub undoes: Option<DeploymentId>,
    pub revision: RevisionId,
    pub sources: Vec<SourceRevision>,
    /// As they were when it began.
    pub settings: DeploymentSettings,
    pub rank: Rank,
    #[serde(flatten)]
    pub stage: Stage,
    /// Why it failed or was stopped; what it waits for is derived.
    pub rollout_reason: Option<String>,
    /// The same as its record says it.
    pub status_reason: Option<String>,
    pub rollback: Option<Rollback>,
    /// Whether the breaker tripped.
    pub is_tripped: bool,
    /// Tasks of it that failed in a row: those that the breaker counts.
    pub failures: u32,
    pub last_failure_at: Option<Timestamp>,
    /// Why the last of them failed, for people.
    #[serde(default)]
    pub last_failure: Option<String>,
    /// Tries after one another that brought no task that lasted: the pause before the next grows
    /// with it.
    #[serde(default)]
    pub streak: u32,
    /// Whether one of its tasks has been running: the breaker counts otherwise from then on.
    pub has_run: bool,
    pub shortage: Option<Shortage>,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub updated_at: Timestamp,
    /// When the last of its tasks was there, if it is to be watched for a while.
    pub baking_since: Option<Timestamp>,
    pub stopped_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// The target groups that its tasks are registered in, one for each of its revision's load balancers, where these
    /// name two to choose from. Written by the reconciler.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<ElbPath>,
    /// Of one that shifts traffic. Written by the reconciler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shift: Option<Shift>,
    /// Grows by one with every change.
    pub version: u64,
}

impl Deployment {
    /// A service's next deployment, which brings `revision` about; nothing was done for it yet.
    pub fn new(
        service: &Service,
        id: DeploymentId,
        record: Option<ServiceDeploymentId>,
        revision: RevisionId,
        now: Timestamp,
    ) -> Self {
        Self {
            scope: service.scope.clone(),
            cluster: service.cluster.clone(),
            service: service.name.clone(),
            id,
            record,
            undoes: None,
            revision,
            sources: Vec::new(),
            settings: service.deployment.clone(),
            rank: Rank::Primary,
            stage: Stage::Pending,
            rollout_reason: None,
            status_reason: None,
            rollback: None,
            is_tripped: false,
            failures: 0,
            last_failure_at: None,
            last_failure: None,
            streak: 0,
            has_run: false,
            shortage: None,
            created_at: now,
            started_at: None,
            updated_at: now,
            baking_since: None,
            stopped_at: None,
            finished_at: None,
            groups: Vec::new(),
            shift: None,
            version: 1,
        }
    }

    pub fn service_id(&self) -> ServiceId {
        ServiceId { cluster: self.cluster.clone(), name: self.service.clone() }
    }

    pub fn key(&self) -> DeploymentKey {
        DeploymentKey { service: self.service_id(), id: self.id }
    }

    pub fn service_arn(&self) -> ServiceArn {
        let (scope, cluster) = (self.scope.clone(), self.cluster.clone());
        ServiceArn { scope, cluster, service: self.service.clone() }
    }

    /// The ARN of the record, if it has one of its own.
    pub fn arn(&self) -> Option<ServiceDeploymentArn> {
        let (scope, cluster) = (self.scope.clone(), self.cluster.clone());
        let id = self.record.clone()?;
        Some(ServiceDeploymentArn { scope, cluster, service: self.service.clone(), id })
    }
}

impl Record for Deployment {
    type Id = DeploymentKey;

    fn account(&self) -> AccountId {
        self.scope.account
    }

    fn id(&self) -> DeploymentKey {
        self.key()
    }
}
