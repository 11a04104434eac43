//! Application Auto Scaling of ECS services: what may be scaled within which bounds, by which policies and when, and what
//! was done.
//!
//! **Invariant:** a service has at most one target, and policies and scheduled actions are the target's own; a policy that
//! tracks a value owns the alarms that it names.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_types::{AccountId, Scope, Timestamp, Uuid};
use serde::{Deserialize, Serialize};

use crate::alarm::Statistic;
use crate::service::ServiceId;
use crate::table::Record;
use crate::tags::Tags;

/// What was done last for a target: so many things are kept.
pub const ACTIVITIES_MAX: usize = 100;
/// For so long: six weeks.
pub const ACTIVITIES_KEPT_MS: u64 = 42 * 86_400_000;
/// The one dimension that is scaled.
pub const DIMENSION: &str = "ecs:service:DesiredCount";
pub const NAMESPACE: &str = "ecs";

/// `service/<cluster>/<service>`
pub fn resource_id(service: &ServiceId) -> String {
    format!("service/{}/{}", service.cluster, service.name)
}

/// The service that a resource id names.
pub fn service_of(resource_id: &str) -> Option<ServiceId> {
    let (cluster, name) = resource_id.strip_prefix("service/")?.split_once('/')?;
    Some(ServiceId { cluster: cluster.parse().ok()?, name: name.parse().ok()? })
}

/// The service that a policy scales, by the policy's ARN.
pub fn service_of_policy(arn: &str) -> Option<ServiceId> {
    let (_, rest) = arn.split_once(":resource/ecs/")?;
    service_of(rest.split_once(":policyName/")?.0)
}

/// What is not done by itself for the time being.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Suspended {
    pub scaling_in: bool,
    pub scaling_out: bool,
    pub scheduled: bool,
}

/// What a tracking policy looks at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TrackedMetric {
    CpuUtilization,
    MemoryUtilization,
    /// The requests of a minute that each target of a group gets from an application balancer.
    RequestsPerTarget {
        /// `app/web/50dc6c495c0c9188`
        balancer: crate::elb::ElbPath,
        /// `web/73e2d6bc24d8a067`
        group: crate::elb::ElbPath,
    },
    Custom {
        namespace: String,
        name: String,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        dimensions: BTreeMap<String, String>,
        statistic: Statistic,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unit: Option<String>,
    },
    /// Computed from several, as alarms are.
    Computed(Vec<crate::alarm::WatchedQuery>),
}

/// Keeps a metric near a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tracking {
    pub target: f64,
    pub metric: TrackedMetric,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_cooldown_s: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_cooldown_s: Option<u32>,
    /// As it was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_scale_in: Option<bool>,
    /// The alarm above the target, and the one below it, if it scales in.
    pub high: Arc<str>,
    pub low: Option<Arc<str>>,
}

/// What a step changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdjustmentKind {
    ChangeInCapacity,
    PercentChangeInCapacity,
    ExactCapacity,
}

impl AdjustmentKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ChangeInCapacity => "ChangeInCapacity",
            Self::PercentChangeInCapacity => "PercentChangeInCapacity",
            Self::ExactCapacity => "ExactCapacity",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::ChangeInCapacity, Self::PercentChangeInCapacity, Self::ExactCapacity]
            .into_iter()
            .find(|it| it.as_str() == text)
    }
}

/// What is done where a metric is so far from its alarm's threshold. A bound that is not there is endless.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper: Option<f64>,
    pub adjustment: i32,
}

/// Changes the count by steps, when alarms of somebody's say so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stepping {
    pub kind: AdjustmentKind,
    pub steps: Vec<Step>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cooldown_s: Option<u32>,
    /// `MetricAggregationType`, as it was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregation: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PolicyKind {
    Tracking(Tracking),
    Stepping(Stepping),
}

/// A scaling policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScalingPolicy {
    pub id: Uuid,
    pub created_at: Timestamp,
    pub kind: PolicyKind,
}

