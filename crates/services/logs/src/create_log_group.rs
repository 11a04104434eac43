//! CreateLogGroup.

use ::logs::{GroupSettings, Logs};
use aws_wire::{ApiError, Caller};
use logs_api::CreateLogGroupRequest;

use super::common::{class_of, required, to_api};
use super::errors::Refusal;

pub(super) async fn create_log_group(
    logs: &Logs,
    caller: &Caller,
    input: CreateLogGroupRequest,
) -> Result<(), ApiError> {
    if input.kms_key_id.is_some() {
        // Storing the wish would promise an encryption that nobody does.
        return Err(Refusal::Unavailable("Encryption with a KMS key").into());
    }
    let name = required("logGroupName", input.log_group_name)?;
    let class = class_of(input.log_group_class.as_ref())?.unwrap_or_default();
    let settings = GroupSettings {
        retention_days: None,
        tags: input.tags.unwrap_or_default(),
        deletion_protected: input.deletion_protection_enabled.unwrap_or(false),
    };
    logs.create_group(caller.account, name, class, settings).await.map_err(to_api)
}
