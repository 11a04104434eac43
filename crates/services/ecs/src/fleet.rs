//! Where tasks go, kept from decision to decision: a fleet a cluster, and the pool that Fargate is.
//!
//! Whoever places asks [`Ecs::fleet`] for a [`FleetReservation`] within a decision. It stands at the decision's
//! view: what changed since the view before was applied, and only that was looked at. What is placed on
//! a reservation counts until the reservation is dropped. Tasks that were committed come back with the next
//! view, and those that were not leave no trace.
//!
//! **Invariant:** a fleet is a function of its view. It may be thrown away at any time.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longshore_types::{AccountId, ClusterName, InstanceId, Resources};
use model::instance::{Instance, InstanceStatus};
use model::table::Table;
use model::task::Task;
use model::{Index, Key, RequiredAttribute, Row, Seq, View};
use plan::{Ask, FargatePool, Fleet, NoPlace, Occupant, Plan, Pool};
use store::Batch;

use crate::Ecs;

#[cfg(test)]
mod tests;

/// Fleets that nobody asked for through so many others are let go.
const IDLE_FLEETS_MAX: usize = 256;

/// What is kept of every cluster that tasks were placed in.
#[derive(Debug, Default)]
pub(crate) struct Fleets(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    seq: Seq,
    instances: Table<Instance>,
    tasks: Table<Task>,
    clusters: BTreeMap<(AccountId, ClusterName), Cluster>,
    fargate: Option<FargatePool>,
    asks: u64,
}

#[derive(Debug, Default)]
struct Cluster {
    fleet: Fleet,
    used: u64,
}

/// A cluster's instances as one decision sees them, with what it has placed so far.
///
/// While a reservation lives nobody else gets one. A decision that takes one after the other puts the tasks that
/// it made into its batch in between: that is where the next one finds them.
#[derive(Debug)]
pub(crate) struct FleetReservation<'r> {
    kept: MutexGuard<'r, Kept>,
    at: (AccountId, ClusterName),
    /// How many of the batch's writes were looked at.
    read: usize,
    /// What was placed here and was not yet among the batch's writes.
    unwritten: Vec<(InstanceId, String)>,
}

/// The instances that take Fargate tasks, as one decision sees them. As a [`FleetReservation`] otherwise.
#[derive(Debug)]
pub(crate) struct FargateReservation<'r>(MutexGuard<'r, Kept>);

impl Ecs {
    /// The instances of a cluster, to place tasks on within the decision that `view` was given to.
    pub(crate) fn fleet(
        &self,
        view: &View,
        account: AccountId,
        cluster: &ClusterName,
    ) -> FleetReservation<'_> {
        self.fleets.reservation(view, account, cluster)
    }

    /// The instances that take Fargate tasks, whosever they are.
    pub(crate) fn fargate(&self, view: &View) -> FargateReservation<'_> {
        self.fleets.fargate(view)
    }
}

