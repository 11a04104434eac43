//! Rules: what they want, when they run, and whether they do.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use control::iam::Assumption;
use events::{Json, Pattern};
use events_api as api;
use longshore_types::Timestamp;
use model::event::{PatternText, RuleSchedule, rule_arn};
use model::{EventRule, Index, Key, View};
use plan::schedule::Schedule;
use store::Batch;

use crate::errors::{cannot_assume, invalid, limit, parameter, pattern, unavailable};
use crate::limits::{ROLE_MS, RULES_MAX};
use crate::pages::cut;
use crate::tags;
use crate::{EventBridge, PRINCIPAL, bus, known};

/// What policies may ask about a pattern: the texts that it has of a field.
fn texts(pattern: Option<&str>, field: &str) -> Vec<String> {
    let read = pattern.and_then(|text| Json::parse(text).ok());
    let Some(Json::List(items)) = read.as_ref().and_then(|json| json.get(field)) else {
        return Vec::new();
    };
    items.iter().filter_map(Json::as_text).map(str::to_owned).collect()
}

fn put_permission(it: &EventBridge, caller: &Caller, input: &api::PutRuleRequest) -> Permission {
    let name = input.name.as_deref();
    let pattern = input.event_pattern.as_deref();
    let mut permission = it.permission(caller, "events:PutRule", name);
    for (key, field) in [("events:source", "source"), ("events:detail-type", "detail-type")] {
        let texts = texts(pattern, field);
        if !texts.is_empty() {
            permission = permission.with_list(key, texts);
        }
    }
    let tags = tags::read(input.tags.clone());
    let arn = rule_arn(&it.control.scope(caller), name.unwrap_or_default());
    permission
        .tagging_new(caller, "events:TagResource", arn, &tags)
        .passing(input.role_arn.as_deref(), PRINCIPAL)
}

/// That a role is one that EventBridge may assume for a rule.
pub(crate) fn check_role(
    it: &EventBridge,
    view: &View,
    caller: &Caller,
    (role, rule): (&str, &str),
    now: Timestamp,
) -> Result<(), ApiError> {
    let asked = Assumption {
        role,
        service: PRINCIPAL,
        source: rule,
        source_account: caller.account,
        session_name: "AWSEvents",
        lasts_ms: ROLE_MS,
    };
    it.control.acting_as(view, &asked, now).map(drop).map_err(|_| cannot_assume(role))
}

/// What a rule runs by. A new time is counted from now on, and that of a rule that ran by it before goes on.
fn schedule(
    expression: Option<&String>,
    known: Option<&EventRule>,
    now: Timestamp,
) -> Option<RuleSchedule> {
    let expression = expression?;
    let before = known.filter(|row| row.is_enabled).and_then(|row| row.schedule.as_ref());
    match before.filter(|before| before.expression == *expression) {
        Some(before) => Some(before.clone()),
        None => Some(RuleSchedule { expression: expression.clone(), since: now, done_until: now }),
    }
}

fn check(caller: &Caller, input: &api::PutRuleRequest) -> Result<(), ApiError> {
    bus::check(caller, input.event_bus_name.as_deref())?;
    if input.event_pattern.is_none() && input.schedule_expression.is_none() {
        return Err(invalid("Parameter(s) EventPattern or ScheduleExpression must be specified."));
    }
    if let Some(text) = &input.event_pattern {
        Pattern::parse(text).map_err(|why| pattern(&why))?;
    }
    if let Some(text) = &input.schedule_expression {
        let wrong = |_| invalid("Parameter ScheduleExpression is not valid.");
        Schedule::parse_of_rule(text).map_err(wrong)?;
    }
    match &input.state {
        None | Some(api::RuleState::Enabled | api::RuleState::Disabled) => Ok(()),
        Some(other) => Err(unavailable(&format!("The state {other}"))),
    }
}

pub(crate) async fn put_rule(
    it: &EventBridge,
    caller: &Caller,
    input: api::PutRuleRequest,
) -> Result<api::PutRuleResponse, ApiError> {
    let permission = put_permission(it, caller, &input);
    it.control.read(caller, &permission)?;
    check(caller, &input)?;
    let given = tags::read(input.tags.clone());
    tags::check(&given)?;
    let scope = it.control.scope(caller);
    let name: Arc<str> = input.name.as_deref().unwrap_or_default().into();
    let arn = rule_arn(&scope, &name);
    let decided = it.control.change(caller, &permission, |view, now| {
        let row = view.event_rules.get(caller.account, &name);
        let mut batch = Batch::on(view);
        if row.is_none() {
            let all = Index::EventRules(caller.account);
            if RULES_MAX <= view.member_count(&all) {
                return Err(limit());
            }
            batch.rely(all);
        }
        if let Some(role) = &input.role_arn {
            check_role(it, view, caller, (role, &arn), now)?;
        }
        batch.put(EventRule {
            scope: scope.clone(),
            name: Arc::clone(&name),
            description: input.description.clone(),
            pattern: input.event_pattern.as_deref().map(PatternText::new),
            schedule: schedule(input.schedule_expression.as_ref(), row.map(|row| &**row), now),
            is_enabled: input.state != Some(api::RuleState::Disabled),
            role: input.role_arn.clone(),
            created_at: row.map_or(now, |row| row.created_at),
            targets: row.map(|row| row.targets.clone()).unwrap_or_default(),
            tags: row.map_or_else(|| given.clone(), |row| row.tags.clone()),
        });
        Ok((batch, ()))
    });
    decided.await?;
    Ok(api::PutRuleResponse { rule_arn: Some(arn) })
}

