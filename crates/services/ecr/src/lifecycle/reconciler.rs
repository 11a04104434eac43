//! Acts on lifecycle policies.

use std::sync::Arc;

use control::reconcile::{Pass, PassFuture, Queue, Reconciler};
use longshore_types::{AccountId, RepositoryName, Timestamp};
use model::ecr::Lifecycle;
use model::{EcrRepository, Key, View};
use registry::{Catalog as _, CatalogError, Repository};
use store::{Batch, Change};

use super::expire::expired;
use super::used::Used;
use super::{images, rules};
use crate::Ecr;
use crate::catalog::need;

/// An image that is so young stays: an index that lists it may be on its way.
const YOUNG_MS: u64 = 600_000;
/// When a policy was last looked at is written down as coarsely as this.
const NOTE_MS: u64 = 3_600_000;
/// Images that one pass takes away.
const IMAGES_MAX: usize = 200;

/// One loop over the repositories that have a policy.
#[derive(Debug)]
pub(crate) struct Lifecycles {
    pub(crate) ecr: Arc<Ecr>,
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
        let ecr = Arc::clone(&self.ecr);
        let repository = Repository { account: key.0, name: key.1.clone() };
        Box::pin(async move { ecr.expire_images(&repository).await })
    }
}

impl Ecr {
    /// Takes away what a repository's policy lets expire and nobody runs.
    pub(crate) async fn expire_images(
        &self,
        repository: &Repository,
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
            let used = Used::of(&view);
            due.retain(|each| !used.has(&repository.name, each.image));
        }
        pass.is_cut = IMAGES_MAX < due.len();
        let mut removed = 0_usize;
        for each in due.iter().take(IMAGES_MAX) {
            match self.registry.catalog().delete_manifest(repository, each.image.digest).await {
                Ok(was_there) => removed += usize::from(was_there),
                // Since then an index came to list it.
                Err(CatalogError::Referenced { .. }) => {}
                Err(error) => return Err(error),
            }
        }
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
