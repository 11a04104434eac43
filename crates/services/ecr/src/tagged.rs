//! Repositories as the Resource Groups Tagging API sees them.

use aws_wire::{ApiError, Caller};
use control::ports::{BoxFuture, Tagged};
use ecr_api::{Tag, TagResourceRequest, UntagResourceRequest};
use model::Tags;

use crate::{Ecr, tag_resource};

impl Tagged for Ecr {
    fn arn_service(&self) -> &'static str {
        "ecr"
    }

    fn tagged(
        &self,
        caller: &Caller,
        is_asked: &dyn Fn(&str) -> bool,
        add: &mut dyn FnMut(String, &Tags),
    ) {
        if !is_asked("repository") {
            return;
        }
        let view = self.control.view();
        for row in view.ecr_repositories.of(caller.account).filter(|row| !row.tags.is_empty()) {
            add(self.repository_arn(row), &row.tags);
        }
    }

    fn tag<'a>(
        &'a self,
        caller: &'a Caller,
        arn: &'a str,
        tags: &'a Tags,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        let tag = |(key, value): (&String, &String)| Tag {
            key: Some(key.clone()),
            value: Some(value.clone()),
        };
        let (resource_arn, tags) = (Some(arn.to_owned()), Some(tags.iter().map(tag).collect()));
        let input = TagResourceRequest { resource_arn, tags };
        Box::pin(async { tag_resource::tag_resource(self, caller, input).await.map(drop) })
    }

    fn untag<'a>(
        &'a self,
        caller: &'a Caller,
        arn: &'a str,
        keys: &'a [String],
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        let (resource_arn, tag_keys) = (Some(arn.to_owned()), Some(keys.to_vec()));
        let input = UntagResourceRequest { resource_arn, tag_keys };
        Box::pin(async { tag_resource::untag_resource(self, caller, input).await.map(drop) })
    }
}
