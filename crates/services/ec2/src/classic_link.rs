//! ClassicLink, which no VPC has: there was never a network to link besides.

use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;

use crate::Ec2;
use crate::errors::{Kind, unless_dry};
use crate::filter::{Asked, Filters, select, shown};
use crate::tags;

const FILTERS: Filters<api::VpcClassicLink> =
    &[("is-classic-link-enabled", |it| shown(it.classic_link_enabled.as_ref()))];

pub(crate) async fn describe_vpc_classic_link(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeVpcClassicLinkRequest,
) -> Result<api::DescribeVpcClassicLinkResult, ApiError> {
    let view = ec2.control.read(caller, &Permission::to("ec2:DescribeVpcClassicLink").on("*"))?;
    unless_dry(input.dry_run)?;
    let vpcs = ec2.control.network(&view, caller.account).vpcs();
    let all = vpcs.iter().map(|row| api::VpcClassicLink {
        classic_link_enabled: Some(false),
        tags: Some(tags::to_wire(view.tags_on(row.account, row.id.as_str()))),
        vpc_id: Some(row.id.to_string()),
    });
    let asked = Asked {
        kind: Kind::Vpc,
        ids: input.vpc_ids.as_deref(),
        filters: input.filters.as_deref(),
        token: None,
        max: None,
    };
    let (vpcs, _) = select(all.collect(), &asked, |it| it.vpc_id.as_deref(), FILTERS)?;
    Ok(api::DescribeVpcClassicLinkResult { vpcs: Some(vpcs) })
}

pub(crate) async fn describe_vpc_classic_link_dns_support(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeVpcClassicLinkDnsSupportRequest,
) -> Result<api::DescribeVpcClassicLinkDnsSupportResult, ApiError> {
    let permission = Permission::to("ec2:DescribeVpcClassicLinkDnsSupport").on("*");
    let view = ec2.control.read(caller, &permission)?;
    let vpcs = ec2.control.network(&view, caller.account).vpcs();
    let all = vpcs.iter().map(|row| api::ClassicLinkDnsSupport {
        classic_link_dns_supported: Some(false),
        vpc_id: Some(row.id.to_string()),
    });
    let asked = Asked {
        kind: Kind::Vpc,
        ids: input.vpc_ids.as_deref(),
        filters: None,
        token: input.next_token.as_deref(),
        max: input.max_results,
    };
    let (vpcs, next_token) = select(all.collect(), &asked, |it| it.vpc_id.as_deref(), &[])?;
    Ok(api::DescribeVpcClassicLinkDnsSupportResult { next_token, vpcs: Some(vpcs) })
}
