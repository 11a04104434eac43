//! The listener's certificate from an ACME server: asked for, kept in a file, and asked for anew before it ends.
//!
//! The server sees that a name is ours by a proof: at the region's listener itself, by TLS, or at a port of its own that the
//! operator names, by HTTP. Whoever comes by another name, or by none, is shown what the region's own authority signs.
//! **Invariant:** whatever becomes of an order, connections are served with the last certificate that was good.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::acme::{Acme, HTTP_PATH, Issued, Method, Proof, Settings, Show, ShowError, TLS_PROTOCOL};
use bytes::Bytes;
use control::reconcile::{NowAndThen, Pass, PassFuture, Queue, Reconciler};
use files::whole::{self, Durability};
use http::{Method as Verb, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use longshore_types::Timestamp;
use model::View;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use store::Change;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::{debug, info, warn};
use trust::{AUTHORITY_DIR, Authority};

use super::{Basis, Current, RENEW_BEFORE_MS, SERVER_MS, Tls, TlsError, certificates_of, signed};

/// Below the directory of the region's own authority.
const DIR: &str = "acme";
/// The key and the certificates, in one file.
const FILE: &str = "listener.pem";
const MINUTE_MS: u64 = 60_000;
/// After so many failures in a row it is so long until the next try; servers count those of an hour.
const WAITS_MS: [u64; 4] = [MINUTE_MS, 10 * MINUTE_MS, 60 * MINUTE_MS, 240 * MINUTE_MS];
/// Connections that look for a proof by HTTP at once, and how long each may take: a proof is one small request. Who says
/// nothing has a place for as long.
const SEEKERS_MAX: usize = 512;
const SEEKER_WAIT_MAX: Duration = Duration::from_secs(3);

/// Of which ACME server the listener's certificate is, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeSource {
    pub names: Vec<String>,
    pub settings: Settings,
    pub method: Method,
    /// The file of the authorities that clients are to be told of, if machines don't know them anyway.
    pub authority: Option<PathBuf>,
}

pub(super) struct Origin {
    own: Authority,
    own_names: Vec<String>,
    names: Vec<String>,
    method: Method,
    acme: Acme,
    file: PathBuf,
    /// The file, and the first of its certificates.
    authority: Option<(PathBuf, CertificateDer<'static>)>,
    proofs: Arc<Proofs>,
    tries: Mutex<Tries>,
}

/// What became of the last orders.
#[derive(Debug, Default)]
struct Tries {
    /// In a row.
    failures: usize,
    next_at: Timestamp,
    /// When what is shown now is to be asked for anew; none: there is nothing yet.
    renew_at: Option<Timestamp>,
}

impl Tries {
    /// When the server is to be asked.
    fn due(&self, now: Timestamp) -> Timestamp {
        self.renew_at.unwrap_or(now).max(self.next_at)
    }

    /// There is a certificate. Where it could not be kept, or is due at once to be asked for anew, the next order would end
    /// the same way: servers count those too.
    fn ended(&mut self, is_kept: bool, renew_at: Timestamp, now: Timestamp) {
        if is_kept && now < renew_at {
            (self.failures, self.next_at) = (0, Timestamp(0));
        } else {
            self.failed(now);
        }
    }

    fn failed(&mut self, now: Timestamp) {
        let wait = WAITS_MS.get(self.failures).or(WAITS_MS.last()).copied().unwrap_or_default();
        self.failures += 1;
        self.next_at = now.plus_ms(wait);
    }
}

impl Origin {
    pub(super) fn open(
        data_dir: &Path,
        own_names: Vec<String>,
        source: AcmeSource,
        now: Timestamp,
    ) -> Result<Self, TlsError> {
        let own = Authority::open(&data_dir.join(AUTHORITY_DIR), now)?;
        let dir = data_dir.join(AUTHORITY_DIR).join(DIR);
        files::private::make_dirs(&dir).map_err(|source| TlsError::Io {
            doing: "create",
            path: dir.clone(),
            source,
        })?;
        let authority = match source.authority {
            Some(path) => {
                let first = certificates_of(&path)?.swap_remove(0);
                Some((path, first))
            }
            None => None,
        };
        Ok(Self {
            own,
            own_names,
            names: source.names,
            method: source.method,
            acme: Acme::new(source.settings, &dir),
            file: dir.join(FILE),
            authority,
            proofs: Arc::default(),
            tries: Mutex::default(),
        })
    }

