//! RegisterScalableTarget, DescribeScalableTargets and DeregisterScalableTarget.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use control::alarms::{Configured, tell_configured};
use control::iam::linked::{self, Linked};
use longshore_types::{AccountId, Timestamp};
use model::scaling::{DIMENSION, NAMESPACE, PolicyKind, Suspended, resource_id};
use model::service::{Scheduling, ServiceStatus};
use model::{Key, NameKey, ScalableTarget, ScalingActivities, Service, ServiceId, Tags, View};
use scaling_api as api;
use store::{BATCH_ROWS_MAX, Batch};

use crate::activities::{Told, set_count};
use crate::errors::{invalid, limit, no_target};
use crate::limits::{ACTIVITIES_ROWS_MAX, TARGETS_MAX};
use crate::pages::page;
use crate::{Scaling, is_asked, is_ecs, read_service, tags, target};

/// In whose name services are scaled.
const LINKED_SERVICE: &str = "ecs.application-autoscaling.amazonaws.com";

fn role() -> &'static Linked {
    linked::find(LINKED_SERVICE).expect("it is one of the list")
}

/// What a registration says of a target.
struct Asked {
    service: ServiceId,
    min: Option<u32>,
    max: Option<u32>,
    suspended: Option<api::SuspendedState>,
    tags: Tags,
}

/// A bound of a count, which is of no more tasks than a service may desire in this region.
pub(crate) fn capacity(
    it: &Scaling,
    given: Option<i32>,
    name: &str,
) -> Result<Option<u32>, ApiError> {
    let most = most(it);
    let read = |count: i32| {
        u32::try_from(count).ok().filter(|count| *count <= most).ok_or_else(|| {
            invalid(format!(
                "{name} capacity must be between 0 and {most}, which is what a service has at most in this region"
            ))
        })
    };
    given.map(read).transpose()
}

fn most(it: &Scaling) -> u32 {
    it.control.config.limits.tasks_per_service_max
}

/// The bounds of a target, also where the region had a higher limit as they were set.
pub(crate) fn bounds(it: &Scaling, target: &ScalableTarget) -> (u32, u32) {
    (target.min.min(most(it)), target.max.min(most(it)))
}

pub(crate) async fn register_scalable_target(
    it: &Scaling,
    caller: &Caller,
    input: api::RegisterScalableTargetRequest,
) -> Result<api::RegisterScalableTargetResponse, ApiError> {
    let resource = input.resource_id.as_deref();
    let action = "application-autoscaling:RegisterScalableTarget";
    let tags = input.tags.unwrap_or_default();
    let permission = it.permission(caller, action, resource);
    let any = permission.resources.first().cloned().unwrap_or_default();
    let tag = "application-autoscaling:TagResource";
    let permission = permission.tagging_new(caller, tag, any, &tags);
    it.control.read(caller, &permission)?;
    tags::check(&tags)?;
    let service = read_service(
        input.service_namespace.as_ref(),
        input.scalable_dimension.as_ref(),
        resource,
    )?;
    let asked = Asked {
        min: capacity(it, input.min_capacity, "Minimum")?,
        max: capacity(it, input.max_capacity, "Maximum")?,
        suspended: input.suspended_state,
        service,
        tags,
    };
    let permission = permission.and(updating(it, caller, &asked.service));
    let new_id = hex::encode(it.control.ids.id16());
    let decided = it.control.decide(|view, now| {
        let mut permission = permission.clone();
        let needs_role = !role().is_there(view, caller.account);
        if needs_role {
            let linked = role();
            permission =
                permission.and(linked::permission(caller.account, linked.service, linked.role));
        }
        it.control.authorize(view, caller, &permission)?;
        let mut batch = Batch::on(view);
        if needs_role {
            let made = role().role_of(caller.account, it.control.ids.as_ref(), now);
            batch.rely(Key::IamRole(caller.account, NameKey::of(role().role))).put(made);
        }
        let arn = register(it, caller, view, &mut batch, &asked, &new_id, now)?;
        Ok((batch, arn))
    });
    Ok(api::RegisterScalableTargetResponse { scalable_target_arn: Some(decided.await?) })
}

/// Who has a service scaled changes its count.
fn updating(it: &Scaling, caller: &Caller, service: &ServiceId) -> Permission {
    let scope = it.control.scope(caller);
    let place = format!("arn:aws:ecs:{}:{}", scope.region, scope.account);
    Permission::to("ecs:UpdateService")
        .on(format!("{place}:service/{service}"))
        .with("ecs:cluster", format!("{place}:cluster/{}", service.cluster))
}

