//! PutScheduledAction, DescribeScheduledActions and DeleteScheduledAction.

use aws_wire::{ApiError, Caller};
use control::Permission;
use longshore_types::Uuid;
use model::ScalableTarget;
use model::scaling::{DIMENSION, NAMESPACE, ScheduledAction, resource_id};
use plan::schedule::{Schedule, Zone};
use scaling_api as api;
use store::Batch;

use crate::errors::{invalid, limit, no_action, not_registered};
use crate::limits::ACTIONS_MAX;
use crate::pages::page;
use crate::targets::capacity;
use crate::{Scaling, is_asked, is_ecs, read_service, target};

/// When an action comes next, by what is kept of it.
pub(crate) fn next_due(action: &ScheduledAction) -> Option<longshore_types::Timestamp> {
    let zone = match &action.timezone {
        Some(name) => Zone::parse(name)?,
        None => Zone::utc(),
    };
    let schedule = Schedule::parse(&action.schedule).ok()?;
    let start = action.start.unwrap_or_default();
    // What begins at a time may come at that very time.
    let after = action.done_until.max(longshore_types::Timestamp(start.0.saturating_sub(1)));
    let base = start.max(action.created_at);
    let next = schedule.next_after(after, base, &zone)?;
    action.end.is_none_or(|end| next <= end).then_some(next)
}

pub(crate) async fn put_scheduled_action(
    it: &Scaling,
    caller: &Caller,
    input: api::PutScheduledActionRequest,
) -> Result<api::PutScheduledActionResponse, ApiError> {
    let resource = input.resource_id.as_deref();
    let action = "application-autoscaling:PutScheduledAction";
    let permission = it.permission(caller, action, resource);
    it.control.read(caller, &permission)?;
    let service = read_service(
        input.service_namespace.as_ref(),
        input.scalable_dimension.as_ref(),
        resource,
    )?;
    let name = input.scheduled_action_name.unwrap_or_default();
    if name.is_empty() || name.contains([':', '/', '|']) {
        return Err(invalid("ScheduledActionName must not be empty, nor contain :, / and |."));
    }
    if let Some(text) = &input.schedule {
        Schedule::parse(text)
            .map_err(|why| invalid(format!("The schedule {text} is invalid: {why}.")))?;
    }
    if let Some(zone) = input.timezone.as_ref().filter(|zone| Zone::parse(zone).is_none()) {
        return Err(invalid(format!(
            "The timezone {zone} is none of the IANA time zone database."
        )));
    }
    if let (Some(start), Some(end)) = (input.start_time, input.end_time)
        && end <= start
    {
        return Err(invalid("StartTime must be before EndTime."));
    }
    let bounds = input.scalable_target_action;
    let given = bounds.as_ref();
    let min = capacity(it, given.and_then(|it| it.min_capacity), "Minimum")?;
    let max = capacity(it, given.and_then(|it| it.max_capacity), "Maximum")?;
    if bounds.is_some() && min.is_none() && max.is_none() {
        return Err(invalid("ScalableTargetAction has a MinCapacity, a MaxCapacity or both."));
    }
    if min.zip(max).is_some_and(|(min, max)| max < min) {
        return Err(invalid("Maximum capacity cannot be less than minimum capacity"));
    }
    let id = Uuid::mint(it.control.ids.as_ref());
    let decided = it.control.change(caller, &permission, |view, now| {
        let row =
            target(view, caller, &service).ok_or_else(|| not_registered(&resource_id(&service)))?;
        let known = row.actions.get(&name);
        if known.is_none() && ACTIONS_MAX <= row.actions.len() {
            return Err(limit(format!(
                "A scalable target can have up to {ACTIONS_MAX} scheduled actions."
            )));
        }
        let schedule = input.schedule.clone().or_else(|| known.map(|it| it.schedule.clone()));
        let missing = || {
            invalid("Schedule and ScalableTargetAction are required for a new scheduled action.")
        };
        let known_bounds = known.map(|it| (it.min, it.max));
        let bounds = bounds.as_ref().map(|_| (min, max)).or(known_bounds);
        let (min, max) = bounds.ok_or_else(missing)?;
        let action = ScheduledAction {
            id: known.map_or(id, |it| it.id),
            created_at: known.map_or(now, |it| it.created_at),
            schedule: schedule.ok_or_else(missing)?,
            timezone: input.timezone.clone().or_else(|| known.and_then(|it| it.timezone.clone())),
            start: input.start_time,
            end: input.end_time,
            min,
            max,
            done_until: now,
        };
        if known.is_none() && next_due(&action).is_none() {
            return Err(invalid("The schedule has no time to come within StartTime and EndTime."));
        }
        let mut next = ScalableTarget::clone(row);
        next.actions.insert(name.clone(), action);
        let mut batch = Batch::on(view);
        batch.put(next);
        Ok((batch, ()))
    });
    decided.await?;
    Ok(api::PutScheduledActionResponse {})
}

