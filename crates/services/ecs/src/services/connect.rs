//! What Service Connect has in Cloud Map: the services behind endpoints, and the instances that tasks are of them.
//!
//! A task is an instance from when it runs, with its containers' checks passed, until it is to stop. Then nothing new is
//! led to it; once every host's proxy said that it does not and holds nothing of it any more, or its time is over, the
//! instance goes, and with it what kept the task from being told.
//!
//! **Invariant:** a task that is an instance of an endpoint is connected, in the batch in which it becomes one; and a task
//! that is to stop is told so in the batch in which the last of its instances goes, never before.

use std::sync::Arc;

use aws_wire::ApiError;
use control::Control;
use control::reconcile::{Pass, PassFuture, Queue, Reconciler};
use longshore_types::{AccountId, Timestamp};
use model::discovery::{ConnectInstance, MapConnect, MapId};
use model::service::{ConnectOffer, ConnectProtocol, Rank, ServiceConnect, ServiceStatus};
use model::task::{Desired, Health, Phase, Task};
use model::{Index, Key, MapInstance, MapService, ServiceId, View};
use store::{Batch, Change};

use super::registries::described;
use crate::Ecs;

/// How long what a task serves by TCP, and by requests that may take as long as they take, may go on once it is to stop.
const FLOW_DRAIN_MS: u64 = 10_000;
const REQUEST_DRAIN_MS_MAX: u64 = 30_000;
/// How soon it is looked again whether every host has confirmed.
pub(super) const CONFIRM_PAUSE_MS: u64 = 50;

/// The configuration of a task's revision.
pub(super) fn connect_of<'v>(view: &'v View, task: &Task) -> Option<&'v ServiceConnect> {
    view.revision_of_task(task)?.connect.as_ref()
}

/// Whether a task may have to be an instance of an endpoint.
pub(super) fn is_offered(view: &View, task: &Task) -> bool {
    connect_of(view, task).is_some_and(|connect| !connect.offers.is_empty())
}

/// Whether what its containers' checks say lets a task be led requests to.
fn is_well(task: &Task) -> bool {
    let is_checked = task.containers.iter().any(|each| each.essential && each.is_health_checked);
    match (is_checked, task.health()) {
        (false, _) | (true, Health::Healthy) => true,
        (true, Health::Unknown | Health::Unhealthy) => false,
    }
}

/// The instances of endpoints that a task is to be. `is_free`: whether nothing is led to one any more.
pub(super) fn wanted(
    view: &View,
    task: &Task,
    now: Timestamp,
    is_free: impl Fn(&MapInstance) -> bool,
) -> Vec<MapInstance> {
    let Some(connect) = connect_of(view, task) else { return Vec::new() };
    let serves = task.phase == Phase::Running && task.desired == Desired::Running;
    if serves {
        let offers = connect.offers.iter().filter(|_| is_well(task));
        return offers.filter_map(|offer| instance(view, task, connect, offer, now)).collect();
    }
    if !(task.is_held() && task.is_connected()) {
        return Vec::new();
    }
    let rows = view.map_instances_of_task(task.scope.account, task.id);
    let rows = rows.filter_map(|row| draining(view, row, now));
    rows.filter(|row| !is_free(row)).collect()
}

fn instance(
    view: &View,
    task: &Task,
    connect: &ServiceConnect,
    offer: &ConnectOffer,
    now: Timestamp,
) -> Option<MapInstance> {
    let service = view.map_services.get(task.scope.account, &offer.service)?;
    service.connect.as_ref()?;
    let port = ("AWS_INSTANCE_PORT".to_owned(), offer.container_port.to_string());
    let mut row = MapInstance {
        scope: service.scope.clone(),
        service: Arc::clone(&service.id),
        instance: task.id.to_string().into(),
        attributes: described(view, task)?.into_iter().chain([port]).collect(),
        health: None,
        task: Some(task.id),
        has_names: false,
        request: None,
        connect: None,
    };
    let known = view.map_instances.get(task.scope.account, &row.key());
    let since = known.and_then(|known| Some(known.connect.as_ref()?.since)).unwrap_or(now);
    let namespace = Arc::clone(&connect.namespace);
    row.connect = Some(ConnectInstance { namespace, since, drains_until: None });
    Some(row)
}

