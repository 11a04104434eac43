//! What the agent and a shim say to each other: frames of JSON over a unix socket, one question
//! and one answer.
//!
//! The shim of a new agent may be older than it: a container outlives updates. New questions and
//! new members must be optional for both sides.

use std::io;
use std::path::PathBuf;

use longshore_types::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::SandboxError;
use crate::ids::GroupId;
use crate::runtime::NamedRuntime;
use crate::spec::{ContainerSpec, ExecResult, ExecSpec, Exit, Phase, Started};

/// A specification with many mounts and a large environment is far below this.
pub(crate) const MESSAGE_BYTES_MAX: usize = 4 << 20;
const LENGTH_BYTES: usize = 4;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// To a fresh shim: become the template, which makes a spare shim of each connection to this socket.
    Nurse {
        cgroup_parent: PathBuf,
        spares_at: PathBuf,
    },
    /// To a spare shim: are you there?
    Ready,
    /// To a spare shim, which becomes the container's for good.
    Create(Box<Create>),
    Start,
    Signal {
        number: i32,
    },
    Exec(ExecSpec),
    /// Answered once the container has ended.
    Wait,
    Status,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Create {
    pub(crate) spec: ContainerSpec,
    pub(crate) state_dir: PathBuf,
    pub(crate) run_dir: PathBuf,
    pub(crate) socket: PathBuf,
    /// The main processes of the containers whose namespaces are joined.
    pub(crate) pid_of: Option<i32>,
    pub(crate) ipc_of: Option<i32>,
    /// What makes the container instead of libcontainer.
    #[serde(default)]
    pub(crate) runtime: Option<NamedRuntime>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Done,
    Created { pid: i32 },
    Started(Started),
    Executed(ExecResult),
    Exited(Exit),
    Status(Status),
    Failed(SandboxError),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) phase: Phase,
    pub(crate) pid: i32,
    pub(crate) started_at: Option<Timestamp>,
}

/// What a container's directory says of it, for an agent that was not there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) group: GroupId,
    pub(crate) scratch: PathBuf,
    pub(crate) spool: Option<PathBuf>,
    pub(crate) shim_pid: Option<i32>,
    pub(crate) pid: Option<i32>,
    /// Written before the application may run: without it, nothing of the container has run.
    #[serde(default)]
    pub(crate) is_starting: bool,
    pub(crate) started_at: Option<Timestamp>,
    /// Why it did not start.
    #[serde(default)]
    pub(crate) failed: Option<Failure>,
    /// What made it, and must be told of its end; none for libcontainer.
    #[serde(default)]
    pub(crate) runtime: Option<NamedRuntime>,
}

impl Record {
    pub(crate) fn may_have_run(&self) -> bool {
        self.failed.is_none() && (self.is_starting || self.started_at.is_some())
    }
}

/// A [`SandboxError`] as it is kept and told again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Failure(serde_json::Value);

impl Failure {
    pub(crate) fn of(error: &SandboxError) -> Self {
        Self(serde_json::to_value(error).unwrap_or_default())
    }

    pub(crate) fn error(self) -> Option<SandboxError> {
        serde_json::from_value(self.0).ok()
    }
}

/// A message as it goes over the socket.
pub(crate) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; LENGTH_BYTES];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() - LENGTH_BYTES;
    if length > MESSAGE_BYTES_MAX {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let length = u32::try_from(length).map_err(io::Error::other)?;
    bytes[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// The first whole message of `bytes` and its length, if it is all there.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<Option<(T, usize)>> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(io::Error::other)?;
    if length > MESSAGE_BYTES_MAX {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    match rest.get(..length) {
        Some(message) => Ok(Some((serde_json::from_slice(message)?, LENGTH_BYTES + length))),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_whole_or_not_yet_there() {
        let bytes = encode(&Request::Signal { number: 15 }).unwrap();
        for end in 0..bytes.len() {
            assert!(decode::<Request>(&bytes[..end]).unwrap().is_none(), "{end}");
        }
        let (request, length) = decode::<Request>(&bytes).unwrap().unwrap();
        assert!(matches!(request, Request::Signal { number: 15 }));
        assert_eq!(length, bytes.len());
    }

    #[test]
    fn an_absurd_length_is_refused_at_once() {
        assert!(decode::<Request>(&[0xff; 4]).is_err());
    }
}
