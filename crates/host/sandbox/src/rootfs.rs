//! The container's root: an overlay of the image's layers, and safe ways into it from outside.
//!
//! **Invariant:** a path of the image is only ever opened by [`Dir`], so that no symlink in it leads
//! out of it.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ::files::{Dir, Kind};
use nix::mount::{MsFlags, mount};

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
    ::files::dir::remove_tree(&work).doing_at("remove", &work)?;
    fs::create_dir_all(&work).doing_at("create", &work)?;
    match fs::create_dir(&upper) {
        // It is the container's `/`, whatever our own mask is.
        Ok(()) => fs::set_permissions(&upper, fs::Permissions::from_mode(0o755))
            .doing_at("open up", &upper)?,
        // A restarted container's, who may have changed it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).doing_at("create", &upper),
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

/// Mounts an empty root at `target`, in the calling process's mount namespace.
pub(crate) fn mount_empty(target: &Path) -> Result<(), SandboxError> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), target, Some("tmpfs"), flags, Some("mode=755,size=64k"))
        .doing_at("mount an empty root at", target)
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

/// Makes sure that a path which the runtime uses by name is a directory of the root itself, or not
/// there: it puts devices and links below `/dev` by path, so that a link of that name would take them
/// to the host.
pub(crate) fn check_system_dirs(root: &Dir) -> Result<(), SandboxError> {
    for name in ["dev", "proc", "sys"] {
        let found = root.look_at(OsStr::new(name)).doing("look at the image's root")?;
        if found.is_some_and(|found| found.kind != Kind::Directory) {
            let what = format!("image: its /{name}");
            let why = "it must be a directory, or not be there".into();
            return Err(SandboxError::Invalid { what, why });
        }
    }
    Ok(())
}

/// A file of the image or of a running container, if there is one.
pub(crate) fn read(root: &Dir, path: &str) -> io::Result<Option<String>> {
    let bytes = root.read_inside(Path::new(path), FILE_BYTES_MAX)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// What an image has, as its containers see it, for whoever takes files out of it: its layers laid
/// over each other by overlayfs itself, mounted nowhere and read-only. It goes with the handle.
///
/// A layer by itself must not be asked: a link, a whiteout or a directory of another one may be what
/// counts.
pub fn merged(lower: &[PathBuf]) -> Result<Dir, SandboxError> {
    let (top, below) = match lower {
        [] => {
            let why = "the image has no layers".into();
            return Err(SandboxError::Invalid { what: "root filesystem".into(), why });
        }
        // Overlayfs wants two. Its whiteouts, of which a lowest layer needs none, are devices.
        [only] => return Dir::open(only).doing_at("open", only),
        [below @ .., top] => (top, below),
    };
    let mounted = |one_by_one: bool| -> io::Result<OwnedFd> {
        let context = FsContext::open(c"overlay")?;
        context.string(c"source", c"overlay")?;
        if one_by_one {
            for layer in std::iter::once(top).chain(below.iter().rev()) {
                context.string(c"lowerdir+", &terminated(layer)?)?;
            }
        } else {
            let layers = lower.iter().rev().map(|layer| layer.as_os_str().as_bytes());
            let layers = layers.collect::<Vec<_>>().join(&b':');
            context.string(c"lowerdir", &CString::new(layers).map_err(io::Error::other)?)?;
        }
        context.create()?;
        context.mount()
    };
    let mount = match mounted(true) {
        // Kernels before 6.5 take the layers in one string only.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => mounted(false),
        mounted => mounted,
    };
    mount.and_then(Dir::from_fd).doing("look into the image's layers")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn an_image_whose_system_directories_are_links_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = Dir::open(dir.path()).unwrap();
        check_system_dirs(&root).unwrap();
        fs::create_dir(dir.path().join("proc")).unwrap();
        check_system_dirs(&root).unwrap();
        symlink("/etc", dir.path().join("dev")).unwrap();
        let refused = check_system_dirs(&root).unwrap_err().to_string();
        assert!(refused.contains("/dev"), "{refused}");
    }
}
