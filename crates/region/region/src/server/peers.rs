//! Who is connected, and who has to go when there is no more place.
//!
//! A connection is a stranger's until a request's head names a key (claimed) and its signature is
//! good (verified). The places of those who are not verified are few, in all and for each address; a
//! newcomer takes the place of whoever has been waiting longest, strangers first; but where those who named
//! a key have more than half of the places, one of them. An id of a key is no secret: so neither who holds
//! on to a connection nor who names a key and holds on keeps anybody out, and one who sends a whole request
//! has gone before it is their turn. **Invariant:** a verified connection is closed for others only when all places
//! are taken by verified ones, and then one of the account that has the most.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use aws_wire::ByEndpoint;
use longshore_types::AccountId;
use model::network::EndpointService;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::limits;

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    pub(super) all: usize,
    /// For all that are not verified.
    pub(super) unverified: usize,
    /// For those of one address that are not verified.
    pub(super) of_address: usize,
}

/// How much is known of who asks, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Stranger,
    Claimed,
    Verified(AccountId),
}

/// All open connections.
#[derive(Debug)]
pub(super) struct Peers {
    places: Places,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// Of the next turn: numbers grow, so the lowest has waited longest.
    next: u64,
    open: HashMap<u64, Arc<Peer>>,
    waiting: Waiting,
    by_address: HashMap<IpAddr, Waiting>,
    verified: HashMap<AccountId, BTreeSet<u64>>,
}

/// Connections that are not verified, by turn and number.
#[derive(Debug, Default)]
struct Waiting {
    strangers: BTreeSet<(u64, u64)>,
    claimed: BTreeSet<(u64, u64)>,
}

impl Waiting {
    /// Those of this standing, if they wait at all.
    fn of(&mut self, standing: Standing) -> Option<&mut BTreeSet<(u64, u64)>> {
        match standing {
            Standing::Stranger => Some(&mut self.strangers),
            Standing::Claimed => Some(&mut self.claimed),
            Standing::Verified(_) => None,
        }
    }

    fn len(&self) -> usize {
        self.strangers.len() + self.claimed.len()
    }

    /// Who has waited longest, strangers first.
    fn first(&self) -> Option<u64> {
        let first = self.strangers.first().or_else(|| self.claimed.first());
        first.map(|(_, number)| *number)
    }

    /// Who makes place for a newcomer, if all of so many places are taken.
    fn in_the_way(&self, places: usize) -> Option<u64> {
        if self.len() < places {
            return None;
        }
        let claimed = self.claimed.first().filter(|_| places < 2 * self.claimed.len());
        claimed.map(|(_, number)| *number).or_else(|| self.first())
    }
}

#[derive(Debug)]
struct Peer {
    address: IpAddr,
    cut: Notify,
    is_busy: AtomicBool,
    is_secure: AtomicBool,
    endpoint: OnceLock<CameTo>,
    state: Mutex<State>,
}

/// The VPC endpoint that a connection came to.
#[derive(Debug)]
pub(super) struct CameTo {
    pub(super) by: Arc<ByEndpoint>,
    pub(super) service: &'static EndpointService,
    /// Who connected, within the endpoint's VPC.
    pub(super) client: IpAddr,
}

impl CameTo {
    /// Whether its service answers requests for a path. Those of APIs are told apart by what they are signed for.
    pub(super) fn answers_at(&self, path: &str) -> bool {
        match path {
            sessions::WORK_PATH | sessions::TELEMETRY_PATH => self.service.apis.contains(&"ecs"),
            _ if path == "/v2" || path.starts_with("/v2/") => self.service.is_registry,
            _ => !self.service.apis.is_empty(),
        }
    }

    /// Whether the API of a name answers there.
    pub(super) fn has_api(&self, name: &str) -> bool {
        self.service.apis.contains(&name)
    }
}

#[derive(Clone, Copy, Debug)]
struct State {
    standing: Standing,
    turn: u64,
    since: Instant,
}

/// A connection's place, free again when this goes.
#[derive(Debug)]
pub(super) struct Guest {
    peers: Arc<Peers>,
    number: u64,
    peer: Arc<Peer>,
}

