//! Managed policies: the customer's with their versions, and Amazon's, which everybody may read.

use std::collections::BTreeMap;

use aws_wire::{ApiError, Caller};
use control::Permission;
use control::iam::linked::unique_id;
use control::iam::managed::{self, ManagedPolicy};
use control::iam::{own_policy, policy_of};
use iam_api as api;
use longshore_types::Timestamp;
use model::{IamPolicy, Index, Key, NameKey, PolicyVersion, View};
use store::Batch;

use crate::Iam;
use crate::errors::{Refusal, quota};
use crate::limits::{POLICIES_MAX, VERSIONS_MAX};
use crate::pages::{page, paged};
use crate::{read, render};

/// An action on a policy, which refusals call by its name.
fn permission(action: &'static str, arn: &str) -> Permission {
    let name = arn.rsplit('/').next().unwrap_or_default();
    Permission::to(action).on(arn).shown_as(format!("policy {name}"))
}

fn need(view: &View, arn: &str) -> Result<IamPolicy, ApiError> {
    if managed::find(arn).is_some() {
        return Err(Refusal::AmazonsPolicy.wire());
    }
    own_policy(view, arn)
        .map(|row| IamPolicy::clone(row))
        .ok_or_else(|| Refusal::MissingPolicy(arn.to_owned()).wire())
}

pub(crate) async fn create_policy(
    iam: &Iam,
    caller: &Caller,
    input: api::CreatePolicyRequest,
) -> Result<api::CreatePolicyResponse, ApiError> {
    let (account, name) = (caller.account, input.policy_name.unwrap_or_default());
    let path = read::path(input.path)?;
    let tags = read::tags(input.tags)?;
    let document = read::managed_document(input.policy_document.as_deref())?;
    let arn = format!("arn:aws:iam::{account}:policy{path}{name}");
    let permission = iam.creating("iam:CreatePolicy", "iam:TagPolicy", arn, &tags, None);
    let row = iam.change(
        caller,
        |_| permission.clone(),
        |view, now, batch| {
            if view.iam_policies.get(account, &NameKey::of(&name)).is_some() {
                return Err(Refusal::PolicyExists(name.clone()).wire());
            }
            if POLICIES_MAX <= view.iam_policies.of(account).count() {
                return Err(quota("PoliciesPerAccount", POLICIES_MAX));
            }
            let first = PolicyVersion { document: document.clone(), created_at: now };
            let row = IamPolicy {
                account,
                name: name.as_str().into(),
                path: path.as_str().into(),
                unique_id: unique_id("ANPA", iam.ids()).into(),
                created_at: now,
                updated_at: now,
                description: input.description.clone(),
                tags: tags.clone(),
                default_version: 1,
                next_version: 2,
                versions: BTreeMap::from([(1, first)]),
            };
            batch.rely(Key::IamPolicy(account, NameKey::of(&name))).put(row.clone());
            Ok(row)
        },
    );
    let policy = render::policy(&iam.control.view(), &row.await?);
    Ok(api::CreatePolicyResponse { policy: Some(policy) })
}

pub(crate) async fn get_policy(
    iam: &Iam,
    caller: &Caller,
    input: api::GetPolicyRequest,
) -> Result<api::GetPolicyResponse, ApiError> {
    let arn = read::policy_arn(caller.account, input.policy_arn)?;
    let view = iam.read(caller, |_| permission("iam:GetPolicy", &arn))?;
    let policy = match managed::find(&arn) {
        Some(known) => render::managed(&view, caller.account, known),
        None => render::policy(&view, &need(&view, &arn)?),
    };
    Ok(api::GetPolicyResponse { policy: Some(policy) })
}

