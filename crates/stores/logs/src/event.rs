//! Events, and the gaps between them that page tokens point at.

use std::str::FromStr;

use bytes::Bytes;

/// An event as it is put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputEvent {
    pub timestamp_ms: u64,
    /// A text; what is written may be that text sealed.
    pub message: Bytes,
}

/// An event as it is read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub timestamp_ms: u64,
    pub ingestion_ms: u64,
    /// Its number within its stream, counted in the order of arrival.
    pub seq: u64,
    pub message: Bytes,
}

impl Event {
    /// The message as text. What was put was text, so nothing is lost.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.message).into_owned()
    }

    /// The gap just before this event.
    pub(crate) fn gap_before(&self, stream: u64) -> Gap {
        Gap { timestamp_ms: self.timestamp_ms, stream, seq: self.seq }
    }

    /// The gap just after this event.
    pub(crate) fn gap_after(&self, stream: u64) -> Gap {
        Gap { timestamp_ms: self.timestamp_ms, stream, seq: self.seq + 1 }
    }
}

/// A place between two events, in the order by time, then stream, then arrival. It stays valid
/// whatever is written later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gap {
    pub timestamp_ms: u64,
    pub stream: u64,
    pub seq: u64,
}

impl Gap {
    /// 56 digits, the form of Amazon's event ids. An event's id is the gap before it.
    pub fn digits(self) -> String {
        format!(
            "3{:014}{:019}{:022}",
            self.timestamp_ms.min(99_999_999_999_999),
            self.stream,
            self.seq
        )
    }
}

/// The text is not one of our gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAGap;

impl FromStr for Gap {
    type Err = NotAGap;

    fn from_str(text: &str) -> Result<Self, NotAGap> {
        let is_digits = text.len() == 56 && text.bytes().all(|b| b.is_ascii_digit());
        if !is_digits || !text.starts_with('3') {
            return Err(NotAGap);
        }
        let number = |from: usize, to: usize| text[from..to].parse::<u64>().map_err(|_| NotAGap);
        Ok(Self { timestamp_ms: number(1, 15)?, stream: number(15, 34)?, seq: number(34, 56)? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_gap_survives_its_digits(ts in 0u64..99_999_999_999_999, stream in 0u64..1 << 60, seq: u64) {
            let gap = Gap { timestamp_ms: ts, stream, seq };
            prop_assert_eq!(gap.digits().len(), 56);
            prop_assert_eq!(gap.digits().parse(), Ok(gap));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            let _ = text.parse::<Gap>();
        }
    }
}
