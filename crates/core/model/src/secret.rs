//! Secrets of Secrets Manager. What a version holds is in a row of its own, sealed: a list of secrets reads
//! no value.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use longshore_types::{AccountId, Timestamp, Uuid};
use serde::{Deserialize, Serialize};

use crate::resource_policy::ResourceText;
use crate::table::Record;
use crate::tags::Tags;

/// The stage of the version that is meant when none is named.
pub const CURRENT: &str = "AWSCURRENT";
/// The stage of the version that was current before.
pub const PREVIOUS: &str = "AWSPREVIOUS";

/// What is shown of a version without opening it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionInfo {
    pub created_at: Timestamp,
    /// None: it is deprecated.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub stages: BTreeSet<String>,
    /// When its value was last asked for, to the day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accessed_on: Option<Timestamp>,
    /// The key that sealed it.
    pub key: Uuid,
}

/// That a secret is to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedDeletion {
    pub asked_at: Timestamp,
    /// From then on it is gone.
    pub due_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    pub account: AccountId,
    pub name: Arc<str>,
    /// Names its versions: a secret that is made anew under the name has another.
    pub uid: Uuid,
    /// The six characters after the name in its ARN.
    pub suffix: String,
    #[serde(default)]
    pub description: Option<String>,
    /// As it was named; none: `alias/aws/secretsmanager`.
    #[serde(default)]
    pub kms_key: Option<String>,
    pub created_at: Timestamp,
    pub changed_at: Timestamp,
    #[serde(default)]
    pub accessed_on: Option<Timestamp>,
    #[serde(default)]
    pub deletion: Option<PlannedDeletion>,
    #[serde(default)]
    pub tags: Tags,
    #[serde(default)]
    pub policy: Option<ResourceText>,
    /// By version id.
    #[serde(default)]
    pub versions: BTreeMap<String, VersionInfo>,
}

impl Secret {
    /// The version that has a stage.
    pub fn staged(&self, stage: &str) -> Option<&str> {
        let found = self.versions.iter().find(|(_, info)| info.stages.contains(stage));
        found.map(|(id, _)| id.as_str())
    }

    /// The row of a version's value.
    pub fn version_id(&self, version: &str) -> SecretVersionId {
        SecretVersionId { secret: self.uid, version: version.into() }
    }
}

impl Record for Secret {
    type Id = Arc<str>;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }
}

/// A version of a secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretVersionId {
    pub secret: Uuid,
    pub version: Arc<str>,
}

impl fmt::Display for SecretVersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.secret, self.version)
    }
}

/// What a version holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretVersion {
    pub account: AccountId,
    pub id: SecretVersionId,
    /// By a key of KMS, in base64.
    pub sealed: String,
    /// It was given as bytes, not as text.
    #[serde(default)]
    pub is_binary: bool,
}

impl Record for SecretVersion {
    type Id = SecretVersionId;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> SecretVersionId {
        self.id.clone()
    }
}
