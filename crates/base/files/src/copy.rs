//! Copies what a directory holds into another, through descriptors on both sides.
//!
//! **Invariant:** no name is followed, on either side: what is read was looked at by its descriptor,
//! and what is written was made by the copy. Plain files, directories and links are copied, with owner,
//! mode and the attributes that containers may have; devices, pipes and sockets are not.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{self as sys, XattrFlags};
use rustix::io::Errno;

use crate::dir::{Dir, Kind, Named};
use crate::limits::{COPY_DEPTH_MAX, XATTR_BYTES_MAX};

/// Copies all that is in `from` into `to`, where none of it may be yet, and `from`'s own owner and
/// mode.
pub fn tree(from: &Dir, to: &Dir) -> io::Result<()> {
    tree_at(from, to, 0)
}

fn tree_at(from: &Dir, to: &Dir, depth: usize) -> io::Result<()> {
    for name in from.names()? {
        entry_at(from, &name?, to, depth)?;
    }
    attributes(from, from.look_at_self()?, to)
}

/// Copies what has that name in `from` into `to`, where nothing may have it yet.
pub fn entry(from: &Dir, name: &OsStr, to: &Dir) -> io::Result<()> {
    entry_at(from, name, to, 0)
}

fn entry_at(from: &Dir, name: &OsStr, to: &Dir, depth: usize) -> io::Result<()> {
    if COPY_DEPTH_MAX <= depth {
        let why = format!("directories lie in each other more than {COPY_DEPTH_MAX} deep");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let Some(found) = from.look_at(name)? else { return Ok(()) };
    match found.kind {
        Kind::Directory => {
            let inner = from.dir(name)?;
            tree_at(&inner, &to.make_dir(name, 0o700)?, depth + 1)
        }
        Kind::File => {
            // None if it is no longer one.
            let Some(mut source) = from.open_file(name)? else { return Ok(()) };
            let mut copy = to.create_file(name)?;
            io::copy(&mut source, &mut copy)?;
            attributes(&source, sys::fstat(&source)?.into(), &copy)
        }
        Kind::Symlink => {
            to.symlink(name, &from.read_link(name)?)?;
            to.set_owner_of(name, found.uid, found.gid)
        }
        Kind::CharDevice | Kind::BlockDevice | Kind::Other => Ok(()),
    }
}

/// Gives `to` the owner, the mode and the extended attributes of `from`. The owner first: changing it
/// takes set-user-id bits and capabilities away.
pub fn attributes(from: impl AsFd, looks: Named, to: impl AsFd) -> io::Result<()> {
    let (from, to) = (from.as_fd(), to.as_fd());
    let (uid, gid) = (sys::Uid::from_raw(looks.uid), sys::Gid::from_raw(looks.gid));
    sys::fchown(to, Some(uid), Some(gid))?;
    sys::fchmod(to, sys::Mode::from_raw_mode(looks.mode))?;
    let mut names = vec![0; XATTR_BYTES_MAX];
    let length = match sys::flistxattr(from, &mut names[..]) {
        // A file system without them.
        Err(Errno::NOTSUP) => 0,
        length => length?,
    };
    let mut value = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| is_taken(name)) {
        value.resize(XATTR_BYTES_MAX, 0);
        let length = match sys::fgetxattr(from, name, &mut value[..]) {
            Err(Errno::NODATA) => continue,
            length => length?,
        };
        match sys::fsetxattr(to, name, &value[..length], XattrFlags::empty()) {
            Err(Errno::NOTSUP) if name != b"security.capability" => {}
            set => set?,
        }
    }
    Ok(())
}

/// Never those by which overlayfs itself is told things.
fn is_taken(name: &[u8]) -> bool {
    (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
        || name == b"security.capability"
        || name == b"system.posix_acl_access"
        || name == b"system.posix_acl_default"
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::path::Path;

    use rustix::fs::{FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn files_directories_and_links_are_copied_as_they_are_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("sub/program"), "text").unwrap();
        fs::set_permissions(from.join("sub/program"), fs::Permissions::from_mode(0o4755)).unwrap();
        fs::set_permissions(&from, fs::Permissions::from_mode(0o1777)).unwrap();
        symlink("/etc/passwd", from.join("link")).unwrap();
        let source = Dir::open(&from).unwrap();
        mknodat(&source, "pipe", FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        tree(&source, &Dir::open(&to).unwrap()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(&to), mode(&to.join("sub/program"))), (0o1777, 0o4755));
        assert_eq!(fs::read_to_string(to.join("sub/program")).unwrap(), "text");
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/etc/passwd"));
        assert!(!to.join("pipe").exists());
        let again = tree(&source, &Dir::open(&to).unwrap());
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_tree_that_is_too_deep_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = Dir::open(dir.path()).unwrap();
        let mut at = root.make_dir(OsStr::new("from"), 0o700).unwrap();
        for _ in 0..=COPY_DEPTH_MAX {
            at = at.make_dir(OsStr::new("d"), 0o700).unwrap();
        }
        let to = root.make_dir(OsStr::new("to"), 0o700).unwrap();
        let refused = tree(&root.dir(OsStr::new("from")).unwrap(), &to).unwrap_err();
        assert!(refused.to_string().contains("deep"), "{refused}");
    }
}
