//! CreateLogStream.

use ::logs::Logs;
use aws_wire::{ApiError, Caller};
use logs_api::CreateLogStreamRequest;

use super::common::{required, to_api};

pub(super) async fn create_log_stream(
    logs: &Logs,
    caller: &Caller,
    input: CreateLogStreamRequest,
) -> Result<(), ApiError> {
    let group = required("logGroupName", input.log_group_name)?;
    let stream = required("logStreamName", input.log_stream_name)?;
    logs.create_stream(caller.account, group, stream).await.map_err(to_api)
}