impl FleetReservation<'_> {
    /// Finds places for `count` tasks that are alike, beside those that the batch has already, and counts
    /// them as taken. `seed` stands for chance.
    ///
    /// The batch relies on the instances that were chosen, and on no others.
    pub(crate) fn place_in(
        &mut self,
        batch: &mut Batch,
        ask: &Ask<'_>,
        count: u32,
        seed: u64,
    ) -> Plan {
        self.read(batch);
        let Some(cluster) = self.kept.clusters.get_mut(&self.at) else { return Plan::default() };
        let plan = cluster.fleet.place(ask, count, seed);
        self.unwritten.extend(plan.placements.iter().map(|id| (*id, ask.group.to_owned())));
        let mut chosen = plan.placements.clone();
        chosen.sort_unstable();
        chosen.dedup();
        for id in chosen {
            batch.rely(Key::ContainerInstance(self.at.0, id));
            batch.rely(Index::InstanceTasks(id));
        }
        plan
    }

    /// Counts the tasks that the batch puts on instances and that were not placed here. What the batch
    /// stops, is not taken for stopped yet.
    fn read(&mut self, batch: &Batch) {
        let kept = &mut *self.kept;
        let Some(cluster) = kept.clusters.get_mut(&self.at) else { return };
        for row in &batch.writes[self.read..] {
            let Row::Task(task) = row else { continue };
            let Some(occupant) = Occupant::of(task) else { continue };
            let before = kept.tasks.get(task.scope.account, &task.id);
            let is_there = before.is_some_and(|before| Occupant::of(before).is_some());
            if is_there || (task.scope.account, &task.cluster) != (self.at.0, &self.at.1) {
                continue;
            }
            let is_same = |(id, group): &(InstanceId, String)| {
                *id == occupant.instance && group == occupant.group
            };
            match self.unwritten.iter().position(is_same) {
                Some(at) => drop(self.unwritten.swap_remove(at)),
                None => cluster.fleet.assume(occupant),
            }
        }
        self.read = batch.writes.len();
    }

    /// Whether there is an instance in the pool that takes new tasks at all.
    pub(crate) fn has_active(&self, pool: Pool<'_>) -> bool {
        self.fleet().is_some_and(|fleet| fleet.has_active(pool))
    }

    /// The zones that bind tasks in the pool, of those of their subnets.
    pub(crate) fn binding_zones<'z>(&self, zones: &'z [String], pool: Pool<'_>) -> &'z [String] {
        self.fleet().map_or(&[], |fleet| fleet.binding_zones(zones, pool))
    }

    pub(crate) fn instance(&self, id: InstanceId) -> Option<&Arc<Instance>> {
        self.fleet()?.instance(id)
    }

    pub(crate) fn zone(&self, id: InstanceId) -> Option<&str> {
        self.fleet()?.zone(id)
    }

    fn fleet(&self) -> Option<&Fleet> {
        self.kept.clusters.get(&self.at).map(|cluster| &cluster.fleet)
    }
}

impl Drop for FleetReservation<'_> {
    fn drop(&mut self) {
        if let Some(cluster) = self.kept.clusters.get_mut(&self.at) {
            cluster.fleet.give_back();
        }
    }
}

impl FargateReservation<'_> {
    /// The place of a task that needs so much, counted as taken; in one of the zones, if there are instances.
    pub(crate) fn place(
        &mut self,
        need: Resources,
        requires: &[RequiredAttribute],
        zones: &[String],
    ) -> Result<InstanceId, NoPlace> {
        let pool = self.0.fargate.as_mut().ok_or(NoPlace::NoHost)?;
        pool.place(need, requires, zones)
    }

    /// Whether an instance in the zone takes tasks that ask for so much of what it is ([`selective`]).
    pub(crate) fn takes_in(&self, zone: &str, requires: &[RequiredAttribute]) -> bool {
        self.0.fargate.as_ref().is_some_and(|pool| pool.takes_in(zone, requires))
    }

    pub(crate) fn zone(&self, id: InstanceId) -> Option<&str> {
        self.0.fargate.as_ref()?.zone(id)
    }
}

impl Drop for FargateReservation<'_> {
    fn drop(&mut self) {
        if let Some(pool) = &mut self.0.fargate {
            pool.give_back();
        }
    }
}

impl Fleets {
    fn reservation(
        &self,
        view: &View,
        account: AccountId,
        cluster: &ClusterName,
    ) -> FleetReservation<'_> {
        let mut kept = self.at(view);
        let at = (account, cluster.clone());
        kept.open(view, &at);
        FleetReservation { kept, at, read: 0, unwritten: Vec::new() }
    }

    fn fargate(&self, view: &View) -> FargateReservation<'_> {
        let mut kept = self.at(view);
        if kept.fargate.is_none() {
            kept.fargate = Some(fargate_of(view));
        }
        FargateReservation(kept)
    }

    /// Goes along with the region, so that an old view is not held for those who may ask some day.
    pub(crate) fn follow(&self, view: &View) {
        drop(self.at(view));
    }

    /// What is kept, brought to `view`.
    fn at(&self, view: &View) -> MutexGuard<'_, Kept> {
        let mut kept = self.0.lock().unwrap_or_else(|poisoned| {
            // Whoever panicked may have left it between two views.
            let mut kept = PoisonError::into_inner(poisoned);
            *kept = Kept::default();
            self.0.clear_poison();
            kept
        });
        if kept.seq != view.seq {
            kept.follow(view);
        }
        kept
    }
}

