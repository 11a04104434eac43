//! One action of a caller, asked about one resource after the other.
//!
//! [`Inquiry::decide`] answers as [`crate::evaluate`] would, statement for statement. It has gone through the policies once:
//! of each statement that speaks of the action, whom it names and what it asks about the request are found out when a
//! resource first needs it, and remembered. What is left for each resource is its name, its tags and its account, and
//! where no statement cares for those, the answer is the same for all ([`Inquiry::is_same_for_all`]).

use std::cell::Cell;
use std::sync::Arc;

use longshore_types::AccountId;

use crate::context::{Contexts, is_about_resource};
use crate::document::Policy;
use crate::evaluate::{Decision, Findings, Layer, Policies, ResourceKind, StatementRef, conclude};
use crate::policy_set::{Candidate, PolicySet, Shortlist, candidates_of};
use crate::principal::Grant;
use crate::request::{Action, Caller, NotAnAction};
use crate::sought::Sought;
use crate::statement::{Effect, Statement};

/// The policies that concern a request beside those of its principal, as in [`Policies`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside<'a> {
    pub session: Option<&'a [Arc<Policy>]>,
    pub resource: &'a [Arc<Policy>],
    pub resource_kind: ResourceKind,
}

/// What of a statement does not depend on the resource.
#[derive(Clone, Copy, Debug)]
enum State {
    Unknown,
    Fails,
    Holds(Grant),
}

#[derive(Debug)]
pub struct Inquiry<'a> {
    caller: &'a Caller,
    context: Contexts<'a>,
    policies: Policies<'a>,
    /// Of identity policies and boundary.
    kept: Arc<Shortlist>,
    /// Of session and resource policies.
    own: Vec<Candidate>,
    /// Of all candidates, in their order.
    states: Vec<Cell<State>>,
}

impl<'a> Inquiry<'a> {
    /// About an action such as `ecs:RunTask`. `context` is what is known whichever resource it is about.
    pub fn new(
        caller: &'a Caller,
        action: &str,
        context: Contexts<'a>,
        set: &'a PolicySet,
        beside: Beside<'a>,
    ) -> Result<Self, NotAnAction> {
        let kept = set.on(action)?;
        let policies = Policies {
            identity: set.identity(),
            boundary: set.boundary(),
            session: beside.session,
            resource: beside.resource,
            resource_kind: beside.resource_kind,
        };
        let layers = [Layer::Session, policies.resource_layer()];
        let own = layers.map(|layer| candidates_of(&policies, layer, &kept.action));
        let own: Vec<Candidate> =
            own.into_iter().flatten().map(|(candidate, _)| candidate).collect();
        let states = vec![Cell::new(State::Unknown); kept.candidates.len() + own.len()];
        Ok(Self { caller, context, policies, kept, own, states })
    }

    pub fn action(&self) -> &Action {
        &self.kept.action
    }

    /// All policies that are asked.
    pub fn policies(&self) -> Policies<'a> {
        self.policies
    }

    /// The decision about a resource, whose account is the caller's if none is given. `about` is the context with what is
    /// known of the resource over it: its tags, its account, and nothing else.
    pub fn decide(
        &self,
        resource: &str,
        owner: Option<AccountId>,
        about: Contexts<'_>,
    ) -> Decision {
        match self.find(&Sought::new(resource), about) {
            Ok(findings) => conclude(self.caller, owner, &self.policies, &findings),
            Err(deny) => Decision::ExplicitDeny(deny),
        }
    }

    /// Whether all resources of an account get the same decision.
    pub fn is_same_for_all(&self) -> bool {
        let mut is_allowed = [false; Layer::COUNT];
        self.each().all(|(candidate, state)| {
            let cares = candidate.is_limited || candidate.asks;
            let slot = candidate.at.layer.slot();
            let adds_nothing = candidate.effect == Effect::Allow && is_allowed[slot];
            if adds_nothing || matches!(self.known(candidate, state), State::Fails) {
                return true;
            }
            let is_full = matches!(state.get(), State::Holds(Grant::Full));
            is_allowed[slot] |= !cares && candidate.effect == Effect::Allow && is_full;
            !cares
        })
    }

    /// The condition keys about the resource that statements may still ask for.
    pub fn keys_about_resource(&self) -> Vec<&'a str> {
        let asking = self
            .each()
            .filter(|(candidate, state)| candidate.asks && !matches!(state.get(), State::Fails));
        let statements = asking.filter_map(|(candidate, _)| self.policies.statement(candidate.at));
        let mut keys: Vec<&str> = Vec::new();
        for key in statements.flat_map(Statement::keys).filter(|key| is_about_resource(key)) {
            if !keys.iter().any(|known| known.eq_ignore_ascii_case(key)) {
                keys.push(key);
            }
        }
        keys
    }

    fn each(&self) -> impl Iterator<Item = (&Candidate, &Cell<State>)> {
        self.kept.candidates.iter().chain(&self.own).zip(&self.states)
    }

    /// As `evaluate` goes through them: the first Deny, or the strongest Allow of each layer.
    fn find(&self, resource: &Sought<'_>, about: Contexts<'_>) -> Result<Findings, StatementRef> {
        let mut findings = Findings::default();
        for (candidate, state) in self.each() {
            let known = findings.grant(candidate.at.layer);
            // One that can add nothing need not be looked at.
            if candidate.effect == Effect::Allow && known == Some(Grant::Full) {
                continue;
            }
            let Some(grant) = self.grant(candidate, state, resource, about) else { continue };
            match candidate.effect {
                Effect::Deny => return Err(candidate.at),
                Effect::Allow if Some(grant) > known => findings.allow(candidate.at, grant),
                Effect::Allow => {}
            }
        }
        Ok(findings)
    }

    fn grant(
        &self,
        candidate: &Candidate,
        state: &Cell<State>,
        resource: &Sought<'_>,
        about: Contexts<'_>,
    ) -> Option<Grant> {
        if matches!(state.get(), State::Fails) || !resource.may_have(candidate.needed) {
            return None;
        }
        let statement = self.policies.statement(candidate.at)?;
        if candidate.is_limited && !statement.is_on(resource, about) {
            return None;
        }
        let State::Holds(grant) = self.known(candidate, state) else { return None };
        let mut left = statement.conditions.iter().filter(|each| each.is_about_resource());
        (!candidate.asks || left.all(|condition| condition.holds(about))).then_some(grant)
    }

    /// What of a statement does not depend on the resource, found out once.
    fn known(&self, candidate: &Candidate, state: &Cell<State>) -> State {
        if let State::Unknown = state.get() {
            let holds = |statement: &&Statement| {
                let mut plain = statement.conditions.iter().filter(|it| !it.is_about_resource());
                plain.all(|condition| condition.holds(self.context))
            };
            let statement = self.policies.statement(candidate.at);
            let grant = statement.and_then(|statement| statement.grant(self.caller));
            let grant = grant.filter(|_| statement.as_ref().is_some_and(holds));
            state.set(grant.map_or(State::Fails, State::Holds));
        }
        state.get()
    }
}
