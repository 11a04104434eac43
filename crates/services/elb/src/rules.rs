//! Rules of application balancers' listeners.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use elb_api as api;
use longshore_types::AccountId;
use model::elb::{BalancerKind, ElbPath, balancer_path};
use model::{ElbListener, ElbRule, Index, Key, View};
use store::Batch;

use crate::errors::{Refusal, invalid};
use crate::limits::{NAMED_MAX, PRIORITY_MAX, RULES_MAX};
use crate::listeners::{of_balancer, rely_on_groups};
use crate::pages::page;
use crate::{Elb, actions, conditions, tags};

/// The rules of a listener but its default, in the order in which they are asked.
pub(crate) fn of_listener(
    view: &View,
    account: AccountId,
    listener: &ElbPath,
) -> Vec<Arc<ElbRule>> {
    let keys = view.members(&Index::ElbRules(account, Arc::clone(listener)));
    let rows = keys.filter_map(|key| match key {
        Key::ElbRule(account, path) => view.elb_rules.get(*account, path).cloned(),
        _ => None,
    });
    let mut rows: Vec<Arc<ElbRule>> = rows.collect();
    rows.sort_by_key(|row| row.priority);
    rows
}

pub(crate) fn render(row: &ElbRule) -> api::Rule {
    let (host, url) = (row.host_rewrite.as_ref(), row.url_rewrite.as_ref());
    api::Rule {
        rule_arn: Some(row.arn()),
        priority: Some(row.priority.to_string()),
        conditions: Some(row.conditions.iter().map(conditions::render).collect()),
        actions: Some(actions::render(&row.scope, &row.action, row.order)),
        is_default: Some(false),
        transforms: Some(conditions::render_transforms(host, url)),
    }
}

fn render_default(row: &ElbListener) -> api::Rule {
    api::Rule {
        rule_arn: Some(row.default_rule_arn()),
        priority: Some("default".to_owned()),
        conditions: Some(vec![]),
        actions: Some(actions::render(&row.scope, &row.default_action, row.order)),
        is_default: Some(true),
        transforms: Some(vec![]),
    }
}

fn read_priority(given: Option<i32>) -> Result<u32, ApiError> {
    match given {
        Some(priority) if (1..=PRIORITY_MAX).contains(&priority) => {
            Ok(u32::try_from(priority).unwrap_or(1))
        }
        Some(_) => invalid(format!("A rule's priority must be between 1 and {PRIORITY_MAX}")),
        None => invalid("A rule priority must be specified"),
    }
}

fn check_free(
    view: &View,
    account: AccountId,
    listener: &ElbPath,
    priority: u32,
) -> Result<(), ApiError> {
    match of_listener(view, account, listener).iter().any(|row| row.priority == priority) {
        true => Err(Refusal::PriorityInUse.into()),
        false => Ok(()),
    }
}

pub(crate) async fn create_rule(
    it: &Elb,
    caller: &Caller,
    input: api::CreateRuleInput,
) -> Result<api::CreateRuleOutput, ApiError> {
    let tags = tags::read(input.tags.as_deref())?;
    let arn = input.listener_arn.clone().unwrap_or_default();
    let digits = it.digits();
    let new = arn.replacen(":listener/", ":listener-rule/", 1) + "/*";
    let permission = Permission::to("elasticloadbalancing:CreateRule").on(arn.clone()).tagging_new(
        caller,
        "elasticloadbalancing:AddTags",
        new,
        &tags,
    );
    let decided = it.control.change(caller, &permission, |view, _| {
        let listener = it.listener(view, caller, &arn)?;
        let account = caller.account;
        let missing = || Refusal::NoListener(arn.clone());
        let balancer = view.elb_balancers.get(account, &listener.balancer).ok_or_else(missing)?;
        if balancer.kind == BalancerKind::Network {
            let message =
                "Rules are not supported for listeners of load balancers with type 'network'";
            return Err(Refusal::Unsupported(message.to_owned()).into());
        }
        let priority = read_priority(input.priority)?;
        let read_conditions = conditions::read(input.conditions.as_deref().unwrap_or_default())?;
        let rewrites =
            conditions::read_transforms(input.transforms.as_deref().unwrap_or_default())?;
        let given = input.actions.as_deref().unwrap_or_default();
        let read = actions::read(it, view, caller, balancer, listener.protocol, given)?;
        check_free(view, account, &listener.path(), priority)?;
        let listeners = of_balancer(view, account, &balancer.path());
        let rules: usize = listeners.map(|row| of_listener(view, account, &row.path()).len()).sum();
        if RULES_MAX <= rules {
            return Err(Refusal::TooMany("Rules", RULES_MAX).into());
        }
        let mut batch = Batch::on(view);
        batch.rely(Key::ElbListener(account, listener.path()));
        batch.rely(Index::ElbRules(account, listener.path()));
        rely_on_groups(&mut batch, account, &read.action);
        let row = Arc::new(ElbRule {
            scope: it.control.scope(caller),
            listener: listener.path(),
            digits: digits.clone(),
            priority,
            conditions: read_conditions,
            action: read.action,
            order: read.order,
            host_rewrite: rewrites.host,
            url_rewrite: rewrites.url,
            tags: tags.clone(),
        });
        batch.put(Arc::clone(&row));
        Ok((batch, row))
    });
    Ok(api::CreateRuleOutput { rules: Some(vec![render(&*decided.await?)]) })
}

