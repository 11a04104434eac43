//! TestMetricFilter: tries a filter pattern on messages of the request.

use ::logs::pattern::Pattern;
use aws_wire::ApiError;
use logs_api::{MetricFilterMatchRecord, TestMetricFilterRequest, TestMetricFilterResponse};

use super::common::long;
use super::errors::Refusal;

pub(super) fn test_metric_filter(
    input: TestMetricFilterRequest,
) -> Result<TestMetricFilterResponse, ApiError> {
    let pattern = Pattern::parse(input.filter_pattern.as_deref().unwrap_or(""))
        .map_err(|why| Refusal::Pattern(why.to_string()))?;
    let messages = input.log_event_messages.unwrap_or_default().into_iter();
    let matching = (1_u64..).zip(messages).filter(|(_, message)| pattern.matches(message));
    let record = |(number, message): (u64, String)| MetricFilterMatchRecord {
        event_number: Some(long(number)),
        extracted_values: Some(pattern.extract(&message)),
        event_message: Some(message),
    };
    Ok(TestMetricFilterResponse { matches: Some(matching.map(record).collect()) })
}
