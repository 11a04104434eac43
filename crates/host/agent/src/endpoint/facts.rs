//! What metadata shows and the task's own state does not have: asked of the host and of the region.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use image::Flights;
use longshore_types::{TaskArn, Timestamp};
use serde_json::{Map, Value, json};

use super::metadata::{Around, Clock, Storage, Tagged, Volume};
use crate::client::CallError;
use crate::engine::{Context, TaskView, volumes_shown};
use crate::limits::STORAGE_SHOWN_MS;
use crate::storage;

/// What tasks' disks were found to hold, so that asking often does not mean counting often.
#[derive(Debug, Default)]
pub(super) struct Measured {
    known: Mutex<BTreeMap<TaskArn, (Timestamp, u64)>>,
    /// The tasks whose files are being counted.
    counts: Flights<TaskArn>,
}

impl Measured {
    fn known(&self, task: &TaskArn, now: Timestamp) -> Option<u64> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (at, _)| now.since_ms(*at) < STORAGE_SHOWN_MS);
        known.get(task).map(|(_, bytes)| *bytes)
    }

    fn keep(&self, task: &TaskArn, now: Timestamp, bytes: u64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(task.clone(), (now, bytes));
    }
}

/// What is shown of containers.
pub(super) fn of_containers(context: &Context, view: &TaskView) -> Around {
    let volumes = |index| {
        let mounts = volumes_shown(&context.dirs, &view.spec, index);
        let volume = |(name, source, destination)| Volume { name, source, destination };
        mounts.into_iter().map(volume).collect()
    };
    Around {
        cluster: context.instance.get().map(|instance| instance.cluster).unwrap_or_default(),
        volumes: (0..view.spec.containers.len()).map(volumes).collect(),
        ..Around::default()
    }
}

/// What is shown of a whole task.
pub(super) async fn of_task(
    context: &Context,
    measured: &Measured,
    view: &TaskView,
    with_tags: bool,
) -> Around {
    let mut around = of_containers(context, view);
    if with_tags {
        around.tags = Some(tags(context, view).await);
    }
    if view.spec.is_fargate {
        around.clock = sandbox::clock_state().ok().map(|state| Clock {
            error_us_max: state.error_us_max,
            is_synchronized: state.is_synchronized,
            read_at: context.clock.now(),
        });
        around.storage = storage_of(context, measured, view).await;
    }
    around
}

async fn storage_of(context: &Context, measured: &Measured, view: &TaskView) -> Option<Storage> {
    let limit = storage::limit(&view.spec, context.task_limits)?;
    let task = &view.spec.arn;
    let used = match measured.known(task, context.clock.now()) {
        Some(bytes) => bytes,
        None => count(context, measured, view).await,
    };
    Some(Storage { used_mib: used >> 20, limit_mib: limit >> 20 })
}

/// Once at a time for a task, however many of its containers ask: whoever comes second is told what came of it.
async fn count(context: &Context, measured: &Measured, view: &TaskView) -> u64 {
    let task = &view.spec.arn;
    let _turn = measured.counts.enter(task.clone()).await;
    if let Some(bytes) = measured.known(task, context.clock.now()) {
        return bytes;
    }
    let bytes = storage::used_by(context, view).await;
    measured.keep(task, context.clock.now(), bytes);
    bytes
}

/// As Amazon's agent: those of the instance first, then the task's; what could not be read is said.
async fn tags(context: &Context, view: &TaskView) -> Tagged {
    let mut tagged = Tagged::default();
    if !view.spec.is_fargate
        && let Some(instance) = context.instance.get()
    {
        let found = context.region.tags(instance.arn.clone()).await;
        tagged.instance = read(found, "ContainerInstanceTags", &instance.arn, &mut tagged.errors);
    }
    let arn = view.spec.arn.to_string();
    let found = context.region.tags(arn.clone()).await;
    tagged.task = read(found, "TaskTags", &arn, &mut tagged.errors);
    tagged
}

fn read(
    found: Result<Vec<(String, String)>, CallError>,
    field: &str,
    arn: &str,
    errors: &mut Vec<Value>,
) -> Option<Map<String, Value>> {
    match found {
        Ok(tags) if tags.is_empty() => None,
        Ok(tags) => Some(tags.into_iter().map(|(key, value)| (key, value.into())).collect()),
        Err(error) => {
            let status = match &error {
                CallError::Refused { status, .. } => *status,
                _ => 500,
            };
            errors.push(json!({
                "ErrorField": field,
                "ErrorCode": error.code(),
                "ErrorMessage": error.to_string(),
                "StatusCode": status,
                "ResourceARN": arn,
            }));
            None
        }
    }
}
