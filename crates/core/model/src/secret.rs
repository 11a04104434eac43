//! Secrets of Secrets Manager. What a version holds is in a row of its own, sealed: a list of secrets reads
//! no value.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use longshore_types::{AccountId, TaskId, Timestamp, Uuid};
use serde::{Deserialize, Serialize};

use crate::resource_policy::ResourceText;
use crate::table::Record;
use crate::tags::Tags;

/// The stage of the version that is meant when none is named.
pub const CURRENT: &str = "AWSCURRENT";
/// The stage of the version that was current before.
pub const PREVIOUS: &str = "AWSPREVIOUS";

/// The stage of the version that a rotation is to make current.
pub const PENDING: &str = "AWSPENDING";

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
    /// The key that sealed it; none while a rotation has named the version and given it no value yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Uuid>,
}

/// That a secret is to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedDeletion {
    pub asked_at: Timestamp,
    /// From then on it is gone.
    pub due_at: Timestamp,
}

/// The steps of a rotation, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RotationStep {
    CreateSecret,
    SetSecret,
    TestSecret,
    FinishSecret,
}

impl RotationStep {
    pub const FIRST: Self = Self::CreateSecret;

    pub fn as_str(self) -> &'static str {
        match self {
            Self::CreateSecret => "createSecret",
            Self::SetSecret => "setSecret",
            Self::TestSecret => "testSecret",
            Self::FinishSecret => "finishSecret",
        }
    }

    pub fn next(self) -> Option<Self> {
        match self {
            Self::CreateSecret => Some(Self::SetSecret),
            Self::SetSecret => Some(Self::TestSecret),
            Self::TestSecret => Some(Self::FinishSecret),
            Self::FinishSecret => None,
        }
    }
}

/// When a secret is rotated, as it was asked for and found well formed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RotationRules {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_days: Option<u32>,
    /// `3h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// `rate(…)` or `cron(…)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
}

/// The task that does a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RotationTask {
    pub id: TaskId,
    /// When it is stopped, and its step has failed.
    pub due_at: Timestamp,
}

/// A rotation that has begun and is not over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RotationRun {
    /// The version that is to become the current one.
    pub version: String,
    pub step: RotationStep,
    /// Counts from one; each begins with the first step.
    pub attempt: u32,
    /// It waits until then.
    pub not_before: Timestamp,
    /// Only one step is done, and the version is removed then.
    #[serde(default)]
    pub is_test: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<RotationTask>,
    /// Why the last attempt came to nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// By what and when a secret is rotated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rotation {
    pub is_enabled: bool,
    /// A task definition's ARN or a hook's URL, as it was given.
    pub target: String,
    /// In which cluster tasks do the steps: where whoever asked for the rotation may run them. None is `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    #[serde(default)]
    pub rules: RotationRules,
    /// The schedule is counted from here.
    pub counted_from: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RotationRun>,
    /// A task of a rotation that is over, which is to be stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leftover: Option<TaskId>,
    /// Grows with each step that is over: whoever asks for a step's task again names the same one.
    #[serde(default)]
    pub calls: u64,
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
    /// None: it was never asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Box<Rotation>>,
    /// Since when the version with `AWSCURRENT` is the one that has it; none for one of before this was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_since: Option<Timestamp>,
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
