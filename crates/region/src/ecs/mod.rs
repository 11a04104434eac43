//! Amazon ECS: each operation in the file of its name.

pub mod account_settings;
mod attributes;
pub mod capacity;
mod cluster;
mod create_cluster;
mod delete_cluster;
mod describe_capacity_providers;
mod describe_clusters;
mod list_clusters;
mod put_cluster_capacity_providers;
mod tag_resource;
mod update_cluster;

use aws_api::ecs;

/// What could not be described, and why.
pub(crate) fn failure(arn: impl Into<String>, reason: &str) -> ecs::Failure {
    ecs::Failure { arn: Some(arn.into()), reason: Some(reason.to_owned()), detail: None }
}
