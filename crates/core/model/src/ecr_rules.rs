//! What a registry does by itself for repositories whose names begin so: fetch images from elsewhere, and make
//! repositories that are wanted.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use longshore_types::{AccountId, RepositoryName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::ecr::TagMutability;
use crate::repository_policy::ResourcePolicyText;
use crate::table::Record;
use crate::tags::Tags;

/// The prefix that means every name.
const ROOT: &str = "ROOT";

/// What names begin with: whole words of a path, or nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NamePrefix(Arc<str>);

impl NamePrefix {
    /// A slash at the end is there whether it is written or not.
    pub fn new(text: &str) -> Self {
        Self(text.trim_end_matches('/').into())
    }

    pub fn root() -> Self {
        Self(ROOT.into())
    }

    pub fn is_root(&self) -> bool {
        &*self.0 == ROOT
    }

    /// What follows the prefix in a name that begins with it.
    pub fn rest_of<'n>(&self, name: &'n RepositoryName) -> Option<&'n str> {
        match self.is_root() {
            true => Some(name.as_str()),
            false => name.as_str().strip_prefix(&*self.0)?.strip_prefix('/'),
        }
    }

    /// A name that begins with the prefix.
    pub fn join(&self, rest: &str) -> String {
        match self.is_root() {
            true => rest.to_owned(),
            false => format!("{}/{rest}", self.0),
        }
    }

    /// How much of a name the prefix settles: of several that fit, the one that settles the most counts.
    pub fn weight(&self) -> usize {
        if self.is_root() { 0 } else { self.0.len() }
    }
}

impl fmt::Display for NamePrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Images of repositories under a prefix come from another registry when they are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EcrPullThroughRule {
    pub account: AccountId,
    /// As it was given.
    pub prefix: String,
    /// As it was given: a host, perhaps with a port.
    pub upstream_url: String,
    /// Amazon's name of that registry, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// What repositories' names begin with there, if anything was said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_prefix: Option<NamePrefix>,
    /// The ARN of the secret with user and token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Record for EcrPullThroughRule {
    type Id = NamePrefix;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> NamePrefix {
        NamePrefix::new(&self.prefix)
    }
}

/// When a repository is made by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MadeFor {
    PullThroughCache,
    CreateOnPush,
}

/// What repositories under a prefix are like that are made by themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EcrTemplate {
    pub account: AccountId,
    /// As it was given.
    pub prefix: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub made_for: BTreeSet<MadeFor>,
    #[serde(default)]
    pub tag_mutability: TagMutability,
    #[serde(default)]
    pub mutability_exclusions: Vec<String>,
    #[serde(default)]
    pub tags: Tags,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<ResourcePolicyText>,
    /// The text of a lifecycle policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<String>,
    /// The ARN of the role that makes the repository, besides whoever wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Record for EcrTemplate {
    type Id = NamePrefix;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> NamePrefix {
        NamePrefix::new(&self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_at_a_slash_and_root_is_before_every_name() {
        for (prefix, name, rest) in [
            ("hub", "hub/library/nginx", Some("library/nginx")),
            ("hub/", "hub/nginx", Some("nginx")),
            ("hub", "hubble/nginx", None),
            ("hub", "hub", None),
            ("team/hub", "team/hub/a/b", Some("a/b")),
            ("ROOT", "a/b", Some("a/b")),
        ] {
            let found = NamePrefix::new(prefix);
            assert_eq!(found.rest_of(&name.parse().unwrap()), rest, "{prefix} {name}");
            if let Some(rest) = rest {
                assert_eq!(found.join(rest), name);
            }
        }
        assert!(NamePrefix::root().weight() < NamePrefix::new("ab").weight());
    }
}
