//! GetLogEvents.

use ::logs::{Event, GetQuery, Logs, PAGE_EVENTS_MAX};
use aws_wire::{ApiError, Caller};
use logs_api::{GetLogEventsRequest, GetLogEventsResponse, OutputLogEvent};

use super::common::{group_of, limit, long, optional_ms, required, to_api};

pub(super) async fn get_log_events(
    logs: &Logs,
    caller: &Caller,
    input: GetLogEventsRequest,
) -> Result<GetLogEventsResponse, ApiError> {
    let group = group_of(caller, input.log_group_name, input.log_group_identifier)?;
    let stream = required("logStreamName", input.log_stream_name)?;
    let query = GetQuery {
        start_ms: optional_ms("startTime", input.start_time)?,
        end_ms: optional_ms("endTime", input.end_time)?,
        limit: Some(limit(input.limit, PAGE_EVENTS_MAX, PAGE_EVENTS_MAX)),
        from_head: input.start_from_head.unwrap_or(false),
        token: input.next_token,
    };
    let page = logs.get(caller.account, &group, &stream, query).await.map_err(to_api)?;
    Ok(GetLogEventsResponse {
        events: Some(page.events.iter().map(to_wire).collect()),
        next_forward_token: Some(page.forward_token),
        next_backward_token: Some(page.backward_token),
    })
}

fn to_wire(event: &Event) -> OutputLogEvent {
    OutputLogEvent {
        timestamp: Some(long(event.timestamp_ms)),
        message: Some(event.text()),
        ingestion_time: Some(long(event.ingestion_ms)),
    }
}
