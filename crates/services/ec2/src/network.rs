//! DescribeVpcs, DescribeSubnets.

use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;
use model::vpc::{Subnet, Vpc};
use model::{Index, View};

use super::filter::{apply, by_id, page};
use crate::Ec2;
use crate::errors::{Kind, unless_dry};
use crate::tags;

pub(crate) async fn describe_vpcs(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeVpcsRequest,
) -> Result<api::DescribeVpcsResult, ApiError> {
    let view = ec2.control.read(caller, &Permission::to("ec2:DescribeVpcs").on("*"))?;
    unless_dry(input.dry_run)?;
    let vpc = vpc_to_wire(&view, caller, &ec2.control.own_vpc(&view, caller)?);
    let id = |vpc: &api::Vpc| vpc.vpc_id.clone();
    let missing = Kind::Vpc.refused();
    let ids = input.vpc_ids.as_deref();
    let vpcs = by_id(vec![vpc], ids, |vpc| vpc.vpc_id.as_deref(), missing)?;
    let names = [
        "vpc-id",
        "cidr",
        "cidr-block-association.cidr-block",
        "cidr-block-association.state",
        "dhcp-options-id",
        "is-default",
        "isDefault",
        "owner-id",
        "state",
    ];
    let vpcs = apply(vpcs, input.filters.as_deref(), &names, &|vpc: &api::Vpc, name| {
        Some(match name {
            "vpc-id" => id(vpc).into_iter().collect(),
            "cidr" | "cidr-block-association.cidr-block" => {
                vpc.cidr_block.clone().into_iter().collect()
            }
            "cidr-block-association.state" => vec!["associated".to_owned()],
            "dhcp-options-id" => vpc.dhcp_options_id.clone().into_iter().collect(),
            "is-default" | "isDefault" => vec!["true".to_owned()],
            "owner-id" => vpc.owner_id.clone().into_iter().collect(),
            "state" => vec!["available".to_owned()],
            _ => return None,
        })
    })?;
    let token = input.next_token.as_deref();
    let has_ids = ids.is_some_and(|ids| !ids.is_empty());
    let (vpcs, next_token) =
        page(vpcs, token, input.max_results, has_ids, |vpc| vpc.vpc_id.as_deref())?;
    Ok(api::DescribeVpcsResult { vpcs: Some(vpcs), next_token })
}

fn vpc_to_wire(view: &View, caller: &Caller, vpc: &Vpc) -> api::Vpc {
    let association = format!("vpc-cidr-assoc-{}", vpc.id.as_str().trim_start_matches("vpc-"));
    api::Vpc {
        vpc_id: Some(vpc.id.to_string()),
        owner_id: Some(caller.account.to_string()),
        instance_tenancy: Some(api::Tenancy::Default),
        ipv6_cidr_block_association_set: Some(vec![]),
        cidr_block_association_set: Some(vec![api::VpcCidrBlockAssociation {
            association_id: Some(association),
            cidr_block: Some(vpc.block.to_string()),
            cidr_block_state: Some(api::VpcCidrBlockState {
                state: Some(api::VpcCidrBlockStateCode::Associated),
                ..api::VpcCidrBlockState::default()
            }),
        }]),
        is_default: Some(true),
        tags: Some(tags::to_wire(view.tags_on(caller.account, vpc.id.as_str()))),
        state: Some(api::VpcState::Available),
        cidr_block: Some(vpc.block.to_string()),
        dhcp_options_id: Some(vpc.dhcp_options.clone()),
        ..api::Vpc::default()
    }
}

