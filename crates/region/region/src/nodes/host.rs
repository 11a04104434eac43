//! Join, CheckIn, RenewKey, and the owner's ListNodes and RemoveNode.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::access::principal_arn;
use control::iam::node_keys;
use control::{Config, Permission};
use longshore_types::{InstanceArn, Timestamp, Token};
use model::instance::InstanceStatus;
use model::node::{NodeKey, UpgradeState};
use model::vpc::{AddressPlanId, region_account};
use model::{Key, Node, View};
use store::Batch;

use super::Nodes;
use super::activation;
use super::decide::{self, Asking, Refusal};
use super::release::Release;
use super::shapes::{
    CheckIn, CheckedIn, Done, IssuedKey, Join, Joined, Listed, ListedNode, NodeRanges, RemoveNode,
};
use super::upgrade::{self, Said, Turn};

/// How often hosts check in; sooner where keys are short-lived.
const CHECK_IN_MS_MAX: u64 = 60_000;
const CHECK_IN_MS_MIN: u64 = 1_000;
/// Check-ins for each life of a key.
const CHECK_INS_OF_KEY: u64 = 8;
const HOST_CHARS: std::ops::RangeInclusive<usize> = 16..=64;
const TEXT_CHARS_MAX: usize = 255;

impl Nodes {
    /// Exchanges a token for keys. A host that lost the answer asks again in the same words.
    pub(super) async fn join(&self, caller: &Caller, input: Join) -> Result<Joined, ApiError> {
        let token: trust::JoinToken = input.token.reveal().parse().map_err(|_| Refusal::Unknown)?;
        check_host(&input.host)?;
        let (id, hash) = (token.id(), token.hash());
        let node_id = node_keys::node_id(&input.host);
        check_release(input.release.as_deref())?;
        let (host_name, release) = (shown(&input.host_name), input.release.as_deref().map(shown));
        let (control, account) = (&self.control, Config::root_account());
        let decided = control.decide(|view, now| {
            let row = view.join_tokens.get(account, &id.as_str().into());
            let (key, secret) = self.mint(&node_id, row.map_or(0, |row| row.plan.key_ms), now);
            let asking = Asking {
                token_hash: &hash,
                node_id: &node_id,
                host_name: &host_name,
                release: release.as_deref(),
            };
            let before = view.nodes.get(account, &node_id.as_str().into());
            let (row, before) = (row.map(|it| &**it), before.map(|it| &**it));
            let (token, node) = decide::join(row, before, asking, key, now)?;
            let issued = issued(&node, secret);
            let cluster = node.plan.cluster.clone();
            let ranges = ranges(view)?;
            let mut batch = Batch::on(view);
            batch.rely(Key::JoinToken(account, Arc::clone(&token.id)));
            batch.rely(Key::Node(account, Arc::clone(&node.id)));
            batch.put(token);
            batch.put(node);
            Ok((batch, (issued, cluster, ranges)))
        });
        let (key, cluster, ranges) = decided.await.inspect_err(|refused| {
            let address = caller.origin.address.map(|it| it.to_string()).unwrap_or_default();
            tracing::warn!(token = id, host = host_name, address, why = %refused.message, "join refused");
        })?;
        tracing::info!(token = id, host = host_name, node = node_id, %cluster, "host joined");
        let region = control.config.region.to_string();
        Ok(Joined { node: node_id, key, region, cluster, ranges, instance: None })
    }