pub(crate) async fn describe_scheduled_actions(
    it: &Scaling,
    caller: &Caller,
    input: api::DescribeScheduledActionsRequest,
) -> Result<api::DescribeScheduledActionsResponse, ApiError> {
    let action = "application-autoscaling:DescribeScheduledActions";
    let view = it.control.read(caller, &Permission::to(action).on("*"))?;
    let names = input.scheduled_action_names.unwrap_or_default();
    let rows = view.scalable_targets.of(caller.account).filter(|row| {
        is_ecs(input.service_namespace.as_ref())
            && is_asked(row, input.scalable_dimension.as_ref(), input.resource_id.as_deref())
    });
    let all =
        rows.flat_map(|row| row.actions.iter().map(move |(name, action)| (row, name, action)));
    let shown = all
        .filter(|(_, name, _)| names.is_empty() || names.contains(name))
        .map(|(row, name, action)| render(row, name, action))
        .collect();
    let (actions, next_token) = page(input.next_token.as_deref(), input.max_results, shown)?;
    Ok(api::DescribeScheduledActionsResponse { scheduled_actions: Some(actions), next_token })
}

fn render(row: &ScalableTarget, name: &str, action: &ScheduledAction) -> api::ScheduledAction {
    let number = |count: Option<u32>| count.and_then(|count| i32::try_from(count).ok());
    api::ScheduledAction {
        scheduled_action_name: Some(name.to_owned()),
        scheduled_action_arn: Some(row.action_arn(name, action)),
        service_namespace: Some(NAMESPACE.into()),
        schedule: Some(action.schedule.clone()),
        timezone: action.timezone.clone(),
        resource_id: Some(row.resource_id()),
        scalable_dimension: Some(DIMENSION.into()),
        start_time: action.start,
        end_time: action.end,
        scalable_target_action: Some(api::ScalableTargetAction {
            min_capacity: number(action.min),
            max_capacity: number(action.max),
        }),
        creation_time: Some(action.created_at),
    }
}

pub(crate) async fn delete_scheduled_action(
    it: &Scaling,
    caller: &Caller,
    input: api::DeleteScheduledActionRequest,
) -> Result<api::DeleteScheduledActionResponse, ApiError> {
    let resource = input.resource_id.as_deref();
    let action = "application-autoscaling:DeleteScheduledAction";
    let permission = it.permission(caller, action, resource);
    it.control.read(caller, &permission)?;
    let service = read_service(
        input.service_namespace.as_ref(),
        input.scalable_dimension.as_ref(),
        resource,
    )?;
    let name = input.scheduled_action_name.unwrap_or_default();
    let decided = it.control.change(caller, &permission, |view, _| {
        let missing = || no_action(&resource_id(&service), &name);
        let row = target(view, caller, &service).ok_or_else(missing)?;
        let mut next = ScalableTarget::clone(row);
        next.actions.remove(&name).ok_or_else(missing)?;
        let mut batch = Batch::on(view);
        batch.put(next);
        Ok((batch, ()))
    });
    decided.await?;
    Ok(api::DeleteScheduledActionResponse {})
}
