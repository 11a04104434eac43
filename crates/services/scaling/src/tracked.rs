//! What policies track: a metric that the region knows, or one of the caller's own, as it is asked for, watched and shown.

use std::sync::Arc;

use aws_wire::ApiError;
use longshore_types::AccountId;
use model::alarm::{
    AlarmSource, Dimensions, Statistic, Watched, WatchedMetric, WatchedQuery, dimensions_of,
};
use model::elb::balancer_path;
use model::scaling::{TrackedMetric, Tracking};
use model::{Index, Key, ScalableTarget, View};
use plan::alarms::RANGE_BEYOND;
use plan::metric_math::check_watched;
use scaling_api as api;

use crate::errors::{invalid, unavailable};
use crate::limits::QUERIES_MAX;
use crate::policies::{LOW_PERIODS, cooldown, seconds};

const PERIOD_S: u32 = 60;

pub(crate) fn source(row: &ScalableTarget, metric: &TrackedMetric) -> AlarmSource {
    let of_service = |name: &str| {
        let service = &row.service;
        let dimensions: Dimensions = [
            ("ClusterName".to_owned(), service.cluster.to_string()),
            ("ServiceName".to_owned(), service.name.to_string()),
        ]
        .into();
        AlarmSource::Metric(WatchedMetric {
            namespace: "AWS/ECS".to_owned(),
            name: name.to_owned(),
            dimensions,
            statistic: Statistic::Average,
            period_s: PERIOD_S,
            unit: Some("Percent".to_owned()),
        })
    };
    match metric {
        TrackedMetric::CpuUtilization => of_service("CPUUtilization"),
        TrackedMetric::MemoryUtilization => of_service("MemoryUtilization"),
        TrackedMetric::RequestsPerTarget { balancer, group } => {
            let dimensions: Dimensions = [
                ("LoadBalancer".to_owned(), balancer.to_string()),
                ("TargetGroup".to_owned(), format!("targetgroup/{group}")),
            ]
            .into();
            AlarmSource::Metric(WatchedMetric {
                namespace: "AWS/ApplicationELB".to_owned(),
                name: "RequestCountPerTarget".to_owned(),
                dimensions,
                statistic: Statistic::Sum,
                period_s: PERIOD_S,
                unit: None,
            })
        }
        TrackedMetric::Custom { namespace, name, dimensions, statistic, unit } => {
            AlarmSource::Metric(WatchedMetric {
                namespace: namespace.clone(),
                name: name.clone(),
                dimensions: dimensions.clone(),
                statistic: *statistic,
                period_s: PERIOD_S,
                unit: unit.clone(),
            })
        }
        TrackedMetric::Computed(queries) => AlarmSource::Queries(queries.clone()),
    }
}

pub(crate) fn read_tracking(
    given: api::TargetTrackingScalingPolicyConfiguration,
) -> Result<Tracking, ApiError> {
    let target = given.target_value.unwrap_or_default();
    if !target.is_finite() || target <= 0.0 {
        return Err(invalid("TargetValue must be greater than 0."));
    }
    let metric = match (
        given.predefined_metric_specification,
        given.customized_metric_specification,
    ) {
        (Some(predefined), None) => read_predefined(&predefined)?,
        (None, Some(custom)) => read_custom(custom)?,
        (Some(_), Some(_)) | (None, None) => {
            return Err(invalid(
                "Exactly one of PredefinedMetricSpecification and CustomizedMetricSpecification must be specified.",
            ));
        }
    };
    Ok(Tracking {
        target,
        metric,
        out_cooldown_s: cooldown(given.scale_out_cooldown, "ScaleOutCooldown")?,
        in_cooldown_s: cooldown(given.scale_in_cooldown, "ScaleInCooldown")?,
        disable_scale_in: given.disable_scale_in,
        high: "".into(),
        low: None,
    })
}

fn read_predefined(given: &api::PredefinedMetricSpecification) -> Result<TrackedMetric, ApiError> {
    let kind = given.predefined_metric_type.as_ref().map(api::MetricType::as_str);
    let metric = match kind.unwrap_or_default() {
        "ECSServiceAverageCPUUtilization" => TrackedMetric::CpuUtilization,
        "ECSServiceAverageMemoryUtilization" => TrackedMetric::MemoryUtilization,
        "ALBRequestCountPerTarget" => {
            let label = given.resource_label.as_deref().ok_or_else(|| {
                invalid(
                    "ResourceLabel is required for the predefined metric ALBRequestCountPerTarget.",
                )
            })?;
            return read_label(label).ok_or_else(|| bad_label(label));
        }
        other => return Err(unavailable(&format!("The predefined metric {other}"))),
    };
    if given.resource_label.is_some() {
        return Err(invalid(
            "ResourceLabel is of the predefined metric ALBRequestCountPerTarget alone.",
        ));
    }
    Ok(metric)
}

