//! The instances of a fleet: what tasks take of each, its class, and which changed last.
//!
//! Changes are kept as a list through the slots, the last changed first: whoever looked at version 7
//! walks it until a slot that has not changed since.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_types::{CpuUnits, InstanceId, MemoryMib, Resources};
use model::Instance;
use model::instance::InstanceStatus;
use model::task::{HostPort, Need};

use super::groups::{GroupId, Groups};
use crate::query::Facts;
use crate::strategy::{halves, ring};

/// Where a host is kept. Given again once its host is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SlotId(u32);

impl SlotId {
    pub(super) const MIN: Self = Self(0);
    const MAX: Self = Self(u32::MAX);

    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Hosts that no ask can tell apart but by their tasks and ids. Never given again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClassId(u32);

impl ClassId {
    const MAX: Self = Self(u32::MAX);
}

/// What tasks take of a host: sums, so that what is taken off leaves what was there before.
#[derive(Debug, Default)]
pub(super) struct Load {
    cpu: u64,
    memory: u64,
    gpus: u64,
    ports: BTreeMap<HostPort, u32>,
    groups: BTreeMap<GroupId, u32>,
    pub(super) tasks: u32,
    running: u32,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: InstanceId,
    pub(super) instance: Arc<Instance>,
    pub(super) class: ClassId,
    pub(super) left: Resources,
    pub(super) gpus_left: u32,
    pub(super) load: Load,
    pub(super) ring: u32,
    /// The id as numbers in its order.
    pub(super) order: (u64, u64),
    pub(super) changed: u64,
    newer: Option<SlotId>,
    older: Option<SlotId>,
}

#[derive(Debug)]
struct Class {
    sample: Arc<Instance>,
    slots: u32,
}

#[derive(Debug, Default)]
pub(super) struct Hosts {
    slots: Vec<Option<Slot>>,
    vacant: Vec<SlotId>,
    by_id: BTreeMap<InstanceId, SlotId>,
    /// What tasks take of instances that are not here, or not yet.
    strays: BTreeMap<InstanceId, Load>,
    classes: BTreeMap<ClassId, Class>,
    class_of: BTreeMap<Nature, ClassId>,
    last_class: ClassId,
    pub(super) groups: Groups,
    /// How many tasks of a group are on hosts of a class.
    spread: BTreeMap<(GroupId, ClassId), u32>,
    /// The hosts that have tasks of a group.
    places: BTreeSet<(GroupId, SlotId)>,
    newest: Option<SlotId>,
    pub(super) version: u64,
}

impl Slot {
    pub(super) fn of_group(&self, group: GroupId) -> u32 {
        self.load.groups.get(&group).copied().unwrap_or(0)
    }

    pub(super) fn has_port_taken(&self, port: &HostPort) -> bool {
        self.load.ports.contains_key(port) || self.instance.reserved_ports.contains(port)
    }

    fn count_left(&mut self) {
        let less = |total: u32, taken: u64| {
            u32::try_from(u64::from(total).saturating_sub(taken)).unwrap_or(u32::MAX)
        };
        let total = self.instance.total;
        self.left = Resources {
            cpu: CpuUnits(less(total.cpu.0, self.load.cpu)),
            memory: MemoryMib(less(total.memory.0, self.load.memory)),
        };
        self.gpus_left = less(self.instance.gpu_count(), self.load.gpus);
    }
}

impl Load {
    fn put(&mut self, need: &Need, group: GroupId, is_running: bool) {
        self.cpu += u64::from(need.resources.cpu.0);
        self.memory += u64::from(need.resources.memory.0);
        self.gpus += u64::from(need.gpus);
        for port in &need.ports {
            *self.ports.entry(*port).or_default() += 1;
        }
        *self.groups.entry(group).or_default() += 1;
        self.tasks += 1;
        self.running += u32::from(is_running);
    }

