//! Parameters of Systems Manager. Each version is a row of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use longshore_types::{AccountId, Timestamp, Uuid};
use serde::{Deserialize, Serialize};

use crate::table::Record;
use crate::tags::Tags;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parameter {
    pub account: AccountId,
    pub name: Arc<str>,
    /// It was put as `/name`, though it is in no hierarchy.
    #[serde(default)]
    pub has_slash: bool,
    /// Names its versions: a parameter that is made anew under the name has another.
    pub uid: Uuid,
    /// The versions from the oldest to the latest are there.
    pub oldest: u64,
    pub latest: u64,
    /// The version of each label.
    #[serde(default)]
    pub labels: BTreeMap<String, u64>,
    #[serde(default)]
    pub tags: Tags,
    /// When it is deleted, by a policy of its latest version.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// What its policies tell EventBridge of besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<ParameterNotice>,
}

/// What a policy of a parameter's latest version tells of once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParameterNotice {
    /// Which of the version's policies it is.
    pub policy: usize,
    pub at: Timestamp,
    #[serde(default)]
    pub is_told: bool,
}

impl Parameter {
    /// Its name as it was put.
    pub fn shown_name(&self) -> String {
        match self.has_slash {
            true => format!("/{}", self.name),
            false => self.name.to_string(),
        }
    }

    /// The row of a version.
    pub fn version_id(&self, version: u64) -> ParameterVersionId {
        ParameterVersionId { parameter: self.uid, version }
    }

    /// The labels of a version.
    pub fn labels_of(&self, version: u64) -> impl Iterator<Item = &String> {
        let here = self.labels.iter().filter(move |(_, at)| **at == version);
        here.map(|(label, _)| label)
    }
}

impl Record for Parameter {
    type Id = Arc<str>;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParameterVersionId {
    pub parameter: Uuid,
    pub version: u64,
}

impl fmt::Display for ParameterVersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.parameter, self.version)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ParameterTier {
    Standard,
    Advanced,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ParameterValue {
    Text(String),
    /// Comma-separated.
    List(String),
    Secure {
        /// By a key of KMS, in base64.
        sealed: String,
        /// The key as it was named.
        key: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParameterVersion {
    pub account: AccountId,
    pub id: ParameterVersionId,
    pub value: ParameterValue,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub allowed_pattern: Option<String>,
    pub tier: ParameterTier,
    /// `text`, `aws:ec2:image`.
    pub data_type: String,
    /// Each as it was given, in JSON.
    #[serde(default)]
    pub policies: Vec<String>,
    pub modified_at: Timestamp,
    /// An ARN.
    pub modified_by: String,
}

impl Record for ParameterVersion {
    type Id = ParameterVersionId;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> ParameterVersionId {
        self.id
    }
}
