//! What can go wrong with a container, typed finely enough to tell a user which line to change.
//!
//! The same type is what a shim answers with, so it can be serialised; an operating system error
//! crosses the socket as its number and comes out as the same [`io::Error`].

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ids::ContainerId;

/// Why something could not be done with a container.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
pub enum SandboxError {
    /// `command` is in none of the directories, or not at the path it names.
    #[error("no such command: {command:?} was not found in {}", looked_in.join(":"))]
    NoSuchCommand { command: String, looked_in: Vec<String> },
    /// There is a file, but it cannot be run.
    #[error("cannot execute {path:?} for command {command:?}: {why}")]
    NotExecutable { command: String, path: PathBuf, why: String },
    #[error("unable to find user {user}: no matching entries in the image's passwd file")]
    NoSuchUser { user: String },
    #[error("unable to find group {group}: no matching entries in the image's group file")]
    NoSuchGroup { group: String },
    #[error("working directory {path:?} cannot be used: {why}")]
    WorkingDirectory { path: PathBuf, why: String },
    #[error("failed to mount {source_path:?} on {destination:?}: {why}")]
    Mount { source_path: PathBuf, destination: PathBuf, why: String },
    #[error("device {path:?} cannot be given to the container: {why}")]
    Device { path: PathBuf, why: String },
    /// A limit that the kernel refused, or that contradicts another.
    #[error("limit {what} cannot be set to {value}: {why}")]
    Limit { what: String, value: String, why: String },
    /// The specification itself is wrong.
    #[error("invalid {what}: {why}")]
    Invalid { what: String, why: String },
    #[error("container {id} already exists")]
    AlreadyExists { id: ContainerId },
    #[error("container {id} does not exist")]
    NotFound { id: ContainerId },
    /// What was asked needs a container that runs.
    #[error("container {id} is not running")]
    NotRunning { id: ContainerId },
    /// The command did not end within its time and was killed.
    #[error("the command did not end within {timeout_ms} ms")]
    TimedOut { timeout_ms: u64 },
    /// The container's shim did not answer, or not as agreed.
    #[error("the shim of container {id} failed: {why}")]
    Shim { id: ContainerId, why: String },
    /// The OCI runtime refused; its chain of reasons is in `why`.
    #[error("the container runtime failed to {doing}: {why}")]
    Runtime { doing: String, why: String },
    /// Another engine that runs containers refused, in its own words.
    #[error("Error response from daemon: {why}")]
    Engine { why: String },
    #[error("failed to {doing}")]
    Io {
        doing: String,
        #[serde(with = "errno")]
        source: io::Error,
    },
}

impl SandboxError {
    pub(crate) fn io(doing: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io { doing: doing.into(), source: source.into() }
    }
}

/// Adds what was being done to an operating system error.
pub(crate) trait Doing<T> {
    fn doing(self, what: &str) -> Result<T, SandboxError>;
    fn doing_at(self, what: &str, path: &Path) -> Result<T, SandboxError>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: &str) -> Result<T, SandboxError> {
        self.map_err(|source| SandboxError::io(what, source))
    }

    fn doing_at(self, what: &str, path: &Path) -> Result<T, SandboxError> {
        self.map_err(|source| SandboxError::io(format!("{what} {}", path.display()), source))
    }
}

mod errno {
    use std::io;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    enum Wire {
        Number(i32),
        Text(String),
    }

    pub(super) fn serialize<S: Serializer>(error: &io::Error, to: S) -> Result<S::Ok, S::Error> {
        match error.raw_os_error() {
            Some(number) => Wire::Number(number).serialize(to),
            None => Wire::Text(error.to_string()).serialize(to),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<io::Error, D::Error> {
        Ok(match Wire::deserialize(from)? {
            Wire::Number(number) => io::Error::from_raw_os_error(number),
            Wire::Text(text) => io::Error::other(text),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operating_system_error_survives_the_socket() {
        let error = SandboxError::io("open the door", io::Error::from_raw_os_error(libc::EACCES));
        let text = serde_json::to_string(&error).unwrap();
        let back: SandboxError = serde_json::from_str(&text).unwrap();
        let SandboxError::Io { doing, source } = back else { panic!("{back:?}") };
        assert_eq!((doing.as_str(), source.raw_os_error()), ("open the door", Some(libc::EACCES)));
    }
}
