//! UpdateCertificateOptions, and which options there are.

use acm_api as api;
use aws_wire::{ApiError, Caller};

use crate::Acm;
use crate::errors::{invalid, named};

/// The region's authority logs nothing publicly, keys are not given out, and no proof is asked for: what says so is
/// taken, anything else refused.
pub(crate) fn check(given: Option<&api::CertificateOptions>) -> Result<(), ApiError> {
    let Some(options) = given else { return Ok(()) };
    let logs = options.certificate_transparency_logging_preference.as_ref();
    if logs.is_some_and(|it| *it != api::CertificateTransparencyLoggingPreference::Disabled) {
        return Err(invalid(
            "CertificateTransparencyLoggingPreference ENABLED is not available in this region: what its own authority \
             signs is in no public log.",
        ));
    }
    if options.export.as_ref().is_some_and(|it| *it != api::CertificateExport::Disabled) {
        return Err(invalid("Export ENABLED is not available in this region: keys stay in it."));
    }
    let method = options.validation_method.as_ref();
    if method.is_some_and(|it| *it != api::ValidationMethod::Dns) {
        return Err(invalid("Only ValidationMethod DNS is available in this region."));
    }
    Ok(())
}

pub(crate) async fn update_certificate_options(
    it: &Acm,
    caller: &Caller,
    input: api::UpdateCertificateOptionsRequest,
) -> Result<(), ApiError> {
    let arn = input.certificate_arn.unwrap_or_default();
    let (_, row) = it.read(caller, "acm:UpdateCertificateOptions", &arn)?;
    if !row.is_issued() {
        let message = format!("Certificate {arn} was imported and has no options.");
        return Err(named("InvalidStateException", message));
    }
    check(input.options.as_ref())
}
