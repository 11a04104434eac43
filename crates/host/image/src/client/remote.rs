//! One registry: authenticated requests, retries, redirects.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, LOCATION, RETRY_AFTER, USER_AGENT, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde::Deserialize;
use tokio::time::Instant;

use super::auth::{Auth, Challenge, TokenAnswer};
use super::transport::RequestBody;
use super::{ClientError, Transport};
use crate::reference::Reference;

const REDIRECTS_MAX: u32 = 5;
/// The longest text of an error, and of a token server's answer, that is read.
const TEXT_BYTES_MAX: usize = 256 << 10;
/// The longest pause that a registry may ask for.
const RETRY_AFTER_SECONDS_MAX: u64 = 20;
/// A small answer must be whole in this time, however steadily it drips.
const READ_LIMIT: Duration = Duration::from_secs(120);
/// A registry that fetches first has this long to begin its answer.
const PATIENCE: Duration = Duration::from_secs(1800);
/// An upload of any size must be taken in this time.
const UPLOAD_LIMIT: Duration = Duration::from_secs(3600);

/// What is sent with a request.
pub(crate) enum Body {
    Empty,
    Bytes(Bytes),
    /// Sent once: the caller repeats it.
    Stream {
        body: RequestBody,
        length: u64,
    },
}

/// A registry and what it wanted to see so far.
#[derive(Debug)]
pub(crate) struct Remote {
    transport: Transport,
    /// The host that is connected to.
    host: String,
    base: String,
    /// Its name in image references, which logins are kept under.
    registry: String,
    auth: Auth,
    /// The `Authorization` header per scope, and until when it holds.
    known: Mutex<BTreeMap<String, (String, Option<Instant>)>>,
}

/// A request before it is made, as it may be made several times.
struct Draft<'a> {
    method: &'a Method,
    headers: &'a [(HeaderName, String)],
    scope: &'a str,
}

impl Remote {
    pub(crate) fn new(transport: &Transport, reference: &Reference, auth: &Auth) -> Self {
        let host = reference.api_host();
        let scheme = if transport.is_plain(host) { "http" } else { "https" };
        Self {
            transport: transport.clone(),
            host: host.to_owned(),
            base: format!("{scheme}://{host}"),
            registry: reference.registry.clone(),
            auth: auth.clone(),
            known: Mutex::new(BTreeMap::new()),
        }
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    fn protocol(&self, why: impl Into<String>) -> ClientError {
        ClientError::Protocol { host: self.host.clone(), why: why.into() }
    }

    /// Sends a request that has no body, or a small one, until it is answered with something that
    /// another try would not change. `path` may also be a whole URL that this registry gave.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, String)],
        body: Option<Bytes>,
        scope: &str,
    ) -> Result<Response<Incoming>, ClientError> {
        let draft = Draft { method: &method, headers, scope };
        let mut tries = 0;
        loop {
            let body = body.clone().map_or(Body::Empty, Body::Bytes);
            let error = match self.call_once(&draft, path, body).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let config = self.transport.config();
            if !error.is_transient() || tries >= config.retries_max {
                return Err(error);
            }
            let pause = config.retry_pause_ms.saturating_mul(1 << tries.min(10));
            tracing::debug!(host = %self.host, %error, pause_ms = pause, "registry asked again");
            tokio::time::sleep(Duration::from_millis(pause)).await;
            tries += 1;
        }
    }

