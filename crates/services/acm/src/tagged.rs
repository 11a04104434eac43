//! Certificates' tags for the Resource Groups Tagging API.

use aws_wire::{ApiError, Caller};
use control::ports::{BoxFuture, Tagged};
use model::Tags;

use crate::{Acm, tags};

impl Tagged for Acm {
    fn arn_service(&self) -> &'static str {
        "acm"
    }

    fn tagged(
        &self,
        caller: &Caller,
        is_asked: &dyn Fn(&str) -> bool,
        add: &mut dyn FnMut(String, &Tags),
    ) {
        if !is_asked("certificate") {
            return;
        }
        let view = self.control.view();
        for row in view.acm_certificates.of(caller.account).filter(|row| !row.tags.is_empty()) {
            add(row.arn(), &row.tags);
        }
    }

    fn tag<'a>(
        &'a self,
        caller: &'a Caller,
        arn: &'a str,
        more: &'a Tags,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(tags::add(self, caller, "acm:AddTagsToCertificate", arn, more))
    }

    fn untag<'a>(
        &'a self,
        caller: &'a Caller,
        arn: &'a str,
        keys: &'a [String],
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(tags::remove(self, caller, "acm:RemoveTagsFromCertificate", arn, keys))
    }
}
