//! What a server issued.

use std::fmt;

use longshore_types::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use zeroize::Zeroizing;

/// A certificate with those between it and its authority, and its key.
pub struct Issued {
    /// The certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// PKCS #8 in PEM.
    pub key_pem: Zeroizing<String>,
    pub names: Vec<String>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

/// A text that has no certificate with its key.
#[derive(Debug, thiserror::Error)]
#[error("it holds no certificate for names in PEM form")]
pub struct NotACertificate;

impl Issued {
    /// Reads the chain, and what its first certificate says.
    pub fn read(chain_pem: &str, key_pem: Zeroizing<String>) -> Result<Self, NotACertificate> {
        let chain = trust::certificates(chain_pem.as_bytes()).map_err(|_| NotACertificate)?;
        let (_, first) = X509Certificate::from_der(&chain[0]).map_err(|_| NotACertificate)?;
        let found = first.subject_alternative_name().ok().flatten().ok_or(NotACertificate)?;
        let text = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        };
        let names = found.value.general_names.iter().filter_map(text).collect();
        let moment = |seconds: i64| Timestamp(u64::try_from(seconds).unwrap_or(0) * 1_000);
        let (not_before, not_after) = (first.validity().not_before, first.validity().not_after);
        let (not_before, not_after) = (not_before.timestamp(), not_after.timestamp());
        Ok(Self {
            names,
            not_before: moment(not_before),
            not_after: moment(not_after),
            key_pem,
            chain,
        })
    }

    /// As one text, the key first: a file of it is either all of this or nothing.
    pub fn to_pem(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(self.key_pem.to_string());
        for certificate in &self.chain {
            text.push_str(&trust::to_pem(certificate));
        }
        text
    }

    /// Reads what [`Issued::to_pem`] wrote.
    pub fn from_pem(text: &str) -> Result<Self, NotACertificate> {
        const FIRST: &str = "-----BEGIN CERTIFICATE-----";
        let at = text.find(FIRST).ok_or(NotACertificate)?;
        let (key, chain) = text.split_at(at);
        Self::read(chain, Zeroizing::new(key.to_owned()))
    }

    pub fn key(&self) -> Result<PrivateKeyDer<'static>, NotACertificate> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).map_err(|_| NotACertificate)
    }

    /// Whether the key is that of the first certificate.
    pub fn is_pair(&self) -> bool {
        let Ok(key) = self.key() else { return false };
        CertifiedKey::from_der(self.chain.clone(), key, &trust::provider()).is_ok()
    }

    /// Whether it is for all of these names.
    pub fn is_for(&self, names: &[String]) -> bool {
        let has = |name: &String| self.names.iter().any(|own| own.eq_ignore_ascii_case(name));
        names.iter().all(has)
    }

    /// When another one is to be asked for: once a third of its time is left.
    pub fn renew_at(&self) -> Timestamp {
        let lasts_ms = self.not_after.since_ms(self.not_before);
        Timestamp(self.not_after.0.saturating_sub(lasts_ms / 3))
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { names, not_after, .. } = self;
        f.debug_struct("Issued").field("names", names).field("not_after", not_after).finish()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn a_key_is_that_of_the_first_certificate_or_the_two_are_of_no_use() {
        let made = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            (params.self_signed(&key).unwrap().pem(), Zeroizing::new(key.serialize_pem()))
        };
        let ((one, key), (other, _)) = (made("region.lan"), made("region.lan"));
        let is_pair = |chain: &str| Issued::read(chain, key.clone()).unwrap().is_pair();
        assert!(is_pair(&one) && is_pair(&format!("{one}{other}")));
        assert!(!is_pair(&other) && !is_pair(&format!("{other}{one}")));
        let no_key = Issued::read(&one, Zeroizing::new(String::new())).unwrap();
        assert!(!no_key.is_pair());
    }
}
