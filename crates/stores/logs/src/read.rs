//! Reading one stream in the order of time, forwards or backwards, and the pages of a get.
//!
//! Puts may arrive out of order, so chunks may overlap in time. A reader opens a chunk once its
//! range reaches the next event it would hand out, and never earlier.

use std::collections::BTreeMap;
use std::sync::RwLock;

use crate::catalog::{Chunk, State, StreamUid};
use crate::error::LogsError;
use crate::event::{Event, Gap};
use crate::limits::{INDEX_ENTRIES_MAX, PAGE_BYTES_MAX, PAGE_EVENTS_MAX};
use crate::stream_file::StreamFiles;

/// What readers share with the writer.
#[derive(Debug)]
pub(crate) struct Shared<'a> {
    pub(crate) state: &'a RwLock<State>,
    pub(crate) files: &'a StreamFiles,
}

/// Which events of one stream are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GetQuery {
    pub start_ms: Option<u64>,
    /// Exclusive, as Amazon has it here.
    pub end_ms: Option<u64>,
    /// At most [`PAGE_EVENTS_MAX`], which is also the default.
    pub limit: Option<usize>,
    /// Without a token: whether the page is the earliest or the latest.
    pub from_head: bool,
    pub token: Option<String>,
}

/// A page of one stream, in the order of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    pub events: Vec<Event>,
    /// Continues after the page; equal to the token that was given once nothing follows.
    pub forward_token: String,
    pub backward_token: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Backward,
}

/// A place within a stream: time, then order of arrival.
pub(crate) type Place = (u64, u64);

/// Hands out the events of one stream one by one.
#[derive(Debug)]
pub(crate) struct StreamReader {
    uid: StreamUid,
    direction: Direction,
    from: Place,
    /// Exclusive.
    to: Place,
    /// Chunks not yet opened, the next one last.
    chunks: Vec<Chunk>,
    buffer: BTreeMap<Place, Event>,
    pub(crate) buffered_bytes: usize,
    pub(crate) read_bytes: u64,
}

impl StreamReader {
    /// A reader of the events in `from..to`.
    pub(crate) fn open(
        shared: &Shared<'_>,
        uid: StreamUid,
        direction: Direction,
        from: Place,
        to: Place,
    ) -> Result<Self, LogsError> {
        let mut chunks = shared.chunks(uid, from.0, to.0)?;
        match direction {
            Direction::Forward => chunks.sort_by_key(|c| std::cmp::Reverse((c.min_ms, c.offset))),
            Direction::Backward => chunks.sort_by_key(|c| (c.max_ms, c.offset)),
        }
        let (buffer, buffered_bytes, read_bytes) = (BTreeMap::new(), 0, 0);
        Ok(Self { uid, direction, from, to, chunks, buffer, buffered_bytes, read_bytes })
    }

    pub(crate) fn next(&mut self, shared: &Shared<'_>) -> Result<Option<Event>, LogsError> {
        while let Some(chunk) = self.chunks.last().copied() {
            let may_come_first = match self.direction {
                Direction::Forward => {
                    self.buffer.first_key_value().is_none_or(|((ms, _), _)| chunk.min_ms <= *ms)
                }
                Direction::Backward => {
                    self.buffer.last_key_value().is_none_or(|((ms, _), _)| chunk.max_ms >= *ms)
                }
            };
            if !may_come_first {
                break;
            }
            self.chunks.pop();
            self.load(shared, &chunk)?;
        }
        let taken = match self.direction {
            Direction::Forward => self.buffer.pop_first(),
            Direction::Backward => self.buffer.pop_last(),
        };
        Ok(taken.map(|(_, event)| {
            self.buffered_bytes = self.buffered_bytes.saturating_sub(event.message.len());
            event
        }))
    }

    fn load(&mut self, shared: &Shared<'_>, chunk: &Chunk) -> Result<(), LogsError> {
        let events = match shared.files.read(self.uid, chunk) {
            Ok(events) => events,
            // Trimmed since the index was read: the events are expired.
            Err(LogsError::Damaged { .. }) if shared.is_trimmed(self.uid, chunk) => return Ok(()),
            Err(error) => return Err(error),
        };
        self.read_bytes += chunk.len;
        for event in events {
            let place = (event.timestamp_ms, event.seq);
            if self.from <= place && place < self.to {
                self.buffered_bytes += event.message.len();
                self.buffer.insert(place, event);
            }
        }
        Ok(())
    }
}

