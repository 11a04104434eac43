//! What any service answers when the core says no. What a service itself refuses is its own to word.

use aws_wire::{ApiError, Denial};
use store::CommitError;

/// The caller may not do this: its kind of key is not for it.
pub fn not_authorized(principal: &str, action: &str) -> ApiError {
    let message = format!(
        "User: {principal} is not authorized to perform: {action} because no identity-based policy \
         allows the {action} action"
    );
    let mut error = ApiError::client("AccessDeniedException", message);
    error.denial = Some(Box::new(Denial {
        action: action.to_owned(),
        resource: "*".to_owned(),
        decided_by: "the kind of the access key".to_owned(),
        encoded: String::new(),
    }));
    error
}

/// A commit that was not made. Stale ones never come here: deciders look again.
pub fn commit_failed(error: CommitError) -> ApiError {
    match error {
        CommitError::Overloaded => ApiError::client("ThrottlingException", "Rate exceeded"),
        CommitError::Stale { .. }
        | CommitError::TooOld { .. }
        | CommitError::TooLarge { .. }
        | CommitError::Failed(_)
        | CommitError::Closed => ApiError::fault("failed to commit a decision", error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_full_disk_is_our_fault_and_the_caller_learns_no_more_than_that() {
        let disk = std::io::Error::other("No space left on device");
        let error = commit_failed(CommitError::Failed(Arc::new(disk)));
        assert_eq!((error.status, error.code.as_ref()), (500, "ServerException"));
        assert!(!error.message.contains("space"));
    }
}
