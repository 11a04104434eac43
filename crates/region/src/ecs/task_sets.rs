//! Not answered yet.

use aws_api::ecs;
use aws_wire::{ApiError, Caller};

use crate::region::Region;

pub(super) async fn handle_create(
    _region: &Region,
    _caller: &Caller,
    _input: ecs::CreateTaskSetRequest,
) -> Result<ecs::CreateTaskSetResponse, ApiError> {
    Err(ApiError::client(
        "UnsupportedFeatureException",
        "This region does not have CreateTaskSet yet.",
    ))
}

pub(super) async fn handle_update(
    _region: &Region,
    _caller: &Caller,
    _input: ecs::UpdateTaskSetRequest,
) -> Result<ecs::UpdateTaskSetResponse, ApiError> {
    Err(ApiError::client(
        "UnsupportedFeatureException",
        "This region does not have UpdateTaskSet yet.",
    ))
}

pub(super) async fn handle_delete(
    _region: &Region,
    _caller: &Caller,
    _input: ecs::DeleteTaskSetRequest,
) -> Result<ecs::DeleteTaskSetResponse, ApiError> {
    Err(ApiError::client(
        "UnsupportedFeatureException",
        "This region does not have DeleteTaskSet yet.",
    ))
}

pub(super) async fn handle_describe(
    _region: &Region,
    _caller: &Caller,
    _input: ecs::DescribeTaskSetsRequest,
) -> Result<ecs::DescribeTaskSetsResponse, ApiError> {
    Err(ApiError::client(
        "UnsupportedFeatureException",
        "This region does not have DescribeTaskSets yet.",
    ))
}

pub(super) async fn handle_update_primary(
    _region: &Region,
    _caller: &Caller,
    _input: ecs::UpdateServicePrimaryTaskSetRequest,
) -> Result<ecs::UpdateServicePrimaryTaskSetResponse, ApiError> {
    Err(ApiError::client(
        "UnsupportedFeatureException",
        "This region does not have UpdateServicePrimaryTaskSet yet.",
    ))
}
