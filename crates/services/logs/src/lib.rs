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
mod errors;
mod filter_log_events;
mod get_log_events;
mod keys;
mod list_log_groups;
mod permissions;
mod put_log_events;
mod put_log_group_deletion_protection;
mod resource_policies;
mod retention;
mod sweep;
mod tagged;
mod tags;
mod test_metric_filter;
mod writer;

use std::sync::Arc;

use ::logs::Logs;
use aws_wire::service::{Answer, Call, Service};
use aws_wire::{ApiError, Caller};
use control::Control;
use control::ports::{BoxFuture, RegionService};
use control::reconcile::Driver;
use logs_api as api;
use permissions::On;
pub use resource_policies::Writing;

/// The service with its store.
#[derive(Debug)]
pub struct CloudWatchLogs {
    control: Arc<Control>,
    logs: Arc<Logs>,
}

impl CloudWatchLogs {
    pub fn new(control: Arc<Control>, logs: Arc<Logs>) -> Self {
        logs.seal_with(Arc::new(keys::KeySealer(Arc::clone(&control))));
        Self { control, logs }
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
    async fn associate_kms_key(
        &self,
        caller: &Caller,
        input: api::AssociateKmsKeyRequest,
    ) -> Result<(), ApiError> {
        let group = input.log_group_name.as_ref().or(input.resource_identifier.as_ref());
        self.check(caller, "logs:AssociateKmsKey", On::Group(group))?;
        keys::associate_kms_key(&self.control, &self.logs, caller, input).await
    }

    async fn create_log_group(
        &self,
        caller: &Caller,
        input: api::CreateLogGroupRequest,
    ) -> Result<(), ApiError> {
        let on = On::Group(input.log_group_name.as_ref());
        let permission = self.permission(caller, "logs:CreateLogGroup", on);
        let (tags, group) = (input.tags.clone().unwrap_or_default(), on.resource(caller));
        let permission = permission.tagging_new(caller, "logs:TagResource", group, &tags);
        self.allow(caller, &permission)?;
        create_log_group::create_log_group(&self.control, &self.logs, caller, input).await
    }

    async fn create_log_stream(
        &self,
        caller: &Caller,
        input: api::CreateLogStreamRequest,
    ) -> Result<(), ApiError> {
        let on = On::Stream(input.log_group_name.as_ref(), input.log_stream_name.as_ref());
        self.check(caller, "logs:CreateLogStream", on)?;
        create_log_stream::create_log_stream(&self.logs, caller, input).await
    }

    async fn delete_log_group(
        &self,
        caller: &Caller,
        input: api::DeleteLogGroupRequest,
    ) -> Result<(), ApiError> {
        self.check(caller, "logs:DeleteLogGroup", On::Group(input.log_group_name.as_ref()))?;
        delete_log_group::delete_log_group(&self.logs, caller, input).await
    }

    async fn delete_log_stream(
        &self,
        caller: &Caller,
        input: api::DeleteLogStreamRequest,
    ) -> Result<(), ApiError> {
        let on = On::Stream(input.log_group_name.as_ref(), input.log_stream_name.as_ref());
        self.check(caller, "logs:DeleteLogStream", on)?;
        delete_log_stream::delete_log_stream(&self.logs, caller, input).await
    }

    async fn delete_retention_policy(
        &self,
        caller: &Caller,
        input: api::DeleteRetentionPolicyRequest,
    ) -> Result<(), ApiError> {
        self.check(caller, "logs:DeleteRetentionPolicy", On::Group(input.log_group_name.as_ref()))?;
        retention::delete_retention_policy(&self.logs, caller, input).await
    }

    async fn delete_resource_policy(
        &self,
        caller: &Caller,
        input: api::DeleteResourcePolicyRequest,
    ) -> Result<(), ApiError> {
        resource_policies::delete_resource_policy(self, caller, input).await
    }

    async fn describe_log_groups(
        &self,
        caller: &Caller,
        input: api::DescribeLogGroupsRequest,
    ) -> Result<api::DescribeLogGroupsResponse, ApiError> {
        self.check(caller, "logs:DescribeLogGroups", On::Account)?;
        describe_log_groups::describe_log_groups(&self.logs, caller, &input)
    }

    async fn describe_log_streams(
        &self,
        caller: &Caller,
        input: api::DescribeLogStreamsRequest,
    ) -> Result<api::DescribeLogStreamsResponse, ApiError> {
        let group = input.log_group_name.as_ref().or(input.log_group_identifier.as_ref());
        self.check(caller, "logs:DescribeLogStreams", On::Group(group))?;
        describe_log_streams::describe_log_streams(&self.logs, caller, input)
    }

    async fn describe_resource_policies(
        &self,
        caller: &Caller,
        input: api::DescribeResourcePoliciesRequest,
    ) -> Result<api::DescribeResourcePoliciesResponse, ApiError> {
        resource_policies::describe_resource_policies(self, caller, &input)
    }

    async fn disassociate_kms_key(
        &self,
        caller: &Caller,
        input: api::DisassociateKmsKeyRequest,
    ) -> Result<(), ApiError> {
        let group = input.log_group_name.as_ref().or(input.resource_identifier.as_ref());
        self.check(caller, "logs:DisassociateKmsKey", On::Group(group))?;
        keys::disassociate_kms_key(&self.logs, caller, input).await
    }

    async fn filter_log_events(
        &self,
        caller: &Caller,
        input: api::FilterLogEventsRequest,
    ) -> Result<api::FilterLogEventsResponse, ApiError> {
        let group = input.log_group_name.as_ref().or(input.log_group_identifier.as_ref());
        self.check(caller, "logs:FilterLogEvents", On::Group(group))?;
        filter_log_events::filter_log_events(&self.logs, caller, input).await
    }

    async fn get_log_events(
        &self,
        caller: &Caller,
        input: api::GetLogEventsRequest,
    ) -> Result<api::GetLogEventsResponse, ApiError> {
        let group = input.log_group_name.as_ref().or(input.log_group_identifier.as_ref());
        self.check(caller, "logs:GetLogEvents", On::Stream(group, input.log_stream_name.as_ref()))?;
        get_log_events::get_log_events(&self.logs, caller, input).await
    }

    async fn list_log_groups(
        &self,
        caller: &Caller,
        input: api::ListLogGroupsRequest,
    ) -> Result<api::ListLogGroupsResponse, ApiError> {
        self.check(caller, "logs:ListLogGroups", On::Account)?;
        list_log_groups::list_log_groups(&self.logs, caller, &input)
    }

    async fn list_tags_for_resource(
        &self,
        caller: &Caller,
        input: api::ListTagsForResourceRequest,
    ) -> Result<api::ListTagsForResourceResponse, ApiError> {
        self.check(caller, "logs:ListTagsForResource", On::Resource(input.resource_arn.as_ref()))?;
        tags::list_tags_for_resource(&self.logs, caller, &input)
    }

    async fn list_tags_log_group(
        &self,
        caller: &Caller,
        input: api::ListTagsLogGroupRequest,
    ) -> Result<api::ListTagsLogGroupResponse, ApiError> {
        self.check(caller, "logs:ListTagsLogGroup", On::Group(input.log_group_name.as_ref()))?;
        tags::list_tags_log_group(&self.logs, caller, &input)
    }

    async fn put_log_events(
        &self,
        caller: &Caller,
        input: api::PutLogEventsRequest,
    ) -> Result<api::PutLogEventsResponse, ApiError> {
        let on = On::Stream(input.log_group_name.as_ref(), input.log_stream_name.as_ref());
        self.check(caller, "logs:PutLogEvents", on)?;
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
            On::Group(input.log_group_identifier.as_ref()),
        )?;
        put_log_group_deletion_protection::put_log_group_deletion_protection(
            &self.logs, caller, &input,
        )
        .await
    }

