//! Writes files of state so that a reader sees all of one or none of it.
//!
//! **Invariant:** a name means a whole text at every moment. The text is written to a temporary beside
//! it, which is made anew and is its owner's only, and takes the name by a rename. What is to survive
//! the machine is on the disk before it takes the name, and its name is before the writer goes on.
//!
//! A file that is empty or does not parse was written by somebody else, or belongs to a disk that lost
//! it. It is [`Found::Torn`], a case of its own, which nobody can take for a value or for absence.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::de::DeserializeOwned;

/// Whether the text is on the disk before its name is taken, and why it need not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Text and name survive a power cut once the write has returned.
    Synced,
    /// What it tells of ends with the machine: a running container, a network namespace.
    DiesWithTheMachine,
    /// The caller calls [`sync`] before it promises anybody what the file says. Only for a name that
    /// is not there yet: a promise that an older text keeps would be lost with it.
    SyncedBeforeAPromise,
}

/// Who may read the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// 0600
    Owner,
    /// 0644: it is mounted into a container, whose users are others. Its directory is private.
    Everybody,
}

/// What is under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<T> {
    Missing,
    /// Empty, cut off, or not what is kept there.
    Torn {
        why: String,
    },
    Whole(T),
}

impl<T> Found<T> {
    /// The value; nothing for a missing file, an error for a torn one.
    pub fn value(self) -> io::Result<Option<T>> {
        match self {
            Self::Missing => Ok(None),
            Self::Torn { why } => Err(io::Error::new(io::ErrorKind::InvalidData, why)),
            Self::Whole(value) => Ok(Some(value)),
        }
    }
}

/// Puts `text` under `path`, for its owner's eyes.
pub fn write(path: &Path, text: &[u8], durability: Durability) -> io::Result<()> {
    write_for(path, text, durability, Readers::Owner)
}

/// Puts `text` under `path`.
pub fn write_for(
    path: &Path,
    text: &[u8],
    durability: Durability,
    readers: Readers,
) -> io::Result<()> {
    let temporary = temporary(path)?;
    let written = fill(&temporary, text, durability, readers)
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| match durability {
            Durability::Synced => sync_parent(path),
            Durability::DiesWithTheMachine | Durability::SyncedBeforeAPromise => Ok(()),
        });
    if written.is_err() {
        // It is swept when the directory is opened the next time if this fails too.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn fill(path: &Path, text: &[u8], durability: Durability, readers: Readers) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    if readers == Readers::Everybody {
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
    }
    match durability {
        Durability::Synced => file.sync_data(),
        Durability::DiesWithTheMachine | Durability::SyncedBeforeAPromise => Ok(()),
    }
}

/// Makes a file and its name survive a power cut.
pub fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_data()?;
    sync_parent(path)
}

/// Makes the names in the directory of `path` survive a power cut.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Reads a file whole. An empty one is torn: nobody keeps nothing in a file of state.
pub fn read<T, E: std::fmt::Display>(
    path: &Path,
    parse: impl FnOnce(&[u8]) -> Result<T, E>,
) -> io::Result<Found<T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
        Err(error) => return Err(error),
    };
    if bytes.is_empty() {
        return Ok(Found::Torn { why: "it is empty".to_owned() });
    }
    Ok(match parse(&bytes) {
        Ok(value) => Found::Whole(value),
        Err(why) => Found::Torn { why: why.to_string() },
    })
}

/// Reads a file that holds one JSON document.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Found<T>> {
    read(path, |bytes| serde_json::from_slice(bytes))
}

/// Removes what writers that were killed left in `dir`, and says how many they were. For whoever opens
/// the directory; those that this process has begun are left alone, because they may be on their way.
pub fn sweep(dir: &Path) -> io::Result<usize> {
    let mut swept = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if is_temporary(&name) && !is_begun_here(&name) {
            fs::remove_file(entry.path())?;
            swept += 1;
        }
    }
    Ok(swept)
}

/// Whether a name is of a file that is still being written, or was when its writer was killed.
pub fn is_temporary(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| parts(name).is_some())
}

