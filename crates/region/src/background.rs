//! What a region does by itself: the reconcilers that its one driver runs.
//!
//! [`prepare`] readies the rows that a crash may have left behind, before requests are served; [`start`]
//! registers every reconciler. Here are those that have no better home: sweeps, and the agents' sessions
//! that are to look at their tasks.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use aws_wire::ApiError;
use control::reconcile::{Driver, Environment, Pass, PassFuture, Queue, Reconciler};
use longshore_types::{InstanceId, TaskId, Timestamp};
use model::instance::{Instance, InstanceStatus};
use model::task::Phase;
use model::{Index, Key, View};
use store::{BATCH_ROWS_MAX, Batch, Change};

use crate::ecs::pool;
use crate::region::Region;
use crate::services::Services;
use crate::services::lost::LostHosts;
use crate::waiting::{self, WaitingTasks};

/// How often rows are looked at for being over.
const SWEEP_MS: u64 = 5_000;
/// How often the registry is looked at for what no image needs.
const REGISTRY_SWEEP_MS: u64 = 600_000;
/// Batches that one look takes away: more rows a second than a busy region leaves behind.
const BATCHES_A_SWEEP_MAX: usize = 50;
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

/// Starts the driver, once. It ends with the runtime.
pub fn start(region: &Arc<Region>) {
    if region.sessions.started.swap(true, Ordering::SeqCst) {
        return;
    }
    let mut driver = driver(region, Environment::of(&region.store, &region.clock));
    driver.register(Sweep { region: Arc::clone(region) });
    driver.register(RegistrySweep { region: Arc::clone(region) });
    region.set_reconcilers(driver.status());
    tokio::spawn(driver.run());
}

/// A driver with every reconciler that rows wake; sweeps go by time.
pub(crate) fn driver(region: &Arc<Region>, environment: Environment) -> Driver {
    let mut driver = Driver::new(environment);
    driver.register(Orders { region: Arc::clone(region) });
    driver.register(LostHosts::new(region));
    driver.register(Services::new(region));
    driver.register(WaitingTasks::new(region));
    driver
}

/// What is done now and then, whatever changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NowAndThen;

/// Takes away rows that have been over for long enough.
#[derive(Debug)]
struct Sweep {
    region: Arc<Region>,
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
        let region = Arc::clone(&self.region);
        Box::pin(async move {
            sweep(&region).await?;
            let again_at = Some(region.clock.now().plus_ms(SWEEP_MS));
            Ok(Pass { again_at, ..Pass::default() })
        })
    }
}

/// Takes away what no image of the registry needs.
#[derive(Debug)]
struct RegistrySweep {
    region: Arc<Region>,
}

impl Reconciler for RegistrySweep {
    type Key = NowAndThen;
    type Note = ();
    type Error = registry::RegistryError;

    fn name(&self) -> &'static str {
        "registry-sweep"
    }

    fn wake(&mut self, _view: &View, _change: &Change, _queue: &mut Queue<NowAndThen>) {}

    fn keys(&mut self, _view: &View) -> Vec<NowAndThen> {
        vec![NowAndThen]
    }

    fn pass(&self, _key: &NowAndThen) -> PassFuture<Result<Pass<()>, registry::RegistryError>> {
        let region = Arc::clone(&self.region);
        Box::pin(async move {
            let swept = region.registry.sweep().await?;
            if swept != registry::Swept::default() {
                let registry::Swept { uploads, layers, blobs } = swept;
                tracing::info!(uploads, layers, blobs, "registry swept");
            }
            let again_at = Some(region.clock.now().plus_ms(REGISTRY_SWEEP_MS));
            Ok(Pass { again_at, ..Pass::default() })
        })
    }
}

/// Has the sessions of agents look at their tasks when these have something new for them, ends those of
/// instances that are gone, and forgets the figures of tasks that are over.
#[derive(Debug)]
struct Orders {
    region: Arc<Region>,
}

/// Whose session, or whose figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum OrdersKey {
    Instance(InstanceId),
    EndedTask(TaskId),
}

impl Reconciler for Orders {
    type Key = OrdersKey;
    type Note = ();
    type Error = ApiError;

    fn name(&self) -> &'static str {
        "orders"
    }

    fn wake(&mut self, view: &View, change: &Change, queue: &mut Queue<OrdersKey>) {
        match &change.key {
            Key::Task(account, id) => match view.tasks.get(*account, id) {
                Some(task) if task.has_orders() => {
                    if let Some(instance) = task.instance {
                        queue.changed(&OrdersKey::Instance(instance), change.seq);
                    }
                }
                Some(task) if task.phase < Phase::Stopped => {}
                Some(_) | None => queue.changed(&OrdersKey::EndedTask(*id), change.seq),
            },
            Key::ContainerInstance(account, id) => {
                let row = view.instances.get(*account, id);
                if row.is_none_or(|row| row.status == InstanceStatus::Inactive) {
                    queue.changed(&OrdersKey::Instance(*id), change.seq);
                }
            }
            _ => {}
        }
    }

    fn keys(&mut self, view: &View) -> Vec<OrdersKey> {
        let connected = view.instances.iter().filter(|row| row.agent.connected);
        connected.map(|row| OrdersKey::Instance(row.id)).collect()
    }

    fn pass(&self, key: &OrdersKey) -> PassFuture<Result<Pass<()>, ApiError>> {
        let (region, key) = (Arc::clone(&self.region), *key);
        Box::pin(async move {
            let view = region.view();
            match key {
                OrdersKey::Instance(id) if is_known(&view, id) => region.sessions.notify(id),
                OrdersKey::Instance(id) => region.sessions.retire(id),
                OrdersKey::EndedTask(id) => region.sessions.forget(id),
            }
            Ok(Pass { looked_at: view.seq, is_over: true, ..Pass::default() })
        })
    }
}

fn is_known(view: &View, id: InstanceId) -> bool {
    let row = crate::services::instance_of(view, id);
    row.is_some_and(|row| row.status < InstanceStatus::Inactive)
}
/// Removes what has been over for long enough.
pub(crate) async fn sweep(region: &Region) -> Result<(), ApiError> {
    for _ in 0..BATCHES_A_SWEEP_MAX {
        // Nobody can decide while a decision looks around: most of the time there is nothing to be found.
        if over(region, &region.store.latest(), region.clock.now()).is_empty() {
            break;
        }
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
    if region.store.latest().unplaced_tasks().next().is_some() {
        region
            .decide(|view, now| {
                let mut batch = Batch::on(view);
                waiting::give_up(view, &mut batch, waits_ms_max, now);
                Ok((batch, ()))
            })
            .await?;
    }
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
