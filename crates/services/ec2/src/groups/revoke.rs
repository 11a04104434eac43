//! RevokeSecurityGroupIngress, RevokeSecurityGroupEgress: rules go, all of a call or none.
//!
//! A rule that is not there is no error in the default VPC, where it is named in the answer; in any other it is,
//! and nothing goes.

use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;
use model::{Key, SecurityGroupRule, View, WholeGroup};
use store::Batch;

use super::permission::{self, Asked, OldForm};
use super::{GroupRef, GroupRefusal, arn, make_changeable, wire};
use crate::Ec2;
use crate::errors::{Kind, Refusal, unless_dry};
use crate::limits::RULES_PER_CALL_MAX;

/// What both requests say.
#[derive(Debug)]
struct Request {
    action: &'static str,
    is_egress: bool,
    group: GroupRef,
    ids: Vec<String>,
    permissions: Option<Vec<api::IpPermission>>,
    old: OldForm,
    dry_run: Option<bool>,
}

/// What went, and what was not there to go.
#[derive(Debug, Default)]
struct Revoked {
    gone: Vec<SecurityGroupRule>,
    unknown: Vec<api::IpPermission>,
}

impl Revoked {
    fn unknown(&self) -> Option<Vec<api::IpPermission>> {
        Some(self.unknown.clone())
    }

    fn gone(&self) -> Option<Vec<api::RevokedSecurityGroupRule>> {
        Some(self.gone.iter().map(wire::revoked).collect())
    }
}

pub(crate) async fn revoke_security_group_ingress(
    ec2: &Ec2,
    caller: &Caller,
    input: api::RevokeSecurityGroupIngressRequest,
) -> Result<api::RevokeSecurityGroupIngressResult, ApiError> {
    let request = Request {
        action: "ec2:RevokeSecurityGroupIngress",
        is_egress: false,
        group: GroupRef::new(input.group_id, input.group_name),
        ids: input.security_group_rule_ids.unwrap_or_default(),
        permissions: input.ip_permissions,
        old: OldForm {
            protocol: input.ip_protocol,
            from: input.from_port,
            to: input.to_port,
            cidr: input.cidr_ip,
            group_name: input.source_security_group_name,
            group_owner: input.source_security_group_owner_id,
        },
        dry_run: input.dry_run,
    };
    let revoked = revoke(ec2, caller, request).await?;
    Ok(api::RevokeSecurityGroupIngressResult {
        r#return: Some(true),
        unknown_ip_permissions: revoked.unknown(),
        revoked_security_group_rules: revoked.gone(),
    })
}

pub(crate) async fn revoke_security_group_egress(
    ec2: &Ec2,
    caller: &Caller,
    input: api::RevokeSecurityGroupEgressRequest,
) -> Result<api::RevokeSecurityGroupEgressResult, ApiError> {
    let request = Request {
        action: "ec2:RevokeSecurityGroupEgress",
        is_egress: true,
        group: GroupRef::new(input.group_id, None),
        ids: input.security_group_rule_ids.unwrap_or_default(),
        permissions: input.ip_permissions,
        old: OldForm {
            protocol: input.ip_protocol,
            from: input.from_port,
            to: input.to_port,
            cidr: input.cidr_ip,
            group_name: input.source_security_group_name,
            group_owner: input.source_security_group_owner_id,
        },
        dry_run: input.dry_run,
    };
    let revoked = revoke(ec2, caller, request).await?;
    Ok(api::RevokeSecurityGroupEgressResult {
        r#return: Some(true),
        unknown_ip_permissions: revoked.unknown(),
        revoked_security_group_rules: revoked.gone(),
    })
}

async fn revoke(ec2: &Ec2, caller: &Caller, request: Request) -> Result<Revoked, ApiError> {
    let Request { action, is_egress, group, ids, permissions, old, dry_run } = request;
    let permission = Permission::to(action).on(asked_on(ec2, caller, &group, &ids));
    let given = match ids.is_empty() {
        true => permission::permissions(permissions, old),
        false => Ok(permissions.unwrap_or_default()),
    };
    let decided = ec2.control.change(caller, &permission, |view, _| {
        let given = given.clone()?;
        let whole = match (&group.id, &group.name, ids.first()) {
            (None, None, Some(id)) => group_of_rule(view, caller, id)?,
            _ => group.find(ec2, view, caller)?,
        };
        let is_default = ec2.control.network(view, caller.account).is_default(&whole.group.vpc);
        let mut revoked = Revoked::default();
        few(ids.len())?;
        by_ids(&mut revoked, &whole, is_egress, &ids)?;
        by_permissions(&mut revoked, view, &whole, is_egress, &given)?;
        if !is_default && !revoked.unknown.is_empty() {
            return Err(GroupRefusal::RuleMissing.into());
        }
        unless_dry(dry_run)?;
        Ok((batch_of(view, &whole, &revoked.gone), revoked))
    });
    decided.await
}

