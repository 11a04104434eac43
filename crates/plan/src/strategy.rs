//! What makes one fitting instance better than another.

use std::collections::{BTreeMap, BTreeSet};

use longshore_types::InstanceId;

use crate::host::Host;

/// What tasks are spread over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// `instanceId`, or its other name `host`.
    Instance,
    /// `attribute:<name>`; instances without it form a part of their own.
    Attribute(String),
}

/// One placement strategy; earlier ones weigh more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Where the least CPU is left.
    BinpackCpu,
    /// Where the least memory is left.
    BinpackMemory,
    Spread(Field),
    Random,
}

/// No more strategies than this are heeded; the API allows as many.
pub const STRATEGIES_MAX: usize = 5;

type Key = [u64; STRATEGIES_MAX];

/// Hosts that are alike in every attribute that tasks are spread over.
#[derive(Debug, Default)]
struct Cell {
    /// The value that each of these attributes has here.
    values: Vec<Option<String>>,
    /// The fitting hosts, best first: only what differs within the cell is in the key.
    hosts: BTreeSet<(Key, InstanceId, usize)>,
}

/// The fitting hosts in the order in which tasks of one group go to them: the smallest key is the
/// best place.
///
/// Placing a task changes the key of one host, and the count of its attributes' values. So hosts are
/// kept in cells of equal values, and only the heads of the cells are compared.
#[derive(Debug)]
pub(crate) struct Queue<'a> {
    strategies: &'a [Strategy],
    group: &'a str,
    draw: u64,
    cells: Vec<Cell>,
    cell_of: Vec<usize>,
    /// Per strategy that spreads over an attribute: how many tasks of the group each value has.
    spread: Vec<BTreeMap<Option<String>, u64>>,
}

impl<'a> Queue<'a> {
    pub(crate) fn new(
        strategies: &'a [Strategy],
        group: &'a str,
        draw: u64,
        hosts: &[Host<'_>],
        is_fit: impl Fn(usize, &Host<'_>) -> bool,
    ) -> Self {
        let strategies = &strategies[..strategies.len().min(STRATEGIES_MAX)];
        let names: Vec<&str> = strategies.iter().filter_map(Strategy::attribute).collect();
        let mut queue = Self {
            strategies,
            group,
            draw,
            cells: Vec::new(),
            cell_of: Vec::with_capacity(hosts.len()),
            spread: vec![BTreeMap::new(); names.len()],
        };
        let mut known: BTreeMap<Vec<Option<String>>, usize> = BTreeMap::new();
        for (index, host) in hosts.iter().enumerate() {
            let values: Vec<_> = names.iter().map(|name| value(host, name)).collect();
            for (counts, value) in queue.spread.iter_mut().zip(&values) {
                *counts.entry(value.clone()).or_default() += u64::from(host.of_group(group));
            }
            let cell = *known.entry(values).or_insert_with_key(|values| {
                queue.cells.push(Cell { values: values.clone(), ..Cell::default() });
                queue.cells.len() - 1
            });
            queue.cell_of.push(cell);
            if is_fit(index, host) {
                let key = queue.key_within(host);
                queue.cells[cell].hosts.insert((key, host.id(), index));
            }
        }
        queue
    }

    /// The best host, until it is given back with [`Queue::placed`].
    pub(crate) fn take(&mut self) -> Option<usize> {
        let heads = self.cells.iter().enumerate().filter_map(|(number, cell)| {
            let (within, id, _) = cell.hosts.first()?;
            Some((self.key(cell, *within), *id, number))
        });
        let (_, _, number) = heads.min()?;
        self.cells[number].hosts.pop_first().map(|(_, _, index)| index)
    }

    /// Counts a task that was just put on the host taken, and takes the host back if it still fits.
    pub(crate) fn placed(&mut self, index: usize, host: &Host<'_>, is_fit: bool) {
        let number = self.cell_of[index];
        for (counts, value) in self.spread.iter_mut().zip(&self.cells[number].values) {
            *counts.entry(value.clone()).or_default() += 1;
        }
        self.draw = self.draw.wrapping_add(0x9e37_79b9_7f4a_7c15);
        if is_fit {
            let key = self.key_within(host);
            self.cells[number].hosts.insert((key, host.id(), index));
        }
    }

    /// The parts of a host's key that do not follow from its cell.
    fn key_within(&self, host: &Host<'_>) -> Key {
        let mut key = Key::default();
        for (slot, strategy) in key.iter_mut().zip(self.strategies) {
            *slot = match strategy {
                Strategy::BinpackCpu => u64::from(host.left.resources.cpu.0),
                Strategy::BinpackMemory => u64::from(host.left.resources.memory.0),
                Strategy::Spread(Field::Instance) => u64::from(host.of_group(self.group)),
                Strategy::Spread(Field::Attribute(_)) => 0,
                Strategy::Random => mix(self.draw, host),
            };
        }
        if self.strategies.is_empty() {
            key[0] = mix(self.draw, host);
        }
        key
    }

    /// The whole key of a cell's host.
    fn key(&self, cell: &Cell, within: Key) -> Key {
        let mut key = within;
        let spreads = self.strategies.iter().enumerate().filter(|(_, s)| s.attribute().is_some());
        for ((slot, _), (counts, value)) in spreads.zip(self.spread.iter().zip(&cell.values)) {
            key[slot] = counts.get(value).copied().unwrap_or(0);
        }
        key
    }
}

impl Strategy {
    /// The attribute whose values tasks are spread over.
    fn attribute(&self) -> Option<&str> {
        match self {
            Self::Spread(Field::Attribute(name)) => Some(name),
            Self::Spread(Field::Instance)
            | Self::BinpackCpu
            | Self::BinpackMemory
            | Self::Random => None,
        }
    }
}

fn value(host: &Host<'_>, attribute: &str) -> Option<String> {
    host.instance.attributes.get(attribute).cloned().flatten()
}

/// A number that depends on the draw and the host, evenly.
fn mix(draw: u64, host: &Host<'_>) -> u64 {
    let bytes = host.id().to_bytes();
    let (low, high) = bytes.split_at(8);
    let half = |part: &[u8]| part.iter().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
    let mut z = draw ^ half(low) ^ half(high).rotate_left(32);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
