//! Speaking to the region: signed awsJson requests, and the operations that the agent needs.

mod backoff;
mod containers;
mod ecs;
mod logs;
mod objects;
mod region;
mod secrets;

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use aws_wire::sigv4::{self, Credentials, SigningKeys};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use longshore_types::{Clock, RegionName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;
use trust::Trust;

pub use backoff::Backoff;
pub(crate) use backoff::random_below;
pub use ecs::{Attribute, PlatformDevice, PollEndpoints, Register, Resource, SubmitAttachment};
pub use region::RegionLink;

use crate::limits::{API_TIMEOUT_MS, RESPONSE_BYTES_MAX};
use crate::skew;
use acs::RoleCredentials;

/// Where the keys of this host come from; asked anew for each request, so they can be rotated.
pub trait CredentialsSource: Send + Sync + Debug {
    fn current(&self) -> Option<Credentials>;
}

/// A source that always answers the same.
#[derive(Clone, Debug)]
pub struct FixedCredentials(pub Credentials);

impl CredentialsSource for FixedCredentials {
    fn current(&self) -> Option<Credentials> {
        Some(self.0.clone())
    }
}

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("{code}: {message}")]
    Refused { status: u16, code: String, message: String },
    #[error("failed to reach {endpoint}: {why}")]
    Unreachable { endpoint: String, why: String },
    #[error("{endpoint} did not answer within {timeout_ms} ms")]
    TimedOut { endpoint: String, timeout_ms: u64 },
    #[error("answer of {operation} cannot be read: {why}")]
    Unreadable { operation: &'static str, why: String },
    #[error("there are no credentials")]
    NoCredentials,
    #[error("{0} is no usable endpoint")]
    BadEndpoint(String),
    #[error(
        "{0} is not this region's endpoint, and this host's agent was not told to allow it \
         (longshore agent --allow-log-endpoint HOST[:PORT])"
    )]
    ForeignEndpoint(String),
}

impl CallError {
    /// Whether the same call may work later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Refused { status, code, .. } => {
                *status >= 500
                    || *status == 429
                    || matches!(
                        &**code,
                        "ThrottlingException"
                            | "ServerException"
                            | "ServiceUnavailableException"
                            | "LimitExceededException"
                            | "RequestTimeout"
                    )
            }
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::NoCredentials => true,
            Self::Unreadable { .. } | Self::BadEndpoint(_) | Self::ForeignEndpoint(_) => false,
        }
    }

    /// Whether it is not there to answer, or not itself at the moment: no fault of who asks, however long
    /// it lasts. A refusal by a rate or a limit is none, though another try may go better.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Refused { status, .. } => *status >= 500,
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::NoCredentials => true,
            Self::Unreadable { .. } | Self::BadEndpoint(_) | Self::ForeignEndpoint(_) => false,
        }
    }

    /// Whether it gave no answer, or could not be asked.
    pub fn is_silent(&self) -> bool {
        self.is_away() && !matches!(self, Self::Refused { .. })
    }

    pub fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. } => code,
            Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Unreadable { .. }
            | Self::NoCredentials
            | Self::BadEndpoint(_)
            | Self::ForeignEndpoint(_) => "",
        }
    }
}

/// A service of the region and the protocol it is spoken to in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Service {
    signing_name: &'static str,
    target: &'static str,
}

pub(crate) const ECS: Service =
    Service { signing_name: "ecs", target: "AmazonEC2ContainerServiceV20141113" };
/// What is of no service of Amazon's.
pub(crate) const OWN: Service = Service { signing_name: "longshore", target: "Longshore" };
pub(crate) const LOGS: Service = Service { signing_name: "logs", target: "Logs_20140328" };
pub(crate) const SECRETS: Service =
    Service { signing_name: "secretsmanager", target: "secretsmanager" };
