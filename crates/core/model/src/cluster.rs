//! Clusters: names under which tasks and container instances are gathered.

use std::collections::BTreeMap;

use longshore_types::{AccountId, ClusterArn, ClusterName, RegionName, Scope, Timestamp};
use serde::{Deserialize, Serialize};

use crate::discovery::MapId;
use crate::document::Document;
use crate::table::Record;
use crate::tags::Tags;

/// A cluster's life, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ClusterStatus {
    Active,
    /// Deleted, and still described for a while; the name is free again.
    Inactive,
}

/// The capacity providers that every account has.
pub const FARGATE_PROVIDERS: [&str; 2] = ["FARGATE", "FARGATE_SPOT"];

/// One item of a capacity provider strategy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StrategyItem {
    pub capacity_provider: String,
    pub weight: u32,
    pub base: u32,
}

impl StrategyItem {
    pub fn is_fargate(&self) -> bool {
        FARGATE_PROVIDERS.contains(&self.capacity_provider.as_str())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    pub account: AccountId,
    pub name: ClusterName,
    pub status: ClusterStatus,
    pub created_at: Timestamp,
    /// Set once the cluster is inactive.
    pub deleted_at: Option<Timestamp>,
    /// Every setting with its value, defaults included.
    pub settings: BTreeMap<String, String>,
    /// `configuration` as it was sent.
    pub configuration: Option<Document>,
    pub capacity_providers: Vec<String>,
    pub default_strategy: Vec<StrategyItem>,
    pub tags: Tags,
    /// `serviceConnectDefaults`: the namespace of services that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_namespace: Option<MapId>,
}

impl Cluster {
    pub fn is_active(&self) -> bool {
        self.status == ClusterStatus::Active
    }

    pub fn arn(&self, region: &RegionName) -> ClusterArn {
        let scope = Scope { region: region.clone(), account: self.account };
        ClusterArn { scope, name: self.name.clone() }
    }
}

impl Record for Cluster {
    type Id = ClusterName;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> ClusterName {
        self.name.clone()
    }
}
