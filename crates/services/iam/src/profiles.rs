//! Instance profiles: the role that a container instance has.

use aws_wire::{ApiError, Caller};
use control::Permission;
use control::iam::linked::unique_id;
use iam_api as api;
use longshore_types::AccountId;
use model::{IamInstanceProfile, IamRole, Index, Key, NameKey, View};

use crate::Iam;
use crate::errors::{Refusal, quota};
use crate::holder::Holder;
use crate::limits::PROFILES_MAX;
use crate::pages::{page, paged};
use crate::{read, render};

fn find<'a>(view: &'a View, account: AccountId, name: &str) -> Option<&'a IamInstanceProfile> {
    let row = view.iam_instance_profiles.get(account, &NameKey::of(name));
    row.map(|row| &**row).filter(|row| &*row.name == name)
}

fn need<'a>(
    view: &'a View,
    account: AccountId,
    name: &str,
) -> Result<&'a IamInstanceProfile, ApiError> {
    find(view, account, name).ok_or_else(|| Refusal::MissingProfile(name.to_owned()).wire())
}

fn permission(view: &View, caller: &Caller, action: &'static str, name: &str) -> Permission {
    let arn = find(view, caller.account, name).map(IamInstanceProfile::arn);
    let bare = || format!("arn:aws:iam::{}:instance-profile/{name}", caller.account);
    Permission::to(action).on(arn.unwrap_or_else(bare)).shown_as(format!("instance profile {name}"))
}

pub(crate) async fn create_instance_profile(
    iam: &Iam,
    caller: &Caller,
    input: api::CreateInstanceProfileRequest,
) -> Result<api::CreateInstanceProfileResponse, ApiError> {
    let (account, name) = (caller.account, input.instance_profile_name.unwrap_or_default());
    let path = read::path(input.path)?;
    let tags = read::tags(input.tags)?;
    let arn = format!("arn:aws:iam::{account}:instance-profile{path}{name}");
    let permission =
        iam.creating("iam:CreateInstanceProfile", "iam:TagInstanceProfile", arn, &tags, None);
    let row = iam.change(
        caller,
        |_| permission.clone(),
        |view, now, batch| {
            if view.iam_instance_profiles.get(account, &NameKey::of(&name)).is_some() {
                return Err(Refusal::ProfileExists(name.clone()).wire());
            }
            if PROFILES_MAX <= view.iam_instance_profiles.of(account).count() {
                return Err(quota("InstanceProfilesPerAccount", PROFILES_MAX));
            }
            let row = IamInstanceProfile {
                account,
                name: name.as_str().into(),
                path: path.as_str().into(),
                unique_id: unique_id("AIPA", iam.ids()).into(),
                created_at: now,
                tags: tags.clone(),
                role: None,
            };
            batch.rely(Key::IamInstanceProfile(account, NameKey::of(&name))).put(row.clone());
            Ok(row)
        },
    );
    let profile = render::profile(&iam.control.view(), &row.await?);
    Ok(api::CreateInstanceProfileResponse { instance_profile: Some(profile) })
}

pub(crate) async fn get_instance_profile(
    iam: &Iam,
    caller: &Caller,
    input: api::GetInstanceProfileRequest,
) -> Result<api::GetInstanceProfileResponse, ApiError> {
    let name = input.instance_profile_name.unwrap_or_default();
    let view =
        iam.read(caller, |view| permission(view, caller, "iam:GetInstanceProfile", &name))?;
    let row = need(&view, caller.account, &name)?;
    Ok(api::GetInstanceProfileResponse { instance_profile: Some(render::profile(&view, row)) })
}

pub(crate) async fn list_instance_profiles(
    iam: &Iam,
    caller: &Caller,
    input: api::ListInstanceProfilesRequest,
) -> Result<api::ListInstanceProfilesResponse, ApiError> {
    let all = format!("arn:aws:iam::{}:instance-profile/*", caller.account);
    let view = iam.read(caller, |_| Permission::to("iam:ListInstanceProfiles").on(all))?;
    let prefix = input.path_prefix.unwrap_or_default();
    let rows = view.iam_instance_profiles.of(caller.account);
    let rows = rows.filter(|row| row.path.starts_with(&prefix)).map(|row| {
        let shown = api::InstanceProfile { tags: None, ..render::profile(&view, row) };
        (NameKey::of(&row.name).to_string(), shown)
    });
    let page = page(input.marker, input.max_items, rows)?;
    Ok(paged!(ListInstanceProfilesResponse, instance_profiles, page))
}

pub(crate) async fn list_instance_profiles_for_role(
    iam: &Iam,
    caller: &Caller,
    input: api::ListInstanceProfilesForRoleRequest,
) -> Result<api::ListInstanceProfilesForRoleResponse, ApiError> {
    let (account, name) = (caller.account, input.role_name.unwrap_or_default());
    let view = iam.read(caller, |view| {
        IamRole::permission(view, caller, "iam:ListInstanceProfilesForRole", &name)
    })?;
    IamRole::need(&view, account, &name)?;
    let keys = view.members(&Index::IamProfiles(account, NameKey::of(&name).text()));
    let rows = keys.filter_map(|key| match key {
        Key::IamInstanceProfile(account, id) => view.iam_instance_profiles.get(*account, id),
        _ => None,
    });
    let rows = rows.map(|row| {
        let shown = api::InstanceProfile { tags: None, ..render::profile(&view, row) };
        (NameKey::of(&row.name).to_string(), shown)
    });
    let page = page(input.marker, input.max_items, rows)?;
    Ok(paged!(ListInstanceProfilesForRoleResponse, instance_profiles, page))
}

