//! The expressions that a rule is made of: each loads, compares, looks up or ends.
//!
//! Values pass through registers. Ours use the first two 16-byte registers, addressed as 4-byte ones
//! where two values are laid side by side.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use longshore_types::Cidr;

use super::Verdict;
use crate::netlink::Requests;
use crate::ruleset::{ControlGroup, Ipv6Range};

/// A kernel register number.
#[derive(Clone, Copy, Debug)]
struct Register(u32);

const VERDICT: Register = Register(0);
const FIRST: Register = Register(1);
/// The second word of the first register.
const FIRST_SECOND_WORD: Register = Register(9);

const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;

const CT_STATE_INVALID: u32 = 1;
const CT_STATE_ESTABLISHED: u32 = 2;
const CT_STATE_RELATED: u32 = 4;
const CT_STATUS_DNAT: u32 = 1 << 5;
const ADDRESS_TYPE_LOCAL: u32 = 2;
/// ICMP of the packet's own version.
const REJECT_BY_ICMP: u32 = 2;
const REJECT_PROHIBITED: u8 = 3;
const NFPROTO_IPV4: u8 = 2;

/// One step of a rule, as a reader of the rule would say it.
#[derive(Clone, Debug)]
pub(crate) enum Expr {
    Meta {
        key: u32,
    },
    Payload {
        base: u32,
        offset: u32,
        length: u32,
    },
    /// Loads past the value that is already there, to make a pair.
    PayloadSecond {
        base: u32,
        offset: u32,
        length: u32,
    },
    Ct {
        key: u32,
    },
    FibReverseInterface,
    FibDestinationType,
    /// The number of the control group, of those around the sender's, that is so far below the root.
    SocketGroup {
        level: u32,
    },
    Compare {
        is_equal: bool,
        value: Vec<u8>,
    },
    Range {
        from: Vec<u8>,
        to: Vec<u8>,
    },
    Mask {
        mask: Vec<u8>,
    },
    InSet {
        set: String,
        is_in: bool,
    },
    VerdictMap {
        map: String,
    },
    DataMap {
        map: String,
    },
    LoadAddress(Ipv4Addr),
    LoadPort(u16),
    DnatToRegisters,
    /// To an address alone: the port stays.
    DnatToRegister,
    SnatToRegister,
    Masquerade,
    /// Answers that the way is closed, so that the sender need not wait.
    Reject,
    Counter,
    /// Into the word of a longer value with this number, counted from its first.
    WordOfMeta {
        key: u32,
        word: u32,
    },
    WordOfPayload {
        base: u32,
        offset: u32,
        length: u32,
        word: u32,
    },
    WordOfNothing {
        word: u32,
    },
    /// Counts the packet in a set under the value that the words make.
    CountIn {
        set: String,
    },
    Verdict(Verdict),
}

/// A rule's text, written from left to right.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rule(Vec<Expr>);

impl Rule {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn exprs(&self) -> &[Expr] {
        &self.0
    }

    fn and(mut self, exprs: impl IntoIterator<Item = Expr>) -> Self {
        self.0.extend(exprs);
        self
    }

    fn flag(self, load: Expr, mask: u32, is_set: bool) -> Self {
        self.and([
            load,
            Expr::Mask { mask: mask.to_ne_bytes().to_vec() },
            Expr::Compare { is_equal: !is_set, value: vec![0; 4] },
        ])
    }

    pub(crate) fn ipv4(self, is_it: bool) -> Self {
        let value = vec![NFPROTO_IPV4];
        self.and([Expr::Meta { key: 15 }, Expr::Compare { is_equal: is_it, value }])
    }

    /// The name of the incoming interface begins with `prefix`.
    pub(crate) fn incoming(self, prefix: &str, is_it: bool) -> Self {
        let value = prefix.as_bytes().to_vec();
        self.and([Expr::Meta { key: 6 }, Expr::Compare { is_equal: is_it, value }])
    }

    /// The name of the outgoing interface begins with `prefix`.
    pub(crate) fn outgoing(self, prefix: &str, is_it: bool) -> Self {
        let value = prefix.as_bytes().to_vec();
        self.and([Expr::Meta { key: 7 }, Expr::Compare { is_equal: is_it, value }])
    }

    /// The incoming interface is named exactly so.
    pub(crate) fn incoming_exactly(self, name: &str, is_it: bool) -> Self {
        let mut value = name.as_bytes().to_vec();
        value.resize(16, 0);
        self.and([Expr::Meta { key: 6 }, Expr::Compare { is_equal: is_it, value }])
    }

