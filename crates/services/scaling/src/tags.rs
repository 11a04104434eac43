//! Tags of scalable targets.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use model::{ScalableTarget, Tags, View};
use scaling_api as api;
use store::Batch;

use crate::Scaling;
use crate::errors::{invalid, no_resource};
use crate::limits::TAGS_MAX;

pub(crate) fn check(tags: &Tags) -> Result<(), ApiError> {
    if let Some(key) = tags.keys().find(|key| key.to_ascii_lowercase().starts_with("aws:")) {
        return Err(invalid(format!("{key} is not a key that a tag may have.")));
    }
    match tags.len() <= TAGS_MAX {
        true => Ok(()),
        false => {
            let message = format!("A resource can have up to {TAGS_MAX} tags.");
            Err(ApiError::client("TooManyTagsException", message))
        }
    }
}

fn row<'v>(
    view: &'v View,
    caller: &Caller,
    arn: &str,
) -> Result<&'v Arc<ScalableTarget>, ApiError> {
    let found = view.scalable_targets.of(caller.account).find(|row| row.arn() == arn);
    found.ok_or_else(|| no_resource(arn))
}

async fn change(
    it: &Scaling,
    caller: &Caller,
    permission: Permission,
    arn: &str,
    change: impl Fn(&mut Tags) + Send + Sync,
) -> Result<(), ApiError> {
    let decided = it.control.change(caller, &permission, |view, _| {
        let mut next = ScalableTarget::clone(row(view, caller, arn)?);
        change(&mut next.tags);
        check(&next.tags)?;
        let mut batch = Batch::on(view);
        batch.put(next);
        Ok((batch, ()))
    });
    decided.await
}

pub(crate) async fn add(
    it: &Scaling,
    caller: &Caller,
    arn: &str,
    more: &Tags,
) -> Result<(), ApiError> {
    let permission = Permission::to("application-autoscaling:TagResource").on(arn).tagging(more);
    change(it, caller, permission, arn, |tags| tags.extend(more.clone())).await
}

pub(crate) async fn remove(
    it: &Scaling,
    caller: &Caller,
    arn: &str,
    keys: &[String],
) -> Result<(), ApiError> {
    let permission =
        Permission::to("application-autoscaling:UntagResource").on(arn).about_tags(keys);
    change(it, caller, permission, arn, |tags| tags.retain(|key, _| !keys.contains(key))).await
}

pub(crate) async fn tag_resource(
    it: &Scaling,
    caller: &Caller,
    input: api::TagResourceRequest,
) -> Result<api::TagResourceResponse, ApiError> {
    let (arn, more) = (input.resource_arn.unwrap_or_default(), input.tags.unwrap_or_default());
    add(it, caller, &arn, &more).await?;
    Ok(api::TagResourceResponse {})
}

pub(crate) async fn untag_resource(
    it: &Scaling,
    caller: &Caller,
    input: api::UntagResourceRequest,
) -> Result<api::UntagResourceResponse, ApiError> {
    let (arn, keys) = (input.resource_arn.unwrap_or_default(), input.tag_keys.unwrap_or_default());
    remove(it, caller, &arn, &keys).await?;
    Ok(api::UntagResourceResponse {})
}

pub(crate) async fn list_tags_for_resource(
    it: &Scaling,
    caller: &Caller,
    input: api::ListTagsForResourceRequest,
) -> Result<api::ListTagsForResourceResponse, ApiError> {
    let arn = input.resource_arn.unwrap_or_default();
    let action = "application-autoscaling:ListTagsForResource";
    let view = it.control.read(caller, &Permission::to(action).on(arn.clone()))?;
    let tags = row(&view, caller, &arn)?.tags.clone();
    Ok(api::ListTagsForResourceResponse { tags: Some(tags) })
}
