//! What goes between hosts, encrypted: keys and policies of the kernel (ESP), as the region tells them.
//!
//! Each way between two hosts has keys of its own. New ones are taken in before anybody sends by them, and those of
//! before stay until the other host has said that it sends by new ones. Of a host whose packets are to be encrypted none
//! is taken in the clear, and none goes there so: what has no key yet is dropped. Two hosts that have exchanged packets in
//! the clear until now go on with it until both have said that they encrypt.
//!
//! Keys of a host that is not told of any more stay in the kernel until their epoch is over: it may be told of again, and
//! a key that began anew would send numbers that the other host has had.
//!
//! The kernel goes on without an agent. What is written down says which keys there are, and holds none.
//!
//! **Invariant:** `kept` says what is in the kernel. Where the two are not the same at the start (the machine has booted,
//! somebody cleared the kernel's keys), all keys go, and the host says so by another generation: no key is ever
//! used from its beginning twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;

use longshore_types::Chain;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use traffic::tunnels::{EPOCHS_APART, ESP_KEY_LEN, EspKey, HostTunnels, Tunnel, TunnelKeys, spi};

use crate::error::NetworkError;
use crate::limits::TUNNEL_PORT;
use crate::names::NetTag;
use crate::netlink::xfrm::{Action, Flow, Policy, State, Way};
use crate::netlink::{NetlinkError, Requests, Socket};
use crate::records::Records;

/// Whether a host can encrypt what goes to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// Another generation: the kernel has no key any more that it had.
    Able { generation: String },
    /// It cannot, in a few words.
    Unable { why: &'static str },
}

/// What is there for one other host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Peer {
    link: u64,
    /// The epochs by whose keys its packets are taken in.
    inbound: BTreeSet<u64>,
    /// The one whose key is sent by.
    outbound: Option<u64>,
    /// Nothing is taken from it in the clear, nor sent to it.
    is_strict: bool,
    /// It is told of now.
    is_told: bool,
    /// Its new keys cannot be beside another's: nothing goes there, and those of before stay unused.
    #[serde(default)]
    is_shut: bool,
}

/// What is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    generation: String,
    peers: BTreeMap<Ipv4Addr, Peer>,
}

#[derive(Debug)]
pub(crate) struct Tunnels {
    socket: Socket,
    local: Ipv4Addr,
    reqid: u32,
    records: Records,
    kept: Kept,
    /// What was told of hosts that are shut: it is tried again, since the region takes it for being in force.
    shut: Shut,
}

type Shut = BTreeMap<Ipv4Addr, Tunnel>;

/// From what is there for a host to what it is told: keys in the order in which they go and come.
#[derive(Debug, PartialEq, Eq)]
struct Steps {
    after: Peer,
    /// Before others come: theirs would be their numbers.
    drop_first: Keys,
    add: Keys,
    drop_last: Keys,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Keys {
    inbound: BTreeSet<u64>,
    outbound: Option<u64>,
}

impl Peer {
    fn out_action(&self) -> Option<Action> {
        match self.outbound {
            _ if self.is_shut && self.is_told => Some(Action::Drop),
            Some(_) if self.is_strict || self.is_told => Some(Action::Encrypt),
            Some(_) | None => self.is_strict.then_some(Action::Drop),
        }
    }

    fn in_action(&self) -> Option<Action> {
        self.is_strict.then_some(Action::Encrypt)
    }

    fn keys(&self) -> Keys {
        Keys { inbound: self.inbound.clone(), outbound: self.outbound }
    }

