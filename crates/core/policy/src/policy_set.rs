//! The policies of a principal, kept together so that they need be gone through once for each action.
//!
//! What a principal may is asked again and again, of the same few actions. Which statements speak of an action, and which
//! of those say nothing that another has not said, does not depend on the request: it is found out when an action is
//! first asked about, and kept.
//!
//! **Invariant:** what is left out of a [`Shortlist`] can never be the statement that decides.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::condition::Condition;
use crate::context::KeyMask;
use crate::document::Policy;
use crate::evaluate::{Layer, Policies, StatementRef};
use crate::limits::{ACTIONS_KEPT_MAX, CANDIDATES_KEPT_MAX, COMPARISONS_MAX};
use crate::pattern::Pattern;
use crate::request::{Action, NotAnAction};
use crate::sought::Pairs;
use crate::statement::{Effect, Resources, Statement};

/// The identity policies of a principal, and its boundary.
#[derive(Debug, Default)]
pub struct PolicySet {
    identity: Vec<Arc<Policy>>,
    boundary: Option<Arc<Policy>>,
    asked: RwLock<BTreeMap<Box<str>, Arc<Shortlist>>>,
}

impl Clone for PolicySet {
    fn clone(&self) -> Self {
        Self::new(self.identity.clone(), self.boundary.clone())
    }
}

impl PolicySet {
    pub fn new(identity: Vec<Arc<Policy>>, boundary: Option<Arc<Policy>>) -> Self {
        Self { identity, boundary, asked: RwLock::default() }
    }

    pub fn identity(&self) -> &[Arc<Policy>] {
        &self.identity
    }

    pub fn boundary(&self) -> Option<&Arc<Policy>> {
        self.boundary.as_ref()
    }

    /// The condition keys that the policies ask for.
    pub fn key_mask(&self) -> KeyMask {
        let all = self.identity.iter().chain(&self.boundary);
        all.fold(KeyMask::NONE, |mask, policy| mask.or(policy.key_mask()))
    }

    /// What speaks of an action such as `ecs:RunTask`.
    pub(crate) fn on(&self, action: &str) -> Result<Arc<Shortlist>, NotAnAction> {
        let known = self.asked.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(action) {
            return Ok(Arc::clone(known));
        }
        drop(known);
        let made = Arc::new(self.shortlist(action.parse()?));
        let mut kept = self.asked.write().unwrap_or_else(PoisonError::into_inner);
        let candidates = kept.values().map(|each| each.candidates.len()).sum::<usize>();
        let is_room = candidates + made.candidates.len() <= CANDIDATES_KEPT_MAX;
        if kept.len() < ACTIONS_KEPT_MAX && is_room {
            kept.insert(action.into(), Arc::clone(&made));
        }
        Ok(made)
    }

    fn shortlist(&self, action: Action) -> Shortlist {
        let policies = Policies {
            identity: &self.identity,
            boundary: self.boundary.as_ref(),
            ..Policies::default()
        };
        let (mut candidates, mut left) = (Vec::new(), COMPARISONS_MAX);
        for layer in [Layer::Identity, Layer::Boundary] {
            let mut heard: Vec<&Statement> = Vec::new();
            for (candidate, statement) in candidates_of(&policies, layer, &action) {
                // Beyond the bound nothing is left out.
                let is_compared = heard.len() <= left;
                if is_compared {
                    left -= heard.len();
                    if heard.iter().any(|earlier| says_all_of(earlier, statement)) {
                        continue;
                    }
                    heard.push(statement);
                }
                candidates.push(candidate);
            }
        }
        Shortlist { action, candidates }
    }
}

/// What of a set of policies speaks of an action.
#[derive(Debug)]
pub(crate) struct Shortlist {
    pub(crate) action: Action,
    /// In the order in which they are asked.
    pub(crate) candidates: Vec<Candidate>,
}

/// A statement that speaks of an action, with what is looked at first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) at: StatementRef,
    pub(crate) effect: Effect,
    /// It does not speak of all resources.
    pub(crate) is_limited: bool,
    /// It asks for the tags or the account of the resource, in conditions or in patterns.
    pub(crate) asks: bool,
    /// What is in the name of every resource that it speaks of.
    pub(crate) needed: Pairs,
}

/// The statements of a layer that speak of an action.
pub(crate) fn candidates_of<'a>(
    policies: &Policies<'a>,
    layer: Layer,
    action: &Action,
) -> impl Iterator<Item = (Candidate, &'a Statement)> {
    policies.layer(layer).iter().enumerate().flat_map(move |(policy, each)| {
        let concerned = each.concerning(action.mask());
        let concerned = concerned.filter(|(_, statement)| statement.actions.cover(action));
        concerned.map(move |(index, statement)| {
            let at = StatementRef { layer, policy, statement: index };
            (Candidate::of(at, statement), statement)
        })
    })
}

impl Candidate {
    fn of(at: StatementRef, statement: &Statement) -> Self {
        let resources = statement.resources.as_ref();
        Self {
            at,
            effect: statement.effect,
            is_limited: resources.is_some_and(|resources| !resources.are_all()),
            asks: statement.asks_about_resource(),
            needed: resources.map(Resources::needed).unwrap_or_default(),
        }
    }
}

/// Whether a statement on the same action can decide nothing that the earlier one has not decided: it says the same, or
/// allows some of what that one allows whatever the circumstances are.
fn says_all_of(earlier: &Statement, statement: &Statement) -> bool {
    if earlier.effect != statement.effect || earlier.principals.is_some() {
        return false;
    }
    let is_all = earlier.resources.as_ref().is_none_or(Resources::are_all);
    let is_whole = is_all && earlier.conditions.is_empty();
    let is_same = || {
        (&earlier.principals, &earlier.resources, &earlier.conditions)
            == (&statement.principals, &statement.resources, &statement.conditions)
    };
    is_whole || is_same()
}

impl Statement {
    /// Whether it asks for the tags or the account of what is asked about.
    fn asks_about_resource(&self) -> bool {
        let patterns = self.resources.iter().flat_map(|resources| &resources.patterns);
        self.conditions.iter().any(Condition::is_about_resource)
            || patterns.flat_map(Pattern::variables).any(crate::context::is_about_resource)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::PolicyKind;

    #[test]
    fn what_is_kept_of_many_statements_is_bounded_and_what_is_not_kept_is_found_again() {
        const STATEMENTS: usize = 1_000;
        let deny = |number| {
            format!(r#"{{"Effect":"Deny","Action":"*","Resource":"arn:aws:sqs:::{number}"}}"#)
        };
        let list: Vec<String> = (0..STATEMENTS).map(deny).collect();
        let text = format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, list.join(","));
        let policy = Policy::parse(&text, PolicyKind::Identity).unwrap();
        let set = PolicySet::new(vec![Arc::new(policy)], None);
        for _ in 0..2 {
            for number in 0..20 {
                let found = set.on(&format!("sqs:Action{number}")).unwrap();
                assert_eq!(found.candidates.len(), STATEMENTS);
            }
            let kept = set.asked.read().unwrap();
            let candidates: usize = kept.values().map(|each| each.candidates.len()).sum();
            assert!(0 < candidates && candidates <= CANDIDATES_KEPT_MAX, "{candidates}");
        }
    }
}
