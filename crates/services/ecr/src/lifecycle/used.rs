//! Which images are run: those no lifecycle policy takes away.

use std::collections::BTreeSet;

use image::Reference;
use longshore_types::{Digest, ImageTag, RepositoryName};
use model::View;
use model::service::Rank;
use model::task::Phase;

use super::expire::Image;

/// What tasks that are not stopped run, and what the revisions name that services have or would go back to. Of any
/// account: its tasks may pull from another's repository.
#[derive(Debug, Default)]
pub(crate) struct Used {
    digests: BTreeSet<Digest>,
    tags: BTreeSet<(RepositoryName, ImageTag)>,
}

impl Used {
    /// Looks at all tasks: to be asked when something is about to expire.
    pub(crate) fn of(view: &View) -> Self {
        let mut used = Self::default();
        for task in view.tasks.iter().filter(|task| task.phase < Phase::Stopped) {
            for container in &task.containers {
                used.name(&container.asked.image);
                used.digest(container.asked.pinned_digest.as_deref());
                used.digest(container.seen.image_digest.as_deref());
            }
        }
        for deployment in view.deployments.iter().filter(|deployment| deployment.rank < Rank::Gone)
        {
            let (account, service) = (deployment.scope.account, deployment.key().service);
            let sources = deployment.sources.iter().map(|source| source.revision);
            for id in sources.chain([deployment.revision]) {
                let Some(revision) = view.revision_of(account, &service, id) else { continue };
                for image in &revision.images {
                    used.name(&image.image);
                    used.digest(image.digest.as_deref());
                }
            }
        }
        used
    }

    /// A name may be of another registry; then an image of ours is kept for nothing, which does no harm.
    fn name(&mut self, image: &str) {
        let Ok(reference) = image.parse::<Reference>() else { return };
        self.digests.extend(reference.digest);
        if let Some(tag) = reference.tag_to_resolve() {
            self.tags.insert((reference.repository.clone(), tag.clone()));
        }
    }

    fn digest(&mut self, digest: Option<&str>) {
        self.digests.extend(digest.and_then(|digest| digest.parse::<Digest>().ok()));
    }

    pub(crate) fn has(&self, repository: &RepositoryName, image: &Image) -> bool {
        let is_named = |tag: &String| {
            let tag = tag.parse::<ImageTag>();
            tag.is_ok_and(|tag| self.tags.contains(&(repository.clone(), tag)))
        };
        self.digests.contains(&image.digest) || image.tags.iter().any(is_named)
    }
}
