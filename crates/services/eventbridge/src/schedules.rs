//! Fires rules that run by the clock.
//!
//! What was missed while the region was down is made up for by one firing, with the last time that was missed.

use std::sync::Arc;

use aws_wire::ApiError;
use control::reconcile::{Pass, PassFuture, Queue, Reconciler};
use events::{Event, Json};
use longshore_types::{AccountId, Timestamp, Uuid};
use model::event::RuleSchedule;
use model::{EventRule, Key, View};
use plan::schedule::{Schedule, Zone};
use store::{Batch, Change};

use crate::EventBridge;
use crate::limits::{CLOCK_MS, DELIVERIES_AT_ONCE, DELIVERIES_OF_ONE, MISSED_MAX};

#[derive(Debug)]
pub(crate) struct Schedules(pub(crate) Arc<EventBridge>);

/// Which rule.
type Which = (AccountId, Arc<str>);

/// What is to be done of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// It is fired, for this time.
    Fire(Timestamp),
    At(Timestamp),
    Never,
}

/// What is next of a schedule.
pub(crate) fn next(schedule: &RuleSchedule, now: Timestamp) -> Due {
    let Ok(read) = Schedule::parse(&schedule.expression) else { return Due::Never };
    let zone = Zone::utc();
    let after = |after| read.next_after(after, schedule.since, &zone);
    // The clock was ahead: what comes until then is not passed over.
    let is_ahead = now.plus_ms(CLOCK_MS) < schedule.done_until;
    let done_until = if is_ahead { now } else { schedule.done_until };
    let mut due = match after(done_until) {
        None => return Due::Never,
        Some(at) if now < at => return Due::At(at),
        Some(at) => at,
    };
    for _ in 0..MISSED_MAX {
        match after(due) {
            Some(later) if later <= now => due = later,
            Some(_) | None => break,
        }
    }
    Due::Fire(due)
}

/// The rule's schedule, if it runs by it.
fn running(row: &EventRule) -> Option<&RuleSchedule> {
    row.schedule.as_ref().filter(|_| row.is_enabled)
}

impl EventBridge {
    fn fire(&self, view: &View, row: &EventRule, at: Timestamp, now: Timestamp) -> Batch {
        let event = Event {
            id: Uuid::mint(self.control.ids.as_ref()),
            source: "aws.events".to_owned(),
            detail_type: "Scheduled Event".to_owned(),
            account: row.scope.account,
            region: row.scope.region.clone(),
            time: at,
            resources: vec![row.arn()],
            detail: Json::Object(Vec::new()),
        };
        let mut next = row.clone();
        if let Some(schedule) = &mut next.schedule {
            schedule.done_until = now;
        }
        let mut batch = Batch::on(view);
        if !row.targets.is_empty() {
            let rule = std::iter::once(&row.name);
            self.control.outbox.tell_rules(view, &mut batch, &event, rule, now);
        }
        batch.put(next);
        batch
    }

    pub(crate) async fn run_schedule(&self, which: &Which) -> Result<Pass<()>, ApiError> {
        let (account, name) = which;
        // Most looks find nothing to do, and need no turn among those who decide.
        let look = |view: &View, now: Timestamp| {
            let row = view.event_rules.get(*account, name);
            let schedule = row.and_then(|row| running(row));
            let due = schedule.map(|schedule| next(schedule, now));
            (row.map(Arc::clone), due)
        };
        let view = self.control.view();
        let (_, due) = look(&view, self.control.clock.now());
        let (looked_at, due) = match due {
            Some(Due::Fire(_)) => {
                let decided = self.control.decide(|view, now| match look(view, now) {
                    (Some(row), Some(Due::Fire(at))) => {
                        let batch = self.fire(view, &row, at, now);
                        // The row was written, which leads to another pass.
                        Ok((batch, (view.seq, Some(Due::Never))))
                    }
                    (_, due) => Ok((Batch::on(view), (view.seq, due))),
                });
                decided.await?
            }
            due => (view.seq, due),
        };
        let again_at = match due {
            Some(Due::At(at)) => Some(at),
            Some(Due::Fire(_) | Due::Never) | None => None,
        };
        Ok(Pass { looked_at, again_at, is_over: due.is_none(), ..Pass::default() })
    }
}

impl Reconciler for Schedules {
    type Key = Which;
    type Note = ();
    type Error = ApiError;

    fn name(&self) -> &'static str {
        "event-schedules"
    }

    fn passes_max(&self) -> usize {
        DELIVERIES_AT_ONCE
    }

    fn owner(&self, key: &Which) -> Option<AccountId> {
        Some(key.0)
    }

    fn passes_each_max(&self) -> usize {
        DELIVERIES_OF_ONE
    }

    fn wake(&mut self, view: &View, change: &Change, queue: &mut Queue<Which>) {
        if let Key::EventRule(account, name) = &change.key
            && view.event_rules.get(*account, name).is_some_and(|row| row.schedule.is_some())
        {
            queue.changed(&(*account, Arc::clone(name)), change.seq);
        }
    }

    fn keys(&mut self, view: &View) -> Vec<Which> {
        let rows = view.event_rules.iter().filter(|row| running(row).is_some());
        rows.map(|row| (row.scope.account, Arc::clone(&row.name))).collect()
    }

    fn pass(&self, key: &Which) -> PassFuture<Result<Pass<()>, ApiError>> {
        let (it, key) = (Arc::clone(&self.0), key.clone());
        Box::pin(async move { it.run_schedule(&key).await })
    }
}
