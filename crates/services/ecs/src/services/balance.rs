//! A service's tasks as targets of load balancers: registered once they run, deregistered before they are told to stop.
//!
//! Whatever stops a task, its row first turns to wanted stopped while its agent still hears that it is to run
//! (`Task::is_held`). Here its targets are set to drain; once all of them are gone, which who watches them writes
//! (`control::targets`), or this pass finds, the agent is told.
//!
//! **Invariant:** a task and its targets are registered in one batch, and a task that is to stop is never registered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use control::iam::Assumption;
use control::targets::{INSTANCE_ADDRESS, instance_name};
use control::traffic::{forward_of, to_change};
use longshore_types::{AccountId, DeploymentId, TaskId, Timestamp};
use model::elb::{ElbPath, GroupTargets, TargetHealth, TargetId, TargetTask};
use model::service::{AlternateGroup, Deployment, Rank, ServiceBalancer, ServiceEventKind, Stage};
use model::task::{Desired, Input, Phase, Task, step};
use model::{ElbGroup, ElbTarget, Key, View};
use plan::service::{Balance, Snapshot, TargetFailure};
use store::Batch;

use crate::Ecs;

/// Why a task has to wait for the next pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotYet {
    /// The batch takes no more rows.
    Room,
    /// Its address is still a target of the task that had it before.
    Address,
}

/// A port of tasks, and the group that they are registered in with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer<'v> {
    pub(super) group: &'v ElbPath,
    balancer: &'v ServiceBalancer,
}

/// What is registered of tasks behind load balancers, by their deployments.
pub(super) type Balanced<'v> = BTreeMap<DeploymentId, Vec<Offer<'v>>>;

pub(super) fn balanced<'v>(snapshot: &Snapshot<'v>) -> Balanced<'v> {
    let offers = snapshot.deployments.iter().filter_map(|row| {
        let all = snapshot.balancers.get(&row.id)?.iter().enumerate();
        // Where two groups are named, the reconciler has chosen one before there are tasks.
        let offers = all.map(|(at, balancer)| Offer {
            group: row.groups.get(at).unwrap_or(&balancer.group),
            balancer,
        });
        Some((row.id, offers.collect::<Vec<_>>()))
    });
    offers.filter(|(_, offers)| !offers.is_empty()).collect()
}

/// The load balancers of each deployment's revision.
fn balancers<'v>(
    view: &'v View,
    snapshot: &Snapshot<'v>,
) -> BTreeMap<DeploymentId, &'v [ServiceBalancer]> {
    let (account, service) = (snapshot.service.scope.account, snapshot.service.key());
    let with_revision = snapshot.deployments.iter().filter_map(|row| {
        let revision = view.revision_of(account, &service, row.revision)?;
        Some((row.id, revision.load_balancers.as_slice()))
    });
    with_revision.collect()
}

/// Adds what is known of load balancers: how they find tasks, and where their rules forward to.
pub(crate) fn load_balance<'v>(ecs: &Ecs, view: &'v View, snapshot: &mut Snapshot<'v>) {
    snapshot.balancers = balancers(view, snapshot);
    snapshot.balance = balances(view, snapshot);
    snapshot.offered = offered(view, snapshot);
    let account = snapshot.service.scope.account;
    let pairs = || snapshot.balancers.values().flat_map(|all| all.iter());
    let mut forwards = BTreeMap::new();
    for pair in pairs().filter_map(|each| each.alternate.as_ref()) {
        for rule in std::iter::once(&pair.production).chain(&pair.test) {
            if let Some(groups) = forward_of(view, account, rule) {
                forwards.insert(rule.clone(), groups.to_vec());
            }
        }
    }
    // Roles are asked only while rules may be changed with them.
    let is_shifting = |row: &&Deployment| {
        row.rank == Rank::Primary && matches!(row.stage, Stage::Pending | Stage::InProgress)
    };
    let mut powerless = BTreeSet::new();
    for row in snapshot.deployments.iter().copied().filter(is_shifting) {
        if row.settings.strategy.is_rolling() {
            continue;
        }
        let all = snapshot.balancers.get(&row.id).copied().unwrap_or_default();
        for pair in all.iter().filter_map(|each| each.alternate.as_ref()) {
            if !may_shift(ecs, view, row, pair, snapshot.now) {
                powerless.insert(pair.role.as_str());
            }
        }
    }
    (snapshot.forwards, snapshot.powerless_roles) = (forwards, powerless);
}

