//! Does what targets come to: scheduled actions that are due, what policies say by their alarms, and the ends of activities.

use std::sync::Arc;

use aws_wire::ApiError;
use control::alarms::add_history;
use control::reconcile::{Pass, PassFuture, Queue, Reconciler};
use longshore_types::{AccountId, Timestamp};
use model::alarm::{AlarmState, HistoryItem, HistoryKind, policy_of};
use model::scaling::{
    ActivityStatus, NotScaled, PolicyKind, ScalingPolicy, resource_id, service_of_policy,
};
use model::service::{Controller, Rank, ServiceStatus};
use model::task::Phase;
use model::{Index, Key, MetricAlarm, ScalableTarget, Service, ServiceId, View};
use plan::service_scaling::{self, Acting, CLOCK_MS, Outcome, ServiceNow, Signal};
use serde_json::{Value, json};
use store::{Batch, Change};

use crate::Scaling;
use crate::actions::next_due;
use crate::activities::{Told, end, known, set_count};
use crate::limits::FULFILLED_MS_MAX;
use crate::targets::{bounds, clamp, forget};

/// See the module's words.
#[derive(Debug)]
pub(crate) struct Following(pub(crate) Arc<Scaling>);

/// Whose target.
pub(crate) type Which = (AccountId, ServiceId);

/// While an alarm asks for something, its policy is looked at so often.
const REPEAT_MS: u64 = 15_000;
/// While a count is waited for.
const WAIT_MS: u64 = 2_000;

/// The service that an alarm's policy scales.
fn scaled_by(alarm: &MetricAlarm) -> impl Iterator<Item = ServiceId> + '_ {
    let actions = [&alarm.ok_actions, &alarm.alarm_actions, &alarm.insufficient_data_actions];
    let policies = actions.into_iter().flatten().filter_map(|action| policy_of(action));
    policies.filter_map(service_of_policy)
}

/// What a pass over a target comes to.
struct Done {
    batch: Batch,
    again_at: Option<Timestamp>,
}

/// One target as it is.
struct Target<'a> {
    it: &'a Scaling,
    view: &'a View,
    row: &'a ScalableTarget,
    service: &'a Service,
    now: Timestamp,
}

fn look(it: &Scaling, view: &View, key: &Which, now: Timestamp) -> Option<Done> {
    let (account, id) = key;
    let row = view.scalable_targets.get(*account, id)?;
    let service = view.services.get(*account, id);
    let service = service.filter(|service| service.status == ServiceStatus::Active);
    let Some(service) = service else {
        // It goes with its service.
        let mut batch = Batch::on(view);
        batch.rely(Key::Service(*account, id.clone()));
        forget(view, &mut batch, row, now);
        return Some(Done { batch, again_at: None });
    };
    Some(Target { it, view, row, service, now }.look())
}

