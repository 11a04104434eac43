//! Acts on lifecycle policies.

use std::collections::BTreeMap;
use std::sync::Arc;

use control::reconcile::{Pass, PassFuture, Queue, Reconciler};
use longshore_types::{AccountId, RepositoryName, Timestamp};
use model::ecr::Lifecycle;
use model::{EcrRepository, Key, View};
use registry::{CatalogError, Repository};
use store::{BATCH_ROWS_MAX, Batch, Change};

use super::expire::{Image, expired};
use super::used::{Used, UsedLately};
use super::{images, rules};
use crate::Ecr;
use crate::catalog::{manifest_id, need, tag_id};

/// An image that is so young stays: an index that lists it may be on its way.
const YOUNG_MS: u64 = 600_000;
/// When a policy was last looked at is written down as coarsely as this.
const NOTE_MS: u64 = 3_600_000;
/// Images that one pass takes away.
const IMAGES_MAX: usize = 200;

/// One loop over the repositories that have a policy.
#[derive(Debug)]
pub(crate) struct Lifecycles {
    ecr: Arc<Ecr>,
    used: Arc<UsedLately>,
}

impl Lifecycles {
    pub(crate) fn of(ecr: Arc<Ecr>) -> Self {
        Self { ecr, used: Arc::default() }
    }
}

impl Reconciler for Lifecycles {
    type Key = (AccountId, RepositoryName);
    type Note = ();
    type Error = CatalogError;

    fn name(&self) -> &'static str {
        "image-lifecycles"
    }

    /// When a policy was put. That images came is looked at with time: nobody waits for it.
    fn wake(&mut self, view: &View, change: &Change, queue: &mut Queue<Self::Key>) {
        if let Key::EcrRepository(account, name) = &change.key
            && let Some(row) = view.ecr_repositories.get(*account, name)
            && row.lifecycle.as_ref().is_some_and(|it| it.evaluated_at.is_none())
        {
            queue.changed(&(*account, name.clone()), change.seq);
        }
    }

    fn keys(&mut self, view: &View) -> Vec<Self::Key> {
        let rows = view.ecr_repositories.iter().filter(|row| row.lifecycle.is_some());
        rows.map(|row| (row.account, row.name.clone())).collect()
    }

    fn pass(&self, key: &Self::Key) -> PassFuture<Result<Pass<()>, CatalogError>> {
        let (ecr, used) = (Arc::clone(&self.ecr), Arc::clone(&self.used));
        let repository = Repository { account: key.0, name: key.1.clone() };
        Box::pin(async move { ecr.expire_images(&repository, &used).await })
    }
}

impl Ecr {
    /// Takes away what a repository's policy lets expire and nobody runs.
    pub(crate) async fn expire_images(
        &self,
        repository: &Repository,
        used: &UsedLately,
    ) -> Result<Pass<()>, CatalogError> {
        let (view, now) = (self.control.view(), self.control.clock.now());
        let mut pass = Pass { looked_at: view.seq, ..Pass::default() };
        let row = view.ecr_repositories.get(repository.account, &repository.name);
        let Some(lifecycle) = row.and_then(|row| row.lifecycle.clone()) else {
            pass.is_over = true;
            return Ok(pass);
        };
        let unreadable = |error| CatalogError::Failed(Box::new(error));
        let rules = rules::read(&lifecycle.text).map_err(unreadable)?;
        let images = images(&view, repository);
        let mut due = expired(&rules, &images, now);
        due.retain(|each| YOUNG_MS <= now.since_ms(each.image.pushed_at));
        if !due.is_empty() {
            let used = used.at(&view, now);
            due.retain(|each| !used.has(&repository.name, each.image));
        }
        pass.is_cut = IMAGES_MAX < due.len();
        let due = due.iter().take(IMAGES_MAX).map(|each| each.image.clone()).collect();
        let removed = self.remove_images(repository, &lifecycle.text, due).await?;
        if removed > 0 {
            let name = &repository.name;
            tracing::info!(account = %repository.account, repository = %name, removed, "images expired");
        }
        let is_old = |at: Timestamp| NOTE_MS <= now.since_ms(at);
        if removed > 0 || lifecycle.evaluated_at.is_none_or(is_old) {
            self.note_evaluation(repository, &lifecycle.text, now).await?;
        }
        Ok(pass)
    }