/// The service, if it can be scaled.
fn scaled<'v>(
    view: &'v View,
    caller: &Caller,
    id: &ServiceId,
) -> Result<&'v Arc<Service>, ApiError> {
    let row = view.services.get(caller.account, id);
    let row = row.filter(|row| row.status == ServiceStatus::Active);
    let row =
        row.ok_or_else(|| invalid(format!("ECS service doesn't exist: {}", resource_id(id))))?;
    if row.scheduling == Scheduling::Daemon {
        return Err(invalid(format!(
            "The service {} has the scheduling strategy DAEMON: its count is that of its instances.",
            row.name
        )));
    }
    Ok(row)
}

fn register(
    it: &Scaling,
    caller: &Caller,
    view: &View,
    batch: &mut Batch,
    asked: &Asked,
    new_id: &str,
    now: Timestamp,
) -> Result<String, ApiError> {
    let service = scaled(view, caller, &asked.service)?;
    let known = target(view, caller, &asked.service);
    let mut next = match known {
        Some(row) => ScalableTarget::clone(row),
        None => {
            let (Some(min), Some(max)) = (asked.min, asked.max) else {
                return Err(invalid(
                    "MinCapacity and MaxCapacity must be specified when a scalable target is registered for the first time.",
                ));
            };
            if TARGETS_MAX <= view.scalable_targets.of(caller.account).count() {
                return Err(limit(format!(
                    "An account can have up to {TARGETS_MAX} scalable targets."
                )));
            }
            make_room(view, batch, &asked.service, caller.account);
            ScalableTarget {
                scope: it.control.scope(caller),
                service: asked.service.clone(),
                id: format!("0ec5{}", &new_id[..30]),
                min,
                max,
                suspended: Suspended::default(),
                created_at: now,
                policies: [].into(),
                actions: [].into(),
                last: model::scaling::LastMoves::default(),
                tags: asked.tags.clone(),
            }
        }
    };
    if known.is_some() && !asked.tags.is_empty() {
        return Err(invalid(
            "Tags can be specified only when a scalable target is registered for the first time: use TagResource.",
        ));
    }
    next.min = asked.min.unwrap_or(next.min);
    next.max = asked.max.unwrap_or(next.max);
    if next.max < next.min {
        return Err(invalid("Maximum capacity cannot be less than minimum capacity"));
    }
    if let Some(given) = &asked.suspended {
        let of = |given: Option<bool>, known: bool| given.unwrap_or(known);
        let known = next.suspended;
        next.suspended = Suspended {
            scaling_in: of(given.dynamic_scaling_in_suspended, known.scaling_in),
            scaling_out: of(given.dynamic_scaling_out_suspended, known.scaling_out),
            scheduled: of(given.scheduled_scaling_suspended, known.scheduled),
        };
    }
    clamp(it, view, batch, &next, service, now);
    let arn = next.arn();
    batch.rely(Key::ScalableTarget(caller.account, asked.service.clone()));
    if known.is_none_or(|row| **row != next) {
        batch.put(next);
    }
    Ok(arn)
}

/// Forgets the activities of the services that were scaled longest ago and are no more, where they are as many as an account
/// may have.
fn make_room(view: &View, batch: &mut Batch, new: &ServiceId, account: AccountId) {
    let all = || view.scaling_activities.of(account);
    let over = (all().count() + 1).saturating_sub(ACTIVITIES_ROWS_MAX).min(BATCH_ROWS_MAX / 2);
    if over == 0 {
        return;
    }
    let is_gone = |row: &&Arc<ScalingActivities>| {
        row.service != *new && view.scalable_targets.get(account, &row.service).is_none()
    };
    let mut gone: Vec<_> = all().filter(is_gone).collect();
    gone.sort_by_key(|row| row.items.last().map(|item| item.started_at));
    for row in gone.into_iter().take(over) {
        batch.delete(Key::ScalingActivities(account, row.service.clone()));
    }
}

/// Brings a count within its bounds.
pub(crate) fn clamp(
    it: &Scaling,
    view: &View,
    batch: &mut Batch,
    target: &ScalableTarget,
    service: &Service,
    now: Timestamp,
) -> Option<u32> {
    let count = service.desired_count;
    let (min, max) = bounds(it, target);
    let (to, cause) = if count < min {
        (min, format!("minimum capacity was set to {min}"))
    } else if max < count {
        (max, format!("maximum capacity was set to {max}"))
    } else {
        return None;
    };
    let told = Told { ids: it.control.ids.as_ref(), view, now };
    set_count(&told, batch, service, to, cause);
    Some(to)
}

