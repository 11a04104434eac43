//! The port to whoever knows which repository has what.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::future::Future;

use image::{Digest, ImageTag, RepositoryName};
use longshore_types::{AccountId, Timestamp};

/// Names one repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    pub account: AccountId,
    pub name: RepositoryName,
}

/// A manifest that is to be put, and what it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewManifest {
    pub digest: Digest,
    pub media_type: String,
    pub bytes: u64,
    pub config: Option<Digest>,
    pub config_media_type: Option<String>,
    /// Layers that must be in the repository; those that may not be distributed are not among them.
    pub layers: Vec<Digest>,
    /// What all that the manifest names takes together.
    pub content_bytes: u64,
    /// The manifests of an index.
    pub children: Vec<Digest>,
    pub subject: Option<Digest>,
    pub artifact_type: Option<String>,
    pub annotations: BTreeMap<String, String>,
}

/// A manifest that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredManifest {
    pub media_type: String,
    pub bytes: u64,
}

/// A manifest that says something about another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    pub digest: Digest,
    pub media_type: String,
    pub bytes: u64,
    pub artifact_type: Option<String>,
    pub annotations: BTreeMap<String, String>,
}

/// Why the catalog did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error(
        "The repository with name '{}' does not exist in the registry with id '{}'",
        .0.name, .0.account
    )]
    NoRepository(Repository),
    #[error("Layers with digests '{}' required for pushing image into repository with name '{}' \
             in the registry with id '{}' do not exist", List(.missing), .repository.name, .repository.account)]
    MissingLayers { repository: Repository, missing: Vec<Digest> },
    #[error("Images with digests '{}' required for pushing image into repository with name '{}' \
             in the registry with id '{}' do not exist", List(.missing), .repository.name, .repository.account)]
    MissingManifests { repository: Repository, missing: Vec<Digest> },
    #[error(
        "The image tag '{tag}' already exists in the '{}' repository and cannot be overwritten \
         because the tag is immutable.", .repository.name
    )]
    FixedTag { repository: Repository, tag: ImageTag },
    #[error("The image with digest '{digest}' is referenced by manifest list: '{by}'")]
    Referenced { digest: Box<Digest>, by: Box<Digest> },
    #[error("The layer with digest '{digest}' is referenced by the image with digest '{by}'")]
    LayerReferenced { digest: Box<Digest>, by: Box<Digest> },
    #[error("the limit of {max} {what} has been reached")]
    Limit { what: &'static str, max: usize },
    #[error("the catalog failed")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
}

struct List<'a>(&'a [Digest]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, digest) in self.0.iter().enumerate() {
            write!(f, "{}{digest}", if index == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}

/// Knows repositories, their manifests, tags and layers.
///
/// What is read is what was acknowledged; a write's future ends when it is durable.
pub trait Catalog: Send + Sync + fmt::Debug + 'static {
    fn has_repository(&self, repository: &Repository) -> bool;

    /// The length of a layer or configuration that the repository has.
    fn layer(&self, repository: &Repository, digest: &Digest) -> Option<u64>;

    fn tag(&self, repository: &Repository, tag: &ImageTag) -> Option<Digest>;

    fn manifest(&self, repository: &Repository, digest: &Digest) -> Option<StoredManifest>;

    /// Tags in order, those after `after`, at most `limit`.
    fn tags(&self, repository: &Repository, after: Option<&str>, limit: usize) -> Vec<ImageTag>;

    /// Repositories in order, those after `after`, at most `limit`.
    fn repositories(
        &self,
        account: AccountId,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<RepositoryName>;

    /// What the repository has that says something about `subject`.
    fn referrers(&self, repository: &Repository, subject: &Digest) -> Vec<Referrer>;

    /// Tells that an image was pulled. May be lost.
    fn pulled(&self, repository: &Repository, digest: &Digest);

    /// Makes a blob a layer of the repository.
    fn link(
        &self,
        repository: &Repository,
        digest: Digest,
        bytes: u64,
    ) -> impl Future<Output = Result<(), CatalogError>> + Send;

    /// Takes a blob out of the repository, unless a manifest there names it.
    fn unlink(
        &self,
        repository: &Repository,
        digest: Digest,
    ) -> impl Future<Output = Result<(), CatalogError>> + Send;

    /// Puts a manifest, and a tag on it. All that it names must be in the repository.
    fn put(
        &self,
        repository: &Repository,
        manifest: NewManifest,
        tag: Option<ImageTag>,
    ) -> impl Future<Output = Result<(), CatalogError>> + Send;

    /// Removes a manifest and its tags; `false` if it was not there.
    fn delete_manifest(
        &self,
        repository: &Repository,
        digest: Digest,
    ) -> impl Future<Output = Result<bool, CatalogError>> + Send;

    /// Removes a tag; `false` if it was not there.
    fn delete_tag(
        &self,
        repository: &Repository,
        tag: ImageTag,
    ) -> impl Future<Output = Result<bool, CatalogError>> + Send;

    /// Forgets layers that no manifest of their repository names and that were linked before `before`.
    fn unlink_orphans(
        &self,
        before: Timestamp,
    ) -> impl Future<Output = Result<usize, CatalogError>> + Send;

    /// Every digest that some repository has, as blob or manifest, durably or not yet.
    fn digests(&self) -> BTreeSet<Digest>;
}
