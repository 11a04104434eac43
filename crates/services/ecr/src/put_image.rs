//! PutImage.

use aws_wire::{ApiError, Caller};
use ecr_api::{Image, ImageIdentifier, PutImageRequest, PutImageResponse};
use image::Hasher;
use longshore_types::{Digest, ImageTag};
use registry::describe;

use super::errors::{Refusal, of_registry};
use super::request::repository;
use crate::Ecr;
use crate::catalog::{manifest_id, tag_id};

pub(super) async fn put_image(
    ecr: &Ecr,
    caller: &Caller,
    input: PutImageRequest,
) -> Result<PutImageResponse, ApiError> {
    let permission = ecr.on(caller, "ecr:PutImage", &input.registry_id, &input.repository_name);
    ecr.control.read(caller, &permission)?;
    let repository =
        repository(caller, input.registry_id.as_ref(), input.repository_name.as_ref())?;
    ecr.make_on_push(caller, &repository).await?;
    let text = input.image_manifest.unwrap_or_default();
    if text.len() > image::manifest::MANIFEST_BYTES_MAX {
        return Err(Refusal::parameter("imageManifest", "is too long").into());
    }
    let digest = Hasher::digest(text.as_bytes());
    if let Some(given) = &input.image_digest {
        let given: Digest = given
            .parse()
            .map_err(|_| Refusal::parameter("imageDigest", "must be a sha256 digest"))?;
        if given != digest {
            return Err(Refusal::DigestMismatch { given, actual: digest }.into());
        }
    }
    let tag = match &input.image_tag {
        Some(tag) => {
            let rule = "must satisfy regular expression '[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}'";
            Some(tag.parse::<ImageTag>().map_err(|_| Refusal::parameter("imageTag", rule))?)
        }
        None => None,
    };
    let said = input.image_manifest_media_type.as_deref();
    if said.is_none() && !says_media_type(&text) {
        let rule = "image manifest mediatype not provided in manifest or parameter";
        return Err(Refusal::parameter("imageManifestMediaType", rule).into());
    }
    let manifest = describe(text.as_bytes(), said, digest).map_err(of_registry)?;
    let media_type = manifest.media_type.clone();
    {
        let view = ecr.control.view();
        ecr.usable(&view, &repository)?;
        let id = manifest_id(&repository, digest);
        let is_there = view.ecr_manifests.get(repository.account, &id).is_some();
        let is_tagged = tag.as_ref().is_none_or(|tag| {
            let row = view.ecr_tags.get(repository.account, &tag_id(&repository, tag.clone()));
            row.is_some_and(|row| row.digest == digest)
        });
        if is_there && is_tagged {
            return Err(Refusal::ImageExists { repository, digest, tag }.into());
        }
    }
    let bytes = text.clone().into_bytes().into();
    let stored = ecr.registry.store_manifest(&repository, bytes, manifest, tag.clone()).await;
    stored.map_err(of_registry)?;
    Ok(PutImageResponse {
        image: Some(Image {
            registry_id: Some(repository.account.to_string()),
            repository_name: Some(repository.name.to_string()),
            image_id: Some(ImageIdentifier {
                image_digest: Some(digest.to_string()),
                image_tag: tag.map(|tag| tag.to_string()),
            }),
            image_manifest: Some(text),
            image_manifest_media_type: Some(media_type),
        }),
    })
}

/// Whether a manifest says what it is. What is no manifest at all is refused as that.
fn says_media_type(text: &str) -> bool {
    let read: Result<serde_json::Value, _> = serde_json::from_str(text);
    read.map_or(true, |manifest| manifest.get("mediaType").is_some())
}
