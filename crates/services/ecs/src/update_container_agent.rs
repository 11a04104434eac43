//! UpdateContainerAgent: has a host that joined take the region's own program in the place of its agent's, as `longshore node
//! upgrade` does with several.
//!
//! Other agents are installed by whoever runs their hosts; what ECS answers where its agent is the latest is answered for
//! each of those that has said which it is.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::access::may_operate;
use control::iam::node_keys::node_of_holder;
use ecs_api as api;
use longshore_types::Timestamp;
use model::instance::Instance;
use model::node::{Upgrade, UpgradeState};
use model::{Key, Node, View};
use store::Batch;

use super::instance_ref::{InstanceRef, instance_ref};
use super::render_instance::{Include, render};
use crate::Ecs;
use crate::errors::Refusal;

pub(super) async fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::UpdateContainerAgentRequest,
) -> Result<api::UpdateContainerAgentResponse, ApiError> {
    let permission = ecs.within(
        caller,
        "ecs:UpdateContainerAgent",
        "container-instance",
        input.cluster.as_deref(),
        &input.container_instance,
    );
    let named = input.container_instance.unwrap_or_default();
    let shown = ecs
        .control
        .change(caller, &permission, |view, now| {
            let cluster = ecs.cluster(view, caller, input.cluster.as_deref())?;
            let instance = match instance_ref(ecs, caller, view, cluster, &named)? {
                InstanceRef::Found(instance) if may_operate(caller, instance) => instance,
                InstanceRef::Found(_) | InstanceRef::Missing { .. } => {
                    let message = "The specified container instance was not found.";
                    return Err(Refusal::client(message).into());
                }
            };
            let next = queued(node_of(view, instance).as_deref(), instance, now)?;
            let mut batch = Batch::on(view);
            batch.rely(Key::Node(next.account, Arc::clone(&next.id)));
            batch.put(next);
            let mut shown = render(view, instance, Include::default());
            shown.agent_update_status = Some(api::AgentUpdateStatus::Pending);
            Ok((batch, shown))
        })
        .await?;
    Ok(api::UpdateContainerAgentResponse { container_instance: Some(shown) })
}

/// The host that an instance is, if it has joined.
fn node_of(view: &View, instance: &Instance) -> Option<Arc<Node>> {
    node_of_holder(view, instance.access_key.as_deref()?)
}

/// The host's row once it is to take the region's program.
fn queued(node: Option<&Node>, instance: &Instance, now: Timestamp) -> Result<Node, ApiError> {
    let version = instance.agent.version.as_deref();
    let Some(node) = node else { return Err(no_update(version)) };
    if node.upgrade.as_ref().is_some_and(|upgrade| !upgrade.is_failed()) {
        let message = "There is already a current Amazon ECS container agent update in progress on the \
                       container instance that's specified.";
        return Err(ApiError::client("UpdateInProgressException", message));
    }
    match &node.build {
        Some(build) if !build.is_regions => {
            let upgrade = Some(Upgrade { run: now, state: UpgradeState::Queued });
            Ok(Node { upgrade, ..node.clone() })
        }
        Some(_) => Err(no_update(version)),
        None => Err(no_update(None)),
    }
}

fn no_update(version: Option<&str>) -> ApiError {
    match version {
        None => ApiError::client(
            "MissingVersionException",
            "The container agent version could not be determined: the agent has not connected yet.",
        ),
        Some(version) => {
            let message = format!(
                "There is no update available for your container agent: this region has no release later than {version} \
                 for it. Agents of hosts that have not joined are replaced on their hosts."
            );
            ApiError::client("NoUpdateAvailableException", message)
        }
    }
}

/// How far an instance is with another program; nothing where none was asked for.
pub(super) fn status(view: &View, instance: &Instance) -> Option<api::AgentUpdateStatus> {
    match node_of(view, instance)?.upgrade.as_ref()?.state {
        UpgradeState::Queued => Some(api::AgentUpdateStatus::Pending),
        UpgradeState::Asked { .. } => Some(api::AgentUpdateStatus::Updating),
        UpgradeState::Failed(_) => Some(api::AgentUpdateStatus::Failed),
    }
}
