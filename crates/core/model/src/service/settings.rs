//! How a service's tasks are replaced, placed and tagged.

use serde::{Deserialize, Serialize};

use super::{Hook, Strategy};

/// `deploymentConfiguration`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentSettings {
    /// Of the desired count, rounded up: so many tasks stay healthy.
    pub healthy_percent_min: u32,
    /// Of the desired count, rounded down: no more tasks than this run or start.
    pub percent_max: u32,
    pub breaker: Option<Breaker>,
    /// How long a finished deployment is watched before it counts as done.
    pub bake_minutes: Option<u32>,
    #[serde(default, skip_serializing_if = "Strategy::is_rolling")]
    pub strategy: Strategy,
    /// Where deployments that shift traffic wait to hear whether they go on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
}

/// `deploymentCircuitBreaker`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Breaker {
    pub is_enabled: bool,
    pub rolls_back: bool,
    /// Whether a healthy task sets the count of failures back; ECS's default is that it does.
    pub resets_on_healthy_task: Option<bool>,
    pub threshold: Option<BreakerThreshold>,
}

/// How many failures trip the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BreakerThreshold {
    /// So many tasks.
    Count(u32),
    /// So many percent of the desired count; ECS bounds what it comes to by 3 and 200.
    BoundedPercent(u32),
    /// So many percent of the desired count.
    Percent(u32),
}

/// `placementConstraints` of a service, as they were sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PlacementConstraint {
    DistinctInstance,
    /// With an expression of the cluster query language.
    MemberOf(String),
}

/// `placementStrategy` of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PlacementStrategy {
    Random,
    /// `instanceId`, `host` or `attribute:<name>`, as it was sent.
    Spread(String),
    BinpackCpu,
    BinpackMemory,
}

/// `propagateTags`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Propagate {
    #[default]
    None,
    TaskDefinition,
    Service,
}
