//! Tags for the Resource Groups Tagging API.

use aws_wire::{ApiError, Caller};
use control::ports::{BoxFuture, Tagged};
use ec2_api as api;
use longshore_types::Arn;
use model::Tags;

use crate::errors::Refusal;
use crate::resources::Resource;
use crate::{Ec2, tags};

impl Tagged for Ec2 {
    fn arn_service(&self) -> &'static str {
        "ec2"
    }

    fn tagged(
        &self,
        caller: &Caller,
        is_asked: &dyn Fn(&str) -> bool,
        add: &mut dyn FnMut(String, &Tags),
    ) {
        let view = self.control.view();
        for row in view.ec2_tags.of(caller.account) {
            let Ok(kind) = Resource::of(&row.resource) else { continue };
            // What has ended is shown by its own operations for a while yet.
            let is_there = || kind.check_is_there(self, &view, caller, &row.resource).is_ok();
            if is_asked(kind.word()) && is_there() {
                add(kind.arn(caller, &row.resource), &row.tags);
            }
        }
    }

    fn tag<'a>(
        &'a self,
        caller: &'a Caller,
        arn: &'a str,
        more: &'a Tags,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(async move {
            let resources = Some(vec![id_of(caller, arn)?]);
            let tags = Some(tags::to_wire(Some(more)));
            let input = api::CreateTagsRequest { resources, tags, dry_run: None };
            tags::create_tags(self, caller, input).await
        })
    }

    fn untag<'a>(
        &'a self,
        caller: &'a Caller,
        arn: &'a str,
        keys: &'a [String],
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(async move {
            let resources = Some(vec![id_of(caller, arn)?]);
            // None named would be all.
            if keys.is_empty() {
                return Ok(());
            }
            let named = |key: &String| api::Tag { key: Some(key.clone()), value: None };
            let tags = Some(keys.iter().map(named).collect());
            let input = api::DeleteTagsRequest { resources, tags, dry_run: None };
            tags::delete_tags(self, caller, input).await
        })
    }
}

/// The id in an ARN of the caller's account and region.
fn id_of(caller: &Caller, arn: &str) -> Result<String, Refusal> {
    let unknown = || Refusal::UnknownResource(arn.to_owned());
    let parsed = Arn::parse(arn).map_err(|_| unknown())?;
    let (_, id) = parsed.resource.split_once('/').ok_or_else(unknown)?;
    match Resource::of(id)?.arn(caller, id) == arn {
        true => Ok(id.to_owned()),
        false => Err(unknown()),
    }
}
