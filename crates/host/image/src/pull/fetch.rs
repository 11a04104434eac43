//! Fetching layers: each is fetched once, goes on where it broke off, is verified and unpacked.

use std::fs::{self, File};
use std::io::Seek as _;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::header::{CONTENT_RANGE, RANGE};
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use longshore_types::Digest;

use super::{Puller, Source, blocking};
use crate::blobs::{BlobError, BlobWriter};
use crate::client::{ClientError, unreachable_body};
use crate::error::{ImageError, PullError};
use crate::hash::Hasher;
use crate::manifest::Descriptor;
use crate::progress::{Event, Progress};

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
        let _flight = self.inner.store.enter(diff_id).await;
        if self.may_use(source, layer, diff_id).await {
            progress.tell(Event::Present { layer: layer.digest });
            return Ok(());
        }
        let file = {
            let _permit = self.inner.fetches.acquire().await;
            self.fetch_blob(source, layer, progress).await?
        };
        let _permit = self.inner.unpacks.acquire().await;
        progress.tell(Event::Unpacking { layer: layer.digest });
        let (store, host, digest) =
            (self.inner.store.clone(), source.remote.host().to_owned(), layer.digest);
        let partial = store.partial_path(&host, &digest);
        let unpacked = blocking(move || {
            let added = store.add_layer(file, &diff_id, &host, &digest);
            // Unpacked or not to be unpacked: nobody needs it any more.
            fs::remove_file(&partial).ok();
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
        if !store.was_given(source.remote.host(), &layer.digest, &diff_id) {
            return false;
        }
        let head = source.get(Method::HEAD, "blobs", &layer.digest.to_string(), &[]).await;
        // One that cannot answer this is asked for the layer itself.
        head.is_ok() && store.has_layer(&diff_id)
    }

    /// Fetches a layer's compressed bytes and verifies them.
    async fn fetch_blob(
        &self,
        source: &Source,
        layer: &Descriptor,
        progress: &Progress,
    ) -> Result<File, PullError> {
        let digest = layer.digest;
        let path = self.inner.store.partial_path(source.remote.host(), &digest);
        let opened = blocking(move || Ok(BlobWriter::append(&path, Hasher::like(&digest))?)).await;
        let mut writer = opened.map_err(|error| source.store_failed(error))?;
        let mut tries = 0;
        loop {
            let before = writer.written();
            let (back, fetched) = self.fetch_rest(source, layer, writer, progress).await;
            writer = back.ok_or_else(|| source.store_failed(ImageError::Worker))?;
            let error = match fetched {
                Ok(()) => return self.verified(source, layer, writer).await,
                Err(error) => error,
            };
            let config = self.inner.transport.config();
            // What got on is no failure: a slow line may break as often as it likes.
            tries = if writer.written() > before { 0 } else { tries + 1 };
            if !error.is_transient() || tries > config.retries_max {
                return Err(source.failed(error));
            }
            tracing::debug!(layer = %layer.digest, %error, at = writer.written(), "fetch goes on");
            let pause = config.retry_pause_ms.saturating_mul(1 << tries.min(10));
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    async fn verified(
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

    /// Fetches from where the writer stands to the end. Gives the writer back unless a worker died.
    async fn fetch_rest(
        &self,
        source: &Source,
        layer: &Descriptor,
        mut writer: BlobWriter,
        progress: &Progress,
    ) -> (Option<BlobWriter>, Result<(), ClientError>) {
        if layer.size > 0 && writer.written() >= layer.size {
            // It may have come for somebody else.
            let head = source.get(Method::HEAD, "blobs", &layer.digest.to_string(), &[]).await;
            return (Some(writer), head.map(drop));
        }
        let mut headers = Vec::new();
        if writer.written() > 0 {
            headers.push((RANGE, format!("bytes={}-", writer.written())));
        }
        let answer = source.get(Method::GET, "blobs", &layer.digest.to_string(), &headers).await;
        let response = match answer {
            Ok(response) => response,
            Err(ClientError::Status { status: 416, .. }) => {
                let result = writer.restart(Hasher::like(&layer.digest));
                let why = "it would not go on".to_owned();
                let host = source.remote.host().to_owned();
                return (
                    Some(writer),
                    result.map_err(Into::into).and(Err(ClientError::Unreachable { host, why })),
                );
            }
            Err(error) => return (Some(writer), Err(error)),
        };
        if !goes_on_at(&response, writer.written())
            && let Err(error) = writer.restart(Hasher::like(&layer.digest))
        {
            return (Some(writer), Err(error.into()));
        }
        self.write_body(source, layer, writer, response, progress).await
    }

    /// Hands the body's pieces to a thread that hashes and writes them.
    async fn write_body(
        &self,
        source: &Source,
        layer: &Descriptor,
        mut writer: BlobWriter,
        response: Response<Incoming>,
        progress: &Progress,
    ) -> (Option<BlobWriter>, Result<(), ClientError>) {
        let idle_max = Duration::from_millis(self.inner.transport.config().idle_ms_max);
        let (host, limit) = (source.remote.host(), layer.size);
        let mut total = writer.written();
        let (pieces, mut incoming) = tokio::sync::mpsc::channel::<Bytes>(16);
        let thread = tokio::task::spawn_blocking(move || {
            let mut result = Ok(());
            while let Some(piece) = incoming.blocking_recv() {
                result = writer.write(&piece);
                if result.is_err() {
                    break;
                }
            }
            (writer, result)
        });
        let mut body = response.into_body();
        let received = loop {
            let frame = match tokio::time::timeout(idle_max, body.frame()).await {
                Err(_) => {
                    break Err(ClientError::TimedOut { host: host.to_owned(), doing: "go on" });
                }
                Ok(None) if limit > 0 && total < limit => {
                    let why = format!("it sent {total} of {limit} bytes of a layer");
                    break Err(ClientError::Unreachable { host: host.to_owned(), why });
                }
                Ok(None) => break Ok(()),
                Ok(Some(Err(error))) => break Err(unreachable_body(host, error)),
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(piece) = frame.into_data() else { continue };
            total += piece.len() as u64;
            if total > limit {
                break Err(BlobError::TooLarge { max: limit }.into());
            }
            progress.tell(Event::Fetched { layer: layer.digest, bytes: total });
            if pieces.send(piece).await.is_err() {
                // The thread says below why it stopped.
                break Ok(());
            }
        };
        drop(pieces);
        match thread.await {
            Ok((writer, Ok(()))) => (Some(writer), received),
            Ok((writer, Err(error))) => (Some(writer), Err(error.into())),
            Err(_) => (None, received),
        }
    }
}

/// Whether the answer begins where we stopped.
fn goes_on_at(response: &Response<Incoming>, offset: u64) -> bool {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return offset == 0;
    }
    let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let start = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next());
    start.and_then(|start| start.parse().ok()) == Some(offset)
}
