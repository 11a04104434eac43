//! Groups, and who is in them.

use aws_wire::{ApiError, Caller};
use control::Permission;
use control::iam::linked::unique_id;
use iam_api as api;
use model::{Grants, IamGroup, IamUser, Index, Key, NameKey, View};

use crate::Iam;
use crate::errors::{Refusal, quota};
use crate::holder::Holder;
use crate::limits::{GROUPS_MAX, GROUPS_OF_USER_MAX};
use crate::pages::{page, paged};
use crate::{read, render};

pub(crate) async fn create_group(
    iam: &Iam,
    caller: &Caller,
    input: api::CreateGroupRequest,
) -> Result<api::CreateGroupResponse, ApiError> {
    let (account, name) = (caller.account, input.group_name.unwrap_or_default());
    let path = read::path(input.path)?;
    let arn = format!("arn:aws:iam::{account}:group{path}{name}");
    let permission = Permission::to("iam:CreateGroup").on(arn);
    let row = iam.change(
        caller,
        |_| permission.clone(),
        |view, now, batch| {
            if view.iam_groups.get(account, &NameKey::of(&name)).is_some() {
                return Err(Refusal::Exists("Group", name.clone()).wire());
            }
            if GROUPS_MAX <= view.iam_groups.of(account).count() {
                return Err(quota("GroupsPerAccount", GROUPS_MAX));
            }
            let row = IamGroup {
                account,
                name: name.as_str().into(),
                path: path.as_str().into(),
                unique_id: unique_id("AGPA", iam.ids()).into(),
                created_at: now,
                grants: Grants::default(),
            };
            batch.rely(Key::IamGroup(account, NameKey::of(&name))).put(row.clone());
            Ok(row)
        },
    );
    Ok(api::CreateGroupResponse { group: Some(render::group(&row.await?)) })
}

/// The users in a group, by name.
fn members<'a>(view: &'a View, row: &IamGroup) -> impl Iterator<Item = &'a IamUser> + use<'a> {
    let index = Index::IamMembers(row.account, NameKey::of(&row.name).text());
    view.members(&index).filter_map(|key| match key {
        Key::IamUser(account, id) => view.iam_users.get(*account, id).map(|row| &**row),
        _ => None,
    })
}

pub(crate) async fn get_group(
    iam: &Iam,
    caller: &Caller,
    input: api::GetGroupRequest,
) -> Result<api::GetGroupResponse, ApiError> {
    let name = input.group_name.unwrap_or_default();
    let view =
        iam.read(caller, |view| IamGroup::permission(view, caller, "iam:GetGroup", &name))?;
    let row = IamGroup::need(&view, caller.account, &name)?;
    let users = members(&view, row);
    let users = users.map(|user| (NameKey::of(&user.name).to_string(), render::user_in_list(user)));
    let page = page(input.marker, input.max_items, users)?;
    Ok(api::GetGroupResponse {
        group: Some(render::group(row)),
        users: Some(page.items),
        is_truncated: Some(page.is_truncated),
        marker: page.marker,
    })
}

pub(crate) async fn list_groups(
    iam: &Iam,
    caller: &Caller,
    input: api::ListGroupsRequest,
) -> Result<api::ListGroupsResponse, ApiError> {
    let all = format!("arn:aws:iam::{}:group/*", caller.account);
    let view = iam.read(caller, |_| Permission::to("iam:ListGroups").on(all))?;
    let prefix = input.path_prefix.unwrap_or_default();
    let rows = view.iam_groups.of(caller.account).filter(|row| row.path.starts_with(&prefix));
    let rows = rows.map(|row| (NameKey::of(&row.name).to_string(), render::group(row)));
    Ok(paged!(ListGroupsResponse, groups, page(input.marker, input.max_items, rows)?))
}

pub(crate) async fn list_groups_for_user(
    iam: &Iam,
    caller: &Caller,
    input: api::ListGroupsForUserRequest,
) -> Result<api::ListGroupsForUserResponse, ApiError> {
    let name = input.user_name.unwrap_or_default();
    let view =
        iam.read(caller, |view| IamUser::permission(view, caller, "iam:ListGroupsForUser", &name))?;
    let user = IamUser::need(&view, caller.account, &name)?;
    let rows = user.groups.iter().filter_map(|id| view.iam_groups.get(caller.account, id));
    let rows = rows.map(|row| (NameKey::of(&row.name).to_string(), render::group(row)));
    Ok(paged!(ListGroupsForUserResponse, groups, page(input.marker, input.max_items, rows)?))
}

