//! Everything that bears on a decision: for policy simulation, and for why something was denied.

use std::collections::{BTreeMap, BTreeSet};

use crate::evaluate::{Decision, Layer, Policies, StatementRef, evaluate};
use crate::request::Request;
use crate::sought::Sought;
use crate::statement::Effect;

/// What the policies of a layer say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Allowed,
    ImplicitlyDenied,
    ExplicitlyDenied,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    pub decision: Decision,
    /// The statements that apply. If one of them denies, only those that deny.
    pub matched: Vec<StatementRef>,
    /// The condition keys that statements on this action ask for and the request does not have.
    pub missing: BTreeSet<String>,
    /// The layers that there are, and what each says by itself.
    pub layers: BTreeMap<Layer, Outcome>,
}

/// The decision with all that led to it. Slower than [`evaluate`], which stops at the first Deny.
pub fn explain(request: &Request<'_>, policies: &Policies<'_>) -> Explanation {
    let (mut allows, mut denies) = (Vec::new(), Vec::new());
    let (mut keys, mut layers) = (BTreeSet::new(), BTreeMap::new());
    let resource = Sought::new(request.resource);
    let all = [Layer::Identity, Layer::Boundary, Layer::Session, policies.resource_layer()];
    for layer in all {
        let (allowed_before, denied_before) = (allows.len(), denies.len());
        for (policy, each) in policies.layer(layer).iter().enumerate() {
            for (index, statement) in each.concerning(request.action.mask()) {
                if !statement.actions.cover(request.action) {
                    continue;
                }
                keys.extend(statement.keys().map(str::to_owned));
                if statement.applies(request, &resource).is_some() {
                    let matched = match statement.effect {
                        Effect::Allow => &mut allows,
                        Effect::Deny => &mut denies,
                    };
                    matched.push(StatementRef { layer, policy, statement: index });
                }
            }
        }
        let is_there = match layer {
            Layer::Identity => true,
            Layer::Boundary | Layer::Resource | Layer::Trust => !policies.layer(layer).is_empty(),
            Layer::Session => policies.session.is_some(),
        };
        let outcome = if denies.len() > denied_before {
            Outcome::ExplicitlyDenied
        } else if allows.len() > allowed_before {
            Outcome::Allowed
        } else {
            Outcome::ImplicitlyDenied
        };
        if is_there {
            layers.insert(layer, outcome);
        }
    }
    let missing = keys.into_iter().filter(|key| request.context.get(key).is_none()).collect();
    Explanation {
        decision: evaluate(request, policies),
        matched: if denies.is_empty() { allows } else { denies },
        missing,
        layers,
    }
}