impl Peer {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peers {
    pub(super) fn new(places: Places) -> Self {
        Self { places, table: Mutex::default() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a new connection a place, and takes it from others if there is none.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Guest {
        let address = network_of(address);
        let mut table = self.table();
        let number = table.next;
        let state = State { standing: Standing::Stranger, turn: number, since: Instant::now() };
        let peer = Arc::new(Peer {
            address,
            cut: Notify::new(),
            is_busy: AtomicBool::new(false),
            is_secure: AtomicBool::new(false),
            endpoint: OnceLock::new(),
            state: Mutex::new(state),
        });
        table.next += 1;
        let of_address = table.by_address.get(&address);
        let in_the_way = of_address.and_then(|all| all.in_the_way(self.places.of_address));
        table.cut(in_the_way);
        let in_the_way = table.waiting.in_the_way(self.places.unverified);
        table.cut(in_the_way);
        if table.open.len() >= self.places.all {
            table.cut_any();
        }
        table.insert(number, &peer);
        drop(table);
        Guest { peers: Arc::clone(self), number, peer }
    }

    /// Closes some connections: there are no more files for new ones.
    pub(super) fn make_room(&self) {
        let mut table = self.table();
        for _ in 0..limits::CONNECTIONS_CUT {
            table.cut_any();
        }
    }

    /// Closes connections of strangers that have sent no whole head for `patience`.
    pub(super) fn sweep(&self, patience: Duration) {
        let now = Instant::now();
        let mut table = self.table();
        while let Some((_, number)) = table.waiting.strangers.first().copied() {
            let since = table.open.get(&number).map(|peer| peer.state().since);
            if since.is_some_and(|since| now.duration_since(since) < patience) {
                break;
            }
            table.cut(Some(number));
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.table().open.len()
    }
}

impl Table {
    fn insert(&mut self, number: u64, peer: &Arc<Peer>) {
        let State { standing, turn, .. } = *peer.state();
        if let Standing::Verified(account) = standing {
            self.verified.entry(account).or_default().insert(number);
        } else {
            let of_address = self.by_address.entry(peer.address).or_default();
            for waiting in [&mut self.waiting, of_address] {
                waiting.of(standing).map(|all| all.insert((turn, number)));
            }
        }
        self.open.insert(number, Arc::clone(peer));
    }

    fn remove(&mut self, number: u64) -> Option<Arc<Peer>> {
        let peer = self.open.remove(&number)?;
        let State { standing, turn, .. } = *peer.state();
        if let Standing::Verified(account) = standing {
            if let Some(all) = self.verified.get_mut(&account) {
                all.remove(&number);
                if all.is_empty() {
                    self.verified.remove(&account);
                }
            }
        } else {
            let of_address = self.by_address.get_mut(&peer.address);
            for waiting in [Some(&mut self.waiting), of_address].into_iter().flatten() {
                waiting.of(standing).map(|all| all.remove(&(turn, number)));
            }
            if self.by_address.get(&peer.address).is_some_and(|all| all.len() == 0) {
                self.by_address.remove(&peer.address);
            }
        }
        Some(peer)
    }

    /// Its place is free at once; its files are as soon as its task has run.
    fn cut(&mut self, number: Option<u64>) {
        if let Some(peer) = number.and_then(|number| self.remove(number)) {
            peer.cut.notify_one();
        }
    }

    fn cut_any(&mut self) {
        let number = self.waiting.first().or_else(|| self.of_the_largest_account());
        self.cut(number);
    }

    /// A connection of the account that has the most: an idle one, or else the oldest.
    fn of_the_largest_account(&self) -> Option<u64> {
        let (_, all) = self.verified.iter().max_by_key(|(account, all)| (all.len(), **account))?;
        let is_idle = |number: &&u64| {
            self.open.get(*number).is_some_and(|peer| !peer.is_busy.load(Ordering::Relaxed))
        };
        all.iter().find(is_idle).or_else(|| all.first()).copied()
    }
}

impl Guest {
    pub(super) fn address(&self) -> IpAddr {
        self.peer.address
    }

    /// Its first byte said whether it speaks TLS.
    pub(super) fn came_by(&self, is_secure: bool) {
        self.peer.is_secure.store(is_secure, Ordering::Relaxed);
    }

    /// It came to a VPC endpoint.
    pub(super) fn came_to(&self, endpoint: CameTo) {
        // It comes to one once.
        drop(self.peer.endpoint.set(endpoint));
    }

    pub(super) fn endpoint(&self) -> Option<&CameTo> {
        self.peer.endpoint.get()
    }

    /// Whether nobody on the way reads what it sends.
    pub(super) fn is_secure(&self) -> bool {
        self.peer.is_secure.load(Ordering::Relaxed)
    }

    /// Completes when another has taken the place.
    pub(super) async fn cut(&self) {
        self.peer.cut.notified().await;
    }

    /// The account whose signature came by this connection.
    pub(super) fn account(&self) -> Option<AccountId> {
        match self.peer.state().standing {
            Standing::Verified(account) => Some(account),
            Standing::Stranger | Standing::Claimed => None,
        }
    }

    /// A request's head is there.
    pub(super) fn asks(&self) {
        self.peer.is_busy.store(true, Ordering::Relaxed);
    }

    /// The head names a key that there is.
    pub(super) fn claimed(&self) {
        if self.account().is_none() {
            self.set_standing(Standing::Claimed);
        }
    }

    /// A request's signature is good.
    pub(super) fn verified(&self, account: AccountId) {
        if self.account() != Some(account) {
            self.set_standing(Standing::Verified(account));
        }
    }

    /// The request was answered: who is not verified waits anew, as a stranger.
    pub(super) fn answered(&self) {
        self.peer.is_busy.store(false, Ordering::Relaxed);
        if self.account().is_none() {
            self.set_standing(Standing::Stranger);
        }
    }

    fn set_standing(&self, standing: Standing) {
        let mut table = self.peers.table();
        // A connection that was cut is in no list any more.
        let Some(peer) = table.remove(self.number) else { return };
        let turn = table.next;
        table.next += 1;
        *peer.state() = State { standing, turn, since: Instant::now() };
        table.insert(self.number, &peer);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.peers.table().remove(self.number);
    }
}

/// What one caller has of addresses: an IPv6 host has a whole /64.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn peers(all: usize, unverified: usize, of_address: usize) -> Arc<Peers> {
        Arc::new(Peers::new(Places { all, unverified, of_address }))
    }

    fn account(number: u64) -> AccountId {
        format!("{number:012}").parse().unwrap()
    }

    fn at(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn is_cut(guest: &Guest) -> bool {
        guest.cut().now_or_never().is_some()
    }

    #[tokio::test]
    async fn the_one_who_waits_longest_makes_place_at_its_own_address_first() {
        let peers = peers(100, 4, 2);
        let other = peers.admit(at(1));
        let (old, young) = (peers.admit(at(2)), peers.admit(at(2)));
        let newest = peers.admit(at(2));
        assert_eq!([&other, &old, &young, &newest].map(is_cut), [false, true, false, false]);
        let more = [peers.admit(at(3)), peers.admit(at(4))];
        assert!(is_cut(&other), "the oldest of all");
        assert!(!more.iter().any(is_cut));
        assert_eq!(peers.len(), 4);
        drop((old, young, newest, more, other));
        assert_eq!(peers.len(), 0);
    }

    #[tokio::test]
    async fn strangers_go_before_those_who_name_a_key_and_nobody_takes_a_verified_place() {
        let peers = peers(100, 2, 2);
        let verified = peers.admit(at(1));
        verified.verified(account(1));
        let claimed = peers.admit(at(1));
        claimed.claimed();
        let strangers: Vec<Guest> = (0..50).map(|_| peers.admit(at(1))).collect();
        assert!(!is_cut(&verified) && !is_cut(&claimed));
        assert_eq!(strangers.iter().filter(|guest| is_cut(guest)).count(), 49);
    }

    #[tokio::test]
    async fn who_names_a_key_and_holds_on_leaves_half_of_the_places_to_newcomers() {
        for (unverified, of_address) in [(100, 20), (20, 100)] {
            let peers = peers(1_000, unverified, of_address);
            let claimed: Vec<Guest> = (0..40).map(|_| peers.admit(at(1))).collect();
            for guest in &claimed {
                guest.claimed();
            }
            // A crowd that comes at once, before the first of it has sent anything.
            let newcomers: Vec<Guest> = (0..10).map(|_| peers.admit(at(1))).collect();
            assert!(!newcomers.iter().any(is_cut), "places {unverified}, {of_address}");
            let kept = claimed.iter().filter(|guest| !is_cut(guest)).count();
            assert_eq!(kept, 10, "those who named a key have the other half");
            let strangers: Vec<Guest> = (0..50).map(|_| peers.admit(at(1))).collect();
            assert!(!claimed[30..].iter().any(is_cut), "and keep it");
            drop(strangers);
        }
    }

    #[tokio::test]
    async fn among_verified_ones_the_account_with_the_most_gives_an_idle_one() {
        let peers = peers(4, 4, 4);
        let small = peers.admit(at(1));
        small.verified(account(1));
        let large: Vec<Guest> = (0..3).map(|_| peers.admit(at(1))).collect();
        for guest in &large {
            guest.verified(account(2));
        }
        large[0].asks();
        let new = peers.admit(at(1));
        assert!(!is_cut(&small) && !is_cut(&new));
        let cut: Vec<bool> = large.iter().map(is_cut).collect();
        assert_eq!(cut, [false, true, false]);
    }

    #[tokio::test]
    async fn a_stranger_who_says_nothing_is_let_go_and_one_who_was_answered_waits_anew() {
        let peers = peers(10, 10, 2);
        let (asking, silent) = (peers.admit(at(1)), peers.admit(at(1)));
        asking.asks();
        asking.answered();
        let new = peers.admit(at(1));
        assert_eq!([&asking, &silent, &new].map(is_cut), [false, true, false]);
        new.verified(account(1));
        peers.sweep(Duration::from_secs(600));
        assert!(!is_cut(&asking));
        peers.sweep(Duration::ZERO);
        assert_eq!([&asking, &new].map(is_cut), [true, false]);
    }

    #[test]
    fn an_ipv6_host_is_its_network() {
        let same =
            ["2001:db8::1", "2001:db8::ffff:1"].map(|text| network_of(text.parse().unwrap()));
        assert_eq!(same[0], same[1]);
        assert_ne!(same[0], network_of("2001:db8:0:1::1".parse().unwrap()));
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(network_of(mapped), at(1));
    }
}
