//! CreateKey, DescribeKey, ListKeys and UpdateKeyDescription.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::kms::{MANAGED_PREFIX, current_version, material_id};
use control::{Permission, parameters, secrets};
use kms_api as api;
use longshore_types::Uuid;
use model::KmsKey;
use model::kms::{KeyManager, KeyState, MaterialCause};
use store::Batch;

use crate::errors::{limit, unsupported};
use crate::grants::check_tokens;
use crate::limits::KEYS_MAX;
use crate::pages::page;
use crate::policies::{check_lockout, default_policy, read};
use crate::{EncryptionContext, Kms, tags};

/// The services for which an account has keys of Amazon's.
const MANAGED: &[&str] = &[secrets::SERVICE, parameters::SERVICE];

pub(crate) async fn create_key(
    it: &Kms,
    caller: &Caller,
    input: api::CreateKeyRequest,
) -> Result<api::CreateKeyResponse, ApiError> {
    let tags = tags::read(input.tags.clone())?;
    let create = Permission::to("kms:CreateKey").on("*").tagging(&tags);
    let permission = match tags.is_empty() {
        true => create,
        false => create.and(Permission::to("kms:TagResource").on("*").tagging(&tags)),
    };
    it.control.read(caller, &permission)?;
    check_kind(&input)?;
    let account = caller.account;
    let id = Uuid::mint(it.control.ids.as_ref());
    // The policy that a key has by itself lets the account say who may change it.
    let bypasses =
        input.bypass_policy_lockout_safety_check.unwrap_or(false) || input.policy.is_none();
    let text = input.policy.unwrap_or_else(|| default_policy(account));
    let description = input.description.unwrap_or_default();
    let decided = it.control.change(caller, &permission, |view, now| {
        if KEYS_MAX <= view.kms_keys.of(account).count() {
            return Err(limit(format!("An account can have up to {KEYS_MAX} keys.")));
        }
        let material = it.control.mint_material(account, id, 0, MaterialCause::Creation, now);
        let row = Arc::new(KmsKey {
            account,
            id,
            manager: KeyManager::Customer,
            description: description.clone(),
            state: KeyState::Enabled,
            created_at: now,
            policy: read(view, &text)?,
            tags: tags.clone(),
            materials: vec![material],
            rotation: None,
            grants: BTreeMap::new(),
        });
        if !bypasses {
            check_lockout(it, view, caller, &row)?;
        }
        let mut batch = Batch::on(view);
        batch.put(Arc::clone(&row));
        Ok((batch, row))
    });
    let row = decided.await?;
    Ok(api::CreateKeyResponse { key_metadata: Some(metadata(it, &row)) })
}

/// What is here: symmetric keys, made here, to encrypt with.
fn check_kind(input: &api::CreateKeyRequest) -> Result<(), ApiError> {
    let is_symmetric = |spec: &api::KeySpec| *spec == api::KeySpec::SymmetricDefault;
    let is_old_symmetric =
        |spec: &api::CustomerMasterKeySpec| *spec == api::CustomerMasterKeySpec::SymmetricDefault;
    let is_usual = input.key_spec.as_ref().is_none_or(is_symmetric)
        && input.customer_master_key_spec.as_ref().is_none_or(is_old_symmetric)
        && input.key_usage.as_ref().is_none_or(|it| *it == api::KeyUsageType::EncryptDecrypt);
    if !is_usual {
        return Err(unsupported(
            "Only symmetric keys that encrypt and decrypt are available in this region: KeySpec SYMMETRIC_DEFAULT \
             with KeyUsage ENCRYPT_DECRYPT.",
        ));
    }
    let is_made_here = input.origin.as_ref().is_none_or(|it| *it == api::OriginType::AwsKms)
        && input.custom_key_store_id.is_none()
        && input.xks_key_id.is_none();
    if !is_made_here {
        return Err(unsupported("Only keys with Origin AWS_KMS are available in this region."));
    }
    match input.multi_region {
        Some(true) => Err(unsupported("Multi-Region keys are not available in this region.")),
        Some(false) | None => Ok(()),
    }
}

