//! Room that is ours on a disk that is full for everybody else.
//!
//! A file that is written on and on can have its room ahead ([`allocate_ahead`]), which nobody else gets. For
//! files that are made anew there is a [`Reserve`]: a file of some size lies in a directory of ours. When a write finds the disk full, a part of the file is
//! cut off and the write tried again; whoever filled the disk may be quicker, and then it is the next
//! part's turn. Once there is room again, the file is made whole.
//!
//! **Invariant:** a reserve that is missing, in part or altogether, is never in anybody's way: all goes on
//! as without one.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};

use crate::limits::{RESERVE_BYTES_MAX, RESERVE_DISK_PARTS, RESERVE_PARTS, RESERVE_ROOM_BYTES_MAX};

/// The file's name.
pub const NAME: &str = "reserve";

/// The room that is held in one directory.
#[derive(Debug, Default)]
pub struct Reserve {
    held: Option<Held>,
    is_whole: AtomicBool,
}

#[derive(Debug)]
struct Held {
    file: Mutex<File>,
    bytes: u64,
    /// What must be free besides, before room is taken.
    room: u64,
}

impl Reserve {
    /// Takes room in `dir`: as much as is usual for a disk of its size, now or once it is there.
    pub fn hold(dir: &Path) -> io::Result<Self> {
        let path = dir.join(NAME);
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).mode(0o600).open(path)?;
        let room = Room::of(&file)?;
        let held = Held { file: Mutex::new(file), bytes: room.share(), room: room.to_be_left() };
        let this = Self { held: Some(held), ..Self::default() };
        this.make_whole()?;
        Ok(this)
    }

    /// Nothing is held.
    pub fn none() -> Self {
        Self::default()
    }

    /// Does `write`, and again with a part of the reserve each time that the disk was full.
    pub fn with_room<T>(&self, mut write: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            match write() {
                Err(error) if error.kind() == io::ErrorKind::StorageFull && self.give() => {}
                outcome => return outcome,
            }
        }
    }

    /// Gives a part to whoever is quickest; false if there is none left.
    pub fn give(&self) -> bool {
        let Some(held) = &self.held else { return false };
        let file = held.file.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(bytes) = file.metadata().map(|metadata| metadata.len()) else { return false };
        self.is_whole.store(false, Ordering::Relaxed);
        let part = (held.bytes / RESERVE_PARTS).max(1);
        // A file system may keep what was freed until it has written down that it was.
        bytes > 0 && file.set_len(bytes.saturating_sub(part)).is_ok() && {
            let _ = file.sync_all();
            true
        }
    }

    pub fn is_whole(&self) -> bool {
        self.held.is_none() || self.is_whole.load(Ordering::Relaxed)
    }

    /// Takes again what is missing, once there is room for it and for others. Costs nothing while nothing is.
    pub fn make_whole(&self) -> io::Result<()> {
        let Some(held) = self.held.as_ref().filter(|_| !self.is_whole()) else { return Ok(()) };
        let file = held.file.lock().unwrap_or_else(PoisonError::into_inner);
        let free = Room::of(&*file)?.free;
        let bytes = file.metadata()?.len();
        let missing = held.bytes.saturating_sub(bytes);
        if free < missing.saturating_add(held.room) {
            return Ok(());
        }
        if missing > 0
            && let Err(error) = fallocate(&*file, FallocateFlags::empty(), bytes, missing)
        {
            // Not on this file system, or somebody was quicker.
            file.set_len(bytes)?;
            return Err(error.into());
        }
        self.is_whole.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// The room of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    pub bytes: u64,
    pub free: u64,
}

impl Room {
    pub fn of(file: impl AsFd) -> io::Result<Self> {
        let disk = fstatvfs(file)?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        Ok(Self { bytes: bytes(disk.f_blocks), free: bytes(disk.f_bavail) })
    }

    /// What is usual to be held of such a disk.
    pub fn share(self) -> u64 {
        (self.bytes / RESERVE_DISK_PARTS).min(RESERVE_BYTES_MAX)
    }

