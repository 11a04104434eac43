//! Amazon EC2, as far as tasks need it: the default VPC and what is in it, described.

mod filter;
mod interfaces;
mod network;
mod routes;
mod routing;
mod zones;

use std::sync::Arc;

use aws_api::ec2::{
    DescribeAccountAttributesRequest, DescribeAccountAttributesResult,
    DescribeAvailabilityZonesRequest, DescribeAvailabilityZonesResult,
    DescribeInternetGatewaysRequest, DescribeInternetGatewaysResult,
    DescribeNetworkInterfacesRequest, DescribeNetworkInterfacesResult, DescribeRegionsRequest,
    DescribeRegionsResult, DescribeRouteTablesRequest, DescribeRouteTablesResult,
    DescribeSecurityGroupsRequest, DescribeSecurityGroupsResult, DescribeSubnetsRequest,
    DescribeSubnetsResult, DescribeVpcAttributeRequest, DescribeVpcAttributeResult,
    DescribeVpcsRequest, DescribeVpcsResult, DescribeVpnGatewaysRequest, DescribeVpnGatewaysResult,
    Ec2,
};
use aws_wire::{ApiError, Caller};
use longshore_types::AccountId;
use model::View;
use model::vpc::{AddressPlan, AddressPlanId, Cidr, Vpc, region_account};
use store::Batch;
use tracing::{info, warn};

use self::routes::Route;
pub use self::routes::RouteMark;

use crate::region::Region;

/// No private block of addresses is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "every private /16 block has a route on this host already: no addresses are left for tasks"
)]
pub struct NoAddresses;

impl Region {
    /// Chooses the block of the region's addresses at first start, and another one at a later start
    /// if somebody else has taken it meanwhile. For the start only: agents are told the block once.
    pub async fn prepare_network(&self) -> Result<(), ApiError> {
        self.choose_block(&routes::of_host()).await
    }

    async fn choose_block(&self, routes: &[Route]) -> Result<(), ApiError> {
        let blocks: Vec<Cidr> = routes.iter().map(|route| route.block).collect();
        let mut seed = [0; 8];
        self.ids.fill(&mut seed);
        let no_addresses = || ApiError::fault("failed to plan addresses", NoAddresses);
        let lost_by = |plan: &AddressPlan| {
            let mark = self.config.route_mark.as_ref();
            mark.is_some_and(|mark| routes::is_lost(plan.block, routes, mark))
        };
        let decided = self.decide(|view, _| {
            let mut batch = Batch::on(view);
            let current = view.address_plans.get(region_account(), &AddressPlanId);
            let seed = match current {
                None => u64::from_be_bytes(seed),
                Some(plan) if !lost_by(plan) => return Ok((batch, ())),
                Some(plan) if is_in_use(view) => {
                    warn!(block = %plan.block, "addresses of tasks are taken by others on this host");
                    return Ok((batch, ()));
                }
                // All ids follow from the seed: they stay.
                Some(plan) => plan.seed,
            };
            let plan = AddressPlan::choose(&blocks, seed).ok_or_else(no_addresses)?;
            if let Some(before) = current {
                info!(before = %before.block, now = %plan.block, "addresses were taken by others");
            }
            batch.put(plan);
            Ok((batch, ()))
        });
        decided.await
    }

    /// The default VPC of an account; `None` before [`Region::prepare_network`].
    pub fn vpc(&self, view: &View, account: AccountId) -> Option<Vpc> {
        let plan: &Arc<AddressPlan> = view.address_plans.get(region_account(), &AddressPlanId)?;
        Some(plan.default_vpc(account, &self.config.region))
    }

    /// As [`Region::vpc`], for answers.
    pub(crate) fn own_vpc(&self, view: &View, caller: &Caller) -> Result<Vpc, ApiError> {
        self.vpc(view, caller.account)
            .ok_or_else(|| ApiError::fault("failed to find the default VPC", NoAddresses))
    }
}

/// Whether anything runs, or waits, that was told an address: an interface's, or the resolver's.
fn is_in_use(view: &View) -> bool {
    view.interfaces.iter().next().is_some() || view.live_tasks().next().is_some()
}

impl Ec2 for Region {
    async fn describe_account_attributes(
        &self,
        caller: &Caller,
        input: DescribeAccountAttributesRequest,
    ) -> Result<DescribeAccountAttributesResult, ApiError> {
        zones::describe_account_attributes(self, caller, &input)
    }

    async fn describe_availability_zones(
        &self,
        caller: &Caller,
        input: DescribeAvailabilityZonesRequest,
    ) -> Result<DescribeAvailabilityZonesResult, ApiError> {
        zones::describe_availability_zones(self, caller, &input)
    }

    async fn describe_network_interfaces(
        &self,
        caller: &Caller,
        input: DescribeNetworkInterfacesRequest,
    ) -> Result<DescribeNetworkInterfacesResult, ApiError> {
        interfaces::describe_network_interfaces(self, caller, &input)
    }

    async fn describe_regions(
        &self,
        _: &Caller,
        input: DescribeRegionsRequest,
    ) -> Result<DescribeRegionsResult, ApiError> {
        zones::describe_regions(self, &input)
    }

    async fn describe_security_groups(
        &self,
        caller: &Caller,
        input: DescribeSecurityGroupsRequest,
    ) -> Result<DescribeSecurityGroupsResult, ApiError> {
        network::describe_security_groups(self, caller, &input)
    }

    async fn describe_subnets(
        &self,
        caller: &Caller,
        input: DescribeSubnetsRequest,
    ) -> Result<DescribeSubnetsResult, ApiError> {
        network::describe_subnets(self, caller, &input)
    }

    async fn describe_internet_gateways(
        &self,
        caller: &Caller,
        input: DescribeInternetGatewaysRequest,
    ) -> Result<DescribeInternetGatewaysResult, ApiError> {
        routing::describe_internet_gateways(self, caller, &input)
    }

    async fn describe_route_tables(
        &self,
        caller: &Caller,
        input: DescribeRouteTablesRequest,
    ) -> Result<DescribeRouteTablesResult, ApiError> {
        routing::describe_route_tables(self, caller, &input)
    }

    async fn describe_vpc_attribute(
        &self,
        caller: &Caller,
        input: DescribeVpcAttributeRequest,
    ) -> Result<DescribeVpcAttributeResult, ApiError> {
        routing::describe_vpc_attribute(self, caller, &input)
    }

    async fn describe_vpn_gateways(
        &self,
        _: &Caller,
        input: DescribeVpnGatewaysRequest,
    ) -> Result<DescribeVpnGatewaysResult, ApiError> {
        routing::describe_vpn_gateways(&input)
    }

    async fn describe_vpcs(
        &self,
        caller: &Caller,
        input: DescribeVpcsRequest,
    ) -> Result<DescribeVpcsResult, ApiError> {
        network::describe_vpcs(self, caller, &input)
    }
}

#[cfg(test)]
mod tests;
