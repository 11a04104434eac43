//! JSON straight from bytes. Strict as RFC 8259 is; refuses what is not, and what is too deep.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use longshore_types::Timestamp;

use super::timestamp_of_seconds;
use crate::codec::{DEPTH_MAX, DecodeError, Decoder, TakeEntry, TakeItem, TakeMember};
use crate::shape::{List, Map, NumberKind, Structure, TimestampFormat};
use crate::timestamp;

type Result<T> = std::result::Result<T, DecodeError>;

/// Stands at a place in a JSON text that is known to be UTF-8.
#[derive(Debug)]
pub struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    times: TimestampFormat,
}

impl<'a> Reader<'a> {
    /// An empty text is read as an empty object, as AWS does.
    pub fn new(bytes: &'a [u8], times: TimestampFormat) -> Result<Self> {
        let text =
            std::str::from_utf8(bytes).map_err(|_| DecodeError::new("Invalid UTF-8 in request"))?;
        let blank = text.bytes().all(|byte| byte.is_ascii_whitespace());
        Ok(Self { text: if blank { "{}" } else { text }, at: 0, depth: 0, times })
    }

    /// Refuses anything after the value.
    pub fn finish(mut self) -> Result<()> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err(self.unexpected()) }
    }

    fn peek(&mut self) -> Option<u8> {
        self.space();
        self.here()
    }

    fn here(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.here(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn unexpected(&self) -> DecodeError {
        match self.text[self.at..].chars().next() {
            Some(found) => DecodeError::new(format!(
                "Unexpected character ({}) at position {}",
                found.escape_default(),
                self.at
            )),
            None => DecodeError::new("Unexpected end of request"),
        }
    }

    fn expect(&mut self, byte: u8) -> Result<()> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    /// Passes `word` if it is here and no longer word is.
    fn word(&mut self, word: &str) -> bool {
        let rest = &self.text.as_bytes()[self.at..];
        let found = rest.starts_with(word.as_bytes())
            && !rest.get(word.len()).is_some_and(u8::is_ascii_alphanumeric);
        if found {
            self.at += word.len();
        }
        found
    }

    fn deeper(&mut self) -> Result<()> {
        self.depth += 1;
        if DEPTH_MAX < self.depth {
            return Err(DecodeError::new("The request is nested too deeply"));
        }
        Ok(())
    }

    /// After an item: passes a comma and says whether another item must follow.
    fn more(&mut self, close: u8) -> Result<bool> {
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                self.depth -= 1;
                Ok(false)
            }
            _ => Err(self.unexpected()),
        }
    }

    /// Passes an opening bracket; false if the closing one follows at once.
    fn open(&mut self, open: u8, close: u8) -> Result<bool> {
        self.expect(open)?;
        self.deeper()?;
        if self.peek() == Some(close) {
            self.at += 1;
            self.depth -= 1;
            return Ok(false);
        }
        Ok(true)
    }

    fn quoted(&mut self) -> Result<Cow<'a, str>> {
        self.expect(b'"')?;
        let start = self.at;
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.at) {
                Some(b'"') => {
                    let found = &self.text[start..self.at];
                    self.at += 1;
                    return Ok(Cow::Borrowed(found));
                }
                Some(b'\\') => return self.escaped(start).map(Cow::Owned),
                Some(byte) if 0x20 <= *byte => self.at += 1,
                _ => return Err(self.unexpected()),
            }
        }
    }

    /// The rest of a text that has escapes; `start` is where it began.
    fn escaped(&mut self, start: usize) -> Result<String> {
        let mut value = self.text[start..self.at].to_owned();
        let mut from = self.at;
        loop {
            match self.here() {
                Some(b'"') => {
                    value.push_str(&self.text[from..self.at]);
                    self.at += 1;
                    return Ok(value);
                }
                Some(b'\\') => {
                    value.push_str(&self.text[from..self.at]);
                    self.at += 1;
                    value.push(self.escape()?);
                    from = self.at;
                }
                Some(byte) if 0x20 <= byte => self.at += 1,
                _ => return Err(self.unexpected()),
            }
        }
    }

    fn escape(&mut self) -> Result<char> {
        let Some(kind) = self.here() else { return Err(self.unexpected()) };
        let plain = match kind {
            b'"' | b'\\' | b'/' => char::from(kind),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.at += 1;
                return self.unicode();
            }
            _ => return Err(self.unexpected()),
        };
        self.at += 1;
        Ok(plain)
    }

    fn unicode(&mut self) -> Result<char> {
        let first = self.hex4()?;
        let code = match first {
            0xd800..=0xdbff => {
                if !self.text[self.at..].starts_with("\\u") {
                    return Err(DecodeError::new("Lone surrogate in text"));
                }
                self.at += 2;
                let second = self.hex4()?;
                if !(0xdc00..=0xdfff).contains(&second) {
                    return Err(DecodeError::new("Lone surrogate in text"));
                }
                0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            _ => first,
        };
        char::from_u32(code).ok_or_else(|| DecodeError::new("Lone surrogate in text"))
    }

    fn hex4(&mut self) -> Result<u32> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let code = digits.and_then(|digits| {
            digits
                .iter()
                .try_fold(0, |code, &digit| Some(code * 16 + char::from(digit).to_digit(16)?))
        });
        let code = code.ok_or_else(|| DecodeError::new("Bad \\u escape in text"))?;
        self.at += 4;
        Ok(code)
    }

    /// The text of a number, which follows JSON's grammar.
    fn number(&mut self) -> Result<&'a str> {
        self.space();
        let start = self.at;
        if self.here() == Some(b'-') {
            self.at += 1;
        }
        match self.here() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.unexpected()),
        }
        if self.here() == Some(b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if matches!(self.here(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.here(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.some_digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    fn digits(&mut self) {
        while matches!(self.here(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    fn some_digits(&mut self) -> Result<()> {
        if !matches!(self.here(), Some(b'0'..=b'9')) {
            return Err(self.unexpected());
        }
        self.digits();
        Ok(())
    }

    /// Passes a value of any kind, checking it all the same.
    fn skip(&mut self) -> Result<()> {
        match self.peek() {
            Some(b'"') => self.quoted().map(drop),
            Some(b'{') => {
                let mut more = self.open(b'{', b'}')?;
                while more {
                    self.quoted()?;
                    self.expect(b':')?;
                    self.skip()?;
                    more = self.more(b'}')?;
                }
                Ok(())
            }
            Some(b'[') => {
                let mut more = self.open(b'[', b']')?;
                while more {
                    self.skip()?;
                    more = self.more(b']')?;
                }
                Ok(())
            }
            Some(b'-' | b'0'..=b'9') => self.number().map(drop),
            _ if self.word("true") || self.word("false") || self.word("null") => Ok(()),
            _ => Err(self.unexpected()),
        }
    }

    /// AWS's complaint about a value of another kind than `wanted`.
    fn mismatch(&mut self, wanted: &str) -> DecodeError {
        let found = match self.peek() {
            Some(b'{') => return start_of("structure or map"),
            Some(b'[') => return start_of("list"),
            Some(b'"') => "STRING_VALUE",
            Some(b't') => "TRUE_VALUE",
            Some(b'f') => "FALSE_VALUE",
            Some(b'n') => "NULL_VALUE",
            Some(b'-' | b'0'..=b'9') => "NUMBER_VALUE",
            _ => return self.unexpected(),
        };
        DecodeError::new(format!("{found} can not be converted to {wanted}"))
    }
}

fn start_of(what: &str) -> DecodeError {
    DecodeError::new(format!("Start of {what} found where not expected."))
}

impl Decoder for Reader<'_> {
    fn null(&mut self) -> Result<bool> {
        Ok(self.peek() == Some(b'n') && self.word("null"))
    }

    fn structure(&mut self, shape: &'static Structure, take: TakeMember<'_>) -> Result<()> {
        if self.peek() != Some(b'{') {
            return Err(self.mismatch("a Structure"));
        }
        let mut more = self.open(b'{', b'}')?;
        let mut next = 0;
        while more {
            self.space();
            let name = self.quoted()?;
            self.expect(b':')?;
            match shape.find(&name, next) {
                Some(index) => {
                    take(index, self)?;
                    next = index + 1;
                }
                None => self.skip()?,
            }
            more = self.more(b'}')?;
        }
        Ok(())
    }

    fn list(&mut self, _: &'static List, take: TakeItem<'_>) -> Result<()> {
        if self.peek() != Some(b'[') {
            return Err(self.mismatch("a List"));
        }
        let mut more = self.open(b'[', b']')?;
        while more {
            take(self)?;
            more = self.more(b']')?;
        }
        Ok(())
    }

    fn map(&mut self, _: &'static Map, take: TakeEntry<'_>) -> Result<()> {
        if self.peek() != Some(b'{') {
            return Err(self.mismatch("a Map"));
        }
        let mut more = self.open(b'{', b'}')?;
        while more {
            self.space();
            let key = self.quoted()?.into_owned();
            self.expect(b':')?;
            // An entry without a value is no entry.
            if !self.null()? {
                take(key, self)?;
            }
            more = self.more(b'}')?;
        }
        Ok(())
    }

    fn text(&mut self) -> Result<String> {
        if self.peek() != Some(b'"') {
            return Err(self.mismatch("a String"));
        }
        Ok(self.quoted()?.into_owned())
    }

    fn integer(&mut self, kind: NumberKind) -> Result<i64> {
        let wanted = if kind == NumberKind::Long { "a Long" } else { "an Integer" };
        if !matches!(self.peek(), Some(b'-' | b'0'..=b'9')) {
            return Err(self.mismatch(wanted));
        }
        let text = self.number()?;
        if let Ok(value) = text.parse() {
            return Ok(value);
        }
        whole(text).ok_or_else(|| {
            DecodeError::new(format!("NUMBER_VALUE can not be converted to {wanted}"))
        })
    }

    fn double(&mut self) -> Result<f64> {
        match self.peek() {
            Some(b'-' | b'0'..=b'9') => Ok(self.number()?.parse().unwrap_or(f64::NAN)),
            Some(b'"') => match self.quoted()?.as_ref() {
                "NaN" => Ok(f64::NAN),
                "Infinity" => Ok(f64::INFINITY),
                "-Infinity" => Ok(f64::NEG_INFINITY),
                _ => Err(DecodeError::new("STRING_VALUE can not be converted to a Double")),
            },
            _ => Err(self.mismatch("a Double")),
        }
    }

    fn boolean(&mut self) -> Result<bool> {
        self.space();
        if self.word("true") {
            Ok(true)
        } else if self.word("false") {
            Ok(false)
        } else {
            Err(self.mismatch("a Boolean"))
        }
    }

    fn timestamp(&mut self, format: Option<TimestampFormat>) -> Result<Timestamp> {
        let bad = || DecodeError::new("Value can not be converted to a Timestamp");
        match self.peek() {
            Some(b'-' | b'0'..=b'9') => {
                self.number()?.parse().ok().and_then(timestamp_of_seconds).ok_or_else(bad)
            }
            Some(b'"') => {
                let text = self.quoted()?;
                timestamp::parse(&text, format.unwrap_or(self.times)).ok_or_else(bad)
            }
            _ => Err(self.mismatch("a Timestamp")),
        }
    }

    fn blob(&mut self) -> Result<Bytes> {
        if self.peek() != Some(b'"') {
            return Err(self.mismatch("a Blob"));
        }
        let text = self.quoted()?;
        let bytes = BASE64
            .decode(text.as_bytes())
            .map_err(|_| DecodeError::new("Blob is not valid base64"))?;
        Ok(Bytes::from(bytes))
    }

    fn document(&mut self) -> Result<serde_json::Value> {
        self.space();
        let start = self.at;
        self.skip()?;
        serde_json::from_str(&self.text[start..self.at])
            .map_err(|error| DecodeError::new(error.to_string()))
    }
}

/// A number with a fraction or exponent, cut to its whole part, as AWS cuts it.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
fn whole(text: &str) -> Option<i64> {
    if !text.contains(['.', 'e', 'E']) {
        return None; // A plain integer that did not fit.
    }
    let value: f64 = text.parse().ok()?;
    let fits = value.is_finite() && value.abs() < 9.0e18;
    fits.then_some(value.trunc() as i64)
}
