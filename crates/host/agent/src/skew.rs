//! A clock that is wrong: what is added to it for signatures, as the region's own answers say.

use http::{HeaderMap, header};
use longshore_types::Timestamp;

/// An error below this is not for what a signature was refused: 15 minutes are forgiven.
const ERROR_MS_MIN: u64 = 4 * 60 * 1000;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The time by a clock that is `offset_ms` behind.
#[must_use]
pub fn shifted(clock: Timestamp, offset_ms: i64) -> Timestamp {
    Timestamp(clock.0.saturating_add_signed(offset_ms))
}

/// What is to be added to the clock from now on, if a signature by it was refused for its time; `offset_ms`: what was
/// added to it then.
#[must_use]
pub fn correction(
    code: &str,
    headers: &HeaderMap,
    clock: Timestamp,
    offset_ms: i64,
) -> Option<i64> {
    let may_be_for_its_time = [
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "RequestTimeTooSkewed",
        "RequestExpired",
        "RequestInTheFuture",
        "AuthFailure",
    ]
    .contains(&code);
    let date = headers.get(header::DATE).filter(|_| may_be_for_its_time)?;
    let theirs = read_date(date.to_str().ok()?)?;
    if theirs.0.abs_diff(shifted(clock, offset_ms).0) < ERROR_MS_MIN {
        return None;
    }
    i64::try_from(i128::from(theirs.0) - i128::from(clock.0)).ok()
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn read_date(text: &str) -> Option<Timestamp> {
    let (_, rest) = text.split_once(", ")?;
    let mut parts = rest.strip_suffix(" GMT")?.split(' ');
    let (day, month, year, time) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let month = MONTHS.iter().position(|it| *it == month)? + 1;
    Timestamp::from_iso8601(&format!("{year}-{month:02}-{day}T{time}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEN: Timestamp = Timestamp(784_111_777_000);

    fn dated(text: &'static str) -> HeaderMap {
        [(header::DATE, text.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn a_clock_is_corrected_only_where_it_is_far_off_and_a_signature_was_refused() {
        let headers = dated("Sun, 06 Nov 1994 08:49:37 GMT");
        let late = Timestamp(THEN.0 - 3_600_000);
        let early = Timestamp(THEN.0 + 3_600_000);
        let asked = |code, clock, offset_ms| correction(code, &headers, clock, offset_ms);
        assert_eq!(asked("InvalidSignatureException", late, 0), Some(3_600_000));
        assert_eq!(asked("RequestTimeTooSkewed", early, 0), Some(-3_600_000));
        assert_eq!(shifted(early, -3_600_000), THEN);
        assert_eq!(asked("InvalidSignatureException", late, 3_600_000), None, "it is right");
        assert_eq!(asked("InvalidSignatureException", THEN, 3_600_000), Some(0), "it was set");
        assert_eq!(asked("InvalidSignatureException", Timestamp(THEN.0 - 60_000), 0), None);
        assert_eq!(asked("AccessDeniedException", late, 0), None);
    }

    #[test]
    fn a_date_that_is_none_corrects_nothing() {
        for text in [
            "",
            "now",
            "Sun, 06 Nov 1994",
            "Sun, 06 Nom 1994 08:49:37 GMT",
            "Sun, 99 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1494 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 CET",
        ] {
            assert_eq!(
                correction("RequestExpired", &dated(text), THEN, 99_999_999),
                None,
                "{text}"
            );
        }
        assert_eq!(correction("RequestExpired", &HeaderMap::new(), THEN, 99_999_999), None);
    }
}
