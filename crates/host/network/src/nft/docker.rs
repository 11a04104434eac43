//! Getting along with Docker's filter.
//!
//! Where Docker has turned forwarding on it drops, in `ip filter FORWARD`, whatever it does not know, and
//! an accept in one table never overrules a drop in another. Docker keeps a chain for its users' own
//! rules, `DOCKER-USER`, which it calls first and never changes. That one chain gets two rules of ours
//! there: what concerns our interfaces was judged in our table. They carry our tag in their comment.
//!
//! **Invariant:** no other rule is read for more than its comment, and none is changed.

use crate::names::NetTag;
use crate::netlink::{ACK, CREATE, DUMP, NetlinkError, REQUEST, Requests, Socket, attributes};
use crate::nft::expr::{Expr, Rule};
use crate::nft::{Batch, LIST_ELEMENT, NETFILTER_HEADER_LEN, NEW_RULE, SUBSYSTEM, Verdict};

const FAMILY_IPV4: u8 = 2;
const TABLE: &str = "filter";
const FORWARD_CHAIN: &str = "FORWARD";
const USER_CHAIN: &str = "DOCKER-USER";
const GET_CHAIN: u16 = SUBSYSTEM << 8 | 4;
const GET_RULE: u16 = SUBSYSTEM << 8 | 7;
const DEL_RULE: u16 = SUBSYSTEM << 8 | 8;

const CHAIN_POLICY: u16 = 5;
const RULE_HANDLE: u16 = 3;
const RULE_COMMENT: u16 = 7;
const POLICY_DROP: u32 = 0;

/// What stands in the way of our packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// Nothing that we know of.
    Open,
    /// Forwarding is dropped, and we have said in the users' chain that ours is fine.
    LetThrough,
    /// Forwarding is dropped, and there is no chain for users: only the host's owner can change it.
    Shut,
}

/// Looks whether forwarding is dropped by others and, if there is a place to say so, lets ours through.
pub(crate) fn let_through(socket: &mut Socket, tag: NetTag) -> Result<Foreign, NetlinkError> {
    if chain(socket, FORWARD_CHAIN)?.and_then(|chain| policy(&chain)) != Some(POLICY_DROP) {
        return Ok(Foreign::Open);
    }
    if chain(socket, USER_CHAIN)?.is_none() {
        return Ok(Foreign::Shut);
    }
    if rules_of(socket, tag)?.is_empty() {
        let mut batch = Batch::of(FAMILY_IPV4, TABLE.to_owned());
        let links = tag.link_prefix();
        let rules = [Rule::new().incoming(&links, true), Rule::new().outgoing(&links, true)];
        for rule in rules {
            batch.insert_rule(USER_CHAIN, rule.counted().then(Verdict::Accept).exprs(), tag);
        }
        batch.apply(socket)?;
    }
    Ok(Foreign::LetThrough)
}

/// Takes back what [`let_through`] said.
pub(crate) fn retract(socket: &mut Socket, tag: NetTag) -> Result<(), NetlinkError> {
    let mut batch = Batch::of(FAMILY_IPV4, TABLE.to_owned());
    for handle in rules_of(socket, tag)? {
        batch.delete_rule(USER_CHAIN, &handle);
    }
    batch.apply(socket)
}

impl Batch {
    /// Puts a rule before all others of the chain.
    fn insert_rule(&mut self, chain: &str, exprs: &[Expr], tag: NetTag) {
        self.message(format!("insert a rule into {chain}"), NEW_RULE, CREATE, |m| {
            m.text(2, chain);
            m.nested(4, |m| {
                for expr in exprs {
                    m.nested(LIST_ELEMENT, |m| expr.encode(m));
                }
            });
            m.attribute(RULE_COMMENT, &comment(tag));
        });
    }

    fn delete_rule(&mut self, chain: &str, handle: &[u8]) {
        self.message(format!("delete a rule of {chain}"), DEL_RULE, 0, |m| {
            m.text(2, chain);
            m.attribute(RULE_HANDLE, handle);
        });
    }
}

/// As `nft` lays a comment out: kind, length, text and its end.
fn comment(tag: NetTag) -> Vec<u8> {
    let text = format!("longshore {tag}\0");
    let mut bytes = vec![0, u8::try_from(text.len()).expect("a tag is eight digits")];
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

fn chain(socket: &mut Socket, name: &str) -> Result<Option<Vec<u8>>, NetlinkError> {
    let mut requests = Requests::default();
    requests.message(format!("look up chain {name}"), GET_CHAIN, REQUEST | ACK, |m| {
        m.raw(&[FAMILY_IPV4, 0, 0, 0]);
        m.text(1, TABLE);
        m.text(3, name);
    });
    match socket.get(&requests) {
        Err(error) if error.is(nix::errno::Errno::ENOENT) => Ok(None),
        other => other,
    }
}

fn policy(chain: &[u8]) -> Option<u32> {
    let mut found = attributes(chain.get(NETFILTER_HEADER_LEN..)?);
    let (_, value) = found.find(|(kind, _)| *kind == CHAIN_POLICY)?;
    value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// The handles of our rules in the users' chain.
fn rules_of(socket: &mut Socket, tag: NetTag) -> Result<Vec<Vec<u8>>, NetlinkError> {
    if chain(socket, USER_CHAIN)?.is_none() {
        return Ok(Vec::new());
    }
    let mut requests = Requests::default();
    requests.message("list the rules of DOCKER-USER", GET_RULE, REQUEST | DUMP, |m| {
        m.raw(&[FAMILY_IPV4, 0, 0, 0]);
        m.text(1, TABLE);
        m.text(2, USER_CHAIN);
    });
    let ours = comment(tag);
    let mut handles = Vec::new();
    socket.dump(&requests, |payload| {
        let payload = payload.get(NETFILTER_HEADER_LEN..).unwrap_or_default();
        let part = |wanted| {
            attributes(payload).find_map(|(kind, value)| (kind == wanted).then_some(value))
        };
        if let (Some(handle), Some(said)) = (part(RULE_HANDLE), part(RULE_COMMENT))
            && said == ours
        {
            handles.push(handle.to_vec());
        }
    })?;
    Ok(handles)
}
