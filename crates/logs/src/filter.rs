//! A search over many streams: their events merged in the order of time, those that match kept.
//!
//! A stream's file is opened when its earliest possible event comes up, and its events are let go
//! again when too many streams are open at once. So a search over any number of streams holds a
//! bounded amount, and a page that has read much without finding much answers with a token.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::catalog::StreamUid;
use crate::error::LogsError;
use crate::event::{Event, Gap};
use crate::limits::{
    FILTER_OPEN_BYTES_MAX, FILTER_SCAN_BYTES_MAX, PAGE_BYTES_MAX, PAGE_EVENTS_MAX,
    SEARCHED_STREAMS_MAX,
};
use crate::names::StreamName;
use crate::pattern::Pattern;
use crate::read::{Direction, Place, Shared, StreamReader};

/// Which streams of the group are searched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StreamChoice {
    #[default]
    All,
    Names(Vec<StreamName>),
    Prefix(String),
}

/// What is searched for.
#[derive(Clone, Debug, Default)]
pub struct FilterQuery {
    pub streams: StreamChoice,
    pub start_ms: Option<u64>,
    /// Inclusive, as Amazon has it here.
    pub end_ms: Option<u64>,
    pub pattern: Pattern,
    pub limit: Option<usize>,
    pub token: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilteredEvent {
    pub stream: StreamName,
    pub event: Event,
    /// Unique in the region, and the same whenever the event is read.
    pub event_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filtered {
    pub events: Vec<FilteredEvent>,
    /// Absent once everything was searched.
    pub next_token: Option<String>,
    /// Streams, and whether each was searched to its end. At most a hundred are named.
    pub searched: Vec<(StreamName, bool)>,
}

/// A stream to be searched, and the earliest moment that it may have an event at.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) uid: StreamUid,
    pub(crate) name: StreamName,
    pub(crate) first_ms: u64,
}

struct Cursor {
    candidate: Candidate,
    reader: Option<StreamReader>,
    /// The event at the cursor's gap, if it is known.
    event: Option<Event>,
    is_done: bool,
}

struct Search<'a, 'b> {
    shared: &'a Shared<'b>,
    to: Place,
    cursors: Vec<Cursor>,
    /// Where each unfinished cursor stands, at the earliest.
    heap: BinaryHeap<Reverse<(Gap, usize)>>,
    scanned_bytes: u64,
    open_bytes: usize,
}

pub(crate) fn run(
    shared: &Shared<'_>,
    candidates: Vec<Candidate>,
    cutoff_ms: u64,
    query: &FilterQuery,
) -> Result<Filtered, LogsError> {
    let start = query.start_ms.unwrap_or(0).max(cutoff_ms);
    let mut from = Gap { timestamp_ms: start, stream: 0, seq: 0 };
    if let Some(token) = &query.token {
        let invalid = |_| LogsError::invalid("The specified nextToken is invalid.");
        from = from.max(token.parse().map_err(invalid)?);
    }
    let to = (query.end_ms.map_or(u64::MAX, |end| end.saturating_add(1)), 0);
    let mut search = Search::new(shared, candidates, from, to);
    let limit = query.limit.unwrap_or(PAGE_EVENTS_MAX).clamp(1, PAGE_EVENTS_MAX);
    let mut events: Vec<FilteredEvent> = Vec::new();
    let mut bytes = 0;
    let mut next = None;
    while let Some((gap, at)) = search.advance()? {
        let Some(event) = search.cursors[at].event.take() else { continue };
        let name = &search.cursors[at].candidate.name;
        if query.pattern.matches(&String::from_utf8_lossy(&event.message)) {
            bytes += event.message.len();
            if !events.is_empty() && (events.len() == limit || bytes > PAGE_BYTES_MAX) {
                next = Some(gap);
                break;
            }
            events.push(FilteredEvent { stream: name.clone(), event_id: gap.digits(), event });
        }
        search.step(at)?;
        if search.scanned_bytes > FILTER_SCAN_BYTES_MAX {
            next = search.heap.peek().map(|Reverse((gap, _))| *gap);
            break;
        }
    }
    let searched = search.cursors.iter().take(SEARCHED_STREAMS_MAX);
    let searched = searched.map(|c| (c.candidate.name.clone(), next.is_none() || c.is_done));
    Ok(Filtered { events, next_token: next.map(Gap::digits), searched: searched.collect() })
}

impl<'a, 'b> Search<'a, 'b> {
    fn new(shared: &'a Shared<'b>, candidates: Vec<Candidate>, from: Gap, to: Place) -> Self {
        let cursor = |candidate| Cursor { candidate, reader: None, event: None, is_done: false };
        let cursors: Vec<Cursor> = candidates.into_iter().map(cursor).collect();
        let start = |(at, cursor): (usize, &Cursor)| {
            let stream = cursor.candidate.uid.0;
            let first = Gap { timestamp_ms: cursor.candidate.first_ms, stream, seq: 0 };
            Reverse((first.max(resume(from, stream)), at))
        };
        let heap = cursors.iter().enumerate().map(start).collect();
        Self { shared, to, cursors, heap, scanned_bytes: 0, open_bytes: 0 }
    }

