//! The client's side of the OCI distribution protocol, over HTTP and HTTPS.
//!
//! [`Transport`] sends one request with its time limits, [`Remote`] speaks to one registry:
//! it answers challenges, repeats what may be repeated and follows redirects. [`Upstream`] reads one repository.

mod auth;
mod connect;
mod egress;
mod remote;
mod transport;
mod upstream;

pub use auth::{Auth, Basic};
pub use egress::{Egress, NotARange, Range};
pub use transport::{ClientConfig, Transport};
pub use upstream::Upstream;

pub(crate) use remote::{Body, Remote};

use crate::blobs::BlobError;

/// Why a registry could not be asked, or what it answered instead.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("lookup {host}: no such host")]
    NoSuchHost { host: String },
    #[error("failed to reach {host}: {why}")]
    Unreachable { host: String, why: String },
    #[error(
        "{host} is not asked: {why}, and nobody allowed it (longshore up --allow-registry HOST[:PORT])"
    )]
    NotAllowed { host: String, why: String },
    #[error("i/o timeout while waiting for {host} to {doing}")]
    TimedOut { host: String, doing: &'static str },
    #[error("{host} denied access: {why}")]
    Denied {
        host: String,
        why: String,
        /// It does not take the credentials, or wants some; otherwise it knows who asks, and says no.
        is_unknown: bool,
    },
    #[error("{host} answered {status}: {why}")]
    Status { host: String, status: u16, why: String },
    #[error("{host} does not speak the registry protocol: {why}")]
    Protocol { host: String, why: String },
    #[error(transparent)]
    Blob(#[from] BlobError),
}

impl ClientError {
    /// Whether the same request may go better a moment later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } => true,
            Self::Status { status, .. } => *status >= 500 || *status == 429 || *status == 408,
            Self::NoSuchHost { .. }
            | Self::NotAllowed { .. }
            | Self::Denied { .. }
            | Self::Protocol { .. }
            | Self::Blob(_) => false,
        }
    }
}
