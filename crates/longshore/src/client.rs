//! A small client of the region's own API: one signed request, one connection.

use std::net::SocketAddr;

use aws_wire::codec::Record;
use aws_wire::json;
use aws_wire::service::{Protocol, Service};
use aws_wire::sigv4::{self, Credentials, SigningKeys};
use bytes::Bytes;
use ecr_api as ecr;
use ecs_api as ecs;
use http::{HeaderMap, Method, Request, StatusCode, Uri, response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use logs_api as logs;
use longshore_types::{Clock, RegionName, SystemClock};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 32 << 20;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("cannot reach the region at {address}")]
    Unreachable { address: SocketAddr, source: std::io::Error },
    #[error("{operation} failed")]
    Http { operation: String, source: Box<dyn std::error::Error + Send + Sync> },
    /// The region refused.
    #[error("{operation}: {code}: {message}")]
    Api { operation: String, code: String, message: String, status: u16 },
    #[error("the region's answer to {operation} cannot be read: {why}")]
    Answer { operation: String, why: String },
}

impl ClientError {
    /// Whether the region refused with this code.
    pub(crate) fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Api { code, .. } if code == wanted)
    }
}

/// Speaks to one region as its root user.
pub(crate) struct Client {
    endpoint: SocketAddr,
    region: RegionName,
    credentials: Credentials,
    keys: SigningKeys,
}

impl Client {
    pub(crate) fn new(endpoint: SocketAddr, region: RegionName, credentials: Credentials) -> Self {
        Self { endpoint, region, credentials, keys: SigningKeys::default() }
    }

    pub(crate) fn endpoint(&self) -> SocketAddr {
        self.endpoint
    }

    pub(crate) async fn ecs<I: Record, O: Record>(
        &self,
        operation: &str,
        input: &I,
    ) -> Result<O, ClientError> {
        self.json(&ecs::SERVICE, operation, input).await
    }

    pub(crate) async fn ecr<I: Record, O: Record>(
        &self,
        operation: &str,
        input: &I,
    ) -> Result<O, ClientError> {
        self.json(&ecr::SERVICE, operation, input).await
    }

    pub(crate) async fn logs<I: Record, O: Record>(
        &self,
        operation: &str,
        input: &I,
    ) -> Result<O, ClientError> {
        self.json(&logs::SERVICE, operation, input).await
    }

    /// A call of a service that speaks awsJson.
    async fn json<I: Record, O: Record>(
        &self,
        service: &'static Service,
        operation: &str,
        input: &I,
    ) -> Result<O, ClientError> {
        let version = match service.protocol {
            Protocol::AwsJson10 => "1.0",
            _ => "1.1",
        };
        let mut headers = HeaderMap::new();
        let target = format!("{}.{operation}", service.target_prefix);
        for (name, value) in [
            ("content-type", format!("application/x-amz-json-{version}")),
            ("x-amz-target", target),
        ] {
            headers.insert(name, value.parse().expect("names of operations are ASCII"));
        }
        let body = Bytes::from(json::to_vec(input));
        let (status, answer) = self.send(service.name, operation, headers, body).await?;
        if status != StatusCode::OK {
            return Err(json_refusal(operation, status, &answer));
        }
        let answer = if answer.is_empty() { Bytes::from_static(b"{}") } else { answer };
        json::from_slice(&answer).map_err(|error| ClientError::Answer {
            operation: operation.to_owned(),
            why: error.to_string(),
        })
    }

    /// A call of EC2; `parameters`: as they stand in a form, each after an `&`. The answer is XML, and is given as it is.
    pub(crate) async fn ec2(
        &self,
        operation: &str,
        parameters: &str,
    ) -> Result<String, ClientError> {
        let mut headers = HeaderMap::new();
        let form = "application/x-www-form-urlencoded; charset=utf-8";
        headers.insert("content-type", form.parse().expect("a constant header"));
        let body =
            format!("Action={operation}&Version={}{parameters}", ec2_api::SERVICE.api_version);
        let (status, answer) = self.send("ec2", operation, headers, Bytes::from(body)).await?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        if status == StatusCode::OK {
            return Ok(text);
        }
        let part = |tag| texts(&text, tag).into_iter().next().unwrap_or_default();
        let (code, message) = (part("Code"), part("Message"));
        let status = status.as_u16();
        Err(ClientError::Api { operation: operation.to_owned(), code, message, status })
    }

