//! Amazon EC2, as far as tasks need it: VPCs and what they are made of, security groups, and names
//! of machines that configurations look for.

mod acls;
mod addresses;
mod associations;
mod change;
mod classic_link;
mod dhcp;
mod empty;
mod endpoints;
mod errors;
mod explain;
mod filter;
mod flow_logs;
mod groups;
mod images;
mod instance_types;
mod interface_attributes;
mod interfaces;
mod internet_gateways;
mod limits;
mod nat_gateways;
mod operations;
mod peerings;
mod prefix_lists;
mod private_addresses;
mod refusal;
mod resources;
mod route_tables;
mod routes;
mod subnets;
mod tagged;
mod tags;
mod vpcs;
mod zones;

use std::sync::Arc;

use aws_wire::service::{Answer, Call, Service};
use aws_wire::{ApiError, Caller};
use control::ports::{BoxFuture, RegionService};
use control::{Control, NoAddresses};
use model::vpc::{AddressPlan, AddressPlanId, Cidr, region_account};
use model::{Index, View};
use plan::ranges::{self, Ranges};
use store::Batch;
use tracing::warn;

pub use explain::explain;

/// The service. What it shows follows from rows, and for the default VPC from the region's plan of addresses.
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
    let holds_some = view.interfaces.iter().any(|interface| !interface.is_apart);
    // Subnets, routes and rules that somebody made are of these very addresses.
    let is_changed = view.member_count(&Index::DefaultVpcs) != 0;
    waits || holds_some || is_changed || view.occupied_instances().next().is_some()
}

#[cfg(test)]
mod tests;
