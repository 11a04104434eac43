//! JSON straight to bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use longshore_types::Timestamp;

use crate::codec::Encoder;
use crate::shape::{List, Map, Member, Structure, TimestampFormat};
use crate::timestamp;

/// Writes one JSON value. Commas are owed, not remembered: what was written last says if one is due.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    times: TimestampFormat,
}

impl<'a> Writer<'a> {
    /// `times` is how a timestamp is written that does not say itself.
    pub fn new(out: &'a mut Vec<u8>, times: TimestampFormat) -> Self {
        Self { out, times }
    }

    fn comma(&mut self) {
        if !matches!(self.out.last(), None | Some(b'{' | b'[')) {
            self.out.push(b',');
        }
    }

    fn name(&mut self, name: &str) {
        self.comma();
        write_text(self.out, name);
        self.out.push(b':');
    }

    fn double_or_text(&mut self, value: f64, shortest: impl FnOnce() -> String) {
        if value.is_nan() {
            self.out.extend_from_slice(b"\"NaN\"");
        } else if value.is_infinite() {
            let text: &[u8] = if value < 0.0 { b"\"-Infinity\"" } else { b"\"Infinity\"" };
            self.out.extend_from_slice(text);
        } else {
            self.out.extend_from_slice(shortest().as_bytes());
        }
    }
}

impl Encoder for Writer<'_> {
    fn begin_structure(&mut self, _: &'static Structure) {
        self.out.push(b'{');
    }

    fn member(&mut self, member: &'static Member) {
        self.name(member.wire);
    }

    fn end_structure(&mut self, _: &'static Structure) {
        self.out.push(b'}');
    }

    fn begin_list(&mut self, _: &'static List, _: usize) {
        self.out.push(b'[');
    }

    fn item(&mut self, _: &'static List) {
        self.comma();
    }

    fn end_list(&mut self, _: &'static List) {
        self.out.push(b']');
    }

    fn begin_map(&mut self, _: &'static Map, _: usize) {
        self.out.push(b'{');
    }

    fn key(&mut self, _: &'static Map, key: &str) {
        self.name(key);
    }

    fn end_map(&mut self, _: &'static Map) {
        self.out.push(b'}');
    }

    fn text(&mut self, value: &str) {
        write_text(self.out, value);
    }

    fn integer(&mut self, value: i64) {
        write_integer(self.out, value);
    }

    fn float(&mut self, value: f32) {
        self.double_or_text(f64::from(value), || format!("{value:?}"));
    }

    fn double(&mut self, value: f64) {
        self.double_or_text(value, || format!("{value:?}"));
    }

    fn boolean(&mut self, value: bool) {
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    fn timestamp(&mut self, value: Timestamp, format: Option<TimestampFormat>) {
        match format.unwrap_or(self.times) {
            TimestampFormat::Seconds => timestamp::write_seconds(self.out, value),
            TimestampFormat::Iso8601 => write_text(self.out, &timestamp::iso8601(value)),
            TimestampFormat::Rfc822 => write_text(self.out, &timestamp::rfc822(value)),
        }
    }

    fn blob(&mut self, value: &[u8]) {
        self.out.push(b'"');
        self.out.extend_from_slice(BASE64.encode(value).as_bytes());
        self.out.push(b'"');
    }

    fn document(&mut self, value: &serde_json::Value) {
        self.out.extend_from_slice(value.to_string().as_bytes());
    }

    fn null(&mut self) {
        self.out.extend_from_slice(b"null");
    }
}

/// A decimal number without a detour over a `String`.
pub(crate) fn write_integer(out: &mut Vec<u8>, value: i64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut left = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(left % 10).unwrap_or(0);
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

/// A quoted text; runs without anything to escape are copied whole.
pub(crate) fn write_text(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if 0x20 <= byte && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[from..at]);
        from = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
        }
    }
    out.extend_from_slice(&bytes[from..]);
    out.push(b'"');
}
