//! What happened to a service, in ECS's own sentences.

use std::collections::BTreeSet;
use std::fmt;

use longshore_types::{
    AccountId, ClusterName, DeploymentId, RevisionId, Scope, ServiceName, TaskId, Timestamp, Uuid,
};
use serde::{Deserialize, Serialize};

use super::ServiceId;
use crate::table::Record;

/// The latest so many events are kept.
pub const SERVICE_EVENTS_MAX: usize = 100;
/// One event names no more tasks than this.
pub const EVENT_TASKS_MAX: usize = 50;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ServiceEventKind {
    /// The task set is named with an external controller, here and below.
    SteadyState {
        task_set: Option<DeploymentId>,
    },
    Started {
        task_set: Option<DeploymentId>,
        tasks: Vec<TaskId>,
    },
    Stopped {
        task_set: Option<DeploymentId>,
        tasks: Vec<TaskId>,
    },
    Unhealthy {
        task: TaskId,
    },
    /// `group` is a target group's ARN, here and below.
    TargetsRegistered {
        group: String,
        targets: u32,
    },
    TargetsDeregistered {
        group: String,
        targets: u32,
    },
    /// Tasks are to be registered in a group, or are, which is not there.
    GroupMissing {
        group: String,
        is_registered: bool,
    },
    /// The task's requests in flight are waited for.
    DrainBegun {
        task_set: Option<DeploymentId>,
        tasks: u32,
    },
    /// What a target group's checks say of a task that was stopped for it.
    TargetUnhealthy {
        task: TaskId,
        /// Set where instances are registered.
        instance: Option<String>,
        port: u16,
        group: String,
        why: String,
    },
    /// `why` is a whole sentence, or more.
    Unplaceable {
        why: String,
    },
    /// A task stopped before it had run; `why` is its reason without the full stop.
    NeverRan {
        why: String,
    },
    /// Its tasks keep failing.
    Failing {
        why: Option<String>,
    },
    DeploymentCompleted {
        deployment: DeploymentId,
    },
    /// `why` such as `tasks failed to start`.
    DeploymentFailed {
        deployment: DeploymentId,
        why: String,
    },
    RollingBack {
        to: DeploymentId,
    },
    /// Neither start nor stop was allowed.
    #[serde(rename = "stuck")]
    Blocked {
        why: String,
    },
}

impl ServiceEventKind {
    /// That these tasks were started, in as many events as it takes.
    pub fn started(task_set: Option<DeploymentId>, tasks: &[TaskId]) -> Vec<Self> {
        let parts = tasks.chunks(EVENT_TASKS_MAX);
        parts.map(|tasks| Self::Started { task_set, tasks: tasks.to_vec() }).collect()
    }

    /// That these tasks were stopped, in as many events as it takes.
    pub fn stopped(task_set: Option<DeploymentId>, tasks: &[TaskId]) -> Vec<Self> {
        let parts = tasks.chunks(EVENT_TASKS_MAX);
        parts.map(|tasks| Self::Stopped { task_set, tasks: tasks.to_vec() }).collect()
    }

