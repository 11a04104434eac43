//! AWS Cloud Map: namespaces, services, and the instances that are found in them by calls and by names.
//!
//! Everything is done in the commit that asks for it: an operation that clients wait for is over at once. Tasks of ECS
//! services are registered by `ecs` as rows of the same kind; hosts answer names from them (`sessions`).
//!
//! **Invariants:** a namespace with services and a service with instances, or that an ECS service offers, are not deleted;
//! an instance that a task is goes with the task.

mod attributes;
mod discover;
mod errors;
mod instances;
mod limits;
mod namespaces;
mod operations;
mod pages;
mod services;
mod tagged;
mod tags;

use std::sync::Arc;

use aws_wire::service::{Answer, Call, Service};
use aws_wire::{ApiError, Caller};
use control::ports::{BoxFuture, RegionService};
use control::reconcile::Driver;
use control::{Control, Permission};
use model::discovery::{self, MapId};
use model::{MapNamespace, MapService, View};
use servicediscovery_api as api;

/// The service.
#[derive(Debug)]
pub struct CloudMap {
    pub control: Arc<Control>,
}

impl CloudMap {
    pub fn new(control: Arc<Control>) -> Self {
        Self { control }
    }

    /// `ns-` or `srv-` and sixteen fresh letters and digits.
    pub(crate) fn mint(&self, prefix: &str) -> MapId {
        discovery::new_id(prefix, self.control.ids.as_ref())
    }

    /// The ARN of what is named by an id or an ARN.
    pub(crate) fn arn(&self, caller: &Caller, kind: &str, given: &str) -> String {
        match given.starts_with("arn:") {
            true => given.to_owned(),
            false => discovery::arn(&self.control.scope(caller), kind, given),
        }
    }

    /// To do something with a namespace or a service.
    pub(crate) fn permission(
        &self,
        caller: &Caller,
        action: &'static str,
        kind: &str,
        given: &str,
    ) -> Permission {
        let arn = self.arn(caller, kind, given);
        let key = match kind {
            "service" => "servicediscovery:ServiceArn",
            _ => "servicediscovery:NamespaceArn",
        };
        Permission::to(action).with(key, arn.clone()).on(arn)
    }

    pub(crate) fn namespace<'v>(
        &self,
        view: &'v View,
        caller: &Caller,
        given: &str,
    ) -> Result<&'v Arc<MapNamespace>, ApiError> {
        let scope = self.control.scope(caller);
        let id = discovery::id_of(&scope, "namespace", given);
        let row = id.and_then(|id| view.map_namespaces.get(caller.account, &id.into()));
        row.ok_or_else(|| errors::no_namespace(given))
    }

    pub(crate) fn service_row<'v>(
        &self,
        view: &'v View,
        caller: &Caller,
        given: &str,
    ) -> Result<&'v Arc<MapService>, ApiError> {
        let scope = self.control.scope(caller);
        let id = discovery::id_of(&scope, "service", given);
        let row = id.and_then(|id| view.map_services.get(caller.account, &id.into()));
        row.ok_or_else(|| errors::no_service(given))
    }
}

impl RegionService for CloudMap {
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
        driver.register(operations::forgetting(Arc::clone(&self.control)));
    }
}

api::forward! {
    CloudMap {
        create_http_namespace => namespaces::create_http_namespace;
        create_private_dns_namespace => namespaces::create_private_dns_namespace;
        create_service => services::create_service;
        delete_namespace => namespaces::delete_namespace;
        delete_service => services::delete_service;
        delete_service_attributes => attributes::delete_service_attributes;
        deregister_instance => instances::deregister_instance;
        discover_instances => discover::discover_instances;
        discover_instances_revision => discover::discover_instances_revision;
        get_instance => instances::get_instance;
        get_instances_health_status => instances::get_instances_health_status;
        get_namespace => namespaces::get_namespace;
        get_operation => operations::get_operation;
        get_service => services::get_service;
        get_service_attributes => attributes::get_service_attributes;
        list_instances => instances::list_instances;
        list_namespaces => namespaces::list_namespaces;
        list_operations => operations::list_operations;
        list_services => services::list_services;
        list_tags_for_resource => tags::list_tags_for_resource;
        register_instance => instances::register_instance;
        tag_resource => tags::tag_resource;
        untag_resource => tags::untag_resource;
        update_http_namespace => namespaces::update_http_namespace;
        update_instance_custom_health_status => instances::update_instance_custom_health_status;
        update_private_dns_namespace => namespaces::update_private_dns_namespace;
        update_service => services::update_service;
        update_service_attributes => attributes::update_service_attributes;
    }
}

#[cfg(test)]
mod tests;
