//! Groups and rules in EC2's shapes.

use aws_wire::Caller;
use ec2_api as api;
use longshore_types::{AccountId, Timestamp, VpcId};
use model::network::PeerGroup;
use model::{RuleMatch, RulePeer, SecurityGroupRule, Tags, View, WholeGroup};

use super::arn;
use crate::tags;

/// `tcp`, `-1`, or a number as text.
pub(crate) fn protocol_word(protocol: Option<u8>) -> String {
    match protocol {
        None => "-1".to_owned(),
        Some(1) => "icmp".to_owned(),
        Some(6) => "tcp".to_owned(),
        Some(17) => "udp".to_owned(),
        Some(58) => "icmpv6".to_owned(),
        Some(number) => number.to_string(),
    }
}

/// A rule as people read it in refusals.
pub(crate) fn in_words(rule: &RuleMatch) -> String {
    let peer = match &rule.peer {
        RulePeer::Ipv4(range) => range.to_string(),
        RulePeer::Ipv6(range) => range.clone(),
        RulePeer::Group(group) => group.to_string(),
        RulePeer::PeerGroup(peer) => peer.group.to_string(),
        RulePeer::List(list) => list.to_string(),
    };
    let any = |number: i32| if number < 0 { "ALL".to_owned() } else { number.to_string() };
    let what = match (rule.protocol, rule.ports) {
        (None, _) => "ALL".to_owned(),
        (Some(1 | 58), ports) => {
            let (kind, code) = ports.unwrap_or((-1, -1));
            let name = protocol_word(rule.protocol).to_uppercase();
            format!("{name}, type: {}, code: {}", any(kind), any(code))
        }
        (protocol, Some((first, last))) => {
            let name = protocol_word(protocol).to_uppercase();
            format!("{name}, from port: {first}, to port: {last}")
        }
        (protocol, None) => protocol_word(protocol),
    };
    format!("peer: {peer}, {what}, ALLOW")
}

pub(super) fn group(view: &View, caller: &Caller, whole: &WholeGroup) -> api::SecurityGroup {
    let (account, id) = (caller.account, whole.group.id.as_str());
    api::SecurityGroup {
        group_id: Some(id.to_owned()),
        ip_permissions_egress: Some(permissions(view, caller, whole, true)),
        tags: Some(tags::to_wire(view.tags_on(account, id))),
        vpc_id: Some(whole.group.vpc.to_string()),
        security_group_arn: Some(arn(caller, "security-group", id)),
        owner_id: Some(account.to_string()),
        group_name: Some(whole.group.name.clone()),
        description: Some(whole.group.description.clone()),
        ip_permissions: Some(permissions(view, caller, whole, false)),
    }
}

/// Protocol and ports, by which rules are shown together.
type Like = (Option<u8>, Option<(i32, i32)>);

/// The rules of one direction, those of the same protocol and ports together.
fn permissions(
    view: &View,
    caller: &Caller,
    whole: &WholeGroup,
    is_egress: bool,
) -> Vec<api::IpPermission> {
    let mut grouped: Vec<(Like, Vec<&SecurityGroupRule>)> = Vec::new();
    for rule in whole.rules.iter().filter(|rule| rule.is_egress == is_egress) {
        let key = (rule.matches.protocol, rule.matches.ports);
        match grouped.iter_mut().find(|(known, _)| *known == key) {
            Some((_, rules)) => rules.push(rule),
            None => grouped.push((key, vec![rule])),
        }
    }
    grouped.into_iter().map(|(_, rules)| permission(view, caller, whole, &rules)).collect()
}

/// Rules that differ in nothing but their peers.
fn permission(
    view: &View,
    caller: &Caller,
    whole: &WholeGroup,
    rules: &[&SecurityGroupRule],
) -> api::IpPermission {
    let alike = rules.first().map(|rule| &rule.matches);
    let ports = alike.and_then(|rule| rule.ports);
    let mut permission = api::IpPermission {
        ip_protocol: alike.map(|rule| protocol_word(rule.protocol)),
        from_port: ports.map(|ports| ports.0),
        to_port: ports.map(|ports| ports.1),
        user_id_group_pairs: Some(vec![]),
        ip_ranges: Some(vec![]),
        ipv6_ranges: Some(vec![]),
        prefix_list_ids: Some(vec![]),
    };
    for rule in rules {
        let description = rule.description.clone();
        match &rule.matches.peer {
            RulePeer::Ipv4(range) => permission
                .ip_ranges
                .get_or_insert_default()
                .push(api::IpRange { description, cidr_ip: Some(range.to_string()) }),
            RulePeer::Ipv6(range) => permission
                .ipv6_ranges
                .get_or_insert_default()
                .push(api::Ipv6Range { description, cidr_ipv6: Some(range.clone()) }),
            RulePeer::Group(group) => {
                permission.user_id_group_pairs.get_or_insert_default().push(api::UserIdGroupPair {
                    description,
                    user_id: Some(whole.group.account.to_string()),
                    group_id: Some(group.to_string()),
                    ..api::UserIdGroupPair::default()
                });
            }
            RulePeer::PeerGroup(named) => {
                let (account, vpc) = (whole.group.account, &whole.group.vpc);
                let pair = peer_pair(view, caller.now, vpc, account, named);
                let pair = api::UserIdGroupPair { description, ..pair };
                permission.user_id_group_pairs.get_or_insert_default().push(pair);
            }
            RulePeer::List(list) => permission
                .prefix_list_ids
                .get_or_insert_default()
                .push(api::PrefixListId { description, prefix_list_id: Some(list.to_string()) }),
        }
    }
    permission
}

