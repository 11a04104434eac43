//! Volumes: directories on the host that containers share, or keep beyond a restart.
//!
//! Who may reach what:
//!
//! * The path to a task's or a shared volume is the agent's own: each part of it lies in a directory
//!   that is root's only. A container gets the volume itself mounted, never what is above it.
//! * What is *in* a volume is its containers', who may exchange it at any moment. The agent goes into
//!   it through descriptors only ([`files::Dir`]), follows nothing there, and puts only whole things
//!   into it.
//! * What an image has at a volume's place is looked up in its layers as overlayfs merges them, with
//!   that as the root of all links: an image with `x -> /` has at `/x/etc` its own `/etc`.
//! * A `host` volume is the host's. Whoever may register a task definition with a `sourcePath` for an
//!   instance is trusted with that host's files as root is, as on Amazon's instances; Fargate has
//!   none. Its path is resolved when a container is made, with the links that are there then: a
//!   directory *below* another host volume is therefore as trustworthy as the containers that write
//!   that one. Nothing is ever copied into it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use files::{Dir, copy};
use sandbox::{ContainerSpec as RunSpec, Mount, merged};

use super::firelens;
use crate::spec::{TaskSpec, VolumeSpec};
use crate::state_dir::StateDir;

/// What an image has at a volume's place, to be copied into it while it is empty.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    /// Lowest first.
    layers: Vec<PathBuf>,
    /// In the image.
    path: PathBuf,
    to: PathBuf,
}

/// Why a container cannot have a volume.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error("volume {name} does not exist, and its autoprovision is false")]
    Missing { name: String },
    #[error("volume {name}: {why}")]
    Unsupported { name: String, why: String },
    #[error("volume {name}")]
    NotMade { name: String, source: io::Error },
    #[error("volume of {container} at {path}")]
    ImagesNotMade { container: String, path: String, source: io::Error },
    #[error("Invalid volume referenced: {name}")]
    Unknown { name: String },
}

/// Makes the task's volumes; checks the shared ones.
pub(super) fn prepare(dirs: &StateDir, spec: &TaskSpec) -> Result<(), VolumeError> {
    for (name, volume) in &spec.volumes {
        let made = match volume {
            VolumeSpec::Task => make(&task_volume(dirs, spec, name)),
            VolumeSpec::Host { path } => make_on_host(Path::new(path)),
            VolumeSpec::Shared { name, autoprovision } => {
                let dir = dirs.shared().join(file_name(name));
                if !autoprovision && !dir.is_dir() {
                    return Err(VolumeError::Missing { name: name.clone() });
                }
                make(&dir)
            }
            VolumeSpec::Unsupported { why } => {
                return Err(VolumeError::Unsupported { name: name.clone(), why: why.clone() });
            }
        };
        made.map_err(|source| VolumeError::NotMade { name: name.clone(), source })?;
    }
    if firelens::router(spec).is_some() {
        // A router need not be root to make its socket.
        let dir = firelens::sockets(dirs, spec);
        let name = || "FireLens".to_owned();
        let made =
            make(&dir).and_then(|()| fs::set_permissions(&dir, fs::Permissions::from_mode(0o1777)));
        made.map_err(|source| VolumeError::NotMade { name: name(), source })?;
    }
    Ok(())
}

