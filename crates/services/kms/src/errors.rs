//! What KMS answers when it says no, in its words.

use aws_wire::ApiError;

pub(crate) fn named(code: &'static str, message: impl Into<String>) -> ApiError {
    ApiError::client(code, message)
}

pub(crate) fn invalid(message: impl Into<String>) -> ApiError {
    named("ValidationException", message)
}

pub(crate) fn unsupported(message: impl Into<String>) -> ApiError {
    named("UnsupportedOperationException", message)
}

pub(crate) fn limit(message: impl Into<String>) -> ApiError {
    named("LimitExceededException", message)
}

pub(crate) fn state(message: impl Into<String>) -> ApiError {
    named("KMSInvalidStateException", message)
}

pub(crate) fn ciphertext() -> ApiError {
    named("InvalidCiphertextException", "")
}

pub(crate) fn dry_run() -> ApiError {
    let message = "The request would have succeeded, but the DryRun option is set.";
    named("DryRunOperationException", message).with_status(412)
}
