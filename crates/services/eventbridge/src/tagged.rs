//! Tags for the Resource Groups Tagging API.

use aws_wire::{ApiError, Caller};
use control::ports::{BoxFuture, Tagged};
use model::Tags;

use crate::{EventBridge, tags};

impl Tagged for EventBridge {
    fn arn_service(&self) -> &'static str {
        "events"
    }

    fn tagged(
        &self,
        caller: &Caller,
        is_asked: &dyn Fn(&str) -> bool,
        add: &mut dyn FnMut(String, &Tags),
    ) {
        if is_asked("rule") {
            let view = self.control.view();
            let rows = view.event_rules.of(caller.account);
            rows.filter(|row| !row.tags.is_empty()).for_each(|row| add(row.arn(), &row.tags));
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