pub(crate) async fn describe_rules(
    it: &Elb,
    caller: &Caller,
    input: api::DescribeRulesInput,
) -> Result<api::DescribeRulesOutput, ApiError> {
    let view = it.read(caller, "elasticloadbalancing:DescribeRules")?;
    let arns = input.rule_arns.unwrap_or_default();
    if NAMED_MAX < arns.len() {
        return invalid(format!("Up to {NAMED_MAX} rules can be described at once"));
    }
    let mut rules: Vec<api::Rule> = Vec::new();
    match (&input.listener_arn, arns.is_empty()) {
        (None, true) => {
            return invalid("You must specify either listener rule ARNs or a listener ARN");
        }
        (Some(_), false) => {
            return invalid("Listener rule ARNs and a listener ARN cannot be specified together");
        }
        (Some(arn), true) => {
            let listener = it.listener(&view, caller, arn)?;
            let rows = of_listener(&view, caller.account, &listener.path());
            rules.extend(rows.iter().map(|row| render(row)));
            rules.push(render_default(listener));
        }
        (None, false) => {
            for arn in &arns {
                let of_default = it.listener_of_default(&view, caller, arn);
                let rule = it.rule(&view, caller, arn).map(|row| render(row));
                let rule = rule.or_else(|| of_default.map(|row| render_default(row)));
                rules.push(rule.ok_or(Refusal::NoRules)?);
            }
        }
    }
    // In the order in which they are asked: the marker is a rule's place in it.
    let keyed = rules.into_iter().map(|rule| {
        let priority = rule.priority.as_deref().and_then(|text| text.parse().ok());
        let arn = rule.rule_arn.clone().unwrap_or_default();
        (format!("{:010}{arn}", priority.unwrap_or(u32::MAX)), rule)
    });
    let mut keyed: Vec<(String, api::Rule)> = keyed.collect();
    keyed.sort_by(|a, b| a.0.cmp(&b.0));
    let page = page(input.marker, input.page_size, keyed)?;
    Ok(api::DescribeRulesOutput { rules: Some(page.items), next_marker: page.marker })
}

pub(crate) async fn modify_rule(
    it: &Elb,
    caller: &Caller,
    input: api::ModifyRuleInput,
) -> Result<api::ModifyRuleOutput, ApiError> {
    let arn = input.rule_arn.clone().unwrap_or_default();
    let permission = Permission::to("elasticloadbalancing:ModifyRule").on(arn.clone());
    let decided = it.control.change(caller, &permission, |view, _| {
        let account = caller.account;
        if it.is_default_rule(view, caller, &arn) {
            let message = "Default rules cannot be modified by ModifyRule; use ModifyListener";
            return Err(ApiError::client("OperationNotPermitted", message));
        }
        let known = it.rule(view, caller, &arn).ok_or(Refusal::NoRule)?;
        let listener = view.elb_listeners.get(account, &known.listener).ok_or(Refusal::NoRule)?;
        let balancer =
            view.elb_balancers.get(account, &listener.balancer).ok_or(Refusal::NoRule)?;
        let mut batch = Batch::on(view);
        batch.rely(Key::ElbListener(account, listener.path()));
        let mut row = ElbRule::clone(known);
        if let Some(given) = input.conditions.as_deref().filter(|given| !given.is_empty()) {
            row.conditions = conditions::read(given)?;
        }
        if let Some(given) = input.actions.as_deref().filter(|given| !given.is_empty()) {
            let read = actions::read(it, view, caller, balancer, listener.protocol, given)?;
            rely_on_groups(&mut batch, account, &read.action);
            (row.action, row.order) = (read.action, read.order);
        }
        let transforms = input.transforms.as_deref().unwrap_or_default();
        if input.reset_transforms == Some(true) {
            if !transforms.is_empty() {
                return invalid("Transforms cannot be given and reset at the same time");
            }
            (row.host_rewrite, row.url_rewrite) = (None, None);
        } else if !transforms.is_empty() {
            let rewrites = conditions::read_transforms(transforms)?;
            (row.host_rewrite, row.url_rewrite) = (rewrites.host, rewrites.url);
        }
        let row = Arc::new(row);
        if row != *known {
            batch.put(Arc::clone(&row));
        }
        Ok((batch, row))
    });
    Ok(api::ModifyRuleOutput { rules: Some(vec![render(&*decided.await?)]) })
}

