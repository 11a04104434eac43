//! What happened to a service, in ECS's own sentences.

use std::fmt;

use longshore_types::{
    AccountId, ClusterName, DeploymentId, Scope, ServiceName, TaskId, Timestamp, Uuid,
};
use serde::{Deserialize, Serialize};

use super::ServiceId;
use crate::table::Record;

/// The latest so many events are kept.
pub const SERVICE_EVENTS_MAX: usize = 100;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Happening {
    SteadyState,
    /// The task set is named with an external controller.
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
    /// `why` is a whole sentence, or more.
    Unplaceable {
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
    Stuck {
        why: String,
    },
}

impl Happening {
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
            Self::SteadyState => format!("(service {service}) has reached a steady state."),
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
            Self::Unplaceable { why } => format!(
                "(service {service}) was unable to place a task because no container instance met \
                 all of its requirements. {why} {MORE}"
            ),
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
            Self::Stuck { why } => format!("(service {service}) {why}"),
        }
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEvent {
    pub id: Uuid,
    pub at: Timestamp,
    pub what: Happening,
}

/// The latest events of a service, oldest first. Written by the reconciler only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEvents {
    pub scope: Scope,
    pub cluster: ClusterName,
    pub service: ServiceName,
    pub events: Vec<ServiceEvent>,
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
