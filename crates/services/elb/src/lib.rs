//! Elastic Load Balancing v2: application and network load balancers, target groups, listeners and rules as rows,
//! and what balancers' processes are told of them.
//!
//! The API writes rows; [`compile`] makes of them the table that the balancers serve by (`routing::Table`); [`feed`]
//! hands it out and takes in what the balancers see; [`health`] writes that down, and ends what has drained; [`standing`]
//! has their interfaces be where they are to be.
//!
//! **Invariants:** a setting is stored only if balancers act on it; a target that is deregistered is there until every
//! balancer has confirmed that nothing is in flight to it, or its delay is over.

mod actions;
mod albs;
mod attributes;
mod balancers;
mod certificates;
mod check;
pub mod compile;
mod conditions;
mod counting;
mod errors;
mod failover;
pub mod feed;
mod figures;
mod groups;
mod health;
mod limits;
mod listeners;
pub mod outside;
mod pages;
mod place;
mod policies;
mod rules;
mod standing;
mod tagged;
mod tags;
mod targets;
mod ways;
mod zonal;

use std::sync::Arc;

use aws_wire::service::{Answer, Call, Service};
use aws_wire::{ApiError, Caller};
use control::ports::{BoxFuture, RegionService};
use control::reconcile::Driver;
use control::{Control, Permission};
use elb_api as api;
use metrics::Metrics;
use model::elb::{ElbPath, path_of};
use model::{ElbBalancer, ElbGroup, ElbListener, ElbRule, View};

use crate::counting::Counting;
use crate::errors::Refusal;
use crate::feed::Feed;

/// The service.
#[derive(Debug)]
pub struct Elb {
    pub control: Arc<Control>,
    /// What balancers read, and what they said.
    pub feed: Arc<Feed>,
    /// What balancers counted, until it is put to the metrics.
    pub(crate) counting: Counting,
    pub(crate) metrics: Arc<Metrics>,
}

impl Elb {
    pub fn new(control: Arc<Control>, metrics: Arc<Metrics>) -> Self {
        let feed = Arc::new(Feed::new(control.clock.now()));
        Self { control, feed, counting: Counting::default(), metrics }
    }

    /// What an answer about anything of the account is made from.
    pub(crate) fn read(
        &self,
        caller: &Caller,
        action: &'static str,
    ) -> Result<Arc<View>, ApiError> {
        self.control.read(caller, &Permission::to(action).on("*"))
    }

    /// Sixteen fresh hexadecimal digits.
    pub(crate) fn digits(&self) -> String {
        let id = self.control.ids.id16();
        id.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The path of an ARN of a kind, as of the caller.
    fn path(&self, caller: &Caller, kind: &str, arn: &str) -> Option<ElbPath> {
        let scope = self.control.scope(caller);
        path_of(&scope, arn).filter(|(of, _)| *of == kind).map(|(_, path)| path.into())
    }

    pub(crate) fn balancer<'v>(
        &self,
        view: &'v View,
        caller: &Caller,
        arn: &str,
    ) -> Result<&'v Arc<ElbBalancer>, ApiError> {
        let path = self.path(caller, "loadbalancer", arn);
        let row = path.and_then(|path| view.elb_balancers.get(caller.account, &path));
        row.ok_or_else(|| Refusal::NoBalancer(arn.to_owned()).into())
    }

    pub(crate) fn group<'v>(
        &self,
        view: &'v View,
        caller: &Caller,
        arn: &str,
    ) -> Result<&'v Arc<ElbGroup>, ApiError> {
        let path = self.path(caller, "targetgroup", arn);
        let row = path.and_then(|path| view.elb_groups.get(caller.account, &path));
        row.ok_or_else(|| Refusal::NoGroup(arn.to_owned()).into())
    }

    pub(crate) fn listener<'v>(
        &self,
        view: &'v View,
        caller: &Caller,
        arn: &str,
    ) -> Result<&'v Arc<ElbListener>, ApiError> {
        let path = self.path(caller, "listener", arn);
        let row = path.and_then(|path| view.elb_listeners.get(caller.account, &path));
        row.ok_or_else(|| Refusal::NoListener(arn.to_owned()).into())
    }

    /// A rule that is no listener's default.
    pub(crate) fn rule<'v>(
        &self,
        view: &'v View,
        caller: &Caller,
        arn: &str,
    ) -> Option<&'v Arc<ElbRule>> {
        let path = self.path(caller, "listener-rule", arn)?;
        view.elb_rules.get(caller.account, &path)
    }

    /// The listener whose default rule an ARN names.
    pub(crate) fn listener_of_default<'v>(
        &self,
        view: &'v View,
        caller: &Caller,
        arn: &str,
    ) -> Option<&'v Arc<ElbListener>> {
        let path = self.path(caller, "listener-rule", arn)?;
        let (listener, digits) = path.rsplit_once('/')?;
        let row = view.elb_listeners.get(caller.account, &listener.into())?;
        (row.default_rule == digits).then_some(row)
    }

    pub(crate) fn is_default_rule(&self, view: &View, caller: &Caller, arn: &str) -> bool {
        self.listener_of_default(view, caller, arn).is_some()
    }
}

