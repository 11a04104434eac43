//! Secrets' tags for the Resource Groups Tagging API.

use aws_wire::{ApiError, Caller};
use control::ports::{BoxFuture, Tagged};
use control::secrets::SERVICE;
use model::Tags;

use crate::{SecretsManager, tags};

impl Tagged for SecretsManager {
    fn arn_service(&self) -> &'static str {
        SERVICE
    }

    fn tagged(
        &self,
        caller: &Caller,
        is_asked: &dyn Fn(&str) -> bool,
        add: &mut dyn FnMut(String, &Tags),
    ) {
        if !is_asked("secret") {
            return;
        }
        let view = self.control.view();
        for row in view.secrets.of(caller.account).filter(|row| !row.tags.is_empty()) {
            add(self.control.secret_arn(row), &row.tags);
        }
    }

    fn tag<'a>(
        &'a self,
        caller: &'a Caller,
        arn: &'a str,
        more: &'a Tags,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(tags::tag(self, caller, arn, more))
    }

    fn untag<'a>(
        &'a self,
        caller: &'a Caller,
        arn: &'a str,
        keys: &'a [String],
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(tags::untag(self, caller, arn, keys))
    }
}
