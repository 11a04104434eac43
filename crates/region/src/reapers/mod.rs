//! Background shells: what time does to rows. Each looks at the whole state and decides; a turn that
//! is missed is made up by the next.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_wire::ApiError;
use longshore_types::{Chain, Timestamp};
use model::instance::Instance;
use model::task::Task;
use model::{Index, Key, View};
use store::{BATCH_ROWS_MAX, Batch};
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use crate::ecs::pool;
use crate::region::Region;
use crate::waiting::{self, Told};

/// How often rows are looked at for being over.
const SWEEP: Duration = Duration::from_secs(5);
/// Batches that one look takes away: more rows a second than a busy region leaves behind.
const BATCHES_A_SWEEP_MAX: usize = 50;
/// How long after placing waiting tasks failed it is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How long a deregistered instance stays known, so that its agent is told so.
const INACTIVE_INSTANCES_MS: u64 = 24 * 3_600_000;

/// Readies the state that a crash may have left behind. To be awaited before requests are served.
pub async fn prepare(region: &Region) -> Result<(), ApiError> {
    if region.view().address_plans.iter().next().is_none() {
        region.prepare_network(&[]).await?;
    }
    let decide = |view: &View, now| {
        let batch = nobody_is_connected(view, now);
        let is_done = batch.len() < BATCH_ROWS_MAX;
        Ok((batch, is_done))
    };
    while !region.decide(decide).await? {}
    pool::settle_all(region).await
}

/// Starts the shells, once. They end with the runtime.
pub fn start(region: &Arc<Region>) {
    if region.sessions.started.swap(true, Ordering::SeqCst) {
        return;
    }
    crate::registry_catalog::start_sweeping(&region.registry);
    let sweeping = Arc::clone(region);
    tokio::spawn(async move {
        let mut turns = interval(SWEEP);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            if let Err(error) = sweep(&sweeping).await {
                warn!(error = %Chain(&error), "sweep failed");
            }
        }
    });
    tokio::spawn(crate::services::Shell::new(region).run());
    let placing = Arc::clone(region);
    tokio::spawn(async move {
        let mut told = Told::default();
        loop {
            placing.sessions.room.notified().await;
            while !waiting::turn(&placing, &mut told).await {
                tokio::time::sleep(RETRY).await;
            }
        }
    });
}

/// Removes what has been over for long enough.
pub(crate) async fn sweep(region: &Region) -> Result<(), ApiError> {
    for _ in 0..BATCHES_A_SWEEP_MAX {
        let decide = |view: &View, now| {
            let batch = over(region, view, now);
            let rows = batch.len();
            Ok((batch, rows))
        };
        if region.decide(decide).await? < BATCH_ROWS_MAX {
            break;
        }
    }
    for _ in 0..BATCHES_A_SWEEP_MAX {
        if region.sweep().await? < BATCH_ROWS_MAX {
            break;
        }
    }
    let waits_ms_max = region.config.limits.task_waits_ms_max;
    region
        .decide(|view, now| {
            let mut batch = Batch::on(view);
            waiting::give_up(view, &mut batch, waits_ms_max, now);
            Ok((batch, ()))
        })
        .await?;
    region.fleets.follow(&region.store.latest());
    Ok(())
}

/// No session outlives its region.
fn nobody_is_connected(view: &View, now: Timestamp) -> Batch {
    let mut batch = Batch::on(view);
    let connected = view.instances.iter().filter(|row| row.agent.connected);
    for row in connected.take(BATCH_ROWS_MAX) {
        let mut next = Instance::clone(row);
        next.agent.connected = false;
        next.agent.changed_at = now;
        next.version += 1;
        batch.put(next);
    }
    batch
}

fn over(region: &Region, view: &View, now: Timestamp) -> Batch {
    let retention = &region.config.retention;
    let mut batch = Batch::on(view);
    let stopped = view.members(&Index::StoppedTasks).filter_map(|key| match key {
        Key::Task(account, id) => view.tasks.get(*account, id).map(|task| (key, task)),
        _ => None,
    });
    let is_over = |task: &Task| {
        let stopped = task.times.stopped;
        stopped.is_some_and(|at| now.since_ms(at) >= retention.stopped_tasks_ms)
    };
    let tasks = stopped.filter(|(_, task)| is_over(task)).map(|(key, _)| key.clone());
    let instances = view
        .instances
        .iter()
        .filter(|row| row.status == model::instance::InstanceStatus::Inactive)
        .filter(|row| now.since_ms(row.agent.changed_at) >= INACTIVE_INSTANCES_MS)
        .filter(|row| view.member_count(&Index::InstanceTasks(row.id)) == 0)
        .map(|row| Key::ContainerInstance(row.scope.account, row.id));
    for key in tasks.chain(instances).take(BATCH_ROWS_MAX) {
        batch.delete(key);
    }
    batch
}
