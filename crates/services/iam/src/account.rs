//! The account as a whole: its alias, what it has, and what every account begins with.

use std::collections::BTreeMap;

use aws_wire::{ApiError, Caller};
use control::access::TASK_EXECUTION_ROLE;
use control::iam::linked::{SESSION_S_DEFAULT, unique_id};
use control::{Control, Permission};
use iam_api as api;
use longshore_types::{AccountId, Timestamp};
use model::{
    Grants, IamAccount, IamRole, IamUser, Index, Key, NameKey, PolicyText, TheAccount, TrustText,
    View,
};
use policy::{Policy, PolicyKind};
use store::Batch;

use crate::Iam;
use crate::errors::Refusal;
use crate::limits;
use crate::pages::page;
use crate::render;

const TASKS_TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Sid":"","Effect":"Allow","Principal":{"Service":"ecs-tasks.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;
const EXECUTION_POLICY: &str =
    "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy";

/// What tasks need whose log driver is told to make its group; Amazon's managed policy does not allow it.
const GROUPS_POLICY_NAME: &str = "CreateLogGroups";
const GROUPS_POLICY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"logs:CreateLogGroup","Resource":"*"}]}"#;

/// Gives an account that is seen for the first time what every account begins with: the role that tasks
/// are executed with.
pub(crate) async fn begin(control: &Control, account: AccountId) -> Result<(), ApiError> {
    if control.view().iam_accounts.get(account, &TheAccount).is_some() {
        return Ok(());
    }
    let decided = control.decide(|view, now| {
        let mut batch = Batch::on(view);
        if view.iam_accounts.get(account, &TheAccount).is_some() {
            return Ok((batch, ()));
        }
        batch.rely(Key::IamAccount(account, TheAccount));
        batch.put(IamAccount { account, created_at: now, alias: None, password_policy: None });
        let id = NameKey::of(TASK_EXECUTION_ROLE);
        let groups = Policy::parse(GROUPS_POLICY, PolicyKind::Identity);
        let groups = groups.map_err(|error| ApiError::fault("failed to read a policy", error))?;
        let inline = BTreeMap::from([(GROUPS_POLICY_NAME.to_owned(), PolicyText::new(groups))]);
        if view.iam_roles.get(account, &id).is_none() {
            batch.rely(Key::IamRole(account, id)).put(IamRole {
                account,
                name: TASK_EXECUTION_ROLE.into(),
                path: "/".into(),
                unique_id: unique_id("AROA", control.ids.as_ref()).into(),
                created_at: now,
                description: None,
                max_session_s: SESSION_S_DEFAULT,
                trust: TrustText::new(TASKS_TRUST, BTreeMap::new()),
                tags: BTreeMap::new(),
                boundary: None,
                grants: Grants { attached: vec![EXECUTION_POLICY.into()], inline: inline.clone() },
                service: None,
            });
        }
        Ok((batch, ()))
    });
    decided.await
}

pub(crate) async fn create_account_alias(
    iam: &Iam,
    caller: &Caller,
    input: api::CreateAccountAliasRequest,
) -> Result<(), ApiError> {
    let (account, alias) = (caller.account, input.account_alias.unwrap_or_default());
    let permission = Permission::to("iam:CreateAccountAlias").on("*");
    iam.change(
        caller,
        |_| permission.clone(),
        |view, now, batch| {
            if !is_alias(&alias) {
                return Err(Refusal::Alias(alias.clone()).wire());
            }
            let index = Index::IamAlias(alias.as_str().into());
            let taken = |key: &Key| key.account() != account;
            if view.members(&index).any(taken) {
                return Err(Refusal::AliasExists(alias.clone()).wire());
            }
            let known = view.iam_accounts.get(account, &TheAccount);
            let created_at = known.map_or(now, |row| row.created_at);
            batch.rely(index).put(IamAccount {
                account,
                created_at,
                alias: Some(alias.as_str().into()),
                password_policy: known.and_then(|row| row.password_policy),
            });
            Ok(())
        },
    )
    .await
}

/// What the model's pattern says; its look-ahead is not for the engine that requests are checked with.
fn is_alias(given: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (3..=63).contains(&given.len())
        && given.split('-').all(|word| !word.is_empty() && word.bytes().all(is_word))
}

pub(crate) async fn delete_account_alias(
    iam: &Iam,
    caller: &Caller,
    input: api::DeleteAccountAliasRequest,
) -> Result<(), ApiError> {
    let (account, alias) = (caller.account, input.account_alias.unwrap_or_default());
    let permission = Permission::to("iam:DeleteAccountAlias").on("*");
    iam.change(
        caller,
        |_| permission.clone(),
        |view, _, batch| {
            let row = view.iam_accounts.get(account, &TheAccount);
            let row = row.filter(|row| row.alias.as_deref() == Some(alias.as_str()));
            let row = row.ok_or_else(|| Refusal::MissingAlias(alias.clone()).wire())?;
            batch.put(IamAccount { alias: None, ..IamAccount::clone(row) });
            Ok(())
        },
    )
    .await
}