    /// The cursor whose event comes next, with that event in place; `None` at the end.
    fn advance(&mut self) -> Result<Option<(Gap, usize)>, LogsError> {
        while let Some(Reverse((gap, at))) = self.heap.pop() {
            if self.cursors[at].event.is_some() {
                return Ok(Some((gap, at)));
            }
            let place = (gap.timestamp_ms, gap.seq);
            if place >= self.to {
                self.cursors[at].is_done = true;
                continue;
            }
            if self.cursors[at].reader.is_none() {
                let uid = self.cursors[at].candidate.uid;
                let reader =
                    StreamReader::open(self.shared, uid, Direction::Forward, place, self.to);
                match reader {
                    Ok(reader) => self.cursors[at].reader = Some(reader),
                    // Deleted while the search ran.
                    Err(LogsError::StreamNotFound) => self.cursors[at].is_done = true,
                    Err(error) => return Err(error),
                }
            }
            self.step(at)?;
        }
        Ok(None)
    }

    /// Reads the cursor's next event and puts the cursor back on the heap.
    fn step(&mut self, at: usize) -> Result<(), LogsError> {
        let cursor = &mut self.cursors[at];
        let Some(reader) = &mut cursor.reader else { return Ok(()) };
        let (read, buffered) = (reader.read_bytes, reader.buffered_bytes);
        cursor.event = match reader.next(self.shared) {
            Err(LogsError::StreamNotFound) => None,
            other => other?,
        };
        self.scanned_bytes += reader.read_bytes - read;
        self.open_bytes = (self.open_bytes + reader.buffered_bytes).saturating_sub(buffered);
        match &cursor.event {
            Some(event) => self.heap.push(Reverse((event.gap_before(cursor.candidate.uid.0), at))),
            None => {
                cursor.is_done = true;
                cursor.reader = None;
            }
        }
        if self.open_bytes > FILTER_OPEN_BYTES_MAX {
            self.close_others(at);
        }
        Ok(())
    }

    /// Lets go of what all other cursors hold. Their places are on the heap.
    fn close_others(&mut self, keep: usize) {
        for (at, cursor) in self.cursors.iter_mut().enumerate() {
            if at != keep {
                cursor.reader = None;
                cursor.event = None;
            }
        }
        self.open_bytes =
            self.cursors[keep].reader.as_ref().map_or(0, |reader| reader.buffered_bytes);
    }
}

/// Where `stream` continues after a page that ended at `from`.
fn resume(from: Gap, stream: u64) -> Gap {
    match stream.cmp(&from.stream) {
        std::cmp::Ordering::Less => {
            let timestamp_ms = from.timestamp_ms.saturating_add(1);
            Gap { timestamp_ms, stream, seq: 0 }
        }
        std::cmp::Ordering::Equal => from,
        std::cmp::Ordering::Greater => Gap { timestamp_ms: from.timestamp_ms, stream, seq: 0 },
    }
}
