//! Repositories, their manifests and tags. Blobs themselves live in the image store.

use std::collections::BTreeMap;
use std::fmt;

use longshore_types::{AccountId, Digest, ImageTag, RepositoryName, Timestamp, Uuid};
use serde::{Deserialize, Serialize};

use crate::iam::TheAccount;
use crate::repository_policy::ResourcePolicyText;
use crate::table::Record;
use crate::tags::Tags;

/// Whether a tag may be moved to another image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TagMutability {
    #[default]
    Mutable,
    Immutable,
    /// Mutable but for tags that match an exclusion filter.
    MutableWithExclusion,
    /// Immutable but for tags that match an exclusion filter.
    ImmutableWithExclusion,
}

/// A repository: a name under which images are pushed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EcrRepository {
    pub account: AccountId,
    pub name: RepositoryName,
    pub created_at: Timestamp,
    pub tag_mutability: TagMutability,
    /// Wildcard patterns of tags.
    pub mutability_exclusions: Vec<String>,
    /// Whether the operator's scanner, if there is one, looks at what is pushed.
    #[serde(default)]
    pub scan_on_push: bool,
    /// The key without which nothing is pushed and nothing pulled; none: `AES256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<RepositoryKey>,
    pub tags: Tags,
    /// Who else may do what with it, and who may not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<ResourcePolicyText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<LifecyclePreview>,
}

/// The key of KMS that a repository was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryKey {
    pub account: AccountId,
    pub id: Uuid,
}

/// Which images expire by themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lifecycle {
    /// As it was given.
    pub text: String,
    /// When it was last acted on, as of some hour; `None` until it was.
    pub evaluated_at: Option<Timestamp>,
}

/// What a policy would let expire, and as of when that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LifecyclePreview {
    pub text: String,
    pub asked_at: Timestamp,
}

/// What an account's registry has besides repositories.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EcrRegistry {
    pub account: AccountId,
    /// It counts for all repositories.
    pub policy: ResourcePolicyText,
}

impl Record for EcrRegistry {
    type Id = TheAccount;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> TheAccount {
        TheAccount
    }
}

/// Which repositories of a registry are scanned when images are pushed, besides those that say so themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EcrScanning {
    pub account: AccountId,
    pub rules: Vec<ScanningRule>,
}

/// The repositories whose names match one of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScanningRule {
    /// Otherwise an image is scanned when that is asked for.
    pub on_push: bool,
    pub filters: Vec<String>,
}

impl ScanningRule {
    /// The filters that a repository's name matches: one without a wildcard is found anywhere in it.
    pub fn matches<'a>(&'a self, name: &'a RepositoryName) -> impl Iterator<Item = &'a String> {
        self.filters.iter().filter(|filter| match filter.contains('*') {
            true => wildcard_matches(filter, name.as_str()),
            false => name.as_str().contains(filter.as_str()),
        })
    }
}

impl EcrScanning {
    /// Whether what is pushed to a repository of this name is scanned.
    pub fn is_on_push(&self, name: &RepositoryName) -> bool {
        self.rules.iter().any(|rule| rule.on_push && rule.matches(name).next().is_some())
    }
}

impl Record for EcrScanning {
    type Id = TheAccount;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> TheAccount {
        TheAccount
    }
}

impl EcrRepository {
    /// Whether `tag`, once it is there, may not be moved.
    pub fn is_fixed(&self, tag: &ImageTag) -> bool {
        let patterns = &self.mutability_exclusions;
        let is_excluded = || patterns.iter().any(|it| wildcard_matches(it, tag.as_str()));
        match self.tag_mutability {
            TagMutability::Mutable => false,
            TagMutability::Immutable => true,
            TagMutability::MutableWithExclusion => is_excluded(),
            TagMutability::ImmutableWithExclusion => !is_excluded(),
        }
    }
}

/// `*` stands for any run of characters, everything else for itself.
pub fn wildcard_matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

impl Record for EcrRepository {
    type Id = RepositoryName;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> RepositoryName {
        self.name.clone()
    }
}

/// Names a manifest within an account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ManifestId {
    pub repository: RepositoryName,
    pub digest: Digest,
}

impl fmt::Display for ManifestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repository, self.digest)
    }
}

