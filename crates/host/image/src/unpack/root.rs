//! Puts files below a directory that no path can leave.
//!
//! Each path's parent is opened by [`Dir::inside`]: the kernel takes the layer's directory for `/`, so
//! that neither `..` nor a symbolic link, however it was made, leads outside.
//! The last component is always used with the parent's descriptor and never followed.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use files::Dir;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fchown,
    fsetxattr, futimens, linkat, makedev, mknodat, readlinkat, symlinkat, syncfs, utimensat,
};
use rustix::io::Errno;

use super::entries::{Entry, Kind, Time};
use super::{LayerError, Ownership};

/// Of a directory that the archive does not mention.
const DIR_MODE: u32 = 0o755;
/// The longest path that is looked at, as the kernel's own.
const PATH_BYTES_MAX: usize = 4096;
/// How many links to directories that are not there yet one path may lead through.
const LINK_HOPS_MAX: u32 = 8;

/// A path below the layer's root, taken apart: no empty component, no `.`, no `..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    components: Vec<Vec<u8>>,
}

impl Place {
    pub(super) fn root() -> Self {
        Self { components: Vec::new() }
    }

    /// Nothing if it is the root itself.
    pub(super) fn parse(path: &[u8]) -> Result<Option<Self>, LayerError> {
        let refuse = |why| {
            let path = PathBuf::from(OsStr::from_bytes(&path[..path.len().min(256)]));
            Err(LayerError::UnsafePath { path, why })
        };
        if path.len() > PATH_BYTES_MAX {
            return refuse("it is too long");
        }
        if path.contains(&0) {
            return refuse("it contains a zero byte");
        }
        let mut components = Vec::new();
        for component in path.split(|b| *b == b'/') {
            match component {
                b"" | b"." => {}
                b".." => return refuse("it climbs out of its directory"),
                name => components.push(name.to_vec()),
            }
        }
        Ok(if components.is_empty() { None } else { Some(Self { components }) })
    }

    pub(super) fn name(&self) -> &[u8] {
        self.components.last().map_or(&[], Vec::as_slice)
    }

    pub(super) fn parents(&self) -> impl Iterator<Item = &[u8]> {
        let count = self.components.len().saturating_sub(1);
        self.components[..count].iter().map(Vec::as_slice)
    }

    /// Another name in the same directory.
    pub(super) fn sibling(&self, name: &[u8]) -> Result<Self, LayerError> {
        if matches!(name, b"" | b"." | b"..") {
            let why = "it hides no file";
            return Err(LayerError::UnsafePath { path: self.to_path(), why });
        }
        let mut components = self.components.clone();
        components.pop();
        components.push(name.to_vec());
        Ok(Self { components })
    }

    pub(super) fn to_path(&self) -> PathBuf {
        join(&self.components)
    }

    fn parent_path(&self) -> PathBuf {
        join(&self.components[..self.components.len().saturating_sub(1)])
    }

    fn os_name(&self) -> &OsStr {
        OsStr::from_bytes(self.name())
    }
}

