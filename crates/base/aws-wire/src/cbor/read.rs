//! CBOR straight from bytes, definite and indefinite lengths alike.

use bytes::Bytes;
use longshore_types::Timestamp;

use super::{
    ARRAY, BREAK, BYTES, DOUBLE, FALSE, HALF, MAP, NEGATIVE, NULL, SIMPLE, SINGLE, TAG, TAG_TIME,
    TEXT, TRUE, UNDEFINED, UNSIGNED,
};
use crate::codec::{DEPTH_MAX, DecodeError, Decoder, TakeEntry, TakeItem, TakeMember};
use crate::json::timestamp_of_seconds;
use crate::shape::{List, Map, NumberKind, Structure, TimestampFormat};

type Result<T> = std::result::Result<T, DecodeError>;

/// Stands at a place in a CBOR text.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, depth: 0 }
    }

    /// Refuses anything after the value.
    pub fn finish(self) -> Result<()> {
        if self.at == self.bytes.len() {
            Ok(())
        } else {
            Err(DecodeError::new("Unexpected data after the CBOR item"))
        }
    }

    fn peek(&self) -> Result<u8> {
        self.bytes.get(self.at).copied().ok_or_else(end)
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8]> {
        let count = usize::try_from(count).map_err(|_| end())?;
        let to = self.at.checked_add(count).ok_or_else(end)?;
        let taken = self.bytes.get(self.at..to).ok_or_else(end)?;
        self.at = to;
        Ok(taken)
    }

    /// The number in or after an item's first byte; `None` for an indefinite length.
    fn head(&mut self) -> Result<Option<u64>> {
        let first = self.peek()?;
        self.at += 1;
        let major = first >> 5;
        let value = match first & 31 {
            small @ 0..=23 => Some(u64::from(small)),
            size @ 24..=27 => {
                let bytes = self.take(1 << (size - 24))?;
                Some(bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
            }
            31 if (BYTES..=MAP).contains(&major) || major == SIMPLE => None,
            _ => return Err(DecodeError::new("Malformed CBOR item")),
        };
        Ok(value)
    }

    fn deeper(&mut self) -> Result<()> {
        self.depth += 1;
        if DEPTH_MAX < self.depth {
            return Err(DecodeError::new("The request is nested too deeply"));
        }
        Ok(())
    }

    /// The head of an item of kind `major`, or the complaint that it is another.
    fn expect(&mut self, major: u8, wanted: &str) -> Result<Option<u64>> {
        if self.peek()? >> 5 != major {
            return Err(mismatch(wanted));
        }
        self.head()
    }

    /// Whether another item follows in a container of `left` items, or of unknown many.
    fn more(&mut self, left: &mut Option<u64>) -> Result<bool> {
        match left {
            Some(0) => Ok(false),
            Some(left) => {
                *left -= 1;
                Ok(true)
            }
            None if self.peek()? == BREAK => {
                self.at += 1;
                Ok(false)
            }
            None => Ok(true),
        }
    }

    /// The bytes of a text or blob, whole or in chunks.
    fn run(&mut self, major: u8, wanted: &str) -> Result<Vec<u8>> {
        if let Some(count) = self.expect(major, wanted)? {
            return Ok(self.take(count)?.to_vec());
        }
        let mut joined = vec![];
        while self.peek()? != BREAK {
            let count = self.expect(major, wanted)?.ok_or_else(|| mismatch(wanted))?;
            joined.extend_from_slice(self.take(count)?);
        }
        self.at += 1;
        Ok(joined)
    }

    fn string(&mut self) -> Result<String> {
        String::from_utf8(self.run(TEXT, "a String")?)
            .map_err(|_| DecodeError::new("Invalid UTF-8 in request"))
    }

    fn skip(&mut self) -> Result<()> {
        let first = self.peek()?;
        match first >> 5 {
            major @ (BYTES | TEXT) => self.run(major, "a String").map(drop),
            major @ (ARRAY | MAP) => {
                self.deeper()?;
                let mut left = self.head()?;
                while self.more(&mut left)? {
                    self.skip()?;
                    if major == MAP {
                        self.skip()?;
                    }
                }
                self.depth -= 1;
                Ok(())
            }
            TAG => {
                self.deeper()?;
                self.head()?;
                self.skip()?;
                self.depth -= 1;
                Ok(())
            }
            _ if first == BREAK => Err(DecodeError::new("Malformed CBOR item")),
            _ => self.head().map(drop),
        }
    }

    fn number(&mut self, wanted: &str) -> Result<Number> {
        let first = self.peek()?;
        match first {
            HALF => {
                self.at += 1;
                let bytes = self.take(2)?;
                Ok(Number::Float(half(u16::from_be_bytes([bytes[0], bytes[1]]))))
            }
            SINGLE => {
                self.at += 1;
                let bytes: [u8; 4] = self.take(4)?.try_into().map_err(|_| end())?;
                Ok(Number::Float(f64::from(f32::from_be_bytes(bytes))))
            }
            DOUBLE => {
                self.at += 1;
                let bytes: [u8; 8] = self.take(8)?.try_into().map_err(|_| end())?;
                Ok(Number::Float(f64::from_be_bytes(bytes)))
            }
            _ if first >> 5 == UNSIGNED => {
                Ok(Number::Whole(i128::from(self.head()?.unwrap_or_default())))
            }
            _ if first >> 5 == NEGATIVE => {
                Ok(Number::Whole(-1 - i128::from(self.head()?.unwrap_or_default())))
            }
            _ => Err(mismatch(wanted)),
        }
    }
}

