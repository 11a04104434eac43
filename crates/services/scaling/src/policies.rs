//! PutScalingPolicy, DescribeScalingPolicies and DeleteScalingPolicy.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use control::alarms::{self, Configured};
use longshore_types::{Timestamp, Uuid};
use model::alarm::{AlarmState, Comparison, UNCHECKED, arn as alarm_arn};
use model::scaling::{
    AdjustmentKind, DIMENSION, NAMESPACE, PolicyKind, ScalingPolicy, Step, Stepping, Tracking,
    resource_id,
};
use model::{Key, MetricAlarm, ScalableTarget, View};
use plan::service_scaling::LOW_SHARE;
use scaling_api as api;
use store::Batch;

use crate::errors::{invalid, limit, no_policy, not_registered, unavailable};
use crate::limits::{POLICIES_MAX, STEPS_MAX};
use crate::pages::page;
use crate::targets::{forget_alarm, forget_alarms};
use crate::tracked::{check_forwards, read_tracking, render_tracking, source};
use crate::{Scaling, is_asked, is_ecs, read_service, target};

/// Minutes above the target, and below it, until its alarms say so.
const HIGH_PERIODS: u32 = 3;
pub(crate) const LOW_PERIODS: u32 = 15;

pub(crate) async fn put_scaling_policy(
    it: &Scaling,
    caller: &Caller,
    input: api::PutScalingPolicyRequest,
) -> Result<api::PutScalingPolicyResponse, ApiError> {
    let resource = input.resource_id.as_deref();
    let action = "application-autoscaling:PutScalingPolicy";
    let mut permission = it.permission(caller, action, resource);
    it.control.read(caller, &permission)?;
    let service = read_service(
        input.service_namespace.as_ref(),
        input.scalable_dimension.as_ref(),
        resource,
    )?;
    let name = input.policy_name.unwrap_or_default();
    let kind = match input.policy_type.as_ref().map(api::PolicyType::as_str) {
        None | Some("StepScaling") => {
            let given = input.step_scaling_policy_configuration.ok_or_else(|| {
                invalid("StepScalingPolicyConfiguration is required for policies of the type StepScaling.")
            })?;
            PolicyKind::Stepping(read_stepping(given)?)
        }
        Some("TargetTrackingScaling") => {
            let given = input.target_tracking_scaling_policy_configuration.ok_or_else(|| {
                invalid(
                    "TargetTrackingScalingPolicyConfiguration is required for policies of the type TargetTrackingScaling.",
                )
            })?;
            let scope = it.control.scope(caller);
            permission = permission.and(
                Permission::to("cloudwatch:PutMetricAlarm")
                    .on(alarm_arn(&scope, "TargetTracking-*")),
            );
            PolicyKind::Tracking(read_tracking(given)?)
        }
        Some(other) => return Err(unavailable(&format!("The policy type {other}"))),
    };
    let ids = [(); 4].map(|()| Uuid::mint(it.control.ids.as_ref()));
    let decided = it.control.change(caller, &permission, |view, now| {
        let row =
            target(view, caller, &service).ok_or_else(|| not_registered(&resource_id(&service)))?;
        let mut batch = Batch::on(view);
        let made = put(view, &mut batch, row, (&name, kind.clone()), ids, now)?;
        Ok((batch, made))
    });
    let (policy_arn, alarms) = decided.await?;
    Ok(api::PutScalingPolicyResponse { policy_arn: Some(policy_arn), alarms: Some(alarms) })
}

