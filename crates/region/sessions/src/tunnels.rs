//! Which encrypted ways a host is told of: one to every host that it shares a VPC with, where both can.
//!
//! Keys are of an epoch of a day. Both hosts are told those of this epoch and the one before; a host sends by an epoch's
//! once the other has acknowledged that it takes them in, and is told what the other sends by. Of a host whose agent is away
//! nothing new is said: its kernel goes on by what it has, and the other goes on with it. What was acknowledged is in
//! memory alone, since hosts keep to what they were told last: a region that has started again learns it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use control::{BetweenHosts, TunnelEnd, TunnelKeyring};
use longshore_types::{InstanceId, Timestamp};
use model::instance::InstanceStatus;
use model::{Instance, View};
use traffic::feed::{Feed, Place};
use traffic::tunnels::{EspKey, HostTunnels, Tunnel, TunnelKeys};

/// How long an epoch is.
const EPOCH_MS: u64 = 24 * 3_600_000;
/// Ways in one message, of which each is below 500 bytes.
const TUNNELS_PER_MESSAGE_MAX: usize = 1_000;

/// How packets go between two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Between {
    Encrypted,
    Clear,
    /// None go.
    Shut,
}

pub(crate) fn between(setting: BetweenHosts, one: &Instance, other: &Instance) -> Between {
    let can = [one, other].iter().all(|it| it.tunnel_generation().is_some());
    match (setting, can) {
        (BetweenHosts::Clear, _) | (BetweenHosts::Auto, false) => Between::Clear,
        (BetweenHosts::Encrypted, false) => Between::Shut,
        (BetweenHosts::Auto | BetweenHosts::Encrypted, true) => Between::Encrypted,
    }
}

/// What one host has acknowledged of its way to another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    link: u64,
    /// The epochs whose keys it takes in.
    takes: BTreeSet<u64>,
    /// The one that it sends by.
    sends: Option<u64>,
}

/// What hosts have acknowledged, by who has and of whom.
#[derive(Debug, Default)]
pub(crate) struct TunnelBook {
    said: Mutex<BTreeMap<(InstanceId, InstanceId), Said>>,
    /// The newest epoch that there was: a clock that is set back begins none again, whose counters hosts would begin anew.
    newest: AtomicU64,
}

impl TunnelBook {
    fn said(&self, by: InstanceId, of: InstanceId, link: u64) -> Option<Said> {
        let book = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        book.get(&(by, of)).filter(|said| said.link == link).cloned()
    }

    /// Takes down what a host has acknowledged, and says which others have to hear of it.
    fn note(&self, by: InstanceId, acknowledged: Vec<Sketch>) -> BTreeSet<InstanceId> {
        let mut book = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let mut others = BTreeSet::new();
        for Sketch { other, link, epochs, send, .. } in acknowledged {
            if epochs.is_empty() {
                continue;
            }
            let before = book.get(&(by, other)).filter(|said| said.link == link);
            let sends = send.or(before.and_then(|before| before.sends));
            let said = Said { link, takes: epochs.into_iter().collect(), sends };
            if before != Some(&said) {
                book.insert((by, other), said);
                others.insert(other);
            }
        }
        others
    }

    /// Of an instance that is gone.
    pub(crate) fn forget(&self, instance: InstanceId) {
        let mut book = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        book.retain(|(by, of), _| *by != instance && *of != instance);
    }

    /// With how many others a host exchanges what is encrypted, both ways.
    pub(crate) fn encrypted_with(&self, instance: InstanceId) -> usize {
        let book = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let is_both = |by: &InstanceId, of: &InstanceId, said: &Said| {
            let back = book.get(&(*of, *by)).filter(|back| back.link == said.link);
            *by == instance && said.sends.is_some() && back.is_some_and(|it| it.sends.is_some())
        };
        book.iter().filter(|((by, of), said)| is_both(by, of, said)).count()
    }
}

/// What the region goes by when it tells a host of others.
#[derive(Debug)]
pub(crate) struct Tunneling<'a> {
    pub(crate) setting: BetweenHosts,
    /// Without one nothing is encrypted.
    pub(crate) keyring: Option<TunnelKeyring>,
    pub(crate) book: &'a TunnelBook,
    pub(crate) epoch: u64,
}

