//! The agent's end of a conversation with a shim.

use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use longshore_types::Steps;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::proto::{self, Reply, Request};

/// A shim that is busy creating or starting does not accept for a moment.
const BUSY_RETRY: Duration = Duration::from_millis(5);
const READ_BYTES: usize = 16 << 10;

#[derive(Debug)]
pub(crate) struct Client {
    stream: UnixStream,
    received: Vec<u8>,
}

impl Client {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, received: Vec::new() }
    }

    /// Connects to the shim at `socket`; `None` if there is none.
    pub(crate) async fn connect(socket: &Path) -> io::Result<Option<Self>> {
        loop {
            match UnixStream::connect(socket).await {
                Ok(stream) => return Ok(Some(Self::new(stream))),
                Err(error) => match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => return Ok(None),
                    // Its queue is full; or it ended between our call and its answer, which the
                    // next call finds out.
                    io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionReset => {
                        tokio::time::sleep(BUSY_RETRY).await;
                    }
                    _ => return Err(error),
                },
            }
        }
    }

    /// Asks and waits for the answer. An end of the stream is [`io::ErrorKind::UnexpectedEof`].
    /// `steps` hears when the question is out.
    pub(crate) async fn ask(&mut self, request: &Request, steps: &Steps) -> io::Result<Reply> {
        self.stream.write_all(&proto::encode(request)?).await?;
        steps.reached("shim asked");
        loop {
            if let Some((reply, length)) = proto::decode(&self.received)? {
                self.received.drain(..length);
                return Ok(reply);
            }
            self.received.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
        }
    }

    /// Whether the other side has not gone, as far as the kernel knows by now. Asks nobody, so that it
    /// says nothing of a shim that merely hangs.
    pub(crate) fn is_alive(&self) -> bool {
        let mut byte = [0];
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        match recv(self.stream.as_raw_fd(), &mut byte, flags) {
            Ok(count) => count > 0,
            Err(errno) => errno == Errno::EAGAIN,
        }
    }
}
