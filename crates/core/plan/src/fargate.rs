//! The instances that take Fargate tasks, and what room each has left: the one with the fewest tasks first.
//!
//! Room is what an instance offers less what all its tasks need, whosever they are and however they were launched:
//! a machine has its memory once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_types::{InstanceId, Resources};
use model::RequiredAttribute;
use model::instance::{Instance, InstanceStatus};
use model::task::Task;
use model::task_definition::{ARCHITECTURE_ATTRIBUTE, FENCE};

use crate::fit::by_nature;

/// Why a task found no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// No connected instance takes Fargate tasks.
    NoHost,
    /// Some do, and none has room for it.
    NoRoom,
}

/// Instances in the order in which Fargate tasks go to them, kept from ask to ask.
#[derive(Clone, Debug, Default)]
pub struct FargatePool {
    /// Of every instance that has tasks or takes them.
    rooms: BTreeMap<InstanceId, Room>,
    /// Those that take tasks, by their zone and how many they have. What has no zone is under no name.
    order: BTreeMap<String, BTreeSet<(u32, InstanceId)>>,
    placed: Vec<(InstanceId, Resources)>,
}

#[derive(Clone, Debug, Default)]
struct Room {
    /// Set while it takes tasks.
    open: Option<Arc<Instance>>,
    tasks: u32,
    cpu: u64,
    memory: u64,
}

impl Room {
    fn fits(&self, need: Resources) -> bool {
        let Some(instance) = &self.open else { return false };
        let has = |total: u64, taken: u64, needed: u32| taken + u64::from(needed) <= total;
        has(instance.fargate_cpu_units(), self.cpu, need.cpu.0)
            && has(u64::from(instance.total.memory.0), self.memory, need.memory.0)
    }

    fn put(&mut self, need: Resources) {
        self.tasks = self.tasks.saturating_add(1);
        self.cpu += u64::from(need.cpu.0);
        self.memory += u64::from(need.memory.0);
    }

    fn take_off(&mut self, need: Resources) {
        self.tasks = self.tasks.saturating_sub(1);
        self.cpu = self.cpu.saturating_sub(u64::from(need.cpu.0));
        self.memory = self.memory.saturating_sub(u64::from(need.memory.0));
    }
}

/// What sets hosts of Fargate apart, of all that a task requires. They are the region's own, and all can what Fargate
/// allows: they differ in their processors, and in whether they hold to a fence.
pub fn selective(requires: &[RequiredAttribute]) -> Vec<RequiredAttribute> {
    let differs = |it: &&RequiredAttribute| matches!(&*it.name, ARCHITECTURE_ATTRIBUTE | FENCE);
    requires.iter().filter(differs).cloned().collect()
}

impl FargatePool {
    /// An instance as it is now; `None` if it is gone.
    pub fn change_instance(&mut self, id: InstanceId, now: Option<&Arc<Instance>>) {
        let open = now.filter(|instance| {
            let is_active = instance.status == InstanceStatus::Active;
            is_active && instance.agent.connected && instance.takes_fargate()
        });
        self.change(id, |room| room.open = open.cloned());
    }

    /// A task as it was and as it is; `None` for not there.
    pub fn change_task(&mut self, before: Option<&Task>, now: Option<&Task>) {
        let place = |task: Option<&Task>| {
            let task = task.filter(|task| task.occupies())?;
            Some((task.instance?, task.need.resources))
        };
        let (before, now) = (place(before), place(now));
        if before == now {
            return;
        }
        if let Some((id, need)) = before {
            self.change(id, |room| room.take_off(need));
        }
        if let Some((id, need)) = now {
            self.change(id, |room| room.put(need));
        }
    }

    /// Whether an instance in the zone takes tasks that ask for so much of what it is. One that is full counts.
    pub fn takes_in(&self, zone: &str, requires: &[RequiredAttribute]) -> bool {
        let mut its = self.order.get(zone).into_iter().flatten();
        its.any(|(_, id)| {
            let open = self.rooms.get(id).and_then(|room| room.open.as_ref());
            open.is_some_and(|instance| by_nature(instance, requires, &[]).is_ok())
        })
    }

    /// The zone of an instance that takes tasks.
    pub fn zone(&self, id: InstanceId) -> Option<&str> {
        self.rooms.get(&id)?.open.as_ref()?.zone()
    }

    /// The place of one task, counted at once and until [`FargatePool::give_back`]: in one of the zones, if an instance in
    /// one of them takes tasks, and else in any.
    pub fn place(
        &mut self,
        need: Resources,
        requires: &[RequiredAttribute],
        zones: &[String],
    ) -> Result<InstanceId, NoPlace> {
        if self.order.is_empty() {
            return Err(NoPlace::NoHost);
        }
        let requires = selective(requires);
        let will_do = |(_, id): &&(u32, InstanceId)| {
            self.rooms.get(id).is_some_and(|room| {
                let is_right = |it: &Arc<Instance>| by_nature(it, &requires, &[]).is_ok();
                room.fits(need) && room.open.as_ref().is_some_and(is_right)
            })
        };
        let is_bound = zones.iter().any(|zone| self.takes_in(zone, &requires));
        let in_order =
            self.order.iter().filter(|(zone, _)| !is_bound || zones.iter().any(|it| it == *zone));
        let firsts = in_order.filter_map(|(_, its)| its.iter().find(will_do));
        let (_, id) = *firsts.min().ok_or(NoPlace::NoRoom)?;
        self.change(id, |room| room.put(need));
        self.placed.push((id, need));
        Ok(id)
    }

    /// Undoes what was placed since the last time.
    pub fn give_back(&mut self) {
        for (id, need) in std::mem::take(&mut self.placed) {
            self.change(id, |room| room.take_off(need));
        }
    }

    fn change(&mut self, id: InstanceId, change: impl FnOnce(&mut Room)) {
        let room = self.rooms.entry(id).or_default();
        let zone_of = |open: &Arc<Instance>| open.zone().unwrap_or_default().to_owned();
        let before = room.open.as_ref().map(|open| (zone_of(open), room.tasks));
        change(room);
        let now = room.open.as_ref().map(|open| (zone_of(open), room.tasks));
        if let Some((zone, tasks)) = before
            && let Some(its) = self.order.get_mut(&zone)
        {
            its.remove(&(tasks, id));
            if its.is_empty() {
                self.order.remove(&zone);
            }
        }
        if let Some((zone, tasks)) = now {
            self.order.entry(zone).or_default().insert((tasks, id));
        } else if room.tasks == 0 {
            self.rooms.remove(&id);
        }
    }
}
