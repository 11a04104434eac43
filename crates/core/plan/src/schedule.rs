//! Schedule expressions as AWS writes them: `at(yyyy-mm-ddThh:mm:ss)`, `rate(5 minutes)`, and `cron(minutes hours day-of-month month day-of-week year)`.
//!
//! A field is `*`, or a list of numbers, ranges and steps; `?` stands where the other of the two day fields says it.
//! `L` is the last day, `15W` the weekday nearest to the 15th, `6L` the last Friday, `2#1` the first Monday.

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use longshore_types::Timestamp;

const DAY_MS: u64 = 86_400_000;
const HOUR_MS: u64 = 3_600_000;
const MINUTE_MS: u64 = 60_000;
const YEAR_FIRST: u32 = 1970;
const YEAR_LAST: u32 = 2199;
const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// Why a text is no cron expression: the field, and what it may be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotACron {
    #[error("it has the form cron(minutes hours day-of-month month day-of-week year)")]
    Form,
    #[error("its {field} field is wrong at {part:?}")]
    Field { field: &'static str, part: String },
    #[error("one of its day-of-month and day-of-week fields must be ?, and only one")]
    Days,
    #[error("it never comes")]
    Never,
}

/// A cron expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    minutes: Vec<u32>,
    hours: Vec<u32>,
    days: Days,
    months: Vec<u32>,
    years: Vec<u32>,
}

/// On which days of a month.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Days {
    OfMonth(Vec<MonthDay>),
    OfWeek(Vec<WeekDay>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MonthDay {
    Day(u32),
    Last,
    /// The day from Monday to Friday that is nearest, within the month.
    NearWeekday(u32),
    LastWeekday,
}

/// Sunday is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WeekDay {
    Every(u32),
    Last(u32),
    Nth(u32, u32),
}

/// A field of numbers: what it is called, its bounds, and the words that stand for numbers from the first on.
struct Field {
    name: &'static str,
    first: u32,
    last: u32,
    words: &'static [&'static str],
}

impl Field {
    fn wrong(&self, part: &str) -> NotACron {
        NotACron::Field { field: self.name, part: part.to_owned() }
    }

    fn number(&self, text: &str) -> Result<u32, NotACron> {
        let word = self.words.iter().position(|word| word.eq_ignore_ascii_case(text));
        let word = word.and_then(|at| u32::try_from(at).ok()).map(|at| at + self.first);
        let is_number = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
        let number = word.or_else(|| text.parse().ok().filter(|_| is_number));
        number
            .filter(|number| (self.first..=self.last).contains(number))
            .ok_or_else(|| self.wrong(text))
    }

    /// `*`, `3`, `1-5`, `*/4`, `8/2`, `/2`, `1-9/3`. A range may run over its end: `FRI-MON`.
    fn item(&self, text: &str) -> Result<Vec<u32>, NotACron> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, step.parse().map_err(|_| self.wrong(text))?),
            None => (text, 1),
        };
        let has_step = text.contains('/');
        if step == 0 {
            return Err(self.wrong(text));
        }
        let (from, to) = match range.split_once('-') {
            Some((from, to)) => (self.number(from)?, self.number(to)?),
            None if range == "*" || (range.is_empty() && has_step) => (self.first, self.last),
            None => {
                let from = self.number(range)?;
                (from, if has_step { self.last } else { from })
            }
        };
        let step = usize::try_from(step).unwrap_or(usize::MAX);
        let found: Vec<u32> = match from <= to {
            true => (from..=to).step_by(step).collect(),
            false => (from..=self.last).chain(self.first..=to).step_by(step).collect(),
        };
        Ok(found)
    }

    fn list(&self, text: &str) -> Result<Vec<u32>, NotACron> {
        let mut all = Vec::new();
        for item in text.split(',') {
            all.extend(self.item(item)?);
        }
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }
}

const MINUTES: Field = Field { name: "minutes", first: 0, last: 59, words: &[] };
const HOURS: Field = Field { name: "hours", first: 0, last: 23, words: &[] };
const MONTH_DAYS: Field = Field { name: "day-of-month", first: 1, last: 31, words: &[] };
const MONTH: Field = Field { name: "month", first: 1, last: 12, words: &MONTHS };
const WEEK_DAYS: Field = Field { name: "day-of-week", first: 1, last: 7, words: &WEEKDAYS };
const YEARS: Field = Field { name: "year", first: YEAR_FIRST, last: YEAR_LAST, words: &[] };

