//! DescribeAlarmHistory.

use aws_wire::{ApiError, Caller};
use cloudwatch_api as api;
use control::Permission;
use longshore_types::Timestamp;
use model::alarm::{HISTORY_KEPT_MS, HistoryItem};

use crate::CloudWatch;
use crate::limits::ALARMS_SHOWN_MAX;
use crate::pages;

pub(crate) async fn describe_alarm_history(
    it: &CloudWatch,
    caller: &Caller,
    input: api::DescribeAlarmHistoryInput,
) -> Result<api::DescribeAlarmHistoryOutput, ApiError> {
    let permission = Permission::to("cloudwatch:DescribeAlarmHistory").on("*");
    let view = it.control.read(caller, &permission)?;
    let now = it.control.clock.now();
    let types = input.alarm_types.unwrap_or_default();
    let is_of_metrics = types.is_empty() || types.contains(&api::AlarmType::MetricAlarm);
    let kind = input.history_item_type.as_ref().map(api::HistoryItemType::as_str);
    let (start, end) = (input.start_date.unwrap_or_default(), input.end_date);
    let is_asked = |item: &HistoryItem| {
        is_of_metrics
            && input.alarm_contributor_id.is_none()
            && kind.is_none_or(|kind| item.kind.as_str() == kind)
            && start <= item.at
            && end.is_none_or(|end| item.at <= end)
            && now.since_ms(item.at) < HISTORY_KEPT_MS
    };
    let rows = view.alarm_histories.of(caller.account);
    let rows = rows.filter(|row| input.alarm_name.as_ref().is_none_or(|name| **name == *row.alarm));
    let items = rows.flat_map(|row| (0..).zip(&row.items).map(move |each| (row, each)));
    let mut found: Vec<((Timestamp, &str, usize), &HistoryItem)> = items
        .filter(|(_, (_, item))| is_asked(item))
        .map(|(row, (position, item))| ((item.at, &*row.alarm, position), item))
        .collect();
    found.sort_by_key(|(key, _)| *key);
    if input.scan_by != Some(api::ScanBy::TimestampAscending) {
        found.reverse();
    }
    let skipped: usize = match input.next_token.as_deref() {
        None => 0,
        Some(text) => pages::read(text)?.parse().map_err(|_| crate::errors::token())?,
    };
    let size = input.max_records.and_then(|size| usize::try_from(size).ok());
    let size = size.unwrap_or(ALARMS_SHOWN_MAX).clamp(1, ALARMS_SHOWN_MAX);
    let end = skipped.saturating_add(size);
    let shown = found.iter().skip(skipped).take(size);
    let shown = shown.map(|((_, alarm, _), item)| api::AlarmHistoryItem {
        alarm_name: Some((*alarm).to_owned()),
        alarm_type: Some(api::AlarmType::MetricAlarm),
        timestamp: Some(item.at),
        history_item_type: Some(item.kind.as_str().into()),
        history_summary: Some(item.summary.clone()),
        history_data: Some(item.data.clone()),
        ..api::AlarmHistoryItem::default()
    });
    Ok(api::DescribeAlarmHistoryOutput {
        alarm_history_items: Some(shown.collect()),
        next_token: (end < found.len()).then(|| pages::write(&end.to_string())),
    })
}
