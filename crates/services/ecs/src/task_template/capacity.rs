//! On what capacity a request's tasks go: a launch type, or a strategy over providers.

use aws_wire::ApiError;
use ecs_api as api;
use model::task::LaunchType;
use model::{Cluster, StrategyItem};

use crate::capacity::read_strategy;
use crate::errors::Refusal;

/// What was asked for, or what the cluster says by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Capacity {
    Launch(LaunchType),
    Strategy(Vec<StrategyItem>),
}

impl Capacity {
    /// Refused before the cluster is looked up, as ECS does.
    pub(crate) fn check(
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

    pub(crate) fn read(
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
                let strategy = read_strategy(items.to_vec(), &cluster.capacity_providers)?;
                if has_no_weight(&strategy) {
                    const WHY: &str = "At least one capacity provider of a strategy must have a weight greater than zero.";
                    return Err(Refusal::invalid(WHY).into());
                }
                Ok(Self::Strategy(strategy))
            }
            None if cluster.default_strategy.is_empty() => Ok(Self::Launch(LaunchType::Ec2)),
            // A cluster may have such a one: whoever relies on it is told.
            None if has_no_weight(&cluster.default_strategy) => {
                Err(Refusal::invalid(NO_DEFAULT_WEIGHT).into())
            }
            None => Ok(Self::Strategy(cluster.default_strategy.clone())),
        }
    }

    /// The providers of a strategy are all of one kind; those of one's own are made of instances.
    pub(crate) fn kind(&self) -> LaunchType {
        match self {
            Self::Launch(launch) => *launch,
            Self::Strategy(items) if items.iter().any(StrategyItem::is_fargate) => {
                LaunchType::Fargate
            }
            Self::Strategy(_) => LaunchType::Ec2,
        }
    }
}

/// As users of ECS have published it.
const NO_DEFAULT_WEIGHT: &str = "There are no capacity providers with a weight value greater than zero defined in the \
    default capacity provider strategy. At least one capacity provider must have a weight value greater than zero \
    specified. Update the cluster's default capacity provider strategy or specify a valid capacity provider strategy and \
    try again.";

/// Whether none of several providers is given tasks. A single one is given all, whatever its weight.
fn has_no_weight(strategy: &[StrategyItem]) -> bool {
    1 < strategy.len() && strategy.iter().all(|item| item.weight == 0)
}

fn launch_of(launch_type: &api::LaunchType) -> Result<LaunchType, ApiError> {
    match launch_type {
        api::LaunchType::Ec2 => Ok(LaunchType::Ec2),
        api::LaunchType::Fargate => Ok(LaunchType::Fargate),
        api::LaunchType::External => Ok(LaunchType::External),
        _ => {
            let message = "launch type should be one of [EC2,FARGATE,EXTERNAL]";
            Err(Refusal::invalid(message).into())
        }
    }
}
