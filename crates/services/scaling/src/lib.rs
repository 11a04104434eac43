//! Application Auto Scaling of ECS services: their count within bounds, by metrics and by the clock.
//!
//! What callers ask for is in one row a service ([`targets`], [`policies`], [`actions`]); a reconciler does what it comes to
//! by the alarms of CloudWatch, which are rows too ([`follow`]). What was done is told as activities.
//!
//! **Invariants:** a policy that tracks a value and its alarms are written and deleted in one commit; a count is changed in
//! the commit that tells of it.

mod actions;
mod activities;
mod errors;
mod follow;
mod limits;
mod pages;
mod policies;
mod tagged;
mod tags;
mod targets;
mod tracked;

use std::sync::Arc;

use aws_wire::service::{Answer, Call, Service};
use aws_wire::{ApiError, Caller};
use control::ports::{BoxFuture, RegionService, Watcher};
use control::reconcile::Driver;
use control::{Control, Permission};
use model::scaling::{DIMENSION, NAMESPACE, service_of};
use model::{ScalableTarget, ServiceId, View};
use scaling_api as api;

use errors::invalid;

/// The service.
#[derive(Debug)]
pub struct Scaling {
    pub control: Arc<Control>,
    /// Who knows what alarms watch.
    pub(crate) watcher: Arc<dyn Watcher>,
}

impl Scaling {
    pub fn new(control: Arc<Control>, watcher: Arc<dyn Watcher>) -> Self {
        Self { control, watcher }
    }

    /// To do something with what a resource id names.
    pub(crate) fn permission(
        &self,
        caller: &Caller,
        action: &'static str,
        resource: Option<&str>,
    ) -> Permission {
        let scope = self.control.scope(caller);
        let view = self.control.view();
        let service = resource.and_then(service_of);
        let known = service.and_then(|id| view.scalable_targets.get(caller.account, &id));
        let any = || {
            format!(
                "arn:aws:application-autoscaling:{}:{}:scalable-target/*",
                scope.region, scope.account
            )
        };
        Permission::to(action)
            .on(known.map_or_else(any, |row| row.arn()))
            .with("application-autoscaling:service-namespace", NAMESPACE)
            .with("application-autoscaling:scalable-dimension", DIMENSION)
    }
}

/// The service that a request is about.
pub(crate) fn read_service(
    namespace: Option<&api::ServiceNamespace>,
    dimension: Option<&api::ScalableDimension>,
    resource: Option<&str>,
) -> Result<ServiceId, ApiError> {
    let is_ecs = namespace.is_none_or(|it| it.as_str() == NAMESPACE);
    let is_count = dimension.is_none_or(|it| it.as_str() == DIMENSION);
    let resource = resource.unwrap_or_default();
    match service_of(resource) {
        Some(id) if is_ecs && is_count => Ok(id),
        None if is_ecs && is_count => Err(invalid(format!(
            "Unsupported service namespace, resource type or scalable dimension: {resource} is not of the form \
             service/<cluster>/<service>."
        ))),
        Some(_) | None => {
            Err(invalid("Unsupported service namespace, resource type or scalable dimension"))
        }
    }
}

/// A service's target.
pub(crate) fn target<'v>(
    view: &'v View,
    caller: &Caller,
    service: &ServiceId,
) -> Option<&'v Arc<ScalableTarget>> {
    view.scalable_targets.get(caller.account, service)
}

/// Whether a question that names a service, a dimension and resources is about a target.
pub(crate) fn is_asked(
    row: &ScalableTarget,
    dimension: Option<&api::ScalableDimension>,
    resource: Option<&str>,
) -> bool {
    dimension.is_none_or(|it| it.as_str() == DIMENSION)
        && resource.is_none_or(|resource| row.resource_id() == resource)
}

/// Whether a question is about ECS at all; of others nothing is there.
pub(crate) fn is_ecs(namespace: Option<&api::ServiceNamespace>) -> bool {
    namespace.is_some_and(|it| it.as_str() == NAMESPACE)
}

impl RegionService for Scaling {
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
        driver.register(activities::forgetting(Arc::clone(&self.control)));
        driver.register(follow::Following(self));
    }
}

api::forward! {
    Scaling {
        delete_scaling_policy => policies::delete_scaling_policy;
        delete_scheduled_action => actions::delete_scheduled_action;
        deregister_scalable_target => targets::deregister_scalable_target;
        describe_scalable_targets => targets::describe_scalable_targets;
        describe_scaling_activities => activities::describe_scaling_activities;
        describe_scaling_policies => policies::describe_scaling_policies;
        describe_scheduled_actions => actions::describe_scheduled_actions;
        list_tags_for_resource => tags::list_tags_for_resource;
        put_scaling_policy => policies::put_scaling_policy;
        put_scheduled_action => actions::put_scheduled_action;
        register_scalable_target => targets::register_scalable_target;
        tag_resource => tags::tag_resource;
        untag_resource => tags::untag_resource;
    }
}

#[cfg(test)]
mod tests;
