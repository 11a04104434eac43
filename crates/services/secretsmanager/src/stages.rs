//! UpdateSecretVersionStage.

use aws_wire::{ApiError, Caller};
use control::Permission;
use control::secrets::SecretRefusal;
use longshore_types::Timestamp;
use model::Secret;
use model::secret::CURRENT;
use secretsmanager_api as api;

use crate::SecretsManager;
use crate::errors::{deleted, invalid, limit};
use crate::limits::STAGES_OF_VERSION_MAX;
use crate::versions::{move_stage, take_stage};

pub(crate) async fn update_secret_version_stage(
    it: &SecretsManager,
    caller: &Caller,
    input: api::UpdateSecretVersionStageRequest,
) -> Result<api::UpdateSecretVersionStageResponse, ApiError> {
    let given = input.secret_id.unwrap_or_default();
    let stage = input.version_stage.unwrap_or_default();
    let (from, to) = (input.remove_from_version_id, input.move_to_version_id);
    let action = "secretsmanager:UpdateSecretVersionStage";
    let about = |it: Permission| it.with("secretsmanager:VersionStage", stage.clone());
    let done = it.change(caller, &given, action, about, |_, now, _, secret| {
        if secret.deletion.is_some() {
            return Err(deleted());
        }
        step(secret, &stage, from.as_deref(), to.as_deref(), now)?;
        secret.changed_at = now;
        Ok((it.control.secret_arn(secret), secret.name.to_string()))
    });
    let (arn, name) = done.await?;
    Ok(api::UpdateSecretVersionStageResponse { arn: Some(arn), name: Some(name) })
}

fn step(
    secret: &mut Secret,
    stage: &str,
    from: Option<&str>,
    to: Option<&str>,
    now: Timestamp,
) -> Result<(), ApiError> {
    for version in from.iter().chain(&to) {
        if !secret.versions.contains_key(*version) {
            return Err(SecretRefusal::NoVersion(format!("VersionId: {version}")).into_api());
        }
    }
    let holder = secret.staged(stage).map(str::to_owned);
    if let Some(from) = from.filter(|from| holder.as_deref() != Some(from)) {
        return Err(invalid(format!(
            "The parameter RemoveFromVersionId can't be set to {from}: staging label {stage} isn't attached to that version."
        )));
    }
    match (to, &holder) {
        (Some(to), Some(holder)) if from.is_none() && holder != to => Err(invalid(format!(
            "The parameter RemoveFromVersionId can't be empty. Staging label {stage} is currently attached to version \
             {holder}, so you must explicitly reference that version in RemoveFromVersionId."
        ))),
        (Some(to), _) => {
            let stages = &secret.versions[to].stages;
            if STAGES_OF_VERSION_MAX <= stages.len() && !stages.contains(stage) {
                return Err(limit(format!(
                    "A version can have up to {STAGES_OF_VERSION_MAX} staging labels."
                )));
            }
            move_stage(secret, stage, to, now);
            Ok(())
        }
        (None, _) if stage == CURRENT => Err(invalid(
            "You can only move staging label AWSCURRENT to a different secret version. It can\u{2019}t be completely \
             removed.",
        )),
        (None, _) if from.is_none() => {
            Err(invalid("You must provide MoveToVersionId, RemoveFromVersionId, or both."))
        }
        (None, _) => {
            take_stage(secret, stage);
            Ok(())
        }
    }
}
