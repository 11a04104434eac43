//! CloudWatch Logs: one file an operation, or a few that belong together.
//!
//! The store decides what exists and what is refused; this module turns shapes into its types and
//! its refusals into Amazon's codes and sentences. No handler holds state.

mod common;
mod create_log_group;
mod create_log_stream;
mod delete_log_group;
mod delete_log_stream;
mod describe_log_groups;
mod describe_log_streams;
mod filter_log_events;
mod get_log_events;
mod list_log_groups;
mod put_log_events;
mod put_log_group_deletion_protection;
mod retention;
mod sweep;
mod tagged;
mod tags;
mod test_metric_filter;

use std::sync::Arc;

use ::logs::Logs;
use aws_wire::service::{Answer, Call, Service};
use aws_wire::{ApiError, Caller};
use control::ports::{BoxFuture, RegionService};
use control::reconcile::Driver;
use control::{Control, Permission};
use logs_api as api;

/// The service with its store.
#[derive(Debug)]
pub struct CloudWatchLogs {
    control: Arc<Control>,
    logs: Arc<Logs>,
}

impl CloudWatchLogs {
    pub fn new(control: Arc<Control>, logs: Arc<Logs>) -> Self {
        Self { control, logs }
    }

    /// Whether the caller may do the action, on a group if it is on one. Groups are not rows: what is allowed
    /// is asked before the store is.
    fn check(
        &self,
        caller: &Caller,
        action: &'static str,
        group: Option<&String>,
    ) -> Result<(), ApiError> {
        let arn = match group {
            Some(arn) if arn.starts_with("arn:") => arn.clone(),
            Some(name) => {
                format!("arn:aws:logs:{}:{}:log-group:{name}", caller.region, caller.account)
            }
            None => "*".to_owned(),
        };
        self.control.read(caller, &Permission::to(action).on(arn)).map(drop)
    }
}

impl RegionService for CloudWatchLogs {
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
        driver.register(sweep::LogSweep { logs: self });
    }
}

impl api::Logs for CloudWatchLogs {
    async fn create_log_group(
        &self,
        caller: &Caller,
        input: api::CreateLogGroupRequest,
    ) -> Result<(), ApiError> {
        self.check(caller, "logs:CreateLogGroup", input.log_group_name.as_ref())?;
        create_log_group::create_log_group(&self.logs, caller, input).await
    }

    async fn create_log_stream(
        &self,
        caller: &Caller,
        input: api::CreateLogStreamRequest,
    ) -> Result<(), ApiError> {
        self.check(caller, "logs:CreateLogStream", input.log_group_name.as_ref())?;
        create_log_stream::create_log_stream(&self.logs, caller, input).await
    }

    async fn delete_log_group(
        &self,
        caller: &Caller,
        input: api::DeleteLogGroupRequest,
    ) -> Result<(), ApiError> {
        self.check(caller, "logs:DeleteLogGroup", input.log_group_name.as_ref())?;
        delete_log_group::delete_log_group(&self.logs, caller, input).await
    }

    async fn delete_log_stream(
        &self,
        caller: &Caller,
        input: api::DeleteLogStreamRequest,
    ) -> Result<(), ApiError> {
        self.check(caller, "logs:DeleteLogStream", input.log_group_name.as_ref())?;
        delete_log_stream::delete_log_stream(&self.logs, caller, input).await
    }

    async fn delete_retention_policy(
        &self,
        caller: &Caller,
        input: api::DeleteRetentionPolicyRequest,
    ) -> Result<(), ApiError> {
        self.check(caller, "logs:DeleteRetentionPolicy", input.log_group_name.as_ref())?;
        retention::delete_retention_policy(&self.logs, caller, input).await
    }

    async fn describe_log_groups(
        &self,
        caller: &Caller,
        input: api::DescribeLogGroupsRequest,
    ) -> Result<api::DescribeLogGroupsResponse, ApiError> {
        self.check(caller, "logs:DescribeLogGroups", None)?;
        describe_log_groups::describe_log_groups(&self.logs, caller, &input)
    }

    async fn describe_log_streams(
        &self,
        caller: &Caller,
        input: api::DescribeLogStreamsRequest,
    ) -> Result<api::DescribeLogStreamsResponse, ApiError> {
        self.check(
            caller,
            "logs:DescribeLogStreams",
            input.log_group_name.as_ref().or(input.log_group_identifier.as_ref()),
        )?;
        describe_log_streams::describe_log_streams(&self.logs, caller, input)
    }

