//! Following a container's output by what Docker keeps of it: `json-file`, with the time of each entry.
//!
//! Docker has no number for an entry, so that a place is the time of the last one that was read, and which of those of that
//! time it is. Whoever goes on from there reads again from that second on and passes over what comes before.
//!
//! **Invariant:** entries come in the order in which Docker keeps them, each once, and the same ones again have the same
//! places.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptions;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use longshore_types::{Chain, Timestamp};
use sandbox::{ContainerId, Phase, SandboxError, Stream};
use tracing::{debug, warn};

use crate::Docker;

/// Until a container that is not started yet is looked at again.
const CREATED_PAUSE: Duration = Duration::from_millis(200);
/// Until an engine that does not answer is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Entries of two streams are kept in an order that their times may not have, by less than this.
const DISORDER_NS: u64 = 2_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;
/// Times whose entries are counted while nothing is sought: between two pieces of one line there are not as many.
const TIMES_MAX: usize = 4_096;

/// A place in a container's output: after so many entries, the last of which is the `nth` of its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    pub entries: u64,
    /// Nanoseconds since 1970.
    pub time: u64,
    pub nth: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    pub at: Timestamp,
    pub stream: Stream,
    /// The line goes on in the stream's next record.
    pub is_partial: bool,
    /// Without its line break.
    pub bytes: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogItem {
    Record(LogRecord),
    /// The container has ended, or is gone, and everything was read.
    End,
}

/// Follows one container's output.
pub struct Follower {
    docker: Docker,
    id: ContainerId,
    cursor: Cursor,
    places: Places,
    stream: Option<BoxStream<'static, Result<LogOutput, bollard::errors::Error>>>,
    /// Whether the container had ended before the stream was opened: its end is that of the output then.
    is_last: bool,
    is_over: bool,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower")
            .field("id", &self.id)
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}

impl Docker {
    /// The output of a container, from a place on.
    pub fn output(&self, id: ContainerId, from: Cursor) -> Follower {
        Follower {
            docker: self.clone(),
            id,
            cursor: from,
            places: Places::default(),
            stream: None,
            is_last: false,
            is_over: false,
        }
    }
}

impl Follower {
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The next item; waits for it. Cancelling loses nothing.
    pub async fn next(&mut self) -> io::Result<LogItem> {
        loop {
            if self.is_over {
                return Ok(LogItem::End);
            }
            let Some(stream) = &mut self.stream else {
                self.open().await;
                continue;
            };
            match stream.next().await {
                Some(Ok(output)) => {
                    if let Some(record) = self.take(output) {
                        return Ok(LogItem::Record(record));
                    }
                }
                Some(Err(error)) => {
                    debug!(container = %self.id, error = %Chain(&error), "output of a container broke off");
                    self.stream = None;
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                None => {
                    // What was written between the stream's end and the container's is read in another round.
                    (self.is_over, self.stream) = (self.is_last, None);
                }
            }
        }
    }

    async fn open(&mut self) {
        let phase = match self.docker.phase(&self.id).await {
            Ok(phase) => phase,
            Err(SandboxError::NotFound { .. }) => {
                self.is_over = true;
                return;
            }
            Err(error) => {
                warn!(container = %self.id, error = %Chain(&error), "output of a container cannot be read now");
                tokio::time::sleep(RETRY_PAUSE).await;
                return;
            }
        };
        if phase == Phase::Created {
            let started = self.docker.started.notified();
            let _ = tokio::time::timeout(CREATED_PAUSE, started).await;
            return;
        }
        self.is_last = phase == Phase::Exited;
        self.places = Places::from(self.cursor);
        let options = LogsOptions {
            follow: !self.is_last,
            stdout: true,
            stderr: true,
            timestamps: true,
            since: i32::try_from(since(self.cursor)).unwrap_or(i32::MAX),
            tail: "all".to_owned(),
            ..LogsOptions::default()
        };
        let (api, name) = (self.docker.api.clone(), self.docker.name(&self.id));
        self.stream = Some(api.logs(&name, Some(options)).boxed());
    }

    /// What an entry says, unless it was read before.
    fn take(&mut self, output: LogOutput) -> Option<LogRecord> {
        let (stream, message) = match output {
            LogOutput::StdErr { message } => (Stream::Stderr, message),
            LogOutput::StdOut { message }
            | LogOutput::StdIn { message }
            | LogOutput::Console { message } => (Stream::Stdout, message),
        };
        let Some((time, text)) = split(&message) else {
            debug!(container = %self.id, "an entry of a container's output has no time");
            return None;
        };
        let nth = self.places.next(time)?;
        self.cursor = Cursor { entries: self.cursor.entries + 1, time, nth };
        let (bytes, is_partial) = match text.strip_suffix(b"\n") {
            Some(line) => (line, false),
            None => (text, true),
        };
        let at = Timestamp(time / 1_000_000);
        Some(LogRecord { at, stream, is_partial, bytes: bytes.to_vec() })
    }
}

/// The second from which on entries are asked for: those of others that were kept out of order are among them.
fn since(cursor: Cursor) -> u64 {
    cursor.time.saturating_sub(DISORDER_NS) / SECOND_NS
}

/// Where in a stream of entries one is.
#[derive(Debug, Default)]
struct Places {
    /// How many there were of each time lately: pieces of a long line have one, and others may lie between them.
    seen: BTreeMap<u64, u64>,
    /// The last that was read before, if it is still to come.
    sought: Option<Cursor>,
}

impl Places {
    /// For a stream that begins at or before a place.
    fn from(cursor: Cursor) -> Self {
        Self { seen: BTreeMap::new(), sought: (cursor.entries > 0).then_some(cursor) }
    }

