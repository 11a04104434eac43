//! BatchDeleteImage: by tag the tag goes, and with the last tag the image; by digest everything.

use aws_wire::{ApiError, Caller};
use ecr_api::{
    BatchDeleteImageRequest, BatchDeleteImageResponse, ImageFailure, ImageFailureCode,
    ImageIdentifier,
};
use longshore_types::{Digest, ImageTag};
use registry::{Catalog as _, CatalogError, Repository};

use super::batch_get_image::{check_ids, fail};
use super::describe_images::{NotFound, find};
use super::errors::of_catalog;
use super::request::repository;
use crate::Ecr;
use crate::catalog::{need, tags_of};

pub(super) async fn batch_delete_image(
    ecr: &Ecr,
    caller: &Caller,
    input: BatchDeleteImageRequest,
) -> Result<BatchDeleteImageResponse, ApiError> {
    let permission =
        ecr.on(caller, "ecr:BatchDeleteImage", &input.registry_id, &input.repository_name);
    let repository =
        repository(caller, input.registry_id.as_ref(), input.repository_name.as_ref())?;
    {
        let view = ecr.control.read(caller, &permission)?;
        need(&view, &repository).map_err(of_catalog)?;
    }
    let (mut removed, mut failures) = (Vec::new(), Vec::new());
    for id in check_ids(input.image_ids)? {
        let found = {
            let view = ecr.control.view();
            find(&view, &repository, &id).map(|(row, tag)| (row.digest, tag))
        };
        let done = match found {
            Err(why) => Err(fail(id, why)),
            Ok((digest, Some(tag))) if id.image_digest.is_none() => {
                delete_tag(ecr, &repository, digest, tag, id).await?
            }
            Ok((digest, _)) => delete_image(ecr, &repository, digest, id).await?,
        };
        match done {
            Ok(ids) => removed.extend(ids),
            Err(failure) => failures.push(failure),
        }
    }
    Ok(BatchDeleteImageResponse { image_ids: Some(removed), failures: Some(failures) })
}

fn identify(digest: Digest, tag: Option<String>) -> ImageIdentifier {
    ImageIdentifier { image_digest: Some(digest.to_string()), image_tag: tag }
}

fn tags(ecr: &Ecr, repository: &Repository, digest: Digest) -> Vec<String> {
    let view = ecr.control.view();
    let tags = tags_of(&view, repository).filter(|row| row.digest == digest);
    tags.map(|row| row.tag.to_string()).collect()
}

async fn delete_tag(
    ecr: &Ecr,
    repository: &Repository,
    digest: Digest,
    tag: ImageTag,
    id: ImageIdentifier,
) -> Result<Result<Vec<ImageIdentifier>, ImageFailure>, ApiError> {
    if tags(ecr, repository, digest).len() <= 1 {
        return delete_image(ecr, repository, digest, id).await;
    }
    let shown = tag.to_string();
    let deleted = ecr.registry.catalog().delete_tag(repository, tag).await;
    if deleted.map_err(of_catalog)? {
        Ok(Ok(vec![identify(digest, Some(shown))]))
    } else {
        Ok(Err(fail(id, NotFound::Missing)))
    }
}

async fn delete_image(
    ecr: &Ecr,
    repository: &Repository,
    digest: Digest,
    id: ImageIdentifier,
) -> Result<Result<Vec<ImageIdentifier>, ImageFailure>, ApiError> {
    let tags = tags(ecr, repository, digest);
    match ecr.registry.catalog().delete_manifest(repository, digest).await {
        Ok(true) if tags.is_empty() => Ok(Ok(vec![identify(digest, None)])),
        Ok(true) => {
            let each = tags.into_iter().map(|tag| identify(digest, Some(tag)));
            Ok(Ok(each.collect()))
        }
        Ok(false) => Ok(Err(fail(id, NotFound::Missing))),
        Err(error @ CatalogError::Referenced { .. }) => Ok(Err(ImageFailure {
            image_id: Some(id),
            failure_code: Some(ImageFailureCode::ImageReferencedByManifestList),
            failure_reason: Some(format!("Requested image referenced by manifest list: {error}")),
        })),
        Err(error) => Err(of_catalog(error)),
    }
}
