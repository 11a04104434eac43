//! DescribeVpcAttribute, DescribeRouteTables, DescribeInternetGateways, DescribeVpnGateways: what the
//! look-ups of Terraform and the CDK ask of a default VPC.
//!
//! The host stands for the internet gateway: it forwards and translates what tasks send elsewhere.

use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;
use model::vpc::Vpc;

use super::filter::{apply, by_id, page};
use crate::Ec2;
use crate::errors::{Kind, Refusal, unless_dry};

const ANYWHERE: &str = "0.0.0.0/0";

pub(crate) async fn describe_vpc_attribute(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeVpcAttributeRequest,
) -> Result<api::DescribeVpcAttributeResult, ApiError> {
    let view = ec2.control.read(caller, &Permission::to("ec2:DescribeVpcAttribute").on("*"))?;
    unless_dry(input.dry_run)?;
    let vpc = ec2.control.own_vpc(&view, caller)?;
    let asked = input.vpc_id.as_deref().unwrap_or_default();
    if asked != vpc.id.as_str() {
        return Err(Kind::Vpc.refused()(asked).into());
    }
    let mut answer = api::DescribeVpcAttributeResult {
        vpc_id: Some(vpc.id.to_string()),
        ..api::DescribeVpcAttributeResult::default()
    };
    let flag = |value| Some(api::AttributeBooleanValue { value: Some(value) });
    match &input.attribute {
        Some(api::VpcAttributeName::EnableDnsSupport) => answer.enable_dns_support = flag(true),
        Some(api::VpcAttributeName::EnableDnsHostnames) => {
            answer.enable_dns_hostnames = flag(true);
        }
        Some(api::VpcAttributeName::EnableNetworkAddressUsageMetrics) => {
            answer.enable_network_address_usage_metrics = flag(false);
        }
        other => {
            let given = other.as_ref().map_or("", |name| name.as_str());
            return Err(Refusal::Attribute(given.to_owned()).into());
        }
    }
    Ok(answer)
}

/// An id that belongs to the VPC as its main table and its gateway do.
fn of_vpc(vpc: &Vpc, kind: &str) -> String {
    format!("{kind}-{}", vpc.id.as_str().trim_start_matches("vpc-"))
}

fn main_table(caller: &Caller, vpc: &Vpc) -> api::RouteTable {
    let id = of_vpc(vpc, "rtb");
    let route = |destination: String, gateway: String, origin| api::Route {
        destination_cidr_block: Some(destination),
        gateway_id: Some(gateway),
        origin: Some(origin),
        state: Some(api::RouteState::Active),
        ..api::Route::default()
    };
    api::RouteTable {
        associations: Some(vec![api::RouteTableAssociation {
            main: Some(true),
            route_table_association_id: Some(of_vpc(vpc, "rtbassoc")),
            route_table_id: Some(id.clone()),
            association_state: Some(api::RouteTableAssociationState {
                state: Some(api::RouteTableAssociationStateCode::Associated),
                status_message: None,
            }),
            ..api::RouteTableAssociation::default()
        }]),
        propagating_vgws: Some(vec![]),
        route_table_id: Some(id),
        routes: Some(vec![
            route(vpc.block.to_string(), "local".to_owned(), api::RouteOrigin::CreateRouteTable),
            route(ANYWHERE.to_owned(), of_vpc(vpc, "igw"), api::RouteOrigin::CreateRoute),
        ]),
        tags: Some(vec![]),
        vpc_id: Some(vpc.id.to_string()),
        owner_id: Some(caller.account.to_string()),
    }
}

