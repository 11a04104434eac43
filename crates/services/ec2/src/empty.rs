//! What there is none of in this region, and is asked for nevertheless: virtual private gateways, VPC endpoints.

use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;

use crate::Ec2;
use crate::errors::{Kind, unless_dry};
use crate::filter::{Asked, Filters, select};

const VPN_FILTERS: Filters<api::VpnGateway> = &[
    ("amazon-side-asn", |_| vec![]),
    ("attachment.state", |_| vec![]),
    ("attachment.vpc-id", |_| vec![]),
    ("availability-zone", |_| vec![]),
    ("state", |_| vec![]),
    ("type", |_| vec![]),
    ("vpn-gateway-id", |_| vec![]),
];

pub(crate) async fn describe_vpn_gateways(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeVpnGatewaysRequest,
) -> Result<api::DescribeVpnGatewaysResult, ApiError> {
    ec2.control.read(caller, &Permission::to("ec2:DescribeVpnGateways").on("*"))?;
    unless_dry(input.dry_run)?;
    let asked = Asked {
        kind: Kind::VpnGateway,
        ids: input.vpn_gateway_ids.as_deref(),
        filters: input.filters.as_deref(),
        token: None,
        max: None,
    };
    let (none, _) = select(vec![], &asked, |it| it.vpn_gateway_id.as_deref(), VPN_FILTERS)?;
    Ok(api::DescribeVpnGatewaysResult { vpn_gateways: Some(none) })
}

const ENDPOINT_FILTERS: Filters<api::VpcEndpoint> = &[
    ("ip-address-type", |_| vec![]),
    ("service-name", |_| vec![]),
    ("service-region", |_| vec![]),
    ("vpc-endpoint-id", |_| vec![]),
    ("vpc-endpoint-state", |_| vec![]),
    ("vpc-endpoint-type", |_| vec![]),
    ("vpc-id", |_| vec![]),
];

pub(crate) async fn describe_vpc_endpoints(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeVpcEndpointsRequest,
) -> Result<api::DescribeVpcEndpointsResult, ApiError> {
    ec2.control.read(caller, &Permission::to("ec2:DescribeVpcEndpoints").on("*"))?;
    unless_dry(input.dry_run)?;
    let asked = Asked {
        kind: Kind::VpcEndpoint,
        ids: input.vpc_endpoint_ids.as_deref(),
        filters: input.filters.as_deref(),
        token: input.next_token.as_deref(),
        max: input.max_results,
    };
    let (none, next_token) =
        select(vec![], &asked, |it| it.vpc_endpoint_id.as_deref(), ENDPOINT_FILTERS)?;
    Ok(api::DescribeVpcEndpointsResult { vpc_endpoints: Some(none), next_token })
}
