//! The container's standard streams, from both ends.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::error::{Doing, SandboxError};
use crate::files::Files;
use crate::spec::ContainerSpec;
use crate::sys;

pub(super) struct Streams {
    /// Input, output and error as the container gets them.
    pub(super) child: Vec<OwnedFd>,
    pub(super) console: Option<UnixListener>,
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
}

impl Streams {
    /// Of a container that is none.
    pub(super) fn none() -> Self {
        Self { child: Vec::new(), console: None, stdin: None, stdout: None, stderr: None }
    }

    pub(super) fn open(spec: &ContainerSpec, files: &Files) -> Result<Self, SandboxError> {
        let mut streams = Self::none();
        if spec.tty {
            let path = files.console();
            streams.console = Some(bind_beside(&path).doing_at("listen on", &path)?);
            return Ok(streams);
        }
        if spec.open_stdin {
            let (read, write) = pipe2(OFlag::O_CLOEXEC).doing("make a pipe")?;
            streams.child.push(read);
            streams.stdin = Some(write);
        } else {
            streams.child.push(null()?);
        }
        for ours in [&mut streams.stdout, &mut streams.stderr] {
            // Also where nobody wants the output: libcontainer would reopen `/dev/null` read-only.
            let (read, write) = pipe2(OFlag::O_CLOEXEC).doing("make a pipe")?;
            streams.child.push(write);
            *ours = Some(read);
        }
        Ok(streams)
    }

    /// As a program is given them that passes them on.
    pub(super) fn to_stdio(&self) -> Result<[Stdio; 3], SandboxError> {
        let mut given = [Stdio::null(), Stdio::null(), Stdio::null()];
        for (slot, fd) in given.iter_mut().zip(&self.child) {
            *slot = fd.try_clone().doing("copy a descriptor")?.into();
        }
        Ok(given)
    }

    /// Lets go of the container's ends and takes the terminal, if there is one.
    pub(super) fn after_create(mut self) -> Result<Self, SandboxError> {
        self.child.clear();
        if let Some(listener) = self.console.take() {
            let (connection, _) = listener.accept().doing("receive the terminal")?;
            self.stdout = Some(sys::receive_fd(&connection).doing("receive the terminal")?);
        }
        Ok(self)
    }
}

/// Binds by a relative name: the directory's path may be longer than a socket's may be.
fn bind_beside(path: &Path) -> io::Result<UnixListener> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let before = std::env::current_dir()?;
    std::env::set_current_dir(dir)?;
    let listener = UnixListener::bind(name);
    std::env::set_current_dir(before)?;
    listener
}

fn null() -> Result<OwnedFd, SandboxError> {
    let file = File::options().read(true).write(true).open("/dev/null");
    file.map(OwnedFd::from).doing("open /dev/null")
}
