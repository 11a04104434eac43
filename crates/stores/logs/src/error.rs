//! What can go wrong, as the caller is to hear it.

use std::io;
use std::path::PathBuf;

use files::format::FormatError;

/// A refusal (the caller's doing), or a fault (ours).
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    #[error("The specified log group already exists")]
    GroupExists,
    #[error("The specified log stream already exists")]
    StreamExists,
    #[error("The specified log group does not exist.")]
    GroupNotFound,
    #[error("The specified log stream does not exist.")]
    StreamNotFound,
    #[error("{0}")]
    Invalid(String),
    #[error("The log group has deletion protection enabled and cannot be deleted.")]
    Protected,
    #[error("Resource limit exceeded.")]
    TooManyGroups,
    #[error("The resource can have no more than {} tags.", crate::limits::TAGS_MAX)]
    TooManyTags,
    #[error(
        "The resource policy of the log group has another revision than the one that was expected."
    )]
    OtherRevision,
    /// What the group's key is or says keeps its events from being written or read.
    #[error("{0}")]
    Key(String),
    #[error("failed to {doing}")]
    Fault { doing: &'static str, source: io::Error },
    #[error("{} is damaged at byte {offset}: {what}", path.display())]
    Damaged { path: PathBuf, offset: u64, what: &'static str },
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A flush failed, so nothing may be called durable until it is known what is on the disk.
    #[error("the log store refuses writes until its disk, on which a flush failed, answers again")]
    Poisoned,
    #[error("the log store's directory {} is in use by another process", .0.display())]
    InUse(PathBuf),
}

impl LogsError {
    /// A closure for `map_err`: names what was being done.
    pub(crate) fn fault(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Fault { doing, source }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }
}
