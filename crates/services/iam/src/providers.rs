//! OpenID Connect providers: whose tokens open roles.

use aws_wire::{ApiError, Caller};
use control::Permission;
use iam_api as api;
use longshore_types::AccountId;
use model::{IamOidcProvider, Key, View};

use crate::Iam;
use crate::errors::{Refusal, quota};
use crate::limits::{CLIENT_IDS_MAX, PROVIDERS_MAX, THUMBPRINTS_MAX};
use crate::pages::{page, paged};
use crate::{read, render};

fn need(view: &View, account: AccountId, arn: &str) -> Result<IamOidcProvider, ApiError> {
    let url = arn.split_once(":oidc-provider/").map(|(_, url)| url).unwrap_or_default();
    let row = view.iam_oidc_providers.get(account, &url.into());
    let row = row.filter(|row| row.arn() == arn).map(|row| IamOidcProvider::clone(row));
    row.ok_or_else(|| Refusal::MissingProvider(arn.to_owned()).wire())
}

fn arn_of(given: Option<String>) -> Result<String, ApiError> {
    let arn = given.unwrap_or_default();
    match arn.starts_with("arn:aws:iam::") && arn.contains(":oidc-provider/") {
        true => Ok(arn),
        false => Err(Refusal::ProviderArn(arn).wire()),
    }
}

async fn change(
    iam: &Iam,
    caller: &Caller,
    permission: Permission,
    arn: &str,
    change: impl Fn(&mut IamOidcProvider) -> Result<(), ApiError> + Send + Sync,
) -> Result<(), ApiError> {
    let account = caller.account;
    iam.change(
        caller,
        |_| permission.clone(),
        |view, _, batch| {
            let mut row = need(view, account, arn)?;
            change(&mut row)?;
            batch.put(row);
            Ok(())
        },
    )
    .await
}

pub(crate) async fn create_open_id_connect_provider(
    iam: &Iam,
    caller: &Caller,
    input: api::CreateOpenIDConnectProviderRequest,
) -> Result<api::CreateOpenIDConnectProviderResponse, ApiError> {
    let account = caller.account;
    let given = input.url.unwrap_or_default();
    let url = given.strip_prefix("https://").filter(|url| !url.is_empty());
    let url = url.ok_or_else(|| Refusal::ProviderUrl.wire())?;
    let url = url.trim_end_matches('/').to_owned();
    let client_ids = input.client_id_list.unwrap_or_default();
    check_client_ids(&client_ids)?;
    let thumbprints = input.thumbprint_list.unwrap_or_default();
    check_thumbprints(&thumbprints)?;
    let tags = read::tags(input.tags)?;
    let arn = format!("arn:aws:iam::{account}:oidc-provider/{url}");
    let permission = iam.creating(
        "iam:CreateOpenIDConnectProvider",
        "iam:TagOpenIDConnectProvider",
        arn,
        &tags,
        None,
    );
    let row = iam.change(
        caller,
        |_| permission.clone(),
        |view, now, batch| {
            let id: std::sync::Arc<str> = url.as_str().into();
            if view.iam_oidc_providers.get(account, &id).is_some() {
                return Err(Refusal::ProviderExists(given.clone()).wire());
            }
            if PROVIDERS_MAX <= view.iam_oidc_providers.of(account).count() {
                return Err(quota("OpenIdConnectProvidersPerAccount", PROVIDERS_MAX));
            }
            let row = IamOidcProvider {
                account,
                url: id.clone(),
                client_ids: client_ids.clone(),
                thumbprints: thumbprints.clone(),
                created_at: now,
                tags: tags.clone(),
            };
            batch.rely(Key::IamOidcProvider(account, id)).put(row.clone());
            Ok(row)
        },
    );
    let row = row.await?;
    Ok(api::CreateOpenIDConnectProviderResponse {
        open_id_connect_provider_arn: Some(row.arn()),
        tags: Some(render::tags(&row.tags)),
    })
}

fn check_client_ids(ids: &[String]) -> Result<(), ApiError> {
    match ids.len() <= CLIENT_IDS_MAX {
        true => Ok(()),
        false => Err(quota("ClientIdsPerOpenIdConnectProvider", CLIENT_IDS_MAX)),
    }
}

fn check_thumbprints(all: &[String]) -> Result<(), ApiError> {
    if THUMBPRINTS_MAX < all.len() {
        return Err(Refusal::Thumbprints.wire());
    }
    let is_one = |text: &String| text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit());
    match all.iter().all(is_one) {
        true => Ok(()),
        false => Err(Refusal::Thumbprint.wire()),
    }
}

pub(crate) async fn get_open_id_connect_provider(
    iam: &Iam,
    caller: &Caller,
    input: api::GetOpenIDConnectProviderRequest,
) -> Result<api::GetOpenIDConnectProviderResponse, ApiError> {
    let arn = arn_of(input.open_id_connect_provider_arn)?;
    let view =
        iam.read(caller, |_| Permission::to("iam:GetOpenIDConnectProvider").on(arn.as_str()))?;
    let row = need(&view, caller.account, &arn)?;
    Ok(api::GetOpenIDConnectProviderResponse {
        url: Some(row.url.to_string()),
        tags: Some(render::tags(&row.tags)),
        create_date: render::time(row.created_at),
        client_id_list: Some(row.client_ids),
        thumbprint_list: Some(row.thumbprints),
    })
}

