//! Processes beside an agent, which it has run while they are wanted: neither ends with the other.
//!
//! One that is of another program than the agent, which has become a newer one, has a process of the agent's program take over
//! from it ([`balancer::Predecessor`]): no connection is refused meanwhile. One that does not give its place away goes on.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::future::pending;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use balancer::{Config, Doors, Feed, Predecessor, RegionDoor, Tenure};
use longshore_types::{Chain, OsIds, SystemClock, VpcId};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use routing::InterfaceRef;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use crate::cli::TenureArgs;
use crate::data_dir::{DataDir, Role};
use crate::error::Error;
use crate::logging::open_log;
use crate::signals;
use crate::successor::{Successors, is_of_another_program};

/// How often it is looked whether a process has ended.
const LOOK: Duration = Duration::from_millis(50);
/// How often it is looked whether one is wanted, if nothing is heard meanwhile.
const UNWANTED_LOOK: Duration = Duration::from_millis(250);
/// How often a process is looked after that an earlier agent started.
const ADOPTED_LOOK: Duration = Duration::from_secs(1);
/// How soon one that did not give its place away is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// How long nobody needs a process before it ends.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether somebody does.
const IDLE_LOOK: Duration = Duration::from_secs(1);
/// How soon one that ended is started again.
const RESTART_PAUSE: Duration = Duration::from_millis(200);

/// A process of the host.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) data: DataDir,
    pub(super) program: PathBuf,
    pub(super) role: Role,
    /// The command that it is, which its log is called after too.
    pub(super) name: &'static str,
    /// What it is told besides.
    pub(super) args: Vec<OsString>,
}

impl Kept {
    /// Has it run while it is wanted, for as long as the agent does. It ends by itself. With each of `changes` it is looked
    /// at once whether it is.
    pub(super) async fn keep(
        self,
        mut changes: watch::Receiver<()>,
        mut is_wanted: impl FnMut() -> bool,
    ) {
        let mut adopted = Adopted::default();
        loop {
            adopted.bury();
            if !is_wanted() {
                let heard = async {
                    if changes.changed().await.is_err() {
                        // Nobody tells any more.
                        pending::<()>().await;
                    }
                };
                // Either is a reason to look.
                let _ = timeout(UNWANTED_LOOK, heard).await;
                continue;
            }
            if let Some(pid) = self.data.holder(self.role) {
                adopted.pids.insert(pid);
                if !adopted.is_to_be_replaced(pid, &self) {
                    tokio::time::sleep(ADOPTED_LOOK).await;
                    continue;
                }
                info!(
                    process = self.name,
                    pid, "a process of this program takes over, as it is told now"
                );
            }
            match self.start() {
                Ok(mut child) => {
                    while let Ok(None) = child.try_wait() {
                        tokio::time::sleep(LOOK).await;
                        adopted.bury();
                    }
                }
                Err(error) => {
                    warn!(process = self.name, error = %Chain(&error), "a process cannot be started");
                }
            }
            tokio::time::sleep(RESTART_PAUSE).await;
        }
    }

    fn start(&self) -> Result<Child, Error> {
        let path = self.data.log_file(self.name);
        let log = open_log(&path);
        let log = log.map_err(|source| Error::DataDir { path: path.clone(), source })?;
        let second = log.try_clone().map_err(Error::io("open the log twice"))?;
        let mut command = Command::new(&self.program);
        command.arg(self.name).arg("--take-over");
        command.arg("--data-dir").arg(self.data.root()).arg("--log").arg(&path);
        command.args(&self.args);
        command.current_dir(self.data.root()).stdin(Stdio::null()).stdout(log).stderr(second);
        command.spawn().map_err(Error::io("start a process of the host"))
    }
}

/// Processes that an earlier agent started, or the program that this one was before.
#[derive(Debug, Default)]
struct Adopted {
    pids: BTreeSet<u32>,
    /// Which was asked last for its place, and when.
    asked: Option<(u32, Instant)>,
}

impl Adopted {
    fn bury(&mut self) {
        self.pids.retain(|pid| !is_buried(*pid));
    }

    fn is_to_be_replaced(&mut self, pid: u32, by: &Kept) -> bool {
        let is_early = self.asked.is_some_and(|(of, at)| of == pid && at.elapsed() < ASK_AGAIN);
        // Whether the agent's program works is yet to be seen where it is on trial: the one before may come back.
        let is_due = !is_early
            && (is_of_another_program(pid) || !is_told(pid, &by.args))
            && !Successors::of(by.data.root()).is_on_trial();
        if is_due {
            self.asked = Some((pid, Instant::now()));
        }
        is_due
    }
}

