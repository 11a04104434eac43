//! DeleteSecret and RestoreSecret.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use longshore_types::Timestamp;
use model::secret::PlannedDeletion;
use model::{Key, Secret, View};
use secretsmanager_api as api;
use store::Batch;

use crate::errors::{deleted, invalid, not_found};
use crate::limits::{DAY_MS, RECOVERY_DAYS, RECOVERY_DAYS_DEFAULT};
use crate::{SecretsManager, render};

/// What was deleted, and when it is gone.
struct Deleted {
    arn: String,
    name: String,
    at: Timestamp,
}

pub(crate) async fn delete_secret(
    it: &SecretsManager,
    caller: &Caller,
    input: api::DeleteSecretRequest,
) -> Result<api::DeleteSecretResponse, ApiError> {
    let given = input.secret_id.unwrap_or_default();
    let days = input.recovery_window_in_days;
    let is_forced = input.force_delete_without_recovery.unwrap_or(false);
    if is_forced && days.is_some() {
        return Err(invalid(
            "You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.",
        ));
    }
    if days.is_some_and(|days| !RECOVERY_DAYS.contains(&days)) {
        return Err(invalid(
            "The RecoveryWindowInDays value must be between 7 and 30 days (inclusive).",
        ));
    }
    let days = days.unwrap_or(RECOVERY_DAYS_DEFAULT);
    let decided = it.control.decide(|view, now| {
        let action = "secretsmanager:DeleteSecret";
        let permission = it
            .control
            .secret_permission(view, caller, action, &given)
            .with("secretsmanager:ForceDeleteWithoutRecovery", is_forced)
            .with("secretsmanager:RecoveryWindowInDays", days);
        it.control.authorize(view, caller, &permission)?;
        let mut batch = Batch::on(view);
        let days = (!is_forced).then_some(days);
        let deleted = delete(it, caller, view, now, &mut batch, &given, days)?;
        Ok((batch, deleted))
    });
    let Deleted { arn, name, at } = decided.await?;
    Ok(api::DeleteSecretResponse {
        arn: Some(arn),
        name: Some(name),
        deletion_date: render::time(at),
    })
}

/// `days`: how long it can be restored; none: it goes at once.
fn delete(
    it: &SecretsManager,
    caller: &Caller,
    view: &View,
    now: Timestamp,
    batch: &mut Batch,
    given: &str,
    days: Option<i64>,
) -> Result<Deleted, ApiError> {
    let found = it.control.secret(view, caller.account, given);
    match (found, days) {
        (None, Some(_)) => Err(not_found()),
        // What is to be gone is gone.
        (None, None) => {
            let is_arn = given.starts_with("arn:");
            let arn = if is_arn {
                given.to_owned()
            } else {
                it.control.secret_arn_of(caller.account, given)
            };
            Ok(Deleted { arn, name: given.to_owned(), at: now })
        }
        (Some(row), None) => {
            remove(batch, row);
            Ok(Deleted { arn: it.control.secret_arn(row), name: row.name.to_string(), at: now })
        }
        (Some(row), Some(_)) if row.deletion.is_some() => Err(deleted()),
        (Some(row), Some(days)) => {
            let at = now.plus_ms(u64::try_from(days).unwrap_or_default() * DAY_MS);
            let mut next = Secret::clone(row);
            next.deletion = Some(PlannedDeletion { asked_at: now, due_at: at });
            batch.put(next);
            Ok(Deleted { arn: it.control.secret_arn(row), name: row.name.to_string(), at })
        }
    }
}

/// Removes a secret with all that it held.
pub(crate) fn remove(batch: &mut Batch, row: &Secret) {
    batch.delete(Key::Secret(row.account, Arc::clone(&row.name)));
    for version in row.versions.keys() {
        batch.delete(Key::SecretVersion(row.account, row.version_id(version)));
    }
}

pub(crate) async fn restore_secret(
    it: &SecretsManager,
    caller: &Caller,
    input: api::RestoreSecretRequest,
) -> Result<api::RestoreSecretResponse, ApiError> {
    let given = input.secret_id.unwrap_or_default();
    let action = "secretsmanager:RestoreSecret";
    let done = it.change(
        caller,
        &given,
        action,
        |it| it,
        |_, _, _, secret| {
            secret.deletion = None;
            Ok((it.control.secret_arn(secret), secret.name.to_string()))
        },
    );
    let (arn, name) = done.await?;
    Ok(api::RestoreSecretResponse { arn: Some(arn), name: Some(name) })
}
