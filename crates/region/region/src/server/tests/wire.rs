//! A client that can send what no decent client would.

use std::net::SocketAddr;

use aws_wire::sigv4::{SigningKeys, sign};
use http::{HeaderMap, HeaderName, HeaderValue};
use longshore_types::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::region_api::{NOW, SECRET, credentials};

/// A request, with what is to be done to it after it is signed.
pub(super) struct Sent {
    method: &'static str,
    path: String,
    headers: HeaderMap,
    body: Vec<u8>,
    service: Option<String>,
    access_key: String,
    secret: String,
    region: String,
    at: Timestamp,
    body_after: Option<Vec<u8>>,
    header_after: Option<(HeaderName, HeaderValue)>,
}

impl Sent {
    fn new(method: &'static str, path: &str) -> Self {
        Self {
            method,
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: vec![],
            service: None,
            access_key: "AKIDROOT".to_owned(),
            secret: SECRET.to_owned(),
            region: "us-east-1".to_owned(),
            at: NOW,
            body_after: None,
            header_after: None,
        }
    }

    pub(super) fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    pub(super) fn post(path: &str) -> Self {
        Self::new("POST", path)
    }

    pub(super) fn signed_for(mut self, service: &str) -> Self {
        self.service = Some(service.to_owned());
        self
    }

    pub(super) fn service(self, service: &str) -> Self {
        self.signed_for(service)
    }

    pub(super) fn target(mut self, target: &str) -> Self {
        self.headers.insert("x-amz-target", HeaderValue::from_str(target).unwrap());
        let json = HeaderValue::from_static("application/x-amz-json-1.1");
        self.headers.insert("content-type", json);
        self
    }

    pub(super) fn form(mut self, form: &str) -> Self {
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        self.headers.insert("content-type", kind);
        self.body(form)
    }

    pub(super) fn body(self, body: &str) -> Self {
        self.bytes(body.as_bytes())
    }

    pub(super) fn bytes(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    pub(super) fn access_key(mut self, id: &str) -> Self {
        self.access_key = id.to_owned();
        self
    }

    pub(super) fn secret(mut self, secret: &str) -> Self {
        self.secret = secret.to_owned();
        self
    }

    pub(super) fn region(mut self, region: &str) -> Self {
        self.region = region.to_owned();
        self
    }

    pub(super) fn at(mut self, ms: u64) -> Self {
        self.at = Timestamp(ms);
        self
    }

    pub(super) fn body_after_signing(mut self, body: &str) -> Self {
        self.body_after = Some(body.as_bytes().to_vec());
        self
    }

    pub(super) fn header_after_signing(mut self, name: &str, value: &str) -> Self {
        self.header_after = Some((name.parse().unwrap(), value.parse().unwrap()));
        self
    }

    /// The head alone, with a `content-length` that nothing follows.
    pub(super) fn promising(&self, address: SocketAddr, bytes: usize) -> Vec<u8> {
        let whole = String::from_utf8(self.to_bytes(address)).unwrap();
        let (head, _) = whole.split_once("\r\n\r\n").unwrap();
        let stated = format!("content-length: {}\r\n", self.body.len());
        let head = head.replace(&stated, &format!("content-length: {bytes}\r\n"));
        (head + "\r\n\r\n").into_bytes()
    }

    fn to_bytes(&self, address: SocketAddr) -> Vec<u8> {
        let mut headers = self.headers.clone();
        let uri = format!("http://{address}{}", self.path).parse().unwrap();
        if let Some(service) = &self.service {
            let who = credentials(&self.access_key, &self.secret);
            let region = self.region.parse().unwrap();
            let (keys, method) = (SigningKeys::default(), self.method);
            sign(method, &uri, &mut headers, &self.body, &who, &region, service, self.at, &keys);
        } else {
            headers.insert("host", HeaderValue::from_str(&address.to_string()).unwrap());
        }
        if let Some((name, value)) = &self.header_after {
            headers.insert(name, value.clone());
        }
        let body = self.body_after.as_ref().unwrap_or(&self.body);
        let mut out = format!("{} {} HTTP/1.1\r\nconnection: close\r\n", self.method, self.path);
        out.push_str(&format!("content-length: {}\r\n", body.len()));
        let mut out = out.into_bytes();
        for (name, value) in &headers {
            out.extend_from_slice(format!("{name}: ").as_bytes());
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body);
        out
    }
}

/// An answer.
pub(super) struct Got {
    pub(super) status: u16,
    head: String,
    body: String,
}

impl Got {
    pub(super) fn text(&self) -> String {
        self.body.clone()
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.body))
    }

    pub(super) fn code(&self) -> String {
        self.json()["__type"].as_str().unwrap_or_default().to_owned()
    }

    pub(super) fn xml_code(&self) -> String {
        let rest = self.body.split_once("<Code>").map_or("", |(_, rest)| rest);
        rest.split_once("</Code>").map_or("", |(code, _)| code).to_owned()
    }

    pub(super) fn header(&self, name: &str) -> String {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let found = lines.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map_or(String::new(), |(_, value)| value.to_owned())
    }
}

pub(super) async fn send(address: SocketAddr, request: &Sent) -> Got {
    try_send(address, request).await.expect("there is an answer")
}

/// Nothing if the connection ended without an answer.
pub(super) async fn try_send(address: SocketAddr, request: &Sent) -> Option<Got> {
    let text = send_raw(address, &request.to_bytes(address)).await;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok())?;
    Some(Got { status, head: head.to_owned(), body: body.to_owned() })
}

/// Sends bytes as they are, and reads until the other side is done.
pub(super) async fn send_raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A refusal may come before all is sent, and a reset after the answer is as good as an end.
    let _ = stream.write_all(bytes).await;
    let mut answer = vec![];
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}
