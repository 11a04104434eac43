//! Tags of rules.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use events_api as api;
use model::{EventRule, Tags, View};
use store::Batch;

use crate::EventBridge;
use crate::errors::{invalid, limit, no_resource};
use crate::limits::TAGS_MAX;

pub(crate) fn read(given: Option<Vec<api::Tag>>) -> Tags {
    let given = given.into_iter().flatten();
    given.map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default())).collect()
}

pub(crate) fn check(tags: &Tags) -> Result<(), ApiError> {
    if let Some(key) = tags.keys().find(|key| key.to_ascii_lowercase().starts_with("aws:")) {
        return Err(invalid(format!("{key} is not a key that a tag may have.")));
    }
    if TAGS_MAX < tags.len() { Err(limit()) } else { Ok(()) }
}

fn row<'v>(view: &'v View, caller: &Caller, arn: &str) -> Result<&'v Arc<EventRule>, ApiError> {
    let name = arn.split_once(":rule/").map_or("", |(_, name)| name);
    let found = view.event_rules.get(caller.account, &name.into());
    found.filter(|row| row.arn() == arn).ok_or_else(|| no_resource(arn))
}

async fn change(
    it: &EventBridge,
    caller: &Caller,
    permission: Permission,
    arn: &str,
    change: impl Fn(&mut Tags) + Send + Sync,
) -> Result<(), ApiError> {
    let decided = it.control.change(caller, &permission, |view, _| {
        let mut next = EventRule::clone(row(view, caller, arn)?);
        change(&mut next.tags);
        check(&next.tags)?;
        let mut batch = Batch::on(view);
        batch.put(next);
        Ok((batch, ()))
    });
    decided.await
}

pub(crate) async fn add(
    it: &EventBridge,
    caller: &Caller,
    arn: &str,
    more: &Tags,
) -> Result<(), ApiError> {
    let permission = Permission::to("events:TagResource").on(arn).tagging(more);
    change(it, caller, permission, arn, |tags| tags.extend(more.clone())).await
}

pub(crate) async fn remove(
    it: &EventBridge,
    caller: &Caller,
    arn: &str,
    keys: &[String],
) -> Result<(), ApiError> {
    let permission = Permission::to("events:UntagResource").on(arn).about_tags(keys);
    change(it, caller, permission, arn, |tags| tags.retain(|key, _| !keys.contains(key))).await
}

pub(crate) async fn tag_resource(
    it: &EventBridge,
    caller: &Caller,
    input: api::TagResourceRequest,
) -> Result<api::TagResourceResponse, ApiError> {
    add(it, caller, &input.resource_arn.unwrap_or_default(), &read(input.tags)).await?;
    Ok(api::TagResourceResponse {})
}

pub(crate) async fn untag_resource(
    it: &EventBridge,
    caller: &Caller,
    input: api::UntagResourceRequest,
) -> Result<api::UntagResourceResponse, ApiError> {
    let (arn, keys) = (input.resource_arn.unwrap_or_default(), input.tag_keys.unwrap_or_default());
    remove(it, caller, &arn, &keys).await?;
    Ok(api::UntagResourceResponse {})
}

pub(crate) async fn list_tags_for_resource(
    it: &EventBridge,
    caller: &Caller,
    input: api::ListTagsForResourceRequest,
) -> Result<api::ListTagsForResourceResponse, ApiError> {
    let arn = input.resource_arn.unwrap_or_default();
    let permission = Permission::to("events:ListTagsForResource").on(arn.clone());
    let view = it.control.read(caller, &permission)?;
    let tags = row(&view, caller, &arn)?.tags.iter();
    let tag = |(key, value): (&String, &String)| api::Tag {
        key: Some(key.clone()),
        value: Some(value.clone()),
    };
    Ok(api::ListTagsForResourceResponse { tags: Some(tags.map(tag).collect()) })
}