enum Number {
    Whole(i128),
    Float(f64),
}

impl Number {
    #[expect(clippy::cast_precision_loss, reason = "a double member has a double's precision")]
    fn to_double(&self) -> f64 {
        match self {
            Self::Whole(value) => *value as f64,
            Self::Float(value) => *value,
        }
    }
}

fn end() -> DecodeError {
    DecodeError::new("Unexpected end of request")
}

fn mismatch(wanted: &str) -> DecodeError {
    DecodeError::new(format!("Value can not be converted to {wanted}"))
}

/// IEEE 754 binary16.
fn half(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from((bits >> 10) & 31);
    let fraction = f64::from(bits & 0x3ff);
    let magnitude = match exponent {
        0 => fraction * 2_f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2_f64.powi(exponent - 15),
    };
    sign * magnitude
}

impl Decoder for Reader<'_> {
    fn null(&mut self) -> Result<bool> {
        let is_null = matches!(self.peek()?, NULL | UNDEFINED);
        if is_null {
            self.at += 1;
        }
        Ok(is_null)
    }

    fn structure(&mut self, shape: &'static Structure, take: TakeMember<'_>) -> Result<()> {
        let mut left = self.expect(MAP, "a Structure")?;
        self.deeper()?;
        let mut next = 0;
        while self.more(&mut left)? {
            let name = self.string()?;
            match shape.find(&name, next) {
                Some(index) => {
                    take(index, self)?;
                    next = index + 1;
                }
                None => self.skip()?,
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn list(&mut self, _: &'static List, take: TakeItem<'_>) -> Result<()> {
        let mut left = self.expect(ARRAY, "a List")?;
        self.deeper()?;
        while self.more(&mut left)? {
            take(self)?;
        }
        self.depth -= 1;
        Ok(())
    }

    fn map(&mut self, _: &'static Map, take: TakeEntry<'_>) -> Result<()> {
        let mut left = self.expect(MAP, "a Map")?;
        self.deeper()?;
        while self.more(&mut left)? {
            let key = self.string()?;
            if !self.null()? {
                take(key, self)?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn text(&mut self) -> Result<String> {
        self.string()
    }

    #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
    fn integer(&mut self, kind: NumberKind) -> Result<i64> {
        let wanted = if kind == NumberKind::Long { "a Long" } else { "an Integer" };
        match self.number(wanted)? {
            Number::Whole(value) => i64::try_from(value).map_err(|_| mismatch(wanted)),
            Number::Float(value) if value.is_finite() && value.abs() < 9.0e18 => Ok(value as i64),
            Number::Float(_) => Err(mismatch(wanted)),
        }
    }

    fn double(&mut self) -> Result<f64> {
        Ok(self.number("a Double")?.to_double())
    }

    fn boolean(&mut self) -> Result<bool> {
        let value = match self.peek()? {
            TRUE => true,
            FALSE => false,
            _ => return Err(mismatch("a Boolean")),
        };
        self.at += 1;
        Ok(value)
    }

    fn timestamp(&mut self, _: Option<TimestampFormat>) -> Result<Timestamp> {
        if self.expect(TAG, "a Timestamp")? != Some(TAG_TIME) {
            return Err(mismatch("a Timestamp"));
        }
        let seconds = self.number("a Timestamp")?.to_double();
        timestamp_of_seconds(seconds).ok_or_else(|| mismatch("a Timestamp"))
    }

    fn blob(&mut self) -> Result<Bytes> {
        self.run(BYTES, "a Blob").map(Bytes::from)
    }

    fn document(&mut self) -> Result<serde_json::Value> {
        Err(DecodeError::new("Documents can not be sent as CBOR"))
    }
}
