//! What balancers' processes counted, as what it grew by since it was last put to the metrics.
//!
//! A process says with each report all that it counted since it began, so that a report that is lost costs nothing. Of a process
//! that is heard for the first time nothing is known to be new: the region may have put it to the metrics before it was
//! restarted.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use longshore_types::Timestamp;
use routing::CountedFor;
use traffic::figures::Counted;

use crate::feed::Host;
use crate::health::FRESH_MS;
use crate::limits::{COUNTED_MAX, NODES_MAX};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Counting(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    hosts: BTreeMap<Host, Heard>,
    grown: BTreeMap<CountedFor, Counted>,
}

/// What a process said last.
#[derive(Debug)]
struct Heard {
    since: Timestamp,
    at: Timestamp,
    counted: BTreeMap<CountedFor, Counted>,
}

impl Counting {
    fn held(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what the process on a host has counted `since` it began. `is_its`: whether it may speak of something.
    pub(crate) fn heard(
        &self,
        host: Host,
        (since, now): (Timestamp, Timestamp),
        figures: BTreeMap<String, Counted>,
        is_its: impl Fn(&CountedFor) -> bool,
    ) {
        let parsed = figures
            .into_iter()
            .filter_map(|(name, counted)| Some((CountedFor::parse(&name)?, counted)));
        let counted: BTreeMap<CountedFor, Counted> = parsed.take(COUNTED_MAX).collect();
        let mut held = self.held();
        let Counts { hosts, grown } = &mut *held;
        hosts.retain(|it, heard| *it == host || now.since_ms(heard.at) < FRESH_MS);
        if NODES_MAX < hosts.len() && !hosts.contains_key(&host) {
            return;
        }
        let before = hosts.insert(host, Heard { since, at: now, counted });
        let (Some(before), Some(heard)) = (before, hosts.get(&host)) else { return };
        let is_same = before.since == since;
        for (name, counted) in heard.counted.iter().filter(|(name, _)| is_its(name)) {
            let old = before.counted.get(name).filter(|_| is_same);
            let more = old.map_or_else(|| counted.clone(), |old| counted.since(old));
            grown.entry(name.clone()).or_default().add(&more);
        }
    }

    /// What was counted since this was last asked; `open` is what is open now.
    pub(crate) fn take(&self, now: Timestamp) -> BTreeMap<CountedFor, Counted> {
        let mut held = self.held();
        let mut grown = std::mem::take(&mut held.grown);
        grown.values_mut().for_each(|counted| counted.open = 0);
        let fresh = held.hosts.values().filter(|heard| now.since_ms(heard.at) < FRESH_MS);
        for (name, counted) in fresh.flat_map(|heard| &heard.counted) {
            // What was none of its own has not grown either.
            if let Some(all) = grown.get_mut(name) {
                all.open = all.open.saturating_add(counted.open);
            }
        }
        grown
    }
}

#[cfg(test)]
mod tests {
    use routing::BalancerId;

    use super::*;

    fn named(balancer: &str) -> CountedFor {
        CountedFor { balancer: BalancerId(balancer.to_owned()), zone: None, group: None }
    }

    fn said(requests: u64, open: u64) -> BTreeMap<String, Counted> {
        let counted = Counted { requests, open, ..Counted::default() };
        ["a", "b"].map(|name| (named(name).name(), counted.clone())).into()
    }

    #[test]
    fn what_a_process_counted_is_told_once_and_of_balancers_that_are_its_own() {
        let counting = Counting::default();
        let its = |it: &CountedFor| it.balancer.0 == "a";
        let heard = |since, figures| {
            counting.heard(None, (Timestamp(since), Timestamp(9)), figures, its);
        };
        let taken = || {
            let taken = counting.take(Timestamp(9));
            assert!(taken.keys().all(its));
            taken.get(&named("a")).map(|it| (it.requests, it.open))
        };
        heard(1, said(100, 1));
        assert_eq!(taken(), None, "it may have been told before the region's restart");
        heard(1, said(103, 2));
        heard(1, said(104, 1));
        assert_eq!(taken(), Some((4, 1)));
        heard(1, said(104, 1));
        assert_eq!(taken(), Some((0, 1)));
        heard(2, said(6, 0));
        assert_eq!(taken(), Some((6, 0)), "another process begins at nothing");
    }

    #[test]
    fn a_name_that_is_new_of_a_known_process_was_counted_since_it_was_heard() {
        let counting = Counting::default();
        let heard = |figures| counting.heard(None, (Timestamp(1), Timestamp(9)), figures, |_| true);
        heard(BTreeMap::new());
        heard(said(3, 1));
        assert_eq!(counting.take(Timestamp(9))[&named("a")].requests, 3);
        heard(BTreeMap::from([("web".to_owned(), Counted::default())]));
        assert!(counting.take(Timestamp(9)).is_empty(), "what is named otherwise is no balancer's");
    }
}
