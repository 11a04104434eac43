//! CreateSecurityGroup, DeleteSecurityGroup.

use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;
use longshore_types::{Cidr, IdSource, SecurityGroupId, SecurityGroupRuleId, VpcId};
use model::security_group::DEFAULT_GROUP;
use model::{Ec2Tags, Index, Key, RuleMatch, RulePeer, SecurityGroup, SecurityGroupRule, View};
use store::Batch;

use super::{GroupRef, GroupRefusal, arn, by_name, default_vpc};
use crate::Ec2;
use crate::endpoints;
use crate::errors::{Kind, Refusal, unless_dry};
use crate::limits::{DELETED_ROWS_MAX, GROUPS_MAX};
use crate::tags;

const NAME_CHARS_MAX: usize = 255;

pub(crate) async fn create_security_group(
    ec2: &Ec2,
    caller: &Caller,
    input: api::CreateSecurityGroupRequest,
) -> Result<api::CreateSecurityGroupResult, ApiError> {
    let tags = tags::specified(input.tag_specifications.as_deref(), "security-group");
    let requested = tags.as_ref().ok().cloned().unwrap_or_default();
    let made = arn(caller, "security-group", "*");
    let vpc = input.vpc_id.clone().unwrap_or_else(|| "*".to_owned());
    let permission = Permission::to("ec2:CreateSecurityGroup")
        .on(made.clone())
        .on(arn(caller, "vpc", &vpc))
        .tagging_new(caller, "ec2:CreateTags", made, &requested);
    let decided = ec2.control.change(caller, &permission, |view, _| {
        let tags = tags.clone()?;
        let group = decide(ec2, view, caller, &input)?;
        unless_dry(input.dry_run)?;
        let mut batch = Batch::on(view);
        let id = group.id.clone();
        batch.put(all_egress(ec2.control.ids.as_ref(), &group));
        batch.rely(Key::Vpc(caller.account, group.vpc.clone()));
        batch.put(group);
        if !tags.is_empty() {
            let resource = id.as_str().into();
            batch.put(Ec2Tags { account: caller.account, resource, tags: tags.clone() });
        }
        Ok((batch, (id, tags)))
    });
    let (id, tags) = decided.await?;
    Ok(api::CreateSecurityGroupResult {
        security_group_arn: Some(arn(caller, "security-group", id.as_str())),
        group_id: Some(id.to_string()),
        tags: Some(tags::to_wire(Some(&tags))),
    })
}

fn decide(
    ec2: &Ec2,
    view: &View,
    caller: &Caller,
    input: &api::CreateSecurityGroupRequest,
) -> Result<SecurityGroup, Refusal> {
    let name = checked_name(input.group_name.as_deref())?;
    let description = checked_text("GroupDescription", input.description.as_deref())?;
    let vpc: VpcId = match input.vpc_id.as_deref().filter(|id| !id.is_empty()) {
        None => default_vpc(ec2, view, caller)?,
        Some(id) => {
            let parsed = id.parse().map_err(|_| Refusal::Malformed(Kind::Vpc, id.to_owned()))?;
            if ec2.control.network(view, caller.account).vpc(&parsed).is_none() {
                return Err(Refusal::Missing(Kind::Vpc, id.to_owned()));
            }
            parsed
        }
    };
    if by_name(view, caller.account, &vpc, &name).is_some() {
        return Err(GroupRefusal::NameTaken { name, vpc: vpc.to_string() }.into());
    }
    if view.security_groups.of(caller.account).count() >= GROUPS_MAX {
        return Err(GroupRefusal::TooMany.into());
    }
    let id = SecurityGroupId::mint(ec2.control.ids.as_ref());
    Ok(SecurityGroup { account: caller.account, id, vpc, name, description, revision: 0 })
}

fn checked_name(given: Option<&str>) -> Result<String, Refusal> {
    let name = checked_text("GroupName", given)?;
    if name.eq_ignore_ascii_case(DEFAULT_GROUP) {
        return Err(GroupRefusal::ReservedName(name).into());
    }
    if name.starts_with("sg-") {
        return Err(Refusal::Value(format!(
            "Invalid value '{name}' for groupName. A name must not begin with sg-."
        )));
    }
    Ok(name)
}

