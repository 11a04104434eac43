//! From pieces of output to log events: joins what was split, and splits what is too long.
//!
//! **Invariant:** an event says how far each stream's output was emitted, itself included; starting again
//! from there repeats no event and loses none.

use std::collections::VecDeque;

use longshore_types::Timestamp;
use regex::bytes::Regex;
use serde::{Deserialize, Serialize};

use crate::ports::{Piece, Position, StdStream};

/// The largest event that CloudWatch Logs takes, less what it adds for itself.
pub(crate) const EVENT_BYTES_MAX: usize = 262_144 - EVENT_OVERHEAD;
pub(crate) const EVENT_OVERHEAD: usize = 26;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEvent {
    pub at: Timestamp,
    pub text: String,
    pub reach: Reach,
    /// What its first line was written to.
    pub stream: StdStream,
}

/// How far the output of each stream has gone. They differ while a line of one goes on, and the other
/// speaks between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    stdout: Position,
    stderr: Position,
}

impl Reach {
    pub fn at(position: Position) -> Self {
        Self { stdout: position, stderr: position }
    }

    /// Where to read on.
    pub fn first(self) -> Position {
        self.stdout.min(self.stderr)
    }

    /// Where reading was.
    pub fn last(self) -> Position {
        self.stdout.max(self.stderr)
    }

    /// The further of the two, for each stream.
    pub fn max(self, other: Self) -> Self {
        let (stdout, stderr) = (self.stdout.max(other.stdout), self.stderr.max(other.stderr));
        Self { stdout, stderr }
    }

    fn of(self, stream: StdStream) -> Position {
        match stream {
            StdStream::Stdout => self.stdout,
            StdStream::Stderr => self.stderr,
        }
    }
}

/// A line that goes on, or an event that more lines may join.
#[derive(Debug)]
struct Pending {
    at: Timestamp,
    stream: StdStream,
    bytes: Vec<u8>,
    /// Where its first piece begins.
    start: Position,
}

/// Holds what is not complete yet.
#[derive(Debug)]
pub(crate) struct Assembler {
    event_start: Option<Regex>,
    stdout: Option<Pending>,
    stderr: Option<Pending>,
    event: Option<Pending>,
    /// The end of what was taken in.
    position: Position,
    /// What was emitted before this began.
    done: Reach,
    ready: VecDeque<LogEvent>,
}

impl Assembler {
    /// Reading goes on at the first position of `done`.
    pub(crate) fn new(event_start: Option<Regex>, done: Reach) -> Self {
        Self {
            event_start,
            stdout: None,
            stderr: None,
            event: None,
            position: done.first(),
            done,
            ready: VecDeque::new(),
        }
    }

    /// Takes in the next piece.
    pub(crate) fn take(&mut self, piece: Piece) {
        let start = std::mem::replace(&mut self.position, piece.next);
        if piece.next <= self.done.of(piece.stream) {
            return;
        }
        let slot = match piece.stream {
            StdStream::Stdout => &mut self.stdout,
            StdStream::Stderr => &mut self.stderr,
        };
        let pending = slot.get_or_insert(Pending {
            at: piece.at,
            stream: piece.stream,
            bytes: Vec::new(),
            start,
        });
        pending.bytes.extend_from_slice(&piece.bytes);
        if (!piece.is_partial || EVENT_BYTES_MAX <= pending.bytes.len())
            && let Some(line) = slot.take()
        {
            self.line(line);
        }
    }

    fn line(&mut self, line: Pending) {
        let Some(event_start) = &self.event_start else {
            self.emit(line);
            return;
        };
        let begins = event_start.is_match(&line.bytes);
        let joined =
            self.event.as_ref().map_or(0, |event| event.bytes.len() + 1 + line.bytes.len());
        if (begins || EVENT_BYTES_MAX < joined)
            && let Some(event) = self.event.take()
        {
            self.event = Some(line);
            self.emit(event);
            return;
        }
        match &mut self.event {
            Some(event) => {
                event.bytes.push(b'\n');
                event.bytes.extend_from_slice(&line.bytes);
            }
            None => self.event = Some(line),
        }
    }

    fn emit(&mut self, event: Pending) {
        let open = |line: &Option<Pending>| {
            let open = [line, &self.event].into_iter().flatten().map(|pending| pending.start);
            open.fold(self.position, Position::min)
        };
        let reach = Reach { stdout: open(&self.stdout), stderr: open(&self.stderr) };
        let text = String::from_utf8_lossy(&event.bytes);
        // What is empty is no event: the service would refuse it.
        for text in split(&text) {
            let (at, stream) = (event.at, event.stream);
            self.ready.push_back(LogEvent { at, text: text.to_owned(), reach, stream });
        }
    }

    /// Bytes of lines and events that are not complete yet.
    pub(crate) fn pending_bytes(&self) -> usize {
        let pending = [&self.stdout, &self.stderr, &self.event];
        pending.into_iter().flatten().map(|pending| pending.bytes.capacity()).sum()
    }

