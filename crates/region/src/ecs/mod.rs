//! Amazon ECS: each operation in the file of its name.

pub mod account_settings;
pub(crate) mod attributes;
pub mod capacity;
pub(crate) mod capacity_provider;
mod client_token;
mod cluster;
mod create_cluster;
pub(crate) mod create_service;
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
pub(crate) mod describe_tasks;
mod discover_poll_endpoint;
mod instance_ref;
pub(crate) mod launch;
mod list_clusters;
mod list_container_instances;
mod list_services;
mod list_task_definition_families;
mod list_task_definitions;
mod list_tasks;
pub(crate) mod pool;
pub(crate) mod put_cluster_capacity_providers;
pub(crate) mod register_container_instance;
mod register_task_definition;
pub(crate) mod run_task;
mod service;
mod service_deployments;
pub(crate) mod service_spec;
#[cfg(test)]
mod service_tests;
mod show_instance;
pub(crate) mod show_service;
mod show_task;
pub(crate) mod show_task_definition;
pub(crate) mod shown_tasks;
mod start_task;
mod stop_task;
mod submit_state_change;
mod tag_resource;
mod task_definition;
mod task_protection;
mod task_ref;
mod task_sets;
#[cfg(test)]
pub(crate) mod task_tests;
mod update_cluster;
mod update_container_instances_state;
mod update_service;

use ecs_api as api;

/// What could not be described, and why.
pub(crate) fn failure(arn: impl Into<String>, reason: &str) -> api::Failure {
    api::Failure { arn: Some(arn.into()), reason: Some(reason.to_owned()), detail: None }
}