pub(crate) fn metadata(it: &Kms, row: &KmsKey) -> api::KeyMetadata {
    let (state, deletion) = match row.state {
        KeyState::Enabled => (api::KeyState::Enabled, None),
        KeyState::Disabled => (api::KeyState::Disabled, None),
        KeyState::PendingDeletion(at) => (api::KeyState::PendingDeletion, Some(at)),
    };
    let manager = match row.manager {
        KeyManager::Customer => api::KeyManagerType::Customer,
        KeyManager::Aws(_) => api::KeyManagerType::Aws,
    };
    api::KeyMetadata {
        aws_account_id: Some(row.account.to_string()),
        key_id: Some(row.id.to_string()),
        arn: Some(it.control.key_arn(row)),
        creation_date: Some(row.created_at),
        enabled: Some(row.state == KeyState::Enabled),
        description: Some(row.description.clone()),
        key_usage: Some(api::KeyUsageType::EncryptDecrypt),
        key_state: Some(state),
        deletion_date: deletion,
        origin: Some(api::OriginType::AwsKms),
        key_manager: Some(manager),
        customer_master_key_spec: Some(api::CustomerMasterKeySpec::SymmetricDefault),
        key_spec: Some(api::KeySpec::SymmetricDefault),
        encryption_algorithms: Some(vec![api::EncryptionAlgorithmSpec::SymmetricDefault]),
        multi_region: Some(false),
        current_key_material_id: Some(material_id(row, current_version(row))),
        ..api::KeyMetadata::default()
    }
}

pub(crate) async fn describe_key(
    it: &Kms,
    caller: &Caller,
    input: api::DescribeKeyRequest,
) -> Result<api::DescribeKeyResponse, ApiError> {
    let given = input.key_id.unwrap_or_default();
    let name = given.rsplit_once(':').map_or(given.as_str(), |(_, name)| name);
    let managed = name.strip_prefix(MANAGED_PREFIX);
    let managed = managed.and_then(|name| MANAGED.iter().find(|service| **service == name));
    let action = "kms:DescribeKey";
    let decided = it.control.decide(|view, now| {
        let mut batch = Batch::on(view);
        let found = it.control.find_key(view, caller.account, &given).is_ok();
        let key = match managed.filter(|_| !found) {
            // Amazon's own key of a service is made when somebody first asks for it.
            Some(service) => {
                let permission = it.permission_on_nothing(caller, action, &given);
                it.control.authorize(view, caller, &permission)?;
                it.control.managed_key(view, &mut batch, caller.account, service, now).key
            }
            None => it.key(view, caller, action, &given, &EncryptionContext::new(), |it| it)?.key,
        };
        check_tokens(view, input.grant_tokens.as_ref())?;
        Ok((batch, key))
    });
    let key = decided.await?;
    Ok(api::DescribeKeyResponse { key_metadata: Some(metadata(it, &key)) })
}

pub(crate) async fn list_keys(
    it: &Kms,
    caller: &Caller,
    input: api::ListKeysRequest,
) -> Result<api::ListKeysResponse, ApiError> {
    let view = it.control.read(caller, &Permission::to("kms:ListKeys").on("*"))?;
    let keys = view.kms_keys.of(caller.account).map(|row| {
        let (key_id, key_arn) = (Some(row.id.to_string()), Some(it.control.key_arn(row)));
        (row.id.to_string(), api::KeyListEntry { key_id, key_arn })
    });
    let page = page(input.marker, input.limit, keys)?;
    Ok(api::ListKeysResponse {
        keys: Some(page.items),
        truncated: Some(page.marker.is_some()),
        next_marker: page.marker,
    })
}

pub(crate) async fn update_key_description(
    it: &Kms,
    caller: &Caller,
    input: api::UpdateKeyDescriptionRequest,
) -> Result<(), ApiError> {
    let (given, text) = (input.key_id.unwrap_or_default(), input.description.unwrap_or_default());
    it.change(
        caller,
        "kms:UpdateKeyDescription",
        &given,
        |it| it,
        |_, _, row| {
            it.check_lasting(row)?;
            row.description.clone_from(&text);
            Ok(())
        },
    )
    .await
}
