//! Roles: who may assume them, and for how long.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use control::iam::linked::{SESSION_S_DEFAULT, unique_id};
use iam_api as api;
use model::{Grants, IamRole, Index, Key, NameKey, View};

use crate::Iam;
use crate::errors::{Refusal, quota};
use crate::holder::Holder;
use crate::limits::ROLES_MAX;
use crate::pages::{page, paged};
use crate::{read, render};

pub(crate) async fn create_role(
    iam: &Iam,
    caller: &Caller,
    input: api::CreateRoleRequest,
) -> Result<api::CreateRoleResponse, ApiError> {
    let (account, name) = (caller.account, input.role_name.unwrap_or_default());
    let path = read::path(input.path)?;
    let tags = read::tags(input.tags)?;
    let boundary = iam.boundary(account, input.permissions_boundary)?;
    let arn = format!("arn:aws:iam::{account}:role{path}{name}");
    let permission = iam.creating("iam:CreateRole", "iam:TagRole", arn, &tags, boundary.as_ref());
    if path.starts_with("/aws-service-role/") {
        return Err(Refusal::ServiceRolePath.wire());
    }
    let max_session_s = seconds(input.max_session_duration);
    let row = iam.change(
        caller,
        |_| permission.clone(),
        |view, now, batch| {
            if view.iam_roles.get(account, &NameKey::of(&name)).is_some() {
                return Err(Refusal::Exists("Role", name.clone()).wire());
            }
            if ROLES_MAX <= view.iam_roles.of(account).count() {
                return Err(quota("RolesPerAccount", ROLES_MAX));
            }
            iam.check_boundary(view, boundary.as_ref())?;
            let row = IamRole {
                account,
                name: name.as_str().into(),
                path: path.as_str().into(),
                unique_id: unique_id("AROA", iam.ids()).into(),
                created_at: now,
                description: input.description.clone(),
                max_session_s,
                trust: read::trust(view, input.assume_role_policy_document.as_deref())?,
                tags: tags.clone(),
                boundary: boundary.clone(),
                grants: Grants::default(),
                service: None,
            };
            batch.rely(Key::IamRole(account, NameKey::of(&name))).put(row.clone());
            Ok(row)
        },
    );
    let role = render::role(&iam.control.view(), &row.await?);
    Ok(api::CreateRoleResponse { role: Some(role) })
}

fn seconds(asked: Option<i32>) -> u32 {
    asked.and_then(|asked| u32::try_from(asked).ok()).unwrap_or(SESSION_S_DEFAULT)
}

pub(crate) async fn get_role(
    iam: &Iam,
    caller: &Caller,
    input: api::GetRoleRequest,
) -> Result<api::GetRoleResponse, ApiError> {
    let name = input.role_name.unwrap_or_default();
    let view = iam.read(caller, |view| IamRole::permission(view, caller, "iam:GetRole", &name))?;
    let row = IamRole::need(&view, caller.account, &name)?;
    let role = render::role_with_use(&iam.control, &view, row);
    Ok(api::GetRoleResponse { role: Some(role) })
}

pub(crate) async fn list_roles(
    iam: &Iam,
    caller: &Caller,
    input: api::ListRolesRequest,
) -> Result<api::ListRolesResponse, ApiError> {
    let all = format!("arn:aws:iam::{}:role/*", caller.account);
    let view = iam.read(caller, |_| Permission::to("iam:ListRoles").on(all))?;
    let prefix = input.path_prefix.unwrap_or_default();
    let rows = view.iam_roles.of(caller.account).filter(|row| row.path.starts_with(&prefix));
    let rows =
        rows.map(|row| (NameKey::of(&row.name).to_string(), render::role_in_list(&view, row)));
    Ok(paged!(ListRolesResponse, roles, page(input.marker, input.max_items, rows)?))
}

pub(crate) async fn update_role(
    iam: &Iam,
    caller: &Caller,
    input: api::UpdateRoleRequest,
) -> Result<api::UpdateRoleResponse, ApiError> {
    let (account, name) = (caller.account, input.role_name.unwrap_or_default());
    let permission = |view: &View| IamRole::permission(view, caller, "iam:UpdateRole", &name);
    iam.change(caller, permission, |view, _, batch| {
        // What a service's role is called for people is theirs; how long its sessions last is not.
        let row = match input.max_session_duration {
            Some(_) => IamRole::need_own(view, account, &name)?,
            None => IamRole::need(view, account, &name)?,
        };
        let mut next = IamRole::clone(row);
        if let Some(text) = &input.description {
            next.description = Some(text.clone()).filter(|text| !text.is_empty());
        }
        if input.max_session_duration.is_some() {
            next.max_session_s = seconds(input.max_session_duration);
        }
        batch.put(next);
        Ok(())
    })
    .await?;
    Ok(api::UpdateRoleResponse {})
}

pub(crate) async fn update_role_description(
    iam: &Iam,
    caller: &Caller,
    input: api::UpdateRoleDescriptionRequest,
) -> Result<api::UpdateRoleDescriptionResponse, ApiError> {
    let name = input.role_name.unwrap_or_default();
    let action = "iam:UpdateRoleDescription";
    iam.change_holder::<IamRole>(
        caller,
        &name,
        |it| it,
        action,
        |_, row| {
            row.description.clone_from(&input.description);
            Ok(())
        },
    )
    .await?;
    let view = iam.control.view();
    let row = IamRole::need(&view, caller.account, &name)?;
    Ok(api::UpdateRoleDescriptionResponse { role: Some(render::role(&view, row)) })
}

