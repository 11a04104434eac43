//! DescribeImages, and finding images by what a request calls them.

use std::collections::BTreeMap;

use aws_wire::{ApiError, Caller};
use ecr_api::{
    DescribeImagesRequest, DescribeImagesResponse, ImageDetail, ImageIdentifier, ImageScanStatus,
    ImageStatusFilter, TagStatus,
};
use longshore_types::{Digest, ImageTag};
use model::{EcrManifest, View};
use registry::Repository;

use super::errors::{Refusal, of_catalog};
use super::pages::page;
use super::request::repository;
use super::scanning;
use crate::Ecr;
use crate::catalog::{manifest_id, manifests_of, need, tag_id, tags_of};

/// How many may be asked for by id.
pub(super) const IDS_MAX: usize = 100;

/// The tags of each image of a repository.
pub(super) struct ByDigest(BTreeMap<Digest, Vec<String>>);

impl ByDigest {
    pub(super) fn of(view: &View, repository: &Repository) -> Self {
        let mut tags: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
        for row in tags_of(view, repository) {
            tags.entry(row.digest).or_default().push(row.tag.to_string());
        }
        Self(tags)
    }

    pub(super) fn of_image(&self, digest: &Digest) -> &[String] {
        self.0.get(digest).map(Vec::as_slice).unwrap_or_default()
    }
}

/// Nothing is ever archived here, so that every image is active.
pub(super) fn check_status(asked: Option<&ImageStatusFilter>) -> Result<(), ApiError> {
    match asked.map(ImageStatusFilter::as_str) {
        None | Some("ACTIVE" | "ANY") => Ok(()),
        Some(_) => {
            let why = "This registry does not archive images: imageStatus must be ACTIVE or ANY.";
            Err(Refusal::Unsupported(why).into())
        }
    }
}

/// Why an image id names no image.
pub(super) enum NotFound {
    Empty,
    BadDigest,
    Missing,
    /// The tag is on another image than the digest names.
    Mismatch,
}

/// The image that an id means, and the tag if it was found by one.
pub(super) fn find<'a>(
    view: &'a View,
    repository: &Repository,
    id: &ImageIdentifier,
) -> Result<(&'a EcrManifest, Option<ImageTag>), NotFound> {
    let digest = match &id.image_digest {
        Some(text) => Some(text.parse::<Digest>().map_err(|_| NotFound::BadDigest)?),
        None => None,
    };
    let tag = match &id.image_tag {
        Some(text) => Some(text.parse::<ImageTag>().map_err(|_| NotFound::Missing)?),
        None => None,
    };
    let tagged = match &tag {
        Some(tag) => {
            let row = view.ecr_tags.get(repository.account, &tag_id(repository, tag.clone()));
            Some(row.ok_or(NotFound::Missing)?.digest)
        }
        None => None,
    };
    let wanted = match (digest, tagged) {
        (Some(digest), Some(tagged)) if digest != tagged => return Err(NotFound::Mismatch),
        (Some(digest), _) | (None, Some(digest)) => digest,
        (None, None) => return Err(NotFound::Empty),
    };
    let row = view.ecr_manifests.get(repository.account, &manifest_id(repository, wanted));
    row.map(|row| (row.as_ref(), tag)).ok_or(NotFound::Missing)
}

pub(super) async fn describe_images(
    ecr: &Ecr,
    caller: &Caller,
    input: DescribeImagesRequest,
) -> Result<DescribeImagesResponse, ApiError> {
    let permission =
        ecr.on(caller, "ecr:DescribeImages", &input.registry_id, &input.repository_name);
    let repository =
        repository(caller, input.registry_id.as_ref(), input.repository_name.as_ref())?;
    let view = ecr.control.read(caller, &permission)?;
    let row = need(&view, &repository).map_err(of_catalog)?;
    let render = |image: &EcrManifest, tags: &ByDigest| {
        render(image, tags, ecr.scan_status(&view, row, image))
    };
    let filter = input.filter.unwrap_or_default();
    check_status(filter.image_status.as_ref())?;
    let tags = ByDigest::of(&view, &repository);
    let Some(ids) = input.image_ids.filter(|ids| !ids.is_empty()) else {
        let fits = |row: &EcrManifest| match &filter.tag_status {
            Some(TagStatus::Tagged) => !tags.of_image(&row.digest).is_empty(),
            Some(TagStatus::Untagged) => tags.of_image(&row.digest).is_empty(),
            Some(_) | None => true,
        };
        let rows = manifests_of(&view, &repository).filter(|row| fits(row));
        let rows = rows.map(|row| (row.digest.to_string(), render(row, &tags)));
        let (shown, next_token) = page(input.next_token.as_deref(), input.max_results, rows)?;
        return Ok(DescribeImagesResponse { image_details: Some(shown), next_token });
    };
    if ids.len() > IDS_MAX {
        let rule = format!("Member must have length less than or equal to {IDS_MAX}");
        return Err(Refusal::parameter("imageIds", rule).into());
    }
    let mut shown: Vec<ImageDetail> = Vec::new();
    for id in &ids {
        let (row, _) = find(&view, &repository, id).map_err(|why| refuse(why, &repository, id))?;
        let detail = render(row, &tags);
        if !shown.contains(&detail) {
            shown.push(detail);
        }
    }
    Ok(DescribeImagesResponse { image_details: Some(shown), next_token: None })
}

pub(super) fn refuse(why: NotFound, repository: &Repository, id: &ImageIdentifier) -> ApiError {
    match why {
        NotFound::Empty => {
            let rule = "both tag and digest cannot be null";
            Refusal::parameter("imageIds", rule).into()
        }
        NotFound::BadDigest => {
            let rule = "image digest should satisfy the regex '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'";
            Refusal::parameter("imageIds", rule).into()
        }
        NotFound::Missing | NotFound::Mismatch => Refusal::NoImage {
            repository: repository.clone(),
            digest: id.image_digest.clone(),
            tag: id.image_tag.clone(),
        }
        .into(),
    }
}

pub(super) fn identify(row: &EcrManifest, tag: Option<ImageTag>) -> ImageIdentifier {
    ImageIdentifier {
        image_digest: Some(row.digest.to_string()),
        image_tag: tag.map(|tag| tag.to_string()),
    }
}

fn render(row: &EcrManifest, tags: &ByDigest, scan: Option<ImageScanStatus>) -> ImageDetail {
    let tags = tags.of_image(&row.digest);
    ImageDetail {
        registry_id: Some(row.account.to_string()),
        repository_name: Some(row.repository.to_string()),
        image_digest: Some(row.digest.to_string()),
        image_tags: (!tags.is_empty()).then(|| tags.to_vec()),
        image_size_in_bytes: i64::try_from(row.image_size).ok(),
        image_pushed_at: Some(row.pushed_at),
        image_scan_status: scan,
        image_scan_findings_summary: scanning::render_summary(row),
        image_manifest_media_type: Some(row.media_type.clone()),
        artifact_media_type: row.artifact_type.clone(),
        last_recorded_pull_time: row.last_pull_at,
        subject_manifest_digest: row.subject.map(|subject| subject.to_string()),
        image_status: Some(ecr_api::ImageStatus::Active),
        ..ImageDetail::default()
    }
}