/// The deployments whose tasks are reached by Service Connect.
fn offered(view: &View, snapshot: &Snapshot<'_>) -> BTreeSet<DeploymentId> {
    let (account, service) = (snapshot.service.scope.account, snapshot.service.key());
    let offers = |row: &&&Deployment| {
        let revision = view.revision_of(account, &service, row.revision);
        let connect = revision.and_then(|revision| revision.connect.as_ref());
        connect.is_some_and(|connect| !connect.offers.is_empty())
    };
    snapshot.deployments.iter().filter(offers).map(|row| row.id).collect()
}

/// Whether the role of a pair of groups may change their rules.
fn may_shift(
    ecs: &Ecs,
    view: &View,
    row: &Deployment,
    pair: &AlternateGroup,
    now: Timestamp,
) -> bool {
    let source = row.service_arn().to_string();
    let asked = Assumption {
        role: &pair.role,
        service: "ecs.amazonaws.com",
        source: &source,
        source_account: row.scope.account,
        session_name: "ecs-service-scheduler",
        lasts_ms: 60_000,
    };
    let Ok(caller) = ecs.control.acting_as(view, &asked, now) else { return false };
    std::iter::once(&pair.production).chain(&pair.test).all(|rule| {
        let permission = to_change(view, &row.scope, rule);
        ecs.control.authorize(view, &caller, &permission).is_ok()
    })
}

pub(super) fn serves(task: &Task) -> bool {
    task.phase == Phase::Running && task.desired == Desired::Running
}

/// Whether a task is a target of load balancers, or is to be one.
fn is_balanced(balanced: &Balanced<'_>, task: &Task) -> bool {
    let deployment = task.service.as_ref().map(|service| service.deployment);
    let is_to_be = deployment.is_some_and(|id| balanced.contains_key(&id));
    task.is_registered() || (is_to_be && serves(task))
}

/// How load balancers find each task that runs and has some.
fn balances(view: &View, snapshot: &Snapshot<'_>) -> BTreeMap<TaskId, Balance> {
    let balanced = balanced(snapshot);
    let tasks = snapshot.tasks.iter().filter(|task| serves(task));
    tasks
        .filter(|task| is_balanced(&balanced, task))
        .map(|task| (task.id, balance(view, snapshot, &balanced, task)))
        .collect()
}

fn balance(view: &View, snapshot: &Snapshot<'_>, balanced: &Balanced<'_>, task: &Task) -> Balance {
    let account = snapshot.service.scope.account;
    let deployment = task.service.as_ref().map(|service| service.deployment);
    let offers = deployment.and_then(|id| balanced.get(&id));
    let wanted = offers.map_or(1, Vec::len);
    let mut healthy = 0;
    for row in view.targets_of_task(account, task.id) {
        match row.health {
            TargetHealth::Healthy => healthy += 1,
            TargetHealth::Unhealthy(failure) => {
                let id = &row.id;
                let group = view.elb_groups.get(account, &id.group);
                let is_instance =
                    group.is_some_and(|group| group.targets == GroupTargets::Instance);
                return Balance::Failing(TargetFailure {
                    group: model::elb::arn(&snapshot.service.scope, "targetgroup", &id.group),
                    instance: is_instance.then(|| id.target.to_string()),
                    port: id.port,
                    why: failure.to_string(),
                });
            }
            TargetHealth::Initial | TargetHealth::Draining { .. } => {}
        }
    }
    // What somebody deregistered, or deleted with its group, is awaited for ever: it serves no more.
    if wanted <= healthy { Balance::Healthy } else { Balance::Awaited }
}

