//! JoinByActivation: a host becomes a managed instance of the account that made an activation, as Systems Manager's own agent
//! has it do, and with that an external instance of ECS.
//!
//! **Invariant:** of a code its hash is kept only; a code that was guessed wrong is told nothing of the activation.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::iam::{managed_instances, node_keys};
use control::{Config, Control};
use longshore_types::{IdSource, Timestamp};
use model::node::{NodeKey, NodePlan};
use model::{Activation, Key, Managed, Node, View};
use store::Batch;

use super::Nodes;
use super::host::{check_host, check_release, issued, ranges, shown};
use super::shapes::{JoinByActivation, Joined};

/// Managed instances of an account, as AWS has of its standard tier.
const INSTANCES_MAX: usize = 1_000;
/// How long each key of a managed instance is good; it renews them at half of that.
const KEY_MS: u64 = 30 * 24 * 60 * 60_000;
/// After so long a check-in is written down again.
const SEEN_AGAIN_MS: u64 = 2 * 60_000;

/// Why a host may not become an instance by an activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// No activation of that id, or another code.
    Unknown,
    Expired,
    UsedUp,
    /// The host has joined already, and used what it got.
    Replayed,
    /// Another's host calls itself so.
    Taken,
    Role,
    /// The account has as many instances as it may.
    Full,
}

impl Refusal {
    fn sentence(self) -> &'static str {
        match self {
            Self::Unknown => {
                "The activation isn't valid. It might have been deleted, or the activation's ID and code don't match."
            }
            Self::Expired => {
                "The activation has expired: make another one (aws ssm create-activation)."
            }
            Self::UsedUp => {
                "The activation has registered as many instances as it may: make another one (aws ssm create-activation)."
            }
            Self::Replayed => {
                "This host has joined by this activation already and has its keys: a repeated request gets none."
            }
            Self::Taken => "Another host has joined under this one's name: have it draw a new one.",
            Self::Role => {
                "The activation's role is gone, or its trust policy does not let ssm.amazonaws.com assume it."
            }
            Self::Full => {
                "The account has as many managed instances as it may: deregister some (aws ssm deregister-managed-instance)."
            }
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::client("JoinRefusedException", refusal.sentence()).with_status(403)
    }
}

/// The rows as they are once a host that says `asked` has joined with `key`. One that asks again before it has used its
/// key is the same instance, and counts once.
fn activate(
    activation: Option<&Activation>,
    node: Option<&Node>,
    asked: &Asked<'_>,
    key: NodeKey,
    now: Timestamp,
) -> Result<(Activation, Node), Refusal> {
    let row = activation.filter(|row| row.hash == asked.hash).ok_or(Refusal::Unknown)?;
    let before = match node {
        Some(node) if node.token != row.id => return Err(Refusal::Taken),
        Some(node) if node.is_confirmed => return Err(Refusal::Replayed),
        Some(node) => node.managed.as_ref(),
        None => None,
    };
    if row.expires_at <= now {
        return Err(Refusal::Expired);
    }
    let mut next = row.clone();
    if before.is_none() {
        if row.limit <= row.count {
            return Err(Refusal::UsedUp);
        }
        next.count += 1;
    }
    let managed = Managed {
        id: before.map_or_else(|| asked.instance.as_str().into(), |before| Arc::clone(&before.id)),
        account: row.account,
        activation: Arc::clone(&row.id),
        role: row.role.clone(),
        name: row.instance_name.clone(),
        tags: row.tags.clone(),
        address: asked.address.clone(),
        platform: asked.platform.clone(),
        seen_at: now,
    };
    let plan = NodePlan {
        cluster: asked.input.cluster.clone(),
        zone: None,
        attributes: BTreeMap::new(),
        key_ms: KEY_MS,
    };
    let node = Node {
        account: Config::root_account(),
        id: asked.node_id.as_str().into(),
        host_name: shown(&asked.input.host_name),
        token: Arc::clone(&row.id),
        plan,
        keys: vec![key],
        joined_at: now,
        is_confirmed: false,
        release: asked.input.release.as_deref().map(shown),
        managed: Some(managed),
        build: None,
        upgrade: None,
    };
    Ok((next, node))
}

