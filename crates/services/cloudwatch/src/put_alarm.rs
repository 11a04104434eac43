//! PutMetricAlarm.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use cloudwatch_api as api;
use control::alarms::{self, Configured};
use control::{Control, Permission};
use longshore_types::Timestamp;
use model::alarm::{
    AlarmSource, AlarmState, Comparison, MissingData, Statistic, UNCHECKED, WatchedMetric, arn,
    policy_of,
};
use model::scaling::service_of_policy;
use model::{Key, MetricAlarm, Tags, View};
use plan::alarms::RANGE_BEYOND;
use plan::metric_math::{check_watched, common_period};
use store::Batch;

use crate::data::{check_period, not_computed, read_queries};
use crate::errors::{combination, invalid, limit, missing, unavailable, validation};
use crate::limits::{ALARM_QUERIES_MAX, ALARM_S_MAX, SHORT_ALARM_S_MAX};
use crate::put_metric_data::dimensions;
use crate::{CloudWatch, tags};

pub(crate) async fn put_metric_alarm(
    it: &CloudWatch,
    caller: &Caller,
    input: api::PutMetricAlarmInput,
) -> Result<(), ApiError> {
    let name = input.alarm_name.clone().unwrap_or_default();
    let scope = it.control.scope(caller);
    let arn = arn(&scope, &name);
    let tags = tags::read(input.tags.as_deref())?;
    let actions = input.alarm_actions.clone().unwrap_or_default();
    let permission = Permission::to("cloudwatch:PutMetricAlarm")
        .on(arn.clone())
        .with_list("cloudwatch:AlarmActions", actions)
        .tagging_new(caller, "cloudwatch:TagResource", arn, &tags);
    it.control.read(caller, &permission)?;
    let read = read_alarm(&it.control, caller, input, tags)?;
    let decided = it.control.change(caller, &permission, |view, now| {
        let mut batch = Batch::on(view);
        put(view, &mut batch, &read, now)?;
        Ok((batch, ()))
    });
    decided.await
}

/// Puts an alarm in the place of one of its name, whose state and tags it takes over.
fn put(view: &View, batch: &mut Batch, read: &MetricAlarm, now: Timestamp) -> Result<(), ApiError> {
    let account = read.scope.account;
    check_policies(view, batch, read)?;
    let known = view.metric_alarms.get(account, &read.name);
    let mut next = MetricAlarm { configured_at: now, ..read.clone() };
    match known {
        Some(row) => {
            next.state = row.state;
            next.reason.clone_from(&row.reason);
            next.reason_data.clone_from(&row.reason_data);
            (next.updated_at, next.transitioned_at) = (row.updated_at, row.transitioned_at);
            next.tags.clone_from(&row.tags);
            // Whoever is looked at again at once is older than its configuration.
            next.configured_at = now.max(row.updated_at.plus_ms(1));
        }
        None => {
            let names = [Arc::clone(&read.name)];
            alarms::admit(view, batch, account, &names).map_err(|why| limit(why.to_string()))?;
            (next.updated_at, next.transitioned_at) = (now, now);
        }
    }
    let what = if known.is_some() { Configured::Updated } else { Configured::Created };
    alarms::tell_configured(view, batch, &next, what, now);
    batch.rely(Key::MetricAlarm(account, Arc::clone(&read.name)));
    batch.put(next);
    Ok(())
}

/// That an action is one that acts here.
fn check_action(control: &Control, caller: &Caller, action: &str) -> Result<(), ApiError> {
    let scope = control.scope(caller);
    let own = format!("arn:aws:autoscaling:{}:{}:scalingPolicy:", scope.region, scope.account);
    let is_policy = policy_of(action).is_some_and(|policy| {
        policy.starts_with(&own) && policy.contains(":resource/ecs/service/")
    });
    if is_policy {
        return Ok(());
    }
    Err(validation(format!(
        "The action {action} is not available in this region, where nothing would act on it: actions are scaling policies \
         of ECS services, of this account and region."
    )))
}

