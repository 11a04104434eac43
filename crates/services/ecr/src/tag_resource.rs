//! TagResource, UntagResource and ListTagsForResource on repositories.

use aws_wire::{ApiError, Caller};
use control::Permission;
use ecr_api::{
    ListTagsForResourceRequest, ListTagsForResourceResponse, Tag, TagResourceRequest,
    TagResourceResponse, UntagResourceRequest, UntagResourceResponse,
};
use longshore_types::{AccountId, Arn};
use model::tags::{TAG_KEY_CHARS_MAX, TAG_VALUE_CHARS_MAX, TAGS_MAX};
use model::{EcrRepository, Tags};
use registry::Repository;
use store::Batch;

use super::errors::{Refusal, of_catalog};
use super::request::{read_name, repository};
use crate::Ecr;
use crate::catalog::need;

pub(super) async fn tag_resource(
    ecr: &Ecr,
    caller: &Caller,
    input: TagResourceRequest,
) -> Result<TagResourceResponse, ApiError> {
    let permission = ecr.on(caller, "ecr:TagResource", &None, &input.resource_arn);
    let repository = read_arn(ecr, caller, input.resource_arn.as_ref())?;
    let more = read_tags(input.tags)?;
    let permission = permission.tagging(&more);
    change_tags(ecr, caller, &permission, &repository, |tags| {
        tags.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
    })
    .await?;
    Ok(TagResourceResponse {})
}

pub(super) async fn untag_resource(
    ecr: &Ecr,
    caller: &Caller,
    input: UntagResourceRequest,
) -> Result<UntagResourceResponse, ApiError> {
    let permission = ecr.on(caller, "ecr:UntagResource", &None, &input.resource_arn);
    let repository = read_arn(ecr, caller, input.resource_arn.as_ref())?;
    let keys = input.tag_keys.unwrap_or_default();
    let permission = permission.about_tags(&keys);
    change_tags(ecr, caller, &permission, &repository, |tags| {
        tags.retain(|key, _| !keys.contains(key))
    })
    .await?;
    Ok(UntagResourceResponse {})
}

pub(super) async fn list_tags_for_resource(
    ecr: &Ecr,
    caller: &Caller,
    input: ListTagsForResourceRequest,
) -> Result<ListTagsForResourceResponse, ApiError> {
    let permission = ecr.on(caller, "ecr:ListTagsForResource", &None, &input.resource_arn);
    let (owner, name) = parse_arn(ecr, input.resource_arn.as_ref())?;
    let repository = repository(caller, Some(&owner.to_string()), Some(&name))?;
    let view = ecr.control.read(caller, &permission)?;
    let row = need(&view, &repository).map_err(of_catalog)?;
    let render = |(key, value): (&String, &String)| Tag {
        key: Some(key.clone()),
        value: Some(value.clone()),
    };
    Ok(ListTagsForResourceResponse { tags: Some(row.tags.iter().map(render).collect()) })
}

async fn change_tags(
    ecr: &Ecr,
    caller: &Caller,
    permission: &Permission,
    repository: &Repository,
    change: impl Fn(&mut Tags) + Send + Sync,
) -> Result<(), ApiError> {
    ecr.control
        .change(caller, permission, |view, _| {
            let row = need(view, repository).map_err(of_catalog)?;
            let mut row = EcrRepository::clone(row);
            change(&mut row.tags);
            check_count(&row.tags)?;
            let mut batch = Batch::on(view);
            batch.put(row);
            Ok((batch, ()))
        })
        .await
}

/// The repository of the caller's own that an ARN names.
fn read_arn(ecr: &Ecr, caller: &Caller, arn: Option<&String>) -> Result<Repository, ApiError> {
    let (account, name) = parse_arn(ecr, arn)?;
    let repository = Repository { account, name: read_name(&name)? };
    if account == caller.account {
        Ok(repository)
    } else {
        Err(Refusal::NoRepository(repository).into())
    }
}

/// Whose repository an ARN names, and how it calls it.
fn parse_arn(ecr: &Ecr, arn: Option<&String>) -> Result<(AccountId, String), ApiError> {
    let bad = || ApiError::from(Refusal::parameter("resourceArn", "Invalid ARN"));
    let arn = Arn::parse(arn.map(String::as_str).unwrap_or_default()).map_err(|_| bad())?;
    let name = arn.resource.strip_prefix("repository/").ok_or_else(bad)?;
    let account = arn.account.parse().map_err(|_| bad())?;
    if arn.service != "ecr" || arn.region != ecr.control.config.region.as_str() {
        return Err(bad());
    }
    Ok((account, name.to_owned()))
}

/// Reads and checks the tags of a request.
pub(super) fn read_tags(tags: Option<Vec<Tag>>) -> Result<Tags, ApiError> {
    let mut read = Tags::new();
    for tag in tags.unwrap_or_default() {
        let (key, value) = (tag.key.unwrap_or_default(), tag.value.unwrap_or_default());
        let refuse = |why: String| ApiError::from(Refusal::InvalidTag(why));
        let is_allowed = |c: char| c.is_alphanumeric() || " _.:/=+-@".contains(c);
        if key.is_empty() || key.chars().count() > TAG_KEY_CHARS_MAX {
            let why = format!("A tag key must have between 1 and {TAG_KEY_CHARS_MAX} characters.");
            return Err(refuse(why));
        }
        if value.chars().count() > TAG_VALUE_CHARS_MAX {
            let why =
                format!("The value of tag '{key}' has more than {TAG_VALUE_CHARS_MAX} characters.");
            return Err(refuse(why));
        }
        if key.to_ascii_lowercase().starts_with("aws:") {
            return Err(refuse(format!("Tag key '{key}' must not begin with 'aws:'.")));
        }
        if !key.chars().chain(value.chars()).all(is_allowed) {
            return Err(refuse(format!("Tag '{key}' has an invalid character.")));
        }
        if read.insert(key.clone(), value).is_some() {
            return Err(refuse(format!("Duplicate tag key '{key}'.")));
        }
    }
    check_count(&read)?;
    Ok(read)
}

pub(super) fn check_count(tags: &Tags) -> Result<(), ApiError> {
    if tags.len() > TAGS_MAX {
        return Err(Refusal::TooManyTags { max: TAGS_MAX }.into());
    }
    Ok(())
}