pub(crate) async fn describe_route_tables(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeRouteTablesRequest,
) -> Result<api::DescribeRouteTablesResult, ApiError> {
    let view = ec2.control.read(caller, &Permission::to("ec2:DescribeRouteTables").on("*"))?;
    unless_dry(input.dry_run)?;
    let vpc = ec2.control.own_vpc(&view, caller)?;
    let missing = Kind::RouteTable.refused();
    let ids = input.route_table_ids.as_deref();
    let tables = vec![main_table(caller, &vpc)];
    let tables = by_id(tables, ids, |table| table.route_table_id.as_deref(), missing)?;
    let names = [
        "association.gateway-id",
        "association.main",
        "association.route-table-association-id",
        "association.route-table-id",
        "association.subnet-id",
        "owner-id",
        "route-table-id",
        "route.destination-cidr-block",
        "route.gateway-id",
        "route.nat-gateway-id",
        "route.origin",
        "route.state",
        "vpc-id",
    ];
    let filters = input.filters.as_deref();
    let tables = apply(tables, filters, &names, &|table: &api::RouteTable, name| {
        let values = match name {
            "association.main" => vec!["true".to_owned()],
            "association.route-table-association-id" => vec![of_vpc(&vpc, "rtbassoc")],
            "association.route-table-id" | "route-table-id" => vec![of_vpc(&vpc, "rtb")],
            // The main table is every subnet's, without an association that names one.
            "association.gateway-id" | "association.subnet-id" | "route.nat-gateway-id" => vec![],
            "owner-id" => table.owner_id.clone().into_iter().collect(),
            "route.destination-cidr-block" => vec![vpc.block.to_string(), ANYWHERE.to_owned()],
            "route.gateway-id" => vec!["local".to_owned(), of_vpc(&vpc, "igw")],
            "route.origin" => vec!["CreateRouteTable".to_owned(), "CreateRoute".to_owned()],
            "route.state" => vec!["active".to_owned()],
            "vpc-id" => vec![vpc.id.to_string()],
            _ => return None,
        };
        Some(values)
    })?;
    let token = input.next_token.as_deref();
    let has_ids = ids.is_some_and(|ids| !ids.is_empty());
    let (tables, next_token) =
        page(tables, token, input.max_results, has_ids, |table| table.route_table_id.as_deref())?;
    Ok(api::DescribeRouteTablesResult { route_tables: Some(tables), next_token })
}

pub(crate) async fn describe_internet_gateways(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeInternetGatewaysRequest,
) -> Result<api::DescribeInternetGatewaysResult, ApiError> {
    let view = ec2.control.read(caller, &Permission::to("ec2:DescribeInternetGateways").on("*"))?;
    unless_dry(input.dry_run)?;
    let vpc = ec2.control.own_vpc(&view, caller)?;
    let gateway = api::InternetGateway {
        attachments: Some(vec![api::InternetGatewayAttachment {
            state: Some("available".into()),
            vpc_id: Some(vpc.id.to_string()),
        }]),
        internet_gateway_id: Some(of_vpc(&vpc, "igw")),
        owner_id: Some(caller.account.to_string()),
        tags: Some(vec![]),
    };
    let missing = Kind::InternetGateway.refused();
    let ids = input.internet_gateway_ids.as_deref();
    let gateways = by_id(vec![gateway], ids, |each| each.internet_gateway_id.as_deref(), missing)?;
    let names = ["attachment.state", "attachment.vpc-id", "internet-gateway-id", "owner-id"];
    let filters = input.filters.as_deref();
    let gateways = apply(gateways, filters, &names, &|each: &api::InternetGateway, name| {
        let value = match name {
            "attachment.state" => Some("available".to_owned()),
            "attachment.vpc-id" => Some(vpc.id.to_string()),
            "internet-gateway-id" => each.internet_gateway_id.clone(),
            "owner-id" => each.owner_id.clone(),
            _ => return None,
        };
        Some(value.into_iter().collect())
    })?;
    let token = input.next_token.as_deref();
    let has_ids = ids.is_some_and(|ids| !ids.is_empty());
    let (gateways, next_token) = page(gateways, token, input.max_results, has_ids, |each| {
        each.internet_gateway_id.as_deref()
    })?;
    Ok(api::DescribeInternetGatewaysResult { internet_gateways: Some(gateways), next_token })
}

/// There are none.
pub(crate) async fn describe_vpn_gateways(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeVpnGatewaysRequest,
) -> Result<api::DescribeVpnGatewaysResult, ApiError> {
    ec2.control.read(caller, &Permission::to("ec2:DescribeVpnGateways").on("*"))?;
    unless_dry(input.dry_run)?;
    let missing = Kind::VpnGateway.refused();
    let none: Vec<api::VpnGateway> = vec![];
    let ids = input.vpn_gateway_ids.as_deref();
    let none = by_id(none, ids, |each| each.vpn_gateway_id.as_deref(), missing)?;
    let names = [
        "amazon-side-asn",
        "attachment.state",
        "attachment.vpc-id",
        "availability-zone",
        "state",
        "type",
        "vpn-gateway-id",
    ];
    let none = apply(none, input.filters.as_deref(), &names, &|_: &api::VpnGateway, _| None)?;
    Ok(api::DescribeVpnGatewaysResult { vpn_gateways: Some(none) })
}
