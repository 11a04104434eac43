//! CreateVpc, DescribeVpcs, DescribeVpcAttribute, ModifyVpcAttribute, DeleteVpc, and a VPC's blocks of addresses.

use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;
use longshore_types::{
    AclAssociationId, Cidr, DhcpOptionsId, InternetGatewayId, NetworkAclId, RegionName,
    RouteAssociationId, RouteTableId, SecurityGroupId, SubnetId, VpcCidrAssociationId, VpcId,
};
use model::network::{
    DefaultVpcGone, DhcpOptions, InternetGateway, NetworkAcl, PUBLIC_POOL, Route, RouteDestination,
    RouteTable, RouteTarget, SubnetAcl, SubnetRow, VpcBlock, VpcEndpoint, VpcRow,
};
use model::security_group::DEFAULT_GROUP;
use model::vpc::{AddressPlanId, region_account};
use model::{Index, Key, RuleMatch, RulePeer, SecurityGroup, SecurityGroupRule, Tags, View};
use traffic::feed::Vni;

use crate::Ec2;
use crate::associations::on_association;
use crate::change::{Change, Make, id_of, on};
use crate::endpoints;
use crate::errors::{Kind, Refusal, unless_dry};
use crate::filter::{Asked, Filters, one, select, shown};
use crate::flow_logs;
use crate::groups::all_egress;
use crate::limits::{DELETED_ROWS_MAX, VPC_BLOCKS_MAX, VPCS_MAX};
use crate::peerings;
use crate::refusal::NetworkRefusal;
use crate::tags;

/// The longest and shortest prefix of a VPC's block, and of a subnet's.
const PREFIX_MIN: u8 = 16;
const PREFIX_MAX: u8 = 28;
const ANYWHERE: Cidr =
    Cidr::from_octets([0, 0, 0, 0], 0).expect("there are no bits below the prefix");
/// Blocks that no VPC has: of this host, of links, of groups of hosts, and the region's public addresses.
const RESERVED: [Option<Cidr>; 5] = [
    Cidr::from_octets([0, 0, 0, 0], 8),
    Cidr::from_octets([127, 0, 0, 0], 8),
    Cidr::from_octets([169, 254, 0, 0], 16),
    Cidr::from_octets([224, 0, 0, 0], 3),
    Some(PUBLIC_POOL),
];

/// A block as a request writes it, without bits below the prefix; `None` if it is none.
pub(crate) fn block(given: &str) -> Option<Cidr> {
    let (address, prefix) = given.split_once('/')?;
    Cidr::new(address.parse().ok()?, prefix.parse().ok()?)
}

/// What is said to a text that is no block, which EC2 tells from a block that does not fit.
pub(crate) fn no_block(parameter: &str, given: &str) -> Refusal {
    Refusal::Value(format!(
        "Value ({given}) for parameter {parameter} is invalid. This is not a valid CIDR block."
    ))
}

/// Whether a block is of a size that VPCs and subnets have.
pub(crate) fn has_size(block: Cidr) -> bool {
    (PREFIX_MIN..=PREFIX_MAX).contains(&block.prefix())
}

fn vpc_block(given: Option<&str>) -> Result<Cidr, Refusal> {
    let given = given.filter(|given| !given.is_empty()).ok_or(Refusal::Parameter("cidrBlock"))?;
    let block = block(given).ok_or_else(|| no_block("cidrBlock", given))?;
    let is_reserved = RESERVED.iter().flatten().any(|reserved| reserved.overlaps(block));
    match has_size(block) && !is_reserved {
        true => Ok(block),
        false => Err(NetworkRefusal::VpcBlock(given.to_owned()).into()),
    }
}

const PRIVATE: [Option<Cidr>; 3] = [
    Cidr::from_octets([10, 0, 0, 0], 8),
    Cidr::from_octets([172, 16, 0, 0], 12),
    Cidr::from_octets([192, 168, 0, 0], 16),
];
/// Of networks under test.
const BENCHMARKS: Option<Cidr> = Cidr::from_octets([198, 19, 0, 0], 16);

