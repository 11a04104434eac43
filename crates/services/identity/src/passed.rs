//! What is passed when a session is made: policies, tags, a duration.

use std::collections::{BTreeMap, BTreeSet};

use aws_wire::ApiError;
use control::iam::policy_of;
use longshore_types::{AccountId, Timestamp};
use model::View;
use policy::{Policy, PolicyKind};
use sts_api as api;

use crate::errors::Refusal;

/// What session policies and tags may take together, in characters.
const PACKED_MAX: usize = 8_192;
/// What the policies alone may take as they are written, an inline one and the ARNs of managed ones together.
const PLAIN_MAX: usize = 2_048;
pub(crate) const TAGS_MAX: usize = 50;

/// Policies and tags of a session, read and checked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passed {
    pub(crate) policy: Option<String>,
    pub(crate) policy_arns: Vec<String>,
    pub(crate) tags: BTreeMap<String, String>,
}

impl Passed {
    pub(crate) fn read(
        view: &View,
        account: AccountId,
        policy: Option<String>,
        arns: Option<Vec<api::PolicyDescriptorType>>,
        tags: Option<Vec<api::Tag>>,
    ) -> Result<Self, ApiError> {
        if let Some(text) = &policy {
            // The model says so of all operations but AssumeRole, of which the documentation does.
            if PLAIN_MAX < text.chars().count() {
                return Err(Refusal::PolicyLength(text.clone(), PLAIN_MAX).wire());
            }
            Policy::parse(text, PolicyKind::Session)
                .map_err(|why| Refusal::Malformed(why.to_string()).wire())?;
        }
        let arns = arns.unwrap_or_default().into_iter();
        let policy_arns: Vec<String> = arns.filter_map(|each| each.arn).collect();
        if policy::limits::SESSION_POLICY_ARNS_MAX < policy_arns.len() {
            let max = policy::limits::SESSION_POLICY_ARNS_MAX;
            return Err(Refusal::SessionPolicies(max).wire());
        }
        for arn in &policy_arns {
            let is_own = arn.starts_with("arn:aws:iam::aws:")
                || arn.starts_with(&format!("arn:aws:iam::{account}:"));
            if !is_own || policy_of(view, arn).is_none() {
                return Err(Refusal::SessionPolicy(arn.clone()).wire());
            }
        }
        Ok(Self { policy, policy_arns, tags: read_tags(tags)? })
    }

    /// How much of what may be passed is taken, in per cent.
    pub(crate) fn packed_size(&self) -> Result<Option<i32>, ApiError> {
        let policy = self.policy.as_deref().map_or(0, policy::limits::counted_size);
        let arns: usize = self.policy_arns.iter().map(String::len).sum();
        let tags: usize = self.tags.iter().map(|(key, value)| key.len() + value.len()).sum();
        let all = policy + arns + tags;
        if all == 0 {
            return Ok(None);
        }
        let percent = (all * 100).div_ceil(PACKED_MAX);
        let plain = self.policy.as_deref().map_or(0, |text| text.chars().count()) + arns;
        if PLAIN_MAX < plain {
            return Err(Refusal::TooLarge(percent.max((plain * 100).div_ceil(PLAIN_MAX))).wire());
        }
        if percent <= 100 {
            return Ok(i32::try_from(percent).ok());
        }
        Err(Refusal::TooLarge(percent).wire())
    }
}

/// Keys differ in more than case.
fn read_tags(tags: Option<Vec<api::Tag>>) -> Result<BTreeMap<String, String>, ApiError> {
    let tags = tags.unwrap_or_default();
    if TAGS_MAX < tags.len() {
        return Err(Refusal::SessionTags.wire());
    }
    let mut seen = BTreeSet::new();
    let mut read = BTreeMap::new();
    for tag in tags {
        let key = tag.key.unwrap_or_default();
        if !seen.insert(key.to_ascii_lowercase()) {
            return Err(Refusal::DuplicateTag.wire());
        }
        read.insert(key, tag.value.unwrap_or_default());
    }
    Ok(read)
}

/// When a session ends that lasts as long as was asked for, or as long as such sessions last.
pub(crate) fn end(now: Timestamp, asked_s: Option<i32>, default_s: u32) -> Timestamp {
    let seconds = asked_s.and_then(|asked| u32::try_from(asked).ok()).unwrap_or(default_s);
    Timestamp(now.seconds() * 1000).plus_ms(u64::from(seconds) * 1000)
}
