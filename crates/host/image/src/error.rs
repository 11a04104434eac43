//! What can go wrong with an image, in the sentences that users of ECS know.
//!
//! A pull's failure ends up in a container's `reason`, so its text is whole: it names the image,
//! the registry that was asked, and what that registry said.

use std::path::PathBuf;

use longshore_types::{Chain, Digest};

use crate::blobs::{BlobError, Mismatch};
use crate::client::ClientError;
use crate::manifest::ManifestError;
use crate::unpack::LayerError;

/// Why the image store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error("failed to unpack layer {digest}")]
    Layer { digest: Digest, source: Box<LayerError> },
    #[error("failed to {doing} {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("the archive is no image: {0}")]
    NotAnImage(String),
    #[error("a worker of the image store died")]
    Worker,
}

/// Why an image could not be pulled. `Display` is the whole sentence.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    #[error("failed to resolve ref {image}: {image}: not found")]
    NotFound { image: String },
    #[error(
        "failed to resolve ref {image}: pull access denied by {host}, repository does not exist \
         or may require authorization: {why}"
    )]
    Denied {
        image: String,
        host: String,
        why: String,
        /// It does not take the credentials, or wants some; otherwise it knows who asks, and says no.
        is_unknown: bool,
    },
    #[error("failed to resolve ref {image}: dial tcp: lookup {host}: no such host")]
    NoSuchHost { image: String, host: String },
    #[error(
        "failed to pull {image}: registry {host} is not asked: {why}, and this host's agent was not \
         told to allow it (longshore agent --allow-registry HOST[:PORT])"
    )]
    NotAllowed { image: String, host: String, why: String },
    #[error("failed to pull {image}: failed to reach registry {host}: {why}")]
    Unreachable { image: String, host: String, why: String },
    #[error("failed to pull {image}: i/o timeout while waiting for registry {host} to {doing}")]
    TimedOut { image: String, host: String, doing: &'static str },
    #[error("failed to pull {image}: registry {host} answered {status}: {why}")]
    Refused { image: String, host: String, status: u16, why: String },
    #[error(
        "failed to pull {image}: image Manifest does not contain descriptor matching platform \
         '{wanted}' (it has: {has})"
    )]
    NoPlatform { image: String, wanted: String, has: String },
    #[error("failed to pull {image}: {}", Chain(.source))]
    Manifest {
        image: String,
        #[source]
        source: ManifestError,
    },
    #[error("failed to pull {image}: its configuration cannot be used: {why}")]
    Config { image: String, why: String },
    #[error("failed to pull {image}: {what} is damaged: {mismatch}")]
    Digest { image: String, what: &'static str, mismatch: Box<Mismatch> },
    #[error("failed to register layer: no space left on device (image {image})")]
    NoSpace { image: String },
    #[error("failed to register layer {digest} of {image}: {}", Chain(.source))]
    Layer {
        image: String,
        digest: Digest,
        #[source]
        source: Box<LayerError>,
    },
    /// Another engine was to pull it, and did not; in its own words where it answered.
    #[error("failed to pull {image}: {why}")]
    Engine { image: String, why: String },
    #[error("failed to pull {image}: {}", Chain(.source))]
    Store {
        image: String,
        #[source]
        source: ImageError,
    },
}

impl PullError {
    /// Whether the registry is not there to answer, or not itself at the moment.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } => true,
            Self::Refused { status, .. } => *status >= 500,
            Self::NotFound { .. }
            | Self::Denied { .. }
            | Self::NotAllowed { .. }
            | Self::NoSuchHost { .. }
            | Self::NoPlatform { .. }
            | Self::Manifest { .. }
            | Self::Config { .. }
            | Self::Digest { .. }
            | Self::NoSpace { .. }
            | Self::Layer { .. }
            | Self::Engine { .. }
            | Self::Store { .. } => false,
        }
    }

    /// Whether the registry does not know who asks: credentials may be of no use any more.
    pub fn is_login_refused(&self) -> bool {
        matches!(self, Self::Denied { is_unknown: true, .. })
    }

    /// The registry that could not be asked, or would not give it.
    pub fn host(&self) -> Option<&str> {
        match self {
            Self::Denied { host, .. }
            | Self::NoSuchHost { host, .. }
            | Self::NotAllowed { host, .. }
            | Self::Unreachable { host, .. }
            | Self::TimedOut { host, .. }
            | Self::Refused { host, .. } => Some(host),
            Self::NotFound { .. }
            | Self::NoPlatform { .. }
            | Self::Manifest { .. }
            | Self::Config { .. }
            | Self::Digest { .. }
            | Self::NoSpace { .. }
            | Self::Layer { .. }
            | Self::Engine { .. }
            | Self::Store { .. } => None,
        }
    }

    /// Whether the registry has not spoken: it could not be asked, or is not itself at the moment.
    pub(crate) fn is_out_of_reach(&self) -> bool {
        self.is_away()
            || matches!(self, Self::NoSuchHost { .. } | Self::Refused { status: 429, .. })
    }

    pub(crate) fn of_client(image: &str, error: ClientError) -> Self {
        let image = image.to_owned();
        match error {
            ClientError::NoSuchHost { host } => Self::NoSuchHost { image, host },
            ClientError::NotAllowed { host, why } => Self::NotAllowed { image, host, why },
            ClientError::TimedOut { host, doing } => Self::TimedOut { image, host, doing },
            ClientError::Denied { host, why, is_unknown } => {
                Self::Denied { image, host, why, is_unknown }
            }
            ClientError::Status { status: 404, .. } => Self::NotFound { image },
            ClientError::Status { host, status, why } => Self::Refused { image, host, status, why },
            ClientError::Unreachable { host, why } | ClientError::Protocol { host, why } => {
                Self::Unreachable { image, host, why }
            }
            ClientError::Blob(source) => Self::of_store(&image, ImageError::Blob(source)),
        }
    }

    pub(crate) fn of_store(image: &str, error: ImageError) -> Self {
        let image = image.to_owned();
        match error {
            ImageError::Blob(BlobError::NoSpace(_)) => Self::NoSpace { image },
            ImageError::Layer { source, .. } if matches!(*source, LayerError::NoSpace) => {
                Self::NoSpace { image }
            }
            ImageError::Layer { digest, source } => Self::Layer { image, digest, source },
            source @ (ImageError::Blob(_)
            | ImageError::Io { .. }
            | ImageError::NotAnImage(_)
            | ImageError::Worker) => Self::Store { image, source },
        }
    }
}

/// Why an image could not be pushed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    #[error("failed to push {image}: {}", Chain(.source))]
    Client {
        image: String,
        #[source]
        source: ClientError,
    },
    #[error("failed to read {image}: {}", Chain(.source))]
    Source {
        image: String,
        #[source]
        source: ImageError,
    },
}
