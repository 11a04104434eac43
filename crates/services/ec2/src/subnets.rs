//! CreateSubnet, DescribeSubnets, ModifySubnetAttribute, DeleteSubnet.

use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;
use longshore_types::{AclAssociationId, Cidr, SubnetId};
use model::network::{SubnetAcl, SubnetRow, VpcRow};
use model::vpc::{SUBNET_PREFIX, Subnet};
use model::{Index, Key, Tags, View};

use crate::Ec2;
use crate::change::{Change, Make, arn, on};
use crate::errors::{Kind, Refusal, unless_dry};
use crate::filter::{Asked, Filters, one, select, shown};
use crate::flow_logs;
use crate::limits::SUBNETS_PER_VPC_MAX;
use crate::refusal::NetworkRefusal;
use crate::tags;
use crate::vpcs::{block, has_size, no_block};

pub(crate) async fn create_subnet(
    ec2: &Ec2,
    caller: &Caller,
    input: api::CreateSubnetRequest,
) -> Result<api::CreateSubnetResult, ApiError> {
    let tags = input.tag_specifications.as_deref();
    let make = Make::new(caller, "ec2:CreateSubnet", "subnet", tags);
    let vpc = arn(caller, "vpc", input.vpc_id.as_deref().unwrap_or_default());
    let permission = make.permission(caller).on(vpc);
    let made = ec2.change(caller, &permission, input.dry_run, |it| {
        let tags = make.tags()?;
        check_supported(&input)?;
        let vpc = it.vpc(input.vpc_id.as_deref())?;
        it.change_vpc(&vpc.id);
        // Every subnet that is there was looked at.
        it.batch.rely(Index::Ec2Uses(it.account, vpc.id.as_str().into()));
        let subnets = it.network.subnets_of(&vpc.id);
        let block = free_block(&vpc, &subnets, input.cidr_block.as_deref())?;
        if subnets.len() >= SUBNETS_PER_VPC_MAX {
            let (code, what) = ("SubnetLimitExceeded", "subnets of a VPC");
            return Err(NetworkRefusal::TooMany { code, what }.into());
        }
        let (zone, zone_id) = zone(it, &subnets, &input)?;
        let row = SubnetRow {
            account: it.account,
            id: SubnetId::mint(it.ids),
            vpc: vpc.id.clone(),
            block,
            zone,
            zone_id,
            map_public_ip: false,
            table: None,
            acl: SubnetAcl {
                association: AclAssociationId::mint(it.ids),
                acl: vpc.default_acl.clone(),
            },
            is_default: false,
        };
        it.tag(row.id.as_str(), &tags);
        let wire = to_wire(it.network.view(), caller, &row, Some(&tags));
        it.put(row);
        Ok(wire)
    });
    Ok(api::CreateSubnetResult { subnet: Some(made.await?) })
}

fn check_supported(input: &api::CreateSubnetRequest) -> Result<(), Refusal> {
    let others = [
        ("Ipv6CidrBlock", input.ipv6_cidr_block.is_some()),
        ("Ipv6Native", input.ipv6_native == Some(true)),
        ("OutpostArn", input.outpost_arn.is_some()),
        ("Ipv4IpamPoolId", input.ipv4_ipam_pool_id.is_some()),
        ("Ipv6IpamPoolId", input.ipv6_ipam_pool_id.is_some()),
    ];
    match others.iter().find(|(_, is_asked)| *is_asked) {
        None => Ok(()),
        Some((name, _)) => Err(NetworkRefusal::Unsupported(format!(
            "{name} is not available in this region: subnets have IPv4 addresses of CidrBlock."
        ))
        .into()),
    }
}

/// A block within one of the VPC's that no other subnet has a part of.
fn free_block(
    vpc: &VpcRow,
    subnets: &[std::sync::Arc<SubnetRow>],
    given: Option<&str>,
) -> Result<Cidr, Refusal> {
    let given = given.filter(|given| !given.is_empty()).ok_or(Refusal::Parameter("cidrBlock"))?;
    let is_within = |block: Cidr| {
        vpc.blocks().any(|outer| outer.overlaps(block) && outer.prefix() <= block.prefix())
    };
    let block = block(given).ok_or_else(|| no_block("cidrBlock", given))?;
    if !has_size(block) || !is_within(block) {
        return Err(NetworkRefusal::SubnetBlock(given.to_owned()).into());
    }
    if subnets.iter().any(|other| other.block.overlaps(block)) {
        return Err(NetworkRefusal::SubnetOverlaps(block.to_string()).into());
    }
    Ok(block)
}

