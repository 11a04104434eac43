//! Keys of KMS and their aliases. Key material is kept wrapped by the region's root key, which is in no row.

use std::sync::Arc;

use longshore_types::{AccountId, Timestamp, Uuid};
use serde::{Deserialize, Serialize};

use crate::resource_policy::ResourceText;
use crate::table::Record;
use crate::tags::Tags;

/// Whose key it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeyManager {
    Customer,
    /// Made for a service when it first needed one: `secretsmanager`, `ssm`.
    Aws(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeyState {
    Enabled,
    Disabled,
    /// It opens nothing any more, and is destroyed at that time.
    PendingDeletion(Timestamp),
}

/// What made a key's material come to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MaterialCause {
    Creation,
    Automatic,
    OnDemand,
}

/// One version of a key's material.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyMaterial {
    /// By the region's root key.
    pub wrapped: String,
    pub made_at: Timestamp,
    pub cause: MaterialCause,
}

/// That new material is made by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyRotation {
    pub period_days: u32,
    pub next_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KmsKey {
    pub account: AccountId,
    pub id: Uuid,
    pub manager: KeyManager,
    #[serde(default)]
    pub description: String,
    pub state: KeyState,
    pub created_at: Timestamp,
    pub policy: ResourceText,
    #[serde(default)]
    pub tags: Tags,
    /// In the order in which they were made: the last one seals, all open.
    pub materials: Vec<KeyMaterial>,
    #[serde(default)]
    pub rotation: Option<KeyRotation>,
}

impl Record for KmsKey {
    type Id = Uuid;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> Uuid {
        self.id
    }
}

/// A name for a key, `alias/…`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KmsAlias {
    pub account: AccountId,
    pub name: Arc<str>,
    pub key: Uuid,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Record for KmsAlias {
    type Id = Arc<str>;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }
}
