//! Numbers, dates and networks as policies and requests write them.

use std::cmp::Ordering;
use std::net::IpAddr;

use longshore_types::Timestamp;

/// A decimal number, exactly: units of 10⁻¹⁸.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Decimal(i128);

const UNIT: i128 = 1_000_000_000_000_000_000;

impl Decimal {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (is_negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let is_number = |text: &str| text.len() <= 18 && text.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() && fraction.is_empty() || !is_number(whole) || !is_number(fraction) {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let fraction: i128 = format!("{fraction:0<18}").parse().ok()?;
        let value = whole * UNIT + fraction;
        Some(Self(if is_negative { -value } else { value }))
    }

    pub(crate) fn from_integer(number: i64) -> Self {
        Self(i128::from(number) * UNIT)
    }
}

/// A moment, in milliseconds of the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(i64);

impl Moment {
    /// W3C's profile of ISO 8601, from a year alone to fractions of a second, or seconds of the epoch.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.len() != 4 && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return Self::from_seconds(text.parse().ok()?);
        }
        let (date, time) = match text.split_once(['T', 't']) {
            Some((date, time)) => (date, Some(time)),
            None => (text, None),
        };
        let mut fields = date.split('-');
        let year = digits(fields.next()?, 4)?;
        let month = fields.next().map_or(Some(1), |text| digits(text, 2))?;
        let day = fields.next().map_or(Some(1), |text| digits(text, 2))?;
        if fields.next().is_some() {
            return None;
        }
        let midnight = Self::from_timestamp(Timestamp::from_civil(i64::from(year), month, day)?)?;
        let Some(time) = time else { return Some(midnight) };
        Some(Self(midnight.0.checked_add(time_of_day(time)?)?))
    }

    pub(crate) fn from_timestamp(time: Timestamp) -> Option<Self> {
        i64::try_from(time.0).ok().map(Self)
    }

    pub(crate) fn from_seconds(seconds: i64) -> Option<Self> {
        seconds.checked_mul(1_000).map(Self)
    }
}

/// Milliseconds after midnight in UTC of `hh:mm[:ss[.fraction]]` and a zone.
fn time_of_day(text: &str) -> Option<i64> {
    let (clock, offset_minutes) = if let Some(clock) = text.strip_suffix(['Z', 'z']) {
        (clock, 0)
    } else {
        let (clock, zone) = text.split_at_checked(text.rfind(['+', '-'])?)?;
        let (sign, zone) = (if zone.starts_with('-') { -1 } else { 1 }, zone.get(1..)?);
        let (hours, minutes) = zone.split_once(':').or_else(|| zone.split_at_checked(2))?;
        let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
        (hours < 24 && minutes < 60).then_some(())?;
        (clock, sign * i64::from(hours * 60 + minutes))
    };
    let mut fields = clock.split(':');
    let hour = digits(fields.next()?, 2)?;
    let minute = digits(fields.next()?, 2)?;
    let (second, fraction) = match fields.next() {
        Some(text) => text.split_once('.').unwrap_or((text, "0")),
        None => ("00", "0"),
    };
    let second = digits(second, 2)?;
    let is_fraction = !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit());
    if fields.next().is_some() || hour > 24 || minute > 59 || second > 60 || !is_fraction {
        return None;
    }
    let ms: String = fraction.chars().chain("000".chars()).take(3).collect();
    let minutes = i64::from(hour * 60 + minute) - offset_minutes;
    Some((minutes * 60 + i64::from(second)) * 1_000 + i64::from(digits(&ms, 3)?))
}

fn digits(text: &str, count: usize) -> Option<u32> {
    let is_right = text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    if is_right { text.parse().ok() } else { None }
}

/// A block of addresses; a lone address is a block of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) if !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit()) => {
                bits.parse().ok()?
            }
            Some(_) => return None,
            None => width,
        };
        (bits <= width).then_some(Self { address, bits })
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let host_bits = |width: u32| width - self.bits;
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                let differs = ours.to_bits() ^ theirs.to_bits();
                differs.checked_shr(host_bits(32)).unwrap_or(0) == 0
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let differs = ours.to_bits() ^ theirs.to_bits();
                differs.checked_shr(host_bits(128)).unwrap_or(0) == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// How two ordered things are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Equals,
    Less,
    LessEquals,
    Greater,
    GreaterEquals,
}

impl Compare {
    pub(crate) fn holds<T: Ord>(self, left: T, right: T) -> bool {
        let order = left.cmp(&right);
        match self {
            Self::Equals => order == Ordering::Equal,
            Self::Less => order == Ordering::Less,
            Self::LessEquals => order != Ordering::Greater,
            Self::Greater => order == Ordering::Greater,
            Self::GreaterEquals => order != Ordering::Less,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_exactly() {
        let number = |text| Decimal::parse(text).unwrap();
        assert!(number("512") < number("1024"));
        assert_eq!(number("1.50"), number("+1.5"));
        assert_eq!(number("-0"), Decimal::from_integer(0));
        assert_eq!(number(".5"), number("0.5"));
        assert!(number("-2") < number("-1.999"));
        assert!(number("9007199254740993") > number("9007199254740992"));
        for bad in ["", ".", "-", "1e3", "0x1", "1,5", "NaN", "1.2.3", "9999999999999999999"] {
            assert_eq!(Decimal::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn dates_are_read_in_all_their_forms() {
        let moment = |text| Moment::parse(text).unwrap_or_else(|| panic!("{text}"));
        let noon = moment("2026-10-02T12:00:00Z");
        for same in [
            "2026-10-02T12:00Z",
            "2026-10-02T12:00:00.000Z",
            "2026-10-02T14:00:00+02:00",
            "2026-10-02T06:30:00.0-0530",
            "1790942400",
        ] {
            assert_eq!(moment(same), noon, "{same}");
        }
        assert_eq!(moment("2026"), moment("2026-01-01"));
        assert_eq!(moment("2026-02"), moment("2026-02-01T00:00:00Z"));
        assert!(moment("2026-10-02T12:00:00.5Z") > noon);
        for bad in
            ["", "today", "2026-13-01", "2026-02-30", "2026-10-02T12:00:00", "2026-1-2", "é-é-é"]
        {
            assert_eq!(Moment::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn networks_contain_what_shares_their_bits() {
        for (network, address, wanted) in [
            ("10.0.0.0/8", "10.200.1.1", true),
            ("10.0.0.7/8", "11.0.0.7", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("203.0.113.9", "203.0.113.9", true),
            ("203.0.113.9", "203.0.113.8", false),
            ("203.0.113.0/24", "::ffff:203.0.113.9", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "::1", true),
            ("::/0", "10.0.0.1", false),
        ] {
            let block = Network::parse(network).unwrap();
            assert_eq!(block.contains(address.parse().unwrap()), wanted, "{network} {address}");
        }
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/", "10.0.0.0/+8", "::/129"] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }
}
