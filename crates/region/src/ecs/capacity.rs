//! Capacity providers: the two that every account has, and strategies that name them.

use aws_api::ecs;
use aws_wire::ApiError;
use model::StrategyItem;

use crate::errors::Refusal;

/// The providers of every account.
pub const PROVIDERS: [&str; 2] = ["FARGATE", "FARGATE_SPOT"];

const STRATEGY_ITEMS_MAX: usize = 20;
const BASE_MAX: u32 = 100_000;
const WEIGHT_MAX: u32 = 1_000;

/// Whether there is a provider of this name.
pub fn is_provider(name: &str) -> bool {
    PROVIDERS.contains(&name)
}

/// Reads and checks the providers that a cluster is to be associated with.
pub fn read_providers(names: Option<Vec<String>>) -> Result<Vec<String>, ApiError> {
    let mut providers: Vec<String> = Vec::new();
    for name in names.unwrap_or_default() {
        if !is_provider(&name) {
            let message = format!("The specified capacity provider '{name}' was not found.");
            return Err(Refusal::invalid(message).into());
        }
        if !providers.contains(&name) {
            providers.push(name);
        }
    }
    Ok(providers)
}

/// Reads and checks a strategy over the providers that a cluster is `associated` with.
pub fn read_strategy(
    items: Vec<ecs::CapacityProviderStrategyItem>,
    associated: &[String],
) -> Result<Vec<StrategyItem>, ApiError> {
    if STRATEGY_ITEMS_MAX < items.len() {
        let message =
            format!("A capacity provider strategy can have at most {STRATEGY_ITEMS_MAX} items.");
        return Err(Refusal::invalid(message).into());
    }
    let mut strategy: Vec<StrategyItem> = Vec::new();
    for item in items {
        let item = read_item(item)?;
        if !associated.contains(&item.capacity_provider) {
            return Err(Refusal::ProviderNotAssociated.into());
        }
        if strategy.iter().any(|other| other.capacity_provider == item.capacity_provider) {
            let message = "A capacity provider can be in a strategy only once.";
            return Err(Refusal::invalid(message).into());
        }
        strategy.push(item);
    }
    if 1 < strategy.iter().filter(|item| item.base != 0).count() {
        let message = "Only one capacity provider of a strategy can have a base.";
        return Err(Refusal::invalid(message).into());
    }
    if 1 < strategy.len() && strategy.iter().all(|item| item.weight == 0) {
        let message =
            "At least one capacity provider of a strategy must have a weight greater than zero.";
        return Err(Refusal::invalid(message).into());
    }
    Ok(strategy)
}

fn read_item(item: ecs::CapacityProviderStrategyItem) -> Result<StrategyItem, ApiError> {
    let bounded = |what: &str, value: Option<i32>, max: u32| match u32::try_from(value.unwrap_or(0))
    {
        Ok(value) if value <= max => Ok(value),
        _ => {
            let message =
                format!("The {what} of a capacity provider strategy must be between 0 and {max}.");
            Err(Refusal::invalid(message))
        }
    };
    let provider = item.capacity_provider.unwrap_or_default();
    if provider.is_empty() {
        return Err(
            Refusal::invalid("The capacity provider of a strategy can not be empty.").into()
        );
    }
    Ok(StrategyItem {
        capacity_provider: provider,
        weight: bounded("weight", item.weight, WEIGHT_MAX)?,
        base: bounded("base", item.base, BASE_MAX)?,
    })
}

pub fn show_strategy(strategy: &[StrategyItem]) -> Vec<ecs::CapacityProviderStrategyItem> {
    let show = |item: &StrategyItem| ecs::CapacityProviderStrategyItem {
        capacity_provider: Some(item.capacity_provider.clone()),
        weight: i32::try_from(item.weight).ok(),
        base: i32::try_from(item.base).ok(),
    };
    strategy.iter().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strategy_is_checked_against_the_cluster_and_itself() {
        let both = PROVIDERS.map(str::to_owned);
        let item = |name: &str, weight, base| ecs::CapacityProviderStrategyItem {
            capacity_provider: Some(name.to_owned()),
            weight,
            base,
        };
        let read = |items: Vec<_>| read_strategy(items, &both);
        let strategy =
            read(vec![item("FARGATE", Some(1), Some(2)), item("FARGATE_SPOT", Some(4), None)]);
        assert_eq!(strategy.unwrap()[1].weight, 4);
        assert!(read(vec![item("FARGATE", None, None)]).is_ok());
        assert!(read(vec![item("FARGATE", None, None), item("FARGATE_SPOT", None, None)]).is_err());
        assert!(
            read(vec![item("FARGATE", Some(1), None), item("FARGATE", Some(1), None)]).is_err()
        );
        assert!(read(vec![item("FARGATE", Some(1001), None)]).is_err());
        assert!(read(vec![item("FARGATE", Some(1), Some(-1))]).is_err());
        let error = read_strategy(vec![item("FARGATE", Some(1), None)], &[]).unwrap_err();
        assert!(error.message.contains("not associated"), "{error}");
    }
}
