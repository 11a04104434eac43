//! GetSecretValue and BatchGetSecretValue, and how a value comes into a version.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use control::Permission;
use control::kms::{KeyUse, NamedKey};
use control::secrets::{
    SERVICE, SecretAsk, SecretContent, SecretRefusal, SecretValue, encryption_context,
    no_access_to_key, version_bound_to,
};
use longshore_types::Timestamp;
use model::secret::VersionInfo;
use model::{Key, KmsKey, Secret, SecretVersion, View};
use secretsmanager_api as api;
use store::Batch;

use crate::errors::{encryption, exists, invalid, limit};
use crate::limits::{BATCH_DEFAULT, DAY_MS, STAGES_OF_VERSION_MAX, VERSIONS_MAX};
use crate::list::{filtered, filters};
use crate::pages::{Place, page};
use crate::read::bytes_of;
use crate::versions::{move_stage, superfluous};
use crate::{SecretsManager, render};

/// The name of Amazon's own key, as requests may write it.
pub(crate) const MANAGED_KEY: &str = "alias/aws/secretsmanager";

pub(crate) async fn get_secret_value(
    it: &SecretsManager,
    caller: &Caller,
    input: api::GetSecretValueRequest,
) -> Result<api::GetSecretValueResponse, ApiError> {
    let id = input.secret_id.unwrap_or_default();
    let ask = SecretAsk {
        secret: &id,
        version: input.version_id.as_deref(),
        stage: input.version_stage.as_deref(),
    };
    let view = it.control.view();
    let value = it.control.secret_value(&view, caller, &ask).map_err(SecretRefusal::into_api)?;
    note_access(it, &value, caller.now).await;
    let (secret_string, secret_binary) = shown(&value.content);
    Ok(api::GetSecretValueResponse {
        arn: Some(value.arn),
        name: Some(value.secret.name.to_string()),
        version_id: Some(value.version),
        secret_binary,
        secret_string,
        version_stages: Some(value.stages),
        created_date: render::time(value.created_at),
    })
}

fn shown(content: &SecretContent) -> (Option<String>, Option<Bytes>) {
    match content {
        SecretContent::Text(text) => (Some(text.to_string()), None),
        SecretContent::Binary(bytes) => (None, Some(Bytes::copy_from_slice(bytes))),
    }
}

/// Writes down the day on which a version's value was last asked for: once a day, so that reading stays reading. It
/// is shown and nothing depends on it; whoever asks is answered without it too.
async fn note_access(it: &SecretsManager, value: &SecretValue, now: Timestamp) {
    let today = Timestamp(now.0 / DAY_MS * DAY_MS);
    let is_noted = |row: &Secret| {
        row.versions.get(&value.version).is_none_or(|info| Some(today) <= info.accessed_on)
    };
    if is_noted(&value.secret) {
        return;
    }
    let noted = it.control.decide(|view, _| {
        let mut batch = Batch::on(view);
        let row = view.secrets.get(value.secret.account, &value.secret.name);
        if let Some(row) = row.filter(|row| row.uid == value.secret.uid && !is_noted(row)) {
            let mut next = Secret::clone(row);
            next.accessed_on = Some(today);
            if let Some(info) = next.versions.get_mut(&value.version) {
                info.accessed_on = Some(today);
            }
            batch.put(next);
        }
        Ok((batch, ()))
    });
    let _ = noted.await;
}

pub(crate) async fn batch_get_secret_value(
    it: &SecretsManager,
    caller: &Caller,
    input: api::BatchGetSecretValueRequest,
) -> Result<api::BatchGetSecretValueResponse, ApiError> {
    let permission = Permission::to("secretsmanager:BatchGetSecretValue").on("*");
    let view = it.control.read(caller, &permission)?;
    let (ids, next_token) = match (input.secret_id_list, input.filters) {
        (Some(ids), None) if !ids.is_empty() => (ids, None),
        (None, Some(given)) if !given.is_empty() => {
            let listing = Permission::to("secretsmanager:ListSecrets").on("*");
            it.control.authorize(&view, caller, &listing)?;
            let filters = filters(Some(given))?;
            let found = filtered(&view, caller.account, &filters, false);
            let found = found.map(|row| (Place::of(0, &row.name), it.control.secret_arn(row)));
            let size = input.max_results.unwrap_or(i32::try_from(BATCH_DEFAULT).unwrap_or(20));
            let page = page(input.next_token, Some(size), found.collect(), false)?;
            (page.items, page.next_token)
        }
        _ => return Err(invalid("Either SecretIdList or Filters must be given, and not both.")),
    };
    let (mut values, mut errors) = (Vec::new(), Vec::new());
    for id in ids {
        let ask = SecretAsk { secret: &id, version: None, stage: None };
        match it.control.secret_value(&view, caller, &ask) {
            Ok(value) => {
                note_access(it, &value, caller.now).await;
                values.push(entry(&value));
            }
            Err(refusal) => {
                let error = refusal.into_api();
                if error.is_fault() {
                    return Err(error);
                }
                errors.push(api::APIErrorType {
                    secret_id: Some(id),
                    error_code: Some(error.code.to_string()),
                    message: Some(error.message),
                });
            }
        }
    }
    Ok(api::BatchGetSecretValueResponse {
        secret_values: Some(values),
        next_token,
        errors: Some(errors),
    })
}