impl RegionService for Elb {
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
        zonal::warn_of_left_out(&self.control.view());
        let (control, feed) = (Arc::clone(&self.control), Arc::clone(&self.feed));
        driver.register(feed::Publisher { control, feed });
        let (control, feed) = (Arc::clone(&self.control), Arc::clone(&self.feed));
        driver.register(health::HealthKeeper { control, feed });
        let (control, feed) = (Arc::clone(&self.control), Arc::clone(&self.feed));
        let heard_since = self.feed.since;
        driver.register(standing::Standing { control, feed, heard_since });
        driver.register(figures::Telling::new(self));
    }
}

api::forward! {
    Elb {
        add_listener_certificates => certificates::add_listener_certificates;
        add_tags => tags::add_tags;
        create_listener => listeners::create_listener;
        create_load_balancer => balancers::create_load_balancer;
        create_rule => rules::create_rule;
        create_target_group => groups::create_target_group;
        delete_listener => listeners::delete_listener;
        delete_load_balancer => balancers::delete_load_balancer;
        delete_rule => rules::delete_rule;
        delete_target_group => groups::delete_target_group;
        deregister_targets => targets::deregister_targets;
        describe_account_limits => policies::describe_account_limits;
        describe_listener_attributes => attributes::describe_listener_attributes;
        describe_listener_certificates => certificates::describe_listener_certificates;
        describe_listeners => listeners::describe_listeners;
        describe_load_balancer_attributes => attributes::describe_load_balancer_attributes;
        describe_load_balancers => balancers::describe_load_balancers;
        describe_rules => rules::describe_rules;
        describe_ssl_policies => policies::describe_ssl_policies;
        describe_tags => tags::describe_tags;
        describe_target_group_attributes => attributes::describe_target_group_attributes;
        describe_target_groups => groups::describe_target_groups;
        describe_target_health => targets::describe_target_health;
        modify_listener => listeners::modify_listener;
        modify_listener_attributes => attributes::modify_listener_attributes;
        modify_load_balancer_attributes => attributes::modify_load_balancer_attributes;
        modify_rule => rules::modify_rule;
        modify_target_group => groups::modify_target_group;
        modify_target_group_attributes => attributes::modify_target_group_attributes;
        register_targets => targets::register_targets;
        remove_listener_certificates => certificates::remove_listener_certificates;
        remove_tags => tags::remove_tags;
        set_ip_address_type => place::set_ip_address_type;
        set_rule_priorities => rules::set_rule_priorities;
        set_security_groups => place::set_security_groups;
        set_subnets => place::set_subnets;
    }
}

#[cfg(test)]
mod tests;
