//! Lifecycle policies: kept with their repository, previewed, and acted on.
//!
//! [`rules`] reads a policy, [`expire`] says what it lets expire, [`used`] what is run and so stays. The reconciler looks at
//! each repository with a policy when that is put and every few minutes after; Amazon promises it within a day.

mod expire;
mod preview;
mod reconciler;
mod rules;
mod used;

#[cfg(test)]
mod tests;

pub(super) use preview::{get_lifecycle_policy_preview, start_lifecycle_policy_preview};
pub(super) use reconciler::Lifecycles;

use aws_wire::{ApiError, Caller};
use ecr_api::{
    DeleteLifecyclePolicyRequest, DeleteLifecyclePolicyResponse, GetLifecyclePolicyRequest,
    GetLifecyclePolicyResponse, PutLifecyclePolicyRequest, PutLifecyclePolicyResponse,
};
use model::ecr::Lifecycle;
use model::{EcrRepository, View};
use registry::Repository;
use store::Batch;

use super::describe_images::ByDigest;
use super::errors::{Refusal, of_catalog};
use super::request::repository;
use crate::Ecr;
use crate::catalog::{manifests_of, need};
use expire::Image;

/// A text that must be a lifecycle policy.
pub(super) fn check(text: Option<&String>) -> Result<String, ApiError> {
    let text = text.cloned().unwrap_or_default();
    match rules::read(&text) {
        Ok(_) => Ok(text),
        Err(wrong) => Err(Refusal::parameter("LifecyclePolicyText", wrong.to_string()).into()),
    }
}

/// A repository's images as rules see them.
fn images(view: &View, repository: &Repository) -> Vec<Image> {
    let tags = ByDigest::of(view, repository);
    let listed: std::collections::BTreeSet<_> =
        manifests_of(view, repository).flat_map(|row| row.manifests.iter().copied()).collect();
    let image = |row: &std::sync::Arc<model::EcrManifest>| Image {
        digest: row.digest,
        tags: tags.of_image(&row.digest).to_vec(),
        pushed_at: row.pushed_at,
        last_pull_at: row.last_pull_at,
        is_listed: listed.contains(&row.digest),
    };
    manifests_of(view, repository).map(image).collect()
}

pub(super) async fn put_lifecycle_policy(
    ecr: &Ecr,
    caller: &Caller,
    input: PutLifecyclePolicyRequest,
) -> Result<PutLifecyclePolicyResponse, ApiError> {
    let permission =
        ecr.on(caller, "ecr:PutLifecyclePolicy", &input.registry_id, &input.repository_name);
    let repository =
        repository(caller, input.registry_id.as_ref(), input.repository_name.as_ref())?;
    ecr.control.read(caller, &permission)?;
    let text = check(input.lifecycle_policy_text.as_ref())?;
    ecr.control
        .change(caller, &permission, |view, _| {
            let row = EcrRepository::clone(need(view, &repository).map_err(of_catalog)?);
            let lifecycle = Some(Lifecycle { text: text.clone(), evaluated_at: None });
            let mut batch = Batch::on(view);
            batch.put(EcrRepository { lifecycle, ..row });
            Ok((batch, ()))
        })
        .await?;
    Ok(PutLifecyclePolicyResponse {
        registry_id: Some(repository.account.to_string()),
        repository_name: Some(repository.name.to_string()),
        lifecycle_policy_text: Some(text),
    })
}

pub(super) async fn get_lifecycle_policy(
    ecr: &Ecr,
    caller: &Caller,
    input: GetLifecyclePolicyRequest,
) -> Result<GetLifecyclePolicyResponse, ApiError> {
    let permission =
        ecr.on(caller, "ecr:GetLifecyclePolicy", &input.registry_id, &input.repository_name);
    let repository =
        repository(caller, input.registry_id.as_ref(), input.repository_name.as_ref())?;
    let view = ecr.control.read(caller, &permission)?;
    let row = need(&view, &repository).map_err(of_catalog)?;
    let lifecycle = row.lifecycle.clone();
    let lifecycle = lifecycle.ok_or(Refusal::NoLifecyclePolicy(repository))?;
    Ok(GetLifecyclePolicyResponse {
        registry_id: Some(row.account.to_string()),
        repository_name: Some(row.name.to_string()),
        lifecycle_policy_text: Some(lifecycle.text),
        last_evaluated_at: lifecycle.evaluated_at,
    })
}

pub(super) async fn delete_lifecycle_policy(
    ecr: &Ecr,
    caller: &Caller,
    input: DeleteLifecyclePolicyRequest,
) -> Result<DeleteLifecyclePolicyResponse, ApiError> {
    let permission =
        ecr.on(caller, "ecr:DeleteLifecyclePolicy", &input.registry_id, &input.repository_name);
    let repository =
        repository(caller, input.registry_id.as_ref(), input.repository_name.as_ref())?;
    let was = ecr
        .control
        .change(caller, &permission, |view, _| {
            let row = EcrRepository::clone(need(view, &repository).map_err(of_catalog)?);
            let Some(was) = row.lifecycle.clone() else {
                return Err(Refusal::NoLifecyclePolicy(repository.clone()).into());
            };
            let mut batch = Batch::on(view);
            batch.put(EcrRepository { lifecycle: None, ..row });
            Ok((batch, was))
        })
        .await?;
    Ok(DeleteLifecyclePolicyResponse {
        registry_id: Some(repository.account.to_string()),
        repository_name: Some(repository.name.to_string()),
        lifecycle_policy_text: Some(was.text),
        last_evaluated_at: was.evaluated_at,
    })
}
