//! Instances whose heartbeat timed out: their tasks count as stopped, and services replace them.
//!
//! An agent that comes back later is told by the task manifest what is still wanted of it, and stops
//! the rest itself.

use std::sync::Arc;

use aws_wire::ApiError;
use control::reconcile::{Pass, PassFuture, Queue, Reconciler};
use control::tasks::put_task;
use longshore_types::{AccountId, InstanceId, Timestamp};
use model::instance::{Instance, InstanceStatus};
use model::task::{Input, step};
use model::{Index, Key, View};
use store::{Batch, Change};
use tracing::warn;

use crate::Ecs;

/// Tasks that are marked as lost with one decision; each may be two rows.
const TASKS_AT_ONCE_MAX: usize = store::BATCH_ROWS_MAX / 2;

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
        let Key::ContainerInstance(account, id) = &change.key else { return };
        if view.instances.get(*account, id).is_some_and(|row| is_away(row)) {
            queue.changed(&(*account, *id), change.seq);
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
    let Some(since) = away_since(&view, account, id) else {
        return Ok(Pass { looked_at, is_over: true, ..Pass::default() });
    };
    let lost_at = since.plus_ms(ecs.control.config.heartbeat_timeout_ms);
    if ecs.control.clock.now() < lost_at {
        return Ok(Pass { looked_at, again_at: Some(lost_at), ..Pass::default() });
    }
    let decided = ecs.control.decide(|view, now| {
        let (batch, lost) = decide(ecs, view, account, id, now);
        Ok((batch, (lost, view.seq)))
    });
    let (lost, looked_at) = decided.await?;
    if lost > 0 {
        warn!(instance = %id, tasks = lost, "tasks of a lost instance marked as stopped");
    }
    // One that is still away is looked at again when it changes, and in full passes.
    Ok(Pass { looked_at, is_cut: lost == TASKS_AT_ONCE_MAX, is_over: true, ..Pass::default() })
}

fn away_since(view: &View, account: AccountId, id: InstanceId) -> Option<Timestamp> {
    let row = view.instances.get(account, &id).filter(|row| is_away(row))?;
    Some(row.agent.changed_at)
}

/// Says how many tasks it marks.
fn decide(
    ecs: &Ecs,
    view: &View,
    account: AccountId,
    id: InstanceId,
    now: Timestamp,
) -> (Batch, usize) {
    let mut batch = Batch::on(view);
    let mut lost = 0;
    let Some(row) = view.instances.get(account, &id) else { return (batch, lost) };
    let is_timed_out =
        now.since_ms(row.agent.changed_at) >= ecs.control.config.heartbeat_timeout_ms;
    if row.agent.connected || !is_timed_out {
        return (batch, lost);
    }
    batch.rely(Key::ContainerInstance(account, id));
    batch.rely(Index::InstanceTasks(id));
    let input = Input::InstanceLost { instance: row.arn() };
    for task in view.tasks_on_instance(id).take(TASKS_AT_ONCE_MAX) {
        if let Some(next) = step(task, &input, now) {
            lost += 1;
            put_task(view, &mut batch, next);
        }
    }
    (batch, lost)
}
