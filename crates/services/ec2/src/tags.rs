//! Tags: those that a request makes something with, CreateTags, DeleteTags, DescribeTags.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;
use model::tags::{TAG_KEY_CHARS_MAX, TAG_VALUE_CHARS_MAX, TAGS_MAX};
use model::{Ec2Tags, Key, Tags, View};
use store::Batch;

use crate::Ec2;
use crate::errors::{Refusal, unless_dry};
use crate::filter::{apply, page};
use crate::limits::TAGGED_RESOURCES_MAX;
use crate::resources::Resource;

/// The tags of a list, checked.
fn read(given: &[api::Tag]) -> Result<Tags, Refusal> {
    let mut tags = Tags::new();
    for tag in given {
        let key = tag.key.clone().unwrap_or_default();
        let value = tag.value.clone().unwrap_or_default();
        check_key(&key)?;
        if value.chars().count() > TAG_VALUE_CHARS_MAX {
            return Err(Refusal::Value(format!(
                "Tag value exceeds the maximum length of {TAG_VALUE_CHARS_MAX} characters"
            )));
        }
        if tags.insert(key.clone(), value).is_some() {
            return Err(Refusal::Value(format!("Duplicate tag key '{key}' specified.")));
        }
    }
    if tags.len() > TAGS_MAX { Err(Refusal::TooManyTags) } else { Ok(tags) }
}

fn check_key(key: &str) -> Result<(), Refusal> {
    if key.is_empty() {
        return Err(Refusal::Value("Tag key cannot be empty".to_owned()));
    }
    if key.chars().count() > TAG_KEY_CHARS_MAX {
        return Err(Refusal::Value(format!(
            "Tag key exceeds the maximum length of {TAG_KEY_CHARS_MAX} characters"
        )));
    }
    if key.to_ascii_lowercase().starts_with("aws:") {
        let message = "Tag keys starting with 'aws:' are reserved for internal use";
        return Err(Refusal::Value(message.to_owned()));
    }
    Ok(())
}

/// What TagSpecifications say of the one type of resource that the action makes.
pub(crate) fn specified(
    given: Option<&[api::TagSpecification]>,
    kind: &'static str,
) -> Result<Tags, Refusal> {
    let mut all = Vec::new();
    for specification in given.unwrap_or_default() {
        let named = specification.resource_type.as_ref().map_or("", |named| named.as_str());
        if named != kind {
            return Err(Refusal::Value(format!(
                "'{named}' is not a valid taggable resource type for this operation."
            )));
        }
        all.extend(specification.tags.iter().flatten().cloned());
    }
    read(&all)
}

pub(crate) fn to_wire(tags: Option<&Tags>) -> Vec<api::Tag> {
    let tag = |(key, value): (&String, &String)| api::Tag {
        key: Some(key.clone()),
        value: Some(value.clone()),
    };
    tags.into_iter().flatten().map(tag).collect()
}

/// The resources of a call, each of which is there.
fn resources(
    ec2: &Ec2,
    view: &View,
    caller: &Caller,
    ids: &[String],
) -> Result<Vec<Arc<str>>, Refusal> {
    if ids.is_empty() {
        return Err(Refusal::Parameter("resourceIdSet"));
    }
    if ids.len() > TAGGED_RESOURCES_MAX {
        return Err(Refusal::Value(format!(
            "One call is about at most {TAGGED_RESOURCES_MAX} resources."
        )));
    }
    for id in ids {
        Resource::of(id)?.check_is_there(ec2, view, caller, id)?;
    }
    let mut ids: Vec<Arc<str>> = ids.iter().map(|id| id.as_str().into()).collect();
    ids.sort();
    ids.dedup();
    Ok(ids)
}

/// What permissions are asked on: resources of kinds that there are.
fn permission(action: &'static str, caller: &Caller, ids: &[String]) -> Permission {
    let arns = ids.iter().filter_map(|id| Some(Resource::of(id).ok()?.arn(caller, id)));
    Permission::to(action).on_each(arns)
}

pub(crate) async fn create_tags(
    ec2: &Ec2,
    caller: &Caller,
    input: api::CreateTagsRequest,
) -> Result<(), ApiError> {
    let ids = input.resources.unwrap_or_default();
    let added = read(input.tags.as_deref().unwrap_or_default());
    let requested = added.as_ref().ok().cloned().unwrap_or_default();
    let permission = permission("ec2:CreateTags", caller, &ids).tagging(&requested);
    let decided = ec2.control.change(caller, &permission, |view, _| {
        let added = added.clone()?;
        if added.is_empty() {
            return Err(Refusal::Parameter("tagSet").into());
        }
        let mut batch = Batch::on(view);
        for resource in resources(ec2, view, caller, &ids)? {
            let before = view.tags_on(caller.account, &resource);
            let mut tags = before.cloned().unwrap_or_default();
            tags.extend(added.clone());
            if tags.len() > TAGS_MAX {
                return Err(Refusal::TooManyTags.into());
            }
            if before != Some(&tags) {
                batch.put(Ec2Tags { account: caller.account, resource, tags });
            }
        }
        unless_dry(input.dry_run)?;
        Ok((batch, ()))
    });
    decided.await
}