/// Whether a VPC with these blocks, the first one before the others, may have no such further one.
///
/// <https://docs.aws.amazon.com/vpc/latest/userguide/vpc-cidr-blocks.html>, "IPv4 CIDR block association restrictions".
fn is_restricted(mut blocks: impl Iterator<Item = Cidr>, asked: Cidr) -> bool {
    let range_of =
        |block: Cidr| PRIVATE.iter().position(|it| it.is_some_and(|it| it.overlaps(block)));
    let is_in = |octets, prefix, block: Cidr| {
        Cidr::from_octets(octets, prefix).is_some_and(|range| range.overlaps(block))
    };
    let Some(first) = blocks.next() else { return false };
    let is_of_another_range = match (range_of(first), range_of(asked)) {
        (Some(own), Some(other)) => own != other,
        (None, Some(_)) => true,
        (_, None) => BENCHMARKS.is_some_and(|it| it.overlaps(asked) && !it.overlaps(first)),
    };
    let is_dockers = is_in([172, 16, 0, 0], 12, first) && is_in([172, 31, 0, 0], 16, asked);
    let mut all = std::iter::once(first).chain(blocks);
    let is_low_ten = is_in([10, 0, 0, 0], 16, asked) && all.any(|it| is_in([10, 0, 0, 0], 15, it));
    is_of_another_range || is_dockers || is_low_ten
}

/// What is asked for of another family of addresses, or of a pool.
fn check_ipv4_only(
    amazons: Option<bool>,
    others: &[(&str, Option<&String>)],
) -> Result<(), Refusal> {
    let other = others.iter().find(|(_, value)| value.is_some()).map(|(name, _)| *name);
    let other = other.or_else(|| (amazons == Some(true)).then_some("AmazonProvidedIpv6CidrBlock"));
    match other {
        None => Ok(()),
        Some(name) => Err(NetworkRefusal::Unsupported(format!(
            "{name} is not available in this region: VPCs have IPv4 addresses of CidrBlock."
        ))
        .into()),
    }
}

pub(crate) async fn create_vpc(
    ec2: &Ec2,
    caller: &Caller,
    input: api::CreateVpcRequest,
) -> Result<api::CreateVpcResult, ApiError> {
    let make = Make::new(caller, "ec2:CreateVpc", "vpc", input.tag_specifications.as_deref());
    let permission = make.permission(caller);
    let made = ec2.change(caller, &permission, input.dry_run, |it| {
        let tags = make.tags()?;
        check_ipv4_only(
            input.amazon_provided_ipv6_cidr_block,
            &[
                ("Ipv6Pool", input.ipv6_pool.as_ref()),
                ("Ipv6CidrBlock", input.ipv6_cidr_block.as_ref()),
                ("Ipv4IpamPoolId", input.ipv4_ipam_pool_id.as_ref()),
                ("Ipv6IpamPoolId", input.ipv6_ipam_pool_id.as_ref()),
            ],
        )?;
        if input.instance_tenancy.as_ref().is_some_and(|asked| *asked != api::Tenancy::Default) {
            let why = "InstanceTenancy is 'default' in this region: there are no instances.";
            return Err(NetworkRefusal::Unsupported(why.to_owned()).into());
        }
        let block = vpc_block(input.cidr_block.as_deref())?;
        if it.network.view().vpcs.of(it.account).count() >= VPCS_MAX {
            return Err(NetworkRefusal::TooMany { code: "VpcLimitExceeded", what: "VPCs" }.into());
        }
        let row = begin(it, block, false);
        it.put(RouteTable {
            account: it.account,
            id: row.main_table.clone(),
            vpc: row.id.clone(),
            routes: vec![],
        });
        it.put(row.clone());
        it.tag(row.id.as_str(), &tags);
        Ok(to_wire(&row, Some(&tags)))
    });
    Ok(api::CreateVpcResult { vpc: Some(made.await?) })
}

