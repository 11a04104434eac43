//! What there is none of in this region, and is asked for nevertheless: virtual private gateways.

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
