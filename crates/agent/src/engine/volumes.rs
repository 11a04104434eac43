//! Volumes: directories on the host that containers share, or keep beyond a restart.

use std::collections::BTreeSet;
use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, chown, lchown, symlink};
use std::path::{Component, Path, PathBuf};

use sandbox::{ContainerSpec as RunSpec, Mount};

use crate::spec::{TaskSpec, VolumeSpec};
use crate::state_dir::StateDir;

/// What an image has at a volume's place, to be copied into it while it is empty.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    /// Lowest first.
    layers: Vec<PathBuf>,
    /// Relative to the image's root.
    path: PathBuf,
    to: PathBuf,
}

/// Makes the task's volumes; checks the shared ones.
pub(super) fn prepare(dirs: &StateDir, spec: &TaskSpec) -> Result<(), String> {
    for (name, volume) in &spec.volumes {
        let made = match volume {
            VolumeSpec::Task => fs::create_dir_all(task_volume(dirs, spec, name)),
            // Docker makes the directories of a bind mount that are missing.
            VolumeSpec::Host { path } => match fs::metadata(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir_all(path),
                _ => Ok(()),
            },
            VolumeSpec::Shared { name, autoprovision } => {
                let dir = dirs.shared().join(file_name(name));
                if !autoprovision && !dir.is_dir() {
                    return Err(format!(
                        "CannotCreateVolumeError: volume {name} does not exist, and its \
                         autoprovision is false"
                    ));
                }
                fs::create_dir_all(dir)
            }
            VolumeSpec::Unsupported { why } => {
                return Err(format!("CannotCreateVolumeError: volume {name}: {why}"));
            }
        };
        made.map_err(|error| format!("CannotCreateVolumeError: volume {name}: {error}"))?;
    }
    Ok(())
}

/// A volume's name may hold what a file name may not.
fn file_name(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    name.chars()
        .map(|c| if is_plain(c) { c.to_string() } else { format!("%{:x}", u32::from(c)) })
        .collect()
}

/// Where a volume that outlives tasks is.
pub(crate) fn shared_volume(dirs: &StateDir, name: &str) -> PathBuf {
    dirs.shared().join(file_name(name))
}

fn task_dir(dirs: &StateDir, spec: &TaskSpec) -> PathBuf {
    dirs.volumes().join(spec.arn.id.to_string())
}

fn task_volume(dirs: &StateDir, spec: &TaskSpec, name: &str) -> PathBuf {
    task_dir(dirs, spec).join(file_name(name))
}

/// All mounts of a container: its own, those of others it takes over, and its image's.
pub(super) fn mounts(
    dirs: &StateDir,
    spec: &TaskSpec,
    index: usize,
    image_volumes: impl Fn(usize) -> Vec<String>,
) -> Result<Vec<Mount>, String> {
    let mut mounts: Vec<Mount> = Vec::new();
    let mut add = |mount: Mount| {
        if !mounts.iter().any(|known| known.destination == mount.destination) {
            mounts.push(mount);
        }
    };
    own_mounts(dirs, spec, index)?.into_iter().for_each(&mut add);
    for from in &spec.containers[index].volumes_from {
        let theirs = own_mounts(dirs, spec, from.container)?;
        let image = anonymous(dirs, spec, from.container, &image_volumes(from.container))?;
        for mount in theirs.into_iter().chain(image) {
            add(Mount { readonly: mount.readonly || from.read_only, ..mount });
        }
    }
    anonymous(dirs, spec, index, &image_volumes(index))?.into_iter().for_each(&mut add);
    // A mount may lie within another: the outer ones come first.
    mounts.sort_by_key(|mount| mount.destination.components().count());
    Ok(mounts)
}

fn own_mounts(dirs: &StateDir, spec: &TaskSpec, index: usize) -> Result<Vec<Mount>, String> {
    let container = &spec.containers[index];
    let mut mounts = Vec::new();
    for mount in &container.mounts {
        let source = match spec.volumes.get(&mount.volume) {
            Some(VolumeSpec::Task) => task_volume(dirs, spec, &mount.volume),
            Some(VolumeSpec::Host { path }) => PathBuf::from(path),
            Some(VolumeSpec::Shared { name, .. }) => dirs.shared().join(file_name(name)),
            Some(VolumeSpec::Unsupported { why }) => return Err(format!("HostConfigError: {why}")),
            None => {
                return Err(format!(
                    "HostConfigError: Invalid volume referenced: {}",
                    mount.volume
                ));
            }
        };
        let destination = PathBuf::from(&mount.path);
        mounts.push(Mount { source, destination, readonly: mount.read_only });
    }
    for bind in &container.host.binds {
        let (source, destination) = (PathBuf::from(&bind.source), PathBuf::from(&bind.path));
        mounts.push(Mount { source, destination, readonly: bind.read_only });
    }
    Ok(mounts)
}