impl Shared<'_> {
    /// The chunks of a stream that hold events of `from_ms..=to_ms`.
    fn chunks(&self, uid: StreamUid, from_ms: u64, to_ms: u64) -> Result<Vec<Chunk>, LogsError> {
        let wanted = |index: &[Chunk]| -> Vec<Chunk> {
            let inside = |chunk: &&Chunk| chunk.max_ms >= from_ms && chunk.min_ms <= to_ms;
            index.iter().filter(inside).copied().collect()
        };
        let mut scanned: Vec<Chunk> = Vec::new();
        let mut reach = 0;
        // A stream may grow while it is scanned; what is new is scanned in the next turn.
        for _ in 0..16 {
            let (head, end) = {
                let state = self.state.read().expect("no holder of this lock panics");
                let stream = state.streams.get(&uid).ok_or(LogsError::StreamNotFound)?;
                if let Some(index) = &stream.index {
                    return Ok(wanted(index));
                }
                (stream.head, stream.end)
            };
            let from = reach.max(head);
            self.files.scan(uid, from, end, |offset, header| {
                Chunk::extend(&mut scanned, offset, header);
                true
            })?;
            reach = end;
            let mut state = self.state.write().expect("no holder of this lock panics");
            let entries = state.index_entries() + scanned.len();
            let stream = state.streams.get_mut(&uid).ok_or(LogsError::StreamNotFound)?;
            if stream.end == end && stream.head == head {
                let answer = wanted(&scanned);
                stream.index = Some(scanned);
                if entries > INDEX_ENTRIES_MAX {
                    state.forget_indexes(uid);
                }
                return Ok(answer);
            }
        }
        Ok(wanted(&scanned))
    }

    fn is_trimmed(&self, uid: StreamUid, chunk: &Chunk) -> bool {
        let state = self.state.read().expect("no holder of this lock panics");
        state.streams.get(&uid).is_none_or(|stream| chunk.offset < stream.head)
    }

    /// One page of the stream `uid`, without events before `cutoff_ms`.
    pub(crate) fn page(
        &self,
        uid: StreamUid,
        cutoff_ms: u64,
        query: &GetQuery,
    ) -> Result<Events, LogsError> {
        let low = (query.start_ms.unwrap_or(0).max(cutoff_ms), 0);
        let high = (query.end_ms.unwrap_or(u64::MAX), 0);
        let token = query.token.as_deref().map(|text| parse_token(text, uid)).transpose()?;
        let (direction, from, to) = match token {
            Some((Direction::Forward, place)) => (Direction::Forward, low.max(place), high),
            Some((Direction::Backward, place)) => (Direction::Backward, low, high.min(place)),
            None if query.from_head => (Direction::Forward, low, high),
            None => (Direction::Backward, low, high),
        };
        let limit = query.limit.unwrap_or(PAGE_EVENTS_MAX).min(PAGE_EVENTS_MAX);
        let mut reader = StreamReader::open(self, uid, direction, from, to)?;
        let mut events = Vec::new();
        let mut bytes = 0;
        while events.len() < limit {
            let Some(event) = reader.next(self)? else { break };
            bytes += event.message.len();
            if bytes > PAGE_BYTES_MAX && !events.is_empty() {
                break;
            }
            events.push(event);
        }
        if direction == Direction::Backward {
            events.reverse();
        }
        let (forward, backward) = match (events.first(), events.last(), token) {
            (Some(first), Some(last), _) => (last.gap_after(uid.0), first.gap_before(uid.0)),
            (_, _, Some((_, (timestamp_ms, seq)))) => {
                let gap = Gap { timestamp_ms, stream: uid.0, seq };
                (gap, gap)
            }
            _ => {
                // Nothing yet: whatever comes later lies after the start of what was asked for.
                let gap = Gap { timestamp_ms: low.0, stream: uid.0, seq: 0 };
                (gap, gap)
            }
        };
        let forward_token = format!("f/{}/s", forward.digits());
        let backward_token = format!("b/{}/s", backward.digits());
        Ok(Events { events, forward_token, backward_token })
    }
}

fn parse_token(text: &str, uid: StreamUid) -> Result<(Direction, Place), LogsError> {
    let invalid = || LogsError::invalid("The specified nextToken is invalid.");
    let (direction, digits) = match text.split_at_checked(2) {
        Some(("f/", rest)) => (Direction::Forward, rest),
        Some(("b/", rest)) => (Direction::Backward, rest),
        _ => return Err(invalid()),
    };
    let digits = digits.strip_suffix("/s").unwrap_or(digits);
    let gap: Gap = digits.parse().map_err(|_| invalid())?;
    if gap.stream != uid.0 {
        return Err(invalid());
    }
    Ok((direction, (gap.timestamp_ms, gap.seq)))
}