/// Whether a process was told all that, in that order. One of which nothing is known was.
fn is_told(pid: u32, args: &[OsString]) -> bool {
    let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return true };
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
    args.is_empty() || words.windows(args.len()).any(|some| some == args)
}

/// The role of a process that another may take over from: from the one that has it, where that is asked for.
pub(super) fn tenure(
    data: &DataDir,
    (role, args): (Role, TenureArgs),
    state_dir: &Path,
) -> Result<Tenure, Error> {
    let error = match data.take(role) {
        Ok(lock) => return Ok(Tenure::First(lock.into_file())),
        Err(error) if args.take_over && matches!(error, Error::InUse { .. }) => error,
        Err(error) => return Err(error),
    };
    let asked = Predecessor::ask(state_dir);
    let before = asked.map_err(Error::io("take over from the process that serves here"))?;
    before.map(Tenure::After).ok_or(error)
}

/// Serves until it is told to end, or until nobody has needed it for a while.
pub(super) async fn serve_while_needed(
    config: Config,
    tenure: Tenure,
    line: Arc<dyn Feed>,
    is_needed: impl FnMut() -> bool,
) -> Result<(), Error> {
    let ended = async {
        tokio::select! {
            () = signals::stop() => {}
            () = idle(is_needed) => info!("nobody needs this process here any more"),
        }
    };
    serve(config, tenure, line, ended).await
}

/// Serves by the system's clock and ids.
pub(super) async fn serve(
    config: Config,
    tenure: Tenure,
    line: Arc<dyn Feed>,
    ended: impl Future<Output = ()>,
) -> Result<(), Error> {
    let doing = if config.local.is_some() { "run the balancer" } else { "serve beside the agent" };
    let served =
        balancer::run(config, tenure, line, (Arc::new(SystemClock), Arc::new(OsIds)), ended).await;
    served.map_err(Error::io(doing))
}

/// Completes once nobody has needed the process for a while.
async fn idle(mut is_needed: impl FnMut() -> bool) {
    let mut idle_since = Instant::now();
    while idle_since.elapsed() < IDLE_MAX {
        tokio::time::sleep(IDLE_LOOK).await;
        if is_needed() {
            idle_since = Instant::now();
        }
    }
}

/// The file of an interface's namespace, whose id and VPC are those of `file`. What is no id names no file.
pub(super) fn namespace<Id: FromStr>(
    interface: &InterfaceRef,
    file: impl FnOnce(Id, Option<&VpcId>) -> PathBuf,
) -> PathBuf {
    let own_vpc = interface.own_vpc.as_deref().map(str::parse).transpose();
    match (interface.eni.parse(), own_vpc) {
        (Ok(id), Ok(vpc)) => file(id, vpc.as_ref()),
        (Err(_), _) | (_, Err(_)) => PathBuf::new(),
    }
}

/// VPC endpoints are on the region's own machine.
#[derive(Debug)]
pub(super) struct NoDoors;

impl Doors for NoDoors {
    fn region(&self) -> Option<RegionDoor> {
        None
    }
}

/// Whether nothing is left of a process that has ended: it is this one's to bury if the program before it, which had the
/// same process id, started it.
pub(super) fn is_buried(pid: u32) -> bool {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX));
    !matches!(waitpid(pid, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_what_it_was_told() {
        let mut command = Command::new("sleep");
        let mut child = command.args(["60", "0", "0"]).stdin(Stdio::null()).spawn().unwrap();
        let pid = child.id();
        let words = |some: &[&str]| some.iter().map(OsString::from).collect::<Vec<_>>();
        // Until then it is a copy of this process.
        while std::fs::read(format!("/proc/{pid}/cmdline")).unwrap() != b"sleep\x0060\x000\x000\0" {
            std::thread::yield_now();
        }
        assert!(is_told(pid, &[]) && is_told(pid, &words(&["60", "0"])));
        assert!(!is_told(pid, &words(&["60", "1"])) && !is_told(pid, &words(&["0", "60"])));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_told(pid, &words(&["anything"])), "nobody is there to be replaced");
    }

    #[test]
    fn a_process_of_the_program_before_is_buried_once_it_has_ended() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        assert!(!is_buried(pid), "it waits for more");
        drop(child.stdin.take());
        let mut looks = 0;
        while !is_buried(pid) {
            looks += 1;
            assert!(looks < 1_000, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(child.wait().is_err(), "nothing is left of it");
        assert!(is_buried(pid), "and it is nobody's twice");
    }
}
