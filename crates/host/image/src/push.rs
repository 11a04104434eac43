//! Takes an image from an archive to a registry: what it has already is not sent.

use std::io::{self, Read as _};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderName, Method};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;

use crate::archive::{LoadedBlob, LoadedImage};
use crate::client::{Auth, Body, ClientError, Remote, Transport};
use crate::error::PushError;
use crate::progress::{Event, Progress};
use crate::reference::Reference;

/// Blobs sent at the same time.
const UPLOADS_MAX: usize = 3;
const READ_BYTES: usize = 256 << 10;
/// Pieces read ahead of the network.
const PIECES_MAX: usize = 4;

/// Pushes images. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pusher {
    transport: Transport,
}

struct Target {
    remote: Remote,
    reference: Reference,
    scope: String,
}

impl Target {
    async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, String)],
        body: Option<Bytes>,
    ) -> Result<http::Response<hyper::body::Incoming>, ClientError> {
        self.remote.call(method, path, headers, body, &self.scope).await
    }
}

impl Pusher {
    pub fn new(transport: Transport) -> Self {
        Self { transport }
    }

    /// Makes `reference` mean `image` at its registry. The repository must be there.
    pub async fn push(
        &self,
        image: &LoadedImage,
        reference: &Reference,
        auth: &Auth,
        progress: &Progress,
    ) -> Result<(), PushError> {
        let target = Target {
            remote: Remote::new(&self.transport, reference, auth),
            scope: format!("repository:{}:pull,push", reference.repository),
            reference: reference.clone(),
        };
        let blobs = all_blobs(image);
        progress.tell(Event::Resolved {
            digest: image.digest,
            layers: blobs.iter().map(|blob| (blob.digest, blob.size)).collect(),
        });
        let uploads = blobs.into_iter().map(|blob| push_blob(&target, blob, progress));
        let mut uploads = futures_util::stream::iter(uploads).buffer_unordered(UPLOADS_MAX);
        while let Some(done) = uploads.next().await {
            done?;
        }
        push_manifest(&target, image, reference.identifier()).await
    }
}

/// Every blob of the image and of those in it, once.
fn all_blobs(image: &LoadedImage) -> Vec<&LoadedBlob> {
    let mut found: Vec<&LoadedBlob> = image.blobs.iter().collect();
    found.extend(image.children.iter().flat_map(all_blobs));
    found.sort_by_key(|blob| blob.digest);
    found.dedup_by_key(|blob| blob.digest);
    found
}

fn failed(target: &Target) -> impl Fn(ClientError) -> PushError {
    let image = target.reference.to_string();
    move |source| PushError::Client { image: image.clone(), source }
}

async fn push_blob(
    target: &Target,
    blob: &LoadedBlob,
    progress: &Progress,
) -> Result<(), PushError> {
    let repository = &target.reference.repository;
    let path = format!("/v2/{repository}/blobs/{}", blob.digest);
    if target.call(Method::HEAD, &path, &[], None).await.is_ok() {
        progress.tell(Event::Present { layer: blob.digest });
        return Ok(());
    }
    let start = format!("/v2/{repository}/blobs/uploads/");
    let answer = target.call(Method::POST, &start, &[], Some(Bytes::new())).await;
    let answer = answer.map_err(failed(target))?;
    let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| {
        let why = "it started an upload without saying where".to_owned();
        failed(target)(ClientError::Protocol { host: target.remote.host().to_owned(), why })
    })?;
    let separator = if location.contains('?') { '&' } else { '?' };
    let url = format!("{location}{separator}digest={}", blob.digest);
    let source_failed = |source| PushError::Source { image: target.reference.to_string(), source };
    let body = stream(blob, progress).map_err(source_failed)?;
    let body = Body::Stream { body: body.boxed_unsync(), length: blob.size };
    let headers = [(CONTENT_TYPE, "application/octet-stream".to_owned())];
    let sent = target.remote.call_streaming(Method::PUT, &url, &headers, body, &target.scope);
    sent.await.map_err(failed(target))?;
    progress.tell(Event::Done { layer: blob.digest });
    Ok(())
}

/// The images of an index go before it.
fn push_manifest<'a>(
    target: &'a Target,
    image: &'a LoadedImage,
    identifier: String,
) -> BoxFuture<'a, Result<(), PushError>> {
    Box::pin(async move {
        for child in &image.children {
            push_manifest(target, child, child.digest.to_string()).await?;
        }
        let path = format!("/v2/{}/manifests/{identifier}", target.reference.repository);
        let headers = [(CONTENT_TYPE, image.media_type.clone())];
        let put = target.call(Method::PUT, &path, &headers, Some(image.manifest.clone())).await;
        put.map(drop).map_err(failed(target))
    })
}

/// A body whose pieces a thread reads.
struct Pieces(mpsc::Receiver<io::Result<Bytes>>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

fn stream(blob: &LoadedBlob, progress: &Progress) -> Result<Pieces, crate::error::ImageError> {
    let mut reader = blob.open()?;
    let (pieces, body) = mpsc::channel(PIECES_MAX);
    let (digest, progress) = (blob.digest, progress.clone());
    tokio::task::spawn_blocking(move || {
        let mut total = 0;
        loop {
            let mut piece = Vec::with_capacity(READ_BYTES);
            let read = (&mut reader).take(READ_BYTES as u64).read_to_end(&mut piece);
            let piece = match read {
                Ok(0) => return,
                Ok(count) => {
                    total += count as u64;
                    Ok(Bytes::from(piece))
                }
                Err(error) => Err(error),
            };
            let is_end = piece.is_err();
            // Nobody listens any more: the request failed, and says why itself.
            if pieces.blocking_send(piece).is_err() || is_end {
                return;
            }
            progress.tell(Event::Sent { layer: digest, bytes: total });
        }
    });
    Ok(Pieces(body))
}
