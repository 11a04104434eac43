//! DescribeAlarms and DescribeAlarmsForMetric, DeleteAlarms, SetAlarmState, EnableAlarmActions and DisableAlarmActions.

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use cloudwatch_api as api;
use control::Permission;
use control::alarms::{Configured, tell_configured};
use model::alarm::{AlarmSource, AlarmState, arn};
use model::{Key, MetricAlarm, View};
use plan::alarms::Verdict;
use store::Batch;

use crate::errors::{combination, invalid, no_alarm, validation};
use crate::limits::{ALARMS_SHOWN_DEFAULT, ALARMS_SHOWN_MAX, REASON_DATA_MAX, REASON_MAX};
use crate::pages::page;
use crate::put_metric_data::dimensions;
use crate::watch::put_state;
use crate::{CloudWatch, render};

pub(crate) async fn describe_alarms(
    it: &CloudWatch,
    caller: &Caller,
    input: api::DescribeAlarmsInput,
) -> Result<api::DescribeAlarmsOutput, ApiError> {
    let view = it.control.read(caller, &Permission::to("cloudwatch:DescribeAlarms").on("*"))?;
    let names: Option<BTreeSet<String>> =
        input.alarm_names.map(|names| names.into_iter().collect());
    let names = names.filter(|names| !names.is_empty());
    if names.is_some() && input.alarm_name_prefix.is_some() {
        return Err(combination("AlarmNames and AlarmNamePrefix cannot both be specified."));
    }
    let types = input.alarm_types.unwrap_or_default();
    let is_of_metrics = types.is_empty() || types.contains(&api::AlarmType::MetricAlarm);
    // Composite alarms are not here, and so none is a child or a parent.
    let is_of_family =
        input.children_of_alarm_name.is_some() || input.parents_of_alarm_name.is_some();
    let state = input.state_value.as_ref().map(api::StateValue::as_str);
    let is_asked = |row: &MetricAlarm| {
        let has_action = |prefix: &String| {
            let all = [&row.ok_actions, &row.alarm_actions, &row.insufficient_data_actions];
            all.into_iter().flatten().any(|action| action.starts_with(prefix))
        };
        names.as_ref().is_none_or(|names| names.contains(&*row.name))
            && input.alarm_name_prefix.as_ref().is_none_or(|prefix| row.name.starts_with(prefix))
            && state.is_none_or(|state| row.state.as_str() == state)
            && input.action_prefix.as_ref().is_none_or(has_action)
    };
    let rows = view.metric_alarms.of(caller.account);
    let rows = rows.filter(|row| is_of_metrics && !is_of_family && is_asked(row));
    let rows = rows.map(|row| (row.name.to_string(), render::alarm(row)));
    let size = input.max_records.and_then(|size| usize::try_from(size).ok());
    let default = if names.is_some() { ALARMS_SHOWN_MAX } else { ALARMS_SHOWN_DEFAULT };
    let size = size.unwrap_or(default).min(ALARMS_SHOWN_MAX);
    let page = page(input.next_token.as_deref(), size, rows)?;
    Ok(api::DescribeAlarmsOutput {
        composite_alarms: Some(Vec::new()),
        metric_alarms: Some(page.items),
        log_alarms: None,
        next_token: page.token,
    })
}

pub(crate) async fn describe_alarms_for_metric(
    it: &CloudWatch,
    caller: &Caller,
    input: api::DescribeAlarmsForMetricInput,
) -> Result<api::DescribeAlarmsForMetricOutput, ApiError> {
    let permission = Permission::to("cloudwatch:DescribeAlarmsForMetric").on("*");
    let view = it.control.read(caller, &permission)?;
    let dimensions = dimensions(input.dimensions, "Dimensions")?;
    let (namespace, name) =
        (input.namespace.unwrap_or_default(), input.metric_name.unwrap_or_default());
    let statistic = input.statistic.as_ref().map(api::Statistic::as_str);
    let unit = input.unit.as_ref().map(api::StandardUnit::as_str);
    let period_s = input.period.and_then(|period| u32::try_from(period).ok());
    let is_asked = |row: &MetricAlarm| match &row.source {
        AlarmSource::Metric(metric) => {
            metric.namespace == namespace
                && metric.name == name
                && metric.dimensions == dimensions
                && statistic.is_none_or(|statistic| metric.statistic.as_str() == statistic)
                && period_s.is_none_or(|period| metric.period_s == period)
                && unit.is_none_or(|unit| metric.unit.as_deref() == Some(unit))
                && input.extended_statistic.is_none()
        }
        AlarmSource::Queries(_) => false,
    };
    let rows = view.metric_alarms.of(caller.account).filter(|row| is_asked(row));
    let alarms = rows.map(|row| render::alarm(row)).collect();
    Ok(api::DescribeAlarmsForMetricOutput { metric_alarms: Some(alarms) })
}