impl<'a> Tunneling<'a> {
    pub(crate) fn new(
        setting: BetweenHosts,
        keyring: Option<TunnelKeyring>,
        book: &'a TunnelBook,
        now: Timestamp,
    ) -> Self {
        let epoch = now.0 / EPOCH_MS;
        let epoch = book.newest.fetch_max(epoch, Ordering::Relaxed).max(epoch);
        Self { setting, keyring, book, epoch }
    }

    /// Whether packets go between two hosts. Where there should be keys and are none, they do not go in the clear either.
    pub(crate) fn meets(&self, one: &Instance, other: &Instance) -> bool {
        match between(self.setting, one, other) {
            Between::Encrypted => self.keyring.is_some(),
            Between::Clear => true,
            Between::Shut => false,
        }
    }
}

/// A way as it was told, without its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sketch {
    other: InstanceId,
    generation: String,
    link: u64,
    epochs: Vec<u64>,
    send: Option<u64>,
    heard: Option<u64>,
}

/// What one session told of it so far.
#[derive(Debug, Default)]
pub(crate) struct ToldTunnels {
    told: BTreeMap<Ipv4Addr, Sketch>,
    /// What was told last and is in no message yet.
    unsent: Vec<Sketch>,
    /// By the message that has it.
    unacknowledged: BTreeMap<String, Vec<Sketch>>,
}

impl ToldTunnels {
    /// What is new for the host of `id`, which is about to have the copy `feed` of what it must know of VPCs.
    pub(crate) fn due(
        &mut self,
        view: &View,
        tunneling: &Tunneling<'_>,
        id: InstanceId,
        feed: &Feed,
        is_whole: bool,
    ) -> HostTunnels {
        if is_whole {
            self.told.clear();
        }
        let own = view.instance_of_any(id).map(AsRef::as_ref);
        let after = match (&tunneling.keyring, own) {
            (Some(keyring), Some(own)) => self.sketches(view, tunneling, keyring, own, feed),
            (None, _) | (_, None) => BTreeMap::new(),
        };
        let mut change = HostTunnels::default();
        for (peer, sketch) in &after {
            if self.told.get(peer) == Some(sketch) {
                continue;
            }
            let keys = match (&tunneling.keyring, own.and_then(end)) {
                (Some(keyring), Some(own)) => sketch.keys(keyring, own),
                (None, _) | (_, None) => Vec::new(),
            };
            let Sketch { link, send, heard, .. } = *sketch;
            change.put.push(Tunnel { peer: *peer, link, keys, send, heard });
            self.unsent.push(sketch.clone());
        }
        change.gone.extend(self.told.keys().filter(|peer| !after.contains_key(*peer)));
        self.told = after;
        change
    }

    fn sketches(
        &self,
        view: &View,
        tunneling: &Tunneling<'_>,
        keyring: &TunnelKeyring,
        own: &Instance,
        feed: &Feed,
    ) -> BTreeMap<Ipv4Addr, Sketch> {
        let peers = peers(view, feed);
        let sketch = |(peer, other): (Ipv4Addr, &Instance)| {
            let is_encrypted = between(tunneling.setting, own, other) == Between::Encrypted;
            let (mine, its) = (end(own)?, end(other).filter(|_| is_encrypted)?);
            // It is the same for as long as both are: a session is of one generation of its own host.
            let told = self.told.get(&peer).filter(|told| told.is_of(its));
            let link = told.map_or_else(|| keyring.link(mine, its), |told| told.link);
            if !other.agent.connected {
                return Some((peer, told.cloned().unwrap_or_else(|| Sketch::silent(its, link))));
            }
            let said = tunneling.book.said(other.id, own.id, link);
            let epochs = vec![tunneling.epoch.saturating_sub(1), tunneling.epoch];
            let takes =
                |epoch: &&u64| said.as_ref().is_some_and(|said| said.takes.contains(*epoch));
            let send = epochs.iter().rev().find(takes).copied();
            let heard = said.as_ref().and_then(|said| said.sends);
            let generation = its.generation.to_owned();
            Some((peer, Sketch { other: other.id, generation, link, epochs, send, heard }))
        };
        peers.into_iter().filter_map(sketch).collect()
    }

    /// The message that has what was told last, if there is any.
    pub(crate) fn sent(&mut self, message_id: &str) {
        if !self.unsent.is_empty() {
            self.unacknowledged.insert(message_id.to_owned(), std::mem::take(&mut self.unsent));
        }
    }

