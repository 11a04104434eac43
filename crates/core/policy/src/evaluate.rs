//! The decision: which policies must say yes, and which may say no.
//!
//! A Deny anywhere wins. Then, within an account, a resource's policy may suffice by itself, depending on
//! how it names the caller (`principal::Grant`); else the caller's identity policies must allow, and its
//! boundary and session policy limit them. Between accounts both sides must allow. A role's trust policy and a
//! key's policy must say yes themselves, or pass the question on to the account.

use std::sync::Arc;

use longshore_types::AccountId;

use crate::document::Policy;
use crate::principal::Grant;
use crate::request::{Caller, Request};
use crate::sought::Sought;
use crate::statement::{Effect, Statement};

/// The kind of policy that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    Identity,
    Boundary,
    Session,
    Resource,
    Trust,
}

impl Layer {
    pub(crate) const COUNT: usize = 5;

    /// Its place among all.
    pub(crate) fn slot(self) -> usize {
        match self {
            Self::Identity => 0,
            Self::Boundary => 1,
            Self::Session => 2,
            Self::Resource => 3,
            Self::Trust => 4,
        }
    }
}

/// A statement by its place: the layer, the policy's index in what [`Policies`] has of the layer, the
/// statement's index in the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StatementRef {
    pub layer: Layer,
    pub policy: usize,
    pub statement: usize,
}

/// Why something is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grounds {
    /// An account's root needs no policy.
    Root,
    Statement(StatementRef),
    /// The caller's policy and the resource's, where each alone would not do.
    Both {
        identity: StatementRef,
        resource: StatementRef,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow(Grounds),
    /// No policy of this layer says yes.
    ImplicitDeny(Layer),
    ExplicitDeny(StatementRef),
}

impl Decision {
    pub fn is_allowed(self) -> bool {
        matches!(self, Self::Allow(_))
    }

    fn severity(self) -> u8 {
        match self {
            Self::Allow(_) => 0,
            Self::ImplicitDeny(_) => 1,
            Self::ExplicitDeny(_) => 2,
        }
    }
}

/// What a resource's policy must do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResourceKind {
    /// It may allow; if it is silent or not there, identity policies suffice.
    #[default]
    Plain,
    /// A key: its policy must allow, or pass the question on to the account.
    Key,
    /// A role to be assumed: the same, of its trust policy.
    Trust,
}

/// All policies that concern a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Policies<'a> {
    /// Of the user and its groups, or of the role. For a session of GetFederationToken: of the user who called it.
    pub identity: &'a [Arc<Policy>],
    pub boundary: Option<&'a Arc<Policy>>,
    /// What was passed when the session was made; `None` if nothing was.
    pub session: Option<&'a [Arc<Policy>]>,
    /// Of the resource, and where a service has them: of its registry, of its account.
    pub resource: &'a [Arc<Policy>],
    pub resource_kind: ResourceKind,
}

impl<'a> Policies<'a> {
    /// The policies of a layer, in the order that [`StatementRef`] counts.
    pub fn layer(&self, layer: Layer) -> &'a [Arc<Policy>] {
        match layer {
            Layer::Identity => self.identity,
            Layer::Boundary => self.boundary.map_or(&[], std::slice::from_ref),
            Layer::Session => self.session.unwrap_or_default(),
            Layer::Resource | Layer::Trust if layer == self.resource_layer() => self.resource,
            Layer::Resource | Layer::Trust => &[],
        }
    }

    /// Whether one of them asks for the resource's tags or account.
    pub fn ask_about_resource(&self) -> bool {
        let layers = [Layer::Identity, Layer::Boundary, Layer::Session, self.resource_layer()];
        layers.into_iter().flat_map(|layer| self.layer(layer)).any(|it| it.asks_about_resource())
    }

    pub fn statement(&self, at: StatementRef) -> Option<&'a Statement> {
        self.layer(at.layer).get(at.policy)?.statements().get(at.statement)
    }

    pub(crate) fn resource_layer(&self) -> Layer {
        match self.resource_kind {
            ResourceKind::Plain | ResourceKind::Key => Layer::Resource,
            ResourceKind::Trust => Layer::Trust,
        }
    }
}

/// Whether the request is allowed, and what says so.
pub fn evaluate(request: &Request<'_>, policies: &Policies<'_>) -> Decision {
    match scan_all(request, policies) {
        Ok(findings) => conclude(request.caller, request.resource_account, policies, &findings),
        Err(deny) => Decision::ExplicitDeny(deny),
    }
}

/// Of an operation on several resources: the first of the severest decisions. `None` of no decisions.
pub fn strictest(decisions: impl IntoIterator<Item = Decision>) -> Option<Decision> {
    let stricter = |kept: Decision, next: Decision| {
        if next.severity() > kept.severity() { next } else { kept }
    };
    decisions.into_iter().reduce(stricter)
}

/// What each layer allows, there being no Deny.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Findings([Option<(StatementRef, Grant)>; Layer::COUNT]);

impl Findings {
    pub(crate) fn allow(&mut self, at: StatementRef, grant: Grant) {
        self.0[at.layer.slot()] = Some((at, grant));
    }