/// A volume of its own for each path that the image declares, unless something is mounted there.
fn anonymous(
    dirs: &StateDir,
    spec: &TaskSpec,
    index: usize,
    paths: &[String],
) -> Result<Vec<Mount>, String> {
    let name = &spec.containers[index].name;
    let taken: BTreeSet<&str> = spec.containers[index].mounts.iter().map(|m| &*m.path).collect();
    let tmpfs = &spec.containers[index].host.tmpfs;
    let mut mounts = Vec::new();
    for path in paths.iter().filter(|path| !taken.contains(&***path) && !tmpfs.contains_key(*path))
    {
        // A dot is in no volume's file name, so these never meet the task's own.
        let source = task_dir(dirs, spec).join(format!("{name}.{}", file_name(path)));
        fs::create_dir_all(&source).map_err(|error| {
            format!("CannotCreateVolumeError: volume of {name} at {path}: {error}")
        })?;
        mounts.push(Mount { source, destination: PathBuf::from(path), readonly: false });
    }
    Ok(mounts)
}

/// What is to be copied out of the image: into volumes of ours, never into the host's directories.
pub(super) fn copies(dirs: &StateDir, spec: &RunSpec) -> Vec<Copy> {
    let is_ours = |path: &Path| path.starts_with(dirs.volumes()) || path.starts_with(dirs.shared());
    let plain = |path: &Path| -> PathBuf {
        path.components().filter(|part| matches!(part, Component::Normal(_))).collect()
    };
    spec.mounts
        .iter()
        .filter(|mount| is_ours(&mount.source))
        .map(|mount| Copy {
            layers: spec.rootfs.lower.clone(),
            path: plain(&mount.destination),
            to: mount.source.clone(),
        })
        .collect()
}

/// Fills the volumes that are still empty.
pub(super) fn fill(copies: &[Copy]) -> Result<(), String> {
    for copy in copies {
        let fill = || -> io::Result<()> {
            if fs::read_dir(&copy.to)?.next().is_some() {
                return Ok(());
            }
            for layer in &copy.layers {
                overlay_dir(&layer.join(&copy.path), &copy.to)?;
            }
            Ok(())
        };
        fill().map_err(|error| {
            format!("failed to copy /{} out of the image: {error}", copy.path.display())
        })?;
    }
    Ok(())
}

/// Lays one layer's directory over what the lower ones left in `to`.
fn overlay_dir(from: &Path, to: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(from) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !metadata.is_dir() {
        return Ok(());
    }
    fs::set_permissions(to, metadata.permissions())?;
    chown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    for entry in fs::read_dir(from)? {
        overlay_entry(&entry?, to)?;
    }
    Ok(())
}

fn overlay_entry(entry: &DirEntry, to: &Path) -> io::Result<()> {
    let (from, to) = (entry.path(), to.join(entry.file_name()));
    let metadata = fs::symlink_metadata(&from)?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        if !fs::symlink_metadata(&to).is_ok_and(|there| there.is_dir()) {
            remove(&to)?;
            fs::create_dir(&to)?;
        }
        return overlay_dir(&from, &to);
    }
    remove(&to)?;
    // A character device of number zero says that the name is gone from here on.
    if kind.is_char_device() && metadata.rdev() == 0 {
        return Ok(());
    }
    if kind.is_symlink() {
        symlink(fs::read_link(&from)?, &to)?;
    } else if kind.is_file() {
        fs::copy(&from, &to)?;
        // The owner first: changing it takes the set-user-id bit away.
        chown(&to, Some(metadata.uid()), Some(metadata.gid()))?;
        return fs::set_permissions(&to, metadata.permissions());
    } else {
        return Ok(());
    }
    lchown(&to, Some(metadata.uid()), Some(metadata.gid()))
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(there) if there.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    removed.or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })
}

/// Removes the volumes that were the task's own.
pub(super) fn remove_volumes(dirs: &StateDir, spec: &TaskSpec) {
    remove_of_task(dirs, &spec.arn.id.to_string());
}

/// The same by the task's id, for tasks that nothing else is known of.
pub(super) fn remove_of_task(dirs: &StateDir, task: &str) {
    let _ = fs::remove_dir_all(dirs.volumes().join(task));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_volume_is_filled_from_all_layers_and_a_filled_one_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let layer = |name: &str| dir.path().join(name).join("data");
        for (name, file, text) in [("low", "a", "low"), ("low", "b", "low"), ("high", "b", "high")]
        {
            fs::create_dir_all(layer(name).join("sub")).unwrap();
            fs::write(layer(name).join(file), text).unwrap();
        }
        symlink("a", layer("high").join("link")).unwrap();
        let to = dir.path().join("volume");
        fs::create_dir(&to).unwrap();
        let copy = Copy {
            layers: vec![dir.path().join("low"), dir.path().join("high"), dir.path().join("none")],
            path: "data".into(),
            to: to.clone(),
        };
        fill(std::slice::from_ref(&copy)).unwrap();
        let read = |name: &str| fs::read_to_string(to.join(name)).unwrap();
        assert_eq!(
            (read("a"), read("b"), read("link")),
            ("low".into(), "high".into(), "low".into())
        );
        fs::write(to.join("a"), "mine").unwrap();
        fill(&[copy]).unwrap();
        assert_eq!(read("a"), "mine");
    }

    #[test]
    fn a_volumes_name_never_leaves_its_directory() {
        assert_eq!(file_name("../x"), "%2e%2e%2fx");
        assert_eq!(file_name("data_1-a"), "data_1-a");
    }
}
