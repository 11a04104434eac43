//! What processes say of themselves, on a disk that may be full, slow or gone.
//!
//! A long-lived process queues its lines, and one thread writes them; a line that finds the queue
//! full or cannot be written is dropped, and how many were is said as soon as one can be written
//! again. **Invariant:** saying something never waits, fails or panics.
//!
//! Started by `longshore up --detach`, a process has its log file as standard output and error. It
//! rotates that file itself and puts the new one in the old one's place, so that whatever is
//! written there (panics, the C library's words) goes to the file that has the name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use nix::sys::stat::fstat;
use nix::unistd::{dup2_stderr, dup2_stdout, ftruncate};
use tracing_subscriber::fmt::MakeWriter;

/// A log file that has grown beyond this is rotated.
pub(crate) const LOG_BYTES_MAX: u64 = 8 << 20;
/// The files of one process's log: the one that is written to, and older ones.
pub(crate) const LOG_FILES_MAX: u32 = 4;
/// Lines that wait to be written; more are dropped.
const LINES_WAITING_MAX: usize = 1024;
/// What is kept of a line.
const LINE_BYTES_MAX: usize = 16 << 10;
/// How long the end of a process waits for its last lines to be written.
const FLUSH_MAX: Duration = Duration::from_secs(1);
/// A file that cannot be opened is tried again after so many lines.
const LINES_BETWEEN_TRIES: u64 = 64;

/// Writes to standard error what can be written; nothing is done about the rest.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Quiet;

impl Write for Quiet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `eprintln!` that does not panic when nobody can be told.
macro_rules! tell {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!($crate::logging::Quiet, $($words)*);
    }};
}
pub(crate) use tell;

enum Message {
    Line(Vec<u8>),
    /// Answered when all lines before it are dealt with.
    Flush(SyncSender<()>),
}

/// Queues lines.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut line = bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes).to_vec();
        if line.last().is_some_and(|last| *last != b'\n') {
            line.push(b'\n');
        }
        if self.queue.try_send(Message::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Lines {
    /// Starts the thread that writes. Without one (there are too many threads) lines are dropped.
    fn start(log: Option<PathBuf>) -> Self {
        let (queue, waiting) = sync_channel(LINES_WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer { log: log.map(LogFile::new), dropped: Arc::clone(&dropped) };
        let spawned = std::thread::Builder::new().name("log".to_owned());
        if let Err(source) = spawned.spawn(move || writer.run(&waiting)) {
            tell!("longshore: nothing will be logged, a thread could not be started: {source}");
        }
        Self { queue, dropped }
    }

    fn flush_all(&self) {
        let (done, told) = sync_channel(1);
        if self.queue.try_send(Message::Flush(done)).is_ok() {
            let _ = told.recv_timeout(FLUSH_MAX);
        }
    }
}

/// Held while a process logs; its last lines are written when this goes.
#[derive(Debug)]
pub(crate) struct Logging(Option<Lines>);

impl Logging {
    /// Says the last word of a process.
    pub(crate) fn say(&self, text: &str) {
        let line = format!("{text}\n");
        let _ = match &self.0 {
            Some(lines) => lines.clone().write_all(line.as_bytes()),
            None => Quiet.write_all(line.as_bytes()),
        };
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        if let Some(lines) = &self.0 {
            lines.flush_all();
        }
    }
}

/// Begins to log what `filter` lets through: as a command does, or as a long-lived process, which
/// may have a file of its own.
pub(crate) fn start(
    filter: tracing_subscriber::EnvFilter,
    is_long_lived: bool,
    log: Option<PathBuf>,
) -> Logging {
    let is_terminal = io::IsTerminal::is_terminal(&io::stderr());
    // By default a line that cannot be written is complained of with `eprintln!`, which panics then.
    let format = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    let format = format.with_ansi(is_terminal && log.is_none());
    if !is_long_lived {
        format.with_writer(|| Quiet).init();
        return Logging(None);
    }
    let lines = Lines::start(log);
    format.with_writer(lines.clone()).init();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let said = panic.payload();
        let text = said.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| said.downcast_ref::<String>().cloned()).unwrap_or_default();
        tracing::error!(place, text, "a thread panicked");
    }));
    Logging(Some(lines))
}

/// What the thread has.
struct Writer {
    log: Option<LogFile>,
    dropped: Arc<AtomicU64>,
}

impl Writer {
    fn run(mut self, waiting: &Receiver<Message>) {
        while let Ok(message) = waiting.recv() {
            match message {
                Message::Line(line) => self.write(&line),
                Message::Flush(done) => {
                    let _ = done.send(());
                }
            }
        }
    }

    fn write(&mut self, line: &[u8]) {
        if let Some(log) = &mut self.log {
            log.keep_in_place();
        }
        let written = io::stderr().lock().write_all(line);
        if written.is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let text = format!("{dropped} lines before this one could not be written\n");
            if io::stderr().lock().write_all(text.as_bytes()).is_err() {
                self.dropped.fetch_add(dropped, Ordering::Relaxed);
            }
        }
    }
}

