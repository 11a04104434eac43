//! PutRetentionPolicy and DeleteRetentionPolicy.

use ::logs::Logs;
use aws_wire::{ApiError, Caller};
use logs_api::{DeleteRetentionPolicyRequest, PutRetentionPolicyRequest};

use super::common::{required, to_api};
use super::errors::Refusal;

pub(super) async fn put_retention_policy(
    logs: &Logs,
    caller: &Caller,
    input: PutRetentionPolicyRequest,
) -> Result<(), ApiError> {
    let name = required("logGroupName", input.log_group_name)?;
    let days = input.retention_in_days.ok_or(Refusal::Missing("retentionInDays"))?;
    // A negative number is none of the allowed ones either.
    let days = u32::try_from(days).unwrap_or(0);
    logs.set_retention(caller.account, name, Some(days)).await.map_err(to_api)
}

pub(super) async fn delete_retention_policy(
    logs: &Logs,
    caller: &Caller,
    input: DeleteRetentionPolicyRequest,
) -> Result<(), ApiError> {
    let name = required("logGroupName", input.log_group_name)?;
    logs.set_retention(caller.account, name, None).await.map_err(to_api)
}