fn join(components: &[Vec<u8>]) -> PathBuf {
    if components.is_empty() {
        return PathBuf::from(".");
    }
    PathBuf::from(OsStr::from_bytes(&components.join(&b'/')))
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(Errno) -> LayerError {
    move |errno| LayerError::io(doing, path)(io::Error::from(errno))
}

/// The directory that a layer is unpacked into.
pub(super) struct LayerRoot {
    dir: Dir,
    ownership: Ownership,
    /// The directory of the last entry: the next one mostly is its neighbour.
    last: Option<(PathBuf, Dir)>,
}

impl LayerRoot {
    pub(super) fn open(dir: &Path, ownership: Ownership) -> Result<Self, LayerError> {
        let root = Dir::open(dir).map_err(LayerError::io("open", dir))?;
        // A layer that says nothing of its root has one that all may enter, whatever our mask is.
        root.set_mode(DIR_MODE).map_err(LayerError::io("open up", dir))?;
        Ok(Self { dir: root, ownership, last: None })
    }

    /// Opens a directory with the layer as its root.
    fn resolve(&self, path: &Path) -> Result<Dir, Errno> {
        self.dir.inside(path).map_err(errno)
    }

    /// The directory that `place` is in, made if the archive did not mention it.
    fn parent(&mut self, place: &Place) -> Result<Dir, LayerError> {
        let path = place.parent_path();
        if let Some((known, fd)) = &self.last
            && *known == path
        {
            return fd.try_clone().map_err(LayerError::io("open", &path));
        }
        let fd = match self.resolve(&path) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => self.make_parents(place, 0)?,
            Err(errno) => return Err(failed("open", &path)(errno)),
        };
        let copy = fd.try_clone().map_err(LayerError::io("open", &path))?;
        self.last = Some((path, copy));
        Ok(fd)
    }

    fn make_parents(&mut self, place: &Place, hops: u32) -> Result<Dir, LayerError> {
        let mut fd = self.resolve(Path::new(".")).map_err(failed("open", Path::new("/")))?;
        for depth in 1..place.components.len() {
            let step = Place { components: place.components[..depth].to_vec() };
            let path = step.to_path();
            fd = match self.resolve(&path) {
                Ok(next) => next,
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    if self.look_at(&fd, &step)? == Some(files::Kind::Symlink) {
                        self.make_link_target(&fd, &step, hops)?;
                    } else {
                        self.put_directory(&fd, &step)?;
                    }
                    self.resolve(&path).map_err(failed("open", &path))?
                }
                Err(errno) => return Err(failed("open", &path)(errno)),
            };
        }
        Ok(fd)
    }

    /// Makes the directory that a link among a path's parents points to: the layer has `lib` as a
    /// link to `usr/lib`, puts a file into `lib`, and `usr/lib` itself is in a lower layer.
    fn make_link_target(
        &mut self,
        parent: &Dir,
        link: &Place,
        hops: u32,
    ) -> Result<(), LayerError> {
        if hops >= LINK_HOPS_MAX {
            let why = "it leads through too many symbolic links";
            return Err(LayerError::UnsafePath { path: link.to_path(), why });
        }
        let target = readlinkat(parent, link.os_name(), Vec::new())
            .map_err(failed("read the symbolic link", &link.to_path()))?;
        let target = target.as_bytes();
        let mut components = if target.starts_with(b"/") {
            Vec::new()
        } else {
            link.parents().map(<[u8]>::to_vec).collect()
        };
        for component in target.split(|b| *b == b'/') {
            match component {
                b"" | b"." => {}
                // As in a real root, nothing is above it.
                b".." => drop(components.pop()),
                name => components.push(name.to_vec()),
            }
        }
        // `make_parents` makes all but the last component, which is never looked at.
        components.push(b"x".to_vec());
        self.make_parents(&Place { components }, hops + 1).map(drop)
    }

    /// Makes a directory, or keeps the one that is there; whatever else is there gives way.
    fn put_directory(&mut self, parent: &Dir, place: &Place) -> Result<(), LayerError> {
        let path = place.to_path();
        let make = || parent.make_dir(place.os_name(), DIR_MODE);
        match make() {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(LayerError::io("create", &path)(error)),
        }
        let found = self.look_at(parent, place)?;
        if found == Some(files::Kind::Directory) {
            return Ok(());
        }
        let was_whiteout = found == Some(files::Kind::CharDevice);
        self.clear(parent, place)?;
        make().map_err(LayerError::io("create", &path))?;
        if was_whiteout { self.set_opaque(parent, place) } else { Ok(()) }
    }

    fn look_at(&self, parent: &Dir, place: &Place) -> Result<Option<files::Kind>, LayerError> {
        let found = parent.look_at(place.os_name());
        let found = found.map_err(LayerError::io("look at", &place.to_path()))?;
        Ok(found.map(|found| found.kind))
    }

    /// Removes what an entry of the same name replaces.
    fn clear(&mut self, parent: &Dir, place: &Place) -> Result<(), LayerError> {
        self.last = None;
        parent.remove(place.os_name()).map_err(LayerError::io("replace", &place.to_path()))
    }

    /// Does `make`, after removing what was there if something was.
    fn put(
        &mut self,
        place: &Place,
        doing: &'static str,
        make: impl Fn(BorrowedFd<'_>, &OsStr) -> Result<(), Errno>,
    ) -> Result<Dir, LayerError> {
        let parent = self.parent(place)?;
        let mut made = make(parent.as_fd(), place.os_name());
        if made == Err(Errno::EXIST) {
            self.clear(&parent, place)?;
            made = make(parent.as_fd(), place.os_name());
        }
        made.map_err(failed(doing, &place.to_path()))?;
        Ok(parent)
    }

    pub(super) fn create_file(&mut self, place: &Place) -> Result<File, LayerError> {
        let parent = self.parent(place)?;
        let mut created = parent.create_file(place.os_name());
        if created.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists) {
            self.clear(&parent, place)?;
            created = parent.create_file(place.os_name());
        }
        created.map_err(LayerError::io("create", &place.to_path()))
    }

    pub(super) fn decorate_file(
        &self,
        fd: BorrowedFd<'_>,
        entry: &Entry,
        place: &Place,
    ) -> Result<(), LayerError> {
        let path = place.to_path();
        self.decorate(fd, entry, &path)?;
        futimens(fd, &times(entry.mtime)).map_err(failed("set the times of", &path))
    }

    /// Owner first, because changing it drops set-user-id bits and capabilities.
    fn decorate(&self, fd: BorrowedFd<'_>, entry: &Entry, path: &Path) -> Result<(), LayerError> {
        if self.ownership == Ownership::Keep {
            let (uid, gid) = owner(entry);
            fchown(fd, uid, gid).map_err(failed("set the owner of", path))?;
        }
        fchmod(fd, Mode::from_raw_mode(entry.mode)).map_err(failed("set the mode of", path))?;
        for (name, value) in &entry.xattrs {
            if !self.takes_xattr(name) {
                continue;
            }
            match fsetxattr(fd, OsStr::from_bytes(name), value, XattrFlags::empty()) {
                // A file system without such attributes; only capabilities are worth failing for.
                Err(Errno::NOTSUP) if name != b"security.capability" => {}
                result => result.map_err(failed("set an attribute of", path))?,
            }
        }
        Ok(())
    }

    /// Never those by which overlayfs itself is told things.
    fn takes_xattr(&self, name: &[u8]) -> bool {
        let is_plain = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
        let is_privileged = name == b"security.capability"
            || name == b"system.posix_acl_access"
            || name == b"system.posix_acl_default";
        is_plain || (is_privileged && self.ownership == Ownership::Keep)
    }

    pub(super) fn decorate_root(&self, entry: &Entry) -> Result<(), LayerError> {
        self.decorate(self.dir.as_fd(), entry, Path::new("/"))
    }

    pub(super) fn create_directory(
        &mut self,
        place: &Place,
        entry: &Entry,
    ) -> Result<(), LayerError> {
        let parent = self.parent(place)?;
        self.put_directory(&parent, place)?;
        let fd = open_directory(&parent, place)?;
        self.decorate(fd.as_fd(), entry, &place.to_path())
    }

    pub(super) fn set_directory_time(&self, place: &Place, mtime: Time) -> Result<(), LayerError> {
        let path = place.to_path();
        let fd = match self.resolve(&path) {
            Ok(fd) => fd,
            // Another entry of the archive replaced it.
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(errno) => return Err(failed("open", &path)(errno)),
        };
        futimens(&fd, &times(mtime)).map_err(failed("set the times of", &path))
    }

    pub(super) fn create_symlink(
        &mut self,
        place: &Place,
        entry: &Entry,
    ) -> Result<(), LayerError> {
        if entry.link.is_empty() || entry.link.contains(&0) {
            let why = "it is a symbolic link to nowhere";
            return Err(LayerError::UnsafePath { path: place.to_path(), why });
        }
        let target = OsStr::from_bytes(&entry.link);
        let parent =
            self.put(place, "create the symbolic link", |fd, name| symlinkat(target, fd, name))?;
        // A cached directory may now be reached by another way.
        self.last = None;
        self.decorate_unfollowed(parent.as_fd(), place, entry)
    }

    pub(super) fn create_hard_link(
        &mut self,
        place: &Place,
        target: &[u8],
    ) -> Result<(), LayerError> {
        let missing = || LayerError::LinkTarget {
            path: place.to_path(),
            target: PathBuf::from(OsStr::from_bytes(target)),
        };
        let from = Place::parse(target)?.ok_or_else(missing)?;
        if from == *place {
            return Ok(());
        }
        let from_dir = match self.resolve(&from.parent_path()) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(missing()),
            Err(errno) => return Err(failed("open", &from.parent_path())(errno)),
        };
        match self.look_at(&from_dir, &from)? {
            None | Some(files::Kind::Directory) => return Err(missing()),
            Some(_) => {}
        }
        self.put(place, "link", |fd, name| {
            linkat(&from_dir, from.os_name(), fd, name, AtFlags::empty())
        })?;
        Ok(())
    }

    pub(super) fn create_node(&mut self, place: &Place, entry: &Entry) -> Result<(), LayerError> {
        let kind = match entry.kind {
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            Kind::Fifo | Kind::File | Kind::Directory | Kind::Symlink | Kind::HardLink => {
                FileType::Fifo
            }
        };
        let device =
            if kind == FileType::Fifo { 0 } else { makedev(entry.device.0, entry.device.1) };
        let mode = Mode::from_raw_mode(entry.mode);
        let parent =
            self.put(place, "create the device", |fd, name| mknodat(fd, name, kind, mode, device))?;
        self.decorate_unfollowed(parent.as_fd(), place, entry)?;
        // The process's mask cut the mode above.
        rustix::fs::chmodat(&parent, place.os_name(), mode, AtFlags::empty())
            .map_err(failed("set the mode of", &place.to_path()))
    }

    fn decorate_unfollowed(
        &self,
        parent: BorrowedFd<'_>,
        place: &Place,
        entry: &Entry,
    ) -> Result<(), LayerError> {
        let path = place.to_path();
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if self.ownership == Ownership::Keep {
            let (uid, gid) = owner(entry);
            chownat(parent, place.os_name(), uid, gid, flags)
                .map_err(failed("set the owner of", &path))?;
        }
        utimensat(parent, place.os_name(), &times(entry.mtime), flags)
            .map_err(failed("set the times of", &path))
    }

    /// Hides what lower layers have under this name: a character device 0:0, as overlayfs wants it.
    pub(super) fn white_out(&mut self, place: &Place) -> Result<(), LayerError> {
        let parent = self.parent(place)?;
        match self.look_at(&parent, place)? {
            // The layer brought its own already, which hides the lower one except for directories.
            Some(files::Kind::Directory) => return self.set_opaque(&parent, place),
            Some(_) => return Ok(()),
            None => {}
        }
        let mode = Mode::empty();
        mknodat(&parent, place.os_name(), FileType::CharacterDevice, mode, makedev(0, 0))
            .map_err(failed("white out", &place.to_path()))
    }

    /// Hides all that lower layers have in the directory that `marker` lies in.
    pub(super) fn make_parent_opaque(&mut self, marker: &Place) -> Result<(), LayerError> {
        let fd = self.parent(marker)?;
        self.mark_opaque(fd.as_fd(), &marker.parent_path())
    }

    fn set_opaque(&self, parent: &Dir, place: &Place) -> Result<(), LayerError> {
        let fd = open_directory(parent, place)?;
        self.mark_opaque(fd.as_fd(), &place.to_path())
    }

    fn mark_opaque(&self, fd: BorrowedFd<'_>, path: &Path) -> Result<(), LayerError> {
        let name = match self.ownership {
            Ownership::Keep => "trusted.overlay.opaque",
            Ownership::Ignore => "user.overlay.opaque",
        };
        fsetxattr(fd, name, b"y", XattrFlags::empty()).map_err(failed("make opaque", path))
    }

    pub(super) fn sync(&self) -> Result<(), LayerError> {
        syncfs(&self.dir).map_err(failed("sync", Path::new("/")))
    }
}

fn open_directory(parent: &Dir, place: &Place) -> Result<Dir, LayerError> {
    parent.dir(place.os_name()).map_err(LayerError::io("open", &place.to_path()))
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

fn owner(entry: &Entry) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
}

fn times(mtime: Time) -> Timestamps {
    let at = Timespec { tv_sec: mtime.seconds, tv_nsec: i64::from(mtime.nanos) };
    Timestamps { last_access: at, last_modification: at }
}