/// Puts a policy in the place of one of its name, whose ids it keeps.
fn put(
    view: &View,
    batch: &mut Batch,
    row: &ScalableTarget,
    (name, kind): (&str, PolicyKind),
    [id, created_by, high, low]: [Uuid; 4],
    now: Timestamp,
) -> Result<(String, Vec<api::Alarm>), ApiError> {
    let known = row.policies.get(name);
    if known.is_none() && POLICIES_MAX <= row.policies.len() {
        return Err(limit(format!(
            "A scalable target can have up to {POLICIES_MAX} scaling policies."
        )));
    }
    let mut policy = ScalingPolicy {
        id: known.map_or(id, |known| known.id),
        created_at: known.map_or(now, |known| known.created_at),
        kind,
    };
    if let PolicyKind::Tracking(tracking) = &mut policy.kind {
        check_forwards(view, row.scope.account, &tracking.metric)?;
        let is_other_of_metric = |(other, it): (&String, &ScalingPolicy)| match &it.kind {
            PolicyKind::Tracking(its) => other != name && its.metric == tracking.metric,
            PolicyKind::Stepping(_) => false,
        };
        if row.policies.iter().any(is_other_of_metric) {
            return Err(invalid(
                "Only one TargetTrackingScaling policy for a given metric specification is allowed.",
            ));
        }
        let before = known.and_then(|known| match &known.kind {
            PolicyKind::Tracking(tracking) => Some(tracking),
            PolicyKind::Stepping(_) => None,
        });
        let resource = row.resource_id();
        let named = |side: &str, id: Uuid| -> Arc<str> {
            format!("TargetTracking-{resource}-Alarm{side}-{id}").into()
        };
        tracking.high = before.map_or_else(|| named("High", high), |it| Arc::clone(&it.high));
        let lowers = tracking.disable_scale_in != Some(true);
        let low_before = before.and_then(|it| it.low.clone());
        tracking.low = lowers.then(|| low_before.unwrap_or_else(|| named("Low", low)));
        // The one that is not needed any more, before those that are are written.
        if let Some(left) = before.and_then(|it| it.low.as_ref()).filter(|_| !lowers) {
            forget_alarm(view, batch, row.scope.account, left, now);
        }
    } else if let Some(known) = known {
        forget_alarms(view, batch, row.scope.account, &known.kind, now);
    }
    let arn = row.policy_arn(name, &policy);
    if let PolicyKind::Tracking(tracking) = &policy.kind {
        let action = action_of(view, row, tracking)
            .unwrap_or_else(|| format!("{arn}:createdBy/{created_by}"));
        let all = alarms_of(row, tracking, &action, now);
        let names: Vec<Arc<str>> = all.iter().map(|alarm| Arc::clone(&alarm.name)).collect();
        let admitted = alarms::admit(view, batch, row.scope.account, &names);
        admitted.map_err(|why| limit(format!("{why} A policy that tracks a value has two.")))?;
        for alarm in all {
            put_alarm(view, batch, alarm, now);
        }
    }
    // The alarms of one that was tracking go in this batch.
    let was_tracking = known.is_some_and(|it| matches!(it.kind, PolicyKind::Tracking(_)));
    let alarms = match &policy.kind {
        PolicyKind::Stepping(_) if was_tracking => Vec::new(),
        PolicyKind::Tracking(_) | PolicyKind::Stepping(_) => {
            render_alarms(view, row, &arn, &policy)
        }
    };
    let mut next = row.clone();
    next.policies.insert(name.to_owned(), policy);
    batch.put(next);
    Ok((arn, alarms))
}

/// The action that a policy's alarm has already.
fn action_of(view: &View, row: &ScalableTarget, tracking: &Tracking) -> Option<String> {
    let alarm = view.metric_alarms.get(row.scope.account, &tracking.high)?;
    alarm.alarm_actions.first().cloned()
}

/// Puts an alarm; one that is there keeps its state and tags.
fn put_alarm(view: &View, batch: &mut Batch, mut alarm: MetricAlarm, now: Timestamp) {
    let mut what = Configured::Created;
    if let Some(known) = view.metric_alarms.get(alarm.scope.account, &alarm.name) {
        what = Configured::Updated;
        alarm.state = known.state;
        alarm.reason.clone_from(&known.reason);
        alarm.reason_data.clone_from(&known.reason_data);
        alarm.transitioned_at = known.transitioned_at;
        alarm.updated_at = known.updated_at;
        alarm.tags.clone_from(&known.tags);
        alarm.configured_at = alarm.configured_at.max(known.updated_at.plus_ms(1));
    }
    alarms::tell_configured(view, batch, &alarm, what, now);
    batch.put(alarm);
}

/// The alarms by which a policy tracks its value.
fn alarms_of(
    row: &ScalableTarget,
    tracking: &Tracking,
    action: &str,
    now: Timestamp,
) -> Vec<MetricAlarm> {
    let source = source(row, &tracking.metric);
    let alarm = |name: &Arc<str>, comparison, threshold, periods| MetricAlarm {
        scope: row.scope.clone(),
        name: Arc::clone(name),
        description: Some(format!(
            "DO NOT EDIT OR DELETE. For TargetTrackingScaling policy {action}."
        )),
        actions_enabled: true,
        ok_actions: Vec::new(),
        alarm_actions: vec![action.to_owned()],
        insufficient_data_actions: Vec::new(),
        source: source.clone(),
        evaluation_periods: periods,
        datapoints_to_alarm: None,
        comparison,
        threshold,
        missing_data: None,
        configured_at: now,
        state: AlarmState::InsufficientData,
        reason: UNCHECKED.to_owned(),
        reason_data: None,
        updated_at: now,
        transitioned_at: now,
        tags: BTreeMap::new(),
    };
    let mut all = vec![alarm(
        &tracking.high,
        Comparison::GreaterThanThreshold,
        tracking.target,
        HIGH_PERIODS,
    )];
    if let Some(low) = &tracking.low {
        let threshold = tracking.target * LOW_SHARE;
        all.push(alarm(low, Comparison::LessThanThreshold, threshold, LOW_PERIODS));
    }
    all
}

