//! Instances whose heartbeat timed out: their tasks count as stopped, and services replace them.
//!
//! The wait begins when something was last heard of the agent, not when its silence was noticed.
//!
//! Fenced tasks are ended by their host itself once it is out of touch for as long as it was told: they count as
//! stopped no sooner than by the longest limit that it may go by.
//!
//! An agent that comes back later is told by the task manifest what is still wanted of it, and stops
//! the rest itself.

use std::sync::Arc;

use aws_wire::ApiError;
use control::reconcile::{Pass, PassFuture, Queue, Reconciler};
use control::tasks::{STOPPED_AT_ONCE_MAX, put_task};
use longshore_types::{AccountId, InstanceId, Timestamp};
use model::instance::{Instance, InstanceStatus};
use model::task::{Input, Task, step};
use model::{Index, Key, View};
use store::{Batch, Change};
use tracing::warn;

use crate::Ecs;

/// Marks the tasks of instances as lost whose agents have been away for too long.
#[derive(Debug)]
pub(crate) struct LostHosts {
    ecs: Arc<Ecs>,
}

impl LostHosts {
    pub(crate) fn new(ecs: &Arc<Ecs>) -> Self {
        Self { ecs: Arc::clone(ecs) }
    }
}

fn is_away(row: &Instance) -> bool {
    !row.agent.connected && row.status < InstanceStatus::Inactive
}

impl Reconciler for LostHosts {
    type Key = (AccountId, InstanceId);
    type Note = ();
    type Error = ApiError;

    fn name(&self) -> &'static str {
        "lost-hosts"
    }

    fn passes_max(&self) -> usize {
        8
    }

    fn wake(&mut self, view: &View, change: &Change, queue: &mut Queue<Self::Key>) {
        if let Key::ContainerInstance(account, id) = &change.key
            && view.instances.get(*account, id).is_some_and(|row| is_away(row))
        {
            queue.changed(&(*account, *id), change.seq);
        }
        // Its limit may be another one now: that is rare, and few instances are away.
        if let Key::CapacityProvider(account, name) = &change.key {
            let is_its =
                |row: &&Arc<Instance>| is_away(row) && row.capacity_provider.as_ref() == Some(name);
            for row in view.instances.of(*account).filter(is_its) {
                queue.changed(&(*account, row.id), change.seq);
            }
        }
    }

    fn keys(&mut self, view: &View) -> Vec<Self::Key> {
        let away = view.instances.iter().filter(|row| is_away(row));
        away.map(|row| (row.scope.account, row.id)).collect()
    }

    fn pass(&self, key: &Self::Key) -> PassFuture<Result<Pass<()>, ApiError>> {
        let (ecs, (account, id)) = (Arc::clone(&self.ecs), *key);
        Box::pin(async move { run(&ecs, account, id).await })
    }
}

/// Looks at one instance that was away when it was last seen.
async fn run(ecs: &Ecs, account: AccountId, id: InstanceId) -> Result<Pass<()>, ApiError> {
    let view = ecs.control.store.latest();
    let looked_at = view.seq;
    let Some(lost_at) = lost_at(ecs, &view, account, id) else {
        return Ok(Pass { looked_at, is_over: true, ..Pass::default() });
    };
    if ecs.control.clock.now() < lost_at {
        return Ok(Pass { looked_at, again_at: Some(lost_at), ..Pass::default() });
    }
    let decided = ecs.control.decide(|view, now| {
        let (batch, lost, fenced_until) = decide(ecs, view, account, id, now);
        Ok((batch, (lost, fenced_until, view.seq)))
    });
    let (lost, again_at, looked_at) = decided.await?;
    if lost > 0 {
        warn!(instance = %id, tasks = lost, "tasks of a lost instance marked as stopped");
    }
    // One that is still away is looked at again when it changes, and in full passes.
    let is_over = again_at.is_none();
    Ok(Pass {
        looked_at,
        is_cut: lost == STOPPED_AT_ONCE_MAX,
        is_over,
        again_at,
        ..Pass::default()
    })
}

/// When an instance that is away is lost.
fn lost_at(ecs: &Ecs, view: &View, account: AccountId, id: InstanceId) -> Option<Timestamp> {
    let row = view.instances.get(account, &id).filter(|row| is_away(row))?;
    let timeout_ms = ecs.control.heartbeat_timeout_ms(view, row);
    Some(row.agent.silent_since()?.plus_ms(timeout_ms))
}

/// Says how many tasks it marks, and until when others are left alone.
fn decide(
    ecs: &Ecs,
    view: &View,
    account: AccountId,
    id: InstanceId,
    now: Timestamp,
) -> (Batch, usize, Option<Timestamp>) {
    let mut batch = Batch::on(view);
    let mut lost = 0;
    let Some(row) = view.instances.get(account, &id) else {
        return (batch, lost, None);
    };
    if lost_at(ecs, view, account, id).is_none_or(|lost_at| now < lost_at) {
        return (batch, lost, None);
    }
    batch.rely(Key::ContainerInstance(account, id));
    if let Some(provider) = row.capacity_provider.clone() {
        batch.rely(Key::CapacityProvider(account, provider));
    }
    batch.rely(Index::InstanceTasks(id));
    let input = Input::InstanceLost { instance: row.arn() };
    let lease_ms = row.agent.lease_ms.unwrap_or(0);
    let lease_ends = row.agent.silent_since().map(|since| since.plus_ms(lease_ms));
    let waits_for = lease_ends.filter(|end| now < *end);
    let mut fenced_until = None;
    for task in view.tasks_on_instance(id) {
        if lost == STOPPED_AT_ONCE_MAX {
            break;
        }
        if waits_for.is_some() && is_fenced(view, task) {
            fenced_until = waits_for;
            continue;
        }
        if let Some(next) = step(task, &input, now) {
            lost += 1;
            put_task(view, &mut batch, next);
        }
    }
    (batch, lost, fenced_until)
}

/// One whose definition is gone may be.
fn is_fenced(view: &View, task: &Task) -> bool {
    let definition = view.task_definitions.get(task.scope.account, &task.definition);
    definition.is_none_or(|definition| definition.is_fenced())
}
