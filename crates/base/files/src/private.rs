//! Keeps what is ours from the eyes of others on the machine: directories 0700, files 0600.
//!
//! Both are so from the moment they are made, because the mask of our processes is 0077. What an older
//! version, or an operator's `chmod`, left wider is mended at the start.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::process::geteuid;

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

/// Takes the rights of others off what is ours in `root`, off the names in its directories, and off
/// `root` itself unless it also holds what is not ours: somebody's home must not become private because
/// a data directory was once put there.
///
/// It goes no deeper: nobody else comes past a directory of 0700, so that what lies below is as safe as
/// it is in a registry of a million blobs, which a start must not walk through; and further below are
/// volumes and layers, whose modes are their containers'. A link is not followed. What belongs to
/// another user is left to that one.
pub fn mend(root: &Path, is_ours: impl Fn(&OsStr) -> bool) -> io::Result<Mended> {
    let mut walk = Walk { mended: Mended::default(), names: 0, user: geteuid().as_raw() };
    let dir = Dir::open(root)?;
    let mut is_shared = false;
    for name in dir.names()? {
        let name = name?;
        if is_ours(&name) {
            walk.mend_name(&dir, root, &name, true)?;
        } else {
            is_shared = true;
        }
    }
    if !is_shared {
        walk.mend_dir(&dir, root)?;
    }
    Ok(walk.mended)
}

struct Walk {
    mended: Mended,
    names: usize,
    user: u32,
}

impl Walk {
    fn mend_name(
        &mut self,
        dir: &Dir,
        path: &Path,
        name: &OsStr,
        goes_deeper: bool,
    ) -> io::Result<()> {
        self.names += 1;
        let path = path.join(name);
        // Gone since, as the temporary files of a running process go.
        let Some(found) = dir.look_at(name)? else { return Ok(()) };
        if MEND_NAMES_MAX < self.names || !self.may_change(found.uid) {
            return Ok(());
        }
        match found.kind {
            Kind::Directory => {
                let inner = match dir.dir(name) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                    inner => inner?,
                };
                self.mend_dir(&inner, &path)?;
                for name in inner.names()?.take_while(|_| goes_deeper) {
                    self.mend_name(&inner, &path, &name?, false)?;
                }
            }
            Kind::File if found.mode & 0o077 != 0 => {
                if let Some(file) = dir.open_file(name)? {
                    rustix::fs::fchmod(&file, Mode::from_raw_mode(found.mode & 0o700))?;
                    self.mended.add(path);
                }
            }
            Kind::File | Kind::Symlink | Kind::CharDevice | Kind::BlockDevice | Kind::Other => {}
        }
        Ok(())
    }

    fn mend_dir(&mut self, dir: &Dir, path: &Path) -> io::Result<()> {
        let found = dir.look_at_self()?;
        if found.mode & 0o077 != 0 && self.may_change(found.uid) {
            dir.set_mode(found.mode & 0o700)?;
            self.mended.add(path.to_owned());
        }
        Ok(())
    }

    fn may_change(&self, owner: u32) -> bool {
        self.user == 0 || self.user == owner
    }
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
        let mended = mend(&root, |_| true).unwrap();
        assert_eq!(mended.count, 5);
        assert!(mended.first.unwrap().starts_with(&root));
        let modes = |paths: &[&str]| -> Vec<u32> {
            paths.iter().map(|path| mode(&root.join(path))).collect()
        };
        assert_eq!(modes(&dirs), [0o700, 0o700, 0o700, 0o755]);
        assert_eq!(modes(&files), [0o600, 0o600, 0o644]);
        assert_eq!(mode(&theirs), 0o644);
        assert_eq!(mend(&root, |_| true).unwrap(), Mended::default());
    }

    #[test]
    fn a_directory_that_holds_what_is_not_ours_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["keys.json", "letter.txt"] {
            fs::write(dir.path().join(name), "x").unwrap();
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o644)).unwrap();
        }
        let mended = mend(dir.path(), |name| name == "keys.json").unwrap();
        assert_eq!(mended, Mended { count: 1, first: Some(dir.path().join("keys.json")) });
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(dir.path()), mode(&dir.path().join("letter.txt"))), (0o755, 0o644));
    }
}