fn checked_text(what: &'static str, given: Option<&str>) -> Result<String, Refusal> {
    let text = given.filter(|text| !text.is_empty()).ok_or(Refusal::Parameter(what))?;
    let is_allowed =
        |letter: char| letter.is_ascii_alphanumeric() || " ._-:/()#,@[]+=&;{}!$*".contains(letter);
    if text.chars().count() > NAME_CHARS_MAX || !text.chars().all(is_allowed) {
        return Err(Refusal::Value(format!(
            "Value ({text}) for parameter {what} is invalid. It has up to {NAME_CHARS_MAX} characters \
             of a-z, A-Z, 0-9, spaces, and ._-:/()#,@[]+=&;{{}}!$*"
        )));
    }
    Ok(text.to_owned())
}

/// What a new group allows: everything out.
pub(crate) fn all_egress(ids: &dyn IdSource, group: &SecurityGroup) -> SecurityGroupRule {
    let anywhere = Cidr::from_octets([0; 4], 0).expect("zero bits are a prefix");
    SecurityGroupRule {
        account: group.account,
        id: SecurityGroupRuleId::mint(ids),
        group: group.id.clone(),
        is_egress: true,
        matches: RuleMatch { protocol: None, ports: None, peer: RulePeer::Ipv4(anywhere) },
        description: None,
    }
}

pub(crate) async fn delete_security_group(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DeleteSecurityGroupRequest,
) -> Result<api::DeleteSecurityGroupResult, ApiError> {
    let group = GroupRef::new(input.group_id, input.group_name);
    let permission = Permission::to("ec2:DeleteSecurityGroup").on(group.arn(ec2, caller));
    // A group of very many rules goes in several steps, the last of which is that it is gone.
    loop {
        let decided = ec2.control.change(caller, &permission, |view, _| {
            let whole = group.find(ec2, view, caller)?;
            check_unused(view, &whole.group)?;
            unless_dry(input.dry_run)?;
            let (batch, is_last) = deletion(view, &whole.group, &whole.rules);
            Ok((batch, (whole.group.id, is_last)))
        });
        let (id, is_last) = decided.await?;
        if is_last {
            let group_id = Some(id.to_string());
            return Ok(api::DeleteSecurityGroupResult { r#return: Some(true), group_id });
        }
    }
}

/// A group that an interface or a VPC endpoint has, or that another group's rule names, stays.
fn check_unused(view: &View, group: &SecurityGroup) -> Result<(), Refusal> {
    if group.is_default() {
        return Err(GroupRefusal::DefaultStays(group.id.to_string()).into());
    }
    let interfaces = Index::GroupInterfaces(group.account, group.id.clone());
    let interfaces = view.members(&interfaces).filter_map(|key| {
        let Key::Interface(account, address) = key else { return None };
        let row = view.interfaces.get(*account, address)?;
        Some(format!("{} of {}", row.eni, row.user))
    });
    let rules = view.references_to_group(group.account, &group.id);
    let rules = rules.map(|rule| format!("{} of {}", rule.id, rule.group));
    // One without a subnet has no interface that would say so.
    let endpoints = endpoints::used_by(view, group.account, group.id.as_str());
    let endpoints = endpoints.map(|row| format!("VPC endpoint {}", row.id));
    let by: Vec<String> = interfaces.chain(rules).chain(endpoints).collect();
    if by.is_empty() {
        Ok(())
    } else {
        Err(GroupRefusal::InUse { id: group.id.to_string(), by }.into())
    }
}

/// The next step of a group's deletion, and whether it is the last.
fn deletion(view: &View, group: &SecurityGroup, rules: &[SecurityGroupRule]) -> (Batch, bool) {
    let (account, id) = (group.account, &group.id);
    let mut batch = Batch::on(view);
    batch.rely(Index::GroupInterfaces(account, id.clone()));
    batch.rely(Index::GroupReferences(account, id.clone()));
    batch.rely(Index::Ec2Uses(account, id.as_str().into()));
    batch.rely(Index::GroupRules(account, id.clone()));
    let tags_of = |batch: &mut Batch, resource: &str| {
        if view.tags_on(account, resource).is_some() {
            batch.delete(Key::Ec2Tags(account, resource.into()));
        }
    };
    for rule in rules {
        if batch.len() + 2 > DELETED_ROWS_MAX {
            batch.put(SecurityGroup { revision: group.revision + 1, ..group.clone() });
            return (batch, false);
        }
        batch.delete(Key::SecurityGroupRule(account, rule.id.clone()));
        tags_of(&mut batch, rule.id.as_str());
    }
    batch.delete(Key::SecurityGroup(account, id.clone()));
    tags_of(&mut batch, id.as_str());
    (batch, true)
}
