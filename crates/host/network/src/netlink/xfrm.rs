//! The kernel's IPsec (xfrm): keys for packets between two hosts, and the policies that ask for them.
//!
//! What is made here carries the region's number as its `reqid`, and nothing without it is touched. A key is laid out,
//! sent and forgotten: the kernel keeps it.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use socket2::{Domain, Protocol, Type};
use traffic::tunnels::{ESP_KEY_LEN, EspKey};

use super::{ACK, CREATE, DUMP, NetlinkError, REPLACE, REQUEST, Requests, Socket};

const NETLINK_XFRM: i32 = 6;
const AF_NETLINK: i32 = 16;
const AF_INET: u16 = 2;

const NEW_STATE: u16 = 0x10;
const DELETE_STATE: u16 = 0x11;
const GET_STATE: u16 = 0x12;
const DELETE_POLICY: u16 = 0x14;
const GET_POLICY: u16 = 0x15;
const UPDATE_POLICY: u16 = 0x19;

const ATTRIBUTE_TEMPLATE: u16 = 5;
const ATTRIBUTE_AEAD: u16 = 18;
const ATTRIBUTE_REPLAY: u16 = 23;

const ESP: u8 = 50;
const UDP: u8 = 17;
const MODE_TRANSPORT: u8 = 0;
const FLAG_EXTENDED_SEQUENCE: u8 = 128;
const CIPHER: &str = "rfc4106(gcm(aes))";
const CIPHER_NAME_LEN: usize = 64;
const TAG_BITS: u32 = 128;
/// Packets that may overtake each other, as they do where several processors send.
const REPLAY_WINDOW: u32 = 1024;
/// Before those of others on the host.
const PRIORITY: u32 = 64;

const SELECTOR_LEN: usize = 56;
const LIFETIMES_LEN: usize = 64 + 32;
/// Offsets in what a dump says of a state: its destination, SPI, source and `reqid`.
const STATE_DESTINATION: usize = SELECTOR_LEN;
const STATE_SPI: usize = SELECTOR_LEN + 16;
const STATE_SOURCE: usize = SELECTOR_LEN + 24;
const STATE_PROTOCOL: usize = STATE_SPI + 4;
const STATE_REQID: usize = STATE_SOURCE + 16 + LIFETIMES_LEN + 12 + 4;
const STATE_FAMILY: usize = STATE_REQID + 4;
/// Of a policy: its direction, and where its attributes begin.
const POLICY_DIRECTION: usize = SELECTOR_LEN + LIFETIMES_LEN + 8;
const POLICY_LEN: usize = 168;
/// Of a template: its `reqid`.
const TEMPLATE_REQID: usize = 24 + 4 + 16;

/// A key in the kernel, as it is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct State {
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    pub(crate) spi: u32,
}

/// Which packets a policy is about: those of the tunnel from one host to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flow {
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    pub(crate) port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    In,
    Out,
}

impl Way {
    fn number(self) -> u8 {
        match self {
            Self::In => 0,
            Self::Out => 1,
        }
    }
}

/// What a policy does with its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Action {
    /// They are encrypted, or do not pass.
    Encrypt,
    Drop,
}

fn address(m: &mut Requests, address: Ipv4Addr) {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&address.octets());
    m.raw(&bytes);
}

fn selector(m: &mut Requests, flow: &Flow) {
    address(m, flow.destination);
    address(m, flow.source);
    let [high, low] = flow.port.to_be_bytes();
    // To that port, from any.
    m.raw(&[high, low, 0xff, 0xff, 0, 0, 0, 0]);
    let [a, b] = AF_INET.to_ne_bytes();
    m.raw(&[a, b, 32, 32, UDP, 0, 0, 0]);
    m.raw(&[0; 8]);
}

/// Without an end, and what was used of it so far: nothing.
fn lifetimes(m: &mut Requests) {
    m.raw(&[0xff; 32]);
    m.raw(&[0; LIFETIMES_LEN - 32]);
}

impl Requests {
    /// Has the kernel take in or send packets of a flow by this key.
    pub(crate) fn add_state(&mut self, spi: u32, flow: &Flow, reqid: u32, key: &EspKey) {
        let Flow { source, destination, .. } = *flow;
        let doing = format!("add a key for {source} to {destination}");
        self.message(doing, NEW_STATE, REQUEST | ACK | CREATE, |m| {
            selector(m, flow);
            address(m, destination);
            m.raw(&spi.to_be_bytes());
            m.raw(&[ESP, 0, 0, 0]);
            address(m, source);
            lifetimes(m);
            // What went wrong so far, and a number of whoever asked: none.
            m.raw(&[0; 12 + 4]);
            m.raw(&reqid.to_ne_bytes());
            let [a, b] = AF_INET.to_ne_bytes();
            m.raw(&[a, b, MODE_TRANSPORT, 0, FLAG_EXTENDED_SEQUENCE, 0, 0, 0, 0, 0, 0, 0]);
            let mut aead = [0; CIPHER_NAME_LEN + 8 + ESP_KEY_LEN];
            aead[..CIPHER.len()].copy_from_slice(CIPHER.as_bytes());
            let bits = u32::try_from(8 * ESP_KEY_LEN).expect("a key is short");
            aead[CIPHER_NAME_LEN..][..4].copy_from_slice(&bits.to_ne_bytes());
            aead[CIPHER_NAME_LEN + 4..][..4].copy_from_slice(&TAG_BITS.to_ne_bytes());
            aead[CIPHER_NAME_LEN + 8..].copy_from_slice(key.bytes());
            m.attribute(ATTRIBUTE_AEAD, &aead);
            let words = REPLAY_WINDOW / 32;
            let mut replay = Vec::new();
            for number in [words, 0, 0, 0, 0, REPLAY_WINDOW] {
                replay.extend_from_slice(&number.to_ne_bytes());
            }
            replay.resize(replay.len() + 4 * usize::try_from(words).unwrap_or_default(), 0);
            m.attribute(ATTRIBUTE_REPLAY, &replay);
        });
    }

