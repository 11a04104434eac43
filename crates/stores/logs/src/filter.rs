//! A search over many streams: their events merged in the order of time, those that match kept. The
//! latest come first where that is asked for.
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
};
use crate::names::StreamName;
use crate::pattern::Pattern;
use crate::read::{Direction, Place, Shared, StreamReader};
use crate::sealing::{self, Opener};

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
    /// Without a token, which has a direction of its own.
    pub latest_first: bool,
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
}

/// A stream to be searched, and the moments between which its events are.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) uid: StreamUid,
    pub(crate) name: StreamName,
    pub(crate) first_ms: u64,
    pub(crate) last_ms: u64,
}

struct Cursor {
    candidate: Candidate,
    reader: Option<StreamReader>,
    /// The event at the cursor's gap, if it is known.
    event: Option<Event>,
}

/// A gap in the order in which a search comes to it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn(u64, u64, u64);

impl Turn {
    fn of(direction: Direction, gap: Gap) -> Self {
        let Gap { timestamp_ms, stream, seq } = gap;
        match direction {
            Direction::Forward => Self(timestamp_ms, stream, seq),
            Direction::Backward => Self(!timestamp_ms, !stream, !seq),
        }
    }

    fn gap(self, direction: Direction) -> Gap {
        let Self(timestamp_ms, stream, seq) = self;
        match direction {
            Direction::Forward => Gap { timestamp_ms, stream, seq },
            Direction::Backward => Gap { timestamp_ms: !timestamp_ms, stream: !stream, seq: !seq },
        }
    }
}

struct Search<'a, 'b> {
    shared: &'a Shared<'b>,
    direction: Direction,
    low: Place,
    /// Exclusive.
    high: Place,
    cursors: Vec<Cursor>,
    /// Where each unfinished cursor stands, at the soonest.
    heap: BinaryHeap<Reverse<(Turn, usize)>>,
    scanned_bytes: u64,
    open_bytes: usize,
}

pub(crate) fn run(
    shared: &Shared<'_>,
    candidates: Vec<Candidate>,
    cutoff_ms: u64,
    query: &FilterQuery,
    mut opener: Option<Box<dyn Opener>>,
) -> Result<Filtered, LogsError> {
    let low = (query.start_ms.unwrap_or(0).max(cutoff_ms), 0);
    let high = (query.end_ms.map_or(u64::MAX, |end| end.saturating_add(1)), 0);
    let (direction, from) = match query.token.as_deref().map(parse_token).transpose()? {
        Some((direction, gap)) => (direction, Some(gap)),
        None if query.latest_first => (Direction::Backward, None),
        None => (Direction::Forward, None),
    };
    let mut search = Search::new(shared, candidates, direction, low, high);
    search.begin(from);
    let limit = query.limit.unwrap_or(PAGE_EVENTS_MAX).clamp(1, PAGE_EVENTS_MAX);
    let mut events: Vec<FilteredEvent> = Vec::new();
    let mut bytes = 0;
    let mut next = None;
    while let Some((gap, at)) = search.advance()? {
        let Some(mut event) = search.cursors[at].event.take() else { continue };
        let is_there = sealing::open(opener.as_mut(), &mut event)?;
        let name = &search.cursors[at].candidate.name;
        if is_there && query.pattern.matches(&String::from_utf8_lossy(&event.message)) {
            bytes += event.message.len();
            if !events.is_empty() && (events.len() == limit || bytes > PAGE_BYTES_MAX) {
                next = Some(gap);
                break;
            }
            events.push(FilteredEvent { stream: name.clone(), event_id: gap.digits(), event });
        }
        search.step(at)?;
        if search.scanned_bytes > FILTER_SCAN_BYTES_MAX {
            next = search.heap.peek().map(|Reverse((turn, _))| turn.gap(direction));
            break;
        }
    }
    Ok(Filtered { events, next_token: next.map(|gap| token(direction, gap)) })
}

/// A token is where the next page begins; one that goes back says so.
fn token(direction: Direction, gap: Gap) -> String {
    match direction {
        Direction::Forward => gap.digits(),
        Direction::Backward => format!("b/{}", gap.digits()),
    }
}