    /// What is to be left to others when room is taken.
    pub fn to_be_left(self) -> u64 {
        (self.bytes / RESERVE_DISK_PARTS).saturating_mul(2).min(RESERVE_ROOM_BYTES_MAX)
    }
}

/// Gives a file that is there the usual room behind its end, if it can be spared; true if it has that now.
pub fn allocate_ahead(file: &File) -> io::Result<bool> {
    let room = Room::of(file)?;
    let has = file.metadata()?.blocks().saturating_mul(512);
    let missing = room.share().saturating_sub(has);
    if missing == 0 {
        return Ok(true);
    }
    if room.free < missing.saturating_add(room.to_be_left()) {
        return Ok(false);
    }
    fallocate(file, FallocateFlags::KEEP_SIZE, 0, room.share())?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::process::Command;

    /// A disk of 64 MiB; `None`, with a printed reason, without the right to mount one.
    struct Disk(tempfile::TempDir);

    impl Disk {
        fn mount() -> Option<Self> {
            let dir = tempfile::tempdir().unwrap();
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"]).arg(dir.path());
            if mount.status().is_ok_and(|status| status.success()) {
                Some(Self(dir))
            } else {
                println!("skipped: needs root to mount a disk");
                None
            }
        }

        fn path(&self) -> &Path {
            self.0.path()
        }

        fn fill(&self) {
            let mut filler = File::options();
            let mut filler =
                filler.append(true).create(true).open(self.path().join("filler")).unwrap();
            let page = [1; 4096];
            while io::Write::write_all(&mut filler, &page).is_ok() {}
        }

        fn drain(&self) {
            fs::remove_file(self.path().join("filler")).unwrap();
        }

        fn held(&self) -> u64 {
            fs::metadata(self.path().join(NAME)).unwrap().len()
        }
    }

    impl Drop for Disk {
        fn drop(&mut self) {
            let unmounted = Command::new("umount").arg("-l").arg(self.path()).status();
            assert!(unmounted.is_ok_and(|status| status.success()));
        }
    }

    #[test]
    fn a_full_disk_has_room_for_who_holds_it_until_the_reserve_is_used_up() {
        let Some(disk) = Disk::mount() else { return };
        let reserve = Reserve::hold(disk.path()).unwrap();
        assert!(reserve.is_whole());
        assert_eq!(disk.held(), 2 << 20);
        let write = |name: &str| fs::write(disk.path().join(name), [7; 8192]);
        for n in 0..RESERVE_PARTS {
            disk.fill();
            assert_eq!(write("no").unwrap_err().kind(), io::ErrorKind::StorageFull);
            disk.fill();
            reserve.with_room(|| write(&format!("state-{n}"))).unwrap();
            assert!(!reserve.is_whole());
        }
        disk.fill();
        reserve.make_whole().unwrap();
        assert!(reserve.with_room(|| write("more")).is_err());
        drop(reserve);

        // Whoever comes next, on a disk that is still full, has none, and takes it when there is room.
        let next = Reserve::hold(disk.path()).unwrap();
        assert!(!next.is_whole());
        disk.drain();
        next.make_whole().unwrap();
        assert!(next.is_whole());
        assert_eq!(disk.held(), 2 << 20);
    }

    #[test]
    fn what_is_allocated_ahead_is_nobody_elses() {
        let Some(disk) = Disk::mount() else { return };
        let path = disk.path().join("log");
        let mut log = File::create(&path).unwrap();
        disk.fill();
        assert!(!allocate_ahead(&log).unwrap());
        disk.drain();
        assert!(allocate_ahead(&log).unwrap() && allocate_ahead(&log).unwrap());
        assert_eq!(log.metadata().unwrap().len(), 0);
        disk.fill();
        for _ in 0..500 {
            io::Write::write_all(&mut log, &[7; 4096]).unwrap();
        }
    }

    #[test]
    fn other_failures_take_nothing_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::hold(dir.path()).unwrap();
        let denied = || Err::<(), _>(io::Error::from(io::ErrorKind::PermissionDenied));
        assert!(reserve.with_room(denied).is_err());
        assert!(reserve.is_whole());
        assert!(Reserve::none().is_whole() && !Reserve::none().give());
    }
}