/// Makes a volume of ours. Every user of the container may look into it, whatever our own mask is.
fn make(volume: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (volume.parent(), volume.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    files::private::make_dirs(parent)?;
    Dir::open(parent)?.dir_or_make(name, 0o755).map(drop)
}

/// Docker makes the directories of a bind mount that are missing.
fn make_on_host(path: &Path) -> io::Result<()> {
    if !path.is_absolute() {
        let why = format!("{} is no absolute path on the host", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Dir::open(Path::new("/"))?.make_dirs(path, 0o755).map(drop)
        }
        _ => Ok(()),
    }
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
) -> Result<Vec<Mount>, VolumeError> {
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
    if spec.containers[index].firelens.is_some() {
        let destination = PathBuf::from(firelens::SOCKETS_IN_CONTAINER);
        add(Mount { source: firelens::sockets(dirs, spec), destination, readonly: false });
    }
    anonymous(dirs, spec, index, &image_volumes(index))?.into_iter().for_each(&mut add);
    // A mount may lie within another: the outer ones come first.
    mounts.sort_by_key(|mount| mount.destination.components().count());
    Ok(mounts)
}

/// What a container's own mounts are: the name of a volume that was made for it, where it is on the host, and where
/// in the container. Nothing is asked of the disk.
pub(crate) fn volumes_shown(
    dirs: &StateDir,
    spec: &TaskSpec,
    index: usize,
) -> Vec<(Option<String>, String, String)> {
    let mounts = own_mounts(dirs, spec, index).unwrap_or_default();
    let name = |destination: &Path| {
        let mount = spec.containers[index].mounts.iter();
        let mount = mount.rev().find(|mount| Path::new(&mount.path) == destination)?;
        match spec.volumes.get(&mount.volume)? {
            VolumeSpec::Host { .. } | VolumeSpec::Unsupported { .. } => None,
            VolumeSpec::Task => {
                Some(format!("ecs-{}-{}-{}", spec.family, spec.version, mount.volume))
            }
            VolumeSpec::Shared { name, .. } => Some(name.clone()),
        }
    };
    let shown = |mount: Mount| {
        let text = |path: &Path| path.display().to_string();
        (name(&mount.destination), text(&mount.source), text(&mount.destination))
    };
    mounts.into_iter().map(shown).collect()
}

fn own_mounts(dirs: &StateDir, spec: &TaskSpec, index: usize) -> Result<Vec<Mount>, VolumeError> {
    let container = &spec.containers[index];
    let mut mounts = Vec::new();
    for mount in &container.mounts {
        let source = match spec.volumes.get(&mount.volume) {
            Some(VolumeSpec::Task) => task_volume(dirs, spec, &mount.volume),
            Some(VolumeSpec::Host { path }) => PathBuf::from(path),
            Some(VolumeSpec::Shared { name, .. }) => dirs.shared().join(file_name(name)),
            Some(VolumeSpec::Unsupported { why }) => {
                let name = mount.volume.clone();
                return Err(VolumeError::Unsupported { name, why: why.clone() });
            }
            None => return Err(VolumeError::Unknown { name: mount.volume.clone() }),
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
) -> Result<Vec<Mount>, VolumeError> {
    let name = &spec.containers[index].name;
    let taken: BTreeSet<&str> = spec.containers[index].mounts.iter().map(|m| &*m.path).collect();
    let tmpfs = &spec.containers[index].host.tmpfs;
    let mut mounts = Vec::new();
    for path in paths.iter().filter(|path| !taken.contains(&***path) && !tmpfs.contains_key(*path))
    {
        // A dot is in no volume's file name, so these never meet the task's own.
        let source = task_dir(dirs, spec).join(format!("{name}.{}", file_name(path)));
        let (container, path) = (name.clone(), path.clone());
        make(&source).map_err(|source| VolumeError::ImagesNotMade {
            container,
            path: path.clone(),
            source,
        })?;
        mounts.push(Mount { source, destination: PathBuf::from(path), readonly: false });
    }
    Ok(mounts)
}

/// What is to be copied out of the image: into volumes of ours, never into the host's directories.
/// Who keeps images itself fills volumes itself.
pub(super) fn copies(dirs: &StateDir, spec: &RunSpec) -> Vec<Copy> {
    if spec.rootfs.lower.is_empty() {
        return Vec::new();
    }
    let is_ours = |path: &Path| {
        (path.starts_with(dirs.volumes()) || path.starts_with(dirs.shared()))
            && !firelens::is_sockets(path)
            && !path.components().any(|part| part == Component::ParentDir)
    };
    spec.mounts
        .iter()
        .filter(|mount| is_ours(&mount.source))
        .map(|mount| Copy {
            layers: spec.rootfs.lower.clone(),
            path: mount.destination.clone(),
            to: mount.source.clone(),
        })
        .collect()
}

/// What an image has at a volume's place could not be copied there.
#[derive(Debug, thiserror::Error)]
#[error("failed to copy {} out of the image", path.display())]
pub struct NotFilled {
    path: PathBuf,
    source: io::Error,
}

/// Fills the volumes that are still empty.
pub(super) fn fill(copies: &[Copy]) -> Result<(), NotFilled> {
    let fill =
        |copy: &Copy| copy.fill().map_err(|source| NotFilled { path: copy.path.clone(), source });
    copies.iter().try_for_each(fill)
}

/// Fills one volume from an image's layers, lowest first: for who tries to get out of either with it.
#[doc(hidden)]
pub fn fill_volume(layers: &[PathBuf], path: &Path, volume: &Path) -> Result<(), NotFilled> {
    fill(&[Copy { layers: layers.to_vec(), path: path.to_owned(), to: volume.to_owned() }])
}

impl Copy {
    /// Copies into a directory beside the volume, which no container sees, and moves what is whole into
    /// the volume: nobody can exchange anything under the copy's hands. An agent that was killed
    /// meanwhile goes on where it was.
    fn fill(&self) -> Result<(), io::Error> {
        let (Some(parent), Some(name)) = (self.to.parent(), self.to.file_name()) else {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        };
        let parent = Dir::open(parent)?;
        let volume = parent.dir(name)?;
        let mut stage = name.to_owned();
        stage.push(STAGE);
        let is_begun = || parent.look_at(&stage).map(|found| found.is_some());
        if !is_begun()? && !volume.is_empty()? {
            return Ok(());
        }
        let image = merged(&self.layers).map_err(io::Error::other)?;
        let source = image.inside_if_any(&self.path)?;
        if source.is_none() && !is_begun()? {
            return Ok(());
        }
        let Some(work) = take_stage(&parent, &stage)? else { return Ok(()) };
        if work.look_at(OsStr::new(WHOLE))?.is_none()
            && let Some(source) = source.filter(|_| volume.is_empty().unwrap_or(false))
        {
            work.clear()?;
            copy::tree(&source, &work.make_dir(OsStr::new(PART), 0o700)?)?;
            work.move_to(OsStr::new(PART), &work, OsStr::new(WHOLE))?;
        }
        if work.look_at(OsStr::new(WHOLE))?.is_some() {
            hand_over(&work.dir(OsStr::new(WHOLE))?, &volume)?;
        }
        parent.remove(&stage)
    }
}

/// Beside a volume, while it is filled. The sign is in no volume's file name.
const STAGE: &str = "~fill";
const PART: &str = "part";
const WHOLE: &str = "whole";

/// Makes the directory in which a volume's content is put together, and waits for whoever else fills the
/// same volume. Nothing if that one has done it.
fn take_stage(parent: &Dir, name: &OsStr) -> io::Result<Option<Dir>> {
    let stage = parent.dir_or_make(name, 0o700)?;
    stage.lock()?;
    let mine = stage.look_at_self()?;
    let there = parent.look_at(name)?;
    let is_it = there.is_some_and(|there| (there.device, there.inode) == (mine.device, mine.inode));
    Ok(is_it.then_some(stage))
}

/// Moves all that is in `whole` into the volume, which gets its owner and mode too. What a container
/// has put there meanwhile stays.
fn hand_over(whole: &Dir, volume: &Dir) -> io::Result<()> {
    // What is moved away while it is listed may hide its neighbours from the list.
    while !whole.is_empty()? {
        for name in whole.names()? {
            let name = name?;
            let moved = match whole.move_to(&name, volume, &name) {
                // A volume with a quota of its own may be a file system of its own.
                Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                    copy::entry(whole, &name, volume)
                }
                moved => moved,
            };
            match moved {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Ok(()) | Err(_) => whole.remove(&name)?,
            }
        }
    }
    copy::attributes(whole, whole.look_at_self()?, volume)
}

/// Removes the volumes that were the task's own.
pub(super) fn remove_volumes(dirs: &StateDir, spec: &TaskSpec) {
    remove_of_task(dirs, &spec.arn.id.to_string());
}

/// The same by the task's id, for tasks that nothing else is known of.
pub(super) fn remove_of_task(dirs: &StateDir, task: &str) {
    let _ = files::dir::remove_tree(&dirs.volumes().join(task));
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Layers in a directory of their own, and a volume beside them.
    struct World {
        dir: tempfile::TempDir,
    }

    impl World {
        fn new() -> Self {
            let world = Self { dir: tempfile::tempdir().unwrap() };
            for name in ["low", "high", "volumes/data"] {
                fs::create_dir_all(world.dir.path().join(name)).unwrap();
            }
            world
        }

        fn at(&self, path: &str) -> PathBuf {
            self.dir.path().join(path)
        }

        fn write(&self, path: &str, text: &str) {
            fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
            fs::write(self.at(path), text).unwrap();
        }

        fn copy(&self, path: impl Into<PathBuf>) -> Copy {
            let layers = vec![self.at("low"), self.at("high")];
            Copy { layers, path: path.into(), to: self.at("volumes/data") }
        }

        fn read(&self, path: &str) -> Option<String> {
            fs::read_to_string(self.at(&format!("volumes/data/{path}"))).ok()
        }
    }

    #[test]
    fn an_empty_volume_is_filled_from_all_layers_and_a_filled_one_is_left_alone() {
        let world = World::new();
        for (file, text) in [("low/data/a", "low"), ("low/data/b", "low"), ("high/data/b", "high")]
        {
            world.write(file, text);
        }
        symlink("a", world.at("high/data/link")).unwrap();
        let copy = world.copy("/data");
        fill(std::slice::from_ref(&copy)).unwrap();
        let (low, high) = (Some("low".to_owned()), Some("high".to_owned()));
        assert_eq!(
            (world.read("a"), world.read("b"), world.read("link")),
            (low.clone(), high, low)
        );
        world.write("volumes/data/a", "mine");
        fill(&[copy]).unwrap();
        assert_eq!(world.read("a").unwrap(), "mine");
        assert_eq!(fs::read_dir(world.at("volumes")).unwrap().count(), 1, "nothing beside it");
    }

    #[test]
    fn a_link_of_the_image_means_the_images_files_and_never_the_hosts() {
        let world = World::new();
        world.write("host/secret", "secret");
        for to in ["/".to_owned(), "../".repeat(20), "/proc/self/root".to_owned()] {
            let _ = fs::remove_file(world.at("high/x"));
            symlink(to, world.at("high/x")).unwrap();
            let host = world.at("host");
            let path = Path::new("/x").join(host.strip_prefix("/").unwrap());
            fill(&[world.copy(path)]).unwrap();
            assert_eq!(world.read("secret"), None);
        }
        // Where the image itself has something at that place, it is that, of whatever layer.
        let inside = format!("low{}/secret", world.at("host").display());
        world.write(&inside, "the image's own");
        fs::remove_file(world.at("high/x")).unwrap();
        symlink("/", world.at("high/x")).unwrap();
        fill(&[world.copy(format!("/x{}", world.at("host").display()))]).unwrap();
        assert_eq!(world.read("secret").unwrap(), "the image's own");
    }

    #[test]
    fn what_an_upper_layer_hides_does_not_come_back() {
        let world = World::new();
        world.write("low/data/gone", "x");
        world.write("low/data/kept", "x");
        world.write("high/other", "x");
        fs::create_dir_all(world.at("high/data")).unwrap();
        let whiteout = std::process::Command::new("mknod")
            .arg(world.at("high/data/gone"))
            .args(["c", "0", "0"])
            .status();
        assert!(whiteout.unwrap().success());
        fill(&[world.copy("/data")]).unwrap();
        assert_eq!((world.read("gone"), world.read("kept")), (None, Some("x".into())));
    }

    #[test]
    fn an_agent_that_was_killed_while_it_filled_a_volume_goes_on() {
        let world = World::new();
        world.write("low/data/a", "image");
        world.write("low/data/b", "image");
        // Killed while it copied: what is there is not whole.
        world.write("volumes/data~fill/part/a", "ima");
        fill(&[world.copy("/data")]).unwrap();
        assert_eq!(
            (world.read("a").unwrap(), world.read("b").unwrap()),
            ("image".into(), "image".into())
        );
        // Killed while it moved: one is there already.
        fs::remove_file(world.at("volumes/data/b")).unwrap();
        world.write("volumes/data~fill/whole/b", "image");
        fill(&[world.copy("/data")]).unwrap();
        assert_eq!(world.read("b").unwrap(), "image");
        assert!(!world.at("volumes/data~fill").exists());
    }

    /// A container that has the volume already exchanges each directory in it for a link to the host
    /// and back, all the time.
    #[test]
    fn what_is_exchanged_while_a_volume_is_filled_leads_nowhere() {
        let world = World::new();
        for number in 0..20 {
            world.write(&format!("low/data/sub/deep/{number}"), "image");
        }
        fs::create_dir_all(world.at("host/deep")).unwrap();
        world.write("host/deep/mine", "host");
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let swapper = scope.spawn(|| {
                let volume = Dir::open(&world.at("volumes/data")).unwrap();
                let host = world.at("host");
                let (name, link) = (OsStr::new("sub"), OsStr::new("aside"));
                while !is_over.load(Ordering::Relaxed) {
                    let _ = volume.symlink(link, host.as_os_str());
                    let _ = exchange(&volume, name, link);
                }
            });
            for _ in 0..200 {
                // Errors are fine, and so is a volume that is not empty any more.
                let _ = fill(&[world.copy("/data")]);
                let _ = Dir::open(&world.at("volumes/data")).unwrap().clear();
            }
            is_over.store(true, Ordering::Relaxed);
            swapper.join().unwrap();
        });
        let there: Vec<_> = walk(&world.at("host"));
        assert_eq!(there, [world.at("host/deep"), world.at("host/deep/mine")]);
        assert_eq!(fs::read_to_string(world.at("host/deep/mine")).unwrap(), "host");
    }

    fn exchange(dir: &Dir, one: &OsStr, other: &OsStr) -> io::Result<()> {
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        Ok(rustix::fs::renameat_with(dir, one, dir, other, flags)?)
    }

    fn walk(dir: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            found.push(entry.path());
            if entry.file_type().unwrap().is_dir() {
                found.extend(walk(&entry.path()));
            }
        }
        found.sort();
        found
    }

    #[test]
    fn a_volumes_name_never_leaves_its_directory() {
        assert_eq!(file_name("../x"), "%2e%2e%2fx");
        assert_eq!(file_name("data_1-a"), "data_1-a");
        assert!(!file_name(&format!("data{STAGE}")).ends_with(STAGE));
    }
}