    /// Whether none of its keys can be told again once `epoch` is.
    fn is_over_by(&self, epoch: u64) -> bool {
        let epochs = self.inbound.iter().copied().chain(self.outbound);
        epochs.max().is_none_or(|last| last + 1 < epoch)
    }
}

/// `was_clear`: packets are exchanged with it in the clear.
fn steps(before: Option<&Peer>, told: &Tunnel, was_clear: bool) -> Steps {
    let same = before.filter(|before| before.link == told.link);
    let other = before.filter(|before| before.link != told.link);
    let mut drop_first = other.map(Peer::keys).unwrap_or_default();
    let had = same.map(Peer::keys).unwrap_or_default();
    let new: BTreeSet<u64> = told.keys.iter().map(|keys| keys.epoch).collect();
    let is_heard = told.heard.is_some_and(|epoch| new.contains(&epoch));
    // An epoch of long ago has the number of one that comes.
    let is_in_the_way = |epoch: &u64| {
        !new.contains(epoch) && new.iter().any(|it| it % EPOCHS_APART == epoch % EPOCHS_APART)
    };
    drop_first.inbound.extend(had.inbound.iter().filter(|it| is_in_the_way(it)));
    let mut inbound: BTreeSet<u64> = &had.inbound - &drop_first.inbound;
    let is_old = |epoch: &u64| is_heard && !new.contains(epoch);
    let old: BTreeSet<u64> = inbound.iter().copied().filter(|it| is_old(it)).collect();
    inbound.retain(|epoch| !old.contains(epoch));
    let add_inbound: BTreeSet<u64> = &new - &inbound;
    inbound.extend(&new);
    let send = told.send.filter(|epoch| new.contains(epoch));
    let outbound = send.or(had.outbound);
    let replaced = had.outbound.filter(|before| Some(*before) != outbound);
    let is_in_the_way = replaced.is_some_and(|it| outbound.is_some_and(|to| is_one_number(it, to)));
    if is_in_the_way {
        drop_first.outbound = replaced;
    }
    let is_strict = before.is_some_and(|peer| peer.is_strict)
        || !was_clear
        || (told.heard.is_some() && outbound.is_some());
    Steps {
        after: Peer {
            link: told.link,
            inbound,
            outbound,
            is_strict,
            is_told: true,
            is_shut: false,
        },
        add: Keys {
            inbound: add_inbound,
            outbound: outbound.filter(|to| had.outbound != Some(*to)),
        },
        drop_last: Keys { inbound: old, outbound: replaced.filter(|_| !is_in_the_way) },
        drop_first,
    }
}

/// What the kernel has for a number at a destination, whosever it is: it has one key for each.
type There = BTreeMap<(Ipv4Addr, u32), (Ipv4Addr, u32)>;

fn taken((state, reqid): (State, u32)) -> ((Ipv4Addr, u32), (Ipv4Addr, u32)) {
    ((state.destination, state.spi), (state.source, reqid))
}

/// The sender whose key has the number of one that is to come.
fn other_with_number(there: &There, add: &[State], reqid: u32) -> Option<Ipv4Addr> {
    add.iter().find_map(|state| {
        let (source, its) = there.get(&(state.destination, state.spi))?;
        ((*source, *its) != (state.source, reqid)).then_some(*source)
    })
}

/// A host to which nothing goes, whose keys are as they were: one that began anew would send numbers that it has had.
fn shut(before: Option<&Peer>, link: u64) -> Peer {
    let new = Peer {
        link,
        inbound: BTreeSet::new(),
        outbound: None,
        is_strict: true,
        is_told: true,
        is_shut: true,
    };
    match before {
        Some(before) => Peer {
            link: before.link,
            inbound: before.inbound.clone(),
            outbound: before.outbound,
            ..new
        },
        None => new,
    }
}

/// Takes down whether what was told of a host could not be. Where nothing is said of keys, those of before are meant still.
fn remember(shut: &mut Shut, told: &Tunnel, is_shut: bool) {
    let is_the_same = |before: &Tunnel| before.link == told.link && told.keys.is_empty();
    if is_shut {
        shut.insert(told.peer, told.clone());
    } else if !shut.get(&told.peer).is_some_and(is_the_same) {
        shut.remove(&told.peer);
    }
}

fn is_one_number(one: u64, other: u64) -> bool {
    one % EPOCHS_APART == other % EPOCHS_APART
}

impl Tunnels {
    /// Goes on with what an earlier process left, if this kernel can encrypt and nobody else does it for the same packets.
    pub(crate) fn open(
        records: &Records,
        tag: NetTag,
        local: Ipv4Addr,
    ) -> Result<Result<Self, &'static str>, NetworkError> {
        let Ok(socket) = Socket::xfrm() else { return Ok(Err("no IPsec in its kernel")) };
        let reqid = tag.reqid();
        let (records, kept) = (records.clone(), records.tunnels()?);
        let mut tunnels = Self { socket, local, reqid, records, kept, shut: Shut::new() };
        if tunnels.socket.policies(TUNNEL_PORT)?.iter().any(|it| it.reqid != reqid) {
            return Ok(Err("another region on it encrypts already"));
        }
        if let Err(error) = tunnels.probe() {
            info!(error = %Chain(&error), "this kernel does not encrypt what goes to other hosts");
            return Ok(Err("no ESP with AES-GCM in its kernel"));
        }
        tunnels.recall()?;
        Ok(Ok(tunnels))
    }

