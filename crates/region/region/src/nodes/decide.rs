//! Whether a host may join, as a function of rows and the time, and the sentences for those who may not.

use std::sync::Arc;

use aws_wire::ApiError;
use longshore_types::Timestamp;
use model::node::{NodeKey, NodePlan};
use model::{JoinToken, Node};

/// Why a host may not join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No token of that id, or not what proves it.
    Unknown,
    Revoked,
    Expired,
    UsedUp,
    /// The host has joined already, and used what it got.
    Replayed,
    /// Another token's host calls itself so.
    Taken,
}

impl Refusal {
    pub(super) fn sentence(self) -> &'static str {
        match self {
            Self::Unknown => {
                "This token is not one of this region's: make one with `longshore node token create`."
            }
            Self::Revoked => "This token was revoked: ask the region's owner for another one.",
            Self::Expired => {
                "This token has expired: make another one with `longshore node token create`."
            }
            Self::UsedUp => {
                "This token was used as often as it may be: make another one with `longshore node token create`."
            }
            Self::Replayed => {
                "This host has joined with this token already and has its keys: a repeated request gets none."
            }
            Self::Taken => "Another host has joined under this one's name: have it draw a new one.",
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::client("JoinRefusedException", refusal.sentence()).with_status(403)
    }
}

/// Why nobody can join by a token any more.
pub(super) fn over(token: &JoinToken, now: Timestamp) -> Option<Refusal> {
    if token.revoked_at.is_some() {
        Some(Refusal::Revoked)
    } else if token.expires_at <= now {
        Some(Refusal::Expired)
    } else if token.uses_max.is_some_and(|max| max <= token.uses) {
        Some(Refusal::UsedUp)
    } else {
        None
    }
}

/// A host that asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking<'a> {
    pub(super) token_hash: &'a str,
    pub(super) node_id: &'a str,
    pub(super) host_name: &'a str,
    pub(super) release: Option<&'a str>,
}

/// The rows as they are once the host has joined with `key`.
///
/// A host that asks again before it has used its key gets another one in its place, and takes no second use of the
/// token: its answer was lost on the way.
pub(super) fn join(
    token: Option<&JoinToken>,
    node: Option<&Node>,
    asking: Asking<'_>,
    key: NodeKey,
    now: Timestamp,
) -> Result<(JoinToken, Node), Refusal> {
    let token = token.filter(|token| token.hash == asking.token_hash).ok_or(Refusal::Unknown)?;
    if token.revoked_at.is_some() {
        return Err(Refusal::Revoked);
    }
    let is_again = match node {
        Some(node) if node.token != token.id => return Err(Refusal::Taken),
        Some(node) if node.is_confirmed => return Err(Refusal::Replayed),
        Some(_) => true,
        None => false,
    };
    let mut next = token.clone();
    match over(token, now) {
        Some(Refusal::UsedUp) if is_again => {}
        Some(why) => return Err(why),
        None if is_again => {}
        None => next.uses += 1,
    }
    let node = Node {
        account: token.account,
        id: asking.node_id.into(),
        host_name: asking.host_name.to_owned(),
        token: Arc::clone(&token.id),
        plan: NodePlan::clone(&token.plan),
        keys: vec![key],
        joined_at: now,
        is_confirmed: false,
        release: asking.release.map(str::to_owned),
        managed: None,
        build: None,
        upgrade: None,
    };
    Ok((next, node))
}

/// The node once it has used the key with this id: older keys are over. `None` if that changes nothing.
pub(super) fn confirmed(node: &Node, key_id: &str, release: Option<&str>) -> Option<Node> {
    let mut next = node.clone();
    let used = node.keys.iter().position(|key| key.id == key_id)?;
    next.keys.drain(..used);
    next.is_confirmed = true;
    next.release = release.map(str::to_owned).or(next.release);
    (next != *node).then_some(next)
}

/// Whether half of a key's time is over.
pub(super) fn is_due(key: &NodeKey, now: Timestamp) -> bool {
    let half = key.expires_at.since_ms(key.issued_at) / 2;
    key.issued_at.plus_ms(half) <= now
}

/// The node with another key, good beside the one that asks for it: which is the only other one from then on.
pub(super) fn renewed(node: &Node, asks_with: &str, key: NodeKey) -> Node {
    let mut next = node.clone();
    next.keys.retain(|each| each.id == asks_with);
    next.keys.push(key);
    next
}
