//! AWS Certificate Manager: certificates that are imported, and those that the region's own authority signs.
//!
//! Who asks for a certificate gets it at once: the region vouches for nobody outside, so it asks for no proof that a
//! domain is somebody's. Clients that trust the region's authority (`tls/ca.pem`) trust what it signs here.
//!
//! **Invariants:** a private key is in no row but sealed, and in no answer; a certificate that a listener shows is not
//! deleted, and one that was issued is signed anew before it ends.

mod delete;
mod describe;
mod errors;
mod import;
mod issue;
mod limits;
mod list;
mod options;
mod renewal;
mod request;
mod tagged;
mod tags;
mod x509;

use std::sync::Arc;

use acm_api as api;
use aws_wire::service::{Answer, Call, Service};
use aws_wire::{ApiError, Caller};
use control::ports::{BoxFuture, RegionService};
use control::reconcile::Driver;
use control::{Control, Permission};
use longshore_types::Timestamp;
use model::{AcmCertificate, View};
use store::Batch;

/// The service.
#[derive(Debug)]
pub struct Acm {
    pub control: Arc<Control>,
}

impl Acm {
    pub fn new(control: Arc<Control>) -> Self {
        Self { control }
    }

    /// The certificate of the caller that an ARN names.
    pub(crate) fn certificate<'v>(
        &self,
        view: &'v View,
        caller: &Caller,
        arn: &str,
    ) -> Result<&'v Arc<AcmCertificate>, ApiError> {
        if !arn.starts_with("arn:") {
            return Err(errors::no_arn(arn));
        }
        let row = self.control.certificate(view, caller.account, arn);
        row.ok_or_else(|| errors::not_found(&self.control.scope(caller), arn))
    }

    /// The same to look at it.
    pub(crate) fn read(
        &self,
        caller: &Caller,
        action: &'static str,
        arn: &str,
    ) -> Result<(Arc<View>, Arc<AcmCertificate>), ApiError> {
        let view = self.control.read(caller, &Permission::to(action).on(arn))?;
        let row = Arc::clone(self.certificate(&view, caller, arn)?);
        Ok((view, row))
    }

    /// Changes a certificate for a caller that may do so.
    pub(crate) async fn change(
        &self,
        caller: &Caller,
        permission: &Permission,
        arn: &str,
        change: impl Fn(Timestamp, &mut AcmCertificate) -> Result<(), ApiError> + Send + Sync,
    ) -> Result<(), ApiError> {
        let decided = self.control.change(caller, permission, |view, now| {
            let known = self.certificate(view, caller, arn)?;
            let mut next = AcmCertificate::clone(known);
            let mut batch = Batch::on(view);
            change(now, &mut next)?;
            if next != **known {
                batch.put(next);
            }
            Ok((batch, ()))
        });
        decided.await
    }
}

impl RegionService for Acm {
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
        driver.register(renewal::Renewal(self));
    }
}

api::forward! {
    Acm {
        add_tags_to_certificate => tags::add_tags_to_certificate;
        delete_certificate => delete::delete_certificate;
        describe_certificate => describe::describe_certificate;
        get_certificate => describe::get_certificate;
        import_certificate => import::import_certificate;
        list_certificates => list::list_certificates;
        list_tags_for_certificate => tags::list_tags_for_certificate;
        list_tags_for_resource => tags::list_tags_for_resource;
        remove_tags_from_certificate => tags::remove_tags_from_certificate;
        renew_certificate => renewal::renew_certificate;
        request_certificate => request::request_certificate;
        tag_resource => tags::tag_resource;
        untag_resource => tags::untag_resource;
        update_certificate_options => options::update_certificate_options;
    }
}

#[cfg(test)]
mod tests;
