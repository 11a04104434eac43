//! What balancers see becomes rows: how targets are, that one which drains has drained, and that an interface is served where
//! it has come.
//!
//! **Invariant:** a target that drains is taken away when every process that has it in its table, or had since the region's
//! start, serves by a version which has it draining and has nothing in flight to it, or when its time is over; not before.

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_wire::ApiError;
use control::Control;
use control::reconcile::{NowAndThen, Pass, PassFuture, Queue, Reconciler};
use control::targets::remove_targets;
use longshore_types::{AccountId, Timestamp};
use model::elb::{
    BalancerKind, BalancerZone, CheckFailure, ElbPath, StandState, TargetHealth, TargetId, path_of,
};
use model::{ElbBalancer, ElbTarget, Index, Key, View};
use routing::{CountedFor, Finding, GroupId, REPORT_INTERVAL_MS, Report, Table};
use store::{Batch, Change};

use crate::Elb;
use crate::failover::unwell_subnets;
use crate::feed::{Feed, Host, Known, Node, TargetName, key_of};
use crate::figures::balancer_of;
use crate::limits::HEALTH_ROWS_MAX;
use crate::zonal;

/// How long counts what a process said.
pub(crate) const FRESH_MS: u64 = 3 * REPORT_INTERVAL_MS;

impl Elb {
    /// Takes in what the process on a host sees, and makes durable what follows.
    pub async fn take_in(&self, host: Host, mut report: Report) -> Result<(), ApiError> {
        let now = self.control.clock.now();
        let figures = std::mem::take(&mut report.figures);
        let view = self.control.store.latest();
        let is_its = |name: &CountedFor| is_its(&view, host, name);
        self.counting.heard(host, (report.counting_since, now), figures, is_its);
        drop(view);
        self.feed.note(host, report, now);
        write(&self.control, &self.feed).await
    }
}

/// Whether the process on a host may speak of what was counted so: of a balancer that has an interface there.
fn is_its(view: &View, host: Host, name: &CountedFor) -> bool {
    let Some(row) = balancer_of(view, name) else { return false };
    let is_zone = |zone: &str| row.interfaces().any(|it| it.zone == zone);
    let is_group = |group: &GroupId| {
        let path = path_of(&row.scope, &group.0).filter(|(kind, _)| *kind == "targetgroup");
        path.is_some_and(|(_, path)| view.elb_groups.get(row.scope.account, &path.into()).is_some())
    };
    row.zones_on(host).next().is_some()
        && name.zone.as_deref().is_none_or(is_zone)
        && name.group.as_ref().is_none_or(is_group)
}

async fn write(control: &Control, feed: &Feed) -> Result<(), ApiError> {
    loop {
        let known = feed.known();
        // Most reports say nothing new.
        let view = control.store.latest();
        if plan(&view, &known, control.clock.now()).is_empty() {
            return Ok(());
        }
        drop(view);
        control.decide(|view, now| Ok((plan(view, &known, now), ()))).await?;
    }
}

/// Takes away what has drained of which no process has to say anything, now that their tables are of now.
pub(crate) async fn finish(control: &Control, feed: &Feed) -> Result<(), ApiError> {
    let known = feed.known();
    let finished = |view: &View, now: Timestamp| {
        let mut batch = Batch::on(view);
        finish_draining(view, &known, now, &mut batch);
        batch
    };
    let view = control.view();
    if finished(&view, control.clock.now()).is_empty() {
        return Ok(());
    }
    control.decide(|view, now| Ok((finished(view, now), ()))).await
}

/// What follows from reports and from the time.
fn plan(view: &View, known: &Known, now: Timestamp) -> Batch {
    let mut batch = Batch::on(view);
    finish_draining(view, known, now, &mut batch);
    judge(view, known, now, &mut batch);
    hear(view, known, now, &mut batch);
    batch
}