/// A group of a peer as a rule of an account's VPC names it. Of one that is gone nobody says whose it was.
pub(crate) fn peer_pair(
    view: &View,
    now: Timestamp,
    vpc: &VpcId,
    account: AccountId,
    named: &PeerGroup,
) -> api::UserIdGroupPair {
    let peering = view.peering_between(account, vpc, &named.vpc);
    let is_there = view.security_group(named.account, &named.group).is_some();
    let status = peering.map_or("deleted", |row| row.status(now).word());
    api::UserIdGroupPair {
        user_id: is_there.then(|| named.account.to_string()),
        group_id: Some(named.group.to_string()),
        vpc_id: Some(named.vpc.to_string()),
        vpc_peering_connection_id: peering.map(|row| row.id.to_string()),
        peering_status: Some(status.to_owned()),
        ..api::UserIdGroupPair::default()
    }
}

/// Where a rule has no ports, its object says -1 for both.
fn ports(rule: &SecurityGroupRule) -> (Option<i32>, Option<i32>) {
    let (first, last) = rule.matches.ports.unwrap_or((-1, -1));
    (Some(first), Some(last))
}

pub(super) fn rule(
    view: &View,
    caller: &Caller,
    rule: &SecurityGroupRule,
    tags: Option<&Tags>,
) -> api::SecurityGroupRule {
    let (from_port, to_port) = ports(rule);
    let mut wire = api::SecurityGroupRule {
        security_group_rule_id: Some(rule.id.to_string()),
        group_id: Some(rule.group.to_string()),
        group_owner_id: Some(rule.account.to_string()),
        is_egress: Some(rule.is_egress),
        ip_protocol: Some(protocol_word(rule.matches.protocol)),
        from_port,
        to_port,
        description: rule.description.clone(),
        tags: Some(tags::to_wire(tags)),
        security_group_rule_arn: Some(arn(caller, "security-group-rule", rule.id.as_str())),
        ..api::SecurityGroupRule::default()
    };
    match &rule.matches.peer {
        RulePeer::Ipv4(range) => wire.cidr_ipv4 = Some(range.to_string()),
        RulePeer::Ipv6(range) => wire.cidr_ipv6 = Some(range.clone()),
        RulePeer::Group(group) => {
            wire.referenced_group_info = Some(api::ReferencedSecurityGroup {
                group_id: Some(group.to_string()),
                user_id: Some(rule.account.to_string()),
                ..api::ReferencedSecurityGroup::default()
            });
        }
        RulePeer::PeerGroup(named) => {
            let of = view.security_groups.get(rule.account, &rule.group);
            let pair = of.map(|of| peer_pair(view, caller.now, &of.vpc, rule.account, named));
            let pair = pair.unwrap_or_default();
            wire.referenced_group_info = Some(api::ReferencedSecurityGroup {
                group_id: Some(named.group.to_string()),
                peering_status: pair.peering_status,
                user_id: pair.user_id,
                vpc_id: Some(named.vpc.to_string()),
                vpc_peering_connection_id: pair.vpc_peering_connection_id,
            });
        }
        RulePeer::List(list) => wire.prefix_list_id = Some(list.to_string()),
    }
    wire
}

pub(super) fn revoked(rule: &SecurityGroupRule) -> api::RevokedSecurityGroupRule {
    let (from_port, to_port) = ports(rule);
    let mut wire = api::RevokedSecurityGroupRule {
        security_group_rule_id: Some(rule.id.to_string()),
        group_id: Some(rule.group.to_string()),
        is_egress: Some(rule.is_egress),
        ip_protocol: Some(protocol_word(rule.matches.protocol)),
        from_port,
        to_port,
        description: rule.description.clone(),
        ..api::RevokedSecurityGroupRule::default()
    };
    match &rule.matches.peer {
        RulePeer::Ipv4(range) => wire.cidr_ipv4 = Some(range.to_string()),
        RulePeer::Ipv6(range) => wire.cidr_ipv6 = Some(range.clone()),
        RulePeer::Group(group) => wire.referenced_group_id = Some(group.to_string()),
        RulePeer::PeerGroup(named) => wire.referenced_group_id = Some(named.group.to_string()),
        RulePeer::List(list) => wire.prefix_list_id = Some(list.to_string()),
    }
    wire
}