fn entry(value: &SecretValue) -> api::SecretValueEntry {
    let (secret_string, secret_binary) = shown(&value.content);
    api::SecretValueEntry {
        arn: Some(value.arn.clone()),
        name: Some(value.secret.name.to_string()),
        version_id: Some(value.version.clone()),
        secret_binary,
        secret_string,
        version_stages: Some(value.stages.clone()),
        created_date: render::time(value.created_at),
    }
}

/// Takes versions away that are too many.
pub(crate) fn make_room(
    secret: &mut Secret,
    now: Timestamp,
    batch: &mut Batch,
) -> Result<(), ApiError> {
    let gone = superfluous(secret, now).ok_or_else(|| {
        limit(format!("A secret can have up to {VERSIONS_MAX} versions that are of today."))
    })?;
    for version in gone {
        batch.delete(Key::SecretVersion(secret.account, secret.version_id(&version)));
        secret.versions.remove(&version);
    }
    Ok(())
}

/// A version that is to be.
#[derive(Clone, Copy)]
pub(crate) struct NewVersion<'a> {
    pub(crate) id: &'a str,
    pub(crate) content: &'a SecretContent,
    pub(crate) stages: &'a [String],
}

impl SecretsManager {
    /// Adds a version, unless it is there with the same value: then nothing changes and the answer is `false`.
    pub(crate) fn add_version(
        &self,
        view: &View,
        now: Timestamp,
        batch: &mut Batch,
        caller: &Caller,
        secret: &mut Secret,
        new: &NewVersion<'_>,
    ) -> Result<bool, ApiError> {
        // A version that a rotation has named is there without a value.
        let is_named = secret.versions.get(new.id).is_some_and(|info| info.key.is_none());
        if secret.versions.contains_key(new.id) && !is_named {
            if self.holds(view, secret, new)? {
                return Ok(false);
            }
            return Err(exists(format!(
                "You can't use ClientRequestToken {} because that value is already in use for a version of secret {}.",
                new.id,
                self.control.secret_arn(secret)
            )));
        }
        if STAGES_OF_VERSION_MAX < new.stages.len() {
            return Err(limit(format!(
                "A version can have up to {STAGES_OF_VERSION_MAX} staging labels."
            )));
        }
        let key = self.sealing_key(view, now, batch, caller, secret, new.id)?.key;
        self.seal(batch, secret, new.id, new.content, &key)?;
        let before = secret.versions.get(new.id).map(|info| info.stages.clone());
        let (created_at, key) = (now, Some(key.id));
        let stages = before.unwrap_or_default();
        let info = VersionInfo { created_at, stages, accessed_on: None, key };
        secret.versions.insert(new.id.to_owned(), info);
        for stage in new.stages {
            move_stage(secret, stage, new.id, now);
        }
        make_room(secret, now, batch)?;
        secret.changed_at = now;
        Ok(true)
    }

    /// Whether a version that is there has just this value.
    fn holds(&self, view: &View, secret: &Secret, new: &NewVersion<'_>) -> Result<bool, ApiError> {
        let id = secret.version_id(new.id);
        let Some(row) = view.secret_versions.get(secret.account, &id) else { return Ok(false) };
        let sealed = STANDARD.decode(&row.sealed).unwrap_or_default();
        let bound_to = version_bound_to(secret.account, &id);
        let opened = self.control.open_sealed(view, &bound_to, &sealed);
        let opened = opened.map_err(|why| why.fault("failed to open a version to compare it"))?;
        let is_binary = matches!(new.content, SecretContent::Binary(_));
        Ok(row.is_binary == is_binary && opened.as_slice() == bytes_of(new.content))
    }

    /// The key that seals a secret's versions, which the caller may use.
    pub(crate) fn sealing_key(
        &self,
        view: &View,
        now: Timestamp,
        batch: &mut Batch,
        caller: &Caller,
        secret: &Secret,
        version: &str,
    ) -> Result<NamedKey, ApiError> {
        let account = secret.account;
        let named = match secret.kms_key.as_deref() {
            None => self.control.managed_key(view, batch, account, SERVICE, now),
            Some(given) => self.control.find_key(view, account, given).map_err(encryption)?,
        };
        let context = encryption_context(&self.control.secret_arn(secret), version);
        let asked = KeyUse { action: "kms:GenerateDataKey", via: Some(SERVICE), context: &context };
        let permission = self.control.key_permission(caller, view, &named, &asked);
        let asked = self.control.authorize(view, caller, &permission);
        asked.map_err(|error| no_access_to_key(error, SERVICE))?;
        self.control.check_key(&named.key).map_err(encryption)?;
        Ok(named)
    }

    /// Writes what a version holds.
    pub(crate) fn seal(
        &self,
        batch: &mut Batch,
        secret: &Secret,
        version: &str,
        content: &SecretContent,
        key: &Arc<KmsKey>,
    ) -> Result<(), ApiError> {
        let id = secret.version_id(version);
        let bound_to = version_bound_to(secret.account, &id);
        let sealed = self.control.seal_by(key, &bound_to, bytes_of(content))?;
        batch.put(SecretVersion {
            account: secret.account,
            id,
            sealed: STANDARD.encode(sealed),
            is_binary: matches!(content, SecretContent::Binary(_)),
        });
        Ok(())
    }
}
