//! Brings an image here: resolve its name, fetch what is missing, verify, unpack.
//!
//! Nothing is fetched twice: layers that are here are used as they are, the same layer wanted by
//! two pulls is fetched by one of them, and a fetch that broke off goes on where it stopped.
//!
//! **Invariant:** what is here is used only for whom a registry that has given it, byte by byte, says now
//! that they may have it. A digest alone opens nothing: whoever knows one may know it from somebody
//! else, and a registry of their own will say yes to anything. What another host sends where the region's registry said
//! that it may ([`hosts`]) counts as given by that registry, once it is verified.

mod fetch;
mod hosts;

use std::sync::Arc;

use bytes::Bytes;
use longshore_types::Digest;
use tokio::sync::Semaphore;

use crate::blobs::BlobError;
use crate::client::{Auth, ClientError, Transport, Upstream};
use crate::config::ConfigFile;
use crate::error::{ImageError, PullError};
use crate::manifest::{
    CONFIG_BYTES_MAX, Descriptor, ImageManifest, Manifest, ManifestError, Platform,
};
use crate::mirrors::Mirrors;
use crate::progress::{Event, Progress};
use crate::reference::Reference;
use crate::share::LayerSharing;
use crate::shares::Shares;
use crate::store::{ImageRecord, ImageStore, Lease, PulledImage, Right};

/// How images are pulled.
#[derive(Clone, Debug)]
pub struct PullerConfig {
    pub platform: Platform,
    pub mirrors: Mirrors,
    /// Layers fetched at the same time by one account from one registry.
    pub fetches_max: usize,
    /// Layers unpacked at the same time, over all pulls.
    pub unpacks_max: usize,
    /// How layers come from other hosts; without it they come from registries alone.
    pub sharing: Option<Arc<LayerSharing>>,
}

impl Default for PullerConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            platform: Platform::host(),
            mirrors: Mirrors::default(),
            fetches_max: 6,
            unpacks_max: cores,
            sharing: None,
        }
    }
}

/// Pulls images into a store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Puller {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: ImageStore,
    transport: Transport,
    config: PullerConfig,
    /// By account and registry.
    fetches: Shares<(Option<String>, String)>,
    unpacks: Arc<Semaphore>,
}

/// One image at one registry.
struct Source {
    upstream: Upstream,
    /// The account that asks.
    owner: Option<String>,
    reference: Reference,
    /// The name as the user wrote it, for errors.
    shown: String,
    dropped: hosts::Dropped,
}

impl Source {
    fn new(transport: &Transport, reference: Reference, shown: &Reference, auth: &Auth) -> Self {
        Self {
            upstream: Upstream::new(transport, &reference, auth),
            owner: auth.owner().map(str::to_owned),
            shown: shown.to_string(),
            reference,
            dropped: hosts::Dropped::default(),
        }
    }

    fn failed(&self, error: ClientError) -> PullError {
        PullError::of_client(&self.shown, error)
    }

    fn store_failed(&self, error: impl Into<ImageError>) -> PullError {
        PullError::of_store(&self.shown, error.into())
    }
}

/// What a name meant, with the manifest for our platform.
struct Resolved {
    digest: Digest,
    manifest_digest: Digest,
    manifest: Box<ImageManifest>,
    /// What was kept of it stays while it is pulled.
    _kept: Vec<Lease>,
}

impl Puller {
    pub fn new(store: ImageStore, transport: Transport, config: PullerConfig) -> Self {
        let fetches = Shares::new(config.fetches_max);
        let unpacks = Arc::new(Semaphore::new(config.unpacks_max.max(1)));
        Self { inner: Arc::new(Inner { store, transport, config, fetches, unpacks }) }
    }

    pub fn store(&self) -> &ImageStore {
        &self.inner.store
    }

