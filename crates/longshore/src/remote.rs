//! A region on another machine: one request, one TLS connection.
//!
//! Everything that a host needs before and beside Amazon's protocol goes this way: joining and renewing its keys.

use std::sync::Arc;
use std::time::Duration;

use agent::skew;
use aws_wire::sigv4::{self, Credentials, SigningKeys};
use bytes::Bytes;
use control::Advertised;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use longshore_types::{Chain, Clock as _, RegionName, SystemClock};
use rustls::pki_types::{CertificateDer, ServerName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use trust::NotPinned;

use crate::client::{ClientError, ask, json_refusal};

/// A region that does not answer within this is tried again later.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// What these operations are signed for.
const SERVICE: &str = "longshore";

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoteError {
    #[error("cannot reach the region at {endpoint}: {why}")]
    Unreachable { endpoint: String, why: String },
    #[error(
        "{endpoint} is not the region that the token is of: the token expects an authority with the fingerprint \
         {}, and the one that answers shows {}", .mismatch.expected, .mismatch.shown
    )]
    OtherAuthority { endpoint: String, mismatch: NotPinned },
    #[error("{endpoint} is not believed: {why}")]
    NotBelieved { endpoint: String, why: String },
    #[error(transparent)]
    Answered(#[from] ClientError),
}

impl RemoteError {
    /// Whether the region itself said no, and will again.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::Answered(ClientError::Api { status, .. }) => (400..500).contains(status),
            Self::Answered(_) | Self::Unreachable { .. } => false,
            Self::OtherAuthority { .. } | Self::NotBelieved { .. } => true,
        }
    }
}

/// Where a region is, and whom it is believed by.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    pub(crate) endpoint: Advertised,
    pub(crate) tls: Arc<rustls::ClientConfig>,
}

/// An answer, and the certificates of who gave it; none without TLS.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    pub(crate) value: T,
    pub(crate) chain: Vec<CertificateDer<'static>>,
}

/// A refusal, and what came with it.
struct Refused {
    error: ClientError,
    headers: HeaderMap,
}

impl Remote {
    /// Has `operation` done: signed, if there is something to sign with.
    pub(crate) async fn call<I: Serialize, O: DeserializeOwned>(
        &self,
        operation: &str,
        input: &I,
        signer: Option<(&Credentials, &RegionName)>,
    ) -> Result<Answer<O>, RemoteError> {
        match tokio::time::timeout(ANSWER_MAX, self.ask(operation, input, signer)).await {
            Ok(answered) => answered,
            Err(_) => {
                let why = format!("no answer within {} s", ANSWER_MAX.as_secs());
                Err(RemoteError::Unreachable { endpoint: self.endpoint.to_string(), why })
            }
        }
    }

    /// Asks, and once more where the signature was refused for this host's clock: by the region's then.
    async fn ask<I: Serialize, O: DeserializeOwned>(
        &self,
        operation: &str,
        input: &I,
        signer: Option<(&Credentials, &RegionName)>,
    ) -> Result<Answer<O>, RemoteError> {
        let body = Bytes::from(serde_json::to_vec(input).expect("a shape has string keys"));
        let refused = match self.exchange(operation, body.clone(), signer, 0).await? {
            Ok(answer) => return Ok(answer),
            Err(refused) => refused,
        };
        let ClientError::Api { code, .. } = &refused.error else {
            return Err(refused.error.into());
        };
        match skew::correction(code, &refused.headers, SystemClock.now(), 0) {
            Some(offset_ms) => self
                .exchange(operation, body, signer, offset_ms)
                .await?
                .map_err(|refused| refused.error.into()),
            None => Err(refused.error.into()),
        }
    }

    async fn exchange<O: DeserializeOwned>(
        &self,
        operation: &str,
        body: Bytes,
        signer: Option<(&Credentials, &RegionName)>,
        offset_ms: i64,
    ) -> Result<Result<Answer<O>, Refused>, RemoteError> {
        let request = self.request(operation, body, signer, offset_ms);
        let host = self.endpoint.host();
        let unreachable = |why: &dyn std::fmt::Display| RemoteError::Unreachable {
            endpoint: self.endpoint.to_string(),
            why: why.to_string(),
        };
        let stream = TcpStream::connect((host, self.endpoint.port())).await;
        let stream = stream.map_err(|error| unreachable(&error))?;
        let (head, answer, chain) = if self.endpoint.is_secure() {
            let name =
                ServerName::try_from(host.to_owned()).map_err(|error| unreachable(&error))?;
            let connected = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await;
            let stream = connected.map_err(|error| self.not_believed(&error))?;
            let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let chain = chain.iter().map(|each| each.clone().into_owned()).collect();
            let (head, answer) = ask(stream, operation, request).await?;
            (head, answer, chain)
        } else {
            let (head, answer) = ask(stream, operation, request).await?;
            (head, answer, Vec::new())
        };
        if head.status != StatusCode::OK {
            let error = json_refusal(operation, head.status, &answer);
            return Ok(Err(Refused { error, headers: head.headers }));
        }
        let value = serde_json::from_slice(&answer).map_err(|error| ClientError::Answer {
            operation: operation.to_owned(),
            why: error.to_string(),
        })?;
        Ok(Ok(Answer { value, chain }))
    }

    fn request(
        &self,
        operation: &str,
        body: Bytes,
        signer: Option<(&Credentials, &RegionName)>,
        offset_ms: i64,
    ) -> Request<Full<Bytes>> {
        let mut headers = HeaderMap::new();
        let text = |text: String| {
            HeaderValue::from_str(&text).expect("names of hosts and operations are ASCII")
        };
        headers.insert("host", text(self.endpoint.authority().to_owned()));
        headers.insert("x-amz-target", text(format!("Longshore.{operation}")));
        headers.insert("content-type", HeaderValue::from_static("application/x-amz-json-1.1"));
        if let Some((credentials, region)) = signer {
            let uri = format!("{}/", self.endpoint).parse::<Uri>().expect("an address is a URI");
            sigv4::sign(
                Method::POST.as_str(),
                &uri,
                &mut headers,
                &body,
                credentials,
                region,
                SERVICE,
                skew::shifted(SystemClock.now(), offset_ms),
                &SigningKeys::default(),
            );
        }
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static("/");
        *request.headers_mut() = headers;
        request
    }

    /// Why a handshake failed, in words that say what to do.
    fn not_believed(&self, error: &std::io::Error) -> RemoteError {
        let endpoint = self.endpoint.to_string();
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(why))) => {
                match why.0.downcast_ref::<NotPinned>() {
                    Some(mismatch) => RemoteError::OtherAuthority { endpoint, mismatch: *mismatch },
                    None => RemoteError::NotBelieved { endpoint, why: why.to_string() },
                }
            }
            Some(rustls::Error::InvalidCertificate(why)) => {
                RemoteError::NotBelieved { endpoint, why: why.to_string() }
            }
            Some(_) | None => RemoteError::Unreachable { endpoint, why: Chain(error).to_string() },
        }
    }
}
