//! awsJson 1.0 and 1.1: shapes to and from JSON text, without a tree between.

mod read;
mod write;

use longshore_types::Timestamp;

pub use read::Reader;
pub use write::Writer;

use crate::codec::{Decode, DecodeError, Encode, Record};
use crate::shape::{Shape, Structure, TimestampFormat};

/// A structure as a JSON object.
pub fn to_vec<T: Record>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write_into(value, T::table(), &mut out);
    out
}

/// The same with times as texts: how events show what answers show.
pub fn to_vec_with_iso_times<T: Record>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let shape = Shape::Structure(T::table());
    value.encode(shape, &mut Writer::new(&mut out, TimestampFormat::Iso8601));
    out
}

/// Appends a structure's JSON object to `out`.
pub fn write_into(value: &dyn Encode, table: &'static Structure, out: &mut Vec<u8>) {
    value.encode(Shape::Structure(table), &mut Writer::new(out, TimestampFormat::Seconds));
}

/// A structure from a JSON object; members it does not have are passed over, as AWS does.
pub fn from_slice<T: Record>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut reader = Reader::new(bytes, TimestampFormat::Seconds)?;
    let value = T::decode(Shape::Structure(T::table()), &mut reader)?;
    reader.finish()?;
    Ok(value)
}

/// Reads a whole text as any shape; for tables made at run time.
pub fn read<T: Decode>(bytes: &[u8], shape: Shape) -> Result<T, DecodeError> {
    let mut reader = Reader::new(bytes, TimestampFormat::Seconds)?;
    let value = T::decode(shape, &mut reader)?;
    reader.finish()?;
    Ok(value)
}

/// Milliseconds from a number of seconds; `None` outside of what a timestamp holds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked one line before"
)]
pub(crate) fn timestamp_of_seconds(seconds: f64) -> Option<Timestamp> {
    let ms = (seconds * 1000.0).round();
    (0.0..=SECONDS_MAX * 1000.0).contains(&ms).then_some(Timestamp(ms as u64))
}

/// The last second of the year 9999.
const SECONDS_MAX: f64 = 253_402_300_799.999;
