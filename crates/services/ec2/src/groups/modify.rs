//! ModifySecurityGroupRules, UpdateSecurityGroupRuleDescriptionsIngress and -Egress: rules that are there are
//! changed and keep their ids.

use std::collections::BTreeMap;

use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;
use longshore_types::PrefixListId;
use model::{RulePeer, SecurityGroupRule, View, WholeGroup};
use store::Batch;

use super::authorize::{check_room, rely_on_list};
use super::permission::{self, checked_description};
use super::{GroupRef, GroupRefusal, make_changeable, wire};
use crate::Ec2;
use crate::errors::{Kind, Refusal, unless_dry};
use crate::limits::RULES_PER_CALL_MAX;
use crate::prefix_lists::check_room_for_user;

pub(crate) async fn modify_security_group_rules(
    ec2: &Ec2,
    caller: &Caller,
    input: api::ModifySecurityGroupRulesRequest,
) -> Result<api::ModifySecurityGroupRulesResult, ApiError> {
    let group = GroupRef::new(input.group_id.clone(), None);
    let permission = Permission::to("ec2:ModifySecurityGroupRules").on(group.arn(ec2, caller));
    let updates = input.security_group_rules.unwrap_or_default();
    let decided = ec2.control.change(caller, &permission, |view, _| {
        let whole = group.find(ec2, view, caller)?;
        let changed = modified(view, &whole, &updates)?;
        unless_dry(input.dry_run)?;
        Ok((batch_of(view, &whole, &changed)?, ()))
    });
    decided.await?;
    Ok(api::ModifySecurityGroupRulesResult { r#return: Some(true) })
}

/// The rules as they are to be, of those that are to change. The kind of a rule's peer stays.
fn modified(
    view: &View,
    whole: &WholeGroup,
    updates: &[api::SecurityGroupRuleUpdate],
) -> Result<Vec<SecurityGroupRule>, Refusal> {
    few(updates.len())?;
    let mut after = whole.rules.clone();
    let mut changed = Vec::new();
    for update in updates {
        let place = place_of(whole, update.security_group_rule_id.as_deref())?;
        let rule = update.security_group_rule.clone().unwrap_or_default();
        let asked = permission::read_one(view, whole, &rule)?;
        let before = &after[place];
        if kind_of(&before.matches.peer) != kind_of(&asked.matches.peer) {
            return Err(Refusal::Value(format!(
                "The kind of source or destination of the rule '{}' cannot be changed: revoke it and \
                 authorize another",
                before.id
            )));
        }
        after[place].matches = asked.matches;
        after[place].description = asked.description;
        changed.push(place);
    }
    for place in &changed {
        let rule = &after[*place];
        let is_same = |(other, it): (usize, &SecurityGroupRule)| {
            other != *place && it.is_egress == rule.is_egress && it.matches == rule.matches
        };
        if after.iter().enumerate().any(is_same) {
            return Err(GroupRefusal::RuleThere(wire::in_words(&rule.matches)).into());
        }
    }
    check_lists(view, whole, &after)?;
    for is_egress in [false, true] {
        let rules = after.iter().filter(|rule| rule.is_egress == is_egress);
        check_room(view, whole, rules.map(|rule| &rule.matches))?;
    }
    Ok(changed.into_iter().map(|place| after[place].clone()).collect())
}

/// As EC2 tells peers of rules apart.
fn kind_of(peer: &RulePeer) -> u8 {
    match peer {
        RulePeer::Ipv4(_) => 4,
        RulePeer::Ipv6(_) => 6,
        RulePeer::Group(_) | RulePeer::PeerGroup(_) => 1,
        RulePeer::List(_) => 2,
    }
}

/// Whether the lists that more rules of a group name than before may be named by so many more.
fn check_lists(
    view: &View,
    whole: &WholeGroup,
    after: &[SecurityGroupRule],
) -> Result<(), Refusal> {
    let before = users_of_lists(&whole.rules);
    for (list, wanted) in users_of_lists(after) {
        let there = before.get(list).copied().unwrap_or(0);
        if there < wanted {
            check_room_for_user(view, whole.group.account, list, wanted - there)?;
        }
    }
    Ok(())
}

fn users_of_lists(rules: &[SecurityGroupRule]) -> BTreeMap<&PrefixListId, usize> {
    let mut users = BTreeMap::new();
    for rule in rules {
        if let RulePeer::List(list) = &rule.matches.peer {
            *users.entry(list).or_default() += 1;
        }
    }
    users
}

fn place_of(whole: &WholeGroup, id: Option<&str>) -> Result<usize, Refusal> {
    let id = id.unwrap_or_default();
    let place = whole.rules.iter().position(|rule| rule.id.as_str() == id);
    place.ok_or_else(|| Refusal::Missing(Kind::Rule, id.to_owned()))
}

/// What both requests say.
#[derive(Debug)]
struct Descriptions {
    action: &'static str,
    is_egress: bool,
    group: GroupRef,
    permissions: Vec<api::IpPermission>,
    by_id: Vec<api::SecurityGroupRuleDescription>,
    dry_run: Option<bool>,
}

pub(crate) async fn update_security_group_rule_descriptions_ingress(
    ec2: &Ec2,
    caller: &Caller,
    input: api::UpdateSecurityGroupRuleDescriptionsIngressRequest,
) -> Result<api::UpdateSecurityGroupRuleDescriptionsIngressResult, ApiError> {
    let request = Descriptions {
        action: "ec2:UpdateSecurityGroupRuleDescriptionsIngress",
        is_egress: false,
        group: GroupRef::new(input.group_id, input.group_name),
        permissions: input.ip_permissions.unwrap_or_default(),
        by_id: input.security_group_rule_descriptions.unwrap_or_default(),
        dry_run: input.dry_run,
    };
    describe_anew(ec2, caller, request).await?;
    Ok(api::UpdateSecurityGroupRuleDescriptionsIngressResult { r#return: Some(true) })
}

pub(crate) async fn update_security_group_rule_descriptions_egress(
    ec2: &Ec2,
    caller: &Caller,
    input: api::UpdateSecurityGroupRuleDescriptionsEgressRequest,
) -> Result<api::UpdateSecurityGroupRuleDescriptionsEgressResult, ApiError> {
    let request = Descriptions {
        action: "ec2:UpdateSecurityGroupRuleDescriptionsEgress",
        is_egress: true,
        group: GroupRef::new(input.group_id, input.group_name),
        permissions: input.ip_permissions.unwrap_or_default(),
        by_id: input.security_group_rule_descriptions.unwrap_or_default(),
        dry_run: input.dry_run,
    };
    describe_anew(ec2, caller, request).await?;
    Ok(api::UpdateSecurityGroupRuleDescriptionsEgressResult { r#return: Some(true) })
}

async fn describe_anew(ec2: &Ec2, caller: &Caller, request: Descriptions) -> Result<(), ApiError> {
    let permission = Permission::to(request.action).on(request.group.arn(ec2, caller));
    let decided = ec2.control.change(caller, &permission, |view, _| {
        let whole = request.group.find(ec2, view, caller)?;
        let changed = described(view, &whole, &request)?;
        unless_dry(request.dry_run)?;
        Ok((batch_of(view, &whole, &changed)?, ()))
    });
    decided.await
}

/// The rules with their new descriptions; without one a rule has none.
fn described(
    view: &View,
    whole: &WholeGroup,
    request: &Descriptions,
) -> Result<Vec<SecurityGroupRule>, Refusal> {
    if request.permissions.is_empty() && request.by_id.is_empty() {
        return Err(Refusal::OneOf("ipPermissions", "securityGroupRuleDescriptions"));
    }
    let mut changed = Vec::new();
    for asked in permission::read_all(view, whole, &request.permissions)? {
        let mut its = whole.rules.iter().filter(|rule| rule.is_egress == request.is_egress);
        let rule =
            its.find(|rule| rule.matches == asked.matches).ok_or(GroupRefusal::RuleMissing)?;
        changed.push(SecurityGroupRule { description: asked.description, ..rule.clone() });
    }
    for each in &request.by_id {
        let rule = &whole.rules[place_of(whole, each.security_group_rule_id.as_deref())?];
        if rule.is_egress != request.is_egress {
            return Err(Refusal::Missing(Kind::Rule, rule.id.to_string()));
        }
        let description = checked_description(each.description.as_deref())?;
        changed.push(SecurityGroupRule { description, ..rule.clone() });
    }
    Ok(changed)
}

fn few(rules: usize) -> Result<(), Refusal> {
    if RULES_PER_CALL_MAX < rules {
        return Err(Refusal::Value(format!(
            "One call changes at most {RULES_PER_CALL_MAX} rules."
        )));
    }
    Ok(())
}

fn batch_of(
    view: &View,
    whole: &WholeGroup,
    changed: &[SecurityGroupRule],
) -> Result<Batch, Refusal> {
    few(changed.len())?;
    let mut batch = Batch::on(view);
    make_changeable(&mut batch, whole);
    let keys: Vec<_> = changed.iter().map(|rule| (rule.account, rule.id.clone())).collect();
    let is_changed = |row: &model::Row| match row {
        model::Row::SecurityGroupRule(rule) => keys.contains(&(rule.account, rule.id.clone())),
        _ => false,
    };
    batch.writes.retain(|row| !is_changed(row));
    for rule in changed {
        batch.put(rule.clone());
        rely_on_list(&mut batch, rule);
    }
    Ok(batch)
}
