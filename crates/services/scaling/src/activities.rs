//! What was done: written down, and DescribeScalingActivities.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::reconcile::{FORGOTTEN_AT_ONCE_MAX, Forgetting};
use control::{Control, Permission};
use longshore_types::{IdSource, Timestamp, Uuid};
use model::scaling::{
    ACTIVITIES_KEPT_MS, ActivityStatus, DIMENSION, NAMESPACE, NotScaled, ScalingActivity,
    resource_id,
};
use model::{Key, ScalingActivities, Service, ServiceId, View};
use scaling_api as api;
use store::Batch;

use crate::pages::page;
use crate::{Scaling, is_ecs};

/// What activities are made with.
pub(crate) struct Told<'a> {
    pub(crate) ids: &'a dyn IdSource,
    pub(crate) view: &'a View,
    pub(crate) now: Timestamp,
}

impl Told<'_> {
    pub(crate) fn activity(
        &self,
        description: String,
        cause: String,
        status: ActivityStatus,
        message: String,
    ) -> ScalingActivity {
        let is_over = status != ActivityStatus::InProgress;
        ScalingActivity {
            id: Uuid::mint(self.ids),
            started_at: self.now,
            ended_at: is_over.then_some(self.now),
            description,
            cause,
            status,
            message,
            wanted: None,
            not_scaled: None,
        }
    }
}

/// A service's activities as they are known.
pub(crate) fn known(
    view: &View,
    account: longshore_types::AccountId,
    service: &ServiceId,
) -> ScalingActivities {
    let row = view.scaling_activities.get(account, service);
    row.map_or_else(
        || ScalingActivities { account, service: service.clone(), items: Vec::new() },
        |row| ScalingActivities::clone(row),
    )
}

/// Changes a service's count, and tells of it.
pub(crate) fn set_count(
    told: &Told<'_>,
    batch: &mut Batch,
    service: &Service,
    to: u32,
    cause: String,
) {
    let mut all = known(told.view, service.scope.account, &service.key());
    for old in all.items.iter_mut().filter(|it| it.status == ActivityStatus::InProgress) {
        end(old, ActivityStatus::Overridden, told.now);
    }
    let mut activity = told.activity(
        format!("Setting desired count to {to}."),
        cause,
        ActivityStatus::InProgress,
        format!(
            "Successfully set desired count to {to}. Waiting for change to be fulfilled by ecs."
        ),
    );
    activity.wanted = Some(to);
    all.add(activity);
    batch.put(all);
    let mut next = service.clone();
    next.desired_count = to;
    next.version += 1;
    batch.put(next);
}

/// Ends an activity that was waited for.
pub(crate) fn end(activity: &mut ScalingActivity, status: ActivityStatus, now: Timestamp) {
    let count = activity.wanted.unwrap_or_default();
    activity.status = status;
    activity.ended_at = Some(now);
    activity.message = match status {
        ActivityStatus::Successful => {
            format!(
                "Successfully set desired count to {count}. Change successfully fulfilled by ecs."
            )
        }
        ActivityStatus::Overridden => format!(
            "Successfully set desired count to {count}. A later change was made before it was fulfilled by ecs."
        ),
        ActivityStatus::Unfulfilled => format!(
            "Successfully set desired count to {count}. The change was not fulfilled by ecs in time."
        ),
        ActivityStatus::InProgress | ActivityStatus::Failed => return,
    };
}

pub(crate) async fn describe_scaling_activities(
    it: &Scaling,
    caller: &Caller,
    input: api::DescribeScalingActivitiesRequest,
) -> Result<api::DescribeScalingActivitiesResponse, ApiError> {
    let action = "application-autoscaling:DescribeScalingActivities";
    let view = it.control.read(caller, &Permission::to(action).on("*"))?;
    let now = it.control.clock.now();
    let is_meant = is_ecs(input.service_namespace.as_ref())
        && input.scalable_dimension.as_ref().is_none_or(|each| each.as_str() == DIMENSION);
    let with_others = input.include_not_scaled_activities == Some(true);
    let is_shown = |item: &ScalingActivity| {
        now.since_ms(item.started_at) < ACTIVITIES_KEPT_MS
            && (with_others || item.not_scaled.is_none())
    };
    let rows = view.scaling_activities.of(caller.account).filter(|row| {
        let resource = resource_id(&row.service);
        is_meant && input.resource_id.as_ref().is_none_or(|given| *given == resource)
    });
    let mut found: Vec<(Timestamp, usize, &ScalingActivities)> = rows
        .flat_map(|row| row.items.iter().enumerate().map(move |(at, item)| (at, item, row)))
        .filter(|(_, item, _)| is_shown(item))
        .map(|(at, item, row)| (item.started_at, at, row.as_ref()))
        .collect();
    // The newest first; of one time that which came later.
    found.sort_by_key(|(started_at, at, _)| std::cmp::Reverse((*started_at, *at)));
    let shown = found.iter().map(|(_, at, row)| render(&row.service, &row.items[*at])).collect();
    let (activities, next_token) = page(input.next_token.as_deref(), input.max_results, shown)?;
    Ok(api::DescribeScalingActivitiesResponse { scaling_activities: Some(activities), next_token })
}

fn render(service: &ServiceId, item: &ScalingActivity) -> api::ScalingActivity {
    let reason = |(why, count): (NotScaled, u32)| {
        let count = i32::try_from(count).ok();
        let is_at_most = why == NotScaled::AlreadyAtMaxCapacity;
        api::NotScaledReason {
            code: Some(why.as_str().to_owned()),
            max_capacity: count.filter(|_| is_at_most),
            min_capacity: count.filter(|_| !is_at_most),
            current_capacity: count,
        }
    };
    api::ScalingActivity {
        activity_id: Some(item.id.to_string()),
        service_namespace: Some(NAMESPACE.into()),
        resource_id: Some(resource_id(service)),
        scalable_dimension: Some(DIMENSION.into()),
        description: Some(item.description.clone()),
        cause: Some(item.cause.clone()),
        start_time: Some(item.started_at),
        end_time: item.ended_at,
        status_code: Some(item.status.as_str().into()),
        status_message: Some(item.message.clone()),
        details: None,
        not_scaled_reasons: item.not_scaled.map(|why| vec![reason(why)]),
    }
}

/// Forgets what was done long ago for services that are scaled no more.
pub(crate) fn forgetting(control: Arc<Control>) -> Forgetting {
    Forgetting { control, name: "scaling-activities", period_ms: PERIOD_MS, over }
}

const PERIOD_MS: u64 = 3_600_000;

fn over(view: &View, now: Timestamp) -> Vec<Key> {
    let is_over = |row: &&Arc<ScalingActivities>| {
        row.items.iter().all(|item| ACTIVITIES_KEPT_MS <= now.since_ms(item.started_at))
            && view.scalable_targets.get(row.account, &row.service).is_none()
    };
    let rows = view.scaling_activities.iter().filter(is_over).take(FORGOTTEN_AT_ONCE_MAX);
    rows.map(|row| Key::ScalingActivities(row.account, row.service.clone())).collect()
}
