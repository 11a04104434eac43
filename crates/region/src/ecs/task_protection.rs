//! Not answered yet.

use aws_api::ecs;
use aws_wire::{ApiError, Caller};

use crate::region::Region;

pub(super) async fn handle_get(
    _region: &Region,
    _caller: &Caller,
    _input: ecs::GetTaskProtectionRequest,
) -> Result<ecs::GetTaskProtectionResponse, ApiError> {
    Err(ApiError::client(
        "UnsupportedFeatureException",
        "This region does not have GetTaskProtection yet.",
    ))
}

pub(super) async fn handle_update(
    _region: &Region,
    _caller: &Caller,
    _input: ecs::UpdateTaskProtectionRequest,
) -> Result<ecs::UpdateTaskProtectionResponse, ApiError> {
    Err(ApiError::client(
        "UnsupportedFeatureException",
        "This region does not have UpdateTaskProtection yet.",
    ))
}
