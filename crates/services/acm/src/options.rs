//! UpdateCertificateOptions, and which options there are.

use acm_api as api;
use aws_wire::{ApiError, Caller};
use control::Permission;

use crate::Acm;
use crate::errors::{invalid, named};

/// Whether a public log is preferred, if that is said. It is kept and shown as it is of what a private authority signs at
/// Amazon: that is in no such log, whatever is preferred.
pub(crate) fn log_preference(given: Option<&api::CertificateOptions>) -> Option<bool> {
    let preference = given?.certificate_transparency_logging_preference.as_ref()?;
    Some(*preference == api::CertificateTransparencyLoggingPreference::Enabled)
}

/// Keys are not given out, and no proof is asked for: what says so is taken, anything else refused.
pub(crate) fn check(given: Option<&api::CertificateOptions>) -> Result<(), ApiError> {
    let Some(options) = given else { return Ok(()) };
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
    const ACTION: &str = "acm:UpdateCertificateOptions";
    let (_, row) = it.read(caller, ACTION, &arn)?;
    if !row.is_issued() {
        let message = format!("Certificate {arn} was imported and has no options.");
        return Err(named("InvalidStateException", message));
    }
    check(input.options.as_ref())?;
    let Some(is_preferred) = log_preference(input.options.as_ref()) else { return Ok(()) };
    let permission = Permission::to(ACTION).on(arn.as_str());
    let set = move |_, row: &mut model::AcmCertificate| {
        row.is_log_preferred = is_preferred;
        Ok(())
    };
    it.change(caller, &permission, &arn, set).await
}