    pub(crate) fn generation(&self) -> String {
        self.kept.generation.clone()
    }

    /// Whether the kernel takes such a key. No packet is ever by this one.
    fn probe(&mut self) -> Result<(), NetlinkError> {
        const UNUSED: u32 = 0x0fff_ffff;
        let flow = Flow { source: self.local, destination: self.local, port: TUNNEL_PORT };
        let mut add = Requests::default();
        add.add_state(UNUSED, &flow, self.reqid, &EspKey::new([0; ESP_KEY_LEN]));
        self.socket.ask_tolerating(&add, &[Errno::EEXIST])?;
        let state = State { source: self.local, destination: self.local, spi: UNUSED };
        let mut delete = Requests::default();
        delete.delete_state(&state);
        self.socket.ask_tolerating(&delete, &[Errno::ESRCH])
    }

    /// Finds the keys of before, or has none of them be there.
    fn recall(&mut self) -> Result<(), NetworkError> {
        let there: BTreeSet<State> = self.socket.states(self.reqid)?.into_iter().collect();
        if self.kept.generation.is_empty() || there != self.states() {
            let mut requests = Requests::default();
            there.iter().for_each(|state| requests.delete_state(state));
            self.socket.ask_tolerating(&requests, &[Errno::ESRCH])?;
            for peer in self.kept.peers.values_mut() {
                // Whoever had keys may go on by them, and in the clear is nothing taken.
                peer.is_strict |= peer.is_told && peer.outbound.is_some();
                (peer.inbound, peer.outbound) = (BTreeSet::new(), None);
            }
            self.kept.generation = new_generation()?;
            self.save()?;
            info!(generation = self.kept.generation, "keys for other hosts begin anew");
        }
        let there = self.socket.policies(TUNNEL_PORT)?.into_iter();
        let there: BTreeSet<_> = there.filter(|it| it.reqid == self.reqid).collect();
        let wanted: BTreeSet<_> = self
            .kept
            .peers
            .iter()
            .flat_map(|(other, peer)| self.policies_of(*other, peer))
            .collect();
        let mut requests = Requests::default();
        for policy in wanted.difference(&there) {
            requests.put_policy(policy.way, &policy.flow, self.reqid, policy.action);
        }
        let is_wanted =
            |it: &Policy| wanted.iter().any(|has| has.way == it.way && has.flow == it.flow);
        for policy in there.iter().filter(|it| !is_wanted(it)) {
            requests.delete_policy(policy.way, &policy.flow);
        }
        Ok(self.socket.ask_tolerating(&requests, &[Errno::ENOENT])?)
    }

    fn policies_of(&self, other: Ipv4Addr, peer: &Peer) -> Vec<Policy> {
        let both = [(Way::In, peer.in_action()), (Way::Out, peer.out_action())];
        let both = both.into_iter().filter_map(|(way, action)| {
            Some(Policy { way, flow: self.flow(way, other), action: action?, reqid: self.reqid })
        });
        both.collect()
    }

    /// The keys that should be in the kernel.
    fn states(&self) -> BTreeSet<State> {
        let peers = self.kept.peers.iter();
        peers.flat_map(|(other, peer)| self.states_of(*other, &peer.keys())).collect()
    }

