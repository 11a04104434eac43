//! CreateSecret.

use std::collections::BTreeMap;

use aws_wire::{ApiError, Caller};
use control::Permission;
use control::secrets::{SUFFIX_LEN, SecretContent};
use longshore_types::{AccountId, Timestamp, Token, Uuid};
use model::secret::CURRENT;
use model::{Key, Secret, Tags, View};
use secretsmanager_api as api;
use store::Batch;

use crate::errors::{exists, limit, request, unsupported};
use crate::limits::SECRETS_MAX;
use crate::values::{MANAGED_KEY, NewVersion};
use crate::{SecretsManager, read};

/// What is to be made.
struct Asked {
    account: AccountId,
    name: String,
    uid: Uuid,
    suffix: String,
    version: String,
    content: Option<SecretContent>,
    description: Option<String>,
    kms_key: Option<String>,
    tags: Tags,
}

/// What was made, or was there already.
struct Made {
    arn: String,
    version: Option<String>,
}

pub(crate) async fn create_secret(
    it: &SecretsManager,
    caller: &Caller,
    input: api::CreateSecretRequest,
) -> Result<api::CreateSecretResponse, ApiError> {
    if input.add_replica_regions.is_some_and(|regions| !regions.is_empty()) {
        return Err(unsupported("Replication to other regions"));
    }
    if input.r#type.is_some() || input.cross_account_primary_arn.is_some() {
        return Err(unsupported("A secret that is kept elsewhere"));
    }
    let ids = it.control.ids.as_ref();
    let asked = Asked {
        account: caller.account,
        name: read::name(input.name)?,
        uid: Uuid::mint(ids),
        suffix: Token::mint(ids, SUFFIX_LEN).reveal().to_owned(),
        version: read::version_id(input.client_request_token, ids),
        content: read::content(input.secret_string, input.secret_binary)?,
        description: input.description,
        kms_key: input.kms_key_id.filter(|key| !key.is_empty() && key != MANAGED_KEY),
        tags: read::tags(input.tags)?,
    };
    let permission = permission(it, &asked);
    let made = it
        .control
        .change(caller, &permission, |view, now| {
            let mut batch = Batch::on(view);
            let made = make(it, caller, view, now, &mut batch, &asked)?;
            Ok((batch, made))
        })
        .await?;
    Ok(api::CreateSecretResponse {
        arn: Some(made.arn),
        name: Some(asked.name),
        version_id: made.version,
        ..api::CreateSecretResponse::default()
    })
}

fn permission(it: &SecretsManager, asked: &Asked) -> Permission {
    let arn = it.control.secret_arn_of(asked.account, &format!("{}-{}", asked.name, asked.suffix));
    let to = |action| Permission::to(action).on(arn.clone()).shown_as(asked.name.clone());
    let mut create = to("secretsmanager:CreateSecret")
        .with("secretsmanager:Name", asked.name.clone())
        .tagging(&asked.tags);
    if let Some(key) = &asked.kms_key {
        create = create.with("secretsmanager:KmsKeyId", key.clone());
    }
    match asked.tags.is_empty() {
        true => create,
        false => create.and(to("secretsmanager:TagResource").tagging(&asked.tags)),
    }
}

fn make(
    it: &SecretsManager,
    caller: &Caller,
    view: &View,
    now: Timestamp,
    batch: &mut Batch,
    asked: &Asked,
) -> Result<Made, ApiError> {
    let name = asked.name.as_str();
    if let Some(row) = view.secrets.get(asked.account, &name.into()) {
        return there_already(it, caller, view, now, row, asked);
    }
    if SECRETS_MAX <= view.secrets.of(asked.account).count() {
        return Err(limit(format!("You can have up to {SECRETS_MAX} secrets.")));
    }
    let mut secret = Secret {
        account: asked.account,
        name: name.into(),
        uid: asked.uid,
        suffix: asked.suffix.clone(),
        description: asked.description.clone(),
        kms_key: asked.kms_key.clone(),
        created_at: now,
        changed_at: now,
        accessed_on: None,
        deletion: None,
        tags: asked.tags.clone(),
        policy: None,
        rotation: None,
        current_since: None,
        versions: BTreeMap::new(),
    };
    if let Some(content) = &asked.content {
        let stages = [CURRENT.to_owned()];
        let new = NewVersion { id: &asked.version, content, stages: &stages };
        it.add_version(view, now, batch, caller, &mut secret, &new)?;
    }
    let version = asked.content.as_ref().map(|_| asked.version.clone());
    let made = Made { arn: it.control.secret_arn(&secret), version };
    batch.rely(Key::Secret(asked.account, name.into())).put(secret);
    Ok(made)
}

/// The same request again is answered as it was; any other is refused.
fn there_already(
    it: &SecretsManager,
    caller: &Caller,
    view: &View,
    now: Timestamp,
    row: &Secret,
    asked: &Asked,
) -> Result<Made, ApiError> {
    if let Some(deletion) = row.deletion {
        return Err(request(format!(
            "You can't create this secret because a secret with this name is already scheduled for deletion. It is \
             deleted at {}; RestoreSecret brings it back, and DeleteSecret with ForceDeleteWithoutRecovery frees the \
             name at once.",
            deletion.due_at.iso8601()
        )));
    }
    let there =
        || exists(format!("The operation failed because the secret {} already exists.", row.name));
    let content = asked.content.as_ref().filter(|_| row.versions.contains_key(&asked.version));
    let new = NewVersion { id: &asked.version, content: content.ok_or_else(there)?, stages: &[] };
    // It compares: the version is there, so that nothing is added.
    let mut same = row.clone();
    it.add_version(view, now, &mut Batch::on(view), caller, &mut same, &new)?;
    Ok(Made { arn: it.control.secret_arn(row), version: Some(asked.version.clone()) })
}
