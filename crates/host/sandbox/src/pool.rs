//! Shims that are there before they are needed.
//!
//! Starting a process, loading the binary and moving it to its control group take longer than
//! everything that a container start must do after them, and none of it depends on the container.
//! One shim, the template, does it once; the others are forked from it.
//!
//! A shim runs from a read-only view of the binary. A container whose pid 1 is our init, or that
//! manages to be run as `/proc/self/exe`, could otherwise open the host's binary through `/proc`
//! and write to it.

use std::collections::VecDeque;
use std::ffi::{CString, OsStr, OsString};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use longshore_types::Steps;
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::Notify;

use crate::client::Client;
use crate::proto::{Reply, Request};
use crate::sys;

/// What the names of templates' sockets begin with: no container can have such a name.
pub(crate) const SPARES: &str = ".spares";
/// After a failed start of a shim.
const RETRY_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
    refill: tokio::task::AbortHandle,
}

#[derive(Debug)]
struct Shared {
    program: Program,
    arguments: Vec<OsString>,
    places: Places,
    size: usize,
    idle: Mutex<VecDeque<Client>>,
    taken: Notify,
    template: tokio::sync::Mutex<Option<ShimTemplate>>,
    templates: AtomicU32,
}

#[derive(Debug)]
struct ShimTemplate {
    /// As long as this conversation lasts, so does the template.
    _client: Client,
    /// Its own: it is removed by the template that ends, which is often after the next has begun.
    spares_at: PathBuf,
}

/// Where shims write, listen and live.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) log: PathBuf,
    pub(crate) run_dir: PathBuf,
    pub(crate) cgroup_parent: PathBuf,
}

/// What a shim is started from.
#[derive(Debug)]
enum Program {
    /// A read-only mount of the file, attached to no path.
    ReadOnly(OwnedFd),
    /// The file itself, where the kernel has no such mounts (before 5.12).
    Plain(OsString),
}

impl Program {
    fn open(path: &OsStr) -> io::Result<Self> {
        let terminated = CString::new(path.as_bytes())?;
        match sys::clone_mount(&terminated).and_then(sys::make_read_only) {
            Ok(mount) => Ok(Self::ReadOnly(mount)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
            Err(error) => {
                tracing::warn!(%error, "shims run from the binary itself");
                Ok(Self::Plain(path.to_owned()))
            }
        }
    }

    fn path(&self) -> OsString {
        match self {
            Self::ReadOnly(mount) => format!("/proc/self/fd/{}", mount.as_raw_fd()).into(),
            Self::Plain(path) => path.clone(),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.refill.abort();
    }
}

impl Pool {
    /// Must be called within a tokio runtime.
    pub(crate) fn start(command: &[OsString], places: Places, size: usize) -> io::Result<Self> {
        let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let shared = Arc::new(Shared {
            program: Program::open(program)?,
            arguments: arguments.to_vec(),
            places,
            size,
            idle: Mutex::default(),
            taken: Notify::new(),
            template: tokio::sync::Mutex::default(),
            templates: AtomicU32::new(0),
        });
        #[expect(clippy::disallowed_methods, reason = "aborted when the pool is dropped")]
        let refill = tokio::spawn(refill(Arc::clone(&shared))).abort_handle();
        Ok(Self { shared, refill })
    }

    /// A shim to become a container's: one that waits, or else a new one.
    pub(crate) async fn take(&self) -> io::Result<Client> {
        let mut idle = None;
        while let Some(client) = lock(&self.shared.idle).pop_front() {
            if client.is_alive() {
                idle = Some(client);
                break;
            }
            tracing::warn!("a spare shim was killed");
        }
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
        let mut template = self.template.lock().await;
        if let Some(template) = &*template
            && let Some(spare) = template.spare().await?
        {
            return Ok(spare);
        }
        // The first time, or whoever was there has died; and where it was killed, not tidily.
        if let Some(dead) = template.take() {
            let _ = std::fs::remove_file(&dead.spares_at);
        }
        let gone = || io::Error::other("the process that makes shims has ended");
        template.insert(self.open_template().await?).spare().await?.ok_or_else(gone)
    }

    async fn open_template(&self) -> io::Result<ShimTemplate> {
        let (ours, theirs) = StdUnixStream::pair()?;
        self.spawn(theirs.into())?;
        ours.set_nonblocking(true)?;
        let mut client = Client::new(UnixStream::from_std(ours)?);
        let number = self.templates.fetch_add(1, Ordering::Relaxed);
        let name = format!("{SPARES}.{}.{number}", std::process::id());
        let spares_at = self.places.run_dir.join(name);
        let cgroup_parent = self.places.cgroup_parent.clone();
        let request = Request::Nurse { cgroup_parent, spares_at: spares_at.clone() };
        done(client.ask(&request, &Steps::default()).await?)?;
        Ok(ShimTemplate { _client: client, spares_at })
    }

    /// The child has nothing of ours but the socket: no environment, no terminal.
    fn spawn(&self, socket: OwnedFd) -> io::Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(&self.places.log)?;
        let mut child = Command::new(self.program.path())
            .args(&self.arguments)
            .env_clear()
            .stdin(Stdio::from(socket))
            .stdout(Stdio::null())
            .stderr(Stdio::from(log))
            .spawn()?;
        // It outlives us, usually; if not, it must not stay a zombie.
        #[expect(clippy::disallowed_methods, reason = "it ends with the child")]
        tokio::spawn(async move { child.wait().await });
        Ok(())
    }
}

impl ShimTemplate {
    /// Another child of the template; `None` if it is gone.
    async fn spare(&self) -> io::Result<Option<Client>> {
        let Some(mut client) = Client::connect(&self.spares_at).await? else {
            return Ok(None);
        };
        match client.ask(&Request::Ready, &Steps::default()).await {
            Ok(reply) => done(reply).map(|()| Some(client)),
            Err(_) => Ok(None),
        }
    }
}

fn done(reply: Reply) -> io::Result<()> {
    match reply {
        Reply::Done => Ok(()),
        Reply::Failed(error) => Err(io::Error::other(error)),
        other => Err(io::Error::other(format!("unexpected answer {other:?}"))),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