/// A new VPC, with what every VPC has from its beginning. Its own row, and that of its main table, are the caller's to
/// write.
fn begin(it: &mut Change<'_>, block: Cidr, is_default: bool) -> VpcRow {
    let account = it.account;
    let row = VpcRow {
        account,
        id: free_id(it),
        first: VpcBlock { association: VpcCidrAssociationId::mint(it.ids), block },
        secondary: vec![],
        dns_support: true,
        dns_hostnames: is_default,
        dhcp_options: accounts_dhcp(it),
        main_table: RouteTableId::mint(it.ids),
        main_association: RouteAssociationId::mint(it.ids),
        default_acl: NetworkAclId::mint(it.ids),
        default_group: SecurityGroupId::mint(it.ids),
        is_default,
    };
    it.put(NetworkAcl::open(account, row.default_acl.clone(), row.id.clone()));
    let group = SecurityGroup {
        account,
        id: row.default_group.clone(),
        vpc: row.id.clone(),
        name: DEFAULT_GROUP.to_owned(),
        description: "default VPC security group".to_owned(),
        revision: 0,
    };
    let out = all_egress(it.ids, &group);
    it.put(SecurityGroupRule {
        id: longshore_types::SecurityGroupRuleId::mint(it.ids),
        is_egress: false,
        matches: RuleMatch { protocol: None, ports: None, peer: RulePeer::Group(group.id.clone()) },
        ..out.clone()
    });
    it.put(out);
    it.put(group);
    row
}

/// The account's own DHCP options, if they are still there.
fn accounts_dhcp(it: &Change<'_>) -> Option<DhcpOptionsId> {
    let id = &it.network.default_as_it_comes()?.dhcp.id;
    it.network.dhcp(id).map(|row| row.id.clone())
}

/// An id whose number in packets between hosts no other VPC of the region has.
fn free_id(it: &mut Change<'_>) -> VpcId {
    loop {
        let id = VpcId::mint(it.ids);
        let number = Vni::of(&id);
        let index = Index::VpcNumber(number.value());
        if !is_shared(it.network.view(), it.region, number)
            && it.network.view().member_count(&index) == 0
        {
            it.batch.rely(index);
            return id;
        }
    }
}

/// Whether hosts tell packets of the default VPCs, which are all accounts' together, by a number.
pub(crate) fn is_shared(view: &View, region: &RegionName, number: Vni) -> bool {
    let plan = view.address_plans.get(region_account(), &AddressPlanId);
    plan.is_some_and(|plan| Vni::of(&plan.shared_vpc(region)) == number)
}

pub(crate) fn to_wire(row: &VpcRow, tags: Option<&Tags>) -> api::Vpc {
    let blocks = std::iter::once(&row.first).chain(&row.secondary);
    api::Vpc {
        vpc_id: Some(row.id.to_string()),
        owner_id: Some(row.account.to_string()),
        instance_tenancy: Some(api::Tenancy::Default),
        ipv6_cidr_block_association_set: Some(vec![]),
        cidr_block_association_set: Some(
            blocks.map(|it| block_to_wire(it, api::VpcCidrBlockStateCode::Associated)).collect(),
        ),
        block_public_access_states: Some(api::BlockPublicAccessStates {
            internet_gateway_block_mode: Some(api::BlockPublicAccessMode::Off),
        }),
        is_default: Some(row.is_default),
        tags: Some(tags::to_wire(tags)),
        state: Some(api::VpcState::Available),
        cidr_block: Some(row.first.block.to_string()),
        dhcp_options_id: Some(
            row.dhcp_options.as_ref().map_or("default", |id| id.as_str()).to_owned(),
        ),
        ..api::Vpc::default()
    }
}

fn block_to_wire(
    block: &VpcBlock,
    state: api::VpcCidrBlockStateCode,
) -> api::VpcCidrBlockAssociation {
    api::VpcCidrBlockAssociation {
        association_id: Some(block.association.to_string()),
        cidr_block: Some(block.block.to_string()),
        cidr_block_state: Some(api::VpcCidrBlockState {
            state: Some(state),
            ..api::VpcCidrBlockState::default()
        }),
    }
}

