//! Aliases: names for keys, which may come to mean another.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use control::kms::{KeyRefusal, MANAGED_PREFIX};
use kms_api as api;
use model::kms::KeyManager;
use model::{Key, KmsAlias, KmsKey, View};
use store::Batch;

use crate::errors::{invalid, limit, named, unsupported};
use crate::limits::ALIASES_OF_KEY_MAX;
use crate::pages::page;
use crate::{EncryptionContext, Kms, check_not_alias};

fn check_name(name: &str) -> Result<(), ApiError> {
    if !name.starts_with("alias/") || name.len() == "alias/".len() {
        return Err(invalid(
            "Alias must start with the prefix \"alias/\". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html",
        ));
    }
    match name.starts_with(MANAGED_PREFIX) {
        true => {
            Err(named("NotAuthorizedException", format!("The name {name} is reserved for AWS.")))
        }
        false => Ok(()),
    }
}

impl Kms {
    fn permit_alias(
        &self,
        view: &View,
        caller: &Caller,
        action: &'static str,
        name: &str,
    ) -> Result<(), ApiError> {
        let arn = self.control.kms_arn(caller.account, name);
        self.control.authorize(view, caller, &Permission::to(action).on(arn))
    }

    /// The key that an alias is to mean, for a caller that may have it do so.
    fn target(
        &self,
        view: &View,
        caller: &Caller,
        action: &'static str,
        given: &str,
    ) -> Result<Arc<KmsKey>, ApiError> {
        let named = self.key(view, caller, action, given, &EncryptionContext::new(), |it| it)?;
        check_not_alias(&named, given)?;
        self.check_lasting(&named.key)?;
        match named.key.manager {
            KeyManager::Customer if named.key.account == caller.account => Ok(named.key),
            KeyManager::Customer | KeyManager::Aws(_) => Err(unsupported(
                "An alias can be given to a customer managed key of the account only.",
            )),
        }
    }

    fn alias<'a>(
        &self,
        view: &'a View,
        caller: &Caller,
        name: &str,
    ) -> Result<&'a Arc<KmsAlias>, ApiError> {
        let missing = || KeyRefusal::NoAlias(self.control.kms_arn(caller.account, name)).to_api();
        view.kms_aliases.get(caller.account, &name.into()).ok_or_else(missing)
    }
}

fn check_count(view: &View, key: &KmsKey) -> Result<(), ApiError> {
    let count = view.kms_aliases.of(key.account).filter(|alias| alias.key == key.id).count();
    match count < ALIASES_OF_KEY_MAX {
        true => Ok(()),
        false => Err(limit(format!("A key can have up to {ALIASES_OF_KEY_MAX} aliases."))),
    }
}

pub(crate) async fn create_alias(
    it: &Kms,
    caller: &Caller,
    input: api::CreateAliasRequest,
) -> Result<(), ApiError> {
    let (name, given) =
        (input.alias_name.unwrap_or_default(), input.target_key_id.unwrap_or_default());
    let action = "kms:CreateAlias";
    it.control
        .decide(|view, now| {
            it.permit_alias(view, caller, action, &name)?;
            let target = it.target(view, caller, action, &given)?;
            check_name(&name)?;
            let id: Arc<str> = name.as_str().into();
            if view.kms_aliases.get(caller.account, &id).is_some() {
                let arn = it.control.kms_arn(caller.account, &name);
                let message = format!("An alias with the name {arn} already exists");
                return Err(named("AlreadyExistsException", message));
            }
            check_count(view, &target)?;
            let mut batch = Batch::on(view);
            batch.rely(Key::KmsAlias(caller.account, Arc::clone(&id)));
            batch.rely(Key::KmsKey(caller.account, target.id)).put(KmsAlias {
                account: caller.account,
                name: id,
                key: target.id,
                created_at: now,
                updated_at: now,
            });
            Ok((batch, ()))
        })
        .await
}

pub(crate) async fn update_alias(
    it: &Kms,
    caller: &Caller,
    input: api::UpdateAliasRequest,
) -> Result<(), ApiError> {
    let (name, given) =
        (input.alias_name.unwrap_or_default(), input.target_key_id.unwrap_or_default());
    let action = "kms:UpdateAlias";
    it.control
        .decide(|view, now| {
            it.permit_alias(view, caller, action, &name)?;
            let target = it.target(view, caller, action, &given)?;
            check_name(&name)?;
            let alias = it.alias(view, caller, &name)?;
            it.target(view, caller, action, &alias.key.to_string())?;
            if alias.key != target.id {
                check_count(view, &target)?;
            }
            let mut batch = Batch::on(view);
            batch.rely(Key::KmsKey(caller.account, target.id));
            batch.put(KmsAlias { key: target.id, updated_at: now, ..KmsAlias::clone(alias) });
            Ok((batch, ()))
        })
        .await
}

pub(crate) async fn delete_alias(
    it: &Kms,
    caller: &Caller,
    input: api::DeleteAliasRequest,
) -> Result<(), ApiError> {
    let name = input.alias_name.unwrap_or_default();
    let action = "kms:DeleteAlias";
    it.control
        .decide(|view, _| {
            it.permit_alias(view, caller, action, &name)?;
            check_name(&name)?;
            let alias = it.alias(view, caller, &name)?;
            let key = alias.key.to_string();
            it.key(view, caller, action, &key, &EncryptionContext::new(), |it| it)?;
            let mut batch = Batch::on(view);
            batch.delete(Key::KmsAlias(caller.account, Arc::clone(&alias.name)));
            Ok((batch, ()))
        })
        .await
}

pub(crate) async fn list_aliases(
    it: &Kms,
    caller: &Caller,
    input: api::ListAliasesRequest,
) -> Result<api::ListAliasesResponse, ApiError> {
    let view = it.control.read(caller, &Permission::to("kms:ListAliases").on("*"))?;
    let key = match &input.key_id {
        Some(given) => {
            let found = it.control.find_key(&view, caller.account, given);
            Some(found.map_err(|refusal| refusal.to_api())?.key.id)
        }
        None => None,
    };
    let rows = view.kms_aliases.of(caller.account);
    let rows = rows.filter(|row| key.is_none_or(|key| key == row.key)).map(|row| {
        let shown = api::AliasListEntry {
            alias_name: Some(row.name.to_string()),
            alias_arn: Some(it.control.kms_arn(row.account, &row.name)),
            target_key_id: Some(row.key.to_string()),
            creation_date: Some(row.created_at),
            last_updated_date: Some(row.updated_at),
        };
        (row.name.to_string(), shown)
    });
    let page = page(input.marker, input.limit, rows)?;
    Ok(api::ListAliasesResponse {
        aliases: Some(page.items),
        truncated: Some(page.marker.is_some()),
        next_marker: page.marker,
    })
}
