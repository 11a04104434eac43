//! Which hosts have which layers of images, as they say, and what they give them for.
//!
//! Kept in memory alone, and for as long as a host's session: after a restart of the region every host says it again, and
//! until then layers come from the registry.
//!
//! **Invariant:** a ticket names a host with a session as who asks, and another one as who gives.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use longshore_types::{Digest, InstanceId, Timestamp};
use trust::{Fingerprint, LayerHolder, TicketKey};

/// Layers that are known of one host: a host says what it likes.
const LAYERS_OF_HOST_MAX: usize = 1_024;
/// Hosts that are named for one layer.
const HOLDERS_MAX: usize = 3;
/// How long a ticket is good for: a fetch begins within it.
const TICKET_MS: u64 = 60_000;

/// Where a host gives layers, and by what.
#[derive(Clone, Debug)]
pub struct LayersAt {
    /// Of its agent's session.
    pub session: u32,
    pub address: SocketAddrV4,
    pub certificate: Fingerprint,
    /// By which it checks tickets.
    pub key: TicketKey,
}

/// The hosts of the region, as they have layers.
#[derive(Debug, Default)]
pub struct LayerDirectory(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    hosts: BTreeMap<InstanceId, Host>,
    holders: BTreeMap<Digest, BTreeSet<InstanceId>>,
    /// Who says that a certificate is its own: whoever has been shown it can say so, and has nothing of it without its key.
    certificates: BTreeMap<Fingerprint, BTreeSet<InstanceId>>,
}

#[derive(Debug)]
struct Host {
    at: LayersAt,
    layers: BTreeSet<Digest>,
    given: u64,
    taken: u64,
}

impl LayerDirectory {
    fn held(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A host says all anew, and has these layers. Whether it is taken: not what a session says that is over.
    pub fn begin(
        &self,
        instance: InstanceId,
        at: LayersAt,
        layers: impl IntoIterator<Item = Digest>,
    ) -> bool {
        let mut known = self.held();
        if known.hosts.get(&instance).is_some_and(|it| it.at.session > at.session) {
            return false;
        }
        known.remove(instance);
        known.certificates.entry(at.certificate).or_default().insert(instance);
        let host = Host { at, layers: BTreeSet::new(), given: 0, taken: 0 };
        known.hosts.insert(instance, host);
        known.add(instance, layers);
        true
    }

    /// What is new of a host's layers in a session that has begun.
    pub fn change(
        &self,
        (instance, session): (InstanceId, u32),
        here: impl IntoIterator<Item = Digest>,
        gone: impl IntoIterator<Item = Digest>,
    ) {
        let mut known = self.held();
        if !known.is_of(instance, session) {
            return;
        }
        for layer in gone {
            known.take(instance, &layer);
        }
        known.add(instance, here);
    }

    /// How many bytes a host says it gave, and took.
    pub fn figures(&self, (instance, session): (InstanceId, u32), given: u64, taken: u64) {
        let mut known = self.held();
        let host = known.hosts.get_mut(&instance).filter(|it| it.at.session == session);
        if let Some(host) = host {
            (host.given, host.taken) = (given, taken);
        }
    }

    /// A session is over.
    pub fn end(&self, instance: InstanceId, session: u32) {
        let mut known = self.held();
        if known.is_of(instance, session) {
            known.remove(instance);
        }
    }

    /// A host is none of the region's any more.
    pub fn forget(&self, instance: InstanceId) {
        self.held().remove(instance);
    }

    /// Hosts that have a layer, with what the one that has `asker`'s key may show them. Each that asks begins at another place
    /// of the round of those that have it.
    pub fn holders(&self, layer: &Digest, asker: &Fingerprint, now: Timestamp) -> Vec<LayerHolder> {
        let known = self.held();
        let (Some(askers), Some(all)) = (known.certificates.get(asker), known.holders.get(layer))
        else {
            return Vec::new();
        };
        let Some(own) = askers.first() else { return Vec::new() };
        let after = all.range((Bound::Excluded(own), Bound::Unbounded));
        let round = after.chain(all.range(..own)).filter(|id| !askers.contains(*id));
        let round = round.filter_map(|id| known.hosts.get(id));
        let until = now.plus_ms(TICKET_MS);
        let holder = |host: &Host| LayerHolder {
            address: host.at.address,
            certificate: host.at.certificate,
            ticket: host.at.key.grant(layer, asker, until),
        };
        round.take(HOLDERS_MAX).map(holder).collect()
    }

    /// What part a host has in it, in words; nothing if it has none.
    pub fn says(&self, instance: InstanceId) -> Option<String> {
        let known = self.held();
        let host = known.hosts.get(&instance)?;
        let (layers, address) = (host.layers.len(), host.at.address);
        let mib = |bytes: u64| bytes >> 20;
        let (given, taken) = (mib(host.given), mib(host.taken));
        Some(format!("{layers} at {address}; gave {given} MiB, took {taken} MiB"))
    }
}

impl Known {
    fn is_of(&self, instance: InstanceId, session: u32) -> bool {
        self.hosts.get(&instance).is_some_and(|it| it.at.session == session)
    }

    fn add(&mut self, instance: InstanceId, layers: impl IntoIterator<Item = Digest>) {
        let Some(host) = self.hosts.get_mut(&instance) else { return };
        for layer in layers {
            if host.layers.len() >= LAYERS_OF_HOST_MAX {
                return;
            }
            host.layers.insert(layer);
            self.holders.entry(layer).or_default().insert(instance);
        }
    }

