//! At which port of the machine's own address a listener is reached.
//!
//! What the machine keeps for itself is never taken: those ports that agents keep for it, as Amazon's do, and those that its
//! operator has set aside in the kernel (`net.ipv4.ip_local_reserved_ports`). Of what is in use the kernel says so itself.

use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;

use routing::PublishedPort;

use crate::sockets::Transport;

/// Where the kernel says which ports its operator has set aside, in the network of the process.
const SET_ASIDE: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
/// SSH, Docker, where hosts exchange tasks' packets and give each other layers, and where agents are asked.
const KEPT: [u16; 7] = [22, 2375, 2376, 14789, 14790, 51678, 51679];

/// The ports that are not to be taken, whoever uses them now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KeptPorts(Vec<RangeInclusive<u16>>);

impl KeptPorts {
    /// As they are at this moment, with those that tasks publish.
    pub(super) fn now(published: &BTreeSet<PublishedPort>, transport: Transport) -> Self {
        let aside = Self::read(&fs::read_to_string(SET_ASIDE).unwrap_or_default());
        let own = KEPT.map(|port| port..=port);
        let is_datagram = transport == Transport::Datagram;
        let published = published.iter().filter(|it| it.is_datagram == is_datagram);
        let published = published.map(|it| it.port..=it.port);
        Self(aside.0.into_iter().chain(own).chain(published).collect())
    }

    /// `8080,9000-9100`. What is neither a port nor a range says nothing.
    fn read(text: &str) -> Self {
        let ranges = text.trim().split(',').filter_map(|word| {
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
        });
        Self(ranges.collect())
    }

    pub(super) fn has(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.contains(&port))
    }
}

/// The ports to try in their order: the one that it had, the listener's own, any that is free (0).
pub(super) fn candidates(before: Option<u16>, own: u16, kept: &KeptPorts) -> Vec<u16> {
    let mut seen = BTreeSet::new();
    let known = before.into_iter().chain([own]).filter(|port| !kept.has(*port));
    known.chain([0]).filter(|port| seen.insert(*port)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_an_operator_has_set_aside_is_read_as_the_kernel_writes_it() {
        let kept = KeptPorts::read("80,8000-8100,x,9-\n");
        for (port, is_kept) in [(80, true), (8000, true), (8100, true), (8101, false), (9, false)] {
            assert_eq!(kept.has(port), is_kept, "{port}");
        }
        assert_eq!(KeptPorts::read("\n"), KeptPorts::default());
    }

    #[test]
    fn what_tasks_publish_is_theirs_and_the_port_of_ssh_the_machines() {
        let published = [PublishedPort { is_datagram: false, port: 8080 }].into();
        let of = |transport| KeptPorts::now(&published, transport);
        assert!(of(Transport::Stream).has(8080) && of(Transport::Stream).has(22));
        assert!(!of(Transport::Datagram).has(8080));
        assert!(of(Transport::Datagram).has(14789), "the way to other hosts may be made later");
    }

    #[test]
    fn a_listener_comes_back_to_its_port_and_else_to_its_own() {
        let none = KeptPorts::default();
        assert_eq!(candidates(Some(40_000), 80, &none), [40_000, 80, 0]);
        assert_eq!(candidates(Some(80), 80, &none), [80, 0]);
        assert_eq!(candidates(None, 80, &none), [80, 0]);
        let kept = KeptPorts::read("80");
        assert_eq!(candidates(Some(80), 80, &kept), [0], "it has been set aside since");
    }

    proptest! {
        #[test]
        fn a_kept_port_is_never_tried_and_some_port_always(
            before in proptest::option::of(1_u16..),
            own in 1_u16..,
            first in 1_u16..,
            more in 0_u16..2000,
        ) {
            let last = first.saturating_add(more);
            let kept = KeptPorts::read(&format!("{first}-{last}"));
            let tried = candidates(before, own, &kept);
            prop_assert_eq!(tried.last(), Some(&0));
            prop_assert!(tried.iter().all(|port| !(first..=last).contains(port)));
            let unique: BTreeSet<&u16> = tried.iter().collect();
            prop_assert_eq!(unique.len(), tried.len());
        }

        #[test]
        fn nothing_upsets_the_reader(text in ".{0,80}") {
            KeptPorts::read(&text);
        }
    }
}