    /// A host is there, and uses this key from now on: those before it are over.
    pub(super) async fn check_in(
        &self,
        caller: &Caller,
        input: CheckIn,
    ) -> Result<CheckedIn, ApiError> {
        let release = input.release.as_deref().map(shown);
        // Where it cannot be read nobody is given it, and hosts check in all the same.
        let own = self.release().await.ok().cloned();
        let current = own.as_ref().map_or("", |own| own.digest.as_str());
        let failed = input.failed_run.zip(input.failed_because.as_deref().map(shown));
        let said = Said { digest: input.digest.as_deref().map(shown), failed, is_connected: false };
        self.control
            .decide(|view, now| {
                let before = self.node(view, caller)?;
                let mut batch = Batch::on(view);
                batch.rely(Key::Node(before.account, Arc::clone(&before.id)));
                let confirmed = decide::confirmed(&before, &caller.access_key, release.as_deref());
                let mut node = confirmed.unwrap_or_else(|| Node::clone(&before));
                if let Some(seen) = activation::checked_in(&self.control, view, &before, now)? {
                    node.managed = Some(seen);
                }
                let said =
                    Said { is_connected: upgrade::is_connected(view, &node), ..said.clone() };
                let turn = Self::take_turn(view, &mut batch, node, &said, current, now);
                let checked_in = self.checked_in(view, &turn, caller, own.as_deref(), now)?;
                if turn.node != *before {
                    batch.put(turn.node);
                }
                Ok((batch, checked_in))
            })
            .await
    }

    fn checked_in(
        &self,
        view: &View,
        turn: &Turn,
        caller: &Caller,
        own: Option<&Release>,
        now: Timestamp,
    ) -> Result<CheckedIn, ApiError> {
        let node = &turn.node;
        let key = node.keys.iter().find(|key| key.id == caller.access_key);
        let again_ms =
            (node.plan.key_ms / CHECK_INS_OF_KEY).clamp(CHECK_IN_MS_MIN, CHECK_IN_MS_MAX);
        Ok(CheckedIn {
            ranges: ranges(view)?,
            is_due: key.is_some_and(|key| decide::is_due(key, now)),
            again_ms: if turn.is_running { again_ms.min(upgrade::PACE_MS) } else { again_ms },
            release: control::release::RELEASE.to_owned(),
            upgrade: turn.asked.zip(own).map(|(run, own)| Self::offered(own, run)),
        })
    }

    /// Another key for the host that asks. Its present one is good until it uses the new one.
    pub(super) async fn renew_key(&self, caller: &Caller) -> Result<IssuedKey, ApiError> {
        self.control
            .decide(|view, now| {
                let node = self.node(view, caller)?;
                activation::checked_in(&self.control, view, &node, now)?;
                let (key, secret) = self.mint(&node.id, node.plan.key_ms, now);
                let next = decide::renewed(&node, &caller.access_key, key);
                let issued = issued(&next, secret);
                let mut batch = Batch::on(view);
                batch.rely(Key::Node(node.account, Arc::clone(&node.id)));
                batch.put(next);
                Ok((batch, issued))
            })
            .await
    }

    pub(super) fn list_nodes(&self, caller: &Caller) -> Result<Listed<ListedNode>, ApiError> {
        Self::check_owner(caller)?;
        let view = self.control.read(caller, &Permission::to("longshore:ListNodes"))?;
        let account = Config::root_account();
        let mut items: Vec<ListedNode> =
            view.nodes.of(account).map(|node| listed(&view, node)).collect();
        items.sort_by_key(|item| item.joined_at);
        Ok(Listed { items })
    }

    /// A host's keys are over at once. Its instances are deregistered by ECS's operation.
    pub(super) async fn remove_node(
        &self,
        caller: &Caller,
        input: RemoveNode,
    ) -> Result<Done, ApiError> {
        Self::check_owner(caller)?;
        let permission = Permission::to("longshore:RemoveNode");
        self.control
            .change(caller, &permission, |view, _| {
                let account = Config::root_account();
                let by_instance = || {
                    let arn: InstanceArn = input.id.parse().ok()?;
                    let row = view.instances.get(arn.scope.account, &arn.id)?;
                    node_keys::node_of_holder(view, row.access_key.as_deref()?)
                };
                let by_id = view.nodes.get(account, &input.id.as_str().into()).cloned();
                let Some(node) = by_id.or_else(by_instance) else {
                    let message = format!("No host has joined as {}.", input.id);
                    return Err(ApiError::client("ResourceNotFoundException", message));
                };
                let mut batch = Batch::on(view);
                batch.delete(Key::Node(account, Arc::clone(&node.id)));
                Ok((batch, Done {}))
            })
            .await
    }

