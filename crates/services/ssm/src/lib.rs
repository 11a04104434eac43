//! AWS Systems Manager's Parameter Store (parameters, their versions and labels) and its activations, by which hosts become
//! managed instances: how they join is in `region/region/src/nodes`.
//!
//! A parameter's row says which versions there are; each version is a row of its own. A SecureString's value is sealed
//! by a key of KMS and bound to that row. Reading one is in `control::parameters`, since tasks need it too.
//!
//! **Invariant:** the value of a SecureString is in no log, no error and no row but its own, sealed.

mod activations;
mod delete;
mod describe;
mod errors;
mod expiry;
mod get;
mod history;
mod instances;
mod labels;
mod limits;
mod names;
mod pages;
mod policies;
mod put;
mod render;
mod settings;
mod tagged;
mod tags;
mod told;

use std::sync::Arc;

use aws_wire::service::{Answer, Call, Service};
use aws_wire::{ApiError, Caller};
use control::parameters::ParameterName;
use control::ports::{BoxFuture, EventSource, RegionService};
use control::reconcile::Driver;
use control::{Control, Permission};
use longshore_types::{AccountId, Timestamp};
use model::{Parameter, View};
use ssm_api as api;
use store::Batch;

/// The service.
#[derive(Debug)]
pub struct Ssm {
    pub control: Arc<Control>,
}

impl Ssm {
    pub fn new(control: Arc<Control>) -> Self {
        Self { control }
    }

    /// To do something with a parameter, which need not be there.
    pub(crate) fn permission(
        &self,
        account: AccountId,
        action: &'static str,
        name: &str,
    ) -> Permission {
        Permission::to(action).on(self.control.parameter_arn(account, name))
    }

    /// Changes a parameter for a caller that may do so, and writes what became of it.
    pub(crate) async fn change<T: Send>(
        &self,
        caller: &Caller,
        named: &ParameterName,
        permission: &Permission,
        missing: impl Fn() -> ApiError + Send + Sync,
        change: impl Fn(&View, Timestamp, &mut Parameter) -> Result<T, ApiError> + Send + Sync,
    ) -> Result<T, ApiError> {
        self.control
            .change(caller, permission, |view, now| {
                let row = view.parameters.get(named.account, &named.name.as_str().into());
                let row = row.ok_or_else(&missing)?;
                let mut next = Parameter::clone(row);
                let mut batch = Batch::on(view);
                let answer = change(view, now, &mut next)?;
                if next != **row {
                    batch.put(next);
                }
                Ok((batch, answer))
            })
            .await
    }
}

impl RegionService for Ssm {
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

    fn event_source(&self) -> Option<&'static dyn EventSource> {
        Some(&told::SsmEvents)
    }

    fn register(self: Arc<Self>, driver: &mut Driver) {
        driver.register(expiry::ExpiringParameters(Arc::clone(&self.control)));
    }
}

api::forward! {
    Ssm {
        add_tags_to_resource => tags::add_tags_to_resource;
        create_activation => activations::create_activation;
        delete_activation => activations::delete_activation;
        delete_parameter => delete::delete_parameter;
        delete_parameters => delete::delete_parameters;
        deregister_managed_instance => instances::deregister_managed_instance;
        describe_activations => activations::describe_activations;
        describe_instance_information => instances::describe_instance_information;
        describe_parameters => describe::describe_parameters;
        get_parameter => get::get_parameter;
        get_parameter_history => history::get_parameter_history;
        get_parameters => get::get_parameters;
        get_parameters_by_path => get::get_parameters_by_path;
        get_service_setting => settings::get_service_setting;
        label_parameter_version => labels::label_parameter_version;
        list_tags_for_resource => tags::list_tags_for_resource;
        put_parameter => put::put_parameter;
        remove_tags_from_resource => tags::remove_tags_from_resource;
        reset_service_setting => settings::reset_service_setting;
        unlabel_parameter_version => labels::unlabel_parameter_version;
        update_managed_instance_role => instances::update_managed_instance_role;
        update_service_setting => settings::update_service_setting;
    }
}

#[cfg(test)]
mod tests;
