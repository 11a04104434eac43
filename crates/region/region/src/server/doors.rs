//! A connection's first byte: TLS or not, and who may do without.
//!
//! One port serves both. A TLS connection begins with the byte of a handshake record, an HTTP request with a letter. What
//! came to a VPC endpoint is introduced first, by the process on this machine that took it, and comes from beyond it.
//! **Invariant:** beyond this machine nothing is read or answered in the clear but a sentence that says so, unless that
//! was asked for by name.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use routing::introduction::{
    self, HEAD_LEN, Introduction, IntroductionToken, NotIntroduced, rest_len,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::tls::Tls;

/// The content type of a TLS record that carries a handshake.
const HANDSHAKE_RECORD: u8 = 0x16;
/// How long one who spoke in the clear is listened to after the answer, so that it arrives.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: u64 = 64 << 10;
const NO_TLS: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 61\r\n\
    connection: close\r\n\r\nThis region speaks TLS beyond its own machine: use https://.\n";

/// Where a region listens, and how.
#[derive(Debug)]
pub struct Doors {
    pub listener: TcpListener,
    pub tls: Option<Arc<Tls>>,
    pub plain: Plain,
}

/// Who may speak without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    Everybody,
    /// Whoever comes from the machine itself, a proxy on it included.
    ThisMachine,
}

impl From<TcpListener> for Doors {
    fn from(listener: TcpListener) -> Self {
        Self { listener, tls: None, plain: Plain::Everybody }
    }
}

/// What a connection is read from and written to.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Why a connection was not let in.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotLetIn {
    #[error("it was closed before its first byte")]
    Silent,
    #[error("it spoke in the clear")]
    InTheClear,
    #[error("it looked for the proof that a name is the region's")]
    Proven,
    #[error(transparent)]
    NotIntroduced(#[from] NotIntroduced),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Who is let in by which door.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) plain: Plain,
    /// What who introduces connections shows.
    pub(super) token: Option<IntroductionToken>,
}

impl Entry {
    /// Lets a connection in, and says which endpoint it came to: bounded by whoever waits for it, as silence is.
    pub(super) async fn admit(
        &self,
        mut stream: TcpStream,
    ) -> Result<(Stream, Option<Introduction>), NotLetIn> {
        let mut first = first_byte(&stream).await?;
        let mut introduced = None;
        let may_introduce = first == introduction::FIRST_BYTE
            && is_of_this_machine(stream.peer_addr()?, stream.local_addr()?);
        if let Some(token) = self.token.filter(|_| may_introduce) {
            introduced = Some(introduction(&mut stream, &token).await?);
            first = first_byte(&stream).await?;
        }
        let stream = self.secured(stream, first, introduced.is_some()).await?;
        Ok((stream, introduced))
    }

    async fn secured(
        &self,
        mut stream: TcpStream,
        first: u8,
        is_introduced: bool,
    ) -> Result<Stream, NotLetIn> {
        if let Some(tls) = self.tls.as_ref().filter(|_| first == HANDSHAKE_RECORD) {
            let acceptor = TlsAcceptor::from(tls.config());
            let mut stream = acceptor.accept(stream).await?;
            if stream.get_ref().1.alpn_protocol() == Some(acme::TLS_PROTOCOL) {
                // The proof was the handshake.
                stream.shutdown().await?;
                return Err(NotLetIn::Proven);
            }
            return Ok(Stream::Tls(Box::new(stream)));
        }
        let is_allowed = match self.plain {
            Plain::Everybody => true,
            Plain::ThisMachine => {
                !is_introduced && is_of_this_machine(stream.peer_addr()?, stream.local_addr()?)
            }
        };
        if is_allowed {
            return Ok(Stream::Plain(stream));
        }
        stream.write_all(NO_TLS).await?;
        stream.shutdown().await?;
        // What is unread when a socket is closed takes the answer with it.
        let mut rest = stream.take(LINGER_BYTES_MAX);
        let mut nowhere = tokio::io::sink();
        let rest = tokio::io::copy(&mut rest, &mut nowhere);
        drop(tokio::time::timeout(LINGER, rest).await);
        Err(NotLetIn::InTheClear)
    }
}

async fn first_byte(stream: &TcpStream) -> Result<u8, NotLetIn> {
    let mut first = [0];
    match stream.peek(&mut first).await? {
        0 => Err(NotLetIn::Silent),
        _ => Ok(first[0]),
    }
}

async fn introduction(
    stream: &mut TcpStream,
    token: &IntroductionToken,
) -> Result<Introduction, NotLetIn> {
    let mut head = [0; HEAD_LEN];
    stream.read_exact(&mut head).await?;
    let mut rest = vec![0; rest_len(&head)?];
    stream.read_exact(&mut rest).await?;
    Ok(Introduction::decode(&rest, token)?)
}

/// The kernel takes no packet from outside that claims to be from one of its own addresses.
fn is_of_this_machine(peer: SocketAddr, local: SocketAddr) -> bool {
    let (peer, local) = (peer.ip().to_canonical(), local.ip().to_canonical());
    peer.is_loopback() || peer == local
}

impl Stream {
    pub(super) fn is_secure(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_loopback_and_whoever_calls_an_address_from_itself() {
        let of = |peer: &str, local: &str| {
            is_of_this_machine(peer.parse().unwrap(), local.parse().unwrap())
        };
        assert!(of("127.0.0.1:1", "127.0.0.1:2"));
        assert!(of("[::ffff:127.0.0.1]:1", "[::ffff:127.0.0.1]:2"));
        assert!(of("10.0.0.1:1", "10.0.0.1:2"));
        assert!(!of("10.0.0.2:1", "10.0.0.1:2"));
        assert!(!of("[::ffff:10.0.0.2]:1", "[::ffff:10.0.0.1]:2"));
    }

    #[test]
    fn the_sentence_is_as_long_as_it_says() {
        let text = std::str::from_utf8(NO_TLS).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());
    }
}