pub(crate) const PARAMETERS: Service = Service { signing_name: "ssm", target: "AmazonSSM" };
pub(crate) const ECR: Service =
    Service { signing_name: "ecr", target: "AmazonEC2ContainerRegistry_V20150921" };

/// Signs and sends. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Api {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    endpoint: Uri,
    /// Other hosts that are shown credentials when a task names them.
    log_endpoints: Vec<String>,
    runtime: String,
    region: RegionName,
    credentials: Arc<dyn CredentialsSource>,
    clock: Arc<dyn Clock>,
    /// What is added to the clock for signatures, in milliseconds, since the region found it wrong.
    offset_ms: AtomicI64,
    keys: SigningKeys,
    tls: Arc<rustls::ClientConfig>,
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// What came back, all of it.
struct Answer {
    status: u16,
    headers: HeaderMap,
    bytes: Bytes,
}

/// Where an [`Api`] is, and whom it believes.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    pub endpoint: Uri,
    pub region: RegionName,
    pub trust: Trust,
    /// Other hosts that are shown credentials when a task names them.
    pub log_endpoints: Vec<String>,
    /// What runs containers here, as the region is told.
    pub runtime: String,
}

impl Api {
    pub fn new(
        config: ApiConfig,
        credentials: Arc<dyn CredentialsSource>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let ApiConfig { endpoint, region, trust, log_endpoints, runtime } = config;
        let tls = trust.client_config();
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(10)));
        let http = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(50))
            .build(
                HttpsConnectorBuilder::new()
                    .with_tls_config(tls.clone())
                    .https_or_http()
                    .enable_http1()
                    .wrap_connector(connector),
            );
        let keys = SigningKeys::default();
        Self {
            shared: Arc::new(Shared {
                endpoint,
                log_endpoints,
                runtime,
                region,
                credentials,
                clock,
                offset_ms: AtomicI64::new(0),
                keys,
                tls: Arc::new(tls),
                http,
            }),
        }
    }

    /// What runs containers here, as the region is told.
    pub(crate) fn runtime(&self) -> &str {
        &self.shared.runtime
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }

    /// One call, signed by the host's own keys.
    pub(crate) async fn call<I: Serialize, O: DeserializeOwned>(
        &self,
        service: Service,
        operation: &'static str,
        input: &I,
    ) -> Result<O, CallError> {
        self.call_as(service, operation, input, None, None).await
    }

    /// One call, signed by a role's keys if there are any, at another endpoint if one is named.
    pub(crate) async fn call_as<I: Serialize, O: DeserializeOwned>(
        &self,
        service: Service,
        operation: &'static str,
        input: &I,
        role: Option<&RoleCredentials>,
        endpoint: Option<&str>,
    ) -> Result<O, CallError> {
        let body = serde_json::to_vec(input)
            .map_err(|error| CallError::Unreadable { operation, why: error.to_string() })?;
        let uri = self.admit(endpoint)?;
        let body = Bytes::from(body);
        let mut may_correct = true;
        let bytes = loop {
            let offset_ms = self.offset_ms();
            let request = self.request(service, operation, &uri, body.clone(), role)?;
            let Answer { status, headers, bytes } = self.timely(request, &uri).await?;
            if (200..300).contains(&status) {
                break bytes;
            }
            let refused = refusal(status, &bytes);
            let is_ours = uri.authority().is_some_and(|it| self.is_at(it.as_str()));
            let may_be_for_its_time = may_correct && is_ours;
            if !may_be_for_its_time || !self.correct(refused.code(), &headers, offset_ms) {
                return Err(refused);
            }
            may_correct = false;
        };
        let bytes = if bytes.is_empty() { Bytes::from_static(b"{}") } else { bytes };
        serde_json::from_slice(&bytes)
            .map_err(|error| CallError::Unreadable { operation, why: error.to_string() })
    }

    /// What was added to the clock for a signature that is made now.
    pub(crate) fn offset_ms(&self) -> i64 {
        self.shared.offset_ms.load(Ordering::Relaxed)
    }

    /// Whether the region refused a signature for its time, which is right from now on; `offset_ms`: what was added to the
    /// clock for it.
    pub(crate) fn correct(&self, code: &str, headers: &HeaderMap, offset_ms: i64) -> bool {
        let now = self.shared.clock.now();
        let Some(next) = skew::correction(code, headers, now, offset_ms) else { return false };
        warn!(offset_ms = next, "this host's clock is wrong, requests are signed by the region's");
        self.shared.offset_ms.store(next, Ordering::Relaxed);
        true
    }

    /// The answer to a request, if it comes in time.
    async fn timely(&self, request: Request<Full<Bytes>>, uri: &Uri) -> Result<Answer, CallError> {
        let timeout = Duration::from_millis(API_TIMEOUT_MS);
        let answer = tokio::time::timeout(timeout, self.exchange(request, uri)).await;
        answer.map_err(|_| CallError::TimedOut {
            endpoint: uri.to_string(),
            timeout_ms: API_TIMEOUT_MS,
        })?
    }

    /// For sockets, which are opened beside the API's connections.
    pub(crate) fn tls(&self) -> Arc<rustls::ClientConfig> {
        Arc::clone(&self.shared.tls)
    }

    /// Whether `host`, with its port, is where the region is.
    pub(crate) fn is_at(&self, host: &str) -> bool {
        let authority = self.shared.endpoint.authority();
        authority.is_some_and(|own| own.as_str().eq_ignore_ascii_case(host))
    }

    /// Where a request goes that a task may name an endpoint for. Credentials go to the region, and to
    /// nobody else whom the host's owner has not named.
    pub(crate) fn admit(&self, endpoint: Option<&str>) -> Result<Uri, CallError> {
        let own = &self.shared.endpoint;
        let Some(text) = endpoint else { return Ok(own.clone()) };
        let bad = || CallError::BadEndpoint(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| bad())?;
        let host = uri.host().ok_or_else(bad)?.to_ascii_lowercase();
        let authority = uri.authority().ok_or_else(bad)?;
        let port = port_of(&uri).filter(|_| !authority.as_str().contains('@')).ok_or_else(bad)?;
        let is_own = own.host().is_some_and(|own| own.eq_ignore_ascii_case(&host))
            && port_of(own) == Some(port)
            && own.scheme() == uri.scheme();
        let numbered = format!("{host}:{port}");
        let is_allowed = |allowed: &String| {
            allowed.eq_ignore_ascii_case(&host) || allowed.eq_ignore_ascii_case(&numbered)
        };
        if is_own || self.shared.log_endpoints.iter().any(is_allowed) {
            return Ok(uri);
        }
        Err(CallError::ForeignEndpoint(text.to_owned()))
    }

    fn request(
        &self,
        service: Service,
        operation: &'static str,
        uri: &Uri,
        body: Bytes,
        role: Option<&RoleCredentials>,
    ) -> Result<Request<Full<Bytes>>, CallError> {
        let credentials = match role {
            Some(role) => of_role(role),
            None => self.shared.credentials.current().ok_or(CallError::NoCredentials)?,
        };
        let mut headers = HeaderMap::new();
        let target = format!("{}.{operation}", service.target);
        let bad = |_| CallError::BadEndpoint(uri.to_string());
        headers.insert("x-amz-target", HeaderValue::from_str(&target).map_err(bad)?);
        let kind = HeaderValue::from_static("application/x-amz-json-1.1");
        headers.insert(header::CONTENT_TYPE, kind);
        self.sign("POST", uri, &mut headers, &body, &credentials, service.signing_name);
        let agent = concat!("longshore-agent/", env!("CARGO_PKG_VERSION"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// Signs headers in place; for websockets and their frames as well.
    pub(crate) fn sign(
        &self,
        method: &str,
        uri: &Uri,
        headers: &mut HeaderMap,
        body: &[u8],
        credentials: &Credentials,
        service: &str,
    ) {
        let Shared { region, clock, keys, .. } = &*self.shared;
        let now = skew::shifted(clock.now(), self.offset_ms());
        sigv4::sign(method, uri, headers, body, credentials, region, service, now, keys);
    }

    pub(crate) fn credentials(&self) -> Result<Credentials, CallError> {
        self.shared.credentials.current().ok_or(CallError::NoCredentials)
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        uri: &Uri,
    ) -> Result<Answer, CallError> {
        let unreachable = |why: String| CallError::Unreachable { endpoint: uri.to_string(), why };
        let answer = self.shared.http.request(request).await;
        let answer =
            answer.map_err(|error| unreachable(longshore_types::Chain(&error).to_string()))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, RESPONSE_BYTES_MAX).collect().await;
        let body = body.map_err(|error| unreachable(error.to_string()))?;
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, bytes: body.to_bytes() })
    }
}

