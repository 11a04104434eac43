//! DescribeSecurityGroups, DescribeSecurityGroupRules, GetSecurityGroupsForVpc.

use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;
use longshore_types::VpcId;

use super::{GroupRefusal, wire};
use crate::Ec2;
use crate::change::{id_of, on};
use crate::errors::{Kind, Refusal, unless_dry};
use crate::filter::{Asked, Filters, apply, by_id, one, page, select};
use crate::tags;

const GROUP_FILTERS: [&str; 23] = [
    "description",
    "egress.ip-permission.cidr",
    "egress.ip-permission.from-port",
    "egress.ip-permission.group-id",
    "egress.ip-permission.group-name",
    "egress.ip-permission.ipv6-cidr",
    "egress.ip-permission.prefix-list-id",
    "egress.ip-permission.protocol",
    "egress.ip-permission.to-port",
    "egress.ip-permission.user-id",
    "group-id",
    "group-name",
    "ip-permission.cidr",
    "ip-permission.from-port",
    "ip-permission.group-id",
    "ip-permission.group-name",
    "ip-permission.ipv6-cidr",
    "ip-permission.prefix-list-id",
    "ip-permission.protocol",
    "ip-permission.to-port",
    "ip-permission.user-id",
    "owner-id",
    "vpc-id",
];

pub(crate) async fn describe_security_groups(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeSecurityGroupsRequest,
) -> Result<api::DescribeSecurityGroupsResult, ApiError> {
    let permission = Permission::to("ec2:DescribeSecurityGroups").on("*");
    let view = ec2.control.read(caller, &permission)?;
    unless_dry(input.dry_run)?;
    let account = caller.account;
    let named = view.security_groups_of(account);
    let groups = named.iter().filter_map(|group| view.security_group(account, &group.id));
    let groups = groups.map(|whole| wire::group(&view, caller, &whole)).collect();
    let ids = input.group_ids.as_deref();
    check_ids(ids)?;
    let missing = Kind::SecurityGroup.refused();
    let groups =
        by_id(groups, ids, |group: &api::SecurityGroup| group.group_id.as_deref(), missing)?;
    let default = ec2.control.network(&view, account).default_vpc();
    let vpc = default.map(|vpc| vpc.id.to_string()).unwrap_or_default();
    let by_name =
        |name: &str| GroupRefusal::NameMissing { name: name.to_owned(), vpc: vpc.clone() }.into();
    let names = input.group_names.as_deref();
    let is_named = names.is_some_and(|names| !names.is_empty());
    // Names are those of the default VPC: in another one a group may have the same.
    let is_meant =
        |group: &api::SecurityGroup| !is_named || group.vpc_id.as_deref() == Some(vpc.as_str());
    let groups: Vec<api::SecurityGroup> = groups.into_iter().filter(is_meant).collect();
    let groups = by_id(groups, names, |group| group.group_name.as_deref(), by_name)?;
    let name_of = |id: &str| {
        let found = named.iter().find(|group| group.id.as_str() == id);
        found.map(|group| group.name.clone())
    };
    let groups = apply(groups, input.filters.as_deref(), &GROUP_FILTERS, &|group, name| {
        Some(values_of(group, name, &name_of))
    })?;
    let token = input.next_token.as_deref();
    let has_ids = ids.is_some_and(|ids| !ids.is_empty());
    let (groups, next_token) =
        page(groups, token, input.max_results, has_ids, |group| group.group_id.as_deref())?;
    Ok(api::DescribeSecurityGroupsResult { security_groups: Some(groups), next_token })
}

const FOR_VPC_FILTERS: Filters<api::SecurityGroupForVpc> = &[
    ("description", |it| one(it.description.as_ref())),
    ("group-id", |it| one(it.group_id.as_ref())),
    ("group-name", |it| one(it.group_name.as_ref())),
    ("owner-id", |it| one(it.owner_id.as_ref())),
    ("primary-vpc-id", |it| one(it.primary_vpc_id.as_ref())),
];

/// The groups that interfaces of a VPC can have: its own.
pub(crate) async fn get_security_groups_for_vpc(
    ec2: &Ec2,
    caller: &Caller,
    input: api::GetSecurityGroupsForVpcRequest,
) -> Result<api::GetSecurityGroupsForVpcResult, ApiError> {
    let permission = on(caller, "ec2:GetSecurityGroupsForVpc", "vpc", input.vpc_id.as_ref());
    let view = ec2.control.read(caller, &permission)?;
    unless_dry(input.dry_run)?;
    let account = caller.account;
    let id: VpcId = id_of(Kind::Vpc, "vpcId", input.vpc_id.as_deref())?;
    let vpc = ec2.control.network(&view, account).vpc(&id);
    vpc.ok_or_else(|| Kind::Vpc.refused()(id.as_str()))?;
    let groups = view.security_groups_of(account).into_iter().filter(|group| group.vpc == id);
    let groups = groups.map(|group| api::SecurityGroupForVpc {
        tags: Some(tags::to_wire(view.tags_on(account, group.id.as_str()))),
        description: Some(group.description),
        group_name: Some(group.name),
        owner_id: Some(account.to_string()),
        group_id: Some(group.id.to_string()),
        primary_vpc_id: Some(group.vpc.to_string()),
    });
    let asked = Asked {
        kind: Kind::SecurityGroup,
        ids: None,
        filters: input.filters.as_deref(),
        token: input.next_token.as_deref(),
        max: input.max_results,
    };
    let (groups, next_token) =
        select(groups.collect(), &asked, |it| it.group_id.as_deref(), FOR_VPC_FILTERS)?;
    Ok(api::GetSecurityGroupsForVpcResult { next_token, security_group_for_vpcs: Some(groups) })
}

