//! TLS: what listeners show to clients, and what targets are met with.

use std::collections::BTreeMap;
use std::sync::Arc;

use routing::{
    Alpn, Balancer, Certificate, CertificateId, Kind, Listener, Table, TargetIdentity, TlsSettings,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CipherSuite, ClientConfig, DigitallySignedStruct, ProtocolVersion, RootCertStore, ServerConfig,
    ServerConnection, SignatureAlgorithm, SignatureScheme, SupportedProtocolVersion,
};
use tracing::warn;

use crate::live::LiveListener;

/// What was agreed with a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFacts {
    pub(crate) is_h2: bool,
    /// The protocol within that was agreed on (ALPN).
    pub(crate) protocol: Option<String>,
    /// `TLSv1.3`.
    pub(crate) version: &'static str,
    /// In OpenSSL's name.
    pub(crate) cipher: &'static str,
    /// The host that the client named.
    pub(crate) name: Option<String>,
}

impl TlsFacts {
    pub(crate) fn of(connection: &ServerConnection) -> Self {
        Self {
            is_h2: connection.alpn_protocol() == Some(b"h2".as_slice()),
            protocol: connection
                .alpn_protocol()
                .map(|name| String::from_utf8_lossy(name).into_owned()),
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                _ => "TLSv1.2",
            },
            cipher: connection.negotiated_cipher_suite().map_or("-", |suite| cipher(suite.suite())),
            name: connection.server_name().map(str::to_owned),
        }
    }
}

fn cipher(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => {
            "ECDHE-ECDSA-CHACHA20-POLY1305"
        }
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        _ => "-",
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// What clients are offered: the suites that DescribeSSLPolicies names.
fn offered() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    provider.cipher_suites.retain(|suite| {
        !matches!(
            suite.suite(),
            CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
        )
    });
    Arc::new(provider)
}

const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
const NEW: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
const OLD: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];

/// The part of a policy that can be served: TLS 1.0 and 1.1 and suites without forward secrecy are never offered.
fn versions(policy: &str) -> &'static [&'static SupportedProtocolVersion] {
    match policy.strip_prefix("ELBSecurityPolicy-TLS13-") {
        Some(rest) if rest.starts_with("1-3") => NEW,
        Some(_) => BOTH,
        None => OLD,
    }
}

/// Whether a listener's certificates are what they were when `old` was made.
pub(crate) fn is_same(table: &Table, listener: &Listener, old: &LiveListener) -> bool {
    let Some(tls) = &listener.tls else { return false };
    let named = std::iter::once(&tls.default_certificate).chain(&tls.certificates);
    named.into_iter().all(|id| table.certificates.get(id) == old.certificates.get(id))
}

/// The certificates of a table that a listener shows.
pub(crate) fn certificates(
    listener: &Listener,
    table: &Table,
) -> BTreeMap<CertificateId, Certificate> {
    let named = listener
        .tls
        .iter()
        .flat_map(|tls| std::iter::once(&tls.default_certificate).chain(&tls.certificates));
    named.filter_map(|id| Some((id.clone(), table.certificates.get(id)?.clone()))).collect()
}

/// How a listener meets clients; `None` if it has no TLS, or none of its certificates can be used.
pub(crate) fn server_config(
    balancer: &Balancer,
    listener: &Listener,
    certificates: &BTreeMap<CertificateId, Certificate>,
) -> Option<(Arc<ServerConfig>, Arc<Shown>)> {
    let tls = listener.tls.as_ref()?;
    let shown = Arc::new(Shown::new(tls, certificates)?);
    let builder = ServerConfig::builder_with_provider(offered());
    let builder = builder.with_protocol_versions(versions(&tls.policy)).ok()?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::<Shown>::clone(&shown));
    let alpn: &[&[u8]] = match (balancer.kind, balancer.attributes.http2, tls.alpn) {
        (Kind::Application, true, _) => &[b"h2", b"http/1.1"],
        (Kind::Application, false, _) => &[b"http/1.1"],
        (Kind::Network, _, Alpn::None) => &[],
        (Kind::Network, _, Alpn::Http1Only) => &[b"http/1.1"],
        (Kind::Network, _, Alpn::Http2Only) => &[b"h2"],
        (Kind::Network, _, Alpn::Http2Optional) => &[b"http/1.1", b"h2"],
        (Kind::Network, _, Alpn::Http2Preferred) => &[b"h2", b"http/1.1"],
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Some((Arc::new(config), shown))
}

/// The certificates of a listener, found by the host that a client names.
#[derive(Debug)]
pub(crate) struct Shown {
    default: Named,
    /// By name, in lower case; a wildcard as `*.example.com`.
    by_name: BTreeMap<String, Vec<Named>>,
}

type Named = (CertificateId, Arc<CertifiedKey>);

