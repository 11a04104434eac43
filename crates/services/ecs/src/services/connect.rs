//! What Service Connect has in Cloud Map: the services behind endpoints, and the instances that tasks are of them.
//!
//! A task is an instance from when it runs, with its containers' checks passed, until it is to stop. Then nothing new is
//! led to it; once every host's proxy said that it does not and holds nothing of it any more, or its time is over, the
//! instance goes, and with it what kept the task from being told.
//!
//! **Invariant:** a task that is an instance of an endpoint is connected, in the batch in which it becomes one; and a task
//! that is to stop is told so in the batch in which the last of its instances goes, never before.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_wire::ApiError;
use control::authority::{authority_arn, renewal_of};
use control::iam::Assumption;
use control::kms::{KeyUse, NamedKey};
use control::reconcile::{Pass, PassFuture, Queue, Reconciler};
use control::{Control, Permission};
use longshore_types::{AccountId, Chain, Scope, ServiceArn, Timestamp};
use model::discovery::{
    ConnectInstance, EndpointCertificate, EndpointGreen, EndpointSplit, MapConnect, MapId,
};
use model::service::{
    ConnectOffer, ConnectProtocol, Deployment, OfferTls, Rank, Service, ServiceConnect,
    ServiceStatus, TEST_HEADER, TestHeader,
};
use model::task::{Desired, Health, Phase, Task};
use model::{Index, Key, MapInstance, MapService, ServiceId, View};
use plan::service::split::{Green, split};
use store::{Batch, Change};
use tracing::{info, warn};

use super::registries::described;
use crate::Ecs;

/// How long what a task serves by TCP, and by requests that may take as long as they take, may go on once it is to stop.
const FLOW_DRAIN_MS: u64 = 10_000;
const REQUEST_DRAIN_MS_MAX: u64 = 30_000;
/// What a certificate is made by, as roles' policies name it.
const TEMPLATE: &str = "arn:aws:acm-pca:::template/EndEntityCertificate/V1";
/// How soon it is tried again to sign one.
const SIGN_PAUSE_MS: u64 = 60_000;
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
    let port = ("AWS_INSTANCE_PORT".to_owned(), offer.port().to_string());
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
fn offers<'v>(
    view: &'v View,
    account: AccountId,
    owner: &'v ServiceId,
    id: &'v MapId,
) -> impl Iterator<Item = &'v ConnectOffer> {
    let service = view.services.get(account, owner);
    let service = service.filter(|service| service.status == ServiceStatus::Active);
    let deployments = view.deployments_of(account, owner).filter(|row| row.rank < Rank::Gone);
    let own = service.and_then(|service| service.revision);
    let revisions = own.into_iter().chain(deployments.map(|row| row.revision));
    let revisions = revisions.chain(view.completed_revision(account, owner));
    let is_active = service.is_some();
    revisions
        .filter(move |_| is_active)
        .filter_map(move |revision| view.revision_of(account, owner, revision)?.connect.as_ref())
        .flat_map(|connect| &connect.offers)
        .filter(move |offer| offer.service == *id)
}

/// Whether a certificate may be signed in the name of the role that is passed with an offer, where one is.
pub(crate) fn may_sign(
    control: &Control,
    view: &View,
    (scope, service): (&Scope, &ServiceId),
    tls: &OfferTls,
    now: Timestamp,
) -> bool {
    let Some(role) = &tls.role else { return true };
    let (cluster, service) = (service.cluster.clone(), service.name.clone());
    let source = ServiceArn { scope: scope.clone(), cluster, service }.to_string();
    let asked = Assumption {
        role,
        service: "ecs.amazonaws.com",
        source: &source,
        source_account: scope.account,
        session_name: "ecs-service-connect-tls",
        lasts_ms: 60_000,
    };
    let Ok(caller) = control.acting_as(view, &asked, now) else { return false };
    let permission = Permission::to("acm-pca:IssueCertificate")
        .on(authority_arn(scope))
        .with("acm-pca:TemplateArn", TEMPLATE)
        .with("aws:ResourceTag/AmazonECSManaged", "true");
    let may_seal = |action| {
        let Some((owner, id)) = tls.kms_key else { return true };
        let Some(key) = view.kms_keys.get(owner, &id).cloned() else { return false };
        let named = NamedKey { key, alias: None };
        let asked = KeyUse { action, via: Some("secretsmanager"), context: &BTreeMap::new() };
        let permission = control.key_permission(&caller, view, &named, &asked);
        control.authorize(view, &caller, &permission).is_ok()
    };
    control.authorize(view, &caller, &permission).is_ok()
        && may_seal("kms:GenerateDataKey")
        && may_seal("kms:Decrypt")
}

