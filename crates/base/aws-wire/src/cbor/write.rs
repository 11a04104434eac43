//! CBOR straight to bytes. Structures are maps without a length: what is absent is known only after.

use longshore_types::Timestamp;

use super::{
    ARRAY, BREAK, BYTES, DOUBLE, FALSE, MAP, MAP_WITHOUT_LENGTH, NEGATIVE, NULL, SINGLE, TAG,
    TAG_TIME, TEXT, TRUE, UNSIGNED,
};
use crate::codec::Encoder;
use crate::shape::{List, Map, Member, Structure, TimestampFormat};

/// Writes one value.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    fn head(&mut self, major: u8, value: u64) {
        let major = major << 5;
        let bytes = value.to_be_bytes();
        match value {
            0..=23 => self.out.push(major | bytes[7]),
            24..=0xff => self.out.extend_from_slice(&[major | 24, bytes[7]]),
            0x100..=0xffff => {
                self.out.push(major | 25);
                self.out.extend_from_slice(&bytes[6..]);
            }
            0x1_0000..=0xffff_ffff => {
                self.out.push(major | 26);
                self.out.extend_from_slice(&bytes[4..]);
            }
            _ => {
                self.out.push(major | 27);
                self.out.extend_from_slice(&bytes);
            }
        }
    }

    fn count(&mut self, major: u8, count: usize) {
        self.head(major, u64::try_from(count).unwrap_or(u64::MAX));
    }
}

impl Encoder for Writer<'_> {
    fn begin_structure(&mut self, _: &'static Structure) {
        self.out.push(MAP_WITHOUT_LENGTH);
    }

    fn member(&mut self, member: &'static Member) {
        self.text(member.wire);
    }

    fn end_structure(&mut self, _: &'static Structure) {
        self.out.push(BREAK);
    }

    fn begin_list(&mut self, _: &'static List, count: usize) {
        self.count(ARRAY, count);
    }

    fn item(&mut self, _: &'static List) {}

    fn end_list(&mut self, _: &'static List) {}

    fn begin_map(&mut self, _: &'static Map, count: usize) {
        self.count(MAP, count);
    }

    fn key(&mut self, _: &'static Map, key: &str) {
        self.text(key);
    }

    fn end_map(&mut self, _: &'static Map) {}

    fn text(&mut self, value: &str) {
        self.count(TEXT, value.len());
        self.out.extend_from_slice(value.as_bytes());
    }

    fn integer(&mut self, value: i64) {
        match u64::try_from(value) {
            Ok(value) => self.head(UNSIGNED, value),
            // The distance below minus one: -1 is 0.
            Err(_) => self.head(NEGATIVE, value.unsigned_abs() - 1),
        }
    }

    fn float(&mut self, value: f32) {
        self.out.push(SINGLE);
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    fn double(&mut self, value: f64) {
        self.out.push(DOUBLE);
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    fn boolean(&mut self, value: bool) {
        self.out.push(if value { TRUE } else { FALSE });
    }

    #[expect(clippy::cast_precision_loss, reason = "milliseconds of the calendar fit a double")]
    fn timestamp(&mut self, value: Timestamp, _: Option<TimestampFormat>) {
        self.head(TAG, TAG_TIME);
        self.double(value.0 as f64 / 1000.0);
    }

    fn blob(&mut self, value: &[u8]) {
        self.count(BYTES, value.len());
        self.out.extend_from_slice(value);
    }

    fn document(&mut self, value: &serde_json::Value) {
        self.text(&value.to_string());
    }

    fn null(&mut self) {
        self.out.push(NULL);
    }
}
