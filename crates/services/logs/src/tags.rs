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
use super::errors::Refusal;

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
    check(&tags)?;
    logs.tag_group(caller.account, name, tags).await.map_err(to_api)
}

/// Amazon's own tags are nobody else's to give.
pub(super) fn check(tags: &BTreeMap<String, String>) -> Result<(), ApiError> {
    let is_amazons = |key: &&String| key.get(..4).is_some_and(|it| it.eq_ignore_ascii_case("aws:"));
    match tags.keys().find(is_amazons) {
        Some(key) => Err(Refusal::ReservedTag(key.clone()).into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_begin_as_amazons_own_do_are_refused() {
        let of = |key: &str| check(&BTreeMap::from([(key.to_owned(), "x".to_owned())]));
        for good in ["team", "aws", "awsx:y", "my:aws:x", "äws:x"] {
            assert!(of(good).is_ok(), "{good}");
        }
        for bad in ["aws:x", "AWS:x", "aws:"] {
            let error = of(bad).unwrap_err();
            assert_eq!(error.code, "InvalidParameterException", "{bad}");
        }
    }
}
