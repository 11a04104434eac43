//! What makes two asks alike: the same instances would do for both, in the same order.
//!
//! The group plays a part only where the fit or the order of single instances depends on it. How a
//! group is spread over zones is counted apart, so that all groups share a queue.

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
    pub(super) constraints: Vec<Constraint>,
    pub(super) ranks: Vec<Strategy>,
    pub(super) is_random: bool,
    group: Option<String>,
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
    pub(super) fn of(ask: &Ask<'_>) -> Self {
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
            constraints: ask.constraints.to_vec(),
            ranks: order.ranks.to_vec(),
            is_random: order.is_random,
            group: watched_group(ask).map(str::to_owned),
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

    pub(super) fn is_of(&self, ask: &Ask<'_>) -> bool {
        let order = Order::of(ask.strategies);
        self.need == *ask.need
            && self.pool() == ask.pool
            && self.requires == ask.requires
            && self.constraints == ask.constraints
            && self.ranks == order.ranks
            && self.is_random == order.is_random
            && self.group.as_deref() == watched_group(ask)
    }
}

/// The group, if single instances are better or worse for it.
fn watched_group<'a>(ask: &Ask<'a>) -> Option<&'a str> {
    let ranks = Order::of(ask.strategies).ranks;
    let is_spread = ranks.contains(&Strategy::Spread(Field::Instance));
    (is_spread || ask.is_distinct()).then_some(ask.group)
}

/// A number that asks of one shape have in common, and others hardly.
pub(super) fn fingerprint(ask: &Ask<'_>) -> u64 {
    let mut print = Print(0);
    print.number(u64::from(ask.need.resources.cpu.0));
    print.number(u64::from(ask.need.resources.memory.0));
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
    if let Some(group) = watched_group(ask) {
        print.text(group);
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
