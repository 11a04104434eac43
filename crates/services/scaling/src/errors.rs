//! What Application Auto Scaling answers when it says no.

use aws_wire::ApiError;
use model::scaling::DIMENSION;

pub(crate) fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::client("ValidationException", message)
}

pub(crate) fn limit(message: impl Into<String>) -> ApiError {
    ApiError::client("LimitExceededException", message)
}

pub(crate) fn token() -> ApiError {
    ApiError::client("InvalidNextTokenException", "Invalid next token.")
}

/// What clients can ask for at Amazon and this region does not have.
pub(crate) fn unavailable(what: &str) -> ApiError {
    invalid(format!("{what} is not available in this region."))
}

fn not_found(message: String) -> ApiError {
    ApiError::client("ObjectNotFoundException", message)
}

fn place(resource: &str) -> String {
    format!("service namespace: ecs, resource ID: {resource}, scalable dimension: {DIMENSION}")
}

/// For what is put to a target.
pub(crate) fn not_registered(resource: &str) -> ApiError {
    not_found(format!("No scalable target registered for {}", place(resource)))
}

pub(crate) fn no_target(resource: &str) -> ApiError {
    not_found(format!("No scalable target found for {}", place(resource)))
}

pub(crate) fn no_policy(resource: &str, name: &str) -> ApiError {
    not_found(format!("No scaling policy found for {}, policy name: {name}", place(resource)))
}

pub(crate) fn no_action(resource: &str, name: &str) -> ApiError {
    let place = place(resource);
    not_found(format!("No scheduled action found for {place}, scheduled action name: {name}"))
}

pub(crate) fn no_resource(arn: &str) -> ApiError {
    ApiError::client("ResourceNotFoundException", format!("The resource {arn} does not exist."))
        .with("ResourceName", arn)
}