    async fn put_resource_policy(
        &self,
        caller: &Caller,
        input: api::PutResourcePolicyRequest,
    ) -> Result<api::PutResourcePolicyResponse, ApiError> {
        resource_policies::put_resource_policy(self, caller, input).await
    }

    async fn put_retention_policy(
        &self,
        caller: &Caller,
        input: api::PutRetentionPolicyRequest,
    ) -> Result<(), ApiError> {
        self.check(caller, "logs:PutRetentionPolicy", On::Group(input.log_group_name.as_ref()))?;
        retention::put_retention_policy(&self.logs, caller, input).await
    }

    async fn tag_log_group(
        &self,
        caller: &Caller,
        input: api::TagLogGroupRequest,
    ) -> Result<(), ApiError> {
        let on = On::Group(input.log_group_name.as_ref());
        self.check_tagging(caller, "logs:TagLogGroup", on, input.tags.as_ref())?;
        tags::tag_log_group(&self.logs, caller, input).await
    }

    async fn tag_resource(
        &self,
        caller: &Caller,
        input: api::TagResourceRequest,
    ) -> Result<(), ApiError> {
        let on = On::Resource(input.resource_arn.as_ref());
        self.check_tagging(caller, "logs:TagResource", on, input.tags.as_ref())?;
        tags::tag_resource(&self.logs, caller, input).await
    }

    async fn test_metric_filter(
        &self,
        caller: &Caller,
        input: api::TestMetricFilterRequest,
    ) -> Result<api::TestMetricFilterResponse, ApiError> {
        self.check(caller, "logs:TestMetricFilter", On::Account)?;
        test_metric_filter::test_metric_filter(input)
    }

    async fn untag_log_group(
        &self,
        caller: &Caller,
        input: api::UntagLogGroupRequest,
    ) -> Result<(), ApiError> {
        let on = On::Group(input.log_group_name.as_ref());
        self.check_untagging(caller, "logs:UntagLogGroup", on, input.tags.as_ref())?;
        tags::untag_log_group(&self.logs, caller, input).await
    }

    async fn untag_resource(
        &self,
        caller: &Caller,
        input: api::UntagResourceRequest,
    ) -> Result<(), ApiError> {
        let on = On::Resource(input.resource_arn.as_ref());
        self.check_untagging(caller, "logs:UntagResource", on, input.tag_keys.as_ref())?;
        tags::untag_resource(&self.logs, caller, input).await
    }
}
