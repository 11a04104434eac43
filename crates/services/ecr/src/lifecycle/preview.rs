//! StartLifecyclePolicyPreview and GetLifecyclePolicyPreview: what a policy would take away, without doing it.
//!
//! What is kept is the question, policy and moment; the answer is made of the images that are there when it is asked for.

use aws_wire::{ApiError, Caller};
use ecr_api::{
    GetLifecyclePolicyPreviewRequest, GetLifecyclePolicyPreviewResponse, ImageActionType,
    LifecyclePolicyPreviewResult, LifecyclePolicyPreviewStatus, LifecyclePolicyPreviewSummary,
    LifecyclePolicyRuleAction, StartLifecyclePolicyPreviewRequest,
    StartLifecyclePolicyPreviewResponse, TagStatus,
};
use model::EcrRepository;
use model::ecr::LifecyclePreview;
use store::Batch;

use super::expire::{Expired, Image, expired};
use super::used::Used;
use super::{check, images, rules};
use crate::Ecr;
use crate::catalog::need;
use crate::errors::{Refusal, of_catalog};
use crate::pages::page;
use crate::request::repository;

pub(crate) async fn start_lifecycle_policy_preview(
    ecr: &Ecr,
    caller: &Caller,
    input: StartLifecyclePolicyPreviewRequest,
) -> Result<StartLifecyclePolicyPreviewResponse, ApiError> {
    let permission = ecr.on(
        caller,
        "ecr:StartLifecyclePolicyPreview",
        &input.registry_id,
        &input.repository_name,
    );
    let repository =
        repository(caller, input.registry_id.as_ref(), input.repository_name.as_ref())?;
    ecr.control.read(caller, &permission)?;
    let given = match &input.lifecycle_policy_text {
        Some(_) => Some(check(input.lifecycle_policy_text.as_ref())?),
        None => None,
    };
    let text = ecr
        .control
        .change(caller, &permission, |view, now| {
            let row = EcrRepository::clone(need(view, &repository).map_err(of_catalog)?);
            let own = row.lifecycle.as_ref().map(|lifecycle| lifecycle.text.clone());
            let text = given.clone().or(own);
            let text = text.ok_or_else(|| Refusal::NoLifecyclePolicy(repository.clone()))?;
            let preview = Some(LifecyclePreview { text: text.clone(), asked_at: now });
            let mut batch = Batch::on(view);
            batch.put(EcrRepository { preview, ..row });
            Ok((batch, text))
        })
        .await?;
    Ok(StartLifecyclePolicyPreviewResponse {
        registry_id: Some(repository.account.to_string()),
        repository_name: Some(repository.name.to_string()),
        lifecycle_policy_text: Some(text),
        status: Some(LifecyclePolicyPreviewStatus::InProgress),
    })
}

pub(crate) async fn get_lifecycle_policy_preview(
    ecr: &Ecr,
    caller: &Caller,
    input: GetLifecyclePolicyPreviewRequest,
) -> Result<GetLifecyclePolicyPreviewResponse, ApiError> {
    let permission =
        ecr.on(caller, "ecr:GetLifecyclePolicyPreview", &input.registry_id, &input.repository_name);
    let repository =
        repository(caller, input.registry_id.as_ref(), input.repository_name.as_ref())?;
    let view = ecr.control.read(caller, &permission)?;
    let row = need(&view, &repository).map_err(of_catalog)?;
    let preview = row.preview.clone();
    let preview = preview.ok_or_else(|| Refusal::NoPreview(repository.clone()))?;
    let unreadable = |error| ApiError::fault("failed to read a policy that was accepted", error);
    let rules = rules::read(&preview.text).map_err(unreadable)?;
    let mut images = images(&view, &repository);
    images.retain(|image| image.pushed_at <= preview.asked_at);
    let mut found = expired(&rules, &images, preview.asked_at);
    if !found.is_empty() {
        let used = Used::of(&view);
        found.retain(|each| !used.has(&repository.name, each.image));
    }
    let total = i32::try_from(found.len()).unwrap_or(i32::MAX);
    let status = input.filter.and_then(|filter| filter.tag_status);
    let ids = input.image_ids.unwrap_or_default();
    let is_asked = |image: &Image| {
        let is_tagged = !image.tags.is_empty();
        let is_of_status = match &status {
            Some(TagStatus::Tagged) => is_tagged,
            Some(TagStatus::Untagged) => !is_tagged,
            Some(_) | None => true,
        };
        let digest = image.digest.to_string();
        let is_named = ids.iter().any(|id| {
            let is_digest = id.image_digest.as_ref().is_none_or(|given| *given == digest);
            is_digest && id.image_tag.as_ref().is_none_or(|tag| image.tags.contains(tag))
        });
        is_of_status && (ids.is_empty() || is_named)
    };
    let asked = found.iter().filter(|each| is_asked(each.image));
    let items = asked.map(|each| {
        (format!("{:020} {}", each.image.pushed_at.0, each.image.digest), render(each))
    });
    let (shown, next_token) = page(input.next_token.as_deref(), input.max_results, items)?;
    Ok(GetLifecyclePolicyPreviewResponse {
        registry_id: Some(repository.account.to_string()),
        repository_name: Some(repository.name.to_string()),
        lifecycle_policy_text: Some(preview.text),
        status: Some(LifecyclePolicyPreviewStatus::Complete),
        next_token,
        preview_results: Some(shown),
        summary: Some(LifecyclePolicyPreviewSummary {
            expiring_image_total_count: Some(total),
            ..LifecyclePolicyPreviewSummary::default()
        }),
    })
}

fn render(expired: &Expired<'_>) -> LifecyclePolicyPreviewResult {
    let image = expired.image;
    LifecyclePolicyPreviewResult {
        image_tags: (!image.tags.is_empty()).then(|| image.tags.clone()),
        image_digest: Some(image.digest.to_string()),
        image_pushed_at: Some(image.pushed_at),
        action: Some(LifecyclePolicyRuleAction {
            r#type: Some(ImageActionType::Expire),
            ..LifecyclePolicyRuleAction::default()
        }),
        applied_rule_priority: i32::try_from(expired.priority).ok(),
        ..LifecyclePolicyPreviewResult::default()
    }
}
