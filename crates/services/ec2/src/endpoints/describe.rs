//! DescribeVpcEndpoints.

use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;

use super::to_wire;
use crate::Ec2;
use crate::errors::{Kind, unless_dry};
use crate::filter::{Asked, Filters, one, select, shown};

const FILTERS: Filters<api::VpcEndpoint> = &[
    ("ip-address-type", |it| shown(it.ip_address_type.as_ref())),
    ("service-name", |it| one(it.service_name.as_ref())),
    ("service-region", |it| one(it.service_region.as_ref())),
    ("vpc-endpoint-id", |it| one(it.vpc_endpoint_id.as_ref())),
    ("vpc-endpoint-state", |it| shown(it.state.as_ref())),
    ("vpc-endpoint-type", |it| shown(it.vpc_endpoint_type.as_ref())),
    ("vpc-id", |it| one(it.vpc_id.as_ref())),
];

pub(crate) async fn describe_vpc_endpoints(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeVpcEndpointsRequest,
) -> Result<api::DescribeVpcEndpointsResult, ApiError> {
    let view = ec2.control.read(caller, &Permission::to("ec2:DescribeVpcEndpoints").on("*"))?;
    unless_dry(input.dry_run)?;
    let rows = view.vpc_endpoints.of(caller.account);
    let wire =
        rows.map(|row| to_wire(&view, caller, row, view.tags_on(row.account, row.id.as_str())));
    let asked = Asked {
        kind: Kind::VpcEndpoint,
        ids: input.vpc_endpoint_ids.as_deref(),
        filters: input.filters.as_deref(),
        token: input.next_token.as_deref(),
        max: input.max_results,
    };
    let (endpoints, next_token) =
        select(wire.collect(), &asked, |it| it.vpc_endpoint_id.as_deref(), FILTERS)?;
    Ok(api::DescribeVpcEndpointsResult { vpc_endpoints: Some(endpoints), next_token })
}
