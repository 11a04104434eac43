//! Where rules of load balancers forward to, and how a service's deployments change that.
//!
//! **Invariant:** only the groups of a forward are changed: conditions, order and stickiness stay whoever set them.

use std::sync::Arc;

use longshore_types::{AccountId, Scope};
use model::elb::{ElbAction, WeightedGroup};
use model::service::TrafficRule;
use model::{ElbListener, ElbRule, Key, View};
use store::Batch;

use crate::Permission;

/// The row that has a rule.
enum Row<'v> {
    Rule(&'v Arc<ElbRule>),
    Listener(&'v Arc<ElbListener>),
}

fn find<'v>(view: &'v View, account: AccountId, rule: &TrafficRule) -> Option<Row<'v>> {
    match rule {
        TrafficRule::Listener(path) => view.elb_listeners.get(account, path).map(Row::Listener),
        TrafficRule::Rule(path) => {
            if let Some(row) = view.elb_rules.get(account, path) {
                return Some(Row::Rule(row));
            }
            let (listener, digits) = path.rsplit_once('/')?;
            let row = view.elb_listeners.get(account, &listener.into())?;
            (row.default_rule == digits).then_some(Row::Listener(row))
        }
    }
}

/// The groups that a rule forwards to; none if there is no such rule, or it does not forward.
pub fn forward_of<'v>(
    view: &'v View,
    account: AccountId,
    rule: &TrafficRule,
) -> Option<&'v [WeightedGroup]> {
    let action = match find(view, account, rule)? {
        Row::Rule(row) => &row.action,
        Row::Listener(row) => &row.default_action,
    };
    match action {
        ElbAction::Forward { groups, .. } => Some(groups),
        ElbAction::Redirect { .. } | ElbAction::Fixed { .. } => None,
    }
}

/// What it takes to change a rule: an action, and the ARN that it is on. A default rule is its listener's.
pub fn to_change(view: &View, scope: &Scope, rule: &TrafficRule) -> Permission {
    match find(view, scope.account, rule) {
        Some(Row::Listener(row)) => {
            Permission::to("elasticloadbalancing:ModifyListener").on(row.arn())
        }
        Some(Row::Rule(_)) | None => {
            Permission::to("elasticloadbalancing:ModifyRule").on(rule.arn(scope))
        }
    }
}

/// Lets a rule forward to these groups, if it forwards.
pub fn put_forward(
    view: &View,
    batch: &mut Batch,
    account: AccountId,
    rule: &TrafficRule,
    groups: Vec<WeightedGroup>,
) {
    let changed = |action: &ElbAction| match action {
        ElbAction::Forward { sticky_s, .. } => {
            Some(ElbAction::Forward { groups: groups.clone(), sticky_s: *sticky_s })
        }
        ElbAction::Redirect { .. } | ElbAction::Fixed { .. } => None,
    };
    for group in &groups {
        batch.rely(Key::ElbGroup(account, Arc::clone(&group.group)));
    }
    match find(view, account, rule) {
        Some(Row::Rule(row)) => {
            batch.rely(Key::ElbRule(account, row.path()));
            if let Some(action) = changed(&row.action) {
                batch.put(ElbRule { action, ..ElbRule::clone(row) });
            }
        }
        Some(Row::Listener(row)) => {
            batch.rely(Key::ElbListener(account, row.path()));
            if let Some(default_action) = changed(&row.default_action) {
                batch.put(ElbListener { default_action, ..ElbListener::clone(row) });
            }
        }
        None => {}
    }
}
