//! The listener's certificate: made by an authority of the region's own, or taken from files, and renewed while the
//! region runs.
//!
//! The authority is made at the first start and kept in `tls/` of the data directory; what it signs for the server lives
//! in memory only, is for ninety days, and is another one after each start: clients know the authority. **Invariant:**
//! whatever becomes of a renewal, connections are served with the last certificate that was good.

mod acme;
mod renewal;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use longshore_types::{Clock, Timestamp};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tracing::info;
use trust::{
    AUTHORITY_DIR, Ask, Authority, AuthorityError, Fingerprint, NoCertificates, SignedKey,
};

pub(crate) use self::acme::AcmeRenewal;
pub use self::acme::{AcmeSource, Proofs, serve_proofs};
pub(crate) use renewal::Renewal;

const DAY_MS: u64 = 24 * 3_600_000;
/// How long what the authority signs for the server is good.
const SERVER_MS: u64 = 90 * DAY_MS;
/// It is renewed this long before it ends.
const RENEW_BEFORE_MS: u64 = 30 * DAY_MS;
/// How often files that were given are looked at.
const FILES_PERIOD_MS: u64 = 5_000;

/// Where the certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsSource {
    /// The region's own authority signs one for these names and addresses.
    Own { names: Vec<String> },
    /// Files in PEM form: the server's certificate with what is between it and its authority, its key, and the
    /// authority's own certificate if clients have to be told of it.
    Files { certificate: PathBuf, key: PathBuf, authority: Option<PathBuf> },
    /// An ACME server signs one for some names; whoever comes by another is shown what the region's own authority signs
    /// for these `names` and addresses.
    Acme { names: Vec<String>, acme: AcmeSource },
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("failed to {doing} {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{}: {source}", path.display())]
    Certificates { path: PathBuf, source: NoCertificates },
    #[error("{} holds no private key in PEM form", path.display())]
    Key { path: PathBuf },
    #[error("the certificate of {} and the key of {} don't go together", certificate.display(), key.display())]
    Pair { certificate: PathBuf, key: PathBuf, source: rustls::Error },
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error("the listener keeps the certificate that it has, and asks again in {again_min} min")]
    Acme { again_min: u64, source: ::acme::AcmeError },
}

/// What TLS connections are served with.
pub struct Tls {
    origin: Origin,
    clock: Arc<dyn Clock>,
    current: Mutex<Current>,
}

enum Origin {
    Own { authority: Box<Authority>, names: Vec<String> },
    Files(Files),
    Acme(Box<acme::Origin>),
}

#[derive(Clone, Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    authority: Option<PathBuf>,
}

#[derive(Clone)]
struct Current {
    config: Arc<ServerConfig>,
    /// The certificates that are shown, the server's first.
    chain: Vec<CertificateDer<'static>>,
    basis: Basis,
}

/// What the current certificate was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Basis {
    Signed { renew_at: Timestamp },
    Read { stamps: Vec<Option<Stamp>> },
}

/// When a file was changed, and how long it was then.
type Stamp = (SystemTime, u64);

impl Tls {
    /// Makes or reads the certificate; the authority too at a first start.
    pub fn open(
        data_dir: &Path,
        source: TlsSource,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TlsError> {
        let now = clock.now();
        let origin = match source {
            TlsSource::Own { names } => {
                let authority = Box::new(Authority::open(&data_dir.join(AUTHORITY_DIR), now)?);
                Origin::Own { authority, names }
            }
            TlsSource::Files { certificate, key, authority } => {
                Origin::Files(Files { certificate, key, authority })
            }
            TlsSource::Acme { names, acme } => {
                Origin::Acme(Box::new(acme::Origin::open(data_dir, names, acme, now)?))
            }
        };
        let current = origin.make(now)?;
        Ok(Self { origin, clock, current: Mutex::new(current) })
    }

    /// What the next connection is served with.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current().config)
    }

    /// The file of the authority's certificate that clients need; none if any system knows the authority.
    pub fn authority_file(&self) -> Option<&Path> {
        match &self.origin {
            Origin::Own { authority, .. } => Some(authority.certificate_file()),
            Origin::Files(files) => files.authority.as_deref(),
            Origin::Acme(acme) => acme.authority_file(),
        }
    }

    /// Where an ACME server's proofs are, if one is asked for certificates.
    pub fn proofs(&self) -> Option<Arc<Proofs>> {
        match &self.origin {
            Origin::Acme(acme) => Some(acme.proofs()),
            Origin::Own { .. } | Origin::Files(_) => None,
        }
    }

