//! PutSecretValue and UpdateSecret.

use aws_wire::{ApiError, Caller};
use control::Permission;
use control::secrets::SecretRefusal;
use longshore_types::Timestamp;
use model::secret::{CURRENT, PENDING, PREVIOUS};
use model::{Secret, View};
use secretsmanager_api as api;
use store::Batch;

use crate::errors::{deleted, invalid, unsupported};
use crate::values::{MANAGED_KEY, NewVersion};
use crate::{SecretsManager, read};

pub(crate) async fn put_secret_value(
    it: &SecretsManager,
    caller: &Caller,
    input: api::PutSecretValueRequest,
) -> Result<api::PutSecretValueResponse, ApiError> {
    let given = input.secret_id.unwrap_or_default();
    let version = read::version_id(input.client_request_token, it.control.ids.as_ref());
    let content = read::content(input.secret_string, input.secret_binary)?;
    let stages = input.version_stages.filter(|stages| !stages.is_empty());
    let stages = stages.unwrap_or_else(|| vec![CURRENT.to_owned()]);
    let action = "secretsmanager:PutSecretValue";
    let about = |it: Permission| it.with_list("secretsmanager:VersionStage", stages.clone());
    let done = it.change(caller, &given, action, about, |view, now, batch, secret| {
        if secret.deletion.is_some() {
            return Err(deleted());
        }
        let content = content
            .as_ref()
            .ok_or_else(|| invalid("You must provide either SecretString or SecretBinary."))?;
        let mut stages = stages.clone();
        // A secret's first version is the current one, whatever else it is.
        if secret.versions.is_empty() && !stages.iter().any(|stage| stage == CURRENT) {
            stages.push(CURRENT.to_owned());
        }
        let new = NewVersion { id: &version, content, stages: &stages };
        it.add_version(view, now, batch, caller, secret, &new)?;
        let stages: Vec<String> = secret.versions[&version].stages.iter().cloned().collect();
        Ok((it.control.secret_arn(secret), secret.name.to_string(), stages))
    });
    let (arn, name, stages) = done.await?;
    Ok(api::PutSecretValueResponse {
        arn: Some(arn),
        name: Some(name),
        version_id: Some(version),
        version_stages: Some(stages),
    })
}

pub(crate) async fn update_secret(
    it: &SecretsManager,
    caller: &Caller,
    input: api::UpdateSecretRequest,
) -> Result<api::UpdateSecretResponse, ApiError> {
    if input.r#type.is_some() {
        return Err(unsupported("A secret that is kept elsewhere"));
    }
    let given = input.secret_id.unwrap_or_default();
    let version = read::version_id(input.client_request_token, it.control.ids.as_ref());
    let content = read::content(input.secret_string, input.secret_binary)?;
    let (description, kms_key) = (input.description, input.kms_key_id);
    let about = |it: Permission| match &kms_key {
        Some(key) => it.with("secretsmanager:KmsKeyId", key.clone()),
        None => it,
    };
    let action = "secretsmanager:UpdateSecret";
    let done = it.change(caller, &given, action, about, |view, now, batch, secret| {
        if secret.deletion.is_some() {
            return Err(deleted());
        }
        if let Some(description) = &description {
            secret.description = Some(description.clone());
            secret.changed_at = now;
        }
        if let Some(key) = &kms_key {
            let key = Some(key.clone()).filter(|key| !key.is_empty() && key != MANAGED_KEY);
            if secret.kms_key != key {
                secret.kms_key = key;
                secret.changed_at = now;
                reseal(it, view, now, batch, caller, secret)?;
            }
        }
        if let Some(content) = &content {
            let stages = [CURRENT.to_owned()];
            let new = NewVersion { id: &version, content, stages: &stages };
            it.add_version(view, now, batch, caller, secret, &new)?;
        }
        Ok((it.control.secret_arn(secret), secret.name.to_string()))
    });
    let (arn, name) = done.await?;
    Ok(api::UpdateSecretResponse {
        arn: Some(arn),
        name: Some(name),
        version_id: content.map(|_| version),
    })
}

/// Seals the versions in use by the key that the secret has now.
fn reseal(
    it: &SecretsManager,
    view: &View,
    now: Timestamp,
    batch: &mut Batch,
    caller: &Caller,
    secret: &mut Secret,
) -> Result<(), ApiError> {
    let arn = it.control.secret_arn(secret);
    let in_use = [CURRENT, PREVIOUS, PENDING].into_iter().filter_map(|stage| secret.staged(stage));
    let has_value = |version: &&str| secret.versions[*version].key.is_some();
    let mut in_use: Vec<String> = in_use.filter(has_value).map(str::to_owned).collect();
    in_use.sort();
    in_use.dedup();
    for version in in_use {
        let opened = it.control.open_version(view, caller, secret, &arn, &version);
        let content = opened.map_err(SecretRefusal::into_api)?;
        let key = it.sealing_key(view, now, batch, caller, secret, &version)?.key;
        it.seal(batch, secret, &version, &content, &key)?;
        if let Some(info) = secret.versions.get_mut(&version) {
            info.key = Some(key.id);
        }
    }
    Ok(())
}