    fn states_of(&self, other: Ipv4Addr, keys: &Keys) -> Vec<State> {
        let inbound = keys.inbound.iter().map(|epoch| self.inbound(other, *epoch));
        let outbound = keys.outbound.iter().map(|epoch| self.outbound(other, *epoch));
        inbound.chain(outbound).collect()
    }

    fn inbound(&self, other: Ipv4Addr, epoch: u64) -> State {
        State { source: other, destination: self.local, spi: spi(other, epoch) }
    }

    fn outbound(&self, other: Ipv4Addr, epoch: u64) -> State {
        State { source: self.local, destination: other, spi: spi(self.local, epoch) }
    }

    fn flow(&self, way: Way, other: Ipv4Addr) -> Flow {
        let (source, destination) = match way {
            Way::In => (other, self.local),
            Way::Out => (self.local, other),
        };
        Flow { source, destination, port: TUNNEL_PORT }
    }

    /// Takes in what is told of hosts. `is_clear` says with which of them packets are exchanged in the clear. The way to a
    /// host whose keys cannot be beside what the kernel has is shut, and that alone.
    pub(crate) fn put(
        &mut self,
        told: &[Tunnel],
        is_clear: impl Fn(Ipv4Addr) -> bool,
    ) -> Result<(), NetworkError> {
        if told.is_empty() {
            return Ok(());
        }
        let (mut outcome, local) = (Ok(()), self.local);
        let mut there: There = self.socket.all_states()?.into_iter().map(taken).collect();
        for tunnel in told.iter().filter(|tunnel| tunnel.peer != local) {
            let before = self.kept.peers.get(&tunnel.peer);
            let was_clear = before.is_none_or(|before| !before.is_strict) && is_clear(tunnel.peer);
            let steps = steps(before, tunnel, was_clear);
            let add = self.states_of(tunnel.peer, &steps.add);
            let other = other_with_number(&there, &add, self.reqid);
            let (after, taken_in) = match other {
                None => (steps.after.clone(), self.take(tunnel, &steps)),
                Some(other) => {
                    if before.is_none_or(|before| !before.is_shut) {
                        warn!(host = %tunnel.peer, %other, "nothing goes to a host: another's keys have its keys' number");
                    }
                    let after = shut(before, tunnel.link);
                    let put = self.put_policies(tunnel.peer, &after);
                    (after, put)
                }
            };
            match taken_in {
                Ok(()) => {
                    self.kept.peers.insert(tunnel.peer, after);
                    remember(&mut self.shut, tunnel, other.is_some());
                }
                Err(error) => outcome = outcome.and(Err(error)),
            }
            if other.is_none() {
                there.extend(add.into_iter().map(|state| taken((state, self.reqid))));
            }
        }
        self.save()?;
        Ok(outcome?)
    }

    fn take(&mut self, told: &Tunnel, steps: &Steps) -> Result<(), NetlinkError> {
        let other = told.peer;
        self.delete(other, &steps.drop_first)?;
        self.add(told, &steps.add)?;
        self.put_policies(other, &steps.after)?;
        self.delete(other, &steps.drop_last)
    }

    fn add(&mut self, told: &Tunnel, keys: &Keys) -> Result<(), NetlinkError> {
        let key_of = |epoch: u64| told.keys.iter().find(|keys| keys.epoch == epoch);
        let mut requests = Requests::default();
        let (into, out) = (self.flow(Way::In, told.peer), self.flow(Way::Out, told.peer));
        for TunnelKeys { epoch, inbound, .. } in keys.inbound.iter().filter_map(|it| key_of(*it)) {
            requests.add_state(spi(told.peer, *epoch), &into, self.reqid, inbound);
        }
        for TunnelKeys { epoch, outbound, .. } in keys.outbound.iter().filter_map(|it| key_of(*it))
        {
            requests.add_state(spi(self.local, *epoch), &out, self.reqid, outbound);
        }
        // What is there already is this host's, and the same.
        self.socket.ask_tolerating(&requests, &[Errno::EEXIST])
    }