/// The file that standard output and error go to.
struct LogFile {
    path: PathBuf,
    /// The file that we put in place, by device and number.
    current: Option<(u64, u64)>,
    lines: u64,
}

impl LogFile {
    fn new(path: PathBuf) -> Self {
        Self { path, current: None, lines: 0 }
    }

    /// Sees to it that standard error is the file of this name, and that this one is not too large.
    fn keep_in_place(&mut self) {
        let is_due = self.lines.is_multiple_of(LINES_BETWEEN_TRIES);
        self.lines = self.lines.wrapping_add(1);
        let Ok(open) = fstat(io::stderr()) else { return };
        let identity = (open.st_dev, open.st_ino);
        let bytes = u64::try_from(open.st_size).unwrap_or(0);
        if self.current.is_none() && is_due {
            let named = fs::metadata(&self.path).map(|named| (named.dev(), named.ino()));
            match named {
                Ok(named) if named == identity => self.current = Some(identity),
                _ => self.current = put_in_place(&self.path).ok(),
            }
        }
        if self.current == Some(identity) && bytes > LOG_BYTES_MAX {
            match rotate(&self.path) {
                Ok(new) => self.current = Some(new),
                // Better the latest lines than none, or a full disk.
                Err(_) if bytes > 2 * LOG_BYTES_MAX => {
                    let _ = ftruncate(io::stderr(), 0);
                }
                Err(_) => {}
            }
        }
    }
}

/// Opens a log for who appends to it; for its owner only.
pub(crate) fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Makes the file of this name standard output and error.
fn put_in_place(path: &Path) -> io::Result<(u64, u64)> {
    let file = open_log(path)?;
    let meta = file.metadata()?;
    dup2_stdout(&file)?;
    dup2_stderr(&file)?;
    Ok((meta.dev(), meta.ino()))
}

/// Begins a new file; the ones before are renamed, and the oldest goes.
fn rotate(path: &Path) -> io::Result<(u64, u64)> {
    // Opened first: if that cannot be done, the old one stays where it is.
    let new = numbered(path, "new");
    open_log(&new)?;
    shift(path)?;
    fs::rename(&new, path)?;
    put_in_place(path)
}

/// Gives `path.2` the name `path.3`, and so on.
fn shift(path: &Path) -> io::Result<()> {
    for number in (1..LOG_FILES_MAX - 1).rev() {
        let (from, to) = (numbered(path, number), numbered(path, number + 1));
        match fs::rename(&from, &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    fs::rename(path, numbered(path, 1))
}

fn numbered(path: &Path, number: impl std::fmt::Display) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// Bounds a log that several processes append to, and that none of them can rotate: it is copied
/// and cut. A line that is written in between is lost.
pub(crate) fn rotate_shared(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.len() <= LOG_BYTES_MAX {
        return Ok(());
    }
    let copy = numbered(path, "new");
    let copied = File::open(path).and_then(|from| {
        let mut to =
            OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&copy)?;
        io::copy(&mut io::Read::take(from, LOG_BYTES_MAX * 2), &mut to)
    });
    OpenOptions::new().write(true).open(path)?.set_len(0)?;
    if copied.is_err() {
        return fs::remove_file(&copy);
    }
    for number in (1..LOG_FILES_MAX - 1).rev() {
        let _ = fs::rename(numbered(path, number), numbered(path, number + 1));
    }
    fs::rename(&copy, numbered(path, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_move_on_by_one_number_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("region.log");
        for text in ["a", "b", "c", "d", "e"] {
            fs::write(&path, text).unwrap();
            shift(&path).unwrap();
        }
        let texts = [1, 2, 3].map(|number| fs::read_to_string(numbered(&path, number)).unwrap());
        assert_eq!(texts, ["e", "d", "c"]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_log_that_others_append_to_is_bounded_and_they_go_on_at_its_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shims.log");
        let mut shim = open_log(&path).unwrap();
        for round in 0..6_u8 {
            shim.write_all(&vec![b'a' + round; usize::try_from(LOG_BYTES_MAX).unwrap() + 1])
                .unwrap();
            rotate_shared(&path).unwrap();
            shim.write_all(b"after\n").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "after\n");
        }
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            usize::try_from(LOG_FILES_MAX).unwrap()
        );
        let last = fs::read(numbered(&path, 1)).unwrap();
        assert_eq!(last.last(), Some(&b'f'));
    }

    #[test]
    fn lines_that_find_no_room_are_dropped_and_counted() {
        let (queue, waiting) = sync_channel(2);
        let mut lines = Lines { queue, dropped: Arc::default() };
        for _ in 0..5 {
            lines.write_all(b"x\n").unwrap();
        }
        assert_eq!(lines.dropped.load(Ordering::Relaxed), 3);
        lines.write_all(&vec![b'x'; LINE_BYTES_MAX * 2]).unwrap();
        drop(waiting);
        lines.write_all(b"x\n").unwrap();
    }
}
