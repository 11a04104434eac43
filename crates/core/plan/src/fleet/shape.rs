//! What makes two asks alike: the same instances would do for both, in the same order.
//!
//! How a group is spread over zones is counted apart, so that all groups share a queue. Where the fit or
//! the order of single instances depends on the group, small groups share one too, and their own
//! instances are looked at singly; a group that is on many instances has a shape to itself.

use model::RequiredAttribute;
use model::task::{Need, Protocol};

use crate::fit::expressions;
use crate::placement::{Ask, Constraint, Pool};
use crate::query::Reach;
use crate::strategy::{Field, Order, Strategy, mix};

#[derive(Debug)]
pub(super) struct Shape {
    pub(super) need: Need,
    pool: OwnPool,
    pub(super) requires: Vec<RequiredAttribute>,
    pub(super) zones: Vec<String>,
    pub(super) constraints: Vec<Constraint>,
    pub(super) ranks: Vec<Strategy>,
    pub(super) is_random: bool,
    /// Of a shape that is for one group alone.
    group: Option<String>,
    /// Whether single instances are better or worse for having tasks of the group.
    pub(super) is_watching: bool,
    pub(super) is_distinct: bool,
    pub(super) reach: Reach,
}

#[derive(Debug)]
enum OwnPool {
    Own,
    External,
    Group(String),
}

impl Shape {
    pub(super) fn of(ask: &Ask<'_>, is_own: bool) -> Self {
        let order = Order::of(ask.strategies);
        let reaches = expressions(ask.constraints).map(|expression| expression.reach());
        Self {
            need: ask.need.clone(),
            pool: match ask.pool {
                Pool::Own => OwnPool::Own,
                Pool::External => OwnPool::External,
                Pool::Group(name) => OwnPool::Group(name.to_owned()),
            },
            requires: ask.requires.to_vec(),
            zones: ask.zones.to_vec(),
            constraints: ask.constraints.to_vec(),
            ranks: order.ranks.to_vec(),
            is_random: order.is_random,
            group: is_own.then(|| ask.group.to_owned()),
            is_watching: is_watching(ask),
            is_distinct: ask.is_distinct(),
            reach: reaches.max().unwrap_or(Reach::Kind),
        }
    }

    pub(super) fn pool(&self) -> Pool<'_> {
        match &self.pool {
            OwnPool::Own => Pool::Own,
            OwnPool::External => Pool::External,
            OwnPool::Group(name) => Pool::Group(name),
        }
    }

    /// Whether it is for one group alone.
    pub(super) fn is_own(&self) -> bool {
        self.group.is_some()
    }

    pub(super) fn is_of(&self, ask: &Ask<'_>, is_own: bool) -> bool {
        let order = Order::of(ask.strategies);
        self.need == *ask.need
            && self.pool() == ask.pool
            && self.requires == ask.requires
            && self.zones == ask.zones
            && self.constraints == ask.constraints
            && self.ranks == order.ranks
            && self.is_random == order.is_random
            && self.group.as_deref() == is_own.then_some(ask.group)
    }
}

/// Whether single instances are better or worse for having tasks of the ask's group.
pub(super) fn is_watching(ask: &Ask<'_>) -> bool {
    let ranks = Order::of(ask.strategies).ranks;
    ranks.contains(&Strategy::Spread(Field::Instance)) || ask.is_distinct()
}

/// A number that asks of one shape have in common, and others hardly.
pub(super) fn fingerprint(ask: &Ask<'_>, is_own: bool) -> u64 {
    let mut print = Print(0);
    print.number(u64::from(ask.need.resources.cpu.0));
    print.number(u64::from(ask.need.resources.memory.0));
    print.number(u64::from(ask.need.gpus));
    for port in &ask.need.ports {
        let protocol = match port.protocol {
            Protocol::Tcp => 0,
            Protocol::Udp => 1,
        };
        print.number(u64::from(port.port) << 1 | protocol);
    }
    match ask.pool {
        Pool::Own => print.number(0),
        Pool::External => print.number(1),
        Pool::Group(name) => print.text(name),
    }
    for required in ask.requires {
        print.text(&required.name);
        print.text(required.value.as_deref().unwrap_or_default());
    }
    for zone in ask.zones {
        print.number(9);
        print.text(zone);
    }
    for constraint in ask.constraints {
        match constraint {
            Constraint::DistinctInstance => print.number(2),
            Constraint::MemberOf(expression) => print.text(expression.text()),
        }
    }
    let order = Order::of(ask.strategies);
    print.number(3 + u64::from(order.is_random));
    for rank in order.ranks {
        match rank {
            Strategy::BinpackCpu => print.number(5),
            Strategy::BinpackMemory => print.number(6),
            Strategy::Spread(Field::Instance) => print.number(7),
            Strategy::Spread(Field::Attribute(name)) => print.text(name),
            Strategy::Random => print.number(8),
        }
    }
    if is_own {
        print.text(ask.group);
    }
    print.0
}

struct Print(u64);

impl Print {
    fn number(&mut self, number: u64) {
        self.0 = mix(self.0 ^ number);
    }

    fn text(&mut self, text: &str) {
        let (words, rest) = text.as_bytes().as_chunks::<8>();
        for word in words {
            self.number(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.number(u64::from_le_bytes(last));
        self.number(u64::try_from(text.len()).unwrap_or(u64::MAX));
    }
}