    /// Sends a request once; only a challenge is answered by sending it again.
    pub(crate) async fn call_streaming(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, String)],
        body: Body,
        scope: &str,
    ) -> Result<Response<Incoming>, ClientError> {
        self.call_once(&Draft { method: &method, headers, scope }, path, body).await
    }

    async fn call_once(
        &self,
        draft: &Draft<'_>,
        path: &str,
        body: Body,
    ) -> Result<Response<Incoming>, ClientError> {
        let mut uri = self.resolve(path)?;
        let mut again = match &body {
            Body::Empty => Some(Bytes::new()),
            Body::Bytes(bytes) => Some(bytes.clone()),
            Body::Stream { .. } => None,
        };
        let mut body = Some(body);
        let (mut redirects, mut challenged) = (0, false);
        loop {
            let is_ours = self.is_ours(&uri);
            let next = match (body.take(), &again) {
                (Some(body), _) => body,
                (None, Some(bytes)) => Body::Bytes(bytes.clone()),
                (None, None) => return Err(self.protocol("it redirects an upload")),
            };
            let response = self.send(draft, &uri, next, is_ours).await?;
            let status = response.status();
            if status == StatusCode::UNAUTHORIZED && is_ours && !challenged && again.is_some() {
                challenged = true;
                if self.answer(response.headers(), draft.scope).await? {
                    continue;
                }
                return Err(self.refused(status, response).await);
            }
            if is_redirect(status) && *draft.method != Method::POST && redirects < REDIRECTS_MAX {
                redirects += 1;
                uri = self.follow(&uri, response.headers())?;
                again.get_or_insert_default();
                continue;
            }
            if status.is_success() {
                return Ok(response);
            }
            self.pause_if_asked(response.headers()).await;
            return Err(self.refused(status, response).await);
        }
    }

    async fn send(
        &self,
        draft: &Draft<'_>,
        uri: &Uri,
        body: Body,
        is_ours: bool,
    ) -> Result<Response<Incoming>, ClientError> {
        if !is_ours {
            self.check_target(uri)?;
        }
        let config = self.transport.config();
        let mut limit = match is_ours && config.patient_with.contains(&self.host) {
            true => PATIENCE,
            false => Duration::from_millis(config.answer_ms_max),
        };
        let mut request = Request::builder()
            .method(draft.method.clone())
            .uri(uri.clone())
            .header(USER_AGENT, &config.user_agent);
        for (name, value) in draft.headers {
            request = request.header(name, value);
        }
        // Credentials never follow a redirect to another host.
        if is_ours && let Some(header) = self.known_header(draft.scope) {
            let mut header = HeaderValue::from_str(&header)
                .map_err(|_| self.protocol("its credentials fit no header"))?;
            header.set_sensitive(true);
            request = request.header(AUTHORIZATION, header);
        }
        let boxed = |bytes: Bytes| Full::new(bytes).map_err(|never| match never {}).boxed_unsync();
        let body = match body {
            Body::Empty => boxed(Bytes::new()),
            Body::Bytes(bytes) => boxed(bytes),
            Body::Stream { body, length } => {
                limit = UPLOAD_LIMIT;
                request = request.header(http::header::CONTENT_LENGTH, length);
                body
            }
        };
        let request = request.body(body).map_err(|error| self.protocol(error.to_string()))?;
        self.transport.send(request, limit).await
    }

    fn known_header(&self, scope: &str) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (header, until) = known.get(scope)?;
        until.is_none_or(|until| Instant::now() < until).then(|| header.clone())
    }

    fn remember(&self, scope: &str, header: String, until: Option<Instant>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(scope.to_owned(), (header, until));
    }

    /// Does what a challenge asks for; `false` if it asks for what we don't have.
    async fn answer(&self, headers: &HeaderMap, scope: &str) -> Result<bool, ClientError> {
        let asked = headers.get_all(WWW_AUTHENTICATE).iter();
        let asked = asked.filter_map(|value| Challenge::parse(value.to_str().ok()?));
        // Where a registry offers both, the token is what it would rather see.
        let mut asked: Vec<_> = asked.collect();
        asked.sort_by_key(|challenge| matches!(challenge, Challenge::Basic));
        match (asked.into_iter().next(), self.auth.for_host(&self.registry)) {
            (Some(Challenge::Basic), Some(basic)) => {
                self.remember(scope, basic.header(), None);
                Ok(true)
            }
            (Some(Challenge::Bearer { realm, service, scope: asked }), _) => {
                let asked = asked.unwrap_or_else(|| scope.to_owned());
                let (token, seconds) = self.fetch_token(&realm, service, &asked).await?;
                // Used up a little early, so that it doesn't run out on its way.
                let until =
                    Instant::now() + Duration::from_secs(seconds.saturating_sub(5).min(3600));
                self.remember(scope, format!("Bearer {token}"), Some(until));
                Ok(true)
            }
            (Some(Challenge::Basic), None) | (None, _) => Ok(false),
        }
    }

    async fn fetch_token(
        &self,
        realm: &str,
        service: Option<String>,
        scope: &str,
    ) -> Result<(String, u64), ClientError> {
        let separator = if realm.contains('?') { '&' } else { '?' };
        let mut url = format!("{realm}{separator}scope={}", encode(scope));
        if let Some(service) = service {
            url.push_str(&format!("&service={}", encode(&service)));
        }
        let uri: Uri = url.parse().map_err(|_| self.protocol("its token server has no URL"))?;
        let token_host = uri.authority().map_or("", |authority| authority.as_str());
        if uri.scheme_str() != Some("https") && !self.transport.is_plain(token_host) {
            return Err(self.protocol("it wants credentials sent without TLS"));
        }
        self.check_target(&uri)?;
        let basic = self.auth.for_realm(&self.registry, token_host);
        let is_withheld = basic.is_none() && self.auth.for_host(&self.registry).is_some();
        let token_host = token_host.to_owned();
        let mut request = Request::get(uri).header(USER_AGENT, &self.transport.config().user_agent);
        if let Some(basic) = basic {
            let mut header = HeaderValue::from_str(&basic.header())
                .map_err(|_| self.protocol("its credentials fit no header"))?;
            header.set_sensitive(true);
            request = request.header(AUTHORIZATION, header);
        }
        let empty = Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync();
        let request = request.body(empty).map_err(|error| self.protocol(error.to_string()))?;
        let limit = Duration::from_millis(self.transport.config().answer_ms_max);
        let response = self.transport.send(request, limit).await?;
        let status = response.status();
        if !status.is_success() {
            let refused = self.refused(status, response).await;
            return Err(if is_withheld { withheld(refused, &token_host) } else { refused });
        }
        let answer = read_capped(response, TEXT_BYTES_MAX, &self.host, limit).await?;
        let answer: Option<TokenAnswer> = serde_json::from_slice(&answer).ok();
        answer
            .and_then(TokenAnswer::into_parts)
            .ok_or_else(|| self.protocol("its token server gave no token"))
    }

    /// A registry that may be anywhere leads nobody to one that was allowed by its name: that is there for
    /// those who ask for it.
    fn check_target(&self, uri: &Uri) -> Result<(), ClientError> {
        let is_named = |uri: &Uri| self.transport.is_named(uri);
        let own = self.base.parse::<Uri>();
        if is_named(uri) && !own.is_ok_and(|own| is_named(&own)) {
            return Err(
                self.protocol("it leads to a registry that is allowed by its own name only")
            );
        }
        Ok(())
    }

    /// A path on this registry, or a URL that it gave.
    fn resolve(&self, path: &str) -> Result<Uri, ClientError> {
        let url =
            if path.starts_with('/') { format!("{}{path}", self.base) } else { path.to_owned() };
        url.parse().map_err(|_| self.protocol("it gave an address that is no URL"))
    }

    fn is_ours(&self, uri: &Uri) -> bool {
        let (scheme, rest) = self.base.split_once("://").unwrap_or(("", &self.base));
        uri.scheme_str() == Some(scheme) && uri.authority().is_some_and(|host| *host == *rest)
    }

    fn follow(&self, from: &Uri, headers: &HeaderMap) -> Result<Uri, ClientError> {
        let target = headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let target = target.ok_or_else(|| self.protocol("it redirects to nowhere"))?;
        let scheme = from.scheme_str().unwrap_or("https");
        let url = if target.starts_with("//") {
            format!("{scheme}:{target}")
        } else if target.starts_with('/') {
            format!("{scheme}://{}{target}", from.authority().map_or("", |a| a.as_str()))
        } else {
            target.to_owned()
        };
        let uri: Uri = url.parse().map_err(|_| self.protocol("it redirects to what is no URL"))?;
        let host = uri.authority().map_or("", |authority| authority.as_str());
        let is_safe = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => self.transport.is_plain(host),
            Some(_) | None => false,
        };
        if is_safe { Ok(uri) } else { Err(self.protocol("it redirects to plain HTTP")) }
    }

    async fn pause_if_asked(&self, headers: &HeaderMap) {
        let asked = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(seconds) = asked {
            let seconds: u64 = seconds;
            tokio::time::sleep(Duration::from_secs(seconds.min(RETRY_AFTER_SECONDS_MAX))).await;
        }
    }

    async fn refused(&self, status: StatusCode, response: Response<Incoming>) -> ClientError {
        let limit = Duration::from_millis(self.transport.config().idle_ms_max);
        let text = read_capped(response, TEXT_BYTES_MAX, &self.host, limit).await;
        let why = explain(status, &text.unwrap_or_default());
        let host = self.host.clone();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let is_unknown = status == StatusCode::UNAUTHORIZED;
                ClientError::Denied { host, why, is_unknown }
            }
            _ => ClientError::Status { host, status: status.as_u16(), why },
        }
    }
}

