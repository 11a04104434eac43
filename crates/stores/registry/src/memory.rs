//! A catalog and an authorizer in memory, for tests and benches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_wire::Origin;
use image::{Digest, ImageTag, RepositoryName};
use longshore_types::{AccountId, Timestamp};

use crate::auth::{Admitted, Authorizer, Operation, Target, USER};
use crate::catalog::{Catalog, CatalogError, NewManifest, Referrer, Repository, StoredManifest};
use crate::error::RegistryError;

/// Keeps the contract of [`Catalog`] and forgets everything when it goes.
#[derive(Debug, Default)]
pub struct MemoryCatalog(Mutex<BTreeMap<Repository, Contents>>);

#[derive(Debug, Default)]
struct Contents {
    is_immutable: bool,
    layers: BTreeMap<Digest, u64>,
    manifests: BTreeMap<Digest, NewManifest>,
    tags: BTreeMap<ImageTag, Digest>,
}

impl MemoryCatalog {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Repository, Contents>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn create(&self, repository: Repository, is_immutable: bool) {
        self.lock().insert(repository, Contents { is_immutable, ..Contents::default() });
    }

    fn change<T>(
        &self,
        repository: &Repository,
        change: impl FnOnce(&mut Contents) -> Result<T, CatalogError>,
    ) -> Result<T, CatalogError> {
        match self.lock().get_mut(repository) {
            Some(contents) => change(contents),
            None => Err(CatalogError::NoRepository(repository.clone())),
        }
    }
}

impl Catalog for MemoryCatalog {
    fn has_repository(&self, repository: &Repository) -> bool {
        self.lock().contains_key(repository)
    }

    fn layer(&self, repository: &Repository, digest: &Digest) -> Option<u64> {
        self.lock().get(repository)?.layers.get(digest).copied()
    }

    fn tag(&self, repository: &Repository, tag: &ImageTag) -> Option<Digest> {
        self.lock().get(repository)?.tags.get(tag).copied()
    }

    fn manifest(&self, repository: &Repository, digest: &Digest) -> Option<StoredManifest> {
        let repositories = self.lock();
        let manifest = repositories.get(repository)?.manifests.get(digest)?;
        Some(StoredManifest { media_type: manifest.media_type.clone(), bytes: manifest.bytes })
    }

    fn tags(&self, repository: &Repository, after: Option<&str>, limit: usize) -> Vec<ImageTag> {
        let repositories = self.lock();
        let tags = repositories.get(repository).into_iter().flat_map(|found| found.tags.keys());
        let tags = tags.filter(|tag| after.is_none_or(|after| tag.as_str() > after));
        tags.take(limit).cloned().collect()
    }