    async fn filter_log_events(
        &self,
        caller: &Caller,
        input: api::FilterLogEventsRequest,
    ) -> Result<api::FilterLogEventsResponse, ApiError> {
        self.check(
            caller,
            "logs:FilterLogEvents",
            input.log_group_name.as_ref().or(input.log_group_identifier.as_ref()),
        )?;
        filter_log_events::filter_log_events(&self.logs, caller, input).await
    }

    async fn get_log_events(
        &self,
        caller: &Caller,
        input: api::GetLogEventsRequest,
    ) -> Result<api::GetLogEventsResponse, ApiError> {
        self.check(
            caller,
            "logs:GetLogEvents",
            input.log_group_name.as_ref().or(input.log_group_identifier.as_ref()),
        )?;
        get_log_events::get_log_events(&self.logs, caller, input).await
    }

    async fn list_log_groups(
        &self,
        caller: &Caller,
        input: api::ListLogGroupsRequest,
    ) -> Result<api::ListLogGroupsResponse, ApiError> {
        self.check(caller, "logs:ListLogGroups", None)?;
        list_log_groups::list_log_groups(&self.logs, caller, &input)
    }

    async fn list_tags_for_resource(
        &self,
        caller: &Caller,
        input: api::ListTagsForResourceRequest,
    ) -> Result<api::ListTagsForResourceResponse, ApiError> {
        self.check(caller, "logs:ListTagsForResource", input.resource_arn.as_ref())?;
        tags::list_tags_for_resource(&self.logs, caller, &input)
    }

    async fn list_tags_log_group(
        &self,
        caller: &Caller,
        input: api::ListTagsLogGroupRequest,
    ) -> Result<api::ListTagsLogGroupResponse, ApiError> {
        self.check(caller, "logs:ListTagsLogGroup", input.log_group_name.as_ref())?;
        tags::list_tags_log_group(&self.logs, caller, &input)
    }

    async fn put_log_events(
        &self,
        caller: &Caller,
        input: api::PutLogEventsRequest,
    ) -> Result<api::PutLogEventsResponse, ApiError> {
        self.check(caller, "logs:PutLogEvents", input.log_group_name.as_ref())?;
        put_log_events::put_log_events(&self.logs, caller, input).await
    }

    async fn put_log_group_deletion_protection(
        &self,
        caller: &Caller,
        input: api::PutLogGroupDeletionProtectionRequest,
    ) -> Result<(), ApiError> {
        self.check(
            caller,
            "logs:PutLogGroupDeletionProtection",
            input.log_group_identifier.as_ref(),
        )?;
        put_log_group_deletion_protection::put_log_group_deletion_protection(
            &self.logs, caller, &input,
        )
        .await
    }

    async fn put_retention_policy(
        &self,
        caller: &Caller,
        input: api::PutRetentionPolicyRequest,
    ) -> Result<(), ApiError> {
        self.check(caller, "logs:PutRetentionPolicy", input.log_group_name.as_ref())?;
        retention::put_retention_policy(&self.logs, caller, input).await
    }

    async fn tag_log_group(
        &self,
        caller: &Caller,
        input: api::TagLogGroupRequest,
    ) -> Result<(), ApiError> {
        self.check(caller, "logs:TagLogGroup", input.log_group_name.as_ref())?;
        tags::tag_log_group(&self.logs, caller, input).await
    }

    async fn tag_resource(
        &self,
        caller: &Caller,
        input: api::TagResourceRequest,
    ) -> Result<(), ApiError> {
        self.check(caller, "logs:TagResource", input.resource_arn.as_ref())?;
        tags::tag_resource(&self.logs, caller, input).await
    }

    async fn test_metric_filter(
        &self,
        caller: &Caller,
        input: api::TestMetricFilterRequest,
    ) -> Result<api::TestMetricFilterResponse, ApiError> {
        self.check(caller, "logs:TestMetricFilter", None)?;
        test_metric_filter::test_metric_filter(input)
    }

    async fn untag_log_group(
        &self,
        caller: &Caller,
        input: api::UntagLogGroupRequest,
    ) -> Result<(), ApiError> {
        self.check(caller, "logs:UntagLogGroup", input.log_group_name.as_ref())?;
        tags::untag_log_group(&self.logs, caller, input).await
    }

    async fn untag_resource(
        &self,
        caller: &Caller,
        input: api::UntagResourceRequest,
    ) -> Result<(), ApiError> {
        self.check(caller, "logs:UntagResource", input.resource_arn.as_ref())?;
        tags::untag_resource(&self.logs, caller, input).await
    }
}