impl Shown {
    fn new(tls: &TlsSettings, certificates: &BTreeMap<CertificateId, Certificate>) -> Option<Self> {
        let mut by_name: BTreeMap<String, Vec<Named>> = BTreeMap::new();
        let mut default = None;
        for id in std::iter::once(&tls.default_certificate).chain(&tls.certificates) {
            let Some(certificate) = certificates.get(id) else {
                warn!(certificate = %id, "certificate is not in the table");
                continue;
            };
            let key = match certified(certificate) {
                Ok(key) => Arc::new(key),
                Err(why) => {
                    warn!(certificate = %id, %why, "certificate cannot be used");
                    continue;
                }
            };
            for name in names(&key) {
                let named = (id.clone(), Arc::clone(&key));
                by_name.entry(name.to_ascii_lowercase()).or_default().push(named);
            }
            default.get_or_insert_with(|| (id.clone(), key));
        }
        Some(Self { default: default?, by_name })
    }

    /// Which certificate whoever named a host was shown; none: one of several, by what the client could make use of.
    pub(crate) fn to(&self, name: Option<&str>) -> Option<&CertificateId> {
        match name.and_then(|name| self.find(name)).map(Vec::as_slice) {
            None | Some([]) => Some(&self.default.0),
            // A client that cannot use its kind of key is shown the default, and hardly goes on.
            Some([(id, _)]) => Some(id),
            Some(_) => None,
        }
    }

    fn find(&self, name: &str) -> Option<&Vec<Named>> {
        let name = name.to_ascii_lowercase();
        self.by_name.get(&name).or_else(|| {
            // A wildcard stands for one label.
            let (_, rest) = name.split_once('.')?;
            self.by_name.get(&format!("*.{rest}"))
        })
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fits =
            |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let named = hello.server_name().and_then(|name| self.find(name));
        let of_kind = |wanted_ecdsa: bool| {
            let mut keys = named.into_iter().flatten().map(|(_, key)| key);
            keys.find(|key| is_ecdsa(key) == wanted_ecdsa && fits(key))
        };
        Some(Arc::clone(of_kind(true).or_else(|| of_kind(false)).unwrap_or(&self.default.1)))
    }
}

fn is_ecdsa(key: &CertifiedKey) -> bool {
    key.key.algorithm() == SignatureAlgorithm::ECDSA
}

fn certified(certificate: &Certificate) -> Result<CertifiedKey, String> {
    let chain: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_slice_iter(certificate.chain_pem.as_bytes()).collect();
    let chain = chain.map_err(|error| format!("its chain is no PEM: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.as_bytes())
        .map_err(|error| format!("its key is no PEM: {error}"))?;
    CertifiedKey::from_der(chain, key, &ring::default_provider())
        .map_err(|error| format!("certificate and key do not fit: {error}"))
}

fn names(key: &CertifiedKey) -> Vec<String> {
    let Some(first) = key.cert.first() else { return Vec::new() };
    webpki::EndEntityCert::try_from(first)
        .map(|cert| cert.valid_dns_names().map(str::to_owned).collect())
        .unwrap_or_default()
}

/// How targets are met: whose certificate they show does not matter, as at AWS.
#[derive(Clone, Debug)]
pub(crate) struct ToTargets {
    pub(crate) h1: Arc<ClientConfig>,
    pub(crate) h2: Arc<ClientConfig>,
}

impl ToTargets {
    pub(crate) fn new() -> Self {
        Self { h1: client_config(BOTH, &[]), h2: client_config(BOTH, &[b"h2"]) }
    }
}

/// How a target is met with TLS.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meeting<'a> {
    pub(crate) config: &'a Arc<ClientConfig>,
    /// Whom its certificate has to name; none: whose it is does not matter.
    pub(crate) name: Option<&'a ServerName<'static>>,
}

/// How targets are met that have to show an identity: by TLS 1.3, and by nothing else.
#[derive(Clone, Debug)]
pub(crate) struct Verifying {
    name: ServerName<'static>,
    h1: Arc<ClientConfig>,
    h2: Arc<ClientConfig>,
    plain: Arc<ClientConfig>,
}

impl Verifying {
    /// None of an identity that nobody can have.
    pub(crate) fn new(identity: &TargetIdentity) -> Option<Self> {
        let name = ServerName::try_from(identity.name.clone()).ok()?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(identity.authority_pem.as_bytes()) {
            roots.add(certificate.ok()?).ok()?;
        }
        let config = |alpn: &[&[u8]]| {
            let builder = ClientConfig::builder_with_provider(provider());
            let builder = builder.with_protocol_versions(NEW).ok()?;
            let mut config = builder.with_root_certificates(roots.clone()).with_no_client_auth();
            config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
            Some(Arc::new(config))
        };
        let (h1, h2, plain) = (config(&[b"http/1.1"])?, config(&[b"h2"])?, config(&[])?);
        Some(Self { name, h1, h2, plain })
    }

    pub(crate) fn for_http(&self, is_h2: bool) -> Meeting<'_> {
        let config = if is_h2 { &self.h2 } else { &self.h1 };
        Meeting { config, name: Some(&self.name) }
    }

    pub(crate) fn for_flows(&self) -> Meeting<'_> {
        Meeting { config: &self.plain, name: Some(&self.name) }
    }
}

/// Whoever takes every certificate.
pub(crate) fn client_config(
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&[u8]],
) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider());
    let builder =
        builder.with_protocol_versions(versions).expect("the provider has suites of both versions");
    let anybody = Arc::new(Anybody(ring::default_provider()));
    let mut config =
        builder.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// Takes every certificate; that its holder has the key is checked all the same.
#[derive(Debug)]
struct Anybody(CryptoProvider);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
