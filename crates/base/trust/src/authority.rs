//! A region's own authority: a key and a certificate in files, which sign for its listener and for certificates that
//! are asked of it.
//!
//! Its name is made from its key, so that the key alone is enough to sign with.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use files::format::{self, Step};
use files::whole::{self, Durability};
use longshore_types::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PublicKeyData as _, SanType,
};
use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use tracing::info;
use zeroize::Zeroizing;

use crate::{NoCertificates, certificates};

/// The directory within a region's data directory.
pub const AUTHORITY_DIR: &str = "tls";
/// What clients are to believe, within that directory.
pub const AUTHORITY_FILE: &str = "ca.pem";
const KEY_FILE: &str = "ca.key";
const DAY_MS: u64 = 24 * 3_600_000;
/// Hosts know the authority by its certificate, so it outlives them.
const AUTHORITY_MS: u64 = 30 * 365 * DAY_MS;
/// Hosts' clocks may be behind by so much.
const SKEW_MS: u64 = DAY_MS;
/// What raises the directory to the version of this release, in order.
const FORMAT_STEPS: &[Step] = &[];

/// Why there is no authority, or why it signs nothing.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("failed to {doing} {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{}: {source}", path.display())]
    Certificates { path: PathBuf, source: NoCertificates },
    #[error("{} holds no private key in PEM form", path.display())]
    Key { path: PathBuf },
    #[error(
        "{} is there and its key {} is not: put it back, or remove the first and have every host join again",
        certificate.display(), key.display()
    )]
    KeyIsGone { certificate: PathBuf, key: PathBuf },
    #[error("failed to sign a certificate")]
    Sign { source: rcgen::Error },
}

/// What sort of key a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignedKey {
    P256,
    P384,
}

/// What a certificate is to say.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The name of its subject; of anything longer than a name may be, nothing.
    pub subject: &'a str,
    /// Hosts' names, wildcards among them, and addresses.
    pub names: &'a [String],
    pub key: SignedKey,
    pub now: Timestamp,
    pub until: Timestamp,
}

/// A certificate, that of the authority, and the key, in PEM.
pub struct Signed {
    pub certificate: CertificateDer<'static>,
    pub authority: CertificateDer<'static>,
    /// PKCS #8 in PEM.
    pub key_pem: Zeroizing<String>,
}

impl fmt::Debug for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signed(…)")
    }
}

/// Characters that a subject's common name may have.
const COMMON_NAME_MAX: usize = 64;

/// Signs certificates.
pub struct Authority {
    file: PathBuf,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Reads it, or makes it if there is none. The key is on disk before its certificate, so that a kill in between
    /// leaves a key without one, and nobody has seen that.
    pub fn open(dir: &Path, now: Timestamp) -> Result<Self, AuthorityError> {
        let io = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| AuthorityError::Io { doing, path, source }
        };
        files::private::make_dirs(dir).map_err(io("create", dir))?;
        format::raise(dir, FORMAT_STEPS).map_err(|error| io("open", dir)(error.into()))?;
        let (file, key_file) = (dir.join(AUTHORITY_FILE), dir.join(KEY_FILE));
        let key = if key_file.exists() {
            let text = String::from_utf8(read(&key_file)?).ok();
            let key = text.and_then(|text| KeyPair::from_pem(&text).ok());
            key.ok_or_else(|| AuthorityError::Key { path: key_file.clone() })?
        } else if file.exists() {
            return Err(AuthorityError::KeyIsGone { certificate: file, key: key_file });
        } else {
            let key = KeyPair::generate().map_err(|source| AuthorityError::Sign { source })?;
            whole::write(&key_file, key.serialize_pem().as_bytes(), Durability::Synced)
                .map_err(io("write", &key_file))?;
            key
        };
        let params = authority_params(&key, now);
        if !file.exists() {
            let made =
                params.self_signed(&key).map_err(|source| AuthorityError::Sign { source })?;
            whole::write(&file, made.pem().as_bytes(), Durability::Synced)
                .map_err(io("write", &file))?;
            info!(file = %file.display(), "made the authority that hosts and clients are to trust");
        }
        let certificate = certificates_of(&file)?.swap_remove(0);
        Ok(Self { file, certificate, issuer: Issuer::new(params, key) })
    }

    /// The file that clients are given.
    pub fn certificate_file(&self) -> &Path {
        &self.file
    }

    /// A new key with a certificate of it, for a server.
    pub fn sign(&self, ask: &Ask<'_>) -> Result<Signed, AuthorityError> {
        let sign = |source| AuthorityError::Sign { source };
        let algorithm = match ask.key {
            SignedKey::P256 => &PKCS_ECDSA_P256_SHA256,
            SignedKey::P384 => &PKCS_ECDSA_P384_SHA384,
        };
        let key = KeyPair::generate_for(algorithm).map_err(sign)?;
        let mut params = CertificateParams::default();
        for name in ask.names {
            let name = match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.as_str().try_into().map_err(sign)?),
            };
            params.subject_alt_names.push(name);
        }
        params.distinguished_name = match ask.subject.len() {
            1..=COMMON_NAME_MAX => named(ask.subject),
            _ => DistinguishedName::new(),
        };
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = (date(earlier(ask.now)), date(ask.until));
        let made = params.signed_by(&key, &self.issuer).map_err(sign)?;
        Ok(Signed {
            certificate: made.into(),
            authority: self.certificate.clone(),
            key_pem: Zeroizing::new(key.serialize_pem()),
        })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("file", &self.file).finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, AuthorityError> {
    std::fs::read(path).map_err(|source| AuthorityError::Io {
        doing: "read",
        path: path.to_owned(),
        source,
    })
}

fn certificates_of(path: &Path) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    certificates(&read(path)?)
        .map_err(|source| AuthorityError::Certificates { path: path.to_owned(), source })
}

fn authority_params(key: &KeyPair, now: Timestamp) -> CertificateParams {
    let id = hex::encode(&Sha256::digest(key.der_bytes())[..4]);
    let mut params = CertificateParams::default();
    params.distinguished_name = named(&format!("Longshore authority {id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (date(earlier(now)), date(now.plus_ms(AUTHORITY_MS)));
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

fn earlier(now: Timestamp) -> Timestamp {
    Timestamp(now.0.saturating_sub(SKEW_MS))
}

/// Certificates know no milliseconds, and no year after 9999.
fn date(at: Timestamp) -> OffsetDateTime {
    let seconds = i64::try_from(at.seconds()).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