pub(crate) fn cooldown(given: Option<i32>, name: &str) -> Result<Option<u32>, ApiError> {
    let bad = || invalid(format!("{name} must be at least 0 seconds."));
    given.map(|seconds| u32::try_from(seconds).map_err(|_| bad())).transpose()
}

fn read_stepping(given: api::StepScalingPolicyConfiguration) -> Result<Stepping, ApiError> {
    let kind = given.adjustment_type.as_ref().map(api::AdjustmentType::as_str).unwrap_or_default();
    let kind = AdjustmentKind::parse(kind).ok_or_else(|| invalid("AdjustmentType is required."))?;
    let steps: Vec<Step> = given
        .step_adjustments
        .unwrap_or_default()
        .into_iter()
        .map(|step| Step {
            lower: step.metric_interval_lower_bound,
            upper: step.metric_interval_upper_bound,
            adjustment: step.scaling_adjustment.unwrap_or_default(),
        })
        .collect();
    check_steps(&steps)?;
    let least = given.min_adjustment_magnitude;
    if least.is_some() && kind != AdjustmentKind::PercentChangeInCapacity {
        return Err(invalid(
            "MinAdjustmentMagnitude is of the adjustment type PercentChangeInCapacity alone.",
        ));
    }
    Ok(Stepping {
        kind,
        steps,
        least: cooldown(least, "MinAdjustmentMagnitude")?,
        cooldown_s: cooldown(given.cooldown, "Cooldown")?,
        aggregation: given.metric_aggregation_type.map(|it| it.as_str().to_owned()),
    })
}

/// Steps follow each other without gap and overlap, with one open end at most on either side.
fn check_steps(steps: &[Step]) -> Result<(), ApiError> {
    if steps.is_empty() {
        return Err(invalid("At least one StepAdjustment must be specified."));
    }
    if STEPS_MAX < steps.len() {
        return Err(limit(format!("A policy can have up to {STEPS_MAX} step adjustments.")));
    }
    let is_open = |step: &Step| step.lower.is_none() && step.upper.is_none();
    let is_backwards = |step: &Step| match (step.lower, step.upper) {
        (Some(lower), Some(upper)) => upper <= lower,
        _ => false,
    };
    let is_wild = |step: &Step| [step.lower, step.upper].iter().flatten().any(|it| !it.is_finite());
    if steps.iter().any(|step| is_open(step) || is_backwards(step) || is_wild(step)) {
        return Err(invalid(
            "A StepAdjustment has a lower bound, an upper bound or both, and the lower one is less than the upper one.",
        ));
    }
    let mut sorted: Vec<&Step> = steps.iter().collect();
    let start = |step: &Step| step.lower.unwrap_or(f64::NEG_INFINITY);
    sorted.sort_by(|one, other| start(one).total_cmp(&start(other)));
    let follows = |pair: &[&Step]| pair[0].upper.is_some() && pair[0].upper == pair[1].lower;
    if !sorted.windows(2).all(follows) {
        return Err(invalid("StepAdjustments must not overlap, and have no gaps between them."));
    }
    Ok(())
}

pub(crate) async fn describe_scaling_policies(
    it: &Scaling,
    caller: &Caller,
    input: api::DescribeScalingPoliciesRequest,
) -> Result<api::DescribeScalingPoliciesResponse, ApiError> {
    let action = "application-autoscaling:DescribeScalingPolicies";
    let view = it.control.read(caller, &Permission::to(action).on("*"))?;
    let names = input.policy_names.unwrap_or_default();
    let rows = view.scalable_targets.of(caller.account).filter(|row| {
        is_ecs(input.service_namespace.as_ref())
            && is_asked(row, input.scalable_dimension.as_ref(), input.resource_id.as_deref())
    });
    let all =
        rows.flat_map(|row| row.policies.iter().map(move |(name, policy)| (row, name, policy)));
    let is_named = |row: &ScalableTarget, name: &String, policy: &ScalingPolicy| {
        names.is_empty() || names.contains(name) || names.contains(&row.policy_arn(name, policy))
    };
    let shown = all
        .filter(|(row, name, policy)| is_named(row, name, policy))
        .map(|(row, name, policy)| render(&view, row, name, policy))
        .collect();
    let (policies, next_token) = page(input.next_token.as_deref(), input.max_results, shown)?;
    Ok(api::DescribeScalingPoliciesResponse { scaling_policies: Some(policies), next_token })
}