    pub(super) fn proofs(&self) -> Arc<Proofs> {
        Arc::clone(&self.proofs)
    }

    pub(super) fn authority_file(&self) -> Option<&Path> {
        self.authority.as_ref().map(|(path, _)| path.as_path())
    }

    pub(super) fn authority(&self) -> Option<&CertificateDer<'static>> {
        self.authority.as_ref().map(|(_, first)| first)
    }

    /// What is served now: of the server's, what the file has.
    pub(super) fn make(&self, now: Timestamp) -> Result<Current, TlsError> {
        let pair = |source| TlsError::Pair {
            certificate: self.file.clone(),
            key: self.file.clone(),
            source,
        };
        let (own_chain, own_key) = signed(&self.own, &self.own_names, now)?;
        let own = CertifiedKey::from_der(own_chain.clone(), own_key, &trust::provider());
        let own = Arc::new(own.map_err(pair)?);
        let issued = self.kept();
        let (mut chain, mut shown) = (own_chain, None);
        if let Some(issued) = &issued {
            chain = issued.chain.clone();
            if let Some(authority) = self.authority().filter(|it| !chain.contains(it)) {
                // Hosts that join know the region by it.
                chain.push(authority.clone());
            }
            let key = issued.key().map_err(|_| TlsError::Key { path: self.file.clone() })?;
            let certified = CertifiedKey::from_der(chain.clone(), key, &trust::provider());
            shown = Some(Arc::new(certified.map_err(pair)?));
        }
        self.tries().renew_at = issued.as_ref().map(Issued::renew_at);
        let pick = Pick { own, shown, names: self.names.clone(), proofs: self.proofs() };
        let config = config(pick).map_err(pair)?;
        let renew_at = now.plus_ms(SERVER_MS - RENEW_BEFORE_MS);
        Ok(Current { config, chain, basis: Basis::Signed { renew_at } })
    }

    /// What the server issued the last time, if it is for the names.
    fn kept(&self) -> Option<Issued> {
        let text = std::fs::read_to_string(&self.file).ok()?;
        let issued = Issued::from_pem(&zeroize::Zeroizing::new(text));
        let is_whole = issued.as_ref().is_ok_and(Issued::is_pair);
        if !is_whole {
            warn!(file = %self.file.display(), "no certificate with its key in PEM form: another one is asked for");
            return None;
        }
        issued.ok().filter(|issued| issued.is_for(&self.names))
    }

    fn keep(&self, issued: &Issued) -> Result<(), TlsError> {
        let written = whole::write(&self.file, issued.to_pem().as_bytes(), Durability::Synced);
        written.map_err(|source| TlsError::Io { doing: "write", path: self.file.clone(), source })
    }

    fn tries(&self) -> MutexGuard<'_, Tries> {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn config(pick: Pick) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(trust::provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(pick));
    config.alpn_protocols = vec![b"http/1.1".to_vec(), TLS_PROTOCOL.to_vec()];
    Ok(Arc::new(config))
}

impl Tls {
    /// Asks the ACME server for a certificate if that is due, and says when it is next.
    async fn obtain(&self) -> Result<Option<Timestamp>, TlsError> {
        let super::Origin::Acme(origin) = &self.origin else { return Ok(None) };
        let now = self.clock.now();
        let due = origin.tries().due(now);
        if now < due {
            return Ok(Some(due));
        }
        let ordered = origin.acme.order(&origin.names, origin.method, &*origin.proofs).await;
        let now = self.clock.now();
        let issued = match ordered {
            Ok(issued) => issued,
            Err(source) => {
                let mut tries = origin.tries();
                tries.failed(now);
                let again_min = tries.next_at.since_ms(now) / MINUTE_MS;
                return Err(TlsError::Acme { again_min, source });
            }
        };
        let kept = origin.keep(&issued).and_then(|()| self.remake(now));
        let mut tries = origin.tries();
        tries.ended(kept.is_ok(), issued.renew_at(), now);
        let due = tries.due(now);
        drop(tries);
        kept?;
        info!(names = ?origin.names, until_ms = issued.not_after.0, "certificate of the ACME server");
        Ok(Some(due))
    }
}