pub(crate) async fn update_group(
    iam: &Iam,
    caller: &Caller,
    input: api::UpdateGroupRequest,
) -> Result<(), ApiError> {
    let (account, name) = (caller.account, input.group_name.unwrap_or_default());
    let path = input.new_path.map(|path| read::path(Some(path))).transpose()?;
    let new_name = input.new_group_name;
    let permission = |view: &View| IamGroup::permission(view, caller, "iam:UpdateGroup", &name);
    iam.change(caller, permission, |view, _, batch| {
        let row = IamGroup::need(view, account, &name)?;
        let mut next = IamGroup::clone(row);
        if let Some(path) = &path {
            next.path = path.as_str().into();
        }
        if let Some(new) = &new_name {
            let (old_id, new_id) = (NameKey::of(&name), NameKey::of(new));
            if old_id != new_id {
                if view.iam_groups.get(account, &new_id).is_some() {
                    return Err(Refusal::Exists("Group", new.clone()).wire());
                }
                for user in members(view, row) {
                    let mut user = user.clone();
                    user.groups.remove(&old_id);
                    user.groups.insert(new_id.clone());
                    batch.put(user);
                }
                batch.rely(Key::IamGroup(account, new_id));
                batch.delete(Key::IamGroup(account, old_id));
            }
            next.name = new.as_str().into();
        }
        batch.put(next);
        Ok(())
    })
    .await
}

pub(crate) async fn delete_group(
    iam: &Iam,
    caller: &Caller,
    input: api::DeleteGroupRequest,
) -> Result<(), ApiError> {
    let (account, name) = (caller.account, input.group_name.unwrap_or_default());
    let permission = |view: &View| IamGroup::permission(view, caller, "iam:DeleteGroup", &name);
    iam.change(caller, permission, |view, _, batch| {
        let row = IamGroup::need(view, account, &name)?;
        let users = Index::IamMembers(account, NameKey::of(&name).text());
        if 0 < view.member_count(&users) {
            return Err(Refusal::MustFirst("remove users from group").wire());
        }
        if !row.grants.inline.is_empty() {
            return Err(Refusal::MustFirst("delete policies").wire());
        }
        if !row.grants.attached.is_empty() {
            return Err(Refusal::MustFirst("detach all policies").wire());
        }
        batch.rely(users).delete(Key::IamGroup(account, NameKey::of(&name)));
        Ok(())
    })
    .await
}

pub(crate) async fn add_user_to_group(
    iam: &Iam,
    caller: &Caller,
    input: api::AddUserToGroupRequest,
) -> Result<(), ApiError> {
    let (group, user) = (input.group_name.unwrap_or_default(), input.user_name.unwrap_or_default());
    change_membership(iam, caller, "iam:AddUserToGroup", &group, &user, true).await
}

pub(crate) async fn remove_user_from_group(
    iam: &Iam,
    caller: &Caller,
    input: api::RemoveUserFromGroupRequest,
) -> Result<(), ApiError> {
    let (group, user) = (input.group_name.unwrap_or_default(), input.user_name.unwrap_or_default());
    change_membership(iam, caller, "iam:RemoveUserFromGroup", &group, &user, false).await
}

async fn change_membership(
    iam: &Iam,
    caller: &Caller,
    action: &'static str,
    group: &str,
    user: &str,
    is_member: bool,
) -> Result<(), ApiError> {
    let account = caller.account;
    let permission = |view: &View| IamGroup::permission(view, caller, action, group);
    iam.change(caller, permission, |view, _, batch| {
        IamGroup::need(view, account, group)?;
        let mut next = IamUser::clone(IamUser::need(view, account, user)?);
        let id = NameKey::of(group);
        if is_member {
            next.groups.insert(id.clone());
        } else {
            next.groups.remove(&id);
        }
        if GROUPS_OF_USER_MAX < next.groups.len() {
            return Err(quota("GroupsPerUser", GROUPS_OF_USER_MAX));
        }
        batch.rely(Key::IamGroup(account, id)).put(next);
        Ok(())
    })
    .await
}
