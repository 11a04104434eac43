//! What an engine refuses, and in which of our words.

use bollard::errors::Error;
use longshore_types::Chain;
use sandbox::{ContainerId, SandboxError};

const NOT_FOUND: u16 = 404;
const CONFLICT: u16 = 409;

/// Why the engine did not do something.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// It answered, in its own words.
    #[error("failed to {doing}: Error response from daemon: {why}")]
    Refused { doing: String, status: u16, why: String },
    #[error("failed to {doing}: {why}")]
    NotReached { doing: String, why: String },
    #[error(
        "the Docker Engine speaks API {version}, and 1.41 (Docker 20.10) is the oldest that will do"
    )]
    TooOld { version: String },
    #[error(
        "the Docker Engine has no runtime {runtime}: it has {known} (dockerd --add-runtime adds one)"
    )]
    NoRuntime { runtime: String, known: String },
    #[error(
        "the network {name} of the Docker Engine is not as this agent makes it: {why}; remove it with docker network rm"
    )]
    OtherNetwork { name: String, why: &'static str },
}

impl DockerError {
    pub(crate) fn of(doing: impl Into<String>, error: Error) -> Self {
        let doing = doing.into();
        match said(&error) {
            Some((status, why)) => Self::Refused { doing, status, why },
            None => Self::NotReached { doing, why: Chain(&error).to_string() },
        }
    }
}

/// What the engine itself answered.
pub(crate) fn said(error: &Error) -> Option<(u16, String)> {
    match error {
        Error::DockerResponseServerError { status_code, message } => {
            Some((*status_code, message.trim().to_owned()))
        }
        Error::DockerStreamError { error } => Some((500, error.trim().to_owned())),
        _ => None,
    }
}

pub(crate) fn is_missing(error: &Error) -> bool {
    said(error).is_some_and(|(status, _)| status == NOT_FOUND)
}

/// What an answer about one container means.
pub(crate) fn of_container(doing: &str, id: &ContainerId, error: Error) -> SandboxError {
    let Some((status, why)) = said(&error) else {
        let source = std::io::Error::other(Chain(&error).to_string());
        return SandboxError::Io { doing: format!("{doing} by Docker"), source };
    };
    match status {
        NOT_FOUND if why.contains("No such container") => SandboxError::NotFound { id: id.clone() },
        CONFLICT if why.contains("is not running") => SandboxError::NotRunning { id: id.clone() },
        CONFLICT if why.contains("is already in use by container") => {
            SandboxError::AlreadyExists { id: id.clone() }
        }
        _ => SandboxError::Engine { why },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_about_a_container_are_told_apart() {
        let id: ContainerId = "one".parse().unwrap();
        let of = |status_code, message: &str| {
            let message = message.to_owned();
            of_container("start", &id, Error::DockerResponseServerError { status_code, message })
        };
        assert!(matches!(of(404, "No such container: one"), SandboxError::NotFound { .. }));
        assert!(matches!(of(409, "Container one is not running"), SandboxError::NotRunning { .. }));
        let taken = "Conflict. The container name \"/one\" is already in use by container \"f00\".";
        assert!(matches!(of(409, taken), SandboxError::AlreadyExists { .. }));
        let error = of(404, "No such image: box:1");
        assert_eq!(error.to_string(), "Error response from daemon: No such image: box:1");
    }
}