/// The group that permissions are asked on: of rules that are named by their ids alone it is theirs, or a policy about that
/// group would say nothing.
fn asked_on(ec2: &Ec2, caller: &Caller, group: &GroupRef, ids: &[String]) -> String {
    let of_rule = || group_of_rule(&ec2.control.view(), caller, ids.first()?).ok();
    match (&group.id, &group.name) {
        (None, None) => of_rule().map_or_else(
            || group.arn(ec2, caller),
            |whole| arn(caller, "security-group", whole.group.id.as_str()),
        ),
        _ => group.arn(ec2, caller),
    }
}

fn group_of_rule(view: &View, caller: &Caller, id: &str) -> Result<WholeGroup, Refusal> {
    let parsed = id.parse().map_err(|_| Refusal::Malformed(Kind::Rule, id.to_owned()))?;
    let missing = || Refusal::Missing(Kind::Rule, id.to_owned());
    let rule = view.security_group_rule(caller.account, &parsed).ok_or_else(missing)?;
    view.security_group(caller.account, &rule.group).ok_or_else(missing)
}

fn few(rules: usize) -> Result<(), Refusal> {
    if RULES_PER_CALL_MAX < rules {
        return Err(Refusal::Value(format!(
            "One call revokes at most {RULES_PER_CALL_MAX} rules; this one names more."
        )));
    }
    Ok(())
}

fn by_ids(
    revoked: &mut Revoked,
    whole: &WholeGroup,
    is_egress: bool,
    ids: &[String],
) -> Result<(), Refusal> {
    for id in ids {
        let mut its = whole.rules.iter().filter(|rule| rule.is_egress == is_egress);
        let found = its.find(|rule| rule.id.as_str() == id);
        let rule = found.ok_or_else(|| Refusal::Missing(Kind::Rule, id.clone()))?;
        if !revoked.gone.contains(rule) {
            revoked.gone.push(rule.clone());
        }
    }
    Ok(())
}

/// A description need not be said, but if it is, it is the rule's.
fn by_permissions(
    revoked: &mut Revoked,
    view: &View,
    whole: &WholeGroup,
    is_egress: bool,
    given: &[api::IpPermission],
) -> Result<(), Refusal> {
    let mut count = 0;
    for permission in given {
        let is_same = |rule: &&SecurityGroupRule, asked: &Asked| {
            rule.is_egress == is_egress
                && rule.matches == asked.matches
                && (asked.description.is_none() || asked.description == rule.description)
        };
        let asked = permission::read(view, whole, permission)?;
        count += asked.len();
        few(count)?;
        let mut is_unknown = false;
        for asked in &asked {
            match whole.rules.iter().find(|rule| is_same(rule, asked)) {
                Some(rule) if revoked.gone.contains(rule) => {}
                Some(rule) => revoked.gone.push(rule.clone()),
                None => is_unknown = true,
            }
        }
        if is_unknown {
            revoked.unknown.push(permission.clone());
        }
    }
    Ok(())
}

fn batch_of(view: &View, whole: &WholeGroup, gone: &[SecurityGroupRule]) -> Batch {
    let mut batch = Batch::on(view);
    if gone.is_empty() {
        return batch;
    }
    make_changeable(&mut batch, whole);
    batch.writes.retain(|row| gone.iter().all(|rule| !is_of(row, rule)));
    for rule in gone {
        if whole.is_stored {
            batch.delete(Key::SecurityGroupRule(rule.account, rule.id.clone()));
        }
        if view.tags_on(rule.account, rule.id.as_str()).is_some() {
            batch.delete(Key::Ec2Tags(rule.account, rule.id.as_str().into()));
        }
    }
    batch
}

fn is_of(row: &model::Row, rule: &SecurityGroupRule) -> bool {
    row.key() == Key::SecurityGroupRule(rule.account, rule.id.clone())
}
