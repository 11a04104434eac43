//! What Secrets Manager answers when it says no, in its words.

use aws_wire::ApiError;
use control::secrets::SecretRefusal;

pub(crate) fn not_found() -> ApiError {
    SecretRefusal::NoSecret.into_api()
}

pub(crate) fn deleted() -> ApiError {
    SecretRefusal::Deleted.into_api()
}

pub(crate) fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::client("InvalidParameterException", message)
}

pub(crate) fn request(message: impl Into<String>) -> ApiError {
    ApiError::client("InvalidRequestException", message)
}

pub(crate) fn exists(message: impl Into<String>) -> ApiError {
    ApiError::client("ResourceExistsException", message)
}

pub(crate) fn limit(message: impl Into<String>) -> ApiError {
    ApiError::client("LimitExceededException", message)
}

pub(crate) fn encryption(why: impl std::fmt::Display) -> ApiError {
    let message = format!(
        "Secrets Manager can't encrypt the protected secret text using the provided KMS key: {why}"
    );
    ApiError::client("EncryptionFailure", message)
}

pub(crate) fn malformed(message: impl Into<String>) -> ApiError {
    ApiError::client("MalformedPolicyDocumentException", message)
}

pub(crate) fn token() -> ApiError {
    ApiError::client("InvalidNextTokenException", "The NextToken value is invalid.")
}

/// What would be kept without effect, or is of no use in one region.
pub(crate) fn unsupported(what: &str) -> ApiError {
    invalid(format!("{what} is not available in this region."))
}
