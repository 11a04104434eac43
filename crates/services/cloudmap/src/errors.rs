//! What Cloud Map answers when it says no.

use aws_wire::ApiError;

pub(crate) fn named(code: &'static str, message: impl Into<String>) -> ApiError {
    ApiError::client(code, message)
}

/// What is not there is answered with 404, and what is in the way with 409.
fn with_status(code: &'static str, status: u16, message: String) -> ApiError {
    named(code, message).with_status(status)
}

pub(crate) fn invalid(message: impl Into<String>) -> ApiError {
    named("InvalidInput", message)
}

pub(crate) fn no_namespace(given: &str) -> ApiError {
    let message = format!("The namespace {given} cannot be found.");
    with_status("NamespaceNotFound", 404, message)
}

pub(crate) fn no_service(given: &str) -> ApiError {
    with_status("ServiceNotFound", 404, format!("The service {given} cannot be found."))
}

pub(crate) fn no_instance(given: &str) -> ApiError {
    with_status("InstanceNotFound", 404, format!("The instance {given} cannot be found."))
}

pub(crate) fn no_operation(given: &str) -> ApiError {
    with_status("OperationNotFound", 404, format!("The operation {given} cannot be found."))
}

pub(crate) fn no_resource(given: &str) -> ApiError {
    let message = format!("The resource {given} cannot be found.");
    with_status("ResourceNotFoundException", 404, message)
}

pub(crate) fn no_custom_health(given: &str) -> ApiError {
    let message = format!("The service of the instance {given} has no custom health check.");
    with_status("CustomHealthNotFound", 404, message)
}

pub(crate) fn in_use(message: impl Into<String>) -> ApiError {
    with_status("ResourceInUse", 409, message.into())
}

pub(crate) fn limit(message: impl Into<String>) -> ApiError {
    named("ResourceLimitExceeded", message)
}
