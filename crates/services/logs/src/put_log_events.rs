//! PutLogEvents.

use ::logs::{Accepted, InputEvent, Logs, PutKey};
use aws_wire::{ApiError, Caller};
use logs_api::{InputLogEvent, PutLogEventsRequest, PutLogEventsResponse, RejectedLogEventsInfo};
use longshore_types::PutToken;

use super::common::{ms, required, to_api};
use super::errors::Refusal;

/// Sequence tokens are taken and given, and no longer asked for, as Amazon does since 2023. One that names
/// a put, as our agent's do, sees to it that the put is taken once.
pub(super) async fn put_log_events(
    logs: &Logs,
    caller: &Caller,
    input: PutLogEventsRequest,
) -> Result<PutLogEventsResponse, ApiError> {
    let group = required("logGroupName", input.log_group_name)?;
    let stream = required("logStreamName", input.log_stream_name)?;
    let events = input.log_events.unwrap_or_default().into_iter().map(event);
    let events = events.collect::<Result<Vec<_>, _>>()?;
    let token = input.sequence_token.and_then(|token| token.parse::<PutToken>().ok());
    let key = token.map(|PutToken { writer, put }| PutKey { writer, put });
    let accepted = logs.put(caller.account, group, stream, events, key).await.map_err(to_api)?;
    let rejected_log_events_info = rejected(&accepted);
    Ok(PutLogEventsResponse {
        next_sequence_token: Some(accepted.next_sequence_token),
        rejected_log_events_info,
        rejected_entity_info: None,
    })
}

fn event(wire: InputLogEvent) -> Result<InputEvent, ApiError> {
    let timestamp = wire.timestamp.ok_or(Refusal::Missing("timestamp"))?;
    let message = wire.message.ok_or(Refusal::Missing("message"))?;
    Ok(InputEvent { timestamp_ms: ms("timestamp", timestamp)?, message: message.into() })
}

fn rejected(accepted: &Accepted) -> Option<RejectedLogEventsInfo> {
    let index = |at: Option<usize>| at.and_then(|at| i32::try_from(at).ok());
    let info = RejectedLogEventsInfo {
        too_new_log_event_start_index: index(accepted.too_new_start),
        too_old_log_event_end_index: index(accepted.too_old_end),
        expired_log_event_end_index: index(accepted.expired_end),
    };
    (info != RejectedLogEventsInfo::default()).then_some(info)
}
