//! ListCertificates.

use std::sync::Arc;

use acm_api as api;
use aws_wire::{ApiError, Caller};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control::Permission;
use longshore_types::Timestamp;
use model::{AcmCertificate, View};

use crate::Acm;
use crate::describe::{eligibility, facts, kind, origin, status, used_by};
use crate::errors::{invalid, named};
use crate::limits::{NAMES_LISTED_MAX, PAGE_DEFAULT};
use crate::x509::Facts;

/// Where a certificate is in a list that goes from the oldest to the newest.
type Place = (u64, String);

pub(crate) async fn list_certificates(
    it: &Acm,
    caller: &Caller,
    input: api::ListCertificatesRequest,
) -> Result<api::ListCertificatesResponse, ApiError> {
    let view = it.control.read(caller, &Permission::to("acm:ListCertificates").on("*"))?;
    let now = it.control.clock.now();
    if input.sort_by.is_some() != input.sort_order.is_some() {
        return Err(invalid("SortBy and SortOrder are given together or not at all."));
    }
    let is_newest_first = input.sort_order == Some(api::SortOrder::Descending);
    let after = input.next_token.as_deref().map(read_token).transpose()?;
    let mut rows: Vec<(Place, &Arc<AcmCertificate>)> = view
        .acm_certificates
        .of(caller.account)
        .map(|row| ((row.created_at.0, row.id.to_string()), row))
        .collect();
    rows.sort_by(|(one, _), (other, _)| match is_newest_first {
        true => other.cmp(one),
        false => one.cmp(other),
    });
    let is_shown_before = |place: &Place| match (&after, is_newest_first) {
        (None, _) => false,
        (Some(after), true) => after <= place,
        (Some(after), false) => place <= after,
    };
    let mut found =
        rows.into_iter().filter(|(place, _)| !is_shown_before(place)).filter_map(|(place, row)| {
            let facts = facts(row);
            is_asked(&input, row, facts.as_ref(), now)
                .then(|| (place, render(&view, row, facts, now)))
        });
    let size = input.max_items.and_then(|size| usize::try_from(size).ok()).unwrap_or(PAGE_DEFAULT);
    let mut last = None;
    let shown = found.by_ref().take(size.max(1)).map(|(place, summary)| {
        last = Some(place);
        summary
    });
    let shown: Vec<api::CertificateSummary> = shown.collect();
    let next_token = last
        .filter(|_| found.next().is_some())
        .map(|(at, id)| URL_SAFE_NO_PAD.encode(format!("{at} {id}")));
    Ok(api::ListCertificatesResponse { next_token, certificate_summary_list: Some(shown) })
}

fn read_token(text: &str) -> Result<Place, ApiError> {
    let read = || {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (at, id) = text.split_once(' ')?;
        Some((at.parse().ok()?, id.to_owned()))
    };
    read().ok_or_else(|| named("InvalidArgsException", "The NextToken is not valid."))
}

fn is_asked(
    input: &api::ListCertificatesRequest,
    row: &AcmCertificate,
    facts: Option<&Facts>,
    now: Timestamp,
) -> bool {
    let is_status = |all: &Vec<api::CertificateStatus>| all.contains(&status(row, now));
    let is_origin = |all: &Vec<api::CertificateKeyPairOrigin>| all.contains(&origin(row));
    if !input.certificate_statuses.as_ref().is_none_or(is_status)
        || !input.certificate_key_pair_origins.as_ref().is_none_or(is_origin)
    {
        return false;
    }
    let Some(asked) = &input.includes else { return true };
    let (no_keys, no_extended) = (Vec::new(), Vec::new());
    let usages = facts.map_or(&no_keys, |facts| &facts.usages);
    let extended = facts.map_or(&no_extended, |facts| &facts.extended);
    let key = facts.and_then(|facts| facts.key.as_ref());
    let is_key =
        |all: &Vec<api::KeyAlgorithm>| all.is_empty() || key.is_some_and(|key| all.contains(key));
    let is_usage = |all: &Vec<api::KeyUsageName>| {
        let is_any = all.is_empty() || all.contains(&api::KeyUsageName::Any);
        is_any || all.iter().any(|each| usages.contains(each))
    };
    let is_extended = |all: &Vec<api::ExtendedKeyUsageName>| {
        let is_any = all.is_empty() || all.contains(&api::ExtendedKeyUsageName::Any);
        is_any || all.iter().any(|each| extended.iter().any(|(name, _)| name == each))
    };
    asked.key_types.as_ref().is_none_or(is_key)
        && asked.key_usage.as_ref().is_none_or(is_usage)
        && asked.extended_key_usage.as_ref().is_none_or(is_extended)
        && asked.export_option.as_ref().is_none_or(|it| *it == api::CertificateExport::Disabled)
        && asked.managed_by.is_none()
}

fn render(
    view: &View,
    row: &AcmCertificate,
    facts: Option<Facts>,
    now: Timestamp,
) -> api::CertificateSummary {
    let is_issued = row.is_issued();
    let (usages, extended, key) = match facts {
        Some(facts) => {
            let extended = facts.extended.into_iter().map(|(name, _)| name).collect();
            (facts.usages, extended, facts.key)
        }
        None => (Vec::new(), Vec::new(), None),
    };
    let names = row.names.iter().take(NAMES_LISTED_MAX).cloned();
    api::CertificateSummary {
        certificate_arn: Some(row.arn()),
        domain_name: Some(row.domain.clone()),
        subject_alternative_name_summaries: Some(names.collect()),
        has_additional_subject_alternative_names: Some(NAMES_LISTED_MAX < row.names.len()),
        status: Some(status(row, now)),
        r#type: Some(kind(row)),
        key_algorithm: key,
        key_usages: Some(usages),
        extended_key_usages: Some(extended),
        export_option: is_issued.then_some(api::CertificateExport::Disabled),
        in_use: Some(!used_by(view, row).is_empty()),
        renewal_eligibility: Some(eligibility(row)),
        not_before: Some(row.not_before),
        not_after: Some(row.not_after),
        created_at: Some(row.created_at),
        issued_at: is_issued.then_some(row.created_at),
        imported_at: (!is_issued).then_some(row.changed_at),
        certificate_key_pair_origin: Some(origin(row)),
        ..api::CertificateSummary::default()
    }
}
