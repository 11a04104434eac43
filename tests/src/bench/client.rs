//! A lean HTTP/1.1 client that signs: the load generator shares two cores with what it measures.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use http::{HeaderMap, HeaderValue, Uri};

use aws_wire::sigv4::{self, Credentials, SigningKeys};
use longshore_types::{Clock, SystemClock, Token};

/// Where the region is and with whose keys it is asked.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) region: String,
    pub(crate) access_key: String,
    pub(crate) secret: String,
}

/// One kept-alive connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    target: Target,
    keys: SigningKeys,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(target: &Target) -> io::Result<Self> {
        let stream = TcpStream::connect(&target.host).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            target: target.clone(),
            keys: SigningKeys::default(),
            buffer: Vec::with_capacity(1 << 20),
        })
    }

    /// One signed awsJson 1.1 call; the answer's body, or an error that quotes it.
    pub(crate) async fn call(
        &mut self,
        service: &str,
        target: &str,
        body: &[u8],
    ) -> io::Result<Vec<u8>> {
        self.signed_call(service, Some(target), body).await
    }

    /// One signed call of a query protocol; the answer's body.
    pub(crate) async fn form(&mut self, service: &str, body: &[u8]) -> io::Result<Vec<u8>> {
        self.signed_call(service, None, body).await
    }

    async fn signed_call(
        &mut self,
        service: &str,
        target: Option<&str>,
        body: &[u8],
    ) -> io::Result<Vec<u8>> {
        let request = self.signed(service, target, body)?;
        self.stream.write_all(&request).await?;
        let (status, body) = self.answer().await?;
        if status == 200 {
            return Ok(body);
        }
        let text = String::from_utf8_lossy(&body).into_owned();
        Err(io::Error::other(format!("{} answered {status}: {text}", target.unwrap_or(service))))
    }

    pub(crate) async fn ecs(
        &mut self,
        operation: &str,
        body: &serde_json::Value,
    ) -> io::Result<serde_json::Value> {
        let target = format!("AmazonEC2ContainerServiceV20141113.{operation}");
        let answer = self.call("ecs", &target, body.to_string().as_bytes()).await?;
        Ok(serde_json::from_slice(&answer)?)
    }

    /// An EC2 action without parameters; the answer's XML.
    pub(crate) async fn ec2(&mut self, action: &str) -> io::Result<String> {
        let body = format!("Action={action}&Version=2016-11-15");
        let answer = self.form("ec2", body.as_bytes()).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Sends `head` and `body` as they are; status and body of the answer.
    pub(crate) async fn raw(&mut self, head: &str, body: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        self.stream.write_all(head.as_bytes()).await?;
        self.stream.write_all(body).await?;
        self.answer().await
    }

    fn signed(&self, service: &str, target: Option<&str>, body: &[u8]) -> io::Result<Vec<u8>> {
        let mut headers = HeaderMap::new();
        let value = |text: &str| HeaderValue::from_str(text).map_err(io::Error::other);
        match target {
            Some(target) => {
                headers.insert("content-type", value("application/x-amz-json-1.1")?);
                headers.insert("x-amz-target", value(target)?);
            }
            None => {
                headers.insert("content-type", value("application/x-www-form-urlencoded")?);
            }
        }
        headers.insert("host", value(&self.target.host)?);
        let region = self.target.region.parse().map_err(io::Error::other)?;
        let credentials = Credentials {
            access_key: self.target.access_key.clone(),
            secret: Token::from_text(self.target.secret.clone()),
            session_token: None,
        };
        let now = SystemClock.now();
        let uri = Uri::from_static("/");
        let keys = &self.keys;
        sigv4::sign("POST", &uri, &mut headers, body, &credentials, &region, service, now, keys);
        let mut request =
            format!("POST / HTTP/1.1\r\ncontent-length: {}\r\n", body.len()).into_bytes();
        for (name, value) in &headers {
            request.extend_from_slice(name.as_str().as_bytes());
            request.extend_from_slice(b": ");
            request.extend_from_slice(value.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body);
        Ok(request)
    }

    async fn answer(&mut self) -> io::Result<(u16, Vec<u8>)> {
        self.buffer.clear();
        let head_end = loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..head_end]).to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .and_then(|text| text.trim().parse::<usize>().ok())
            .unwrap_or(0);
        while self.buffer.len() < head_end + length {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let status = status.ok_or_else(|| io::Error::other("an answer without a status"))?;
        Ok((status, self.buffer[head_end..head_end + length].to_vec()))
    }
}