/// To do something with alarms of these names.
fn permission(
    it: &CloudWatch,
    caller: &Caller,
    action: &'static str,
    names: &[String],
) -> Permission {
    let scope = it.control.scope(caller);
    Permission::to(action).on_each(names.iter().map(|name| arn(&scope, name)))
}

fn row<'v>(view: &'v View, caller: &Caller, name: &str) -> Result<&'v Arc<MetricAlarm>, ApiError> {
    view.metric_alarms.get(caller.account, &name.into()).ok_or_else(|| no_alarm(name))
}

/// Alarms are deleted together: all, or none where one of them is not there.
pub(crate) async fn delete_alarms(
    it: &CloudWatch,
    caller: &Caller,
    input: api::DeleteAlarmsInput,
) -> Result<(), ApiError> {
    let names = input.alarm_names.unwrap_or_default();
    let permission = permission(it, caller, "cloudwatch:DeleteAlarms", &names);
    let names: BTreeSet<String> = names.into_iter().collect();
    let decided = it.control.change(caller, &permission, |view, now| {
        let mut batch = Batch::on(view);
        for name in &names {
            let row = row(view, caller, name)?;
            tell_configured(view, &mut batch, row, Configured::Deleted, now);
            batch.delete(Key::MetricAlarm(caller.account, Arc::clone(&row.name)));
        }
        Ok((batch, ()))
    });
    decided.await
}

pub(crate) async fn set_alarm_state(
    it: &CloudWatch,
    caller: &Caller,
    input: api::SetAlarmStateInput,
) -> Result<(), ApiError> {
    let name = input.alarm_name.unwrap_or_default();
    let names = [name.clone()];
    let permission = permission(it, caller, "cloudwatch:SetAlarmState", &names);
    it.control.read(caller, &permission)?;
    let state = input.state_value.as_ref().map(api::StateValue::as_str).unwrap_or_default();
    let state = AlarmState::parse(state)
        .ok_or_else(|| invalid("The value of the parameter StateValue is invalid."))?;
    let reason = input.state_reason.unwrap_or_default();
    let data = input.state_reason_data.unwrap_or_default();
    if REASON_MAX < reason.chars().count() || REASON_DATA_MAX < data.chars().count() {
        return Err(validation(format!(
            "StateReason has up to {REASON_MAX} characters, and StateReasonData up to {REASON_DATA_MAX}."
        )));
    }
    let is_json = data.is_empty() || serde_json::from_str::<serde_json::Value>(&data).is_ok();
    if !is_json {
        return Err(ApiError::client("InvalidFormatFault", "StateReasonData must be valid JSON."));
    }
    let decided = it.control.change(caller, &permission, |view, now| {
        let row = row(view, caller, &name)?;
        let mut batch = Batch::on(view);
        let verdict = Verdict { state, reason: reason.clone(), data: data.clone() };
        put_state(view, &mut batch, row, verdict, now);
        Ok((batch, ()))
    });
    decided.await
}

pub(crate) async fn enable_alarm_actions(
    it: &CloudWatch,
    caller: &Caller,
    input: api::EnableAlarmActionsInput,
) -> Result<(), ApiError> {
    let names = input.alarm_names.unwrap_or_default();
    turn(it, caller, "cloudwatch:EnableAlarmActions", names, true).await
}

pub(crate) async fn disable_alarm_actions(
    it: &CloudWatch,
    caller: &Caller,
    input: api::DisableAlarmActionsInput,
) -> Result<(), ApiError> {
    let names = input.alarm_names.unwrap_or_default();
    turn(it, caller, "cloudwatch:DisableAlarmActions", names, false).await
}

/// Names of alarms that are not there are passed over, as at Amazon.
async fn turn(
    it: &CloudWatch,
    caller: &Caller,
    action: &'static str,
    names: Vec<String>,
    is_on: bool,
) -> Result<(), ApiError> {
    let permission = permission(it, caller, action, &names);
    let names: BTreeSet<String> = names.into_iter().collect();
    let decided = it.control.change(caller, &permission, |view, now| {
        let mut batch = Batch::on(view);
        for name in &names {
            let Ok(row) = row(view, caller, name) else { continue };
            if row.actions_enabled == is_on {
                continue;
            }
            let next = MetricAlarm { actions_enabled: is_on, ..MetricAlarm::clone(row) };
            tell_configured(view, &mut batch, &next, Configured::Updated, now);
            batch.put(next);
        }
        Ok((batch, ()))
    });
    decided.await
}
