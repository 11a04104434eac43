//! Rows as answers show them.

use std::sync::Arc;

use control::Control;
use control::iam::entity_of;
use control::iam::managed::ManagedPolicy;
use iam_api as api;
use longshore_types::{AccountId, Timestamp};
use model::{Grants, IamGroup, IamInstanceProfile, IamPolicy, IamRole, IamUser, Index, Tags, View};

use crate::uses;

/// Documents are shown with what is not a letter, a digit or one of `-_.~` as %XX.
pub(crate) fn encoded(document: &str) -> String {
    let mut out = String::with_capacity(document.len() * 2);
    for byte in document.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

pub(crate) fn tags(tags: &Tags) -> Vec<api::Tag> {
    let tags = tags.iter();
    tags.map(|(key, value)| api::Tag { key: Some(key.clone()), value: Some(value.clone()) })
        .collect()
}

/// Tags of an entity that may have none.
pub(crate) fn some_tags(all: &Tags) -> Option<Vec<api::Tag>> {
    (!all.is_empty()).then(|| tags(all))
}

/// IAM's times have no fractions of seconds.
pub(crate) fn time(at: Timestamp) -> Option<Timestamp> {
    Some(Timestamp(at.seconds() * 1000))
}

pub(crate) fn boundary(arn: Option<&Arc<str>>) -> Option<api::AttachedPermissionsBoundary> {
    let arn = arn?;
    Some(api::AttachedPermissionsBoundary {
        // The model's enumeration says `PermissionsBoundaryPolicy`; IAM itself, and the member's own documentation, `Policy`.
        permissions_boundary_type: Some(api::PermissionsBoundaryAttachmentType::Unknown(
            "Policy".to_owned(),
        )),
        permissions_boundary_arn: Some(arn.to_string()),
    })
}

/// As in lists, which leave tags and boundary out.
pub(crate) fn user_in_list(row: &IamUser) -> api::User {
    api::User {
        path: Some(row.path.to_string()),
        user_name: Some(row.name.to_string()),
        user_id: Some(row.unique_id.to_string()),
        arn: Some(row.arn()),
        create_date: time(row.created_at),
        ..api::User::default()
    }
}

pub(crate) fn user(row: &IamUser) -> api::User {
    api::User {
        permissions_boundary: boundary(row.boundary.as_ref()),
        tags: some_tags(&row.tags),
        ..user_in_list(row)
    }
}

/// When a user signed in last.
pub(crate) fn password_last_used(
    control: &Control,
    view: &View,
    row: &IamUser,
) -> Option<Timestamp> {
    uses::last(control, view, row.account, &row.unique_id).and_then(|used| time(used.at))
}

pub(crate) fn group(row: &IamGroup) -> api::Group {
    api::Group {
        path: Some(row.path.to_string()),
        group_name: Some(row.name.to_string()),
        group_id: Some(row.unique_id.to_string()),
        arn: Some(row.arn()),
        create_date: time(row.created_at),
    }
}

pub(crate) fn trust(view: &View, row: &IamRole) -> String {
    encoded(&row.trust.shown(|id| entity_of(view, id).is_some()))
}

/// As in lists, which leave tags and boundary out.
pub(crate) fn role_in_list(view: &View, row: &IamRole) -> api::Role {
    api::Role {
        path: Some(row.path.to_string()),
        role_name: Some(row.name.to_string()),
        role_id: Some(row.unique_id.to_string()),
        arn: Some(row.arn()),
        create_date: time(row.created_at),
        assume_role_policy_document: Some(trust(view, row)),
        description: row.description.clone(),
        max_session_duration: i32::try_from(row.max_session_s).ok(),
        ..api::Role::default()
    }
}

pub(crate) fn role(view: &View, row: &IamRole) -> api::Role {
    api::Role {
        permissions_boundary: boundary(row.boundary.as_ref()),
        tags: some_tags(&row.tags),
        ..role_in_list(view, row)
    }
}

/// With when it was last used, by a request of its own.
pub(crate) fn role_with_use(control: &Control, view: &View, row: &IamRole) -> api::Role {
    let used = uses::last(control, view, row.account, &row.unique_id);
    let (at, region) = used.map(|used| (used.at, used.region)).unzip();
    let last_used_date = at.and_then(time);
    let role_last_used = Some(api::RoleLastUsed { last_used_date, region });
    api::Role { role_last_used, ..role(view, row) }
}

pub(crate) fn profile(view: &View, row: &IamInstanceProfile) -> api::InstanceProfile {
    let role = row.role.as_ref().and_then(|role| view.iam_roles.get(row.account, role));
    api::InstanceProfile {
        path: Some(row.path.to_string()),
        instance_profile_name: Some(row.name.to_string()),
        instance_profile_id: Some(row.unique_id.to_string()),
        arn: Some(row.arn()),
        create_date: time(row.created_at),
        roles: Some(role.iter().map(|role| role_in_list(view, role)).collect()),
        tags: some_tags(&row.tags),
    }
}

fn attachments(view: &View, account: AccountId, arn: &str) -> Option<i32> {
    i32::try_from(view.member_count(&Index::IamAttachments(account, arn.into()))).ok()
}

fn boundaries(view: &View, account: AccountId, arn: &str) -> Option<i32> {
    i32::try_from(view.member_count(&Index::IamBoundaries(account, arn.into()))).ok()
}

/// As in lists, which leave description and tags out.
pub(crate) fn policy_in_list(view: &View, row: &IamPolicy) -> api::Policy {
    let arn = row.arn();
    api::Policy {
        policy_name: Some(row.name.to_string()),
        policy_id: Some(row.unique_id.to_string()),
        path: Some(row.path.to_string()),
        default_version_id: Some(format!("v{}", row.default_version)),
        attachment_count: attachments(view, row.account, &arn),
        permissions_boundary_usage_count: boundaries(view, row.account, &arn),
        is_attachable: Some(true),
        create_date: time(row.created_at),
        update_date: time(row.updated_at),
        arn: Some(arn),
        ..api::Policy::default()
    }
}

pub(crate) fn policy(view: &View, row: &IamPolicy) -> api::Policy {
    api::Policy {
        description: row.description.clone(),
        tags: Some(tags(&row.tags)),
        ..policy_in_list(view, row)
    }
}

/// A policy of Amazon's, as an account sees it.
pub(crate) fn managed(view: &View, account: AccountId, row: &ManagedPolicy) -> api::Policy {
    let arn = row.arn();
    api::Policy {
        policy_name: Some(row.name.clone()),
        policy_id: Some(managed_id(&arn)),
        path: Some(row.path.clone()),
        default_version_id: Some(format!("v{}", row.version)),
        attachment_count: attachments(view, account, &arn),
        permissions_boundary_usage_count: boundaries(view, account, &arn),
        is_attachable: Some(true),
        create_date: Timestamp::from_iso8601(&row.created),
        update_date: Timestamp::from_iso8601(&row.updated),
        arn: Some(arn),
        ..api::Policy::default()
    }
}

/// Always the same for the same policy.
fn managed_id(arn: &str) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut state = arn.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let letters = (0..17).map(|_| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        char::from(ALPHABET[usize::try_from(state >> 59).unwrap_or_default()])
    });
    "ANPA".chars().chain(letters).collect()
}

