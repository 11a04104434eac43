//! Keys' tags for the Resource Groups Tagging API.

use aws_wire::{ApiError, Caller};
use control::ports::{BoxFuture, Tagged};
use model::Tags;

use crate::{Kms, tags};

impl Tagged for Kms {
    fn arn_service(&self) -> &'static str {
        "kms"
    }

    fn tagged(
        &self,
        caller: &Caller,
        is_asked: &dyn Fn(&str) -> bool,
        add: &mut dyn FnMut(String, &Tags),
    ) {
        if !is_asked("key") {
            return;
        }
        let view = self.control.view();
        for row in view.kms_keys.of(caller.account).filter(|row| !row.tags.is_empty()) {
            add(self.control.key_arn(row), &row.tags);
        }
    }

    fn tag<'a>(
        &'a self,
        caller: &'a Caller,
        arn: &'a str,
        more: &'a Tags,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(tags::add(self, caller, arn, more))
    }

    fn untag<'a>(
        &'a self,
        caller: &'a Caller,
        arn: &'a str,
        keys: &'a [String],
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(tags::remove(self, caller, arn, keys))
    }
}