impl Cron {
    /// Reads `cron(0 8 ? * MON *)`.
    pub fn parse(text: &str) -> Result<Self, NotACron> {
        let inner = text.trim().strip_prefix("cron(").and_then(|rest| rest.strip_suffix(')'));
        let fields: Vec<&str> = inner.ok_or(NotACron::Form)?.split_whitespace().collect();
        let [minutes, hours, month_day, month, week_day, year] = fields[..] else {
            return Err(NotACron::Form);
        };
        let days = match (month_day, week_day) {
            ("?", "?") => return Err(NotACron::Days),
            (_, "?") => Days::OfMonth(month_days(month_day)?),
            ("?", _) => Days::OfWeek(week_days(week_day)?),
            _ => return Err(NotACron::Days),
        };
        let cron = Self {
            minutes: MINUTES.list(minutes)?,
            hours: HOURS.list(hours)?,
            days,
            months: MONTH.list(month)?,
            years: YEARS.list(year)?,
        };
        // The thirtieth of February.
        match cron.next_after(Timestamp(0)) {
            Some(_) => Ok(cron),
            None => Err(NotACron::Never),
        }
    }

    pub fn minutes(&self) -> &[u32] {
        &self.minutes
    }

    pub fn hours(&self) -> &[u32] {
        &self.hours
    }

    /// Whether it comes in every year.
    pub fn is_of_every_year(&self) -> bool {
        self.years.first() == Some(&YEAR_FIRST)
            && self.years.len() == usize::try_from(YEAR_LAST - YEAR_FIRST + 1).unwrap_or(0)
    }

    /// The first time after this one.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let now = after.civil();
        let this = u32::try_from(now.year()).ok()?;
        let this_month = u32::try_from(now.month()).ok()?;
        for year in self.years.iter().copied().filter(|year| this <= *year) {
            let first = if year == this { this_month } else { 1 };
            for month in self.months.iter().copied().filter(|month| first <= *month) {
                let found = (1..=days_of(year, month))
                    .filter(|day| self.is_on(year, month, *day))
                    .filter_map(|day| midnight(year, month, day))
                    .find_map(|midnight| self.first_of_day(midnight, after));
                if found.is_some() {
                    return found;
                }
            }
        }
        None
    }

    fn first_of_day(&self, midnight: Timestamp, after: Timestamp) -> Option<Timestamp> {
        if midnight.plus_ms(DAY_MS) <= after {
            return None;
        }
        let times = self.hours.iter().flat_map(|hour| {
            let hour = midnight.plus_ms(u64::from(*hour) * HOUR_MS);
            self.minutes.iter().map(move |minute| hour.plus_ms(u64::from(*minute) * MINUTE_MS))
        });
        let mut times = times;
        times.find(|at| after < *at)
    }

    fn is_on(&self, year: u32, month: u32, day: u32) -> bool {
        let last = days_of(year, month);
        match &self.days {
            Days::OfMonth(days) => days.iter().any(|item| match item {
                MonthDay::Day(number) => *number == day,
                MonthDay::Last => day == last,
                MonthDay::NearWeekday(number) => {
                    Some(day) == near_weekday(year, month, (*number).min(last))
                }
                MonthDay::LastWeekday => {
                    (1..=last).rev().find(|day| is_workday(year, month, *day)) == Some(day)
                }
            }),
            Days::OfWeek(days) => {
                let today = weekday(year, month, day);
                days.iter().any(|item| match item {
                    WeekDay::Every(number) => *number == today,
                    WeekDay::Last(number) => *number == today && last < day + 7,
                    WeekDay::Nth(number, nth) => *number == today && day.div_ceil(7) == *nth,
                })
            }
        }
    }
}

