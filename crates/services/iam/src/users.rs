//! Users and their access keys.

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_wire::{ApiError, Caller, Principal};
use control::Permission;
use control::iam::access_keys::{self, LONG_TERM};
use control::iam::linked::unique_id;
use control::iam::{Entity, entity_of};
use iam_api as api;
use longshore_types::{AccountId, Token};
use model::{Grants, IamAccessKey, IamUser, Index, Key, NameKey, View};

use crate::Iam;
use crate::errors::{Refusal, quota};
use crate::holder::Holder;
use crate::limits::{KEYS_OF_USER_MAX, USERS_MAX};
use crate::pages::{page, paged};
use crate::{read, render, uses};

pub(crate) async fn create_user(
    iam: &Iam,
    caller: &Caller,
    input: api::CreateUserRequest,
) -> Result<api::CreateUserResponse, ApiError> {
    let (account, name) = (caller.account, input.user_name.unwrap_or_default());
    let path = read::path(input.path)?;
    let tags = read::tags(input.tags)?;
    let boundary = iam.boundary(account, input.permissions_boundary)?;
    let arn = format!("arn:aws:iam::{account}:user{path}{name}");
    let permission = iam.creating("iam:CreateUser", "iam:TagUser", arn, &tags, boundary.as_ref());
    let row = iam.change(
        caller,
        |_| permission.clone(),
        |view, now, batch| {
            if view.iam_users.get(account, &NameKey::of(&name)).is_some() {
                return Err(Refusal::Exists("User", name.clone()).wire());
            }
            if USERS_MAX <= view.iam_users.of(account).count() {
                return Err(quota("UsersPerAccount", USERS_MAX));
            }
            iam.check_boundary(view, boundary.as_ref())?;
            let row = IamUser {
                account,
                name: name.as_str().into(),
                path: path.as_str().into(),
                unique_id: unique_id("AIDA", iam.ids()).into(),
                created_at: now,
                tags: tags.clone(),
                boundary: boundary.clone(),
                grants: Grants::default(),
                groups: BTreeSet::new(),
                devices: BTreeSet::new(),
                login: None,
            };
            batch.rely(Key::IamUser(account, NameKey::of(&name))).put(row.clone());
            Ok(row)
        },
    );
    Ok(api::CreateUserResponse { user: Some(render::user(&row.await?)) })
}

pub(crate) async fn get_user(
    iam: &Iam,
    caller: &Caller,
    input: api::GetUserRequest,
) -> Result<api::GetUserResponse, ApiError> {
    if input.user_name.is_none() && caller.principal == Principal::Root {
        let account = caller.account;
        let user = api::User {
            user_id: Some(account.to_string()),
            arn: Some(format!("arn:aws:iam::{account}:root")),
            create_date: iam
                .control
                .view()
                .iam_accounts
                .get(account, &model::TheAccount)
                .and_then(|row| render::time(row.created_at)),
            ..api::User::default()
        };
        return Ok(api::GetUserResponse { user: Some(user) });
    }
    let name = read::user_name(caller, input.user_name)?;
    let view = iam.read(caller, |view| IamUser::permission(view, caller, "iam:GetUser", &name))?;
    let row = IamUser::need(&view, caller.account, &name)?;
    let user = api::User {
        password_last_used: render::password_last_used(&iam.control, &view, row),
        ..render::user(row)
    };
    Ok(api::GetUserResponse { user: Some(user) })
}

pub(crate) async fn list_users(
    iam: &Iam,
    caller: &Caller,
    input: api::ListUsersRequest,
) -> Result<api::ListUsersResponse, ApiError> {
    let all = format!("arn:aws:iam::{}:user/*", caller.account);
    let view = iam.read(caller, |_| Permission::to("iam:ListUsers").on(all))?;
    let prefix = input.path_prefix.unwrap_or_default();
    let rows = view.iam_users.of(caller.account).filter(|row| row.path.starts_with(&prefix));
    let rows = rows.map(|row| {
        let user = api::User {
            password_last_used: render::password_last_used(&iam.control, &view, row),
            ..render::user_in_list(row)
        };
        (NameKey::of(&row.name).to_string(), user)
    });
    Ok(paged!(ListUsersResponse, users, page(input.marker, input.max_items, rows)?))
}