pub(crate) async fn describe_subnets(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeSubnetsRequest,
) -> Result<api::DescribeSubnetsResult, ApiError> {
    let view = ec2.control.read(caller, &Permission::to("ec2:DescribeSubnets").on("*"))?;
    unless_dry(input.dry_run)?;
    let vpc = ec2.control.own_vpc(&view, caller)?;
    let mut subnets: Vec<api::Subnet> =
        vpc.subnets.iter().map(|subnet| subnet_to_wire(&view, caller, &vpc, subnet)).collect();
    subnets.sort_by(|a, b| a.subnet_id.cmp(&b.subnet_id));
    let missing = Kind::Subnet.refused();
    let ids = input.subnet_ids.as_deref();
    let subnets = by_id(subnets, ids, |subnet| subnet.subnet_id.as_deref(), missing)?;
    let names = [
        "availability-zone",
        "availabilityZone",
        "availability-zone-id",
        "availabilityZoneId",
        "available-ip-address-count",
        "cidr-block",
        "cidr",
        "cidrBlock",
        "default-for-az",
        "defaultForAz",
        "map-public-ip-on-launch",
        "owner-id",
        "state",
        "subnet-arn",
        "subnet-id",
        "vpc-id",
    ];
    let subnets =
        apply(subnets, input.filters.as_deref(), &names, &|subnet: &api::Subnet, name| {
            let value = match name {
                "availability-zone" | "availabilityZone" => subnet.availability_zone.clone(),
                "availability-zone-id" | "availabilityZoneId" => {
                    subnet.availability_zone_id.clone()
                }
                "available-ip-address-count" => {
                    subnet.available_ip_address_count.map(|count| count.to_string())
                }
                "cidr-block" | "cidr" | "cidrBlock" => subnet.cidr_block.clone(),
                "default-for-az" | "defaultForAz" | "map-public-ip-on-launch" => {
                    Some("true".to_owned())
                }
                "owner-id" => subnet.owner_id.clone(),
                "state" => Some("available".to_owned()),
                "subnet-arn" => subnet.subnet_arn.clone(),
                "subnet-id" => subnet.subnet_id.clone(),
                "vpc-id" => subnet.vpc_id.clone(),
                _ => return None,
            };
            Some(value.into_iter().collect())
        })?;
    let token = input.next_token.as_deref();
    let has_ids = ids.is_some_and(|ids| !ids.is_empty());
    let (subnets, next_token) =
        page(subnets, token, input.max_results, has_ids, |subnet| subnet.subnet_id.as_deref())?;
    Ok(api::DescribeSubnetsResult { subnets: Some(subnets), next_token })
}

fn subnet_to_wire(view: &View, caller: &Caller, vpc: &Vpc, subnet: &Subnet) -> api::Subnet {
    let index = Index::SubnetInterfaces(caller.account, subnet.id.clone());
    let taken = u64::try_from(view.member_count(&index)).unwrap_or(u64::MAX);
    let free = subnet.usable().saturating_sub(taken);
    let (region, account) = (&caller.region, caller.account);
    api::Subnet {
        availability_zone_id: Some(subnet.zone_id.clone()),
        map_customer_owned_ip_on_launch: Some(false),
        owner_id: Some(account.to_string()),
        assign_ipv6_address_on_creation: Some(false),
        ipv6_cidr_block_association_set: Some(vec![]),
        tags: Some(tags::to_wire(view.tags_on(account, subnet.id.as_str()))),
        subnet_arn: Some(format!("arn:aws:ec2:{region}:{account}:subnet/{}", subnet.id)),
        enable_dns64: Some(false),
        ipv6_native: Some(false),
        private_dns_name_options_on_launch: Some(api::PrivateDnsNameOptionsOnLaunch {
            hostname_type: Some(api::HostnameType::IpName),
            enable_resource_name_dns_a_record: Some(false),
            enable_resource_name_dns_aaaa_record: Some(false),
        }),
        subnet_id: Some(subnet.id.to_string()),
        state: Some(api::SubnetState::Available),
        vpc_id: Some(vpc.id.to_string()),
        cidr_block: Some(subnet.block.to_string()),
        available_ip_address_count: i32::try_from(free).ok(),
        availability_zone: Some(subnet.zone.clone()),
        default_for_az: Some(true),
        map_public_ip_on_launch: Some(true),
        ..api::Subnet::default()
    }
}