/// The times of a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    pub fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// One of IANA's names, such as `Europe/Stockholm`.
    pub fn parse(name: &str) -> Option<Self> {
        TimeZone::get(name).ok().map(Self)
    }

    /// Date and time of day there, as if they were of UTC.
    fn local(&self, at: Timestamp) -> Timestamp {
        let ms = i64::try_from(at.0).unwrap_or(i64::MAX);
        let time = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX);
        Timestamp::from_datetime(self.0.to_datetime(time)).unwrap_or(at)
    }

    /// When it is so there; none of a time that is left out when clocks go forward, and the first of one that comes twice.
    fn instant(&self, local: DateTime) -> Option<Timestamp> {
        let offset: Offset = match self.0.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset,
            AmbiguousOffset::Gap { .. } => return None,
            AmbiguousOffset::Fold { before, .. } => before,
        };
        let time = offset.to_timestamp(local).ok()?;
        u64::try_from(time.as_millisecond()).ok().map(Timestamp)
    }
}

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotASchedule {
    #[error("it has none of the forms at(yyyy-mm-ddThh:mm:ss), rate(value unit) and cron(fields)")]
    Form,
    #[error("it names no date and time of day")]
    At,
    #[error("a rate is a whole number from 1 on, and minute, minutes, hour, hours, day or days")]
    Rate,
    #[error(transparent)]
    Cron(#[from] NotACron),
}

/// When something is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    At(DateTime),
    Rate { every_ms: u64 },
    Cron(Box<Cron>),
}

/// Times that a zone leaves out, one after the other, before there is none at all.
const GAPS_MAX: usize = 1_000;

impl Schedule {
    pub fn parse(text: &str) -> Result<Self, NotASchedule> {
        let text = text.trim();
        let inner = |start| text.strip_prefix(start).and_then(|rest: &str| rest.strip_suffix(')'));
        if let Some(at) = inner("at(") {
            return at.trim().parse().map(Self::At).map_err(|_| NotASchedule::At);
        }
        if let Some(rate) = inner("rate(") {
            return rate_ms(rate).map(|every_ms| Self::Rate { every_ms }).ok_or(NotASchedule::Rate);
        }
        if text.starts_with("cron(") {
            return Ok(Self::Cron(Box::new(Cron::parse(text)?)));
        }
        Err(NotASchedule::Form)
    }

    /// Reads what a rule of EventBridge may have: no single time, and of a rate the unit in the number of its value.
    pub fn parse_of_rule(text: &str) -> Result<Self, NotASchedule> {
        let text = text.trim();
        match Self::parse(text)? {
            Self::At(_) => Err(NotASchedule::Form),
            Self::Rate { .. } if text.starts_with("rate(1 ") && text.ends_with("s)") => {
                Err(NotASchedule::Rate)
            }
            read @ (Self::Rate { .. } | Self::Cron(_)) => Ok(read),
        }
    }

    /// The first time after this one. Rates count from when they were made.
    pub fn next_after(&self, after: Timestamp, made: Timestamp, zone: &Zone) -> Option<Timestamp> {
        match self {
            Self::At(at) => zone.instant(*at).filter(|at| after < *at),
            Self::Rate { every_ms } => {
                let turns = after.since_ms(made) / every_ms + 1;
                Some(made.plus_ms(turns.saturating_mul(*every_ms)))
            }
            Self::Cron(cron) => {
                let mut local = zone.local(after);
                for _ in 0..GAPS_MAX {
                    local = cron.next_after(local)?;
                    let found = zone.instant(local.civil()).filter(|at| after < *at);
                    if found.is_some() {
                        return found;
                    }
                }
                None
            }
        }
    }
}

/// `5 minutes`
fn rate_ms(text: &str) -> Option<u64> {
    let (number, unit) = text.trim().split_once(' ')?;
    let number: u64 = number.parse().ok().filter(|number| 0 < *number)?;
    let unit_ms = match (unit.trim(), number) {
        ("minute", 1) | ("minutes", _) => MINUTE_MS,
        ("hour", 1) | ("hours", _) => HOUR_MS,
        ("day", 1) | ("days", _) => DAY_MS,
        _ => return None,
    };
    number.checked_mul(unit_ms)
}

fn month_days(text: &str) -> Result<Vec<MonthDay>, NotACron> {
    let mut days = Vec::new();
    for item in text.split(',') {
        match item {
            "L" => days.push(MonthDay::Last),
            "LW" => days.push(MonthDay::LastWeekday),
            _ => match item.strip_suffix('W') {
                Some(number) => days.push(MonthDay::NearWeekday(MONTH_DAYS.number(number)?)),
                None => days.extend(MONTH_DAYS.item(item)?.into_iter().map(MonthDay::Day)),
            },
        }
    }
    Ok(days)
}

