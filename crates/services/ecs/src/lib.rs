//! Amazon ECS: each operation in the file of its name, and what ECS does by itself.
//!
//! A handler reads a view or makes a decision ([`control::Control::decide`]). [`services`] keeps services'
//! promises, [`waiting`] finds places for tasks that wait for capacity, [`fleet`] has the instances ready that
//! both place on. [`errors`] turns what is refused into Amazon's codes.

mod account_settings;
mod attributes;
mod background;
mod capacity;
mod capacity_provider;
mod client_token;
mod cluster;
mod continue_service_deployment;
mod create_cluster;
mod create_service;
mod delete_cluster;
mod delete_service;
mod delete_task_definitions;
mod deregister_container_instance;
mod deregister_task_definition;
mod describe_capacity_providers;
mod describe_clusters;
mod describe_container_instances;
mod describe_service_revisions;
mod describe_services;
mod describe_task_definition;
mod describe_tasks;
mod discover_poll_endpoint;
mod errors;
mod fleet;
mod gpus;
mod instance_ref;
mod lifecycle_hooks;
mod list_clusters;
mod list_container_instances;
mod list_services;
mod list_services_by_namespace;
mod list_task_definition_families;
mod list_task_definitions;
mod list_tasks;
mod names;
mod permissions;
mod pool;
mod put_cluster_capacity_providers;
mod register_container_instance;
mod register_task_definition;
mod render_instance;
mod render_service;
mod render_task;
mod render_task_definition;
#[allow(clippy::disallowed_types, reason = "a cache that is looked up by key")]
mod rendered_task_cache;
mod run_task;
mod service;
mod service_deployments;
mod service_spec;
#[cfg(test)]
mod service_tests;
mod services;
mod start_task;
mod stop_task;
mod submit_state_change;
mod sweep;
mod tag_resource;
mod tagged;
mod tags;
mod task_definition;
mod task_protection;
mod task_ref;
mod task_sets;
mod task_template;
#[cfg(test)]
mod task_tests;
#[cfg(test)]
mod testing;
mod told;
mod update_cluster;
mod update_container_agent;
mod update_container_instances_state;
mod update_service;
mod waiting;

use std::future::ready;
use std::sync::Arc;

use aws_wire::service::{Answer, Call, Protocol, Service};
use aws_wire::{ApiError, Caller};
use control::ports::{BoxFuture, EventSource, RegionService};
use control::reconcile::Driver;
use control::{Control, Documents};
use ecs_api as api;

pub use errors::Refusal;

use fleet::Fleets;
use rendered_task_cache::RenderedTaskCache;

/// The service with its state. Handlers take it by reference; it is shared as an `Arc`.
#[derive(Debug)]
pub struct Ecs {
    pub control: Arc<Control>,
    documents: Arc<Documents<api::TaskDefinition>>,
    rendered_tasks: RenderedTaskCache,
    /// Where tasks go, kept from decision to decision.
    fleets: Fleets,
    /// Asks servers whether deployments go on.
    hooks: hooks::Hooks,
}

impl Ecs {
    pub fn new(control: Arc<Control>, documents: Arc<Documents<api::TaskDefinition>>) -> Self {
        let (rendered_tasks, fleets) = (RenderedTaskCache::default(), Fleets::default());
        let hooks = hooks::Hooks::new(control.config.hooks.clone());
        Self { control, documents, rendered_tasks, fleets, hooks }
    }
}

impl RegionService for Ecs {
    fn service(&self) -> &'static Service {
        &api::SERVICE
    }

    fn dispatch<'a>(
        &'a self,
        caller: &'a Caller,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Answer, ApiError>> {
        let is_json = matches!(call.protocol, Protocol::AwsJson10 | Protocol::AwsJson11);
        if is_json && call.operation.name == "DescribeTasks" {
            return Box::pin(ready(describe_tasks::handle_json(self, caller, call)));
        }
        Box::pin(api::dispatch(self, caller, call))
    }

    fn prepare(&self) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(pool::settle_all(self))
    }

    fn event_source(&self) -> Option<&'static dyn EventSource> {
        Some(&told::EcsEvents)
    }

    fn register(self: Arc<Self>, driver: &mut Driver) {
        background::register_woken(&self, driver);
        driver.register(background::Sweep { ecs: self });
    }
}

/// What could not be described, and why.
pub(crate) fn failure(arn: impl Into<String>, reason: &str) -> api::Failure {
    api::Failure { arn: Some(arn.into()), reason: Some(reason.to_owned()), detail: None }
}