    fn repositories(
        &self,
        account: AccountId,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<RepositoryName> {
        let repositories = self.lock();
        let names = repositories.keys().filter(|repository| repository.account == account);
        let names = names.map(|repository| &repository.name);
        let names = names.filter(|name| after.is_none_or(|after| name.as_str() > after));
        names.take(limit).cloned().collect()
    }

    fn referrers(&self, repository: &Repository, subject: &Digest) -> Vec<Referrer> {
        let repositories = self.lock();
        let found = repositories.get(repository).into_iter().flat_map(|it| it.manifests.values());
        let found = found.filter(|manifest| manifest.subject == Some(*subject));
        found
            .map(|manifest| Referrer {
                digest: manifest.digest,
                media_type: manifest.media_type.clone(),
                bytes: manifest.bytes,
                artifact_type: manifest.artifact_type.clone(),
                annotations: manifest.annotations.clone(),
            })
            .collect()
    }

    fn pulled(&self, _: &Repository, _: &Digest) {}

    async fn link(
        &self,
        repository: &Repository,
        digest: Digest,
        bytes: u64,
    ) -> Result<(), CatalogError> {
        self.change(repository, |contents| {
            contents.layers.insert(digest, bytes);
            Ok(())
        })
    }

    async fn unlink(&self, repository: &Repository, digest: Digest) -> Result<(), CatalogError> {
        self.change(repository, |contents| {
            let mut manifests = contents.manifests.values();
            let names =
                |it: &&NewManifest| it.layers.contains(&digest) || it.config == Some(digest);
            if let Some(by) = manifests.find(names) {
                return Err(CatalogError::LayerReferenced {
                    digest: Box::new(digest),
                    by: Box::new(by.digest),
                });
            }
            contents.layers.remove(&digest);
            Ok(())
        })
    }

    async fn put(
        &self,
        repository: &Repository,
        manifest: NewManifest,
        tag: Option<ImageTag>,
    ) -> Result<(), CatalogError> {
        self.change(repository, |contents| {
            let repository = repository.clone();
            let layers = manifest.config.iter().chain(&manifest.layers);
            let missing: Vec<_> =
                layers.filter(|layer| !contents.layers.contains_key(*layer)).copied().collect();
            if !missing.is_empty() {
                return Err(CatalogError::MissingLayers { repository, missing });
            }
            let children = manifest.children.iter();
            let missing: Vec<_> = children
                .filter(|child| !contents.manifests.contains_key(*child))
                .copied()
                .collect();
            if !missing.is_empty() {
                return Err(CatalogError::MissingManifests { repository, missing });
            }
            let digest = manifest.digest;
            if let Some(tag) = tag {
                let is_other = contents.tags.get(&tag).is_some_and(|now| *now != digest);
                if is_other && contents.is_immutable {
                    return Err(CatalogError::FixedTag { repository, tag });
                }
                contents.tags.insert(tag, digest);
            }
            contents.manifests.insert(digest, manifest);
            Ok(())
        })
    }

    async fn delete_manifest(
        &self,
        repository: &Repository,
        digest: Digest,
    ) -> Result<bool, CatalogError> {
        self.change(repository, |contents| {
            let by = contents.manifests.values().find(|it| it.children.contains(&digest));
            if let Some(by) = by {
                return Err(CatalogError::Referenced {
                    digest: Box::new(digest),
                    by: Box::new(by.digest),
                });
            }
            contents.tags.retain(|_, target| *target != digest);
            Ok(contents.manifests.remove(&digest).is_some())
        })
    }

    async fn delete_tag(
        &self,
        repository: &Repository,
        tag: ImageTag,
    ) -> Result<bool, CatalogError> {
        self.change(repository, |contents| Ok(contents.tags.remove(&tag).is_some()))
    }

    async fn unlink_orphans(&self, _: Timestamp) -> Result<usize, CatalogError> {
        let mut unlinked = 0;
        for contents in self.lock().values_mut() {
            let named: BTreeSet<Digest> = contents
                .manifests
                .values()
                .flat_map(|manifest| manifest.layers.iter().chain(&manifest.config).copied())
                .collect();
            let before = contents.layers.len();
            contents.layers.retain(|digest, _| named.contains(digest));
            unlinked += before - contents.layers.len();
        }
        Ok(unlinked)
    }

    fn digests(&self) -> BTreeSet<Digest> {
        let repositories = self.lock();
        let each = repositories.values();
        each.flat_map(|contents| contents.layers.keys().chain(contents.manifests.keys()).copied())
            .collect()
    }
}

/// Lets in whoever gives an account's number as password. After a `/` may follow what alone that caller may
/// do, as in `123456789012/GetManifest,GetBlob`.
#[derive(Debug, Default)]
pub struct NumberAuthorizer;

/// Who gave a number.
#[derive(Debug)]
pub struct NumberCaller {
    account: AccountId,
    may_only: Option<String>,
}

impl Authorizer for NumberAuthorizer {
    type Caller = NumberCaller;

    fn admit(&self, user: &str, password: &str, _: &Origin) -> Option<Admitted<NumberCaller>> {
        let (number, may_only) = match password.split_once('/') {
            Some((number, may_only)) => (number, Some(may_only.to_owned())),
            None => (password, None),
        };
        let account = number.parse().ok().filter(|_| user == USER)?;
        Some(Admitted { registry: account, account, caller: NumberCaller { account, may_only } })
    }

    fn grant(&self, _: &str, _: &RepositoryName, _: &Digest) -> Option<AccountId> {
        None
    }

    fn authorize(
        &self,
        caller: &NumberCaller,
        operation: Operation,
        on: Target<'_>,
    ) -> Result<(), RegistryError> {
        let NumberCaller { account, may_only } = caller;
        let name = format!("{operation:?}");
        match may_only.as_ref().is_none_or(|names| names.split(',').any(|it| it == name)) {
            true => Ok(()),
            false => Err(RegistryError::Denied(format!("{account} may not {name} on {on:?}"))),
        }
    }
}
