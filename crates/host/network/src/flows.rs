//! Flows of interfaces that are logged: a table of its own beside the one that judges, in which the kernel counts packets by
//! their ends at three places: before anything is judged, once their sender may send them, and once all let them pass.
//! What is missing at a later place was stopped before it.
//!
//! Nothing is told of one packet, and nothing waits for anybody: the counts are read now and then.
//!
//! **Invariant:** the table judges nothing, and is there only while an interface is logged.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use longshore_types::{Chain, Cidr, EniId};
use tracing::warn;
use traffic::feed::Place;
use traffic::flows::{Count, Flow, FlowKey};

use crate::limits::{FLOW_IDLE_MS, FLOWS_COUNTED_MAX};
use crate::names::NetTag;
use crate::netlink::NetlinkError;
use crate::nft::expr::Rule;
use crate::nft::{self, Batch, DataType, Element, Hook, HookNumber, Verdict};
use crate::publish::Protocol;
use crate::ruleset::LINK_LOCAL;
use crate::worker::Worker;

const LOGGED: &str = "logged";

/// A place on the way, by the name of its set, and where it is among the chains that judge.
const PLACES: [(&str, i32); 3] = [("seen", -4), ("sent", -1), ("passed", 3)];

/// What was counted at each of the places.
type Counts = [Count; 3];

/// What is known of flows in one namespace.
#[derive(Debug, Default)]
pub(crate) struct FlowCounts {
    /// Those for which the table is there.
    logged: BTreeMap<Ipv4Addr, EniId>,
    /// Whether the table is this process's: one before it may have left its own, and one that cannot be read may be gone.
    is_own: bool,
    known: BTreeMap<FlowKey, Known>,
    /// What was counted of interfaces until they were logged no more, and was not told yet.
    last: CountedFlows,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// As the sets said last.
    last: Counts,
    /// All that was counted, whatever the sets have forgotten since.
    total: Counts,
    told: Told,
}

/// What of it was told, of the sender and of the receiver.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    sent: Count,
    not_sent: Count,
    received: Count,
    not_received: Count,
}

/// What is told of interfaces.
#[derive(Clone, Debug, Default)]
pub struct CountedFlows {
    pub flows: Vec<Flow>,
    pub logged: BTreeSet<EniId>,
    /// Those of which some may be missing: their VPC had more than are counted.
    pub skipped: BTreeSet<EniId>,
}

impl CountedFlows {
    /// Adds another VPC's.
    pub(crate) fn extend(&mut self, other: Self) {
        self.flows.extend(other.flows);
        self.logged.extend(other.logged);
        self.skipped.extend(other.skipped);
    }

    /// Adds what came later. How much waits to be told is bounded; of whom there was more is said.
    pub(crate) fn add(&mut self, later: Self) {
        let room = FLOWS_COUNTED_MAX.saturating_sub(self.flows.len());
        let mut flows = later.flows.into_iter();
        self.flows.extend(flows.by_ref().take(room));
        self.skipped.extend(flows.map(|flow| flow.eni).chain(later.skipped));
        self.logged.extend(later.logged);
    }
}

impl Worker {
    /// Has those interfaces be counted that the region said.
    pub(crate) fn follow_logged(&mut self) -> Result<(), NetlinkError> {
        let vpc = self.own_vpc();
        let here = self.feed.interfaces.values().filter(|it| {
            it.is_logged
                && it.place == Place::Here
                && vpc.as_ref().is_some_and(|vpc| it.vpc == vpc.id && vpc.contains(it.address))
        });
        let wanted: BTreeMap<Ipv4Addr, EniId> =
            here.map(|it| (it.address, it.id.clone())).collect();
        if wanted == self.flows.logged && self.flows.is_own {
            return Ok(());
        }
        let is_any_over =
            self.flows.logged.iter().any(|(address, eni)| wanted.get(address) != Some(eni));
        if is_any_over && self.flows.is_own {
            match self.read_flows() {
                Ok(last) => self.flows.keep(last),
                Err(error) => {
                    warn!(error = %Chain(&error), "the last flows of interfaces are lost");
                }
            }
        }
        let is_new = self.flows.logged.is_empty() || !self.flows.is_own;
        let mut batch = Batch::new(self.flows_table());
        match (is_new, wanted.is_empty()) {
            (_, true) => {
                // It need not be there.
                batch.add_table();
                batch.delete_table();
                self.flows.known.clear();
            }
            (true, false) => make(&mut batch, wanted.keys()),
            (false, false) => {
                let before = &self.flows.logged;
                let gone = before.keys().filter(|address| !wanted.contains_key(*address));
                batch.delete_elements(LOGGED, &gone.map(element).collect::<Vec<_>>());
                let new = wanted.keys().filter(|address| !before.contains_key(*address));
                batch.add_elements(LOGGED, &new.map(element).collect::<Vec<_>>());
            }
        }
        batch.apply(&mut self.netfilter)?;
        self.flows.logged = wanted;
        self.flows.is_own = true;
        Ok(())
    }

