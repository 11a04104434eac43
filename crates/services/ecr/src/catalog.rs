//! The registry's view of the region: repositories, images and layers as rows of the store.
//!
//! **Invariant:** a manifest row exists only while every layer and manifest that it names is in the
//! same repository, and a tag only while its manifest is.

use std::collections::BTreeSet;
use std::sync::Arc;

use control::Control;
use longshore_types::{AccountId, Digest, ImageTag, RepositoryName, Timestamp};
use model::{
    EcrLayer, EcrManifest, EcrRepository, EcrTag, ImageScan, Key, ManifestId, Record as _, TagId,
    View,
};
use registry::{
    Catalog, CatalogError, NewManifest, Parts, Referrer, Registry, Repository, StoredManifest,
};
use store::{BATCH_ROWS_MAX, Batch};

use crate::authorizer::RegionAuthorizer;
use crate::scanning;

/// The directory of blobs within the data directory.
pub const REGISTRY_DIR: &str = "registry";
/// ECR's limits.
pub const IMAGES_PER_REPOSITORY_MAX: usize = 100_000;
pub const TAGS_PER_IMAGE_MAX: usize = 1000;
/// A pull is noted only if the last note is so old.
const PULL_NOTE_MS_MIN: u64 = 60_000;
/// How often a decision is made again before it is our fault.
const TRIES_MAX: u32 = 100;

/// The registry of a region.
pub type RegionRegistry = Registry<StoreCatalog, RegionAuthorizer>;

/// Opens the registry of a region in its data directory.
pub fn open(control: &Arc<Control>) -> Result<RegionRegistry, image::BlobError> {
    let Control { config, clock, ids, .. } = &**control;
    Registry::open(Parts {
        dir: config.data_dir.join(REGISTRY_DIR),
        catalog: StoreCatalog {
            control: Arc::clone(control),
            has_scanner: config.image_scanner.is_some(),
        },
        authorizer: RegionAuthorizer::new(control),
        clock: Arc::clone(clock),
        ids: Arc::clone(ids),
    })
}

/// Rows of one repository, in order.
pub(crate) fn manifests_of<'a>(
    view: &'a View,
    repository: &'a Repository,
) -> impl Iterator<Item = &'a Arc<EcrManifest>> {
    let from = view.ecr_manifests.from(repository.account, first_digest(repository));
    from.take_while(|row| row.repository == repository.name)
}

fn layers_of<'a>(
    view: &'a View,
    repository: &'a Repository,
) -> impl Iterator<Item = &'a Arc<EcrLayer>> {
    let from = view.ecr_layers.from(repository.account, first_digest(repository));
    from.take_while(|row| row.repository == repository.name)
}

pub(crate) fn tags_of<'a>(
    view: &'a View,
    repository: &'a Repository,
) -> impl Iterator<Item = &'a Arc<EcrTag>> {
    // Nothing sorts before a tag that begins with a digit.
    let tag = "0".parse().expect("a digit is a tag");
    let first = TagId { repository: repository.name.clone(), tag };
    let from = view.ecr_tags.from(repository.account, first);
    from.take_while(|row| row.repository == repository.name)
}

fn first_digest(repository: &Repository) -> ManifestId {
    ManifestId { repository: repository.name.clone(), digest: Digest::Sha256([0; 32]) }
}

pub(crate) fn manifest_id(repository: &Repository, digest: Digest) -> ManifestId {
    ManifestId { repository: repository.name.clone(), digest }
}

pub(crate) fn tag_id(repository: &Repository, tag: ImageTag) -> TagId {
    TagId { repository: repository.name.clone(), tag }
}

/// The repository's row, or the refusal that says that there is none.
pub(crate) fn need<'a>(
    view: &'a View,
    repository: &Repository,
) -> Result<&'a Arc<EcrRepository>, CatalogError> {
    let row = view.ecr_repositories.get(repository.account, &repository.name);
    row.ok_or_else(|| CatalogError::NoRepository(repository.clone()))
}

/// Decides on the latest rows until a decision is committed.
#[derive(Debug)]
pub struct StoreCatalog {
    control: Arc<Control>,
    /// Whether images can be scanned when they are pushed.
    has_scanner: bool,
}

