//! Certificates from an ACME server (RFC 8555): an account there, orders, and what the server looks for to see that a name is
//! ours.
//!
//! The account is made at the first order and kept in a file. **Invariant:** a proof is shown before the server is told to
//! look for it, and hidden once the order is over, whatever became of it.

mod client;
mod http_client;
mod issued;

use std::fmt;
use std::str::FromStr;

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use trust::Trust;
use zeroize::Zeroizing;

pub use client::{Acme, AcmeError};
pub use issued::{Issued, NotACertificate};

/// The protocol that a server asks for when it looks for a proof by TLS.
pub const TLS_PROTOCOL: &[u8] = b"acme-tls/1";
/// Below it a server looks for a proof by HTTP.
pub const HTTP_PATH: &str = "/.well-known/acme-challenge/";

/// Which server, and who we are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The URL of its directory.
    pub directory: String,
    /// Mail addresses that it may write to.
    pub contacts: Vec<String>,
    /// Whose certificate it must show.
    pub trust: Trust,
    /// What servers ask for that have accounts by other ways.
    pub binding: Option<Binding>,
}

/// An account that somebody has with the server already (External Account Binding).
#[derive(Clone, PartialEq, Eq)]
pub struct Binding {
    pub key_id: String,
    pub key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Binding").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// How the server looks for a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// At port 80 of the name.
    Http,
    /// At port 443 of the name.
    Tls,
}

impl Method {
    /// As the protocol calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http-01",
            Self::Tls => "tls-alpn-01",
        }
    }
}

/// What the server looks for at a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub name: String,
    /// The last part of the path that it asks for.
    pub token: String,
    /// What it wants to read there.
    pub answer: String,
    /// What the certificate must have that it is shown by TLS.
    pub digest: [u8; 32],
}

impl Proof {
    /// The certificate that it is shown by TLS, and its key: signed by itself, of use for nothing else.
    pub fn certificate(
        &self,
    ) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![self.name.clone()])?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(&self.digest)];
        let made = params.self_signed(&key)?;
        Ok((made.into(), PrivateKeyDer::Pkcs8(key.serialize_der().into())))
    }
}

/// Shows proofs where the server looks.
pub trait Show: Send + Sync {
    fn show(&self, proof: Proof) -> Result<(), ShowError>;

    /// Hides what was shown.
    fn hide(&self);
}

/// Why a proof cannot be shown.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ShowError(pub String);

/// The URL of a server's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory(String);

/// A text that is no directory.
#[derive(Debug, thiserror::Error)]
#[error("an ACME server's directory is a URL that begins with https://")]
pub struct NotADirectory;

impl FromStr for Directory {
    type Err = NotADirectory;

    fn from_str(text: &str) -> Result<Self, NotADirectory> {
        let url: http::Uri = text.parse().map_err(|_| NotADirectory)?;
        let is_fit = url.scheme_str() == Some("https") && url.host().is_some();
        if is_fit { Ok(Self(text.to_owned())) } else { Err(NotADirectory) }
    }
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_asked_by_tls_alone() {
        for good in ["https://acme.lan/dir", "https://127.0.0.1:14000/dir"] {
            assert_eq!(good.parse::<Directory>().unwrap().to_string(), good);
        }
        for bad in ["", "acme.lan", "http://acme.lan/dir", "https:///dir", "https://a b"] {
            assert!(bad.parse::<Directory>().is_err(), "{bad}");
        }
    }
}
