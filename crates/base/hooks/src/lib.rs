//! HTTP hooks: servers of users that the region asks by POST, on hosts that its operator has named. They stand where
//! Amazon's services have functions.
//!
//! A redirect is not followed.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use trust::Trust;

/// How long a hook may take to answer.
const ANSWER_MS_MAX: u64 = 60_000;
/// An answer that is longer is none.
const ANSWER_BYTES_MAX: usize = 16 << 10;

type Http = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The URL of a hook, if that is what is given: without credentials, which would be shown to whoever may look.
pub fn parse(given: &str) -> Option<http::Uri> {
    if !is_url(given) {
        return None;
    }
    let url = given.parse::<http::Uri>().ok()?;
    url.authority().is_some_and(|it| !it.as_str().contains('@')).then_some(url)
}

/// Whether a URL is meant, a good one or a bad one.
pub fn is_url(given: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| given.starts_with(scheme))
}

/// Asks hooks.
#[derive(Debug)]
pub struct Hooks {
    /// `HOST[:PORT]`.
    allowed: Vec<String>,
    /// Made when first wanted: reading the system's certificates takes a while.
    client: OnceLock<Http>,
}

impl Hooks {
    pub fn new(allowed: Vec<String>) -> Self {
        Self { allowed, client: OnceLock::new() }
    }

    /// Why a hook is not asked, if that is so.
    pub fn check(&self, url: &http::Uri) -> Result<(), String> {
        let (Some(host), Some(scheme)) = (url.host(), url.scheme_str()) else {
            return Err(format!("{url} is not a URL"));
        };
        let port = url.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
        let whole = format!("{host}:{port}");
        let is_default = url.port_u16().is_none();
        let mut allowed = self.allowed.iter();
        let is_meant = |it: &String| {
            it.eq_ignore_ascii_case(&whole) || (is_default && it.eq_ignore_ascii_case(host))
        };
        match allowed.any(is_meant) {
            true => Ok(()),
            false => Err(format!(
                "the region's operator has not allowed hooks on {whole}; --allow-hook {whole} does"
            )),
        }
    }

    /// What a hook answers to an event, if it took it; else why not.
    pub async fn ask(&self, url: &http::Uri, event: String) -> Result<Bytes, String> {
        self.check(url)?;
        let request = http::Request::post(url.clone())
            .header(http::header::CONTENT_TYPE, "application/json")
            .header(http::header::USER_AGENT, "longshore")
            .body(Full::new(Bytes::from(event)))
            .map_err(|why| format!("{url} can't be asked: {why}"))?;
        let asked = async {
            let answer = self.client().request(request).await;
            let answer = answer.map_err(|why| longshore_types::Chain(&why).to_string())?;
            let status = answer.status();
            // Taken in whole, so that the hook has said all it wants to.
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            match (status.is_success(), body) {
                (true, Ok(body)) => Ok(body.to_bytes()),
                (true, Err(why)) => Err(format!("its answer was not read: {why}")),
                (false, _) => Err(format!("it answered {status}")),
            }
        };
        let answered = tokio::time::timeout(Duration::from_millis(ANSWER_MS_MAX), asked).await;
        let late = || Err(format!("it did not answer within {} s", ANSWER_MS_MAX / 1_000));
        answered.unwrap_or_else(|_| late()).map_err(|why: String| format!("the hook {url}: {why}"))
    }

    fn client(&self) -> &Http {
        self.client.get_or_init(|| {
            let connector = HttpsConnectorBuilder::new()
                .with_tls_config(Trust::system().client_config())
                .https_or_http()
                .enable_http1()
                .build();
            Client::builder(TokioExecutor::new()).build(connector)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_with_credentials_is_none() {
        for (given, is_one) in [
            ("https://rotator.lan:8443/db?x=1", true),
            ("http://127.0.0.1:80", true),
            ("https://user:pw@host/", false),
            ("http://", false),
            ("ftp://host/", false),
            ("arn:aws:ecs:x:1:task/2", false),
        ] {
            assert_eq!(parse(given).is_some(), is_one, "{given}");
        }
    }

    #[test]
    fn a_hook_is_asked_only_where_the_operator_says() {
        let hooks = Hooks::new(vec!["rotator.lan".to_owned(), "127.0.0.1:8080".to_owned()]);
        let check = |url: &str| hooks.check(&url.parse().unwrap());
        for url in ["https://rotator.lan/x", "http://ROTATOR.lan", "http://127.0.0.1:8080/db"] {
            assert_eq!(check(url), Ok(()), "{url}");
        }
        for url in [
            "https://rotator.lan:8443/",
            "http://127.0.0.1/",
            "https://other.lan/",
            "http://127.0.0.1:80/",
        ] {
            let why = check(url).unwrap_err();
            assert!(why.contains("--allow-hook"), "{url}: {why}");
        }
    }
}