/// Interfaces that have come are served once the process there says so, and no longer when it says so no more; and they are
/// named while their zones have healthy targets enough.
fn hear(view: &View, known: &Known, now: Timestamp, batch: &mut Batch) {
    for row in view.elb_balancers.iter() {
        let heard = |zone: &BalancerZone| heard_state(zone, known, now);
        let unwell = unwell_subnets(view, row);
        let is_unwell = |zone: &BalancerZone| unwell.contains(&zone.subnet);
        let is_same = |zone: &BalancerZone| {
            heard(zone) == zone.stand.state && is_unwell(zone) == zone.is_unwell
        };
        if row.zones.iter().all(is_same) || HEALTH_ROWS_MAX <= batch.len() {
            continue;
        }
        let mut next = ElbBalancer::clone(row);
        for zone in &mut next.zones {
            zone.stand.state = heard(zone);
            zone.is_unwell = is_unwell(zone);
        }
        batch.put(next);
    }
}

/// How an interface is by what the process of its host said last.
fn heard_state(zone: &BalancerZone, known: &Known, now: Timestamp) -> StandState {
    let node = known.nodes.get(&zone.stand.host);
    let serves = node.is_some_and(|node| node.serving.contains(zone.eni.as_str()));
    match zone.stand.state {
        StandState::Coming { since } => {
            let is_since = node.is_some_and(|node| since <= node.at && is_fresh(node, now));
            if serves && is_since { StandState::Serving } else { zone.stand.state }
        }
        // On the region's own machine the process is kept by whoever keeps the region.
        StandState::Serving if zone.stand.host.is_some() => {
            let is_silent = silent_at(zone, known).is_some_and(|at| at <= now);
            let is_denied = node.is_some_and(|node| is_fresh(node, now)) && !serves;
            match is_silent || is_denied {
                true => StandState::Coming { since: now },
                false => StandState::Serving,
            }
        }
        StandState::Serving | StandState::Away | StandState::Leaving { .. } => zone.stand.state,
    }
}

/// When an interface that is served on another host is taken for one that is not, if its process says nothing until then.
fn silent_at(zone: &BalancerZone, known: &Known) -> Option<Timestamp> {
    let host = zone.stand.host.filter(|_| zone.stand.state == StandState::Serving)?;
    let heard_at = known.nodes.get(&Some(host)).map(|node| node.at);
    Some(heard_at.max(Some(known.since))?.plus_ms(FRESH_MS))
}

pub(crate) fn is_fresh(node: &Node, now: Timestamp) -> bool {
    now.since_ms(node.at) < FRESH_MS
}

fn finish_draining(view: &View, known: &Known, now: Timestamp, batch: &mut Batch) {
    let mut over: Vec<(AccountId, TargetId)> = Vec::new();
    for key in view.members(&Index::ElbDraining) {
        let Key::ElbTarget(account, id) = key else { continue };
        let Some(row) = view.elb_targets.get(*account, id) else { continue };
        let Some(since) = view.seq_of(key) else { continue };
        if has_drained(view, row, since.0, known, now) {
            over.push((*account, id.clone()));
        }
        if HEALTH_ROWS_MAX / 2 <= over.len() {
            break;
        }
    }
    over.sort();
    for accounts in over.chunk_by(|a, b| a.0 == b.0) {
        let ids: Vec<TargetId> = accounts.iter().map(|(_, id)| id.clone()).collect();
        remove_targets(view, batch, accounts[0].0, &ids, now);
    }
}

