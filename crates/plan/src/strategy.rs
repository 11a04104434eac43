//! What makes one fitting instance better than another.

use std::collections::BTreeMap;

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

/// Ranks hosts for tasks of one group: the smallest key is the best place.
#[derive(Debug)]
pub(crate) struct Ranking<'a> {
    strategies: &'a [Strategy],
    group: &'a str,
    draw: u64,
    /// Per strategy that spreads over an attribute: how many tasks of the group each value has.
    spread: Vec<BTreeMap<Option<String>, u32>>,
}

impl<'a> Ranking<'a> {
    pub(crate) fn new(
        strategies: &'a [Strategy],
        group: &'a str,
        draw: u64,
        hosts: &[Host<'_>],
    ) -> Self {
        let strategies = &strategies[..strategies.len().min(STRATEGIES_MAX)];
        let mut ranking = Self { strategies, group, draw, spread: Vec::new() };
        ranking.spread = strategies
            .iter()
            .map(|strategy| match strategy {
                Strategy::Spread(Field::Attribute(name)) => {
                    let mut counts = BTreeMap::new();
                    for host in hosts {
                        *counts.entry(value(host, name)).or_default() += host.of_group(group);
                    }
                    counts
                }
                Strategy::Spread(Field::Instance)
                | Strategy::BinpackCpu
                | Strategy::BinpackMemory
                | Strategy::Random => BTreeMap::new(),
            })
            .collect();
        ranking
    }

    pub(crate) fn key(&self, host: &Host<'_>) -> [u64; STRATEGIES_MAX] {
        let mut key = [0; STRATEGIES_MAX];
        for (slot, (strategy, spread)) in
            key.iter_mut().zip(self.strategies.iter().zip(&self.spread))
        {
            *slot = match strategy {
                Strategy::BinpackCpu => u64::from(host.left.resources.cpu.0),
                Strategy::BinpackMemory => u64::from(host.left.resources.memory.0),
                Strategy::Spread(Field::Instance) => u64::from(host.of_group(self.group)),
                Strategy::Spread(Field::Attribute(name)) => {
                    u64::from(spread.get(&value(host, name)).copied().unwrap_or(0))
                }
                Strategy::Random => mix(self.draw, host),
            };
        }
        if self.strategies.is_empty() {
            key[0] = mix(self.draw, host);
        }
        key
    }

    /// Counts a task that was just put on `host`, and draws anew.
    pub(crate) fn placed(&mut self, host: &Host<'_>) {
        for (strategy, spread) in self.strategies.iter().zip(&mut self.spread) {
            if let Strategy::Spread(Field::Attribute(name)) = strategy {
                *spread.entry(value(host, name)).or_default() += 1;
            }
        }
        self.draw = self.draw.wrapping_add(0x9e37_79b9_7f4a_7c15);
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
