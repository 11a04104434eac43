//! What STS answers when it says no.

use aws_wire::{ApiError, Caller, Principal};

/// A refusal that is not about the caller's permissions.
pub(crate) fn denied(message: impl Into<String>) -> ApiError {
    ApiError::client("AccessDenied", message).with_status(403)
}

pub(crate) fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::client("ValidationError", message)
}

/// Sessions of GetSessionToken may assume roles and ask who they are, those of GetFederationToken only the
/// latter.
pub(crate) fn refuse_sessions_of_users(caller: &Caller) -> Result<(), ApiError> {
    let is_refused = match &caller.principal {
        Principal::User { .. } => caller.session.is_some(),
        Principal::Federated { .. } => true,
        Principal::Root
        | Principal::Role { .. }
        | Principal::Node { .. }
        | Principal::TaskExecution
        | Principal::Anonymous => false,
    };
    match is_refused {
        true => Err(denied("Cannot call this operation with session credentials")),
        false => Ok(()),
    }
}
