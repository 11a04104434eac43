//! Not answered yet.

use aws_api::ecs;
use aws_wire::{ApiError, Caller};

use crate::region::Region;

pub(super) async fn handle(
    _region: &Region,
    _caller: &Caller,
    _input: ecs::UpdateServiceRequest,
) -> Result<ecs::UpdateServiceResponse, ApiError> {
    Err(ApiError::client(
        "UnsupportedFeatureException",
        "This region does not have UpdateService yet.",
    ))
}