    pub(crate) fn delete_state(&mut self, state: &State) {
        let State { source, destination, spi } = *state;
        let doing = format!("delete a key for {source} to {destination}");
        self.message(doing, DELETE_STATE, REQUEST | ACK, |m| {
            address(m, destination);
            m.raw(&spi.to_be_bytes());
            let [a, b] = AF_INET.to_ne_bytes();
            m.raw(&[a, b, ESP, 0]);
        });
    }

    /// What becomes of a flow's packets from now on.
    pub(crate) fn put_policy(&mut self, way: Way, flow: &Flow, reqid: u32, action: Action) {
        let Flow { source, destination, .. } = *flow;
        let doing = format!("put the policy for {source} to {destination}");
        let flags = REQUEST | ACK | CREATE | REPLACE;
        self.message(doing, UPDATE_POLICY, flags, |m| {
            selector(m, flow);
            lifetimes(m);
            m.raw(&PRIORITY.to_ne_bytes());
            m.raw(&[0; 4]);
            let action = u8::from(action == Action::Drop);
            m.raw(&[way.number(), action, 0, 0, 0, 0, 0, 0]);
            // One that drops has it too, which says whose it is.
            let mut template = Requests::default();
            address(&mut template, destination);
            template.raw(&[0; 4]);
            template.raw(&[ESP, 0, 0, 0]);
            let [a, b] = AF_INET.to_ne_bytes();
            template.raw(&[a, b, 0, 0]);
            address(&mut template, source);
            template.raw(&reqid.to_ne_bytes());
            template.raw(&[MODE_TRANSPORT, 0, 0, 0]);
            // Whichever the algorithms.
            template.raw(&[0xff; 12]);
            m.attribute(ATTRIBUTE_TEMPLATE, &template.bytes);
        });
    }

    pub(crate) fn delete_policy(&mut self, way: Way, flow: &Flow) {
        let Flow { source, destination, .. } = *flow;
        let doing = format!("delete the policy for {source} to {destination}");
        self.message(doing, DELETE_POLICY, REQUEST | ACK, |m| {
            selector(m, flow);
            m.raw(&[0; 4]);
            m.raw(&[way.number(), 0, 0, 0]);
        });
    }
}

/// A policy in the kernel about packets of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Policy {
    pub(crate) way: Way,
    pub(crate) flow: Flow,
    pub(crate) action: Action,
    pub(crate) reqid: u32,
}

impl Socket {
    pub(crate) fn xfrm() -> Result<Self, NetlinkError> {
        let (domain, protocol) = (Domain::from(AF_NETLINK), Protocol::from(NETLINK_XFRM));
        let made = socket2::Socket::new(domain, Type::RAW, Some(protocol));
        let made = made.map_err(|source| NetlinkError::new("open a socket for keys", source))?;
        Self::of(OwnedFd::from(made))
    }

    /// The keys with this number.
    pub(crate) fn states(&mut self, reqid: u32) -> Result<Vec<State>, NetlinkError> {
        let all = self.all_states()?.into_iter();
        Ok(all.filter(|(_, its)| *its == reqid).map(|(state, _)| state).collect())
    }

    /// All keys between hosts with addresses of version 4, whosever they are, each with its number.
    pub(crate) fn all_states(&mut self) -> Result<Vec<(State, u32)>, NetlinkError> {
        let mut list = Requests::default();
        list.message("list keys", GET_STATE, REQUEST | DUMP, |_| {});
        let mut found = Vec::new();
        self.dump(&list, |payload| found.extend(state(payload)))?;
        Ok(found)
    }

    /// All policies about single hosts' packets to a port.
    pub(crate) fn policies(&mut self, port: u16) -> Result<Vec<Policy>, NetlinkError> {
        let mut list = Requests::default();
        list.message("list policies", GET_POLICY, REQUEST | DUMP, |_| {});
        let mut found = Vec::new();
        self.dump(&list, |payload| {
            found.extend(policy(payload).filter(|policy| policy.flow.port == port));
        })?;
        Ok(found)
    }

