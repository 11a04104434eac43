//! The directory work that both cgroup versions share: listing, emptying and removing a subtree.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use ::files::set_kernel_file;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill as kill_pid};
use nix::unistd::Pid;

/// A killed process leaves its cgroup a moment later; together these bound the wait to 5 s.
const ROUNDS_MAX: u32 = 500;
const ROUND: Duration = Duration::from_millis(10);

/// Every process in `dir` or below it.
pub(super) fn pids(dir: &Path) -> Vec<i32> {
    let mut found = Vec::new();
    visit(dir, &mut |dir| {
        let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    });
    // Zero stands for a process of another pid namespace, which no signal from here can mean.
    found.retain(|pid| *pid > 0);
    found
}

pub(super) fn children(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// Kills until nobody is left: a process may fork between being listed and being killed.
pub(super) fn kill(dir: &Path) -> io::Result<()> {
    for round in 0..ROUNDS_MAX {
        let pids = pids(dir);
        if pids.is_empty() {
            return Ok(());
        }
        if set_kernel_file(&dir.join("cgroup.kill"), "1").is_err() {
            for pid in pids {
                // Already gone is what was wanted.
                let _ = kill_pid(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        thread::sleep(if round < 10 { ROUND / 10 } else { ROUND });
    }
    Err(io::Error::from(io::ErrorKind::TimedOut))
}

/// Removes `dir` and what is below it; a missing directory is fine.
pub(super) fn remove(dir: &Path) -> io::Result<()> {
    for child in children(dir) {
        remove(&dir.join(child))?;
    }
    for round in 0..ROUNDS_MAX {
        match fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // Its last process is a zombie that has not left yet.
            Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => {
                thread::sleep(if round < 10 { ROUND / 10 } else { ROUND });
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(Errno::EBUSY as i32))
}

fn visit(dir: &Path, act: &mut dyn FnMut(&Path)) {
    if !dir.exists() {
        return;
    }
    act(dir);
    for child in children(dir) {
        visit(&dir.join(child), act);
    }
}