    /// Brings the image here, or finds that it is here already.
    pub async fn pull(
        &self,
        reference: &Reference,
        auth: &Auth,
        progress: &Progress,
    ) -> Result<PulledImage, PullError> {
        let shown = reference.to_string();
        let mut first_failure: Option<PullError> = None;
        for candidate in self.inner.config.mirrors.candidates(reference) {
            let is_mirror = candidate != *reference;
            if !is_mirror && first_failure.is_some() && !Mirrors::may_know_more(&candidate, auth) {
                break;
            }
            let source = Source::new(&self.inner.transport, candidate, reference, auth);
            let right = Right::new(reference, auth.owner(), source.upstream.host());
            let error = match self.pull_from(&source, &right, progress).await {
                Ok(image) => return Ok(image),
                Err(error) => error,
            };
            // What it gave before it does not take back by being out of reach.
            if error.is_out_of_reach()
                && let Some(image) = self.known(&source, &right).await?
            {
                tracing::info!(image = %shown, %error, "image taken as it is here");
                return Ok(image);
            }
            if !is_mirror {
                return Err(error);
            }
            tracing::debug!(image = %shown, mirror = %source.reference, %error, "not at the mirror");
            first_failure.get_or_insert(error);
        }
        Err(first_failure.unwrap_or(PullError::NotFound { image: shown }))
    }