    /// The sentence that `events[].message` shows.
    pub fn message(&self, service: &ServiceName) -> String {
        let tasks = |tasks: &[TaskId]| {
            let tasks: Vec<String> = tasks.iter().map(|task| format!("(task {task})")).collect();
            tasks.join(" ")
        };
        let who = |task_set: &Option<DeploymentId>| match task_set {
            Some(id) => format!("(service {service}, taskSet {id})"),
            None => format!("(service {service})"),
        };
        const MORE: &str = "For more information, see the Troubleshooting section of the Amazon ECS Developer Guide.";
        match self {
            Self::SteadyState { task_set } => {
                format!("{} has reached a steady state.", who(task_set))
            }
            Self::Started { task_set, tasks: started } => {
                let (who, many) = (who(task_set), started.len());
                format!("{who} has started {many} tasks: {}.", tasks(started))
            }
            Self::Stopped { task_set, tasks: stopped } => {
                let (who, many) = (who(task_set), stopped.len());
                format!("{who} has stopped {many} running tasks: {}.", tasks(stopped))
            }
            Self::Unhealthy { task } => {
                format!("(service {service}) (task {task}) failed container health checks.")
            }
            Self::TargetsRegistered { group, targets } => {
                format!(
                    "(service {service}) registered {targets} targets in (target-group {group})"
                )
            }
            Self::TargetsDeregistered { group, targets } => {
                format!(
                    "(service {service}) deregistered {targets} targets in (target-group {group})"
                )
            }
            Self::GroupMissing { group, is_registered } => {
                let failed = match is_registered {
                    true => "describe target health on",
                    false => "register targets in",
                };
                format!(
                    "(service {service}) failed to {failed} (target-group {group}) with (error One or more target groups not found)"
                )
            }
            Self::DrainBegun { task_set, tasks } => {
                format!("{} has begun draining connections on {tasks} tasks.", who(task_set))
            }
            Self::TargetUnhealthy { task, instance, port, group, why } => {
                let who = match instance {
                    Some(instance) => format!("(instance {instance})"),
                    None => format!("(task {task})"),
                };
                format!(
                    "(service {service}) {who} (port {port}) is unhealthy in (target-group {group}) due to (reason {why})"
                )
            }
            Self::Unplaceable { why } => format!(
                "(service {service}) was unable to place a task because no container instance met \
                 all of its requirements. {why} {MORE}"
            ),
            Self::NeverRan { why } => {
                format!("(service {service}) was unable to place a task. Reason: {why}.")
            }
            Self::Failing { why: None } => format!(
                "(service {service}) is unable to consistently start tasks successfully. {MORE}"
            ),
            Self::Failing { why: Some(why) } => format!(
                "(service {service}) is unable to consistently start tasks successfully. The last \
                 one: {why}. {MORE}"
            ),
            Self::DeploymentCompleted { deployment } => {
                format!("(service {service}) (deployment {deployment}) deployment completed.")
            }
            Self::DeploymentFailed { deployment, why } => {
                format!("(service {service}) (deployment {deployment}) deployment failed: {why}.")
            }
            Self::RollingBack { to } => {
                format!("(service {service}) rolling back to deployment {to}.")
            }
            Self::Blocked { why } => format!("(service {service}) {why}"),
        }
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEvent {
    pub id: Uuid,
    pub at: Timestamp,
    pub what: ServiceEventKind,
}

/// The latest events of a service, oldest first. Written by the reconciler only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEvents {
    pub scope: Scope,
    pub cluster: ClusterName,
    pub service: ServiceName,
    pub events: Vec<ServiceEvent>,
    /// What the reconciler remembers from pass to pass.
    #[serde(default)]
    pub notes: ServiceNotes,
}

/// What a service's reconciler remembers, so that it says each thing once and finds its way back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceNotes {
    /// When it was last said that the service is steady; none while it is not.
    pub steady_said_at: Option<Timestamp>,
    /// The deployments and task sets whose tasks were said to keep failing.
    pub failing_said: BTreeSet<DeploymentId>,
    /// The deployment that was said to be unable to move within the limits.
    #[serde(rename = "stuckSaid")]
    pub blocked_said: Option<DeploymentId>,
    /// The last deployment that was completed: what a rollback goes back to.
    pub completed: Option<CompletedDeployment>,
}

/// A deployment that was completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CompletedDeployment {
    pub deployment: DeploymentId,
    pub revision: RevisionId,
}

impl ServiceEvents {
    /// Adds one, and forgets what is too old to be shown.
    pub fn add(&mut self, event: ServiceEvent) {
        self.events.push(event);
        let over = self.events.len().saturating_sub(SERVICE_EVENTS_MAX);
        self.events.drain(..over);
    }
}

impl fmt::Display for ServiceEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.events
            .iter()
            .try_for_each(|event| writeln!(f, "{} {}", event.at, event.what.message(&self.service)))
    }
}

impl Record for ServiceEvents {
    type Id = ServiceId;

    fn account(&self) -> AccountId {
        self.scope.account
    }

    fn id(&self) -> ServiceId {
        ServiceId { cluster: self.cluster.clone(), name: self.service.clone() }
    }
}