/// The managed policies of a user, group or role, by name.
pub(crate) fn attached(grants: &Grants) -> Vec<api::AttachedPolicy> {
    let mut all: Vec<api::AttachedPolicy> = grants
        .attached
        .iter()
        .map(|arn| api::AttachedPolicy {
            policy_name: Some(arn.rsplit('/').next().unwrap_or_default().to_owned()),
            policy_arn: Some(arn.to_string()),
        })
        .collect();
    all.sort_by(|a, b| (&a.policy_name, &a.policy_arn).cmp(&(&b.policy_name, &b.policy_arn)));
    all
}

pub(crate) fn inline(grants: &Grants) -> Vec<api::PolicyDetail> {
    let inline = grants.inline.iter();
    inline
        .map(|(name, text)| api::PolicyDetail {
            policy_name: Some(name.clone()),
            policy_document: Some(encoded(text.text())),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_documents_are_shown_as_iam_does() {
        assert_eq!(
            Timestamp::from_iso8601("2017-11-16T18:48:22Z").unwrap().iso8601(),
            "2017-11-16T18:48:22.000Z"
        );
        assert_eq!(encoded("{\"a\": [*]}"), "%7B%22a%22%3A%20%5B%2A%5D%7D");
        let arn = "arn:aws:iam::aws:policy/AdministratorAccess";
        assert_eq!((managed_id(arn).len(), managed_id(arn)), (21, managed_id(arn)));
    }
}
