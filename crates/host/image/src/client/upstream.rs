//! One repository at a registry, to read from: what a name means there, manifests, and blobs whose fetching goes on
//! where it broke off.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use http::{HeaderName, Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use longshore_types::{Digest, RepositoryName};
use tokio::time::Instant;
use trust::{Fingerprint, LayerHolder, read_holders};

use super::remote::{Body, Remote, read_capped, unreachable_body};
use super::{Auth, ClientError, Transport};
use crate::blobs::{BlobError, BlobWriter, WriteBehind};
use crate::hash::Hasher;
use crate::manifest::{ACCEPTED, Descriptor, MANIFEST_BYTES_MAX};
use crate::reference::Reference;

/// Tells which hosts have a blob, and what they give it for.
const HOLDERS: &str = "longshore-layer-holders";
/// Tells a digest without the manifest itself.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// A repository at a registry, and what is shown there.
#[derive(Debug)]
pub struct Upstream {
    remote: Remote,
    transport: Transport,
    repository: RepositoryName,
    scope: String,
}

/// Told how many bytes of a blob have come.
type Tell<'a> = &'a (dyn Fn(u64) + Sync);

impl Upstream {
    pub fn new(transport: &Transport, reference: &Reference, auth: &Auth) -> Self {
        Self {
            remote: Remote::new(transport, reference, auth),
            transport: transport.clone(),
            repository: reference.repository.clone(),
            scope: format!("repository:{}:pull", reference.repository),
        }
    }

    /// The host that is connected to.
    pub fn host(&self) -> &str {
        self.remote.host()
    }

    pub(crate) async fn get(
        &self,
        method: Method,
        kind: &str,
        identifier: &str,
        headers: &[(HeaderName, String)],
    ) -> Result<Response<Incoming>, ClientError> {
        let path = format!("/v2/{}/{kind}/{identifier}", self.repository);
        self.remote.call(method, &path, headers, None, &self.scope).await
    }

    /// Asks only whether the registry is there and takes the credentials.
    pub async fn check(&self) -> Result<(), ClientError> {
        self.remote.call(Method::GET, "/v2/", &[], None, &self.scope).await.map(drop)
    }

    /// What a tag or a digest means now.
    pub async fn resolve(&self, identifier: &str) -> Result<Digest, ClientError> {
        let headers = [(ACCEPT, ACCEPTED.join(", "))];
        let head = self.get(Method::HEAD, "manifests", identifier, &headers).await;
        let told = match &head {
            Ok(response) => response.headers().get(CONTENT_DIGEST).and_then(|d| d.to_str().ok()),
            // Its answer has no body that would say why, so it is asked again in full.
            Err(ClientError::Status { .. } | ClientError::Denied { .. }) => None,
            Err(_) => return Err(head.expect_err("just matched")),
        };
        if let Some(digest) = told.and_then(|told| told.parse().ok()) {
            return Ok(digest);
        }
        let (bytes, _) = self.manifest(identifier).await?;
        Ok(Hasher::digest(&bytes))
    }

    /// A manifest as it comes, unverified, and the media type that the registry says it has.
    pub async fn manifest(&self, identifier: &str) -> Result<(Bytes, Option<String>), ClientError> {
        let headers = [(ACCEPT, ACCEPTED.join(", "))];
        let response = self.get(Method::GET, "manifests", identifier, &headers).await?;
        let said = response.headers().get(CONTENT_TYPE).and_then(|said| said.to_str().ok());
        let said = said.map(str::to_owned);
        let bytes = self.read(response, MANIFEST_BYTES_MAX).await?;
        Ok((bytes, said))
    }

    /// Other hosts that have a blob, with what the registry grants the one that shows this certificate. Asked once: who
    /// does not answer is asked for the blob.
    pub(crate) async fn holders(
        &self,
        digest: &Digest,
        asker: Fingerprint,
    ) -> Result<Vec<LayerHolder>, ClientError> {
        let path = format!("/v2/{}/blobs/{digest}?holders-for={asker}", self.repository);
        let (method, scope) = (Method::HEAD, &self.scope);
        let answer = self.remote.call_streaming(method, &path, &[], Body::Empty, scope).await?;
        let told = answer.headers().get(HOLDERS).and_then(|told| told.to_str().ok());
        read_holders(told.unwrap_or_default()).map_err(|error| ClientError::Protocol {
            host: self.host().to_owned(),
            why: error.to_string(),
        })
    }

