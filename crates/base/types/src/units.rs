//! Quantities. A bare integer never crosses a function boundary: its unit is its type.

use std::fmt;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::Offset;
use serde::{Deserialize, Serialize};

/// CPU shares, 1024 to a core.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct CpuUnits(pub u32);

/// Memory in mebibytes, the unit that task definitions use.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct MemoryMib(pub u32);

impl MemoryMib {
    pub fn bytes(self) -> u64 {
        u64::from(self.0) << 20
    }
}

/// Milliseconds since the Unix epoch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to here; zero if `earlier` is later.
    pub fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whole seconds since the epoch.
    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// Date and time of day in UTC; the last millisecond of the year 9999 for what is later.
    pub fn civil(self) -> DateTime {
        let ms = i64::try_from(self.0).unwrap_or(i64::MAX);
        let time = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX);
        Offset::UTC.to_datetime(time)
    }

    /// The start of the day of a civil date in UTC; `None` before 1970 or for no such date.
    pub fn from_civil(year: i64, month: u32, day: u32) -> Option<Self> {
        let month = i8::try_from(month).ok()?;
        let date = Date::new(i16::try_from(year).ok()?, month, i8::try_from(day).ok()?).ok()?;
        Self::from_datetime(date.to_datetime(Time::midnight()))
    }

    /// A date and time of day in UTC; `None` before 1970.
    pub fn from_datetime(datetime: DateTime) -> Option<Self> {
        let time = Offset::UTC.to_timestamp(datetime).ok()?;
        u64::try_from(time.as_millisecond()).ok().map(Self)
    }

    /// Reads `2026-11-20T21:10:00[.fff](Z|±hh:mm)`; `None` for anything else and before 1970.
    pub fn from_iso8601(text: &str) -> Option<Self> {
        let time: jiff::Timestamp = text.parse().ok()?;
        u64::try_from(time.as_millisecond()).ok().map(Self)
    }

    /// `2026-11-20T21:10:00.000Z`
    pub fn iso8601(self) -> String {
        let at = self.civil();
        let (year, month, day, ms) = (at.year(), at.month(), at.day(), at.millisecond());
        let (hour, minute, second) = (at.hour(), at.minute(), at.second());
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
    }

    /// `20261120T211000Z`, the form of `X-Amz-Date`.
    pub fn amz_date(self) -> String {
        let at = self.civil();
        let (year, month, day) = (at.year(), at.month(), at.day());
        let (hour, minute, second) = (at.hour(), at.minute(), at.second());
        format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.iso8601())
    }
}

/// What a task needs, or what an instance has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Resources {
    pub cpu: CpuUnits,
    pub memory: MemoryMib,
}

impl Resources {
    /// What remains after taking `need`, or `None` if it does not fit.
    pub fn checked_sub(self, need: Self) -> Option<Self> {
        Some(Self {
            cpu: CpuUnits(self.cpu.0.checked_sub(need.cpu.0)?),
            memory: MemoryMib(self.memory.0.checked_sub(need.memory.0)?),
        })
    }

    /// Both together, held at the largest value if they overflow.
    pub fn saturating_add(self, other: Self) -> Self {
        Self {
            cpu: CpuUnits(self.cpu.0.saturating_add(other.cpu.0)),
            memory: MemoryMib(self.memory.0.saturating_add(other.memory.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_prints_as_the_calendar_says() {
        assert_eq!(Timestamp(0).iso8601(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp(951_782_400_000).iso8601(), "2000-02-29T00:00:00.000Z");
        assert_eq!(Timestamp(1_700_000_000_123).iso8601(), "2023-11-14T22:13:20.123Z");
        assert_eq!(Timestamp(1_700_000_000_123).amz_date(), "20231114T221320Z");
    }

    #[test]
    fn every_day_of_forty_years_survives_the_round_trip() {
        for day in 0..(40 * 366) {
            let stamp = Timestamp(day * 86_400_000);
            assert_eq!(Timestamp::from_datetime(stamp.civil()), Some(stamp));
        }
        assert_eq!(Timestamp::from_civil(2000, 2, 29), Some(Timestamp(951_782_400_000)));
        assert_eq!(Timestamp::from_civil(2023, 2, 29), None);
        assert_eq!(Timestamp::from_civil(1969, 12, 31), None);
    }

    #[test]
    fn a_time_past_the_calendar_is_its_end() {
        assert_eq!(Timestamp(u64::MAX).iso8601(), "9999-12-30T22:00:00.999Z");
    }
}
