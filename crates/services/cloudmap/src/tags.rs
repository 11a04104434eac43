//! Tags of namespaces and services.

use aws_wire::{ApiError, Caller};
use control::Permission;
use control::iam::tags_of;
use model::{MapNamespace, MapService, Row, Tags, View};
use servicediscovery_api as api;
use store::Batch;

use crate::CloudMap;
use crate::errors::{invalid, named, no_resource};
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
        false => {
            let message = format!("A resource can have up to {TAGS_MAX} tags.");
            Err(named("TooManyTagsException", message))
        }
    }
}

/// The row that an ARN names, with its tags changed.
fn retagged(
    it: &CloudMap,
    view: &View,
    caller: &Caller,
    arn: &str,
    change: impl FnOnce(&mut Tags),
) -> Result<Row, ApiError> {
    if let Ok(row) = it.namespace(view, caller, arn) {
        let mut next = MapNamespace::clone(row);
        change(&mut next.tags);
        check(&next.tags)?;
        return Ok(next.into());
    }
    let row = it.service_row(view, caller, arn).map_err(|_| no_resource(arn))?;
    let mut next = MapService::clone(row);
    change(&mut next.tags);
    check(&next.tags)?;
    Ok(next.into())
}

pub(crate) async fn add(
    it: &CloudMap,
    caller: &Caller,
    arn: &str,
    more: &Tags,
) -> Result<(), ApiError> {
    let permission = Permission::to("servicediscovery:TagResource").on(arn).tagging(more);
    let decided = it.control.change(caller, &permission, |view, _| {
        let row = retagged(it, view, caller, arn, |tags| tags.extend(more.clone()))?;
        let mut batch = Batch::on(view);
        batch.put(row);
        Ok((batch, ()))
    });
    decided.await
}

pub(crate) async fn remove(
    it: &CloudMap,
    caller: &Caller,
    arn: &str,
    keys: &[String],
) -> Result<(), ApiError> {
    let permission = Permission::to("servicediscovery:UntagResource").on(arn).about_tags(keys);
    let decided = it.control.change(caller, &permission, |view, _| {
        let row =
            retagged(it, view, caller, arn, |tags| tags.retain(|key, _| !keys.contains(key)))?;
        let mut batch = Batch::on(view);
        batch.put(row);
        Ok((batch, ()))
    });
    decided.await
}

pub(crate) async fn tag_resource(
    it: &CloudMap,
    caller: &Caller,
    input: api::TagResourceRequest,
) -> Result<api::TagResourceResponse, ApiError> {
    let (arn, more) = (input.resource_arn.unwrap_or_default(), read(input.tags.as_deref())?);
    add(it, caller, &arn, &more).await?;
    Ok(api::TagResourceResponse {})
}

pub(crate) async fn untag_resource(
    it: &CloudMap,
    caller: &Caller,
    input: api::UntagResourceRequest,
) -> Result<api::UntagResourceResponse, ApiError> {
    let (arn, keys) = (input.resource_arn.unwrap_or_default(), input.tag_keys.unwrap_or_default());
    remove(it, caller, &arn, &keys).await?;
    Ok(api::UntagResourceResponse {})
}

pub(crate) async fn list_tags_for_resource(
    it: &CloudMap,
    caller: &Caller,
    input: api::ListTagsForResourceRequest,
) -> Result<api::ListTagsForResourceResponse, ApiError> {
    let arn = input.resource_arn.unwrap_or_default();
    let permission = Permission::to("servicediscovery:ListTagsForResource").on(arn.clone());
    let view = it.control.read(caller, &permission)?;
    let is_own = model::discovery::is_of(&it.control.scope(caller), &arn);
    let tags = tags_of(&view, &arn).filter(|_| is_own).ok_or_else(|| no_resource(&arn))?;
    let tag = |(key, value): (&String, &String)| api::Tag {
        key: Some(key.clone()),
        value: Some(value.clone()),
    };
    Ok(api::ListTagsForResourceResponse { tags: Some(tags.iter().map(tag).collect()) })
}