/// A host that asks.
struct Asked<'a> {
    input: &'a JoinByActivation,
    hash: String,
    node_id: String,
    /// What it is called if it is new.
    instance: String,
    address: Option<String>,
    platform: Option<(String, String)>,
}

impl Nodes {
    /// Exchanges an activation's code for keys. A host that lost the answer asks again in the same words.
    pub(super) async fn join_by_activation(
        &self,
        caller: &Caller,
        input: JoinByActivation,
    ) -> Result<Joined, ApiError> {
        check_host(&input.host)?;
        check_release(input.release.as_deref())?;
        let control = &self.control;
        let asked = Asked {
            hash: managed_instances::code_hash(&input.activation_code),
            node_id: node_keys::node_id(&input.host),
            instance: mint(control.ids.as_ref()),
            address: caller.origin.address.map(|it| it.to_string()),
            platform: input.platform.as_ref().map(|(name, version)| (shown(name), shown(version))),
            input: &input,
        };
        let decided = control.decide(|view, now| {
            let row = activation(view, &input.activation_id);
            let (key, secret) = self.mint(&asked.node_id, KEY_MS, now);
            let before = view.nodes.get(Config::root_account(), &asked.node_id.as_str().into());
            let (next, node) = activate(row, before.map(|it| &**it), &asked, key, now)?;
            let mut held = managed_instances::of(view, next.account);
            if before.is_none() && held.nth(INSTANCES_MAX - 1).is_some() {
                return Err(Refusal::Full.into());
            }
            control
                .check_instance_role(view, next.account, &next.role, now)
                .map_err(|_| Refusal::Role)?;
            let answer = Joined {
                node: node.id.to_string(),
                key: issued(&node, secret),
                region: control.config.region.to_string(),
                cluster: node.plan.cluster.clone(),
                ranges: ranges(view)?,
                instance: node.managed.as_ref().map(|managed| managed.id.to_string()),
            };
            let mut batch = Batch::on(view);
            batch.rely(Key::Activation(next.account, Arc::clone(&next.id)));
            batch.rely(Key::Node(node.account, Arc::clone(&node.id)));
            batch.put(next);
            batch.put(node);
            Ok((batch, answer))
        });
        let address = asked.address.clone().unwrap_or_default();
        let (activation, host) = (shown(&input.activation_id), shown(&input.host_name));
        let joined = decided.await.inspect_err(|refused| {
            tracing::warn!(activation, host, address, why = %refused.message, "join refused");
        })?;
        let instance = joined.instance.as_deref().unwrap_or_default();
        tracing::info!(activation, host, instance, cluster = %joined.cluster, "host joined");
        Ok(joined)
    }
}

/// Ids of activations are drawn: one is found in whichever account it is.
fn activation<'v>(view: &'v View, id: &str) -> Option<&'v Activation> {
    view.activations.iter().find(|row| *row.id == *id).map(|row| &**row)
}

/// `mi-` and 17 hexadecimal digits.
fn mint(ids: &dyn IdSource) -> String {
    format!("mi-{}", &hex::encode(ids.id16())[..17])
}

/// A managed instance that checks in: seen now, if it was not for long. An error if it has its role no more.
pub(super) fn checked_in(
    control: &Control,
    view: &View,
    node: &Node,
    now: Timestamp,
) -> Result<Option<Managed>, ApiError> {
    let Some(managed) = &node.managed else { return Ok(None) };
    control.check_instance_role(view, managed.account, &managed.role, now).map_err(|why| {
        let message = format!("{} cannot have the role {}: {why}.", managed.id, managed.role);
        ApiError::client("AccessDeniedException", message)
    })?;
    let is_due = managed.seen_at.plus_ms(SEEN_AGAIN_MS) <= now;
    Ok(is_due.then(|| Managed { seen_at: now, ..managed.clone() }))
}
