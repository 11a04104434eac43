//! DeleteLogGroup.

use ::logs::Logs;
use aws_wire::{ApiError, Caller};
use logs_api::DeleteLogGroupRequest;

use super::common::{required, to_api};

pub(super) async fn delete_log_group(
    logs: &Logs,
    caller: &Caller,
    input: DeleteLogGroupRequest,
) -> Result<(), ApiError> {
    let name = required("logGroupName", input.log_group_name)?;
    logs.delete_group(caller.account, name).await.map_err(to_api)
}
