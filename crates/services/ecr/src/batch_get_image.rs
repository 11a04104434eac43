//! BatchGetImage.

use aws_wire::{ApiError, Caller};
use ecr_api::{
    BatchGetImageRequest, BatchGetImageResponse, Image, ImageFailure, ImageFailureCode,
    ImageIdentifier,
};
use registry::{Catalog as _, Identifier, RegistryError, Repository, UpstreamFailure};

use super::describe_images::{IDS_MAX, NotFound, find, identify};
use super::errors::{Refusal, of_registry};
use super::request::repository;
use crate::Ecr;
use crate::catalog::need;

pub(super) async fn batch_get_image(
    ecr: &Ecr,
    caller: &Caller,
    input: BatchGetImageRequest,
) -> Result<BatchGetImageResponse, ApiError> {
    let permission =
        ecr.on(caller, "ecr:BatchGetImage", &input.registry_id, &input.repository_name);
    let repository =
        repository(caller, input.registry_id.as_ref(), input.repository_name.as_ref())?;
    ecr.control.read(caller, &permission)?;
    let ids = check_ids(input.image_ids)?;
    let mut not_brought = Vec::new();
    for id in &ids {
        not_brought.push(bring(ecr, caller, &repository, id).await?);
    }
    let view = ecr.control.view();
    let is_there = need(&view, &repository).is_ok();
    if is_there || not_brought.iter().all(Option::is_none) {
        ecr.usable(&view, &repository)?;
    }
    let accepted = input.accepted_media_types.unwrap_or_default();
    let (mut images, mut failures) = (Vec::new(), Vec::new());
    for (id, not_brought) in ids.into_iter().zip(not_brought) {
        if let Some((code, why)) = not_brought {
            failures.push(ImageFailure {
                image_id: Some(id),
                failure_code: Some(code),
                failure_reason: Some(why),
            });
            continue;
        }
        let (row, tag) = match find(&view, &repository, &id) {
            Ok(found) => found,
            Err(why) => {
                failures.push(fail(id, why));
                continue;
            }
        };
        // Nothing is converted: an image is answered as it was pushed, or not at all.
        if !accepted.is_empty() && !accepted.contains(&row.media_type) {
            failures.push(ImageFailure {
                image_id: Some(id),
                failure_code: Some(ImageFailureCode::ImageNotFound),
                failure_reason: Some(format!(
                    "Requested image has the media type '{}', which is not accepted",
                    row.media_type
                )),
            });
            continue;
        }
        let bytes = ecr.registry.manifest_bytes(&row.digest).await.map_err(of_registry)?;
        let Some(manifest) = bytes.and_then(|bytes| String::from_utf8(bytes).ok()) else {
            failures.push(fail(id, NotFound::Missing));
            continue;
        };
        ecr.registry.catalog().pulled(&repository, &row.digest);
        images.push(Image {
            registry_id: Some(repository.account.to_string()),
            repository_name: Some(repository.name.to_string()),
            image_id: Some(identify(row, tag)),
            image_manifest: Some(manifest),
            image_manifest_media_type: Some(row.media_type.clone()),
        });
    }
    Ok(BatchGetImageResponse { images: Some(images), failures: Some(failures) })
}

/// Has an image fetched from upstream that comes by a rule, or says why it did not come.
async fn bring(
    ecr: &Ecr,
    caller: &Caller,
    repository: &Repository,
    id: &ImageIdentifier,
) -> Result<Option<(ImageFailureCode, String)>, ApiError> {
    let digest = id.image_digest.as_ref().and_then(|digest| digest.parse().ok());
    let tag = id.image_tag.as_ref().and_then(|tag| tag.parse().ok());
    let wanted = digest.map(Identifier::Digest).or(tag.map(Identifier::Tag));
    let Some(wanted) = wanted else { return Ok(None) };
    let error = match ecr.pull_through.bring(caller, repository, &wanted).await {
        // That there is none is said as of any other.
        Ok(()) | Err(RegistryError::ManifestUnknown(_)) => return Ok(None),
        Err(error) => error,
    };
    match error {
        RegistryError::Upstream(failure, why) => {
            let code = match failure {
                UpstreamFailure::Denied => ImageFailureCode::UpstreamAccessDenied,
                UpstreamFailure::TooManyRequests => ImageFailureCode::UpstreamTooManyRequests,
                UpstreamFailure::Away => ImageFailureCode::UpstreamUnavailable,
            };
            Ok(Some((code, why)))
        }
        RegistryError::Denied(why) => Err(ApiError::client("AccessDeniedException", why)),
        error => Err(of_registry(error)),
    }
}

/// The ids of a request that may name up to a hundred.
pub(super) fn check_ids(
    ids: Option<Vec<ImageIdentifier>>,
) -> Result<Vec<ImageIdentifier>, ApiError> {
    let ids = ids.unwrap_or_default();
    if ids.is_empty() || ids.len() > IDS_MAX {
        let rule = format!("Member must have length between 1 and {IDS_MAX}");
        return Err(Refusal::parameter("imageIds", rule).into());
    }
    Ok(ids)
}

/// What is said of an id that names no image: no error, but an entry of its own.
pub(super) fn fail(id: ImageIdentifier, why: NotFound) -> ImageFailure {
    let (code, reason) = match why {
        NotFound::Empty => (
            ImageFailureCode::MissingDigestAndTag,
            "Invalid request parameters: both tag and digest cannot be null",
        ),
        NotFound::BadDigest => (
            ImageFailureCode::InvalidImageDigest,
            "Invalid request parameters: image digest should satisfy the regex \
             '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'",
        ),
        NotFound::Missing => (ImageFailureCode::ImageNotFound, "Requested image not found"),
        NotFound::Mismatch => (
            ImageFailureCode::ImageTagDoesNotMatchDigest,
            "Requested image tag does not match its digest",
        ),
    };
    ImageFailure {
        image_id: Some(id),
        failure_code: Some(code),
        failure_reason: Some(reason.to_owned()),
    }
}