    fn take(&mut self, instance: InstanceId, layer: &Digest) {
        if let Some(host) = self.hosts.get_mut(&instance) {
            host.layers.remove(layer);
        }
        if let Some(holders) = self.holders.get_mut(layer) {
            holders.remove(&instance);
            if holders.is_empty() {
                self.holders.remove(layer);
            }
        }
    }

    fn remove(&mut self, instance: InstanceId) {
        let Some(host) = self.hosts.get(&instance) else { return };
        let certificate = host.at.certificate;
        if let Some(its) = self.certificates.get_mut(&certificate) {
            its.remove(&instance);
            if its.is_empty() {
                self.certificates.remove(&certificate);
            }
        }
        let layers: Vec<Digest> = host.layers.iter().copied().collect();
        layers.iter().for_each(|layer| self.take(instance, layer));
        self.hosts.remove(&instance);
    }
}

#[cfg(test)]
mod tests {
    use longshore_types::SeededEnv;
    use trust::NotGranted;

    use super::*;

    fn host(number: u8) -> InstanceId {
        format!("{number:02x}").repeat(16).parse().unwrap()
    }

    fn certificate(number: u8) -> Fingerprint {
        Fingerprint::of(&[number])
    }

    fn at(number: u8, session: u32) -> LayersAt {
        let address = SocketAddrV4::new([10, 0, 0, number].into(), 14_790);
        let key = TicketKey::mint(&SeededEnv::from_seed(number.into()));
        LayersAt { session, address, certificate: certificate(number), key }
    }

    fn layer(number: u8) -> Digest {
        Digest::Sha256([number; 32])
    }

    fn asked(directory: &LayerDirectory, number: u8, asker: u8) -> Vec<u8> {
        let holders = directory.holders(&layer(number), &certificate(asker), Timestamp(0));
        holders.iter().map(|it| it.address.ip().octets()[3]).collect()
    }

    #[test]
    fn hosts_with_a_session_are_told_of_others_that_have_a_layer() {
        let directory = LayerDirectory::default();
        for number in 1..=5 {
            assert!(directory.begin(host(number), at(number, 1), [layer(1)]));
        }
        assert!(directory.begin(host(9), at(9, 1), []));
        assert_eq!(asked(&directory, 1, 9), [1, 2, 3]);
        assert_eq!(asked(&directory, 1, 3), [4, 5, 1], "each begins elsewhere, and not at itself");
        assert_eq!(asked(&directory, 2, 9), [0; 0]);
        assert_eq!(asked(&directory, 1, 77), [0; 0], "of whom nobody knows");
        directory.change((host(1), 1), [layer(2)], [layer(1)]);
        directory.change((host(2), 7), [layer(2)], [layer(1)]);
        assert_eq!((asked(&directory, 2, 9), asked(&directory, 1, 9)), (vec![1], vec![2, 3, 4]));
        directory.end(host(2), 7);
        directory.end(host(3), 1);
        directory.forget(host(4));
        assert_eq!(asked(&directory, 1, 9), [2, 5]);
        assert_eq!(asked(&directory, 1, 4), [0; 0], "a host that was removed is told nothing");
        directory.figures((host(2), 1), 5 << 20, 0);
        let says = directory.says(host(2)).unwrap();
        assert_eq!(says, "1 at 10.0.0.2:14790; gave 5 MiB, took 0 MiB");
        assert_eq!(directory.says(host(3)), None);
        let known = directory.held();
        assert_eq!((known.hosts.len(), known.certificates.len()), (4, 4));
    }

    #[test]
    fn a_ticket_is_checked_by_the_host_that_gives_and_ends() {
        let directory = LayerDirectory::default();
        assert!(directory.begin(host(1), at(1, 1), [layer(1)]));
        assert!(directory.begin(host(2), at(2, 1), []));
        let now = Timestamp(1_000);
        let holder = directory.holders(&layer(1), &certificate(2), now).remove(0);
        let check =
            |by: u8, now| at(by, 1).key.check(&holder.ticket, &layer(1), &certificate(2), now);
        assert_eq!(check(1, now), Ok(()));
        assert_eq!(check(2, now), Err(NotGranted::Forged));
        assert_eq!(check(1, now.plus_ms(TICKET_MS)), Err(NotGranted::Expired));
    }

    #[test]
    fn nobody_is_put_out_by_who_shows_its_certificate_and_an_old_session_replaces_no_later_one() {
        let directory = LayerDirectory::default();
        let stolen = LayersAt { certificate: certificate(1), ..at(2, 1) };
        // It was quicker, while the other one's session was cut.
        assert!(directory.begin(host(2), stolen, [layer(1)]));
        assert!(directory.begin(host(1), at(1, 2), [layer(1)]));
        assert!(directory.begin(host(3), at(3, 1), [layer(1)]));
        assert_eq!(asked(&directory, 1, 1), [3]);
        assert_eq!(asked(&directory, 1, 3), [1, 2]);
        directory.forget(host(2));
        assert_eq!((asked(&directory, 1, 1), asked(&directory, 1, 3)), (vec![3], vec![1]));
        directory.forget(host(3));
        assert!(!directory.begin(host(1), at(1, 1), []));
        assert!(directory.begin(host(2), at(2, 1), []));
        assert_eq!(asked(&directory, 1, 2), [1]);
        let many = (0..2 * LAYERS_OF_HOST_MAX).map(|number| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            Digest::Sha256(bytes)
        });
        assert!(directory.begin(host(1), at(1, 3), many));
        assert_eq!(directory.held().holders.len(), LAYERS_OF_HOST_MAX);
    }
}
