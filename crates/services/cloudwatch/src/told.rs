//! What CloudWatch tells EventBridge of: alarms that change their state.

use control::ports::EventSource;
use control::told::{Changes, Told};
use events::Json;
use longshore_types::Timestamp;
use model::alarm::{AlarmSource, Watched, WatchedMetric};
use model::{Key, Kind, MetricAlarm};
use serde_json::{Value, json};

/// Tells of CloudWatch's rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CloudWatchEvents;

impl EventSource for CloudWatchEvents {
    fn source(&self) -> &'static str {
        "aws.cloudwatch"
    }

    fn kinds(&self) -> &'static [Kind] {
        &[Kind::MetricAlarm]
    }

    fn tell(&self, changes: &Changes<'_>) -> Vec<Told> {
        let changed = changes.keys.iter().filter_map(|key| match key {
            Key::MetricAlarm(account, name) => {
                let was = changes.before.metric_alarms.get(*account, name)?;
                let is = changes.after.metric_alarms.get(*account, name)?;
                (was.state != is.state).then(|| of_state(was, is))
            }
            _ => None,
        });
        changed.collect()
    }
}

fn of_state(was: &MetricAlarm, is: &MetricAlarm) -> Told {
    let mut detail = json!({
        "alarmName": is.name.as_ref(),
        "state": state(is),
        "previousState": state(was),
        "configuration": { "metrics": metrics(is) },
    });
    if let Some(description) = &is.description {
        detail["configuration"]["description"] = json!(description);
    }
    Told {
        detail_type: "CloudWatch Alarm State Change",
        resources: vec![is.arn()],
        detail: Json::from(detail),
    }
}

fn state(row: &MetricAlarm) -> Value {
    let mut told = json!({
        "value": row.state.as_str(),
        "reason": row.reason,
        "timestamp": offset(row.updated_at),
    });
    if let Some(data) = &row.reason_data {
        told["reasonData"] = json!(data);
    }
    told
}

/// `2026-11-29T11:20:07.123+0000`
fn offset(at: Timestamp) -> String {
    format!("{}+0000", at.iso8601().trim_end_matches('Z'))
}

fn metrics(row: &MetricAlarm) -> Vec<Value> {
    let stat = |metric: &WatchedMetric| {
        let mut told = json!({
            "metric": {
                "namespace": metric.namespace,
                "name": metric.name,
                "dimensions": metric.dimensions,
            },
            "period": metric.period_s,
            "stat": metric.statistic.as_str(),
        });
        if let Some(unit) = &metric.unit {
            told["unit"] = json!(unit);
        }
        told
    };
    match &row.source {
        AlarmSource::Metric(metric) => {
            vec![json!({ "id": "m1", "metricStat": stat(metric), "returnData": true })]
        }
        AlarmSource::Queries(queries) => {
            let query = |query: &model::alarm::WatchedQuery| {
                let mut told = json!({ "id": query.id, "returnData": query.is_returned });
                match &query.what {
                    Watched::Metric(metric) => told["metricStat"] = stat(metric),
                    Watched::Expression(text) => told["expression"] = json!(text),
                }
                if let Some(label) = &query.label {
                    told["label"] = json!(label);
                }
                told
            };
            queries.iter().map(query).collect()
        }
    }
}
