//! Rows and metrics as CloudWatch shows them.

use cloudwatch_api as api;
use metrics::MetricId;
use model::MetricAlarm;
use model::alarm::{AlarmSource, Dimensions, Watched, WatchedMetric, WatchedQuery};

pub(crate) fn dimensions(all: &Dimensions) -> Vec<api::Dimension> {
    let one = |(name, value): (&String, &String)| api::Dimension {
        name: Some(name.clone()),
        value: Some(value.clone()),
    };
    all.iter().map(one).collect()
}

pub(crate) fn metric(id: &MetricId) -> api::Metric {
    api::Metric {
        namespace: Some(id.namespace.clone()),
        metric_name: Some(id.name.clone()),
        dimensions: Some(dimensions(&id.dimensions)),
    }
}

fn seconds(period_s: u32) -> Option<i32> {
    i32::try_from(period_s).ok()
}

fn stat(watched: &WatchedMetric) -> api::MetricStat {
    api::MetricStat {
        metric: Some(api::Metric {
            namespace: Some(watched.namespace.clone()),
            metric_name: Some(watched.name.clone()),
            dimensions: Some(dimensions(&watched.dimensions)),
        }),
        period: seconds(watched.period_s),
        stat: Some(watched.statistic.as_str().to_owned()),
        unit: watched.unit.as_deref().map(Into::into),
    }
}

fn query(row: &WatchedQuery) -> api::MetricDataQuery {
    let (metric_stat, expression) = match &row.what {
        Watched::Metric(metric) => (Some(stat(metric)), None),
        Watched::Expression(text) => (None, Some(text.clone())),
    };
    api::MetricDataQuery {
        id: Some(row.id.clone()),
        metric_stat,
        expression,
        label: row.label.clone(),
        return_data: Some(row.is_returned),
        ..api::MetricDataQuery::default()
    }
}

pub(crate) fn alarm(row: &MetricAlarm) -> api::MetricAlarm {
    let number = |count: u32| i32::try_from(count).ok();
    let mut shown = api::MetricAlarm {
        alarm_name: Some(row.name.to_string()),
        alarm_arn: Some(row.arn()),
        alarm_description: row.description.clone(),
        alarm_configuration_updated_timestamp: Some(row.configured_at),
        actions_enabled: Some(row.actions_enabled),
        ok_actions: Some(row.ok_actions.clone()),
        alarm_actions: Some(row.alarm_actions.clone()),
        insufficient_data_actions: Some(row.insufficient_data_actions.clone()),
        state_value: Some(row.state.as_str().into()),
        state_reason: Some(row.reason.clone()),
        state_reason_data: row.reason_data.clone(),
        state_updated_timestamp: Some(row.updated_at),
        state_transitioned_timestamp: Some(row.transitioned_at),
        evaluation_periods: number(row.evaluation_periods),
        datapoints_to_alarm: row.datapoints_to_alarm.and_then(number),
        threshold: Some(row.threshold),
        comparison_operator: Some(row.comparison.as_str().into()),
        treat_missing_data: row.missing_data.map(|how| how.as_str().to_owned()),
        ..api::MetricAlarm::default()
    };
    match &row.source {
        AlarmSource::Metric(metric) => {
            shown.namespace = Some(metric.namespace.clone());
            shown.metric_name = Some(metric.name.clone());
            shown.dimensions = Some(dimensions(&metric.dimensions));
            shown.statistic = Some(metric.statistic.as_str().into());
            shown.period = seconds(metric.period_s);
            shown.unit = metric.unit.as_deref().map(Into::into);
        }
        AlarmSource::Queries(queries) => {
            shown.metrics = Some(queries.iter().map(query).collect());
            shown.dimensions = Some(Vec::new());
        }
    }
    shown
}
