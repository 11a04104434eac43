//! Requests that cannot be read as such: they are answered and logged by the balancer, and not by the library that reads
//! them, which would say less.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::DATE;
use http::{HeaderValue, StatusCode};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::timeout;

use super::answers::{self, Failure};
use super::connection::Client;
use super::headers;
use crate::limits::{REFUSAL_WAIT_MAX, URI_BYTES_MAX};
use crate::log::Entry;

/// A client's stream by which nothing goes out but answers to its requests. What is written while none is open, and all
/// before are answered, is what the library says of a head that it could not read: it is not sent, and the stream is left
/// open for a better answer.
#[derive(Debug)]
pub(super) struct Muted<S> {
    inner: S,
    client: Arc<Client>,
    /// How many requests are answered down to the last byte.
    settled: u64,
    is_muted: bool,
}

impl<S> Muted<S> {
    pub(super) fn new(inner: S, client: Arc<Client>) -> Self {
        Self { inner, client, settled: 0, is_muted: false }
    }

    /// The stream itself, and whether what is written to it next is not amidst an answer.
    pub(super) fn opened(mut self) -> (S, bool) {
        let is_next = self.is_unasked();
        (self.inner, is_next)
    }

    /// Whether what is written now answers no request.
    fn is_unasked(&mut self) -> bool {
        self.is_muted = self.is_muted || self.client.answered() == Some(self.settled);
        self.is_muted
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Muted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Muted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_unasked() {
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_unasked() {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    /// The library asks for it once it has written all that it had.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(answered) = self.client.answered() {
            self.settled = answered;
        }
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_muted {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// What a client is told whose request could not be read. `head`: what of it was not taken in yet. None: there is nothing
/// to answer.
pub(super) fn why(error: &hyper::Error, head: &[u8]) -> Option<Failure> {
    if error.is_timeout() {
        // Half a request is answered; a connection that was only idle is just closed.
        return (!head.is_empty()).then_some(Failure::ClientSilent);
    }
    let why = if error.is_parse_version_h2() {
        Failure::WrongVersion
    } else if error.is_parse_too_large() {
        let is_line_too_long = URI_BYTES_MAX <= head.len()
            && !head.iter().take(URI_BYTES_MAX).any(|byte| *byte == b'\n');
        if is_line_too_long { Failure::UriTooLong } else { Failure::BadRequest }
    } else if error.to_string() == NO_SUCH_ENCODING {
        Failure::NotImplemented
    } else if error.to_string() == NO_SUCH_VERSION && names_other_version(head) {
        Failure::WrongVersion
    } else {
        Failure::BadRequest
    };
    Some(why)
}

/// How the library says that there is a transfer encoding, and the last is not `chunked`; nothing else tells it.
const NO_SUCH_ENCODING: &str = "invalid transfer-encoding parsed";
/// How it says that the line of a request ends otherwise than with its version. What it took in of a head is gone by later errors.
const NO_SUCH_VERSION: &str = "invalid HTTP version parsed";

/// Whether it begins with the line of a request by a version that is not spoken: `GET / HTTP/1.2`.
fn names_other_version(head: &[u8]) -> bool {
    let line = head.trim_ascii_start().split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return false;
    };
    let is_other = match version {
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] => {
            major.is_ascii_digit()
                && minor.is_ascii_digit()
                && !matches!((major, minor), (b'1', b'0' | b'1'))
        }
        _ => false,
    };
    is_other && !method.is_empty() && !target.is_empty()
}

/// Says why, logs it, and ends the connection.
///
/// `is_next`: it is an answer's turn; where answers before it wait to be read, this one would go amidst them.
pub(crate) async fn refuse<S>(client: &Client, (mut stream, is_next): (S, bool), why: Failure)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let snapshot = Arc::clone(&client.shared.snapshot.borrow());
    let Some(live) = snapshot.listeners.get(&client.listener) else { return };
    let mut answer = answers::failure(why, false);
    let date = client.shared.clock.now().civil().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    if let Ok(date) = HeaderValue::from_str(&date) {
        answer.headers_mut().insert(DATE, date);
    }
    headers::finish_answer(answer.headers_mut(), &live.listener.attributes);
    if let Some(figures) = live.tallies.apart(&live.balancer, client.came_to.as_ref(), None) {
        figures.answered_itself(why.code());
    }
    let (parts, body) = answer.into_parts();
    let page = body.collect().await.map(|page| page.to_bytes()).unwrap_or_default();
    let bytes = if is_next { written(parts.status, &parts.headers, &page) } else { Vec::new() };
    if let Some(logs) = &live.balancer.attributes.access_logs {
        drop(Entry::unread(client, live, logs, (why.code(), bytes.len() as u64)));
    }
    let said = async {
        stream.write_all(&bytes).await?;
        stream.shutdown().await?;
        // Closed with something unread, the client might lose what it was told.
        let mut unread = [0; 4096];
        while stream.read(&mut unread).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    let _ = timeout(REFUSAL_WAIT_MAX, said).await;
}

/// An answer as it is sent.
fn written(status: StatusCode, headers: &http::HeaderMap, page: &[u8]) -> Vec<u8> {
    let reason = status.canonical_reason().unwrap_or_default();
    let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(page);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_another_version_is_told_from_garbage() {
        for line in ["GET / HTTP/1.2\r\n", "GET / HTTP/2.0\r\nHost: a\r\n", "\r\nGET / HTTP/3.0"] {
            assert!(names_other_version(line.as_bytes()), "{line}");
        }
        for line in
            ["GET / HTTP/1.1\r\n", "GET /a b HTTP/1.2", "GET /a b", "hello", "", " / HTTP/2.0x"]
        {
            assert!(!names_other_version(line.as_bytes()), "{line}");
        }
    }
}