    fn flows_table(&self) -> String {
        table_of(self.table.plan().tag)
    }

    /// What has come since the last time.
    pub(crate) fn read_flows(&mut self) -> Result<CountedFlows, NetlinkError> {
        if self.flows.logged.is_empty() {
            return Ok(std::mem::take(&mut self.flows.last));
        }
        let now = match self.counts_now() {
            Ok(now) => now,
            Err(error) => {
                // It is made anew with what is told or asked next, and counts from nothing.
                self.flows.is_own = false;
                self.flows.known.clear();
                return Err(error);
            }
        };
        let is_full = now.len() >= FLOWS_COUNTED_MAX;
        let mut read = std::mem::take(&mut self.flows.last);
        read.add(self.flows.take_in(&now, is_full));
        Ok(read)
    }

    fn counts_now(&mut self) -> Result<BTreeMap<FlowKey, Counts>, NetlinkError> {
        let table = self.flows_table();
        // In the order of the places: what comes meanwhile is not taken for stopped.
        let mut now: BTreeMap<FlowKey, Counts> = BTreeMap::new();
        for (place, (set, _)) in PLACES.iter().enumerate() {
            nft::read_counts(&mut self.netfilter, &table, set, |key, count| {
                if let Some(key) = read_key(key) {
                    now.entry(key).or_default()[place] = count;
                }
            })?;
        }
        Ok(now)
    }
}

impl FlowCounts {
    /// What was counted of interfaces that are logged no more, to be told with what comes next.
    pub(crate) fn keep(&mut self, counted: CountedFlows) {
        self.last.add(CountedFlows { logged: BTreeSet::new(), ..counted });
    }

    fn take_in(&mut self, now: &BTreeMap<FlowKey, Counts>, is_full: bool) -> CountedFlows {
        let mut flows = Vec::new();
        for (key, counts) in now {
            let known = self.known.entry(*key).or_default();
            known.count(*counts);
            let told = known.told;
            known.tell();
            let ends = [
                (
                    key.source,
                    true,
                    known.told.sent.since(told.sent),
                    known.told.not_sent.since(told.not_sent),
                ),
                (
                    key.destination,
                    false,
                    known.told.received.since(told.received),
                    known.told.not_received.since(told.not_received),
                ),
            ];
            for (address, is_egress, accepted, rejected) in ends {
                let Some(eni) = self.logged.get(&address) else { continue };
                if !(accepted.is_empty() && rejected.is_empty()) {
                    let eni = eni.clone();
                    flows.push(Flow { eni, key: *key, is_egress, accepted, rejected });
                }
            }
        }
        // What is idle for long the kernel forgets, and comes again from nothing.
        self.known.retain(|key, _| now.contains_key(key));
        let logged: BTreeSet<EniId> = self.logged.values().cloned().collect();
        let skipped = if is_full { logged.clone() } else { BTreeSet::new() };
        CountedFlows { flows, logged, skipped }
    }
}

impl Known {
    fn count(&mut self, now: Counts) {
        for place in 0..now.len() {
            let (now, last) = (now[place], self.last[place]);
            // A set that forgot a flow counts it from nothing.
            let new = if now.packets < last.packets { now } else { now.since(last) };
            self.total[place] = self.total[place].and(new);
            self.last[place] = now;
        }
    }

    /// What was stopped never becomes less: a packet that is on its way while the sets are read is at one place before
    /// it is at another.
    fn tell(&mut self) {
        let [seen, sent, passed] = self.total;
        let more = |told: &mut Count, now: Count| {
            if told.packets < now.packets {
                *told = now;
            }
        };
        more(&mut self.told.sent, sent);
        more(&mut self.told.not_sent, seen.since(sent));
        more(&mut self.told.received, passed);
        more(&mut self.told.not_received, sent.since(passed));
    }
}

/// The name of the table that counts.
pub(crate) fn table_of(tag: NetTag) -> String {
    format!("{}_flows", tag.table())
}

fn element(address: &Ipv4Addr) -> Element {
    Element { key: address.octets().to_vec(), value: None }
}

/// The whole table.
fn make<'a>(batch: &mut Batch, logged: impl Iterator<Item = &'a Ipv4Addr>) {
    batch.replace_table();
    batch.add_set(LOGGED, DataType::Address);
    batch.add_elements(LOGGED, &logged.map(element).collect::<Vec<_>>());
    let local: Cidr = LINK_LOCAL;
    for (set, priority) in PLACES {
        batch.add_counting_set(set, FLOWS_COUNTED_MAX, FLOW_IDLE_MS);
        let count = format!("count_{set}");
        batch.add_chain(&count);
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let with_ports = Rule::new().protocol(protocol.number()).counted_by_ends(set, true);
            batch.add_rule(&count, with_ports.then(Verdict::Accept).exprs());
        }
        batch.add_rule(&count, Rule::new().counted_by_ends(set, false).exprs());
        let chain = format!("at_{set}");
        let hook = Hook { kind: "filter", number: HookNumber::Forward, priority };
        batch.add_base_chain(&chain, hook);
        let ipv4 = || Rule::new().ipv4(true);
        let rules = [
            Rule::new().ipv4(false).then(Verdict::Accept),
            // Names, metadata and credentials are not in the logs of AWS either.
            ipv4().destination_in(local, true).then(Verdict::Accept),
            ipv4().source_in(local, true).then(Verdict::Accept),
            ipv4().source_in_set(LOGGED).then(Verdict::Goto(count.clone())),
            ipv4().destination_in_set(LOGGED).then(Verdict::Goto(count)),
        ];
        rules.iter().for_each(|rule| batch.add_rule(&chain, rule.exprs()));
    }
}