pub(crate) async fn list_policies(
    iam: &Iam,
    caller: &Caller,
    input: api::ListPoliciesRequest,
) -> Result<api::ListPoliciesResponse, ApiError> {
    let account = caller.account;
    let view = iam.read(caller, |_| Permission::to("iam:ListPolicies").on("*"))?;
    let scope = input.scope.unwrap_or(api::PolicyScopeType::All);
    let prefix = input.path_prefix.unwrap_or_default();
    let only_attached = input.only_attached.unwrap_or(false);
    let is_usage_boundary =
        input.policy_usage_filter == Some(api::PolicyUsageType::PermissionsBoundary);
    let amazons = managed::all().map(|row| render::managed(&view, account, row));
    let amazons = amazons.filter(|_| scope != api::PolicyScopeType::Local);
    let own = view.iam_policies.of(account).map(|row| render::policy_in_list(&view, row));
    let own = own.filter(|_| scope != api::PolicyScopeType::Aws);
    let is_wanted = |policy: &api::Policy| {
        let is_in = policy.path.as_deref().is_some_and(|path| path.starts_with(&prefix));
        let uses = match is_usage_boundary {
            true => policy.permissions_boundary_usage_count,
            false => policy.attachment_count,
        };
        let is_used = 0 < uses.unwrap_or(0);
        is_in && (is_used || !only_attached && !is_usage_boundary)
    };
    let mut rows: Vec<(String, api::Policy)> = amazons
        .chain(own)
        .filter(is_wanted)
        .map(|policy| (policy.arn.clone().unwrap_or_default(), policy))
        .collect();
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(paged!(ListPoliciesResponse, policies, page(input.marker, input.max_items, rows)?))
}

pub(crate) async fn delete_policy(
    iam: &Iam,
    caller: &Caller,
    input: api::DeletePolicyRequest,
) -> Result<(), ApiError> {
    let account = caller.account;
    let arn = read::policy_arn(account, input.policy_arn)?;
    iam.change(
        caller,
        |_| permission("iam:DeletePolicy", &arn),
        |view, _, batch| {
            let row = need(view, &arn)?;
            let attached = Index::IamAttachments(account, arn.as_str().into());
            let limited = Index::IamBoundaries(account, arn.as_str().into());
            if 0 < view.member_count(&attached) + view.member_count(&limited) {
                return Err(Refusal::PolicyAttached.wire());
            }
            if 1 < row.versions.len() {
                return Err(Refusal::PolicyHasVersions.wire());
            }
            batch
                .rely(attached)
                .rely(limited)
                .delete(Key::IamPolicy(account, NameKey::of(&row.name)));
            Ok(())
        },
    )
    .await
}

/// Changes a policy of the customer's.
async fn change<T: Send>(
    iam: &Iam,
    caller: &Caller,
    permission: Permission,
    arn: &str,
    change: impl Fn(&mut IamPolicy, Timestamp) -> Result<T, ApiError> + Send + Sync,
) -> Result<T, ApiError> {
    iam.change(
        caller,
        |_| permission.clone(),
        |view, now, batch: &mut Batch| {
            let mut row = need(view, arn)?;
            let changed = change(&mut row, now)?;
            batch.put(row);
            Ok(changed)
        },
    )
    .await
}

fn render_version(number: u32, row: &PolicyVersion, is_default: bool) -> api::PolicyVersion {
    api::PolicyVersion {
        document: None,
        version_id: Some(format!("v{number}")),
        is_default_version: Some(is_default),
        create_date: render::time(row.created_at),
    }
}

fn managed_version(known: &ManagedPolicy) -> api::PolicyVersion {
    api::PolicyVersion {
        document: None,
        version_id: Some(format!("v{}", known.version)),
        is_default_version: Some(true),
        create_date: Timestamp::from_iso8601(&known.updated),
    }
}

pub(crate) async fn create_policy_version(
    iam: &Iam,
    caller: &Caller,
    input: api::CreatePolicyVersionRequest,
) -> Result<api::CreatePolicyVersionResponse, ApiError> {
    let arn = read::policy_arn(caller.account, input.policy_arn)?;
    let document = read::managed_document(input.policy_document.as_deref())?;
    let is_default = input.set_as_default.unwrap_or(false);
    let permission = permission("iam:CreatePolicyVersion", &arn);
    let version = change(iam, caller, permission, &arn, |row, now| {
        if VERSIONS_MAX <= row.versions.len() {
            return Err(Refusal::Versions.wire());
        }
        let version = PolicyVersion { document: document.clone(), created_at: now };
        let shown = render_version(row.next_version, &version, is_default);
        row.versions.insert(row.next_version, version);
        if is_default {
            row.default_version = row.next_version;
        }
        row.next_version += 1;
        row.updated_at = now;
        Ok(shown)
    });
    Ok(api::CreatePolicyVersionResponse { policy_version: Some(version.await?) })
}

fn no_such_version(arn: &str, number: u32) -> ApiError {
    Refusal::MissingVersion(arn.to_owned(), number).wire()
}

