//! DescribeLogStreams.

use ::logs::{GroupName, Logs, StreamInfo, StreamOrder, StreamPlace, StreamsPage};
use aws_wire::{ApiError, Caller};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use logs_api::{DescribeLogStreamsRequest, DescribeLogStreamsResponse, LogStream, OrderBy};

use super::common::{group_of, limit, long, stream_arn, to_api};
use super::errors::Refusal;

const PAGE_MAX: usize = 50;

pub(super) fn describe_log_streams(
    logs: &Logs,
    caller: &Caller,
    input: DescribeLogStreamsRequest,
) -> Result<DescribeLogStreamsResponse, ApiError> {
    let group = group_of(caller, input.log_group_name, input.log_group_identifier)?;
    let order = match input.order_by {
        None | Some(OrderBy::LogStreamName) => StreamOrder::Name,
        Some(OrderBy::LastEventTime) => StreamOrder::LastEventTime,
        Some(other) => {
            return Err(Refusal::NotAnOrder(other.to_string()).into());
        }
    };
    if order == StreamOrder::LastEventTime && input.log_stream_name_prefix.is_some() {
        return Err(Refusal::OrderedByTimeWithPrefix.into());
    }
    let page = StreamsPage {
        order,
        is_descending: input.descending.unwrap_or(false),
        prefix: input.log_stream_name_prefix,
        after: input.next_token.as_deref().map(|token| place(order, token)).transpose()?,
        limit: limit(input.limit, PAGE_MAX, PAGE_MAX),
    };
    let (streams, next) = logs.streams(caller.account, &group, &page).map_err(to_api)?;
    let log_streams = streams.iter().map(|stream| to_wire(caller, &group, stream)).collect();
    let next_token = next.map(|place| token(order, &place));
    Ok(DescribeLogStreamsResponse { log_streams: Some(log_streams), next_token })
}

/// Opaque, and good for the order only that it was made in.
fn token(order: StreamOrder, (ms, name): &StreamPlace) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}:{ms}:{name}", mark(order)))
}

fn mark(order: StreamOrder) -> &'static str {
    match order {
        StreamOrder::Name => "n",
        StreamOrder::LastEventTime => "t",
    }
}

fn place(order: StreamOrder, token: &str) -> Result<StreamPlace, ApiError> {
    let invalid = || ApiError::from(Refusal::Token);
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| invalid())?;
    let text = String::from_utf8(bytes).map_err(|_| invalid())?;
    let rest = text.strip_prefix(mark(order)).and_then(|rest| rest.strip_prefix(':'));
    let (ms, name) = rest.and_then(|rest| rest.split_once(':')).ok_or_else(invalid)?;
    Ok((ms.parse().map_err(|_| invalid())?, name.parse().map_err(|_| invalid())?))
}

fn to_wire(caller: &Caller, group: &GroupName, stream: &StreamInfo) -> LogStream {
    LogStream {
        log_stream_name: Some(stream.name.to_string()),
        creation_time: Some(long(stream.created_ms)),
        first_event_timestamp: stream.first_event_ms.map(long),
        last_event_timestamp: stream.last_event_ms.map(long),
        last_ingestion_time: stream.last_ingestion_ms.map(long),
        upload_sequence_token: Some(stream.upload_sequence_token.clone()),
        arn: Some(stream_arn(caller, group, &stream.name)),
        // Amazon stopped counting per stream in 2019 and always says zero; the group has the sum.
        stored_bytes: Some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_order_only() {
        let last: StreamPlace = (7, "web/a".parse().unwrap());
        let by_time = token(StreamOrder::LastEventTime, &last);
        assert!(!by_time.contains("web"), "{by_time}");
        assert_eq!(place(StreamOrder::LastEventTime, &by_time).unwrap(), last);
        for bad in [by_time.as_str(), "", "!", "bjo3", "0:web/a"] {
            let error = place(StreamOrder::Name, bad).unwrap_err();
            assert_eq!(error.code, "InvalidParameterException", "{bad}");
        }
    }
}