/// As [`Rule::counted_by_ends`] lays it out: each part begins at a word.
fn read_key(key: &[u8]) -> Option<FlowKey> {
    let word = |at: usize| key.get(at * 4..at * 4 + 4)?.first_chunk::<4>().copied();
    let port = |word: [u8; 4]| u16::from_be_bytes([word[0], word[1]]);
    Some(FlowKey {
        source: word(0)?.into(),
        destination: word(1)?.into(),
        protocol: word(2)?[0],
        source_port: port(word(3)?),
        destination_port: port(word(4)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> FlowKey {
        FlowKey {
            source: [10, 0, 1, 4].into(),
            destination: [10, 0, 2, 4].into(),
            protocol: 6,
            source_port: 40_000,
            destination_port: 80,
        }
    }

    fn counts(seen: u64, sent: u64, passed: u64) -> BTreeMap<FlowKey, Counts> {
        let count = |packets| Count { packets, bytes: packets * 100 };
        [(key(), [count(seen), count(sent), count(passed)])].into()
    }

    fn both() -> FlowCounts {
        let eni = |last: u8| format!("eni-0000000{last}").parse().unwrap();
        let logged = [([10, 0, 1, 4].into(), eni(1)), ([10, 0, 2, 4].into(), eni(2))].into();
        FlowCounts { logged, is_own: true, ..FlowCounts::default() }
    }

    /// Packets that the sender was let send, was kept from sending, the receiver got, and was spared.
    fn told(flows: &mut FlowCounts, now: &BTreeMap<FlowKey, Counts>) -> [u64; 4] {
        let mut told = [0; 4];
        for flow in flows.take_in(now, false).flows {
            let at = if flow.is_egress { 0 } else { 2 };
            told[at] += flow.accepted.packets;
            told[at + 1] += flow.rejected.packets;
            assert_eq!(flow.accepted.bytes, flow.accepted.packets * 100);
        }
        told
    }

    #[test]
    fn who_stopped_a_packet_is_told_by_where_it_was_missing() {
        let mut flows = both();
        assert_eq!(told(&mut flows, &counts(10, 10, 10)), [10, 0, 10, 0]);
        assert_eq!(told(&mut flows, &counts(13, 10, 10)), [0, 3, 0, 0], "its sender may not");
        assert_eq!(told(&mut flows, &counts(18, 15, 10)), [5, 0, 0, 5], "its receiver may not");
        assert_eq!(told(&mut flows, &counts(18, 15, 10)), [0; 4]);
        assert!(flows.take_in(&counts(18, 15, 10), false).skipped.is_empty());
        assert_eq!(flows.take_in(&counts(18, 15, 10), true).skipped.len(), 2);
    }

    #[test]
    fn packets_on_their_way_while_it_is_read_are_not_taken_for_stopped() {
        let mut flows = both();
        assert_eq!(told(&mut flows, &counts(100, 102, 103)), [102, 0, 103, 0]);
        assert_eq!(told(&mut flows, &counts(200, 201, 201)), [99, 0, 98, 0]);
        assert_eq!(told(&mut flows, &counts(201, 201, 201)), [0; 4]);
    }

    #[test]
    fn what_a_set_has_forgotten_is_not_lost_of_the_total() {
        let mut flows = both();
        assert_eq!(told(&mut flows, &counts(10, 10, 10)), [10, 0, 10, 0]);
        // It goes on, and is stopped from now on; the later sets forget it.
        assert_eq!(told(&mut flows, &counts(12, 0, 0)), [0, 2, 0, 0]);
        // Forgotten by all, it is another one.
        assert_eq!(told(&mut flows, &BTreeMap::new()), [0; 4]);
        assert_eq!(told(&mut flows, &counts(1, 1, 1)), [1, 0, 1, 0]);
    }

    #[test]
    fn a_key_is_read_as_it_is_laid_out() {
        let bytes = [10, 0, 1, 4, 10, 0, 2, 4, 6, 0, 0, 0, 0x9c, 0x40, 0, 0, 0, 80, 0, 0];
        assert_eq!(read_key(&bytes), Some(key()));
        assert_eq!(read_key(&bytes[..19]), None);
    }
}
