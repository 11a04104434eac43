//! Shims that are started before they are needed.
//!
//! Starting a process, loading the binary and moving it to its control group take longer than
//! everything that a container start must do after them, and none of it depends on the container.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::Notify;

use crate::client::Client;
use crate::proto::{Reply, Request};

/// After a failed start of a shim.
const RETRY_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
    refill: tokio::task::AbortHandle,
}

#[derive(Debug)]
struct Shared {
    command: Vec<OsString>,
    log: PathBuf,
    cgroup_parent: PathBuf,
    size: usize,
    idle: Mutex<VecDeque<Client>>,
    taken: Notify,
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.refill.abort();
    }
}

impl Pool {
    /// Must be called within a tokio runtime.
    pub(crate) fn start(
        command: Vec<OsString>,
        log: PathBuf,
        cgroup_parent: PathBuf,
        size: usize,
    ) -> Self {
        let idle = Mutex::default();
        let shared =
            Arc::new(Shared { command, log, cgroup_parent, size, idle, taken: Notify::new() });
        let refill = tokio::spawn(refill(Arc::clone(&shared))).abort_handle();
        Self { shared, refill }
    }

    /// A shim to become a container's: one that waits, or else a new one.
    pub(crate) async fn take(&self) -> io::Result<Client> {
        let idle = lock(&self.shared.idle).pop_front();
        self.shared.taken.notify_one();
        match idle {
            Some(client) => Ok(client),
            None => self.shared.make().await,
        }
    }
}

async fn refill(shared: Arc<Shared>) {
    loop {
        while lock(&shared.idle).len() < shared.size {
            match shared.make().await {
                Ok(client) => lock(&shared.idle).push_back(client),
                Err(error) => {
                    tracing::warn!(%error, "shim could not be started");
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
        shared.taken.notified().await;
    }
}

impl Shared {
    async fn make(&self) -> io::Result<Client> {
        let (ours, theirs) = StdUnixStream::pair()?;
        self.spawn(theirs.into())?;
        ours.set_nonblocking(true)?;
        let mut client = Client::new(UnixStream::from_std(ours)?);
        let cgroup_parent = self.cgroup_parent.clone();
        match client.ask(&Request::Prepare { cgroup_parent }).await? {
            Reply::Done => Ok(client),
            Reply::Failed(error) => Err(io::Error::other(error)),
            other => Err(io::Error::other(format!("unexpected answer {other:?}"))),
        }
    }

    /// The child has nothing of ours but the socket: no environment, no terminal.
    fn spawn(&self, socket: OwnedFd) -> io::Result<()> {
        let (program, arguments) =
            self.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .stdin(Stdio::from(socket))
            .stdout(Stdio::null())
            .stderr(Stdio::from(log))
            .spawn()?;
        // It outlives us, usually; if not, it must not stay a zombie.
        tokio::spawn(async move { child.wait().await });
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
