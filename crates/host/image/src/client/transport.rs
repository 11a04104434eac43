//! Sends one HTTP request, with time limits, and says precisely why it could not.

use std::error::Error as StdError;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use longshore_types::Chain;
use trust::Trust;

use super::ClientError;
use super::connect::{ConnectError, Connector};
use super::egress::Egress;

/// A read buffer large enough that loopback is not the slower for it.
const READ_BYTES_MAX: usize = 1 << 20;

/// A request's body.
pub(crate) type RequestBody = UnsyncBoxBody<Bytes, io::Error>;

/// How registries are spoken to.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    pub connect_ms_max: u64,
    /// How long a registry may take to begin its answer.
    pub answer_ms_max: u64,
    /// How long the answer may then stand still.
    pub idle_ms_max: u64,
    pub retries_max: u32,
    /// The first pause before a retry; each further one is twice as long.
    pub retry_pause_ms: u64,
    /// Registries, as `host` or `host:port`, that are spoken to without TLS. Loopback always is.
    pub plain_http: Vec<String>,
    /// Whom registries' certificates must come from.
    pub trust: Trust,
    /// Registries, as `host:port`, that may fetch what they are asked for first, and so begin an answer late.
    pub patient_with: Vec<String>,
    /// Where may be connected to at all.
    pub egress: Egress,
    pub user_agent: String,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            connect_ms_max: 10_000,
            answer_ms_max: 30_000,
            idle_ms_max: 30_000,
            retries_max: 4,
            retry_pause_ms: 250,
            plain_http: Vec::new(),
            trust: Trust::system(),
            patient_with: Vec::new(),
            egress: Egress::default(),
            user_agent: concat!("longshore/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// Connections to registries, shared by all pulls of a process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Transport {
    config: Arc<ClientConfig>,
    plain: Client<Connector, RequestBody>,
    /// Made when first wanted: reading the system's certificates takes a while.
    tls: Arc<OnceLock<Client<HttpsConnector<Connector>, RequestBody>>>,
}

impl Transport {
    pub fn new(config: ClientConfig) -> Self {
        let plain = builder().build(connector(&config));
        Self { config: Arc::new(config), plain, tls: Arc::new(OnceLock::new()) }
    }

    pub(crate) fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// Whether the authority of `uri` may be connected to because it was named.
    pub(crate) fn is_named(&self, uri: &Uri) -> bool {
        let port =
            uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        uri.host().is_some_and(|host| self.config.egress.names(host, port))
    }

    /// Whether `host` (with or without a port) is spoken to without TLS.
    pub(crate) fn is_plain(&self, host: &str) -> bool {
        let name = split_port(host);
        let is_loopback = name == "localhost"
            || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        is_loopback || self.config.plain_http.iter().any(|plain| plain == host || plain == name)
    }

    fn tls(&self) -> &Client<HttpsConnector<Connector>, RequestBody> {
        self.tls.get_or_init(|| {
            let connector = HttpsConnectorBuilder::new()
                .with_tls_config(self.config.trust.client_config())
                .https_only()
                .enable_http1()
                .wrap_connector(connector(&self.config));
            builder().build(connector)
        })
    }

    /// Sends `request` and waits for the head of its answer.
    pub(crate) async fn send(
        &self,
        request: Request<RequestBody>,
        limit: Duration,
    ) -> Result<Response<Incoming>, ClientError> {
        let host = host_of(request.uri());
        let sent = if request.uri().scheme_str() == Some("https") {
            tokio::time::timeout(limit, self.tls().request(request)).await
        } else {
            tokio::time::timeout(limit, self.plain.request(request)).await
        };
        match sent {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(classify(host, &error)),
            Err(_) => Err(ClientError::TimedOut { host, doing: "answer" }),
        }
    }
}

fn builder() -> hyper_util::client::legacy::Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(30))
        .http1_max_buf_size(READ_BYTES_MAX);
    builder
}

fn connector(config: &ClientConfig) -> Connector {
    Connector::new(config.egress.clone(), Duration::from_millis(config.connect_ms_max))
}

/// `host:port` without its port.
pub(super) fn split_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        Some(_) | None => host,
    }
}

fn host_of(uri: &Uri) -> String {
    uri.authority().map_or_else(String::new, ToString::to_string)
}

fn classify(host: String, error: &hyper_util::client::legacy::Error) -> ClientError {
    let why = Chain(error).to_string();
    let mut cause: Option<&dyn StdError> = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref::<ConnectError>() {
            Some(ConnectError::Refused(refused)) => {
                return ClientError::NotAllowed { host, why: refused.to_string() };
            }
            Some(ConnectError::Lookup(_)) => {
                return ClientError::NoSuchHost { host: split_port(&host).to_owned() };
            }
            Some(ConnectError::NoHost | ConnectError::Io(_)) | None => {}
        }
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|io| io.kind() == io::ErrorKind::TimedOut) {
            return ClientError::TimedOut { host, doing: "accept the connection" };
        }
        cause = error.source();
    }
    ClientError::Unreachable { host, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_what_is_configured_is_spoken_to_without_tls() {
        let plain_http = vec!["10.0.0.1:5000".to_owned(), "registry.lan".to_owned()];
        let transport = Transport::new(ClientConfig { plain_http, ..ClientConfig::default() });
        for (host, plain) in [
            ("127.0.0.1:4566", true),
            ("127.1.2.3", true),
            ("localhost:5000", true),
            ("[::1]:5000", true),
            ("10.0.0.1:5000", true),
            ("registry.lan:443", true),
            ("10.0.0.1", false),
            ("10.0.0.2:5000", false),
            ("docker.io", false),
            ("localhost.example.com", false),
        ] {
            assert_eq!(transport.is_plain(host), plain, "{host}");
        }
    }
}
