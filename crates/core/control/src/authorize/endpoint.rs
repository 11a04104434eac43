//! What comes by a VPC endpoint is under its policy as well, whoever asks: the most that may be asked for that way.

use std::sync::{Arc, LazyLock};

use aws_wire::{ApiError, ByEndpoint, Caller, Denial, Question};
use model::View;
use policy::{Decision, Policies, Policy, PolicyKind, Request, ResourceKind, evaluate};

use super::{Permission, about_resource, asked, owner_of};
use crate::Control;
use crate::access::principal_arn;
use crate::errors::not_authorized;
use crate::iam::Subject;

/// In place of what other policies allow, which are asked for themselves.
static ALL: LazyLock<Arc<Policy>> = LazyLock::new(|| {
    const TEXT: &str =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
    let read = Policy::parse(TEXT, PolicyKind::Identity);
    Arc::new(read.expect("the policy that allows all is one"))
});

impl Control {
    /// Whether the endpoint that a request came by lets it through.
    pub(super) fn check_endpoint(
        &self,
        view: &View,
        caller: &Caller,
        by: &ByEndpoint,
        permission: &Permission,
        who: impl FnOnce() -> Option<Subject>,
    ) -> Result<(), ApiError> {
        let found = view.vpc_endpoints.iter().find(|row| row.id == by.endpoint);
        let Some(row) = found else {
            let first = permission.resources.first().map_or("*", String::as_str);
            return Err(denied(caller, permission.action, first, Why::Gone));
        };
        let Some(text) = &row.policy else { return Ok(()) };
        let Some(policy) = text.policy() else {
            return Err(denied(caller, permission.action, "*", Why::Silent));
        };
        let Some(subject) = who() else {
            return Err(not_authorized(&principal_arn(caller), permission.action));
        };
        permission.each().try_for_each(|each| check(view, caller, &subject, policy, each))
    }
}

fn check(
    view: &View,
    caller: &Caller,
    subject: &Subject,
    policy: &Arc<Policy>,
    permission: &Permission,
) -> Result<(), ApiError> {
    let (action, context) = asked(subject, permission)?;
    let all = std::slice::from_ref(&*ALL);
    let policies = Policies {
        identity: all,
        boundary: None,
        session: Some(all),
        resource: std::slice::from_ref(policy),
        // It must say yes.
        resource_kind: ResourceKind::Key,
    };
    let asks = policies.ask_about_resource();
    for resource in permission.asked_about() {
        let about = (resource.as_str(), owner_of(resource));
        let own = match asks {
            true => about_resource(view, &context, permission.action, about),
            false => None,
        };
        let request = Request {
            caller: &subject.caller,
            action: &action,
            resource,
            resource_account: None,
            context: own.as_ref().unwrap_or(&context).into(),
        };
        let why = match evaluate(&request, &policies) {
            Decision::Allow(_) => continue,
            Decision::ExplicitDeny(_) => Why::Denied,
            Decision::ImplicitDeny(_) => Why::Silent,
        };
        let shown = permission.shown_as.as_deref().unwrap_or(resource);
        return Err(denied(caller, permission.action, shown, why));
    }
    Ok(())
}

enum Why {
    Gone,
    Denied,
    Silent,
}

fn denied(caller: &Caller, action: &str, resource: &str, why: Why) -> ApiError {
    let because = match why {
        Why::Gone => "because the VPC endpoint is not there any more".to_owned(),
        Why::Denied => "with an explicit deny in a VPC endpoint policy".to_owned(),
        Why::Silent => format!("because no VPC endpoint policy allows the {action} action"),
    };
    let who = principal_arn(caller);
    let message = format!(
        "User: {who} is not authorized to perform: {action} on resource: {resource} {because}"
    );
    let by = "the policy of the VPC endpoint".to_owned();
    caller.origin.trail.asked(Question::denied(action, resource, by.clone()));
    let mut error = ApiError::client("AccessDeniedException", message);
    error.denial = Some(Box::new(Denial {
        action: action.to_owned(),
        resource: resource.to_owned(),
        decided_by: by,
        encoded: String::new(),
    }));
    error
}
