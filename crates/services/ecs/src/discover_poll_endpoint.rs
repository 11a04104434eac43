//! DiscoverPollEndpoint: where an agent finds its sockets. Agents add `ws` to what is answered.

use aws_wire::{ApiError, Caller};
use control::Permission;
use ecs_api as api;

use crate::Ecs;

pub(super) fn handle(
    ecs: &Ecs,
    caller: &Caller,
    _: api::DiscoverPollEndpointRequest,
) -> Result<api::DiscoverPollEndpointResponse, ApiError> {
    ecs.control.read(caller, &Permission::to("ecs:DiscoverPollEndpoint").on("*"))?;
    // The agent beside the region needs no way out and back in.
    let is_beside = caller.access_key == ecs.control.access.keys.node.access_key_id;
    let endpoint = if is_beside { ecs.control.local_endpoint() } else { ecs.control.endpoint() };
    Ok(api::DiscoverPollEndpointResponse {
        endpoint: Some(format!("{endpoint}/acs/")),
        telemetry_endpoint: Some(format!("{endpoint}/tcs/")),
        service_connect_endpoint: None,
    })
}