    fn delete(&mut self, other: Ipv4Addr, keys: &Keys) -> Result<(), NetlinkError> {
        let mut requests = Requests::default();
        for state in self.states_of(other, keys) {
            requests.delete_state(&state);
        }
        self.socket.ask_tolerating(&requests, &[Errno::ESRCH])
    }

    fn put_policies(&mut self, other: Ipv4Addr, peer: &Peer) -> Result<(), NetlinkError> {
        let mut requests = Requests::default();
        for (way, action) in [(Way::In, peer.in_action()), (Way::Out, peer.out_action())] {
            let flow = self.flow(way, other);
            match action {
                Some(action) => requests.put_policy(way, &flow, self.reqid, action),
                None => requests.delete_policy(way, &flow),
            }
        }
        self.socket.ask_tolerating(&requests, &[Errno::ENOENT])
    }

    /// After hosts were told of, `told` of them with keys: those of whom it is said no more are kept as they are, until
    /// their keys are over. With those that packets are exchanged with all the same it is done in the clear again. Ways that
    /// are shut are opened if they can be by now.
    pub(crate) fn settle(
        &mut self,
        told: &HostTunnels,
        is_whole: bool,
        is_met: impl Fn(Ipv4Addr) -> bool,
    ) -> Result<(), NetworkError> {
        let before = self.kept.clone();
        let newest = told.put.iter().flat_map(|it| &it.keys).map(|keys| keys.epoch).max();
        let mut outcome = Ok(());
        for (other, peer) in &before.peers {
            let is_told = told.put.iter().any(|tunnel| tunnel.peer == *other);
            let is_gone = told.gone.contains(other) || is_whole;
            let mut next = Peer { is_told: peer.is_told && (is_told || !is_gone), ..peer.clone() };
            next.is_strict &= next.is_told || !is_met(*other);
            if !next.is_told {
                self.shut.remove(other);
            }
            let is_over = newest.is_some_and(|newest| peer.is_over_by(newest));
            let ended = if !next.is_told && (is_over || peer.keys() == Keys::default()) {
                let ended = self.end(*other, peer);
                ended.map(|()| drop(self.kept.peers.remove(other)))
            } else if next == *peer {
                continue;
            } else {
                let put = self.put_policies(*other, &next);
                put.map(|()| drop(self.kept.peers.insert(*other, next)))
            };
            outcome = outcome.and(ended);
        }
        if self.kept != before {
            self.save()?;
        }
        outcome?;
        let again: Vec<Tunnel> = self.shut.values().cloned().collect();
        self.put(&again, is_met)
    }

    fn end(&mut self, other: Ipv4Addr, peer: &Peer) -> Result<(), NetlinkError> {
        let mut requests = Requests::default();
        for way in [Way::In, Way::Out] {
            requests.delete_policy(way, &self.flow(way, other));
        }
        self.socket.ask_tolerating(&requests, &[Errno::ENOENT])?;
        self.delete(other, &peer.keys())
    }

    fn save(&self) -> Result<(), NetworkError> {
        self.records.save_tunnels(&self.kept)
    }
}

/// Removes what is in the kernel, if it is there and can be.
pub(crate) fn remove(tag: NetTag) -> Result<(), NetworkError> {
    let Ok(mut socket) = Socket::xfrm() else { return Ok(()) };
    match socket.purge(tag.reqid(), TUNNEL_PORT) {
        Err(error) => {
            warn!(error = %Chain(&error), "keys for other hosts stay");
            Err(error.into())
        }
        Ok(()) => Ok(()),
    }
}

/// Sixteen hexadecimal digits that nobody had before.
fn new_generation() -> Result<String, NetworkError> {
    const SOURCE: &str = "/proc/sys/kernel/random/uuid";
    let text = fs::read_to_string(SOURCE);
    let text = text.map_err(|source| NetworkError::io(format!("read {SOURCE}"), source))?;
    Ok(text.chars().filter(char::is_ascii_hexdigit).take(16).collect())
}

#[cfg(test)]
mod tests;