    pub(crate) fn grant(&self, layer: Layer) -> Option<Grant> {
        self.0[layer.slot()].map(|(_, grant)| grant)
    }

    fn at(&self, layer: Layer) -> Option<StatementRef> {
        self.0[layer.slot()].map(|(at, _)| at)
    }

    fn resource(&self, policies: &Policies<'_>) -> Option<(StatementRef, Grant)> {
        self.0[policies.resource_layer().slot()]
    }
}

fn scan_all(request: &Request<'_>, policies: &Policies<'_>) -> Result<Findings, StatementRef> {
    let resource = Sought::new(request.resource);
    let mut findings = Findings::default();
    let layers = [Layer::Identity, Layer::Boundary, Layer::Session, policies.resource_layer()];
    for layer in layers {
        if let Some((at, grant)) = scan(request, &resource, policies.layer(layer), layer)? {
            findings.allow(at, grant);
        }
    }
    Ok(findings)
}

/// The first Deny that applies, or the strongest Allow.
fn scan(
    request: &Request<'_>,
    resource: &Sought<'_>,
    policies: &[Arc<Policy>],
    layer: Layer,
) -> Result<Option<(StatementRef, Grant)>, StatementRef> {
    let mut allowed: Option<(StatementRef, Grant)> = None;
    for (policy, each) in policies.iter().enumerate() {
        for (index, statement) in each.concerning(request.action.mask()) {
            let at = StatementRef { layer, policy, statement: index };
            match statement.effect {
                Effect::Deny if statement.applies(request, resource).is_some() => return Err(at),
                Effect::Deny => {}
                // One that can add nothing need not be looked at.
                Effect::Allow if allowed.is_some_and(|(_, known)| known == Grant::Full) => {}
                Effect::Allow => {
                    let found = statement.applies(request, resource);
                    let is_better = found > allowed.map(|(_, known)| known);
                    allowed = found.filter(|_| is_better).map(|grant| (at, grant)).or(allowed);
                }
            }
        }
    }
    Ok(allowed)
}

/// The decision about a resource of an account, there being no Deny.
pub(crate) fn conclude(
    caller: &Caller,
    owner: Option<AccountId>,
    policies: &Policies<'_>,
    findings: &Findings,
) -> Decision {
    let Some(account) = caller.account() else {
        // Services and strangers have no policies of their own: the resource's word is all there is.
        return match findings.resource(policies) {
            Some((at, _)) => Decision::Allow(Grounds::Statement(at)),
            None => Decision::ImplicitDeny(policies.resource_layer()),
        };
    };
    if owner.is_some_and(|owner| owner != account) {
        return across_accounts(caller, policies, findings);
    }
    within_account(caller, policies, findings)
}

fn within_account(caller: &Caller, policies: &Policies<'_>, findings: &Findings) -> Decision {
    let must_say_yes = match policies.resource_kind {
        ResourceKind::Plain => false,
        ResourceKind::Key | ResourceKind::Trust => true,
    };
    if must_say_yes && findings.resource(policies).is_none() {
        return Decision::ImplicitDeny(policies.resource_layer());
    }
    if matches!(caller, Caller::Root(_)) {
        return Decision::Allow(Grounds::Root);
    }
    match findings.resource(policies) {
        Some((at, Grant::Full)) => Decision::Allow(Grounds::Statement(at)),
        Some((at, Grant::Limited)) => match limit(caller, policies, findings) {
            Some(layer) => Decision::ImplicitDeny(layer),
            None => Decision::Allow(Grounds::Statement(at)),
        },
        Some((_, Grant::Delegated)) | None => {
            let Some(identity) = findings.at(Layer::Identity) else {
                return Decision::ImplicitDeny(Layer::Identity);
            };
            if let Some(layer) = limit(caller, policies, findings) {
                return Decision::ImplicitDeny(layer);
            }
            match findings.resource(policies).filter(|_| must_say_yes) {
                Some((resource, _)) => Decision::Allow(Grounds::Both { identity, resource }),
                None => Decision::Allow(Grounds::Statement(identity)),
            }
        }
    }
}

fn across_accounts(caller: &Caller, policies: &Policies<'_>, findings: &Findings) -> Decision {
    let Some((resource, _)) = findings.resource(policies) else {
        return Decision::ImplicitDeny(policies.resource_layer());
    };
    if matches!(caller, Caller::Root(_)) {
        return Decision::Allow(Grounds::Statement(resource));
    }
    let Some(identity) = findings.at(Layer::Identity) else {
        return Decision::ImplicitDeny(Layer::Identity);
    };
    match limit(caller, policies, findings) {
        Some(layer) => Decision::ImplicitDeny(layer),
        None => Decision::Allow(Grounds::Both { identity, resource }),
    }
}

/// The first of boundary and session policy that does not let the request through.
fn limit(caller: &Caller, policies: &Policies<'_>, findings: &Findings) -> Option<Layer> {
    if policies.boundary.is_some() && findings.at(Layer::Boundary).is_none() {
        return Some(Layer::Boundary);
    }
    // A federated user's session has what was passed to it, and nothing if nothing was.
    let must_pass = policies.session.is_some() || matches!(caller, Caller::FederatedUser { .. });
    (must_pass && findings.at(Layer::Session).is_none()).then_some(Layer::Session)
}
