//! The three ways in which protocols write a time.

use jiff::fmt::strtime;
use longshore_types::Timestamp;

use crate::json::timestamp_of_seconds;
use crate::shape::TimestampFormat;

const RFC822: &str = "%a, %d %b %Y %H:%M:%S GMT";
const RFC822_WITH_FRACTION: &str = "%a, %d %b %Y %H:%M:%S%.f GMT";

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
    strtime::format(RFC822, value.civil()).expect("the format asks for what a date and a time have")
}

/// Reads a text in `format`; `None` if it is none.
pub(crate) fn parse(text: &str, format: TimestampFormat) -> Option<Timestamp> {
    match format {
        TimestampFormat::Seconds => text
            .parse()
            .ok()
            .filter(|seconds: &f64| seconds.is_finite())
            .and_then(timestamp_of_seconds)
            .or_else(|| Timestamp::from_iso8601(text)),
        TimestampFormat::Iso8601 => Timestamp::from_iso8601(text),
        TimestampFormat::Rfc822 => parse_rfc822(text),
    }
}

/// `Sun, 25 Jan 2015 08:00:00[.fff] GMT`
fn parse_rfc822(text: &str) -> Option<Timestamp> {
    Timestamp::from_datetime(strtime::parse(RFC822_WITH_FRACTION, text).ok()?.to_datetime().ok()?)
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
