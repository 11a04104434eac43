//! TagResource, UntagResource and ListResourceTags.

use aws_wire::{ApiError, Caller};
use control::Permission;
use kms_api as api;
use model::Tags;
use model::tags::TAGS_MAX;

use crate::Kms;
use crate::errors::{limit, named};
use crate::pages::page;

pub(crate) fn read(given: Option<Vec<api::Tag>>) -> Result<Tags, ApiError> {
    let mut tags = Tags::new();
    for tag in given.unwrap_or_default() {
        let key = tag.tag_key.unwrap_or_default();
        if key.to_ascii_lowercase().starts_with("aws:") {
            return Err(named("TagException", format!("{key} is not a key that a tag may have.")));
        }
        if tags.insert(key.clone(), tag.tag_value.unwrap_or_default()).is_some() {
            return Err(named("TagException", format!("The tag key {key} is given twice.")));
        }
    }
    check(&tags)?;
    Ok(tags)
}

fn check(tags: &Tags) -> Result<(), ApiError> {
    match tags.len() <= TAGS_MAX {
        true => Ok(()),
        false => Err(limit(format!("A key can have up to {TAGS_MAX} tags."))),
    }
}

pub(crate) async fn tag_resource(
    it: &Kms,
    caller: &Caller,
    input: api::TagResourceRequest,
) -> Result<(), ApiError> {
    add(it, caller, &input.key_id.unwrap_or_default(), &read(input.tags)?).await
}

pub(crate) async fn add(
    it: &Kms,
    caller: &Caller,
    given: &str,
    more: &Tags,
) -> Result<(), ApiError> {
    let about = |it: Permission| it.tagging(more);
    it.change(caller, "kms:TagResource", given, about, |_, _, row| {
        it.check_lasting(row)?;
        row.tags.extend(more.clone());
        check(&row.tags)
    })
    .await
}

pub(crate) async fn untag_resource(
    it: &Kms,
    caller: &Caller,
    input: api::UntagResourceRequest,
) -> Result<(), ApiError> {
    let keys = input.tag_keys.unwrap_or_default();
    remove(it, caller, &input.key_id.unwrap_or_default(), &keys).await
}

pub(crate) async fn remove(
    it: &Kms,
    caller: &Caller,
    given: &str,
    keys: &[String],
) -> Result<(), ApiError> {
    let about = |it: Permission| it.about_tags(keys);
    it.change(caller, "kms:UntagResource", given, about, |_, _, row| {
        it.check_lasting(row)?;
        row.tags.retain(|key, _| !keys.contains(key));
        Ok(())
    })
    .await
}

pub(crate) async fn list_resource_tags(
    it: &Kms,
    caller: &Caller,
    input: api::ListResourceTagsRequest,
) -> Result<api::ListResourceTagsResponse, ApiError> {
    let (_, row) = it.read(caller, "kms:ListResourceTags", input.key_id)?;
    let tags = row.tags.iter().map(|(key, value)| {
        let shown = api::Tag { tag_key: Some(key.clone()), tag_value: Some(value.clone()) };
        (key.clone(), shown)
    });
    let page = page(input.marker, input.limit, tags)?;
    Ok(api::ListResourceTagsResponse {
        tags: Some(page.items),
        truncated: Some(page.marker.is_some()),
        next_marker: page.marker,
    })
}
