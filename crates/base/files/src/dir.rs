//! A directory held by descriptor, and all that may be done below it.
//!
//! **Invariant:** nothing here leaves the directory, whatever names were put into it, and however they
//! are exchanged while it works. There are two ways in, and no third:
//!
//! * A *path* (`inside`, `read_inside`, `make_dirs`) is resolved by one `openat2` with
//!   `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`: the kernel takes the directory for `/`, so that
//!   neither `..` nor a link leads out, and it does so in one call, so that nobody comes between.
//! * A *name* is one component of the directory itself, used with its descriptor and never followed.
//!   What is made is made anew; what is opened is looked at by its descriptor before it is used, so that
//!   neither a device nor a pipe is ever opened.
//!
//! What is made gets its mode by descriptor: the process's mask has no say.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    self as sys, AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Stat, Uid,
};
use rustix::io::Errno;

use crate::limits::{LOOKUPS_MAX, NAME_BYTES_MAX, REMOVE_DEPTH_MAX};

/// What a name means, if it is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Symlink,
    CharDevice,
    BlockDevice,
    /// A pipe, a socket, or what a later kernel brings.
    Other,
}

impl From<FileType> for Kind {
    fn from(kind: FileType) -> Self {
        match kind {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Symlink,
            FileType::CharacterDevice => Self::CharDevice,
            FileType::BlockDevice => Self::BlockDevice,
            FileType::Fifo | FileType::Socket | FileType::Unknown => Self::Other,
        }
    }
}

/// What is under a name of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    pub kind: Kind,
    /// With the set-user-id, set-group-id and sticky bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub device: u64,
    pub inode: u64,
    /// Of a device.
    pub rdev: u64,
}

impl From<Stat> for Named {
    fn from(stat: Stat) -> Self {
        Self {
            kind: FileType::from_raw_mode(stat.st_mode).into(),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            device: stat.st_dev,
            inode: stat.st_ino,
            rdev: stat.st_rdev,
        }
    }
}