pub(crate) async fn get_policy_version(
    iam: &Iam,
    caller: &Caller,
    input: api::GetPolicyVersionRequest,
) -> Result<api::GetPolicyVersionResponse, ApiError> {
    let arn = read::policy_arn(caller.account, input.policy_arn)?;
    let number = read::version(input.version_id.as_deref())?;
    let view = iam.read(caller, |_| permission("iam:GetPolicyVersion", &arn))?;
    let (shown, text) = match managed::find(&arn) {
        Some(known) if known.version == number => {
            (managed_version(known), render::encoded(known.document()))
        }
        Some(_) => return Err(no_such_version(&arn, number)),
        None => {
            let row = need(&view, &arn)?;
            let version = row.versions.get(&number).ok_or_else(|| no_such_version(&arn, number))?;
            let is_default = row.default_version == number;
            let text = render::encoded(version.document.text());
            (render_version(number, version, is_default), text)
        }
    };
    let policy_version = Some(api::PolicyVersion { document: Some(text), ..shown });
    Ok(api::GetPolicyVersionResponse { policy_version })
}

pub(crate) async fn list_policy_versions(
    iam: &Iam,
    caller: &Caller,
    input: api::ListPolicyVersionsRequest,
) -> Result<api::ListPolicyVersionsResponse, ApiError> {
    let arn = read::policy_arn(caller.account, input.policy_arn)?;
    let view = iam.read(caller, |_| permission("iam:ListPolicyVersions", &arn))?;
    let versions: Vec<(u32, api::PolicyVersion)> = match managed::find(&arn) {
        Some(known) => vec![(known.version, managed_version(known))],
        None => {
            let row = need(&view, &arn)?;
            let shown = |number: u32, version| {
                render_version(number, version, number == row.default_version)
            };
            row.versions
                .iter()
                .map(|(number, version)| (*number, shown(*number, version)))
                .collect()
        }
    };
    // The newest first.
    let versions = versions.into_iter().rev();
    let versions =
        versions.map(|(number, version)| (format!("{:010}", u32::MAX - number), version));
    Ok(paged!(ListPolicyVersionsResponse, versions, page(input.marker, input.max_items, versions)?))
}

pub(crate) async fn delete_policy_version(
    iam: &Iam,
    caller: &Caller,
    input: api::DeletePolicyVersionRequest,
) -> Result<(), ApiError> {
    let arn = read::policy_arn(caller.account, input.policy_arn)?;
    let number = read::version(input.version_id.as_deref())?;
    let permission = permission("iam:DeletePolicyVersion", &arn);
    change(iam, caller, permission, &arn, |row, _| {
        if row.default_version == number {
            return Err(Refusal::DefaultVersion.wire());
        }
        row.versions.remove(&number).map(drop).ok_or_else(|| no_such_version(&arn, number))
    })
    .await
}

pub(crate) async fn set_default_policy_version(
    iam: &Iam,
    caller: &Caller,
    input: api::SetDefaultPolicyVersionRequest,
) -> Result<(), ApiError> {
    let arn = read::policy_arn(caller.account, input.policy_arn)?;
    let number = read::version(input.version_id.as_deref())?;
    let permission = permission("iam:SetDefaultPolicyVersion", &arn);
    change(iam, caller, permission, &arn, |row, now| {
        if !row.versions.contains_key(&number) {
            return Err(no_such_version(&arn, number));
        }
        row.default_version = number;
        row.updated_at = now;
        Ok(())
    })
    .await
}

/// Who has a policy.
enum Attached {
    User(api::PolicyUser),
    Group(api::PolicyGroup),
    Role(api::PolicyRole),
}

