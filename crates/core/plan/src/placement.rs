//! Placement: hosts and what is asked of them in, a plan and the refusals out.
//!
//! [`plan`] looks at every host for every task: for a few hosts, and as the plain statement of what a
//! [`crate::Fleet`] must answer too.
//!
//! **Invariant:** a plan never gives away what a host has not left: not CPU, not memory, no port twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_types::InstanceId;
use model::RequiredAttribute;
use model::task::Need;

use crate::fit::{binding_zones, by_facts, by_nature, by_room, is_in_pool};
use crate::host::Host;
use crate::query::Expression;
use crate::refusal::{Refusals, Unfit};
use crate::strategy::Field;
use crate::strategy::{Key, Order, Strategy, lot, next_seed, points, ring, values_hash};

/// What an instance must satisfy beyond having capacity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Constraint {
    /// No other task of the group may be there.
    DistinctInstance,
    MemberOf(Expression),
}

/// The instances that an ask looks at. Others are not even among the refusals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pool<'a> {
    /// Those of launch type EC2, of whichever capacity provider or of none.
    #[default]
    Own,
    /// Those of launch type EXTERNAL.
    External,
    /// Those of one Auto Scaling group, which is to say of one capacity provider.
    Group(&'a str),
}

/// What is asked: capacity for tasks that are all alike.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    pub need: &'a Need,
    pub group: &'a str,
    pub pool: Pool<'a>,
    pub requires: &'a [RequiredAttribute],
    /// Those of the subnets of tasks with interfaces of their own, for others none. They bind as [`binding_zones`] says.
    pub zones: &'a [String],
    pub constraints: &'a [Constraint],
    pub strategies: &'a [Strategy],
}

/// Where tasks go, and why no more of them fitted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// One entry a task that was placed, in the order of placing.
    pub placements: Vec<InstanceId>,
    /// Why each host refused the first task that fitted nowhere; `None` if all were placed.
    pub refusals: Option<Arc<Refusals>>,
}

/// Finds places for `count` tasks. `seed` stands for chance. Ties go to the lowest id.
pub fn plan(hosts: &mut [Host<'_>], ask: &Ask<'_>, count: u32, mut seed: u64) -> Plan {
    let instances = hosts.iter().map(|host| host.instance);
    let ask = &Ask { zones: binding_zones(ask.zones, ask.pool, instances), ..*ask };
    let mut plan = Plan::default();
    for _ in 0..count {
        let Some(index) = best(hosts, ask, seed) else {
            let why = |host: &Host<'_>| Some((host.id(), fit(host, ask).err()?));
            let considered = hosts.iter().filter(|host| is_in_pool(host.instance, ask.pool));
            plan.refusals = Some(Arc::new(Refusals::of(considered.filter_map(why).collect())));
            return plan;
        };
        hosts[index].take(ask.need, ask.group);
        plan.placements.push(hosts[index].id());
        seed = next_seed(seed);
    }
    plan
}

/// Whether `host` would take one such task, or the first reason against it. Neither pool nor
/// strategies play a part, and the ask's zones are those that bind.
pub fn fit(host: &Host<'_>, ask: &Ask<'_>) -> Result<(), Unfit> {
    by_nature(host.instance, ask.requires, ask.zones)?;
    by_facts(ask.constraints, &host.facts())?;
    by_room(
        host.left.resources,
        host.left.gpus,
        |port| host.left.taken_ports.contains(port),
        || host.of_group(ask.group),
        ask.need,
        ask.is_distinct(),
    )
}

/// The index of the best host, if any would do.
fn best(hosts: &[Host<'_>], ask: &Ask<'_>, seed: u64) -> Option<usize> {
    let order = Order::of(ask.strategies);
    let counts: Vec<BTreeMap<Option<&str>, u32>> =
        order.ranks.iter().map(|rank| count_values(hosts, ask.group, rank)).collect();
    let would_do = |host: &Host<'_>| is_in_pool(host.instance, ask.pool) && fit(host, ask).is_ok();
    let fitting = hosts.iter().enumerate().filter(|(_, host)| would_do(host));
    let keyed: Vec<(Key, usize)> =
        fitting.map(|(index, host)| (key(host, ask.group, &order, &counts), index)).collect();
    let (smallest, _) = keyed.iter().min()?;
    let equals = keyed.iter().filter(|(key, _)| key == smallest).map(|(_, index)| *index);
    if order.is_random {
        by_chance(hosts, &order, seed, equals)
    } else {
        equals.min_by_key(|index| hosts[*index].id())
    }
}

/// How many tasks of the group each value of the rank's attribute has.
fn count_values<'h>(
    hosts: &'h [Host<'_>],
    group: &str,
    rank: &Strategy,
) -> BTreeMap<Option<&'h str>, u32> {
    let mut counts = BTreeMap::new();
    if let Some(name) = rank.attribute() {
        for host in hosts {
            *counts.entry(value(host, name)).or_default() += host.of_group(group);
        }
    }
    counts
}

fn key(
    host: &Host<'_>,
    group: &str,
    order: &Order<'_>,
    counts: &[BTreeMap<Option<&str>, u32>],
) -> Key {
    let mut key = Key::default();
    for ((slot, rank), counts) in key.iter_mut().zip(order.ranks).zip(counts) {
        *slot = match rank {
            Strategy::BinpackCpu => host.left.resources.cpu.0,
            Strategy::BinpackMemory => host.left.resources.memory.0,
            Strategy::Spread(Field::Instance) => host.of_group(group),
            Strategy::Spread(Field::Attribute(name)) => {
                counts.get(&value(host, name)).copied().unwrap_or(0)
            }
            Strategy::Random => 0,
        };
    }
    key
}

/// Of hosts that are equal: first the values of their attributes are drawn, then one of the hosts.
fn by_chance(
    hosts: &[Host<'_>],
    order: &Order<'_>,
    seed: u64,
    equals: impl Iterator<Item = usize>,
) -> Option<usize> {
    let mut cells: BTreeMap<_, Vec<(u32, InstanceId, usize)>> = BTreeMap::new();
    for index in equals {
        let host = &hosts[index];
        let names = order.ranks.iter().filter_map(Strategy::attribute);
        let values: Vec<Option<&str>> = names.map(|name| value(host, name)).collect();
        let lot = lot(seed, values_hash(values.iter().copied()));
        cells.entry((lot, values)).or_default().push((ring(host.id()), host.id(), index));
    }
    let (_, mut cell) = cells.pop_first()?;
    cell.sort_unstable();
    let after = |point: u32| cell.iter().find(|(at, ..)| point <= *at).or(cell.first());
    let candidates = points(seed).into_iter().filter_map(after);
    candidates.min_by_key(|(_, id, index)| (hosts[*index].tasks, *id)).map(|(_, _, index)| *index)
}

fn value<'h>(host: &'h Host<'_>, attribute: &str) -> Option<&'h str> {
    host.instance.attributes.get(attribute)?.as_deref()
}