fn week_days(text: &str) -> Result<Vec<WeekDay>, NotACron> {
    let mut days = Vec::new();
    for item in text.split(',') {
        if item == "L" {
            days.push(WeekDay::Every(7));
        } else if let Some((day, nth)) = item.split_once('#') {
            let nth = nth.parse().ok().filter(|nth| (1..=5).contains(nth));
            let nth = nth.ok_or_else(|| WEEK_DAYS.wrong(item))?;
            days.push(WeekDay::Nth(WEEK_DAYS.number(day)?, nth));
        } else if let Some(day) = item.strip_suffix('L') {
            days.push(WeekDay::Last(WEEK_DAYS.number(day)?));
        } else {
            days.extend(WEEK_DAYS.item(item)?.into_iter().map(WeekDay::Every));
        }
    }
    Ok(days)
}

fn midnight(year: u32, month: u32, day: u32) -> Option<Timestamp> {
    Timestamp::from_civil(i64::from(year), month, day)
}

fn days_of(year: u32, month: u32) -> u32 {
    (28..=31).rev().find(|day| midnight(year, month, *day).is_some()).unwrap_or(28)
}

/// Sunday is 1.
fn weekday(year: u32, month: u32, day: u32) -> u32 {
    // The first of January 1970 was a Thursday.
    let days = midnight(year, month, day).map_or(0, |at| at.0 / DAY_MS);
    u32::try_from((days + 4) % 7).unwrap_or(0) + 1
}

fn is_workday(year: u32, month: u32, day: u32) -> bool {
    (2..=6).contains(&weekday(year, month, day))
}

