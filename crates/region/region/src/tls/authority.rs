//! The region's own authority: a key and a certificate in files, which sign for the server.
//!
//! Its name is made from its key, so that the key alone is enough to sign with.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use files::format::{self, Step};
use files::whole::{self, Durability};
use longshore_types::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use tracing::info;

use super::{AUTHORITY_FILE, DAY_MS, TlsError, certificates_of, read};

const KEY_FILE: &str = "ca.key";
/// Hosts know the authority by its certificate, so it outlives them.
const AUTHORITY_MS: u64 = 30 * 365 * DAY_MS;
/// Hosts' clocks may be behind by so much.
const SKEW_MS: u64 = DAY_MS;
/// What raises the directory to the version of this release, in order.
const FORMAT_STEPS: &[Step] = &[];

/// Signs certificates.
pub(super) struct Authority {
    file: PathBuf,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Reads it, or makes it if there is none. The key is on disk before its certificate, so that a kill in between
    /// leaves a key without one, and nobody has seen that.
    pub(super) fn open(dir: &Path, now: Timestamp) -> Result<Self, TlsError> {
        let io = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| TlsError::Io { doing, path, source }
        };
        files::private::make_dirs(dir).map_err(io("create", dir))?;
        format::raise(dir, FORMAT_STEPS).map_err(|error| io("open", dir)(error.into()))?;
        let (file, key_file) = (dir.join(AUTHORITY_FILE), dir.join(KEY_FILE));
        let key = if key_file.exists() {
            let text = String::from_utf8(read(&key_file)?).ok();
            let key = text.and_then(|text| KeyPair::from_pem(&text).ok());
            key.ok_or_else(|| TlsError::Key { path: key_file.clone() })?
        } else if file.exists() {
            return Err(TlsError::KeyIsGone { certificate: file, key: key_file });
        } else {
            let key = KeyPair::generate().map_err(|source| TlsError::Sign { source })?;
            whole::write(&key_file, key.serialize_pem().as_bytes(), Durability::Synced)
                .map_err(io("write", &key_file))?;
            key
        };
        let params = authority_params(&key, now);
        if !file.exists() {
            let made = params.self_signed(&key).map_err(|source| TlsError::Sign { source })?;
            whole::write(&file, made.pem().as_bytes(), Durability::Synced)
                .map_err(io("write", &file))?;
            info!(file = %file.display(), "made the authority that hosts and clients are to trust");
        }
        let certificate = certificates_of(&file)?.swap_remove(0);
        Ok(Self { file, certificate, issuer: Issuer::new(params, key) })
    }

    pub(super) fn certificate_file(&self) -> &Path {
        &self.file
    }

    /// A certificate for a server with these names, followed by the authority's own, and its key.
    pub(super) fn sign(
        &self,
        names: &[String],
        now: Timestamp,
        until: Timestamp,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let sign = |source| TlsError::Sign { source };
        let key = KeyPair::generate().map_err(sign)?;
        let mut params = CertificateParams::default();
        for name in names {
            let name = match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.as_str().try_into().map_err(sign)?),
            };
            params.subject_alt_names.push(name);
        }
        params.distinguished_name = named("Longshore region");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = (date(earlier(now)), date(until));
        let made = params.signed_by(&key, &self.issuer).map_err(sign)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Ok((vec![made.into(), self.certificate.clone()], key.into()))
    }
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