/// The end of a balancer's ARN, and that of a target group's: `app/NAME/DIGITS/targetgroup/NAME/DIGITS`.
fn read_label(label: &str) -> Option<TrackedMetric> {
    let parts: Vec<&str> = label.split('/').collect();
    let ["app", name, digits, "targetgroup", group, group_digits] = parts.as_slice() else {
        return None;
    };
    let is_whole = [name, digits, group, group_digits].iter().all(|part| !part.is_empty());
    is_whole.then(|| TrackedMetric::RequestsPerTarget {
        balancer: format!("app/{name}/{digits}").into(),
        group: format!("{group}/{group_digits}").into(),
    })
}

fn bad_label(label: &str) -> ApiError {
    invalid(format!(
        "Invalid resource label '{label}': it is app/<load-balancer-name>/<load-balancer-id>/targetgroup/<target-group-name>/<target-group-id>."
    ))
}

/// That a balancer of the account forwards to the group whose requests are to be tracked.
pub(crate) fn check_forwards(
    view: &View,
    account: AccountId,
    metric: &TrackedMetric,
) -> Result<(), ApiError> {
    let TrackedMetric::RequestsPerTarget { balancer, group } = metric else { return Ok(()) };
    let users = view.members(&Index::ElbUsers(account, Arc::clone(group)));
    let mut leading = users.filter_map(|key| match key {
        Key::ElbListener(_, path) | Key::ElbRule(_, path) => Some(balancer_path(path)),
        _ => None,
    });
    if view.elb_balancers.get(account, balancer).is_none() {
        return Err(invalid(format!("The load balancer {balancer} does not exist.")));
    }
    if view.elb_groups.get(account, group).is_none() {
        return Err(invalid(format!("The target group targetgroup/{group} does not exist.")));
    }
    match leading.any(|path| path == &**balancer) {
        true => Ok(()),
        false => Err(invalid("The load balancer does not route traffic to the target group.")),
    }
}

fn read_custom(given: api::CustomizedMetricSpecification) -> Result<TrackedMetric, ApiError> {
    if let Some(queries) = given.metrics.filter(|queries| !queries.is_empty()) {
        return read_computed(queries).map(TrackedMetric::Computed);
    }
    let required = |given: Option<String>, name: &str| {
        given.ok_or_else(|| invalid(format!("CustomizedMetricSpecification.{name} is required.")))
    };
    let statistic = given.statistic.as_ref().map(api::MetricStatistic::as_str).unwrap_or_default();
    let statistic = Statistic::parse(statistic)
        .ok_or_else(|| invalid("CustomizedMetricSpecification.Statistic is required."))?;
    let pairs = given.dimensions.unwrap_or_default().into_iter();
    let pairs = pairs.map(|it| (it.name.unwrap_or_default(), it.value.unwrap_or_default()));
    let dimensions = dimensions_of(pairs);
    Ok(TrackedMetric::Custom {
        namespace: required(given.namespace, "Namespace")?,
        name: required(given.metric_name, "MetricName")?,
        dimensions: dimensions
            .map_err(|why| invalid(format!("CustomizedMetricSpecification is invalid: {why}.")))?,
        statistic,
        unit: given.unit,
    })
}

fn read_computed(
    given: Vec<api::TargetTrackingMetricDataQuery>,
) -> Result<Vec<WatchedQuery>, ApiError> {
    if QUERIES_MAX < given.len() {
        return Err(invalid(format!("Metrics may have up to {QUERIES_MAX} queries.")));
    }
    let queries = given.into_iter().map(read_query).collect::<Result<Vec<_>, _>>()?;
    check_watched(&queries, LOW_PERIODS + RANGE_BEYOND)
        .map_err(|why| invalid(format!("{why}.")))?;
    Ok(queries)
}