/// An instance of a task that is to stop, as it is until it goes; none of one that is not of an endpoint, or whose time
/// is over.
fn draining(view: &View, row: &MapInstance, now: Timestamp) -> Option<MapInstance> {
    let connect = row.connect.as_ref()?;
    let until = connect.drains_until.unwrap_or_else(|| {
        let service = view.map_services.get(row.scope.account, &row.service);
        let endpoint = service.and_then(|it| it.connect.as_ref()).map(|it| &it.endpoint);
        let request_ms = endpoint.map_or(0, |it| u64::from(it.request_s) * 1_000);
        let is_flow = endpoint.is_some_and(|it| it.protocol == ConnectProtocol::Tcp);
        let most_ms = match (is_flow, request_ms) {
            (true, _) => FLOW_DRAIN_MS,
            (false, 0) => REQUEST_DRAIN_MS_MAX,
            (false, ms) => ms.min(REQUEST_DRAIN_MS_MAX),
        };
        now.plus_ms(most_ms)
    });
    let connect = ConnectInstance { drains_until: Some(until), ..connect.clone() };
    (now < until).then(|| MapInstance { connect: Some(connect), ..row.clone() })
}

/// A service of Cloud Map that Service Connect made.
type Which = (AccountId, MapId);

/// Has the services behind endpoints be as their owners' revisions offer them, and takes away those that nobody offers.
#[derive(Debug)]
pub(crate) struct Endpoints {
    control: Arc<Control>,
}

impl Endpoints {
    pub(crate) fn new(ecs: &Arc<Ecs>) -> Self {
        Self { control: Arc::clone(&ecs.control) }
    }
}

/// How the revisions of a service's deployments offer what is behind a service of Cloud Map: that of the service itself
/// first, then that of whichever still has tasks, then that which a rollback goes back to: it makes no endpoints anew.
fn offer<'v>(
    view: &'v View,
    account: AccountId,
    owner: &ServiceId,
    id: &MapId,
) -> Option<&'v ConnectOffer> {
    let service = view.services.get(account, owner)?;
    let deployments = view.deployments_of(account, owner).filter(|row| row.rank < Rank::Gone);
    let revisions = service.revision.into_iter().chain(deployments.map(|row| row.revision));
    let revisions = revisions.chain(view.completed_revision(account, owner));
    let mut offers = revisions
        .filter_map(|revision| view.revision_of(account, owner, revision)?.connect.as_ref())
        .flat_map(|connect| &connect.offers);
    let is_over = service.status != ServiceStatus::Active;
    offers.find(|offer| offer.service == *id && !is_over)
}

fn reconcile(view: &View, (account, id): &Which) -> Batch {
    let mut batch = Batch::on(view);
    let Some(row) = view.map_services.get(*account, id) else { return batch };
    let Some(made) = &row.connect else { return batch };
    batch.rely(Key::Service(*account, made.owner.clone()));
    match offer(view, *account, &made.owner, id) {
        Some(offer) if offer.endpoint == made.endpoint => {}
        Some(offer) => {
            let (owner, endpoint) = (made.owner.clone(), offer.endpoint.clone());
            let connect = Some(MapConnect { owner, endpoint });
            batch.put(MapService { connect, ..MapService::clone(row) });
        }
        // Its instances are tasks, which go first.
        None if view.member_count(&Index::MapInstances(*account, Arc::clone(id))) == 0 => {
            batch.rely(Index::MapInstances(*account, Arc::clone(id)));
            batch.delete(Key::MapService(*account, Arc::clone(id)));
        }
        None => {}
    }
    batch
}

impl Reconciler for Endpoints {
    type Key = Which;
    type Note = ();
    type Error = ApiError;

    fn name(&self) -> &'static str {
        "service-connect-endpoints"
    }

    fn wake(&mut self, view: &View, change: &Change, queue: &mut Queue<Which>) {
        let (account, service) = match &change.key {
            Key::Service(account, id) => (*account, id),
            Key::Deployment(account, key) => (*account, &key.service),
            Key::MapInstance(account, key) => {
                let row = view.map_services.get(*account, &key.service);
                if row.is_some_and(|row| row.connect.is_some()) {
                    queue.changed(&(*account, Arc::clone(&key.service)), change.seq);
                }
                return;
            }
            _ => return,
        };
        for key in view.members(&Index::MapConnectsOf(account, service.clone())) {
            if let Key::MapService(account, id) = key {
                queue.changed(&(*account, Arc::clone(id)), change.seq);
            }
        }
    }

    fn keys(&mut self, view: &View) -> Vec<Which> {
        let made = view.map_services.iter().filter(|row| row.connect.is_some());
        made.map(|row| (row.scope.account, Arc::clone(&row.id))).collect()
    }

    fn pass(&self, key: &Which) -> PassFuture<Result<Pass<()>, ApiError>> {
        let (control, key) = (Arc::clone(&self.control), key.clone());
        Box::pin(async move {
            let decided = control.decide(|view, _| Ok((reconcile(view, &key), view.seq)));
            let looked_at = decided.await?;
            Ok(Pass { looked_at, is_over: true, ..Pass::default() })
        })
    }
}