    pub(crate) fn source_in(self, net: Cidr, is_it: bool) -> Self {
        self.address_in(12, net, is_it)
    }

    pub(crate) fn destination_in(self, net: Cidr, is_it: bool) -> Self {
        self.address_in(16, net, is_it)
    }

    fn address_in(self, offset: u32, net: Cidr, is_it: bool) -> Self {
        if net.prefix() == 0 && is_it {
            return self;
        }
        self.and([
            Expr::Payload { base: 1, offset, length: 4 },
            Expr::Mask { mask: net.mask().octets().to_vec() },
            Expr::Compare { is_equal: is_it, value: net.first().octets().to_vec() },
        ])
    }

    /// The destination is an IPv6 address in `net`.
    pub(crate) fn destination_in_6(self, net: &Ipv6Range) -> Self {
        self.ipv4(false).and([
            Expr::Payload { base: 1, offset: 24, length: 16 },
            Expr::Mask { mask: net.mask().octets().to_vec() },
            Expr::Compare { is_equal: true, value: net.network.octets().to_vec() },
        ])
    }

    /// The packet's sender is in the control group or in one below it. No packet of somebody else's that
    /// is only passed on has such a sender.
    pub(crate) fn sent_by(self, group: ControlGroup) -> Self {
        let value = group.id.to_ne_bytes().to_vec();
        let load = Expr::SocketGroup { level: group.level };
        self.and([load, Expr::Compare { is_equal: true, value }])
    }

    pub(crate) fn source_in_set(self, set: &str) -> Self {
        let lookup = Expr::InSet { set: set.to_owned(), is_in: true };
        self.and([Expr::Payload { base: 1, offset: 12, length: 4 }, lookup])
    }

    pub(crate) fn source_not_in_set(self, set: &str) -> Self {
        let lookup = Expr::InSet { set: set.to_owned(), is_in: false };
        self.and([Expr::Payload { base: 1, offset: 12, length: 4 }, lookup])
    }

    pub(crate) fn destination_in_set(self, set: &str) -> Self {
        let lookup = Expr::InSet { set: set.to_owned(), is_in: true };
        self.and([Expr::Payload { base: 1, offset: 16, length: 4 }, lookup])
    }

    pub(crate) fn source_verdict(self, map: &str) -> Self {
        let lookup = Expr::VerdictMap { map: map.to_owned() };
        self.and([Expr::Payload { base: 1, offset: 12, length: 4 }, lookup])
    }

    pub(crate) fn destination_verdict(self, map: &str) -> Self {
        let lookup = Expr::VerdictMap { map: map.to_owned() };
        self.and([Expr::Payload { base: 1, offset: 16, length: 4 }, lookup])
    }

    pub(crate) fn protocol(self, number: u8) -> Self {
        let value = vec![number];
        self.and([Expr::Meta { key: 16 }, Expr::Compare { is_equal: true, value }])
    }

    /// The destination port of TCP or UDP lies in `ports`; the protocol was compared before.
    pub(crate) fn ports(self, ports: &RangeInclusive<u16>) -> Self {
        if (*ports.start(), *ports.end()) == (0, u16::MAX) {
            return self;
        }
        let (from, to) = (ports.start().to_be_bytes().to_vec(), ports.end().to_be_bytes().to_vec());
        self.and([Expr::Payload { base: 2, offset: 2, length: 2 }, Expr::Range { from, to }])
    }

    /// ICMP's type, and its code where given.
    pub(crate) fn icmp(self, kind: u8, code: Option<u8>) -> Self {
        let value: Vec<u8> = [Some(kind), code].into_iter().flatten().collect();
        let length = if code.is_some() { 2 } else { 1 };
        let load = Expr::Payload { base: 2, offset: 0, length };
        self.and([load, Expr::Compare { is_equal: true, value }])
    }

    pub(crate) fn established(self) -> Self {
        self.flag(Expr::Ct { key: 0 }, CT_STATE_ESTABLISHED | CT_STATE_RELATED, true)
    }

    pub(crate) fn invalid(self) -> Self {
        self.flag(Expr::Ct { key: 0 }, CT_STATE_INVALID, true)
    }

    /// The connection's destination was translated on its way in.
    pub(crate) fn was_redirected(self) -> Self {
        self.flag(Expr::Ct { key: 2 }, CT_STATUS_DNAT, true)
    }

    /// No route leads back to the packet's source by the interface on which it came.
    pub(crate) fn spoofed(self) -> Self {
        let value = 0_u32.to_ne_bytes().to_vec();
        self.and([Expr::FibReverseInterface, Expr::Compare { is_equal: true, value }])
    }

