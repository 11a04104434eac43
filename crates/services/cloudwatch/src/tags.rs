//! Tags of alarms.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use cloudwatch_api as api;
use control::Permission;
use model::alarm::arn as arn_of;
use model::{MetricAlarm, Tags, View};
use store::Batch;

use crate::CloudWatch;
use crate::errors::{invalid, no_resource};
use crate::limits::TAGS_MAX;

pub(crate) fn read(given: Option<&[api::Tag]>) -> Result<Tags, ApiError> {
    let mut tags = Tags::new();
    for tag in given.unwrap_or_default() {
        let key = tag.key.clone().unwrap_or_default();
        if key.to_ascii_lowercase().starts_with("aws:") {
            return Err(invalid(format!("{key} is not a key that a tag may have.")));
        }
        if tags.insert(key.clone(), tag.value.clone().unwrap_or_default()).is_some() {
            return Err(invalid(format!("The tag key {key} is given twice.")));
        }
    }
    check(&tags)?;
    Ok(tags)
}

fn check(tags: &Tags) -> Result<(), ApiError> {
    match tags.len() <= TAGS_MAX {
        true => Ok(()),
        false => Err(invalid(format!("A resource can have up to {TAGS_MAX} tags."))),
    }
}

fn row<'v>(
    it: &CloudWatch,
    view: &'v View,
    caller: &Caller,
    arn: &str,
) -> Result<&'v Arc<MetricAlarm>, ApiError> {
    let start = arn_of(&it.control.scope(caller), "");
    let name = arn.strip_prefix(&start).ok_or_else(|| no_resource(arn))?;
    view.metric_alarms.get(caller.account, &name.into()).ok_or_else(|| no_resource(arn))
}

async fn change(
    it: &CloudWatch,
    caller: &Caller,
    permission: Permission,
    arn: &str,
    change: impl Fn(&mut Tags) + Send + Sync,
) -> Result<(), ApiError> {
    let decided = it.control.change(caller, &permission, |view, _| {
        let mut next = MetricAlarm::clone(row(it, view, caller, arn)?);
        change(&mut next.tags);
        check(&next.tags)?;
        let mut batch = Batch::on(view);
        batch.put(next);
        Ok((batch, ()))
    });
    decided.await
}

pub(crate) async fn add(
    it: &CloudWatch,
    caller: &Caller,
    arn: &str,
    more: &Tags,
) -> Result<(), ApiError> {
    let permission = Permission::to("cloudwatch:TagResource").on(arn).tagging(more);
    change(it, caller, permission, arn, |tags| tags.extend(more.clone())).await
}

pub(crate) async fn remove(
    it: &CloudWatch,
    caller: &Caller,
    arn: &str,
    keys: &[String],
) -> Result<(), ApiError> {
    let permission = Permission::to("cloudwatch:UntagResource").on(arn).about_tags(keys);
    change(it, caller, permission, arn, |tags| tags.retain(|key, _| !keys.contains(key))).await
}

pub(crate) async fn tag_resource(
    it: &CloudWatch,
    caller: &Caller,
    input: api::TagResourceInput,
) -> Result<api::TagResourceOutput, ApiError> {
    let (arn, more) = (input.resource_arn.unwrap_or_default(), read(input.tags.as_deref())?);
    add(it, caller, &arn, &more).await?;
    Ok(api::TagResourceOutput {})
}

pub(crate) async fn untag_resource(
    it: &CloudWatch,
    caller: &Caller,
    input: api::UntagResourceInput,
) -> Result<api::UntagResourceOutput, ApiError> {
    let (arn, keys) = (input.resource_arn.unwrap_or_default(), input.tag_keys.unwrap_or_default());
    remove(it, caller, &arn, &keys).await?;
    Ok(api::UntagResourceOutput {})
}

pub(crate) async fn list_tags_for_resource(
    it: &CloudWatch,
    caller: &Caller,
    input: api::ListTagsForResourceInput,
) -> Result<api::ListTagsForResourceOutput, ApiError> {
    let arn = input.resource_arn.unwrap_or_default();
    let permission = Permission::to("cloudwatch:ListTagsForResource").on(arn.clone());
    let view = it.control.read(caller, &permission)?;
    let tag = |(key, value): (&String, &String)| api::Tag {
        key: Some(key.clone()),
        value: Some(value.clone()),
    };
    let tags = row(it, &view, caller, &arn)?.tags.iter().map(tag).collect();
    Ok(api::ListTagsForResourceOutput { tags: Some(tags) })
}