pub(crate) async fn update_assume_role_policy(
    iam: &Iam,
    caller: &Caller,
    input: api::UpdateAssumeRolePolicyRequest,
) -> Result<(), ApiError> {
    let name = input.role_name.unwrap_or_default();
    let action = "iam:UpdateAssumeRolePolicy";
    iam.change_holder::<IamRole>(
        caller,
        &name,
        |it| it,
        action,
        |view, row| {
            row.trust = read::trust(view, input.policy_document.as_deref())?;
            Ok(())
        },
    )
    .await
}

pub(crate) async fn delete_role(
    iam: &Iam,
    caller: &Caller,
    input: api::DeleteRoleRequest,
) -> Result<(), ApiError> {
    let (account, name) = (caller.account, input.role_name.unwrap_or_default());
    let permission = |view: &View| IamRole::permission(view, caller, "iam:DeleteRole", &name);
    iam.change(caller, permission, |view, _, batch| {
        let row = IamRole::need_own(view, account, &name)?;
        let profiles = Index::IamProfiles(account, NameKey::of(&name).text());
        if 0 < view.member_count(&profiles) {
            return Err(Refusal::MustFirst("remove roles from instance profile").wire());
        }
        if !row.grants.attached.is_empty() {
            return Err(Refusal::MustFirst("detach all policies").wire());
        }
        if !row.grants.inline.is_empty() {
            return Err(Refusal::MustFirst("delete policies").wire());
        }
        batch
            .rely(profiles)
            .delete(Key::IamRole(account, NameKey::of(&name)))
            .delete(Key::IamKeyUse(account, Arc::clone(&row.unique_id)));
        Ok(())
    })
    .await
}

pub(crate) async fn put_role_permissions_boundary(
    iam: &Iam,
    caller: &Caller,
    input: api::PutRolePermissionsBoundaryRequest,
) -> Result<(), ApiError> {
    let action = "iam:PutRolePermissionsBoundary";
    let boundary = iam.boundary(caller.account, input.permissions_boundary)?;
    let name = input.role_name.unwrap_or_default();
    let about = |it: Permission| iam.about_boundary(it, boundary.as_ref());
    iam.change_holder::<IamRole>(caller, &name, about, action, |view, row| {
        iam.check_boundary(view, boundary.as_ref())?;
        row.boundary.clone_from(&boundary);
        Ok(())
    })
    .await
}

pub(crate) async fn delete_role_permissions_boundary(
    iam: &Iam,
    caller: &Caller,
    input: api::DeleteRolePermissionsBoundaryRequest,
) -> Result<(), ApiError> {
    let action = "iam:DeleteRolePermissionsBoundary";
    let name = input.role_name.unwrap_or_default();
    iam.change_holder::<IamRole>(
        caller,
        &name,
        |it| it,
        action,
        |_, row| {
            row.boundary = None;
            Ok(())
        },
    )
    .await
}

pub(crate) async fn tag_role(
    iam: &Iam,
    caller: &Caller,
    input: api::TagRoleRequest,
) -> Result<(), ApiError> {
    let more = read::tags(input.tags)?;
    let (account, name) = (caller.account, input.role_name.unwrap_or_default());
    let permission =
        |view: &View| IamRole::permission(view, caller, "iam:TagRole", &name).tagging(&more);
    // Tags are the account's also on a role that is a service's.
    iam.change(caller, permission, |view, _, batch| {
        let mut next = IamRole::clone(IamRole::need(view, account, &name)?);
        read::add_tags(&mut next.tags, &more)?;
        batch.put(next);
        Ok(())
    })
    .await
}

pub(crate) async fn untag_role(
    iam: &Iam,
    caller: &Caller,
    input: api::UntagRoleRequest,
) -> Result<(), ApiError> {
    let keys = input.tag_keys.unwrap_or_default();
    let (account, name) = (caller.account, input.role_name.unwrap_or_default());
    let permission =
        |view: &View| IamRole::permission(view, caller, "iam:UntagRole", &name).about_tags(&keys);
    iam.change(caller, permission, |view, _, batch| {
        let mut next = IamRole::clone(IamRole::need(view, account, &name)?);
        next.tags.retain(|key, _| !keys.contains(key));
        batch.put(next);
        Ok(())
    })
    .await
}

pub(crate) async fn list_role_tags(
    iam: &Iam,
    caller: &Caller,
    input: api::ListRoleTagsRequest,
) -> Result<api::ListRoleTagsResponse, ApiError> {
    let name = input.role_name.unwrap_or_default();
    let view =
        iam.read(caller, |view| IamRole::permission(view, caller, "iam:ListRoleTags", &name))?;
    let row = IamRole::need(&view, caller.account, &name)?;
    let tags = render::tags(&row.tags).into_iter();
    let tags = tags.map(|tag| (tag.key.clone().unwrap_or_default(), tag));
    Ok(paged!(ListRoleTagsResponse, tags, page(input.marker, input.max_items, tags)?))
}
