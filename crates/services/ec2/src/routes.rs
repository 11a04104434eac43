//! CreateRoute, ReplaceRoute, DeleteRoute.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use ec2_api as api;
use longshore_types::{Cidr, InternetGatewayId, NatGatewayId};
use model::Key;
use model::network::{AddressFamily, Route, RouteDestination, RouteTable, RouteTarget};

use crate::Ec2;
use crate::change::{Change, on};
use crate::errors::Refusal;
use crate::limits::ROUTES_PER_TABLE_MAX;
use crate::peerings;
use crate::prefix_lists::{self, check_room_for_user, routes_weight};
use crate::refusal::NetworkRefusal;
use crate::vpcs;

/// Where a route leads, as both requests say it.
struct Asked<'a> {
    gateway: Option<&'a String>,
    nat_gateway: Option<&'a String>,
    peering: Option<&'a String>,
    /// Members that name what there is none of in this region.
    others: Vec<(&'static str, Option<&'a String>)>,
}

/// The members of both requests that name a target.
macro_rules! asked {
    ($input:expr) => {
        Asked {
            gateway: $input.gateway_id.as_ref(),
            nat_gateway: $input.nat_gateway_id.as_ref(),
            peering: $input.vpc_peering_connection_id.as_ref(),
            others: vec![
                ("VpcEndpointId", $input.vpc_endpoint_id.as_ref()),
                ("TransitGatewayId", $input.transit_gateway_id.as_ref()),
                ("LocalGatewayId", $input.local_gateway_id.as_ref()),
                ("CarrierGatewayId", $input.carrier_gateway_id.as_ref()),
                ("CoreNetworkArn", $input.core_network_arn.as_ref()),
                ("OdbNetworkArn", $input.odb_network_arn.as_ref()),
                ("EgressOnlyInternetGatewayId", $input.egress_only_internet_gateway_id.as_ref()),
                ("InstanceId", $input.instance_id.as_ref()),
                ("NetworkInterfaceId", $input.network_interface_id.as_ref()),
            ],
        }
    };
}

/// The destination that a request names.
fn destination(
    it: &mut Change<'_>,
    block: Option<&String>,
    ipv6: Option<&String>,
    list: Option<&String>,
) -> Result<RouteDestination, Refusal> {
    if ipv6.is_some() {
        return Err(NetworkRefusal::Unsupported(
            "DestinationIpv6CidrBlock is not available in this region: routes lead to DestinationCidrBlock and \
             DestinationPrefixListId."
                .to_owned(),
        )
        .into());
    }
    match (block, list) {
        (Some(_), Some(_)) => {
            Err(Refusal::Combination("A route has exactly one destination.".to_owned()))
        }
        (None, Some(list)) => {
            let list = prefix_lists::find(it, Some(list))?;
            match list.family {
                AddressFamily::Ipv4 => Ok(RouteDestination::List(list.id.clone())),
                AddressFamily::Ipv6 => Err(NetworkRefusal::Unsupported(format!(
                    "{} is of IPv6 addresses, which interfaces of this region have none of.",
                    list.id
                ))
                .into()),
            }
        }
        (given, None) => {
            let given = given.ok_or(Refusal::Parameter("destinationCidrBlock"))?;
            let block =
                vpcs::block(given).ok_or_else(|| vpcs::no_block("destinationCidrBlock", given))?;
            Ok(block.into())
        }
    }
}

/// Whether a destination is one of the VPC's own blocks.
fn is_local(destination: &RouteDestination, blocks: &[Cidr]) -> bool {
    matches!(destination, RouteDestination::Block(block) if blocks.contains(block))
}

