//! The small process beside every container: its parent, its log, its memory.
//!
//! One thread and no async: it forks, which a threaded process must not, and it must be small and
//! dull enough to never be what fails. It owns the container's output, reaps, and writes the exit
//! code to disk before it tells anyone. The agent may come and go; whoever connects to the socket
//! is served. Once the container has ended and its output is on disk, nothing is left to do, and
//! the shim ends too.
//!
//! A shim is there before it is needed: forked by the [`template`] when the agent connects to it, it
//! waits for a container to become the shim of. If the agent ends before that, so does it.
//!
//! **Invariant:** from the container's end on, `exit.json` is there before any waiter is answered.

mod connection;
mod container;
mod exec;
mod run;
mod streams;
mod template;

use std::ffi::OsString;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::exit;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::error::{Doing, SandboxError};
use crate::proto::{Reply, Request};
use crate::sys;
use connection::Connection;
use container::Container;
use template::{Heirloom, ShimTemplate};

/// What the kernel shows as the process's name.
const NAME: &std::ffi::CStr = c"longshore-shim";

/// Serves one container and never returns. Must be called before the process has a second thread.
/// There are no arguments yet; unknown ones are ignored, for the sake of an older agent.
pub fn shim_main(_arguments: impl IntoIterator<Item = OsString>) -> ! {
    let code = match serve() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("shim {}: {}", std::process::id(), longshore_types::Chain(&error));
            1
        }
    };
    exit(code)
}

fn serve() -> Result<(), SandboxError> {
    // A shim is nobody's job: signals to the agent's terminal or session do not reach it.
    let _ = nix::unistd::setsid();
    // Nor does it keep the agent's directory busy.
    let _ = std::env::set_current_dir("/");
    // The agent's mask is not its containers', who get this process's.
    ::files::private::set_container_mask();
    sys::set_name(NAME);
    let mut agent = Connection::new(take_standard_input().doing("take descriptor 0")?);
    let template = loop {
        let Some(request) = agent.receive()? else { return Ok(()) };
        match request {
            Request::Nurse { cgroup_parent, spares_at } => {
                let template = match ShimTemplate::open(&cgroup_parent, spares_at) {
                    Ok(template) => template,
                    Err(error) => {
                        // An agent that is gone by now need not be told why there is none.
                        let _ = agent.send(&Reply::Failed(error));
                        return Ok(());
                    }
                };
                // An agent that is gone by now needs no shims, and its successor may have swept already.
                if agent.send(&Reply::Done).is_err() {
                    template.close();
                    return Ok(());
                }
                break template;
            }
            other => refuse(&mut agent, &other)?,
        }
    };
    match template.run(agent)? {
        None => Ok(()),
        Some((agent, heirloom)) => wait_for_container(agent, &heirloom),
    }
}

/// A spare shim's life until it has a container.
fn wait_for_container(mut agent: Connection, heirloom: &Heirloom) -> Result<(), SandboxError> {
    let _ = nix::unistd::setsid();
    sys::set_subreaper().doing("become a subreaper")?;
    let signals = child_signals()?;
    loop {
        let Some(request) = agent.receive()? else { return Ok(()) };
        match request {
            Request::Ready => {
                // An agent that is gone by now needs no spare shim.
                if agent.send(&Reply::Done).is_err() {
                    return Ok(());
                }
            }
            Request::Create(create) => {
                return match Container::create(*create, heirloom) {
                    Ok(container) => {
                        // An agent that is gone by now has a successor, which finds the container.
                        let _ = agent.send(&Reply::Created { pid: container.pid() });
                        run::run(container, &signals, agent)
                    }
                    Err(error) => agent.send(&Reply::Failed(error)),
                };
            }
            other => refuse(&mut agent, &other)?,
        }
    }
}

fn refuse(agent: &mut Connection, request: &Request) -> Result<(), SandboxError> {
    let why = match request {
        Request::Start
        | Request::Signal { .. }
        | Request::Exec(_)
        | Request::Wait
        | Request::Status => "this shim has no container",
        Request::Nurse { .. } | Request::Ready | Request::Create(_) => {
            "this shim is not asked for that at this point"
        }
    };
    let error = SandboxError::Invalid { what: "request".into(), why: why.into() };
    agent.send(&Reply::Failed(error))
}

/// The ends of children, to be read instead of being interrupted by them.
fn child_signals() -> Result<SignalFd, SandboxError> {
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block().doing("block SIGCHLD")?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    SignalFd::with_flags(&children, flags).doing("open a signal descriptor")
}

/// Moves the agent's socket away from descriptor 0, which becomes `/dev/null`.
fn take_standard_input() -> std::io::Result<UnixStream> {
    let null = std::fs::File::open("/dev/null")?;
    // JUSTIFICATION: descriptor 0 was given to us by the agent and has no owner in this process.
    // SAFETY: nothing else in this process uses standard input.
    let given = unsafe { OwnedFd::from_raw_fd(0) };
    let socket = given.try_clone()?;
    std::mem::forget(given);
    // JUSTIFICATION: replaces the open file behind number 0, which nothing owns any more.
    // SAFETY: both descriptors are open.
    if unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&null), 0) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(UnixStream::from(socket))
}
