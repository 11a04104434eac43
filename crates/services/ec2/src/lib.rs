//! Amazon EC2, as far as tasks need it: the default VPC and what is in it, described.

mod errors;
mod filter;
mod interfaces;
mod network;
mod routing;
mod zones;

use std::sync::Arc;

use aws_wire::service::{Answer, Call, Service};
use aws_wire::{ApiError, Caller};
use control::ports::{BoxFuture, RegionService};
use control::{Control, NoAddresses, Permission};
use ec2_api::{
    DescribeAccountAttributesRequest, DescribeAccountAttributesResult,
    DescribeAvailabilityZonesRequest, DescribeAvailabilityZonesResult,
    DescribeInternetGatewaysRequest, DescribeInternetGatewaysResult,
    DescribeNetworkInterfacesRequest, DescribeNetworkInterfacesResult, DescribeRegionsRequest,
    DescribeRegionsResult, DescribeRouteTablesRequest, DescribeRouteTablesResult,
    DescribeSecurityGroupsRequest, DescribeSecurityGroupsResult, DescribeSubnetsRequest,
    DescribeSubnetsResult, DescribeVpcAttributeRequest, DescribeVpcAttributeResult,
    DescribeVpcsRequest, DescribeVpcsResult, DescribeVpnGatewaysRequest, DescribeVpnGatewaysResult,
};
use model::View;
use model::vpc::{AddressPlan, AddressPlanId, Cidr, region_account};
use plan::ranges::{self, Ranges};
use store::Batch;
use tracing::warn;

/// The service. What it shows follows from rows and from the region's plan of addresses.
#[derive(Debug)]
pub struct Ec2 {
    pub control: Arc<Control>,
}

impl Ec2 {
    pub fn new(control: Arc<Control>) -> Self {
        Self { control }
    }
}

impl RegionService for Ec2 {
    fn service(&self) -> &'static Service {
        &ec2_api::SERVICE
    }

    fn dispatch<'a>(
        &'a self,
        caller: &'a Caller,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Answer, ApiError>> {
        Box::pin(ec2_api::dispatch(self, caller, call))
    }

    fn prepare(&self) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(async {
            if self.control.view().address_plans.iter().next().is_none() {
                prepare_network(&self.control, &[]).await?;
            }
            Ok(())
        })
    }
}

/// Chooses the region's addresses at first start, and others at a later start if somebody else uses
/// them by then, unless tasks have some. `taken` is what others use on this host. For the start only:
/// agents are told once.
pub async fn prepare_network(control: &Control, taken: &[Cidr]) -> Result<Ranges, ApiError> {
    let mut seed = [0; 8];
    control.ids.fill(&mut seed);
    let no_addresses = || ApiError::fault("failed to plan addresses", NoAddresses);
    let decided = control.decide(|view, _| {
        let mut batch = Batch::on(view);
        let current = view.address_plans.get(region_account(), &AddressPlanId);
        let (block, bridge) = (current.map(|plan| plan.block), current.and_then(|it| it.bridge));
        let kept: Vec<Cidr> = block.into_iter().chain(bridge).filter(|_| is_in_use(view)).collect();
        let is_kept = |taken: &Cidr| kept.iter().any(|range| range.overlaps(*taken));
        let taken: Vec<Cidr> = taken.iter().copied().filter(|it| !is_kept(it)).collect();
        let ranges = ranges::choose(&taken, block, bridge).ok_or_else(no_addresses)?;
        // All ids follow from the seed: they stay.
        let seed = current.map_or(u64::from_be_bytes(seed), |plan| plan.seed);
        let plan = AddressPlan { block: ranges.vpc, bridge: Some(ranges.bridge), seed };
        if current.is_none_or(|before| **before != plan) {
            batch.put(plan);
        }
        Ok((batch, (block.zip(Some(bridge)), kept, ranges)))
    });
    let (before, kept, ranges) = decided.await?;
    for range in kept {
        report_overlaps(range, taken);
    }
    if let Some((block, bridge)) = before
        && (block != ranges.vpc || bridge.is_some_and(|bridge| bridge != ranges.bridge))
    {
        let bridge = bridge.map(|bridge| bridge.to_string()).unwrap_or_default();
        warn!(
            vpc = %ranges.vpc, bridge = %ranges.bridge, vpc_before = %block, bridge_before = %bridge,
            "addresses for tasks moved, because others use those of before on this machine"
        );
    }
    Ok(ranges)
}