fn blocks_of(vpc: &api::Vpc) -> impl Iterator<Item = &api::VpcCidrBlockAssociation> {
    vpc.cidr_block_association_set.iter().flatten()
}

const FILTERS: Filters<api::Vpc> = &[
    ("cidr", |vpc| one(vpc.cidr_block.as_ref())),
    ("cidr-block-association.association-id", |vpc| {
        blocks_of(vpc).filter_map(|it| it.association_id.clone()).collect()
    }),
    ("cidr-block-association.cidr-block", |vpc| {
        blocks_of(vpc).filter_map(|it| it.cidr_block.clone()).collect()
    }),
    ("cidr-block-association.state", |_| vec!["associated".to_owned()]),
    ("dhcp-options-id", |vpc| one(vpc.dhcp_options_id.as_ref())),
    ("ipv6-cidr-block-association.association-id", |_| vec![]),
    ("ipv6-cidr-block-association.ipv6-cidr-block", |_| vec![]),
    ("ipv6-cidr-block-association.ipv6-pool", |_| vec![]),
    ("ipv6-cidr-block-association.state", |_| vec![]),
    ("is-default", |vpc| shown(vpc.is_default.as_ref())),
    ("isDefault", |vpc| shown(vpc.is_default.as_ref())),
    ("owner-id", |vpc| one(vpc.owner_id.as_ref())),
    ("state", |_| vec!["available".to_owned()]),
    ("vpc-id", |vpc| one(vpc.vpc_id.as_ref())),
];

pub(crate) async fn describe_vpcs(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeVpcsRequest,
) -> Result<api::DescribeVpcsResult, ApiError> {
    let view = ec2.control.read(caller, &Permission::to("ec2:DescribeVpcs").on("*"))?;
    unless_dry(input.dry_run)?;
    let all = ec2.control.network(&view, caller.account).vpcs();
    let wire = all.iter().map(|row| to_wire(row, view.tags_on(row.account, row.id.as_str())));
    let asked = Asked {
        kind: Kind::Vpc,
        ids: input.vpc_ids.as_deref(),
        filters: input.filters.as_deref(),
        token: input.next_token.as_deref(),
        max: input.max_results,
    };
    let (vpcs, next_token) = select(wire.collect(), &asked, |it| it.vpc_id.as_deref(), FILTERS)?;
    Ok(api::DescribeVpcsResult { vpcs: Some(vpcs), next_token })
}