    fn take_off(&mut self, need: &Need, group: GroupId, is_running: bool) {
        self.cpu = self.cpu.saturating_sub(u64::from(need.resources.cpu.0));
        self.memory = self.memory.saturating_sub(u64::from(need.resources.memory.0));
        self.gpus = self.gpus.saturating_sub(u64::from(need.gpus));
        for port in &need.ports {
            lessen(&mut self.ports, port);
        }
        lessen(&mut self.groups, &group);
        self.tasks = self.tasks.saturating_sub(1);
        self.running = self.running.saturating_sub(u32::from(is_running));
    }
}

/// Counts one less, and drops what is counted to nothing.
fn lessen<K: Ord>(counts: &mut BTreeMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Hosts {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn get(&self, id: InstanceId) -> Option<&Slot> {
        self.by_id.get(&id).map(|slot| self.slot(*slot))
    }

    /// The zone of a host, as all of its class have it.
    pub(super) fn zone(&self, id: InstanceId) -> Option<&str> {
        self.classes.get(&self.get(id)?.class)?.sample.zone()
    }

    /// The host of a slot that is taken.
    pub(super) fn slot(&self, id: SlotId) -> &Slot {
        self.slots[id.index()].as_ref().expect("slots that are spoken of are taken")
    }

    fn slot_mut(&mut self, id: SlotId) -> &mut Slot {
        self.slots[id.index()].as_mut().expect("slots that are spoken of are taken")
    }

    /// Every host, by instance id.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SlotId, &Slot)> {
        self.by_id.values().map(|id| (*id, self.slot(*id)))
    }

    /// Hosts that changed after `version`, the last changed first.
    pub(super) fn changed_after(&self, version: u64) -> impl Iterator<Item = (SlotId, &Slot)> {
        let at = |id: SlotId| (id, self.slot(id));
        std::iter::successors(self.newest.map(at), move |(_, slot)| slot.older.map(at))
            .take_while(move |(_, slot)| version < slot.changed)
    }

    /// How many slots there are or were.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Every class, with an instance that stands for all of it.
    pub(super) fn classes(&self) -> impl Iterator<Item = (ClassId, &Arc<Instance>)> {
        self.classes.iter().map(|(id, class)| (*id, &class.sample))
    }

    pub(super) fn class_count(&self) -> usize {
        self.classes.len()
    }

    /// How many tasks of the group each class has; classes without are left out.
    pub(super) fn spread(
        &self,
        group: GroupId,
    ) -> impl Iterator<Item = (ClassId, &Arc<Instance>, u32)> {
        let range = (group, ClassId::default())..=(group, ClassId::MAX);
        self.spread.range(range).filter_map(|((_, class), count)| {
            Some((*class, &self.classes.get(class)?.sample, *count))
        })
    }

    /// The hosts that have tasks of the group.
    pub(super) fn places(&self, group: GroupId) -> impl Iterator<Item = SlotId> {
        let range = (group, SlotId::MIN)..=(group, SlotId::MAX);
        self.places.range(range).map(|(_, slot)| *slot)
    }

    /// What the query language may ask of a host; `ask` gets it.
    pub(super) fn with_facts<T>(&self, slot: &Slot, ask: impl FnOnce(&Facts<'_>) -> T) -> T {
        let groups = self.groups.named(&slot.load.groups);
        ask(&Facts::of(&slot.instance, slot.load.running, &groups))
    }

    pub(super) fn put(&mut self, instance: Arc<Instance>) {
        let slot = match self.by_id.get(&instance.id) {
            Some(slot) => *slot,
            None => self.open(&instance),
        };
        let class = self.join_class(&instance);
        let before = self.slot(slot).class;
        if before != class {
            self.move_class(slot, before, class);
        }
        self.leave_class(before);
        let host = self.slot_mut(slot);
        host.class = class;
        host.instance = instance;
        host.count_left();
        self.touch(slot);
    }

    /// The slot that was left.
    pub(super) fn remove(&mut self, id: InstanceId) -> Option<SlotId> {
        let slot = self.by_id.remove(&id)?;
        self.unlink(slot);
        let host = self.slots[slot.index()].take()?;
        for (group, count) in &host.load.groups {
            add(&mut self.spread, (*group, host.class), -i64::from(*count));
            self.places.remove(&(*group, slot));
        }
        self.leave_class(host.class);
        if 0 < host.load.tasks {
            self.strays.insert(id, host.load);
        }
        self.vacant.push(slot);
        self.version += 1;
        Some(slot)
    }

    /// A task is on the instance from now on.
    pub(super) fn put_on(&mut self, id: InstanceId, need: &Need, group: GroupId, is_running: bool) {
        self.groups.add(group);
        let Some(slot) = self.by_id.get(&id).copied() else {
            self.strays.entry(id).or_default().put(need, group, is_running);
            return;
        };
        let host = self.slot_mut(slot);
        host.load.put(need, group, is_running);
        host.count_left();
        let (class, is_first) = (host.class, host.of_group(group) == 1);
        add(&mut self.spread, (group, class), 1);
        if is_first {
            self.places.insert((group, slot));
        }
        self.touch(slot);
    }

    /// The reverse of [`Hosts::put_on`].
    pub(super) fn take_off(
        &mut self,
        id: InstanceId,
        need: &Need,
        group: GroupId,
        is_running: bool,
    ) {
        if let Some(slot) = self.by_id.get(&id).copied() {
            let host = self.slot_mut(slot);
            host.load.take_off(need, group, is_running);
            host.count_left();
            let (class, was_last) = (host.class, host.of_group(group) == 0);
            add(&mut self.spread, (group, class), -1);
            if was_last {
                self.places.remove(&(group, slot));
            }
            self.touch(slot);
        } else if let Some(load) = self.strays.get_mut(&id) {
            load.take_off(need, group, is_running);
            if load.tasks == 0 {
                self.strays.remove(&id);
            }
        }
        self.groups.remove(group);
    }

    /// A task of the instance runs from now on, or no longer.
    pub(super) fn count_running(&mut self, id: InstanceId, is_running: bool) {
        let change = |load: &mut Load| {
            let less = load.running.saturating_sub(1);
            load.running = if is_running { load.running + 1 } else { less };
        };
        if let Some(slot) = self.by_id.get(&id).copied() {
            change(&mut self.slot_mut(slot).load);
            self.touch(slot);
        } else if let Some(load) = self.strays.get_mut(&id) {
            change(load);
        }
    }

    /// A slot for a new host, with its tasks and as yet in a class of its own kind.
    fn open(&mut self, instance: &Arc<Instance>) -> SlotId {
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(None);
            SlotId(u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX))
        });
        let class = self.join_class(instance);
        let load = self.strays.remove(&instance.id).unwrap_or_default();
        for (group, count) in &load.groups {
            add(&mut self.spread, (*group, class), i64::from(*count));
            self.places.insert((*group, slot));
        }
        self.slots[slot.index()] = Some(Slot {
            id: instance.id,
            instance: Arc::clone(instance),
            class,
            left: Resources::default(),
            gpus_left: 0,
            load,
            ring: ring(instance.id),
            order: halves(instance.id),
            changed: 0,
            newer: None,
            older: None,
        });
        self.by_id.insert(instance.id, slot);
        slot
    }

    fn join_class(&mut self, instance: &Arc<Instance>) -> ClassId {
        let nature = Nature(Arc::clone(instance));
        let id = match self.class_of.get(&nature) {
            Some(id) => *id,
            None => {
                self.last_class = ClassId(self.last_class.0 + 1);
                self.class_of.insert(nature, self.last_class);
                self.last_class
            }
        };
        let new = || Class { sample: Arc::clone(instance), slots: 0 };
        self.classes.entry(id).or_insert_with(new).slots += 1;
        id
    }

    fn leave_class(&mut self, id: ClassId) {
        let Some(class) = self.classes.get_mut(&id) else { return };
        class.slots = class.slots.saturating_sub(1);
        if class.slots == 0
            && let Some(class) = self.classes.remove(&id)
        {
            self.class_of.remove(&Nature(class.sample));
        }
    }

    fn move_class(&mut self, slot: SlotId, from: ClassId, to: ClassId) {
        let host = self.slots[slot.index()].as_ref();
        for (group, count) in host.into_iter().flat_map(|host| &host.load.groups) {
            add(&mut self.spread, (*group, from), -i64::from(*count));
            add(&mut self.spread, (*group, to), i64::from(*count));
        }
    }

    /// The slot changed: it goes to the head of the list.
    fn touch(&mut self, slot: SlotId) {
        self.version += 1;
        let version = self.version;
        if self.newest != Some(slot) {
            self.unlink(slot);
            let older = self.newest.replace(slot);
            if let Some(older) = older {
                self.slot_mut(older).newer = Some(slot);
            }
            self.slot_mut(slot).older = older;
        }
        self.slot_mut(slot).changed = version;
    }

    fn unlink(&mut self, slot: SlotId) {
        let host = self.slot_mut(slot);
        let (newer, older) = (host.newer.take(), host.older.take());
        match newer {
            Some(newer) => self.slot_mut(newer).older = older,
            None if self.newest == Some(slot) => self.newest = older,
            None => {}
        }
        if let Some(older) = older {
            self.slot_mut(older).newer = newer;
        }
    }
}

fn add(counts: &mut BTreeMap<(GroupId, ClassId), u32>, key: (GroupId, ClassId), difference: i64) {
    let count = counts.entry(key).or_default();
    *count = u32::try_from(i64::from(*count) + difference).unwrap_or(0);
    if *count == 0 {
        counts.remove(&key);
    }
}

/// What asks can tell of an instance, but for its tasks and ids: the order of classes.
#[derive(Clone, Debug)]
struct Nature(Arc<Instance>);

type Told<'a> = (InstanceStatus, bool, bool, Option<&'a str>, &'a BTreeMap<String, Option<String>>);

impl Nature {
    fn told(&self) -> Told<'_> {
        let Instance { status, is_external, agent, attributes, .. } = self.0.as_ref();
        (*status, agent.connected, *is_external, agent.version.as_deref(), attributes)
    }
}

impl PartialEq for Nature {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Nature {}

impl PartialOrd for Nature {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Nature {
    fn cmp(&self, other: &Self) -> Ordering {
        self.told().cmp(&other.told())
    }
}
