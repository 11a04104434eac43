//! What ECS does by itself: reconcilers that rows wake, and the sweep of rows that are over.

use std::sync::Arc;

use aws_wire::ApiError;
use control::reconcile::{Driver, NowAndThen, Pass, PassFuture, Queue, Reconciler};
use longshore_types::Timestamp;
use model::instance::InstanceStatus;
use model::{Index, Key, View};
use store::{BATCH_ROWS_MAX, Batch, Change};

use crate::Ecs;
use crate::lifecycle_hooks::LifecycleHooks;
use crate::services::Services;
use crate::services::connect::Endpoints;
use crate::services::lost::LostHosts;
use crate::services::registries::Registries;
use crate::services::rolls::SecretRolls;
use crate::waiting::{self, WaitingTasks};

/// How often rows are looked at for being over.
const SWEEP_MS: u64 = 5_000;
/// Batches that one look takes away: more rows a second than a busy region leaves behind.
const BATCHES_A_SWEEP_MAX: usize = 50;
/// How long a deregistered instance stays known, so that its agent is told so.
const INACTIVE_INSTANCES_MS: u64 = 24 * 3_600_000;

/// Registers every reconciler that rows wake.
pub(crate) fn register_woken(ecs: &Arc<Ecs>, driver: &mut Driver) {
    driver.register(LostHosts::new(ecs));
    driver.register(Services::new(ecs));
    driver.register(WaitingTasks::new(ecs));
    driver.register(SecretRolls::new(ecs));
    driver.register(Registries::new(ecs));
    driver.register(Endpoints::new(ecs));
    driver.register(LifecycleHooks::new(ecs));
}

/// Takes away rows that have been over for long enough.
#[derive(Debug)]
pub(crate) struct Sweep {
    pub(crate) ecs: Arc<Ecs>,
}

impl Reconciler for Sweep {
    type Key = NowAndThen;
    type Note = ();
    type Error = ApiError;

    fn name(&self) -> &'static str {
        "sweep"
    }

    fn wake(&mut self, _view: &View, _change: &Change, _queue: &mut Queue<NowAndThen>) {}

    fn keys(&mut self, _view: &View) -> Vec<NowAndThen> {
        vec![NowAndThen]
    }

    fn pass(&self, _key: &NowAndThen) -> PassFuture<Result<Pass<()>, ApiError>> {
        let ecs = Arc::clone(&self.ecs);
        Box::pin(async move {
            sweep(&ecs).await?;
            let again_at = Some(ecs.control.clock.now().plus_ms(SWEEP_MS));
            Ok(Pass { again_at, ..Pass::default() })
        })
    }
}

/// Removes what has been over for long enough.
pub(crate) async fn sweep(ecs: &Ecs) -> Result<(), ApiError> {
    for _ in 0..BATCHES_A_SWEEP_MAX {
        // Nobody can decide while a decision looks around: most of the time there is nothing to be found.
        if over(ecs, &ecs.control.store.latest(), ecs.control.clock.now()).is_empty() {
            break;
        }
        let decide = |view: &View, now| {
            let batch = over(ecs, view, now);
            let rows = batch.len();
            Ok((batch, rows))
        };
        if ecs.control.decide(decide).await? < BATCH_ROWS_MAX {
            break;
        }
    }
    for _ in 0..BATCHES_A_SWEEP_MAX {
        if ecs.sweep().await? < BATCH_ROWS_MAX {
            break;
        }
    }
    let waits_ms_max = ecs.control.config.limits.task_waits_ms_max;
    if ecs.control.store.latest().unplaced_tasks().next().is_some() {
        ecs.control
            .decide(|view, now| {
                let mut batch = Batch::on(view);
                waiting::stop_overdue(view, &mut batch, waits_ms_max, now);
                Ok((batch, ()))
            })
            .await?;
    }
    ecs.fleets.follow(&ecs.control.store.latest());
    Ok(())
}

fn over(ecs: &Ecs, view: &View, now: Timestamp) -> Batch {
    let retention = &ecs.control.config.retention;
    let mut batch = Batch::on(view);
    let kept_since = Timestamp(now.0.saturating_sub(retention.stopped_tasks_ms));
    let tasks = view.tasks_stopped_by(kept_since);
    let tasks = tasks.map(|task| Key::Task(task.scope.account, task.id));
    let instances = view
        .instances
        .iter()
        .filter(|row| row.status == InstanceStatus::Inactive)
        .filter(|row| now.since_ms(row.agent.changed_at) >= INACTIVE_INSTANCES_MS)
        .filter(|row| view.member_count(&Index::InstanceTasks(row.id)) == 0)
        .map(|row| Key::ContainerInstance(row.scope.account, row.id));
    for key in tasks.chain(instances).take(BATCH_ROWS_MAX) {
        batch.delete(key);
    }
    batch
}