fn check_ids(ids: Option<&[String]>) -> Result<(), Refusal> {
    for id in ids.unwrap_or_default() {
        id.parse::<longshore_types::SecurityGroupId>()
            .map_err(|_| Refusal::Malformed(Kind::SecurityGroup, id.clone()))?;
    }
    Ok(())
}

fn values_of(
    group: &api::SecurityGroup,
    name: &str,
    name_of: &dyn Fn(&str) -> Option<String>,
) -> Vec<String> {
    let one = |value: &Option<String>| value.iter().cloned().collect();
    match name {
        "description" => return one(&group.description),
        "group-id" => return one(&group.group_id),
        "group-name" => return one(&group.group_name),
        "owner-id" => return one(&group.owner_id),
        "vpc-id" => return one(&group.vpc_id),
        _ => {}
    }
    let (permissions, what) = match name.strip_prefix("egress.ip-permission.") {
        Some(what) => (&group.ip_permissions_egress, what),
        None => (&group.ip_permissions, name.trim_start_matches("ip-permission.")),
    };
    let permissions = permissions.iter().flatten();
    permissions.flat_map(|permission| permission_values(permission, what, name_of)).collect()
}

fn permission_values(
    permission: &api::IpPermission,
    what: &str,
    name_of: &dyn Fn(&str) -> Option<String>,
) -> Vec<String> {
    let pairs = || permission.user_id_group_pairs.iter().flatten();
    match what {
        "cidr" => {
            permission.ip_ranges.iter().flatten().filter_map(|it| it.cidr_ip.clone()).collect()
        }
        "ipv6-cidr" => {
            permission.ipv6_ranges.iter().flatten().filter_map(|it| it.cidr_ipv6.clone()).collect()
        }
        "from-port" => permission.from_port.iter().map(ToString::to_string).collect(),
        "to-port" => permission.to_port.iter().map(ToString::to_string).collect(),
        "protocol" => permission.ip_protocol.iter().cloned().collect(),
        "group-id" => pairs().filter_map(|it| it.group_id.clone()).collect(),
        "group-name" => pairs().filter_map(|it| name_of(it.group_id.as_deref()?)).collect(),
        "user-id" => pairs().filter_map(|it| it.user_id.clone()).collect(),
        "prefix-list-id" => {
            let lists = permission.prefix_list_ids.iter().flatten();
            lists.filter_map(|it| it.prefix_list_id.clone()).collect()
        }
        _ => vec![],
    }
}

pub(crate) async fn describe_security_group_rules(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeSecurityGroupRulesRequest,
) -> Result<api::DescribeSecurityGroupRulesResult, ApiError> {
    let permission = Permission::to("ec2:DescribeSecurityGroupRules").on("*");
    let view = ec2.control.read(caller, &permission)?;
    unless_dry(input.dry_run)?;
    let account = caller.account;
    let ids = input.security_group_rule_ids.as_deref().filter(|ids| !ids.is_empty());
    let rules: Vec<_> = match ids {
        Some(ids) => {
            let find = |id: &String| {
                let parsed = id.parse();
                let parsed = parsed.map_err(|_| Refusal::Malformed(Kind::Rule, id.clone()))?;
                let found = view.security_group_rule(account, &parsed);
                found.ok_or_else(|| Refusal::Missing(Kind::Rule, id.clone()))
            };
            ids.iter().map(find).collect::<Result<_, _>>()?
        }
        None => {
            let groups = view.security_groups_of(account);
            let wholes = groups.iter().filter_map(|group| view.security_group(account, &group.id));
            wholes.flat_map(|whole| whole.rules).collect()
        }
    };
    let mut rules: Vec<api::SecurityGroupRule> = rules
        .iter()
        .map(|rule| wire::rule(&view, caller, rule, view.tags_on(account, rule.id.as_str())))
        .collect();
    rules.sort_by(|a, b| a.security_group_rule_id.cmp(&b.security_group_rule_id));
    rules.dedup();
    let known = ["group-id", "security-group-rule-id"];
    let rules = apply(rules, input.filters.as_deref(), &known, &|rule, name| {
        let value = match name {
            "group-id" => rule.group_id.clone(),
            _ => rule.security_group_rule_id.clone(),
        };
        Some(value.into_iter().collect())
    })?;
    let token = input.next_token.as_deref();
    let (rules, next_token) = page(rules, token, input.max_results, ids.is_some(), |rule| {
        rule.security_group_rule_id.as_deref()
    })?;
    Ok(api::DescribeSecurityGroupRulesResult { security_group_rules: Some(rules), next_token })
}