/// A manifest, and what is asked of it so often that it is not parsed again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EcrManifest {
    pub account: AccountId,
    pub repository: RepositoryName,
    pub digest: Digest,
    pub media_type: String,
    /// Bytes of the manifest itself.
    pub manifest_size: u64,
    /// Bytes of everything it names, as a client downloads it.
    pub image_size: u64,
    pub pushed_at: Timestamp,
    pub last_pull_at: Option<Timestamp>,
    /// The image configuration, if it is an image.
    pub config: Option<Digest>,
    pub config_media_type: Option<String>,
    pub layers: Vec<Digest>,
    /// What an index lists.
    pub manifests: Vec<Digest>,
    /// What it is an attachment of (OCI referrers).
    pub subject: Option<Digest>,
    pub artifact_type: Option<String>,
    pub annotations: BTreeMap<String, String>,
    /// The last time that a scanner looked at it, or is to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan: Option<ImageScan>,
}

/// How far a scan is, in the order in which that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ScanState {
    Pending,
    Complete,
    Failed,
}

/// A scan of an image. What was found is in a file of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageScan {
    pub asked_at: Timestamp,
    pub state: ScanState,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// As of when the scanner knows of vulnerabilities, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_updated_at: Option<Timestamp>,
    /// Findings by severity.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<String, u32>,
}

impl ImageScan {
    pub fn asked(now: Timestamp) -> Self {
        Self {
            asked_at: now,
            state: ScanState::Pending,
            why: None,
            ended_at: None,
            source_updated_at: None,
            counts: BTreeMap::new(),
        }
    }
}

impl Record for EcrManifest {
    type Id = ManifestId;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> ManifestId {
        ManifestId { repository: self.repository.clone(), digest: self.digest }
    }
}

/// Names a tag within an account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TagId {
    pub repository: RepositoryName,
    pub tag: ImageTag,
}

impl fmt::Display for TagId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

/// A tag and the manifest that it is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EcrTag {
    pub account: AccountId,
    pub repository: RepositoryName,
    pub tag: ImageTag,
    pub digest: Digest,
    pub tagged_at: Timestamp,
    /// When the registry that a pull-through cache rule names was last asked what the tag means there; none for a tag
    /// that was pushed here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<Timestamp>,
}

impl Record for EcrTag {
    type Id = TagId;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> TagId {
        TagId { repository: self.repository.clone(), tag: self.tag.clone() }
    }
}

/// A layer or configuration that a repository has, because it was pushed or mounted there.
///
/// Its bytes may be in many repositories; nobody sees them but through such a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EcrLayer {
    pub account: AccountId,
    pub repository: RepositoryName,
    pub digest: Digest,
    pub size: u64,
    pub linked_at: Timestamp,
}

impl Record for EcrLayer {
    type Id = ManifestId;

    fn account(&self) -> AccountId {
        self.account
    }

    fn id(&self) -> ManifestId {
        ManifestId { repository: self.repository.clone(), digest: self.digest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_without_a_wildcard_is_found_anywhere_in_a_name() {
        let is_scanned = |on_push, filter: &str, name: &str| {
            let rules = vec![ScanningRule { on_push, filters: vec![filter.to_owned()] }];
            let account = "111122223333".parse().unwrap();
            EcrScanning { account, rules }.is_on_push(&name.parse().unwrap())
        };
        for (filter, name, matches) in [
            ("*", "web", true),
            ("prod", "shop/prod-web", true),
            ("prod*", "shop/prod-web", false),
            ("*prod*", "shop/prod-web", true),
            ("shop/*", "shop/web", true),
            ("shop/*", "web", false),
        ] {
            assert_eq!(is_scanned(true, filter, name), matches, "{filter} on {name}");
            assert!(!is_scanned(false, filter, name), "{filter} on {name}, by hand");
        }
    }

    #[test]
    fn a_wildcard_stands_for_any_run_of_characters() {
        for (pattern, text, matches) in [
            ("latest", "latest", true),
            ("latest", "latest2", false),
            ("dev-*", "dev-1", true),
            ("dev-*", "prod-1", false),
            ("*-rc", "1-rc", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("*", "", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(wildcard_matches(pattern, text), matches, "{pattern} on {text}");
        }
    }
}
