//! TagResource and UntagResource.

use aws_wire::{ApiError, Caller};
use control::Permission;
use model::Tags;
use secretsmanager_api as api;

use crate::errors::deleted;
use crate::{SecretsManager, read};

pub(crate) async fn tag_resource(
    it: &SecretsManager,
    caller: &Caller,
    input: api::TagResourceRequest,
) -> Result<(), ApiError> {
    let more = read::tags(input.tags)?;
    tag(it, caller, &input.secret_id.unwrap_or_default(), &more).await
}

pub(crate) async fn tag(
    it: &SecretsManager,
    caller: &Caller,
    given: &str,
    more: &Tags,
) -> Result<(), ApiError> {
    let about = |it: Permission| it.tagging(more);
    it.change(caller, given, "secretsmanager:TagResource", about, |_, _, _, secret| {
        if secret.deletion.is_some() {
            return Err(deleted());
        }
        secret.tags.extend(more.clone());
        read::check_tags(&secret.tags)
    })
    .await
}

pub(crate) async fn untag_resource(
    it: &SecretsManager,
    caller: &Caller,
    input: api::UntagResourceRequest,
) -> Result<(), ApiError> {
    let keys = input.tag_keys.unwrap_or_default();
    untag(it, caller, &input.secret_id.unwrap_or_default(), &keys).await
}

pub(crate) async fn untag(
    it: &SecretsManager,
    caller: &Caller,
    given: &str,
    keys: &[String],
) -> Result<(), ApiError> {
    let about = |it: Permission| it.about_tags(keys);
    it.change(caller, given, "secretsmanager:UntagResource", about, |_, _, _, secret| {
        if secret.deletion.is_some() {
            return Err(deleted());
        }
        secret.tags.retain(|key, _| !keys.contains(key));
        Ok(())
    })
    .await
}
