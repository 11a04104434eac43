//! nf_tables over nfnetlink: tables, chains, sets and rules laid out as the kernel reads them.
//!
//! [`expr`] has the expressions that rules are made of, [`docker`] is about a table that is not ours, and
//! `ruleset` says what is in ours.
//!
//! **Invariant:** a [`Batch`] takes effect as a whole or not at all.

pub(crate) mod docker;
pub(crate) mod expr;
pub(crate) mod renew;

use std::fmt;

use traffic::flows::Count;

use crate::netlink::{CREATE, DUMP, NetlinkError, REQUEST, Requests, Socket, attributes};

use expr::Expr;
use renew::Remains;

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const DEL_TABLE: u16 = SUBSYSTEM << 8 | 2;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
const DEL_RULE: u16 = SUBSYSTEM << 8 | 8;
const NEW_SET: u16 = SUBSYSTEM << 8 | 9;
const NEW_ELEMENTS: u16 = SUBSYSTEM << 8 | 12;
const DEL_ELEMENTS: u16 = SUBSYSTEM << 8 | 14;

/// What every message of netfilter begins with: family, version, subsystem.
pub(crate) const NETFILTER_HEADER_LEN: usize = 4;
const FAMILY_INET: u8 = 1;
const LIST_ELEMENT: u16 = 1;
/// Elements in one message, so that their attribute stays well below 64 KiB.
const ELEMENTS_PER_MESSAGE: usize = 400;

/// Where and when the kernel calls a base chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hook {
    pub(crate) kind: &'static str,
    pub(crate) number: HookNumber,
    pub(crate) priority: i32,
}

/// A place on a packet's way through the host.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HookNumber {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

impl HookNumber {
    fn wire(self) -> u32 {
        match self {
            Self::Prerouting => 0,
            Self::Input => 1,
            Self::Forward => 2,
            Self::Output => 3,
            Self::Postrouting => 4,
        }
    }
}

/// What a set's keys or a map's values are, with the type number that `nft` prints them by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DataType {
    Address,
    AddressAndPort,
    ProtocolAndPort,
    Verdict,
}

impl DataType {
    fn number(self) -> u32 {
        const ADDRESS: u32 = 7;
        const PROTOCOL: u32 = 12;
        const PORT: u32 = 13;
        match self {
            Self::Address => ADDRESS,
            Self::AddressAndPort => ADDRESS << 6 | PORT,
            Self::ProtocolAndPort => PROTOCOL << 6 | PORT,
            Self::Verdict => 0xffff_ff00,
        }
    }

    fn length(self) -> u32 {
        match self {
            Self::Address => 4,
            Self::AddressAndPort | Self::ProtocolAndPort => 8,
            Self::Verdict => 0,
        }
    }
}

/// What happens to a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept,
    Drop,
    Jump(String),
    Goto(String),
}

impl Verdict {
    fn encode(&self, m: &mut Requests) {
        let (code, chain) = match self {
            Self::Drop => (0_i32, None),
            Self::Accept => (1, None),
            Self::Jump(chain) => (-3, Some(chain)),
            Self::Goto(chain) => (-4, Some(chain)),
        };
        m.nested(2, |m| {
            m.attribute(1, &code.to_be_bytes());
            if let Some(chain) = chain {
                m.text(2, chain);
            }
        });
    }
}

/// One element of a set (key only) or of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Value>,
}

/// What a map's key stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Data(Vec<u8>),
    Verdict(Verdict),
}

/// Changes to one table, applied together.
pub(crate) struct Batch {
    family: u8,
    table: String,
    requests: Requests,
    set_id: u32,
    /// Of the table that is made anew: what goes unless it is named again.
    remains: Remains,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({}, {} messages)", self.table, self.requests.len())
    }
}

impl Batch {
    /// Changes to a table of ours.
    pub(crate) fn new(table: String) -> Self {
        Self::of(FAMILY_INET, table)
    }

