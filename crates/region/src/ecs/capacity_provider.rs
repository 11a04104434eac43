//! Not answered yet.

use aws_api::ecs;
use aws_wire::{ApiError, Caller};

use crate::region::Region;

pub(super) async fn handle_create(
    _region: &Region,
    _caller: &Caller,
    _input: ecs::CreateCapacityProviderRequest,
) -> Result<ecs::CreateCapacityProviderResponse, ApiError> {
    Err(ApiError::client(
        "UnsupportedFeatureException",
        "This region does not have CreateCapacityProvider yet.",
    ))
}

pub(super) async fn handle_update(
    _region: &Region,
    _caller: &Caller,
    _input: ecs::UpdateCapacityProviderRequest,
) -> Result<ecs::UpdateCapacityProviderResponse, ApiError> {
    Err(ApiError::client(
        "UnsupportedFeatureException",
        "This region does not have UpdateCapacityProvider yet.",
    ))
}

pub(super) async fn handle_delete(
    _region: &Region,
    _caller: &Caller,
    _input: ecs::DeleteCapacityProviderRequest,
) -> Result<ecs::DeleteCapacityProviderResponse, ApiError> {
    Err(ApiError::client(
        "UnsupportedFeatureException",
        "This region does not have DeleteCapacityProvider yet.",
    ))
}
