//! Keys of KMS and their aliases. Key material is kept wrapped by the region's root key, which is in no row.

use std::collections::{BTreeMap, BTreeSet};
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

/// Somebody whom a grant names: who had the ARN when it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrantPrincipal {
    pub arn: String,
    /// What the grant lets them do, as a policy of the key says it.
    pub policy: ResourceText,
}

/// The encryption context that a request must have for a grant to permit it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GrantConstraint {
    /// These pairs and no others.
    Equals(BTreeMap<String, String>),
    /// These among others.
    Subset(BTreeMap<String, String>),
}

impl GrantConstraint {
    /// Whether an encryption context is one of those that it asks for.
    pub fn holds_for(&self, context: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Equals(pairs) => pairs == context,
            Self::Subset(pairs) => {
                pairs.iter().all(|(name, value)| context.get(name) == Some(value))
            }
        }
    }

    /// Whether all that another one lets pass, it lets pass too.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Equals(own), Self::Equals(others)) => own == others,
            (Self::Equals(_), Self::Subset(_)) => false,
            (Self::Subset(_), Self::Equals(others) | Self::Subset(others)) => {
                self.holds_for(others)
            }
        }
    }
}

/// Lets somebody use a key besides its policy, until it is retired or revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyGrant {
    /// By which it is made once, however often it is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub created_at: Timestamp,
    /// Whose request made it.
    pub issuer: AccountId,
    pub grantee: GrantPrincipal,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retiring: Option<GrantPrincipal>,
    /// Such as `Decrypt`.
    pub operations: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraint: Option<GrantConstraint>,
}

/// Operations that have no encryption context, so that no constraint is about them.
const WITHOUT_CONTEXT: [&str; 3] = ["CreateGrant", "DescribeKey", "RetireGrant"];

impl KeyGrant {
    /// Whether it lets its grantee do an operation, such as `Decrypt`, with an encryption context.
    pub fn permits(&self, operation: &str, context: &BTreeMap<String, String>) -> bool {
        let is_free = WITHOUT_CONTEXT.contains(&operation);
        let holds = |constraint: &GrantConstraint| is_free || constraint.holds_for(context);
        self.operations.contains(operation) && self.constraint.as_ref().is_none_or(holds)
    }

    /// Whether its grantee may make another one: with no more operations, where it may make any, and under no less.
    pub fn permits_grant(
        &self,
        operations: &BTreeSet<String>,
        constraint: Option<&GrantConstraint>,
    ) -> bool {
        let is_as_strict = match (&self.constraint, constraint) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(others)) => own.covers(others),
        };
        self.operations.contains("CreateGrant")
            && operations.is_subset(&self.operations)
            && is_as_strict
    }
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
    /// By their ids: 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub grants: BTreeMap<Arc<str>, KeyGrant>,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(of: &[(&str, &str)]) -> BTreeMap<String, String> {
        of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_constraint_covers_what_lets_no_more_pass() {
        let (one, two) = (pairs(&[("a", "1")]), pairs(&[("a", "1"), ("b", "2")]));
        let (equals, subset) = (GrantConstraint::Equals, GrantConstraint::Subset);
        for (own, other, expected) in [
            (equals(one.clone()), equals(one.clone()), true),
            (equals(one.clone()), equals(two.clone()), false),
            (equals(one.clone()), subset(one.clone()), false),
            (subset(one.clone()), equals(two.clone()), true),
            (subset(one.clone()), subset(two.clone()), true),
            (subset(two.clone()), subset(one.clone()), false),
            (subset(two.clone()), equals(one.clone()), false),
        ] {
            assert_eq!(own.covers(&other), expected, "{own:?} {other:?}");
            // What it covers lets nothing pass that it does not.
            for context in [pairs(&[]), one.clone(), two.clone(), pairs(&[("a", "2")])] {
                let passes = other.holds_for(&context) && own.covers(&other);
                assert!(!passes || own.holds_for(&context), "{own:?} {other:?} {context:?}");
            }
        }
    }
}
