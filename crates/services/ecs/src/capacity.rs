//! Capacity providers as requests name them: one by one, a cluster's, and in strategies.
//!
//! Those of Fargate are every account's. One of one's own stands for the instances that say they
//! belong to its Auto Scaling group: see [`super::pool`].

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use ecs_api as api;
use longshore_types::{AccountId, CapacityProviderArn};
use model::cluster::FARGATE_PROVIDERS;
use model::{CapacityProvider, Key, StrategyItem, View};
use store::Batch;

use crate::Ecs;
use crate::errors::Refusal;

const STRATEGY_ITEMS_MAX: usize = 20;
const BASE_MAX: u32 = 100_000;
const WEIGHT_MAX: u32 = 1_000;

/// Whether a provider is one of those that every account has.
pub(crate) fn is_fargate(name: &str) -> bool {
    FARGATE_PROVIDERS.contains(&name)
}

/// The name in a name or an ARN.
pub(super) fn provider_name(ecs: &Ecs, caller: &Caller, given: &str) -> Result<String, ApiError> {
    if !given.starts_with("arn:") {
        return Ok(given.to_owned());
    }
    let arn: CapacityProviderArn =
        given.parse().map_err(|_| Refusal::BadIdentifier { given: given.to_owned() })?;
    ecs.check_scope(caller, &arn.scope)?;
    Ok(arn.name)
}

/// A provider of one's own that was not deleted.
pub(crate) fn own_provider<'v>(
    view: &'v View,
    account: AccountId,
    name: &str,
) -> Option<&'v Arc<CapacityProvider>> {
    view.capacity_providers.get(account, &name.to_owned()).filter(|provider| provider.is_active())
}

/// Reads the providers that a cluster is to be associated with, each once.
pub(super) fn read_providers(
    ecs: &Ecs,
    caller: &Caller,
    given: Option<Vec<String>>,
) -> Result<Vec<String>, ApiError> {
    let mut providers: Vec<String> = Vec::new();
    for given in given.unwrap_or_default() {
        let name = provider_name(ecs, caller, &given)?;
        if !providers.contains(&name) {
            providers.push(name);
        }
    }
    if ecs.control.config.limits.capacity_providers_per_cluster_max < providers.len() {
        let message = "The maximum number of capacity providers per cluster has been exceeded.";
        return Err(Refusal::invalid(message).into());
    }
    Ok(providers)
}

/// Refuses providers that are not there; those that are, stay so until the batch is written.
pub(super) fn check_providers(
    view: &View,
    account: AccountId,
    providers: &[String],
    batch: &mut Batch,
) -> Result<(), ApiError> {
    for name in providers.iter().filter(|name| !is_fargate(name)) {
        if own_provider(view, account, name).is_none() {
            let message = format!(
                "The specified capacity provider '{name}' was not found. Specify a valid name or \
                 ARN and try again."
            );
            return Err(Refusal::invalid(message).into());
        }
        batch.rely(Key::CapacityProvider(account, name.clone()));
    }
    Ok(())
}

/// Reads and checks a strategy over the providers that a cluster is `associated` with.
pub(crate) fn read_strategy(
    items: Vec<api::CapacityProviderStrategyItem>,
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
    let of_fargate = strategy.iter().filter(|item| item.is_fargate()).count();
    if of_fargate != 0 && of_fargate != strategy.len() {
        let message = "A capacity provider strategy cannot contain a mix of capacity providers \
                       using Auto Scaling groups and Fargate providers. Specify one or the other \
                       and try again.";
        return Err(Refusal::invalid(message).into());
    }
    Ok(strategy)
}

fn read_item(item: api::CapacityProviderStrategyItem) -> Result<StrategyItem, ApiError> {
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

pub(crate) fn render_strategy(strategy: &[StrategyItem]) -> Vec<api::CapacityProviderStrategyItem> {
    let render = |item: &StrategyItem| api::CapacityProviderStrategyItem {
        capacity_provider: Some(item.capacity_provider.clone()),
        weight: i32::try_from(item.weight).ok(),
        base: i32::try_from(item.base).ok(),
    };
    strategy.iter().map(render).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strategy_is_checked_against_the_cluster_and_itself() {
        let both = FARGATE_PROVIDERS.map(str::to_owned);
        let item = |name: &str, weight, base| api::CapacityProviderStrategyItem {
            capacity_provider: Some(name.to_owned()),
            weight,
            base,
        };
        let read = |items: Vec<_>| read_strategy(items, &both);
        let strategy =
            read(vec![item("FARGATE", Some(1), Some(2)), item("FARGATE_SPOT", Some(4), None)]);
        assert_eq!(strategy.unwrap()[1].weight, 4);
        assert!(read(vec![item("FARGATE", None, None)]).is_ok());
        // A cluster's default may be so; whoever is to be started by it is refused.
        assert!(read(vec![item("FARGATE", None, None), item("FARGATE_SPOT", None, None)]).is_ok());
        assert!(
            read(vec![item("FARGATE", Some(1), None), item("FARGATE", Some(1), None)]).is_err()
        );
        assert!(read(vec![item("FARGATE", Some(1001), None)]).is_err());
        assert!(read(vec![item("FARGATE", Some(1), Some(-1))]).is_err());
        let error = read_strategy(vec![item("FARGATE", Some(1), None)], &[]).unwrap_err();
        assert_eq!(
            error.message,
            "The specified capacity provider strategy cannot contain a capacity provider that is \
             not associated with the cluster. Associate the capacity provider with the cluster or \
             specify a valid capacity provider and try again."
        );
        let mixed = vec![item("FARGATE", Some(1), None), item("mine", Some(1), None)];
        let error = read_strategy(mixed, &["FARGATE".to_owned(), "mine".to_owned()]).unwrap_err();
        assert_eq!(error.code, "InvalidParameterException");
        assert_eq!(
            error.message,
            "A capacity provider strategy cannot contain a mix of capacity providers using Auto \
             Scaling groups and Fargate providers. Specify one or the other and try again."
        );
    }
}
