//! How the server is asked: by HTTPS alone, within a time and a size.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use trust::Trust;

/// How long an answer may take.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);
/// How long an answer may be.
const ANSWER_BYTES_MAX: usize = 1 << 20;

pub(crate) struct Https(Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>);

impl Https {
    /// Reads the system's certificates if it is to trust those: make it once an order.
    pub(crate) fn trusting(trust: &Trust) -> Self {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(trust.client_config())
            .https_only()
            .enable_http1()
            .build();
        Self(Client::builder(TokioExecutor::new()).build(connector))
    }
}

/// What the server was not heard to say.
#[derive(Debug)]
struct Unheard(String);

impl fmt::Display for Unheard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Unheard {}

impl HttpClient for Https {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let url = request.uri().clone();
        let asked = self.0.request(request);
        let answered = async move {
            let answer = asked.await.map_err(|why| longshore_types::Chain(&why).to_string())?;
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|why| why.to_string())?.to_bytes();
            Ok(BytesResponse { parts, body: Box::new(body) })
        };
        Box::pin(async move {
            let late = || Err(format!("it did not answer within {} s", ANSWER_WAIT_MAX.as_secs()));
            let answered = tokio::time::timeout(ANSWER_WAIT_MAX, answered).await;
            let answered = answered.unwrap_or_else(|_| late());
            answered.map_err(|why: String| Error::Other(Box::new(Unheard(format!("{url}: {why}")))))
        })
    }
}
