//! What a pass is decided from ([`Snapshot`]), and what it decides ([`ServicePlan`]).

use std::collections::{BTreeMap, BTreeSet};

use longshore_types::{DeploymentId, InstanceArn, InstanceId, TaskId, Timestamp};
use model::elb::WeightedGroup;
use model::instance::InstanceStatus;
use model::service::{
    Deployment, DeploymentKey, Service, ServiceBalancer, ServiceEventKind, ServiceNotes, TaskSet,
    TrafficRule,
};
use model::task::{StopCause, Task};

/// A service and all that a decision about it looks at.
#[derive(Clone, Debug)]
pub struct Snapshot<'a> {
    pub service: &'a Service,
    /// Those that are not gone; in any order.
    pub deployments: Vec<&'a Deployment>,
    pub task_sets: Vec<&'a TaskSet>,
    /// Those that are not stopped, and those that have stopped and are not accounted.
    pub tasks: Vec<&'a Task>,
    /// For daemons every instance of the cluster; otherwise at least those that tasks of the service
    /// are on and that are not active.
    pub hosts: Vec<ServiceHost>,
    /// Of tasks whose revision has load balancers, how these find them.
    pub balance: BTreeMap<TaskId, Balance>,
    /// The load balancers of each deployment's revision.
    pub balancers: BTreeMap<DeploymentId, &'a [ServiceBalancer]>,
    /// Where the rules of those that can shift traffic forward to; one that is not there, or does not forward, is missing.
    pub forwards: BTreeMap<TrafficRule, Vec<WeightedGroup>>,
    /// Of the roles that the rules are changed with, those that may not do it.
    pub powerless_roles: BTreeSet<&'a str>,
    /// The deployments whose tasks are reached by Service Connect.
    pub offered: BTreeSet<DeploymentId>,
    /// The zones that have instances for the service. Only rebalancing looks at them.
    pub zones: Vec<String>,
    pub notes: ServiceNotes,
    /// A fresh name, used if a deployment is rolled back.
    pub rollback_id: DeploymentId,
    pub now: Timestamp,
}

/// How load balancers find a task that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    /// It is not registered yet, or no check has been decisive.
    Awaited,
    /// Every target group finds it healthy.
    Healthy,
    Failing(TargetFailure),
}

/// What a target group's checks find of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetFailure {
    /// The target group's ARN.
    pub group: String,
    /// Set where instances are registered.
    pub instance: Option<String>,
    pub port: u16,
    pub why: String,
}

/// An instance as a service's reconciler sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceHost {
    pub id: InstanceId,
    pub arn: InstanceArn,
    pub status: InstanceStatus,
    pub is_connected: bool,
    /// Whether it meets the constraints and requirements of the primary deployment's tasks; whether
    /// there is capacity is not asked. Only daemons look at it.
    pub accepts: bool,
    /// Tasks on it that are not stopped and not daemons: daemons leave last.
    pub other_tasks: u32,
}

/// Where tasks are to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where the service's strategies want them.
    Anywhere,
    /// In this zone or not at all: without capacity there, nothing is short.
    Zone(String),
    /// On this instance or not at all.
    On(InstanceId),
}

/// Tasks to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Or task set.
    pub deployment: DeploymentId,
    pub tasks: u32,
    pub place: Place,
}

/// What one pass decides. Rows are whole and already counted up; only those that change are here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePlan {
    pub starts: Vec<Start>,
    pub stops: Vec<(TaskId, StopCause)>,
    /// Stopped tasks whose outcome was counted: their `is_accounted` is to be set, so that it is not counted again.
    pub accounted: Vec<TaskId>,
    /// Tasks that have become healthy: their `is_ready` is to be set.
    pub ready: Vec<TaskId>,
    pub deployments: Vec<Deployment>,
    /// The deployment that undoes another.
    pub new_deployment: Option<Deployment>,
    pub service: Option<Service>,
    /// Rules that forward to these groups from now on, in the same commit.
    pub forwards: BTreeMap<TrafficRule, Vec<WeightedGroup>>,
    pub task_sets: Vec<TaskSet>,
    /// Deleted task sets without tasks: their rows are to be removed.
    pub gone_task_sets: Vec<DeploymentKey>,
    pub notes: Option<ServiceNotes>,
    /// All but `Started` and `Unplaceable`, which are the shell's to say.
    pub events: Vec<ServiceEventKind>,
    /// Unless something changes before.
    pub look_again_at: Option<Timestamp>,
}

impl ServicePlan {
    /// Whether nothing is to be done and nothing to be written.
    pub fn is_idle(&self) -> bool {
        let quiet = Self { look_again_at: self.look_again_at, ..Self::default() };
        *self == quiet
    }
}