/// The target that a request names, in the table's VPC.
fn target(
    it: &mut Change<'_>,
    table: &RouteTable,
    asked: &Asked<'_>,
) -> Result<RouteTarget, Refusal> {
    if let Some((name, _)) = asked.others.iter().find(|(_, given)| given.is_some()) {
        return Err(NetworkRefusal::Unsupported(format!(
            "Routes by {name} are not available in this region: they lead to internet gateways, NAT \
             gateways and VPC peering connections."
        ))
        .into());
    }
    match (asked.gateway, asked.nat_gateway, asked.peering) {
        (Some(given), None, None) => {
            let missing = || NetworkRefusal::NoRouteTarget(given.clone());
            let id: InternetGatewayId = given.parse().map_err(|_| missing())?;
            let gateway = it.network.gateway(&id).ok_or_else(missing)?;
            it.batch.rely(Key::InternetGateway(it.account, id.clone()));
            if gateway.vpc.as_ref() != Some(&table.vpc) {
                let (table, gateway) = (table.id.to_string(), id.to_string());
                return Err(NetworkRefusal::OtherNetwork { table, gateway }.into());
            }
            Ok(RouteTarget::InternetGateway(id))
        }
        (None, Some(given), None) => {
            let missing = || NetworkRefusal::NoNatTarget(given.clone());
            let id: NatGatewayId = given.parse().map_err(|_| missing())?;
            let gateway = it.network.view().nat_gateways.get(it.account, &id);
            let gateway = gateway.filter(|gateway| gateway.ended_at().is_none());
            let gateway = gateway.ok_or_else(missing)?;
            it.batch.rely(Key::NatGateway(it.account, id.clone()));
            if gateway.vpc != table.vpc {
                let (table, gateway) = (table.id.to_string(), id.to_string());
                return Err(NetworkRefusal::OtherNetwork { table, gateway }.into());
            }
            Ok(RouteTarget::NatGateway(id))
        }
        (None, None, Some(given)) => {
            let peering = peerings::find_target(it, given)?;
            if peering.seen_from(&table.vpc).is_none() {
                let (table, gateway) = (table.id.to_string(), peering.id.to_string());
                return Err(NetworkRefusal::OtherNetwork { table, gateway }.into());
            }
            Ok(RouteTarget::VpcPeering(peering.id.clone()))
        }
        (None, None, None) => Err(Refusal::Parameter("gatewayId")),
        (Some(_), ..) | (_, Some(_), _) => {
            Err(Refusal::Combination("A route has exactly one target.".to_owned()))
        }
    }
}

/// A table whose routes may be changed, with the blocks of its VPC.
fn changeable(
    it: &mut Change<'_>,
    given: Option<&str>,
) -> Result<(Arc<RouteTable>, Vec<Cidr>), Refusal> {
    let table = it.table(given)?;
    let vpc = it.vpc(Some(table.vpc.as_str()))?;
    Ok((table, vpc.blocks().collect()))
}

