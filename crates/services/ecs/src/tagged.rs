//! ECS's resources as the Resource Groups Tagging API sees them.

use aws_wire::{ApiError, Caller};
use control::ports::{BoxFuture, Tagged};
use ecs_api as api;
use model::Tags;
use model::instance::InstanceStatus;
use model::service::ServiceStatus;
use model::task::Phase;

use crate::{Ecs, tag_resource, tags};

impl Tagged for Ecs {
    fn arn_service(&self) -> &'static str {
        "ecs"
    }

    fn tagged(
        &self,
        caller: &Caller,
        is_asked: &dyn Fn(&str) -> bool,
        add: &mut dyn FnMut(String, &Tags),
    ) {
        let (view, account) = (self.control.view(), caller.account);
        let region = &self.control.config.region;
        if is_asked("cluster") {
            for row in view.clusters.of(account).filter(|row| !row.tags.is_empty()) {
                if view.active_cluster(account, &row.name).is_some() {
                    add(row.arn(region).to_string(), &row.tags);
                }
            }
        }
        if is_asked("task-definition") {
            for row in view.task_definitions.of(account).filter(|row| !row.tags.is_empty()) {
                add(row.arn(region).to_string(), &row.tags);
            }
        }
        if is_asked("container-instance") {
            let rows = view.instances.of(account).filter(|row| !row.tags.is_empty());
            for row in rows.filter(|row| row.status != InstanceStatus::Inactive) {
                add(row.arn().to_string(), &row.tags);
            }
        }
        if is_asked("task") {
            let rows = view.tasks.of(account).filter(|row| !row.tags.is_empty());
            for row in rows.filter(|row| row.phase != Phase::Stopped) {
                add(row.arn().to_string(), &row.tags);
            }
        }
        if is_asked("service") {
            let rows = view.services.of(account).filter(|row| !row.tags.is_empty());
            for row in rows.filter(|row| row.status < ServiceStatus::Inactive) {
                add(row.arn().to_string(), &row.tags);
            }
        }
        if is_asked("task-set") {
            for row in view.task_sets.of(account).filter(|row| !row.tags.is_empty()) {
                add(row.arn().to_string(), &row.tags);
            }
        }
        if is_asked("capacity-provider") {
            let rows = view.capacity_providers.of(account).filter(|row| !row.tags.is_empty());
            for row in rows.filter(|row| row.is_active()) {
                add(row.arn().to_string(), &row.tags);
            }
        }
    }

    fn tag<'a>(
        &'a self,
        caller: &'a Caller,
        arn: &'a str,
        tags: &'a Tags,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        let (resource_arn, tags) = (Some(arn.to_owned()), Some(tags::render(tags)));
        let input = api::TagResourceRequest { resource_arn, tags };
        Box::pin(async { tag_resource::handle_tag(self, caller, input).await.map(drop) })
    }

    fn untag<'a>(
        &'a self,
        caller: &'a Caller,
        arn: &'a str,
        keys: &'a [String],
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        let (resource_arn, tag_keys) = (Some(arn.to_owned()), Some(keys.to_vec()));
        let input = api::UntagResourceRequest { resource_arn, tag_keys };
        Box::pin(async { tag_resource::handle_untag(self, caller, input).await.map(drop) })
    }
}
