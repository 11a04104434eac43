//! One statement, compiled, and whether it applies to a request.

use crate::condition::Condition;
use crate::context::{Context, Contexts};
use crate::pattern::Pattern;
use crate::principal::{Grant, Principal, Principals};
use crate::request::{Action, Caller, Request, ServiceMask};
use crate::sought::{Pairs, Sought};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    Allow,
    Deny,
}

impl Effect {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "Allow",
            Self::Deny => "Deny",
        }
    }
}

/// One statement of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    pub(crate) sid: Option<Box<str>>,
    pub(crate) effect: Effect,
    /// Only in resource and trust policies.
    pub(crate) principals: Option<Principals>,
    pub(crate) actions: Actions,
    /// `None` where the document's own resource is meant: trust and repository policies.
    pub(crate) resources: Option<Resources>,
    pub(crate) conditions: Vec<Condition>,
}

impl Statement {
    pub fn sid(&self) -> Option<&str> {
        self.sid.as_deref()
    }

    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// Whom it names, whether as `Principal` or as `NotPrincipal`.
    pub fn principals(&self) -> &[Principal] {
        self.principals.as_ref().map_or(&[], Principals::names)
    }

    /// An identity provider with accounts for everybody, any of whom the statement would let in.
    ///
    /// AWS refuses such trust policies: <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_create_oidc.html>.
    pub(crate) fn lets_any_subject(&self) -> Option<&'static str> {
        const PUBLIC: &[(&str, &str)] =
            &[("token.actions.githubusercontent.com", "token.actions.githubusercontent.com:sub")];
        let names = |provider: &str| {
            let is_it = |principal: &Principal| match principal {
                Principal::Federated(name) => {
                    name.rsplit_once("oidc-provider/").map_or(&**name, |(_, it)| it) == provider
                }
                _ => false,
            };
            self.principals().iter().any(is_it)
        };
        let (provider, _) = PUBLIC.iter().find(|(provider, subject)| {
            let narrows = |it: &Condition| it.key().eq_ignore_ascii_case(subject) && it.narrows();
            self.effect == Effect::Allow && names(provider) && !self.conditions.iter().any(narrows)
        })?;
        Some(provider)
    }

    /// Whether it applies, and if it names principals: how the caller is named.
    pub(crate) fn applies(&self, request: &Request<'_>, resource: &Sought<'_>) -> Option<Grant> {
        if !self.actions.cover(request.action) || !self.is_on(resource, request.context) {
            return None;
        }
        let grant = self.grant(request.caller)?;
        let holds = self.conditions.iter().all(|condition| condition.holds(request.context));
        holds.then_some(grant)
    }

    /// Whether it speaks of the resource.
    pub(crate) fn is_on(&self, resource: &Sought<'_>, context: Contexts<'_>) -> bool {
        let cover = |resources: &Resources| resources.cover(resource, context, self.effect);
        self.resources.as_ref().is_none_or(cover)
    }

    /// How the caller is named, if it is meant.
    pub(crate) fn grant(&self, caller: &Caller) -> Option<Grant> {
        match (&self.principals, self.effect) {
            (None, _) => Some(Grant::Full),
            (Some(principals), Effect::Allow) => principals.allows(caller),
            (Some(principals), Effect::Deny) => principals.denies(caller).then_some(Grant::Full),
        }
    }

    /// The condition keys that it asks for, in its conditions and variables.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        let patterns = self.resources.iter().flat_map(|resources| &resources.patterns);
        self.conditions
            .iter()
            .flat_map(Condition::keys)
            .chain(patterns.flat_map(Pattern::variables))
    }
}

/// A statement's `Action` or `NotAction`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Actions {
    pub(crate) is_negated: bool,
    /// As written, for rendering.
    pub(crate) sources: Vec<Box<str>>,
    /// `*` is among them.
    pub(crate) any: bool,
    /// By service in lower case: the patterns of names, in lower case.
    pub(crate) by_service: Vec<(Box<str>, Vec<Pattern>)>,
}

impl Actions {
    pub(crate) fn mask(&self) -> ServiceMask {
        if self.is_negated || self.any {
            return ServiceMask::ALL;
        }
        let services = self.by_service.iter().map(|(service, _)| ServiceMask::of(service));
        services.fold(ServiceMask::default(), ServiceMask::or)
    }

    pub(crate) fn cover(&self, action: &Action) -> bool {
        self.names(action) != self.is_negated
    }

    fn names(&self, action: &Action) -> bool {
        self.any
            || self.by_service.iter().any(|(service, names)| {
                **service == *action.service() && names_match(names, action.name())
            })
    }
}

fn names_match(patterns: &[Pattern], name: &str) -> bool {
    // Patterns of actions have no variables, so that no context is asked.
    let none = Context::new();
    patterns.iter().any(|pattern| pattern.matches(name, (&none).into()) == Some(true))
}

/// A statement's `Resource` or `NotResource`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resources {
    pub(crate) is_negated: bool,
    pub(crate) patterns: Vec<Pattern>,
}

impl Resources {
    /// Whether it is every resource.
    pub(crate) fn are_all(&self) -> bool {
        !self.is_negated && self.patterns.iter().any(Pattern::is_any)
    }

    /// What is in the name of every resource that is meant.
    pub(crate) fn needed(&self) -> Pairs {
        let patterns = self.patterns.iter().filter(|_| !self.is_negated);
        patterns.map(Pattern::needed).reduce(Pairs::and).unwrap_or_default()
    }

    /// A variable without a value matches no resource. In `NotResource` that could open what was meant to be
    /// closed, so a statement that allows does not apply then, and one that denies does.
    fn cover(&self, resource: &Sought<'_>, context: Contexts<'_>, effect: Effect) -> bool {
        if !self.is_negated {
            return self.patterns.iter().any(|pattern| {
                resource.may_have(pattern.needed())
                    && pattern.matches(resource.text(), context) == Some(true)
            });
        }
        let mut is_unresolved = false;
        for pattern in &self.patterns {
            match pattern.matches(resource.text(), context) {
                Some(true) => return false,
                Some(false) => {}
                None => is_unresolved = true,
            }
        }
        !is_unresolved || effect == Effect::Deny
    }
}
