//! FilterLogEvents.

use ::logs::pattern::Pattern;
use ::logs::{FilterQuery, FilteredEvent, Logs, PAGE_EVENTS_MAX, StreamChoice};
use aws_wire::{ApiError, Caller};
use logs_api::{FilterLogEventsRequest, FilterLogEventsResponse, FilteredLogEvent};

use super::common::{group_of, limit, long, optional_ms, required, to_api};
use super::errors::Refusal;

/// January 1, 2024: CloudWatch Logs searches backwards only from then on.
const LATEST_FIRST_FROM_MS: u64 = 1_704_067_200_000;

/// Events of several streams always come interleaved, as at Amazon since 2019.
pub(super) async fn filter_log_events(
    logs: &Logs,
    caller: &Caller,
    input: FilterLogEventsRequest,
) -> Result<FilterLogEventsResponse, ApiError> {
    let group = group_of(caller, input.log_group_name, input.log_group_identifier)?;
    let streams = match (input.log_stream_names, input.log_stream_name_prefix) {
        (Some(_), Some(_)) => {
            return Err(Refusal::StreamsAndPrefix.into());
        }
        (Some(names), None) => {
            let names = names.into_iter().map(|name| required("logStreamNames", Some(name)));
            StreamChoice::Names(names.collect::<Result<_, _>>()?)
        }
        (None, Some(prefix)) => StreamChoice::Prefix(prefix),
        (None, None) => StreamChoice::All,
    };
    let pattern = Pattern::parse(input.filter_pattern.as_deref().unwrap_or(""))
        .map_err(|why| Refusal::Pattern(why.to_string()))?;
    let start_ms = optional_ms("startTime", input.start_time)?;
    let latest_first = input.start_from_head == Some(false) && input.next_token.is_none();
    if latest_first && start_ms.is_none_or(|start| start < LATEST_FIRST_FROM_MS) {
        return Err(Refusal::LatestFirst.into());
    }
    let query = FilterQuery {
        streams,
        start_ms,
        end_ms: optional_ms("endTime", input.end_time)?,
        pattern,
        limit: Some(limit(input.limit, PAGE_EVENTS_MAX, PAGE_EVENTS_MAX)),
        latest_first,
        token: input.next_token,
    };
    let found = logs.filter(caller.account, &group, query).await.map_err(to_api)?;
    Ok(FilterLogEventsResponse {
        events: Some(found.events.into_iter().map(to_wire).collect()),
        // Not said any more since 2020: always empty.
        searched_log_streams: Some(vec![]),
        next_token: found.next_token,
    })
}

fn to_wire(found: FilteredEvent) -> FilteredLogEvent {
    FilteredLogEvent {
        log_stream_name: Some(found.stream.to_string()),
        timestamp: Some(long(found.event.timestamp_ms)),
        message: Some(found.event.text()),
        ingestion_time: Some(long(found.event.ingestion_ms)),
        event_id: Some(found.event_id),
    }
}
