//! EnableKey, DisableKey, ScheduleKeyDeletion and CancelKeyDeletion.

use aws_wire::{ApiError, Caller};
use control::Permission;
use kms_api as api;
use model::kms::KeyState;

use crate::Kms;
use crate::errors::{invalid, state};
use crate::limits::{DAY_MS, DELETION_DAYS, DELETION_DAYS_DEFAULT};

pub(crate) async fn enable_key(
    it: &Kms,
    caller: &Caller,
    input: api::EnableKeyRequest,
) -> Result<(), ApiError> {
    set(it, caller, "kms:EnableKey", input.key_id, KeyState::Enabled).await
}

pub(crate) async fn disable_key(
    it: &Kms,
    caller: &Caller,
    input: api::DisableKeyRequest,
) -> Result<(), ApiError> {
    set(it, caller, "kms:DisableKey", input.key_id, KeyState::Disabled).await
}

async fn set(
    it: &Kms,
    caller: &Caller,
    action: &'static str,
    given: Option<String>,
    state: KeyState,
) -> Result<(), ApiError> {
    it.change(
        caller,
        action,
        &given.unwrap_or_default(),
        |it| it,
        |_, _, row| {
            it.check_lasting(row)?;
            row.state = state;
            Ok(())
        },
    )
    .await
}

pub(crate) async fn schedule_key_deletion(
    it: &Kms,
    caller: &Caller,
    input: api::ScheduleKeyDeletionRequest,
) -> Result<api::ScheduleKeyDeletionResponse, ApiError> {
    let given = input.key_id.unwrap_or_default();
    let days = input.pending_window_in_days.unwrap_or(DELETION_DAYS_DEFAULT);
    let action = "kms:ScheduleKeyDeletion";
    let about =
        |it: Permission| it.with("kms:ScheduleKeyDeletionPendingWindowInDays", i64::from(days));
    let done = it.change(caller, action, &given, about, |_, now, row| {
        if !DELETION_DAYS.contains(&days) {
            return Err(invalid("PendingWindowInDays must be between 7 and 30 days."));
        }
        it.check_lasting(row)?;
        let at = now.plus_ms(u64::try_from(days).unwrap_or_default() * DAY_MS);
        row.state = KeyState::PendingDeletion(at);
        Ok((it.control.key_arn(row), at))
    });
    let (arn, at) = done.await?;
    Ok(api::ScheduleKeyDeletionResponse {
        key_id: Some(arn),
        deletion_date: Some(at),
        key_state: Some(api::KeyState::PendingDeletion),
        pending_window_in_days: Some(days),
    })
}

pub(crate) async fn cancel_key_deletion(
    it: &Kms,
    caller: &Caller,
    input: api::CancelKeyDeletionRequest,
) -> Result<api::CancelKeyDeletionResponse, ApiError> {
    let given = input.key_id.unwrap_or_default();
    let done = it.change(
        caller,
        "kms:CancelKeyDeletion",
        &given,
        |it| it,
        |_, _, row| {
            let arn = it.control.key_arn(row);
            match row.state {
                KeyState::PendingDeletion(_) => row.state = KeyState::Disabled,
                KeyState::Enabled | KeyState::Disabled => {
                    return Err(state(format!("{arn} is not pending deletion.")));
                }
            }
            Ok(arn)
        },
    );
    Ok(api::CancelKeyDeletionResponse { key_id: Some(done.await?) })
}
