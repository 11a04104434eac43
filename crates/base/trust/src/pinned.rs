//! A client that believes the one authority whose fingerprint it was given, and learns its certificate from the
//! server: for a host that has nothing yet but a token.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
};

use crate::{Fingerprint, provider};

/// The server showed certificates, and none of the authority that was expected.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the server shows no certificate of the authority {expected}; its last one is {shown}")]
pub struct NotPinned {
    pub expected: Fingerprint,
    pub shown: Fingerprint,
}

/// A client for servers whose chain has the certificate with this fingerprint and is signed by it.
pub fn pinned(pin: Fingerprint) -> ClientConfig {
    let verifier = Verifier { pin, provider: provider() };
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth()
}

#[derive(Debug)]
struct Verifier {
    pin: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authority = intermediates.iter().find(|each| Fingerprint::of(each) == self.pin);
        let Some(authority) = authority else {
            let last = intermediates.last().unwrap_or(end_entity);
            let why = NotPinned { expected: self.pin, shown: Fingerprint::of(last) };
            return Err(CertificateError::Other(OtherError(Arc::new(why))).into());
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let provider = Arc::clone(&self.provider);
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

    use super::*;

    struct Authority {
        certificate: CertificateDer<'static>,
        issuer: Issuer<'static, KeyPair>,
    }

    fn authority() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().into();
        Authority { certificate, issuer: Issuer::new(params, key) }
    }

    fn leaf(authority: &Authority, name: &str) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.signed_by(&key, &authority.issuer).unwrap().into()
    }

    fn verify(
        pin: Fingerprint,
        chain: &[&CertificateDer<'static>],
        name: &str,
    ) -> Result<(), String> {
        let verifier = Verifier { pin, provider: provider() };
        let rest: Vec<_> = chain[1..].iter().copied().cloned().collect();
        let name = ServerName::try_from(name).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
        let verified = verifier.verify_server_cert(chain[0], &rest, &name, &[], now);
        verified.map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn the_pinned_authoritys_server_is_believed_by_its_name_alone() {
        let (ours, other) = (authority(), authority());
        let pin = Fingerprint::of(&ours.certificate);
        let server = leaf(&ours, "region.lan");
        assert_eq!(verify(pin, &[&server, &ours.certificate], "region.lan"), Ok(()));
        let refused = verify(pin, &[&server, &ours.certificate], "other.lan").unwrap_err();
        assert!(refused.contains("not valid for name"), "{refused}");
        let theirs = leaf(&other, "region.lan");
        let refused = verify(pin, &[&theirs, &other.certificate], "region.lan").unwrap_err();
        assert!(refused.contains(&pin.to_string()), "{refused}");
        // One who shows the right authority beside a certificate of another's.
        let refused = verify(pin, &[&theirs, &ours.certificate], "region.lan").unwrap_err();
        assert!(!refused.contains(&pin.to_string()), "{refused}");
        assert!(verify(pin, &[&server], "region.lan").is_err(), "the authority is not shown");
    }
}
