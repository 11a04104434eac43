//! Whether a caller may do what it asks for: a question that is part of the decision.
//!
//! A handler names action, resources and context as a [`Permission`], and gets the view to answer from
//! ([`Control::read`]) or has its decision made ([`Control::change`]) only with it. Both ask [`authorize`] on
//! the very view that is decided on, so that what is allowed and what is done are of one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_wire::{ApiError, Caller, Principal};
use longshore_types::Timestamp;
use model::View;
use store::Batch;

use crate::Control;
use crate::access::{may, principal_arn};
use crate::errors::not_authorized;

/// What a policy may ask about besides action and resources, by condition key such as `ecs:cluster`.
pub type Context = BTreeMap<&'static str, String>;

/// What a caller asks to do, and to what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// As in IAM: `ecs:RunTask`.
    pub action: &'static str,
    /// ARNs, or `*` for actions that are on no resource.
    pub resources: Vec<String>,
    pub context: Context,
}

impl Permission {
    /// For an action, on everything until [`Permission::on`] says otherwise.
    pub fn to(action: &'static str) -> Self {
        Self { action, resources: vec![], context: Context::new() }
    }

    #[must_use]
    pub fn on(mut self, arn: impl Into<String>) -> Self {
        self.resources.push(arn.into());
        self
    }

    #[must_use]
    pub fn on_each(mut self, arns: impl IntoIterator<Item = String>) -> Self {
        self.resources.extend(arns);
        self
    }

    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.context.insert(key, value.into());
        self
    }
}

/// Whether `caller` may do `action` to `resources` in `context`, by what `view` says.
///
/// There are no policies yet: it is the kind of a caller that decides, and neither resources nor context
/// change that.
pub fn authorize(
    _view: &View,
    caller: &Caller,
    action: &str,
    _resources: &[String],
    _context: &Context,
) -> Result<(), ApiError> {
    match may(&caller.principal, action) {
        true => Ok(()),
        false => Err(not_authorized(&principal_arn(caller), action)),
    }
}

/// Whether nothing that is asked of the caller's permissions could be refused: an account's root user is
/// subject to no policy. Long lists of resources need not be spelled out for it.
pub fn is_root(caller: &Caller) -> bool {
    caller.principal == Principal::Root
}

impl Control {
    /// What an answer is made from, for a caller that may have it.
    pub fn read(&self, caller: &Caller, permission: &Permission) -> Result<Arc<View>, ApiError> {
        let view = self.view();
        check(&view, caller, permission)?;
        Ok(view)
    }

    /// As [`Control::decide`], for a caller that may have it done.
    pub async fn change<T, F>(
        &self,
        caller: &Caller,
        permission: &Permission,
        mut decide: F,
    ) -> Result<T, ApiError>
    where
        F: FnMut(&View, Timestamp) -> Result<(Batch, T), ApiError> + Send,
        T: Send,
    {
        self.decide(|view, now| {
            check(view, caller, permission)?;
            decide(view, now)
        })
        .await
    }
}

fn check(view: &View, caller: &Caller, permission: &Permission) -> Result<(), ApiError> {
    let Permission { action, resources, context } = permission;
    authorize(view, caller, action, resources, context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestControl;

    #[tokio::test]
    async fn who_may_not_is_told_the_action_and_nothing_is_decided() {
        let world = TestControl::new();
        let caller = Caller { principal: Principal::TaskExecution, ..world.root() };
        let permission = Permission::to("ecs:StopTask").on("arn:aws:ecs:us-east-1:1:task/a/b");
        let refused = world.control.read(&caller, &permission).unwrap_err();
        assert_eq!(refused.code, "AccessDeniedException");
        assert!(refused.message.contains("perform: ecs:StopTask "), "{}", refused.message);
        let mut decided = 0;
        let changed = world.control.change(&caller, &permission, |view, _| {
            decided += 1;
            Ok((Batch::on(view), ()))
        });
        assert_eq!(changed.await.unwrap_err().code, "AccessDeniedException");
        assert_eq!(decided, 0);
        assert!(world.control.read(&world.root(), &permission).is_ok());
    }
}