pub(crate) async fn create_route(
    ec2: &Ec2,
    caller: &Caller,
    input: api::CreateRouteRequest,
) -> Result<api::CreateRouteResult, ApiError> {
    let id = input.route_table_id.as_ref();
    let permission = on(caller, "ec2:CreateRoute", "route-table", id);
    let made = ec2.change(caller, &permission, input.dry_run, |it| {
        let (table, blocks) = changeable(it, input.route_table_id.as_deref())?;
        let destination = destination(
            it,
            input.destination_cidr_block.as_ref(),
            input.destination_ipv6_cidr_block.as_ref(),
            input.destination_prefix_list_id.as_ref(),
        )?;
        let target = target(it, &table, &asked!(input))?;
        if is_local(&destination, &blocks) || table.route(&destination).is_some() {
            return Err(NetworkRefusal::RouteThere(destination.to_string()).into());
        }
        match &destination {
            RouteDestination::Block(block) => check_destination(*block, &blocks)?,
            RouteDestination::List(list) => {
                check_room_for_user(it.network.view(), it.account, list, 1)?;
            }
        }
        let mut row = RouteTable::clone(&table);
        row.routes.push(Route { destination, target });
        row.routes.sort_by(|a, b| a.destination.cmp(&b.destination));
        if routes_weight(it.network.view(), &row) > ROUTES_PER_TABLE_MAX {
            let (code, what) = ("RouteLimitExceeded", "routes of a route table");
            return Err(NetworkRefusal::TooMany { code, what }.into());
        }
        it.change_vpc(&table.vpc);
        it.put(row);
        Ok(())
    });
    made.await.map(|()| api::CreateRouteResult { r#return: Some(true) })
}

/// What is within the VPC is reached directly, and link-local addresses are the host's.
fn check_destination(destination: Cidr, blocks: &[Cidr]) -> Result<(), Refusal> {
    let is_within =
        |outer: &Cidr| outer.prefix() <= destination.prefix() && outer.overlaps(destination);
    let link_local = Cidr::from_octets([169, 254, 168, 0], 22);
    match blocks.iter().find(|outer| is_within(outer)) {
        Some(outer) => Err(Refusal::Value(format!(
            "The destination CIDR block {destination} is equal to or more specific than one of this \
             VPC's CIDR blocks ({outer}). This route can target only an interface or an instance."
        ))),
        None if link_local.is_some_and(|reserved| is_within(&reserved)) => {
            Err(Refusal::Value(format!("The destination CIDR block {destination} is reserved.")))
        }
        None => Ok(()),
    }
}

pub(crate) async fn replace_route(
    ec2: &Ec2,
    caller: &Caller,
    input: api::ReplaceRouteRequest,
) -> Result<(), ApiError> {
    let id = input.route_table_id.as_ref();
    let permission = on(caller, "ec2:ReplaceRoute", "route-table", id);
    let changed = ec2.change(caller, &permission, input.dry_run, |it| {
        let (table, blocks) = changeable(it, input.route_table_id.as_deref())?;
        let destination = destination(
            it,
            input.destination_cidr_block.as_ref(),
            input.destination_ipv6_cidr_block.as_ref(),
            input.destination_prefix_list_id.as_ref(),
        )?;
        if is_local(&destination, &blocks) {
            // It is never anything but local here.
            return match input.local_target {
                Some(true) => Ok(()),
                Some(false) | None => Err(NetworkRefusal::Unsupported(
                    "The route to a VPC's own addresses stays local in this region.".to_owned(),
                )
                .into()),
            };
        }
        let target = target(it, &table, &asked!(input))?;
        it.change_vpc(&table.vpc);
        let mut row = RouteTable::clone(&table);
        let route = row.routes.iter_mut().find(|route| route.destination == destination);
        let Some(route) = route else { return Err(no_route(&destination, &table)) };
        route.target = target;
        it.put(row);
        Ok(())
    });
    changed.await
}

fn no_route(destination: &RouteDestination, table: &RouteTable) -> Refusal {
    let (destination, table) = (destination.to_string(), table.id.to_string());
    NetworkRefusal::NoRoute { destination, table }.into()
}

pub(crate) async fn delete_route(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DeleteRouteRequest,
) -> Result<(), ApiError> {
    let id = input.route_table_id.as_ref();
    let permission = on(caller, "ec2:DeleteRoute", "route-table", id);
    let changed = ec2.change(caller, &permission, input.dry_run, |it| {
        let (table, blocks) = changeable(it, input.route_table_id.as_deref())?;
        let destination = destination(
            it,
            input.destination_cidr_block.as_ref(),
            input.destination_ipv6_cidr_block.as_ref(),
            input.destination_prefix_list_id.as_ref(),
        )?;
        if is_local(&destination, &blocks) {
            let (destination, table) = (destination.to_string(), table.id.to_string());
            return Err(NetworkRefusal::LocalStays { destination, table }.into());
        }
        if table.route(&destination).is_none() {
            return Err(no_route(&destination, &table));
        }
        it.change_vpc(&table.vpc);
        let mut row = RouteTable::clone(&table);
        row.routes.retain(|route| route.destination != destination);
        it.put(row);
        Ok(())
    });
    changed.await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_outside_of_the_vpc_and_of_what_is_reserved() {
        let blocks: Vec<Cidr> = vec!["10.0.0.0/16".parse().unwrap()];
        for (destination, is_taken) in [
            ("0.0.0.0/0", true),
            ("10.0.0.0/8", true),
            ("10.1.0.0/16", true),
            ("10.0.0.0/16", false),
            ("10.0.3.0/24", false),
            ("169.254.170.2/32", false),
            ("169.254.0.0/16", true),
        ] {
            let checked = check_destination(destination.parse().unwrap(), &blocks);
            assert_eq!(checked.is_ok(), is_taken, "{destination}");
        }
    }
}
