//! UpdateContainerAgent: has an agent replaced by a later release of itself, of which a region has none to offer.
//!
//! Agents are installed by whoever runs their hosts; what ECS answers where its agent is the latest is answered for
//! each that has said which it is.

use aws_wire::{ApiError, Caller};
use control::access::may_operate;
use ecs_api as api;

use super::instance_ref::{InstanceRef, instance_ref};
use crate::Ecs;
use crate::errors::Refusal;

pub(super) fn handle(
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
    let view = ecs.control.read(caller, &permission)?;
    let cluster = ecs.cluster(&view, caller, input.cluster.as_deref())?;
    let named = input.container_instance.unwrap_or_default();
    let instance = match instance_ref(ecs, caller, &view, cluster, &named)? {
        InstanceRef::Found(instance) if may_operate(caller, instance) => instance,
        InstanceRef::Found(_) | InstanceRef::Missing { .. } => {
            return Err(Refusal::client("The specified container instance was not found.").into());
        }
    };
    Err(match &instance.agent.version {
        None => ApiError::client(
            "MissingVersionException",
            "The container agent version could not be determined: the agent has not connected yet.",
        ),
        Some(version) => {
            let message = format!(
                "There is no update available for your container agent: this region has no release later than {version}. \
                 Agents are replaced on their hosts."
            );
            ApiError::client("NoUpdateAvailableException", message)
        }
    })
}
