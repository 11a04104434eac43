//! What Certificate Manager answers when it says no.

use aws_wire::ApiError;
use longshore_types::Scope;

pub(crate) fn named(code: &'static str, message: impl Into<String>) -> ApiError {
    ApiError::client(code, message)
}

pub(crate) fn invalid(message: impl Into<String>) -> ApiError {
    named("ValidationException", message)
}

pub(crate) fn parameter(message: impl Into<String>) -> ApiError {
    named("InvalidParameterException", message)
}

pub(crate) fn no_arn(text: &str) -> ApiError {
    named("InvalidArnException", format!("The ARN {text} is not valid."))
}

pub(crate) fn not_found(scope: &Scope, arn: &str) -> ApiError {
    let account = scope.account;
    let message = format!("Could not find certificate {arn} in account {account}.");
    named("ResourceNotFoundException", message)
}

pub(crate) fn in_use(scope: &Scope, arn: &str) -> ApiError {
    let message = format!("Certificate {arn} in account {} is in use.", scope.account);
    named("ResourceInUseException", message)
}

pub(crate) fn limit(message: impl Into<String>) -> ApiError {
    named("LimitExceededException", message)
}