    /// The destination is one of the host's own addresses.
    pub(crate) fn for_host(self) -> Self {
        let value = ADDRESS_TYPE_LOCAL.to_ne_bytes().to_vec();
        self.and([Expr::FibDestinationType, Expr::Compare { is_equal: true, value }])
    }

    /// Looks the protocol and destination port up, and translates to the address and port found.
    pub(crate) fn dnat_by_port(self, map: &str) -> Self {
        self.and([
            Expr::Meta { key: 16 },
            Expr::PayloadSecond { base: 2, offset: 2, length: 2 },
            Expr::DataMap { map: map.to_owned() },
            Expr::DnatToRegisters,
        ])
    }

    /// Looks the destination up, and translates to the address found.
    pub(crate) fn dnat_by_address(self, map: &str) -> Self {
        self.and([
            Expr::Payload { base: 1, offset: 16, length: 4 },
            Expr::DataMap { map: map.to_owned() },
            Expr::DnatToRegister,
        ])
    }

    /// Looks the source up, and translates to the address found.
    pub(crate) fn snat_by_address(self, map: &str) -> Self {
        self.and([
            Expr::Payload { base: 1, offset: 12, length: 4 },
            Expr::DataMap { map: map.to_owned() },
            Expr::SnatToRegister,
        ])
    }

    pub(crate) fn dnat(self, to: Ipv4Addr, port: u16) -> Self {
        self.and([Expr::LoadAddress(to), Expr::LoadPort(port), Expr::DnatToRegisters])
    }

    pub(crate) fn snat(self, to: Ipv4Addr) -> Self {
        self.and([Expr::LoadAddress(to), Expr::SnatToRegister])
    }

    pub(crate) fn masquerade(self) -> Self {
        self.and([Expr::Masquerade])
    }

    /// The packet's header has options, such as a way that it wants to go.
    pub(crate) fn has_options(self) -> Self {
        const LENGTH_WITHOUT: u8 = 5;
        self.and([
            Expr::Payload { base: 1, offset: 0, length: 1 },
            Expr::Mask { mask: vec![0x0f] },
            Expr::Compare { is_equal: false, value: vec![LENGTH_WITHOUT] },
        ])
    }

    /// Drops, and says so to the sender.
    pub(crate) fn refuse(self) -> Self {
        self.and([Expr::Reject])
    }

    pub(crate) fn counted(self) -> Self {
        self.and([Expr::Counter])
    }

    /// Counts the packet by both its addresses, its protocol and, where it has such, its ports.
    pub(crate) fn counted_by_ends(self, set: &str, has_ports: bool) -> Self {
        let address = |offset, word| Expr::WordOfPayload { base: 1, offset, length: 4, word };
        let port = |offset, word| match has_ports {
            true => Expr::WordOfPayload { base: 2, offset, length: 2, word },
            false => Expr::WordOfNothing { word },
        };
        self.and([
            address(12, 0),
            address(16, 1),
            Expr::WordOfMeta { key: 16, word: 2 },
            port(0, 3),
            port(2, 4),
            Expr::CountIn { set: set.to_owned() },
        ])
    }

    pub(crate) fn then(self, verdict: Verdict) -> Self {
        self.and([Expr::Verdict(verdict)])
    }
}