pub(crate) async fn describe_vpc_attribute(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeVpcAttributeRequest,
) -> Result<api::DescribeVpcAttributeResult, ApiError> {
    let permission = on(caller, "ec2:DescribeVpcAttribute", "vpc", input.vpc_id.as_ref());
    let view = ec2.control.read(caller, &permission)?;
    unless_dry(input.dry_run)?;
    let id: VpcId = id_of(Kind::Vpc, "vpcId", input.vpc_id.as_deref())?;
    let vpc = ec2.control.network(&view, caller.account).vpc(&id);
    let vpc = vpc.ok_or_else(|| Kind::Vpc.refused()(id.as_str()))?;
    let mut answer = api::DescribeVpcAttributeResult {
        vpc_id: Some(vpc.id.to_string()),
        ..api::DescribeVpcAttributeResult::default()
    };
    let flag = |value| Some(api::AttributeBooleanValue { value: Some(value) });
    match &input.attribute {
        Some(api::VpcAttributeName::EnableDnsSupport) => {
            answer.enable_dns_support = flag(vpc.dns_support);
        }
        Some(api::VpcAttributeName::EnableDnsHostnames) => {
            answer.enable_dns_hostnames = flag(vpc.dns_hostnames);
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

pub(crate) async fn modify_vpc_attribute(
    ec2: &Ec2,
    caller: &Caller,
    input: api::ModifyVpcAttributeRequest,
) -> Result<(), ApiError> {
    let permission = on(caller, "ec2:ModifyVpcAttribute", "vpc", input.vpc_id.as_ref());
    let value = |given: &Option<api::AttributeBooleanValue>| given.as_ref().and_then(|it| it.value);
    let support = value(&input.enable_dns_support);
    let hostnames = value(&input.enable_dns_hostnames);
    let metrics = value(&input.enable_network_address_usage_metrics);
    let changed = ec2.change(caller, &permission, None, |it| {
        let vpc = it.vpc(input.vpc_id.as_deref())?;
        if [support, hostnames, metrics].iter().flatten().count() != 1 {
            let sentence = "Exactly one attribute of a VPC is changed by one call";
            return Err(Refusal::Combination(sentence.to_owned()));
        }
        if metrics == Some(true) {
            let why = "EnableNetworkAddressUsageMetrics is not available in this region.";
            return Err(NetworkRefusal::Unsupported(why.to_owned()).into());
        }
        let row = VpcRow {
            dns_support: support.unwrap_or(vpc.dns_support),
            dns_hostnames: hostnames.unwrap_or(vpc.dns_hostnames),
            ..VpcRow::clone(&vpc)
        };
        if row != *vpc {
            it.change_vpc(&vpc.id);
            // Whether services' names lead to endpoints follows from it: rows that are written anew are told anew.
            let endpoints: Vec<VpcEndpoint> =
                endpoints::used_by(it.network.view(), it.account, vpc.id.as_str())
                    .filter(|row| row.interface().is_some())
                    .map(|row| VpcEndpoint::clone(row))
                    .collect();
            it.batch.rely(Index::Ec2Uses(it.account, vpc.id.as_str().into()));
            endpoints.into_iter().for_each(|row| it.put(row));
            it.put(row);
        }
        Ok(())
    });
    changed.await
}

pub(crate) async fn associate_vpc_cidr_block(
    ec2: &Ec2,
    caller: &Caller,
    input: api::AssociateVpcCidrBlockRequest,
) -> Result<api::AssociateVpcCidrBlockResult, ApiError> {
    let permission = on(caller, "ec2:AssociateVpcCidrBlock", "vpc", input.vpc_id.as_ref());
    let changed = ec2.change(caller, &permission, None, |it| {
        let vpc = it.vpc(input.vpc_id.as_deref())?;
        check_ipv4_only(
            input.amazon_provided_ipv6_cidr_block,
            &[
                ("Ipv6Pool", input.ipv6_pool.as_ref()),
                ("Ipv6CidrBlock", input.ipv6_cidr_block.as_ref()),
                ("Ipv4IpamPoolId", input.ipv4_ipam_pool_id.as_ref()),
                ("Ipv6IpamPoolId", input.ipv6_ipam_pool_id.as_ref()),
            ],
        )?;
        if vpc.is_default {
            let why = "The default VPC has one block of addresses in this region, which those of all accounts share: \
                       make a VPC for more.";
            return Err(NetworkRefusal::Unsupported(why.to_owned()).into());
        }
        let given = input.cidr_block.as_deref();
        let block = vpc_block(given)?;
        if is_restricted(vpc.blocks(), block) {
            return Err(NetworkRefusal::VpcBlockRestricted(block.to_string()).into());
        }
        let tables = it.network.tables();
        let mut routes = tables.iter().filter(|it| it.vpc == vpc.id).flat_map(|it| &it.routes);
        let hides_route = routes.any(|route| match &route.destination {
            RouteDestination::Block(to) => to.prefix() >= block.prefix() && to.overlaps(block),
            // What a list says of the VPC's own addresses has no effect.
            RouteDestination::List(_) => false,
        });
        let is_peers = peerings::is_peers(it, &vpc, block);
        if vpc.blocks().any(|other| other.overlaps(block)) || hides_route || is_peers {
            return Err(NetworkRefusal::VpcBlock(given.unwrap_or_default().to_owned()).into());
        }
        if vpc.blocks().count() >= VPC_BLOCKS_MAX {
            let (code, what) = ("CidrBlockLimitExceeded", "CIDR blocks of a VPC");
            return Err(NetworkRefusal::TooMany { code, what }.into());
        }
        it.batch.rely(Index::Ec2Uses(it.account, vpc.id.as_str().into()));
        let added = VpcBlock { association: VpcCidrAssociationId::mint(it.ids), block };
        let wire = block_to_wire(&added, api::VpcCidrBlockStateCode::Associating);
        let mut row = VpcRow::clone(&vpc);
        row.secondary.push(added);
        let id = row.id.to_string();
        it.put(row);
        Ok((id, wire))
    });
    let (id, block) = changed.await?;
    Ok(api::AssociateVpcCidrBlockResult {
        vpc_id: Some(id),
        cidr_block_association: Some(block),
        ..api::AssociateVpcCidrBlockResult::default()
    })
}

pub(crate) async fn disassociate_vpc_cidr_block(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DisassociateVpcCidrBlockRequest,
) -> Result<api::DisassociateVpcCidrBlockResult, ApiError> {
    let permission = Permission::to("ec2:DisassociateVpcCidrBlock");
    let id = input.association_id.as_ref();
    let permission = on_association(ec2, caller, permission, "vpc", id);
    let changed = ec2.change(caller, &permission, None, |it| {
        let given = input.association_id.as_deref();
        let id: VpcCidrAssociationId = id_of(Kind::BlockAssociation, "associationId", given)?;
        let vpcs = it.network.vpcs();
        if vpcs.iter().any(|vpc| vpc.first.association == id) {
            return Err(NetworkRefusal::BlockStays(id.to_string()).into());
        }
        let is_its = |vpc: &VpcRow| vpc.secondary.iter().any(|block| block.association == id);
        let vpc = vpcs.iter().find(|vpc| is_its(vpc));
        let vpc = vpc.ok_or_else(|| Kind::BlockAssociation.refused()(id.as_str()))?;
        let mut row = VpcRow::clone(vpc);
        let (gone, kept) = row.secondary.into_iter().partition(|block| block.association == id);
        row.secondary = kept;
        let gone: Vec<VpcBlock> = gone;
        it.batch.rely(Index::Ec2Uses(it.account, row.id.as_str().into()));
        let subnets = it.network.subnets_of(&row.id);
        let inside = subnets.iter().filter(|subnet| gone[0].block.overlaps(subnet.block));
        let by: Vec<String> = inside.map(|subnet| subnet.id.to_string()).collect();
        if !by.is_empty() {
            return Err(NetworkRefusal::BlockInUse { association: id.to_string(), by }.into());
        }
        let id = row.id.to_string();
        it.put(row);
        Ok((id, block_to_wire(&gone[0], api::VpcCidrBlockStateCode::Disassociating)))
    });
    let (id, block) = changed.await?;
    Ok(api::DisassociateVpcCidrBlockResult {
        vpc_id: Some(id),
        cidr_block_association: Some(block),
        ..api::DisassociateVpcCidrBlockResult::default()
    })
}

pub(crate) async fn delete_vpc(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DeleteVpcRequest,
) -> Result<(), ApiError> {
    let permission = on(caller, "ec2:DeleteVpc", "vpc", input.vpc_id.as_ref());
    // A default group of very many rules goes in several steps, the last of which is that the VPC is gone.
    while !ec2.change(caller, &permission, input.dry_run, |it| delete_step(it, &input)).await? {}
    Ok(())
}

/// The next step of a VPC's deletion, and whether it is the last.
fn delete_step(it: &mut Change<'_>, input: &api::DeleteVpcRequest) -> Result<bool, Refusal> {
    let vpc = it.vpc(input.vpc_id.as_deref())?;
    let group = Key::SecurityGroup(it.account, vpc.default_group.clone());
    let table = Key::RouteTable(it.account, vpc.main_table.clone());
    let acl = Key::NetworkAcl(it.account, vpc.default_acl.clone());
    let goes_too = [group, table, acl];
    if let Some(default) = it.network.unchanged_default().filter(|it| it.vpc.id == vpc.id) {
        let subnets = default.subnets.iter().map(|subnet| subnet.id.to_string());
        let by = subnets.chain([default.gateway.id.to_string()]).collect();
        return Err(NetworkRefusal::InUse { what: "vpc", id: vpc.id.to_string(), by }.into());
    }
    it.check_unused("vpc", vpc.id.as_str(), &goes_too)?;
    it.batch.rely(Index::GroupRules(it.account, vpc.default_group.clone()));
    let whole = it.network.view().security_group(it.account, &vpc.default_group);
    for rule in whole.iter().flat_map(|whole| &whole.rules) {
        if it.batch.len() + 2 > DELETED_ROWS_MAX {
            return Ok(false);
        }
        it.delete(Key::SecurityGroupRule(rule.account, rule.id.clone()));
    }
    for key in goes_too {
        it.delete(key);
    }
    flow_logs::delete_with(it, vpc.id.as_str());
    it.delete(Key::Vpc(it.account, vpc.id.clone()));
    if vpc.is_default {
        // Or the one that the account came with would be seen again.
        it.put(DefaultVpcGone { account: it.account });
    }
    Ok(true)
}

/// A new one where the account's was deleted, of the same addresses and with the same parts.
pub(crate) async fn create_default_vpc(
    ec2: &Ec2,
    caller: &Caller,
    input: api::CreateDefaultVpcRequest,
) -> Result<api::CreateDefaultVpcResult, ApiError> {
    let permission = Permission::to("ec2:CreateDefaultVpc").on("*");
    let made = ec2.change(caller, &permission, input.dry_run, |it| {
        if it.network.default_vpc().is_some() {
            return Err(NetworkRefusal::DefaultThere.into());
        }
        // Two that are made at once write the same row.
        it.put(DefaultVpcGone { account: it.account });
        let comes = it.network.default_as_it_comes().cloned().ok_or(Refusal::NoDefaultVpc)?;
        let row = begin(it, comes.vpc.first.block, true);
        let gateway = InternetGateway {
            account: it.account,
            id: InternetGatewayId::mint(it.ids),
            vpc: Some(row.id.clone()),
        };
        it.put(RouteTable {
            id: row.main_table.clone(),
            vpc: row.id.clone(),
            routes: vec![Route {
                destination: RouteDestination::Block(ANYWHERE),
                target: RouteTarget::InternetGateway(gateway.id.clone()),
            }],
            ..RouteTable::clone(&comes.table)
        });
        it.put(gateway);
        for subnet in &comes.subnets {
            let acl = row.default_acl.clone();
            it.put(SubnetRow {
                id: SubnetId::mint(it.ids),
                vpc: row.id.clone(),
                acl: SubnetAcl { association: AclAssociationId::mint(it.ids), acl },
                ..SubnetRow::clone(subnet)
            });
        }
        if row.dhcp_options.is_none() {
            it.put(DhcpOptions::clone(&comes.dhcp));
        }
        let row = VpcRow { dhcp_options: Some(comes.dhcp.id.clone()), ..row };
        it.put(row.clone());
        Ok(to_wire(&row, None))
    });
    Ok(api::CreateDefaultVpcResult { vpc: Some(made.await?) })
}

#[cfg(test)]
mod tests {
    use longshore_types::AccountId;
    use model::vpc::AddressPlan;
    use model::{Row, Seq};

    use super::*;

    #[test]
    fn the_number_of_what_all_accounts_share_is_no_vpcs() {
        let mut view = View::default();
        let block = "172.31.0.0/16".parse().unwrap();
        let plan = AddressPlan { block, bridge: None, seed: 7 };
        view.put(Seq(1), &Row::from(plan.clone()));
        let region: RegionName = "eu-north-1".parse().unwrap();
        let shared = Vni::of(&plan.default_vpc(region_account(), &region).id);
        assert!(is_shared(&view, &region, shared));
        let account: AccountId = "111111111111".parse().unwrap();
        let own = Vni::of(&plan.default_vpc(account, &region).id);
        assert!(
            !is_shared(&view, &region, own),
            "hosts know nothing of an account's own default VPC"
        );
    }
}
