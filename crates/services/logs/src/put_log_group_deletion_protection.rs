//! PutLogGroupDeletionProtection.

use ::logs::Logs;
use aws_wire::{ApiError, Caller};
use logs_api::PutLogGroupDeletionProtectionRequest;

use super::common::{group_of_identifier, to_api};

pub(super) async fn put_log_group_deletion_protection(
    logs: &Logs,
    caller: &Caller,
    input: &PutLogGroupDeletionProtectionRequest,
) -> Result<(), ApiError> {
    let identifier = input.log_group_identifier.as_deref().unwrap_or("");
    let name = group_of_identifier(caller, identifier)?;
    let is_protected = input.deletion_protection_enabled.unwrap_or(false);
    logs.set_deletion_protection(caller.account, name, is_protected).await.map_err(to_api)
}