/// Of an address that can be spoken to at all.
fn port_of(uri: &Uri) -> Option<u16> {
    let default = match uri.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        Some(_) | None => return None,
    };
    Some(uri.port_u16().unwrap_or(default))
}

fn of_role(role: &RoleCredentials) -> Credentials {
    let token = Some(role.session_token.clone()).filter(|token| !token.reveal().is_empty());
    Credentials {
        access_key: role.access_key_id.clone(),
        secret: role.secret_access_key.clone(),
        session_token: token,
    }
}

/// Reads `{"__type":"…#Code","message":"…"}` in all its spellings.
fn refusal(status: u16, body: &[u8]) -> CallError {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |keys: &[&str]| {
        keys.iter().find_map(|key| value.get(key)?.as_str()).unwrap_or_default().to_owned()
    };
    let code = text(&["__type", "code", "Code"]);
    let code = code.rsplit('#').next().unwrap_or_default().to_owned();
    CallError::Refused { status, code, message: text(&["message", "Message"]) }
}

#[cfg(test)]
mod tests {
    use longshore_types::{SystemClock, Token};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn api(endpoint: &str) -> Api {
        let credentials = FixedCredentials(Credentials {
            access_key: "a".into(),
            secret: Token::from_text("b".into()),
            session_token: None,
        });
        let config = ApiConfig {
            endpoint: endpoint.parse().unwrap(),
            region: "us-east-1".parse().unwrap(),
            trust: Trust::system(),
            log_endpoints: vec!["logs.lan".into(), "10.0.0.9:8080".into()],
            runtime: crate::OWN_RUNTIME.to_owned(),
        };
        Api::new(config, Arc::new(credentials), Arc::new(SystemClock))
    }