pub(crate) async fn update_user(
    iam: &Iam,
    caller: &Caller,
    input: api::UpdateUserRequest,
) -> Result<(), ApiError> {
    let (account, name) = (caller.account, input.user_name.unwrap_or_default());
    let path = input.new_path.map(|path| read::path(Some(path))).transpose()?;
    let new_name = input.new_user_name;
    let permission = |view: &View| IamUser::permission(view, caller, "iam:UpdateUser", &name);
    iam.change(caller, permission, |view, _, batch| {
        let row = IamUser::need(view, account, &name)?;
        let mut next = IamUser::clone(row);
        if let Some(path) = &path {
            next.path = path.as_str().into();
        }
        if let Some(new) = &new_name {
            let (old_id, new_id) = (NameKey::of(&name), NameKey::of(new));
            if old_id != new_id {
                if view.iam_users.get(account, &new_id).is_some() {
                    return Err(Refusal::Exists("User", new.clone()).wire());
                }
                batch.rely(Key::IamUser(account, new_id)).delete(Key::IamUser(account, old_id));
            }
            next.name = new.as_str().into();
        }
        batch.put(next);
        Ok(())
    })
    .await
}

pub(crate) async fn delete_user(
    iam: &Iam,
    caller: &Caller,
    input: api::DeleteUserRequest,
) -> Result<(), ApiError> {
    let (account, name) = (caller.account, input.user_name.unwrap_or_default());
    let permission = |view: &View| IamUser::permission(view, caller, "iam:DeleteUser", &name);
    iam.change(caller, permission, |view, _, batch| {
        let row = IamUser::need(view, account, &name)?;
        let keys = Index::IamUserKeys(account, Arc::clone(&row.unique_id));
        if 0 < view.member_count(&keys) {
            return Err(Refusal::MustFirst("delete access keys").wire());
        }
        if !row.devices.is_empty() {
            return Err(Refusal::MustFirst("delete MFA device").wire());
        }
        if row.login.is_some() {
            return Err(Refusal::MustFirst("delete login profile").wire());
        }
        if !row.grants.inline.is_empty() {
            return Err(Refusal::MustFirst("delete policies").wire());
        }
        if !row.grants.attached.is_empty() {
            return Err(Refusal::MustFirst("detach all policies").wire());
        }
        if !row.groups.is_empty() {
            return Err(Refusal::MustFirst("remove users from group").wire());
        }
        batch
            .rely(keys)
            .delete(Key::IamUser(account, NameKey::of(&name)))
            .delete(Key::IamKeyUse(account, Arc::clone(&row.unique_id)));
        Ok(())
    })
    .await
}

pub(crate) async fn put_user_permissions_boundary(
    iam: &Iam,
    caller: &Caller,
    input: api::PutUserPermissionsBoundaryRequest,
) -> Result<(), ApiError> {
    let action = "iam:PutUserPermissionsBoundary";
    let boundary = iam.boundary(caller.account, input.permissions_boundary)?;
    let name = input.user_name.unwrap_or_default();
    let about = |it: Permission| iam.about_boundary(it, boundary.as_ref());
    iam.change_holder::<IamUser>(caller, &name, about, action, |view, row| {
        iam.check_boundary(view, boundary.as_ref())?;
        row.boundary.clone_from(&boundary);
        Ok(())
    })
    .await
}

pub(crate) async fn delete_user_permissions_boundary(
    iam: &Iam,
    caller: &Caller,
    input: api::DeleteUserPermissionsBoundaryRequest,
) -> Result<(), ApiError> {
    let action = "iam:DeleteUserPermissionsBoundary";
    let name = input.user_name.unwrap_or_default();
    iam.change_holder::<IamUser>(
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

pub(crate) async fn create_access_key(
    iam: &Iam,
    caller: &Caller,
    input: api::CreateAccessKeyRequest,
) -> Result<api::CreateAccessKeyResponse, ApiError> {
    let (account, name) = (caller.account, read::owner_of_keys(caller, input.user_name)?);
    let permission = |view: &View| IamUser::permission(view, caller, "iam:CreateAccessKey", &name);
    let made = iam.change(caller, permission, |view, now, batch| {
        let row = IamUser::need(view, account, &name)?;
        let keys = Index::IamUserKeys(account, Arc::clone(&row.unique_id));
        if KEYS_OF_USER_MAX <= view.member_count(&keys) {
            return Err(quota("AccessKeysPerUser", KEYS_OF_USER_MAX));
        }
        let id = access_keys::mint(LONG_TERM, account, iam.ids());
        let secret = Token::mint(iam.ids(), 40);
        let sealed_secret = iam.control.access.seal_secret(iam.ids(), &id, &secret);
        batch.rely(keys).rely(Key::IamUser(account, NameKey::of(&name))).put(IamAccessKey {
            account,
            id: id.as_str().into(),
            user: Arc::clone(&row.unique_id),
            is_active: true,
            created_at: now,
            sealed_secret,
        });
        Ok((id, secret, now))
    });
    let (id, secret, now) = made.await?;
    Ok(api::CreateAccessKeyResponse {
        access_key: Some(api::AccessKey {
            user_name: Some(name),
            access_key_id: Some(id),
            status: Some(api::StatusType::Active),
            secret_access_key: Some(secret.reveal().to_owned()),
            create_date: render::time(now),
        }),
    })
}

/// A key of a user.
fn need_key<'a>(
    view: &'a View,
    account: AccountId,
    user: &IamUser,
    id: &str,
) -> Result<&'a Arc<IamAccessKey>, ApiError> {
    let key = view.iam_access_keys.get(account, &id.into());
    key.filter(|key| key.user == user.unique_id).ok_or_else(|| no_such_key(id))
}

