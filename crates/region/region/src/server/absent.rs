//! Operations that are not here for a reason that a caller can act on.

use aws_wire::ApiError;
use aws_wire::service::Service;

/// Why an operation is not here, where that is more than that nobody has made it yet.
fn why(service: &str, operation: &str) -> Option<&'static str> {
    match (service, operation) {
        ("logs", "PutResourcePolicy" | "DescribeResourcePolicies" | "DeleteResourcePolicy") => {
            Some(
                "Resource policies say which services, and whose, may write to log groups; here nothing writes in a service's \
             name, and a group is reached from its own account only, so that no request could be judged by one. Tasks \
             write in their execution role: allow that role logs:PutLogEvents.",
            )
        }
        _ => None,
    }
}

/// The refusal of an operation that the service does not have.
pub(super) fn refusal(service: &Service, operation: &str) -> ApiError {
    let mut error = service.unknown_operation(operation);
    if let Some(why) = why(service.name, operation) {
        error.message = format!("{} {why}", error.message);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_of_a_resource_policy_says_why_and_what_to_do_instead() {
        let error = refusal(&logs_api::SERVICE, "PutResourcePolicy");
        assert_eq!(error.code, "UnknownOperationException");
        let lead = "The operation PutResourcePolicy of Amazon CloudWatch Logs is not available in Longshore yet. Resource";
        assert!(error.message.starts_with(lead), "{}", error.message);
        let other = refusal(&logs_api::SERVICE, "PutMetricFilter");
        assert!(other.message.ends_with("is not available in Longshore yet."), "{}", other.message);
    }
}
