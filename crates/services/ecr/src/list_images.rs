//! ListImages.

use aws_wire::{ApiError, Caller};
use ecr_api::{ImageIdentifier, ListImagesRequest, ListImagesResponse, TagStatus};

use super::describe_images::{ByDigest, check_status};
use super::errors::of_catalog;
use super::pages::page;
use super::request::repository;
use crate::Ecr;
use crate::catalog::{manifests_of, need};

pub(super) async fn list_images(
    ecr: &Ecr,
    caller: &Caller,
    input: ListImagesRequest,
) -> Result<ListImagesResponse, ApiError> {
    let permission = ecr.on(caller, "ecr:ListImages", &input.registry_id, &input.repository_name);
    let repository =
        repository(caller, input.registry_id.as_ref(), input.repository_name.as_ref())?;
    let view = ecr.control.read(caller, &permission)?;
    need(&view, &repository).map_err(of_catalog)?;
    let filter = input.filter.unwrap_or_default();
    check_status(filter.image_status.as_ref())?;
    let tags = ByDigest::of(&view, &repository);
    let mut items = Vec::new();
    for row in manifests_of(&view, &repository) {
        let digest = row.digest.to_string();
        let of_image = tags.of_image(&row.digest);
        let identify = |tag: Option<&String>| ImageIdentifier {
            image_digest: Some(digest.clone()),
            image_tag: tag.cloned(),
        };
        if of_image.is_empty() && filter.tag_status != Some(TagStatus::Tagged) {
            items.push((format!("{digest} "), identify(None)));
        }
        if filter.tag_status != Some(TagStatus::Untagged) {
            let each = of_image.iter().map(|tag| (format!("{digest} {tag}"), identify(Some(tag))));
            items.extend(each);
        }
    }
    let (shown, next_token) =
        page(input.next_token.as_deref(), input.max_results, items.into_iter())?;
    Ok(ListImagesResponse { image_ids: Some(shown), next_token })
}
