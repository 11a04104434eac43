//! The queues that are kept, one a shape of ask; those not asked for the longest go first.

use std::collections::BTreeMap;

use super::hosts::SlotId;
use super::queue::Queue;
use super::shape::{Shape, fingerprint};
use crate::placement::Ask;

/// How many hosts all queues of a fleet may hold together: some 60 MB.
const HELD_HOSTS_MAX: usize = 1 << 19;
/// So many queues are kept however large the fleet is.
const QUEUES_MIN: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Queues {
    held: BTreeMap<u64, Held>,
    asks: u64,
}

#[derive(Debug)]
struct Held {
    queue: Queue,
    used: u64,
}

impl Queues {
    /// The queue for asks like this one in a fleet of `hosts`.
    pub(super) fn of(&mut self, ask: &Ask<'_>, hosts: usize) -> &mut Queue {
        self.asks += 1;
        let print = fingerprint(ask);
        let is_there = self.held.get(&print).is_some_and(|held| held.queue.is_of(ask));
        if !is_there {
            self.make_room(hosts);
        }
        let new = || Held { queue: Queue::new(Shape::of(ask)), used: 0 };
        let held = self.held.entry(print).or_insert_with(new);
        if !held.queue.is_of(ask) {
            *held = new();
        }
        held.used = self.asks;
        &mut held.queue
    }

    /// The host of the slot is gone.
    pub(super) fn forget(&mut self, slot: SlotId) {
        for held in self.held.values_mut() {
            held.queue.forget(slot);
        }
    }

    fn make_room(&mut self, hosts: usize) {
        let most = (HELD_HOSTS_MAX / hosts.max(1)).max(QUEUES_MIN);
        while most <= self.held.len() {
            let oldest = self.held.iter().min_by_key(|(_, held)| held.used);
            let Some(oldest) = oldest.map(|(print, _)| *print) else { break };
            self.held.remove(&oldest);
        }
    }
}
