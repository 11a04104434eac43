//! DescribeCertificate and GetCertificate.

use std::collections::BTreeSet;

use acm_api as api;
use aws_wire::{ApiError, Caller};
use control::certificates::listeners_of;
use longshore_types::{AccountId, Timestamp};
use model::acm::CertificateOrigin;
use model::{AcmCertificate, View, elb};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};

use crate::Acm;
use crate::x509::{self, Facts};

/// What a certificate says of itself; none of one that can't be read any more.
pub(crate) fn facts(row: &AcmCertificate) -> Option<Facts> {
    let der = CertificateDer::from_pem_slice(row.certificate.as_bytes()).ok()?;
    x509::read(&der)
}

pub(crate) fn status(row: &AcmCertificate, now: Timestamp) -> api::CertificateStatus {
    match now < row.not_after {
        true => api::CertificateStatus::Issued,
        false => api::CertificateStatus::Expired,
    }
}

pub(crate) fn eligibility(row: &AcmCertificate) -> api::RenewalEligibility {
    match row.origin {
        CertificateOrigin::Issued(_) => api::RenewalEligibility::Eligible,
        CertificateOrigin::Imported => api::RenewalEligibility::Ineligible,
    }
}

pub(crate) fn kind(row: &AcmCertificate) -> api::CertificateType {
    match row.origin {
        CertificateOrigin::Issued(_) => api::CertificateType::AmazonIssued,
        CertificateOrigin::Imported => api::CertificateType::Imported,
    }
}

/// The load balancers whose listeners show it.
pub(crate) fn used_by(view: &View, row: &AcmCertificate) -> BTreeSet<String> {
    let listeners = listeners_of(view, row.scope.account, row.id);
    listeners.map(|each| elb::arn(&each.scope, "loadbalancer", &each.balancer)).collect()
}

/// The record that would prove at Amazon that a name is the account's; always the same for both.
fn record(account: AccountId, name: &str) -> api::ResourceRecord {
    let bare = name.strip_prefix("*.").unwrap_or(name);
    let digest = hex::encode(Sha256::digest(format!("acm|{account}|{bare}")));
    let (owner, rest) = digest.split_at(32);
    let zone = hex::encode(&Sha256::digest(format!("acm-zone|{account}"))[..5]);
    api::ResourceRecord {
        name: Some(format!("_{owner}.{bare}.")),
        r#type: Some(api::RecordType::Cname),
        value: Some(format!("_{rest}.{zone}.acm-validations.aws.")),
    }
}

fn validations(row: &AcmCertificate) -> Vec<api::DomainValidation> {
    let validation = |name: &String| api::DomainValidation {
        domain_name: Some(name.clone()),
        validation_domain: Some(name.clone()),
        validation_status: Some(api::DomainStatus::Success),
        resource_record: Some(record(row.scope.account, name)),
        validation_method: Some(api::ValidationMethod::Dns),
        ..api::DomainValidation::default()
    };
    row.names.iter().map(validation).collect()
}

fn render(view: &View, row: &AcmCertificate, now: Timestamp) -> api::CertificateDetail {
    let facts = facts(row);
    let is_issued = row.is_issued();
    let renewal = row.renewed_at.map(|at| api::RenewalSummary {
        renewal_status: Some(api::RenewalStatus::Success),
        domain_validation_options: Some(validations(row)),
        renewal_status_reason: None,
        updated_at: Some(at),
    });
    let usages = facts.iter().flat_map(|facts| &facts.usages);
    let usages = usages.map(|name| api::KeyUsage { name: Some(name.clone()) });
    let extended = facts.iter().flat_map(|facts| &facts.extended);
    let extended = extended.map(|(name, oid)| api::ExtendedKeyUsage {
        name: Some(name.clone()),
        oid: Some((*oid).to_owned()),
    });
    let options = api::CertificateOptions {
        certificate_transparency_logging_preference: Some(match row.is_log_preferred {
            true => api::CertificateTransparencyLoggingPreference::Enabled,
            false => api::CertificateTransparencyLoggingPreference::Disabled,
        }),
        export: Some(api::CertificateExport::Disabled),
        ..api::CertificateOptions::default()
    };
    let text = |of: fn(&Facts) -> &String| facts.as_ref().map(|facts| of(facts).clone());
    api::CertificateDetail {
        certificate_arn: Some(row.arn()),
        domain_name: Some(row.domain.clone()),
        subject_alternative_names: Some(row.names.clone()),
        domain_validation_options: is_issued.then(|| validations(row)),
        serial: text(|facts| &facts.serial),
        subject: text(|facts| &facts.subject),
        issuer: text(|facts| &facts.issuer),
        created_at: Some(row.created_at),
        issued_at: is_issued.then_some(row.created_at),
        imported_at: (!is_issued).then_some(row.changed_at),
        status: Some(status(row, now)),
        not_before: Some(row.not_before),
        not_after: Some(row.not_after),
        key_algorithm: facts.as_ref().and_then(|facts| facts.key.clone()),
        signature_algorithm: text(|facts| &facts.signature),
        in_use_by: Some(used_by(view, row).into_iter().collect()),
        r#type: Some(kind(row)),
        renewal_summary: renewal,
        key_usages: Some(usages.collect()),
        extended_key_usages: Some(extended.collect()),
        renewal_eligibility: Some(eligibility(row)),
        options: Some(options),
        certificate_key_pair_origin: Some(origin(row)),
        ..api::CertificateDetail::default()
    }
}

pub(crate) fn origin(row: &AcmCertificate) -> api::CertificateKeyPairOrigin {
    match row.origin {
        CertificateOrigin::Issued(_) => api::CertificateKeyPairOrigin::AwsManaged,
        CertificateOrigin::Imported => api::CertificateKeyPairOrigin::CustomerProvided,
    }
}

pub(crate) async fn describe_certificate(
    it: &Acm,
    caller: &Caller,
    input: api::DescribeCertificateRequest,
) -> Result<api::DescribeCertificateResponse, ApiError> {
    let arn = input.certificate_arn.unwrap_or_default();
    let (view, row) = it.read(caller, "acm:DescribeCertificate", &arn)?;
    let certificate = Some(render(&view, &row, it.control.clock.now()));
    Ok(api::DescribeCertificateResponse { certificate })
}

pub(crate) async fn get_certificate(
    it: &Acm,
    caller: &Caller,
    input: api::GetCertificateRequest,
) -> Result<api::GetCertificateResponse, ApiError> {
    let arn = input.certificate_arn.unwrap_or_default();
    let (_, row) = it.read(caller, "acm:GetCertificate", &arn)?;
    Ok(api::GetCertificateResponse {
        certificate: Some(row.certificate.clone()),
        certificate_chain: row.chain.clone(),
    })
}
