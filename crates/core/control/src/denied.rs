//! What a caller is told whom policies refuse, in Amazon's words, and what only the region's keeper learns.

use aws_wire::{ApiError, Caller, Denial};
use policy::{Context, Decision, Grounds, Layer, Policies, Request, StatementRef};
use serde_json::{Value, json};

use crate::Control;
use crate::access::principal_arn;
use crate::iam::{PolicyName, Subject};

/// What allows an account's root user.
pub const ROOT: &str = "the account's root user";

/// A decision with all that led to it.
#[derive(Debug)]
pub struct Said<'a> {
    pub caller: &'a Caller,
    pub subject: &'a Subject,
    pub request: Request<'a>,
    /// All that is known of the request.
    pub known: &'a Context,
    pub policies: Policies<'a>,
    pub decision: Decision,
    /// What the resource is called.
    pub shown: &'a str,
}

impl Control {
    /// The error of a request that policies refuse.
    pub fn denied(&self, said: &Said<'_>) -> ApiError {
        let mut error = ApiError::client("AccessDeniedException", said.sentence());
        let (ids, account) = (self.ids.as_ref(), said.caller.account);
        let encoded = self.access.seal_denial(ids, account, &said.document().to_string());
        error.denial = Some(Box::new(Denial {
            action: said.request.action.as_str().to_owned(),
            resource: said.request.resource.to_owned(),
            decided_by: said.decided().by(),
            encoded,
        }));
        error
    }
}

impl Said<'_> {
    fn sentence(&self) -> String {
        let (who, action) = (principal_arn(self.caller), self.request.action.as_str());
        let start = format!(
            "User: {who} is not authorized to perform: {action} on resource: {}",
            self.shown
        );
        match self.decision {
            Decision::ExplicitDeny(at) => {
                let (article, kind) = match at.layer {
                    Layer::Identity => ("an", "identity-based policy"),
                    Layer::Boundary => ("a", "permissions boundary"),
                    Layer::Session => ("a", "session policy"),
                    Layer::Resource => ("a", "resource-based policy"),
                    Layer::Trust => ("the", "role trust policy"),
                };
                let named = self
                    .decided()
                    .managed_arn(at)
                    .map(|arn| format!(": {arn}"))
                    .unwrap_or_default();
                format!("{start} with an explicit deny in {article} {kind}{named}")
            }
            Decision::ImplicitDeny(layer) => {
                format!("{start} because no {} allows the {action} action", name_of(layer))
            }
            // Nobody is refused what is allowed.
            Decision::Allow(_) => start,
        }
    }

    fn decided(&self) -> Decided<'_> {
        Decided { subject: self.subject, policies: self.policies, decision: self.decision }
    }

    /// What DecodeAuthorizationMessage shows.
    fn document(&self) -> Value {
        let item = |value: &str| json!({ "items": [{ "value": value }] });
        let matched = match self.decision {
            Decision::ExplicitDeny(at) => {
                let sid = self.policies.statement(at).and_then(|statement| statement.sid());
                vec![json!({
                    "statementId": sid.unwrap_or_default(),
                    "effect": "DENY",
                    "principals": item(&self.subject.user_id),
                    "principalGroups": { "items": [] },
                    "actions": item(self.request.action.as_str()),
                    "resources": item(self.request.resource),
                    "conditions": { "items": [] },
                })]
            }
            Decision::ImplicitDeny(_) | Decision::Allow(_) => vec![],
        };
        let conditions: Vec<Value> = self
            .known
            .iter()
            .map(|(key, values)| {
                let values = values.as_slice().iter();
                let values: Vec<Value> =
                    values.map(|value| json!({ "value": value.text() })).collect();
                json!({ "key": key, "values": { "items": values } })
            })
            .collect();
        let mut principal =
            json!({ "id": self.subject.user_id, "arn": principal_arn(self.caller) });
        if let Some(name) = &self.subject.user_name {
            principal["name"] = json!(&**name);
        }
        json!({
            "allowed": false,
            "explicitDeny": matches!(self.decision, Decision::ExplicitDeny(_)),
            "matchedStatements": { "items": matched },
            "failures": { "items": [] },
            "context": {
                "principal": principal,
                "action": self.request.action.as_str(),
                "resource": self.request.resource,
                "conditions": { "items": conditions },
            },
        })
    }
}

/// A decision, and among which policies it was made.
#[derive(Clone, Copy, Debug)]
pub struct Decided<'a> {
    pub subject: &'a Subject,
    pub policies: Policies<'a>,
    pub decision: Decision,
}

impl Decided<'_> {
    /// For the audit log: which policy, and which statement of it.
    pub fn by(&self) -> String {
        match self.decision {
            Decision::ExplicitDeny(at) | Decision::Allow(Grounds::Statement(at)) => self.place(at),
            Decision::ImplicitDeny(layer) => format!("no {} allows it", name_of(layer)),
            Decision::Allow(Grounds::Root) => ROOT.to_owned(),
            Decision::Allow(Grounds::Both { identity, resource }) => {
                format!("{} and {}", self.place(identity), self.place(resource))
            }
        }
    }

    fn managed_arn(&self, at: StatementRef) -> Option<&str> {
        match at.layer {
            Layer::Identity => match self.subject.standing.names().get(at.policy)? {
                PolicyName::Managed(arn) => Some(arn),
                PolicyName::Inline { .. } => None,
            },
            Layer::Boundary => self.subject.standing.boundary().map(|arn| &**arn),
            Layer::Session | Layer::Resource | Layer::Trust => None,
        }
    }

    fn place(&self, at: StatementRef) -> String {
        let names = self.subject.standing.names();
        let policy = match names.get(at.policy).filter(|_| at.layer == Layer::Identity) {
            Some(PolicyName::Managed(arn)) => arn.to_string(),
            Some(PolicyName::Inline { owner, name }) => format!("{name} of {owner}"),
            None => match self.managed_arn(at) {
                Some(arn) => arn.to_owned(),
                None => name_of(at.layer).to_owned(),
            },
        };
        let statement = self.policies.statement(at);
        let sid = statement.and_then(|it| it.sid()).filter(|sid| !sid.is_empty());
        let sid = sid.map(|sid| format!(" ({sid})")).unwrap_or_default();
        format!("statement {}{sid} of {policy}", at.statement + 1)
    }
}

fn name_of(layer: Layer) -> &'static str {
    match layer {
        Layer::Identity => "identity-based policy",
        Layer::Boundary => "permissions boundary",
        Layer::Session => "session policy",
        Layer::Resource => "resource-based policy",
        Layer::Trust => "role trust policy",
    }
}
