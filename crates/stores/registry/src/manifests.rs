//! Manifests: get, put, delete, by tag or by digest.

use std::fmt;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, LOCATION};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use image::manifest::{Descriptor, MANIFEST_BYTES_MAX, Manifest, media_type};
use image::{Digest, Hasher, ImageTag};

use crate::answer::{self, Answer};
use crate::auth::Authorizer;
use crate::body::read_small;
use crate::catalog::{Catalog, NewManifest, Repository};
use crate::error::RegistryError;
use crate::{By, Registry};

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// A manifest's name within its repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identifier {
    Tag(ImageTag),
    Digest(Digest),
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl Identifier {
    fn read(text: &str) -> Result<Self, RegistryError> {
        if text.contains(':') {
            return crate::route::read_digest(text).map(Self::Digest);
        }
        text.parse().map(Self::Tag).map_err(|_| RegistryError::TagInvalid)
    }
}

/// Reads a manifest and what it names. `said` is the media type that came with it.
pub fn describe(
    bytes: &[u8],
    said: Option<&str>,
    digest: Digest,
) -> Result<NewManifest, RegistryError> {
    let invalid = |error: image::manifest::ManifestError| {
        RegistryError::ManifestInvalid(longshore_types::Chain(&error).to_string())
    };
    let kind = media_type(bytes, said).map_err(invalid)?;
    let parsed = Manifest::parse(bytes, Some(&kind)).map_err(invalid)?;
    let mut described = NewManifest {
        digest,
        media_type: kind,
        bytes: bytes.len() as u64,
        config: None,
        config_media_type: None,
        layers: Vec::new(),
        content_bytes: 0,
        children: Vec::new(),
        subject: None,
        artifact_type: None,
        annotations: std::collections::BTreeMap::new(),
    };
    match parsed {
        Manifest::Image(image) => {
            let bytes = |total: u64, layer: &Descriptor| total.saturating_add(layer.size);
            described.content_bytes = image.layers.iter().fold(image.config.size, bytes);
            described.config = Some(image.config.digest);
            described.layers = image
                .layers
                .iter()
                .filter(|layer| layer.urls.is_empty())
                .map(|layer| layer.digest)
                .collect();
            described.subject = image.subject.map(|subject| subject.digest);
            described.artifact_type =
                image.artifact_type.or_else(|| Some(image.config.media_type.clone()));
            described.config_media_type = Some(image.config.media_type);
            described.annotations = image.annotations;
        }
        Manifest::Index(index) => {
            described.children = index.manifests.iter().map(|child| child.digest).collect();
            described.subject = index.subject.map(|subject| subject.digest);
            described.artifact_type = index.artifact_type;
            described.annotations = index.annotations;
        }
    }
    Ok(described)
}

impl<C: Catalog, A: Authorizer> Registry<C, A> {
    pub(crate) async fn get_manifest(
        &self,
        repository: &Repository,
        by: &By<A::Caller>,
        identifier: &str,
        is_pull: bool,
    ) -> Result<Answer, RegistryError> {
        let unknown = || RegistryError::ManifestUnknown(identifier.to_owned());
        let identifier = Identifier::read(identifier)?;
        if let (Some(supplier), By::Caller(caller)) = (self.supplier.get(), by) {
            supplier.image(caller, repository, &identifier).await?;
        }
        self.known(repository)?;
        let digest = match identifier {
            Identifier::Digest(digest) => digest,
            Identifier::Tag(tag) => self.catalog.tag(repository, &tag).ok_or_else(unknown)?,
        };
        let stored = self.catalog.manifest(repository, &digest).ok_or_else(unknown)?;
        let bytes = self.manifest_bytes(&digest).await?.ok_or_else(unknown)?;
        let length = bytes.len();
        let mut answer = Response::new(answer::full(bytes));
        answer::set(&mut answer, CONTENT_TYPE, &stored.media_type);
        answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        answer::set(&mut answer, ETAG, &format!("\"{digest}\""));
        answer::set_digest(&mut answer, &digest);
        if is_pull {
            self.catalog.pulled(repository, &digest);
        }
        Ok(answer)
    }

    /// A manifest's bytes, which lie among the blobs.
    pub async fn manifest_bytes(&self, digest: &Digest) -> Result<Option<Vec<u8>>, RegistryError> {
        let (blobs, digest) = (self.blobs.clone(), *digest);
        let read = tokio::task::spawn_blocking(move || blobs.read(&digest)).await;
        Ok(read.map_err(|_| crate::UploadError::Worker)??)
    }

    pub(crate) async fn put_manifest<B>(
        &self,
        repository: &Repository,
        by: &By<A::Caller>,
        identifier: &str,
        request: Request<B>,
    ) -> Result<Answer, RegistryError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        self.make_repository(repository, by).await?;
        self.known(repository)?;
        let identifier = Identifier::read(identifier)?;
        let said = request.headers().get(CONTENT_TYPE).and_then(|said| said.to_str().ok());
        let said = said.map(str::to_owned);
        let bytes = read_small(request.into_body(), MANIFEST_BYTES_MAX).await?;
        let (digest, tag) = match identifier {
            Identifier::Tag(tag) => (Hasher::digest(&bytes), Some(tag)),
            Identifier::Digest(said) => {
                let mut hasher = Hasher::like(&said);
                hasher.update(&bytes);
                if hasher.finish() != said {
                    let why = "provided digest did not match uploaded content".to_owned();
                    return Err(RegistryError::DigestInvalid(why));
                }
                (said, None)
            }
        };
        let manifest = describe(&bytes, said.as_deref(), digest)?;
        let subject = manifest.subject;
        self.store_manifest(repository, bytes, manifest, tag).await?;
        let mut answer = answer::empty(StatusCode::CREATED);
        let location = format!("/v2/{}/manifests/{digest}", repository.name);
        answer::set(&mut answer, LOCATION, &location);
        answer::set_digest(&mut answer, &digest);
        if let Some(subject) = subject {
            answer::set(&mut answer, SUBJECT, &subject.to_string());
        }
        Ok(answer)
    }

    /// Stores a manifest and makes it known.
    pub async fn store_manifest(
        &self,
        repository: &Repository,
        bytes: Bytes,
        manifest: NewManifest,
        tag: Option<ImageTag>,
    ) -> Result<(), RegistryError> {
        let _making = self.gate.making().await;
        let (blobs, digest) = (self.blobs.clone(), manifest.digest);
        let stored = tokio::task::spawn_blocking(move || {
            if blobs.size(&digest)?.is_some() {
                return Ok(());
            }
            let mut writer = blobs.writer(&digest)?;
            writer.write(&bytes)?;
            writer.finish(&blobs, &digest).map(drop)
        });
        stored.await.map_err(|_| crate::UploadError::Worker)??;
        self.catalog.put(repository, manifest, tag).await?;
        Ok(())
    }

    pub(crate) async fn delete_manifest(
        &self,
        repository: &Repository,
        identifier: &str,
    ) -> Result<Answer, RegistryError> {
        self.known(repository)?;
        let was_there = match Identifier::read(identifier)? {
            Identifier::Tag(tag) => self.catalog.delete_tag(repository, tag).await?,
            Identifier::Digest(digest) => self.catalog.delete_manifest(repository, digest).await?,
        };
        if was_there {
            Ok(answer::empty(StatusCode::ACCEPTED))
        } else {
            Err(RegistryError::ManifestUnknown(identifier.to_owned()))
        }
    }
}