/// That the policies which an alarm acts by are there: one that is mistyped would be silent while the alarm is red.
fn check_policies(view: &View, batch: &mut Batch, read: &MetricAlarm) -> Result<(), ApiError> {
    let account = read.scope.account;
    let actions = [&read.ok_actions, &read.alarm_actions, &read.insufficient_data_actions];
    for policy in actions.into_iter().flatten().filter_map(|action| policy_of(action)) {
        let service = service_of_policy(policy);
        let row = service.and_then(|id| view.scalable_targets.get(account, &id));
        let its = row.filter(|row| {
            row.policies.iter().any(|(name, its)| row.policy_arn(name, its) == policy)
        });
        let Some(row) = its else {
            return Err(validation(format!("The scaling policy {policy} does not exist.")));
        };
        batch.rely(Key::ScalableTarget(account, row.service.clone()));
    }
    Ok(())
}

fn read_alarm(
    control: &Control,
    caller: &Caller,
    input: api::PutMetricAlarmInput,
    tags: Tags,
) -> Result<MetricAlarm, ApiError> {
    refuse_others(&input)?;
    let (ok_actions, alarm_actions, insufficient_data_actions) = (
        input.ok_actions.clone().unwrap_or_default(),
        input.alarm_actions.clone().unwrap_or_default(),
        input.insufficient_data_actions.clone().unwrap_or_default(),
    );
    for action in ok_actions.iter().chain(&alarm_actions).chain(&insufficient_data_actions) {
        check_action(control, caller, action)?;
    }
    let comparison = input.comparison_operator.as_ref().map(api::ComparisonOperator::as_str);
    let comparison = comparison.unwrap_or_default();
    let comparison = Comparison::parse(comparison).ok_or_else(|| match comparison {
        "" => missing("The parameter ComparisonOperator is required."),
        other => unavailable(&format!("The comparison {other}, with a band of expected values,")),
    })?;
    let threshold =
        input.threshold.ok_or_else(|| missing("The parameter Threshold is required."))?;
    if !threshold.is_finite() {
        return Err(invalid("The parameter Threshold must be a number."));
    }
    let missing_data = match input.treat_missing_data.as_deref() {
        None => None,
        Some(text) => Some(MissingData::parse(text).ok_or_else(|| {
            validation(format!(
                "The value {text} for parameter TreatMissingData is invalid: it is missing, ignore, breaching or \
                 notBreaching."
            ))
        })?),
    };
    let count = |given: Option<i32>| given.and_then(|count| u32::try_from(count).ok());
    let evaluation_periods = count(input.evaluation_periods).filter(|count| 0 < *count);
    let evaluation_periods = evaluation_periods
        .ok_or_else(|| missing("The parameter EvaluationPeriods is required, and at least 1."))?;
    let datapoints_to_alarm = count(input.datapoints_to_alarm).filter(|count| 0 < *count);
    if input.datapoints_to_alarm.is_some() && datapoints_to_alarm.is_none() {
        return Err(validation("The parameter DatapointsToAlarm must be at least 1."));
    }
    if datapoints_to_alarm.is_some_and(|least| evaluation_periods < least) {
        return Err(validation(
            "The parameter DatapointsToAlarm must be less than or equal to EvaluationPeriods.",
        ));
    }
    let source = match input.metrics.filter(|queries| !queries.is_empty()) {
        Some(queries) => {
            if input.metric_name.is_some() || input.namespace.is_some() {
                return Err(combination(
                    "The parameters Metrics and MetricName are mutually exclusive and you have specified both.",
                ));
            }
            of_queries(queries, evaluation_periods)?
        }
        None => {
            if input.extended_statistic.is_some() {
                return Err(unavailable("ExtendedStatistic: percentiles and what is trimmed"));
            }
            let required = |given: Option<String>, name: &str| {
                given.ok_or_else(|| missing(format!("The parameter {name} is required.")))
            };
            let statistic = input.statistic.as_ref().map(|it| it.as_str().to_owned());
            let statistic = required(statistic, "Statistic")?;
            AlarmSource::Metric(WatchedMetric {
                namespace: required(input.namespace, "Namespace")?,
                name: required(input.metric_name, "MetricName")?,
                dimensions: dimensions(input.dimensions, "Dimensions")?,
                statistic: Statistic::parse(&statistic)
                    .ok_or_else(|| invalid("The value of the parameter Statistic is invalid."))?,
                period_s: check_period(input.period, "Period")?,
                unit: input.unit.map(|unit| unit.as_str().to_owned()),
            })
        }
    };
    check_length(source.period_s(), evaluation_periods)?;
    Ok(MetricAlarm {
        scope: control.scope(caller),
        name: input.alarm_name.unwrap_or_default().into(),
        description: input.alarm_description,
        actions_enabled: input.actions_enabled.unwrap_or(true),
        ok_actions,
        alarm_actions,
        insufficient_data_actions,
        source,
        evaluation_periods,
        datapoints_to_alarm,
        comparison,
        threshold,
        missing_data,
        configured_at: Timestamp(0),
        state: AlarmState::InsufficientData,
        reason: UNCHECKED.to_owned(),
        reason_data: None,
        updated_at: Timestamp(0),
        transitioned_at: Timestamp(0),
        tags,
    })
}

