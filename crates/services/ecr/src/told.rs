//! What ECR tells EventBridge of: images that are pushed and deleted.

use control::ports::EventSource;
use control::told::{Changes, Told};
use events::Json;
use longshore_types::{AccountId, Digest, ImageTag, RepositoryName};
use model::{Key, Kind, View};
use registry::Repository;

use crate::catalog::{manifest_id, tags_of};

/// Tells of ECR's rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EcrEvents;

impl EventSource for EcrEvents {
    fn source(&self) -> &'static str {
        "aws.ecr"
    }

    fn kinds(&self) -> &'static [Kind] {
        &[Kind::EcrManifest, Kind::EcrTag]
    }

    /// One for each tag that comes to an image or goes, and one for an image without any.
    fn tell(&self, changes: &Changes<'_>) -> Vec<Told> {
        let (before, after) = (changes.before, changes.after);
        let told = changes.keys.iter().filter_map(|key| match key {
            Key::EcrTag(account, id) => {
                let was = before.ecr_tags.get(*account, id).map(|row| row.digest);
                let is = after.ecr_tags.get(*account, id).map(|row| row.digest);
                let tag = Some(&id.tag);
                match (was, is) {
                    (was, Some(is)) if was != Some(is) => {
                        let image = (*account, &id.repository, is);
                        Some(action("PUSH", after, image, tag))
                    }
                    (Some(was), None) => {
                        let image = (*account, &id.repository, was);
                        Some(action("DELETE", before, image, tag))
                    }
                    (_, Some(_)) | (None, None) => None,
                }
            }
            Key::EcrManifest(account, id) => {
                let was = before.ecr_manifests.get(*account, id).is_some();
                let is = after.ecr_manifests.get(*account, id).is_some();
                let image = (*account, &id.repository, id.digest);
                match (was, is) {
                    (false, true) if !has_tags(after, image) => {
                        Some(action("PUSH", after, image, None))
                    }
                    (true, false) if !has_tags(before, image) => {
                        Some(action("DELETE", before, image, None))
                    }
                    (false | true, false | true) => None,
                }
            }
            _ => None,
        });
        told.collect()
    }
}

type Image<'a> = (AccountId, &'a RepositoryName, Digest);

fn has_tags(view: &View, (account, name, digest): Image<'_>) -> bool {
    let repository = Repository { account, name: name.clone() };
    tags_of(view, &repository).any(|row| row.digest == digest)
}

fn action(
    what: &'static str,
    view: &View,
    (account, name, digest): Image<'_>,
    tag: Option<&ImageTag>,
) -> Told {
    let member = |name: &str, value: String| (name.to_owned(), Json::from(value));
    let mut detail = vec![
        member("action-type", what.to_owned()),
        member("result", "SUCCESS".to_owned()),
        member("repository-name", name.to_string()),
        member("image-digest", digest.to_string()),
    ];
    detail.extend(tag.map(|tag| member("image-tag", tag.to_string())));
    let repository = Repository { account, name: name.clone() };
    if let Some(row) = view.ecr_manifests.get(account, &manifest_id(&repository, digest)) {
        detail.push(member("manifest-media-type", row.media_type.clone()));
        let artifact = row.artifact_type.clone().or_else(|| row.config_media_type.clone());
        detail.extend(artifact.map(|kind| member("artifact-media-type", kind)));
    }
    Told { detail_type: "ECR Image Action", resources: Vec::new(), detail: Json::Object(detail) }
}
