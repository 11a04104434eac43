//! RenewCertificate, and certificates that are signed anew before they end.
//!
//! A renewed certificate has another key and the same ARN; listeners show it from their next connection on.

use std::sync::Arc;

use acm_api as api;
use aws_wire::{ApiError, Caller};
use control::Permission;
use control::reconcile::{Pass, PassFuture, Queue, Reconciler};
use longshore_types::{AccountId, Timestamp, Uuid};
use model::acm::{CertificateOrigin, IssuedKey};
use model::{AcmCertificate, Key, View};
use store::{Batch, Change};
use tracing::info;

use crate::Acm;
use crate::errors::invalid;
use crate::issue::Issued;
use crate::limits::RENEW_BEFORE_MS;

/// When a certificate is to be signed anew, and for which key; none of one that was imported.
fn due(row: &AcmCertificate) -> Option<(Timestamp, IssuedKey)> {
    match row.origin {
        CertificateOrigin::Issued(key) => {
            Some((Timestamp(row.not_after.0.saturating_sub(RENEW_BEFORE_MS)), key))
        }
        CertificateOrigin::Imported => None,
    }
}

/// The batch that puts what was signed in the place of what is there.
fn renewed(
    it: &Acm,
    view: &View,
    row: &AcmCertificate,
    issued: &Issued,
    now: Timestamp,
) -> Result<Batch, ApiError> {
    let mut batch = Batch::on(view);
    let (account, key_pem) = (row.scope.account, &issued.signed.key_pem);
    let sealed_key =
        it.control.seal_certificate_key(view, &mut batch, account, row.id, key_pem, now)?;
    batch.put(AcmCertificate {
        certificate: issued.certificate.clone(),
        chain: Some(issued.chain.clone()),
        sealed_key,
        not_before: issued.not_before,
        not_after: issued.not_after,
        changed_at: now,
        renewed_at: Some(now),
        ..row.clone()
    });
    Ok(batch)
}

pub(crate) async fn renew_certificate(
    it: &Acm,
    caller: &Caller,
    input: api::RenewCertificateRequest,
) -> Result<(), ApiError> {
    let arn = input.certificate_arn.unwrap_or_default();
    let action = "acm:RenewCertificate";
    let (_, row) = it.read(caller, action, &arn)?;
    let Some((_, key)) = due(&row) else {
        return Err(invalid(format!(
            "Certificate {arn} was imported and is not renewed: import another one in its place."
        )));
    };
    let issued = it.issue(&row.names, key)?;
    let permission = Permission::to(action).on(arn.clone());
    let decided = it.control.change(caller, &permission, |view, now| {
        let row = it.certificate(view, caller, &arn)?;
        Ok((renewed(it, view, row, &issued, now)?, ()))
    });
    decided.await
}

/// Signs anew what ends soon.
#[derive(Debug)]
pub(crate) struct Renewal(pub(crate) Arc<Acm>);

impl Reconciler for Renewal {
    type Key = (AccountId, Uuid);
    type Note = ();
    type Error = ApiError;

    fn name(&self) -> &'static str {
        "acm-certificates"
    }

    fn wake(&mut self, view: &View, change: &Change, queue: &mut Queue<Self::Key>) {
        if let Key::AcmCertificate(account, id) = &change.key
            && view.acm_certificates.get(*account, id).is_some_and(|row| due(row).is_some())
        {
            queue.changed(&(*account, *id), change.seq);
        }
    }

    fn keys(&mut self, view: &View) -> Vec<Self::Key> {
        let issued = view.acm_certificates.iter().filter(|row| due(row).is_some());
        issued.map(|row| (row.scope.account, row.id)).collect()
    }

    fn pass(&self, key: &Self::Key) -> PassFuture<Result<Pass<()>, ApiError>> {
        let (it, (account, id)) = (Arc::clone(&self.0), *key);
        Box::pin(async move {
            let view = it.control.view();
            let over = Pass { looked_at: view.seq, is_over: true, ..Pass::default() };
            let Some(row) = view.acm_certificates.get(account, &id) else { return Ok(over) };
            let Some((at, key)) = due(row) else { return Ok(over) };
            if it.control.clock.now() < at {
                return Ok(Pass { is_over: false, again_at: Some(at), ..over });
            }
            let issued = it.issue(&row.names, key)?;
            let decided = it.control.decide(|view, now| {
                let row = view.acm_certificates.get(account, &id);
                let batch = match row.filter(|row| due(row).is_some_and(|(at, _)| at <= now)) {
                    Some(row) => renewed(&it, view, row, &issued, now)?,
                    // It went, or was renewed by somebody else.
                    None => Batch::on(view),
                };
                Ok((batch, view.seq))
            });
            let looked_at = decided.await?;
            info!(certificate = %row.arn(), "certificate renewed");
            let again_at = Some(Timestamp(issued.not_after.0.saturating_sub(RENEW_BEFORE_MS)));
            Ok(Pass { looked_at, again_at, ..Pass::default() })
        })
    }
}
