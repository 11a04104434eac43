//! The hosts that would do for one shape of ask, best first, kept current from ask to ask.
//!
//! Placing a task changes the key of one host, and how many tasks of the group its attributes' values
//! have. So hosts are kept in cells of equal values, sorted by what differs within a cell, and only the
//! heads of the cells are compared.
//!
//! Groups may share a queue even if an instance is worse for having their tasks: the queue then holds each
//! host as one without, and the few hosts that the present group is on are guests, judged for each ask.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::Instance;

use super::groups::GroupId;
use super::hosts::{ClassId, Hosts, Slot, SlotId};
use super::shape::Shape;
use crate::fit::{by_facts, by_nature, by_room, is_in_pool};
use crate::placement::Ask;
use crate::query::{Facts, Reach};
use crate::refusal::{Refusals, Unfit};
use crate::strategy::{Field, Key, Strategy, lot, points, values_hash};

/// Classes that are no more are swept out once there are so many more than classes that are.
const DEAD_CLASSES_MAX: usize = 64;

/// A host's place in its cell. Small, and of whole numbers: that is what most of the time goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    within: Within,
    /// Where it stands on the ring, where chance decides.
    ring: u32,
    id: (u64, u64),
    slot: SlotId,
}

/// The parts of a key that differ within a cell, two to a number: in the order of the key.
type Within = (u64, u64, u32);

fn pack([a, b, c, d, e]: Key) -> Within {
    let two = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
    (two(a, b), two(c, d), e)
}

#[derive(Debug)]
pub(super) struct Queue {
    shape: Shape,
    /// Of the present ask. The same name may get another number once its tasks are gone.
    group: Option<GroupId>,
    /// The hosts that the group is on, by slot; none if the queue is the group's own.
    guests: Vec<Guest>,
    synced: u64,
    entries: Vec<Entry>,
    cells: Vec<Cell>,
    cell_of: BTreeMap<Vec<Option<String>>, usize>,
    kinds: BTreeMap<ClassId, Kind>,
    /// One a rank; without content where the rank has no attribute.
    parts: Vec<Part>,
    refusals: Option<Refused>,
}

/// Why all refused, and for which version of the hosts and group this holds.
#[derive(Debug)]
struct Refused {
    version: u64,
    group: Option<GroupId>,
    refusals: Arc<Refusals>,
}

/// A host as it is for the present group.
#[derive(Clone, Copy, Debug)]
struct Guest {
    slot: SlotId,
    cell: usize,
    place: Option<Place>,
}

/// A host that may be the best.
#[derive(Clone, Copy)]
struct Candidate<'q> {
    key: Within,
    lot: u64,
    cell: &'q Cell,
    place: &'q Place,
    is_guest: bool,
}

/// What the queue knows of a slot.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// Its place in the cell, if it would do.
    place: Option<Place>,
    class: ClassId,
    cell: usize,
    is_kind_fit: bool,
}

/// What follows for all hosts of a class.
#[derive(Debug)]
struct Kind {
    is_in_pool: bool,
    verdict: Result<(), Unfit>,
    cell: usize,
}

/// Hosts that are alike in every attribute that tasks are spread over.
#[derive(Debug)]
struct Cell {
    names: Vec<Option<String>>,
    /// Per rank, the number that the value has in its part.
    values: Vec<usize>,
    hash: u64,
    hosts: BTreeSet<Place>,
}

/// How many tasks of the group each value of an attribute has.
#[derive(Debug, Default)]
struct Part {
    numbers: BTreeMap<Option<String>, usize>,
    counts: Vec<u32>,
}

impl Queue {
    pub(super) fn new(shape: Shape) -> Self {
        Self {
            group: None,
            guests: Vec::new(),
            synced: 0,
            entries: Vec::new(),
            cells: Vec::new(),
            cell_of: BTreeMap::new(),
            kinds: BTreeMap::new(),
            parts: shape.ranks.iter().map(|_| Part::default()).collect(),
            refusals: None,
            shape,
        }
    }

    pub(super) fn is_of(&self, ask: &Ask<'_>, is_own: bool) -> bool {
        self.shape.is_of(ask, is_own)
    }

