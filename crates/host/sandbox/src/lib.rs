//! Running containers: an OCI runtime behind one small shim per container.
//!
//! The agent holds a [`Sandboxes`] and describes a container with a [`ContainerSpec`]. A shim (the
//! same binary, started again with [`shim_main`]) creates it with libcontainer, owns its output,
//! reaps it and keeps its exit code; it needs no agent to do so. See `docs/adr/0003`.
//!
//! | module | what it is |
//! |---|---|
//! | `sandboxes`, `recover`, `pool`, `client` | the agent's side |
//! | `shim` | the process beside the container |
//! | `proto`, `files` | what the two say to each other, and what they leave on disk |
//! | `spool` | the container's output on disk, and following it |
//! | `oci`, `rootfs`, `users`, `caps`, `seccomp` | a specification turned into what the kernel needs |
//! | `lease` | until when fenced containers may run, which their shims hold them to |
//! | `runtime` | another OCI runtime of the host, in libcontainer's place |
//! | `launch`, `init` | the last steps inside the container |
//! | `cgroup` | limits and usage, both versions |
//! | `groups` | the same for containers of somebody else's |
//! | `storage` | what containers' files take of the disk |
//! | `usage` | what a container has used, in Docker's detail |
//! | `sys` | the system calls behind all that |
//!
//! **Invariants:** the agent never forks; an exit code is on disk before anyone is told; a container
//! without its shim does not run; everything made for a container carries its id, so that whoever
//! finds it knows what to remove.

#![allow(
    clippy::disallowed_types,
    reason = "maps that are looked up by key; no decision goes through them in order"
)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests write files as they like"))]

mod caps;
mod cgroup;
mod client;
mod error;
mod files;
mod groups;
mod ids;
mod init;
mod launch;
mod lease;
mod oci;
mod pool;
mod proto;
mod recover;
mod rootfs;
mod runtime;
mod sandboxes;
mod seccomp;
mod shim;
mod spec;
mod spool;
mod storage;
mod sys;
mod usage;
mod users;

pub use cgroup::GroupNumber;
pub use error::SandboxError;
pub use groups::Groups;
pub use ids::{ContainerId, GroupId, NotAName};
pub use lease::{FENCED_OFF, FencedBy, Lease, uptime_ms};
pub use nix::sys::signal::Signal;
pub use rootfs::merged;
pub use runtime::NamedRuntime;
pub use sandboxes::Sandboxes;
pub use shim::shim_main;
pub use spec::{
    ContainerSpec, DeviceBind, ExecResult, ExecSpec, Exit, FileBind, GroupLimits, Hook, HookPoint,
    IpcMode, Limits, LogSink, Mount, NetMode, Phase, PidMode, Recovered, Rootfs, SandboxConfig,
    Seccomp, Started, Stats, Tmpfs, Ulimit,
};
pub use spool::{LogItem, LogReader, LogRecord, Position, Stream};
pub use storage::{DiskRoom, StorageUse, disk_room, storage_of};
pub use sys::{clock_state, kill_process, trim_memory};
pub use usage::{BlockCount, ClockState, Usage};
