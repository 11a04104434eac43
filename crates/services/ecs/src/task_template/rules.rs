//! Placement rules as rows keep them, made into what placement asks.

use model::TaskDefinition;
use model::service::{PlacementConstraint, PlacementStrategy};
use plan::{Constraint, Field, Strategy};

use crate::errors::Refusal;

/// The definition's expressions and the rules of whoever makes the tasks, together.
pub(crate) fn constraints<'r>(
    definition: &TaskDefinition,
    rules: impl IntoIterator<Item = &'r PlacementConstraint>,
) -> Result<Vec<Constraint>, Refusal> {
    let defined = definition.placement_expressions.iter().map(|expression| member_of(expression));
    let given = rules.into_iter().map(|rule| match rule {
        PlacementConstraint::DistinctInstance => Ok(Constraint::DistinctInstance),
        PlacementConstraint::MemberOf(expression) => member_of(expression),
    });
    defined.chain(given).collect()
}

fn member_of(expression: &str) -> Result<Constraint, Refusal> {
    expression
        .parse()
        .map(Constraint::MemberOf)
        .map_err(|why| Refusal::invalid(format!("Invalid expression '{expression}': {why}")))
}

/// In the order in which they count.
pub(crate) fn strategies(strategies: &[PlacementStrategy]) -> Vec<Strategy> {
    let strategy = |strategy: &PlacementStrategy| match strategy {
        PlacementStrategy::Random => Strategy::Random,
        PlacementStrategy::BinpackCpu => Strategy::BinpackCpu,
        PlacementStrategy::BinpackMemory => Strategy::BinpackMemory,
        PlacementStrategy::Spread(field) => {
            Strategy::Spread(match field.strip_prefix("attribute:") {
                Some(name) => Field::Attribute(name.to_owned()),
                None => Field::Instance,
            })
        }
    };
    strategies.iter().map(strategy).collect()
}