/// Which certificate a connection is shown.
#[derive(Debug)]
struct Pick {
    own: Arc<CertifiedKey>,
    /// The ACME server's, for these names.
    shown: Option<Arc<CertifiedKey>>,
    names: Vec<String>,
    proofs: Arc<Proofs>,
}

impl ResolvesServerCert for Pick {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        let mut asked: Vec<&[u8]> = hello.alpn().into_iter().flatten().collect();
        if asked.contains(&TLS_PROTOCOL) {
            // Nothing else is shown there, and nobody who might speak another protocol: that is a test, and no request.
            asked.retain(|protocol| *protocol != TLS_PROTOCOL);
            return self.proofs.certificate(name?).filter(|_| asked.is_empty());
        }
        let is_named = |name: &str| self.names.iter().any(|own| own.eq_ignore_ascii_case(name));
        let shown = self.shown.as_ref().filter(|_| name.is_some_and(is_named));
        Some(Arc::clone(shown.unwrap_or(&self.own)))
    }
}

/// What an ACME server looks for while an order is under way.
#[derive(Default)]
pub struct Proofs(Mutex<Shown>);

#[derive(Default)]
struct Shown {
    /// By token.
    answers: BTreeMap<String, String>,
    /// By name.
    certificates: BTreeMap<String, Arc<CertifiedKey>>,
}

impl Proofs {
    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_empty(&self) -> bool {
        self.shown().answers.is_empty()
    }

    /// What is to be read at a token.
    fn answer(&self, token: &str) -> Option<String> {
        self.shown().answers.get(token).cloned()
    }

    fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.shown().certificates.get(&name.to_ascii_lowercase()).cloned()
    }
}

impl Show for Proofs {
    fn show(&self, proof: Proof) -> Result<(), ShowError> {
        let failed =
            |why: &dyn fmt::Display| ShowError(format!("failed to make its certificate: {why}"));
        let (certificate, key) = proof.certificate().map_err(|why| failed(&why))?;
        // Not compared with the certificate: what makes it a proof is an extension that rustls knows nothing of.
        let key = trust::provider().key_provider.load_private_key(key);
        let key = key.map_err(|why| failed(&why))?;
        let certified = Arc::new(CertifiedKey::new(vec![certificate], key));
        let mut shown = self.shown();
        shown.certificates.insert(proof.name.to_ascii_lowercase(), certified);
        shown.answers.insert(proof.token, proof.answer);
        Ok(())
    }

    fn hide(&self) {
        *self.shown() = Shown::default();
    }
}

impl fmt::Debug for Proofs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proofs").field("shown", &self.shown().answers.len()).finish_non_exhaustive()
    }
}

