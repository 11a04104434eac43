//! One agent at the socket.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::error::{Doing, SandboxError};
use crate::proto::{self, Reply, Request};

/// An agent that does not take its answer within this is not waited for.
const SEND_MAX: Duration = Duration::from_secs(2);
const READ_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    received: Vec<u8>,
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> Self {
        // Without a limit the answer would merely be waited for.
        let _ = stream.set_write_timeout(Some(SEND_MAX));
        Self { stream, received: Vec::new() }
    }

    /// Waits for the next request; `None` once the other side is gone.
    pub(super) fn receive(&mut self) -> Result<Option<Request>, SandboxError> {
        loop {
            if let Some(request) = self.next().doing("understand the agent")? {
                return Ok(Some(request));
            }
            if !self.read_some().doing("read from the agent")? {
                return Ok(None);
            }
        }
    }

    /// Reads what is there, which must be something; false once the other side is gone.
    pub(super) fn read_some(&mut self) -> io::Result<bool> {
        let mut bytes = [0; READ_BYTES];
        let count = loop {
            match self.stream.read(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It left without having read our last answer.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break 0,
                result => break result?,
            }
        };
        self.received.extend_from_slice(&bytes[..count]);
        Ok(count > 0)
    }

    /// The next request that has been read.
    pub(super) fn next(&mut self) -> io::Result<Option<Request>> {
        let Some((request, length)) = proto::decode(&self.received)? else { return Ok(None) };
        self.received.drain(..length);
        Ok(Some(request))
    }

    pub(super) fn send(&mut self, reply: &Reply) -> Result<(), SandboxError> {
        let bytes = proto::encode(reply).doing("encode an answer")?;
        self.stream.write_all(&bytes).doing("answer the agent")
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
