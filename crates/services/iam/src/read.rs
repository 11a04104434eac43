//! Names, paths, tags and documents as requests give them.

use std::collections::BTreeSet;

use aws_wire::{ApiError, Caller, Principal};
use control::iam::principals_of;
use iam_api as api;
use longshore_types::AccountId;
use model::tags::TAGS_MAX;
use model::{PolicyText, Tags, TrustText, View};
use policy::{Policy, PolicyKind};

use crate::errors::{Refusal, malformed, quota};

/// `/`, or what begins and ends with one.
pub(crate) fn path(given: Option<String>) -> Result<String, ApiError> {
    let path = given.unwrap_or_else(|| "/".to_owned());
    let is_one = path.starts_with('/') && path.ends_with('/') && !path.contains("//");
    if is_one {
        return Ok(path);
    }
    Err(Refusal::Path.wire())
}

/// The name that an operation on a user is about: the caller's own, if it gives none.
pub(crate) fn user_name(caller: &Caller, given: Option<String>) -> Result<String, ApiError> {
    match (given, &caller.principal) {
        (Some(name), _) => Ok(name),
        (None, Principal::User { name, .. }) => Ok(name.to_string()),
        (None, _) => Err(Refusal::NoUserName.wire()),
    }
}

/// Whether an operation that may be about its caller is about the root user, which has nothing but the region's own key.
pub(crate) fn is_of_root(caller: &Caller, given: Option<&String>) -> bool {
    given.is_none() && caller.principal == Principal::Root
}

/// As [`user_name`], of an operation on the keys of a user: those of root are not IAM's.
pub(crate) fn owner_of_keys(caller: &Caller, given: Option<String>) -> Result<String, ApiError> {
    match is_of_root(caller, given.as_ref()) {
        true => Err(Refusal::RootKeys.wire()),
        false => user_name(caller, given),
    }
}

/// Tags of which no two have keys that differ in case only.
pub(crate) fn tags(given: Option<Vec<api::Tag>>) -> Result<Tags, ApiError> {
    let mut seen = BTreeSet::new();
    let mut tags = Tags::new();
    for tag in given.unwrap_or_default() {
        let key = tag.key.unwrap_or_default();
        if key.to_ascii_lowercase().starts_with("aws:") {
            return Err(Refusal::ReservedTag.wire());
        }
        if !seen.insert(key.to_ascii_lowercase()) {
            return Err(Refusal::DuplicateTag.wire());
        }
        tags.insert(key, tag.value.unwrap_or_default());
    }
    if TAGS_MAX < tags.len() {
        return Err(quota("TagsPerResource", TAGS_MAX));
    }
    Ok(tags)
}

/// What a resource has after more tags were given to it: keys are the same in whatever case.
pub(crate) fn add_tags(known: &mut Tags, more: &Tags) -> Result<(), ApiError> {
    for (key, value) in more {
        known.retain(|known, _| !known.eq_ignore_ascii_case(key));
        known.insert(key.clone(), value.clone());
    }
    match known.len() <= TAGS_MAX {
        true => Ok(()),
        false => Err(quota("TagsPerResource", TAGS_MAX)),
    }
}

pub(crate) fn document(given: Option<&str>) -> Result<PolicyText, ApiError> {
    let parsed = Policy::parse(given.unwrap_or_default(), PolicyKind::Identity);
    Ok(PolicyText::new(parsed.map_err(|why| malformed(&why))?))
}

/// A managed policy's document.
pub(crate) fn managed_document(given: Option<&str>) -> Result<PolicyText, ApiError> {
    let text = document(given)?;
    let max = policy::limits::MANAGED_POLICY_MAX;
    match policy::limits::counted_size(text.text()) <= max {
        true => Ok(text),
        false => Err(quota("PolicySize", max)),
    }
}

/// A role's trust policy. The users and roles that it names must be there: it will mean those.
pub(crate) fn trust(view: &View, given: Option<&str>) -> Result<TrustText, ApiError> {
    let text = given.unwrap_or_default();
    let parsed = Policy::parse(text, PolicyKind::Trust).map_err(|why| malformed(&why))?;
    parsed.check_subjects().map_err(|why| malformed(&why))?;
    let max = policy::limits::TRUST_POLICY_MAX;
    if max < policy::limits::counted_size(text) {
        return Err(quota("ACLSizePerRole", max));
    }
    let principals = principals_of(view, &parsed)
        .map_err(|unknown| Refusal::ForeignPrincipal(unknown).wire())?;
    Ok(TrustText::new(text, principals))
}

/// The ARN that a request names a policy by, which must be Amazon's or of the caller's account.
pub(crate) fn policy_arn(account: AccountId, given: Option<String>) -> Result<String, ApiError> {
    let arn = given.unwrap_or_default();
    let fields: Vec<&str> = arn.splitn(6, ':').collect();
    match fields.as_slice() {
        ["arn", "aws", "iam", "", owner, name]
            if (*owner == "aws" || *owner == account.as_str()) && name.starts_with("policy/") =>
        {
            Ok(arn)
        }
        ["arn", _, _, _, _, _] => Err(Refusal::Arn(arn.clone()).wire()),
        _ => Err(Refusal::Arn(arn.clone()).wire()),
    }
}

/// `v3` is 3.
pub(crate) fn version(given: Option<&str>) -> Result<u32, ApiError> {
    let text = given.unwrap_or_default();
    let number = text.strip_prefix('v').and_then(|number| number.parse().ok());
    number.ok_or_else(|| Refusal::VersionId(text.to_owned()).wire())
}