fn parse_token(text: &str) -> Result<(Direction, Gap), LogsError> {
    let invalid = |_| LogsError::invalid("The specified nextToken is invalid.");
    match text.strip_prefix("b/") {
        Some(digits) => Ok((Direction::Backward, digits.parse().map_err(invalid)?)),
        None => Ok((Direction::Forward, text.parse().map_err(invalid)?)),
    }
}

impl<'a, 'b> Search<'a, 'b> {
    fn new(
        shared: &'a Shared<'b>,
        candidates: Vec<Candidate>,
        direction: Direction,
        low: Place,
        high: Place,
    ) -> Self {
        let cursor = |candidate| Cursor { candidate, reader: None, event: None };
        let cursors = candidates.into_iter().map(cursor).collect();
        let heap = BinaryHeap::new();
        Self { shared, direction, low, high, cursors, heap, scanned_bytes: 0, open_bytes: 0 }
    }

    /// Puts every cursor where it may have its first event, `from` a page's end if there was one.
    fn begin(&mut self, from: Option<Gap>) {
        for (at, cursor) in self.cursors.iter().enumerate() {
            let stream = cursor.candidate.uid.0;
            let gap = match self.direction {
                Direction::Forward => {
                    let (timestamp_ms, seq) = self.low.max((cursor.candidate.first_ms, 0));
                    let start = Gap { timestamp_ms, stream, seq };
                    from.map_or(start, |from| start.max(resume(from, stream)))
                }
                Direction::Backward => {
                    let timestamp_ms = cursor.candidate.last_ms;
                    let start = Gap { timestamp_ms, stream, seq: u64::MAX };
                    let Some(from) = from else {
                        self.heap.push(Reverse((Turn::of(self.direction, start), at)));
                        continue;
                    };
                    let Some(from) = resume_back(from, stream) else { continue };
                    start.min(from)
                }
            };
            self.heap.push(Reverse((Turn::of(self.direction, gap), at)));
        }
    }

    /// The places from a gap on, in the search's direction; `None` if there are none.
    fn rest(&self, gap: Gap) -> Option<(Place, Place)> {
        let place = (gap.timestamp_ms, gap.seq);
        let (from, to) = match self.direction {
            Direction::Forward => (place, self.high),
            // The event behind the gap is still to come.
            Direction::Backward => {
                (self.low, self.high.min((gap.timestamp_ms, gap.seq.saturating_add(1))))
            }
        };
        (from < to).then_some((from, to))
    }

    /// The cursor whose event comes next, with that event in place; `None` at the end.
    fn advance(&mut self) -> Result<Option<(Gap, usize)>, LogsError> {
        while let Some(Reverse((turn, at))) = self.heap.pop() {
            let gap = turn.gap(self.direction);
            if self.cursors[at].event.is_some() {
                return Ok(Some((gap, at)));
            }
            let Some((from, to)) = self.rest(gap) else { continue };
            if self.cursors[at].reader.is_none() {
                let uid = self.cursors[at].candidate.uid;
                match StreamReader::open(self.shared, uid, self.direction, from, to) {
                    Ok(reader) => self.cursors[at].reader = Some(reader),
                    // Deleted while the search ran.
                    Err(LogsError::StreamNotFound) => {}
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
            Some(event) => {
                let gap = event.gap_before(cursor.candidate.uid.0);
                self.heap.push(Reverse((Turn::of(self.direction, gap), at)));
            }
            None => cursor.reader = None,
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

/// The same for a search that goes back; `None` if nothing of the stream is left.
fn resume_back(from: Gap, stream: u64) -> Option<Gap> {
    let timestamp_ms = match stream.cmp(&from.stream) {
        std::cmp::Ordering::Less => from.timestamp_ms,
        std::cmp::Ordering::Equal => return Some(from),
        std::cmp::Ordering::Greater => from.timestamp_ms.checked_sub(1)?,
    };
    Some(Gap { timestamp_ms, stream, seq: u64::MAX })
}