pub(crate) async fn list_account_aliases(
    iam: &Iam,
    caller: &Caller,
    _: api::ListAccountAliasesRequest,
) -> Result<api::ListAccountAliasesResponse, ApiError> {
    let view = iam.read(caller, |_| Permission::to("iam:ListAccountAliases").on("*"))?;
    let row = view.iam_accounts.get(caller.account, &TheAccount);
    let alias = row.and_then(|row| row.alias.as_deref()).map(str::to_owned);
    Ok(api::ListAccountAliasesResponse {
        account_aliases: Some(alias.into_iter().collect()),
        is_truncated: Some(false),
        marker: None,
    })
}

pub(crate) async fn get_account_summary(
    iam: &Iam,
    caller: &Caller,
) -> Result<api::GetAccountSummaryResponse, ApiError> {
    let account = caller.account;
    let view = iam.read(caller, |_| Permission::to("iam:GetAccountSummary").on("*"))?;
    let versions: usize = view.iam_policies.of(account).map(|row| row.versions.len()).sum();
    let in_use = view.iam_mfa_devices.of(account).filter(|row| row.assigned.is_some()).count();
    let figures = [
        ("Users", view.iam_users.of(account).count()),
        ("UsersQuota", limits::USERS_MAX),
        ("Groups", view.iam_groups.of(account).count()),
        ("GroupsQuota", limits::GROUPS_MAX),
        ("Roles", view.iam_roles.of(account).count()),
        ("RolesQuota", limits::ROLES_MAX),
        ("Policies", view.iam_policies.of(account).count()),
        ("PoliciesQuota", limits::POLICIES_MAX),
        ("PolicyVersionsInUse", versions),
        ("PolicyVersionsInUseQuota", limits::POLICIES_MAX * limits::VERSIONS_MAX),
        ("InstanceProfiles", view.iam_instance_profiles.of(account).count()),
        ("InstanceProfilesQuota", limits::PROFILES_MAX),
        ("Providers", view.iam_oidc_providers.of(account).count()),
        ("AccessKeysPerUserQuota", limits::KEYS_OF_USER_MAX),
        ("GroupsPerUserQuota", limits::GROUPS_OF_USER_MAX),
        ("AttachedPoliciesPerUserQuota", limits::ATTACHED_MAX),
        ("AttachedPoliciesPerGroupQuota", limits::ATTACHED_MAX),
        ("AttachedPoliciesPerRoleQuota", limits::ATTACHED_MAX),
        ("VersionsPerPolicyQuota", limits::VERSIONS_MAX),
        ("PolicySizeQuota", policy::limits::MANAGED_POLICY_MAX),
        ("UserPolicySizeQuota", policy::limits::USER_INLINE_MAX),
        ("GroupPolicySizeQuota", policy::limits::GROUP_INLINE_MAX),
        ("RolePolicySizeQuota", policy::limits::ROLE_INLINE_MAX),
        ("AssumeRolePolicySizeQuota", policy::limits::TRUST_POLICY_MAX),
        ("AccountAccessKeysPresent", 1),
        ("AccountMFAEnabled", 0),
        ("AccountPasswordPresent", 0),
        ("MFADevices", view.iam_mfa_devices.of(account).count()),
        ("MFADevicesInUse", in_use),
        ("AccountSigningCertificatesPresent", 0),
        ("SigningCertificatesPerUserQuota", 2),
        ("ServerCertificates", 0),
        ("ServerCertificatesQuota", 20),
        ("GlobalEndpointTokenVersion", 1),
    ];
    let figures =
        figures.map(|(name, number)| (name.to_owned(), i32::try_from(number).unwrap_or(i32::MAX)));
    Ok(api::GetAccountSummaryResponse { summary_map: Some(figures.into_iter().collect()) })
}

enum Detail {
    User(api::UserDetail),
    Group(api::GroupDetail),
    Role(Box<api::RoleDetail>),
    Policy(api::ManagedPolicyDetail),
}

