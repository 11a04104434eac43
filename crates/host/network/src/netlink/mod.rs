//! Netlink, spoken directly: messages are laid out here and exchanged over a blocking socket.
//!
//! A [`Requests`] is a run of messages that is sent at once; the kernel works through it in order and
//! answers each, so that wiring an interface costs one round trip and not six.
//!
//! **Invariant:** every message of a [`Requests`] is complete and aligned: a message or an attribute is
//! only reachable through a closure that patches its length when it returns.

pub(crate) mod conntrack;
pub(crate) mod overlay;
pub(crate) mod route;
pub(crate) mod xfrm;

use std::borrow::Cow;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

pub(crate) const REQUEST: u16 = 0x1;
pub(crate) const ACK: u16 = 0x4;
pub(crate) const EXCL: u16 = 0x200;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const REPLACE: u16 = 0x100;
pub(crate) const DUMP: u16 = 0x300;

const HEADER_LEN: usize = 16;
const KIND_ERROR: u16 = 2;
const KIND_DONE: u16 = 3;
const ATTRIBUTE_NESTED: u16 = 0x8000;
/// How long the kernel may take to answer; it answers from within `send`, so this is never reached.
const ANSWER_SECONDS_MAX: i64 = 10;
/// Large enough for an error that quotes the largest message we send.
const RECEIVE_BYTES: usize = 256 * 1024;
/// Room for a whole table with thousands of endpoints in one batch.
const SEND_BYTES: usize = 32 * 1024 * 1024;

/// What the kernel refused, and what we had asked for.
#[derive(Debug, thiserror::Error)]
#[error("failed to {doing}")]
pub struct NetlinkError {
    pub doing: Cow<'static, str>,
    pub source: io::Error,
}

impl NetlinkError {
    pub(crate) fn new(doing: impl Into<Cow<'static, str>>, source: io::Error) -> Self {
        Self { doing: doing.into(), source }
    }

    pub(crate) fn is(&self, errno: Errno) -> bool {
        self.source.raw_os_error() == Some(errno as i32)
    }
}

/// A run of messages to be sent together, each with a phrase that says what it does.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    bytes: Vec<u8>,
    doings: Vec<Cow<'static, str>>,
    last_start: usize,
}

impl Requests {
    pub(crate) fn len(&self) -> usize {
        self.doings.len()
    }

    /// Appends one message; `fill` writes its fixed header and attributes.
    pub(crate) fn message(
        &mut self,
        doing: impl Into<Cow<'static, str>>,
        kind: u16,
        flags: u16,
        fill: impl FnOnce(&mut Self),
    ) {
        let start = self.bytes.len();
        self.last_start = start;
        let sequence = u32::try_from(self.doings.len()).expect("a run has far fewer messages");
        self.doings.push(doing.into());
        self.bytes.extend_from_slice(&0_u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&0_u32.to_ne_bytes());
        fill(self);
        let length = u32::try_from(self.bytes.len() - start).expect("a message fits its length");
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Asks for an acknowledgement of the message that was appended last.
    pub(crate) fn acknowledge_last(&mut self) {
        const FLAGS_OFFSET: usize = 6;
        if let Some([low, high]) = self
            .bytes
            .get_mut(self.last_start + FLAGS_OFFSET..)
            .and_then(|flags| flags.first_chunk_mut())
        {
            let flags = u16::from_ne_bytes([*low, *high]) | ACK;
            [*low, *high] = flags.to_ne_bytes();
        }
    }

    /// Appends bytes of a message's fixed header, padded to four.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }

    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(4 + value.len()).expect("an attribute is below 64 KiB");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.raw(value);
    }

    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.attribute(kind, &bytes);
    }

    pub(crate) fn net_u32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    pub(crate) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&0_u16.to_ne_bytes());
        self.bytes.extend_from_slice(&(kind | ATTRIBUTE_NESTED).to_ne_bytes());
        fill(self);
        let length = u16::try_from(self.bytes.len() - start).expect("nests are below 64 KiB");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    fn pad(&mut self) {
        let padded = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(padded, 0);
    }
}

/// A netlink socket. It stays in the network namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    received: Vec<u8>,
}

