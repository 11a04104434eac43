//! IAM: users, groups and roles of each account, what they may do, and keys to do it with.
//!
//! An account's identities are the same wherever in it they are asked for: there is one region, and it is their
//! home. What was written is in force, and read, with the next request.

mod absent;
mod account;
mod devices;
mod errors;
mod groups;
mod hashing;
mod holder;
mod limits;
mod linked;
mod logins;
mod operations;
mod pages;
mod passwords;
mod policies;
mod profiles;
mod providers;
mod read;
mod render;
mod report;
mod roles;
mod sign_in;
mod simulate;
mod users;
mod uses;

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_wire::service::{Answer, Call, Service};
use aws_wire::{ApiError, Caller, Principal};
use control::iam::policy_of;
use control::ports::{BoxFuture, RegionService};
use control::reconcile::Driver;
use control::{Control, Permission};
use longshore_types::{AccountId, IdSource, Timestamp};
use model::{Tags, View};
use store::Batch;
use vault::PasswordHash;

use crate::errors::Refusal;
use crate::hashing::Hashing;
pub use crate::sign_in::{MUST_CHANGE, NEEDS_CODE, SignIn, SignedIn};

/// The service.
#[derive(Debug)]
pub struct Iam {
    pub control: Arc<Control>,
    hashing: Hashing,
}

impl Iam {
    pub fn new(control: Arc<Control>) -> Self {
        Self { control, hashing: Hashing::new(PasswordHash::ROUNDS) }
    }

    /// Gives an account that is seen for the first time what every account begins with.
    pub async fn begin(&self, account: AccountId) -> Result<(), ApiError> {
        account::begin(&self.control, account).await
    }

    pub(crate) fn ids(&self) -> &dyn IdSource {
        self.control.ids.as_ref()
    }

    /// What an answer is made from, for a caller that may have it.
    pub(crate) fn read(
        &self,
        caller: &Caller,
        permission: impl FnOnce(&View) -> Permission,
    ) -> Result<Arc<View>, ApiError> {
        let view = self.control.view();
        self.control.authorize(&view, caller, &permission(&view))?;
        Ok(view)
    }

    /// Makes a decision for a caller that may have it made. What it is on is found in the view that is
    /// decided on: an ARN has a path, which requests don't give.
    pub(crate) async fn change<T: Send>(
        &self,
        caller: &Caller,
        permission: impl Fn(&View) -> Permission + Send + Sync,
        decide: impl Fn(&View, Timestamp, &mut Batch) -> Result<T, ApiError> + Send + Sync,
    ) -> Result<T, ApiError> {
        self.control
            .decide(|view, now| {
                self.control.authorize(view, caller, &permission(view))?;
                let mut batch = Batch::on(view);
                let answer = decide(view, now, &mut batch)?;
                Ok((batch, answer))
            })
            .await
    }

    /// To make something with tags and a boundary.
    pub(crate) fn creating(
        &self,
        action: &'static str,
        tag_action: &'static str,
        arn: String,
        tags: &Tags,
        boundary: Option<&Arc<str>>,
    ) -> Permission {
        let create = Permission::to(action).on(arn.clone()).tagging(tags);
        let create = self.about_boundary(create, boundary);
        match tags.is_empty() {
            true => create,
            false => create.and(Permission::to(tag_action).on(arn).tagging(tags)),
        }
    }

    pub(crate) fn about_boundary(
        &self,
        permission: Permission,
        boundary: Option<&Arc<str>>,
    ) -> Permission {
        match boundary {
            Some(arn) => permission.with("iam:PermissionsBoundary", arn.to_string()),
            None => permission,
        }
    }

    pub(crate) fn boundary(
        &self,
        account: AccountId,
        given: Option<String>,
    ) -> Result<Option<Arc<str>>, ApiError> {
        let Some(given) = given else { return Ok(None) };
        read::policy_arn(account, Some(given)).map(|arn| Some(arn.into()))
    }

    pub(crate) fn check_boundary(
        &self,
        view: &View,
        boundary: Option<&Arc<str>>,
    ) -> Result<(), ApiError> {
        match boundary {
            Some(arn) if policy_of(view, arn).is_none() => {
                Err(Refusal::NotABoundary(arn.to_string()).wire())
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl RegionService for Iam {
    fn service(&self) -> &'static Service {
        &iam_api::SERVICE
    }

    fn dispatch<'a>(
        &'a self,
        caller: &'a Caller,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Answer, ApiError>> {
        Box::pin(async move {
            refuse_sessions_of_users(caller)?;
            iam_api::dispatch(self, caller, call).await
        })
    }

    /// Accounts that are older than their roles.
    fn prepare(&self) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(async move {
            let view = self.control.view();
            let accounts = view.clusters.iter().map(|cluster| cluster.account);
            for account in accounts.collect::<BTreeSet<_>>() {
                self.begin(account).await?;
            }
            Ok(())
        })
    }

    fn register(self: Arc<Self>, driver: &mut Driver) {
        driver.register(uses::Uses(Arc::clone(&self.control)));
    }
}

/// What GetSessionToken and GetFederationToken give opens nothing here, but for a second factor; what signing in gives does.
fn refuse_sessions_of_users(caller: &Caller) -> Result<(), ApiError> {
    let is_refused = match &caller.principal {
        Principal::User { .. } => {
            let is_less = |it: &Arc<aws_wire::Session>| !it.by_password && it.mfa_at.is_none();
            caller.session.as_ref().is_some_and(is_less)
        }
        Principal::Federated { .. } => true,
        Principal::Root
        | Principal::Role { .. }
        | Principal::Node { .. }
        | Principal::Anonymous => false,
    };
    if is_refused {
        return Err(Refusal::TemporaryKeys.wire());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_devices;
#[cfg(test)]
mod tests_of_logins;