fn read_query(given: api::TargetTrackingMetricDataQuery) -> Result<WatchedQuery, ApiError> {
    let what = match (given.metric_stat, given.expression) {
        (Some(stat), None) => {
            let metric = stat.metric.unwrap_or_default();
            let name = stat.stat.unwrap_or_default();
            let statistic = Statistic::parse(&name)
                .ok_or_else(|| unavailable(&format!("The statistic {name}")))?;
            let pairs = metric.dimensions.unwrap_or_default().into_iter();
            let pairs = pairs.map(|it| (it.name.unwrap_or_default(), it.value.unwrap_or_default()));
            let required = |given: Option<String>, name: &str| {
                given.ok_or_else(|| {
                    invalid(format!("Each MetricStat has a Metric with its {name}."))
                })
            };
            let dimensions = dimensions_of(pairs);
            Watched::Metric(WatchedMetric {
                namespace: required(metric.namespace, "Namespace")?,
                name: required(metric.metric_name, "MetricName")?,
                dimensions: dimensions
                    .map_err(|why| invalid(format!("A Metric is invalid: {why}.")))?,
                statistic,
                period_s: PERIOD_S,
                unit: stat.unit,
            })
        }
        (None, Some(text)) => Watched::Expression(text),
        (Some(_), Some(_)) | (None, None) => {
            return Err(invalid("Each of the Metrics has either an Expression or a MetricStat."));
        }
    };
    Ok(WatchedQuery {
        id: given.id.unwrap_or_default(),
        label: given.label,
        is_returned: given.return_data.unwrap_or(true),
        what,
    })
}

pub(crate) fn render_tracking(
    tracking: &Tracking,
) -> api::TargetTrackingScalingPolicyConfiguration {
    let mut shown = api::TargetTrackingScalingPolicyConfiguration {
        target_value: Some(tracking.target),
        scale_out_cooldown: seconds(tracking.out_cooldown_s),
        scale_in_cooldown: seconds(tracking.in_cooldown_s),
        disable_scale_in: tracking.disable_scale_in,
        ..api::TargetTrackingScalingPolicyConfiguration::default()
    };
    let predefined = |kind: &str| {
        Some(api::PredefinedMetricSpecification {
            predefined_metric_type: Some(kind.into()),
            resource_label: None,
        })
    };
    match &tracking.metric {
        TrackedMetric::CpuUtilization => {
            shown.predefined_metric_specification = predefined("ECSServiceAverageCPUUtilization");
        }
        TrackedMetric::MemoryUtilization => {
            shown.predefined_metric_specification =
                predefined("ECSServiceAverageMemoryUtilization");
        }
        TrackedMetric::RequestsPerTarget { balancer, group } => {
            shown.predefined_metric_specification = Some(api::PredefinedMetricSpecification {
                predefined_metric_type: Some("ALBRequestCountPerTarget".into()),
                resource_label: Some(format!("{balancer}/targetgroup/{group}")),
            });
        }
        TrackedMetric::Custom { namespace, name, dimensions, statistic, unit } => {
            let dimension = |(name, value): (&String, &String)| api::MetricDimension {
                name: Some(name.clone()),
                value: Some(value.clone()),
            };
            shown.customized_metric_specification = Some(api::CustomizedMetricSpecification {
                namespace: Some(namespace.clone()),
                metric_name: Some(name.clone()),
                dimensions: (!dimensions.is_empty())
                    .then(|| dimensions.iter().map(dimension).collect()),
                statistic: Some(statistic.as_str().into()),
                unit: unit.clone(),
                metrics: None,
            });
        }
        TrackedMetric::Computed(queries) => {
            shown.customized_metric_specification = Some(api::CustomizedMetricSpecification {
                metrics: Some(queries.iter().map(render_query).collect()),
                ..api::CustomizedMetricSpecification::default()
            });
        }
    }
    shown
}

fn render_query(query: &WatchedQuery) -> api::TargetTrackingMetricDataQuery {
    let dimension = |(name, value): (&String, &String)| api::TargetTrackingMetricDimension {
        name: Some(name.clone()),
        value: Some(value.clone()),
    };
    let stat = |metric: &WatchedMetric| api::TargetTrackingMetricStat {
        metric: Some(api::TargetTrackingMetric {
            namespace: Some(metric.namespace.clone()),
            metric_name: Some(metric.name.clone()),
            dimensions: Some(metric.dimensions.iter().map(dimension).collect()),
        }),
        stat: Some(metric.statistic.as_str().to_owned()),
        unit: metric.unit.clone(),
    };
    let (metric_stat, expression) = match &query.what {
        Watched::Metric(metric) => (Some(stat(metric)), None),
        Watched::Expression(text) => (None, Some(text.clone())),
    };
    api::TargetTrackingMetricDataQuery {
        id: Some(query.id.clone()),
        label: query.label.clone(),
        return_data: Some(query.is_returned),
        metric_stat,
        expression,
    }
}
