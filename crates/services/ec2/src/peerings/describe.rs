//! DescribeVpcPeeringConnections.

use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;

use super::{is_shown, to_wire};
use crate::Ec2;
use crate::errors::{Kind, unless_dry};
use crate::filter::{Asked, Filters, one, select, shown};

type Info = Option<api::VpcPeeringConnectionVpcInfo>;

fn blocks(info: &Info) -> Vec<String> {
    let blocks = info.iter().flat_map(|info| info.cidr_block_set.iter().flatten());
    blocks.filter_map(|block| block.cidr_block.clone()).collect()
}

fn owner(info: &Info) -> Vec<String> {
    info.iter().flat_map(|info| one(info.owner_id.as_ref())).collect()
}

fn vpc(info: &Info) -> Vec<String> {
    info.iter().flat_map(|info| one(info.vpc_id.as_ref())).collect()
}

const FILTERS: Filters<api::VpcPeeringConnection> = &[
    ("accepter-vpc-info.cidr-block", |it| blocks(&it.accepter_vpc_info)),
    ("accepter-vpc-info.owner-id", |it| owner(&it.accepter_vpc_info)),
    ("accepter-vpc-info.vpc-id", |it| vpc(&it.accepter_vpc_info)),
    ("expiration-time", |it| shown(it.expiration_time.map(|at| at.iso8601()).as_ref())),
    ("requester-vpc-info.cidr-block", |it| blocks(&it.requester_vpc_info)),
    ("requester-vpc-info.owner-id", |it| owner(&it.requester_vpc_info)),
    ("requester-vpc-info.vpc-id", |it| vpc(&it.requester_vpc_info)),
    ("status-code", |it| it.status.iter().flat_map(|status| shown(status.code.as_ref())).collect()),
    ("status-message", |it| {
        it.status.iter().flat_map(|status| one(status.message.as_ref())).collect()
    }),
    ("vpc-peering-connection-id", |it| one(it.vpc_peering_connection_id.as_ref())),
];

pub(crate) async fn describe_vpc_peering_connections(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeVpcPeeringConnectionsRequest,
) -> Result<api::DescribeVpcPeeringConnectionsResult, ApiError> {
    let permission = Permission::to("ec2:DescribeVpcPeeringConnections").on("*");
    let view = ec2.control.read(caller, &permission)?;
    unless_dry(input.dry_run)?;
    let rows = view.peerings_of(caller.account).into_iter();
    let rows = rows.filter(|row| is_shown(row, caller.account, caller.now));
    let wire =
        rows.map(|row| to_wire(&view, caller, row, view.tags_on(caller.account, row.id.as_str())));
    let asked = Asked {
        kind: Kind::VpcPeering,
        ids: input.vpc_peering_connection_ids.as_deref(),
        filters: input.filters.as_deref(),
        token: input.next_token.as_deref(),
        max: input.max_results,
    };
    let (found, next_token) =
        select(wire.collect(), &asked, |it| it.vpc_peering_connection_id.as_deref(), FILTERS)?;
    let vpc_peering_connections = Some(found);
    Ok(api::DescribeVpcPeeringConnectionsResult { vpc_peering_connections, next_token })
}
