//! Blobs: download whole or in part, upload whole, in chunks or by mounting, delete.

use bytes::Bytes;
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::BodyExt as _;
use image::{BlobError, BlobWriter, Digest};
use longshore_types::Uuid;

use crate::answer::{self, Answer};
use crate::auth::Authorizer;
use crate::body::{FileBody, pour};
use crate::catalog::{Catalog, Repository};
use crate::error::RegistryError;
use crate::route::{query, read_digest};
use crate::uploads::Upload;
use crate::{By, LAYER_BYTES_MAX, Registry};

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

impl<C: Catalog, A: Authorizer> Registry<C, A> {
    pub(crate) fn get_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Answer, RegistryError> {
        self.linked(repository, digest)?;
        let opened = self.blobs.open_blob(digest)?;
        let (file, size) = opened.ok_or(RegistryError::BlobUnknown(*digest))?;
        let range = headers.get(RANGE).and_then(|range| range.to_str().ok());
        let part = range.and_then(|range| read_range(range, size));
        let (status, offset, length) = match part {
            None => (StatusCode::OK, 0, size),
            Some(Ok((first, last))) => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
            Some(Err(())) => return Err(RegistryError::RangeNotSatisfiable { size }),
        };
        let body = if *method == Method::HEAD {
            answer::full(Bytes::new())
        } else {
            let read_failed = |source| {
                let path = self.blobs.path(digest);
                BlobError::Io { doing: "read", path, source }
            };
            FileBody::new(file, offset, length).map_err(read_failed)?.boxed()
        };
        let mut answer = Response::new(body);
        *answer.status_mut() = status;
        answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        answer.headers_mut().insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        answer::set(&mut answer, CONTENT_TYPE, "application/octet-stream");
        answer::set_digest(&mut answer, digest);
        if status == StatusCode::PARTIAL_CONTENT {
            let range = format!("bytes {offset}-{}/{size}", offset + length - 1);
            answer::set(&mut answer, CONTENT_RANGE, &range);
        }
        Ok(answer)
    }

    pub(crate) async fn delete_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Answer, RegistryError> {
        self.linked(repository, digest)?;
        self.catalog.unlink(repository, *digest).await?;
        Ok(answer::empty(StatusCode::ACCEPTED))
    }

    pub(crate) async fn start_upload<B>(
        &self,
        repository: Repository,
        by: &By<A::Caller>,
        request: Request<B>,
    ) -> Result<Answer, RegistryError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        self.make_repository(&repository, by).await?;
        self.known(&repository)?;
        let asked = query(request.uri());
        if let Some(mount) = asked.get("mount")
            && let Some(answer) = self.mount(&repository, by, mount, asked.get("from")).await?
        {
            return Ok(answer);
        }
        let digest = asked.get("digest").map(|digest| read_digest(digest)).transpose()?;
        let id = self.uploads.start(repository.clone())?;
        let Some(digest) = digest else {
            return Ok(accepted(&repository, id, 0));
        };
        let (upload, writer) = self.uploads.take(&repository, id).await?;
        self.receive_last(&repository, upload, writer, request.into_body(), digest).await
    }

    /// Makes a blob of another repository of the account one of this; nothing if it is not there, or not
    /// for this caller: then it is uploaded.
    async fn mount(
        &self,
        repository: &Repository,
        by: &By<A::Caller>,
        mount: &str,
        from: Option<&String>,
    ) -> Result<Option<Answer>, RegistryError> {
        let Some(Ok(name)) = from.map(|from| from.parse()) else { return Ok(None) };
        let Ok(digest) = mount.parse() else { return Ok(None) };
        let source = Repository { account: repository.account, name };
        if !self.may_mount(by, &source, repository) {
            return Ok(None);
        }
        let _making = self.gate.making().await;
        let Some(size) = self.catalog.layer(&source, &digest) else { return Ok(None) };
        if self.blobs.size(&digest)?.is_none() {
            return Ok(None);
        }
        self.catalog.link(repository, digest, size).await?;
        Ok(Some(created(repository, &digest)))
    }

    pub(crate) async fn continue_upload<B>(
        &self,
        repository: &Repository,
        id: Uuid,
        method: &Method,
        request: Request<B>,
    ) -> Result<Answer, RegistryError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        self.known(repository)?;
        if !matches!(
            *method,
            Method::GET | Method::HEAD | Method::PATCH | Method::PUT | Method::DELETE
        ) {
            return Err(RegistryError::Unsupported);
        }
        let (mut upload, writer) = self.uploads.take(repository, id).await?;
        let offset = writer.written();
        match *method {
            Method::DELETE => {
                drop(writer);
                self.uploads.cancel(upload)?;
                Ok(answer::empty(StatusCode::NO_CONTENT))
            }
            Method::PATCH => {
                self.check_place(repository, &mut upload, &writer, request.headers())?;
                self.receive(repository, upload, writer, request.into_body()).await
            }
            Method::PUT => {
                self.check_place(repository, &mut upload, &writer, request.headers())?;
                let digest = query(request.uri()).remove("digest");
                let digest = digest.ok_or_else(|| {
                    RegistryError::DigestInvalid("the upload's digest is missing".to_owned())
                });
                match digest.and_then(|digest| read_digest(&digest)) {
                    Ok(digest) => {
                        self.receive_last(repository, upload, writer, request.into_body(), digest)
                            .await
                    }
                    Err(error) => {
                        upload.keep(writer);
                        Err(error)
                    }
                }
            }
            _ => {
                upload.keep(writer);
                let mut answer = accepted(repository, id, offset);
                *answer.status_mut() = StatusCode::NO_CONTENT;
                answer.headers_mut().remove(CONTENT_LENGTH);
                Ok(answer)
            }
        }
    }

    /// A chunk that says where it belongs must belong at the end.
    fn check_place(
        &self,
        repository: &Repository,
        upload: &mut Upload,
        writer: &BlobWriter,
        headers: &HeaderMap,
    ) -> Result<(), RegistryError> {
        let Some(range) = headers.get(CONTENT_RANGE) else { return Ok(()) };
        let offset = writer.written();
        let text = range.to_str().unwrap_or_default();
        let text = text.trim_start_matches("bytes").trim_start_matches([' ', '=']);
        let text = text.split('/').next().unwrap_or_default();
        let bounds = text.split_once('-');
        let bounds =
            bounds.and_then(|(a, b)| Some((a.parse::<u64>().ok()?, b.parse::<u64>().ok()?)));
        let length = headers.get(CONTENT_LENGTH).and_then(|n| n.to_str().ok()?.parse::<u64>().ok());
        let fits = bounds.is_some_and(|(first, last)| {
            let said = last.checked_sub(first).and_then(|span| span.checked_add(1));
            first == offset && said.is_some() && length.is_none_or(|length| said == Some(length))
        });
        if fits {
            return Ok(());
        }
        let location = location(repository, upload.id());
        Err(RegistryError::RangeInvalid { location, offset })
    }

    async fn receive<B>(
        &self,
        repository: &Repository,
        mut upload: Upload,
        writer: BlobWriter,
        body: B,
    ) -> Result<Answer, RegistryError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let (writer, poured) = pour(body, writer, LAYER_BYTES_MAX).await;
        let offset = writer.as_ref().map_or(0, BlobWriter::written);
        if let Some(writer) = writer {
            upload.keep(writer);
        }
        poured?;
        Ok(accepted(repository, upload.id(), offset))
    }

    async fn receive_last<B>(
        &self,
        repository: &Repository,
        mut upload: Upload,
        writer: BlobWriter,
        body: B,
        digest: Digest,
    ) -> Result<Answer, RegistryError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let (writer, poured) = pour(body, writer, LAYER_BYTES_MAX).await;
        let Some(writer) = writer else { return Err(crate::UploadError::Worker.into()) };
        if let Err(error) = poured {
            upload.keep(writer);
            return Err(error);
        }
        self.finish_upload(repository, upload, writer, digest).await?;
        Ok(created(repository, &digest))
    }

    /// Makes what has arrived a layer of the repository.
    pub async fn finish_upload(
        &self,
        repository: &Repository,
        upload: Upload,
        writer: BlobWriter,
        digest: Digest,
    ) -> Result<u64, RegistryError> {
        let _making = self.gate.making().await;
        let size = self.uploads.finish(upload, writer, &self.blobs, digest).await?;
        self.catalog.link(repository, digest, size).await?;
        Ok(size)
    }
}