pub(crate) async fn delete_tags(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DeleteTagsRequest,
) -> Result<(), ApiError> {
    let ids = input.resources.unwrap_or_default();
    let named = input.tags.unwrap_or_default();
    let keys: Vec<String> = named.iter().filter_map(|tag| tag.key.clone()).collect();
    let permission = permission("ec2:DeleteTags", caller, &ids).about_tags(&keys);
    let decided = ec2.control.change(caller, &permission, |view, _| {
        keys.iter().try_for_each(|key| check_key(key))?;
        let mut batch = Batch::on(view);
        for resource in resources(ec2, view, caller, &ids)? {
            let Some(before) = view.tags_on(caller.account, &resource) else { continue };
            let tags = without(before, &named);
            if tags.is_empty() {
                batch.delete(Key::Ec2Tags(caller.account, resource));
            } else if tags != *before {
                batch.put(Ec2Tags { account: caller.account, resource, tags });
            }
        }
        unless_dry(input.dry_run)?;
        Ok((batch, ()))
    });
    decided.await
}

/// A tag that is named with a value goes only if it has that; without any named, all go.
fn without(before: &Tags, named: &[api::Tag]) -> Tags {
    let mut tags = before.clone();
    if named.is_empty() {
        tags.clear();
    }
    for tag in named {
        let Some(key) = &tag.key else { continue };
        if tag.value.is_none() || tag.value.as_ref() == tags.get(key) {
            tags.remove(key);
        }
    }
    tags
}

pub(crate) async fn describe_tags(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeTagsRequest,
) -> Result<api::DescribeTagsResult, ApiError> {
    let view = ec2.control.read(caller, &Permission::to("ec2:DescribeTags").on("*"))?;
    unless_dry(input.dry_run)?;
    let rows = view.ec2_tags.of(caller.account);
    let described = rows.flat_map(|row| {
        let kind = Resource::of(&row.resource).map_or("", Resource::word);
        row.tags.iter().map(move |(key, value)| Described {
            // A tag is found by its resource and key.
            token: format!("{}-{key}", row.resource),
            wire: api::TagDescription {
                key: Some(key.clone()),
                resource_id: Some(row.resource.to_string()),
                resource_type: Some(kind.into()),
                value: Some(value.clone()),
            },
        })
    });
    let known = ["key", "resource-id", "resource-type", "value"];
    let filters = input.filters.as_deref();
    let described = apply(described.collect(), filters, &known, &|each: &Described, name| {
        let value = match name {
            "key" => each.wire.key.clone(),
            "resource-id" => each.wire.resource_id.clone(),
            "resource-type" => each.wire.resource_type.as_ref().map(ToString::to_string),
            _ => each.wire.value.clone(),
        };
        Some(value.into_iter().collect())
    })?;
    let token = input.next_token.as_deref();
    let (described, next_token) =
        page(described, token, input.max_results, false, |each| Some(&each.token))?;
    let tags = described.into_iter().map(|each| each.wire).collect();
    Ok(api::DescribeTagsResult { next_token, tags: Some(tags) })
}

/// One tag of one resource.
#[derive(Debug)]
pub(crate) struct Described {
    token: String,
    pub(crate) wire: api::TagDescription,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(key: &str, value: Option<&str>) -> api::Tag {
        api::Tag { key: Some(key.to_owned()), value: value.map(str::to_owned) }
    }

    #[test]
    fn a_tag_goes_by_its_key_and_by_its_value_where_one_is_named() {
        let before: Tags = read(&[tag("a", Some("1")), tag("b", None)]).unwrap();
        assert_eq!(without(&before, &[tag("a", Some("2"))]), before);
        assert_eq!(without(&before, &[tag("a", Some("1"))]).len(), 1);
        assert_eq!(without(&before, &[tag("a", None), tag("none", None)]).len(), 1);
        assert_eq!(without(&before, &[]).len(), 0);
    }

    #[test]
    fn tags_of_amazons_own_and_too_many_are_refused() {
        assert!(read(&[tag("aws:x", None)]).is_err());
        assert!(read(&[tag("AWS:x", None)]).is_err());
        assert!(read(&[tag("", None)]).is_err());
        assert!(read(&[tag("a", None), tag("a", None)]).is_err());
        assert!(read(&[tag(&"k".repeat(129), None)]).is_err());
        assert!(read(&[tag("k", Some(&"v".repeat(257)))]).is_err());
        let many: Vec<api::Tag> = (0..51).map(|n| tag(&n.to_string(), None)).collect();
        assert_eq!(read(&many), Err(Refusal::TooManyTags));
        assert_eq!(read(&many[..50]).unwrap().len(), 50);
    }
}
