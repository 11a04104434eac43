//! Amazon CloudWatch: metrics, and alarms on them.
//!
//! Samples are in the store of `metrics`: those that are put, and what tasks use, which their hosts report every twenty
//! seconds ([`usage`]). Alarms are rows; a reconciler looks at each of them every minute, or every ten seconds where its
//! period is shorter ([`watch`]), and says what came of it by [`plan::alarms`]. What they act on are scaling policies, which
//! look at the rows of alarms by themselves.
//!
//! **Invariant:** what is told of an alarm's state and the history of it are written in one commit.

mod alarms;
mod data;
mod errors;
mod history;
mod insights;
mod limits;
mod list_metrics;
mod pages;
mod put_alarm;
mod put_metric_data;
mod render;
mod statistics;
mod tagged;
mod tags;
mod told;
mod usage;
mod watch;

use std::sync::{Arc, Mutex};

use aws_wire::service::{Answer, Call, Service};
use aws_wire::{ApiError, Caller};
use cloudwatch_api as api;
use control::Control;
use control::ports::{BoxFuture, EventSource, RegionService, Usage, Watcher};
use control::reconcile::Driver;
use longshore_types::Timestamp;
use metrics::Metrics;
use model::alarm::Sample;
use model::{Instance, MetricAlarm, Task};
use serde_json::Value;
use tokio::sync::Semaphore;

use insights::Minutes;
use usage::Slots;

/// Requests for metric data that are computed at a time: one may take seconds of a core.
const COMPUTED_AT_ONCE: usize = 4;

/// The service.
#[derive(Debug)]
pub struct CloudWatch {
    pub control: Arc<Control>,
    pub metrics: Arc<Metrics>,
    /// What tasks used lately, until it is put to the metrics.
    used: Mutex<Slots>,
    insights: Mutex<Minutes>,
    /// So many requests for metric data are computed at a time; others wait their turn.
    turns: Arc<Semaphore>,
}

impl CloudWatch {
    pub fn new(control: Arc<Control>, metrics: Arc<Metrics>) -> Self {
        let turns = Arc::new(Semaphore::new(COMPUTED_AT_ONCE));
        Self { control, metrics, used: Mutex::default(), insights: Mutex::default(), turns }
    }
}

impl RegionService for CloudWatch {
    fn service(&self) -> &'static Service {
        &api::SERVICE
    }

    fn dispatch<'a>(
        &'a self,
        caller: &'a Caller,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Answer, ApiError>> {
        Box::pin(api::dispatch(self, caller, call))
    }

    fn event_source(&self) -> Option<&'static dyn EventSource> {
        Some(&told::CloudWatchEvents)
    }

    fn register(self: Arc<Self>, driver: &mut Driver) {
        driver.register(watch::AlarmWatch(Arc::clone(&self)));
        driver.register(watch::forgetting(Arc::clone(&self.control)));
        driver.register(watch::Housekeeping::new(self));
    }
}

impl Usage for CloudWatch {
    fn used(&self, task: &Task, instance: &Instance, containers: &Value, now: Timestamp) {
        self.note_usage(task, instance, containers, now);
    }
}

impl Watcher for CloudWatch {
    fn samples(&self, alarm: &MetricAlarm, now: Timestamp) -> Vec<Option<Sample>> {
        watch::samples(&self.metrics, alarm, &plan::alarms::window(alarm, now))
    }
}

api::forward! {
    CloudWatch {
        delete_alarms => alarms::delete_alarms;
        describe_alarm_history => history::describe_alarm_history;
        describe_alarms => alarms::describe_alarms;
        describe_alarms_for_metric => alarms::describe_alarms_for_metric;
        disable_alarm_actions => alarms::disable_alarm_actions;
        enable_alarm_actions => alarms::enable_alarm_actions;
        get_metric_data => data::get_metric_data;
        get_metric_statistics => statistics::get_metric_statistics;
        list_metrics => list_metrics::list_metrics;
        list_tags_for_resource => tags::list_tags_for_resource;
        put_metric_alarm => put_alarm::put_metric_alarm;
        put_metric_data => put_metric_data::put_metric_data;
        set_alarm_state => alarms::set_alarm_state;
        tag_resource => tags::tag_resource;
        untag_resource => tags::untag_resource;
    }
}

#[cfg(test)]
mod tests;
