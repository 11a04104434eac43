//! ImportCertificate: a certificate that somebody brings, or one in the place of one that was brought.

use acm_api as api;
use aws_wire::{ApiError, Caller};
use bytes::Bytes;
use control::Permission;
use longshore_types::{Timestamp, Uuid};
use model::AcmCertificate;
use model::acm::{self, CertificateOrigin};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use store::Batch;
use trust::{certificates, to_pem};

use crate::errors::{invalid, limit, parameter};
use crate::limits::SHOWN_BYTES_MAX;
use crate::request::check_room;
use crate::x509::{self, Facts};
use crate::{Acm, tags};

/// What was brought, found to go together.
struct Brought {
    facts: Facts,
    certificate: String,
    chain: Option<String>,
    key: String,
}

pub(crate) async fn import_certificate(
    it: &Acm,
    caller: &Caller,
    input: api::ImportCertificateRequest,
) -> Result<api::ImportCertificateResponse, ApiError> {
    let tags = tags::read(input.tags.as_deref())?;
    let given = input.certificate_arn.clone().filter(|arn| !arn.is_empty());
    let scope = it.control.scope(caller);
    let any = format!("arn:aws:acm:{}:{}:certificate/*", scope.region, scope.account);
    let permission = Permission::to("acm:ImportCertificate")
        .on(given.clone().unwrap_or_else(|| any.clone()))
        .tagging_new(caller, "acm:AddTagsToCertificate", any, &tags);
    it.control.read(caller, &permission)?;
    if given.is_some() && !tags.is_empty() {
        return Err(parameter("Tags cannot be given when a certificate is imported again."));
    }
    let brought = read(&input, it.control.clock.now())?;
    let minted = Uuid::mint(it.control.ids.as_ref());
    let decided = it.control.change(caller, &permission, |view, now| {
        let before = match &given {
            Some(arn) => Some(it.certificate(view, caller, arn)?),
            None => None,
        };
        if before.is_some_and(|row| row.is_issued()) {
            return Err(invalid(
                "A certificate can only be imported in the place of one that was imported.",
            ));
        }
        if before.is_none() {
            check_room(view, caller)?;
        }
        let id = before.map_or(minted, |row| row.id);
        let mut batch = Batch::on(view);
        let account = caller.account;
        let sealed_key =
            it.control.seal_certificate_key(view, &mut batch, account, id, &brought.key, now)?;
        let facts = &brought.facts;
        batch.put(AcmCertificate {
            scope: scope.clone(),
            id,
            origin: CertificateOrigin::Imported,
            domain: domain(facts),
            names: facts.names.clone(),
            certificate: brought.certificate.clone(),
            chain: brought.chain.clone(),
            sealed_key,
            not_before: facts.not_before,
            not_after: facts.not_after,
            created_at: before.map_or(now, |row| row.created_at),
            changed_at: now,
            renewed_at: None,
            token: None,
            is_log_preferred: false,
            tags: before.map_or_else(|| tags.clone(), |row| row.tags.clone()),
        });
        Ok((batch, acm::arn(&scope, id)))
    });
    Ok(api::ImportCertificateResponse { certificate_arn: Some(decided.await?) })
}

fn domain(facts: &Facts) -> String {
    let name = facts.common_name.clone().or_else(|| facts.names.first().cloned());
    name.unwrap_or_default()
}

fn pem(given: Option<&Bytes>, what: &str) -> Result<Vec<CertificateDer<'static>>, ApiError> {
    let text = given.map(AsRef::as_ref).unwrap_or_default();
    certificates(text).map_err(|_| invalid(format!("The {what} is not in a valid PEM format.")))
}

/// Everything that was given, if it goes together and is good now.
fn read(input: &api::ImportCertificateRequest, now: Timestamp) -> Result<Brought, ApiError> {
    let own = pem(input.certificate.as_ref(), "certificate")?;
    let [certificate] = own.as_slice() else {
        return Err(invalid(
            "The certificate field contains more than one certificate. You can specify only one certificate in this \
             field.",
        ));
    };
    let facts = x509::read(certificate);
    let facts =
        facts.ok_or_else(|| invalid("The certificate is not a valid X.509 certificate."))?;
    if facts.not_after <= now {
        return Err(invalid("The certificate has expired."));
    }
    if now < facts.not_before {
        return Err(invalid("The certificate is not yet valid."));
    }
    if crate::limits::NAMES_MAX < facts.names.len() {
        let most = crate::limits::NAMES_MAX;
        return Err(limit(format!("A certificate can be for up to {most} names.")));
    }
    let chain = match input.certificate_chain.as_ref().filter(|text| !text.is_empty()) {
        None => Vec::new(),
        some => pem(some, "certificate chain")?,
    };
    let bytes: usize = own.iter().chain(&chain).map(|each| each.len()).sum();
    if SHOWN_BYTES_MAX < bytes {
        return Err(limit(format!(
            "The certificate and its chain have {bytes} bytes, more than the {SHOWN_BYTES_MAX} that clients read."
        )));
    }
    let mut signed = certificate;
    for signer in &chain {
        if !x509::is_signed_by(signed, signer) {
            return Err(invalid("Could not validate the certificate with the certificate chain."));
        }
        signed = signer;
    }
    let key_text = input.private_key.as_ref().map(AsRef::as_ref).unwrap_or_default();
    let key = PrivateKeyDer::from_pem_slice(key_text)
        .map_err(|_| invalid("The private key is not in a valid PEM format, or is encrypted."))?;
    check_key(certificate, key)?;
    let text = std::str::from_utf8(key_text);
    let text = text.map_err(|_| invalid("The private key is not in a valid PEM format."))?;
    let chain: String = chain.iter().map(|each| to_pem(each)).collect();
    Ok(Brought {
        certificate: to_pem(certificate),
        chain: (!chain.is_empty()).then_some(chain),
        key: text.to_owned(),
        facts,
    })
}

/// That listeners can show the certificate with the key.
fn check_key(
    certificate: &CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<(), ApiError> {
    let provider = trust::provider();
    match CertifiedKey::from_der(vec![certificate.clone()], key, &provider) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(invalid("The private key does not match the certificate."))
        }
        Err(_) => Err(invalid(
            "The private key is not supported: it must be RSA of 2048 to 8192 bits, or of the curves P-256 or P-384.",
        )),
    }
}
