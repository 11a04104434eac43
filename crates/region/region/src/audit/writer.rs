//! The files, and the thread that appends to them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use longshore_types::{Chain, Clock};

use super::limits::{FILE_BYTES_MAX, FILES_MAX, QUEUE_MAX};
use super::{Entry, Line};

/// Lines that are written with one call at most.
const BATCH_MAX: usize = 256;

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
#[error("failed to open the audit log in {dir}")]
pub struct AuditError {
    dir: PathBuf,
    source: io::Error,
}

/// The log of a region. What it was given is written when it goes.
#[derive(Debug)]
pub struct Log {
    queue: Option<SyncSender<Entry>>,
    lost: Arc<AtomicU64>,
    writer: Option<JoinHandle<()>>,
}

impl Log {
    /// Opens the log in `dir`, and starts the thread that writes it.
    pub fn open(dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, AuditError> {
        let failed = |source| AuditError { dir: dir.to_owned(), source };
        let files = Files::open(dir).map_err(failed)?;
        let (queue, received) = sync_channel(QUEUE_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer { files, clock, lost: Arc::clone(&lost) };
        let thread = std::thread::Builder::new().name("audit".to_owned());
        let writer = thread.spawn(move || writer.run(&received)).map_err(failed)?;
        Ok(Self { queue: Some(queue), lost, writer: Some(writer) })
    }

    /// Has a line written, some time soon. Never waits: if too many wait already, the line is lost and counted.
    pub fn note(&self, entry: Entry) {
        let Some(queue) = &self.queue else { return };
        match queue.try_send(entry) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // Without senders the thread ends once it has written what is there.
        drop(self.queue.take());
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the audit log's thread panicked");
        }
    }
}

struct Writer {
    files: Files,
    clock: Arc<dyn Clock>,
    lost: Arc<AtomicU64>,
}

impl Writer {
    fn run(mut self, received: &Receiver<Entry>) {
        while let Ok(first) = received.recv() {
            let mut text = Vec::new();
            let lost = self.lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                let time = self.clock.now().iso8601();
                push(&mut text, &Line::Lost { time, lost });
            }
            let mut lines = 1_u64;
            push(&mut text, &Line::Entry(Box::new(first)));
            for next in received.try_iter().take(BATCH_MAX) {
                push(&mut text, &Line::Entry(Box::new(next)));
                lines += 1;
            }
            if let Err(error) = self.files.append(&text) {
                tracing::error!(error = %Chain(&error), lines, "failed to write the audit log");
                self.lost.fetch_add(lines.saturating_add(lost), Ordering::Relaxed);
            }
        }
    }
}

fn push(text: &mut Vec<u8>, line: &Line) {
    if serde_json::to_writer(&mut *text, line).is_ok() {
        text.push(b'\n');
    }
}

/// The file that is written to, and those before it: `00000001.jsonl` and so on.
#[derive(Debug)]
struct Files {
    dir: PathBuf,
    number: u64,
    file: File,
    written: u64,
    /// A write failed: there may be a part of a line after what was written.
    is_torn: bool,
}

impl Files {
    fn open(dir: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let number = numbers(dir)?.last().copied().unwrap_or(1);
        let file = open(dir, number)?;
        let written = file.metadata()?.len();
        let mut files = Self { dir: dir.to_owned(), number, file, written, is_torn: false };
        // A line that a kill cut off ends here.
        if written > 0 && !ends_with_newline(&path_of(dir, number))? {
            files.append(b"\n")?;
        }
        Ok(files)
    }

    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        if FILE_BYTES_MAX <= self.written {
            self.rotate()?;
        }
        self.mend()?;
        self.is_torn = true;
        self.file.write_all(text)?;
        self.is_torn = false;
        self.written = self.written.saturating_add(text.len() as u64);
        Ok(())
    }

    /// Takes back what a write that failed has left, or ends the line, so that the next begins one.
    fn mend(&mut self) -> io::Result<()> {
        if self.is_torn && self.file.set_len(self.written).is_err() {
            self.file.write_all(b"\n")?;
            self.written = self.file.metadata()?.len();
        }
        self.is_torn = false;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        let next = self.number.saturating_add(1);
        self.file = open(&self.dir, next)?;
        (self.number, self.written, self.is_torn) = (next, 0, false);
        let numbers = numbers(&self.dir)?;
        let old = numbers.len().saturating_sub(FILES_MAX);
        numbers.iter().take(old).try_for_each(|old| fs::remove_file(path_of(&self.dir, *old)))
    }
}

