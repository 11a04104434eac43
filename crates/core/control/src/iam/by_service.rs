//! What services of the region do in their own name, where a resource's policies are asked of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_types::AccountId;
use policy::{Caller, Policies, Policy, Request, evaluate};

use crate::Control;

/// What a service is about to do to a resource, and for whose sake.
#[derive(Clone, Copy, Debug)]
pub struct ByService<'a> {
    /// Such as `delivery.logs.amazonaws.com`.
    pub service: &'a str,
    pub action: &'static str,
    pub resource: &'a str,
    /// Whose the resource is, and its tags.
    pub owner: AccountId,
    pub tags: &'a BTreeMap<String, String>,
    /// What the service works for, as `aws:SourceArn` and `aws:SourceAccount` say it.
    pub source: (&'a str, AccountId),
}

impl Control {
    /// Whether a resource's policies let a service do so. It has no policies of its own: if these are silent, it may not.
    pub fn service_is_let(&self, policies: &[Arc<Policy>], asked: &ByService<'_>) -> bool {
        let Ok(action) = asked.action.parse() else { return false };
        let now = self.clock.now();
        let mut context = self.service_context(asked.service, asked.source, now);
        context.set("aws:ResourceAccount", asked.owner.to_string());
        for (key, value) in asked.tags {
            context.set(format!("aws:ResourceTag/{key}"), value.clone());
        }
        let policies = Policies { resource: policies, ..Policies::default() };
        let request = Request {
            caller: &Caller::Service(asked.service.into()),
            action: &action,
            resource: asked.resource,
            resource_account: Some(asked.owner),
            context: (&context).into(),
        };
        evaluate(&request, &policies).is_allowed()
    }
}
