//! Brings one image from upstream into a repository: its blobs first, then its manifest, then its tag.
//!
//! **Invariant:** nothing is served of what is not whole and what it is called by its digest. A manifest that lists others
//! comes with all of them, as at ECR.

use std::sync::Arc;

use image::manifest::{Descriptor, Manifest};
use image::{BlobError, ClientError, Flights, Hasher, Upstream};
use longshore_types::{Chain, Digest, ImageTag};
use registry::{
    Catalog as _, CatalogError, LAYER_BYTES_MAX, RegistryError, Repository, UpstreamFailure,
    describe,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::catalog::RegionRegistry;

/// Manifests that one image may consist of.
const MANIFESTS_MAX: usize = 200;
/// Bytes of those manifests together, which are held until all is here.
const MANIFEST_BYTES_MAX: usize = 16 << 20;
/// How deep lists of manifests may lie in each other.
const DEPTH_MAX: usize = 3;
/// Blobs of one image that are fetched at the same time.
const BLOBS_AT_ONCE: usize = 4;

/// Why an image did not come.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("it gave something else than {expected}, with the digest {actual}")]
    OtherContent { expected: Box<Digest>, actual: Box<Digest> },
    #[error("{0} is larger than a layer may be")]
    TooLarge(Digest),
    #[error("the image consists of too many or too large manifests")]
    TooMany,
    #[error("{0}")]
    Credentials(String),
    #[error("a worker died")]
    Worker,
}

impl FetchError {
    /// Whether upstream has said that there is no such image.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Client(ClientError::Status { status: 404, .. }))
    }

    /// As a failed pull says it of an image that it calls `shown`.
    pub(super) fn into_refusal(self, shown: &str) -> RegistryError {
        let failure = match self {
            Self::Registry(error) => return error,
            Self::Client(ClientError::Blob(error)) => return RegistryError::Blob(error),
            _ if self.is_not_found() => return RegistryError::ManifestUnknown(shown.to_owned()),
            Self::Client(ClientError::Denied { .. } | ClientError::NotAllowed { .. })
            | Self::Credentials(_) => UpstreamFailure::Denied,
            Self::Client(ClientError::Status { status: 429, .. }) => {
                UpstreamFailure::TooManyRequests
            }
            Self::Client(
                ClientError::NoSuchHost { .. }
                | ClientError::Unreachable { .. }
                | ClientError::TimedOut { .. }
                | ClientError::Status { .. }
                | ClientError::Protocol { .. },
            )
            | Self::OtherContent { .. }
            | Self::TooLarge(_)
            | Self::TooMany
            | Self::Worker => UpstreamFailure::Away,
        };
        let why = format!("failed to pull {shown} from upstream: {}", Chain(&self));
        RegistryError::Upstream(failure, why)
    }
}

/// One image on its way here.
pub(super) struct Fetch {
    pub(super) registry: Arc<RegionRegistry>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) repository: Repository,
    /// Blobs that somebody is fetching into a repository.
    pub(super) blobs: Arc<Flights<(Repository, Digest)>>,
}

impl Fetch {
    /// The bytes of a manifest, which are what they are called.
    pub(super) async fn manifest(&self, digest: &Digest) -> Result<Taken, FetchError> {
        let (bytes, said) = self.upstream.manifest(&digest.to_string()).await?;
        let mut hasher = Hasher::like(digest);
        hasher.update(&bytes);
        let actual = hasher.finish();
        if actual != *digest {
            return Err(FetchError::OtherContent {
                expected: Box::new(*digest),
                actual: Box::new(actual),
            });
        }
        Ok(Taken { digest: *digest, bytes, said })
    }

    /// Brings all that a manifest names, and then itself under its tag.
    pub(super) async fn image(&self, root: Taken, tag: Option<ImageTag>) -> Result<(), FetchError> {
        // Lists before what they list; stored from the end, so that nothing is there before its parts.
        let mut bytes = root.bytes.len();
        let (mut level, mut all) = (vec![root], Vec::new());
        for _ in 0..DEPTH_MAX {
            let mut next = Vec::new();
            for taken in level {
                let parsed = parse(&taken)?;
                for child in children(&parsed) {
                    if self.registry.catalog().manifest(&self.repository, &child).is_some() {
                        continue;
                    }
                    if MANIFESTS_MAX <= all.len() + next.len() || MANIFEST_BYTES_MAX < bytes {
                        return Err(FetchError::TooMany);
                    }
                    let child = self.manifest(&child).await?;
                    bytes += child.bytes.len();
                    next.push(child);
                }
                all.push((taken, parsed));
            }
            level = next;
        }
        if !level.is_empty() {
            return Err(FetchError::TooMany);
        }
        let mut blobs: Vec<Descriptor> = Vec::new();
        for blob in all.iter().flat_map(|(_, manifest)| blobs_of(manifest)) {
            if !blobs.iter().any(|known| known.digest == blob.digest) {
                blobs.push(blob.clone());
            }
        }
        self.blobs(blobs).await?;
        for (index, (taken, _)) in all.into_iter().enumerate().rev() {
            let manifest = describe(&taken.bytes, taken.said.as_deref(), taken.digest)?;
            // The one that was asked for comes last.
            let tag = tag.clone().filter(|_| index == 0);
            self.registry.store_manifest(&self.repository, taken.bytes, manifest, tag).await?;
        }
        Ok(())
    }

