//! Whose certificates a client believes: the system's authorities, those of a region, or the one that a
//! fingerprint names; and the authority that a region has of its own ([`Authority`]).
//!
//! Hosts of a region that give layers to each other know each other by certificates that they make themselves
//! ([`PeerIdentity`]), and by what the region granted ([`LayerTicket`]).
//!
//! **Invariant:** a name is always verified, or the very certificate is. Nothing here makes a client that believes anybody.

mod authority;
mod join_token;
mod layer_ticket;
mod peer;
mod pinned;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest as _, Sha256};

pub use authority::{
    AUTHORITY_DIR, AUTHORITY_FILE, Ask, Authority, AuthorityError, Signed, SignedKey,
};
pub use join_token::{JoinToken, NotAToken};
pub use layer_ticket::{
    LayerHolder, LayerTicket, NotGranted, NotOurs, TicketKey, read_holders, write_holders,
};
pub use peer::{PeerError, PeerIdentity, shown};
pub use pinned::{NotPinned, pinned};

/// The one TLS that everything here is made with.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A text that has no certificates.
#[derive(Debug, thiserror::Error)]
#[error("it holds no certificates in PEM form")]
pub struct NoCertificates;

/// The certificates of a PEM text, in its order; at least one.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, NoCertificates> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    read.ok().filter(|all| !all.is_empty()).ok_or(NoCertificates)
}

/// A certificate as a PEM text.
pub fn to_pem(certificate: &[u8]) -> String {
    const LINE: usize = 64;
    let encoded = STANDARD.encode(certificate);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for (position, letter) in encoded.chars().enumerate() {
        if position > 0 && position % LINE == 0 {
            text.push('\n');
        }
        text.push(letter);
    }
    text.push_str("\n-----END CERTIFICATE-----\n");
    text
}

/// What tells a certificate from all others: the SHA-256 of its DER form.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no fingerprint.
#[derive(Debug, thiserror::Error)]
#[error("a fingerprint has 64 hexadecimal digits")]
pub struct NotAFingerprint;

impl FromStr for Fingerprint {
    type Err = NotAFingerprint;

    fn from_str(text: &str) -> Result<Self, NotAFingerprint> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| NotAFingerprint)?;
        Ok(Self(bytes))
    }
}

/// Whom a client believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    is_system: bool,
    authorities: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// The authorities that the machine's owner trusts.
    pub fn system() -> Self {
        Self { is_system: true, authorities: Vec::new() }
    }

    /// The authorities of a PEM text, and nobody else.
    pub fn only(pem: &[u8]) -> Result<Self, NoCertificates> {
        Ok(Self { is_system: false, authorities: certificates(pem)? })
    }

    /// The system's authorities besides.
    #[must_use]
    pub fn and_system(mut self) -> Self {
        self.is_system = true;
        self
    }

    /// Reads the system's certificates, which takes a while: make it once. What can't be read is left out, so that
    /// servers are refused rather than believed.
    pub fn client_config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        if self.is_system {
            let found = rustls_native_certs::load_native_certs();
            let (added, _) = roots.add_parsable_certificates(found.certs);
            if added == 0 && self.authorities.is_empty() {
                tracing::warn!("no certificate authorities found, https will be refused");
            }
        }
        roots.add_parsable_certificates(self.authorities.iter().cloned());
        ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring supports the default protocol versions")
            .with_root_certificates(roots)
            .with_no_client_auth()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_it_is_written() {
        let fingerprint = Fingerprint::of(b"a certificate");
        assert_eq!(fingerprint.to_string().parse::<Fingerprint>().unwrap(), fingerprint);
        for bad in ["", "00", &"g".repeat(64), &"0".repeat(66)] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_certificate_is_read_as_it_is_written() {
        let der: Vec<u8> = (0..=255).collect();
        assert_eq!(certificates(to_pem(&der).as_bytes()).unwrap(), [CertificateDer::from(der)]);
    }

    #[test]
    fn a_text_without_certificates_makes_nobody_trusted() {
        assert!(Trust::only(b"").is_err());
        assert!(Trust::only(b"-----BEGIN CERTIFICATE-----\n").is_err());
    }
}