/// Whether nothing is, and nothing will be, in flight to a target that drains as of commit `since`.
fn has_drained(view: &View, row: &ElbTarget, since: u64, known: &Known, now: Timestamp) -> bool {
    let TargetHealth::Draining { until } = row.health else { return false };
    if until <= now {
        return true;
    }
    // Who serves is known by the tables, and those are to be of now.
    if known.as_of < since {
        return false;
    }
    let key = key_of(row);
    let has_it = |table: &Table| {
        let targets = table.groups.get(&key.0).map_or(&[][..], |group| &group.targets);
        targets.iter().any(|it| it.key.id == key.1 && it.key.port == key.2)
    };
    let concerned = known.tables.iter().filter(|(_, table)| has_it(table)).map(|(host, _)| *host);
    let concerned: BTreeSet<Host> = concerned.collect();
    let is_free = |host: &Host| {
        let Some(node) = known.nodes.get(host) else { return false };
        let held = node.of(&key, row.registered_at);
        since <= node.version && held.is_none_or(|it| it.in_flight == 0)
    };
    // One that had it before, and has not said yet that it does no more: unless its host is lost, from where nobody is
    // reached any more by the addresses that it had. Of what it never had it is not believed either.
    let had_it = |host: &Host| known.had.get(host).is_some_and(|had| had.contains(&key));
    let has_let_go = |host: &Host| {
        if !is_heard_of(view, *host) {
            return true;
        }
        let Some(node) = known.nodes.get(host) else { return false };
        let held = node.of(&key, row.registered_at);
        let is_behind = known.given.get(host).is_some_and(|given| node.version < *given);
        held.map_or(!is_behind, |it| since <= node.version && it.in_flight == 0)
    };
    let may_hold = |host: &Host| !concerned.contains(host) && (host.is_none() || had_it(host));
    let mut others = known.nodes.keys().chain(known.given.keys()).filter(|host| may_hold(host));
    !(concerned.is_empty() && known.nodes.is_empty())
        && concerned.iter().all(is_free)
        && others.all(has_let_go)
}

/// Whether a host is there and its agent connected; of the region's own machine that goes without saying.
fn is_heard_of(view: &View, host: Host) -> bool {
    host.is_none_or(|id| view.instance_of_any(id).is_some_and(|row| row.agent.connected))
}

/// Writes how targets are, where it differs from what was written. A process is believed of what its table has.
fn judge(view: &View, known: &Known, now: Timestamp, batch: &mut Batch) {
    let fresh = || {
        let nodes = known.nodes.iter();
        nodes.filter(|(_, node)| is_fresh(node, now))
    };
    let is_its = |host: &Host, key: &TargetName| {
        known.tables.get(host).is_some_and(|table| table.groups.contains_key(&key.0))
    };
    let mut seen = BTreeSet::new();
    for key in fresh().flat_map(|(_, node)| node.targets.keys()) {
        if HEALTH_ROWS_MAX <= batch.len() {
            return;
        }
        if !seen.insert(key) {
            continue;
        }
        let Some(row) = row_of(view, key) else { continue };
        if row.is_draining() {
            continue;
        }
        let findings = fresh()
            .filter(|(host, _)| is_its(host, key))
            .filter_map(|(_, node)| node.of(key, row.registered_at))
            .map(|it| it.finding);
        let health = judged(findings, row.health);
        if health != row.health {
            batch.put(row.with_health(health, now));
        }
    }
}

pub(crate) fn row_of<'v>(view: &'v View, key: &TargetName) -> Option<&'v Arc<ElbTarget>> {
    let (group, target, port) = key;
    let parts: Vec<&str> = group.0.splitn(6, ':').collect();
    let account: AccountId = parts.get(4)?.parse().ok()?;
    let path = parts.get(5)?.strip_prefix("targetgroup/")?;
    let id = TargetId { group: path.into(), target: target.as_str().into(), port: *port };
    view.elb_targets.get(account, &id)
}