    fn of(family: u8, table: String) -> Self {
        let mut requests = Requests::default();
        mark(&mut requests, BATCH_BEGIN);
        Self { family, table, requests, set_id: 0, remains: Remains::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.requests.len() == 1
    }

    pub(crate) fn apply(mut self, socket: &mut Socket) -> Result<(), NetlinkError> {
        if self.is_empty() {
            return Ok(());
        }
        self.delete_remains();
        // One answer for all: thousands of acknowledgements would not fit the socket.
        self.requests.acknowledge_last();
        mark(&mut self.requests, BATCH_END);
        socket.ask_atomically(&self.requests)
    }

    /// Replaces the table by an empty one; works whether or not it was there.
    pub(crate) fn replace_table(&mut self) {
        self.add_table();
        self.delete_table();
        self.add_table();
    }

    pub(crate) fn add_table(&mut self) {
        let table = self.table.clone();
        self.message(format!("add table {table}"), NEW_TABLE, CREATE, |_| {});
    }

    pub(crate) fn delete_table(&mut self) {
        let table = self.table.clone();
        self.message(format!("delete table {table}"), DEL_TABLE, 0, |_| {});
    }

    pub(crate) fn add_base_chain(&mut self, name: &str, hook: Hook) {
        self.remains.chains.remove(name);
        self.message(format!("add chain {name}"), NEW_CHAIN, CREATE, |m| {
            m.text(3, name);
            m.nested(4, |m| {
                m.net_u32(1, hook.number.wire());
                m.attribute(2, &hook.priority.to_be_bytes());
            });
            m.text(7, hook.kind);
        });
    }

    pub(crate) fn add_chain(&mut self, name: &str) {
        self.remains.chains.remove(name);
        self.message(format!("add chain {name}"), NEW_CHAIN, CREATE, |m| m.text(3, name));
    }

    pub(crate) fn add_rule(&mut self, chain: &str, exprs: &[Expr]) {
        const APPEND: u16 = 0x800;
        self.message(format!("add a rule to {chain}"), NEW_RULE, CREATE | APPEND, |m| {
            m.text(2, chain);
            m.nested(4, |m| {
                for expr in exprs {
                    m.nested(LIST_ELEMENT, |m| expr.encode(m));
                }
            });
        });
    }

    /// Removes all rules of a chain; the chain stays.
    pub(crate) fn flush_chain(&mut self, chain: &str) {
        self.message(format!("flush chain {chain}"), DEL_RULE, 0, |m| m.text(2, chain));
    }

    pub(crate) fn add_set(&mut self, name: &str, key: DataType) {
        self.add_set_or_map(name, key, None);
    }

    pub(crate) fn add_map(&mut self, name: &str, key: DataType, value: DataType) {
        self.add_set_or_map(name, key, Some(value));
    }

    fn add_set_or_map(&mut self, name: &str, key: DataType, value: Option<DataType>) {
        const MAP: u32 = 0x8;
        self.remains.sets.remove(name);
        self.set_id += 1;
        let id = self.set_id;
        self.message(format!("add set {name}"), NEW_SET, CREATE, |m| {
            m.text(2, name);
            m.net_u32(3, if value.is_some() { MAP } else { 0 });
            m.net_u32(4, key.number());
            m.net_u32(5, key.length());
            if let Some(value) = value {
                m.net_u32(6, value.number());
                m.net_u32(7, value.length());
            }
            m.net_u32(10, id);
        });
    }

    /// A set into which rules put what they count ([`expr::Rule::counted_by_ends`]): up to so many, each until it is idle
    /// for so long.
    pub(crate) fn add_counting_set(&mut self, name: &str, most: usize, idle_ms: u64) {
        const TIMEOUT: u32 = 0x10;
        const FILLED_BY_RULES: u32 = 0x20;
        const KEY_LEN: u32 = 20;
        self.remains.sets.remove(name);
        self.set_id += 1;
        let id = self.set_id;
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        self.message(format!("add set {name}"), NEW_SET, CREATE, |m| {
            m.text(2, name);
            m.net_u32(3, TIMEOUT | FILLED_BY_RULES);
            // Two addresses, a protocol and two ports, as `nft` prints them.
            m.net_u32(4, 7 << 24 | 7 << 18 | 12 << 12 | 13 << 6 | 13);
            m.net_u32(5, KEY_LEN);
            m.nested(9, |m| m.net_u32(1, most));
            m.net_u32(10, id);
            m.attribute(11, &idle_ms.to_be_bytes());
        });
    }

    pub(crate) fn add_elements(&mut self, set: &str, elements: &[Element]) {
        self.elements(format!("add elements to {set}"), NEW_ELEMENTS, CREATE, set, elements);
    }

    pub(crate) fn delete_elements(&mut self, set: &str, elements: &[Element]) {
        self.elements(format!("delete elements of {set}"), DEL_ELEMENTS, 0, set, elements);
    }

    fn elements(&mut self, doing: String, kind: u16, flags: u16, set: &str, elements: &[Element]) {
        for some in elements.chunks(ELEMENTS_PER_MESSAGE) {
            self.message(doing.clone(), kind, flags, |m| {
                m.text(2, set);
                m.nested(3, |m| some.iter().for_each(|element| encode_element(m, element)));
            });
        }
    }

    fn message(&mut self, doing: String, kind: u16, flags: u16, fill: impl FnOnce(&mut Requests)) {
        let (family, table) = (self.family, &self.table);
        self.requests.message(doing, kind, REQUEST | flags, |m| {
            m.raw(&[family, 0, 0, 0]);
            m.text(1, table);
            fill(m);
        });
    }
}

/// Shows the key and the count of each element of a counting set.
pub(crate) fn read_counts(
    socket: &mut Socket,
    table: &str,
    set: &str,
    mut see: impl FnMut(&[u8], Count),
) -> Result<(), NetlinkError> {
    const GET_ELEMENTS: u16 = SUBSYSTEM << 8 | 13;
    let mut list = Requests::default();
    list.message(format!("read set {set}"), GET_ELEMENTS, REQUEST | DUMP, |m| {
        m.raw(&[FAMILY_INET, 0, 0, 0]);
        m.text(1, table);
        m.text(2, set);
    });
    let part = |of: &[u8], wanted: u16| -> Option<Vec<u8>> {
        attributes(of).find(|(kind, _)| *kind == wanted).map(|(_, value)| value.to_vec())
    };
    socket.dump(&list, |payload| {
        let payload = payload.get(NETFILTER_HEADER_LEN..).unwrap_or_default();
        let Some(elements) = part(payload, 3) else { return };
        for (_, element) in attributes(&elements) {
            let key = part(element, 1).and_then(|key| part(&key, 1));
            let counter = part(element, 7).and_then(|expr| part(&expr, 2));
            let Some((key, counter)) = key.zip(counter) else { continue };
            let number = |wanted| {
                let value = part(&counter, wanted)?;
                Some(u64::from_be_bytes(*value.first_chunk()?))
            };
            let (bytes, packets) = (number(1).unwrap_or(0), number(2).unwrap_or(0));
            see(&key, Count { packets, bytes });
        }
    })
}

fn encode_element(m: &mut Requests, element: &Element) {
    m.nested(LIST_ELEMENT, |m| {
        m.nested(1, |m| m.attribute(1, &element.key));
        match &element.value {
            None => {}
            Some(Value::Data(data)) => m.nested(2, |m| m.attribute(1, data)),
            Some(Value::Verdict(verdict)) => m.nested(2, |m| verdict.encode(m)),
        }
    });
}

fn mark(requests: &mut Requests, kind: u16) {
    requests.message("open the batch", kind, REQUEST, |m| {
        let [high, low] = SUBSYSTEM.to_be_bytes();
        m.raw(&[0, 0, high, low]);
    });
}
