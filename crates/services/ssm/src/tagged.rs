//! Parameters' tags for the Resource Groups Tagging API.

use aws_wire::{ApiError, Caller};
use control::parameters::SERVICE;
use control::ports::{BoxFuture, Tagged};
use model::Tags;
use ssm_api::ResourceTypeForTagging;

use crate::{Ssm, tags};

const PARAMETER: Option<&ResourceTypeForTagging> = Some(&ResourceTypeForTagging::Parameter);

impl Tagged for Ssm {
    fn arn_service(&self) -> &'static str {
        SERVICE
    }

    fn tagged(
        &self,
        caller: &Caller,
        is_asked: &dyn Fn(&str) -> bool,
        add: &mut dyn FnMut(String, &Tags),
    ) {
        if !is_asked("parameter") {
            return;
        }
        let view = self.control.view();
        for row in view.parameters.of(caller.account).filter(|row| !row.tags.is_empty()) {
            add(self.control.parameter_arn(row.account, &row.name), &row.tags);
        }
    }

    fn tag<'a>(
        &'a self,
        caller: &'a Caller,
        arn: &'a str,
        more: &'a Tags,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(tags::add(self, caller, arn, PARAMETER, more))
    }

    fn untag<'a>(
        &'a self,
        caller: &'a Caller,
        arn: &'a str,
        keys: &'a [String],
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(tags::remove(self, caller, arn, PARAMETER, keys))
    }
}
