//! What whoever writes alarms does beside: counts them, and tells of what happened to them.
//!
//! **Invariant:** an account has no more alarms than [`ALARMS_MAX`], whoever made them, and no more histories than
//! [`HISTORIES_MAX`], whatever its alarms were called.

use std::sync::Arc;

use longshore_types::{AccountId, Timestamp};
use model::alarm::{AlarmHistory, AlarmSource, HistoryItem, HistoryKind, WatchedMetric};
use model::{Index, Key, MetricAlarm, View};
use serde_json::json;
use store::{BATCH_ROWS_MAX, Batch};

/// Alarms of an account.
pub const ALARMS_MAX: usize = 5_000;
/// Histories of an account's alarms, of those that are gone too.
pub const HISTORIES_MAX: usize = 2 * ALARMS_MAX;

/// An account has as many alarms as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("An account can have up to {ALARMS_MAX} alarms.")]
pub struct TooManyAlarms;

/// Lets an account have alarms of these names, as far as it has none of them yet. Their histories take the places of those of
/// alarms that went first.
pub fn admit(
    view: &View,
    batch: &mut Batch,
    account: AccountId,
    names: &[Arc<str>],
) -> Result<(), TooManyAlarms> {
    let all = Index::MetricAlarms(account);
    let is_new = |name: &&Arc<str>| view.metric_alarms.get(account, name).is_none();
    let new = names.iter().filter(is_new).count();
    if new == 0 {
        return Ok(());
    }
    if ALARMS_MAX < view.member_count(&all) + new {
        return Err(TooManyAlarms);
    }
    batch.rely(all);
    let has_none = |name: &&Arc<str>| view.alarm_histories.get(account, name).is_none();
    let added = names.iter().filter(has_none).count();
    let count = view.alarm_histories.of(account).count();
    let over = (count + added).saturating_sub(HISTORIES_MAX).min(BATCH_ROWS_MAX / 2);
    if 0 < over {
        let is_gone = |row: &&Arc<AlarmHistory>| {
            view.metric_alarms.get(account, &row.alarm).is_none() && !names.contains(&row.alarm)
        };
        let mut gone: Vec<_> = view.alarm_histories.of(account).filter(is_gone).collect();
        gone.sort_by_key(|row| row.items.last().map(|item| item.at));
        for row in gone.into_iter().take(over) {
            batch.delete(Key::AlarmHistory(account, Arc::clone(&row.alarm)));
        }
    }
    Ok(())
}

/// Writes down what happened to an alarm.
pub fn add_history(
    view: &View,
    batch: &mut Batch,
    account: AccountId,
    alarm: &Arc<str>,
    item: HistoryItem,
) {
    let known = view.alarm_histories.get(account, alarm);
    let mut history = known.map_or_else(
        || AlarmHistory { account, alarm: Arc::clone(alarm), items: Vec::new() },
        |row| AlarmHistory::clone(row),
    );
    history.add(item);
    batch.put(history);
}

/// What was done to an alarm itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Configured {
    Created,
    Updated,
    Deleted,
}

/// Writes down that an alarm was created, updated or deleted.
pub fn tell_configured(
    view: &View,
    batch: &mut Batch,
    row: &MetricAlarm,
    what: Configured,
    at: Timestamp,
) {
    let (kind, verb) = match what {
        Configured::Created => ("Create", "created"),
        Configured::Updated => ("Update", "updated"),
        Configured::Deleted => ("Delete", "deleted"),
    };
    let metric: Option<&WatchedMetric> = match &row.source {
        AlarmSource::Metric(metric) => Some(metric),
        AlarmSource::Queries(_) => None,
    };
    let told = json!({
        "version": "1.0", "type": kind,
        "alarmName": row.name.as_ref(), "alarmArn": row.arn(),
        "threshold": row.threshold, "comparisonOperator": row.comparison.as_str(),
        "evaluationPeriods": row.evaluation_periods,
        "metricName": metric.map(|metric| &metric.name),
        "namespace": metric.map(|metric| &metric.namespace),
        "period": metric.map(|metric| metric.period_s),
        "actionsEnabled": row.actions_enabled,
    });
    let item = HistoryItem {
        at,
        kind: HistoryKind::ConfigurationUpdate,
        summary: format!("Alarm \"{}\" {verb}", row.name),
        data: told.to_string(),
    };
    add_history(view, batch, row.scope.account, &row.name, item);
}
