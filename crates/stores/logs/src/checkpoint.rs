//! Start and checkpoint: how the state comes back from the disk, and how the journal stays short.
//!
//! A checkpoint flushes the stream files that were written since the last one, writes the catalog
//! and removes the journals that both now contain. Losing one costs a longer start, nothing else.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use files::whole::{self, Durability, Found};
use tracing::warn;

use crate::catalog::{Change, Snapshot, State, StreamUid};
use crate::error::LogsError;
use crate::frame::Header;
use crate::journal::{self, Record};
use crate::stream_file::StreamFiles;

const CATALOG: &str = "catalog.json";

/// What was found on disk.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) state: State,
    /// Streams whose files were written again from the journal.
    pub(crate) dirty: BTreeSet<StreamUid>,
    pub(crate) next_journal: u64,
}

/// Reads the catalog and replays the journals that it does not contain.
pub(crate) fn recover(dir: &Path, files: &StreamFiles) -> Result<Recovered, LogsError> {
    let (mut state, first) = match read_catalog(dir)? {
        Some(snapshot) => {
            let first = snapshot.journal;
            (State::restore(snapshot), first)
        }
        None => (State::default(), 0),
    };
    let mut dirty = BTreeSet::new();
    let numbers = journal::list(dir).map_err(LogsError::fault("list the journals"))?;
    let last = numbers.last().copied();
    for number in numbers.iter().copied().filter(|number| *number >= first) {
        let torn = journal::replay(dir, number, |record| {
            replay_one(&mut state, files, &mut dirty, record)
        })?;
        if torn > 0 && Some(number) != last {
            let path = journal::path_of(dir, number);
            return Err(LogsError::Damaged { path, offset: 0, what: "its tail is torn" });
        }
        if torn > 0 {
            warn!(bytes = torn, "dropped the unanswered tail of the log journal");
        }
    }
    for uid in &dirty {
        if let Some(stream) = state.streams.get(uid) {
            files.truncate(*uid, stream.end).map_err(LogsError::fault("trim a log stream"))?;
        }
    }
    Ok(Recovered { state, dirty, next_journal: last.map_or(first, |last| last.max(first)) + 1 })
}

fn replay_one(
    state: &mut State,
    files: &StreamFiles,
    dirty: &mut BTreeSet<StreamUid>,
    record: Record,
) -> Result<(), LogsError> {
    match record {
        Record::Change(change) => {
            let punched = match &change {
                Change::Trimmed { uid, head, .. } => Some((*uid, *head)),
                _ => None,
            };
            for gone in state.apply(change) {
                files.remove(gone).map_err(LogsError::fault("remove a log stream"))?;
                dirty.remove(&gone);
            }
            if let Some((uid, head)) = punched {
                // The space comes back later if not now; readers start at the head either way.
                let _ = files.punch(uid, head);
            }
        }
        Record::Frame { stream, offset, frame, key } => {
            let Ok(header) = Header::read(&frame) else {
                let path = files.path(stream);
                return Err(LogsError::Damaged { path, offset, what: "a journaled frame" });
            };
            if state.streams.contains_key(&stream) {
                files
                    .write(stream, offset, &frame)
                    .map_err(LogsError::fault("write a log stream"))?;
                state.apply_frame(stream, offset, &header, key);
                dirty.insert(stream);
            }
        }
    }
    Ok(())
}

fn read_catalog(dir: &Path) -> Result<Option<Snapshot>, LogsError> {
    let path = dir.join(CATALOG);
    match whole::read_json(&path).map_err(LogsError::fault("read the log catalog"))? {
        Found::Missing => Ok(None),
        Found::Whole(snapshot) => Ok(Some(snapshot)),
        Found::Torn { .. } => Err(LogsError::Damaged { path, offset: 0, what: "it is no catalog" }),
    }
}

/// One checkpoint's work; runs beside the writer.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) dir: PathBuf,
    pub(crate) files: StreamFiles,
    pub(crate) snapshot: Snapshot,
    pub(crate) dirty: BTreeSet<StreamUid>,
}

impl Checkpoint {
    pub(crate) fn run(&self) -> Result<(), LogsError> {
        self.flush_streams().map_err(LogsError::fault("flush the log streams"))?;
        self.write_catalog().map_err(LogsError::fault("write the log catalog"))?;
        let numbers = journal::list(&self.dir).map_err(LogsError::fault("list the journals"))?;
        for number in numbers.into_iter().filter(|number| *number < self.snapshot.journal) {
            std::fs::remove_file(journal::path_of(&self.dir, number))
                .map_err(LogsError::fault("remove a journal"))?;
        }
        Ok(())
    }

    fn flush_streams(&self) -> std::io::Result<()> {
        let mut dirs = BTreeSet::from([self.files.dir().to_owned()]);
        for uid in &self.dirty {
            self.files.sync(*uid)?;
            dirs.extend(self.files.path(*uid).parent().map(Path::to_owned));
        }
        dirs.iter().filter(|dir| dir.exists()).try_for_each(|dir| journal::sync_dir(dir))
    }

    fn write_catalog(&self) -> std::io::Result<()> {
        let text = serde_json::to_vec(&self.snapshot)?;
        whole::write(&self.dir.join(CATALOG), &text, Durability::Synced)
    }
}