    /// Removes every key and policy with this number.
    pub(crate) fn purge(&mut self, reqid: u32, port: u16) -> Result<(), NetlinkError> {
        let mut requests = Requests::default();
        for state in self.states(reqid)? {
            requests.delete_state(&state);
        }
        for policy in self.policies(port)?.into_iter().filter(|policy| policy.reqid == reqid) {
            requests.delete_policy(policy.way, &policy.flow);
        }
        self.ask_tolerating(&requests, &[Errno::ESRCH, Errno::ENOENT])
    }

    /// Sends messages some at a time. A refusal with one of these numbers is none.
    pub(crate) fn ask_tolerating(
        &mut self,
        requests: &Requests,
        tolerated: &[Errno],
    ) -> Result<(), NetlinkError> {
        if requests.len() == 0 {
            return Ok(());
        }
        for outcome in self.ask_each(requests)? {
            match outcome {
                Err(error) if !tolerated.iter().any(|errno| error.is(*errno)) => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

fn address_at(payload: &[u8], offset: usize) -> Option<Ipv4Addr> {
    let octets: &[u8; 4] = payload.get(offset..)?.first_chunk()?;
    Some(Ipv4Addr::from(*octets))
}

fn number_at(payload: &[u8], offset: usize) -> Option<[u8; 4]> {
    payload.get(offset..)?.first_chunk().copied()
}

/// Nothing of what is no key between two hosts: of another protocol, of version 6, or one that the kernel waits for.
fn state(payload: &[u8]) -> Option<(State, u32)> {
    let family = payload.get(STATE_FAMILY..)?.first_chunk()?;
    if payload.get(STATE_PROTOCOL) != Some(&ESP) || u16::from_ne_bytes(*family) != AF_INET {
        return None;
    }
    let state = State {
        source: address_at(payload, STATE_SOURCE)?,
        destination: address_at(payload, STATE_DESTINATION)?,
        spi: u32::from_be_bytes(number_at(payload, STATE_SPI)?),
    };
    let reqid = u32::from_ne_bytes(number_at(payload, STATE_REQID)?);
    (state.spi != 0).then_some((state, reqid))
}

fn policy(payload: &[u8]) -> Option<Policy> {
    let port = payload.get(32..)?.first_chunk()?;
    let flow = Flow {
        destination: address_at(payload, 0)?,
        source: address_at(payload, 16)?,
        port: u16::from_be_bytes(*port),
    };
    let way = match payload.get(POLICY_DIRECTION)? {
        0 => Way::In,
        1 => Way::Out,
        _ => return None,
    };
    let action = match payload.get(POLICY_DIRECTION + 1)? {
        0 => Action::Encrypt,
        _ => Action::Drop,
    };
    let mut attributes = super::attributes(payload.get(POLICY_LEN..)?);
    let (_, template) = attributes.find(|(kind, _)| *kind == ATTRIBUTE_TEMPLATE)?;
    let reqid = u32::from_ne_bytes(number_at(template, TEMPLATE_REQID)?);
    Some(Policy { way, flow, action, reqid })
}

#[cfg(test)]
mod tests {
    use super::super::messages;
    use super::*;

    const FLOW: Flow = Flow {
        source: Ipv4Addr::new(192, 0, 2, 1),
        destination: Ipv4Addr::new(192, 0, 2, 2),
        port: 14_789,
    };

    #[test]
    fn what_is_laid_out_is_as_long_as_the_kernel_has_it_and_is_read_again() {
        let mut requests = Requests::default();
        requests.add_state(0x1234_5678, &FLOW, 7, &EspKey::new([9; ESP_KEY_LEN]));
        requests.put_policy(Way::Out, &FLOW, 7, Action::Encrypt);
        requests.put_policy(Way::In, &FLOW, 8, Action::Drop);
        let told: Vec<&[u8]> = messages(&requests.bytes).map(|(_, _, payload)| payload).collect();
        let (read, reqid) = state(told[0]).unwrap();
        assert_eq!((read.source, read.destination), (FLOW.source, FLOW.destination));
        assert_eq!((read.spi, reqid), (0x1234_5678, 7));
        for (at, other) in [(STATE_PROTOCOL, 51), (STATE_FAMILY, 10)] {
            let mut foreign = told[0].to_vec();
            foreign[at] = other;
            assert_eq!(state(&foreign), None, "another protocol, another family");
        }
        // struct xfrm_usersa_info, and the two attributes after it.
        let kinds: Vec<_> =
            super::super::attributes(&told[0][224..]).map(|(kind, it)| (kind, it.len())).collect();
        assert_eq!(kinds, [(ATTRIBUTE_AEAD, 92), (ATTRIBUTE_REPLAY, 24 + 128)]);
        let action = Action::Encrypt;
        assert_eq!(policy(told[1]), Some(Policy { way: Way::Out, flow: FLOW, action, reqid: 7 }));
        let action = Action::Drop;
        assert_eq!(policy(told[2]), Some(Policy { way: Way::In, flow: FLOW, action, reqid: 8 }));
        assert_eq!(told[1].len(), POLICY_LEN + 4 + 64);
        for cut in 0..told[1].len() {
            assert_eq!(policy(&told[1][..cut]), None, "cut at {cut}");
        }
    }
}
