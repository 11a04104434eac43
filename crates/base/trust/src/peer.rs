//! How two hosts meet that know of each other by the region alone: each shows a certificate that it made itself, and is
//! known by its fingerprint.
//!
//! **Invariant:** whoever shows a certificate has its key; a server's is the one that the region named. What a client's
//! is good for, the ticket says that it brings.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
};

use crate::{Fingerprint, provider};

/// Why a host has no certificate to show.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    #[error("failed to make a certificate")]
    Make(#[from] rcgen::Error),
    #[error("failed to prepare TLS")]
    Tls(#[from] rustls::Error),
}

/// A host's key and certificate towards other hosts. Both end with the process that made them.
pub struct PeerIdentity {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl PeerIdentity {
    pub fn make() -> Result<Self, PeerError> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::default().self_signed(&key)?.into();
        Ok(Self { certificate, key })
    }

    /// What others know it by.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, Error> {
        let key = self.key.serialize_der();
        PrivateKeyDer::try_from(key).map_err(|why| Error::General(why.to_owned()))
    }

    /// Takes whoever has the key of the certificate that it shows; [`shown`] says which that is.
    pub fn server_config(&self) -> Result<ServerConfig, PeerError> {
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(AnyKey(provider())))
            .with_single_cert(vec![self.certificate.clone()], self.key()?)?;
        Ok(config)
    }

    /// Meets the one server that has the key of this certificate.
    pub fn client_config(&self, server: Fingerprint) -> Result<ClientConfig, PeerError> {
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Exactly { server, provider: provider() }))
            .with_client_auth_cert(vec![self.certificate.clone()], self.key()?)?;
        Ok(config)
    }
}

impl std::fmt::Debug for PeerIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PeerIdentity").field(&self.fingerprint()).finish()
    }
}

/// Who the other side of a connection is, by the certificates that it showed.
pub fn shown(certificates: Option<&[CertificateDer<'_>]>) -> Option<Fingerprint> {
    certificates.and_then(<[_]>::first).map(|it| Fingerprint::of(it))
}

#[derive(Debug)]
struct Exactly {
    server: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Exactly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if Fingerprint::of(end_entity) == self.server {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("hosts speak TLS 1.3 to each other".to_owned()))
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

#[derive(Debug)]
struct AnyKey(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("hosts speak TLS 1.3 to each other".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rustls::{ClientConnection, ServerConnection};

    use super::*;

    /// What each side makes of the other.
    fn meet(
        server: &PeerIdentity,
        client: ClientConfig,
    ) -> Result<(Option<Fingerprint>, Option<Fingerprint>), Error> {
        let name = ServerName::try_from("host").unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        let config = server.server_config().unwrap();
        let mut server = ServerConnection::new(Arc::new(config)).unwrap();
        for _ in 0..8 {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut wire = Vec::new();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok((shown(server.peer_certificates()), shown(client.peer_certificates())))
    }

    #[test]
    fn two_hosts_know_each_other_by_their_certificates_and_take_no_other() {
        let make = || PeerIdentity::make().unwrap();
        let (server, client, other) = (make(), make(), make());
        let config = client.client_config(server.fingerprint()).unwrap();
        let known = (Some(client.fingerprint()), Some(server.fingerprint()));
        assert_eq!(meet(&server, config).unwrap(), known);
        let config = client.client_config(server.fingerprint()).unwrap();
        assert!(meet(&other, config).is_err(), "another's server is not the one that was named");
    }

    #[test]
    fn who_shows_no_certificate_or_another_ones_is_not_taken() {
        let make = || PeerIdentity::make().unwrap();
        let (server, victim, thief) = (make(), make(), make());
        let bare = |server: Fingerprint| {
            ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(&[&rustls::version::TLS13])
                .unwrap()
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Exactly {
                    server,
                    provider: provider(),
                }))
        };
        let none = bare(server.fingerprint()).with_no_client_auth();
        assert!(meet(&server, none).is_err());
        let stolen = bare(server.fingerprint())
            .with_client_auth_cert(vec![victim.certificate.clone()], thief.key().unwrap());
        assert!(stolen.map_or(true, |config| meet(&server, config).is_err()));
    }
}