/// The zone that a request names, or the one that has the fewest of the VPC's subnets.
fn zone(
    it: &Change<'_>,
    subnets: &[std::sync::Arc<SubnetRow>],
    input: &api::CreateSubnetRequest,
) -> Result<(String, String), Refusal> {
    let zones = it.network.zones().map(|(name, id)| (name.to_owned(), id.to_owned()));
    let zones: Vec<(String, String)> = zones.collect();
    let named = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (name, id) = (named(&input.availability_zone), named(&input.availability_zone_id));
    let held = |zone: &String| subnets.iter().filter(|subnet| subnet.zone == *zone).count();
    let found = match (&name, &id) {
        (None, None) => zones.iter().min_by_key(|(zone, _)| held(zone)),
        _ => zones.iter().find(|(zone, zone_id)| {
            name.as_ref().is_none_or(|name| name == zone)
                && id.as_ref().is_none_or(|id| id == zone_id)
        }),
    };
    found.cloned().ok_or_else(|| {
        let there = zones.iter().map(|(zone, _)| zone.clone()).collect();
        NetworkRefusal::Zone { given: name.or(id).unwrap_or_default(), there }.into()
    })
}

fn to_wire(view: &View, caller: &Caller, row: &SubnetRow, tags: Option<&Tags>) -> api::Subnet {
    let index = Index::SubnetInterfaces(caller.account, row.id.clone());
    let taken = u64::try_from(view.member_count(&index)).unwrap_or(u64::MAX);
    let free = as_place(row).usable().saturating_sub(taken);
    let (region, account) = (&caller.region, caller.account);
    api::Subnet {
        availability_zone_id: Some(row.zone_id.clone()),
        map_customer_owned_ip_on_launch: Some(false),
        owner_id: Some(account.to_string()),
        assign_ipv6_address_on_creation: Some(false),
        ipv6_cidr_block_association_set: Some(vec![]),
        tags: Some(tags::to_wire(tags)),
        subnet_arn: Some(format!("arn:aws:ec2:{region}:{account}:subnet/{}", row.id)),
        enable_dns64: Some(false),
        ipv6_native: Some(false),
        private_dns_name_options_on_launch: Some(api::PrivateDnsNameOptionsOnLaunch {
            hostname_type: Some(api::HostnameType::IpName),
            enable_resource_name_dns_a_record: Some(false),
            enable_resource_name_dns_aaaa_record: Some(false),
        }),
        subnet_id: Some(row.id.to_string()),
        state: Some(api::SubnetState::Available),
        vpc_id: Some(row.vpc.to_string()),
        cidr_block: Some(row.block.to_string()),
        available_ip_address_count: i32::try_from(free).ok(),
        availability_zone: Some(row.zone.clone()),
        default_for_az: Some(row.is_default),
        map_public_ip_on_launch: Some(row.map_public_ip),
        ..api::Subnet::default()
    }
}

/// As those see it who put interfaces there.
pub(crate) fn as_place(row: &SubnetRow) -> Subnet {
    let (zone, zone_id) = (row.zone.clone(), row.zone_id.clone());
    Subnet { id: row.id.clone(), block: row.block, zone, zone_id }
}

const FILTERS: Filters<api::Subnet> = &[
    ("availability-zone", |it| one(it.availability_zone.as_ref())),
    ("availabilityZone", |it| one(it.availability_zone.as_ref())),
    ("availability-zone-id", |it| one(it.availability_zone_id.as_ref())),
    ("availabilityZoneId", |it| one(it.availability_zone_id.as_ref())),
    ("available-ip-address-count", |it| shown(it.available_ip_address_count.as_ref())),
    ("cidr-block", |it| one(it.cidr_block.as_ref())),
    ("cidr", |it| one(it.cidr_block.as_ref())),
    ("cidrBlock", |it| one(it.cidr_block.as_ref())),
    ("default-for-az", |it| shown(it.default_for_az.as_ref())),
    ("defaultForAz", |it| shown(it.default_for_az.as_ref())),
    ("enable-dns64", |_| vec!["false".to_owned()]),
    ("ipv6-cidr-block-association.association-id", |_| vec![]),
    ("ipv6-cidr-block-association.ipv6-cidr-block", |_| vec![]),
    ("ipv6-cidr-block-association.state", |_| vec![]),
    ("ipv6-native", |_| vec!["false".to_owned()]),
    ("map-customer-owned-ip-on-launch", |_| vec!["false".to_owned()]),
    ("map-public-ip-on-launch", |it| shown(it.map_public_ip_on_launch.as_ref())),
    ("outpost-arn", |_| vec![]),
    ("owner-id", |it| one(it.owner_id.as_ref())),
    ("private-dns-name-options-on-launch.hostname-type", |_| vec!["ip-name".to_owned()]),
    ("private-dns-name-options-on-launch.enable-resource-name-dns-a-record", |_| {
        vec!["false".to_owned()]
    }),
    ("private-dns-name-options-on-launch.enable-resource-name-dns-aaaa-record", |_| {
        vec!["false".to_owned()]
    }),
    ("state", |_| vec!["available".to_owned()]),
    ("subnet-arn", |it| one(it.subnet_arn.as_ref())),
    ("subnet-id", |it| one(it.subnet_id.as_ref())),
    ("vpc-id", |it| one(it.vpc_id.as_ref())),
];

