//! Has the interfaces of balancers be on the hosts that `plan::balancers` says.

use std::sync::Arc;

use aws_wire::ApiError;
use control::Control;
use control::reconcile::{NowAndThen, Pass, PassFuture, Queue, Reconciler};
use longshore_types::Timestamp;
use model::elb::BalancerZone;
use model::{Instance, Key, View};
use plan::balancers::{Moment, Placement, place};
use store::{BATCH_ROWS_MAX, Batch, Change};
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

/// What a placement writes, as far as it goes in one batch, and whether that is all of it.
fn written(view: &View, placement: &Placement) -> (Batch, bool) {
    let mut batch = Batch::on(view);
    for (account, id) in &placement.chosen {
        batch.rely(Key::ContainerInstance(*account, *id));
    }
    for (count, next) in placement.changed.iter().enumerate() {
        let before = view.elb_balancers.get(next.scope.account, &next.path());
        let is_kept = |zone: &&BalancerZone| next.interfaces().any(|it| it.eni == zone.eni);
        let left = before.iter().flat_map(|row| &row.leaving).filter(|zone| !is_kept(zone));
        let left: Vec<&BalancerZone> = left.collect();
        // An interface may have tags.
        if count == PLACED_ROWS_MAX || BATCH_ROWS_MAX < batch.len() + 1 + 2 * left.len() {
            return (batch, false);
        }
        for zone in left {
            leave(view, &mut batch, next, zone);
        }
        batch.put(next.clone());
    }
    (batch, true)
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
            let mut is_cut = false;
            if !placement.changed.is_empty() {
                let decided = control.decide(|view, now| {
                    let placement = Self::placement(&control, &known, view, at(now));
                    let (batch, is_all) = written(view, &placement);
                    Ok((batch, (placement.changed, is_all)))
                });
                let (changed, is_all) = decided.await?;
                is_cut = !is_all;
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

#[cfg(test)]
mod tests {
    use model::elb::{BalancerKind, Stand, StandState};

    use model::ElbBalancer;

    use super::*;

    fn zone(number: usize) -> BalancerZone {
        BalancerZone {
            zone: "us-east-1a".to_owned(),
            subnet: format!("subnet-{number:08x}").parse().unwrap(),
            eni: format!("eni-{number:08x}").parse().unwrap(),
            address: [172, 31, 0, 4].into(),
            stand: Stand { host: None, state: StandState::Leaving { at: Timestamp(1) } },
            passed_over: vec![],
            is_unwell: false,
        }
    }

    fn balancer(number: usize, leaving: usize) -> ElbBalancer {
        ElbBalancer {
            scope: longshore_types::Scope {
                region: "us-east-1".parse().unwrap(),
                account: "000000000000".parse().unwrap(),
            },
            kind: BalancerKind::Network,
            name: "flows".to_owned(),
            digits: format!("{number:016x}"),
            dns_number: 1,
            is_internal: true,
            vpc: "vpc-00000001".parse().unwrap(),
            zones: vec![],
            leaving: (0..leaving).map(|at| zone(number * 10 + at)).collect(),
            security_groups: vec![],
            exempts_private_links: false,
            attributes: model::elb::Attributes::new(),
            tags: model::Tags::new(),
            created_at: Timestamp(1),
            shifts: Vec::new(),
        }
    }

    #[test]
    fn however_many_interfaces_have_left_what_is_written_goes_in_one_batch() {
        let mut view = View::default();
        let rows: Vec<_> = (0..150).map(|number| balancer(number, 3)).collect();
        for row in &rows {
            let seq = model::Seq(view.seq.0 + 1);
            view.seq = seq;
            view.put(seq, &row.clone().into());
        }
        let changed = rows.iter().map(|row| ElbBalancer { leaving: vec![], ..row.clone() });
        let mut placement = Placement { changed: changed.collect(), ..Placement::default() };
        let (batch, is_all) = written(&view, &placement);
        assert!(!is_all && batch.len() <= BATCH_ROWS_MAX, "{}", batch.len());
        assert!(100 < batch.writes.len(), "{}", batch.writes.len());
        placement.changed.truncate(20);
        let (batch, is_all) = written(&view, &placement);
        assert!(is_all);
        assert_eq!((batch.writes.len(), batch.len()), (20, 80));
    }
}