/// A directory.
#[derive(Debug)]
pub struct Dir(OwnedFd);

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Dir {
    /// Opens a directory by a path that is trusted as a whole: one of ours, or one that the operator
    /// named.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(sys::openat(CWD, path, flags, Mode::empty())?))
    }

    /// Takes a descriptor, which must be a directory's: a mount that is attached nowhere.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let dir = Self(fd);
        match dir.look_at_self()?.kind {
            Kind::Directory => Ok(dir),
            _ => Err(Errno::NOTDIR.into()),
        }
    }

    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Opens a directory below this one, which is `/` to every link on the way.
    pub fn inside(&self, path: &Path) -> io::Result<Self> {
        Ok(Self(self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY)?))
    }

    /// The same; nothing if no directory is there.
    pub fn inside_if_any(&self, path: &Path) -> io::Result<Option<Self>> {
        match self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(fd) => Ok(Some(Self(fd))),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits until no other process or thread holds this directory's lock, and takes it as long as the
    /// handle lives. Only for a directory that no container sees, which could hold it for ever.
    pub fn lock(&self) -> io::Result<()> {
        Ok(rustix::io::retry_on_intr(|| sys::flock(&self.0, sys::FlockOperation::LockExclusive))?)
    }

    /// Reads up to `bytes_max` of a file below this directory; nothing if there is no such file, or if
    /// it is anything else than a plain file.
    pub fn read_inside(&self, path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        let handle = match self.resolve(path, OFlags::PATH) {
            Ok(handle) => handle,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let Some(file) = open_plain(&handle)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(bytes_max).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Makes `path` and its parents where they are missing, with `mode`, and opens it.
    pub fn make_dirs(&self, path: &Path, mode: u32) -> io::Result<Self> {
        let mut done = PathBuf::from("/");
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            let parent = self.inside(&done)?;
            done.push(name);
            match self.resolve(&done, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(_) => {}
                Err(Errno::NOENT) => match parent.make_dir(name, mode) {
                    // A link to nowhere, where nothing sensible can be made, or made just now.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        self.resolve(&done, OFlags::PATH | OFlags::DIRECTORY)?;
                    }
                    made => drop(made?),
                },
                Err(errno) => return Err(errno.into()),
            }
        }
        self.inside(&done)
    }

    fn resolve(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        again(|| sys::openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve))
    }

    /// The names in this directory, without `.` and `..`, as they come.
    pub fn names(&self) -> io::Result<Names> {
        Ok(Names(sys::Dir::read_from(&self.0)?))
    }

    pub fn is_empty(&self) -> io::Result<bool> {
        self.names()?.next().transpose().map(|name| name.is_none())
    }

    /// What the directory itself is.
    pub fn look_at_self(&self) -> io::Result<Named> {
        Ok(sys::fstat(&self.0)?.into())
    }

    /// What is under a name.
    pub fn look_at(&self, name: &OsStr) -> io::Result<Option<Named>> {
        match sys::statat(&self.0, single(name)?, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat.into())),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Opens the directory of that name. A link is none.
    pub fn dir(&self, name: &OsStr) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(sys::openat(&self.0, single(name)?, flags, Mode::empty())?))
    }

    /// Makes a directory that was not there, and opens it.
    pub fn make_dir(&self, name: &OsStr, mode: u32) -> io::Result<Self> {
        sys::mkdirat(&self.0, single(name)?, Mode::from_raw_mode(0o700))?;
        let dir = self.dir(name)?;
        dir.set_mode(mode)?;
        Ok(dir)
    }

    /// Opens the directory of that name, and makes it if it is missing.
    pub fn dir_or_make(&self, name: &OsStr, mode: u32) -> io::Result<Self> {
        match self.make_dir(name, mode) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.dir(name),
            made => made,
        }
    }

    /// Makes a file that was not there, to be written by this process only until it is given a mode.
    pub fn create_file(&self, name: &OsStr) -> io::Result<File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = sys::openat(&self.0, single(name)?, flags, Mode::from_raw_mode(0o600))?;
        Ok(File::from(fd))
    }

    /// Opens a plain file to read it; nothing if there is none of that name, or anything else.
    pub fn open_file(&self, name: &OsStr) -> io::Result<Option<File>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match sys::openat(&self.0, single(name)?, flags, Mode::empty()) {
            Ok(handle) => open_plain(&handle),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Where a link of that name points to.
    pub fn read_link(&self, name: &OsStr) -> io::Result<OsString> {
        let target = sys::readlinkat(&self.0, single(name)?, Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    pub fn symlink(&self, name: &OsStr, target: &OsStr) -> io::Result<()> {
        Ok(sys::symlinkat(target, &self.0, single(name)?)?)
    }

    /// Changes the owner of what the name means; of a link's own if it is one.
    pub fn set_owner_of(&self, name: &OsStr, uid: u32, gid: u32) -> io::Result<()> {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        Ok(sys::chownat(&self.0, single(name)?, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    pub fn set_owner(&self, uid: u32, gid: u32) -> io::Result<()> {
        Ok(sys::fchown(&self.0, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?)
    }

    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        Ok(sys::fchmod(&self.0, Mode::from_raw_mode(mode & 0o7777))?)
    }

    /// Moves what has the name to another name, where nothing may be yet.
    pub fn move_to(&self, name: &OsStr, to: &Self, to_name: &OsStr) -> io::Result<()> {
        let flags = RenameFlags::NOREPLACE;
        Ok(sys::renameat_with(&self.0, single(name)?, &to.0, single(to_name)?, flags)?)
    }

    /// Removes what has the name, with all that is in it if it is a directory; nothing is fine. It
    /// crosses no mount. What fails does not keep the rest from going.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        let name = single(name)?;
        let mut sweep = Sweep::default();
        loop {
            match sys::unlinkat(&self.0, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                Err(Errno::ISDIR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let before = sweep.removed;
            match self.dir_of_this_mount(name) {
                Ok(dir) => dir.empty(&dir, 0, &mut sweep)?,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(errno) => return Err(errno.into()),
            }
            match sys::unlinkat(&self.0, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                // What lay deep is now further up, or somebody still adds to it.
                Err(Errno::NOTEMPTY) if sweep.removed > before => {}
                Err(errno) => return Err(sweep.failure.unwrap_or(errno).into()),
            }
        }
    }

    /// Removes all that is in this directory, and keeps it.
    pub fn clear(&self) -> io::Result<()> {
        let mut sweep = Sweep::default();
        loop {
            let before = sweep.removed;
            self.empty(self, 0, &mut sweep)?;
            if self.is_empty()? {
                return Ok(());
            }
            if sweep.removed == before {
                return Err(sweep.failure.unwrap_or(Errno::NOTEMPTY).into());
            }
        }
    }

    fn dir_of_this_mount(&self, name: &OsStr) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        again(|| sys::openat2(&self.0, name, flags, Mode::empty(), resolve)).map(Self)
    }

    /// One round of removing what is in here. A directory that lies too deep is moved up to `top` for
    /// the next round: whoever made the tree does not decide how many descriptors we hold.
    fn empty(&self, top: &Self, depth: usize, sweep: &mut Sweep) -> io::Result<()> {
        for name in self.names()? {
            let name = name?;
            match sys::unlinkat(&self.0, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => sweep.removed += 1,
                Err(Errno::ISDIR) => self.empty_dir(&name, top, depth, sweep)?,
                Err(errno) => sweep.failed(errno),
            }
        }
        Ok(())
    }

    fn empty_dir(
        &self,
        name: &OsStr,
        top: &Self,
        depth: usize,
        sweep: &mut Sweep,
    ) -> io::Result<()> {
        if depth >= REMOVE_DEPTH_MAX {
            let up = OsString::from(format!(".deep-{}", sweep.removed));
            match self.move_to(name, top, &up) {
                Ok(()) => sweep.removed += 1,
                Err(error) => sweep.failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
            }
            return Ok(());
        }
        match self.dir_of_this_mount(name) {
            Ok(dir) => dir.empty(top, depth + 1, sweep)?,
            // Exchanged for something else meanwhile; the next round sees to it.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(errno) => {
                sweep.failed(errno);
                return Ok(());
            }
        }
        match sys::unlinkat(&self.0, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => sweep.removed += 1,
            Err(errno) => sweep.failed(errno),
        }
        Ok(())
    }
}

/// What became of a removal so far.
#[derive(Default)]
struct Sweep {
    removed: u64,
    /// The first.
    failure: Option<Errno>,
}

impl Sweep {
    fn failed(&mut self, errno: Errno) {
        self.failure.get_or_insert(errno);
    }
}

/// Names of a directory.
#[derive(Debug)]
pub struct Names(sys::Dir);

impl Iterator for Names {
    type Item = io::Result<OsString>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.0.next()? {
                Ok(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
                Ok(entry) => {
                    return Some(Ok(OsStr::from_bytes(entry.file_name().to_bytes()).to_owned()));
                }
                Err(errno) => return Some(Err(errno.into())),
            }
        }
    }
}

/// Removes a directory that a trusted path leads to, with all that is in it; a missing one is fine.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path has no name"));
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    match Dir::open(parent) {
        Ok(parent) => parent.remove(name),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Opens what a handle holds to read it, if it is a plain file. By way of the handle, so that it is
/// the very file that was looked at.
fn open_plain(handle: &OwnedFd) -> io::Result<Option<File>> {
    if FileType::from_raw_mode(sys::fstat(handle)?.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(Some(File::from(sys::openat(CWD, path, flags, Mode::empty())?)))
}

/// A name that means something in the directory itself and nowhere else.
fn single(name: &OsStr) -> io::Result<&OsStr> {
    let bytes = name.as_bytes();
    let is_plain = !matches!(bytes, b"" | b"." | b"..")
        && bytes.len() <= NAME_BYTES_MAX
        && !bytes.iter().any(|byte| matches!(byte, b'/' | 0));
    if is_plain {
        return Ok(name);
    }
    let why = format!("{name:?} is no name of one file");
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

/// The kernel gives up a lookup that a rename elsewhere may have led astray.
fn again<T>(lookup: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
    let mut lookups = 0;
    loop {
        match lookup() {
            Err(Errno::AGAIN | Errno::INTR) if lookups < LOOKUPS_MAX => lookups += 1,
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn name(text: &str) -> &OsStr {
        OsStr::new(text)
    }

    #[test]
    fn no_symlink_leads_out_of_the_root() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        symlink(outside.path().join("passwd"), dir.path().join("etc/passwd")).unwrap();
        symlink("../../../../../etc/hostname", dir.path().join("etc/group")).unwrap();
        symlink("/proc/self/root/etc/hostname", dir.path().join("etc/magic")).unwrap();
        symlink(outside.path(), dir.path().join("escape")).unwrap();
        symlink("/", dir.path().join("x")).unwrap();
        let root = Dir::open(dir.path()).unwrap();
        for path in ["/etc/passwd", "/etc/group", "/etc/magic", "x/etc/hostname", "/x/x/proc/stat"]
        {
            assert_eq!(root.read_inside(Path::new(path), 100).unwrap(), None, "{path}");
        }
        assert!(
            root.inside(&Path::new("x").join(outside.path().strip_prefix("/").unwrap())).is_err()
        );
        assert!(root.make_dirs(Path::new("/escape/made"), 0o755).is_err());
        assert!(!outside.path().join("made").exists());
        assert!(root.dir(name("escape")).is_err());
        assert!(root.open_file(name("escape")).unwrap().is_none());
    }

    #[test]
    fn only_single_names_are_names() {
        let dir = tempfile::tempdir().unwrap();
        let root = Dir::open(dir.path()).unwrap();
        for bad in ["", ".", "..", "a/b", "/a", "a\0b", &"x".repeat(256)] {
            assert!(root.dir(name(bad)).is_err(), "{bad}");
            assert!(root.create_file(name(bad)).is_err(), "{bad}");
            assert!(root.remove(name(bad)).is_err(), "{bad}");
            assert!(root.symlink(name(bad), name("x")).is_err(), "{bad}");
        }
    }

    #[test]
    fn missing_directories_are_made_and_present_ones_kept() {
        let dir = tempfile::tempdir().unwrap();
        let root = Dir::open(dir.path()).unwrap();
        root.make_dirs(Path::new("/a/b/../c"), 0o755).unwrap();
        root.make_dirs(Path::new("/a/b"), 0o700).unwrap();
        let mode =
            |path: &str| fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("a"), mode("a/b")), (0o755, 0o755));
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(root.make_dirs(Path::new("/file/below"), 0o755).is_err());
        symlink("nowhere", dir.path().join("dangling")).unwrap();
        assert!(root.make_dirs(Path::new("/dangling"), 0o755).is_err());
    }

    #[test]
    fn pipes_and_links_are_no_files_to_read_and_what_is_made_is_new() {
        let dir = tempfile::tempdir().unwrap();
        let root = Dir::open(dir.path()).unwrap();
        sys::mknodat(&root, "pipe", FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        assert!(root.open_file(name("pipe")).unwrap().is_none());
        assert_eq!(root.read_inside(Path::new("pipe"), 1).unwrap(), None);
        fs::write(dir.path().join("there"), "old").unwrap();
        symlink("there", dir.path().join("link")).unwrap();
        assert!(root.create_file(name("there")).is_err());
        assert!(root.create_file(name("link")).is_err());
        assert!(root.make_dir(name("link"), 0o755).is_err());
        assert_eq!(root.read_link(name("link")).unwrap(), "there");
        assert_eq!(fs::read_to_string(dir.path().join("there")).unwrap(), "old");
        let text = root.open_file(name("there")).unwrap().map(io::read_to_string);
        assert_eq!(text.unwrap().unwrap(), "old");
    }

    #[test]
    fn a_tree_goes_however_deep_it_is_and_what_its_links_mean_stays() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let root = Dir::open(dir.path()).unwrap();
        let mut at = root.make_dir(name("tree"), 0o700).unwrap();
        for _ in 0..3000 {
            at.symlink(name("out"), outside.path().as_os_str()).unwrap();
            at.create_file(name("file")).unwrap();
            at = at.make_dir(name("d"), 0o700).unwrap();
        }
        root.remove(name("tree")).unwrap();
        assert!(root.is_empty().unwrap());
        assert!(outside.path().join("kept").exists());
        root.remove(name("tree")).unwrap();
        remove_tree(&dir.path().join("none/below")).unwrap();
    }

    #[test]
    fn a_directory_is_cleared_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let root = Dir::open(dir.path()).unwrap();
        root.make_dirs(Path::new("a/b"), 0o700).unwrap();
        root.create_file(name("c")).unwrap();
        root.clear().unwrap();
        assert!(root.is_empty().unwrap() && dir.path().is_dir());
    }
}