    /// Since when an event waits for more lines.
    pub(crate) fn waiting_since(&self) -> Option<Timestamp> {
        self.event.as_ref().map(|event| event.at)
    }

    /// Waits no longer for more lines of an event.
    pub(crate) fn close_event(&mut self) {
        if let Some(event) = self.event.take() {
            self.emit(event);
        }
    }

    /// The end of what was taken in.
    pub(crate) fn position(&self) -> Position {
        self.position
    }

    /// Emits what was emitted when everything up to `reach` had been, and no more was taken in.
    pub(crate) fn close_before(&mut self, reach: Reach) {
        let mut lines: Vec<Pending> = Vec::new();
        lines.extend(self.stdout.take_if(|line| line.start < reach.stdout));
        lines.extend(self.stderr.take_if(|line| line.start < reach.stderr));
        lines.sort_by_key(|line| line.start);
        for line in lines {
            self.line(line);
        }
        if self.event.as_ref().is_some_and(|event| event.start < reach.first()) {
            self.close_event();
        }
    }

    /// There will be no more pieces.
    pub(crate) fn close(&mut self) {
        let mut lines: Vec<Pending> =
            [self.stdout.take(), self.stderr.take()].into_iter().flatten().collect();
        lines.sort_by_key(|line| line.start);
        for line in lines {
            self.line(line);
        }
        self.close_event();
    }

    pub(crate) fn next(&mut self) -> Option<LogEvent> {
        self.ready.pop_front()
    }
}

/// How much of a line Docker writes in one entry.
const ENTRY_BYTES: usize = 16 << 10;

/// Joins what was split of lines, as [`Assembler`] does, for who writes entries that may say that they go on.
#[derive(Debug)]
pub(crate) struct Joiner {
    stdout: Option<Joined>,
    stderr: Option<Joined>,
    /// The end of what was taken in.
    position: Position,
    /// What was handed out before this began.
    done: Reach,
}

/// A line as far as it goes, and where it begins.
#[derive(Debug)]
struct Joined {
    piece: Piece,
    start: Position,
}

impl Joiner {
    /// Reading goes on at the first position of `done`.
    pub(crate) fn new(done: Reach) -> Self {
        Self { stdout: None, stderr: None, position: done.first(), done }
    }

    /// Takes in the next piece; hands out its line once that is whole, or long enough.
    pub(crate) fn take(&mut self, piece: Piece) -> Option<Piece> {
        let start = std::mem::replace(&mut self.position, piece.next);
        if piece.next <= self.done.of(piece.stream) {
            return None;
        }
        let slot = match piece.stream {
            StdStream::Stdout => &mut self.stdout,
            StdStream::Stderr => &mut self.stderr,
        };
        let joined = match slot.take() {
            None => Joined { piece, start },
            Some(Joined { piece: mut before, start }) => {
                before.bytes.extend_from_slice(&piece.bytes);
                (before.is_partial, before.next) = (piece.is_partial, piece.next);
                Joined { piece: before, start }
            }
        };
        if !joined.piece.is_partial || ENTRY_BYTES <= joined.piece.bytes.len() {
            return Some(joined.piece);
        }
        *slot = Some(joined);
        None
    }

    /// What was handed out.
    pub(crate) fn reach(&self) -> Reach {
        let of = |line: &Option<Joined>, done: Position| match line {
            Some(line) => line.start,
            None => self.position.max(done),
        };
        let Reach { stdout, stderr } = self.done;
        Reach { stdout: of(&self.stdout, stdout), stderr: of(&self.stderr, stderr) }
    }

    /// There will be no more pieces: hands out the first of the lines that go on.
    pub(crate) fn close_first(&mut self) -> Option<Piece> {
        let start = |line: &Option<Joined>| line.as_ref().map(|line| line.start);
        let is_stderr = match (start(&self.stdout), start(&self.stderr)) {
            (Some(stdout), Some(stderr)) => stderr < stdout,
            (None, _) => true,
            (Some(_), None) => false,
        };
        let slot = if is_stderr { &mut self.stderr } else { &mut self.stdout };
        slot.take().map(|line| line.piece)
    }
}

