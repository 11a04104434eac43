//! The files of one container: what must be found again under `<state_dir>/<id>/`, and what only
//! serves its making and running under `<run_dir>/<id>.d/`, which is usually in memory.
//!
//! **Invariant:** a reader sees all of a file or none: each is written aside and renamed into place.
//! The record, which is written several times while a container starts, is a line that is added to
//! the lines before it; the last whole one counts. Only this module knows the files' names.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ::files::whole::{self, Durability};
use serde::Serialize;

use crate::error::{Doing, SandboxError};
use crate::ids::ContainerId;
use crate::proto::Record;
use crate::spec::Exit;

/// Where one container's files are.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    dir: PathBuf,
    run: PathBuf,
}

impl Files {
    pub(crate) fn of(state_dir: &Path, run_dir: &Path, id: &ContainerId) -> Self {
        Self { dir: state_dir.join(id.as_str()), run: run_dir.join(format!("{id}.d")) }
    }

    /// The OCI bundle, with the document in it.
    pub(crate) fn bundle(&self) -> PathBuf {
        self.run.join("bundle")
    }

    /// Where the overlay appears, in the shim's namespace only.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.run.join("bundle/rootfs")
    }

    /// The runtime's own state.
    pub(crate) fn runtime(&self) -> PathBuf {
        self.run.join("oci")
    }

    /// Where the `/dev/shm` of a joined container appears, in the shim's namespace only.
    pub(crate) fn shm(&self) -> PathBuf {
        self.run.join("shm")
    }

    /// The name of the terminal's socket in [`Files::run`].
    pub(crate) const CONSOLE: &str = "console.sock";

    /// What only serves its making and running.
    pub(crate) fn run(&self) -> &Path {
        &self.run
    }

    pub(crate) fn console(&self) -> PathBuf {
        self.run.join(Self::CONSOLE)
    }

    /// Where a named runtime writes the pid of the container's first process.
    pub(crate) fn pid(&self) -> PathBuf {
        self.run.join("pid")
    }

    /// What a named runtime said last.
    pub(crate) fn runtime_log(&self) -> PathBuf {
        self.run.join("runtime.log")
    }

    pub(crate) fn process(&self, number: u32) -> PathBuf {
        self.run.join(format!("exec-{number}.json"))
    }

    pub(crate) fn document(&self) -> PathBuf {
        self.run.join("bundle/config.json")
    }

    /// False if it is there already.
    pub(crate) fn create(&self) -> Result<bool, SandboxError> {
        match DirBuilder::new().mode(0o700).create(&self.dir) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error).doing_at("create", &self.dir),
        }
    }

    /// A missing one is fine.
    pub(crate) fn remove(&self) -> Result<(), SandboxError> {
        self.remove_run()?;
        remove_tree(&self.dir)
    }

    /// What only serves its making and running. A missing one is fine.
    pub(crate) fn remove_run(&self) -> Result<(), SandboxError> {
        remove_tree(&self.run)
    }

    pub(crate) fn read_record(&self) -> Result<Option<Record>, SandboxError> {
        let path = self.dir.join("container.json");
        let Some(text) = read_text(&path)? else { return Ok(None) };
        // What a crash of the machine left of a line may be anything.
        let lines = text.split_inclusive(|byte| *byte == b'\n').rev();
        let whole = lines.filter(|line| line.ends_with(b"\n"));
        Ok(whole.filter_map(|line| serde_json::from_slice(line).ok()).next())
    }

    pub(crate) fn write_record(&self, record: &Record) -> Result<(), SandboxError> {
        let path = self.dir.join("container.json");
        let mut line = encode(&path, record)?;
        line.push(b'\n');
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(&line)).doing_at("write", &path)
    }

    /// Half of one, which only a crash of the machine can leave, is none.
    pub(crate) fn read_exit(&self) -> Result<Option<Exit>, SandboxError> {
        for dir in [&self.dir, &self.run] {
            let text = read_text(&dir.join("exit.json"))?;
            if let Some(exit) = text.and_then(|text| serde_json::from_slice(&text).ok()) {
                return Ok(Some(exit));
            }
        }
        Ok(None)
    }

    pub(crate) fn write_exit(&self, exit: &Exit) -> Result<(), SandboxError> {
        // A full disk must not cost the exit code; what a reboot takes from memory it takes from the
        // container as well.
        write(&self.dir.join("exit.json"), exit)
            .or_else(|error| write(&self.run.join("exit.json"), exit).map_err(|_| error))
    }
}

/// Removes a directory and what is in it; a missing one is fine.
pub(crate) fn remove_tree(dir: &Path) -> Result<(), SandboxError> {
    ::files::dir::remove_tree(dir).doing_at("remove", dir)
}

/// Puts `value` under `path` as a whole.
///
/// Not synced: a file that a crash of the machine could lose describes a container that the same
/// crash ended.
pub(crate) fn write(path: &Path, value: &impl Serialize) -> Result<(), SandboxError> {
    let text = encode(path, value)?;
    whole::write(path, &text, Durability::DiesWithTheMachine).doing_at("write", path)
}

fn read_text(path: &Path) -> Result<Option<Vec<u8>>, SandboxError> {
    match fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).doing_at("read", path),
    }
}

fn encode(path: &Path, value: &impl Serialize) -> Result<Vec<u8>, SandboxError> {
    serde_json::to_vec(value).map_err(io::Error::from).doing_at("encode", path)
}
