//! DescribeLogStreams.

use ::logs::{GroupName, Logs, StreamInfo, StreamOrder, StreamPlace, StreamsPage};
use aws_api::logs::{DescribeLogStreamsRequest, DescribeLogStreamsResponse, LogStream, OrderBy};
use aws_wire::{ApiError, Caller};

use super::common::{group_of, invalid, limit, long, stream_arn, to_api};

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
            return Err(invalid(format!("'{}' is not a value of orderBy.", other.as_str())));
        }
    };
    if order == StreamOrder::LastEventTime && input.log_stream_name_prefix.is_some() {
        return Err(invalid("Cannot order by LastEventTime with a logStreamNamePrefix."));
    }
    let page = StreamsPage {
        order,
        is_descending: input.descending.unwrap_or(false),
        prefix: input.log_stream_name_prefix,
        after: input.next_token.as_deref().map(place).transpose()?,
        limit: limit(input.limit, PAGE_MAX, PAGE_MAX),
    };
    let (streams, next) = logs.streams(caller.account, &group, &page).map_err(to_api)?;
    let log_streams = streams.iter().map(|stream| to_wire(caller, &group, stream)).collect();
    let next_token = next.map(|(ms, name)| format!("{ms}:{name}"));
    Ok(DescribeLogStreamsResponse { log_streams: Some(log_streams), next_token })
}

fn place(token: &str) -> Result<StreamPlace, ApiError> {
    let invalid = || invalid("The specified nextToken is invalid.");
    let (ms, name) = token.split_once(':').ok_or_else(invalid)?;
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