/// Answers an ACME server that looks for proofs by HTTP, and nobody else; never done.
pub async fn serve_proofs(listener: TcpListener, proofs: Arc<Proofs>) {
    let places = Arc::new(Semaphore::new(SEEKERS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "failed to take a connection that looks for proofs");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if proofs.is_empty() {
            // There is nothing to look for.
            continue;
        }
        let proofs = Arc::clone(&proofs);
        #[expect(clippy::disallowed_methods, reason = "bounded in number and in time")]
        tokio::spawn(async move {
            let answer = service_fn(move |request: Request<Incoming>| {
                let answer = answer(&proofs, &request);
                async move { Ok::<_, std::convert::Infallible>(answer) }
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(SEEKER_WAIT_MAX).keep_alive(false);
            let served = server.serve_connection(TokioIo::new(stream), answer);
            drop(tokio::time::timeout(SEEKER_WAIT_MAX, served).await);
            drop(place);
        });
    }
}

fn answer<B>(proofs: &Proofs, request: &Request<B>) -> Response<Full<Bytes>> {
    let token = request.uri().path().strip_prefix(HTTP_PATH);
    let is_read = matches!(*request.method(), Verb::GET | Verb::HEAD);
    let found = token.filter(|_| is_read).and_then(|token| proofs.answer(token));
    let (status, text) = match found {
        Some(text) => (StatusCode::OK, text),
        None => (StatusCode::NOT_FOUND, "There is nothing here.\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

/// Asks for the certificate, and asks anew before it ends.
#[derive(Debug)]
pub(crate) struct AcmeRenewal(pub(crate) Arc<Tls>);

impl Reconciler for AcmeRenewal {
    type Key = NowAndThen;
    type Note = ();
    type Error = TlsError;

    fn name(&self) -> &'static str {
        "acme-certificate"
    }

    fn wake(&mut self, _: &View, _: &Change, _: &mut Queue<NowAndThen>) {}

    fn keys(&mut self, _: &View) -> Vec<NowAndThen> {
        vec![NowAndThen]
    }

    fn pass(&self, _: &NowAndThen) -> PassFuture<Result<Pass<()>, TlsError>> {
        let tls = Arc::clone(&self.0);
        Box::pin(async move {
            let again_at = tls.obtain().await?;
            Ok(Pass { again_at, ..Pass::default() })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_says_no_is_asked_ever_more_seldom_and_what_is_there_lasts() {
        let now = Timestamp(1_000_000);
        let mut tries = Tries::default();
        assert_eq!(tries.due(now), now, "there is nothing yet");
        let mut waits = Vec::new();
        for _ in 0..6 {
            tries.failed(now);
            waits.push(tries.due(now).since_ms(now) / MINUTE_MS);
        }
        assert_eq!(waits, [1, 10, 60, 240, 240, 240]);
        let mut tries = Tries { renew_at: Some(now.plus_ms(7)), ..Tries::default() };
        assert_eq!(tries.due(now), now.plus_ms(7));
        tries.ended(false, now.plus_ms(7), now);
        assert_eq!(tries.due(now), now.plus_ms(MINUTE_MS), "it could not be written");
        tries.ended(true, now, now);
        assert_eq!(tries.due(now), now.plus_ms(10 * MINUTE_MS), "the next would end at once too");
        tries.ended(true, now.plus_ms(7), now);
        assert_eq!((tries.due(now), tries.failures), (now.plus_ms(7), 0));
    }

    #[test]
    fn a_proof_by_tls_is_shown_to_nobody_who_might_make_a_request() {
        let proofs = Arc::new(Proofs::default());
        let digest = [7; 32];
        let name = "region.lan".to_owned();
        let answer = "abc.thumb".to_owned();
        proofs.show(Proof { name, token: "abc".to_owned(), answer, digest }).unwrap();
        let own = proofs.certificate("region.lan").unwrap();
        let pick = Pick { own, shown: None, names: vec![], proofs };
        let server = config(pick).unwrap();
        let is_met = |protocols: &[&[u8]]| {
            let client = rustls::ClientConfig::builder_with_provider(trust::provider())
                .with_safe_default_protocol_versions()
                .unwrap();
            let mut client =
                client.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
            client.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
            let name = "region.lan".try_into().unwrap();
            let mut client = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
            let mut hello = Vec::new();
            client.write_tls(&mut hello).unwrap();
            let mut server = rustls::ServerConnection::new(Arc::clone(&server)).unwrap();
            server.read_tls(&mut hello.as_slice()).unwrap();
            server.process_new_packets().is_ok()
        };
        assert!(is_met(&[TLS_PROTOCOL]) && is_met(&[b"http/1.1"]));
        assert!(!is_met(&[TLS_PROTOCOL, b"http/1.1"]) && !is_met(&[b"http/1.1", TLS_PROTOCOL]));
    }

    #[test]
    fn a_proof_is_answered_at_its_token_alone_and_only_while_it_is_shown() {
        let proofs = Proofs::default();
        let proof = Proof {
            name: "Region.lan".to_owned(),
            token: "abc".to_owned(),
            answer: "abc.thumb".to_owned(),
            digest: [7; 32],
        };
        proofs.show(proof).unwrap();
        let ask = |verb: Verb, path: &str| {
            let request = Request::builder().method(verb).uri(path).body(()).unwrap();
            answer(&proofs, &request).status()
        };
        let path = format!("{HTTP_PATH}abc");
        assert_eq!(ask(Verb::GET, &path), StatusCode::OK);
        for (verb, path) in
            [(Verb::POST, &*path), (Verb::GET, "/"), (Verb::GET, "/.well-known/acme-challenge/ab")]
        {
            assert_eq!(ask(verb, path), StatusCode::NOT_FOUND, "{path}");
        }
        assert!(proofs.certificate("region.LAN").is_some());
        assert!(proofs.certificate("other.lan").is_none());
        proofs.hide();
        assert_eq!(ask(Verb::GET, &path), StatusCode::NOT_FOUND);
        assert!(proofs.certificate("region.lan").is_none());
    }
}
