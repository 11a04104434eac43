//! Amazon EC2, as far as tasks need it: the default VPC and what is in it, described.

mod filter;
mod interfaces;
mod network;
mod routes;
mod zones;

use std::sync::Arc;

use aws_api::ec2::{
    DescribeAccountAttributesRequest, DescribeAccountAttributesResult,
    DescribeAvailabilityZonesRequest, DescribeAvailabilityZonesResult,
    DescribeNetworkInterfacesRequest, DescribeNetworkInterfacesResult, DescribeRegionsRequest,
    DescribeRegionsResult, DescribeSecurityGroupsRequest, DescribeSecurityGroupsResult,
    DescribeSubnetsRequest, DescribeSubnetsResult, DescribeVpcsRequest, DescribeVpcsResult, Ec2,
};
use aws_wire::{ApiError, Caller};
use longshore_types::AccountId;
use model::View;
use model::vpc::{AddressPlan, AddressPlanId, Vpc, region_account};
use store::Batch;

use crate::region::Region;

/// No private block of addresses is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "every private /16 block has a route on this host already: no addresses are left for tasks"
)]
pub struct NoAddresses;

impl Region {
    /// Chooses the block of the region's addresses, once: the host's routes count at first start.
    pub async fn prepare_network(&self) -> Result<(), ApiError> {
        let routes = routes::of_host();
        let mut seed = [0; 8];
        self.ids.fill(&mut seed);
        let decided = self.decide(|view, _| {
            let mut batch = Batch::on(view);
            if view.address_plans.get(region_account(), &AddressPlanId).is_none() {
                let plan = AddressPlan::choose(&routes, u64::from_be_bytes(seed));
                let plan =
                    plan.ok_or_else(|| ApiError::fault("failed to plan addresses", NoAddresses))?;
                batch.put(plan);
            }
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
