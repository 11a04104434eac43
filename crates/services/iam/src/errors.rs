//! What IAM answers when it says no, in its words.

use aws_wire::ApiError;

pub(crate) fn no_such(what: &str, name: &str) -> ApiError {
    no_such_entity(format!("The {what} with name {name} cannot be found."))
}

pub(crate) fn no_such_entity(message: impl Into<String>) -> ApiError {
    ApiError::client("NoSuchEntity", message).with_status(404)
}

pub(crate) fn no_such_profile(name: &str) -> ApiError {
    no_such_entity(format!("Instance Profile {name} cannot be found."))
}

pub(crate) fn no_such_policy(arn: &str) -> ApiError {
    no_such_entity(format!("Policy {arn} was not found."))
}

pub(crate) fn exists(message: impl Into<String>) -> ApiError {
    ApiError::client("EntityAlreadyExists", message).with_status(409)
}

pub(crate) fn conflict(what: &str) -> ApiError {
    let message = format!("Cannot delete entity, must {what} first.");
    ApiError::client("DeleteConflict", message).with_status(409)
}

pub(crate) fn delete_conflict(message: impl Into<String>) -> ApiError {
    ApiError::client("DeleteConflict", message).with_status(409)
}

pub(crate) fn quota(name: &str, max: usize) -> ApiError {
    limit(format!("Cannot exceed quota for {name}: {max}"))
}

pub(crate) fn limit(message: impl Into<String>) -> ApiError {
    ApiError::client("LimitExceeded", message).with_status(409)
}

pub(crate) fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::client("ValidationError", message)
}

pub(crate) fn invalid_input(message: impl Into<String>) -> ApiError {
    ApiError::client("InvalidInput", message)
}

pub(crate) fn malformed(why: &policy::Malformed) -> ApiError {
    ApiError::client("MalformedPolicyDocument", why.to_string())
}

pub(crate) fn unmodifiable(role: &str) -> ApiError {
    let message = format!(
        "Cannot perform the operation on the protected role '{role}' - this role is only modifiable by AWS"
    );
    ApiError::client("UnmodifiableEntity", message)
}