/// Whether a pass would register or deregister something.
pub(super) fn is_balance_due(ecs: &Ecs, view: &View, snapshot: &Snapshot<'_>) -> bool {
    let mut targets = Targets::new(ecs, view, snapshot, snapshot.now);
    snapshot.tasks.iter().any(|task| {
        targets.concern(task)
            && (targets.follow(task, usize::MAX) != Ok(None) || targets.rows() > 0)
    })
}

/// What a pass does about targets.
#[derive(Debug)]
pub(super) struct Targets<'t> {
    ecs: &'t Ecs,
    view: &'t View,
    snapshot: &'t Snapshot<'t>,
    account: AccountId,
    balanced: Balanced<'t>,
    now: Timestamp,
    registered: Vec<ElbTarget>,
    draining: Vec<ElbTarget>,
    gone: Vec<TargetId>,
    /// Tasks whose requests in flight are waited for from now on.
    begun: u32,
}

impl<'t> Targets<'t> {
    pub(super) fn new(
        ecs: &'t Ecs,
        view: &'t View,
        snapshot: &'t Snapshot<'t>,
        now: Timestamp,
    ) -> Self {
        Self {
            ecs,
            view,
            snapshot,
            account: snapshot.service.scope.account,
            balanced: balanced(snapshot),
            now,
            registered: vec![],
            draining: vec![],
            gone: vec![],
            begun: 0,
        }
    }

    /// Whether something may have to be done for a task's targets.
    pub(super) fn concern(&self, task: &Task) -> bool {
        is_balanced(&self.balanced, task)
    }

    /// Rows that will be written besides tasks.
    pub(super) fn rows(&self) -> usize {
        self.registered.len() + self.draining.len() + self.gone.len()
    }

    /// Does what is due for a task, as it is by now, and says what becomes of its row.
    pub(super) fn follow(&mut self, task: &Task, rows_left: usize) -> Result<Option<Task>, NotYet> {
        if task.phase == Phase::Stopped {
            return self.forget(task, rows_left).map(|()| None);
        }
        if task.is_held() && task.is_registered() {
            return self.deregister(task, rows_left);
        }
        if !task.is_registered() {
            return self.register(task, rows_left);
        }
        Ok(None)
    }

    fn register(&mut self, task: &Task, rows_left: usize) -> Result<Option<Task>, NotYet> {
        let deployment = task.service.as_ref().map(|service| service.deployment);
        let offers = deployment.and_then(|id| self.balanced.get(&id));
        let Some(offers) = offers else { return Ok(None) };
        let mut rows = Vec::new();
        for Offer { group, balancer: each } in offers {
            // Whatever is missing, a group or a port, is waited for.
            let Some(group) = self.view.elb_groups.get(self.account, group) else {
                return Ok(None);
            };
            let Some((id, address)) = self.place(task, group, each) else { return Ok(None) };
            let known = self.view.elb_targets.get(self.account, &id);
            if known.is_some_and(|row| row.task.is_some()) {
                return Err(NotYet::Address);
            }
            rows.push(ElbTarget {
                scope: self.snapshot.service.scope.clone(),
                id,
                address,
                zone: task.zone.as_deref().map(str::to_owned),
                registered_at: self.now,
                health: TargetHealth::Initial,
                unhealthy_since: None,
                task: Some(TargetTask { service: self.snapshot.service.key(), task: task.id }),
            });
        }
        if rows.is_empty() {
            return Ok(None);
        }
        if rows_left < rows.len() + 1 {
            return Err(NotYet::Room);
        }
        let next = step(task, &Input::TargetsRegistered, self.now);
        if next.is_some() {
            self.registered.extend(rows);
        }
        Ok(next)
    }