/// What alarms have at Amazon and not here.
fn refuse_others(input: &api::PutMetricAlarmInput) -> Result<(), ApiError> {
    let is_wall_clock =
        input.evaluation_window.as_ref().is_some_and(|window| window.wall_clock_window.is_some());
    for (is_given, what) in [
        (input.threshold_metric_id.is_some(), "ThresholdMetricId: a band of expected values"),
        (
            input.evaluate_low_sample_count_percentile.is_some(),
            "EvaluateLowSampleCountPercentile, as there are no percentiles,",
        ),
        (is_wall_clock, "EvaluationWindow.WallClockWindow"),
        (input.warm_up_configuration.is_some(), "WarmUpConfiguration"),
        (input.evaluation_criteria.is_some(), "EvaluationCriteria"),
        (input.evaluation_interval.is_some(), "EvaluationInterval"),
        (input.action_configuration.is_some(), "ActionConfiguration"),
    ] {
        if is_given {
            return Err(unavailable(what));
        }
    }
    Ok(())
}

fn of_queries(
    given: Vec<api::MetricDataQuery>,
    evaluation_periods: u32,
) -> Result<AlarmSource, ApiError> {
    if ALARM_QUERIES_MAX < given.len() {
        let message = format!(
            "The collection Metrics must not have a size greater than {ALARM_QUERIES_MAX}."
        );
        return Err(validation(message));
    }
    let queries = read_queries(given, "Metrics")?;
    let period_s = common_period(&queries).map_err(not_computed)?;
    check_length(period_s, evaluation_periods)?;
    let periods = evaluation_periods.saturating_add(RANGE_BEYOND);
    check_watched(&queries, periods).map_err(not_computed)?;
    Ok(AlarmSource::Queries(queries))
}

fn check_length(period_s: u32, periods: u32) -> Result<(), ApiError> {
    if period_s < 10 {
        return Err(invalid("The Period of an alarm must be 10, 20, 30, or a multiple of 60."));
    }
    let length_s = u64::from(period_s) * u64::from(periods);
    let (most, days) = if period_s < 3_600 { (SHORT_ALARM_S_MAX, 1) } else { (ALARM_S_MAX, 7) };
    if length_s <= most {
        return Ok(());
    }
    Err(validation(format!(
        "Metrics cannot be checked across more than {days} day(s): EvaluationPeriods * Period must be <= {most}."
    )))
}