    /// A blob that is held in memory, unverified.
    pub(crate) async fn small_blob(
        &self,
        digest: &Digest,
        bytes_max: usize,
    ) -> Result<Bytes, ClientError> {
        let response = self.get(Method::GET, "blobs", &digest.to_string(), &[]).await?;
        self.read(response, bytes_max).await
    }

    async fn read(
        &self,
        response: Response<Incoming>,
        bytes_max: usize,
    ) -> Result<Bytes, ClientError> {
        let idle_max = Duration::from_millis(self.transport.config().idle_ms_max);
        read_capped(response, bytes_max, self.host(), idle_max).await
    }

    /// Fetches what a writer lacks of a blob, and again where that breaks off. What was written is not verified.
    /// Gives the writer back unless a worker died.
    pub async fn blob(
        &self,
        blob: &Descriptor,
        mut writer: BlobWriter,
        tell: Tell<'_>,
    ) -> (Option<BlobWriter>, Result<(), ClientError>) {
        let mut tries = 0;
        let until = Instant::now() + patience(blob.size);
        loop {
            let before = writer.written();
            let (back, fetched) = self.fetch_rest(blob, writer, tell, until).await;
            let Some(back) = back else { return (None, fetched) };
            writer = back;
            let Err(error) = fetched else { return (Some(writer), Ok(())) };
            let config = self.transport.config();
            // What got on is no failure: a slow line may break as often as it likes.
            tries = if writer.written() > before { 0 } else { tries + 1 };
            if !error.is_transient() || tries > config.retries_max || until <= Instant::now() {
                return (Some(writer), Err(error));
            }
            tracing::debug!(blob = %blob.digest, %error, at = writer.written(), "fetch goes on");
            let pause = config.retry_pause_ms.saturating_mul(1 << tries.min(10));
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    /// Fetches from where the writer stands to the end. Gives the writer back unless a worker died.
    async fn fetch_rest(
        &self,
        layer: &Descriptor,
        mut writer: BlobWriter,
        tell: Tell<'_>,
        until: Instant,
    ) -> (Option<BlobWriter>, Result<(), ClientError>) {
        if layer.size > 0 && writer.written() >= layer.size {
            // It may have come for somebody else.
            let head = self.get(Method::HEAD, "blobs", &layer.digest.to_string(), &[]).await;
            return (Some(writer), head.map(drop));
        }
        let mut headers = Vec::new();
        if writer.written() > 0 {
            headers.push((RANGE, format!("bytes={}-", writer.written())));
        }
        let answer = self.get(Method::GET, "blobs", &layer.digest.to_string(), &headers).await;
        let response = match answer {
            Ok(response) => response,
            Err(ClientError::Status { status: 416, .. }) => {
                let result = writer.restart(Hasher::like(&layer.digest));
                let why = "it would not go on".to_owned();
                let host = self.host().to_owned();
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
        self.write_body(layer, writer, response, tell, until).await
    }

    /// Hands the body's pieces to a thread that hashes and writes them.
    async fn write_body(
        &self,
        layer: &Descriptor,
        writer: BlobWriter,
        response: Response<Incoming>,
        tell: Tell<'_>,
        until: Instant,
    ) -> (Option<BlobWriter>, Result<(), ClientError>) {
        let idle_max = Duration::from_millis(self.transport.config().idle_ms_max);
        let (host, limit) = (self.host(), layer.size);
        let mut total = writer.written();
        let behind = WriteBehind::start(writer);
        let mut body = response.into_body();
        let received = loop {
            let patient = until.min(Instant::now() + idle_max);
            let frame = match tokio::time::timeout_at(patient, body.frame()).await {
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
            tell(total);
            if !behind.write(piece).await {
                break Ok(());
            }
        };
        behind.end(received).await
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

/// How long a blob may take, however often its registry goes on: ten minutes, and the time that it takes on the slowest
/// line that anybody pulls by, two hours at most.
fn patience(bytes: u64) -> Duration {
    const LEAST: Duration = Duration::from_secs(600);
    const MOST: Duration = Duration::from_secs(2 * 3_600);
    const BYTES_PER_SECOND_MIN: u64 = 64 << 10;
    LEAST.saturating_add(Duration::from_secs(bytes / BYTES_PER_SECOND_MIN)).min(MOST)
}