    #[test]
    fn credentials_go_to_the_region_and_to_whom_the_hosts_owner_has_named() {
        let api = api("http://127.0.0.1:4566");
        assert_eq!(api.admit(None).unwrap(), "http://127.0.0.1:4566/");
        for endpoint in [
            "http://127.0.0.1:4566",
            "http://127.0.0.1:4566/",
            "http://logs.lan",
            "http://LOGS.lan:99/x",
            "http://10.0.0.9:8080",
            "https://logs.lan",
        ] {
            assert!(api.admit(Some(endpoint)).is_ok(), "{endpoint}");
        }
        for endpoint in [
            "http://127.0.0.1:45660",
            "http://127.0.0.1",
            "http://127.0.0.1:4566@169.254.169.254",
            "http://x@127.0.0.1:4566",
            "http://169.254.169.254/latest",
            "http://[::1]:4566",
            "https://127.0.0.1:4566",
            "http://10.0.0.9",
            "http://logs.lan.evil.example",
            "https://logs.eu-north-1.amazonaws.com",
            "unix:///var/run/x",
            "",
        ] {
            let error = api.admit(Some(endpoint)).unwrap_err();
            assert!(!error.is_transient(), "{endpoint}: {error}");
        }
    }

    /// A region that refuses the first `refusals` requests for their time, and tells when each that came was signed.
    async fn strict_region(listener: tokio::net::TcpListener, refusals: usize) -> Vec<String> {
        let mut signed = Vec::new();
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut read = Vec::new();
        loop {
            let mut some = [0; 4096];
            let count = socket.read(&mut some).await.unwrap();
            if count == 0 {
                return signed;
            }
            read.extend_from_slice(&some[..count]);
            let text = String::from_utf8(read.clone()).unwrap();
            if !text.ends_with("{}") {
                continue;
            }
            read.clear();
            let (_, rest) = text.split_once("x-amz-date: ").unwrap();
            signed.push(rest[..16].to_owned());
            let (status, body) = if signed.len() <= refusals {
                (
                    "400 Bad Request",
                    r#"{"__type":"InvalidSignatureException","message":"Signature expired"}"#,
                )
            } else {
                ("200 OK", "{}")
            };
            let length = body.len();
            let date = "Sun, 06 Nov 1994 08:49:37 GMT";
            let answer = format!(
                "HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_wrong_clock_is_corrected_by_the_regions_once_and_for_all_signatures() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let region = tokio::spawn(strict_region(listener, 1));
        let api = api(&format!("http://{address}"));
        let empty = serde_json::json!({});
        for _ in 0..2 {
            api.call::<_, serde_json::Value>(ECS, "ListClusters", &empty).await.unwrap();
        }
        drop(api);
        let signed = region.await.unwrap();
        assert_eq!(signed.len(), 3, "{signed:?}");
        assert!(!signed[0].starts_with("1994"), "{signed:?}");
        assert!(signed[1..].iter().all(|date| date.starts_with("19941106T08")), "{signed:?}");
    }

    /// Refuses a socket for the time of its signature.
    async fn strict_socket(listener: tokio::net::TcpListener) {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n\r\n") {
            let mut some = [0; 4096];
            let count = socket.read(&mut some).await.unwrap();
            assert!(0 < count);
            read.extend_from_slice(&some[..count]);
        }
        let body = r#"{"InvalidSignatureException":"Signature expired"}"#;
        let (length, date) = (body.len(), "Sun, 06 Nov 1994 08:49:37 GMT");
        let answer = format!(
            "HTTP/1.1 400 Bad Request\r\nDate: {date}\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        socket.write_all(answer.as_bytes()).await.unwrap();
    }

    #[tokio::test]
    async fn only_the_region_says_at_a_socket_what_time_it_is() {
        for is_ours in [true, false] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let socket = tokio::spawn(strict_socket(listener));
            let own = if is_ours { address.to_string() } else { "127.0.0.1:1".to_owned() };
            let api = api(&format!("http://{own}"));
            let uri = crate::socket::socket_uri(&format!("http://{address}"), &[]).unwrap();
            assert!(crate::socket::connect(&api, &uri).await.is_err());
            socket.await.unwrap();
            assert_eq!(api.offset_ms() != 0, is_ours);
        }
    }

    #[tokio::test]
    async fn who_is_refused_by_the_right_time_as_well_does_not_go_on() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let region = tokio::spawn(strict_region(listener, usize::MAX));
        let api = api(&format!("http://{address}"));
        let empty = serde_json::json!({});
        let refused = api.call::<_, serde_json::Value>(ECS, "ListClusters", &empty).await;
        assert_eq!(refused.unwrap_err().code(), "InvalidSignatureException");
        drop(api);
        assert_eq!(region.await.unwrap().len(), 2);
    }

    #[test]
    fn errors_are_read_in_all_their_spellings() {
        let error = refusal(400, br#"{"__type":"com.x#ClientException","Message":"no"}"#);
        assert_eq!(error.to_string(), "ClientException: no");
        assert!(!error.is_transient());
        assert!(refusal(503, b"<html>").is_transient());
        assert!(refusal(400, br#"{"__type":"ThrottlingException"}"#).is_transient());
    }
}
