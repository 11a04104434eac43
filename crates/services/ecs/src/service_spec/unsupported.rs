//! What services can have at Amazon and not here yet: each is refused by its name.
//!
//! Absent, empty and disabled values pass: clients send them along with everything else.

use aws_wire::ApiError;
use ecs_api as api;

use crate::errors::Refusal;

fn refuse(what: &str, why: &str) -> Result<(), ApiError> {
    Err(Refusal::unsupported(format!("{what} is not supported by this region: {why}.")).into())
}

fn is_given<T>(list: Option<&[T]>) -> bool {
    list.is_some_and(|list| !list.is_empty())
}

/// The members that tie a service's tasks to what this region does not have.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ties<'a> {
    /// Of task sets, and of services whose tasks are in task sets.
    pub(crate) load_balancers: Option<&'a [api::LoadBalancer]>,
    pub(crate) service_registries: Option<&'a [api::ServiceRegistry]>,
    /// Of services whose tasks are in task sets.
    pub(crate) service_connect: Option<&'a api::ServiceConnectConfiguration>,
    pub(crate) volumes: Option<&'a [api::ServiceVolumeConfiguration]>,
    pub(crate) vpc_lattice: Option<&'a [api::VpcLatticeConfiguration]>,
    pub(crate) gateway_connectors: Option<&'a [api::GatewayConnector]>,
    pub(crate) monitoring: Option<&'a api::MonitoringConfiguration>,
}

impl Ties<'_> {
    pub(crate) fn check(self) -> Result<(), ApiError> {
        if is_given(self.load_balancers) {
            return refuse("loadBalancers", "its task sets have no load balancers");
        }
        if is_given(self.service_registries) {
            return refuse("serviceRegistries", "its task sets have no service discovery");
        }
        if self.service_connect.is_some_and(|connect| connect.enabled == Some(true)) {
            return refuse("serviceConnectConfiguration", "its task sets have no Service Connect");
        }
        if is_given(self.volumes) {
            return refuse("volumeConfigurations", "it has no volumes that are made at launch");
        }
        if is_given(self.vpc_lattice) {
            return refuse("vpcLatticeConfigurations", "it has no VPC Lattice");
        }
        if is_given(self.gateway_connectors) {
            return refuse("gatewayConnectors", "it has no gateways");
        }
        let metrics = self.monitoring.and_then(|each| each.metric_configurations.as_deref());
        if is_given(metrics) {
            return refuse("monitoring", "it keeps what services use by the minute");
        }
        Ok(())
    }
}

/// What a deployment configuration asks for beyond rolling updates.
pub(super) fn check_deployment(given: &api::DeploymentConfiguration) -> Result<(), ApiError> {
    if given.strategy.as_ref().is_some_and(|strategy| !strategy.is_known()) {
        let values = api::DeploymentStrategy::VALUES.join(",");
        let message = format!("deployment strategy should be one of [{values}]");
        return Err(Refusal::invalid(message).into());
    }
    if given.alarms.as_ref().is_some_and(|alarms| alarms.enable == Some(true)) {
        return refuse("deploymentConfiguration.alarms", "its deployments look at no alarms");
    }
    if given.early_success_criteria.as_ref().is_some_and(|early| early.enable == Some(true)) {
        return refuse(
            "deploymentConfiguration.earlySuccessCriteria",
            "its deployments succeed once all their tasks are there",
        );
    }
    Ok(())
}
