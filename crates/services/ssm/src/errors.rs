//! What Parameter Store answers when it says no, in its words.

use aws_wire::ApiError;
use control::parameters::ParameterRefusal;

pub(crate) fn not_found() -> ApiError {
    ParameterRefusal::NoParameter.into_api()
}

pub(crate) fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::client("ValidationException", message)
}

pub(crate) fn named(code: &'static str, message: impl Into<String>) -> ApiError {
    ApiError::client(code, message)
}

pub(crate) fn token() -> ApiError {
    ApiError::client("InvalidNextToken", "The specified token is not valid.")
}