impl Expr {
    pub(super) fn encode(&self, m: &mut Requests) {
        m.text(1, self.name());
        m.nested(2, |m| self.encode_data(m));
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Meta { .. } | Self::WordOfMeta { .. } => "meta",
            Self::Payload { .. } | Self::PayloadSecond { .. } | Self::WordOfPayload { .. } => {
                "payload"
            }
            Self::Ct { .. } => "ct",
            Self::FibReverseInterface | Self::FibDestinationType => "fib",
            Self::SocketGroup { .. } => "socket",
            Self::Compare { .. } => "cmp",
            Self::Range { .. } => "range",
            Self::Mask { .. } => "bitwise",
            Self::InSet { .. } | Self::VerdictMap { .. } | Self::DataMap { .. } => "lookup",
            Self::LoadAddress(_)
            | Self::LoadPort(_)
            | Self::WordOfNothing { .. }
            | Self::Verdict(_) => "immediate",
            Self::CountIn { .. } => "dynset",
            Self::DnatToRegisters | Self::DnatToRegister | Self::SnatToRegister => "nat",
            Self::Masquerade => "masq",
            Self::Reject => "reject",
            Self::Counter => "counter",
        }
    }

    fn encode_data(&self, m: &mut Requests) {
        match self {
            Self::Meta { key } | Self::Ct { key } => {
                let (register, key_kind) = (FIRST.0, 2);
                m.net_u32(1, register);
                m.net_u32(key_kind, *key);
            }
            Self::Payload { base, offset, length } => payload(m, FIRST, [*base, *offset, *length]),
            Self::PayloadSecond { base, offset, length } => {
                payload(m, FIRST_SECOND_WORD, [*base, *offset, *length]);
            }
            Self::FibReverseInterface => fib(m, 1, 1 | 8),
            Self::FibDestinationType => fib(m, 3, 2),
            Self::SocketGroup { level } => {
                const CONTROL_GROUP: u32 = 3;
                m.net_u32(1, CONTROL_GROUP);
                m.net_u32(2, FIRST.0);
                m.net_u32(3, *level);
            }
            Self::Compare { is_equal, value } => {
                m.net_u32(1, FIRST.0);
                m.net_u32(2, if *is_equal { EQUAL } else { NOT_EQUAL });
                m.nested(3, |m| m.attribute(1, value));
            }
            Self::Range { from, to } => {
                m.net_u32(1, FIRST.0);
                m.net_u32(2, 0);
                m.nested(3, |m| m.attribute(1, from));
                m.nested(4, |m| m.attribute(1, to));
            }
            Self::Mask { mask } => {
                m.net_u32(1, FIRST.0);
                m.net_u32(2, FIRST.0);
                m.net_u32(3, u32::try_from(mask.len()).expect("a mask is a word"));
                m.nested(4, |m| m.attribute(1, mask));
                m.nested(5, |m| m.attribute(1, &vec![0; mask.len()]));
            }
            Self::InSet { set, is_in } => {
                m.text(1, set);
                m.net_u32(2, FIRST.0);
                m.net_u32(5, u32::from(!is_in));
            }
            Self::VerdictMap { map } => lookup(m, map, VERDICT),
            Self::DataMap { map } => lookup(m, map, FIRST),
            Self::LoadAddress(address) => immediate(m, FIRST, &address.octets()),
            Self::LoadPort(port) => immediate(m, FIRST_SECOND_WORD, &port.to_be_bytes()),
            Self::WordOfMeta { key, word } => {
                m.net_u32(1, word_register(*word).0);
                m.net_u32(2, *key);
            }
            Self::WordOfPayload { base, offset, length, word } => {
                payload(m, word_register(*word), [*base, *offset, *length]);
            }
            Self::WordOfNothing { word } => immediate(m, word_register(*word), &[0; 4]),
            Self::CountIn { set } => {
                const UPDATE: u32 = 1;
                m.text(1, set);
                m.net_u32(3, UPDATE);
                m.net_u32(4, word_register(0).0);
                m.nested(7, |m| Self::Counter.encode(m));
            }
            Self::DnatToRegisters => {
                nat(m, 1);
                m.net_u32(5, FIRST_SECOND_WORD.0);
            }
            Self::DnatToRegister => nat(m, 1),
            Self::SnatToRegister => nat(m, 0),
            Self::Masquerade | Self::Counter => {}
            Self::Reject => {
                m.net_u32(1, REJECT_BY_ICMP);
                m.attribute(2, &[REJECT_PROHIBITED]);
            }
            Self::Verdict(verdict) => {
                m.net_u32(1, VERDICT.0);
                m.nested(2, |m| verdict.encode(m));
            }
        }
    }
}

/// The registers of words lie side by side, over those of 16 bytes.
fn word_register(word: u32) -> Register {
    Register(8 + word)
}

fn payload(m: &mut Requests, to: Register, [base, offset, length]: [u32; 3]) {
    m.net_u32(1, to.0);
    m.net_u32(2, base);
    m.net_u32(3, offset);
    m.net_u32(4, length);
}

fn fib(m: &mut Requests, result: u32, flags: u32) {
    m.net_u32(1, FIRST.0);
    m.net_u32(2, result);
    m.net_u32(3, flags);
}

fn lookup(m: &mut Requests, map: &str, to: Register) {
    m.text(1, map);
    m.net_u32(2, FIRST.0);
    m.net_u32(3, to.0);
}

fn immediate(m: &mut Requests, to: Register, value: &[u8]) {
    m.net_u32(1, to.0);
    m.nested(2, |m| m.attribute(1, value));
}

fn nat(m: &mut Requests, kind: u32) {
    m.net_u32(1, kind);
    m.net_u32(2, u32::from(NFPROTO_IPV4));
    m.net_u32(3, FIRST.0);
}
