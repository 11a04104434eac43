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
                read_strategy(items.to_vec(), &cluster.capacity_providers).map(Self::Strategy)
            }
            None if cluster.default_strategy.is_empty() => Ok(Self::Launch(LaunchType::Ec2)),
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
