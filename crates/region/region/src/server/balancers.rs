//! Calls of balancers' processes, told from others by their target header.

use aws_wire::ApiError;
use http::HeaderMap;
use routing::wire::{Answer, Call, READ_TARGET, REPORT_TARGET, is_call};

/// The call that a request makes, if it is one.
pub(super) fn call(headers: &HeaderMap, body: &[u8]) -> Result<Option<Call>, ApiError> {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    let Some(target) = target.filter(|target| is_call(target)) else { return Ok(None) };
    let call = match target {
        READ_TARGET => serde_json::from_slice(body).map(Call::Read),
        REPORT_TARGET => serde_json::from_slice(body).map(Call::Report),
        _ => return Ok(None),
    };
    call.map(Some).map_err(|error| {
        ApiError::client(
            "SerializationException",
            format!("the body is no call of a balancer: {error}"),
        )
    })
}

pub(super) fn text(answer: &Answer) -> Result<String, ApiError> {
    match answer {
        Answer::Read(update) => serde_json::to_string(update)
            .map_err(|error| ApiError::fault("failed to write the balancers' table", error)),
        Answer::Reported => Ok("{}".to_owned()),
    }
}