impl Kept {
    /// Applies what differs between the view it stands at and this one, later or earlier.
    fn follow(&mut self, view: &View) {
        let instances = std::mem::replace(&mut self.instances, view.instances.clone());
        let tasks = std::mem::replace(&mut self.tasks, view.tasks.clone());
        self.seq = view.seq;
        if self.clusters.is_empty() && self.fargate.is_none() {
            return;
        }
        for (before, now) in view.instances.changes_since(&instances) {
            let (before, now) = (before.map(AsRef::as_ref), now);
            self.change_instance(before, now);
        }
        for (before, now) in view.tasks.changes_since(&tasks) {
            self.change_task(before.map(AsRef::as_ref), now.map(AsRef::as_ref));
        }
    }

    fn change_instance(&mut self, before: Option<&Instance>, now: Option<&Arc<Instance>>) {
        if let (Some(pool), Some(id)) =
            (&mut self.fargate, before.map(|row| row.id).or(now.map(|row| row.id)))
        {
            pool.change_instance(id, now);
        }
        let now = now.filter(|row| is_there(row));
        let stays = |row: &Instance| now.is_some_and(|now| home(now) == home(row));
        if let Some(row) = before.filter(|row| !stays(row))
            && let Some(cluster) = self.clusters.get_mut(&home(row))
        {
            cluster.fleet.remove_instance(row.id);
        }
        if let Some(row) = now
            && let Some(cluster) = self.clusters.get_mut(&home(row))
        {
            cluster.fleet.put_instance(Arc::clone(row));
        }
    }

    fn change_task(&mut self, before: Option<&Task>, now: Option<&Task>) {
        if let Some(pool) = &mut self.fargate {
            pool.change_task(before, now);
        }
        let at = |task: &Task| (task.scope.account, task.cluster.clone());
        let mut change = |at, before: Option<&Task>, now: Option<&Task>| {
            if let Some(cluster) = self.clusters.get_mut(&at) {
                let (before, now) = (before.and_then(Occupant::of), now.and_then(Occupant::of));
                cluster.fleet.change_task(before, now);
            }
        };
        match (before.map(at), now.map(at)) {
            (Some(from), Some(to)) if from != to => {
                change(from, before, None);
                change(to, None, now);
            }
            (Some(at), _) | (None, Some(at)) => change(at, before, now),
            (None, None) => {}
        }
    }

    /// Makes the cluster's fleet, if it is not kept yet.
    fn open(&mut self, view: &View, at: &(AccountId, ClusterName)) {
        self.asks += 1;
        if IDLE_FLEETS_MAX <= self.clusters.len() && !self.clusters.contains_key(at) {
            let idle = self.clusters.iter().min_by_key(|(_, cluster)| cluster.used);
            let idle = idle.map(|(at, _)| at.clone());
            idle.and_then(|at| self.clusters.remove(&at));
        }
        let cluster = match self.clusters.entry(at.clone()) {
            Entry::Occupied(kept) => kept.into_mut(),
            Entry::Vacant(free) => {
                let fleet = fleet_of(view, at);
                free.insert(Cluster { fleet, used: 0 })
            }
        };
        cluster.used = self.asks;
    }
}

/// Where an instance is.
fn home(instance: &Instance) -> (AccountId, ClusterName) {
    (instance.scope.account, instance.cluster.clone())
}

/// Whether placement knows of it: a deregistered one is not even refused.
fn is_there(instance: &Instance) -> bool {
    instance.status != InstanceStatus::Inactive
}

fn fleet_of(view: &View, (account, cluster): &(AccountId, ClusterName)) -> Fleet {
    let mut fleet = Fleet::default();
    for instance in view.instances_of_cluster(*account, cluster).filter(|row| is_there(row)) {
        fleet.put_instance(Arc::clone(instance));
    }
    for task in view.tasks_of_cluster(*account, cluster) {
        fleet.change_task(None, Occupant::of(task));
    }
    fleet
}

fn fargate_of(view: &View) -> FargatePool {
    let mut pool = FargatePool::default();
    for instance in view.instances.iter() {
        pool.change_instance(instance.id, Some(instance));
    }
    for (instance, _) in view.occupied_instances() {
        for task in view.tasks_on_instance(instance) {
            pool.change_task(None, Some(task));
        }
    }
    pool
}