/// Parts of at most the largest size, cut between characters.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = if rest.len() <= EVENT_BYTES_MAX {
            rest.len()
        } else {
            (0..=EVENT_BYTES_MAX)
                .rev()
                .find(|end| rest.is_char_boundary(*end))
                .unwrap_or(rest.len())
        };
        let (part, tail) = rest.split_at(end);
        rest = tail;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::position;

    fn piece(n: u64, stream: StdStream, is_partial: bool, text: &str) -> Piece {
        Piece { at: Timestamp(n), stream, is_partial, bytes: text.into(), next: position(n) }
    }

    fn all(assembler: &mut Assembler) -> Vec<LogEvent> {
        std::iter::from_fn(|| assembler.next()).collect()
    }

    #[test]
    fn pieces_of_a_line_are_joined_though_the_other_stream_speaks_between() {
        let mut assembler = Assembler::new(None, Reach::default());
        assembler.take(piece(1, StdStream::Stdout, true, "hel"));
        assembler.take(piece(2, StdStream::Stderr, false, "oops"));
        assembler.take(piece(3, StdStream::Stdout, false, "lo"));
        let events = all(&mut assembler);
        let texts: Vec<&str> = events.iter().map(|event| &*event.text).collect();
        assert_eq!(texts, ["oops", "hello"]);
        assert_eq!(events[0].reach.first(), position(0), "the open line must be read again");
        assert_eq!(events[1].reach, Reach::at(position(3)));
        assert_eq!(events[1].at, Timestamp(1));
        // Whoever goes on after the first reads both again, and says only the second.
        let mut next = Assembler::new(None, events[0].reach);
        next.take(piece(1, StdStream::Stdout, true, "hel"));
        next.take(piece(2, StdStream::Stderr, false, "oops"));
        assert_eq!(all(&mut next), []);
        next.take(piece(3, StdStream::Stdout, false, "lo"));
        assert_eq!(all(&mut next), events[1..]);
    }

    #[test]
    fn a_line_is_handed_out_once_it_is_whole_and_is_not_again_by_whoever_goes_on() {
        let pieces = [
            piece(1, StdStream::Stdout, true, "hel"),
            piece(2, StdStream::Stderr, false, ""),
            piece(3, StdStream::Stderr, true, "by"),
            piece(4, StdStream::Stdout, false, "lo"),
        ];
        let text = |piece: Piece| (String::from_utf8(piece.bytes).unwrap(), piece.is_partial);
        let expected = [("".into(), false), ("hello".into(), false), ("by".into(), true)];
        // Whoever goes on after any of them, hands out the others.
        for taken in 0..=pieces.len() {
            let mut said = Vec::new();
            let mut first = Joiner::new(Reach::default());
            said.extend(pieces[..taken].iter().cloned().filter_map(|it| first.take(it)));
            let mut second = Joiner::new(first.reach());
            let from = first.reach().first();
            let left = pieces.iter().filter(|it| from < it.next).cloned();
            said.extend(left.filter_map(|it| second.take(it)));
            said.extend(std::iter::from_fn(|| second.close_first()));
            assert_eq!(said.into_iter().map(text).collect::<Vec<_>>(), expected, "after {taken}");
            assert_eq!(second.reach(), Reach::at(position(4)));
        }
    }

    #[test]
    fn a_long_line_is_handed_out_before_it_ends() {
        let mut joiner = Joiner::new(Reach::default());
        let half = "x".repeat(ENTRY_BYTES / 2);
        assert_eq!(joiner.take(piece(1, StdStream::Stdout, true, &half)), None);
        let full = joiner.take(piece(2, StdStream::Stdout, true, &half)).unwrap();
        assert!(full.is_partial && full.bytes.len() == ENTRY_BYTES);
        let end = joiner.take(piece(3, StdStream::Stdout, false, "end")).unwrap();
        assert_eq!((&*end.bytes, end.is_partial), (&b"end"[..], false));
    }

    #[test]
    fn lines_that_begin_no_event_join_the_one_before() {
        let mut assembler = Assembler::new(Some(Regex::new("^INFO").unwrap()), Reach::default());
        for (n, text) in ["INFO a", "  at b", "", "INFO c"].iter().enumerate() {
            assembler.take(piece(n as u64 + 1, StdStream::Stdout, false, text));
        }
        let events = all(&mut assembler);
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].text, "INFO a\n  at b\n");
        assert_eq!(events[0].reach, Reach::at(position(3)));
        assert!(assembler.waiting_since().is_some());
        assembler.close();
        assert_eq!(all(&mut assembler)[0].text, "INFO c");
    }

    #[test]
    fn a_line_longer_than_an_event_is_cut_between_characters() {
        let mut assembler = Assembler::new(None, Reach::default());
        let text = "ü".repeat(EVENT_BYTES_MAX);
        assembler.take(piece(1, StdStream::Stdout, false, &text));
        let events = all(&mut assembler);
        assert_eq!(events.len(), 2 + usize::from(EVENT_BYTES_MAX % 2 == 1));
        assert!(events.iter().all(|event| event.text.len() <= EVENT_BYTES_MAX));
        assert_eq!(events.iter().map(|event| event.text.len()).sum::<usize>(), text.len());
    }

    #[test]
    fn an_empty_line_is_no_event() {
        let mut assembler = Assembler::new(None, Reach::default());
        assembler.take(piece(1, StdStream::Stdout, false, ""));
        assert_eq!(all(&mut assembler), []);
    }

    #[test]
    fn what_was_said_last_without_a_line_break_is_not_lost() {
        let mut assembler = Assembler::new(None, Reach::default());
        assembler.take(piece(1, StdStream::Stderr, true, "bye"));
        assert_eq!(all(&mut assembler), []);
        assembler.close();
        let events = all(&mut assembler);
        assert_eq!((events[0].text.as_str(), events[0].reach), ("bye", Reach::at(position(1))));
    }
}