fn no_such_key(id: &str) -> ApiError {
    Refusal::MissingKey(id.to_owned()).wire()
}

pub(crate) async fn update_access_key(
    iam: &Iam,
    caller: &Caller,
    input: api::UpdateAccessKeyRequest,
) -> Result<(), ApiError> {
    let (account, name) = (caller.account, read::owner_of_keys(caller, input.user_name)?);
    let id = input.access_key_id.unwrap_or_default();
    let is_active = input.status == Some(api::StatusType::Active);
    let permission = |view: &View| IamUser::permission(view, caller, "iam:UpdateAccessKey", &name);
    iam.change(caller, permission, |view, _, batch| {
        let user = IamUser::need(view, account, &name)?;
        let key = need_key(view, account, user, &id)?;
        batch.put(IamAccessKey { is_active, ..IamAccessKey::clone(key) });
        Ok(())
    })
    .await
}

pub(crate) async fn delete_access_key(
    iam: &Iam,
    caller: &Caller,
    input: api::DeleteAccessKeyRequest,
) -> Result<(), ApiError> {
    let (account, name) = (caller.account, read::owner_of_keys(caller, input.user_name)?);
    let id = input.access_key_id.unwrap_or_default();
    let permission = |view: &View| IamUser::permission(view, caller, "iam:DeleteAccessKey", &name);
    iam.change(caller, permission, |view, _, batch| {
        let user = IamUser::need(view, account, &name)?;
        let key = need_key(view, account, user, &id)?;
        batch
            .delete(Key::IamAccessKey(account, Arc::clone(&key.id)))
            .delete(Key::IamKeyUse(account, Arc::clone(&key.id)));
        Ok(())
    })
    .await
}

pub(crate) async fn list_access_keys(
    iam: &Iam,
    caller: &Caller,
    input: api::ListAccessKeysRequest,
) -> Result<api::ListAccessKeysResponse, ApiError> {
    if read::is_of_root(caller, input.user_name.as_ref()) {
        return Ok(keys_of_root(caller));
    }
    let (account, name) = (caller.account, read::user_name(caller, input.user_name)?);
    let view =
        iam.read(caller, |view| IamUser::permission(view, caller, "iam:ListAccessKeys", &name))?;
    let user = IamUser::need(&view, account, &name)?;
    let keys = view.members(&Index::IamUserKeys(account, Arc::clone(&user.unique_id)));
    let rows = keys.filter_map(|key| match key {
        Key::IamAccessKey(account, id) => view.iam_access_keys.get(*account, id),
        _ => None,
    });
    let rows = rows.map(|row| {
        let shown = api::AccessKeyMetadata {
            user_name: Some(name.clone()),
            access_key_id: Some(row.id.to_string()),
            status: Some(status(row)),
            create_date: render::time(row.created_at),
        };
        (row.id.to_string(), shown)
    });
    let page = page(input.marker, input.max_items, rows)?;
    Ok(paged!(ListAccessKeysResponse, access_key_metadata, page))
}

/// The key that the region was made with, which root asks with; of a session it is not known.
fn keys_of_root(caller: &Caller) -> api::ListAccessKeysResponse {
    let key = caller.session.is_none().then(|| api::AccessKeyMetadata {
        access_key_id: Some(caller.access_key.clone()),
        status: Some(api::StatusType::Active),
        ..api::AccessKeyMetadata::default()
    });
    api::ListAccessKeysResponse {
        access_key_metadata: Some(key.into_iter().collect()),
        is_truncated: Some(false),
        ..api::ListAccessKeysResponse::default()
    }
}

fn status(key: &IamAccessKey) -> api::StatusType {
    if key.is_active { api::StatusType::Active } else { api::StatusType::Inactive }
}

