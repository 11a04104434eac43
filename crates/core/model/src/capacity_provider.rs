//! Capacity providers: named pools of container instances that strategies spread tasks over.
//!
//! `FARGATE` and `FARGATE_SPOT` are every account's and have no row. A provider of one's own names an
//! Auto Scaling group; the instances that say they belong to that group are its pool.

use std::ops::RangeInclusive;

use longshore_types::{AccountId, CapacityProviderArn, Scope, Timestamp};
use serde::{Deserialize, Serialize};

use crate::table::Record;
use crate::tags::Tags;

/// The attribute by which an instance says to which Auto Scaling group it belongs.
pub const GROUP_ATTRIBUTE: &str = "longshore.auto-scaling-group";

/// The tag of a provider that says after how many seconds of silence its instances are lost, whatever the
/// region's own limit is.
pub const HEARTBEAT_TIMEOUT_TAG: &str = "longshore.heartbeat-timeout-seconds";
/// What that may be.
pub const HEARTBEAT_TIMEOUT_S: RangeInclusive<u64> = 10..=86_400;

/// A provider's life, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ProviderStatus {
    Active,
    /// Deleted, and still described for a while; the name is free again.
    Inactive,
}

/// `managedScaling`: with it, tasks without capacity wait for instances to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagedScaling {
    pub is_enabled: bool,
    /// In percent of the group's capacity, 1 to 100.
    pub target_capacity_percent: u32,
    /// 1 to 10,000 instances.
    pub step_min: u32,
    /// 1 to 10,000 instances.
    pub step_max: u32,
    pub instance_warmup_s: u32,
}

/// A capacity provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CapacityProvider {
    pub scope: Scope,
    pub name: String,
    pub status: ProviderStatus,
    /// The ARN of the Auto Scaling group, or its name, as it was sent.
    pub group_arn: String,
    pub scaling: ManagedScaling,
    pub protects_instances: bool,
    pub drains_instances: bool,
    /// `UPDATE_COMPLETE` and the like; none for one that was never changed.
    pub update_status: Option<String>,
    /// Why it could not be deleted.
    #[serde(default)]
    pub update_status_reason: Option<String>,
    pub tags: Tags,
    pub created_at: Timestamp,
    pub deleted_at: Option<Timestamp>,
}

impl CapacityProvider {
    pub fn arn(&self) -> CapacityProviderArn {
        CapacityProviderArn { scope: self.scope.clone(), name: self.name.clone() }
    }

    pub fn is_active(&self) -> bool {
        self.status == ProviderStatus::Active
    }

    /// After how much silence its instances are lost, if it says so itself.
    pub fn heartbeat_timeout_ms(&self) -> Option<u64> {
        let seconds = read_heartbeat_timeout_s(self.tags.get(HEARTBEAT_TIMEOUT_TAG)?)?;
        Some(seconds * 1_000)
    }

    /// The group's name: what follows `autoScalingGroupName/` in the ARN, if it is one.
    pub fn group_name(&self) -> &str {
        let name = self.group_arn.rsplit_once(":autoScalingGroupName/");
        name.map_or(self.group_arn.as_str(), |(_, name)| name)
    }
}

/// The value of the tag; `None` if it is none that a provider may have.
pub fn read_heartbeat_timeout_s(value: &str) -> Option<u64> {
    value.parse().ok().filter(|seconds| HEARTBEAT_TIMEOUT_S.contains(seconds))
}

impl Record for CapacityProvider {
    type Id = String;

    fn account(&self) -> AccountId {
        self.scope.account
    }

    fn id(&self) -> String {
        self.name.clone()
    }
}
