//! AuthorizeSecurityGroupIngress, AuthorizeSecurityGroupEgress: rules are added, all of a call or none.

use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;
use longshore_types::SecurityGroupRuleId;
use model::{Ec2Tags, RuleMatch, RulePeer, SecurityGroupRule, Tags, View, WholeGroup};
use store::Batch;

use super::permission::{self, Asked, OldForm};
use super::{GroupRef, GroupRefusal, arn, make_changeable, wire};
use crate::Ec2;
use crate::errors::{Refusal, unless_dry};
use crate::limits::{RULES_PER_CALL_MAX, RULES_PER_DIRECTION_MAX};
use crate::prefix_lists::{check_room_for_user, rule_weight};
use crate::tags;

/// What both requests say.
#[derive(Debug)]
struct Request {
    action: &'static str,
    is_egress: bool,
    group: GroupRef,
    permissions: Option<Vec<api::IpPermission>>,
    old: OldForm,
    tags: Option<Vec<api::TagSpecification>>,
    dry_run: Option<bool>,
}

pub(crate) async fn authorize_security_group_ingress(
    ec2: &Ec2,
    caller: &Caller,
    input: api::AuthorizeSecurityGroupIngressRequest,
) -> Result<api::AuthorizeSecurityGroupIngressResult, ApiError> {
    let request = Request {
        action: "ec2:AuthorizeSecurityGroupIngress",
        is_egress: false,
        group: GroupRef::new(input.group_id, input.group_name),
        permissions: input.ip_permissions,
        old: OldForm {
            protocol: input.ip_protocol,
            from: input.from_port,
            to: input.to_port,
            cidr: input.cidr_ip,
            group_name: input.source_security_group_name,
            group_owner: input.source_security_group_owner_id,
        },
        tags: input.tag_specifications,
        dry_run: input.dry_run,
    };
    let rules = authorize(ec2, caller, request).await?;
    Ok(api::AuthorizeSecurityGroupIngressResult {
        r#return: Some(true),
        security_group_rules: Some(rules),
    })
}

pub(crate) async fn authorize_security_group_egress(
    ec2: &Ec2,
    caller: &Caller,
    input: api::AuthorizeSecurityGroupEgressRequest,
) -> Result<api::AuthorizeSecurityGroupEgressResult, ApiError> {
    let request = Request {
        action: "ec2:AuthorizeSecurityGroupEgress",
        is_egress: true,
        group: GroupRef::new(input.group_id, None),
        permissions: input.ip_permissions,
        old: OldForm {
            protocol: input.ip_protocol,
            from: input.from_port,
            to: input.to_port,
            cidr: input.cidr_ip,
            group_name: input.source_security_group_name,
            group_owner: input.source_security_group_owner_id,
        },
        tags: input.tag_specifications,
        dry_run: input.dry_run,
    };
    let rules = authorize(ec2, caller, request).await?;
    Ok(api::AuthorizeSecurityGroupEgressResult {
        r#return: Some(true),
        security_group_rules: Some(rules),
    })
}

async fn authorize(
    ec2: &Ec2,
    caller: &Caller,
    request: Request,
) -> Result<Vec<api::SecurityGroupRule>, ApiError> {
    let Request { action, is_egress, group, permissions, old, tags, dry_run } = request;
    let tags = tags::specified(tags.as_deref(), "security-group-rule");
    let requested = tags.as_ref().ok().cloned().unwrap_or_default();
    let rule_arn = arn(caller, "security-group-rule", "*");
    let permission = Permission::to(action).on(group.arn(ec2, caller));
    let permission = permission.tagging_new(caller, "ec2:CreateTags", rule_arn, &requested);
    let given = permission::permissions(permissions, old);
    let decided = ec2.control.change(caller, &permission, |view, _| {
        let tags = tags.clone()?;
        let given = given.clone()?;
        let whole = group.find(ec2, view, caller)?;
        let asked = permission::read_all(view, &whole, &given)?;
        let rules = decide(view, &whole, is_egress, &asked, ec2.control.ids.as_ref())?;
        unless_dry(dry_run)?;
        let batch = batch_of(view, &whole, &rules, &tags);
        Ok((batch, (rules, tags)))
    });
    let (rules, tags) = decided.await?;
    let tags = Some(&tags).filter(|tags| !tags.is_empty());
    let view = ec2.control.view();
    Ok(rules.iter().map(|rule| wire::rule(&view, caller, rule, tags)).collect())
}

