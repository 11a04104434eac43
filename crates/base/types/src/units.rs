//! Quantities. A bare integer never crosses a function boundary: its unit is its type.

use std::fmt;

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

    /// Year, month (1-12), day (1-31), hour, minute, second, millisecond in UTC.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_possible_wrap,
        reason = "each field is bounded by the calendar"
    )]
    pub fn civil(self) -> (i64, u32, u32, u32, u32, u32, u32) {
        let days = (self.0 / 86_400_000) as i64;
        let in_day = self.0 % 86_400_000;
        // Days to civil date, after Howard Hinnant's published algorithm.
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let day_of_era = z.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_index = (5 * day_of_year + 2) / 153;
        let day = (day_of_year - (153 * month_index + 2) / 5 + 1) as u32;
        let month = if month_index < 10 { month_index + 3 } else { month_index - 9 } as u32;
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        (
            year,
            month,
            day,
            (in_day / 3_600_000) as u32,
            (in_day / 60_000 % 60) as u32,
            (in_day / 1000 % 60) as u32,
            (in_day % 1000) as u32,
        )
    }

    /// The start of the day of a civil date in UTC; `None` before 1970 or for no such date.
    pub fn from_civil(year: i64, month: u32, day: u32) -> Option<Self> {
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        let y = if month <= 2 { year - 1 } else { year };
        let era = y.div_euclid(400);
        let year_of_era = y.rem_euclid(400);
        let month_index = i64::from((month + 9) % 12);
        let day_of_year = (153 * month_index + 2) / 5 + i64::from(day) - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        let stamp = Self(u64::try_from(days).ok()?.checked_mul(86_400_000)?);
        let (back_year, back_month, back_day, ..) = stamp.civil();
        ((back_year, back_month, back_day) == (year, month, day)).then_some(stamp)
    }

    /// `2026-11-20T21:10:00.000Z`
    pub fn iso8601(self) -> String {
        let (year, month, day, hour, minute, second, ms) = self.civil();
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
    }

    /// `20261120T211000Z`, the form of `X-Amz-Date`.
    pub fn amz_date(self) -> String {
        let (year, month, day, hour, minute, second, _) = self.civil();
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
            let (year, month, date, ..) = stamp.civil();
            assert_eq!(Timestamp::from_civil(year, month, date), Some(stamp));
        }
        assert_eq!(Timestamp::from_civil(2023, 2, 29), None);
    }
}
