//! A region for the simulation alone: the same program, a directory of its own, any free port.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use agent::FixedCredentials;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};
use trust::Trust;

use super::fleet::Target;
use super::usage::Usage;
use crate::client::Client;
use crate::commands::root_credentials;
use crate::data_dir::{DataDir, RegionFile};
use crate::error::Error;

/// A region with a million rows reads them first.
const READY_MAX: Duration = Duration::from_secs(120);
const END_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// Ends, with everything it kept, when it is dropped.
#[derive(Debug)]
pub(super) struct OwnRegion {
    child: Child,
    pub(super) target: Target,
    program: PathBuf,
    dir: tempfile::TempDir,
    address: SocketAddr,
    tls: bool,
}

impl OwnRegion {
    /// By `tls` it says of itself that it is reached so, and agents are sent there.
    pub(super) async fn start(program: &Path, tls: bool) -> Result<Self, Error> {
        let dir = tempfile::Builder::new().prefix("longshore-simulate").tempdir();
        let dir = dir.map_err(Error::io("create a directory for the region"))?;
        let address = free_address().map_err(Error::io("find a free port for the region"))?;
        let (child, target) = launch(program, dir.path(), address, tls).await?;
        Ok(Self { child, target, program: program.to_owned(), dir, address, tls })
    }

    /// Has it end, and starts it again on what it kept: at the same address, since that is free. Says how
    /// long it took until it answered.
    pub(super) async fn restart(&mut self) -> Result<Duration, Error> {
        self.end().await;
        // It ends by itself or not at all.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let began = Instant::now();
        (self.child, self.target) =
            launch(&self.program, self.dir.path(), self.address, self.tls).await?;
        Ok(began.elapsed())
    }

    /// What the region's process has used so far.
    pub(super) fn usage(&self) -> Usage {
        Usage::of(self.child.id())
    }

    /// Has it end as a region does.
    pub(super) async fn stop(mut self) {
        self.end().await;
    }

    async fn end(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let end = Instant::now() + END_MAX;
        while Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
            sleep(POLL).await;
        }
    }
}

impl Drop for OwnRegion {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// It must be known before the region is: that says where it is reached.
fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn trust(file: &RegionFile) -> Result<Trust, Error> {
    let Some(authority) = file.authority_for_clients() else { return Ok(Trust::system()) };
    let pem = std::fs::read(authority).map_err(Error::io("read the region's authority"))?;
    Trust::only(&pem).map_err(Error::other("read the region's authority"))
}

/// Starts the program on what is in `dir`, and waits until it answers.
async fn launch(
    program: &Path,
    dir: &Path,
    address: SocketAddr,
    tls: bool,
) -> Result<(Child, Target), Error> {
    let data = DataDir::new(dir.join("data"));
    let log_path = dir.join("region.log");
    let mut options = std::fs::OpenOptions::new();
    let log = options
        .append(true)
        .create(true)
        .open(&log_path)
        .map_err(Error::io("create the region's log"))?;
    let mut command = Command::new(program);
    command.args(["region", "--listen", &address.to_string(), "--supervised", "--data-dir"]);
    command.arg(data.root()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    if tls {
        command.args(["--advertise", &format!("https://{address}")]);
    }
    // Not of our group: a terminal's ctrl-c is for us, and we end it in our own time.
    command.process_group(0);
    // Thousands of sessions come and go; what the operator wants to see are warnings.
    command.env("LONGSHORE_LOG", "warn").env_remove("LONGSHORE_ACCOUNT_KEYS");
    let mut child = command.spawn().map_err(Error::io("start a region"))?;
    match ready(&data, &mut child, &log_path).await {
        Ok(target) => Ok((child, target)),
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}

async fn ready(data: &DataDir, child: &mut Child, log: &Path) -> Result<Target, Error> {
    let end = Instant::now() + READY_MAX;
    loop {
        if let Ok(file) = data.running_region()
            && Client::is_healthy(file.endpoint()).await
        {
            return Ok(Target {
                endpoint: file.told().parse().map_err(Error::other("read the region's address"))?,
                trust: trust(&file)?,
                region: file.region,
                credentials: FixedCredentials(root_credentials(data)?),
            });
        }
        let has_ended = !matches!(child.try_wait(), Ok(None));
        if has_ended || end <= Instant::now() {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            let last = text.lines().last().unwrap_or("it said nothing");
            return Err(Error::message(format!("the region did not become ready: {last}")));
        }
        sleep(POLL).await;
    }
}