pub(crate) async fn describe_subnets(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeSubnetsRequest,
) -> Result<api::DescribeSubnetsResult, ApiError> {
    let view = ec2.control.read(caller, &Permission::to("ec2:DescribeSubnets").on("*"))?;
    unless_dry(input.dry_run)?;
    let all = ec2.control.network(&view, caller.account).subnets();
    let wire = all.iter().map(|row| {
        let tags = view.tags_on(row.account, row.id.as_str());
        to_wire(&view, caller, row, tags)
    });
    let asked = Asked {
        kind: Kind::Subnet,
        ids: input.subnet_ids.as_deref(),
        filters: input.filters.as_deref(),
        token: input.next_token.as_deref(),
        max: input.max_results,
    };
    let (subnets, next_token) =
        select(wire.collect(), &asked, |it| it.subnet_id.as_deref(), FILTERS)?;
    Ok(api::DescribeSubnetsResult { subnets: Some(subnets), next_token })
}

pub(crate) async fn modify_subnet_attribute(
    ec2: &Ec2,
    caller: &Caller,
    input: api::ModifySubnetAttributeRequest,
) -> Result<(), ApiError> {
    let permission = on(caller, "ec2:ModifySubnetAttribute", "subnet", input.subnet_id.as_ref());
    let changed = ec2.change(caller, &permission, None, |it| {
        let subnet = it.subnet(input.subnet_id.as_deref())?;
        let map_public_ip = asked_of_subnet(&input)?;
        let row = SubnetRow {
            map_public_ip: map_public_ip.unwrap_or(subnet.map_public_ip),
            ..SubnetRow::clone(&subnet)
        };
        if row != *subnet {
            it.change_vpc(&subnet.vpc);
            it.put(row);
        }
        Ok(())
    });
    changed.await
}

/// The attribute that a request changes; what cannot be had here may be asked to stay as it is.
fn asked_of_subnet(input: &api::ModifySubnetAttributeRequest) -> Result<Option<bool>, Refusal> {
    let value = |given: &Option<api::AttributeBooleanValue>| given.as_ref().and_then(|it| it.value);
    let map_public_ip = value(&input.map_public_ip_on_launch);
    let by_resource = input.private_dns_hostname_type_on_launch.as_ref();
    let by_resource = by_resource.map(|kind| *kind != api::HostnameType::IpName);
    let others = [
        ("AssignIpv6AddressOnCreation", value(&input.assign_ipv6_address_on_creation)),
        ("MapCustomerOwnedIpOnLaunch", value(&input.map_customer_owned_ip_on_launch)),
        ("EnableDns64", value(&input.enable_dns64)),
        ("PrivateDnsHostnameTypeOnLaunch", by_resource),
        (
            "EnableResourceNameDnsARecordOnLaunch",
            value(&input.enable_resource_name_dns_a_record_on_launch),
        ),
        (
            "EnableResourceNameDnsAAAARecordOnLaunch",
            value(&input.enable_resource_name_dns_aaaa_record_on_launch),
        ),
        ("EnableLniAtDeviceIndex", input.enable_lni_at_device_index.map(|_| true)),
        ("DisableLniAtDeviceIndex", value(&input.disable_lni_at_device_index)),
    ];
    let given = others.iter().filter(|(_, value)| value.is_some()).count();
    if given + usize::from(map_public_ip.is_some()) != 1 {
        let sentence = "Exactly one attribute of a subnet is changed by one call";
        return Err(Refusal::Combination(sentence.to_owned()));
    }
    match others.iter().find(|(_, value)| *value == Some(true)) {
        None => Ok(map_public_ip),
        Some((name, _)) => Err(NetworkRefusal::Unsupported(format!(
            "{name} is not available in this region: subnets have IPv4 addresses, and interfaces names by \
             those."
        ))
        .into()),
    }
}