/// The weekday nearest to a day, within its month.
fn near_weekday(year: u32, month: u32, day: u32) -> Option<u32> {
    let near = [Some(day), day.checked_sub(1), Some(day + 1), day.checked_sub(2), Some(day + 2)];
    let within = 1..=days_of(year, month);
    near.into_iter().flatten().find(|day| within.contains(day) && is_workday(year, month, *day))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::from_iso8601(&format!("{text}:00Z")).unwrap()
    }

    fn next(cron: &str, after: &str) -> String {
        let next = Cron::parse(cron).unwrap().next_after(at(after));
        next.map_or_else(|| "never".to_owned(), |at| at.iso8601()[..16].to_owned())
    }

    #[test]
    fn what_comes_next_is_what_the_expression_says() {
        // The 29th of November 2026 is a Sunday.
        let now = "2026-11-29T11:20";
        for (cron, expected) in [
            ("cron(0 12 * * ? *)", "2026-11-29T12:00"),
            ("cron(0 11 * * ? *)", "2026-11-30T11:00"),
            ("cron(0 /4 * * ? *)", "2026-11-29T12:00"),
            ("cron(0 */8 * * ? *)", "2026-11-29T16:00"),
            ("cron(15,45 11 * * ? *)", "2026-11-29T11:45"),
            ("cron(0 8 1 * ? *)", "2026-12-01T08:00"),
            ("cron(0 8 1 JAN,JUL ? *)", "2027-01-01T08:00"),
            ("cron(0 8 L * ? *)", "2026-11-30T08:00"),
            ("cron(0 8 LW FEB ? *)", "2027-02-26T08:00"),
            ("cron(0 8 1W 5 ? *)", "2027-05-03T08:00"),
            ("cron(0 8 ? * MON-FRI *)", "2026-11-30T08:00"),
            ("cron(0 8 ? * FRI-SUN *)", "2026-12-04T08:00"),
            ("cron(0 8 ? * 6L *)", "2026-12-25T08:00"),
            ("cron(0 8 ? * 2#1 *)", "2026-12-07T08:00"),
            ("cron(0 8 ? 1/3 SAT#5 *)", "2027-01-30T08:00"),
            ("cron(0 0 29 2 ? *)", "2028-02-29T00:00"),
            ("cron(0 0 1 1 ? 2030)", "2030-01-01T00:00"),
            ("cron(20 11 29 11 ? 2026)", "never"),
        ] {
            assert_eq!(next(cron, now), expected, "{cron}");
        }
    }

    #[test]
    fn a_text_that_is_none_says_which_field_is_wrong() {
        let field = |field, part: &str| NotACron::Field { field, part: part.to_owned() };
        for (text, why) in [
            ("rate(1 day)", NotACron::Form),
            ("cron(0 8 * * *)", NotACron::Form),
            ("cron(0 8 * * * *)", NotACron::Days),
            ("cron(0 8 ? * ? *)", NotACron::Days),
            ("cron(60 8 * * ? *)", field("minutes", "60")),
            ("cron(0 8/0 * * ? *)", field("hours", "8/0")),
            ("cron(0 8, * * ? *)", field("hours", "")),
            ("cron(0 8 ? * MUN *)", field("day-of-week", "MUN")),
            ("cron(0 8 ? * 2#6 *)", field("day-of-week", "2#6")),
            ("cron(0 8 0 * ? *)", field("day-of-month", "0")),
            ("cron(0 8 1 * ? 1900)", field("year", "1900")),
            ("cron(0 8 30 2 ? *)", NotACron::Never),
        ] {
            assert_eq!(Cron::parse(text), Err(why), "{text}");
        }
    }

    #[test]
    fn schedules_go_by_the_clocks_of_their_zone() {
        let stockholm = Zone::parse("Europe/Stockholm").unwrap();
        let next = |text: &str, after: &str, zone: &Zone| {
            let found =
                Schedule::parse(text).unwrap().next_after(at(after), at("2026-01-01T00:00"), zone);
            found.map_or_else(|| "never".to_owned(), |at| at.iso8601()[..16].to_owned())
        };
        for (text, after, expected) in [
            ("cron(0 8 * * ? *)", "2026-07-01T05:00", "2026-07-01T06:00"),
            ("cron(0 8 * * ? *)", "2026-12-01T05:00", "2026-12-01T07:00"),
            // Clocks go from two to three: half past two is left out that day.
            ("cron(30 2 * * ? *)", "2026-03-28T12:00", "2026-03-30T00:30"),
            // They go back from three to two: half past two comes twice, and is the first of both.
            ("cron(30 2 * * ? *)", "2026-10-24T12:00", "2026-10-25T00:30"),
            ("cron(30 2 * * ? *)", "2026-10-25T00:30", "2026-10-26T01:30"),
            ("at(2026-07-01T08:00:00)", "2026-06-30T00:00", "2026-07-01T06:00"),
            ("at(2026-07-01T08:00:00)", "2026-07-01T06:00", "never"),
            ("rate(1 day)", "2026-03-28T12:00", "2026-03-29T00:00"),
            ("rate(90 minutes)", "2026-01-01T01:30", "2026-01-01T03:00"),
        ] {
            assert_eq!(next(text, after, &stockholm), expected, "{text} after {after}");
        }
        assert_eq!(next("cron(0 8 * * ? *)", "2026-07-01T05:00", &Zone::utc()), "2026-07-01T08:00");
        assert_eq!(Zone::parse("Europe/Atlantis"), None);
        for (text, why) in [
            ("every day", NotASchedule::Form),
            ("at(tomorrow)", NotASchedule::At),
            ("rate(0 minutes)", NotASchedule::Rate),
            ("rate(5 minute)", NotASchedule::Rate),
            ("cron(0 8 * * *)", NotASchedule::Cron(NotACron::Form)),
        ] {
            assert_eq!(Schedule::parse(text), Err(why), "{text}");
        }
    }

    #[test]
    fn a_rule_is_stricter_about_its_schedule() {
        for text in ["rate(1 minute)", "rate(2 minutes)", "rate(11 hours)", "cron(0 8 * * ? *)"] {
            assert!(Schedule::parse_of_rule(text).is_ok(), "{text}");
        }
        for text in ["rate(1 minutes)", "rate(1 days)", "rate(2 minute)", "at(2026-07-01T08:00:00)"]
        {
            assert!(Schedule::parse_of_rule(text).is_err(), "{text}");
        }
    }

    #[test]
    fn each_time_comes_after_the_one_before() {
        let cron = Cron::parse("cron(0 0/6 ? * MON,THU *)").unwrap();
        let mut now = Timestamp(1_700_000_000_000);
        for _ in 0..1_000 {
            let next = cron.next_after(now).unwrap();
            assert!(now < next && next.0.is_multiple_of(6 * HOUR_MS), "{now} {next}");
            now = next;
        }
    }
}
