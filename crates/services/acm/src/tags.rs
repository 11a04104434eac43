//! Tags, by both families of operations.

use acm_api as api;
use aws_wire::{ApiError, Caller};
use control::Permission;
use model::Tags;
use model::tags::TAGS_MAX;

use crate::Acm;
use crate::errors::named;

pub(crate) fn read(given: Option<&[api::Tag]>) -> Result<Tags, ApiError> {
    let mut tags = Tags::new();
    for tag in given.unwrap_or_default() {
        let key = tag.key.clone().unwrap_or_default();
        if key.to_ascii_lowercase().starts_with("aws:") {
            let message = format!("{key} is not a key that a tag may have.");
            return Err(named("InvalidTagException", message));
        }
        if tags.insert(key.clone(), tag.value.clone().unwrap_or_default()).is_some() {
            return Err(named("InvalidTagException", format!("The tag key {key} is given twice.")));
        }
    }
    check(&tags)?;
    Ok(tags)
}

fn check(tags: &Tags) -> Result<(), ApiError> {
    match tags.len() <= TAGS_MAX {
        true => Ok(()),
        false => Err(named(
            "TooManyTagsException",
            format!("A certificate can have up to {TAGS_MAX} tags."),
        )),
    }
}

pub(crate) async fn add(
    it: &Acm,
    caller: &Caller,
    action: &'static str,
    arn: &str,
    more: &Tags,
) -> Result<(), ApiError> {
    let permission = Permission::to(action).on(arn).tagging(more);
    it.change(caller, &permission, arn, |_, row| {
        row.tags.extend(more.clone());
        check(&row.tags)
    })
    .await
}

pub(crate) async fn remove(
    it: &Acm,
    caller: &Caller,
    action: &'static str,
    arn: &str,
    keys: &[String],
) -> Result<(), ApiError> {
    let permission = Permission::to(action).on(arn).about_tags(keys);
    it.change(caller, &permission, arn, |_, row| {
        row.tags.retain(|key, _| !keys.contains(key));
        Ok(())
    })
    .await
}

fn render(tags: &Tags) -> Vec<api::Tag> {
    let tag = |(key, value): (&String, &String)| api::Tag {
        key: Some(key.clone()),
        value: Some(value.clone()),
    };
    tags.iter().map(tag).collect()
}

pub(crate) async fn add_tags_to_certificate(
    it: &Acm,
    caller: &Caller,
    input: api::AddTagsToCertificateRequest,
) -> Result<(), ApiError> {
    let (arn, more) = (input.certificate_arn.unwrap_or_default(), read(input.tags.as_deref())?);
    add(it, caller, "acm:AddTagsToCertificate", &arn, &more).await
}

/// A tag that is given with a value goes only if it has that.
pub(crate) async fn remove_tags_from_certificate(
    it: &Acm,
    caller: &Caller,
    input: api::RemoveTagsFromCertificateRequest,
) -> Result<(), ApiError> {
    let (arn, given) = (input.certificate_arn.unwrap_or_default(), input.tags.unwrap_or_default());
    let keys: Vec<String> = given.iter().filter_map(|tag| tag.key.clone()).collect();
    let permission = Permission::to("acm:RemoveTagsFromCertificate").on(arn.clone());
    it.change(caller, &permission.about_tags(&keys), &arn, |_, row| {
        row.tags.retain(|key, value| {
            let mut named = given.iter().filter(|tag| tag.key.as_ref() == Some(key));
            !named.any(|tag| tag.value.as_ref().is_none_or(|given| given == value))
        });
        Ok(())
    })
    .await
}

pub(crate) async fn list_tags_for_certificate(
    it: &Acm,
    caller: &Caller,
    input: api::ListTagsForCertificateRequest,
) -> Result<api::ListTagsForCertificateResponse, ApiError> {
    let arn = input.certificate_arn.unwrap_or_default();
    let (_, row) = it.read(caller, "acm:ListTagsForCertificate", &arn)?;
    Ok(api::ListTagsForCertificateResponse { tags: Some(render(&row.tags)) })
}

pub(crate) async fn tag_resource(
    it: &Acm,
    caller: &Caller,
    input: api::TagResourceRequest,
) -> Result<(), ApiError> {
    let (arn, more) = (input.resource_arn.unwrap_or_default(), read(input.tags.as_deref())?);
    add(it, caller, "acm:TagResource", &arn, &more).await
}

pub(crate) async fn untag_resource(
    it: &Acm,
    caller: &Caller,
    input: api::UntagResourceRequest,
) -> Result<(), ApiError> {
    let (arn, keys) = (input.resource_arn.unwrap_or_default(), input.tag_keys.unwrap_or_default());
    remove(it, caller, "acm:UntagResource", &arn, &keys).await
}

pub(crate) async fn list_tags_for_resource(
    it: &Acm,
    caller: &Caller,
    input: api::ListTagsForResourceRequest,
) -> Result<api::ListTagsForResourceResponse, ApiError> {
    let arn = input.resource_arn.unwrap_or_default();
    let (_, row) = it.read(caller, "acm:ListTagsForResource", &arn)?;
    Ok(api::ListTagsForResourceResponse { tags: Some(render(&row.tags)) })
}
