//! Which events of a put are taken: pure, from the events, the time and the group's retention.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::LogsError;
use crate::event::InputEvent;
use crate::limits::{
    EVENT_OVERHEAD_BYTES, FUTURE_MS_MAX, PAST_MS_MAX, PUT_BYTES_MAX, PUT_EVENTS_MAX,
    PUT_SPAN_MS_MAX,
};

/// Names one put of a writer that sends its puts one after the other, and the same again until it knows
/// that it was taken: such a one is taken once. The last of each writer is remembered, with the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutKey {
    pub writer: u64,
    pub put: u64,
}

/// What became of a put.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Amazon returns one and no longer asks for it; so do we.
    pub next_sequence_token: String,
    /// Events from this index on lie more than two hours in the future.
    pub too_new_start: Option<usize>,
    /// Events before this index are older than fourteen days.
    pub too_old_end: Option<usize>,
    /// Events before this index are older than the group keeps any.
    pub expired_end: Option<usize>,
}

/// Refuses the whole put if it breaks a limit that does not depend on the time.
pub(crate) fn check(events: &[InputEvent]) -> Result<(), LogsError> {
    let (Some(first), Some(last)) = (events.first(), events.last()) else {
        return Err(LogsError::invalid("Log events must not be empty."));
    };
    if events.len() > PUT_EVENTS_MAX {
        return Err(LogsError::invalid(format!(
            "Log event count {} exceeds limit of {PUT_EVENTS_MAX}",
            events.len()
        )));
    }
    if events.iter().any(|event| event.message.is_empty()) {
        return Err(LogsError::invalid("Log event message must not be empty."));
    }
    let bytes: usize = events.iter().map(|e| e.message.len() + EVENT_OVERHEAD_BYTES).sum();
    if bytes > PUT_BYTES_MAX {
        return Err(LogsError::invalid(format!(
            "Upload too large: {bytes} bytes exceeds limit of {PUT_BYTES_MAX}"
        )));
    }
    if !events.is_sorted_by_key(|event| event.timestamp_ms) {
        return Err(LogsError::invalid(
            "Log events in a single PutLogEvents request must be in chronological order.",
        ));
    }
    if last.timestamp_ms - first.timestamp_ms > PUT_SPAN_MS_MAX {
        return Err(LogsError::invalid(
            "The batch of log events in a single PutLogEvents request cannot span more than 24 hours.",
        ));
    }
    Ok(())
}

/// The events that are taken, and why the others are not. `events` passed [`check`].
pub(crate) fn sort_out(
    events: &[InputEvent],
    now_ms: u64,
    cutoff_ms: u64,
) -> (Range<usize>, Accepted) {
    let before = |ms: u64| events.partition_point(|event| event.timestamp_ms < ms);
    let old = before(now_ms.saturating_sub(PAST_MS_MAX));
    let expired = before(cutoff_ms);
    let new = before(now_ms.saturating_add(FUTURE_MS_MAX) + 1);
    let accepted = Accepted {
        next_sequence_token: String::new(),
        too_new_start: (new < events.len()).then_some(new),
        too_old_end: (old > 0).then_some(old),
        expired_end: (expired > 0).then_some(expired),
    };
    let from = old.max(expired);
    (from..new.max(from), accepted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;
    const DAY: u64 = 86_400_000;

    fn at(times: &[u64]) -> Vec<InputEvent> {
        let event = |ms: &u64| InputEvent { timestamp_ms: *ms, message: "x".into() };
        times.iter().map(event).collect()
    }

    fn refusal(events: &[InputEvent]) -> String {
        check(events).unwrap_err().to_string()
    }

    #[test]
    fn a_put_over_a_limit_is_refused_as_a_whole() {
        assert!(refusal(&[]).contains("empty"));
        assert!(refusal(&at(&[2, 1])).contains("chronological order"));
        assert!(refusal(&at(&[NOW, NOW + DAY + 1])).contains("24 hours"));
        assert!(check(&at(&[NOW, NOW + DAY])).is_ok());
        let mut large = at(&[NOW]);
        large[0].message = "x".repeat(PUT_BYTES_MAX - EVENT_OVERHEAD_BYTES).into();
        assert!(check(&large).is_ok());
        large[0].message = "x".repeat(PUT_BYTES_MAX - EVENT_OVERHEAD_BYTES + 1).into();
        assert_eq!(refusal(&large), "Upload too large: 1048577 bytes exceeds limit of 1048576");
        assert!(refusal(&vec![at(&[1])[0].clone(); PUT_EVENTS_MAX + 1]).contains("10001"));
    }

    #[test]
    fn events_outside_the_window_are_named_and_the_rest_is_taken() {
        let events = at(&[NOW - 15 * DAY, NOW - 15 * DAY + 1, NOW, NOW + 3 * 3_600_000]);
        let (range, accepted) = sort_out(&events, NOW, 0);
        assert_eq!(range, 2..3);
        assert_eq!(accepted.too_old_end, Some(2));
        assert_eq!(accepted.too_new_start, Some(3));
        assert_eq!(accepted.expired_end, None);
    }

    #[test]
    fn the_groups_retention_narrows_the_window() {
        let events = at(&[NOW - 2 * DAY, NOW]);
        let (range, accepted) = sort_out(&events, NOW, NOW - DAY);
        assert_eq!(range, 1..2);
        assert_eq!((accepted.expired_end, accepted.too_old_end), (Some(1), None));
        let (range, _) = sort_out(&events, NOW + 30 * DAY, 0);
        assert!(range.is_empty());
    }
}
