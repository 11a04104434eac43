//! The program that takes this one's place: an agent that was told to runs the region's from then on.
//!
//! It lies in the data directory with a note of what it replaces, `release.json`. The program that the host starts hands over to
//! it; one that somebody has installed since is run itself. **Invariant:** a program that was not seen to work is handed over
//! to once: if it ends before its first check-in, the one before runs again.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use files::whole::{self, Durability, Found};
use longshore_types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The note, in the data directory.
pub(crate) const FILE: &str = "release.json";
/// Where programs lie that were taken.
pub(crate) const FOLDER: &str = "release";
const VERSION: u32 = 1;
/// The kernel's link to the program that runs, whatever has become of its name.
const OWN: &str = "/proc/self/exe";

/// What tells a file from another under the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified_s: i64,
}

impl Identity {
    fn of(path: &Path) -> io::Result<Self> {
        let it = fs::metadata(path)?;
        let (device, inode) = (it.dev(), it.ino());
        Ok(Self { device, inode, size: it.size(), modified_s: it.mtime() })
    }
}

/// Whether what lies at `path` is the program that runs here.
pub(crate) fn is_same_program(path: &Path) -> bool {
    let its = Identity::of(path).ok();
    its.is_some() && its == Identity::of(Path::new(OWN)).ok()
}

/// Whether a process runs another program than this one does.
pub(crate) fn is_of_another_program(pid: u32) -> bool {
    let of = |path: &Path| Identity::of(path).ok();
    let theirs = of(&Path::new("/proc").join(pid.to_string()).join("exe"));
    theirs.is_some() && theirs != of(Path::new(OWN))
}

/// A program that takes another's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chosen {
    path: PathBuf,
    /// What the host starts.
    replaces: Identity,
    /// The run of upgrades that it came by.
    run: Timestamp,
    /// Whether it has checked in.
    is_good: bool,
}

/// Why the last that was asked for was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Failed {
    pub(crate) run: Timestamp,
    pub(crate) why: String,
}

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Note {
    version: u32,
    #[serde(default)]
    chosen: Option<Chosen>,
    /// The one before it, until it is seen to work.
    #[serde(default)]
    before: Option<Chosen>,
    /// The program that the one before ran from.
    #[serde(default)]
    back: Option<PathBuf>,
    #[serde(default)]
    failed: Option<Failed>,
}

/// A data directory's programs.
#[derive(Clone, Debug)]
pub(crate) struct Successors {
    root: PathBuf,
}