fn state(row: &EventRule) -> api::RuleState {
    match row.is_enabled {
        true => api::RuleState::Enabled,
        false => api::RuleState::Disabled,
    }
}

pub(crate) async fn describe_rule(
    it: &EventBridge,
    caller: &Caller,
    input: api::DescribeRuleRequest,
) -> Result<api::DescribeRuleResponse, ApiError> {
    let permission = it.permission(caller, "events:DescribeRule", input.name.as_deref());
    let view = it.control.read(caller, &permission)?;
    bus::check(caller, input.event_bus_name.as_deref())?;
    let row = known(&view, caller, input.name.as_deref().unwrap_or_default())?;
    Ok(api::DescribeRuleResponse {
        name: Some(row.name.to_string()),
        arn: Some(row.arn()),
        event_pattern: row.pattern.as_ref().map(|pattern| pattern.as_str().to_owned()),
        schedule_expression: row.schedule.as_ref().map(|it| it.expression.clone()),
        state: Some(state(row)),
        description: row.description.clone(),
        role_arn: row.role.clone(),
        managed_by: None,
        event_bus_name: Some("default".to_owned()),
        created_by: Some(caller.account.to_string()),
    })
}

pub(crate) async fn list_rules(
    it: &EventBridge,
    caller: &Caller,
    input: api::ListRulesRequest,
) -> Result<api::ListRulesResponse, ApiError> {
    let view = it.control.read(caller, &Permission::to("events:ListRules").on("*"))?;
    bus::check(caller, input.event_bus_name.as_deref())?;
    let prefix = input.name_prefix.unwrap_or_default();
    let rows = view.event_rules.of(caller.account).filter(|row| row.name.starts_with(&prefix));
    let shown = rows.map(|row| {
        let rule = api::Rule {
            name: Some(row.name.to_string()),
            arn: Some(row.arn()),
            event_pattern: row.pattern.as_ref().map(|pattern| pattern.as_str().to_owned()),
            state: Some(state(row)),
            description: row.description.clone(),
            schedule_expression: row.schedule.as_ref().map(|it| it.expression.clone()),
            role_arn: row.role.clone(),
            managed_by: None,
            event_bus_name: Some("default".to_owned()),
        };
        (row.name.to_string(), rule)
    });
    let (rules, next_token) = cut(&input.next_token, input.limit, shown)?;
    Ok(api::ListRulesResponse { rules: Some(rules), next_token })
}

pub(crate) async fn delete_rule(
    it: &EventBridge,
    caller: &Caller,
    input: api::DeleteRuleRequest,
) -> Result<(), ApiError> {
    let permission = it.permission(caller, "events:DeleteRule", input.name.as_deref());
    it.control.read(caller, &permission)?;
    bus::check(caller, input.event_bus_name.as_deref())?;
    let name: Arc<str> = input.name.as_deref().unwrap_or_default().into();
    let decided = it.control.change(caller, &permission, |view, _| {
        let mut batch = Batch::on(view);
        let Some(row) = view.event_rules.get(caller.account, &name) else {
            return Ok((batch, ()));
        };
        if !row.targets.is_empty() {
            return Err(invalid("Rule can't be deleted since it has targets."));
        }
        let key = Key::EventRule(caller.account, Arc::clone(&name));
        batch.rely(key.clone()).delete(key);
        Ok((batch, ()))
    });
    decided.await
}

async fn set_state(
    it: &EventBridge,
    caller: &Caller,
    action: &'static str,
    (name, bus): (Option<String>, Option<String>),
    is_enabled: bool,
) -> Result<(), ApiError> {
    let permission = it.permission(caller, action, name.as_deref());
    it.control.read(caller, &permission)?;
    bus::check(caller, bus.as_deref())?;
    let name = name.unwrap_or_default();
    let decided = it.control.change(caller, &permission, |view, now| {
        let row = known(view, caller, &name)?;
        let mut batch = Batch::on(view);
        if row.is_enabled != is_enabled {
            let mut next = EventRule::clone(row);
            next.is_enabled = is_enabled;
            if let Some(schedule) = &mut next.schedule {
                (schedule.since, schedule.done_until) = (now, now);
            }
            batch.put(next);
        }
        Ok((batch, ()))
    });
    decided.await
}

pub(crate) async fn enable_rule(
    it: &EventBridge,
    caller: &Caller,
    input: api::EnableRuleRequest,
) -> Result<(), ApiError> {
    set_state(it, caller, "events:EnableRule", (input.name, input.event_bus_name), true).await
}

pub(crate) async fn disable_rule(
    it: &EventBridge,
    caller: &Caller,
    input: api::DisableRuleRequest,
) -> Result<(), ApiError> {
    set_state(it, caller, "events:DisableRule", (input.name, input.event_bus_name), false).await
}

/// For what takes a text that must be JSON.
pub(crate) fn json(name: &str, text: &str) -> Result<Json, ApiError> {
    Json::parse(text).map_err(|why| parameter(name, format!("it is no JSON: {why}")))
}
