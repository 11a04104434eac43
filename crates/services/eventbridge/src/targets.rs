//! Targets of rules.

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use events_api as api;
use model::event::{RuleTarget, rule_arn};
use model::{Document, EventRule};
use store::Batch;

use crate::errors::{invalid, limit};
use crate::input::check;
use crate::limits::{TARGET_BYTES_MAX, TARGETS_MAX};
use crate::pages::cut;
use crate::rules::check_role;
use crate::{EventBridge, PRINCIPAL, bus, known};

fn stored(target: &api::Target) -> Result<RuleTarget, ApiError> {
    let text = String::from_utf8(aws_wire::json::to_vec(target));
    let text = text.map_err(|why| ApiError::fault("failed to keep a target", why))?;
    if TARGET_BYTES_MAX < text.len() {
        let id = target.id.as_deref().unwrap_or_default();
        return Err(invalid(format!("The target {id} has more than {TARGET_BYTES_MAX} bytes.")));
    }
    let document = Document::from_text(text);
    Ok(RuleTarget {
        id: target.id.clone().unwrap_or_default(),
        arn: target.arn.as_deref().unwrap_or_default().into(),
        document: document.map_err(|why| ApiError::fault("failed to keep a target", why))?,
    })
}

/// A target as it was put.
pub(crate) fn read(row: &RuleTarget) -> Result<api::Target, ApiError> {
    let read = aws_wire::json::from_slice(row.document.as_str().as_bytes());
    read.map_err(|why| ApiError::fault("failed to read a target", why))
}

pub(crate) async fn put_targets(
    it: &EventBridge,
    caller: &Caller,
    input: api::PutTargetsRequest,
) -> Result<api::PutTargetsResponse, ApiError> {
    let name = input.rule.unwrap_or_default();
    let targets = input.targets.unwrap_or_default();
    let arns = targets.iter().filter_map(|target| target.arn.clone());
    let roles: BTreeSet<&str> =
        targets.iter().filter_map(|target| target.role_arn.as_deref()).collect();
    let permission = it
        .permission(caller, "events:PutTargets", Some(&name))
        .with_list("events:TargetArn", arns)
        .passing(roles.iter().copied(), PRINCIPAL);
    it.control.read(caller, &permission)?;
    bus::check(caller, input.event_bus_name.as_deref())?;
    let mut ids = BTreeSet::new();
    for target in &targets {
        check(target, &caller.region, caller.account)?;
        if !ids.insert(target.id.as_deref()) {
            let id = target.id.as_deref().unwrap_or_default();
            return Err(invalid(format!("The target {id} is in the request more than once.")));
        }
    }
    let rows = targets.iter().map(stored).collect::<Result<Vec<_>, _>>()?;
    let arn = rule_arn(&it.control.scope(caller), &name);
    let decided = it.control.change(caller, &permission, |view, now| {
        let mut next = EventRule::clone(known(view, caller, &name)?);
        for role in &roles {
            check_role(it, view, caller, (role, &arn), now)?;
        }
        for row in &rows {
            match next.targets.iter_mut().find(|known| known.id == row.id) {
                Some(known) => *known = row.clone(),
                None => next.targets.push(row.clone()),
            }
        }
        if TARGETS_MAX < next.targets.len() {
            return Err(limit());
        }
        let mut batch = Batch::on(view);
        batch.put(next);
        Ok((batch, ()))
    });
    decided.await?;
    Ok(api::PutTargetsResponse { failed_entry_count: Some(0), failed_entries: Some(Vec::new()) })
}

pub(crate) async fn remove_targets(
    it: &EventBridge,
    caller: &Caller,
    input: api::RemoveTargetsRequest,
) -> Result<api::RemoveTargetsResponse, ApiError> {
    let permission = it.permission(caller, "events:RemoveTargets", input.rule.as_deref());
    it.control.read(caller, &permission)?;
    bus::check(caller, input.event_bus_name.as_deref())?;
    let (name, ids) = (input.rule.unwrap_or_default(), input.ids.unwrap_or_default());
    let decided = it.control.change(caller, &permission, |view, _| {
        let mut next = EventRule::clone(known(view, caller, &name)?);
        let failed = ids.iter().filter(|id| next.target(id).is_none()).map(|id| {
            api::RemoveTargetsResultEntry {
                target_id: Some(id.clone()),
                error_code: Some("ResourceNotFoundException".to_owned()),
                error_message: Some(format!("Target with ID {id} does not exist.")),
            }
        });
        let failed: Vec<_> = failed.collect();
        next.targets.retain(|target| !ids.contains(&target.id));
        let mut batch = Batch::on(view);
        batch.put(next);
        Ok((batch, failed))
    });
    let failed = decided.await?;
    Ok(api::RemoveTargetsResponse {
        failed_entry_count: i32::try_from(failed.len()).ok(),
        failed_entries: Some(failed),
    })
}

pub(crate) async fn list_targets_by_rule(
    it: &EventBridge,
    caller: &Caller,
    input: api::ListTargetsByRuleRequest,
) -> Result<api::ListTargetsByRuleResponse, ApiError> {
    let permission = it.permission(caller, "events:ListTargetsByRule", input.rule.as_deref());
    let view = it.control.read(caller, &permission)?;
    bus::check(caller, input.event_bus_name.as_deref())?;
    let row = known(&view, caller, input.rule.as_deref().unwrap_or_default())?;
    let targets = row.targets.iter().map(|row| Ok((row.id.clone(), read(row)?)));
    let mut targets = targets.collect::<Result<Vec<_>, ApiError>>()?;
    targets.sort_by(|a, b| a.0.cmp(&b.0));
    let (targets, next_token) = cut(&input.next_token, input.limit, targets.into_iter())?;
    Ok(api::ListTargetsByRuleResponse { targets: Some(targets), next_token })
}

pub(crate) async fn list_rule_names_by_target(
    it: &EventBridge,
    caller: &Caller,
    input: api::ListRuleNamesByTargetRequest,
) -> Result<api::ListRuleNamesByTargetResponse, ApiError> {
    let permission = Permission::to("events:ListRuleNamesByTarget").on("*");
    let view = it.control.read(caller, &permission)?;
    bus::check(caller, input.event_bus_name.as_deref())?;
    let arn = input.target_arn.unwrap_or_default();
    let has_it = |row: &&Arc<EventRule>| row.targets.iter().any(|target| *target.arn == *arn);
    let names = view.event_rules.of(caller.account).filter(has_it);
    let names = names.map(|row| (row.name.to_string(), row.name.to_string()));
    let (names, next_token) = cut(&input.next_token, input.limit, names)?;
    Ok(api::ListRuleNamesByTargetResponse { rule_names: Some(names), next_token })
}