impl Successors {
    pub(crate) fn of(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The program that this one hands over to, if any.
    pub(crate) fn next(&self) -> Result<Option<PathBuf>, Error> {
        let own = Identity::of(Path::new(OWN)).map_err(Error::io("look at the own program"))?;
        let before = self.load()?;
        let (note, next) = decide(before.clone(), own, |path| Identity::of(path).ok());
        if note != before {
            self.save(&note)?;
        }
        Ok(next)
    }

    /// Whether the program that runs is one that has not been seen to work.
    pub(crate) fn is_on_trial(&self) -> bool {
        let note = self.load().unwrap_or_default();
        let Some(chosen) = note.chosen.filter(|chosen| !chosen.is_good) else { return false };
        let own = Identity::of(Path::new(OWN)).ok();
        own.is_some() && own == Identity::of(&chosen.path).ok()
    }

    /// It works: what came before is needed no more.
    pub(crate) fn is_good(&self) -> Result<(), Error> {
        let mut note = self.load()?;
        if let Some(chosen) = &mut note.chosen {
            chosen.is_good = true;
        }
        (note.before, note.back, note.failed) = (None, None, None);
        self.save(&note)?;
        let kept: Vec<PathBuf> = note.chosen.map(|chosen| chosen.path).into_iter().collect();
        self.sweep(&kept);
        Ok(())
    }

    /// Removes programs and halves of programs that nothing hands over to.
    fn sweep(&self, kept: &[PathBuf]) {
        let others = fs::read_dir(self.root.join(FOLDER)).into_iter().flatten().flatten();
        for other in others.map(|other| other.path()).filter(|other| !kept.contains(other)) {
            // It takes room, no more.
            let _ = fs::remove_file(other);
        }
    }

    /// It does not: the program to go back to, if there is one.
    pub(crate) fn retreat(&self, why: &str) -> Option<PathBuf> {
        let mut note = self.load().ok()?;
        let back = note.back.clone();
        note.fail(why);
        self.save(&note).ok()?;
        back.filter(|path| path.exists())
    }

    pub(crate) fn failed(&self) -> Option<Failed> {
        self.load().ok()?.failed
    }

    /// Notes that a program was not taken.
    pub(crate) fn refuse(&self, run: Timestamp, why: String) -> Result<(), Error> {
        let mut note = self.load()?;
        note.failed = Some(Failed { run, why });
        self.save(&note)
    }

    /// Where the program with this digest is put. Those that were tried before and did not work go.
    pub(crate) fn place(&self, digest: &str) -> Result<PathBuf, Error> {
        let folder = self.root.join(FOLDER);
        let failed = |source| Error::DataDir { path: folder.clone(), source };
        fs::create_dir_all(&folder).map_err(failed)?;
        let short: String = digest.chars().filter(char::is_ascii_hexdigit).take(16).collect();
        let path = folder.join(format!("longshore-{short}"));
        let note = self.load()?;
        let noted = [note.chosen, note.before].into_iter().flatten().map(|it| it.path);
        let own = fs::read_link(OWN).ok();
        let kept: Vec<PathBuf> = noted.chain(note.back).chain(own).chain([path.clone()]).collect();
        self.sweep(&kept);
        Ok(path)
    }

    /// Notes that the program at `path` is to be handed over to, for the first time. `program` is where this one lies.
    pub(crate) fn choose(&self, path: &Path, run: Timestamp, program: &Path) -> Result<(), Error> {
        let own = Identity::of(Path::new(OWN)).map_err(Error::io("look at the own program"))?;
        let mut note = self.load()?;
        let before =
            note.chosen.take().filter(|chosen| Identity::of(&chosen.path).ok() == Some(own));
        let replaces = before.as_ref().map_or(own, |before| before.replaces);
        note.before = before;
        note.back = Some(program.to_owned());
        note.chosen = Some(Chosen { path: path.to_owned(), replaces, run, is_good: false });
        note.failed = None;
        self.save(&note)
    }

    fn load(&self) -> Result<Note, Error> {
        let path = self.root.join(FILE);
        let found: Option<Note> = whole::read_json(&path)
            .and_then(Found::value)
            .map_err(|source| Error::DataDir { path: path.clone(), source })?;
        Ok(found.unwrap_or_default())
    }

    fn save(&self, note: &Note) -> Result<(), Error> {
        let path = self.root.join(FILE);
        let note = Note { version: VERSION, ..note.clone() };
        let text = serde_json::to_vec_pretty(&note).expect("a note has string keys");
        whole::write(&path, &text, Durability::Synced)
            .map_err(|source| Error::DataDir { path, source })
    }
}

impl Note {
    /// The program before is the one that is handed over to again.
    fn fail(&mut self, why: &str) {
        if let Some(chosen) = self.chosen.take() {
            self.failed = Some(Failed { run: chosen.run, why: why.to_owned() });
        }
        self.chosen = self.before.take();
        self.back = None;
    }
}

/// What a program with the identity `own` hands over to, and the note as it is then.
fn decide(
    mut note: Note,
    own: Identity,
    identity: impl Fn(&Path) -> Option<Identity>,
) -> (Note, Option<PathBuf>) {
    loop {
        let Some(chosen) = note.chosen.clone() else { return (note, None) };
        let its = identity(&chosen.path);
        if its == Some(own) {
            return (note, None);
        }
        if chosen.replaces != own || its.is_none() {
            // Somebody has installed another program since, or taken that one away.
            (note.chosen, note.before, note.back) = (None, None, None);
            return (note, None);
        }
        if chosen.is_good {
            return (note, Some(chosen.path));
        }
        note.fail("the region's program was started, and ended before it had checked in");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(inode: u64) -> Identity {
        Identity { device: 1, inode, size: 2, modified_s: 3 }
    }

    /// The program at `/N` is the inode N; what the host starts is 1.
    fn known(path: &Path) -> Option<Identity> {
        path.to_str()?.strip_prefix('/')?.parse().ok().map(identity)
    }

    fn chosen(inode: u64, is_good: bool) -> Chosen {
        let path = PathBuf::from(format!("/{inode}"));
        Chosen { path, replaces: identity(1), run: Timestamp(inode), is_good }
    }

    fn path(inode: u64) -> Option<PathBuf> {
        Some(PathBuf::from(format!("/{inode}")))
    }

    #[test]
    fn a_process_is_of_another_program_if_its_file_is_another() {
        let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        // Until it is that, it is a copy of this one.
        for _ in 0..1_000 {
            if is_of_another_program(other.id()) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(is_of_another_program(other.id()));
        assert!(!is_of_another_program(std::process::id()));
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(!is_of_another_program(other.id()), "it is none");
    }

    #[test]
    fn what_a_host_starts_hands_over_to_what_is_good() {
        let note = Note { chosen: Some(chosen(2, true)), ..Note::default() };
        assert_eq!(decide(note.clone(), identity(1), known), (note.clone(), path(2)));
        assert_eq!(decide(note.clone(), identity(2), known), (note, None), "it is that itself");
        assert_eq!(decide(Note::default(), identity(1), known), (Note::default(), None));
    }

    #[test]
    fn what_somebody_has_installed_since_is_run_itself() {
        let note = Note { chosen: Some(chosen(2, true)), ..Note::default() };
        let (note, next) = decide(note, identity(7), known);
        assert_eq!((note.chosen, next), (None, None));
        let gone = Chosen { path: "/gone".into(), ..chosen(2, true) };
        let (note, next) =
            decide(Note { chosen: Some(gone), ..Note::default() }, identity(1), known);
        assert_eq!((note.chosen, next), (None, None));
    }

    #[test]
    fn what_ended_on_trial_is_not_tried_again_and_the_one_before_is() {
        let trial = Note { chosen: Some(chosen(3, false)), ..Note::default() };
        let (note, next) = decide(trial, identity(1), known);
        assert_eq!((&note.chosen, next), (&None, None));
        assert_eq!(note.failed.unwrap().run, Timestamp(3));
        let trial = Note {
            chosen: Some(chosen(3, false)),
            before: Some(chosen(2, true)),
            back: path(2),
            ..Note::default()
        };
        // On trial itself it goes on.
        assert_eq!(decide(trial.clone(), identity(3), known).1, None);
        let (note, next) = decide(trial, identity(1), known);
        assert_eq!((note.chosen, next), (Some(chosen(2, true)), path(2)));
        assert!(note.failed.unwrap().why.contains("ended before"));
    }

    #[test]
    fn what_did_not_work_takes_no_room_once_another_comes() {
        let dir = tempfile::tempdir().unwrap();
        let successors = Successors::of(dir.path());
        let first = successors.place("aaaa").unwrap();
        fs::write(&first, "program").unwrap();
        successors.choose(&first, Timestamp(5), Path::new(OWN)).unwrap();
        let half = dir.path().join(FOLDER).join(".half");
        fs::write(&half, "pro").unwrap();
        let second = successors.place("bbbb").unwrap();
        assert!(first.exists() && !half.exists(), "the first is handed over to");
        assert_eq!(successors.next().unwrap(), None, "it did not work");
        fs::write(&second, "program").unwrap();
        successors.place("bbbb").unwrap();
        assert!(!first.exists() && second.exists());
    }

    #[test]
    fn a_program_is_on_trial_until_it_is_good_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let successors = Successors::of(dir.path());
        assert!(!successors.is_on_trial());
        assert_eq!(successors.next().unwrap(), None);
        let at = successors.place("abcdef").unwrap();
        fs::write(&at, "program").unwrap();
        successors.choose(&at, Timestamp(5), Path::new(OWN)).unwrap();
        assert!(!successors.is_on_trial(), "this test is not it");
        assert_eq!(successors.next().unwrap(), None, "it is not tried twice");
        assert_eq!(successors.failed().unwrap().run, Timestamp(5));
        successors.choose(&at, Timestamp(6), Path::new(OWN)).unwrap();
        successors.is_good().unwrap();
        assert_eq!(successors.next().unwrap(), Some(at));
        assert_eq!(successors.failed(), None);
        successors.refuse(Timestamp(7), "no room".to_owned()).unwrap();
        assert_eq!(successors.failed().unwrap().why, "no room");
    }
}
