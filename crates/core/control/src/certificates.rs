//! Certificates of Certificate Manager as others than its service need them: found by ARN, opened, and who uses one.

use aws_wire::ApiError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use longshore_types::{AccountId, Timestamp, Uuid};
use model::{AcmCertificate, ElbListener, Index, Key, View};
use std::sync::Arc;
use store::Batch;
use vault::Zeroizing;

use crate::Control;

/// The service's name to KMS.
pub const SERVICE: &str = "acm";

fn bound_to(account: AccountId, id: Uuid) -> Vec<u8> {
    format!("acm-certificate|{account}|{id}").into_bytes()
}

/// The listeners that show a certificate.
pub fn listeners_of<'v>(
    view: &'v View,
    account: AccountId,
    id: Uuid,
) -> impl Iterator<Item = &'v Arc<ElbListener>> + use<'v> {
    view.members(&Index::CertificateListeners(account, id)).filter_map(move |key| match key {
        Key::ElbListener(account, path) => view.elb_listeners.get(*account, path),
        _ => None,
    })
}

impl Control {
    /// The account's certificate that an ARN names.
    pub fn certificate<'v>(
        &self,
        view: &'v View,
        account: AccountId,
        arn: &str,
    ) -> Option<&'v Arc<AcmCertificate>> {
        let id = model::acm::id_of(&self.scope_of(account), arn)?;
        view.acm_certificates.get(account, &id)
    }

    /// A certificate's private key as its row keeps it, sealed by the account's key of the service.
    pub fn seal_certificate_key(
        &self,
        view: &View,
        batch: &mut Batch,
        account: AccountId,
        id: Uuid,
        key_pem: &str,
        now: Timestamp,
    ) -> Result<String, ApiError> {
        let key = self.managed_key(view, batch, account, SERVICE, now).key;
        let sealed = self.seal_by(&key, &bound_to(account, id), key_pem.as_bytes())?;
        Ok(STANDARD.encode(sealed))
    }

    /// The private key of a certificate, in PEM.
    pub fn certificate_key(
        &self,
        view: &View,
        row: &AcmCertificate,
    ) -> Result<Zeroizing<String>, ApiError> {
        let damaged = |why: &str| ApiError::fault("failed to open a certificate's key", why);
        let sealed = STANDARD.decode(&row.sealed_key).map_err(|_| damaged("it is no base 64"))?;
        let opened = self.open_sealed(view, &bound_to(row.scope.account, row.id), &sealed);
        let opened = opened.map_err(|why| why.fault("failed to open a certificate's key"))?;
        let text = std::str::from_utf8(&opened).map_err(|_| damaged("it is no text"))?;
        Ok(Zeroizing::new(text.to_owned()))
    }
}
