//! The queues that are kept, one a shape of ask; those not asked for the longest go first.

use std::collections::BTreeMap;

use super::groups::GroupId;
use super::hosts::{Hosts, SlotId};
use super::queue::Queue;
use super::shape::{Shape, fingerprint, is_watching};
use crate::placement::Ask;

/// How much a fleet keeps. Its answers do not depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many hosts all queues of a fleet hold together.
    pub held_hosts_max: usize,
    /// So many queues are kept however large the fleet is.
    pub queues_min: usize,
    /// A group that is on more hosts gets queues of its own, where it matters which hosts they are.
    pub guests_max: usize,
}

impl Default for Limits {
    /// Some 60 MB at most.
    fn default() -> Self {
        Self { held_hosts_max: 1 << 19, queues_min: 8, guests_max: 256 }
    }
}

#[derive(Debug, Default)]
pub(super) struct Queues {
    limits: Limits,
    held: BTreeMap<u64, Held>,
    asks: u64,
    /// The ask that the last queue was made for.
    made_at: u64,
}

#[derive(Debug)]
struct Held {
    queue: Queue,
    used: u64,
}

impl Queues {
    pub(super) fn within(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// The queue for asks like this one, whose group has that number.
    pub(super) fn of(&mut self, ask: &Ask<'_>, group: GroupId, hosts: &Hosts) -> &mut Queue {
        self.asks += 1;
        let most = (self.limits.held_hosts_max / hosts.len().max(1)).max(self.limits.queues_min);
        let is_own = is_watching(ask) && self.is_on_many(group, hosts) && self.takes_own(ask, most);
        let print = fingerprint(ask, is_own);
        if !self.holds(print, ask, is_own) {
            self.held.remove(&print);
            while most <= self.held.len() {
                self.drop_oldest();
            }
            self.made_at = self.asks;
        }
        let new = || Held { queue: Queue::new(Shape::of(ask, is_own)), used: 0 };
        let held = self.held.entry(print).or_insert_with(new);
        held.used = self.asks;
        &mut held.queue
    }

    /// The host of the slot is gone.
    pub(super) fn forget(&mut self, slot: SlotId) {
        for held in self.held.values_mut() {
            held.queue.forget(slot);
        }
    }

    fn is_on_many(&self, group: GroupId, hosts: &Hosts) -> bool {
        hosts.places(group).nth(self.limits.guests_max).is_some()
    }

    fn holds(&self, print: u64, ask: &Ask<'_>, is_own: bool) -> bool {
        self.held.get(&print).is_some_and(|held| held.queue.is_of(ask, is_own))
    }

    /// Whether the group has a queue to itself or gets one. Where there are too many groups for that, one
    /// now and then does: to make a queue costs as much as many asks do that go without.
    fn takes_own(&self, ask: &Ask<'_>, most: usize) -> bool {
        let since = usize::try_from(self.asks - self.made_at).unwrap_or(usize::MAX);
        self.held.len() < most || most < since || self.holds(fingerprint(ask, true), ask, true)
    }

    fn drop_oldest(&mut self) {
        let oldest = self.held.iter().min_by_key(|(_, held)| held.used);
        let oldest = oldest.map(|(print, _)| *print);
        oldest.and_then(|oldest| self.held.remove(&oldest));
    }
}