/// Healthy where those that check it find it healthy, each having made up its mind. One that does not is believed only if no
/// other finds otherwise: it may be its own host that is in trouble, and it asks the target last in any case.
fn judged(findings: impl Iterator<Item = Finding>, before: TargetHealth) -> TargetHealth {
    let (mut is_healthy, mut is_unsure, mut failure) = (false, false, None);
    for finding in findings {
        match finding {
            Finding::Healthy => is_healthy = true,
            Finding::Initial => is_unsure = true,
            Finding::NotChecked => {}
            Finding::CodeMismatch(code) => failure = Some(CheckFailure::Code(code)),
            Finding::Timeout => failure = failure.or(Some(CheckFailure::Timeout)),
            Finding::Failed => failure = failure.or(Some(CheckFailure::Failed)),
        }
    }
    match (is_healthy, is_unsure, failure) {
        (true, false, _) => TargetHealth::Healthy,
        (false, false, Some(failure)) => TargetHealth::Unhealthy(failure),
        // A node that has just begun knows less than was known.
        (_, true, _) | (false, false, None) => before,
    }
}

/// Whether the health of a group's targets says which zones of a balancer are named.
fn names_zones(view: &View, account: AccountId, group: &ElbPath) -> bool {
    view.elb_groups.get(account, group).is_some_and(|row| zonal::may_be_zonal(row))
}

/// Whether a balancer, by the path of something of it, may leave zones out of its name.
fn may_leave_out(view: &View, account: AccountId, path: &str) -> bool {
    let kind = match path.starts_with(BalancerKind::Network.short()) {
        true => BalancerKind::Network,
        false => BalancerKind::Application,
    };
    zonal::may_have_some(view, account, kind)
}

/// Ends what drains when its time is over, and takes interfaces out of names at which nobody serves any more.
#[derive(Debug)]
pub(crate) struct HealthKeeper {
    pub(crate) control: Arc<Control>,
    pub(crate) feed: Arc<Feed>,
}

impl Reconciler for HealthKeeper {
    type Key = NowAndThen;
    type Note = ();
    type Error = ApiError;

    fn name(&self) -> &'static str {
        "target-health"
    }

    fn wake(&mut self, view: &View, change: &Change, queue: &mut Queue<NowAndThen>) {
        let may_end = match &change.key {
            Key::ElbTarget(account, id) => {
                names_zones(view, *account, &id.group)
                    || view.elb_targets.get(*account, id).is_some_and(|row| row.is_draining())
            }
            // Of an application balancer's it may be that zones counted for themselves until now.
            Key::ElbGroup(..) => true,
            Key::ElbListener(account, path) | Key::ElbRule(account, path) => {
                may_leave_out(view, *account, path)
            }
            Key::ElbBalancer(account, path) => {
                let row = view.elb_balancers.get(*account, path);
                row.is_some_and(|row| {
                    zonal::may_have_some(view, *account, row.kind)
                        || row.zones.iter().any(|zone| zone.stand.host.is_some())
                })
            }
            _ => false,
        };
        if may_end {
            queue.changed(&NowAndThen, change.seq);
        }
    }

    fn keys(&mut self, _: &View) -> Vec<NowAndThen> {
        vec![NowAndThen]
    }

    fn pass(&self, _: &NowAndThen) -> PassFuture<Result<Pass<()>, ApiError>> {
        let (control, feed) = (Arc::clone(&self.control), Arc::clone(&self.feed));
        Box::pin(async move {
            write(&control, &feed).await?;
            let view = control.view();
            let rows = view.members(&Index::ElbDraining).filter_map(|key| match key {
                Key::ElbTarget(account, id) => view.elb_targets.get(*account, id),
                _ => None,
            });
            let ends = rows.filter_map(|row| match row.health {
                TargetHealth::Draining { until } => Some(until),
                TargetHealth::Initial | TargetHealth::Healthy | TargetHealth::Unhealthy(_) => None,
            });
            let known = feed.known();
            let zones = view.elb_balancers.iter().flat_map(|row| &row.zones);
            let again_at = ends.chain(zones.filter_map(|zone| silent_at(zone, &known))).min();
            Ok(Pass { looked_at: view.seq, again_at, ..Pass::default() })
        })
    }
}
