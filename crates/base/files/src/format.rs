//! The version of a directory of state, and the steps that raise an older one to it.
//!
//! A file beside the others, [`FILE`], says which version they are of and which release made them so. A
//! directory without it is of version 1: it is new, or of a release that wrote none.
//!
//! **Invariant:** a release opens the directory of every release before it. A change that older releases
//! could not read is a step with the next number and a test on stored files; a step is never edited once it
//! was released. A newer directory is refused by the name of the release that wrote it, and nothing in it is
//! touched.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::whole::{self, Durability, Found};

/// Says of which version the files beside it are.
pub const FILE: &str = "format.json";

/// The version of directories that do not say theirs.
const FIRST: u32 = 1;

/// The release that this is, for whoever finds a directory that is too new.
const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// What brings a directory to a version from the one before.
///
/// A kill may come at any moment of it, and it is run again from its beginning then: what it has done already
/// must be no obstacle to it, and a new directory is one with nothing to change.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub version: u32,
    pub run: fn(&Path) -> io::Result<()>,
}

/// Why a directory cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    #[error(
        "{} was written by release {release}, with format version {found}; this is release {} and knows \
         versions up to {known}: start the newer release again, or restore a copy of before it",
        path.display(),
        RELEASE
    )]
    TooNew { path: PathBuf, found: u32, known: u32, release: String },
    #[error("{} does not say which version its directory is of: {why}", path.display())]
    Torn { path: PathBuf, why: String },
    #[error("failed to raise {} to format version {version}", path.display())]
    Step { path: PathBuf, version: u32, source: io::Error },
    #[error("failed to {doing} {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
}

impl From<FormatError> for io::Error {
    fn from(error: FormatError) -> Self {
        Self::other(error)
    }
}

#[derive(Deserialize, Serialize)]
struct Format {
    version: u32,
    release: String,
}

/// Brings the files of `dir`, which is there, to the version of the last of `steps`. For whoever opens the
/// directory, and nobody else has it open.
pub fn raise(dir: &Path, steps: &[Step]) -> Result<(), FormatError> {
    let path = dir.join(FILE);
    let known = steps.last().map_or(FIRST, |step| step.version);
    let failed = |doing, source| FormatError::Io { doing, path: path.clone(), source };
    let found = match whole::read_json(&path).map_err(|source| failed("read", source))? {
        Found::Missing => None,
        Found::Torn { why } => return Err(FormatError::Torn { path, why }),
        Found::Whole(Format { version, release }) if known < version => {
            let path = dir.to_owned();
            return Err(FormatError::TooNew { path, found: version, known, release });
        }
        Found::Whole(Format { version, .. }) => Some(version),
    };
    let write = |version| {
        let format = Format { version, release: RELEASE.to_owned() };
        let text = serde_json::to_vec(&format).map_err(io::Error::from);
        let written = text.and_then(|text| whole::write(&path, &text, Durability::Synced));
        written.map_err(|source| failed("write", source))
    };
    for step in steps.iter().filter(|step| found.unwrap_or(FIRST) < step.version) {
        (step.run)(dir).map_err(|source| {
            let path = dir.to_owned();
            FormatError::Step { path, version: step.version, source }
        })?;
        write(step.version)?;
    }
    match found {
        None if steps.is_empty() => write(FIRST),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// As a release would that calls a file otherwise and then has it say more.
    const STEPS: [Step; 2] = [
        Step { version: 2, run: rename },
        Step { version: 3, run: |dir| fs::write(dir.join("new"), "more") },
    ];

    fn rename(dir: &Path) -> io::Result<()> {
        match fs::rename(dir.join("old"), dir.join("new")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn says(dir: &Path) -> String {
        fs::read_to_string(dir.join(FILE)).unwrap()
    }

    #[test]
    fn an_older_directory_is_raised_step_by_step_and_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("old"), "some").unwrap();
        raise(dir.path(), &STEPS[..1]).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("new")).unwrap(), "some");
        assert_eq!(says(dir.path()), format!("{{\"version\":2,\"release\":\"{RELEASE}\"}}"));
        raise(dir.path(), &STEPS).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("new")).unwrap(), "more");
        fs::write(dir.path().join("new"), "written since").unwrap();
        raise(dir.path(), &STEPS).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("new")).unwrap(), "written since");
    }

    #[test]
    fn a_step_that_failed_is_taken_again() {
        let dir = tempfile::tempdir().unwrap();
        let fails = |_: &Path| Err(io::Error::other("the machine went down"));
        let error = raise(dir.path(), &[STEPS[0], Step { version: 3, run: fails }]).unwrap_err();
        assert!(matches!(error, FormatError::Step { version: 3, .. }), "{error}");
        assert!(says(dir.path()).contains("\"version\":2"));
        raise(dir.path(), &STEPS).unwrap();
        assert!(says(dir.path()).contains("\"version\":3"));
    }

    #[test]
    fn a_newer_directory_is_refused_by_the_release_that_wrote_it_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let newer = r#"{"version":9,"release":"7.1.0","more":true}"#;
        fs::write(dir.path().join(FILE), newer).unwrap();
        fs::write(dir.path().join("old"), "some").unwrap();
        let text = raise(dir.path(), &STEPS).unwrap_err().to_string();
        assert!(text.contains("release 7.1.0") && text.contains("version 9"), "{text}");
        assert!(text.contains(RELEASE) && text.contains("up to 3"), "{text}");
        assert_eq!(says(dir.path()), newer);
        assert!(dir.path().join("old").exists());
    }

    #[test]
    fn a_directory_says_its_version_from_the_first_on_and_a_torn_word_is_no_word() {
        let dir = tempfile::tempdir().unwrap();
        raise(dir.path(), &[]).unwrap();
        assert!(says(dir.path()).contains("\"version\":1"));
        fs::write(dir.path().join(FILE), "").unwrap();
        assert!(matches!(raise(dir.path(), &[]), Err(FormatError::Torn { .. })));
    }
}
