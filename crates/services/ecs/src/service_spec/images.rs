//! What a revision's images mean: each name is looked up once, and all its tasks run that digest.
//!
//! Names in this region's registry are looked up when the revision is made; what others mean is
//! learnt from the first task that says what it runs.

use aws_wire::ApiError;
use ecs_api as api;
use image::Reference;
use longshore_types::AccountId;
use model::service::RevisionImage;
use model::task::Task;
use model::{ServiceRevision, TagId, TaskDefinition, View};

use crate::Ecs;
use crate::render_task_definition::document;

/// Whether a container's image may be another for each task.
fn is_floating(container: &api::ContainerDefinition) -> bool {
    container.version_consistency == Some(api::VersionConsistency::Disabled)
}

/// The images of a definition's containers, with the digests that are known already.
pub(super) fn resolve(
    ecs: &Ecs,
    view: &View,
    account: AccountId,
    definition: &TaskDefinition,
) -> Result<Vec<RevisionImage>, ApiError> {
    let document = document(definition)?;
    let containers = document.container_definitions.iter().flatten();
    Ok(containers
        .filter_map(|container| {
            let image = container.image.clone()?;
            let digest = match is_floating(container) {
                true => None,
                false => digest_of(ecs, view, account, &image),
            };
            Some(RevisionImage { container: container.name.clone()?, image, digest })
        })
        .collect())
}

/// The digest that a name says itself, or that the own registry has for its tag now.
fn digest_of(ecs: &Ecs, view: &View, account: AccountId, image: &str) -> Option<String> {
    let reference: Reference = image.parse().ok()?;
    if let Some(digest) = reference.digest {
        return Some(digest.to_string());
    }
    let tag = reference.tag_to_resolve()?.clone();
    let owner = owner_of(ecs, account, &reference)?;
    let repository = reference.repository.clone();
    let row = view.ecr_tags.get(owner, &TagId { repository, tag })?;
    Some(row.digest.to_string())
}

/// Whose repository of this region an image is in; none if agents fetch it elsewhere.
fn owner_of(ecs: &Ecs, account: AccountId, reference: &Reference) -> Option<AccountId> {
    if ecs.control.is_own_registry(&reference.registry) {
        return Some(account);
    }
    let (owner, name) = reference.amazon_ecr()?;
    (name == ecs.control.config.region.as_str()).then(|| owner.parse().ok()).flatten()
}

/// The revision with the digests that one of its tasks says it runs, where they were not known;
/// `None` if there is nothing new. `definition` is the one that the revision names.
pub(crate) fn with_seen_digests(
    revision: &ServiceRevision,
    definition: &api::TaskDefinition,
    task: &Task,
) -> Option<ServiceRevision> {
    let mut next = revision.clone();
    for image in next.images.iter_mut().filter(|image| image.digest.is_none()) {
        let is_its = |container: &&api::ContainerDefinition| {
            container.name.as_ref() == Some(&image.container)
        };
        let container = definition.container_definitions.iter().flatten().find(is_its);
        if container.is_none_or(is_floating) {
            continue;
        }
        let mut seen = task.containers.iter();
        let seen = seen.find(|container| container.name.as_str() == image.container);
        image.digest = seen.and_then(|container| container.seen.image_digest.clone());
    }
    (next != *revision).then_some(next)
}
