//! Hosts that joined the region, and the tokens and activations that they join by.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_types::{AccountId, ClusterName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::table::Record;
use crate::tags::Tags;

/// What a host that joins is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodePlan {
    /// The only cluster that it may be an instance of.
    pub cluster: ClusterName,
    /// Its Availability Zone, if it may not say that itself.
    #[serde(default)]
    pub zone: Option<String>,
    /// Attributes that it has, whatever it says of itself.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// How long its keys are good; they are renewed at half of that.
    pub key_ms: u64,
}

/// A token that hosts join by, without what proves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinToken {
    pub account: AccountId,
    pub id: Arc<str>,
    /// Of its secret.
    pub hash: String,
    pub plan: NodePlan,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    /// How many hosts may join by it; without it any number.
    #[serde(default)]
    pub uses_max: Option<u32>,
    #[serde(default)]
    pub uses: u32,
    #[serde(default)]
    pub revoked_at: Option<Timestamp>,
}

impl Record for JoinToken {
    type Id = Arc<str>;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> Arc<str> {
        Arc::clone(&self.id)
    }
}

/// One of a node's keys: it has two while one takes the other's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeKey {
    /// The access key's id.
    pub id: String,
    /// Under a key that is not in the store.
    pub sealed_secret: String,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
}

/// What hosts become managed instances of Systems Manager by, without what proves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Activation {
    pub account: AccountId,
    /// A UUID.
    pub id: Arc<str>,
    /// Of its code.
    pub hash: String,
    #[serde(default)]
    pub description: Option<String>,
    /// What the instances are called.
    #[serde(default)]
    pub instance_name: Option<String>,
    /// The role whose permissions the instances have, by the name that it was given by.
    pub role: String,
    pub limit: u32,
    #[serde(default)]
    pub count: u32,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    /// Of the activation, and of the instances that come by it.
    #[serde(default)]
    pub tags: Tags,
}

impl Record for Activation {
    type Id = Arc<str>;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> Arc<str> {
        Arc::clone(&self.id)
    }
}

/// What a host is that joined by an activation: a managed instance of the activation's account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Managed {
    /// `mi-` and 17 hexadecimal digits.
    pub id: Arc<str>,
    pub account: AccountId,
    /// The activation's id.
    pub activation: Arc<str>,
    /// Whose permissions it has, by the name that it was given by.
    pub role: String,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub tags: Tags,
    /// Where it was when it joined.
    #[serde(default)]
    pub address: Option<String>,
    /// Its system's name and version.
    #[serde(default)]
    pub platform: Option<(String, String)>,
    /// When it last checked in, within minutes.
    pub seen_at: Timestamp,
}

/// A host that joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    pub account: AccountId,
    /// Follows from what the host calls itself when it joins, and is part of the ids of its keys.
    pub id: Arc<str>,
    /// The host's own name.
    pub host_name: String,
    /// The token or activation that it joined by.
    pub token: Arc<str>,
    pub plan: NodePlan,
    /// The newest last.
    pub keys: Vec<NodeKey>,
    pub joined_at: Timestamp,
    /// Whether it has used a key: a repeated join is refused from then on.
    #[serde(default)]
    pub is_confirmed: bool,
    /// The release of its agent.
    #[serde(default)]
    pub release: Option<String>,
    /// If it joined by an activation. Its row is kept with the others all the same.
    #[serde(default)]
    pub managed: Option<Managed>,
    /// The program that its agent runs, as it last said.
    #[serde(default)]
    pub build: Option<Build>,
    /// If it is to take the region's.
    #[serde(default)]
    pub upgrade: Option<Upgrade>,
}

/// A program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Build {
    /// SHA-256, in hexadecimal digits.
    pub digest: String,
    /// Whether the region ran the same when the host said so.
    #[serde(default)]
    pub is_regions: bool,
}

/// A host's part in an upgrade of several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Upgrade {
    /// When it was wanted: one run's hosts have the same.
    pub run: Timestamp,
    pub state: UpgradeState,
}

/// How far a host is with it; once it has the region's program there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum UpgradeState {
    /// Others of the run come first.
    Queued,
    /// It was told which program to take.
    Asked { at: Timestamp },
    /// It runs what it ran before, and why.
    Failed(String),
}

impl Upgrade {
    pub fn is_asked(&self) -> bool {
        matches!(self.state, UpgradeState::Asked { .. })
    }

    pub fn is_failed(&self) -> bool {
        matches!(self.state, UpgradeState::Failed(_))
    }
}

impl Node {
    /// Whose instances its host can be: of the account that keeps hosts, or of the activation's.
    pub fn tenant(&self) -> AccountId {
        self.managed.as_ref().map_or(self.account, |managed| managed.account)
    }
}

impl Record for Node {
    type Id = Arc<str>;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> Arc<str> {
        Arc::clone(&self.id)
    }
}