/// The rules that are to be added to a group, or why they may not be.
fn decide(
    view: &View,
    whole: &WholeGroup,
    is_egress: bool,
    asked: &[Asked],
    ids: &dyn longshore_types::IdSource,
) -> Result<Vec<SecurityGroupRule>, Refusal> {
    if asked.len() > RULES_PER_CALL_MAX {
        return Err(Refusal::Value(format!(
            "One call adds at most {RULES_PER_CALL_MAX} rules; this one has {}.",
            asked.len()
        )));
    }
    let there = |rule: &&SecurityGroupRule| rule.is_egress == is_egress;
    for (place, new) in asked.iter().enumerate() {
        if let RulePeer::List(list) = &new.matches.peer {
            let more = asked.iter().filter(|it| it.matches.peer == new.matches.peer).count();
            check_room_for_user(view, whole.group.account, list, more)?;
        }
        if let RulePeer::PeerGroup(named) = &new.matches.peer
            && view.is_stale(whole.group.account, &whole.group.vpc, named)
        {
            return Err(Refusal::DifferentNetworks);
        }
        let is_there = whole.rules.iter().filter(there).any(|rule| rule.matches == new.matches);
        let is_twice = asked[..place].iter().any(|other| other.matches == new.matches);
        if is_there {
            return Err(GroupRefusal::RuleThere(wire::in_words(&new.matches)).into());
        }
        if is_twice {
            return Err(Refusal::Value(
                "The same permission must not appear multiple times".to_owned(),
            ));
        }
    }
    let before = whole.rules.iter().filter(there).map(|rule| &rule.matches);
    check_room(view, whole, before.chain(asked.iter().map(|new| &new.matches)))?;
    let group = &whole.group;
    let rule = |new: &Asked| SecurityGroupRule {
        account: group.account,
        id: SecurityGroupRuleId::mint(ids),
        group: group.id.clone(),
        is_egress,
        matches: new.matches.clone(),
        description: new.description.clone(),
    };
    Ok(asked.iter().map(rule).collect())
}

/// Whether a group may have these rules in one direction.
pub(super) fn check_room<'a>(
    view: &View,
    whole: &WholeGroup,
    rules: impl Iterator<Item = &'a RuleMatch>,
) -> Result<(), Refusal> {
    let account = whole.group.account;
    let mut weights = [0; 2];
    for rule in rules {
        let (is_six, weight) = rule_weight(view, account, rule);
        weights[usize::from(is_six)] += weight;
    }
    if weights.iter().any(|weight| *weight > RULES_PER_DIRECTION_MAX) {
        return Err(GroupRefusal::TooManyRules.into());
    }
    Ok(())
}

fn batch_of(view: &View, whole: &WholeGroup, rules: &[SecurityGroupRule], tags: &Tags) -> Batch {
    let mut batch = Batch::on(view);
    make_changeable(&mut batch, whole);
    for rule in rules {
        batch.put(rule.clone());
        if let RulePeer::Group(peer) = &rule.matches.peer
            && *peer != whole.group.id
        {
            batch.rely(model::Key::SecurityGroup(rule.account, peer.clone()));
        }
        if let RulePeer::PeerGroup(peer) = &rule.matches.peer {
            batch.rely(model::Key::SecurityGroup(peer.account, peer.group.clone()));
            batch.rely(model::Index::Ec2Uses(rule.account, whole.group.vpc.as_str().into()));
        }
        rely_on_list(&mut batch, rule);
        if !tags.is_empty() {
            let resource = rule.id.as_str().into();
            batch.put(Ec2Tags { account: rule.account, resource, tags: tags.clone() });
        }
    }
    batch
}

/// A list stays while a rule comes to name it, and as large as it was found.
pub(super) fn rely_on_list(batch: &mut Batch, rule: &SecurityGroupRule) {
    if let RulePeer::List(list) = &rule.matches.peer {
        batch.rely(model::Key::PrefixList(rule.account, list.clone()));
    }
}