impl<C: Catalog, A: Authorizer> Registry<C, A> {
    /// Makes content that was written whole a layer of the repository, if it is what it is called.
    pub async fn add_layer(
        &self,
        repository: &Repository,
        writer: BlobWriter,
        digest: Digest,
    ) -> Result<(), RegistryError> {
        let _making = self.gate.making().await;
        let blobs = self.blobs.clone();
        let finished = tokio::task::spawn_blocking(move || writer.finish(&blobs, &digest)).await;
        let size = finished.map_err(|_| crate::UploadError::Worker)??;
        self.catalog.link(repository, digest, size).await?;
        Ok(())
    }
}

fn location(repository: &Repository, id: Uuid) -> String {
    format!("/v2/{}/blobs/uploads/{id}", repository.name)
}

fn accepted(repository: &Repository, id: Uuid, offset: u64) -> Answer {
    let mut answer = answer::empty(StatusCode::ACCEPTED);
    answer::set(&mut answer, LOCATION, &location(repository, id));
    answer::set(&mut answer, RANGE, &answer::upload_range(offset));
    answer::set(&mut answer, UPLOAD_ID, &id.to_string());
    answer
}

fn created(repository: &Repository, digest: &Digest) -> Answer {
    let mut answer = answer::empty(StatusCode::CREATED);
    answer::set(&mut answer, LOCATION, &format!("/v2/{}/blobs/{digest}", repository.name));
    answer::set_digest(&mut answer, digest);
    answer
}

/// First and last byte of a range; nothing if the header is to be ignored.
fn read_range(header: &str, size: u64) -> Option<Result<(u64, u64), ()>> {
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    let (first, last) = (first.trim(), last.trim());
    if first.is_empty() {
        let suffix: u64 = last.parse().ok()?;
        let is_there = suffix > 0 && size > 0;
        return Some(if is_there { Ok((size.saturating_sub(suffix), size - 1)) } else { Err(()) });
    }
    let first: u64 = first.parse().ok()?;
    let last: u64 = if last.is_empty() { u64::MAX } else { last.parse().ok()? };
    if last < first {
        return None;
    }
    Some(if first < size { Ok((first, last.min(size - 1))) } else { Err(()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_says() {
        for (header, read) in [
            ("bytes=0-4", Some(Ok((0, 4)))),
            ("bytes=5-", Some(Ok((5, 9)))),
            ("bytes=5-100", Some(Ok((5, 9)))),
            ("bytes=-3", Some(Ok((7, 9)))),
            ("bytes=-30", Some(Ok((0, 9)))),
            ("bytes=10-", Some(Err(()))),
            ("bytes=-0", Some(Err(()))),
            ("bytes=4-2", None),
            ("bytes=a-", None),
            ("lines=0-1", None),
            ("bytes=0-1,3-4", None),
        ] {
            assert_eq!(read_range(header, 10), read, "{header}");
        }
        assert_eq!(read_range("bytes=0-", 0), Some(Err(())));
    }
}