    /// Brings blobs, a few at a time. What fails ends the others.
    async fn blobs(&self, blobs: Vec<Descriptor>) -> Result<(), FetchError> {
        let seats = Arc::new(Semaphore::new(BLOBS_AT_ONCE));
        let mut work = JoinSet::new();
        for blob in blobs {
            let one = Blob {
                registry: Arc::clone(&self.registry),
                upstream: Arc::clone(&self.upstream),
                repository: self.repository.clone(),
                flights: Arc::clone(&self.blobs),
            };
            let seats = Arc::clone(&seats);
            work.spawn(async move {
                let _seat = seats.acquire().await;
                one.bring(&blob).await
            });
        }
        while let Some(done) = work.join_next().await {
            done.map_err(|_| FetchError::Worker)??;
        }
        Ok(())
    }
}

/// One blob on its way here.
struct Blob {
    registry: Arc<RegionRegistry>,
    upstream: Arc<Upstream>,
    repository: Repository,
    flights: Arc<Flights<(Repository, Digest)>>,
}

impl Blob {
    /// Only what the repository has itself is not fetched again: that another one has the blob does not say that it may be had here.
    async fn bring(&self, blob: &Descriptor) -> Result<(), FetchError> {
        if LAYER_BYTES_MAX < blob.size {
            return Err(FetchError::TooLarge(blob.digest));
        }
        let _flight = self.flights.enter((self.repository.clone(), blob.digest)).await;
        if self.registry.catalog().layer(&self.repository, &blob.digest).is_some() {
            return Ok(());
        }
        let (blobs, digest) = (self.registry.blobs().clone(), blob.digest);
        let writer = tokio::task::spawn_blocking(move || blobs.writer(&digest)).await;
        let writer = writer.map_err(|_| FetchError::Worker)?.map_err(RegistryError::Blob)?;
        let (writer, fetched) = self.upstream.blob(blob, writer, &|_| {}).await;
        fetched?;
        let writer = writer.ok_or(FetchError::Worker)?;
        let added = self.registry.add_layer(&self.repository, writer, digest).await;
        added.map_err(|error| match error {
            RegistryError::Blob(BlobError::DigestMismatch(mismatch)) => FetchError::OtherContent {
                expected: Box::new(mismatch.expected),
                actual: Box::new(mismatch.actual),
            },
            error => error.into(),
        })
    }
}

/// A manifest that was fetched and is what it is called.
#[derive(Debug)]
pub(super) struct Taken {
    digest: Digest,
    bytes: bytes::Bytes,
    said: Option<String>,
}

fn parse(taken: &Taken) -> Result<Manifest, FetchError> {
    let parsed = Manifest::parse(&taken.bytes, taken.said.as_deref());
    Ok(parsed.map_err(|error| RegistryError::ManifestInvalid(Chain(&error).to_string()))?)
}

/// What a list lists.
fn children(manifest: &Manifest) -> Vec<Digest> {
    match manifest {
        Manifest::Image(_) => Vec::new(),
        Manifest::Index(index) => index.manifests.iter().map(|child| child.digest).collect(),
    }
}

/// What an image consists of, less what may not be distributed.
fn blobs_of(manifest: &Manifest) -> Vec<&Descriptor> {
    match manifest {
        Manifest::Image(image) => {
            let layers = image.layers.iter().filter(|layer| layer.urls.is_empty());
            layers.chain([&image.config]).collect()
        }
        Manifest::Index(_) => Vec::new(),
    }
}

/// Whether a tag can't be moved to what it means upstream now.
pub(super) fn is_fixed_tag(error: &FetchError) -> bool {
    matches!(error, FetchError::Registry(RegistryError::Catalog(CatalogError::FixedTag { .. })))
}