    /// What the name means at its registry now, without fetching more than that.
    pub async fn resolve(&self, reference: &Reference, auth: &Auth) -> Result<Digest, PullError> {
        let mut failure = PullError::NotFound { image: reference.to_string() };
        for candidate in self.inner.config.mirrors.candidates(reference) {
            let source = Source::new(&self.inner.transport, candidate, reference, auth);
            match self.resolve_digest(&source).await {
                Ok(digest) => return Ok(digest),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// The image of this digest, if all of it is here and came from this registry.
    async fn present(
        &self,
        source: &Source,
        digest: Digest,
    ) -> Result<Option<PulledImage>, PullError> {
        let (store, host) = (self.inner.store.clone(), source.upstream.host().to_owned());
        let found = blocking(move || store.image_from(&digest, &host)).await;
        found.map_err(|error| source.store_failed(error))
    }

    /// What was pulled with this right before.
    async fn known(
        &self,
        source: &Source,
        right: &Right,
    ) -> Result<Option<PulledImage>, PullError> {
        let (store, right) = (self.inner.store.clone(), right.clone());
        let found = blocking(move || store.known(&right)).await;
        found.map_err(|error| source.store_failed(error))
    }

    async fn pull_from(
        &self,
        source: &Source,
        right: &Right,
        progress: &Progress,
    ) -> Result<PulledImage, PullError> {
        let digest = self.resolve_digest(source).await?;
        if let Some(image) = self.present(source, digest).await? {
            let (store, right) = (self.inner.store.clone(), right.clone());
            blocking(move || store.note(&right, digest))
                .await
                .map_err(|error| source.store_failed(error))?;
            return Ok(image);
        }
        let resolved = self.fetch_manifests(source, digest).await?;
        let (config, _kept) = self.fetch_config(source, &resolved.manifest).await?;
        let diff_ids = config.diff_ids().to_vec();
        let _lease = self.inner.store.hold(&diff_ids);
        let layers = resolved.manifest.layers.clone();
        self.check_room(source, &layers, &diff_ids)?;
        progress.tell(Event::Resolved {
            digest,
            layers: layers.iter().map(|layer| (layer.digest, layer.size)).collect(),
        });
        self.fetch_layers(source, &layers, &diff_ids, progress).await?;
        let record = ImageRecord {
            digest: resolved.digest,
            manifest: resolved.manifest_digest,
            config: resolved.manifest.config.digest,
            diff_ids,
            layers: layers.iter().map(|layer| layer.digest).collect(),
            given_by: [source.upstream.host().to_owned()].into(),
            // What is here already is not held against the size that a manifest says.
            bytes: layers.iter().fold(0, |sum: u64, layer| sum.saturating_add(layer.size)),
            pulled_at: longshore_types::Timestamp(0),
            last_used: longshore_types::Timestamp(0),
        };
        let (store, right) = (self.inner.store.clone(), right.clone());
        let image = blocking(move || {
            store.record(&right, record)?;
            store.image(&digest)
        });
        let image = image.await.map_err(|error| source.store_failed(error))?;
        image.ok_or_else(|| source.store_failed(ImageError::Worker))
    }

    /// Which image is meant, after the registry has said that it may be had.
    async fn resolve_digest(&self, source: &Source) -> Result<Digest, PullError> {
        let told = source.upstream.resolve(&source.reference.identifier()).await;
        let told = told.map_err(|error| source.failed(error))?;
        Ok(source.reference.digest.unwrap_or(told))
    }

    /// Fetches the manifest, and where it is an index, that of our platform too.
    async fn fetch_manifests(
        &self,
        source: &Source,
        digest: Digest,
    ) -> Result<Resolved, PullError> {
        let (mut manifest_digest, mut depth) = (digest, 0);
        let mut kept = Vec::new();
        loop {
            let answer = source.upstream.manifest(&manifest_digest.to_string()).await;
            let (bytes, said) = answer.map_err(|error| source.failed(error))?;
            kept.push(self.keep(source, &bytes, "the manifest", manifest_digest).await?);
            let parsed = Manifest::parse(&bytes, said.as_deref());
            match parsed.map_err(|error| manifest_failed(source, error))? {
                Manifest::Image(manifest) => {
                    return Ok(Resolved { digest, manifest_digest, manifest, _kept: kept });
                }
                Manifest::Index(index) => {
                    let platform = &self.inner.config.platform;
                    let chosen = index.select(platform).filter(|_| depth < 2);
                    let chosen = chosen.ok_or_else(|| PullError::NoPlatform {
                        image: source.shown.clone(),
                        wanted: platform.to_string(),
                        has: index.platforms().join(", "),
                    })?;
                    manifest_digest = chosen.digest;
                    depth += 1;
                }
            }
        }
    }

    /// Whether there is room for what is to be fetched of an image.
    fn check_room(
        &self,
        source: &Source,
        layers: &[Descriptor],
        diff_ids: &[Digest],
    ) -> Result<(), PullError> {
        let store = &self.inner.store;
        let missing = layers.iter().zip(diff_ids).filter(|(_, diff_id)| !store.has_layer(diff_id));
        let bytes = missing.fold(0_u64, |sum, (layer, _)| sum.saturating_add(layer.size));
        let has_room = || store.free_bytes().is_none_or(|free| bytes <= free);
        if !has_room() {
            // What is kept for others goes before anything is refused.
            store.offered().shrink_to(0);
        }
        if has_room() { Ok(()) } else { Err(PullError::NoSpace { image: source.shown.clone() }) }
    }

    /// Verifies content that is in memory, and stores it, for as long as the lease is kept.
    async fn keep(
        &self,
        source: &Source,
        bytes: &Bytes,
        what: &'static str,
        expected: Digest,
    ) -> Result<Lease, PullError> {
        let (store, bytes) = (self.inner.store.clone(), bytes.clone());
        let lease = store.hold(&[expected]);
        let kept = blocking(move || {
            let mut writer = store.blobs().writer(&expected)?;
            writer.write(&bytes)?;
            writer.finish(store.blobs(), &expected)?;
            Ok(lease)
        });
        kept.await.map_err(|error| match error {
            ImageError::Blob(BlobError::DigestMismatch(mismatch)) => {
                PullError::Digest { image: source.shown.clone(), what, mismatch }
            }
            error => source.store_failed(error),
        })
    }

    async fn fetch_config(
        &self,
        source: &Source,
        manifest: &ImageManifest,
    ) -> Result<(ConfigFile, Lease), PullError> {
        let digest = manifest.config.digest;
        let bytes = source.upstream.small_blob(&digest, CONFIG_BYTES_MAX).await;
        let bytes = bytes.map_err(|error| source.failed(error))?;
        let kept = self.keep(source, &bytes, "the configuration", digest).await?;
        let refuse = |why: String| PullError::Config { image: source.shown.clone(), why };
        let config = ConfigFile::parse(&bytes)
            .map_err(|error| refuse(format!("it is not the JSON of an image ({error})")))?;
        let (layers, diff_ids) = (manifest.layers.len(), config.diff_ids().len());
        if layers != diff_ids {
            return Err(refuse(format!("it names {diff_ids} layers, the manifest {layers}")));
        }
        let wanted = &self.inner.config.platform;
        let has = config.platform();
        if !has.os.is_empty() && (has.os != wanted.os || has.architecture != wanted.architecture) {
            return Err(PullError::NoPlatform {
                image: source.shown.clone(),
                wanted: wanted.to_string(),
                has: has.to_string(),
            });
        }
        Ok((config, kept))
    }
}

fn manifest_failed(source: &Source, error: ManifestError) -> PullError {
    PullError::Manifest { image: source.shown.clone(), source: error }
}

/// Runs what blocks where it may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(ImageError::Worker))
}
