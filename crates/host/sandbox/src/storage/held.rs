//! Removed files that processes still hold: they take room, and no directory shows them.
//!
//! A file that is only on its way between two processes, in a socket, is not found.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::{SFlag, stat};
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};

use super::StorageUse;
use super::walk::{Seen, size};

/// Descriptors and mappings that are looked at, of all processes together.
const LOOKS_MAX: usize = 200_000;

pub(super) fn removed_files(pids: &[i32], seen: &mut Seen) -> StorageUse {
    let mut total = StorageUse::default();
    let mut looks = 0;
    for pid in pids {
        let process = Path::new("/proc").join(pid.to_string());
        for link in descriptors(&process).into_iter().chain(mappings(&process)) {
            looks += 1;
            if LOOKS_MAX < looks {
                return total;
            }
            if let Some(used) = removed_file(&link, seen) {
                total += used;
            }
        }
    }
    total
}

fn descriptors(process: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(process.join("fd")) else { return Vec::new() };
    entries
        .take(LOOKS_MAX)
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| is_removed(path))
        .collect()
}

/// A removed file may be mapped and have no descriptor any more.
fn mappings(process: &Path) -> Vec<PathBuf> {
    let Ok(text) = fs::read(process.join("maps")) else { return Vec::new() };
    let lines = text.split(|byte| *byte == b'\n').filter(|line| line.ends_with(b" (deleted)"));
    let range = |line: &[u8]| {
        let range = line.split(|byte| *byte == b' ').next()?;
        // The kernel names them without leading zeros.
        let range = std::str::from_utf8(range).ok()?;
        let plain = |part: &str| u64::from_str_radix(part, 16).ok();
        let (from, to) = range.split_once('-')?;
        Some(format!("{:x}-{:x}", plain(from)?, plain(to)?))
    };
    lines.filter_map(range).map(|range| process.join("map_files").join(range)).collect()
}

/// The kernel says so behind the name, which costs less to read than to look at the file.
fn is_removed(link: &Path) -> bool {
    fs::read_link(link).is_ok_and(|to| to.as_os_str().as_bytes().ends_with(b" (deleted)"))
}

/// What the file takes, if it is on the disk that was walked: in memory, the memory limit counts it.
fn removed_file(link: &Path, seen: &mut Seen) -> Option<StorageUse> {
    let file = stat(link).ok()?;
    let is_file = file.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits();
    if !is_file || file.st_nlink != 0 {
        return None;
    }
    // Through an overlay a file shows a device of the overlay's own.
    let is_overlay = || statfs(link).is_ok_and(|at| at.filesystem_type() == OVERLAYFS_SUPER_MAGIC);
    let is_counted = (seen.is_on_disk(file.st_dev) || is_overlay()) && seen.is_new(&file);
    is_counted.then(|| size(&file))
}