    /// What joining hosts pin; none if any system knows the authority.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.authority_file()?;
        if let Origin::Acme(acme) = &self.origin {
            return acme.authority().map(|it| Fingerprint::of(it));
        }
        self.current().chain.last().map(|last| Fingerprint::of(last))
    }

    fn current(&self) -> Current {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Renews what is due or has changed, and says when to look again.
    fn renew(&self) -> Result<Timestamp, TlsError> {
        let now = self.clock.now();
        let basis = self.current().basis;
        let is_due = match (&self.origin, &basis) {
            (_, Basis::Signed { renew_at }) => *renew_at <= now,
            (Origin::Files(files), Basis::Read { stamps }) => files.stamps() != *stamps,
            (Origin::Own { .. } | Origin::Acme(_), Basis::Read { .. }) => true,
        };
        if is_due {
            self.remake(now)?;
        }
        Ok(match self.current().basis {
            Basis::Signed { renew_at } => renew_at,
            Basis::Read { .. } => now.plus_ms(FILES_PERIOD_MS),
        })
    }

    fn remake(&self, now: Timestamp) -> Result<(), TlsError> {
        // Held while it is made: what another makes of an older file does not come after it.
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = self.origin.make(now)?;
        drop(current);
        info!("the listener has a new certificate");
        Ok(())
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("authority", &self.authority_file()).finish_non_exhaustive()
    }
}

impl Origin {
    fn make(&self, now: Timestamp) -> Result<Current, TlsError> {
        match self {
            Self::Own { authority, names } => {
                let file = authority.certificate_file().to_owned();
                let (chain, key) = signed(authority, names, now)?;
                let config = server_config(&chain, key).map_err(|source| TlsError::Pair {
                    certificate: file.clone(),
                    key: file,
                    source,
                })?;
                let renew_at = now.plus_ms(SERVER_MS - RENEW_BEFORE_MS);
                Ok(Current { config, chain, basis: Basis::Signed { renew_at } })
            }
            Self::Files(files) => files.read(),
            Self::Acme(acme) => acme.make(now),
        }
    }
}

type ChainAndKey = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// What the region's own authority signs for its listener.
fn signed(
    authority: &Authority,
    names: &[String],
    now: Timestamp,
) -> Result<ChainAndKey, TlsError> {
    let until = now.plus_ms(SERVER_MS);
    let ask = Ask { subject: "Longshore region", names, key: SignedKey::P256, now, until };
    let signed = authority.sign(&ask)?;
    let key = PrivateKeyDer::from_pem_slice(signed.key_pem.as_bytes());
    let path = || authority.certificate_file().to_owned();
    let key = key.map_err(|_| TlsError::Key { path: path() })?;
    Ok((vec![signed.certificate, signed.authority], key))
}

impl Files {
    /// Stamps before contents: a change in between is seen as one at the next look.
    fn read(&self) -> Result<Current, TlsError> {
        let stamps = self.stamps();
        let mut chain = certificates_of(&self.certificate)?;
        if let Some(authority) = &self.authority {
            let authority = certificates_of(authority)?.swap_remove(0);
            chain.retain(|each| *each != authority);
            chain.push(authority);
        }
        let text = read(&self.key)?;
        let key = PrivateKeyDer::from_pem_slice(&text);
        let key = key.map_err(|_| TlsError::Key { path: self.key.clone() })?;
        let (certificate, file) = (self.certificate.clone(), self.key.clone());
        let config = server_config(&chain, key).map_err(|source| TlsError::Pair {
            certificate,
            key: file,
            source,
        })?;
        Ok(Current { config, chain, basis: Basis::Read { stamps } })
    }

    fn stamps(&self) -> Vec<Option<Stamp>> {
        let stamp = |path: &PathBuf| {
            let meta = std::fs::metadata(path).ok()?;
            Some((meta.modified().ok()?, meta.len()))
        };
        [&self.certificate, &self.key].into_iter().chain(&self.authority).map(stamp).collect()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Io {
        doing: "read",
        path: path.to_owned(),
        source,
    })
}

fn certificates_of(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    trust::certificates(&read(path)?)
        .map_err(|source| TlsError::Certificates { path: path.to_owned(), source })
}

fn server_config(
    chain: &[CertificateDer<'static>],
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(trust::provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain.to_vec(), key)?;
    // What the listener speaks.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests;
