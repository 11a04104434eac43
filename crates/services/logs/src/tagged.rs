//! Log groups as the Resource Groups Tagging API sees them.

use aws_wire::{ApiError, Caller};
use control::ports::{BoxFuture, Tagged};
use logs_api::{Logs, TagResourceRequest, UntagResourceRequest};
use model::Tags;

use crate::CloudWatchLogs;
use crate::common::group_arn;

impl Tagged for CloudWatchLogs {
    fn arn_service(&self) -> &'static str {
        "logs"
    }

    fn tagged(
        &self,
        caller: &Caller,
        is_asked: &dyn Fn(&str) -> bool,
        add: &mut dyn FnMut(String, &Tags),
    ) {
        if !is_asked("log-group") {
            return;
        }
        for group in self.logs.groups(caller.account, None, usize::MAX, |_, _| true) {
            let tags = &group.settings.tags;
            if !tags.is_empty() {
                add(group_arn(caller, &group.name), tags);
            }
        }
    }

    fn tag<'a>(
        &'a self,
        caller: &'a Caller,
        arn: &'a str,
        tags: &'a Tags,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        let (resource_arn, tags) = (Some(arn.to_owned()), Some(tags.clone()));
        let input = TagResourceRequest { resource_arn, tags };
        Box::pin(Logs::tag_resource(self, caller, input))
    }

    fn untag<'a>(
        &'a self,
        caller: &'a Caller,
        arn: &'a str,
        keys: &'a [String],
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        let (resource_arn, tag_keys) = (Some(arn.to_owned()), Some(keys.to_vec()));
        let input = UntagResourceRequest { resource_arn, tag_keys };
        Box::pin(Logs::untag_resource(self, caller, input))
    }
}