    /// Makes it current, for an ask of `group`.
    pub(super) fn begin(&mut self, hosts: &Hosts, group: GroupId) {
        self.group = Some(group);
        if hosts.class_count() + DEAD_CLASSES_MAX < self.kinds.len() {
            self.clear();
        }
        self.entries.resize(hosts.slots(), Entry::default());
        if self.synced == 0 {
            self.fill(hosts);
        } else {
            for (id, slot) in hosts.changed_after(self.synced) {
                self.refresh(id, slot, hosts);
            }
        }
        self.synced = hosts.version;
        self.count_values(hosts, group);
        self.guests.clear();
        if self.shape.is_watching && !self.shape.is_own() {
            let mut guests = std::mem::take(&mut self.guests);
            guests.extend(hosts.places(group).map(|id| self.guest(id, hosts)));
            self.guests = guests;
        }
    }

    /// The best host for the next task.
    pub(super) fn best(&self, hosts: &Hosts, seed: u64) -> Option<SlotId> {
        let candidate = |cell, place, is_guest| self.candidate(cell, place, is_guest, seed);
        let heads = self.cells.iter().filter_map(|cell| {
            let head = cell.hosts.iter().find(|place| !self.is_guest(place.slot))?;
            Some(candidate(cell, head, false))
        });
        let guests = self.guests.iter().filter_map(|guest| {
            Some(candidate(&self.cells[guest.cell], guest.place.as_ref()?, true))
        });
        let best = heads.chain(guests).reduce(|best, other| {
            if self.compare(&other, &best) == Ordering::Less { other } else { best }
        })?;
        if !self.shape.is_random {
            return Some(best.place.slot);
        }
        let candidates = points(seed).into_iter().map(|point| self.after(point, &best));
        let fewest = candidates.min_by_key(|place| (hosts.slot(place.slot).load.tasks, place.id));
        fewest.map(|place| place.slot)
    }