impl Target<'_> {
    fn look(&self) -> Done {
        let mut batch = Batch::on(self.view);
        batch.rely(Key::Service(self.row.scope.account, self.row.service.clone()));
        let mut next = self.row.clone();
        let told = self.run_scheduled(&mut next);
        let is_scheduled = next != *self.row;
        let clamped = is_scheduled && self.is_outside(&next);
        if clamped {
            self.clamp_after(&mut batch, &next, told);
        } else if !told.is_empty() {
            let mut all = known(self.view, self.row.scope.account, &self.row.service);
            told.into_iter().for_each(|activity| all.add(activity));
            batch.put(all);
        }
        let mut again = Vec::new();
        if !is_scheduled {
            self.follow_policies(&mut batch, &mut next, &mut again);
        }
        if batch.is_empty() {
            self.end_activities(&mut batch, &mut again);
        } else {
            again.push(self.now.plus_ms(WAIT_MS));
        }
        again.extend(next.actions.values().filter_map(next_due));
        if next != *self.row {
            batch.put(next);
        }
        Done { batch, again_at: again.into_iter().min() }
    }

    /// Sets the bounds that are due. What was missed while it is suspended is not made up for.
    fn run_scheduled(&self, next: &mut ScalableTarget) -> Vec<model::scaling::ScalingActivity> {
        let told = Told { ids: self.it.control.ids.as_ref(), view: self.view, now: self.now };
        // Up to a time far ahead nothing was done: the clock was ahead, and what comes until then is not passed over.
        let is_ahead = |until: Timestamp| self.now.plus_ms(CLOCK_MS) < until;
        for action in next.actions.values_mut().filter(|action| is_ahead(action.done_until)) {
            action.done_until = self.now;
        }
        let mut due: Vec<(Timestamp, String)> = next
            .actions
            .iter()
            .filter_map(|(name, action)| Some((next_due(action)?, name.clone())))
            .filter(|(at, _)| *at <= self.now)
            .collect();
        due.sort();
        let mut activities = Vec::new();
        for (_, name) in due {
            let Some(action) = next.actions.get_mut(&name) else { continue };
            action.done_until = self.now;
            if next.suspended.scheduled {
                continue;
            }
            let (min, max) = (action.min.unwrap_or(next.min), action.max.unwrap_or(next.max));
            let said = format!("min capacity to {min} and max capacity to {max}");
            let cause = format!("scheduled action name {name} was triggered");
            let description = format!("Setting {said}");
            activities.push(if max < min {
                let why = "Maximum capacity cannot be less than minimum capacity";
                let message = format!("Failed to set {said}. Reason: {why}");
                told.activity(description, cause, ActivityStatus::Failed, message)
            } else {
                (next.min, next.max) = (min, max);
                let message = format!("Successfully set {said}");
                told.activity(description, cause, ActivityStatus::Successful, message)
            });
        }
        activities
    }

    fn is_outside(&self, next: &ScalableTarget) -> bool {
        let (min, max) = bounds(self.it, next);
        !(min..=max).contains(&self.service.desired_count)
    }

    fn clamp_after(
        &self,
        batch: &mut Batch,
        next: &ScalableTarget,
        told: Vec<model::scaling::ScalingActivity>,
    ) {
        // What is told of the bounds comes first, and both are one row.
        let mut before = self.view.clone();
        let mut all = known(self.view, self.row.scope.account, &self.row.service);
        told.into_iter().for_each(|activity| all.add(activity));
        before.put(self.view.seq, &all.into());
        clamp(self.it, &before, batch, next, self.service, self.now);
    }

    fn service_now(&self) -> ServiceNow {
        let account = self.row.scope.account;
        let tasks = self.view.tasks_of_service(account, &self.row.service);
        let running = tasks.filter(|task| task.phase == Phase::Running).count();
        let rolls = self
            .view
            .deployments_of(account, &self.row.service)
            .any(|row| row.rank == Rank::Primary && row.stage.is_rolling());
        ServiceNow {
            desired: self.service.desired_count,
            running: u32::try_from(running).unwrap_or(u32::MAX),
            is_deploying: rolls && self.service.controller == Controller::Ecs,
        }
    }

    fn follow_policies(
        &self,
        batch: &mut Batch,
        next: &mut ScalableTarget,
        again: &mut Vec<Timestamp>,
    ) {
        let acting: Vec<Acting<'_>> =
            self.row.policies.iter().map(|(name, policy)| self.acting(name, policy)).collect();
        let is_asked = |acting: &Acting<'_>| match acting.kind {
            PolicyKind::Tracking(_) => {
                acting.signals.iter().any(|signal| signal.state == AlarmState::Alarm)
            }
            PolicyKind::Stepping(_) => !acting.signals.is_empty(),
        };
        if !acting.iter().any(is_asked) {
            return;
        }
        again.push(self.now.plus_ms(REPEAT_MS));
        self.tell_of_no_data(batch, &acting);
        let (min, max) = bounds(self.it, self.row);
        let bounded = ScalableTarget { min, max, ..self.row.clone() };
        let outcome = service_scaling::decide(&bounded, self.service_now(), &acting, self.now);
        let told = Told { ids: self.it.control.ids.as_ref(), view: self.view, now: self.now };
        match outcome {
            Outcome::Nothing => {}
            Outcome::Move(to) => {
                let (alarm, state, policy) = (&to.alarm, to.state, &to.policy);
                let cause =
                    format!("monitor alarm {alarm} in state {state} triggered policy {policy}");
                set_count(&told, batch, self.service, to.to, cause);
                self.tell_alarm(batch, alarm, policy, None);
                next.last = to.last;
            }
            Outcome::AtBound { why, alarm, policy } => {
                self.tell_of_bound(&told, batch, why, (&alarm, &policy));
            }
        }
    }

    fn acting<'a>(&self, name: &'a str, policy: &'a ScalingPolicy) -> Acting<'a> {
        let account = self.row.scope.account;
        let alarm = |name: &Arc<str>| self.view.metric_alarms.get(account, name);
        let signals = match &policy.kind {
            PolicyKind::Tracking(tracking) => {
                let names = std::iter::once(&tracking.high).chain(&tracking.low);
                // An alarm that somebody deleted asks for nothing.
                let none = |name: &Arc<str>| Signal {
                    alarm: name.to_string(),
                    state: AlarmState::InsufficientData,
                    threshold: 0.0,
                    values: Vec::new(),
                };
                names
                    .map(|name| match alarm(name).filter(|row| row.actions_enabled) {
                        Some(row) => self.signal(row),
                        None => none(name),
                    })
                    .collect()
            }
            PolicyKind::Stepping(_) => {
                let arn = self.row.policy_arn(name, policy);
                let acts = |row: &&Arc<MetricAlarm>| {
                    let mut policies = row.actions(row.state).iter().filter_map(|it| policy_of(it));
                    row.actions_enabled && policies.any(|policy| policy == arn)
                };
                let index = Index::PolicyAlarms(account, arn.as_str().into());
                let rows = self.view.members(&index).filter_map(|key| match key {
                    Key::MetricAlarm(_, name) => alarm(name),
                    _ => None,
                });
                rows.filter(acts).map(|row| self.signal(row)).collect()
            }
        };
        Acting { name, kind: &policy.kind, signals }
    }

    /// An alarm as it stands, with the values that it was judged by where it asks for something.
    fn signal(&self, row: &MetricAlarm) -> Signal {
        let is_judged = row.reason.starts_with("Threshold Crossed");
        let values = if is_judged {
            let samples = self.it.watcher.samples(row, self.now);
            samples.into_iter().flatten().map(|sample| sample.value).collect()
        } else {
            // Whoever set the state says what it is by.
            given_values(row)
        };
        let needed = usize::try_from(row.evaluation_periods).unwrap_or(usize::MAX);
        let values: Vec<f64> = values;
        let first = values.len().saturating_sub(needed);
        Signal {
            alarm: row.name.to_string(),
            state: row.state,
            threshold: row.threshold,
            values: values[first..].to_vec(),
        }
    }

    /// That steps need a value, once for each time that an alarm comes to its state.
    fn tell_of_no_data(&self, batch: &mut Batch, acting: &[Acting<'_>]) {
        for policy in acting {
            if matches!(policy.kind, PolicyKind::Tracking(_)) {
                continue;
            }
            for signal in policy.signals.iter().filter(|signal| signal.values.is_empty()) {
                let account = self.row.scope.account;
                let name: Arc<str> = signal.alarm.as_str().into();
                let Some(alarm) = self.view.metric_alarms.get(account, &name) else { continue };
                let history = self.view.alarm_histories.get(account, &name);
                let is_told = history.is_some_and(|history| {
                    let mut later =
                        history.items.iter().filter(|it| alarm.transitioned_at <= it.at);
                    later.any(|item| item.kind == HistoryKind::Action)
                });
                if !is_told {
                    self.tell_alarm(batch, &signal.alarm, policy.name, Some(NO_VALUES));
                }
            }
        }
    }

    /// Writes into an alarm's history that it acted by a policy, or why it could not.
    fn tell_alarm(&self, batch: &mut Batch, alarm: &str, policy: &str, failed: Option<&str>) {
        let account = self.row.scope.account;
        let alarm: Arc<str> = alarm.into();
        let arn = self.row.policies.get(policy).map(|it| self.row.policy_arn(policy, it));
        let arn = arn.unwrap_or_default();
        let (summary, state) = match failed {
            Some(why) => (format!("Failed to execute AutoScaling action: {why}"), "Failed"),
            None => (shortened(&format!("Successfully executed action {arn}")), "Succeeded"),
        };
        let data = json!({
            "version": "1.0", "actionState": state, "notificationResource": arn,
            "stateUpdateTimestamp": self.now.0, "error": failed,
        });
        let kind = HistoryKind::Action;
        let item = HistoryItem { at: self.now, kind, summary, data: data.to_string() };
        add_history(self.view, batch, account, &alarm, item);
    }

    /// Writes down once that a count is at its bound.
    fn tell_of_bound(
        &self,
        told: &Told<'_>,
        batch: &mut Batch,
        why: NotScaled,
        (alarm, policy): (&str, &str),
    ) {
        let count = self.service.desired_count;
        let mut all = known(self.view, self.row.scope.account, &self.row.service);
        let not_scaled = Some((why, count));
        if all.items.last().is_some_and(|last| last.not_scaled == not_scaled) {
            return;
        }
        let cause = format!("monitor alarm {alarm} in state ALARM triggered policy {policy}");
        let mut activity = told.activity(
            "Attempting to scale due to alarm triggered".to_owned(),
            cause,
            ActivityStatus::Failed,
            format!("{} is scaled no further.", resource_id(&self.row.service)),
        );
        activity.not_scaled = not_scaled;
        all.add(activity);
        batch.put(all);
    }

    /// Ends activities whose count is there, or that nobody waits for any more.
    fn end_activities(&self, batch: &mut Batch, again: &mut Vec<Timestamp>) {
        let account = self.row.scope.account;
        let Some(row) = self.view.scaling_activities.get(account, &self.row.service) else {
            return;
        };
        let is_open =
            |it: &model::scaling::ScalingActivity| it.status == ActivityStatus::InProgress;
        if !row.items.iter().any(is_open) {
            return;
        }
        let has = self.service_now();
        let mut all = known(self.view, account, &self.row.service);
        let mut is_changed = false;
        for activity in all.items.iter_mut().filter(|it| is_open(it)) {
            let status = if activity.wanted != Some(has.desired) {
                ActivityStatus::Overridden
            } else if has.running == has.desired {
                ActivityStatus::Successful
            } else if FULFILLED_MS_MAX <= self.now.since_ms(activity.started_at) {
                ActivityStatus::Unfulfilled
            } else {
                again.push(self.now.plus_ms(WAIT_MS));
                continue;
            };
            end(activity, status, self.now);
            is_changed = true;
        }
        if is_changed {
            batch.put(all);
        }
    }
}