    /// The host that calls.
    fn node(&self, view: &View, caller: &Caller) -> Result<Arc<Node>, ApiError> {
        node_keys::caller_node(view, caller).ok_or_else(|| {
            let message = format!("{} is no host that joined.", principal_arn(caller));
            ApiError::client("AccessDeniedException", message)
        })
    }

    pub(super) fn mint(&self, node_id: &str, key_ms: u64, now: Timestamp) -> (NodeKey, Token) {
        let ids = self.control.ids.as_ref();
        let id = node_keys::mint(node_id, ids);
        let secret = Token::mint(ids, 40);
        let sealed_secret = self.control.access.seal_node_secret(ids, &id, &secret);
        let expires_at = now.plus_ms(key_ms);
        (NodeKey { id, sealed_secret, issued_at: now, expires_at }, secret)
    }
}

/// Refuses an agent that is too far from the region's release.
pub(super) fn check_release(release: Option<&str>) -> Result<(), ApiError> {
    match control::release::too_far(release.unwrap_or_default(), control::release::RELEASE) {
        None => Ok(()),
        Some(why) => Err(ApiError::client("JoinRefusedException", why).with_status(403)),
    }
}

/// Refuses what no host has drawn for a name.
pub(super) fn check_host(host: &str) -> Result<(), ApiError> {
    let is_drawn = host.bytes().all(|it| it.is_ascii_alphanumeric());
    if HOST_CHARS.contains(&host.len()) && is_drawn {
        return Ok(());
    }
    let message = "A host calls itself by 16 to 64 letters and digits that it has drawn.";
    Err(ApiError::client("InvalidParameterException", message))
}

/// The newest of a node's keys.
pub(super) fn issued(node: &Node, secret: Token) -> IssuedKey {
    let key = node.keys.last();
    IssuedKey {
        access_key_id: key.map(|key| key.id.clone()).unwrap_or_default(),
        secret_access_key: secret,
        expires_at: key.map_or(Timestamp(0), |key| key.expires_at),
    }
}

pub(super) fn ranges(view: &View) -> Result<NodeRanges, ApiError> {
    let plan = view.address_plans.get(region_account(), &AddressPlanId);
    let plan = plan.ok_or_else(|| {
        ApiError::fault("failed to find the plan of addresses", control::NoAddresses)
    })?;
    let bridge = plan.bridge.map(|range| range.to_string()).unwrap_or_default();
    Ok(NodeRanges { vpc: plan.block.to_string(), bridge })
}

fn listed(view: &View, node: &Node) -> ListedNode {
    let key = node.keys.last();
    let is_its = |holder: &str| {
        holder.ends_with(&*node.id) && key.is_some_and(|key| node_keys::holder(&key.id) == holder)
    };
    let instances = view.instances.of(node.tenant()).filter(|row| {
        row.status != InstanceStatus::Inactive && row.access_key.as_deref().is_some_and(is_its)
    });
    ListedNode {
        id: node.id.to_string(),
        host_name: node.host_name.clone(),
        cluster: node.plan.cluster.to_string(),
        token: node.token.to_string(),
        joined_at: node.joined_at,
        release: node.release.clone(),
        key_expires_at: key.map_or(Timestamp(0), |key| key.expires_at),
        instances: instances.map(|row| row.arn().to_string()).collect(),
        digest: node.build.as_ref().map(|build| build.digest.clone()),
        is_current: node.build.as_ref().is_some_and(|build| build.is_regions),
        upgrade: node.upgrade.as_ref().map(|upgrade| {
            let state = match upgrade.state {
                UpgradeState::Queued => "queued",
                UpgradeState::Asked { .. } => "asked",
                UpgradeState::Failed(_) => "failed",
            };
            state.to_owned()
        }),
        upgrade_failed_because: node.upgrade.as_ref().and_then(|upgrade| match &upgrade.state {
            UpgradeState::Failed(why) => Some(why.clone()),
            UpgradeState::Queued | UpgradeState::Asked { .. } => None,
        }),
    }
}

/// What a stranger says of itself, as it may be shown.
pub(super) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TEXT_CHARS_MAX).collect()
}