    fn candidate<'q>(
        &self,
        cell: &'q Cell,
        place: &'q Place,
        is_guest: bool,
        seed: u64,
    ) -> Candidate<'q> {
        let lot = if self.shape.is_random { lot(seed, cell.hash) } else { 0 };
        Candidate { key: self.whole_key(cell, place.within), lot, cell, place, is_guest }
    }

    fn compare(&self, a: &Candidate<'_>, b: &Candidate<'_>) -> Ordering {
        let by_key = (a.key, a.lot).cmp(&(b.key, b.lot));
        let by_cell = || {
            if self.shape.is_random { a.cell.names.cmp(&b.cell.names) } else { Ordering::Equal }
        };
        by_key.then_with(by_cell).then_with(|| a.place.id.cmp(&b.place.id))
    }

    /// Of the hosts that are as good as `best`, the first on the ring from `point` on.
    ///
    /// A guest is never as good as a host that is none: either it is unfit, for it has a task of the
    /// group, or it has more tasks of the group.
    fn after<'q>(&'q self, point: u32, best: &Candidate<'q>) -> &'q Place {
        let within = best.place.within;
        if best.is_guest {
            let places = self.guests.iter().filter_map(|guest| guest.place.as_ref());
            let equals = places.filter(|place| {
                place.within == within && std::ptr::eq(self.cell_at(place.slot), best.cell)
            });
            return equals
                .min_by_key(|place| (place.ring < point, place.ring, place.id))
                .unwrap_or(best.place);
        }
        let from = Place { within, ring: point, id: (0, 0), slot: SlotId::MIN };
        let equals = best.cell.hosts.range(from..).take_while(|place| place.within == within);
        let mut others = equals.filter(|place| !self.is_guest(place.slot));
        others.next().unwrap_or(best.place)
    }

    fn cell_at(&self, id: SlotId) -> &Cell {
        &self.cells[self.entries[id.index()].cell]
    }

    fn is_guest(&self, id: SlotId) -> bool {
        self.guests.binary_search_by_key(&id, |guest| guest.slot).is_ok()
    }

    /// A task of the present ask was just put on the host.
    pub(super) fn placed(&mut self, id: SlotId, hosts: &Hosts) {
        let cell = &self.cells[self.entries[id.index()].cell];
        for (part, value) in self.parts.iter_mut().zip(&cell.values) {
            if let Some(count) = part.counts.get_mut(*value) {
                *count += 1;
            }
        }
        self.refresh(id, hosts.slot(id), hosts);
        self.synced = hosts.version;
        if self.shape.is_watching && !self.shape.is_own() {
            let guest = self.guest(id, hosts);
            match self.guests.binary_search_by_key(&id, |guest| guest.slot) {
                Ok(at) => self.guests[at] = guest,
                Err(at) => self.guests.insert(at, guest),
            }
        }
    }

    /// Why each host in the pool refuses. Of hosts that did not change since this was asked last, it
    /// is known.
    pub(super) fn refusals(&mut self, hosts: &Hosts) -> Arc<Refusals> {
        let (version, group) = (hosts.version, self.group.filter(|_| self.shape.is_distinct));
        let known = self.refusals.take().filter(|known| known.group == group);
        let refusals = match known {
            Some(known) if known.version == version => known.refusals,
            Some(known) => {
                let changed = hosts.changed_after(known.version);
                let changes = changed.map(|(_, slot)| (slot.id, self.unfit(slot, hosts)));
                Arc::new(known.refusals.but(changes))
            }
            None => {
                let why = |(_, slot): (SlotId, &Slot)| Some((slot.id, self.unfit(slot, hosts)?));
                Arc::new(Refusals::of(hosts.iter().filter_map(why).collect()))
            }
        };
        self.refusals = Some(Refused { version, group, refusals: Arc::clone(&refusals) });
        refusals
    }

    /// Why the host refuses; nothing if it would do, or is not looked at.
    fn unfit(&self, slot: &Slot, hosts: &Hosts) -> Option<Unfit> {
        let kind = self.kinds.get(&slot.class).filter(|kind| kind.is_in_pool)?;
        match &kind.verdict {
            Ok(()) => self.fit_now(slot, hosts, self.group).err(),
            Err(unfit) => Some(unfit.clone()),
        }
    }

    /// The host of the slot is gone.
    pub(super) fn forget(&mut self, id: SlotId) {
        self.refusals = None;
        if let Some(entry) = self.entries.get_mut(id.index()) {
            let entry = std::mem::take(entry);
            if let Some(place) = entry.place {
                self.cells[entry.cell].hosts.remove(&place);
            }
        }
    }

    fn clear(&mut self) {
        self.synced = 0;
        self.entries.clear();
        self.cells.clear();
        self.cell_of.clear();
        self.kinds.clear();
        self.parts.iter_mut().for_each(|part| *part = Part::default());
    }

    /// Looks at every host, and sorts each cell at once.
    fn fill(&mut self, hosts: &Hosts) {
        let mut places: Vec<Vec<Place>> = Vec::new();
        for (id, slot) in hosts.iter() {
            let entry = self.judge(id, slot, hosts);
            self.entries[id.index()] = entry;
            places.resize(self.cells.len(), Vec::new());
            places[entry.cell].extend(entry.place);
        }
        for (cell, places) in self.cells.iter_mut().zip(places) {
            cell.hosts = places.into_iter().collect();
        }
    }

    fn refresh(&mut self, id: SlotId, slot: &Slot, hosts: &Hosts) {
        let before = self.entries[id.index()];
        let now = self.judge(id, slot, hosts);
        if before.place != now.place || before.cell != now.cell {
            if let Some(place) = before.place {
                self.cells[before.cell].hosts.remove(&place);
            }
            if let Some(place) = now.place {
                self.cells[now.cell].hosts.insert(place);
            }
        }
        self.entries[id.index()] = now;
    }

    /// What is to be known of the slot now.
    fn judge(&mut self, id: SlotId, slot: &Slot, hosts: &Hosts) -> Entry {
        let mut entry = self.entries[id.index()];
        if entry.class != slot.class {
            let (cell, is_kind_fit) = self.kind(slot.class, &slot.instance);
            entry = Entry { place: None, class: slot.class, cell, is_kind_fit };
        }
        let group = self.group.filter(|_| self.shape.is_own());
        entry.place = self.place(id, slot, hosts, entry.is_kind_fit, group);
        entry
    }

    /// The host as it is for the present group.
    fn guest(&self, id: SlotId, hosts: &Hosts) -> Guest {
        let Entry { cell, is_kind_fit, .. } = self.entries[id.index()];
        let place = self.place(id, hosts.slot(id), hosts, is_kind_fit, self.group);
        Guest { slot: id, cell, place }
    }

    fn place(
        &self,
        id: SlotId,
        slot: &Slot,
        hosts: &Hosts,
        is_kind_fit: bool,
        group: Option<GroupId>,
    ) -> Option<Place> {
        let would_do = is_kind_fit && self.fit_now(slot, hosts, group).is_ok();
        would_do.then(|| {
            let ring = if self.shape.is_random { slot.ring } else { 0 };
            Place { within: self.key_within(slot, group), ring, id: slot.order, slot: id }
        })
    }

    /// The cell of a class, and whether its hosts would do but for their ids and tasks.
    fn kind(&mut self, class: ClassId, sample: &Instance) -> (usize, bool) {
        if let Some(kind) = self.kinds.get(&class) {
            return (kind.cell, kind.is_in_pool && kind.verdict.is_ok());
        }
        let is_in_pool = is_in_pool(sample, self.shape.pool());
        let mut verdict = by_nature(sample, &self.shape.requires, &self.shape.zones);
        if verdict.is_ok() && self.shape.reach == Reach::Kind {
            let no_groups = BTreeMap::<String, u32>::new();
            verdict = by_facts(&self.shape.constraints, &Facts::of(sample, 0, &no_groups));
        }
        let cell = self.cell(sample);
        let is_kind_fit = is_in_pool && verdict.is_ok();
        self.kinds.insert(class, Kind { is_in_pool, verdict, cell });
        (cell, is_kind_fit)
    }

    fn cell(&mut self, sample: &Instance) -> usize {
        let value = |name| sample.attributes.get(name).cloned().flatten();
        let ranks = &self.shape.ranks;
        let names: Vec<Option<String>> =
            ranks.iter().filter_map(Strategy::attribute).map(value).collect();
        if let Some(cell) = self.cell_of.get(&names) {
            return *cell;
        }
        let values = ranks.iter().zip(&mut self.parts).map(|(rank, part)| {
            let Some(name) = rank.attribute() else { return 0 };
            let next = part.numbers.len();
            let number = *part.numbers.entry(value(name)).or_insert(next);
            part.counts.resize(part.numbers.len(), 0);
            number
        });
        let values = values.collect();
        let hash = values_hash(names.iter().map(Option::as_deref));
        let cell = self.cells.len();
        self.cell_of.insert(names.clone(), cell);
        self.cells.push(Cell { names, values, hash, hosts: BTreeSet::new() });
        cell
    }

    /// The part of the verdict that differs between hosts of one class. Without a group, as if the
    /// host had no task of it.
    fn fit_now(&self, slot: &Slot, hosts: &Hosts, group: Option<GroupId>) -> Result<(), Unfit> {
        if Reach::Kind < self.shape.reach {
            hosts.with_facts(slot, |facts| by_facts(&self.shape.constraints, facts))?;
        }
        by_room(
            slot.left,
            slot.gpus_left,
            |port| slot.has_port_taken(port),
            || group.map_or(0, |group| slot.of_group(group)),
            &self.shape.need,
            self.shape.is_distinct,
        )
    }

    /// The parts of a host's key that do not follow from its cell.
    fn key_within(&self, slot: &Slot, group: Option<GroupId>) -> Within {
        let mut key = Key::default();
        for (part, rank) in key.iter_mut().zip(&self.shape.ranks) {
            *part = match rank {
                Strategy::BinpackCpu => slot.left.cpu.0,
                Strategy::BinpackMemory => slot.left.memory.0,
                Strategy::Spread(Field::Instance) => group.map_or(0, |group| slot.of_group(group)),
                Strategy::Spread(Field::Attribute(_)) | Strategy::Random => 0,
            };
        }
        pack(key)
    }

    /// The counts of the cell's values are in the key where those within a cell have nothing.
    fn whole_key(&self, cell: &Cell, within: Within) -> Within {
        let mut counts = Key::default();
        for ((slot, part), value) in counts.iter_mut().zip(&self.parts).zip(&cell.values) {
            *slot = part.counts.get(*value).copied().unwrap_or(0);
        }
        let (a, b, c) = pack(counts);
        (a | within.0, b | within.1, c | within.2)
    }

    /// Counts the group's tasks by the values of each rank's attribute.
    fn count_values(&mut self, hosts: &Hosts, group: GroupId) {
        self.parts.iter_mut().for_each(|part| part.counts.fill(0));
        if self.parts.iter().all(|part| part.counts.is_empty()) {
            return;
        }
        for (class, sample, tasks) in hosts.spread(group) {
            let (cell, _) = self.kind(class, sample);
            for (part, value) in self.parts.iter_mut().zip(&self.cells[cell].values) {
                if let Some(count) = part.counts.get_mut(*value) {
                    *count += tasks;
                }
            }
        }
    }
}
