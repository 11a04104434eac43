//! An operation's failure, before a protocol dresses it.
//!
//! Two audiences, two texts: the caller sees code and message; a fault's causes are for the log only.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

/// What went wrong below, with what was being done.
type Source = Box<dyn Error + Send + Sync>;

/// Code, message and status of a failed request.
#[derive(Debug)]
pub struct ApiError {
    pub status: u16,
    pub code: Cow<'static, str>,
    pub message: String,
    /// Further members of the error's shape.
    pub extra: Option<serde_json::Map<String, serde_json::Value>>,
    /// Ours, not the caller's: printed to the log and never shown.
    pub fault: Option<Source>,
    /// That policies refused it: each protocol has a code of its own for this.
    pub denial: Option<Box<Denial>>,
}

/// What policies said to a request that they refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    pub action: String,
    pub resource: String,
    /// Which policy, and which statement of it, for whoever looks after the region.
    pub decided_by: String,
    /// The same for DecodeAuthorizationMessage, sealed.
    pub encoded: String,
}

/// What a caller is told of any fault.
const FAULT_MESSAGE: &str = "An internal error occurred. The request id names it in the log.";

impl ApiError {
    /// The caller's mistake, or a state of the world they may ask about.
    pub fn client(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            status: 400,
            code: code.into(),
            message: message.into(),
            extra: None,
            fault: None,
            denial: None,
        }
    }

    /// Our own failure while `doing` something, as in "failed to write the task".
    pub fn fault(doing: impl Into<String>, source: impl Into<Source>) -> Self {
        let fault = Doing { doing: doing.into(), source: source.into() };
        Self {
            status: 500,
            code: Cow::Borrowed("ServerException"),
            message: FAULT_MESSAGE.to_owned(),
            extra: None,
            fault: Some(Box::new(fault)),
            denial: None,
        }
    }

    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Adds a member of the error's shape, as in `resourceIds` of a `ConflictException`.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.extra.get_or_insert_default().insert(name.to_owned(), value.into());
        self
    }

    pub fn is_fault(&self) -> bool {
        500 <= self.status
    }
}

#[derive(Debug)]
struct Doing {
    doing: String,
    source: Source,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.doing)
    }
}

impl Error for Doing {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.source.as_ref())
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl Error for ApiError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.fault.as_deref().map(|fault| fault as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_types::Chain;

    #[test]
    fn a_fault_tells_the_log_everything_and_the_caller_nothing() {
        let source = std::io::Error::other("disk on fire");
        let error = ApiError::fault("failed to commit the plan", source);
        assert_eq!(error.status, 500);
        assert!(!error.message.contains("disk"));
        assert!(Chain(&error).to_string().ends_with("failed to commit the plan: disk on fire"));
    }
}
