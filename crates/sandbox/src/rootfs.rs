//! The container's root: an overlay of the image's layers, and safe ways into it from outside.
//!
//! **Invariant:** a path of the image is only ever opened with `openat2` and `RESOLVE_IN_ROOT`, so
//! that no symlink in it leads out of it.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, mkdirat};

use crate::error::{Doing, SandboxError};
use crate::spec::Rootfs;
use crate::sys::{self, FsContext};

/// Passwd and group files are read up to this.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Mounts the overlay at `target`, in the calling process's mount namespace.
pub(crate) fn mount_overlay(rootfs: &Rootfs, target: &Path) -> Result<(), SandboxError> {
    let (upper, work) = (rootfs.scratch.join("upper"), rootfs.scratch.join("work"));
    // An earlier container's: the kernel marks it as left by a mount that never synced, and refuses
    // it. The machine has not gone down since, or nobody would ask for these files again.
    match fs::remove_dir_all(&work) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).doing_at("remove", &work);
        }
        Ok(()) | Err(_) => {}
    }
    for dir in [&upper, &work] {
        fs::create_dir_all(dir).doing_at("create", dir)?;
    }
    let failed = |why: io::Error| SandboxError::Mount {
        source_path: rootfs.scratch.clone(),
        destination: PathBuf::from("/"),
        why: why.to_string(),
    };
    if rootfs.lower.is_empty() {
        let why = "the image has no layers".into();
        return Err(SandboxError::Invalid { what: "root filesystem".into(), why });
    }
    match mount_layer_by_layer(&rootfs.lower, &upper, &work, target) {
        // Kernels before 6.5 take the layers in one string only.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            mount_in_one_string(&rootfs.lower, &upper, &work, target).map_err(failed)
        }
        result => result.map_err(failed),
    }
}

/// One call a layer, so that neither their number nor the length of their paths is limited by a
/// page of options.
fn mount_layer_by_layer(
    lower: &[PathBuf],
    upper: &Path,
    work: &Path,
    target: &Path,
) -> io::Result<()> {
    let context = FsContext::open(c"overlay")?;
    context.string(c"source", c"overlay")?;
    for layer in lower.iter().rev() {
        context.string(c"lowerdir+", &terminated(layer)?)?;
    }
    context.string(c"upperdir", &terminated(upper)?)?;
    context.string(c"workdir", &terminated(work)?)?;
    // The writable layer dies with the container: nothing is gained by syncing it, and an unmount
    // would otherwise wait for every dirty page of the disk.
    context.flag(c"volatile")?;
    context.create()?;
    sys::attach_mount(&context.mount()?, &terminated(target)?)
}

fn mount_in_one_string(
    lower: &[PathBuf],
    upper: &Path,
    work: &Path,
    target: &Path,
) -> io::Result<()> {
    let lower: Vec<String> = lower.iter().rev().map(|layer| layer.display().to_string()).collect();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.join(":"),
        upper.display(),
        work.display()
    );
    mount(Some("overlay"), target, Some("overlay"), MsFlags::empty(), Some(options.as_str()))?;
    Ok(())
}

fn terminated(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// A root that is mounted, or any directory that shall be treated as one.
#[derive(Debug)]
pub(crate) struct Root(OwnedFd);

impl Root {
    pub(crate) fn open(path: &Path) -> Result<Self, SandboxError> {
        let dir = File::open(path).doing_at("open", path)?;
        Ok(Self(dir.into()))
    }

    /// A file of the image, if there is one.
    pub(crate) fn read(&self, path: &str) -> io::Result<Option<String>> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
        let file = match self.open_inside(Path::new(path), flags) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        if !file.metadata()?.is_file() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Makes `path` and its parents, where they are missing.
    pub(crate) fn make_dirs(&self, path: &Path) -> io::Result<()> {
        let mut done = PathBuf::from("/");
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            let parent = self.open_inside(&done, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
            done.push(name);
            match self.open_inside(&done, OFlag::O_PATH | OFlag::O_DIRECTORY) {
                Ok(_) => {}
                Err(Errno::ENOENT) => {
                    match mkdirat(&parent, name, Mode::from_bits_truncate(0o755)) {
                        // A dangling symlink: there is nothing sensible to make.
                        Err(Errno::EEXIST) => return Err(Errno::ENOENT.into()),
                        other => other?,
                    }
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn open_inside(&self, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(self.0.as_fd(), path, how)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn no_symlink_leads_out_of_the_root() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        symlink(outside.path().join("passwd"), dir.path().join("etc/passwd")).unwrap();
        symlink("../../../../../etc/hostname", dir.path().join("etc/group")).unwrap();
        symlink(outside.path(), dir.path().join("escape")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert_eq!(root.read("/etc/passwd").unwrap(), None);
        assert_eq!(root.read("/etc/group").unwrap(), None);
        assert!(root.make_dirs(Path::new("/escape/made")).is_err());
        assert!(!outside.path().join("made").exists());
    }

    #[test]
    fn missing_directories_are_made_and_present_ones_kept() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        root.make_dirs(Path::new("/a/b/../c")).unwrap();
        root.make_dirs(Path::new("/a/b")).unwrap();
        assert!(dir.path().join("a/b").is_dir());
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(root.make_dirs(Path::new("/file/below")).is_err());
    }
}