/// An earlier process may have had our number, as in a container that is started again; it had not our
/// count.
fn is_begun_here(name: &OsStr) -> bool {
    name.to_str().and_then(parts).is_some_and(|(pid, number)| {
        pid == std::process::id() && number < NUMBER.load(Ordering::Relaxed)
    })
}

/// A source of distinct numbers for temporaries.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Writer and number of `.NAME.PID-NUMBER.part`.
fn parts(name: &str) -> Option<(u32, u64)> {
    let stem = name.strip_prefix('.')?.strip_suffix(".part")?;
    let (pid, number) = stem.rsplit_once('.')?.1.split_once('-')?;
    Some((pid.parse().ok()?, number.parse().ok()?))
}

/// A name that no other write has, of this process or another.
fn temporary(path: &Path) -> io::Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name"));
    };
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}-{number}.part", std::process::id()));
    let temporary = path.with_file_name(temporary);
    // An earlier process of the same number was killed while it wrote.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(temporary),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_replaced_whole_for_its_owner_only_and_nothing_stays_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        for (text, durability) in [
            ("one", Durability::Synced),
            ("two", Durability::DiesWithTheMachine),
            ("three", Durability::SyncedBeforeAPromise),
        ] {
            write(&path, text.as_bytes(), durability).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(dir.path()), ["state.json"]);
        write_for(&path, b"four", Durability::Synced, Readers::Everybody).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    }

    #[test]
    fn a_reader_never_sees_half_of_a_text_while_it_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let text = |letter: u8| vec![letter; 64 << 10];
        write(&path, &text(b'a'), Durability::DiesWithTheMachine).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for round in 0..200 {
                    let letter = if round % 2 == 0 { b'b' } else { b'a' };
                    write(&path, &text(letter), Durability::DiesWithTheMachine).unwrap();
                }
            });
            while !writer.is_finished() {
                let seen = fs::read(&path).unwrap();
                assert_eq!(seen.len(), 64 << 10);
                assert!(seen.iter().all(|byte| *byte == seen[0]));
            }
        });
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_text_and_no_temporary() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        fs::create_dir(&path).unwrap();
        fs::create_dir(path.join("full")).unwrap();
        assert!(write(&path, b"text", Durability::Synced).is_err());
        assert_eq!(names(dir.path()), ["taken"]);
        assert!(write(Path::new("/"), b"text", Durability::Synced).is_err());
    }

    #[test]
    fn missing_torn_and_whole_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("number.json");
        assert_eq!(read_json::<u32>(&path).unwrap(), Found::Missing);
        for torn in ["", "\"4", "{"] {
            fs::write(&path, torn).unwrap();
            assert!(matches!(read_json::<u32>(&path).unwrap(), Found::Torn { .. }), "{torn:?}");
        }
        assert!(read_json::<u32>(&path).unwrap().value().is_err());
        write(&path, b"42", Durability::Synced).unwrap();
        assert_eq!(read_json::<u32>(&path).unwrap(), Found::Whole(42));
        assert_eq!(read_json::<u32>(&path).unwrap().value().unwrap(), Some(42));
    }

    #[test]
    fn what_killed_writers_left_is_swept_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let begun = temporary(&dir.path().join("a.json")).unwrap();
        let mine = begun.file_name().unwrap().to_str().unwrap();
        let earlier = format!(".a.json.{}-{}.part", std::process::id(), u64::MAX);
        let others = [".a.json.0-1.part", ".b.0-12.part", &earlier];
        let kept = ["a.json", ".hidden", ".a.part", ".a.x-1.part", "a.0-1.part", mine];
        for name in others.iter().chain(&kept) {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        assert_eq!(sweep(dir.path()).unwrap(), others.len());
        let mut left = names(dir.path());
        left.sort();
        let mut kept = kept.map(str::to_owned);
        kept.sort();
        assert_eq!(left, kept);
        assert!(
            is_temporary(OsStr::new(".a.json.0-1.part")) && !is_temporary(OsStr::new("a.json"))
        );
    }
}