impl Socket {
    pub(crate) fn route() -> Result<Self, NetlinkError> {
        Self::open(SockProtocol::NetlinkRoute)
    }

    pub(crate) fn netfilter() -> Result<Self, NetlinkError> {
        Self::open(SockProtocol::NetlinkNetFilter)
    }

    fn open(protocol: SockProtocol) -> Result<Self, NetlinkError> {
        let failed = |errno: Errno| NetlinkError::new("open a netlink socket", errno.into());
        let family = AddressFamily::Netlink;
        let fd = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).map_err(failed)?;
        Self::of(fd)
    }

    fn of(fd: OwnedFd) -> Result<Self, NetlinkError> {
        let failed = |errno: Errno| NetlinkError::new("open a netlink socket", errno.into());
        match setsockopt(&fd, sockopt::SndBufForce, &SEND_BYTES) {
            // Whoever may not change anything has little to send.
            Ok(()) | Err(Errno::EPERM) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let patience = TimeVal::seconds(ANSWER_SECONDS_MAX);
        setsockopt(&fd, sockopt::ReceiveTimeout, &patience).map_err(failed)?;
        Ok(Self { fd, received: Vec::new() })
    }

    /// Sends messages that all ask for an acknowledgement; the first refusal is the answer.
    pub(crate) fn ask(&mut self, requests: &Requests) -> Result<(), NetlinkError> {
        let mut outcome = Ok(());
        self.exchange(requests, requests.len(), |doing, code| {
            if code != 0 && outcome.is_ok() {
                outcome = Err(refusal(doing.clone(), code));
            }
        })?;
        outcome
    }

    /// Sends messages that all ask for an acknowledgement, and returns each one's outcome in order.
    pub(crate) fn ask_each(
        &mut self,
        requests: &Requests,
    ) -> Result<Vec<Result<(), NetlinkError>>, NetlinkError> {
        let mut outcomes = Vec::with_capacity(requests.len());
        self.exchange(requests, requests.len(), |doing, code| {
            outcomes.push(if code == 0 { Ok(()) } else { Err(refusal(doing.clone(), code)) });
        })?;
        Ok(outcomes)
    }

    /// Sends a batch of which only the last message but one (before the end mark) is acknowledged: it
    /// takes effect as a whole, or the first refusal is returned and nothing has happened.
    pub(crate) fn ask_atomically(&mut self, requests: &Requests) -> Result<(), NetlinkError> {
        self.send(requests)?;
        let last = requests.len().saturating_sub(2);
        let mut outcome = Ok(());
        loop {
            let answer = self.receive(requests)?;
            let mut is_over = false;
            for (kind, sequence, payload) in messages(&answer) {
                if kind != KIND_ERROR {
                    continue;
                }
                let code = error_code(payload);
                let index = usize::try_from(sequence).unwrap_or(usize::MAX);
                if code != 0 && outcome.is_ok() {
                    let doing = requests.doings.get(index).cloned().unwrap_or_default();
                    outcome = Err(refusal(doing, code));
                }
                // A refusal of the opening mark (no permission, no commit) is the only answer there is.
                is_over |= index >= last || index == 0;
            }
            self.received = answer;
            if is_over {
                return outcome;
            }
        }
    }

    /// Sends one dump request and hands each message of the answer to `see`.
    pub(crate) fn dump(
        &mut self,
        requests: &Requests,
        mut see: impl FnMut(&[u8]),
    ) -> Result<(), NetlinkError> {
        self.send(requests)?;
        loop {
            let answer = self.receive(requests)?;
            let mut is_over = false;
            for (kind, _, payload) in messages(&answer) {
                match kind {
                    KIND_DONE => is_over = true,
                    KIND_ERROR => {
                        let code = error_code(payload);
                        if code != 0 {
                            return Err(refusal(requests.doings[0].clone(), code));
                        }
                        is_over = true;
                    }
                    _ => see(payload),
                }
            }
            self.received = answer;
            if is_over {
                return Ok(());
            }
        }
    }

    /// Sends one request whose answer is one message followed by an acknowledgement.
    pub(crate) fn get(&mut self, requests: &Requests) -> Result<Option<Vec<u8>>, NetlinkError> {
        let mut found = None;
        self.dump(requests, |payload| found = Some(payload.to_vec()))?;
        Ok(found)
    }

    fn exchange(
        &mut self,
        requests: &Requests,
        answers: usize,
        mut see: impl FnMut(&Cow<'static, str>, i32),
    ) -> Result<(), NetlinkError> {
        self.send(requests)?;
        let mut seen = 0;
        while seen < answers {
            let answer = self.receive(requests)?;
            for (kind, sequence, payload) in messages(&answer) {
                if kind != KIND_ERROR {
                    continue;
                }
                let index = usize::try_from(sequence).unwrap_or(usize::MAX);
                if let Some(doing) = requests.doings.get(index) {
                    see(doing, error_code(payload));
                    seen += 1;
                }
            }
            self.received = answer;
        }
        Ok(())
    }

    fn send(&self, requests: &Requests) -> Result<(), NetlinkError> {
        let failed = |source| NetlinkError::new(requests.doings[0].clone(), source);
        let sent = send(self.fd.as_raw_fd(), &requests.bytes, MsgFlags::empty())
            .map_err(|errno| failed(errno.into()))?;
        if sent == requests.bytes.len() {
            return Ok(());
        }
        Err(failed(io::Error::new(io::ErrorKind::WriteZero, "netlink took a part of the request")))
    }

    fn receive(&mut self, requests: &Requests) -> Result<Vec<u8>, NetlinkError> {
        let mut buffer = std::mem::take(&mut self.received);
        buffer.resize(RECEIVE_BYTES, 0);
        loop {
            match recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => {
                    buffer.truncate(length);
                    return Ok(buffer);
                }
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    return Err(NetlinkError::new(requests.doings[0].clone(), errno.into()));
                }
            }
        }
    }
}

