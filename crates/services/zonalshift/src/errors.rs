//! What zonal shift answers when it says no. Its errors have a reason besides their words.

use aws_wire::ApiError;
use longshore_types::Uuid;

/// `reason` is one of `ValidationExceptionReason`.
pub(crate) fn invalid(reason: &str, message: impl Into<String>) -> ApiError {
    ApiError::client("ValidationException", message).with("reason", reason)
}

/// `reason` is one of `ConflictExceptionReason`.
pub(crate) fn conflict(reason: &str, shift: Uuid, message: impl Into<String>) -> ApiError {
    let error = ApiError::client("ConflictException", message).with_status(409);
    error.with("reason", reason).with("zonalShiftId", shift.to_string())
}

pub(crate) fn not_found(message: impl Into<String>) -> ApiError {
    ApiError::client("ResourceNotFoundException", message).with_status(404)
}
