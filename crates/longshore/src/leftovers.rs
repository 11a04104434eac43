//! What a region has in the kernel, found and removed without its disk.
//!
//! A control group says which processes are a region's, and the table of mounts what lies below its
//! directories. All of it is safe to do twice, and when nothing is left.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill as send};
use nix::unistd::Pid;

const POLL: Duration = Duration::from_millis(10);
/// How often it is looked whether what was killed has gone.
const POLLS_MAX: u32 = 500;

/// Kills every process in the groups below `parent`, and waits for them to go.
pub(crate) async fn kill(parent: &Path) {
    for _ in 0..POLLS_MAX {
        let pids: Vec<i32> = groups_of(parent).iter().flat_map(|group| processes(group)).collect();
        if pids.is_empty() {
            return;
        }
        for pid in pids.into_iter().filter(|pid| *pid > 0) {
            // An error means that it has gone.
            let _ = send(Pid::from_raw(pid), Signal::SIGKILL);
        }
        tokio::time::sleep(POLL).await;
    }
    tracing::warn!("some processes were killed and did not end");
}

/// The processes of a group and of those below it.
fn processes(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let own = text.lines().filter_map(|line| line.parse().ok());
    let below = children(group).into_iter().flat_map(|child| processes(&child));
    own.chain(below).collect()
}

fn children(group: &Path) -> Vec<PathBuf> {
    let inside = fs::read_dir(group).into_iter().flatten().flatten();
    inside.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// The region's own group in every hierarchy that has it.
fn groups_of(parent: &Path) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let relative = parent.strip_prefix("/").unwrap_or(parent);
    let hierarchies = children(root).into_iter().chain([root.to_owned()]);
    hierarchies.map(|hierarchy| hierarchy.join(relative)).filter(|ours| ours.is_dir()).collect()
}

/// Takes away what is mounted below these directories, the last first. What is still in use
/// goes when it no longer is.
pub(crate) fn unmount(below: &[&Path]) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for place in mounted(&table, below).iter().rev() {
        if let Err(error) = umount2(place, MntFlags::MNT_DETACH) {
            tracing::warn!(place = %place.display(), %error, "could not unmount");
        }
    }
}

/// The fifth field of each line, in which a space is `\040`.
fn mounted(table: &str, below: &[&Path]) -> Vec<PathBuf> {
    let places = table.lines().filter_map(|line| line.split(' ').nth(4));
    let places = places.map(|place| {
        let place = place.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n");
        PathBuf::from(place.replace("\\134", "\\"))
    });
    places.filter(|place| below.iter().any(|dir| place.starts_with(dir))).collect()
}

/// Removes the empty groups that remain of the region's own, in every hierarchy.
pub(crate) fn remove_cgroups(parent: &Path) {
    for ours in groups_of(parent) {
        remove_empty(&ours);
        // Another region's may be beside ours; then this one stays.
        let _ = ours.parent().map(std::fs::remove_dir);
    }
}

fn remove_empty(group: &Path) {
    let inside = std::fs::read_dir(group).into_iter().flatten().flatten();
    inside
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .for_each(|path| remove_empty(&path));
    // A group with a process in it stays, and with it what is above.
    let _ = std::fs::remove_dir(group);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_mounted_below_is_taken_away() {
        let table = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                     30 22 0:9 / /data/agent/a\\040b/rootfs rw - overlay overlay rw\n\
                     31 22 0:9 / /data/agents rw - tmpfs tmpfs rw\n";
        let found = mounted(table, &[Path::new("/data/agent")]);
        assert_eq!(found, [Path::new("/data/agent/a b/rootfs")]);
    }
}
