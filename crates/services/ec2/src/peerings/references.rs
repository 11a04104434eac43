//! DescribeStaleSecurityGroups, DescribeSecurityGroupReferences: rules that name groups of peers.

use std::collections::BTreeSet;

use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;
use longshore_types::VpcId;
use model::{Index, Key, RulePeer, SecurityGroupRule, View, WholeGroup};

use crate::Ec2;
use crate::change::{id_of, on};
use crate::errors::{Kind, unless_dry};
use crate::filter::page;
use crate::groups::{group_by_id, peer_pair, protocol_word};

pub(crate) async fn describe_stale_security_groups(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeStaleSecurityGroupsRequest,
) -> Result<api::DescribeStaleSecurityGroupsResult, ApiError> {
    let permission = Permission::to("ec2:DescribeStaleSecurityGroups").on("*");
    let permission =
        permission.and(on(caller, "ec2:DescribeStaleSecurityGroups", "vpc", input.vpc_id.as_ref()));
    let view = ec2.control.read(caller, &permission)?;
    unless_dry(input.dry_run)?;
    let id: VpcId = id_of(Kind::Vpc, "vpcId", input.vpc_id.as_deref())?;
    let account = caller.account;
    if ec2.control.network(&view, account).vpc(&id).is_none() {
        return Err(Kind::Vpc.refused()(id.as_str()).into());
    }
    let groups = view.security_groups_of(account).into_iter().filter(|group| group.vpc == id);
    let groups =
        groups.filter_map(|group| stale(&view, caller, &view.security_group(account, &group.id)?));
    let token = input.next_token.as_deref();
    let (groups, next_token) =
        page(groups.collect(), token, input.max_results, false, |it: &api::StaleSecurityGroup| {
            it.group_id.as_deref()
        })?;
    Ok(api::DescribeStaleSecurityGroupsResult {
        next_token,
        stale_security_group_set: Some(groups),
    })
}

/// A group with those of its rules that name a group of a peer that is gone; none if there are no such.
fn stale(view: &View, caller: &Caller, whole: &WholeGroup) -> Option<api::StaleSecurityGroup> {
    let group = &whole.group;
    let permissions = |is_egress: bool| -> Vec<api::StaleIpPermission> {
        let rules = whole.rules.iter().filter(|rule| rule.is_egress == is_egress);
        rules.filter_map(|rule| stale_permission(view, caller, whole, rule)).collect()
    };
    let (ingress, egress) = (permissions(false), permissions(true));
    (!ingress.is_empty() || !egress.is_empty()).then(|| api::StaleSecurityGroup {
        description: Some(group.description.clone()),
        group_id: Some(group.id.to_string()),
        group_name: Some(group.name.clone()),
        stale_ip_permissions: Some(ingress),
        stale_ip_permissions_egress: Some(egress),
        vpc_id: Some(group.vpc.to_string()),
    })
}

fn stale_permission(
    view: &View,
    caller: &Caller,
    whole: &WholeGroup,
    rule: &SecurityGroupRule,
) -> Option<api::StaleIpPermission> {
    let RulePeer::PeerGroup(named) = &rule.matches.peer else { return None };
    let (account, vpc) = (whole.group.account, &whole.group.vpc);
    let ports = rule.matches.ports;
    view.is_stale(account, vpc, named).then(|| api::StaleIpPermission {
        from_port: ports.map(|ports| ports.0),
        ip_protocol: Some(protocol_word(rule.matches.protocol)),
        to_port: ports.map(|ports| ports.1),
        ip_ranges: Some(vec![]),
        prefix_list_ids: Some(vec![]),
        user_id_group_pairs: Some(vec![peer_pair(view, caller.now, vpc, account, named)]),
    })
}

pub(crate) async fn describe_security_group_references(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeSecurityGroupReferencesRequest,
) -> Result<api::DescribeSecurityGroupReferencesResult, ApiError> {
    let ids = input.group_id.unwrap_or_default();
    let permission = Permission::to("ec2:DescribeSecurityGroupReferences").on("*");
    let view = ec2.control.read(caller, &permission)?;
    unless_dry(input.dry_run)?;
    let mut found = BTreeSet::new();
    for id in &ids {
        let group = group_by_id(&view, caller.account, id)?.group;
        let named = Index::Ec2Uses(caller.account, group.id.as_str().into());
        for key in view.members(&named) {
            let Key::SecurityGroupRule(account, rule) = key else { continue };
            let rule = view.security_group_rules.get(*account, rule);
            let by = rule.and_then(|rule| view.security_groups.get(*account, &rule.group));
            let Some(by) = by else { continue };
            let peering = view.peering_between(caller.account, &group.vpc, &by.vpc);
            if let Some(peering) = peering.filter(|row| row.is_active()) {
                found.insert((group.id.to_string(), by.vpc.to_string(), peering.id.to_string()));
            }
        }
    }
    let references = found.into_iter().map(|(group, vpc, peering)| api::SecurityGroupReference {
        group_id: Some(group),
        referencing_vpc_id: Some(vpc),
        vpc_peering_connection_id: Some(peering),
        ..Default::default()
    });
    Ok(api::DescribeSecurityGroupReferencesResult {
        security_group_reference_set: Some(references.collect()),
    })
}
