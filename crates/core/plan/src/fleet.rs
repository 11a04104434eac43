//! A cluster's instances with what is left of them, kept from ask to ask.
//!
//! What changes is told to it (an instance came, a task went), and an ask costs what changed since the
//! like was asked before, not a look at each instance. For each shape of ask there is a queue of the
//! instances that would do, best first; instances that are alike in all that does not change with
//! tasks form a class and are judged once.
//!
//! **Invariants:** it answers as [`crate::plan()`] does; nothing is given away twice; what was placed and
//! given back leaves no trace.

mod groups;
mod hosts;
mod queue;
mod queues;
mod shape;

use std::sync::Arc;

use longshore_types::InstanceId;
use model::Instance;
use model::instance::InstanceStatus;
use model::task::Need;

use crate::host::Occupant;
use crate::placement::{Ask, Plan, Pool};
use crate::strategy::next_seed;
use groups::GroupId;
use hosts::Hosts;
use queues::Queues;

pub use queues::Limits;

/// A cluster's instances, and queues for what is asked of them.
#[derive(Debug, Default)]
pub struct Fleet {
    hosts: Hosts,
    queues: Queues,
    placed: Vec<Placed>,
}

/// A task that was placed and is not yet known to exist.
#[derive(Debug)]
struct Placed {
    instance: InstanceId,
    need: Arc<Need>,
    group: GroupId,
}

impl Fleet {
    pub fn within(limits: Limits) -> Self {
        Self { queues: Queues::within(limits), ..Self::default() }
    }

    /// Takes an instance in, or what is new about one; its tasks stay.
    pub fn put_instance(&mut self, instance: Arc<Instance>) {
        self.hosts.put(instance);
    }

    /// Lets an instance go. Its tasks are remembered, should it come back.
    pub fn remove_instance(&mut self, id: InstanceId) {
        if let Some(slot) = self.hosts.remove(id) {
            self.queues.forget(slot);
        }
    }

    /// What a task takes, as it was and as it is.
    pub fn change_task(&mut self, before: Option<Occupant<'_>>, now: Option<Occupant<'_>>) {
        if let (Some(old), Some(new)) = (before, now)
            && old == (Occupant { is_running: old.is_running, ..new })
        {
            if old.is_running != new.is_running {
                self.hosts.count_running(new.instance, new.is_running);
            }
            return;
        }
        if let Some(old) = before
            && let Some(group) = self.hosts.groups.id_of(old.group)
        {
            self.hosts.take_off(old.instance, old.need, group, old.is_running);
        }
        if let Some(new) = now {
            let group = self.hosts.groups.enter(new.group);
            self.hosts.put_on(new.instance, new.need, group, new.is_running);
        }
    }

    /// Finds places for `count` tasks, and takes them: until [`Fleet::give_back`] the tasks count as
    /// if they were there. `seed` stands for chance; ties go to the lowest id.
    pub fn place(&mut self, ask: &Ask<'_>, count: u32, mut seed: u64) -> Plan {
        let mut plan = Plan::default();
        if count == 0 {
            return plan;
        }
        let ask = &Ask { zones: self.binding_zones(ask.zones, ask.pool), ..*ask };
        let group = self.hosts.groups.enter(ask.group);
        let queue = self.queues.of(ask, group, &self.hosts);
        queue.begin(&self.hosts, group);
        let mut need = None;
        for _ in 0..count {
            let Some(slot) = queue.best(&self.hosts, seed) else {
                plan.refusals = Some(queue.refusals(&self.hosts));
                break;
            };
            let instance = self.hosts.slot(slot).id;
            self.hosts.put_on(instance, ask.need, group, false);
            let need = need.get_or_insert_with(|| Arc::new(ask.need.clone()));
            self.placed.push(Placed { instance, need: Arc::clone(need), group });
            plan.placements.push(instance);
            queue.placed(slot, &self.hosts);
            seed = next_seed(seed);
        }
        self.hosts.groups.leave_if_empty(group);
        plan
    }

    /// Counts a task as if it were there, until [`Fleet::give_back`].
    pub fn assume(&mut self, task: Occupant<'_>) {
        let group = self.hosts.groups.enter(task.group);
        self.hosts.put_on(task.instance, task.need, group, false);
        let need = Arc::new(task.need.clone());
        self.placed.push(Placed { instance: task.instance, need, group });
    }

    /// Undoes what was placed since the last time: whoever made the tasks tells of them as tasks,
    /// and whoever could not make them says nothing.
    pub fn give_back(&mut self) {
        for placed in std::mem::take(&mut self.placed) {
            self.hosts.take_off(placed.instance, &placed.need, placed.group, false);
        }
    }

    /// Takes what was placed as given for good: for worlds in which placing is all that happens.
    pub fn keep(&mut self) {
        self.placed.clear();
    }

    pub fn instance(&self, id: InstanceId) -> Option<&Arc<Instance>> {
        self.hosts.get(id).map(|slot| &slot.instance)
    }

    /// The zone of an instance. Asked of its class: placements are on many instances, which are of few.
    pub fn zone(&self, id: InstanceId) -> Option<&str> {
        self.hosts.zone(id)
    }

    /// Every instance, by id.
    pub fn instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.hosts.iter().map(|(_, slot)| &slot.instance)
    }

    /// Whether there is an instance in the pool that takes new tasks at all.
    pub fn has_active(&self, pool: Pool<'_>) -> bool {
        self.hosts.classes().any(|(_, sample)| {
            sample.status == InstanceStatus::Active && crate::fit::is_in_pool(sample, pool)
        })
    }

    /// The zones that bind tasks in the pool, of those of their subnets.
    pub fn binding_zones<'z>(&self, zones: &'z [String], pool: Pool<'_>) -> &'z [String] {
        let samples = self.hosts.classes().map(|(_, sample)| sample.as_ref());
        crate::fit::binding_zones(zones, pool, samples)
    }

    /// How many instances it has.
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.hosts.len() == 0
    }
}
