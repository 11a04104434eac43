//! Amazon EventBridge: rules by pattern and by the clock, and the tasks and log groups that they tell.
//!
//! Rules are rows with their targets ([`rules`], [`targets`]). What happens is told in the batch that writes it
//! ([`control::outbox`]), PutEvents by its own; a reconciler fires what is due by the clock ([`schedules`]), and another brings
//! to targets what waits ([`deliver`]). What a target is given is a function of it and the event ([`input`]).
//!
//! **Invariant:** what a rule's firing writes down and what says that it fired are one commit: no minute has two of them.

mod bus;
mod deliver;
mod errors;
mod figures;
mod input;
mod limits;
mod pace;
mod pages;
mod put_events;
mod rules;
mod schedules;
mod tagged;
mod tags;
mod targets;

use std::sync::Arc;

use aws_wire::service::{Answer, Call, Service};
use aws_wire::{ApiError, Caller};
use control::ports::{BoxFuture, LogWriter, RegionService, TaskStarter};
use control::reconcile::Driver;
use control::{Control, Permission};
use events_api as api;
use metrics::Metrics;
use model::event::rule_arn;
use model::{EventRule, View};

/// As whom it does things.
pub(crate) const PRINCIPAL: &str = "events.amazonaws.com";

/// The service.
#[derive(Debug)]
pub struct EventBridge {
    pub control: Arc<Control>,
    metrics: Arc<Metrics>,
    tasks: Arc<dyn TaskStarter>,
    logs: Arc<dyn LogWriter>,
    pace: pace::Pace,
}

impl EventBridge {
    pub fn new(
        control: Arc<Control>,
        metrics: Arc<Metrics>,
        tasks: Arc<dyn TaskStarter>,
        logs: Arc<dyn LogWriter>,
    ) -> Self {
        Self { control, metrics, tasks, logs, pace: pace::Pace::default() }
    }

    /// To do something with a rule of the default bus.
    pub(crate) fn permission(
        &self,
        caller: &Caller,
        action: &'static str,
        rule: Option<&str>,
    ) -> Permission {
        let arn = rule_arn(&self.control.scope(caller), rule.unwrap_or_default());
        Permission::to(action).on(arn).with("events:creatorAccount", caller.account.to_string())
    }
}

/// A rule that a request names.
pub(crate) fn known<'v>(
    view: &'v View,
    caller: &Caller,
    name: &str,
) -> Result<&'v Arc<EventRule>, ApiError> {
    let row = view.event_rules.get(caller.account, &name.into());
    row.ok_or_else(|| errors::no_rule(name))
}

impl RegionService for EventBridge {
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

    fn register(self: Arc<Self>, driver: &mut Driver) {
        driver.register(schedules::Schedules(Arc::clone(&self)));
        driver.register(deliver::Deliveries(self));
    }
}

api::forward! {
    EventBridge {
        delete_rule => rules::delete_rule;
        describe_event_bus => bus::describe_event_bus;
        describe_rule => rules::describe_rule;
        disable_rule => rules::disable_rule;
        enable_rule => rules::enable_rule;
        list_event_buses => bus::list_event_buses;
        list_rule_names_by_target => targets::list_rule_names_by_target;
        list_rules => rules::list_rules;
        list_tags_for_resource => tags::list_tags_for_resource;
        list_targets_by_rule => targets::list_targets_by_rule;
        put_events => put_events::put_events;
        put_rule => rules::put_rule;
        put_targets => targets::put_targets;
        remove_targets => targets::remove_targets;
        tag_resource => tags::tag_resource;
        test_event_pattern => put_events::test_event_pattern;
        untag_resource => tags::untag_resource;
    }
}

#[cfg(test)]
mod tests;