pub(crate) async fn delete_subnet(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DeleteSubnetRequest,
) -> Result<(), ApiError> {
    let permission = on(caller, "ec2:DeleteSubnet", "subnet", input.subnet_id.as_ref());
    // One of a default VPC that is no row yet becomes one first: who relies on it must find that it went.
    while !ec2.change(caller, &permission, input.dry_run, |it| delete_step(it, &input)).await? {}
    Ok(())
}

/// The next step of a subnet's deletion, and whether it is the last.
fn delete_step(it: &mut Change<'_>, input: &api::DeleteSubnetRequest) -> Result<bool, Refusal> {
    let subnet = it.subnet(input.subnet_id.as_deref())?;
    let interfaces = Index::SubnetInterfaces(it.account, subnet.id.clone());
    let view = it.network.view();
    let held = view.members(&interfaces).filter_map(|key| {
        let Key::Interface(account, id) = key else { return None };
        let row = view.interfaces.get(*account, id)?;
        Some(format!("{} of {}", row.eni, row.user))
    });
    let by: Vec<String> = held.collect();
    if !by.is_empty() {
        let id = subnet.id.to_string();
        return Err(NetworkRefusal::InUse { what: "subnet", id, by }.into());
    }
    it.batch.rely(interfaces);
    it.check_unused("subnet", subnet.id.as_str(), &[])?;
    if it.network.unchanged_default().is_some_and(|it| it.vpc.id == subnet.vpc) {
        it.change_vpc(&subnet.vpc);
        return Ok(false);
    }
    flow_logs::delete_with(it, subnet.id.as_str());
    it.delete(Key::Subnet(it.account, subnet.id.clone()));
    Ok(true)
}

/// A new one of a zone where it was deleted.
pub(crate) async fn create_default_subnet(
    ec2: &Ec2,
    caller: &Caller,
    input: api::CreateDefaultSubnetRequest,
) -> Result<api::CreateDefaultSubnetResult, ApiError> {
    let permission = Permission::to("ec2:CreateDefaultSubnet").on("*");
    let made = ec2.change(caller, &permission, input.dry_run, |it| {
        if input.ipv6_native == Some(true) {
            let why = "Ipv6Native is not available in this region: subnets have IPv4 addresses.";
            return Err(NetworkRefusal::Unsupported(why.to_owned()).into());
        }
        let asked = api::CreateSubnetRequest {
            availability_zone: input.availability_zone.clone(),
            availability_zone_id: input.availability_zone_id.clone(),
            ..api::CreateSubnetRequest::default()
        };
        if asked.availability_zone.is_none() && asked.availability_zone_id.is_none() {
            return Err(Refusal::OneOf("availabilityZone", "availabilityZoneId"));
        }
        let (zone, zone_id) = zone(it, &[], &asked)?;
        let vpc = it.network.default_vpc().ok_or(NetworkRefusal::NoDefaultVpc)?;
        it.batch.rely(Key::Vpc(it.account, vpc.id.clone()));
        it.batch.rely(Index::Ec2Uses(it.account, vpc.id.as_str().into()));
        let subnets = it.network.subnets_of(&vpc.id);
        if subnets.iter().any(|other| other.is_default && other.zone == zone) {
            return Err(NetworkRefusal::DefaultSubnetThere(zone).into());
        }
        let block = free_part(&vpc, &subnets).ok_or_else(|| {
            NetworkRefusal::SubnetOverlaps(format!("{}/{SUBNET_PREFIX}", vpc.first.block.first()))
        })?;
        let row = SubnetRow {
            account: it.account,
            id: SubnetId::mint(it.ids),
            vpc: vpc.id.clone(),
            block,
            zone,
            zone_id,
            map_public_ip: true,
            table: None,
            acl: SubnetAcl {
                association: AclAssociationId::mint(it.ids),
                acl: vpc.default_acl.clone(),
            },
            is_default: true,
        };
        let wire = to_wire(it.network.view(), caller, &row, None);
        it.put(row);
        Ok(wire)
    });
    Ok(api::CreateDefaultSubnetResult { subnet: Some(made.await?) })
}

/// The first part of a VPC, as large as default subnets are, that no subnet has a piece of.
fn free_part(vpc: &VpcRow, subnets: &[std::sync::Arc<SubnetRow>]) -> Option<Cidr> {
    let step = 1_u32 << (32 - SUBNET_PREFIX);
    let parts = (0..=u32::MAX / step).map_while(|part| vpc.first.block.nth(part * step));
    let mut parts = parts.filter_map(|first| Cidr::new(first, SUBNET_PREFIX));
    parts.find(|part| !subnets.iter().any(|other| other.block.overlaps(*part)))
}
