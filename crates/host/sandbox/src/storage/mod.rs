//! How much of the host's disk somebody's files take, and how much room there is.
//!
//! What is measured belongs to containers that may change it meanwhile, in order to mislead: a tree is
//! walked by descriptors and never by paths ([`walk`]), and files that were removed but are still
//! held open are found where they are held ([`held`]).

mod held;
mod walk;

use std::io;
use std::ops::AddAssign;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;

pub(crate) use walk::Seen;

use crate::error::{Doing as _, SandboxError};

/// What somebody's files take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StorageUse {
    /// As the disk counts them, in whole blocks.
    pub bytes: u64,
    /// Files, directories and all else that has an inode.
    pub files: u64,
}

impl AddAssign for StorageUse {
    fn add_assign(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.files = self.files.saturating_add(other.files);
    }
}

/// What is left of the disk that a directory is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskRoom {
    pub bytes_free: u64,
    pub bytes: u64,
    pub files_free: u64,
    /// Zero where the file system makes them as they are needed.
    pub files: u64,
}

/// All of `trees`, and of what `pids` hold open of removed files on the same disk.
pub(crate) fn measure(trees: &[PathBuf], pids: &[i32]) -> StorageUse {
    let mut seen = Seen::default();
    let mut total = StorageUse::default();
    for tree in trees {
        total += walk::tree(tree, &mut seen);
    }
    total += held::removed_files(pids, &mut seen);
    total
}

/// What is left of the disk that `path` is on.
pub fn disk_room(path: &Path) -> Result<DiskRoom, SandboxError> {
    room(path).doing_at("ask for the room at", path)
}

/// What `trees` take.
pub fn storage_of(trees: &[PathBuf]) -> StorageUse {
    measure(trees, &[])
}

pub(crate) fn room(path: &Path) -> io::Result<DiskRoom> {
    let disk = statvfs(path)?;
    let bytes = |blocks: libc::fsblkcnt_t| blocks.saturating_mul(disk.fragment_size());
    Ok(DiskRoom {
        bytes_free: bytes(disk.blocks_available()),
        bytes: bytes(disk.blocks()),
        files_free: disk.files_available(),
        files: disk.files(),
    })
}
