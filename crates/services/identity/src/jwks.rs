//! The keys of identity providers: from a file of the operator's, or from where the provider publishes them.
//!
//! What was fetched is kept: for an hour as it is, and for a day if the provider does not answer. A key that is
//! not among them is looked for anew, at most once a minute.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use longshore_types::Timestamp;
use serde::Deserialize;
use tracing::warn;
use trust::Trust;

use crate::jwt::{Key, KeySet};

const FRESH_MS: u64 = 3_600_000;
const KEPT_MS: u64 = 24 * 3_600_000;
const AGAIN_MS: u64 = 60_000;
const ISSUERS_MAX: usize = 200;
const BODY_BYTES_MAX: usize = 256 << 10;
const FETCH_MAX: Duration = Duration::from_secs(5);

/// Why a provider's keys can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoKeys {
    #[error("failed to read the file of providers' keys")]
    File(#[source] std::io::Error),
    #[error("the file of providers' keys is not a map from issuers to key sets")]
    Parse(#[source] serde_json::Error),
    #[error("failed to fetch {url}")]
    Fetch { url: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("there is no such key")]
    Unknown,
}

type Https = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

#[derive(Debug)]
struct Fetched {
    at: Timestamp,
    keys: Vec<Key>,
}

#[derive(Debug)]
pub(crate) struct Jwks {
    /// A JSON object from issuers to their key sets; an issuer that is in it is never asked.
    file: Option<PathBuf>,
    fetched: Mutex<BTreeMap<String, Fetched>>,
    /// Made when first wanted: reading the system's certificates takes a while.
    client: OnceLock<Https>,
}

impl Jwks {
    pub(crate) fn new(file: Option<PathBuf>) -> Self {
        Self { file, fetched: Mutex::default(), client: OnceLock::new() }
    }

    /// The keys of an issuer that a token may be signed with.
    pub(crate) async fn keys(
        &self,
        issuer: &str,
        kid: Option<&str>,
        now: Timestamp,
    ) -> Result<Vec<Key>, NoKeys> {
        let is_meant = |key: &Key| kid.is_none() || key.kid.as_deref() == kid;
        let pick = |keys: Vec<Key>| keys.into_iter().filter(is_meant).collect::<Vec<_>>();
        if let Some(keys) = self.of_file(issuer).await? {
            return some(pick(keys));
        }
        let (kept, age) = self.kept(issuer, now);
        let picked = pick(kept);
        if (!picked.is_empty() && age < FRESH_MS) || (age < AGAIN_MS) {
            return some(picked);
        }
        match self.fetch(issuer).await {
            Ok(keys) => {
                self.keep(issuer, Fetched { at: now, keys: keys.clone() });
                some(pick(keys))
            }
            Err(error) if !picked.is_empty() && age < KEPT_MS => {
                warn!(issuer, error = %longshore_types::Chain(&error), "identity provider does not answer");
                Ok(picked)
            }
            Err(error) => Err(error),
        }
    }

    async fn of_file(&self, issuer: &str) -> Result<Option<Vec<Key>>, NoKeys> {
        let Some(path) = &self.file else { return Ok(None) };
        let text = tokio::fs::read(path).await.map_err(NoKeys::File)?;
        let mut sets: BTreeMap<String, KeySet> =
            serde_json::from_slice(&text).map_err(NoKeys::Parse)?;
        Ok(sets.remove(issuer).map(|set| set.keys))
    }

    fn kept(&self, issuer: &str, now: Timestamp) -> (Vec<Key>, u64) {
        let fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        match fetched.get(issuer) {
            Some(known) => (known.keys.clone(), now.since_ms(known.at)),
            None => (vec![], u64::MAX),
        }
    }

    fn keep(&self, issuer: &str, keys: Fetched) {
        let mut fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        if ISSUERS_MAX <= fetched.len() {
            fetched.clear();
        }
        fetched.insert(issuer.to_owned(), keys);
    }

    async fn fetch(&self, issuer: &str) -> Result<Vec<Key>, NoKeys> {
        #[derive(Deserialize)]
        struct Discovery {
            jwks_uri: String,
        }
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let read = |url: &str, source: serde_json::Error| NoKeys::Fetch {
            url: url.to_owned(),
            source: source.into(),
        };
        let body = self.get(&url).await?;
        let found: Discovery = serde_json::from_slice(&body).map_err(|why| read(&url, why))?;
        let body = self.get(&found.jwks_uri).await?;
        let set: KeySet =
            serde_json::from_slice(&body).map_err(|why| read(&found.jwks_uri, why))?;
        Ok(set.keys)
    }

    async fn get(&self, url: &str) -> Result<Bytes, NoKeys> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| NoKeys::Fetch {
            url: url.to_owned(),
            source,
        };
        let uri: http::Uri =
            url.parse().map_err(|why: http::uri::InvalidUri| failed(why.into()))?;
        let asked = async {
            let response = self.client().get(uri).await.map_err(|why| failed(why.into()))?;
            if !response.status().is_success() {
                return Err(failed(format!("it answered {}", response.status()).into()));
            }
            let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
            Ok(body.map_err(failed)?.to_bytes())
        };
        match tokio::time::timeout(FETCH_MAX, asked).await {
            Ok(answered) => answered,
            Err(late) => Err(failed(late.into())),
        }
    }

    fn client(&self) -> &Https {
        self.client.get_or_init(|| {
            let connector = HttpsConnectorBuilder::new()
                .with_tls_config(Trust::system().client_config())
                .https_only()
                .enable_http1()
                .build();
            Client::builder(TokioExecutor::new()).build(connector)
        })
    }
}

fn some(keys: Vec<Key>) -> Result<Vec<Key>, NoKeys> {
    if keys.is_empty() { Err(NoKeys::Unknown) } else { Ok(keys) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody listens there.
    const AWAY: &str = "https://127.0.0.1:1/ci";

    #[tokio::test]
    async fn keys_of_a_provider_that_went_away_are_good_for_a_day() {
        let jwks = Jwks::new(None);
        let set: KeySet =
            serde_json::from_str(r#"{"keys":[{"kty":"EC","kid":"k1","crv":"P-256"}]}"#).unwrap();
        let start = Timestamp(1_795_000_000_000);
        assert!(matches!(jwks.keys(AWAY, Some("k1"), start).await, Err(NoKeys::Fetch { .. })));
        jwks.keep(AWAY, Fetched { at: start, keys: set.keys });
        let at = |hours: u64| start.plus_ms(hours * 3_600_000 + 1);
        for hours in [0, 2, 23] {
            assert_eq!(jwks.keys(AWAY, Some("k1"), at(hours)).await.unwrap().len(), 1, "{hours}");
        }
        assert!(jwks.keys(AWAY, Some("k1"), at(24)).await.is_err());
        // One that is not known is not looked for again and again.
        assert!(matches!(jwks.keys(AWAY, Some("k2"), at(0)).await, Err(NoKeys::Unknown)));
    }
}
