//! What EventBridge answers when it says no.

use aws_wire::ApiError;

pub(crate) fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::client("ValidationException", message)
}

pub(crate) fn parameter(name: &str, why: impl std::fmt::Display) -> ApiError {
    invalid(format!("Parameter {name} is not valid. Reason: {why}"))
}

pub(crate) fn limit() -> ApiError {
    let message = "The requested resource exceeds the maximum number allowed.";
    ApiError::client("LimitExceededException", message)
}

/// What clients can ask for at Amazon and this region does not have.
pub(crate) fn unavailable(what: &str) -> ApiError {
    invalid(format!("{what} is not available in this region."))
}

fn not_found(message: String) -> ApiError {
    ApiError::client("ResourceNotFoundException", message)
}

pub(crate) fn no_rule(name: &str) -> ApiError {
    not_found(format!("Rule {name} does not exist on EventBus default."))
}

pub(crate) fn no_bus(name: &str) -> ApiError {
    not_found(format!(
        "Event bus {name} does not exist. This region has the bus default of each account and no others."
    ))
}

pub(crate) fn no_resource(arn: &str) -> ApiError {
    not_found(format!("The resource {arn} does not exist."))
}

pub(crate) fn pattern(why: &events::PatternError) -> ApiError {
    ApiError::client("InvalidEventPatternException", why.to_string())
}

pub(crate) fn cannot_assume(role: &str) -> ApiError {
    invalid(format!(
        "Provided role '{role}' cannot be assumed by principal '{}'.",
        crate::PRINCIPAL
    ))
}
