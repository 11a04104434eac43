//! Has the interfaces of balancers be on the hosts that `plan::balancers` says.

use std::sync::Arc;

use aws_wire::ApiError;
use control::Control;
use control::reconcile::{NowAndThen, Pass, PassFuture, Queue, Reconciler};
use longshore_types::Timestamp;
use model::elb::BalancerZone;
use model::{ElbBalancer, Instance, Key, View};
use plan::balancers::{Moment, Placement, place};
use store::{Batch, Change};
use tracing::info;

use crate::feed::{Feed, Known, leads_somewhere};
use crate::health::{FRESH_MS, is_fresh};
use crate::limits::PLACED_ROWS_MAX;
use crate::place::leave;

/// Looks whenever balancers, what they forward to, or hosts changed, and when a time is over.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) control: Arc<Control>,
    pub(crate) feed: Arc<Feed>,
    /// Since when processes can say that they serve.
    pub(crate) heard_since: Timestamp,
}

impl Standing {
    fn placement(control: &Control, known: &Known, view: &View, at: Moment) -> Placement {
        let is_busy = |zone: &BalancerZone| match known.nodes.get(&zone.stand.host) {
            Some(node) if is_fresh(node, at.now) => node.busy.contains(zone.eni.as_str()),
            // One that is not heard for a while serves on: what has a bound is how long that is waited for.
            Some(_) => true,
            None => at.now.since_ms(at.heard_since) < FRESH_MS,
        };
        place(view, |row: &Instance| control.access.is_of_own_machine(row), &is_busy, at)
    }
}

/// Takes away the interfaces that have left a balancer.
fn take_away(view: &View, batch: &mut Batch, next: &ElbBalancer) {
    let Some(row) = view.elb_balancers.get(next.scope.account, &next.path()) else { return };
    let is_kept = |zone: &&BalancerZone| next.interfaces().any(|it| it.eni == zone.eni);
    for zone in row.leaving.iter().filter(|zone| !is_kept(zone)) {
        leave(view, batch, row, zone);
    }
}

impl Reconciler for Standing {
    type Key = NowAndThen;
    type Note = ();
    type Error = ApiError;

    fn name(&self) -> &'static str {
        "balancer-places"
    }

    fn wake(&mut self, view: &View, change: &Change, queue: &mut Queue<NowAndThen>) {
        let may_matter = match &change.key {
            Key::ContainerInstance(..) => view.elb_balancers.iter().next().is_some(),
            key => leads_somewhere(key),
        };
        if may_matter {
            queue.changed(&NowAndThen, change.seq);
        }
    }

    fn keys(&mut self, _: &View) -> Vec<NowAndThen> {
        vec![NowAndThen]
    }

    fn pass(&self, _: &NowAndThen) -> PassFuture<Result<Pass<()>, ApiError>> {
        let (control, heard_since) = (Arc::clone(&self.control), self.heard_since);
        let known = self.feed.known();
        Box::pin(async move {
            let view = control.view();
            let at = |now| Moment { now, heard_since };
            let placement = Self::placement(&control, &known, &view, at(control.clock.now()));
            let is_cut = PLACED_ROWS_MAX < placement.changed.len();
            if !placement.changed.is_empty() {
                let decided = control.decide(|view, now| {
                    let placement = Self::placement(&control, &known, view, at(now));
                    let mut batch = Batch::on(view);
                    for row in placement.changed.iter().take(PLACED_ROWS_MAX) {
                        take_away(view, &mut batch, row);
                        batch.put(row.clone());
                    }
                    for (account, id) in &placement.chosen {
                        batch.rely(Key::ContainerInstance(*account, *id));
                    }
                    Ok((batch, placement.changed))
                });
                let changed = decided.await?;
                let zones = changed.iter().flat_map(|row| &row.zones);
                for zone in zones.filter(|zone| !zone.stand.is_named()) {
                    let host = zone.stand.host.map(|id| id.to_string()).unwrap_or_default();
                    info!(interface = %zone.eni, instance = host, state = ?zone.stand.state, "interface of a balancer placed");
                }
            }
            // What was changed wakes it once more.
            Ok(Pass {
                looked_at: view.seq,
                again_at: placement.again_at,
                is_cut,
                ..Pass::default()
            })
        })
    }
}
