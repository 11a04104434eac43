//! Fetching layers: each is fetched once, goes on where it broke off, is verified and unpacked.

use std::fs::{self, File};
use std::io::Seek as _;
use std::path::PathBuf;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::Method;
use longshore_types::Digest;

use super::{Puller, Source, blocking};
use crate::blobs::{BlobError, BlobWriter};
use crate::error::{ImageError, PullError};
use crate::hash::Hasher;
use crate::manifest::Descriptor;
use crate::progress::{Event, Progress};

/// A layer's verified bytes, and the file that they are in.
pub(super) struct Fetched {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

impl Puller {
    pub(super) async fn fetch_layers(
        &self,
        source: &Source,
        layers: &[Descriptor],
        diff_ids: &[Digest],
        progress: &Progress,
    ) -> Result<(), PullError> {
        let work = layers
            .iter()
            .zip(diff_ids)
            .map(|(layer, diff_id)| self.fetch_layer(source, layer, *diff_id, progress));
        let mut work: FuturesUnordered<_> = work.collect();
        // The first failure ends the pull; what the others fetched so far stays for the next one.
        while let Some(done) = work.next().await {
            done?;
        }
        Ok(())
    }

    async fn fetch_layer(
        &self,
        source: &Source,
        layer: &Descriptor,
        diff_id: Digest,
        progress: &Progress,
    ) -> Result<(), PullError> {
        // First: whoever waits for a permit of its own keeps nobody else from the layer meanwhile.
        let whose = (source.owner.clone(), source.upstream.host().to_owned());
        let permit = self.inner.fetches.enter(whose).await;
        let _fetching = self.inner.store.enter_fetch(source.upstream.host(), layer.digest).await;
        if self.may_use(source, layer, diff_id).await {
            progress.tell(Event::Present { layer: layer.digest });
            return Ok(());
        }
        let fetched = match self.fetch_from_hosts(source, layer, progress).await? {
            Some(fetched) => fetched,
            None => self.fetch_blob(source, layer, progress).await?,
        };
        drop(permit);
        let _flight = self.inner.store.enter(diff_id).await;
        let _permit = self.inner.unpacks.acquire().await;
        progress.tell(Event::Unpacking { layer: layer.digest });
        let (store, host, digest) =
            (self.inner.store.clone(), source.upstream.host().to_owned(), layer.digest);
        let is_shared = self.sharing(source).is_some();
        let unpacked = blocking(move || {
            let Fetched { file, path } = fetched;
            let added = store.add_layer(file, &diff_id, &host, &digest);
            if added.is_ok() && is_shared {
                store.offer(&path, &digest);
            } else {
                // Unpacked or not to be unpacked: nobody needs it any more.
                fs::remove_file(&path).ok();
            }
            added
        });
        unpacked.await.map_err(|error| source.store_failed(error))?;
        progress.tell(Event::Done { layer: layer.digest });
        Ok(())
    }

    /// Whether the layer is here, came from this registry, and may be had from it now. An image may claim
    /// any layer to be its own: nothing but its bytes, or a registry that has shown them, proves it.
    async fn may_use(&self, source: &Source, layer: &Descriptor, diff_id: Digest) -> bool {
        let store = &self.inner.store;
        if !store.was_given(source.upstream.host(), &layer.digest, &diff_id) {
            return false;
        }
        let head = source.upstream.get(Method::HEAD, "blobs", &layer.digest.to_string(), &[]).await;
        // One that cannot answer this is asked for the layer itself.
        head.is_ok() && store.has_layer(&diff_id)
    }

    /// Fetches a layer's compressed bytes and verifies them.
    async fn fetch_blob(
        &self,
        source: &Source,
        layer: &Descriptor,
        progress: &Progress,
    ) -> Result<Fetched, PullError> {
        let digest = layer.digest;
        let path = self.inner.store.partial_path(source.upstream.host(), &digest);
        let at = path.clone();
        let opened = blocking(move || Ok(BlobWriter::append(&at, Hasher::like(&digest))?)).await;
        let writer = opened.map_err(|error| source.store_failed(error))?;
        let tell = |bytes| progress.tell(Event::Fetched { layer: digest, bytes });
        let (writer, fetched) = source.upstream.blob(layer, writer, &tell).await;
        let writer = writer.ok_or_else(|| source.store_failed(ImageError::Worker))?;
        fetched.map_err(|error| source.failed(error))?;
        let file = self.verified(source, layer, writer).await?;
        Ok(Fetched { file, path })
    }

    pub(super) async fn verified(
        &self,
        source: &Source,
        layer: &Descriptor,
        mut writer: BlobWriter,
    ) -> Result<File, PullError> {
        let digest = layer.digest;
        let checked = blocking(move || {
            if let Err(error) = writer.verify(&digest) {
                // Wrong bytes are not gone on with.
                fs::remove_file(writer.path()).ok();
                return Err(error.into());
            }
            let path = writer.path().to_owned();
            let mut file = File::open(&path).map_err(BlobError::io("open", &path))?;
            file.rewind().map_err(BlobError::io("read", &path))?;
            Ok(file)
        });
        checked.await.map_err(|error| match error {
            ImageError::Blob(BlobError::DigestMismatch(mismatch)) => {
                PullError::Digest { image: source.shown.clone(), what: "a layer", mismatch }
            }
            error => source.store_failed(error),
        })
    }
}