    /// Takes down that a host has in force what a message told. Says which others have to hear of it.
    pub(crate) fn acknowledged(
        &mut self,
        by: InstanceId,
        message_id: &str,
        book: &TunnelBook,
    ) -> BTreeSet<InstanceId> {
        let acknowledged = self.unacknowledged.remove(message_id);
        acknowledged.map(|it| book.note(by, it)).unwrap_or_default()
    }

    /// Nothing that was told is known to be in force.
    pub(crate) fn begin_again(&mut self) {
        self.unsent.clear();
        self.unacknowledged.clear();
    }
}

impl Sketch {
    /// Of a host whose agent is away nothing is said but that it is one.
    fn silent(its: TunnelEnd<'_>, link: u64) -> Self {
        let generation = its.generation.to_owned();
        Self { other: its.instance, generation, link, epochs: vec![], send: None, heard: None }
    }

    fn is_of(&self, end: TunnelEnd<'_>) -> bool {
        self.other == end.instance && self.generation == end.generation
    }

    fn keys(&self, keyring: &TunnelKeyring, own: TunnelEnd<'_>) -> Vec<TunnelKeys> {
        let other = TunnelEnd { instance: self.other, generation: &self.generation };
        let keys = self.epochs.iter().map(|epoch| TunnelKeys {
            epoch: *epoch,
            inbound: EspKey::new(keyring.key(other, own, *epoch)),
            outbound: EspKey::new(keyring.key(own, other, *epoch)),
        });
        keys.collect()
    }
}

fn end(instance: &Instance) -> Option<TunnelEnd<'_>> {
    Some(TunnelEnd { instance: instance.id, generation: instance.tunnel_generation()? })
}

/// The hosts that a feed tells of. An address that several instances say is that of the one that came last.
fn peers<'v>(view: &'v View, feed: &Feed) -> BTreeMap<Ipv4Addr, &'v Instance> {
    let places = feed.interfaces.values().filter_map(|interface| match interface.place {
        Place::At(host) => Some(host),
        Place::Here => None,
    });
    let wanted: BTreeSet<Ipv4Addr> = places.collect();
    let mut found: BTreeMap<Ipv4Addr, &Instance> = BTreeMap::new();
    if wanted.is_empty() {
        return found;
    }
    let rank = |row: &Instance| (row.agent.connected, row.registered_at, row.id);
    for row in view.instances.iter().filter(|row| row.status < InstanceStatus::Inactive) {
        let Some(address) = row.underlay().filter(|address| wanted.contains(address)) else {
            continue;
        };
        let held = found.entry(address).or_insert(row);
        if rank(held) < rank(row) {
            *held = row;
        }
    }
    found
}

