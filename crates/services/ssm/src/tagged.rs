//! Tags of parameters and managed instances for the Resource Groups Tagging API.

use aws_wire::{ApiError, Caller};
use control::iam::managed_instances;
use control::parameters::SERVICE;
use control::ports::{BoxFuture, Tagged};
use model::Tags;
use ssm_api::ResourceTypeForTagging;

use crate::{Ssm, tags};

const PARAMETER: Option<&ResourceTypeForTagging> = Some(&ResourceTypeForTagging::Parameter);

const INSTANCE: Option<&ResourceTypeForTagging> = Some(&ResourceTypeForTagging::ManagedInstance);

impl Ssm {
    /// What an ARN names, as this service's own operations are told it: an instance of the caller's, or nothing but a
    /// parameter.
    fn meant<'a>(
        &self,
        caller: &Caller,
        arn: &'a str,
    ) -> (&'a str, Option<&'static ResourceTypeForTagging>) {
        let own = managed_instances::arn(&self.control.config.region, caller.account, "");
        match arn.strip_prefix(own.as_str()) {
            Some(id) => (id, INSTANCE),
            None => (arn, PARAMETER),
        }
    }
}

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
        let view = self.control.view();
        if is_asked("managed-instance") {
            for (_, managed) in managed_instances::of(&view, caller.account) {
                if !managed.tags.is_empty() {
                    let region = &self.control.config.region;
                    add(
                        managed_instances::arn(region, managed.account, &managed.id),
                        &managed.tags,
                    );
                }
            }
        }
        if !is_asked("parameter") {
            return;
        }
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
        let (id, kind) = self.meant(caller, arn);
        Box::pin(tags::add(self, caller, id, kind, more))
    }

    fn untag<'a>(
        &'a self,
        caller: &'a Caller,
        arn: &'a str,
        keys: &'a [String],
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        let (id, kind) = self.meant(caller, arn);
        Box::pin(tags::remove(self, caller, id, kind, keys))
    }
}