pub(crate) async fn delete_rule(
    it: &Elb,
    caller: &Caller,
    input: api::DeleteRuleInput,
) -> Result<api::DeleteRuleOutput, ApiError> {
    let arn = input.rule_arn.unwrap_or_default();
    let permission = Permission::to("elasticloadbalancing:DeleteRule").on(arn.clone());
    let decided = it.control.change(caller, &permission, |view, _| {
        if it.is_default_rule(view, caller, &arn) {
            return Err(Refusal::DefaultRule.into());
        }
        let row = it.rule(view, caller, &arn).ok_or(Refusal::NoRule)?;
        let mut batch = Batch::on(view);
        batch.delete(Key::ElbRule(caller.account, row.path()));
        Ok((batch, ()))
    });
    decided.await?;
    Ok(api::DeleteRuleOutput {})
}

pub(crate) async fn set_rule_priorities(
    it: &Elb,
    caller: &Caller,
    input: api::SetRulePrioritiesInput,
) -> Result<api::SetRulePrioritiesOutput, ApiError> {
    let given = input.rule_priorities.unwrap_or_default();
    let arns = given.iter().filter_map(|pair| pair.rule_arn.clone());
    let permission = Permission::to("elasticloadbalancing:SetRulePriorities").on_each(arns);
    let decided = it.control.change(caller, &permission, |view, _| {
        let account = caller.account;
        let mut changed: BTreeMap<ElbPath, ElbRule> = BTreeMap::new();
        for pair in &given {
            let arn = pair.rule_arn.as_deref().unwrap_or_default();
            if it.is_default_rule(view, caller, arn) {
                let message = "The priority of a default rule cannot be changed";
                return Err(ApiError::client("OperationNotPermitted", message));
            }
            let row = it.rule(view, caller, arn).ok_or(Refusal::NoRules)?;
            let next = ElbRule { priority: read_priority(pair.priority)?, ..ElbRule::clone(row) };
            if changed.insert(next.path(), next).is_some() {
                return invalid(format!("The rule '{arn}' is given twice"));
            }
        }
        let mut batch = Batch::on(view);
        let mut balancers: Vec<&str> =
            changed.values().map(|row| balancer_path(&row.listener)).collect();
        balancers.dedup();
        if 1 < balancers.len() {
            return invalid("All rules must be of the same load balancer");
        }
        let listeners: Vec<ElbPath> =
            changed.values().map(|row| Arc::clone(&row.listener)).collect();
        for listener in &listeners {
            batch.rely(Index::ElbRules(account, Arc::clone(listener)));
            let mut priorities: Vec<u32> = of_listener(view, account, listener)
                .iter()
                .map(|row| changed.get(&row.path()).map_or(row.priority, |next| next.priority))
                .collect();
            priorities.sort_unstable();
            if priorities.windows(2).any(|pair| pair[0] == pair[1]) {
                return Err(Refusal::PriorityInUse.into());
            }
        }
        let rules: Vec<api::Rule> = changed.values().map(render).collect();
        batch.writes.extend(changed.into_values().map(Into::into));
        Ok((batch, rules))
    });
    Ok(api::SetRulePrioritiesOutput { rules: Some(decided.await?) })
}
