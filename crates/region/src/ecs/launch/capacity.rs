//! On what capacity a request's tasks go: a launch type, or a strategy over providers.

use aws_api::ecs as api;
use aws_wire::ApiError;
use model::task::Launch;
use model::{Cluster, StrategyItem};

use crate::ecs::capacity::read_strategy;
use crate::errors::Refusal;

/// What was asked for, or what the cluster says by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ecs) enum Capacity {
    Launch(Launch),
    Strategy(Vec<StrategyItem>),
}

impl Capacity {
    /// Refused before the cluster is looked up, as ECS does.
    pub(in crate::ecs) fn check(
        launch_type: Option<&api::LaunchType>,
        strategy: Option<&[api::CapacityProviderStrategyItem]>,
    ) -> Result<(), ApiError> {
        if let Some(launch_type) = launch_type {
            launch_of(launch_type)?;
            if strategy.is_some_and(|strategy| !strategy.is_empty()) {
                let message = "Specifying both a launch type and capacity provider strategy is not \
                               supported. Remove one and try again.";
                return Err(Refusal::invalid(message).into());
            }
        }
        Ok(())
    }

    pub(in crate::ecs) fn read(
        launch_type: Option<&api::LaunchType>,
        strategy: Option<&[api::CapacityProviderStrategyItem]>,
        cluster: &Cluster,
    ) -> Result<Self, ApiError> {
        Self::check(launch_type, strategy)?;
        if let Some(launch_type) = launch_type {
            return launch_of(launch_type).map(Self::Launch);
        }
        match strategy.filter(|strategy| !strategy.is_empty()) {
            Some(items) => {
                read_strategy(items.to_vec(), &cluster.capacity_providers).map(Self::Strategy)
            }
            None if cluster.default_strategy.is_empty() => Ok(Self::Launch(Launch::Ec2)),
            None => Ok(Self::Strategy(cluster.default_strategy.clone())),
        }
    }

    /// The providers there are, are Fargate's.
    pub(in crate::ecs) fn kind(&self) -> Launch {
        match self {
            Self::Launch(launch) => *launch,
            Self::Strategy(_) => Launch::Fargate,
        }
    }
}

fn launch_of(launch_type: &api::LaunchType) -> Result<Launch, ApiError> {
    match launch_type {
        api::LaunchType::Ec2 => Ok(Launch::Ec2),
        api::LaunchType::Fargate => Ok(Launch::Fargate),
        api::LaunchType::External => Ok(Launch::External),
        _ => {
            let message = "launch type should be one of [EC2,FARGATE,EXTERNAL]";
            Err(Refusal::invalid(message).into())
        }
    }
}

/// Divided by weights, so that shares compare as whole numbers.
const SCALE: u64 = 1 << 32;

/// Which provider each of `count` tasks goes to: the base first, then by weight, each to the
/// provider that is furthest behind its share.
pub(in crate::ecs) fn share(strategy: &[StrategyItem], count: usize) -> Vec<&StrategyItem> {
    let base: usize = strategy.iter().map(|item| usize::try_from(item.base).unwrap_or(0)).sum();
    let mut given: Vec<u64> = vec![0; strategy.len()];
    let mut shared = Vec::with_capacity(count);
    let with_base = strategy.iter().find(|item| item.base > 0);
    shared.extend(std::iter::repeat_n(with_base, base.min(count)).flatten());
    while shared.len() < count {
        let next = strategy
            .iter()
            .enumerate()
            .filter(|(_, item)| item.weight > 0)
            // Compare given/weight without dividing; ties go to the first named.
            .min_by_key(|(index, item)| (given[*index] + 1) * SCALE / u64::from(item.weight));
        // A single provider needs no weight.
        let Some((index, item)) = next.or(strategy.iter().enumerate().next()) else { break };
        given[index] += 1;
        shared.push(item);
    }
    shared
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str, weight: u32, base: u32) -> StrategyItem {
        StrategyItem { capacity_provider: name.to_owned(), weight, base }
    }

    fn counts(strategy: &[StrategyItem], count: usize) -> Vec<usize> {
        let shared = share(strategy, count);
        assert_eq!(shared.len(), count);
        let of = |item: &StrategyItem| shared.iter().filter(|each| ***each == *item).count();
        strategy.iter().map(of).collect()
    }

    #[test]
    fn the_base_comes_first_and_the_rest_follows_the_weights() {
        let strategy = [item("FARGATE", 1, 2), item("FARGATE_SPOT", 3, 0)];
        assert_eq!(counts(&strategy, 1), [1, 0]);
        assert_eq!(counts(&strategy, 2), [2, 0]);
        assert_eq!(counts(&strategy, 10), [4, 6]);
        assert_eq!(counts(&[item("FARGATE", 0, 0)], 3), [3]);
        assert_eq!(counts(&[item("FARGATE", 0, 1), item("FARGATE_SPOT", 1, 0)], 3), [1, 2]);
    }
}
