//! What the region does by itself: looks at alarms, takes in what tasks used, and forgets what is old.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_wire::ApiError;
use control::Control;
use control::alarms::add_history;
use control::reconcile::{
    FORGOTTEN_AT_ONCE_MAX, Forgetting, NowAndThen, Pass, PassFuture, Queue, Reconciler,
};
use longshore_types::{AccountId, Timestamp};
use metrics::Metrics;
use model::alarm::{
    AlarmHistory, AlarmSource, HISTORY_KEPT_MS, HistoryItem, HistoryKind, Sample, UNCHECKED,
    WatchedMetric,
};
use model::{Key, MetricAlarm, View};
use plan::alarms::{self, Verdict, Window};
use plan::metric_math::{self, ALARM_POINTS_MAX};
use serde_json::json;
use store::{Batch, Change};

use crate::CloudWatch;
use crate::data::series_of;
use crate::usage::reservations;

/// Looks at each alarm when it is time.
#[derive(Debug)]
pub(crate) struct AlarmWatch(pub(crate) Arc<CloudWatch>);

/// Which alarm.
pub(crate) type Which = (AccountId, Arc<str>);

/// The values of an alarm's periods, the newest last.
pub(crate) fn samples(
    metrics: &Metrics,
    alarm: &MetricAlarm,
    window: &Window,
) -> Vec<Option<Sample>> {
    let count = usize::try_from(window.count).unwrap_or(usize::MAX);
    let account = alarm.scope.account;
    match &alarm.source {
        AlarmSource::Metric(metric) => {
            let sets = series_of(metrics, account, metric, window.start, count);
            let sample = |set: longshore_types::StatisticSet| Sample {
                value: metric.statistic.of(&set),
                count: set.count,
            };
            sets.into_iter().map(|set| set.map(sample)).collect()
        }
        AlarmSource::Queries(queries) => {
            let read = |metric: &WatchedMetric| {
                let sets = series_of(metrics, account, metric, window.start, count);
                sets.iter().map(|set| set.map(|set| metric.statistic.of(&set))).collect()
            };
            // It was computed once when the alarm was put; what fails by now has no values.
            let computed = metric_math::compute(queries, count, ALARM_POINTS_MAX, read);
            let computed = computed.unwrap_or_default();
            let is_watched = |id: &String| queries.iter().any(|it| it.id == *id && it.is_returned);
            let mut series = computed.into_iter().filter(|(id, _)| is_watched(id));
            let values = series.next().and_then(|(_, all)| all.into_iter().next());
            let values = values.unwrap_or_else(|| {
                // The one that is returned may be a metric.
                let mut returned = queries.iter().filter(|query| query.is_returned);
                match returned.next().map(|query| &query.what) {
                    Some(model::alarm::Watched::Metric(metric)) => read(metric),
                    Some(model::alarm::Watched::Expression(_)) | None => vec![None; count],
                }
            });
            values.into_iter().map(|it| it.map(|value| Sample { value, count: 0.0 })).collect()
        }
    }
}

/// Writes that an alarm stands otherwise, and what happened to it; nothing where that is known.
pub(crate) fn put_state(
    view: &View,
    batch: &mut Batch,
    alarm: &MetricAlarm,
    to: Verdict,
    now: Timestamp,
) {
    let mut next = alarm.clone();
    let data = (!to.data.is_empty()).then_some(to.data);
    next.state = to.state;
    next.reason = to.reason;
    next.reason_data = data;
    next.updated_at = now;
    if alarm.state != to.state {
        next.transitioned_at = now;
        let (account, change) = (alarm.scope.account, state_change(alarm, &next, now));
        add_history(view, batch, account, &alarm.name, change);
    }
    batch.put(next);
}

fn state_change(before: &MetricAlarm, after: &MetricAlarm, at: Timestamp) -> HistoryItem {
    let state = |row: &MetricAlarm| {
        let mut told = json!({"stateValue": row.state.as_str(), "stateReason": row.reason});
        if let Some(data) = &row.reason_data {
            let read = serde_json::from_str(data).unwrap_or_else(|_| json!(data));
            told["stateReasonData"] = read;
        }
        told
    };
    let data = json!({"version": "1.0", "oldState": state(before), "newState": state(after)});
    HistoryItem {
        at,
        kind: HistoryKind::StateUpdate,
        summary: format!("Alarm updated from {} to {}", before.state, after.state),
        data: data.to_string(),
    }
}

/// How an alarm stands now, if that is news. Whose state was set since the last look is left alone until the next.
fn news(metrics: &Metrics, alarm: &MetricAlarm, now: Timestamp) -> Option<Verdict> {
    let window = alarms::window(alarm, now);
    let looked_at = alarms::last_look(alarm, now);
    // What was written at a time that is yet to come was by a clock that was ahead.
    let is_since = looked_at <= alarm.updated_at && alarm.updated_at <= now;
    if is_since && alarm.configured_at <= alarm.updated_at {
        return None;
    }
    let samples = samples(metrics, alarm, &window);
    let verdict = alarms::evaluate(alarm, &window, &samples, now)?;
    let is_first = alarm.reason == UNCHECKED;
    (verdict.state != alarm.state || is_first).then_some(verdict)
}

