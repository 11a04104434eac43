//! CancelRotateSecret.

use aws_wire::{ApiError, Caller};
use secretsmanager_api as api;

use super::plan::cancel;
use crate::SecretsManager;
use crate::errors::deleted;

pub(crate) async fn cancel_rotate_secret(
    it: &SecretsManager,
    caller: &Caller,
    input: api::CancelRotateSecretRequest,
) -> Result<api::CancelRotateSecretResponse, ApiError> {
    let given = input.secret_id.unwrap_or_default();
    let action = "secretsmanager:CancelRotateSecret";
    let done = it.change(
        caller,
        &given,
        action,
        |it| it,
        |_, now, _, secret| {
            if secret.deletion.is_some() {
                return Err(deleted());
            }
            let version = cancel(secret);
            if let Some(rotation) = secret.rotation.as_deref_mut().filter(|it| it.is_enabled) {
                rotation.is_enabled = false;
                secret.changed_at = now;
            }
            Ok((it.control.secret_arn(secret), secret.name.to_string(), version))
        },
    );
    let (arn, name, version_id) = done.await?;
    Ok(api::CancelRotateSecretResponse { arn: Some(arn), name: Some(name), version_id })
}
