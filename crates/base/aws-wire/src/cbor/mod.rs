//! rpcv2Cbor's bodies: shapes to and from CBOR (RFC 8949).

mod read;
mod write;

pub use read::Reader;
pub use write::Writer;

use crate::codec::{Decode, DecodeError, Encode, Record};
use crate::shape::{Shape, Structure};

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;

const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;
const NULL: u8 = 0xf6;
const UNDEFINED: u8 = 0xf7;
const HALF: u8 = 0xf9;
const SINGLE: u8 = 0xfa;
const DOUBLE: u8 = 0xfb;
const MAP_WITHOUT_LENGTH: u8 = 0xbf;
const BREAK: u8 = 0xff;
/// "Seconds since the epoch follow."
const TAG_TIME: u64 = 1;

/// A structure as a CBOR map.
pub fn to_vec<T: Record>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write_into(value, T::table(), &mut out);
    out
}

/// Appends a structure's CBOR map to `out`.
pub fn write_into(value: &dyn Encode, table: &'static Structure, out: &mut Vec<u8>) {
    value.encode(Shape::Structure(table), &mut Writer::new(out));
}

/// Reads a whole body as any shape; an empty one is an empty structure.
pub fn read<T: Decode>(bytes: &[u8], shape: Shape) -> Result<T, DecodeError> {
    let bytes = if bytes.is_empty() { &[0xa0] } else { bytes };
    let mut reader = Reader::new(bytes);
    let value = T::decode(shape, &mut reader)?;
    reader.finish()?;
    Ok(value)
}
