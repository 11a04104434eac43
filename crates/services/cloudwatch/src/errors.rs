//! What CloudWatch answers when it says no: by the names of its errors, which the query protocol has other codes for.

use aws_wire::ApiError;

pub(crate) fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::client("InvalidParameterValueException", message)
}

pub(crate) fn combination(message: impl Into<String>) -> ApiError {
    ApiError::client("InvalidParameterCombinationException", message)
}

pub(crate) fn missing(message: impl Into<String>) -> ApiError {
    ApiError::client("MissingRequiredParameterException", message)
}

pub(crate) fn validation(message: impl Into<String>) -> ApiError {
    ApiError::client("ValidationException", message)
}

pub(crate) fn limit(message: impl Into<String>) -> ApiError {
    ApiError::client("LimitExceededFault", message)
}

pub(crate) fn token() -> ApiError {
    ApiError::client("InvalidNextToken", "The NextToken is not valid.")
}

pub(crate) fn no_alarm(name: &str) -> ApiError {
    ApiError::client("ResourceNotFound", format!("The alarm {name} does not exist."))
        .with_status(404)
}

pub(crate) fn no_resource(arn: &str) -> ApiError {
    ApiError::client("ResourceNotFoundException", format!("The resource {arn} does not exist."))
        .with_status(404)
        .with("ResourceId", arn)
}

/// What clients can ask for at Amazon and this region does not have.
pub(crate) fn unavailable(what: &str) -> ApiError {
    validation(format!("{what} is not available in this region."))
}