    /// What the region does by itself.
    pub(crate) async fn status<O: DeserializeOwned>(&self) -> Result<O, ClientError> {
        self.own("DescribeStatus", &serde_json::json!({})).await
    }

    /// Puts another root key in the place of the one there is.
    pub(crate) async fn rotate_root<O: DeserializeOwned>(&self) -> Result<O, ClientError> {
        self.own("RotateRootKey", &serde_json::json!({})).await
    }

    /// Whether a connection is let through, and by what.
    pub(crate) async fn explain<O: DeserializeOwned>(
        &self,
        question: &serde_json::Value,
    ) -> Result<O, ClientError> {
        self.own("ExplainReach", question).await
    }

    /// An operation that is of no service of Amazon's.
    pub(crate) async fn own<I: Serialize, O: DeserializeOwned>(
        &self,
        operation: &str,
        input: &I,
    ) -> Result<O, ClientError> {
        let mut headers = HeaderMap::new();
        let target = format!("{}{operation}", region::server::OWN_TARGET);
        headers.insert("x-amz-target", target.parse().expect("names of operations are ASCII"));
        let body = serde_json::to_vec(input).expect("a shape has string keys");
        let sent = self.send("longshore", operation, headers, Bytes::from(body));
        let (status, answer) = sent.await?;
        if status != StatusCode::OK {
            return Err(json_refusal(operation, status, &answer));
        }
        serde_json::from_slice(&answer).map_err(|error| ClientError::Answer {
            operation: operation.to_owned(),
            why: error.to_string(),
        })
    }

    /// Whether requests are served: the first to answer means that all are.
    pub(crate) async fn is_healthy(endpoint: SocketAddr) -> bool {
        let uri = format!("http://{endpoint}/health");
        let request = Request::get(uri).header("host", endpoint.to_string());
        let Ok(request) = request.body(Full::new(Bytes::new())) else { return false };
        matches!(exchange(endpoint, "health", request).await, Ok((StatusCode::OK, _)))
    }

    async fn send(
        &self,
        service: &str,
        operation: &str,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let uri: Uri = format!("http://{}/", self.endpoint).parse().expect("an address is a host");
        let now = SystemClock.now();
        sigv4::sign(
            Method::POST.as_str(),
            &uri,
            &mut headers,
            &body,
            &self.credentials,
            &self.region,
            service,
            now,
            &self.keys,
        );
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static("/");
        *request.headers_mut() = headers;
        exchange(self.endpoint, operation, request).await
    }
}

/// Sends a request over a connection of its own and reads the whole answer.
async fn exchange(
    endpoint: SocketAddr,
    operation: &str,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), ClientError> {
    let stream = TcpStream::connect(endpoint)
        .await
        .map_err(|source| ClientError::Unreachable { address: endpoint, source })?;
    let (head, body) = ask(stream, operation, request).await?;
    Ok((head.status, body))
}

/// Sends a request over a connection that nobody else uses, and reads the whole answer.
pub(crate) async fn ask<T>(
    stream: T,
    operation: &str,
    request: Request<Full<Bytes>>,
) -> Result<(response::Parts, Bytes), ClientError>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| ClientError::Http {
        operation: operation.to_owned(),
        source,
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(error.into()))?;
    #[expect(clippy::disallowed_methods, reason = "it ends with the connection")]
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(|error| failed(error.into()))?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    Ok((head, body.map_err(failed)?.to_bytes()))
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(rename = "__type", default)]
    code: String,
    #[serde(alias = "Message", default)]
    message: String,
}