/// What steps cannot be without.
const NO_VALUES: &str = "Metric data points must be provided";

/// A summary is of 255 characters at most.
fn shortened(text: &str) -> String {
    text.chars().take(255).collect()
}

/// The values that somebody gave with a state.
fn given_values(row: &MetricAlarm) -> Vec<f64> {
    let data = row.reason_data.as_deref().unwrap_or_default();
    let data: Value = serde_json::from_str(data).unwrap_or_default();
    let points = data["recentDatapoints"].as_array();
    points.into_iter().flatten().filter_map(Value::as_f64).collect()
}

impl Reconciler for Following {
    type Key = Which;
    type Note = ();
    type Error = ApiError;

    fn name(&self) -> &'static str {
        "service-scaling"
    }

    fn wake(&mut self, view: &View, change: &Change, queue: &mut Queue<Which>) {
        if let Key::ScalableTarget(account, id) | Key::Service(account, id) = &change.key {
            if view.scalable_targets.get(*account, id).is_some() {
                queue.changed(&(*account, id.clone()), change.seq);
            }
        } else if let Key::MetricAlarm(account, name) = &change.key
            && let Some(alarm) = view.metric_alarms.get(*account, name)
        {
            for service in scaled_by(alarm) {
                queue.changed(&(*account, service), change.seq);
            }
        }
    }

    fn keys(&mut self, view: &View) -> Vec<Which> {
        view.scalable_targets.iter().map(|row| (row.scope.account, row.service.clone())).collect()
    }

    fn pass(&self, key: &Which) -> PassFuture<Result<Pass<()>, ApiError>> {
        let (it, key) = (Arc::clone(&self.0), key.clone());
        Box::pin(async move {
            // Most looks find nothing to do, and need no turn among those who decide.
            let view = it.control.view();
            let now = it.control.clock.now();
            let (looked_at, done) = match look(&it, &view, &key, now) {
                Some(done) if !done.batch.is_empty() => {
                    let decide = |view: &View, now| match look(&it, view, &key, now) {
                        Some(done) => Ok((done.batch, (view.seq, Some(done.again_at)))),
                        None => Ok((Batch::on(view), (view.seq, None))),
                    };
                    it.control.decide(decide).await?
                }
                Some(done) => (view.seq, Some(done.again_at)),
                None => (view.seq, None),
            };
            let (again_at, is_over) = (done.flatten(), done.is_none());
            Ok(Pass { looked_at, again_at, is_over, ..Pass::default() })
        })
    }
}