pub(crate) async fn list_open_id_connect_providers(
    iam: &Iam,
    caller: &Caller,
    _: api::ListOpenIDConnectProvidersRequest,
) -> Result<api::ListOpenIDConnectProvidersResponse, ApiError> {
    let view = iam.read(caller, |_| Permission::to("iam:ListOpenIDConnectProviders").on("*"))?;
    let rows = view.iam_oidc_providers.of(caller.account);
    let list = rows.map(|row| api::OpenIDConnectProviderListEntry { arn: Some(row.arn()) });
    Ok(api::ListOpenIDConnectProvidersResponse {
        open_id_connect_provider_list: Some(list.collect()),
    })
}

pub(crate) async fn delete_open_id_connect_provider(
    iam: &Iam,
    caller: &Caller,
    input: api::DeleteOpenIDConnectProviderRequest,
) -> Result<(), ApiError> {
    let account = caller.account;
    let arn = arn_of(input.open_id_connect_provider_arn)?;
    let permission = Permission::to("iam:DeleteOpenIDConnectProvider").on(arn.as_str());
    iam.change(
        caller,
        |_| permission.clone(),
        |view, _, batch| {
            // One that is not there is deleted too.
            if let Ok(row) = need(view, account, &arn) {
                batch.delete(Key::IamOidcProvider(account, row.url));
            }
            Ok(())
        },
    )
    .await
}

pub(crate) async fn update_open_id_connect_provider_thumbprint(
    iam: &Iam,
    caller: &Caller,
    input: api::UpdateOpenIDConnectProviderThumbprintRequest,
) -> Result<(), ApiError> {
    let arn = arn_of(input.open_id_connect_provider_arn)?;
    let thumbprints = input.thumbprint_list.unwrap_or_default();
    check_thumbprints(&thumbprints)?;
    let permission = Permission::to("iam:UpdateOpenIDConnectProviderThumbprint").on(arn.as_str());
    change(iam, caller, permission, &arn, |row| {
        row.thumbprints.clone_from(&thumbprints);
        Ok(())
    })
    .await
}

pub(crate) async fn add_client_id_to_open_id_connect_provider(
    iam: &Iam,
    caller: &Caller,
    input: api::AddClientIDToOpenIDConnectProviderRequest,
) -> Result<(), ApiError> {
    let arn = arn_of(input.open_id_connect_provider_arn)?;
    let id = input.client_id.unwrap_or_default();
    let permission = Permission::to("iam:AddClientIDToOpenIDConnectProvider").on(arn.as_str());
    change(iam, caller, permission, &arn, |row| {
        if !row.client_ids.contains(&id) {
            row.client_ids.push(id.clone());
        }
        check_client_ids(&row.client_ids)
    })
    .await
}

pub(crate) async fn remove_client_id_from_open_id_connect_provider(
    iam: &Iam,
    caller: &Caller,
    input: api::RemoveClientIDFromOpenIDConnectProviderRequest,
) -> Result<(), ApiError> {
    let arn = arn_of(input.open_id_connect_provider_arn)?;
    let id = input.client_id.unwrap_or_default();
    let permission = Permission::to("iam:RemoveClientIDFromOpenIDConnectProvider").on(arn.as_str());
    change(iam, caller, permission, &arn, |row| {
        row.client_ids.retain(|known| *known != id);
        Ok(())
    })
    .await
}

pub(crate) async fn tag_open_id_connect_provider(
    iam: &Iam,
    caller: &Caller,
    input: api::TagOpenIDConnectProviderRequest,
) -> Result<(), ApiError> {
    let arn = arn_of(input.open_id_connect_provider_arn)?;
    let more = read::tags(input.tags)?;
    let permission = Permission::to("iam:TagOpenIDConnectProvider").on(arn.as_str()).tagging(&more);
    change(iam, caller, permission, &arn, |row| read::add_tags(&mut row.tags, &more)).await
}

pub(crate) async fn untag_open_id_connect_provider(
    iam: &Iam,
    caller: &Caller,
    input: api::UntagOpenIDConnectProviderRequest,
) -> Result<(), ApiError> {
    let arn = arn_of(input.open_id_connect_provider_arn)?;
    let keys = input.tag_keys.unwrap_or_default();
    let permission =
        Permission::to("iam:UntagOpenIDConnectProvider").on(arn.as_str()).about_tags(&keys);
    change(iam, caller, permission, &arn, |row| {
        row.tags.retain(|key, _| !keys.contains(key));
        Ok(())
    })
    .await
}

pub(crate) async fn list_open_id_connect_provider_tags(
    iam: &Iam,
    caller: &Caller,
    input: api::ListOpenIDConnectProviderTagsRequest,
) -> Result<api::ListOpenIDConnectProviderTagsResponse, ApiError> {
    let arn = arn_of(input.open_id_connect_provider_arn)?;
    let permission = Permission::to("iam:ListOpenIDConnectProviderTags").on(arn.as_str());
    let view = iam.read(caller, |_| permission)?;
    let row = need(&view, caller.account, &arn)?;
    let tags = render::tags(&row.tags).into_iter();
    let tags = tags.map(|tag| (tag.key.clone().unwrap_or_default(), tag));
    Ok(paged!(
        ListOpenIDConnectProviderTagsResponse,
        tags,
        page(input.marker, input.max_items, tags)?
    ))
}
