//! AddTags, RemoveTags and DescribeTags, of every kind of resource.

use aws_wire::{ApiError, Caller};
use control::Permission;
use control::iam::tags_of;
use elb_api as api;
use model::elb::{ElbPath, path_of};
use model::{Row, Tags, View};
use store::Batch;

use crate::Elb;
use crate::errors::{Refusal, invalid};
use crate::limits::{NAMED_MAX, TAGS_MAX};

pub(crate) fn read(given: Option<&[api::Tag]>) -> Result<Tags, ApiError> {
    let mut tags = Tags::new();
    for tag in given.unwrap_or_default() {
        let key = tag.key.clone().unwrap_or_default();
        if key.to_ascii_lowercase().starts_with("aws:") {
            return invalid(format!(
                "The tag key '{key}' cannot begin with 'aws:', which is reserved"
            ));
        }
        if tags.insert(key.clone(), tag.value.clone().unwrap_or_default()).is_some() {
            return Err(Refusal::DuplicateTag(key).into());
        }
    }
    check(&tags)?;
    Ok(tags)
}

fn check(tags: &Tags) -> Result<(), ApiError> {
    match tags.len() <= TAGS_MAX {
        true => Ok(()),
        false => Err(Refusal::TooMany("Tags", TAGS_MAX).into()),
    }
}

/// The row that an ARN names, with its tags changed.
fn retagged(
    view: &View,
    it: &Elb,
    caller: &Caller,
    arn: &str,
    change: impl FnOnce(&mut Tags),
) -> Result<Row, ApiError> {
    let (scope, account) = (it.control.scope(caller), caller.account);
    macro_rules! changed {
        ($table:ident, $path:expr, $missing:expr) => {{
            let path: ElbPath = $path.into();
            let row = view.$table.get(account, &path).ok_or($missing)?;
            let mut next = row.as_ref().clone();
            change(&mut next.tags);
            check(&next.tags)?;
            Ok(next.into())
        }};
    }
    match path_of(&scope, arn) {
        Some(("loadbalancer", path)) => {
            changed!(elb_balancers, path, Refusal::NoBalancer(arn.to_owned()))
        }
        Some(("targetgroup", path)) => changed!(elb_groups, path, Refusal::NoGroups),
        Some(("listener", path)) => {
            changed!(elb_listeners, path, Refusal::NoListener(arn.to_owned()))
        }
        Some(("listener-rule", path)) => changed!(elb_rules, path, Refusal::NoRule),
        Some(_) | None => invalid(format!("'{arn}' is not a valid load balancing ARN")),
    }
}

async fn change(
    it: &Elb,
    caller: &Caller,
    permission: &Permission,
    arns: &[String],
    change: impl Fn(&mut Tags) + Send + Sync,
) -> Result<(), ApiError> {
    if arns.len() > NAMED_MAX {
        return invalid(format!("Up to {NAMED_MAX} resources can be named at once"));
    }
    it.control
        .change(caller, permission, |view, _| {
            let mut batch = Batch::on(view);
            for arn in arns {
                batch.writes.push(retagged(view, it, caller, arn, &change)?);
            }
            Ok((batch, ()))
        })
        .await
}

pub(crate) async fn add_tags(
    it: &Elb,
    caller: &Caller,
    input: api::AddTagsInput,
) -> Result<api::AddTagsOutput, ApiError> {
    let more = read(input.tags.as_deref())?;
    add(it, caller, &input.resource_arns.unwrap_or_default(), &more).await?;
    Ok(api::AddTagsOutput {})
}

pub(crate) async fn add(
    it: &Elb,
    caller: &Caller,
    arns: &[String],
    more: &Tags,
) -> Result<(), ApiError> {
    let permission = Permission::to("elasticloadbalancing:AddTags");
    let permission = permission.on_each(arns.iter().cloned()).tagging(more);
    change(it, caller, &permission, arns, |tags| tags.extend(more.clone())).await
}

pub(crate) async fn remove_tags(
    it: &Elb,
    caller: &Caller,
    input: api::RemoveTagsInput,
) -> Result<api::RemoveTagsOutput, ApiError> {
    let keys = input.tag_keys.unwrap_or_default();
    remove(it, caller, &input.resource_arns.unwrap_or_default(), &keys).await?;
    Ok(api::RemoveTagsOutput {})
}

pub(crate) async fn remove(
    it: &Elb,
    caller: &Caller,
    arns: &[String],
    keys: &[String],
) -> Result<(), ApiError> {
    let permission = Permission::to("elasticloadbalancing:RemoveTags");
    let permission = permission.on_each(arns.iter().cloned()).about_tags(keys);
    change(it, caller, &permission, arns, |tags| tags.retain(|key, _| !keys.contains(key))).await
}

pub(crate) async fn describe_tags(
    it: &Elb,
    caller: &Caller,
    input: api::DescribeTagsInput,
) -> Result<api::DescribeTagsOutput, ApiError> {
    let view = it.read(caller, "elasticloadbalancing:DescribeTags")?;
    let arns = input.resource_arns.unwrap_or_default();
    if arns.len() > NAMED_MAX {
        return invalid(format!("Up to {NAMED_MAX} resources can be named at once"));
    }
    let scope = it.control.scope(caller);
    let describe = |arn: String| {
        // Only of what is load balancing's and the caller's account's own.
        let is_own = path_of(&scope, &arn).is_some();
        // Whether it is there, in the words for its kind. A default rule has no tags of its own.
        let tags = match tags_of(&view, &arn).filter(|_| is_own) {
            Some(tags) => tags.clone(),
            None if it.is_default_rule(&view, caller, &arn) => Tags::new(),
            None => retagged(&view, it, caller, &arn, |_| {}).map(|_| Tags::new())?,
        };
        let tags =
            tags.into_iter().map(|(key, value)| api::Tag { key: Some(key), value: Some(value) });
        Ok(api::TagDescription { resource_arn: Some(arn), tags: Some(tags.collect()) })
    };
    let described: Result<Vec<_>, ApiError> = arns.into_iter().map(describe).collect();
    Ok(api::DescribeTagsOutput { tag_descriptions: Some(described?) })
}
