//! AddTagsToResource, RemoveTagsFromResource and ListTagsForResource, of parameters and managed instances.

use aws_wire::{ApiError, Caller};
use control::parameters::ParameterName;
use model::Tags;
use model::tags::TAGS_MAX;
use ssm_api as api;

use crate::errors::named;
use crate::{Ssm, instances, names};

pub(crate) fn read(given: Option<Vec<api::Tag>>) -> Result<Tags, ApiError> {
    let mut tags = Tags::new();
    for tag in given.unwrap_or_default() {
        let key = tag.key.unwrap_or_default();
        if key.to_ascii_lowercase().starts_with("aws:") {
            let message = format!("{key} is not a key that a tag may have: aws: is reserved.");
            return Err(crate::errors::invalid(message));
        }
        if tags.contains_key(&key) {
            return Err(crate::errors::invalid(format!("The tag key {key} is given twice.")));
        }
        tags.insert(key, tag.value.unwrap_or_default());
    }
    check(&tags)?;
    Ok(tags)
}

fn check(tags: &Tags) -> Result<(), ApiError> {
    match tags.len() <= TAGS_MAX {
        true => Ok(()),
        false => {
            Err(named("TooManyTagsError", format!("A parameter can have up to {TAGS_MAX} tags.")))
        }
    }
}

pub(crate) fn unknown() -> ApiError {
    named(
        "InvalidResourceId",
        "The resource ID is not valid. Verify that you entered the correct ID and try again.",
    )
}

/// Tags as answers have them.
pub(crate) fn shown(tags: &Tags) -> Vec<api::Tag> {
    let shown = tags
        .iter()
        .map(|(key, value)| api::Tag { key: Some(key.clone()), value: Some(value.clone()) });
    shown.collect()
}

fn is_instance(kind: Option<&api::ResourceTypeForTagging>) -> bool {
    kind == Some(&api::ResourceTypeForTagging::ManagedInstance)
}

/// Of other kinds there are parameters alone.
fn check_type(given: Option<&api::ResourceTypeForTagging>) -> Result<(), ApiError> {
    match given {
        Some(api::ResourceTypeForTagging::Parameter) => Ok(()),
        _ => Err(named(
            "InvalidResourceType",
            "The resource type is not valid: only Parameter and ManagedInstance are here.",
        )),
    }
}

/// What a request names, which may be a name or an ARN.
fn resource(it: &Ssm, caller: &Caller, given: &str) -> ParameterName {
    let named = names::of_request(it, caller.account, given);
    named.unwrap_or_else(|| ParameterName {
        account: caller.account,
        name: given.to_owned(),
        selector: None,
    })
}

pub(crate) async fn add_tags_to_resource(
    it: &Ssm,
    caller: &Caller,
    input: api::AddTagsToResourceRequest,
) -> Result<api::AddTagsToResourceResult, ApiError> {
    let more = read(input.tags)?;
    let id = input.resource_id.unwrap_or_default();
    add(it, caller, &id, input.resource_type.as_ref(), &more).await?;
    Ok(api::AddTagsToResourceResult {})
}

pub(crate) async fn add(
    it: &Ssm,
    caller: &Caller,
    id: &str,
    kind: Option<&api::ResourceTypeForTagging>,
    more: &Tags,
) -> Result<(), ApiError> {
    if is_instance(kind) {
        return instances::add_tags(it, caller, id, more).await;
    }
    let parsed = resource(it, caller, id);
    let permission = it.permission(caller.account, "ssm:AddTagsToResource", &parsed.name);
    it.change(caller, &parsed, &permission.tagging(more), unknown, |_, _, row| {
        check_type(kind)?;
        row.tags.extend(more.clone());
        check(&row.tags)
    })
    .await
}

pub(crate) async fn remove_tags_from_resource(
    it: &Ssm,
    caller: &Caller,
    input: api::RemoveTagsFromResourceRequest,
) -> Result<api::RemoveTagsFromResourceResult, ApiError> {
    let keys = input.tag_keys.unwrap_or_default();
    let id = input.resource_id.unwrap_or_default();
    remove(it, caller, &id, input.resource_type.as_ref(), &keys).await?;
    Ok(api::RemoveTagsFromResourceResult {})
}

pub(crate) async fn remove(
    it: &Ssm,
    caller: &Caller,
    id: &str,
    kind: Option<&api::ResourceTypeForTagging>,
    keys: &[String],
) -> Result<(), ApiError> {
    if is_instance(kind) {
        return instances::remove_tags(it, caller, id, keys).await;
    }
    let parsed = resource(it, caller, id);
    let permission = it.permission(caller.account, "ssm:RemoveTagsFromResource", &parsed.name);
    it.change(caller, &parsed, &permission.about_tags(keys), unknown, |_, _, row| {
        check_type(kind)?;
        row.tags.retain(|key, _| !keys.contains(key));
        Ok(())
    })
    .await
}

pub(crate) async fn list_tags_for_resource(
    it: &Ssm,
    caller: &Caller,
    input: api::ListTagsForResourceRequest,
) -> Result<api::ListTagsForResourceResult, ApiError> {
    let id = input.resource_id.unwrap_or_default();
    if is_instance(input.resource_type.as_ref()) {
        let tags = instances::list_tags(it, caller, &id)?;
        return Ok(api::ListTagsForResourceResult { tag_list: Some(shown(&tags)) });
    }
    let parsed = resource(it, caller, &id);
    let permission = it.permission(caller.account, "ssm:ListTagsForResource", &parsed.name);
    let view = it.control.read(caller, &permission)?;
    check_type(input.resource_type.as_ref())?;
    let row = view.parameters.get(parsed.account, &parsed.name.as_str().into());
    let tags = shown(&row.ok_or_else(unknown)?.tags);
    Ok(api::ListTagsForResourceResult { tag_list: Some(tags) })
}
