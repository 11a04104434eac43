//! TagResource, UntagResource, ListTagsForResource, and their older forms that take a group's name.

use std::collections::BTreeMap;

use ::logs::{GroupName, Logs};
use aws_wire::{ApiError, Caller};
use logs_api::{
    ListTagsForResourceRequest, ListTagsForResourceResponse, ListTagsLogGroupRequest,
    ListTagsLogGroupResponse, TagLogGroupRequest, TagResourceRequest, UntagLogGroupRequest,
    UntagResourceRequest,
};

use super::common::{group_of_arn, required, to_api};

pub(super) async fn tag_resource(
    logs: &Logs,
    caller: &Caller,
    input: TagResourceRequest,
) -> Result<(), ApiError> {
    let name = group_of_arn(caller, input.resource_arn.as_deref().unwrap_or(""))?;
    tag(logs, caller, name, input.tags.unwrap_or_default()).await
}

pub(super) async fn untag_resource(
    logs: &Logs,
    caller: &Caller,
    input: UntagResourceRequest,
) -> Result<(), ApiError> {
    let name = group_of_arn(caller, input.resource_arn.as_deref().unwrap_or(""))?;
    let keys = input.tag_keys.unwrap_or_default();
    logs.untag_group(caller.account, name, keys).await.map_err(to_api)
}

pub(super) fn list_tags_for_resource(
    logs: &Logs,
    caller: &Caller,
    input: &ListTagsForResourceRequest,
) -> Result<ListTagsForResourceResponse, ApiError> {
    let name = group_of_arn(caller, input.resource_arn.as_deref().unwrap_or(""))?;
    let group = logs.group(caller.account, &name).map_err(to_api)?;
    Ok(ListTagsForResourceResponse { tags: Some(group.settings.tags) })
}

pub(super) async fn tag_log_group(
    logs: &Logs,
    caller: &Caller,
    input: TagLogGroupRequest,
) -> Result<(), ApiError> {
    let name = required("logGroupName", input.log_group_name)?;
    tag(logs, caller, name, input.tags.unwrap_or_default()).await
}

pub(super) async fn untag_log_group(
    logs: &Logs,
    caller: &Caller,
    input: UntagLogGroupRequest,
) -> Result<(), ApiError> {
    let name = required("logGroupName", input.log_group_name)?;
    let keys = input.tags.unwrap_or_default();
    logs.untag_group(caller.account, name, keys).await.map_err(to_api)
}

pub(super) fn list_tags_log_group(
    logs: &Logs,
    caller: &Caller,
    input: &ListTagsLogGroupRequest,
) -> Result<ListTagsLogGroupResponse, ApiError> {
    let name: GroupName = required("logGroupName", input.log_group_name.clone())?;
    let group = logs.group(caller.account, &name).map_err(to_api)?;
    Ok(ListTagsLogGroupResponse { tags: Some(group.settings.tags) })
}

async fn tag(
    logs: &Logs,
    caller: &Caller,
    name: GroupName,
    tags: BTreeMap<String, String>,
) -> Result<(), ApiError> {
    logs.tag_group(caller.account, name, tags).await.map_err(to_api)
}
