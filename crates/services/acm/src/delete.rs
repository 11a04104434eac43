//! DeleteCertificate.

use acm_api as api;
use aws_wire::{ApiError, Caller};
use control::Permission;
use control::certificates::listeners_of;
use model::{Index, Key};
use store::Batch;

use crate::Acm;
use crate::errors::in_use;

pub(crate) async fn delete_certificate(
    it: &Acm,
    caller: &Caller,
    input: api::DeleteCertificateRequest,
) -> Result<(), ApiError> {
    let arn = input.certificate_arn.unwrap_or_default();
    let permission = Permission::to("acm:DeleteCertificate").on(arn.clone());
    let account = caller.account;
    let decided = it.control.change(caller, &permission, |view, _| {
        let row = it.certificate(view, caller, &arn)?;
        if listeners_of(view, account, row.id).next().is_some() {
            return Err(in_use(&row.scope, &arn));
        }
        let mut batch = Batch::on(view);
        // A listener that comes meanwhile must find it.
        batch.rely(Index::CertificateListeners(account, row.id));
        batch.delete(Key::AcmCertificate(account, row.id));
        Ok((batch, ()))
    });
    decided.await
}
