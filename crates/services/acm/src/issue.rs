//! The region's authority at work: a fresh key, and a certificate of it.

use aws_wire::ApiError;
use longshore_types::Timestamp;
use model::acm::IssuedKey;
use trust::{Ask, Signed, SignedKey, to_pem};

use crate::Acm;
use crate::limits::ISSUED_MS;

/// What was signed, as rows and answers have it.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) chain: String,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    pub(crate) signed: Signed,
}

impl Acm {
    /// Signs a certificate for these names, of which the first is the subject's.
    pub(crate) fn issue(&self, names: &[String], key: IssuedKey) -> Result<Issued, ApiError> {
        let now = self.control.clock.now();
        let ask = Ask {
            subject: names.first().map_or("", String::as_str),
            names,
            key: match key {
                IssuedKey::P256 => SignedKey::P256,
                IssuedKey::P384 => SignedKey::P384,
            },
            now,
            until: now.plus_ms(ISSUED_MS),
        };
        let signed = self.control.authority(now).and_then(|authority| authority.sign(&ask));
        let fault = |error| ApiError::fault("failed to sign a certificate", error);
        let signed = signed.map_err(fault)?;
        let facts = crate::x509::read(&signed.certificate);
        let facts = facts
            .ok_or_else(|| ApiError::fault("failed to read what was signed", "it is no X.509"))?;
        Ok(Issued {
            certificate: to_pem(&signed.certificate),
            chain: to_pem(&signed.authority),
            not_before: facts.not_before,
            not_after: facts.not_after,
            signed,
        })
    }
}
