//! Tags for the Resource Groups Tagging API.

use aws_wire::{ApiError, Caller};
use control::ports::{BoxFuture, Tagged};
use model::Tags;

use crate::{Elb, tags};

impl Tagged for Elb {
    fn arn_service(&self) -> &'static str {
        "elasticloadbalancing"
    }

    fn tagged(
        &self,
        caller: &Caller,
        is_asked: &dyn Fn(&str) -> bool,
        add: &mut dyn FnMut(String, &Tags),
    ) {
        let (view, account) = (self.control.view(), caller.account);
        macro_rules! each {
            ($kind:literal, $table:ident) => {
                if is_asked($kind) {
                    for row in view.$table.of(account).filter(|row| !row.tags.is_empty()) {
                        add(row.arn(), &row.tags);
                    }
                }
            };
        }
        each!("loadbalancer", elb_balancers);
        each!("targetgroup", elb_groups);
        each!("listener", elb_listeners);
        each!("listener-rule", elb_rules);
    }

    fn tag<'a>(
        &'a self,
        caller: &'a Caller,
        arn: &'a str,
        more: &'a Tags,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(async move { tags::add(self, caller, &[arn.to_owned()], more).await })
    }

    fn untag<'a>(
        &'a self,
        caller: &'a Caller,
        arn: &'a str,
        keys: &'a [String],
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(async move { tags::remove(self, caller, &[arn.to_owned()], keys).await })
    }
}