/// What can be done about addresses that tasks have and others use too.
fn report_overlaps(range: Cidr, taken: &[Cidr]) {
    for other in ranges::in_the_way(range, taken) {
        warn!(
            %range, others = %other,
            "addresses of this region's tasks are used by something else on this machine too: tasks may \
             not reach it, nor it them; end that, or stop all tasks and restart the region, which then \
             takes other addresses"
        );
    }
}

/// Whether anything runs, or waits, that was told an address: an interface's, or the resolver's.
fn is_in_use(view: &View) -> bool {
    let waits = view.unplaced_tasks().next().is_some();
    waits || view.interfaces.iter().next().is_some() || view.occupied_instances().next().is_some()
}

impl ec2_api::Ec2 for Ec2 {
    async fn describe_account_attributes(
        &self,
        caller: &Caller,
        input: DescribeAccountAttributesRequest,
    ) -> Result<DescribeAccountAttributesResult, ApiError> {
        self.control.read(caller, &Permission::to("ec2:DescribeAccountAttributes").on("*"))?;
        zones::describe_account_attributes(self, caller, &input)
    }

    async fn describe_availability_zones(
        &self,
        caller: &Caller,
        input: DescribeAvailabilityZonesRequest,
    ) -> Result<DescribeAvailabilityZonesResult, ApiError> {
        self.control.read(caller, &Permission::to("ec2:DescribeAvailabilityZones").on("*"))?;
        zones::describe_availability_zones(self, caller, &input)
    }

    async fn describe_network_interfaces(
        &self,
        caller: &Caller,
        input: DescribeNetworkInterfacesRequest,
    ) -> Result<DescribeNetworkInterfacesResult, ApiError> {
        self.control.read(caller, &Permission::to("ec2:DescribeNetworkInterfaces").on("*"))?;
        interfaces::describe_network_interfaces(self, caller, &input)
    }

    async fn describe_regions(
        &self,
        caller: &Caller,
        input: DescribeRegionsRequest,
    ) -> Result<DescribeRegionsResult, ApiError> {
        self.control.read(caller, &Permission::to("ec2:DescribeRegions").on("*"))?;
        zones::describe_regions(self, &input)
    }

    async fn describe_security_groups(
        &self,
        caller: &Caller,
        input: DescribeSecurityGroupsRequest,
    ) -> Result<DescribeSecurityGroupsResult, ApiError> {
        self.control.read(caller, &Permission::to("ec2:DescribeSecurityGroups").on("*"))?;
        network::describe_security_groups(self, caller, &input)
    }

    async fn describe_subnets(
        &self,
        caller: &Caller,
        input: DescribeSubnetsRequest,
    ) -> Result<DescribeSubnetsResult, ApiError> {
        self.control.read(caller, &Permission::to("ec2:DescribeSubnets").on("*"))?;
        network::describe_subnets(self, caller, &input)
    }

    async fn describe_internet_gateways(
        &self,
        caller: &Caller,
        input: DescribeInternetGatewaysRequest,
    ) -> Result<DescribeInternetGatewaysResult, ApiError> {
        self.control.read(caller, &Permission::to("ec2:DescribeInternetGateways").on("*"))?;
        routing::describe_internet_gateways(self, caller, &input)
    }

    async fn describe_route_tables(
        &self,
        caller: &Caller,
        input: DescribeRouteTablesRequest,
    ) -> Result<DescribeRouteTablesResult, ApiError> {
        self.control.read(caller, &Permission::to("ec2:DescribeRouteTables").on("*"))?;
        routing::describe_route_tables(self, caller, &input)
    }

    async fn describe_vpc_attribute(
        &self,
        caller: &Caller,
        input: DescribeVpcAttributeRequest,
    ) -> Result<DescribeVpcAttributeResult, ApiError> {
        self.control.read(caller, &Permission::to("ec2:DescribeVpcAttribute").on("*"))?;
        routing::describe_vpc_attribute(self, caller, &input)
    }

    async fn describe_vpn_gateways(
        &self,
        caller: &Caller,
        input: DescribeVpnGatewaysRequest,
    ) -> Result<DescribeVpnGatewaysResult, ApiError> {
        self.control.read(caller, &Permission::to("ec2:DescribeVpnGateways").on("*"))?;
        routing::describe_vpn_gateways(&input)
    }

    async fn describe_vpcs(
        &self,
        caller: &Caller,
        input: DescribeVpcsRequest,
    ) -> Result<DescribeVpcsResult, ApiError> {
        self.control.read(caller, &Permission::to("ec2:DescribeVpcs").on("*"))?;
        network::describe_vpcs(self, caller, &input)
    }
}

#[cfg(test)]
mod tests;