    /// Takes away those images that are still as they were seen, and not run, when that is decided; says how many.
    pub(crate) async fn remove_images(
        &self,
        repository: &Repository,
        text: &str,
        mut due: Vec<Image>,
    ) -> Result<usize, CatalogError> {
        let mut removed = 0;
        while !due.is_empty() {
            let decided = self.control.decide(|view, _| {
                // That takes a while, in which no task comes, but images may.
                let used = Used::of(view);
                let view = self.control.store.latest();
                Ok(removal(&view, &used, repository, text, &due))
            });
            let done = decided.await.map_err(|error| CatalogError::Failed(Box::new(error)))?;
            due.drain(..done.seen);
            removed += done.removed;
            if let Some(first) = due.first_mut() {
                first.tags.drain(..done.tags);
            }
        }
        Ok(removed)
    }

    async fn note_evaluation(
        &self,
        repository: &Repository,
        text: &str,
        now: Timestamp,
    ) -> Result<(), CatalogError> {
        let noted = self.control.decide(|view, _| {
            let mut batch = Batch::on(view);
            if let Ok(row) = need(view, repository)
                && row.lifecycle.as_ref().is_some_and(|it| it.text == text)
            {
                let lifecycle = Lifecycle { text: text.to_owned(), evaluated_at: Some(now) };
                batch
                    .put(EcrRepository { lifecycle: Some(lifecycle), ..EcrRepository::clone(row) });
            }
            Ok((batch, ()))
        });
        noted.await.map_err(|error| CatalogError::Failed(Box::new(error)))
    }
}

/// How far a removal came.
#[derive(Clone, Copy, Debug, Default)]
struct Removal {
    /// Of the images, from the first: they are gone or stay.
    seen: usize,
    removed: usize,
    /// Tags that were taken from the image after those, which has too many for one batch.
    tags: usize,
}

/// Removes what fits into a batch, from the first on. Since an image was found to be due it may have been tagged, pulled,
/// listed by an index or run: then it stays, and so do all if the policy is another by now.
fn removal(
    view: &View,
    used: &Used,
    repository: &Repository,
    text: &str,
    due: &[Image],
) -> (Batch, Removal) {
    let mut batch = Batch::on(view);
    let row = view.ecr_repositories.get(repository.account, &repository.name);
    let policy = row.and_then(|row| row.lifecycle.as_ref());
    if policy.is_none_or(|policy| policy.text != text) {
        return (batch, Removal { seen: due.len(), ..Removal::default() });
    }
    let images = images(view, repository);
    let images: BTreeMap<_, _> = images.iter().map(|image| (image.digest, image)).collect();
    let account = repository.account;
    let tag_key = |tag: &String| {
        let tag = tag.parse().ok()?;
        Some(Key::EcrTag(account, tag_id(repository, tag)))
    };
    let mut done = Removal::default();
    for image in due {
        let is_as_seen = images.get(&image.digest).is_some_and(|now| *now == image);
        if is_as_seen && !used.has(&repository.name, image) {
            if BATCH_ROWS_MAX < batch.len() + image.tags.len() + 1 {
                if batch.is_empty() {
                    done.tags = BATCH_ROWS_MAX.min(image.tags.len());
                    batch.deletes.extend(image.tags[..done.tags].iter().filter_map(tag_key));
                }
                return (batch, done);
            }
            batch.deletes.extend(image.tags.iter().filter_map(tag_key));
            batch.delete(Key::EcrManifest(account, manifest_id(repository, image.digest)));
            done.removed += 1;
        }
        done.seen += 1;
    }
    (batch, done)
}