impl Reconciler for AlarmWatch {
    type Key = Which;
    type Note = ();
    type Error = ApiError;

    fn name(&self) -> &'static str {
        "alarms"
    }

    fn wake(&mut self, _: &View, change: &Change, queue: &mut Queue<Which>) {
        if let Key::MetricAlarm(account, name) = &change.key {
            queue.changed(&(*account, Arc::clone(name)), change.seq);
        }
    }

    fn keys(&mut self, view: &View) -> Vec<Which> {
        view.metric_alarms.iter().map(|row| (row.scope.account, Arc::clone(&row.name))).collect()
    }

    fn pass(&self, key: &Which) -> PassFuture<Result<Pass<()>, ApiError>> {
        let (it, key) = (Arc::clone(&self.0), key.clone());
        Box::pin(async move {
            let (account, name) = key;
            let view = it.control.view();
            let now = it.control.clock.now();
            let Some(row) = view.metric_alarms.get(account, &name) else {
                return Ok(Pass { looked_at: view.seq, is_over: true, ..Pass::default() });
            };
            let again_at = Some(alarms::next_look(row, now));
            let (metrics, judged) = (Arc::clone(&it.metrics), Arc::clone(row));
            // It may take its time to compute, which is not that of all reconcilers.
            let judge = tokio::task::spawn_blocking(move || news(&metrics, &judged, now));
            let verdict = judge.await;
            let verdict =
                verdict.map_err(|why| ApiError::fault("failed to evaluate an alarm", why))?;
            if let Some(verdict) = verdict {
                let judged = Arc::clone(row);
                let decide = |view: &View, now| {
                    let mut batch = Batch::on(view);
                    // One that is another by now is looked at again, since it was written.
                    let row = view.metric_alarms.get(account, &name);
                    if let Some(row) = row.filter(|row| **row == judged) {
                        put_state(view, &mut batch, row, verdict.clone(), now);
                    }
                    Ok((batch, ()))
                };
                it.control.decide(decide).await?;
            }
            Ok(Pass { looked_at: view.seq, again_at, ..Pass::default() })
        })
    }
}

/// Puts what tasks used to the metrics, and forgets what is old.
#[derive(Debug)]
pub(crate) struct Housekeeping {
    it: Arc<CloudWatch>,
    /// The minute that it tidied up in last.
    tidied: AtomicU64,
}

impl Housekeeping {
    pub(crate) fn new(it: Arc<CloudWatch>) -> Self {
        Self { it, tidied: AtomicU64::new(0) }
    }
}

const PERIOD_MS: u64 = 2_000;
const TIDY_MS: u64 = 60_000;

impl Reconciler for Housekeeping {
    type Key = NowAndThen;
    type Note = ();
    type Error = ApiError;

    fn name(&self) -> &'static str {
        "metrics"
    }

    fn wake(&mut self, _: &View, _: &Change, _: &mut Queue<NowAndThen>) {}

    fn keys(&mut self, _: &View) -> Vec<NowAndThen> {
        vec![NowAndThen]
    }

    fn pass(&self, _: &NowAndThen) -> PassFuture<Result<Pass<()>, ApiError>> {
        let it = Arc::clone(&self.it);
        let now = it.control.clock.now();
        // Whenever its turn comes in a minute, where many others have theirs before.
        let is_time = self.tidied.swap(now.0 / TIDY_MS, Ordering::Relaxed) != now.0 / TIDY_MS;
        Box::pin(async move {
            let mut data = it.take_usage(now);
            if is_time {
                data.extend(it.take_insights(now));
                data.extend(reservations(&it.control.view(), now));
            }
            if is_time || !data.is_empty() {
                let metrics = Arc::clone(&it.metrics);
                let work = move || -> Result<(), ApiError> {
                    let failed = "failed to keep metrics";
                    let noted = metrics.note(data);
                    // Also on a disk that was full: to tidy up is what makes room.
                    if is_time {
                        metrics.tidy().map_err(|why| ApiError::fault(failed, why))?;
                    }
                    noted.map_err(|why| ApiError::fault(failed, why))
                };
                let done = tokio::task::spawn_blocking(work).await;
                done.map_err(|why| ApiError::fault("failed to keep metrics", why))??;
            }
            let again_at = Some(Timestamp((now.0 / PERIOD_MS + 1) * PERIOD_MS));
            Ok(Pass { looked_at: it.control.view().seq, again_at, ..Pass::default() })
        })
    }
}

/// Forgets histories of alarms that are gone, of which nothing is shown any more.
pub(crate) fn forgetting(control: Arc<Control>) -> Forgetting {
    Forgetting { control, name: "alarm-histories", period_ms: FORGET_MS, over }
}

const FORGET_MS: u64 = 3_600_000;

fn over(view: &View, now: Timestamp) -> Vec<Key> {
    let is_over = |row: &&Arc<AlarmHistory>| {
        row.items.iter().all(|item| HISTORY_KEPT_MS <= now.since_ms(item.at))
            && view.metric_alarms.get(row.account, &row.alarm).is_none()
    };
    let rows = view.alarm_histories.iter().filter(is_over).take(FORGOTTEN_AT_ONCE_MAX);
    rows.map(|row| Key::AlarmHistory(row.account, Arc::clone(&row.alarm))).collect()
}