/// The alarms that act by a policy.
fn render_alarms(
    view: &View,
    row: &ScalableTarget,
    arn: &str,
    policy: &ScalingPolicy,
) -> Vec<api::Alarm> {
    let names: Vec<Arc<str>> = match &policy.kind {
        PolicyKind::Tracking(it) => std::iter::once(&it.high).chain(&it.low).cloned().collect(),
        PolicyKind::Stepping(_) => {
            let index = model::Index::PolicyAlarms(row.scope.account, arn.into());
            let members = view.members(&index).filter_map(|key| match key {
                Key::MetricAlarm(_, name) => Some(Arc::clone(name)),
                _ => None,
            });
            members.collect()
        }
    };
    let shown = |name: Arc<str>| api::Alarm {
        alarm_arn: Some(alarm_arn(&row.scope, &name)),
        alarm_name: Some(name.to_string()),
    };
    names.into_iter().map(shown).collect()
}

fn render(
    view: &View,
    row: &ScalableTarget,
    name: &str,
    policy: &ScalingPolicy,
) -> api::ScalingPolicy {
    let arn = row.policy_arn(name, policy);
    let alarms = render_alarms(view, row, &arn, policy);
    let mut shown = api::ScalingPolicy {
        policy_arn: Some(arn),
        policy_name: Some(name.to_owned()),
        service_namespace: Some(NAMESPACE.into()),
        resource_id: Some(row.resource_id()),
        scalable_dimension: Some(DIMENSION.into()),
        creation_time: Some(policy.created_at),
        alarms: Some(alarms),
        ..api::ScalingPolicy::default()
    };
    match &policy.kind {
        PolicyKind::Tracking(tracking) => {
            shown.policy_type = Some("TargetTrackingScaling".into());
            shown.target_tracking_scaling_policy_configuration = Some(render_tracking(tracking));
        }
        PolicyKind::Stepping(stepping) => {
            shown.policy_type = Some("StepScaling".into());
            shown.step_scaling_policy_configuration = Some(render_stepping(stepping));
        }
    }
    shown
}

pub(crate) fn seconds(given: Option<u32>) -> Option<i32> {
    given.and_then(|seconds| i32::try_from(seconds).ok())
}

fn render_stepping(stepping: &Stepping) -> api::StepScalingPolicyConfiguration {
    let step = |step: &Step| api::StepAdjustment {
        metric_interval_lower_bound: step.lower,
        metric_interval_upper_bound: step.upper,
        scaling_adjustment: Some(step.adjustment),
    };
    api::StepScalingPolicyConfiguration {
        adjustment_type: Some(stepping.kind.as_str().into()),
        step_adjustments: Some(stepping.steps.iter().map(step).collect()),
        min_adjustment_magnitude: seconds(stepping.least),
        cooldown: seconds(stepping.cooldown_s),
        metric_aggregation_type: stepping.aggregation.as_deref().map(Into::into),
    }
}

pub(crate) async fn delete_scaling_policy(
    it: &Scaling,
    caller: &Caller,
    input: api::DeleteScalingPolicyRequest,
) -> Result<api::DeleteScalingPolicyResponse, ApiError> {
    let resource = input.resource_id.as_deref();
    let action = "application-autoscaling:DeleteScalingPolicy";
    let permission = it.permission(caller, action, resource);
    it.control.read(caller, &permission)?;
    let service = read_service(
        input.service_namespace.as_ref(),
        input.scalable_dimension.as_ref(),
        resource,
    )?;
    let name = input.policy_name.unwrap_or_default();
    let decided = it.control.change(caller, &permission, |view, now| {
        let missing = || no_policy(&resource_id(&service), &name);
        let row = target(view, caller, &service).ok_or_else(missing)?;
        let mut next = ScalableTarget::clone(row);
        let policy = next.policies.remove(&name).ok_or_else(missing)?;
        let mut batch = Batch::on(view);
        forget_alarms(view, &mut batch, row.scope.account, &policy.kind, now);
        batch.put(next);
        Ok((batch, ()))
    });
    decided.await?;
    Ok(api::DeleteScalingPolicyResponse {})
}
