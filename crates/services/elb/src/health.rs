//! What balancers see becomes rows: how targets are, and that one which drains has drained.
//!
//! **Invariant:** a target that drains is taken away when every node that is known serves by a version which has it
//! draining and has nothing in flight to it, or when its time is over; not before.

use std::sync::Arc;

use aws_wire::ApiError;
use control::Control;
use control::reconcile::{NowAndThen, Pass, PassFuture, Queue, Reconciler};
use control::targets::remove_targets;
use longshore_types::{AccountId, Timestamp};
use model::elb::{CheckFailure, TargetHealth, TargetId};
use model::{ElbTarget, Index, Key, View};
use routing::{Finding, REPORT_INTERVAL_MS, Report};
use store::{Batch, Change};

use crate::Elb;
use crate::feed::{Feed, Nodes, key_of};
use crate::limits::HEALTH_ROWS_MAX;

impl Elb {
    /// Takes in what a balancer's process sees, and makes durable what follows.
    pub async fn take_in(&self, report: Report) -> Result<(), ApiError> {
        self.feed.note(report, self.control.clock.now());
        write(&self.control, &self.feed).await
    }
}

async fn write(control: &Control, feed: &Feed) -> Result<(), ApiError> {
    loop {
        let nodes = feed.nodes();
        // Most reports say nothing new.
        let view = control.store.latest();
        if plan(&view, &nodes, control.clock.now()).is_empty() {
            return Ok(());
        }
        drop(view);
        control.decide(|view, now| Ok((plan(view, &nodes, now), ()))).await?;
    }
}

/// What follows from reports and from the time.
fn plan(view: &View, nodes: &Nodes, now: Timestamp) -> Batch {
    let mut batch = Batch::on(view);
    finish_draining(view, nodes, now, &mut batch);
    judge(view, nodes, now, &mut batch);
    batch
}

fn finish_draining(view: &View, nodes: &Nodes, now: Timestamp, batch: &mut Batch) {
    let mut over: Vec<(AccountId, TargetId)> = Vec::new();
    for key in view.members(&Index::ElbDraining) {
        let Key::ElbTarget(account, id) = key else { continue };
        let Some(row) = view.elb_targets.get(*account, id) else { continue };
        let Some(since) = view.seq_of(key) else { continue };
        if has_drained(row, since.0, nodes, now) {
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
fn has_drained(row: &ElbTarget, since: u64, nodes: &Nodes, now: Timestamp) -> bool {
    let TargetHealth::Draining { until } = row.health else { return false };
    if until <= now {
        return true;
    }
    let key = key_of(row);
    let is_free = |node: &crate::feed::Node| {
        let held = node.targets.get(&key).filter(|it| it.registered_at == row.registered_at);
        since <= node.version && held.is_none_or(|it| it.in_flight == 0)
    };
    !nodes.is_empty() && nodes.values().all(|node| is_free(node))
}

/// Writes how targets are, where it differs from what was written.
fn judge(view: &View, nodes: &Nodes, now: Timestamp, batch: &mut Batch) {
    let fresh = || nodes.values().filter(|node| now.since_ms(node.at) < 3 * REPORT_INTERVAL_MS);
    let mut seen = std::collections::BTreeSet::new();
    for key in fresh().flat_map(|node| node.targets.keys()) {
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
            .filter_map(|node| node.targets.get(key))
            .filter(|it| it.registered_at == row.registered_at)
            .map(|it| it.finding);
        let health = judged(findings, row.health);
        if health != row.health {
            batch.put(ElbTarget { health, ..ElbTarget::clone(row) });
        }
    }
}

fn row_of<'v>(view: &'v View, key: &(routing::GroupId, String, u16)) -> Option<&'v Arc<ElbTarget>> {
    let (group, target, port) = key;
    let parts: Vec<&str> = group.0.splitn(6, ':').collect();
    let account: AccountId = parts.get(4)?.parse().ok()?;
    let path = parts.get(5)?.strip_prefix("targetgroup/")?;
    let id = TargetId { group: path.into(), target: target.as_str().into(), port: *port };
    view.elb_targets.get(account, &id)
}

/// Healthy where all that check it find it healthy, unhealthy as soon as one does not.
fn judged(findings: impl Iterator<Item = Finding>, before: TargetHealth) -> TargetHealth {
    let (mut is_healthy, mut is_unsure) = (false, false);
    for finding in findings {
        match finding {
            Finding::Healthy => is_healthy = true,
            Finding::Initial => is_unsure = true,
            Finding::NotChecked => {}
            Finding::CodeMismatch(code) => {
                return TargetHealth::Unhealthy(CheckFailure::Code(code));
            }
            Finding::Timeout => return TargetHealth::Unhealthy(CheckFailure::Timeout),
            Finding::Failed => return TargetHealth::Unhealthy(CheckFailure::Failed),
        }
    }
    match (is_healthy, is_unsure) {
        (true, false) => TargetHealth::Healthy,
        // A node that has just begun knows less than was known.
        (_, true) | (false, false) => before,
    }
}

/// Ends what drains when its time is over.
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
        if let Key::ElbTarget(account, id) = &change.key
            && view.elb_targets.get(*account, id).is_some_and(|row| row.is_draining())
        {
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
            Ok(Pass { looked_at: view.seq, again_at: ends.min(), ..Pass::default() })
        })
    }
}
