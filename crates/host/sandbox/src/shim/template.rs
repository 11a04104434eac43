//! The shim that other shims are forked from.
//!
//! A program that has been loaded, linked and moved to its control group can be had again by a fork,
//! for a tenth of what it cost the first time; and what the template found out about the host, its
//! children know. They share its memory until they write to it.
//!
//! **Invariant:** the template has one thread and no container, and ends with its agent. A child is
//! nobody's any more once it is forked: it outlives the template.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use super::child_signals;
use super::connection::Connection;
use crate::caps::CapSet;
use crate::cgroup::Cgroups;
use crate::error::{Doing, SandboxError};
use crate::seccomp::{Filter, Sockets};

/// What every shim would find out anew.
#[derive(Debug)]
pub(super) struct Heirloom {
    pub(super) cgroups: Cgroups,
    /// For a container without wishes of its own, in a network of its own and in the host's.
    filters: [Rc<Filter>; 2],
}

impl Heirloom {
    pub(super) fn filter(&self, capabilities: CapSet, sockets: Sockets) -> Rc<Filter> {
        let [usual, judged] = &self.filters;
        match (capabilities == CapSet::DEFAULT, sockets) {
            (true, Sockets::Usual) => Rc::clone(usual),
            (true, Sockets::Judged) => Rc::clone(judged),
            (false, _) => Rc::new(Filter::new(capabilities, sockets)),
        }
    }
}

#[derive(Debug)]
pub(super) struct ShimTemplate {
    heirloom: Heirloom,
    listener: UnixListener,
    at: PathBuf,
    signals: SignalFd,
}

/// Why the template woke up.
#[derive(Clone, Copy, Debug, Default)]
struct Woken {
    by_agent: bool,
    by_request: bool,
    by_child: bool,
}

impl ShimTemplate {
    /// Leaves the agent's control group, so that ending that does not end the shims, and listens.
    pub(super) fn open(cgroup_parent: &Path, at: PathBuf) -> Result<Self, SandboxError> {
        let cgroups = Cgroups::detect(cgroup_parent)?;
        cgroups.shims().make()?;
        cgroups.shims().join()?;
        match fs::remove_file(&at) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).doing_at("remove", &at);
            }
            Ok(()) | Err(_) => {}
        }
        let signals = child_signals()?;
        let listener = UnixListener::bind(&at).doing_at("listen on", &at)?;
        let filters = [Sockets::Usual, Sockets::Judged]
            .map(|sockets| Rc::new(Filter::new(CapSet::DEFAULT, sockets)));
        let heirloom = Heirloom { cgroups, filters };
        Ok(Self { heirloom, listener, at, signals })
    }

    /// Forks until the agent is gone, which is `None`. Comes back in each child with what it is to
    /// serve.
    pub(super) fn run(
        self,
        agent: Connection,
    ) -> Result<Option<(Connection, Heirloom)>, SandboxError> {
        loop {
            let woken = self.wait(&agent)?;
            if woken.by_child {
                self.reap();
            }
            if woken.by_request {
                // One that is gone again is no reason to stop.
                let Ok((stream, _)) = self.listener.accept() else { continue };
                // JUSTIFICATION: this is what a template is for.
                // SAFETY: the process has a single thread.
                match unsafe { fork() } {
                    Ok(ForkResult::Child) => {
                        return Ok(Some((Connection::new(stream), self.heirloom)));
                    }
                    Ok(ForkResult::Parent { .. }) => {}
                    // Whoever asked sees the stream end, and tries again.
                    Err(errno) => eprintln!("shim {}: fork: {errno}", std::process::id()),
                }
            }
            if woken.by_agent {
                // It has nothing to say but that it is gone.
                self.close();
                return Ok(None);
            }
        }
    }

    /// Takes its name away, at which nobody will listen any more.
    pub(super) fn close(&self) {
        let _ = fs::remove_file(&self.at);
    }

    fn wait(&self, agent: &Connection) -> Result<Woken, SandboxError> {
        let mut polled = [agent.as_fd(), self.listener.as_fd(), self.signals.as_fd()]
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Woken::default()),
            Err(errno) => return Err(errno).doing("wait for events"),
        }
        let is_ready = |at: usize| polled[at].any().unwrap_or(true);
        Ok(Woken { by_agent: is_ready(0), by_request: is_ready(1), by_child: is_ready(2) })
    }

    fn reap(&self) {
        while matches!(self.signals.read_signal(), Ok(Some(_))) {}
        while let Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) =
            waitpid(None, Some(WaitPidFlag::WNOHANG))
        {}
    }
}