fn refusal(doing: Cow<'static, str>, code: i32) -> NetlinkError {
    NetlinkError::new(doing, io::Error::from_raw_os_error(-code))
}

fn error_code(payload: &[u8]) -> i32 {
    payload.first_chunk().map_or(-(Errno::EPROTO as i32), |code| i32::from_ne_bytes(*code))
}

/// Splits what was received into messages: kind, sequence number, payload.
fn messages(received: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    let mut rest = received;
    std::iter::from_fn(move || {
        let header = rest.first_chunk::<HEADER_LEN>()?;
        let length = u32::from_ne_bytes(*header[..4].first_chunk()?);
        let length = usize::try_from(length).ok()?;
        let kind = u16::from_ne_bytes(*header[4..].first_chunk()?);
        let sequence = u32::from_ne_bytes(*header[8..].first_chunk()?);
        let payload = rest.get(HEADER_LEN..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, sequence, payload))
    })
}

/// Splits a payload, past its fixed header, into attributes: kind without flags, value.
pub(crate) fn attributes(payload: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = payload;
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        let kind = u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & 0x3fff, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_laid_out_can_be_split_again() {
        let mut requests = Requests::default();
        requests.message("test", 7, REQUEST, |m| {
            m.raw(&[1, 2, 3, 4]);
            m.text(3, "eth0");
            m.nested(18, |m| m.net_u32(1, 9));
        });
        requests.message("test again", 8, ACK, |m| m.raw(&[0; 4]));
        let split: Vec<_> = messages(&requests.bytes).collect();
        assert_eq!(split.len(), 2);
        assert_eq!((split[0].0, split[0].1, split[1].0, split[1].1), (7, 0, 8, 1));
        let found: Vec<_> = attributes(&split[0].2[4..]).collect();
        assert_eq!(found[0], (3, &b"eth0\0"[..]));
        assert_eq!(found[1].0, 18);
        assert_eq!(attributes(found[1].1).next(), Some((1, &9_u32.to_be_bytes()[..])));
    }

    #[test]
    fn a_torn_answer_ends_the_walk() {
        let mut requests = Requests::default();
        requests.message("test", 7, REQUEST, |m| m.text(3, "a name"));
        for cut in 0..requests.bytes.len() {
            assert_eq!(messages(&requests.bytes[..cut]).count(), 0, "cut at {cut}");
        }
        assert_eq!(attributes(&[255, 0, 1, 0, 1]).count(), 0);
        assert_eq!(attributes(&[0, 0, 1, 0, 1]).count(), 0);
    }
}
