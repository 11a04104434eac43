//! Not answered yet.

use aws_api::ecs;
use aws_wire::{ApiError, Caller};

use crate::region::Region;

pub(super) async fn handle_describe(
    _region: &Region,
    _caller: &Caller,
    _input: ecs::DescribeServiceDeploymentsRequest,
) -> Result<ecs::DescribeServiceDeploymentsResponse, ApiError> {
    Err(ApiError::client(
        "UnsupportedFeatureException",
        "This region does not have DescribeServiceDeployments yet.",
    ))
}

pub(super) async fn handle_list(
    _region: &Region,
    _caller: &Caller,
    _input: ecs::ListServiceDeploymentsRequest,
) -> Result<ecs::ListServiceDeploymentsResponse, ApiError> {
    Err(ApiError::client(
        "UnsupportedFeatureException",
        "This region does not have ListServiceDeployments yet.",
    ))
}

pub(super) async fn handle_stop(
    _region: &Region,
    _caller: &Caller,
    _input: ecs::StopServiceDeploymentRequest,
) -> Result<ecs::StopServiceDeploymentResponse, ApiError> {
    Err(ApiError::client(
        "UnsupportedFeatureException",
        "This region does not have StopServiceDeployment yet.",
    ))
}
