//! Zonal shift of Amazon Application Recovery Controller: traffic of load balancers led away from a zone, for a time.
//!
//! A shift is kept with its balancer's row, from which names ([`model::ElbBalancer::named_zones`]) and tables of balancers follow.
//! Nobody but callers shifts anything: there are no practice runs and no autoshifts.
//!
//! **Invariant:** a balancer has one active shift at most, and that is its last one.

mod errors;
mod expiry;
mod limits;
mod pages;
mod resources;
mod shifts;

use std::sync::Arc;

use aws_wire::service::{Answer, Call, Service};
use aws_wire::{ApiError, Caller};
use control::Control;
use control::ports::{BoxFuture, RegionService};
use control::reconcile::Driver;
use zonalshift_api as api;

/// The service.
#[derive(Debug)]
pub struct ZonalShifts {
    pub control: Arc<Control>,
}

impl ZonalShifts {
    pub fn new(control: Arc<Control>) -> Self {
        Self { control }
    }
}

impl RegionService for ZonalShifts {
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
        driver.register(expiry::Expiry(Arc::clone(&self.control)));
    }
}

api::forward! {
    ZonalShifts {
        cancel_zonal_shift => shifts::cancel_zonal_shift;
        get_managed_resource => resources::get_managed_resource;
        list_autoshifts => resources::list_autoshifts;
        list_managed_resources => resources::list_managed_resources;
        list_zonal_shifts => shifts::list_zonal_shifts;
        start_zonal_shift => shifts::start_zonal_shift;
        update_zonal_shift => shifts::update_zonal_shift;
    }
}

#[cfg(test)]
mod tests;