/// Bounds that a target gets at some time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledAction {
    pub id: Uuid,
    pub created_at: Timestamp,
    /// As it was said, as is the next.
    pub schedule: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// Up to when it was looked at: what comes later is yet to be done.
    pub done_until: Timestamp,
}

/// The last time that the count was raised or lowered by policies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LastMoves {
    /// Until when the last raise goes on to count.
    pub out_until: Option<Timestamp>,
    /// How many were added in that time.
    pub added: u32,
    pub in_until: Option<Timestamp>,
}

/// A service that is scaled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScalableTarget {
    pub scope: Scope,
    pub service: ServiceId,
    /// In its ARN.
    pub id: String,
    pub min: u32,
    pub max: u32,
    #[serde(default)]
    pub suspended: Suspended,
    pub created_at: Timestamp,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub policies: BTreeMap<String, ScalingPolicy>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub actions: BTreeMap<String, ScheduledAction>,
    #[serde(default)]
    pub last: LastMoves,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: Tags,
}

impl ScalableTarget {
    pub fn arn(&self) -> String {
        let Scope { region, account } = &self.scope;
        format!("arn:aws:application-autoscaling:{region}:{account}:scalable-target/{}", self.id)
    }

    pub fn resource_id(&self) -> String {
        resource_id(&self.service)
    }

    /// The ARN of one of its policies.
    pub fn policy_arn(&self, name: &str, policy: &ScalingPolicy) -> String {
        let Scope { region, account } = &self.scope;
        let (id, resource) = (policy.id, self.resource_id());
        format!(
            "arn:aws:autoscaling:{region}:{account}:scalingPolicy:{id}:resource/ecs/{resource}:policyName/{name}"
        )
    }

    /// The ARN of one of its scheduled actions.
    pub fn action_arn(&self, name: &str, action: &ScheduledAction) -> String {
        let Scope { region, account } = &self.scope;
        let (id, resource) = (action.id, self.resource_id());
        format!(
            "arn:aws:autoscaling:{region}:{account}:scheduledAction:{id}:resource/ecs/{resource}:scheduledActionName/{name}"
        )
    }
}

impl Record for ScalableTarget {
    type Id = ServiceId;

    fn account(&self) -> AccountId {
        self.scope.account
    }

    fn id(&self) -> ServiceId {
        self.service.clone()
    }
}

/// How an activity stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActivityStatus {
    InProgress,
    Successful,
    /// Another took its place.
    Overridden,
    /// The service did not come to it in time.
    Unfulfilled,
    Failed,
}

impl ActivityStatus {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "InProgress",
            Self::Successful => "Successful",
            Self::Overridden => "Overridden",
            Self::Unfulfilled => "Unfulfilled",
            Self::Failed => "Failed",
        }
    }
}

/// Why nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotScaled {
    AlreadyAtMaxCapacity,
    AlreadyAtMinCapacity,
}

impl NotScaled {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AlreadyAtMaxCapacity => "AlreadyAtMaxCapacity",
            Self::AlreadyAtMinCapacity => "AlreadyAtMinCapacity",
        }
    }
}

/// Something that was done for a target, or was not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScalingActivity {
    pub id: Uuid,
    pub started_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    pub description: String,
    pub cause: String,
    pub status: ActivityStatus,
    pub message: String,
    /// The count that is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<u32>,
    /// With the count, and the bound that it is at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_scaled: Option<(NotScaled, u32)>,
}

/// What was done for a service, the oldest first; also once it is scaled no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScalingActivities {
    pub account: AccountId,
    pub service: ServiceId,
    pub items: Vec<ScalingActivity>,
}

impl ScalingActivities {
    /// Adds one, and forgets what is too old to be shown.
    pub fn add(&mut self, activity: ScalingActivity) {
        let now = activity.started_at;
        self.items.retain(|old| now.since_ms(old.started_at) < ACTIVITIES_KEPT_MS);
        self.items.push(activity);
        let over = self.items.len().saturating_sub(ACTIVITIES_MAX);
        self.items.drain(..over);
    }
}

impl Record for ScalingActivities {
    type Id = ServiceId;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> ServiceId {
        self.service.clone()
    }
}