pub(crate) async fn describe_scalable_targets(
    it: &Scaling,
    caller: &Caller,
    input: api::DescribeScalableTargetsRequest,
) -> Result<api::DescribeScalableTargetsResponse, ApiError> {
    let action = "application-autoscaling:DescribeScalableTargets";
    let view = it.control.read(caller, &Permission::to(action).on("*"))?;
    let is_ecs = is_ecs(input.service_namespace.as_ref());
    let resources = input.resource_ids.unwrap_or_default();
    let dimension = input.scalable_dimension.as_ref();
    let rows = view.scalable_targets.of(caller.account).filter(|row| {
        let is_named = resources.is_empty() || resources.contains(&row.resource_id());
        is_ecs && is_named && is_asked(row, dimension, None)
    });
    let shown = rows.map(|row| render(row)).collect();
    let (targets, next_token) = page(input.next_token.as_deref(), input.max_results, shown)?;
    Ok(api::DescribeScalableTargetsResponse { scalable_targets: Some(targets), next_token })
}

fn render(row: &ScalableTarget) -> api::ScalableTarget {
    let number = |count: u32| i32::try_from(count).ok();
    let Suspended { scaling_in, scaling_out, scheduled } = row.suspended;
    api::ScalableTarget {
        service_namespace: Some(NAMESPACE.into()),
        resource_id: Some(row.resource_id()),
        scalable_dimension: Some(DIMENSION.into()),
        min_capacity: number(row.min),
        max_capacity: number(row.max),
        predicted_capacity: None,
        role_arn: Some(role().arn(row.scope.account)),
        creation_time: Some(row.created_at),
        suspended_state: Some(api::SuspendedState {
            dynamic_scaling_in_suspended: Some(scaling_in),
            dynamic_scaling_out_suspended: Some(scaling_out),
            scheduled_scaling_suspended: Some(scheduled),
        }),
        scalable_target_arn: Some(row.arn()),
    }
}

pub(crate) async fn deregister_scalable_target(
    it: &Scaling,
    caller: &Caller,
    input: api::DeregisterScalableTargetRequest,
) -> Result<api::DeregisterScalableTargetResponse, ApiError> {
    let resource = input.resource_id.as_deref();
    let action = "application-autoscaling:DeregisterScalableTarget";
    let permission = it.permission(caller, action, resource);
    it.control.read(caller, &permission)?;
    let service = read_service(
        input.service_namespace.as_ref(),
        input.scalable_dimension.as_ref(),
        resource,
    )?;
    let decided = it.control.change(caller, &permission, |view, now| {
        let row =
            target(view, caller, &service).ok_or_else(|| no_target(&resource_id(&service)))?;
        let mut batch = Batch::on(view);
        forget(view, &mut batch, row, now);
        Ok((batch, ()))
    });
    decided.await?;
    Ok(api::DeregisterScalableTargetResponse {})
}

/// Deletes a target with its policies' alarms.
pub(crate) fn forget(view: &View, batch: &mut Batch, row: &ScalableTarget, now: Timestamp) {
    let account = row.scope.account;
    for policy in row.policies.values() {
        forget_alarms(view, batch, account, &policy.kind, now);
    }
    batch.delete(Key::ScalableTarget(account, row.service.clone()));
}

/// Deletes the alarms of a policy that tracks a value.
pub(crate) fn forget_alarms(
    view: &View,
    batch: &mut Batch,
    account: AccountId,
    kind: &PolicyKind,
    now: Timestamp,
) {
    let PolicyKind::Tracking(tracking) = kind else { return };
    for name in std::iter::once(&tracking.high).chain(&tracking.low) {
        forget_alarm(view, batch, account, name, now);
    }
}

/// Deletes an alarm, if nobody did so before.
pub(crate) fn forget_alarm(
    view: &View,
    batch: &mut Batch,
    account: AccountId,
    name: &Arc<str>,
    now: Timestamp,
) {
    if let Some(row) = view.metric_alarms.get(account, name) {
        tell_configured(view, batch, row, Configured::Deleted, now);
        batch.delete(Key::MetricAlarm(account, Arc::clone(name)));
    }
}