    /// Which of its time the next entry is; nothing if it was read before.
    fn next(&mut self, time: u64) -> Option<u64> {
        let seen = self.seen.entry(time).or_default();
        let nth = *seen;
        *seen += 1;
        self.seen = self.seen.split_off(&time.saturating_sub(DISORDER_NS));
        let Some(sought) = self.sought else {
            if TIMES_MAX < self.seen.len() {
                self.seen.pop_first();
            }
            return Some(nth);
        };
        let is_it = (time, nth) == (sought.time, sought.nth);
        // It is gone where what must come after it is there.
        let is_beyond = sought.time.saturating_add(DISORDER_NS) < time;
        if is_it || is_beyond {
            self.sought = None;
        }
        is_beyond.then_some(nth)
    }
}

/// `2026-11-30T16:12:10.145516771Z text`
fn split(message: &[u8]) -> Option<(u64, &[u8])> {
    let end = message.iter().position(|byte| *byte == b' ')?;
    let (time, text) = (&message[..end], &message[end + 1..]);
    Some((nanoseconds(std::str::from_utf8(time).ok()?)?, text))
}

/// Nanoseconds since 1970 of a time as Docker writes it, which has up to nine digits of a second.
pub(crate) fn nanoseconds(text: &str) -> Option<u64> {
    let ms = Timestamp::from_iso8601(text)?.0;
    let fraction: String = match text.split_once('.') {
        Some((_, rest)) => rest.chars().take_while(char::is_ascii_digit).take(9).collect(),
        None => String::new(),
    };
    let nanoseconds: u64 = format!("{fraction:0<9}").parse().ok()?;
    (ms / 1_000).checked_mul(SECOND_NS)?.checked_add(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_begins_with_its_time() {
        let (time, text) = split(b"1970-01-01T00:00:01.000000005Z one two\n").unwrap();
        assert_eq!((time, text), (1_000_000_005, &b"one two\n"[..]));
        assert_eq!(nanoseconds("1970-01-01T00:00:02Z"), Some(2_000_000_000));
        assert_eq!(nanoseconds("1970-01-01T00:00:02.5Z"), Some(2_500_000_000));
        assert_eq!(split(b"nothing"), None);
    }

    /// What is read from a place on, of entries at these times.
    fn read(mut cursor: Cursor, times: &[u64]) -> Vec<Cursor> {
        let mut places = Places::from(cursor);
        let mut read = Vec::new();
        for time in times {
            if let Some(nth) = places.next(*time) {
                cursor = Cursor { entries: cursor.entries + 1, time: *time, nth };
                read.push(cursor);
            }
        }
        read
    }

    #[test]
    fn whoever_goes_on_reads_what_is_left_at_the_same_places() {
        // Two streams, whose entries are not in the order of their times, and some of one time.
        let times = [5, 7, 6, 7, 7, 9, 9, 8];
        let whole = read(Cursor::default(), &times);
        assert_eq!(whole.len(), times.len());
        assert!(whole.is_sorted(), "{whole:?}");
        for (index, place) in whole.iter().enumerate() {
            assert_eq!(read(*place, &times), whole[index + 1..], "after {index}");
        }
    }

    #[test]
    fn where_the_last_one_read_is_gone_nothing_later_is_passed_over() {
        let gone = Cursor { entries: 4, time: 5, nth: 0 };
        let later = DISORDER_NS + 6;
        assert_eq!(read(gone, &[later, later + 1]).len(), 2);
    }

    #[test]
    fn however_much_is_written_few_times_are_remembered() {
        let (mut places, times) = (Places::from(Cursor::default()), 0..100_000_u64);
        assert!({ times }.all(|time| places.next(time) == Some(0)));
        assert_eq!(places.seen.len(), TIMES_MAX);
        // Pieces of one line that others lie between.
        assert_eq!(places.next(99_000), Some(1));
    }
}