/// The certificate that an endpoint is to have, and when it is to be looked at again. One that cannot be signed anew stays as
/// long as it is good.
fn certificate(
    control: &Control,
    view: &View,
    batch: &mut Batch,
    row: &MapService,
    now: Timestamp,
) -> (Option<EndpointCertificate>, Option<Timestamp>) {
    let Some(made) = &row.connect else { return (None, None) };
    let mut offers = offers(view, row.scope.account, &made.owner, &row.id);
    let Some(tls) = offers.find_map(|offer| offer.tls.as_ref()) else { return (None, None) };
    let known = made.certificate.as_ref();
    if let Some(known) = known.filter(|it| it.sealed_by == tls.kms_key && now < renewal_of(it)) {
        return (Some(known.clone()), Some(renewal_of(known)));
    }
    let of = (&row.scope, &made.owner);
    let signed = match may_sign(control, view, of, tls, now) {
        true => control.sign_for_endpoint(view, batch, row, tls, now),
        false => Err(ApiError::client("AccessDeniedException", "the role may not sign it")),
    };
    match signed {
        Ok(signed) => {
            let again_at = renewal_of(&signed);
            info!(endpoint = %row.id, "certificate of an endpoint signed");
            (Some(signed), Some(again_at))
        }
        Err(error) => {
            warn!(endpoint = %row.id, error = %Chain(&error), "an endpoint's certificate cannot be signed");
            (known.filter(|it| now < it.not_after).cloned(), Some(now.plus_ms(SIGN_PAUSE_MS)))
        }
    }
}

/// The services behind a service's endpoints whose traffic is to be parted otherwise, as its deployments are.
pub(super) fn parted(view: &View, service: &Service, rows: &[&Deployment]) -> Vec<MapService> {
    let (account, id) = (service.scope.account, service.key());
    let split = split(rows);
    let members = view.members(&Index::MapConnectsOf(account, id.clone()));
    let known = members.filter_map(|key| match key {
        Key::MapService(account, id) => view.map_services.get(*account, id),
        _ => None,
    });
    let parted = known.filter_map(|row| {
        let made = row.connect.as_ref()?;
        let next = split.as_ref().map(|split| EndpointSplit {
            green: split.green.map(|green| EndpointGreen {
                deployment: green.deployment,
                production: green.production,
                test: test_of(view, (account, &id), rows, green, &row.id),
            }),
            off: split.off.clone(),
        });
        let connect = MapConnect { split: next, ..made.clone() };
        (connect != *made).then(|| MapService { connect: Some(connect), ..MapService::clone(row) })
    });
    parted.collect()
}

/// What tells tests of green at an endpoint, while they go there.
fn test_of(
    view: &View,
    (account, service): (AccountId, &ServiceId),
    rows: &[&Deployment],
    green: Green,
    endpoint: &MapId,
) -> Option<TestHeader> {
    let row = rows.iter().find(|row| row.id == green.deployment).filter(|_| green.is_tested)?;
    let connect = view.revision_of(account, service, row.revision)?.connect.as_ref()?;
    let offer = connect.offers.iter().find(|offer| offer.service == *endpoint)?;
    let usual = || TestHeader { name: TEST_HEADER.to_owned(), value: None };
    Some(offer.test.clone().unwrap_or_else(usual))
}

fn reconcile(
    control: &Control,
    view: &View,
    (account, id): &Which,
    now: Timestamp,
) -> (Batch, Option<Timestamp>) {
    let mut batch = Batch::on(view);
    let Some(row) = view.map_services.get(*account, id) else { return (batch, None) };
    let Some(made) = &row.connect else { return (batch, None) };
    batch.rely(Key::Service(*account, made.owner.clone()));
    let mut again_at = None;
    match offers(view, *account, &made.owner, id).next() {
        Some(offer) => {
            let mut next = made.clone();
            next.endpoint = offer.endpoint.clone();
            (next.certificate, again_at) = certificate(control, view, &mut batch, row, now);
            if next != *made {
                batch.put(MapService { connect: Some(next), ..MapService::clone(row) });
            }
        }
        // Its instances are tasks, which go first.
        None if view.member_count(&Index::MapInstances(*account, Arc::clone(id))) == 0 => {
            batch.rely(Index::MapInstances(*account, Arc::clone(id)));
            batch.delete(Key::MapService(*account, Arc::clone(id)));
        }
        None => {}
    }
    (batch, again_at)
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
            let decided = control.decide(|view, now| {
                let (batch, again_at) = reconcile(&control, view, &key, now);
                Ok((batch, (view.seq, again_at)))
            });
            let (looked_at, again_at) = decided.await?;
            Ok(Pass { looked_at, again_at, is_over: again_at.is_none(), ..Pass::default() })
        })
    }
}