fn open(dir: &Path, number: u64) -> io::Result<File> {
    let path = path_of(dir, number);
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn ends_with_newline(path: &Path) -> io::Result<bool> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = File::open(path)?;
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

pub(super) fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}.jsonl"))
}

/// The numbers of the files that are there, in order.
pub(super) fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number =
            name.to_str().and_then(|name| name.strip_suffix(".jsonl")?.parse::<u64>().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn texts(dir: &Path) -> Vec<String> {
        let numbers = numbers(dir).unwrap();
        numbers.iter().map(|number| fs::read_to_string(path_of(dir, *number)).unwrap()).collect()
    }

    #[test]
    fn files_are_rotated_and_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Files::open(dir.path()).unwrap();
        for number in 0..2 * FILES_MAX {
            files.append(format!("{number}\n").as_bytes()).unwrap();
            files.written = FILE_BYTES_MAX;
        }
        let left = texts(dir.path());
        let last = 2 * FILES_MAX - 1;
        assert_eq!(left.len(), FILES_MAX);
        assert_eq!(left.last(), Some(&format!("{last}\n")));
        let mode = fs::metadata(path_of(dir.path(), files.number)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_does_not_fit_into_the_queue_is_counted_and_nobody_waits() {
        let dir = tempfile::tempdir().unwrap();
        // A queue that nobody empties.
        let (queue, received) = sync_channel(1);
        let lost = Arc::new(AtomicU64::new(0));
        let log = Log { queue: Some(queue), lost: Arc::clone(&lost), writer: None };
        for number in 0..4 {
            log.note(super::super::entry::tests::entry(number));
        }
        assert_eq!(lost.load(Ordering::Relaxed), 3);
        drop(log);
        let clock: Arc<dyn Clock> = Arc::new(longshore_types::SeededEnv::from_seed(1));
        Writer { files: Files::open(dir.path()).unwrap(), clock, lost }.run(&received);
        let text = texts(dir.path()).concat();
        let lines: Vec<Line> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(matches!(lines[..], [Line::Lost { lost: 3, .. }, Line::Entry(_)]), "{lines:?}");
    }

    #[test]
    fn a_log_is_written_when_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(longshore_types::SeededEnv::from_seed(1));
        let log = Log::open(dir.path(), clock).unwrap();
        for number in 0..1_000 {
            log.note(super::super::entry::tests::entry(number));
        }
        drop(log);
        assert_eq!(texts(dir.path()).concat().lines().count(), 1_000);
    }

    #[test]
    fn what_a_write_that_failed_has_left_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Files::open(dir.path()).unwrap();
        files.append(b"first\n").unwrap();
        let path = path_of(dir.path(), files.number);
        // As far as a full disk let it.
        let whole = std::mem::replace(&mut files.file, File::open(&path).unwrap());
        (&whole).write_all(b"{\"to").unwrap();
        files.append(b"lost\n").unwrap_err();
        files.file = whole;
        files.append(b"next\n").unwrap();
        assert_eq!(texts(dir.path()), ["first\nnext\n"]);
        assert_eq!(files.written, 11);
    }

    #[test]
    fn a_log_is_gone_on_with_and_a_torn_line_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        Files::open(dir.path()).unwrap().append(b"{\"to").unwrap();
        Files::open(dir.path()).unwrap().append(b"next\n").unwrap();
        assert_eq!(texts(dir.path()), ["{\"to\nnext\n"]);
    }
}
