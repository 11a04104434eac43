//! Adding up a tree that somebody else may be changing.
//!
//! **Invariant:** nothing outside the tree is looked at: each directory is opened within its parent's
//! descriptor, links are not followed, other file systems are not entered, and the way back up is
//! checked. However deep the tree is, few descriptors are open.

use std::collections::HashSet;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::dir::{Dir, Type};
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};

use super::StorageUse;

/// How many directories of the way down stay open. Above them, the way back is looked for again.
const OPEN_MAX: usize = 32;

/// Files that were counted and have, or had, other names.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    inodes: HashSet<(u64, u64)>,
    disks: HashSet<u64>,
}

impl Seen {
    /// False if it was counted before.
    pub(super) fn is_new(&mut self, stat: &FileStat) -> bool {
        self.inodes.insert((stat.st_dev, stat.st_ino))
    }

    /// Whether anything that was walked is on this disk.
    pub(super) fn is_on_disk(&self, device: u64) -> bool {
        self.disks.contains(&device)
    }
}

pub(super) fn size(stat: &FileStat) -> StorageUse {
    StorageUse { bytes: u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512), files: 1 }
}

/// A directory on the way down.
struct Level {
    /// Closed while the walk is far below.
    dir: Option<OwnedFd>,
    identity: (u64, u64),
    /// Directories in it that were not yet walked.
    left: Vec<CString>,
}

/// What lies under `root`, with itself. What goes away meanwhile, or cannot be read, is not there.
pub(super) fn tree(root: &Path, seen: &mut Seen) -> StorageUse {
    let Ok(dir) = File::open(root).map(OwnedFd::from) else { return StorageUse::default() };
    let Ok(stat) = fstat(&dir) else { return StorageUse::default() };
    let device = stat.st_dev;
    seen.disks.insert(device);
    let mut total = size(&stat);
    let mut levels = vec![read(dir, &stat, seen, &mut total)];
    while let Some(level) = levels.last_mut() {
        let next = level.left.pop();
        match (next, &level.dir) {
            (Some(name), Some(dir)) => {
                let Some((dir, stat)) = open_within(dir, &name) else { continue };
                if stat.st_dev != device {
                    continue;
                }
                total += size(&stat);
                let below = read(dir, &stat, seen, &mut total);
                levels.push(below);
                if let Some(far) = levels.len().checked_sub(OPEN_MAX + 1) {
                    levels[far].dir = None;
                }
            }
            _ => climb(&mut levels),
        }
    }
    total
}

/// Leaves the lowest directory; the one above is found by the way it was entered, or given up on
/// because somebody has moved things since.
fn climb(levels: &mut Vec<Level>) {
    let Some(below) = levels.pop() else { return };
    let Some(above) = levels.last_mut().filter(|above| above.dir.is_none()) else { return };
    let up = below.dir.as_ref().and_then(|dir| open_within(dir, c".."));
    match up {
        Some((dir, stat)) if (stat.st_dev, stat.st_ino) == above.identity => above.dir = Some(dir),
        _ => above.left.clear(),
    }
}

fn open_within(dir: &OwnedFd, name: &std::ffi::CStr) -> Option<(OwnedFd, FileStat)> {
    let flags = OFlag::O_RDONLY
        | OFlag::O_DIRECTORY
        | OFlag::O_NOFOLLOW
        | OFlag::O_NONBLOCK
        | OFlag::O_CLOEXEC;
    let dir = openat(dir.as_fd(), name, flags, Mode::empty()).ok()?;
    let stat = fstat(&dir).ok()?;
    Some((dir, stat))
}

/// Counts what is directly in `dir`, and remembers the directories.
fn read(dir: OwnedFd, stat: &FileStat, seen: &mut Seen, total: &mut StorageUse) -> Level {
    let identity = (stat.st_dev, stat.st_ino);
    let mut left = Vec::new();
    // A second descriptor: listing consumes one.
    let listed = open_within(&dir, c".").and_then(|(copy, _)| Dir::from_fd(copy).ok());
    for entry in listed.into_iter().flat_map(Dir::into_iter).flatten() {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if entry.file_type() == Some(Type::Directory) {
            left.push(name.to_owned());
            continue;
        }
        let Ok(stat) = fstatat(dir.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
        if stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits() {
            left.push(name.to_owned());
        } else if stat.st_dev == identity.0 && (stat.st_nlink < 2 || seen.is_new(&stat)) {
            *total += size(&stat);
        }
    }
    Level { dir: Some(dir), identity, left }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn measured(root: &Path) -> StorageUse {
        tree(root, &mut Seen::default())
    }

    #[test]
    fn blocks_are_counted_once_whatever_their_names_are() {
        let dir = tempfile::tempdir().unwrap();
        let before = measured(dir.path());
        fs::write(dir.path().join("a"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
        let sparse = fs::File::create(dir.path().join("sparse")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        let used = measured(dir.path());
        let bytes = used.bytes - before.bytes;
        assert!((1 << 20..2 << 20).contains(&bytes), "{bytes}");
        assert_eq!(used.files - before.files, 2);
    }

    #[test]
    fn links_lead_nowhere() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("big"), vec![1; 1 << 20]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        symlink(outside.path(), dir.path().join("out")).unwrap();
        symlink("/", dir.path().join("host")).unwrap();
        assert!(measured(dir.path()).bytes < 1 << 20);
    }

    #[test]
    fn a_deep_tree_is_counted_to_its_end() {
        const DEPTH: u64 = 300;
        let dir = tempfile::tempdir().unwrap();
        let mut at = OwnedFd::from(fs::File::open(dir.path()).unwrap());
        for _ in 0..DEPTH {
            nix::sys::stat::mkdirat(at.as_fd(), c"d", Mode::S_IRWXU).unwrap();
            nix::sys::stat::mkdirat(at.as_fd(), c"e", Mode::S_IRWXU).unwrap();
            at = open_within(&at, c"d").unwrap().0;
        }
        assert_eq!(measured(dir.path()).files, 1 + 2 * DEPTH);
    }
}
