//! AWS Secrets Manager: secrets, their versions and stages, and who may read them.
//!
//! A secret's row says what is shown; what a version holds is in a row of its own, sealed by a key of KMS and bound to
//! that row. Reading a value is in `control::secrets`, since tasks need it too.
//!
//! **Invariant:** a value is in no log, no error and no row but its own, sealed.

mod create;
mod delete;
mod errors;
mod expiry;
mod limits;
mod list;
mod pages;
mod password;
mod policy;
mod put;
mod read;
mod render;
mod rotation;
mod stages;
mod tagged;
mod tags;
mod values;
mod versions;

use std::sync::Arc;

use aws_wire::service::{Answer, Call, Service};
use aws_wire::{ApiError, Caller};
use control::ports::{BoxFuture, RegionService, TaskRunner};
use control::reconcile::Driver;
use control::{Control, Permission};
use hooks::Hooks;
use longshore_types::Timestamp;
use model::{Key, Secret, View};
use secretsmanager_api as api;
use store::Batch;

/// The service.
#[derive(Debug)]
pub struct SecretsManager {
    pub control: Arc<Control>,
    /// Runs the tasks that rotate secrets.
    tasks: Arc<dyn TaskRunner>,
    hooks: Hooks,
}

impl SecretsManager {
    pub fn new(control: Arc<Control>, tasks: Arc<dyn TaskRunner>) -> Self {
        let hooks = Hooks::new(control.config.hooks.clone());
        Self { control, tasks, hooks }
    }

    /// The secret that a request names, for a caller that may look at it.
    pub(crate) fn read(
        &self,
        caller: &Caller,
        action: &'static str,
        given: &str,
    ) -> Result<(Arc<View>, Arc<Secret>), ApiError> {
        let view = self.control.view();
        let permission = self.control.secret_permission(&view, caller, action, given);
        self.control.authorize(&view, caller, &permission)?;
        let row = self.control.secret(&view, caller.account, given).map(Arc::clone);
        let row = row.ok_or_else(errors::not_found)?;
        Ok((view, row))
    }

    /// Changes a secret for a caller that may do so, and writes what became of it.
    pub(crate) async fn change<T: Send>(
        &self,
        caller: &Caller,
        given: &str,
        action: &'static str,
        about: impl Fn(Permission) -> Permission + Send + Sync,
        change: impl Fn(&View, Timestamp, &mut Batch, &mut Secret) -> Result<T, ApiError> + Send + Sync,
    ) -> Result<T, ApiError> {
        self.control
            .decide(|view, now| {
                let permission = self.control.secret_permission(view, caller, action, given);
                self.control.authorize(view, caller, &about(permission))?;
                let row = self.control.secret(view, caller.account, given);
                let row = row.ok_or_else(errors::not_found)?;
                let mut next = Secret::clone(row);
                let mut batch = Batch::on(view);
                let answer = change(view, now, &mut batch, &mut next)?;
                if next != **row {
                    batch.rely(Key::Secret(next.account, Arc::clone(&next.name))).put(next);
                }
                Ok((batch, answer))
            })
            .await
    }
}

impl RegionService for SecretsManager {
    fn service(&self) -> &'static Service {
        &api::SERVICE
    }

    fn dispatch<'a>(
        &'a self,
        caller: &'a Caller,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Answer, ApiError>> {
        Box::pin(api::dispatch(self, caller, call))
    }

    fn register(self: Arc<Self>, driver: &mut Driver) {
        driver.register(expiry::DeletedSecrets(Arc::clone(&self.control)));
        driver.register(rotation::reconcile::Rotations::new(self));
    }
}

api::forward! {
    SecretsManager {
        batch_get_secret_value => values::batch_get_secret_value;
        cancel_rotate_secret => rotation::cancel::cancel_rotate_secret;
        create_secret => create::create_secret;
        delete_resource_policy => policy::delete_resource_policy;
        delete_secret => delete::delete_secret;
        describe_secret => list::describe_secret;
        get_random_password => password::get_random_password;
        get_resource_policy => policy::get_resource_policy;
        get_secret_value => values::get_secret_value;
        list_secret_version_ids => list::list_secret_version_ids;
        list_secrets => list::list_secrets;
        put_resource_policy => policy::put_resource_policy;
        put_secret_value => put::put_secret_value;
        restore_secret => delete::restore_secret;
        rotate_secret => rotation::rotate::rotate_secret;
        tag_resource => tags::tag_resource;
        untag_resource => tags::untag_resource;
        update_secret => put::update_secret;
        update_secret_version_stage => stages::update_secret_version_stage;
        validate_resource_policy => policy::validate_resource_policy;
    }
}

#[cfg(test)]
mod tests;