/// Says why a token server that asked for a login was shown none.
fn withheld(error: ClientError, token_host: &str) -> ClientError {
    match error {
        ClientError::Denied { host, why, is_unknown } => {
            let why = format!(
                "{why} (its login is not shown to its token server {token_host}, another's host: \
                 add a login for {token_host} to show it one)"
            );
            ClientError::Denied { host, why, is_unknown }
        }
        other => other,
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The `errors` of a registry's answer, or whatever else it says.
fn explain(status: StatusCode, text: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Answer {
        errors: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    if let Ok(answer) = serde_json::from_slice::<Answer>(text)
        && !answer.errors.is_empty()
    {
        let each = answer.errors.into_iter().map(|entry| match entry.message.as_str() {
            "" => entry.code,
            message => message.to_owned(),
        });
        return each.collect::<Vec<_>>().join("; ");
    }
    let text = String::from_utf8_lossy(&text[..text.len().min(200)]).trim().to_owned();
    let is_page = text.starts_with('<') || text.is_empty();
    if is_page { status.canonical_reason().unwrap_or("no reason").to_owned() } else { text }
}

/// Percent-encodes all but what is allowed in a query's value.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/,".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Reads an answer that must be small, and here before long.
pub(crate) async fn read_capped(
    response: Response<Incoming>,
    bytes_max: usize,
    host: &str,
    idle_max: Duration,
) -> Result<Bytes, ClientError> {
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    let end = Instant::now() + READ_LIMIT;
    loop {
        let until = end.min(Instant::now() + idle_max);
        let frame = tokio::time::timeout_at(until, body.frame()).await;
        let frame =
            frame.map_err(|_| ClientError::TimedOut { host: host.to_owned(), doing: "go on" })?;
        let Some(frame) = frame else { return Ok(bytes.into()) };
        let frame = frame.map_err(|error| unreachable_body(host, error))?;
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > bytes_max {
                let why = format!("its answer is longer than {bytes_max} bytes");
                return Err(ClientError::Protocol { host: host.to_owned(), why });
            }
            bytes.extend_from_slice(&data);
        }
    }
}

pub(crate) fn unreachable_body(host: &str, error: hyper::Error) -> ClientError {
    let error = io::Error::other(error);
    let why = format!("the connection broke: {error}");
    ClientError::Unreachable { host: host.to_owned(), why }
}