pub(crate) async fn delete_instance_profile(
    iam: &Iam,
    caller: &Caller,
    input: api::DeleteInstanceProfileRequest,
) -> Result<(), ApiError> {
    let (account, name) = (caller.account, input.instance_profile_name.unwrap_or_default());
    let permission = |view: &View| permission(view, caller, "iam:DeleteInstanceProfile", &name);
    iam.change(caller, permission, |view, _, batch| {
        let row = need(view, account, &name)?;
        if row.role.is_some() {
            return Err(Refusal::MustFirst("remove roles from instance profile").wire());
        }
        batch.delete(Key::IamInstanceProfile(account, NameKey::of(&name)));
        Ok(())
    })
    .await
}

/// The role is passed to whatever runs with the profile.
pub(crate) async fn add_role_to_instance_profile(
    iam: &Iam,
    caller: &Caller,
    input: api::AddRoleToInstanceProfileRequest,
) -> Result<(), ApiError> {
    let (account, name) = (caller.account, input.instance_profile_name.unwrap_or_default());
    let role = input.role_name.unwrap_or_default();
    let permission = |view: &View| {
        let mut passed = IamRole::permission(view, caller, "iam:PassRole", &role);
        // Whoever is denied adds what is named to a policy.
        passed.shown_as = None;
        permission(view, caller, "iam:AddRoleToInstanceProfile", &name)
            .and(passed.with("iam:PassedToService", "ec2.amazonaws.com"))
    };
    iam.change(caller, permission, |view, _, batch| {
        let mut next = need(view, account, &name)?.clone();
        IamRole::need_own(view, account, &role)?;
        if next.role.is_some() {
            return Err(quota("InstanceSessionsPerInstanceProfile", 1));
        }
        next.role = Some(NameKey::of(&role));
        batch.rely(Key::IamRole(account, NameKey::of(&role))).put(next);
        Ok(())
    })
    .await
}

pub(crate) async fn remove_role_from_instance_profile(
    iam: &Iam,
    caller: &Caller,
    input: api::RemoveRoleFromInstanceProfileRequest,
) -> Result<(), ApiError> {
    let (account, name) = (caller.account, input.instance_profile_name.unwrap_or_default());
    let role = input.role_name.unwrap_or_default();
    let permission =
        |view: &View| permission(view, caller, "iam:RemoveRoleFromInstanceProfile", &name);
    iam.change(caller, permission, |view, _, batch| {
        let mut next = need(view, account, &name)?.clone();
        if next.role != Some(NameKey::of(&role)) {
            return Err(Refusal::RoleNotInProfile(role.clone(), name.clone()).wire());
        }
        next.role = None;
        batch.put(next);
        Ok(())
    })
    .await
}

pub(crate) async fn tag_instance_profile(
    iam: &Iam,
    caller: &Caller,
    input: api::TagInstanceProfileRequest,
) -> Result<(), ApiError> {
    let more = read::tags(input.tags)?;
    let (account, name) = (caller.account, input.instance_profile_name.unwrap_or_default());
    let permission =
        |view: &View| permission(view, caller, "iam:TagInstanceProfile", &name).tagging(&more);
    iam.change(caller, permission, |view, _, batch| {
        let mut next = need(view, account, &name)?.clone();
        read::add_tags(&mut next.tags, &more)?;
        batch.put(next);
        Ok(())
    })
    .await
}

pub(crate) async fn untag_instance_profile(
    iam: &Iam,
    caller: &Caller,
    input: api::UntagInstanceProfileRequest,
) -> Result<(), ApiError> {
    let keys = input.tag_keys.unwrap_or_default();
    let (account, name) = (caller.account, input.instance_profile_name.unwrap_or_default());
    let permission =
        |view: &View| permission(view, caller, "iam:UntagInstanceProfile", &name).about_tags(&keys);
    iam.change(caller, permission, |view, _, batch| {
        let mut next = need(view, account, &name)?.clone();
        next.tags.retain(|key, _| !keys.contains(key));
        batch.put(next);
        Ok(())
    })
    .await
}

pub(crate) async fn list_instance_profile_tags(
    iam: &Iam,
    caller: &Caller,
    input: api::ListInstanceProfileTagsRequest,
) -> Result<api::ListInstanceProfileTagsResponse, ApiError> {
    let name = input.instance_profile_name.unwrap_or_default();
    let view =
        iam.read(caller, |view| permission(view, caller, "iam:ListInstanceProfileTags", &name))?;
    let row = need(&view, caller.account, &name)?;
    let tags = render::tags(&row.tags).into_iter();
    let tags = tags.map(|tag| (tag.key.clone().unwrap_or_default(), tag));
    Ok(paged!(ListInstanceProfileTagsResponse, tags, page(input.marker, input.max_items, tags)?))
}
