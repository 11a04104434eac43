//! Finding a region's processes without its disk: in `/proc` alone.
//!
//! The lock files of the data directory say who runs. Where they can be locked but not read (a disk
//! that was full when the process id was to be written), the kernel's list of locks knows; where
//! they cannot even be opened (a disk that fails), the processes' own arguments do.

use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use crate::data_dir::Role;

/// Who has locked `file`, by `/proc/locks`: `1: FLOCK  ADVISORY  WRITE 4711 fd:01:131 0 EOF`.
pub(crate) fn locker(file: &File) -> Option<u32> {
    let inode = file.metadata().ok()?.ino().to_string();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let is_write = words.next() == Some("FLOCK") && words.nth(1) == Some("WRITE");
        let pid = words.next()?;
        let is_same = words.next()?.rsplit(':').next() == Some(inode.as_str());
        if is_write && is_same { pid.parse().ok() } else { None }
    })
}

/// The process that has a role in the data directory at `root`, by its arguments. A supervisor that
/// was started without the directory's name is the parent of one that has it.
pub(crate) fn find(root: &Path, role: Role) -> Option<u32> {
    let of_role = |role: Role| {
        all().find(|pid| arguments(*pid).is_some_and(|words| is_ours(&words, root, role)))
    };
    of_role(role).or_else(|| {
        let child = (role == Role::Supervisor).then(|| {
            of_role(Role::Region)
                .or_else(|| of_role(Role::Agent))
                .or_else(|| of_role(Role::Balancer))
        })??;
        let parent = parent(child)?;
        let is_up = arguments(parent).is_some_and(|words| words.get(1).is_some_and(|w| w == b"up"));
        is_up.then_some(parent)
    })
}

pub(crate) fn is_alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// The processes that one has started and not yet buried.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    all().filter(|it| parent(*it) == Some(pid)).collect()
}

/// Where the program lies that a process was started from; another may lie there by now.
pub(crate) fn program(pid: u32) -> Option<PathBuf> {
    const REPLACED: &[u8] = b" (deleted)";
    let link = fs::read_link(format!("/proc/{pid}/exe")).ok()?.into_os_string().into_vec();
    let path = link.strip_suffix(REPLACED).unwrap_or(&link).to_vec();
    Some(std::ffi::OsString::from_vec(path).into())
}

/// Whether a process does something of its own at a signal: `SigCgt: 0000000180004a03`.
pub(crate) fn catches(pid: u32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let bit = u32::try_from(signal as i32 - 1).unwrap_or(u32::MAX);
    caught.checked_shr(bit).unwrap_or(0) & 1 == 1
}

fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn arguments(pid: u32) -> Option<Vec<Vec<u8>>> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(line.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect())
}

/// `longshore ROLE … --data-dir ROOT …`
fn is_ours(words: &[Vec<u8>], root: &Path, role: Role) -> bool {
    if words.get(1).is_none_or(|word| word != role.name().as_bytes()) {
        return false;
    }
    words.windows(2).any(|pair| {
        let named = PathBuf::from(std::ffi::OsString::from_vec(pair[1].clone()));
        pair[0] == b"--data-dir" && named.as_os_str().as_bytes() == root.as_os_str().as_bytes()
    })
}

/// The fourth field of `stat`; the second is a name in brackets that may hold anything.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_a_lock_is_known_without_reading_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = File::create(&path).unwrap();
        assert_eq!(locker(&held), None);
        held.lock().unwrap();
        assert_eq!(locker(&File::open(&path).unwrap()), Some(std::process::id()));
    }

    #[test]
    fn a_process_is_looked_at_from_outside() {
        let own = std::process::id();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(children(own).contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!children(own).contains(&child.id()));
        assert_eq!(program(own), std::env::current_exe().ok());
        // The runtime of tests catches this one, to say where a stack was too small.
        assert!(catches(own, Signal::SIGSEGV) && !catches(own, Signal::SIGUSR2));
    }

    #[test]
    fn a_process_is_found_by_its_arguments() {
        let root = Path::new("/nowhere/of-a-test");
        let words =
            |text: &[&str]| text.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
        let ours = words(&["longshore", "region", "--data-dir", "/nowhere/of-a-test", ""]);
        assert!(is_ours(&ours, root, Role::Region));
        assert!(!is_ours(&ours, root, Role::Agent));
        assert!(!is_ours(&ours, Path::new("/nowhere"), Role::Region));
        assert_eq!(find(root, Role::Supervisor), None);
        assert_eq!(parent(std::process::id()), Some(std::os::unix::process::parent_id()));
    }
}