pub(crate) async fn list_entities_for_policy(
    iam: &Iam,
    caller: &Caller,
    input: api::ListEntitiesForPolicyRequest,
) -> Result<api::ListEntitiesForPolicyResponse, ApiError> {
    let account = caller.account;
    let arn = read::policy_arn(account, input.policy_arn)?;
    let view = iam.read(caller, |_| permission("iam:ListEntitiesForPolicy", &arn))?;
    if policy_of(&view, &arn).is_none() {
        return Err(Refusal::MissingPolicy(arn).wire());
    }
    let index = match input.policy_usage_filter {
        Some(api::PolicyUsageType::PermissionsBoundary) => {
            Index::IamBoundaries(account, arn.as_str().into())
        }
        Some(api::PolicyUsageType::PermissionsPolicy) | None => {
            Index::IamAttachments(account, arn.as_str().into())
        }
        Some(other) => return Err(Refusal::PolicyUsage(other.to_string()).wire()),
    };
    let prefix = input.path_prefix.unwrap_or_default();
    let filter = input.entity_filter;
    let mut found: Vec<(String, Attached)> = Vec::new();
    for key in view.members(&index) {
        let wants = |kind: api::EntityType| filter.as_ref().is_none_or(|filter| *filter == kind);
        match key {
            Key::IamUser(account, id) if wants(api::EntityType::User) => {
                let row = view.iam_users.get(*account, id);
                if let Some(row) = row.filter(|row| row.path.starts_with(&prefix)) {
                    let user_name = Some(row.name.to_string());
                    let user_id = Some(row.unique_id.to_string());
                    let shown = Attached::User(api::PolicyUser { user_name, user_id });
                    found.push((format!("user/{id}"), shown));
                }
            }
            Key::IamGroup(account, id) if wants(api::EntityType::Group) => {
                let row = view.iam_groups.get(*account, id);
                if let Some(row) = row.filter(|row| row.path.starts_with(&prefix)) {
                    let group_name = Some(row.name.to_string());
                    let group_id = Some(row.unique_id.to_string());
                    let shown = Attached::Group(api::PolicyGroup { group_name, group_id });
                    found.push((format!("group/{id}"), shown));
                }
            }
            Key::IamRole(account, id) if wants(api::EntityType::Role) => {
                let row = view.iam_roles.get(*account, id);
                if let Some(row) = row.filter(|row| row.path.starts_with(&prefix)) {
                    let role_name = Some(row.name.to_string());
                    let role_id = Some(row.unique_id.to_string());
                    let shown = Attached::Role(api::PolicyRole { role_name, role_id });
                    found.push((format!("role/{id}"), shown));
                }
            }
            _ => {}
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let page = page(input.marker, input.max_items, found)?;
    let (mut users, mut groups, mut roles) = (vec![], vec![], vec![]);
    for each in page.items {
        match each {
            Attached::User(user) => users.push(user),
            Attached::Group(group) => groups.push(group),
            Attached::Role(role) => roles.push(role),
        }
    }
    Ok(api::ListEntitiesForPolicyResponse {
        policy_groups: Some(groups),
        policy_users: Some(users),
        policy_roles: Some(roles),
        is_truncated: Some(page.is_truncated),
        marker: page.marker,
    })
}

pub(crate) async fn tag_policy(
    iam: &Iam,
    caller: &Caller,
    input: api::TagPolicyRequest,
) -> Result<(), ApiError> {
    let arn = read::policy_arn(caller.account, input.policy_arn)?;
    let more = read::tags(input.tags)?;
    let permission = permission("iam:TagPolicy", &arn).tagging(&more);
    change(iam, caller, permission, &arn, |row, _| read::add_tags(&mut row.tags, &more)).await
}

pub(crate) async fn untag_policy(
    iam: &Iam,
    caller: &Caller,
    input: api::UntagPolicyRequest,
) -> Result<(), ApiError> {
    let arn = read::policy_arn(caller.account, input.policy_arn)?;
    let keys = input.tag_keys.unwrap_or_default();
    let permission = permission("iam:UntagPolicy", &arn).about_tags(&keys);
    change(iam, caller, permission, &arn, |row, _| {
        row.tags.retain(|key, _| !keys.contains(key));
        Ok(())
    })
    .await
}

pub(crate) async fn list_policy_tags(
    iam: &Iam,
    caller: &Caller,
    input: api::ListPolicyTagsRequest,
) -> Result<api::ListPolicyTagsResponse, ApiError> {
    let arn = read::policy_arn(caller.account, input.policy_arn)?;
    let view = iam.read(caller, |_| permission("iam:ListPolicyTags", &arn))?;
    let tags = match managed::find(&arn) {
        Some(_) => vec![],
        None => render::tags(&need(&view, &arn)?.tags),
    };
    let tags = tags.into_iter().map(|tag| (tag.key.clone().unwrap_or_default(), tag));
    Ok(paged!(ListPolicyTagsResponse, tags, page(input.marker, input.max_items, tags)?))
}
