//! Which images are run: those no lifecycle policy takes away.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use image::Reference;
use longshore_types::{Digest, ImageTag, RepositoryName, Timestamp};
use model::View;
use model::service::Rank;
use model::task::Phase;

use super::expire::Image;

/// For so long what is run is taken to be what it was.
const LATELY_MS: u64 = 10_000;

/// What was run a moment ago, which spares each repository a look at all tasks. An image that came to be run since is not
/// in it, so that whoever takes images away asks [`Used`] itself.
#[derive(Debug, Default)]
pub(crate) struct UsedLately(Mutex<Option<(Timestamp, Arc<Used>)>>);

impl UsedLately {
    pub(crate) fn at(&self, view: &View, now: Timestamp) -> Arc<Used> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, used)) = &*kept
            && now.since_ms(*at) < LATELY_MS
        {
            return Arc::clone(used);
        }
        let used = Arc::new(Used::of(view));
        *kept = Some((now, Arc::clone(&used)));
        used
    }
}

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
        let (mut used, mut seen) = (Self::default(), BTreeSet::new());
        for task in view.tasks.iter().filter(|task| task.phase < Phase::Stopped) {
            for container in &task.containers {
                // Most tasks run what another one does.
                if seen.insert(container.asked.image.as_str()) {
                    used.name(&container.asked.image);
                }
                let asked = container.asked.pinned_digest.as_deref();
                let digests = [asked, container.seen.image_digest.as_deref()].into_iter().flatten();
                digests.filter(|digest| seen.insert(digest)).for_each(|it| used.digest(Some(it)));
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
