//! RequestCertificate.

use std::net::IpAddr;

use acm_api as api;
use aws_wire::{ApiError, Caller};
use control::Permission;
use longshore_types::{Timestamp, Uuid};
use model::acm::{self, CertificateOrigin, IssuedKey};
use model::{AcmCertificate, View};
use store::Batch;

use crate::errors::{invalid, limit, parameter};
use crate::limits::{CERTIFICATES_MAX, DOMAIN_LEN_MAX, NAMES_MAX, TOKEN_MS};
use crate::{Acm, options, tags};

pub(crate) async fn request_certificate(
    it: &Acm,
    caller: &Caller,
    input: api::RequestCertificateRequest,
) -> Result<api::RequestCertificateResponse, ApiError> {
    let tags = tags::read(input.tags.as_deref())?;
    let names = names(&input);
    let algorithm = input.key_algorithm.clone();
    let asked_key = algorithm.as_ref().map_or("EC_prime256v1", |it| it.as_str()).to_owned();
    let scope = it.control.scope(caller);
    let any = format!("arn:aws:acm:{}:{}:certificate/*", scope.region, scope.account);
    let permission = Permission::to("acm:RequestCertificate")
        .on("*")
        .with("acm:ValidationMethod", "DNS")
        .with_list("acm:DomainNames", names.iter().cloned())
        .with("acm:KeyAlgorithm", asked_key)
        .tagging_new(caller, "acm:AddTagsToCertificate", any, &tags);
    it.control.read(caller, &permission)?;
    check(&input, &names)?;
    check_not_own(it, &names)?;
    let key = key(algorithm.as_ref())?;
    let issued = it.issue(&names, key)?;
    let id = Uuid::mint(it.control.ids.as_ref());
    let decided = it.control.change(caller, &permission, |view, now| {
        let account = caller.account;
        if let Some(token) = &input.idempotency_token
            && let Some(known) = same(view, caller, token, &names, now)
        {
            return Ok((Batch::on(view), known.arn()));
        }
        check_room(view, caller)?;
        let mut batch = Batch::on(view);
        let key_pem = &issued.signed.key_pem;
        let sealed_key =
            it.control.seal_certificate_key(view, &mut batch, account, id, key_pem, now)?;
        batch.put(AcmCertificate {
            scope: scope.clone(),
            id,
            origin: CertificateOrigin::Issued(key),
            domain: names[0].clone(),
            names: names.clone(),
            certificate: issued.certificate.clone(),
            chain: Some(issued.chain.clone()),
            sealed_key,
            not_before: issued.not_before,
            not_after: issued.not_after,
            created_at: now,
            changed_at: now,
            renewed_at: None,
            token: input.idempotency_token.clone(),
            is_log_preferred: options::log_preference(input.options.as_ref()).unwrap_or(true),
            tags: tags.clone(),
        });
        Ok((batch, acm::arn(&scope, id)))
    });
    Ok(api::RequestCertificateResponse { certificate_arn: Some(decided.await?) })
}

/// The names, in lower case, each once and the domain first.
fn names(input: &api::RequestCertificateRequest) -> Vec<String> {
    let others = input.subject_alternative_names.iter().flatten();
    let mut names: Vec<String> = Vec::new();
    for name in input.domain_name.iter().chain(others) {
        let name = name.to_ascii_lowercase();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

pub(crate) fn check_room(view: &View, caller: &Caller) -> Result<(), ApiError> {
    match view.acm_certificates.of(caller.account).count() < CERTIFICATES_MAX {
        true => Ok(()),
        false => Err(limit(format!(
            "Error: you have reached your limit of {CERTIFICATES_MAX} certificates."
        ))),
    }
}

/// The certificate that was asked for with a token a short while ago.
fn same<'v>(
    view: &'v View,
    caller: &Caller,
    token: &str,
    names: &[String],
    now: Timestamp,
) -> Option<&'v AcmCertificate> {
    let mut all = view.acm_certificates.of(caller.account);
    let found = all.find(|row| {
        let is_recent = now.since_ms(row.created_at) < TOKEN_MS;
        is_recent && row.token.as_deref() == Some(token) && row.names == names
    });
    found.map(AsRef::as_ref)
}

fn check(input: &api::RequestCertificateRequest, names: &[String]) -> Result<(), ApiError> {
    if names.first().is_none_or(String::is_empty) {
        return Err(invalid("A domain name must be given."));
    }
    if NAMES_MAX < names.len() {
        return Err(limit(format!("A certificate can be for up to {NAMES_MAX} names.")));
    }
    if let Some(bad) = names.iter().find(|name| !is_name(name)) {
        return Err(parameter(format!("{bad} is not a domain name.")));
    }
    if DOMAIN_LEN_MAX < names[0].len() {
        return Err(parameter(format!(
            "The first domain name can have no more than {DOMAIN_LEN_MAX} characters."
        )));
    }
    match input.validation_method.as_ref() {
        None | Some(api::ValidationMethod::Dns) => {}
        Some(other) => {
            return Err(parameter(format!(
                "ValidationMethod {other} is not available in this region, which asks for no proof: leave it out, or \
                 use DNS."
            )));
        }
    }
    for option in input.domain_validation_options.iter().flatten() {
        let (domain, of) = (option.domain_name.as_deref(), option.validation_domain.as_deref());
        let (domain, of) = (domain.unwrap_or_default(), of.unwrap_or_default());
        let is_above = domain == of || domain.ends_with(&format!(".{of}"));
        if !is_above || !names.iter().any(|name| name.eq_ignore_ascii_case(domain)) {
            let message = format!("{of} is no validation domain of {domain} in this request.");
            return Err(crate::errors::named("InvalidDomainValidationOptionsException", message));
        }
    }
    let refuse = |what: &str| parameter(format!("{what} is not available in this region."));
    if input.certificate_authority_arn.is_some() {
        return Err(refuse("A private certificate authority (CertificateAuthorityArn)"));
    }
    if input.managed_by.is_some() {
        return Err(refuse("ManagedBy"));
    }
    options::check(input.options.as_ref())
}

/// Whoever shows a certificate for the region's own name could pretend to be the region.
fn check_not_own(it: &Acm, names: &[String]) -> Result<(), ApiError> {
    match names.iter().find(|name| it.control.is_own_name(name)) {
        None => Ok(()),
        Some(name) => Err(parameter(format!(
            "{name} is a name of this region itself, for which nobody else gets a certificate."
        ))),
    }
}

/// A host's name, or a wildcard in place of its first label.
fn is_name(name: &str) -> bool {
    let bare = name.strip_prefix("*.").unwrap_or(name);
    let is_label = |label: &str| {
        let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(is_fit)
    };
    let is_address = bare.parse::<IpAddr>().is_ok();
    name.len() <= 253 && !is_address && bare.contains('.') && bare.split('.').all(is_label)
}

fn key(given: Option<&api::KeyAlgorithm>) -> Result<IssuedKey, ApiError> {
    match given {
        None | Some(api::KeyAlgorithm::EcPrime256v1) => Ok(IssuedKey::P256),
        Some(api::KeyAlgorithm::EcSecp384r1) => Ok(IssuedKey::P384),
        Some(other) => Err(parameter(format!(
            "KeyAlgorithm {other} is not available in this region: use EC_prime256v1 or EC_secp384r1, or import a \
             certificate with such a key."
        ))),
    }
}