pub(crate) async fn get_access_key_last_used(
    iam: &Iam,
    caller: &Caller,
    input: api::GetAccessKeyLastUsedRequest,
) -> Result<api::GetAccessKeyLastUsedResponse, ApiError> {
    let (account, id) = (caller.account, input.access_key_id.unwrap_or_default());
    let owner = |view: &View| {
        let key = view.iam_access_keys.get(account, &id.as_str().into())?;
        match entity_of(view, &key.user)? {
            Entity::User(row) => Some(Arc::clone(row)),
            Entity::Role(_) => None,
        }
    };
    let view = iam.read(caller, |view| {
        let name = owner(view).map_or_else(|| "*".to_owned(), |user| user.name.to_string());
        IamUser::permission(view, caller, "iam:GetAccessKeyLastUsed", &name)
    })?;
    let user = owner(&view).ok_or_else(|| no_such_key(&id))?;
    let last = uses::last(&iam.control, &view, account, &id.as_str().into());
    let nothing = || "N/A".to_owned();
    Ok(api::GetAccessKeyLastUsedResponse {
        user_name: Some(user.name.to_string()),
        access_key_last_used: Some(api::AccessKeyLastUsed {
            last_used_date: last.as_ref().and_then(|used| render::time(used.at)),
            service_name: Some(last.as_ref().map_or_else(nothing, |used| used.service.clone())),
            region: Some(last.map_or_else(nothing, |used| used.region)),
        }),
    })
}

/// What users of AWS may have and those of this region don't: the lists of it are empty.
macro_rules! nothing_of_user {
    ($($handler:ident($input:ident) -> $output:ident, $member:ident, $action:literal;)*) => {
        $(pub(crate) async fn $handler(
            iam: &Iam,
            caller: &Caller,
            input: api::$input,
        ) -> Result<api::$output, ApiError> {
            if !read::is_of_root(caller, input.user_name.as_ref()) {
                let name = read::user_name(caller, input.user_name)?;
                let view = iam.read(caller, |view| {
                    IamUser::permission(view, caller, $action, &name)
                })?;
                IamUser::need(&view, caller.account, &name)?;
            }
            Ok(api::$output {
                $member: Some(vec![]),
                is_truncated: Some(false),
                ..api::$output::default()
            })
        })*
    };
}

nothing_of_user! {
    list_signing_certificates(ListSigningCertificatesRequest) -> ListSigningCertificatesResponse,
        certificates, "iam:ListSigningCertificates";
    list_ssh_public_keys(ListSSHPublicKeysRequest) -> ListSSHPublicKeysResponse, ssh_public_keys,
        "iam:ListSSHPublicKeys";
    list_service_specific_credentials(ListServiceSpecificCredentialsRequest)
        -> ListServiceSpecificCredentialsResponse, service_specific_credentials,
        "iam:ListServiceSpecificCredentials";
}

pub(crate) async fn tag_user(
    iam: &Iam,
    caller: &Caller,
    input: api::TagUserRequest,
) -> Result<(), ApiError> {
    let more = read::tags(input.tags)?;
    let name = input.user_name.unwrap_or_default();
    let about = |it: Permission| it.tagging(&more);
    iam.change_holder::<IamUser>(caller, &name, about, "iam:TagUser", |_, row| {
        read::add_tags(&mut row.tags, &more)
    })
    .await
}

pub(crate) async fn untag_user(
    iam: &Iam,
    caller: &Caller,
    input: api::UntagUserRequest,
) -> Result<(), ApiError> {
    let keys = input.tag_keys.unwrap_or_default();
    let name = input.user_name.unwrap_or_default();
    let about = |it: Permission| it.about_tags(&keys);
    iam.change_holder::<IamUser>(caller, &name, about, "iam:UntagUser", |_, row| {
        row.tags.retain(|key, _| !keys.contains(key));
        Ok(())
    })
    .await
}

pub(crate) async fn list_user_tags(
    iam: &Iam,
    caller: &Caller,
    input: api::ListUserTagsRequest,
) -> Result<api::ListUserTagsResponse, ApiError> {
    let name = input.user_name.unwrap_or_default();
    let view =
        iam.read(caller, |view| IamUser::permission(view, caller, "iam:ListUserTags", &name))?;
    let row = IamUser::find(&view, caller.account, &name)
        .ok_or_else(|| Refusal::Missing("user".to_owned(), name.clone()).wire())?;
    let tags = render::tags(&row.tags).into_iter();
    let tags = tags.map(|tag| (tag.key.clone().unwrap_or_default(), tag));
    Ok(paged!(ListUserTagsResponse, tags, page(input.marker, input.max_items, tags)?))
}