    /// What a task is registered as in a group, and where it is reached.
    fn place(
        &self,
        task: &Task,
        group: &ElbGroup,
        balancer: &ServiceBalancer,
    ) -> Option<(TargetId, Ipv4Addr)> {
        let path: ElbPath = group.path();
        if group.targets == GroupTargets::Alb {
            return None;
        }
        if group.targets == GroupTargets::Ip {
            // An address of another VPC is somebody else's in the group's.
            let own_vpc = self.view.own_vpc(self.account, &group.vpc);
            let interface = task.interface.as_ref().filter(|it| it.own_vpc == own_vpc)?;
            let address = interface.address;
            let target = address.to_string().into();
            return Some((TargetId { group: path, target, port: balancer.port }, address));
        }
        let instance = self.view.instance_of_any(task.instance?)?;
        // Of another one neither its ports nor what its agent says of them is here.
        if !self.ecs.control.access.is_of_own_machine(instance) {
            return None;
        }
        let container =
            task.containers.iter().find(|each| each.name.as_str() == balancer.container)?;
        let bindings = container.seen.bindings.iter();
        let port = bindings
            .filter(|binding| binding.container_port == Some(balancer.port))
            .find_map(|binding| binding.host_port)?;
        let target = instance_name(instance).into();
        Some((TargetId { group: path, target, port }, INSTANCE_ADDRESS))
    }

    fn deregister(&mut self, task: &Task, rows_left: usize) -> Result<Option<Task>, NotYet> {
        let rows = self.view.targets_of_task(self.account, task.id);
        let rows: Vec<&ElbTarget> = rows.map(AsRef::as_ref).collect();
        if rows.is_empty() {
            return Ok(step(task, &Input::TargetsGone, self.now));
        }
        let live: Vec<&ElbTarget> = rows.into_iter().filter(|row| !row.is_draining()).collect();
        if rows_left < live.len() {
            return Err(NotYet::Room);
        }
        self.begun += u32::from(!live.is_empty());
        for row in live {
            let group = self.view.elb_groups.get(self.account, &row.id.group);
            let delay_ms = group.map_or(0, |group| group.deregistration_delay_ms());
            let health = TargetHealth::Draining { until: self.now.plus_ms(delay_ms) };
            self.draining.push(row.with_health(health, self.now));
        }
        Ok(None)
    }

    /// Of a task that is no more: there is nothing to wait for.
    fn forget(&mut self, task: &Task, rows_left: usize) -> Result<(), NotYet> {
        let rows = self.view.targets_of_task(self.account, task.id);
        let gone: Vec<TargetId> = rows.map(|row| row.id.clone()).collect();
        if rows_left < gone.len() {
            return Err(NotYet::Room);
        }
        self.gone.extend(gone);
        Ok(())
    }

    /// Writes the targets, and says what there is to say of them.
    pub(super) fn write(self, batch: &mut Batch) -> Vec<ServiceEventKind> {
        let scope = &self.snapshot.service.scope;
        let count = |ids: &mut dyn Iterator<Item = &TargetId>| {
            let mut counts: BTreeMap<String, u32> = BTreeMap::new();
            for id in ids {
                *counts.entry(model::elb::arn(scope, "targetgroup", &id.group)).or_default() += 1;
            }
            counts
        };
        let mut events = Vec::new();
        for (group, targets) in count(&mut self.registered.iter().map(|row| &row.id)) {
            events.push(ServiceEventKind::TargetsRegistered { group, targets });
        }
        let left = self.draining.iter().map(|row| &row.id).chain(&self.gone);
        for (group, targets) in count(&mut left.into_iter()) {
            events.push(ServiceEventKind::TargetsDeregistered { group, targets });
        }
        if self.begun > 0 {
            events.push(ServiceEventKind::DrainBegun { task_set: None, tasks: self.begun });
        }
        for row in &self.registered {
            batch.rely(Key::ElbGroup(self.account, row.id.group.clone()));
            batch.rely(Key::ElbTarget(self.account, row.id.clone()));
        }
        batch.writes.extend(self.registered.into_iter().map(Into::into));
        batch.writes.extend(self.draining.into_iter().map(Into::into));
        let account = self.account;
        batch.deletes.extend(self.gone.into_iter().map(|id| Key::ElbTarget(account, id)));
        events
    }
}