/// In parts that fit a message each; none if there is nothing.
pub(crate) fn parts(tunnels: HostTunnels) -> Vec<HostTunnels> {
    if tunnels.is_empty() {
        return Vec::new();
    }
    let HostTunnels { put, gone } = tunnels;
    let mut parts = vec![HostTunnels { put: vec![], gone }];
    for some in put.chunks(TUNNELS_PER_MESSAGE_MAX) {
        match parts.last_mut().filter(|last| last.put.is_empty()) {
            Some(first) => first.put = some.to_vec(),
            None => parts.push(HostTunnels { put: some.to_vec(), gone: vec![] }),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use control::testing::TestControl as Region;
    use control::testing::rows::instance;
    use model::instance::{ENCRYPTION_ATTRIBUTE, UNDERLAY_ATTRIBUTE};
    use model::{Row, Seq};
    use traffic::feed::{Interface, Item};
    use traffic::tunnels::ESP_KEY_LEN;

    use super::*;

    /// Some hosts, each with a session, which share a VPC.
    struct World {
        region: Region,
        view: View,
        seq: u64,
        setting: BetweenHosts,
        book: TunnelBook,
        epoch: u64,
        sessions: BTreeMap<u8, ToldTunnels>,
    }

    fn id(number: u8) -> InstanceId {
        InstanceId::from_bytes([number; 16])
    }

    fn address(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, number)
    }

    impl World {
        async fn new(encrypts: &[(u8, &str)]) -> Self {
            let region = Region::new();
            region.control.prepare_tunnels().await.unwrap();
            let view = View::clone(&region.control.view());
            let (setting, book) = (BetweenHosts::Auto, TunnelBook::default());
            let sessions = BTreeMap::new();
            let mut world = Self { region, view, seq: 100, setting, book, epoch: 50, sessions };
            for (number, encrypts) in encrypts {
                world.host(*number, encrypts, true);
            }
            world
        }

        fn host(&mut self, number: u8, encrypts: &str, connected: bool) {
            let mut row = instance(id(number));
            let said = [
                (UNDERLAY_ATTRIBUTE, address(number).to_string()),
                (ENCRYPTION_ATTRIBUTE, encrypts.to_owned()),
            ];
            let said = said.into_iter().filter(|(_, value)| !value.is_empty());
            row.attributes.extend(said.map(|(name, value)| (name.to_owned(), Some(value))));
            row.agent.connected = connected;
            self.seq += 1;
            self.view.put(Seq(self.seq), &Row::from(row));
        }

        /// What a host is told, as it is of every other.
        fn due(&mut self, number: u8, is_whole: bool) -> HostTunnels {
            let others = self.view.instances.iter().filter(|row| row.id != id(number));
            let items = others.filter_map(|row| {
                let address = row.underlay()?;
                let last = address.octets()[3];
                Some(Item::Interface(Interface {
                    id: format!("eni-000000{last:02x}").parse().unwrap(),
                    vpc: "vpc-00000001".parse().unwrap(),
                    subnet: "subnet-00000001".parse().unwrap(),
                    address: [172, 31, 0, last].into(),
                    groups: vec![],
                    public: None,
                    place: Place::At(address),
                    is_balancers: false,
                    is_logged: false,
                }))
            });
            let feed: Feed = items.collect();
            let keyring = self.region.control.tunnel_keyring(&self.view).unwrap();
            let now = Timestamp(self.epoch * EPOCH_MS);
            let tunneling = Tunneling::new(self.setting, keyring, &self.book, now);
            let session = self.sessions.entry(number).or_default();
            session.due(&self.view, &tunneling, id(number), &feed, is_whole)
        }

        /// The same, in force on the host, which says so.
        fn tell(&mut self, number: u8) -> HostTunnels {
            let told = self.due(number, false);
            let session = self.sessions.get_mut(&number).unwrap();
            session.sent("m");
            session.acknowledged(id(number), "m", &self.book);
            told
        }

        /// Until nobody has to be told anything.
        fn settle(&mut self, hosts: &[u8]) {
            for _ in 0..10 {
                let told: Vec<bool> = hosts.iter().map(|it| self.tell(*it).is_empty()).collect();
                if told.iter().all(|is_empty| *is_empty) {
                    return;
                }
            }
            panic!("there is always something to tell");
        }
    }

    fn way(tunnels: &HostTunnels, to: u8) -> &Tunnel {
        tunnels.put.iter().find(|it| it.peer == address(to)).unwrap()
    }

    #[tokio::test]
    async fn two_hosts_have_the_same_keys_crosswise_and_a_third_has_others() {
        let mut world = World::new(&[(1, "aes-gcm/a"), (2, "aes-gcm/a"), (3, "aes-gcm/a")]).await;
        let [one, two, three] = [1, 2, 3].map(|number| world.due(number, true));
        let pairs = way(&one, 2).keys.iter().zip(&way(&two, 1).keys);
        for (mine, its) in pairs {
            assert_eq!((mine.epoch, &mine.inbound), (its.epoch, &its.outbound));
            assert_eq!(mine.outbound, its.inbound);
            assert_ne!(mine.outbound, mine.inbound);
        }
        assert_eq!(way(&one, 2).link, way(&two, 1).link);
        let all = [&one, &two, &three].map(|it| it.put.iter().flat_map(|it| &it.keys));
        let all = all.into_iter().flatten().flat_map(|keys| [&keys.inbound, &keys.outbound]);
        let unique: BTreeSet<[u8; ESP_KEY_LEN]> = all.map(|key| *key.bytes()).collect();
        assert_eq!(unique.len(), 3 * 2 * 2, "three pairs, two ways, two epochs");
    }

    #[tokio::test]
    async fn a_host_sends_by_what_the_other_has_acknowledged_and_hears_what_that_sends_by() {
        let mut world = World::new(&[(1, "aes-gcm/a"), (2, "aes-gcm/a")]).await;
        assert_eq!(way(&world.tell(1), 2).send, None, "the other has no keys yet");
        let told = world.tell(2);
        assert_eq!((way(&told, 1).send, way(&told, 1).heard), (Some(50), None));
        let told = world.tell(1);
        assert_eq!((way(&told, 2).send, way(&told, 2).heard), (Some(50), Some(50)));
        assert_eq!(way(&world.tell(2), 1).heard, Some(50));
        assert!(world.tell(1).is_empty() && world.tell(2).is_empty(), "then there is no news");
        assert_eq!(world.book.encrypted_with(id(1)), 1);
        // The day ends: first keys, then who sends by them.
        world.epoch = 51;
        let first = world.tell(1);
        assert_eq!((way(&first, 2).send, way(&first, 2).keys[1].epoch), (Some(50), 51));
        assert_eq!(way(&world.tell(2), 1).send, Some(51));
        world.settle(&[1, 2]);
        // The region starts again, and one host's agent is the first to come.
        (world.book, world.sessions) = (TunnelBook::default(), BTreeMap::new());
        world.host(2, "aes-gcm/a", false);
        let told = world.due(1, true);
        let silent = way(&told, 2);
        assert_eq!((silent.keys.len(), silent.send), (0, None), "it goes on with what it has");
        assert_eq!(silent.link, way(&first, 2).link);
        world.sessions.clear();
        world.host(2, "aes-gcm/a", true);
        world.settle(&[1, 2]);
        assert_eq!(world.book.encrypted_with(id(2)), 1);
    }

    #[tokio::test]
    async fn of_a_host_that_is_away_nothing_new_is_said_and_one_of_another_generation_has_other_keys()
     {
        let mut world = World::new(&[(1, "aes-gcm/a"), (2, "aes-gcm/a")]).await;
        world.settle(&[1, 2]);
        world.host(2, "aes-gcm/a", false);
        world.epoch = 55;
        assert!(world.tell(1).is_empty());
        world.host(2, "aes-gcm/b", true);
        let told = world.tell(1);
        assert_eq!(way(&told, 2).send, None, "what was acknowledged was of the keys of before");
        world.sessions.remove(&2);
        world.settle(&[1, 2]);
        assert_eq!(world.book.encrypted_with(id(1)), 1);
        world.book.forget(id(2));
        assert_eq!(world.book.encrypted_with(id(1)), 0);
    }

    #[tokio::test]
    async fn hosts_that_cannot_are_met_in_the_clear_or_not_at_all() {
        let hosts = [(1, "aes-gcm/a"), (2, "no ESP"), (3, ""), (4, "aes-gcm/a")];
        let mut world = World::new(&hosts).await;
        let told = world.due(1, true);
        assert_eq!(told.put.iter().map(|it| it.peer).collect::<Vec<_>>(), [address(4)]);
        let row = |number| world.view.instance_of_any(id(number)).unwrap();
        let of = |setting, other| between(setting, row(1), row(other));
        for other in [2, 3] {
            assert_eq!(of(BetweenHosts::Auto, other), Between::Clear);
            assert_eq!(of(BetweenHosts::Encrypted, other), Between::Shut);
        }
        assert_eq!(of(BetweenHosts::Encrypted, 4), Between::Encrypted);
        assert_eq!(of(BetweenHosts::Clear, 4), Between::Clear);
        // Without keys nothing goes in the clear.
        let now = Timestamp(0);
        let keyless = Tunneling::new(BetweenHosts::Auto, None, &world.book, now);
        assert!(!keyless.meets(row(1), row(4)) && keyless.meets(row(1), row(2)));
        // It is turned off: hosts are told of no way any more.
        world.setting = BetweenHosts::Clear;
        assert_eq!(world.tell(1).gone, [address(4)]);
    }

    #[test]
    fn many_ways_are_told_in_parts() {
        let tunnel = Tunnel { peer: address(1), link: 1, keys: vec![], send: None, heard: None };
        let tunnels = HostTunnels { put: vec![tunnel; 2_500], gone: vec![address(2)] };
        let counts: Vec<_> =
            parts(tunnels).iter().map(|it| (it.put.len(), it.gone.len())).collect();
        assert_eq!(counts, [(1_000, 1), (1_000, 0), (500, 0)]);
        assert!(parts(HostTunnels::default()).is_empty());
    }
}
