//! Where a balancer sends what comes to a zone to the targets of that zone alone (`load_balancing.cross_zone.enabled`).
//!
//! What a target group says of itself counts before what its balancer does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_types::AccountId;
use model::elb::{BalancerKind, ElbAction, ElbPath, TargetHealth, balancer_path};
use model::{ElbBalancer, ElbGroup, ElbTarget, Index, Key, View};
use tracing::warn;

use crate::attributes::value_of_balancer;
use crate::listeners::of_balancer;
use crate::targets::of_group as of_targets;

const KEY: &str = "load_balancing.cross_zone.enabled";

/// Whether the targets of a group are used within their own zones alone.
pub(crate) fn is_zonal(row: &ElbBalancer, group: &ElbGroup) -> bool {
    match said(group) {
        Some("true") => false,
        Some("false") => true,
        _ => value_of_balancer(row, KEY) != "true",
    }
}

/// Whether a group says so itself.
pub(crate) fn says_so(group: &ElbGroup) -> bool {
    said(group) == Some("false")
}

/// What was set of a group, which this is asked of with each report.
fn said(group: &ElbGroup) -> Option<&str> {
    group.attributes.get(KEY).map(String::as_str)
}

/// Whether the health of a group's targets may say which zones of a balancer are named.
pub(crate) fn may_be_zonal(group: &ElbGroup) -> bool {
    group.protocol.kind() == BalancerKind::Network || says_so(group)
}

/// The groups of an account that balancers of a kind forward to and that may be used so.
pub(crate) fn may_have_some(view: &View, account: AccountId, kind: BalancerKind) -> bool {
    kind == BalancerKind::Network || view.elb_groups.of(account).any(|group| says_so(group))
}

/// The groups that a balancer forwards to and whose targets are used so.
pub(crate) fn groups_of<'v>(view: &'v View, row: &ElbBalancer) -> Vec<&'v Arc<ElbGroup>> {
    let groups = named_by(view, row, |weight| weight > 0).into_iter();
    groups.filter(|group| may_be_zonal(group) && is_zonal(row, group)).collect()
}

/// The groups that a balancer may forward to, those that get nothing just now too.
pub(crate) fn led_to<'v>(view: &'v View, row: &ElbBalancer) -> Vec<&'v Arc<ElbGroup>> {
    named_by(view, row, |_| true)
}

fn named_by<'v>(
    view: &'v View,
    row: &ElbBalancer,
    is_meant: impl Fn(u32) -> bool,
) -> Vec<&'v Arc<ElbGroup>> {
    let account = row.scope.account;
    let mut paths: BTreeSet<&ElbPath> = BTreeSet::new();
    let mut add = |action: &'v ElbAction| {
        let groups = action.groups().iter().filter(|each| is_meant(each.weight));
        paths.extend(groups.map(|each| &each.group));
    };
    for listener in of_balancer(view, account, &row.path()) {
        add(&listener.default_action);
        // Of network balancers they have none.
        for key in view.members(&Index::ElbRules(account, listener.path())) {
            let Key::ElbRule(account, path) = key else { continue };
            if let Some(rule) = view.elb_rules.get(*account, path) {
                add(&rule.action);
            }
        }
    }
    paths.into_iter().filter_map(|path| view.elb_groups.get(account, path)).collect()
}

/// Why nobody asks a target of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unused {
    Group,
    Zone,
}

/// How a group is used by balancers.
#[derive(Clone, Debug)]
pub(crate) struct Usage {
    is_used: bool,
    /// The zones whose targets alone are asked, those of interfaces that leave too; none: all are.
    zones: Option<BTreeSet<String>>,
    /// The zone that all of them lead their traffic away from.
    away: Option<String>,
}

impl Usage {
    pub(crate) fn of(view: &View, group: &ElbGroup) -> Self {
        let account = group.scope.account;
        let users = view.members(&Index::ElbUsers(account, group.path()));
        let paths = users.filter_map(|key| match key {
            Key::ElbListener(_, path) | Key::ElbRule(_, path) => Some(balancer_path(path)),
            _ => None,
        });
        let balancers: BTreeSet<&str> = paths.collect();
        let rows =
            balancers.iter().filter_map(|path| view.elb_balancers.get(account, &Arc::from(*path)));
        let rows: Vec<&Arc<ElbBalancer>> = rows.collect();
        let is_zonal = !rows.is_empty() && rows.iter().all(|row| is_zonal(row, group));
        // An interface that leaves serves on, with the targets of its zone.
        let zones = rows.iter().flat_map(|row| row.interfaces()).map(|zone| zone.zone.clone());
        let away =
            |row: &&Arc<ElbBalancer>| row.active_shift().map(|shift| shift.away_from.clone());
        let away = rows.first().and_then(away);
        let away = away.filter(|zone| {
            let mut all = rows.iter().map(|row| row.active_shift());
            all.all(|shift| shift.is_some_and(|shift| shift.away_from == *zone))
        });
        let zones = is_zonal.then(|| zones.collect());
        Self { is_used: !balancers.is_empty(), zones, away }
    }

    /// Whether a target is in a zone that traffic is led away from.
    pub(crate) fn is_shifted_away(&self, target: &ElbTarget) -> bool {
        self.away.is_some() && self.away == target.zone
    }

    /// None: it is asked. One outside the VPC is of every zone.
    pub(crate) fn unused(&self, target: &ElbTarget) -> Option<Unused> {
        let has = |zone: &str| self.zones.as_ref().is_none_or(|zones| zones.contains(zone));
        match (self.is_used, target.zone.as_deref().is_none_or(has)) {
            (false, _) => Some(Unused::Group),
            (true, false) => Some(Unused::Zone),
            (true, true) => None,
        }
    }
}

/// Healthy targets that nobody asks, since no balancer of their group has an interface in their zone, by group.
pub(crate) fn left_out(view: &View) -> BTreeMap<String, usize> {
    let groups = view.elb_groups.iter().filter_map(|group| {
        let usage = Usage::of(view, group);
        let targets = of_targets(view, group.scope.account, &group.path());
        let left_out = targets.filter(|target| {
            target.health == TargetHealth::Healthy && usage.unused(target) == Some(Unused::Zone)
        });
        let count = left_out.count();
        (count > 0).then(|| (group.arn(), count))
    });
    groups.collect()
}

/// Says which those are, at the region's start: releases of before asked targets of every zone.
pub(crate) fn warn_of_left_out(view: &View) {
    for (group, targets) in left_out(view) {
        warn!(
            target_group = group,
            targets,
            "healthy targets are not used: their zone has no interface of the load balancer, and load_balancing.cross_zone.enabled is false"
        );
    }
}
