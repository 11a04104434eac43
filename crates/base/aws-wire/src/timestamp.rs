//! The three ways in which protocols write a time.

use longshore_types::Timestamp;

use crate::json::timestamp_of_seconds;
use crate::shape::TimestampFormat;

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Seconds with up to three decimals, none if it is a whole second.
pub(crate) fn write_seconds(out: &mut Vec<u8>, value: Timestamp) {
    out.extend_from_slice(value.seconds().to_string().as_bytes());
    let ms = value.0 % 1000;
    if ms != 0 {
        let fraction = format!(".{ms:03}");
        out.extend_from_slice(fraction.trim_end_matches('0').as_bytes());
    }
}

/// `2015-01-25T08:00:00Z`, with milliseconds only if there are any.
pub(crate) fn iso8601(value: Timestamp) -> String {
    let full = value.iso8601();
    if value.0.is_multiple_of(1000) { full.replace(".000Z", "Z") } else { full }
}

/// `Sun, 25 Jan 2015 08:00:00 GMT`
pub(crate) fn rfc822(value: Timestamp) -> String {
    let (year, month, day, hour, minute, second, _) = value.civil();
    let weekday = usize::try_from(value.0 / 86_400_000 % 7).map_or("", |index| DAYS[index]);
    let month = usize::try_from(month - 1).map_or("", |index| MONTHS[index]);
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// Reads a text in `format`; `None` if it is none.
pub(crate) fn parse(text: &str, format: TimestampFormat) -> Option<Timestamp> {
    match format {
        TimestampFormat::Seconds => text
            .parse()
            .ok()
            .filter(|seconds: &f64| seconds.is_finite())
            .and_then(timestamp_of_seconds)
            .or_else(|| parse_iso8601(text)),
        TimestampFormat::Iso8601 => parse_iso8601(text),
        TimestampFormat::Rfc822 => parse_rfc822(text),
    }
}

/// `2015-01-25T08:00:00[.fff](Z|±hh:mm)`
fn parse_iso8601(text: &str) -> Option<Timestamp> {
    let (date, rest) = text.split_once(['T', 't'])?;
    let mut date = date.splitn(3, '-');
    let year = number(date.next()?, 4)?;
    let month = number(date.next()?, 2)?;
    let day = number(date.next()?, 2)?;
    let zone = rest.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = rest.split_at(zone);
    let ms = clock_ms(clock)?;
    let start = Timestamp::from_civil(i64::from(year), month, day)?;
    start.plus_ms(ms).0.checked_add_signed(-offset_ms(zone)?).map(Timestamp)
}

/// `Sun, 25 Jan 2015 08:00:00[.fff] GMT`
fn parse_rfc822(text: &str) -> Option<Timestamp> {
    let mut words = text.split_once(", ")?.1.split_ascii_whitespace();
    let day = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month)?;
    let year = number(words.next()?, 4)?;
    let ms = clock_ms(words.next()?)?;
    if words.next()? != "GMT" || words.next().is_some() {
        return None;
    }
    let start = Timestamp::from_civil(i64::from(year), u32::try_from(month).ok()? + 1, day)?;
    Some(start.plus_ms(ms))
}

/// `hh:mm:ss[.fff…]` in milliseconds.
fn clock_ms(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = whole.splitn(3, ':');
    let hour = number(parts.next()?, 2).filter(|hour| *hour < 24)?;
    let minute = number(parts.next()?, 2).filter(|minute| *minute < 60)?;
    let second = number(parts.next()?, 2).filter(|second| *second <= 60)?;
    if fraction.is_empty() || 9 < fraction.len() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let thousandths: u64 = format!("{fraction:0<3}")[..3].parse().ok()?;
    Some(u64::from((hour * 60 + minute) * 60 + second) * 1000 + thousandths)
}

fn offset_ms(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("Z") {
        return Some(0);
    }
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let ms = i64::from(number(hours, 2)? * 60 + number(minutes, 2)?) * 60_000;
    Some(if zone.starts_with('-') { -ms } else { ms })
}

fn number(text: &str, digits: usize) -> Option<u32> {
    let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_reads_what_it_writes() {
        let time = Timestamp(1_422_172_800_000);
        assert_eq!(iso8601(time), "2015-01-25T08:00:00Z");
        assert_eq!(rfc822(time), "Sun, 25 Jan 2015 08:00:00 GMT");
        for day in 0..800 {
            let time = Timestamp(time.0 + day * 86_399_000);
            assert_eq!(parse(&iso8601(time), TimestampFormat::Iso8601), Some(time));
            assert_eq!(parse(&rfc822(time), TimestampFormat::Rfc822), Some(time));
        }
    }

    #[test]
    fn offsets_and_fractions_are_understood_and_nonsense_is_not() {
        let iso = |text| parse(text, TimestampFormat::Iso8601);
        assert_eq!(iso("1970-01-01T01:00:00+01:00"), Some(Timestamp(0)));
        assert_eq!(iso("1970-01-01T00:00:00.123456Z"), Some(Timestamp(123)));
        assert_eq!(iso("1970-01-01T00:00:00+01:00"), None);
        for text in ["", "T", "2015-13-01T00:00:00Z", "2015-01-01T25:00:00Z", "2015-01-01T00:00:00"]
        {
            assert_eq!(iso(text), None, "{text}");
        }
    }
}
