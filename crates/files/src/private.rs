//! Keeps what is ours from the eyes of others on the machine: directories 0700, files 0600.
//!
//! Both are so from the moment they are made, because the mask of our processes is 0077. What an older
//! version, or an operator's `chmod`, left wider is mended at the start.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;

use crate::dir::{Dir, Kind};
use crate::limits::MEND_NAMES_MAX;

/// Takes every right of others off what this process makes from now on. For `main`, before there are
/// threads.
pub fn set_mask() {
    rustix::process::umask(Mode::from_raw_mode(0o077));
}

/// The mask that programs expect, for a process that becomes or makes a container.
pub fn set_container_mask() {
    rustix::process::umask(Mode::from_raw_mode(0o022));
}

/// Makes a directory and its missing parents for their owner only.
pub fn make_dirs(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// What was open to others and no longer is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mended {
    pub count: usize,
    pub first: Option<PathBuf>,
}

/// Takes the rights of others off `root`, the names in it, and the names in its directories.
///
/// It goes no deeper: nobody else comes past a directory of 0700, so that what lies below is as safe as
/// it is in a registry of a million blobs, which a start must not walk through; and further below are
/// volumes and layers, whose modes are their containers'. A link is not followed.
pub fn mend(root: &Path) -> io::Result<Mended> {
    let mut mended = Mended::default();
    let dir = Dir::open(root)?;
    mend_dir(&dir, root, &mut mended)?;
    let mut names = 0;
    mend_names(&dir, root, &mut mended, &mut names, true)?;
    Ok(mended)
}

fn mend_names(
    dir: &Dir,
    path: &Path,
    mended: &mut Mended,
    names: &mut usize,
    goes_deeper: bool,
) -> io::Result<()> {
    for name in dir.names()? {
        *names += 1;
        if MEND_NAMES_MAX < *names {
            return Ok(());
        }
        let name = name?;
        let path = path.join(&name);
        let Some(found) = dir.look_at(&name)? else { continue };
        match found.kind {
            Kind::Directory => {
                let inner = match dir.dir(&name) {
                    // Gone since, as the temporary directories of a running process go.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    inner => inner?,
                };
                mend_dir(&inner, &path, mended)?;
                if goes_deeper {
                    mend_names(&inner, &path, mended, names, false)?;
                }
            }
            Kind::File if found.mode & 0o077 != 0 => {
                if let Some(file) = dir.open_file(&name)? {
                    rustix::fs::fchmod(&file, Mode::from_raw_mode(found.mode & 0o700))?;
                    mended.add(path);
                }
            }
            Kind::File | Kind::Symlink | Kind::CharDevice | Kind::BlockDevice | Kind::Other => {}
        }
    }
    Ok(())
}

fn mend_dir(dir: &Dir, path: &Path, mended: &mut Mended) -> io::Result<()> {
    let mode = dir.look_at_self()?.mode;
    if mode & 0o077 != 0 {
        dir.set_mode(mode & 0o7700)?;
        mended.add(path.to_owned());
    }
    Ok(())
}

impl Mended {
    fn add(&mut self, path: PathBuf) {
        self.count += 1;
        self.first.get_or_insert(path);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn what_is_open_to_others_is_closed_and_what_lies_deep_or_beyond_a_link_is_left() {
        let outside = tempfile::tempdir().unwrap();
        let theirs = outside.path().join("theirs");
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        fs::create_dir_all(root.join("agent/volumes/mine")).unwrap();
        let files = ["keys.json", "agent/instance.json", "agent/volumes/mine/file"];
        for path in files.iter().map(|file| root.join(file)).chain([theirs.clone()]) {
            fs::write(&path, "x").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        }
        let dirs = ["", "agent", "agent/volumes", "agent/volumes/mine"];
        for path in dirs {
            fs::set_permissions(root.join(path), fs::Permissions::from_mode(0o755)).unwrap();
        }
        symlink(&theirs, root.join("link")).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let mended = mend(&root).unwrap();
        assert_eq!(mended, Mended { count: 5, first: Some(root.clone().join("")) });
        let modes = |paths: &[&str]| -> Vec<u32> {
            paths.iter().map(|path| mode(&root.join(path))).collect()
        };
        assert_eq!(modes(&dirs), [0o700, 0o700, 0o700, 0o755]);
        assert_eq!(modes(&files), [0o600, 0o600, 0o644]);
        assert_eq!(mode(&theirs), 0o644);
        assert_eq!(mend(&root).unwrap(), Mended::default());
    }
}
