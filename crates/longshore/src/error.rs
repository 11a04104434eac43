//! What can go wrong on the command line, in sentences that say how to go on.

use std::net::SocketAddr;
use std::path::PathBuf;

use control::Advertised;

use crate::client::ClientError;
use crate::data_dir::Role;

/// What a child answers that should not be started again: its reason will not go away by itself.
pub(crate) const EXIT_REFUSED: u8 = 78;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot use {}", path.display())]
    DataDir { path: PathBuf, source: std::io::Error },
    #[error(
        "there is no data directory to use: neither HOME nor XDG_DATA_HOME is set; give --data-dir"
    )]
    NoHome,
    #[error(
        "{} of the data directory {} is already running{}; `longshore down` stops it",
        role_text(*role), path.display(), pid_text(*pid)
    )]
    InUse { role: Role, pid: Option<u32>, path: PathBuf },
    #[error("no region has run in {}; start one with `longshore up`", path.display())]
    NoRegion { path: PathBuf },
    #[error("the region of {} is not running; start it with `longshore up`", path.display())]
    NotRunning { path: PathBuf },
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error(
        "cannot listen on {0}: the address is already in use by another process; give another with --listen"
    )]
    AddressInUse(SocketAddr),
    #[error(
        "{0} would have other machines come without TLS, which none is let in by: advertise https://, or say \
         --insecure-listen if that is wanted"
    )]
    Insecure(Advertised),
    #[error("{0}")]
    Refused(String),
    #[error("failed to {doing}")]
    Io { doing: &'static str, source: std::io::Error },
    #[error("failed to {doing}")]
    Other { doing: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{0}")]
    Message(String),
    /// This process hands over to another program, once all that it holds is let go.
    #[error("{} takes over", .0.display())]
    Successor(PathBuf),
    /// The same, with children that go on.
    #[error("{} takes over", .0.display())]
    Replaced(PathBuf),
}

impl Error {
    /// A closure for `map_err`: names what was being done.
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    pub(crate) fn other<E>(doing: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Other { doing, source: source.into() }
    }

    pub(crate) fn message(text: impl Into<String>) -> Self {
        Self::Message(text.into())
    }

    /// Whether the region did not answer, as opposed to having refused.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self, Self::Client(ClientError::Unreachable { .. } | ClientError::Http { .. }))
    }

    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::InUse { .. }
            | Self::AddressInUse(_)
            | Self::Listen { .. }
            | Self::Insecure(_)
            | Self::Refused(_)
            | Self::NoHome => EXIT_REFUSED,
            // A disk that is full or fails may be better in a while; who may not use it never may.
            Self::DataDir { source, .. } if is_lasting(source) => EXIT_REFUSED,
            Self::DataDir { .. } => 1,
            Self::NoRegion { .. }
            | Self::NotRunning { .. }
            | Self::Io { .. }
            | Self::Other { .. }
            | Self::Client(_)
            | Self::Message(_)
            | Self::Successor(_)
            | Self::Replaced(_) => 1,
        }
    }
}

fn is_lasting(source: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        source.kind(),
        ErrorKind::PermissionDenied
            | ErrorKind::AlreadyExists
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::InvalidInput
            | ErrorKind::InvalidFilename
    )
}

fn role_text(role: Role) -> &'static str {
    match role {
        Role::Supervisor => "a region",
        Role::Region => "the region",
        Role::Agent => "the agent",
        Role::Balancer => "the balancer",
        Role::Proxy => "the proxy",
    }
}

fn pid_text(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}