impl StoreCatalog {
    async fn decide<T>(
        &self,
        decide: impl Fn(&View, Timestamp) -> Result<(Batch, T), CatalogError> + Send,
    ) -> Result<T, CatalogError>
    where
        T: Send,
    {
        let failed = |error| CatalogError::Failed(Box::new(error));
        for _ in 0..TRIES_MAX {
            let (batch, answer) = {
                let (view, now) = (self.control.store.latest(), self.control.clock.now());
                let (mut batch, answer) = decide(&view, now)?;
                self.control.tell_of(&view, &mut batch, now);
                (batch, answer)
            };
            match self.control.store.commit(batch).await {
                Ok(_) => return Ok(answer),
                Err(error) if error.is_stale() => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(CatalogError::Failed("a decision was overtaken too often".into()))
    }

    fn view(&self) -> Arc<View> {
        self.control.store.durable()
    }

    /// Removes a repository and all that is in it, a batch at a time. The repository itself goes
    /// with the last batch, so that one that was interrupted can be done again.
    pub(crate) async fn delete_repository(
        &self,
        repository: &Repository,
        may_have_images: bool,
    ) -> Result<Option<Arc<EcrRepository>>, CatalogError> {
        loop {
            let removed = self.decide(|view, _| {
                let row = need(view, repository)?;
                let mut batch = Batch::on(view);
                if !may_have_images && manifests_of(view, repository).next().is_some() {
                    return Ok((batch, Some(None)));
                }
                let account = repository.account;
                let tags = tags_of(view, repository).map(|row| Key::EcrTag(account, row.id()));
                let manifests =
                    manifests_of(view, repository).map(|row| Key::EcrManifest(account, row.id()));
                let layers =
                    layers_of(view, repository).map(|row| Key::EcrLayer(account, row.id()));
                let mut keys = tags.chain(manifests).chain(layers).take(BATCH_ROWS_MAX);
                batch.deletes.extend(keys.by_ref());
                if batch.len() == BATCH_ROWS_MAX {
                    return Ok((batch, None));
                }
                batch.delete(Key::EcrRepository(account, repository.name.clone()));
                Ok((batch, Some(Some(Arc::clone(row)))))
            });
            if let Some(removed) = removed.await? {
                return Ok(removed);
            }
        }
    }
}

impl Catalog for StoreCatalog {
    fn has_repository(&self, repository: &Repository) -> bool {
        need(&self.view(), repository).is_ok()
    }

    fn layer(&self, repository: &Repository, digest: &Digest) -> Option<u64> {
        let view = self.view();
        let id = manifest_id(repository, *digest);
        view.ecr_layers.get(repository.account, &id).map(|row| row.size)
    }

    fn tag(&self, repository: &Repository, tag: &ImageTag) -> Option<Digest> {
        let view = self.view();
        let id = tag_id(repository, tag.clone());
        view.ecr_tags.get(repository.account, &id).map(|row| row.digest)
    }

    fn manifest(&self, repository: &Repository, digest: &Digest) -> Option<StoredManifest> {
        let view = self.view();
        let row = view.ecr_manifests.get(repository.account, &manifest_id(repository, *digest))?;
        Some(StoredManifest { media_type: row.media_type.clone(), bytes: row.manifest_size })
    }

    fn tags(&self, repository: &Repository, after: Option<&str>, limit: usize) -> Vec<ImageTag> {
        let view = self.view();
        let tags = tags_of(&view, repository).map(|row| &row.tag);
        let tags = tags.filter(|tag| after.is_none_or(|after| tag.as_str() > after));
        tags.take(limit).cloned().collect()
    }

    fn repositories(
        &self,
        account: AccountId,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<RepositoryName> {
        let view = self.view();
        let names = view.ecr_repositories.of(account).map(|row| &row.name);
        let names = names.filter(|name| after.is_none_or(|after| name.as_str() > after));
        names.take(limit).cloned().collect()
    }

    fn referrers(&self, repository: &Repository, subject: &Digest) -> Vec<Referrer> {
        let view = self.view();
        let rows = manifests_of(&view, repository);
        rows.filter(|row| row.subject == Some(*subject))
            .map(|row| Referrer {
                digest: row.digest,
                media_type: row.media_type.clone(),
                bytes: row.manifest_size,
                artifact_type: row.artifact_type.clone(),
                annotations: row.annotations.clone(),
            })
            .collect()
    }

    fn pulled(&self, repository: &Repository, digest: &Digest) {
        let (view, now) = (self.control.store.latest(), self.control.clock.now());
        let id = manifest_id(repository, *digest);
        let Some(row) = view.ecr_manifests.get(repository.account, &id) else { return };
        if row.last_pull_at.is_some_and(|last| now.since_ms(last) < PULL_NOTE_MS_MIN) {
            return;
        }
        let mut batch = Batch::on(&view);
        batch.put(EcrManifest { last_pull_at: Some(now), ..row.as_ref().clone() });
        // Whoever was quicker has noted something newer, and a lost note is only a lost note.
        drop(self.control.store.submit(batch));
    }

    async fn link(
        &self,
        repository: &Repository,
        digest: Digest,
        bytes: u64,
    ) -> Result<(), CatalogError> {
        self.decide(|view, now| {
            need(view, repository)?;
            let mut batch = Batch::on(view);
            batch.rely(Key::EcrRepository(repository.account, repository.name.clone()));
            batch.put(EcrLayer {
                account: repository.account,
                repository: repository.name.clone(),
                digest,
                size: bytes,
                linked_at: now,
            });
            Ok((batch, ()))
        })
        .await
    }

    async fn unlink(&self, repository: &Repository, digest: Digest) -> Result<(), CatalogError> {
        self.decide(|view, _| {
            need(view, repository)?;
            let mut rows = manifests_of(view, repository);
            let by = rows.find(|row| row.layers.contains(&digest) || row.config == Some(digest));
            if let Some(by) = by {
                let (digest, by) = (Box::new(digest), Box::new(by.digest));
                return Err(CatalogError::LayerReferenced { digest, by });
            }
            let mut batch = Batch::on(view);
            batch.delete(Key::EcrLayer(repository.account, manifest_id(repository, digest)));
            Ok((batch, ()))
        })
        .await
    }

    async fn put(
        &self,
        repository: &Repository,
        manifest: NewManifest,
        tag: Option<ImageTag>,
    ) -> Result<(), CatalogError> {
        self.decide(|view, now| {
            let row = need(view, repository)?;
            let mut batch = Batch::on(view);
            batch.rely(Key::EcrRepository(repository.account, repository.name.clone()));
            let is_scanned = self.has_scanner
                && scanning::is_on_push(view, row)
                && scanning::is_image(manifest.config_media_type.as_deref());
            let scan = is_scanned.then(|| ImageScan::asked(now));
            put_manifest(view, now, repository, (&manifest, scan), &mut batch)?;
            if let Some(tag) = &tag {
                put_tag(view, now, row, manifest.digest, tag, &mut batch)?;
            }
            Ok((batch, ()))
        })
        .await
    }

    async fn delete_manifest(
        &self,
        repository: &Repository,
        digest: Digest,
    ) -> Result<bool, CatalogError> {
        loop {
            let done = self.decide(|view, _| remove_manifest(view, repository, digest));
            if let Some(done) = done.await? {
                return Ok(done);
            }
        }
    }

    async fn delete_tag(
        &self,
        repository: &Repository,
        tag: ImageTag,
    ) -> Result<bool, CatalogError> {
        self.decide(|view, _| {
            need(view, repository)?;
            let mut batch = Batch::on(view);
            let id = tag_id(repository, tag.clone());
            let was_there = view.ecr_tags.get(repository.account, &id).is_some();
            if was_there {
                batch.delete(Key::EcrTag(repository.account, id));
            }
            Ok((batch, was_there))
        })
        .await
    }

    async fn unlink_orphans(&self, before: Timestamp) -> Result<usize, CatalogError> {
        let mut unlinked = 0;
        loop {
            let count = self.decide(|view, _| {
                let named = named_layers(view);
                let orphans = view.ecr_layers.iter().filter(|row| {
                    row.linked_at < before
                        && !named.contains(&(row.account, &row.repository, row.digest))
                });
                let mut batch = Batch::on(view);
                let keys = orphans.map(|row| Key::EcrLayer(row.account, row.id()));
                batch.deletes.extend(keys.take(BATCH_ROWS_MAX));
                let count = batch.len();
                Ok((batch, count))
            });
            let count = count.await?;
            unlinked += count;
            if count < BATCH_ROWS_MAX {
                return Ok(unlinked);
            }
        }
    }

    fn digests(&self) -> BTreeSet<Digest> {
        // What is durable and what is about to be.
        let mut digests = BTreeSet::new();
        for view in [self.control.store.durable(), self.control.store.latest()] {
            digests.extend(view.ecr_layers.iter().map(|row| row.digest));
            digests.extend(view.ecr_manifests.iter().map(|row| row.digest));
        }
        digests
    }
}

/// Every layer that some manifest of its repository names.
fn named_layers(view: &View) -> BTreeSet<(AccountId, &RepositoryName, Digest)> {
    let rows = view.ecr_manifests.iter();
    rows.flat_map(|row| {
        let layers = row.layers.iter().chain(&row.config);
        layers.map(|digest| (row.account, &row.repository, *digest))
    })
    .collect()
}

/// Removes a manifest and its tags, as many as a batch takes; says whether it was there once that is all.
pub(crate) fn remove_manifest(
    view: &View,
    repository: &Repository,
    digest: Digest,
) -> Result<(Batch, Option<bool>), CatalogError> {
    need(view, repository)?;
    let mut batch = Batch::on(view);
    let id = manifest_id(repository, digest);
    if view.ecr_manifests.get(repository.account, &id).is_none() {
        return Ok((batch, Some(false)));
    }
    let mut rows = manifests_of(view, repository);
    if let Some(by) = rows.find(|row| row.manifests.contains(&digest)) {
        let (digest, by) = (Box::new(digest), Box::new(by.digest));
        return Err(CatalogError::Referenced { digest, by });
    }
    let tags = tags_of(view, repository).filter(|row| row.digest == digest);
    let keys = tags.map(|row| Key::EcrTag(row.account, row.id()));
    batch.deletes.extend(keys.take(BATCH_ROWS_MAX));
    if batch.len() == BATCH_ROWS_MAX {
        return Ok((batch, None));
    }
    batch.delete(Key::EcrManifest(repository.account, id));
    Ok((batch, Some(true)))
}

fn put_manifest(
    view: &View,
    now: Timestamp,
    repository: &Repository,
    (manifest, scan): (&NewManifest, Option<ImageScan>),
    batch: &mut Batch,
) -> Result<(), CatalogError> {
    let account = repository.account;
    let mut missing = BTreeSet::new();
    for layer in manifest.config.iter().chain(&manifest.layers) {
        let id = manifest_id(repository, *layer);
        if view.ecr_layers.get(account, &id).is_none() {
            missing.insert(*layer);
        }
        batch.rely(Key::EcrLayer(account, id));
    }
    if !missing.is_empty() {
        let (repository, missing) = (repository.clone(), missing.into_iter().collect());
        return Err(CatalogError::MissingLayers { repository, missing });
    }
    let mut image_size = manifest.content_bytes;
    for child in &manifest.children {
        let id = manifest_id(repository, *child);
        match view.ecr_manifests.get(account, &id) {
            Some(row) => {
                // What an index takes is what its largest image takes.
                image_size = image_size.max(row.image_size);
                // Written as it is, so that whoever decided to delete what nothing lists looks again.
                batch.put(EcrManifest::clone(row));
            }
            None => drop(missing.insert(*child)),
        }
    }
    if !missing.is_empty() {
        let (repository, missing) = (repository.clone(), missing.into_iter().collect());
        return Err(CatalogError::MissingManifests { repository, missing });
    }
    let id = manifest_id(repository, manifest.digest);
    if view.ecr_manifests.get(account, &id).is_some() {
        batch.rely(Key::EcrManifest(account, id));
        return Ok(());
    }
    if manifests_of(view, repository).count() >= IMAGES_PER_REPOSITORY_MAX {
        return Err(CatalogError::Limit { what: "images", max: IMAGES_PER_REPOSITORY_MAX });
    }
    batch.put(EcrManifest {
        account,
        repository: repository.name.clone(),
        digest: manifest.digest,
        media_type: manifest.media_type.clone(),
        manifest_size: manifest.bytes,
        image_size,
        pushed_at: now,
        last_pull_at: None,
        config: manifest.config,
        config_media_type: manifest.config_media_type.clone(),
        layers: manifest.layers.clone(),
        manifests: manifest.children.clone(),
        subject: manifest.subject,
        artifact_type: manifest.artifact_type.clone(),
        annotations: manifest.annotations.clone(),
        scan,
    });
    Ok(())
}

fn put_tag(
    view: &View,
    now: Timestamp,
    row: &EcrRepository,
    digest: Digest,
    tag: &ImageTag,
    batch: &mut Batch,
) -> Result<(), CatalogError> {
    let repository = Repository { account: row.account, name: row.name.clone() };
    let known = view.ecr_tags.get(row.account, &tag_id(&repository, tag.clone()));
    if known.is_some_and(|known| known.digest == digest) {
        return Ok(());
    }
    if known.is_some() && row.is_fixed(tag) {
        return Err(CatalogError::FixedTag { repository, tag: tag.clone() });
    }
    if tags_of(view, &repository).filter(|known| known.digest == digest).count()
        >= TAGS_PER_IMAGE_MAX
    {
        return Err(CatalogError::Limit { what: "tags of an image", max: TAGS_PER_IMAGE_MAX });
    }
    // Written as it is, so that whoever decided to delete it untagged looks again.
    if let Some(tagged) = view.ecr_manifests.get(row.account, &manifest_id(&repository, digest)) {
        batch.put(EcrManifest::clone(tagged));
    }
    batch.put(EcrTag {
        account: row.account,
        repository: row.name.clone(),
        tag: tag.clone(),
        digest,
        tagged_at: now,
        checked_at: None,
    });
    Ok(())
}