pub(crate) async fn get_account_authorization_details(
    iam: &Iam,
    caller: &Caller,
    input: api::GetAccountAuthorizationDetailsRequest,
) -> Result<api::GetAccountAuthorizationDetailsResponse, ApiError> {
    let account = caller.account;
    let permission = Permission::to("iam:GetAccountAuthorizationDetails").on("*");
    let view = iam.read(caller, |_| permission)?;
    let filter = input.filter.unwrap_or_default();
    let wants = |kind: api::EntityType| filter.is_empty() || filter.contains(&kind);
    let mut found: Vec<(String, Detail)> = Vec::new();
    if wants(api::EntityType::User) {
        let rows = view.iam_users.of(account);
        found.extend(rows.map(|row| (row.arn(), Detail::User(user(&view, row)))));
    }
    if wants(api::EntityType::Group) {
        let rows = view.iam_groups.of(account);
        found.extend(rows.map(|row| {
            let shown = render::group(row);
            let detail = api::GroupDetail {
                path: shown.path,
                group_name: shown.group_name,
                group_id: shown.group_id,
                arn: shown.arn,
                create_date: shown.create_date,
                group_policy_list: Some(render::inline(&row.grants)),
                attached_managed_policies: Some(render::attached(&row.grants)),
            };
            (row.arn(), Detail::Group(detail))
        }));
    }
    if wants(api::EntityType::Role) {
        let rows = view.iam_roles.of(account);
        found.extend(
            rows.map(|row| (row.arn(), Detail::Role(Box::new(role(&iam.control, &view, row))))),
        );
    }
    if wants(api::EntityType::LocalManagedPolicy) {
        let rows = view.iam_policies.of(account);
        found.extend(rows.map(|row| {
            let versions = row.versions.iter().map(|(number, version)| api::PolicyVersion {
                document: Some(render::encoded(version.document.text())),
                version_id: Some(format!("v{number}")),
                is_default_version: Some(*number == row.default_version),
                create_date: render::time(version.created_at),
            });
            let shown = render::policy(&view, row);
            (row.arn(), Detail::Policy(managed(shown, versions.collect())))
        }));
    }
    if wants(api::EntityType::AWSManagedPolicy) {
        let used = control::iam::managed::all()
            .filter(|row| 0 < view.member_count(&Index::IamAttachments(account, row.arn().into())));
        found.extend(used.map(|row| {
            let version = api::PolicyVersion {
                document: Some(render::encoded(row.document())),
                version_id: Some(format!("v{}", row.version)),
                is_default_version: Some(true),
                create_date: Timestamp::from_iso8601(&row.updated),
            };
            let shown = render::managed(&view, account, row);
            (row.arn(), Detail::Policy(managed(shown, vec![version])))
        }));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let page = page(input.marker, input.max_items, found)?;
    let mut answer = api::GetAccountAuthorizationDetailsResponse {
        user_detail_list: Some(vec![]),
        group_detail_list: Some(vec![]),
        role_detail_list: Some(vec![]),
        policies: Some(vec![]),
        is_truncated: Some(page.is_truncated),
        marker: page.marker,
    };
    for detail in page.items {
        match detail {
            Detail::User(it) => answer.user_detail_list.get_or_insert_default().push(it),
            Detail::Group(it) => answer.group_detail_list.get_or_insert_default().push(it),
            Detail::Role(it) => answer.role_detail_list.get_or_insert_default().push(*it),
            Detail::Policy(it) => answer.policies.get_or_insert_default().push(it),
        }
    }
    Ok(answer)
}

fn user(view: &View, row: &IamUser) -> api::UserDetail {
    let shown = render::user(row);
    let groups = row.groups.iter().filter_map(|id| view.iam_groups.get(row.account, id));
    api::UserDetail {
        path: shown.path,
        user_name: shown.user_name,
        user_id: shown.user_id,
        arn: shown.arn,
        create_date: shown.create_date,
        user_policy_list: Some(render::inline(&row.grants)),
        group_list: Some(groups.map(|group| group.name.to_string()).collect()),
        attached_managed_policies: Some(render::attached(&row.grants)),
        permissions_boundary: shown.permissions_boundary,
        tags: Some(render::tags(&row.tags)),
    }
}

fn role(control: &Control, view: &View, row: &IamRole) -> api::RoleDetail {
    let shown = render::role_with_use(control, view, row);
    let profiles = Index::IamProfiles(row.account, NameKey::of(&row.name).text());
    let profiles = view.members(&profiles).filter_map(|key| match key {
        Key::IamInstanceProfile(account, id) => view.iam_instance_profiles.get(*account, id),
        _ => None,
    });
    api::RoleDetail {
        path: shown.path,
        role_name: shown.role_name,
        role_id: shown.role_id,
        arn: shown.arn,
        create_date: shown.create_date,
        assume_role_policy_document: shown.assume_role_policy_document,
        instance_profile_list: Some(profiles.map(|row| render::profile(view, row)).collect()),
        role_policy_list: Some(render::inline(&row.grants)),
        attached_managed_policies: Some(render::attached(&row.grants)),
        permissions_boundary: shown.permissions_boundary,
        tags: Some(render::tags(&row.tags)),
        role_last_used: shown.role_last_used,
    }
}

fn managed(
    shown: api::Policy,
    policy_version_list: Vec<api::PolicyVersion>,
) -> api::ManagedPolicyDetail {
    api::ManagedPolicyDetail {
        policy_name: shown.policy_name,
        policy_id: shown.policy_id,
        arn: shown.arn,
        path: shown.path,
        default_version_id: shown.default_version_id,
        attachment_count: shown.attachment_count,
        permissions_boundary_usage_count: shown.permissions_boundary_usage_count,
        is_attachable: shown.is_attachable,
        description: shown.description,
        create_date: shown.create_date,
        update_date: shown.update_date,
        policy_version_list: Some(policy_version_list),
    }
}