pub(crate) fn json_refusal(operation: &str, status: StatusCode, body: &[u8]) -> ClientError {
    let operation = operation.to_owned();
    match serde_json::from_slice::<Refusal>(body) {
        Ok(Refusal { code, message }) => {
            let code = code.rsplit('#').next().unwrap_or_default().to_owned();
            ClientError::Api { operation, code, message, status: status.as_u16() }
        }
        Err(_) => ClientError::Answer { operation, why: format!("status {status}") },
    }
}

/// The texts of all elements named `tag` that hold no others. Enough for the few answers we read.
pub(crate) fn texts(xml: &str, tag: &str) -> Vec<String> {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let parts = xml.split(open.as_str()).skip(1);
    parts
        .filter_map(|part| part.split_once(close.as_str()))
        .map(|(text, _)| text.to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use longshore_types::Token;

    /// A server that answers one request with `answer`, and gives the request back.
    async fn serve(answer: &'static str) -> (SocketAddr, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            loop {
                let count = stream.read(&mut buffer).await.unwrap();
                request.extend_from_slice(&buffer[..count]);
                let text = String::from_utf8_lossy(&request);
                if text.contains("\r\n\r\n{") || text.contains("Version=") || count == 0 {
                    break;
                }
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(request).unwrap()
        });
        (address, served)
    }

    fn client(endpoint: SocketAddr) -> Client {
        let credentials = Credentials {
            access_key: "AKIAEXAMPLE".to_owned(),
            secret: Token::from_text("secret".to_owned()),
            session_token: None,
        };
        Client::new(endpoint, "eu-north-1".parse().unwrap(), credentials)
    }

    #[tokio::test]
    async fn a_request_is_signed_and_its_answer_read() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 21\r\n\r\n{\"clusterArns\":[\"a\"]}";
        let (address, served) = serve(answer).await;
        let input = ecs::ListClustersRequest::default();
        let output: ecs::ListClustersResponse =
            client(address).ecs("ListClusters", &input).await.unwrap();
        assert_eq!(output.cluster_arns, Some(vec!["a".to_owned()]));
        let request = served.await.unwrap().to_lowercase();
        assert!(request.starts_with("post / http/1.1\r\n"), "{request}");
        assert!(request.contains(&format!("host: {address}")), "{request}");
        assert!(request.contains("x-amz-target: amazonec2containerservicev20141113.listclusters"));
        assert!(request.contains("credential=akiaexample/"));
        assert!(request.contains("/eu-north-1/ecs/aws4_request"));
    }

    #[tokio::test]
    async fn a_refusal_keeps_its_code_and_sentence() {
        let answer = "HTTP/1.1 400 Bad Request\r\ncontent-length: 63\r\n\r\n\
                      {\"__type\":\"a#ClusterNotFoundException\",\"message\":\"Cluster no.\"}";
        let (address, _served) = serve(answer).await;
        let input = ecs::ListTasksRequest::default();
        let refused = client(address).ecs::<_, ecs::ListTasksResponse>("ListTasks", &input).await;
        let refused = refused.unwrap_err();
        assert!(refused.is("ClusterNotFoundException"), "{refused}");
        assert_eq!(refused.to_string(), "ListTasks: ClusterNotFoundException: Cluster no.");
    }

    #[tokio::test]
    async fn a_region_that_is_not_there_is_named_by_its_address() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert!(!Client::is_healthy(address).await);
        let input = ecs::ListClustersRequest::default();
        let client = client(address);
        let failed = client.ecs::<_, ecs::ListClustersResponse>("ListClusters", &input).await;
        assert!(failed.unwrap_err().to_string().contains(&address.to_string()));
    }

    #[test]
    fn texts_of_elements_are_found() {
        let xml = "<a><subnetId>subnet-1</subnetId><b/><subnetId>subnet-2</subnetId></a>";
        assert_eq!(texts(xml, "subnetId"), ["subnet-1", "subnet-2"]);
        assert!(texts("<subnetId>open", "subnetId").is_empty());
    }
}
