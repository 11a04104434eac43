//! What the registry refuses, in the protocol's own codes.

use std::error::Error;

use http::StatusCode;
use image::{BlobError, Digest};
use longshore_types::Chain;
use serde_json::json;

use crate::answer::{self, Answer};
use crate::catalog::CatalogError;
use crate::uploads::UploadError;

/// What kept another registry from giving an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamFailure {
    /// It, or this host's owner, says no.
    Denied,
    TooManyRequests,
    /// It can't be reached, or what it says makes no sense.
    Away,
}

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("no basic auth credentials, or they are wrong or expired")]
    Unauthorized,
    /// The caller may not do this; the sentence says why.
    #[error("{0}")]
    Denied(String),
    #[error("failed to find out what the caller may do")]
    Unauthorizable(#[source] Box<dyn Error + Send + Sync>),
    #[error("the operation is unsupported")]
    Unsupported,
    #[error("invalid repository name")]
    NameInvalid,
    #[error("manifest tag did not match the allowed characters")]
    TagInvalid,
    #[error("{0}")]
    DigestInvalid(String),
    #[error("blob unknown to registry: {0}")]
    BlobUnknown(Digest),
    #[error("Requested image not found: {0}")]
    ManifestUnknown(String),
    #[error("{0}")]
    ManifestInvalid(String),
    #[error("the manifest is larger than {max} bytes")]
    ManifestTooLarge { max: usize },
    #[error("the upload has {offset} bytes, and can only be gone on with from there")]
    RangeInvalid { location: String, offset: u64 },
    #[error("the range is not in the blob, which has {size} bytes")]
    RangeNotSatisfiable { size: u64 },
    #[error("the number of results asked for is no number")]
    PaginationInvalid,
    /// The registry that the image would come from does not give it; the sentence says why.
    #[error("{1}")]
    Upstream(UpstreamFailure, String),
    #[error("the request's body broke off: {0}")]
    Body(String),
    #[error(transparent)]
    Upload(#[from] UploadError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Blob(#[from] BlobError),
}

impl RegistryError {
    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"),
            Self::Denied(_) => (StatusCode::FORBIDDEN, "DENIED"),
            Self::Unauthorizable(_) => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
            Self::Unsupported => (StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED"),
            Self::NameInvalid => (StatusCode::BAD_REQUEST, "NAME_INVALID"),
            Self::TagInvalid => (StatusCode::BAD_REQUEST, "TAG_INVALID"),
            Self::DigestInvalid(_) => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
            Self::BlobUnknown(_) => (StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
            Self::ManifestUnknown(_) => (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
            Self::ManifestInvalid(_) => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
            Self::ManifestTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "MANIFEST_INVALID"),
            Self::RangeInvalid { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID"),
            Self::RangeNotSatisfiable { .. } => {
                (StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID")
            }
            Self::PaginationInvalid => (StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID"),
            Self::Upstream(failure, _) => match failure {
                UpstreamFailure::Denied => (StatusCode::FORBIDDEN, "DENIED"),
                UpstreamFailure::TooManyRequests => {
                    (StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS")
                }
                // Not one of those that say that this registry is away, and worth waiting for.
                UpstreamFailure::Away => (StatusCode::FAILED_DEPENDENCY, "UNAVAILABLE"),
            },
            Self::Body(_) => (StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID"),
            Self::Upload(error) => error.status_and_code(),
            Self::Catalog(error) => of_catalog(error),
            Self::Blob(error) => of_blob(error),
        }
    }

    /// The answer that says so. What is our fault is logged and not told.
    pub(crate) fn answer(&self) -> Answer {
        let (status, code) = self.status_and_code();
        let message = if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(error = %Chain(self), "registry failed");
            "an internal error occurred".to_owned()
        } else {
            self.to_string()
        };
        let body = json!({ "errors": [{ "code": code, "message": message, "detail": null }] });
        let mut answer = answer::json(status, body.to_string());
        match self {
            Self::RangeInvalid { location, offset } => {
                answer::set(&mut answer, http::header::LOCATION, location);
                answer::set(&mut answer, http::header::RANGE, &answer::upload_range(*offset));
            }
            Self::RangeNotSatisfiable { size } => {
                let range = format!("bytes */{size}");
                answer::set(&mut answer, http::header::CONTENT_RANGE, &range);
            }
            _ => {}
        }
        answer
    }
}

fn of_catalog(error: &CatalogError) -> (StatusCode, &'static str) {
    match error {
        CatalogError::NoRepository(_) => (StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
        CatalogError::MissingLayers { .. } | CatalogError::MissingManifests { .. } => {
            (StatusCode::NOT_FOUND, "MANIFEST_BLOB_UNKNOWN")
        }
        CatalogError::FixedTag { .. } => (StatusCode::CONFLICT, "TAG_INVALID"),
        CatalogError::Referenced { .. } | CatalogError::LayerReferenced { .. } => {
            (StatusCode::CONFLICT, "DENIED")
        }
        CatalogError::Limit { .. } => (StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS"),
        CatalogError::Failed(_) => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
    }
}

pub(crate) fn of_blob(error: &BlobError) -> (StatusCode, &'static str) {
    match error {
        BlobError::DigestMismatch(_) => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
        BlobError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"),
        BlobError::NoSpace(_) => (StatusCode::INSUFFICIENT_STORAGE, "DENIED"),
        BlobError::Io { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
    }
}
