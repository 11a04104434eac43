//! `longshore upgrade`: a running region goes on as the program that lies in its place now.
//!
//! The supervisor is told by SIGUSR2. It looks whether that program starts, ends the region and the agent, and becomes it, under
//! the same process id; containers run on, and the balancers' process until one of the new program has taken over from it.

use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use futures_util::FutureExt as _;
use longshore_types::Chain;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;
use tracing::{error, info};

use crate::client::Client;
use crate::commands::Environment;
use crate::commands::kept::is_buried;
use crate::data_dir::{DataDir, Role};
use crate::error::Error;
use crate::successor::{is_of_another_program, is_same_program};
use crate::supervisor::Ending;
use crate::{procs, signals, upgrade};

/// How long all may take to be of the new program.
const UPGRADE_MAX: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);
/// How often processes are looked after that the program before this one started.
const BURY: Duration = Duration::from_secs(1);

/// Completes once the region is to end, as `stop` says, or to go on as another program that starts.
pub(super) async fn ending(
    program: &Path,
    mut replacements: signals::Replacements,
    stop: Pin<&mut impl Future<Output = ()>>,
) -> Ending {
    let replaced = async {
        loop {
            replacements.next().await;
            match upgrade::starts(program, None).await {
                Ok(()) => return,
                Err(why) => {
                    error!(program = %program.display(), error = %Chain(&why), "going on as before")
                }
            }
        }
    };
    tokio::select! {
        () = stop => Ending::Stop,
        () = replaced => {
            info!(program = %program.display(), "going on as the program that lies here now");
            Ending::Replace
        }
    }
}

/// What becomes of the region once its processes have ended: told to end meanwhile, it does not go on.
pub(super) fn unless_stopped(ending: Ending, stop: Pin<&mut impl Future<Output = ()>>) -> Ending {
    let is_stopped = ending == Ending::Replace && stop.now_or_never().is_some();
    if is_stopped { Ending::Stop } else { ending }
}

/// Has nothing be left of children of the program that this one was before, as they end.
pub(super) fn bury_children() {
    let mut left = procs::children(std::process::id());
    if left.is_empty() {
        return;
    }
    #[expect(clippy::disallowed_methods, reason = "ends with the last of them, or the process")]
    tokio::spawn(async move {
        while !left.is_empty() {
            tokio::time::sleep(BURY).await;
            left.retain(|pid| !is_buried(*pid));
        }
    });
}

/// Tells the region that runs here, and waits until all of it is of this program.
pub(crate) async fn run(data: &DataDir, environment: &Environment) -> Result<(), Error> {
    let path = || data.root().to_owned();
    let supervisor = data.holder(Role::Supervisor);
    let supervisor = supervisor.ok_or_else(|| Error::NotRunning { path: path() })?;
    if is_all_of_this_program(data).await {
        println!("nothing to do: the region runs this program");
        return Ok(());
    }
    check(supervisor)?;
    let pid = Pid::from_raw(i32::try_from(supervisor).unwrap_or(i32::MAX));
    kill(pid, Signal::SIGUSR2).map_err(|why| match why {
        Errno::EPERM => {
            let text =
                format!("may not upgrade the region (pid {supervisor}): run this as its user");
            Error::message(text)
        }
        why => Error::io("tell the region to go on as another program")(why.into()),
    })?;
    let end = Instant::now() + UPGRADE_MAX;
    while !is_all_of_this_program(data).await {
        if !procs::is_alive(supervisor) {
            let log = data.log_file("up");
            let text = format!("the region has ended; {} may say why", log.display());
            return Err(Error::message(text));
        }
        if end <= Instant::now() {
            let text = format!(
                "not all of the region runs {} after {} s; its logs may say why",
                environment.program.display(),
                UPGRADE_MAX.as_secs()
            );
            return Err(Error::message(text));
        }
        tokio::time::sleep(POLL).await;
    }
    println!("the region runs this program");
    Ok(())
}

/// Whether the supervisor would become this very program.
fn check(supervisor: u32) -> Result<(), Error> {
    if !procs::catches(supervisor, Signal::SIGUSR2) {
        return Err(Error::message(
            "the region's program is of before it could go on as another: longshore down --keep-tasks, then start it again",
        ));
    }
    let Some(place) = procs::program(supervisor) else {
        let text = format!(
            "cannot see which program the region runs (pid {supervisor}): run this as its user"
        );
        return Err(Error::message(text));
    };
    if !is_same_program(&place) {
        let text = format!("the region runs {}: put this program there first", place.display());
        return Err(Error::message(text));
    }
    Ok(())
}

/// Whether each process of the region is of this program, and the region answers.
async fn is_all_of_this_program(data: &DataDir) -> bool {
    let is_so = |role| data.holder(role).is_some_and(|pid| !is_of_another_program(pid));
    let is_not_other = |role| data.holder(role).is_none_or(|pid| !is_of_another_program(pid));
    let Ok(region) = data.running_region() else { return false };
    is_so(Role::Supervisor)
        && is_so(Role::Region)
        && is_not_other(Role::Balancer)
        && is_not_other(Role::Agent)
        && is_not_other(Role::Proxy)
        && Client::is_healthy(region.endpoint()).await
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::pin;

    use super::*;

    #[test]
    fn a_region_that_was_told_to_end_while_its_processes_ended_does_not_go_on() {
        assert_eq!(unless_stopped(Ending::Replace, pin!(ready(()))), Ending::Stop);
        assert_eq!(unless_stopped(Ending::Replace, pin!(pending())), Ending::Replace);
        assert_eq!(unless_stopped(Ending::Stop, pin!(pending())), Ending::Stop);
    }
}
