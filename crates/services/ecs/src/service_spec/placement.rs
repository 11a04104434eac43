//! `placementConstraints` and `placementStrategy` of a service.

use aws_wire::ApiError;
use ecs_api as api;
use model::service::{PlacementConstraint, PlacementStrategy};
use model::task::LaunchType;

use crate::errors::Refusal;

const CONSTRAINTS_MAX: usize = 10;
const STRATEGIES_MAX: usize = 5;
/// What tasks are spread over by zone.
pub(crate) const ZONE_FIELD: &str = "attribute:ecs.availability-zone";

/// Reads constraints; those of the task definition count towards the limit.
pub(crate) fn read_constraints(
    given: &[api::PlacementConstraint],
    defined: usize,
    kind: LaunchType,
) -> Result<Vec<PlacementConstraint>, ApiError> {
    if kind == LaunchType::Fargate && !given.is_empty() {
        let message = "Placement constraints are not supported with FARGATE launch type.";
        return Err(Refusal::invalid(message).into());
    }
    if CONSTRAINTS_MAX < given.len() + defined {
        let message = format!("placementConstraints can have at most {CONSTRAINTS_MAX} items.");
        return Err(Refusal::invalid(message).into());
    }
    given.iter().map(constraint).collect()
}

fn constraint(given: &api::PlacementConstraint) -> Result<PlacementConstraint, ApiError> {
    let expression = given.expression.as_deref().filter(|text| !text.is_empty());
    let refuse = |message: String| Err(Refusal::invalid(message).into());
    match (&given.r#type, expression) {
        (Some(api::PlacementConstraintType::DistinctInstance), None) => {
            Ok(PlacementConstraint::DistinctInstance)
        }
        (Some(api::PlacementConstraintType::DistinctInstance), Some(_)) => {
            refuse("The distinctInstance constraint does not take an expression.".to_owned())
        }
        (Some(api::PlacementConstraintType::MemberOf), Some(text)) => {
            match text.parse::<plan::Expression>() {
                Ok(_) => Ok(PlacementConstraint::MemberOf(text.to_owned())),
                Err(why) => refuse(format!("Invalid expression '{text}': {why}")),
            }
        }
        (Some(api::PlacementConstraintType::MemberOf), None) => {
            refuse("The memberOf constraint requires an expression.".to_owned())
        }
        (_, _) => refuse(
            "Placement constraint type should be one of [distinctInstance,memberOf]".to_owned(),
        ),
    }
}

/// Reads strategies, in the order in which they count.
pub(crate) fn read_strategies(
    given: &[api::PlacementStrategy],
    kind: LaunchType,
) -> Result<Vec<PlacementStrategy>, ApiError> {
    // "To remove an existing placement strategy, specify an empty object."
    let given = match given {
        [only] if only.r#type.is_none() && only.field.as_ref().is_none_or(String::is_empty) => &[],
        given => given,
    };
    if kind == LaunchType::Fargate && !given.is_empty() {
        let message = "Placement strategies are not supported with FARGATE launch type.";
        return Err(Refusal::invalid(message).into());
    }
    if STRATEGIES_MAX < given.len() {
        let message = format!("placementStrategy can have at most {STRATEGIES_MAX} items.");
        return Err(Refusal::invalid(message).into());
    }
    given.iter().map(strategy).collect()
}

fn strategy(given: &api::PlacementStrategy) -> Result<PlacementStrategy, ApiError> {
    let field = given.field.as_deref().unwrap_or_default();
    let invalid = |what: &str| {
        let message =
            format!("The field '{field}' is not valid for the {what} placement strategy.");
        Err(Refusal::invalid(message).into())
    };
    match &given.r#type {
        Some(api::PlacementStrategyType::Random) if field.is_empty() => {
            Ok(PlacementStrategy::Random)
        }
        Some(api::PlacementStrategyType::Random) => invalid("random"),
        Some(api::PlacementStrategyType::Binpack) => match field.to_ascii_lowercase().as_str() {
            "cpu" => Ok(PlacementStrategy::BinpackCpu),
            "memory" => Ok(PlacementStrategy::BinpackMemory),
            _ => invalid("binpack"),
        },
        Some(api::PlacementStrategyType::Spread) => {
            let is_attribute =
                field.strip_prefix("attribute:").is_some_and(|name| !name.is_empty());
            if is_attribute || matches!(field, "instanceId" | "host") {
                Ok(PlacementStrategy::Spread(field.to_owned()))
            } else {
                invalid("spread")
            }
        }
        _ => {
            let message = "Placement strategy type should be one of [random,spread,binpack]";
            Err(Refusal::invalid(message).into())
        }
    }
}

pub(crate) fn render_constraints(rules: &[PlacementConstraint]) -> Vec<api::PlacementConstraint> {
    let render = |rule: &PlacementConstraint| match rule {
        PlacementConstraint::DistinctInstance => api::PlacementConstraint {
            r#type: Some(api::PlacementConstraintType::DistinctInstance),
            expression: None,
        },
        PlacementConstraint::MemberOf(expression) => api::PlacementConstraint {
            r#type: Some(api::PlacementConstraintType::MemberOf),
            expression: Some(expression.clone()),
        },
    };
    rules.iter().map(render).collect()
}

pub(crate) fn render_strategies(strategies: &[PlacementStrategy]) -> Vec<api::PlacementStrategy> {
    let render = |strategy: &PlacementStrategy| {
        let (kind, field) = match strategy {
            PlacementStrategy::Random => (api::PlacementStrategyType::Random, None),
            PlacementStrategy::Spread(field) => {
                (api::PlacementStrategyType::Spread, Some(field.clone()))
            }
            PlacementStrategy::BinpackCpu => {
                (api::PlacementStrategyType::Binpack, Some("CPU".to_owned()))
            }
            PlacementStrategy::BinpackMemory => {
                (api::PlacementStrategyType::Binpack, Some("MEMORY".to_owned()))
            }
        };
        api::PlacementStrategy { r#type: Some(kind), field }
    };
    strategies.iter().map(render).collect()
}
