//! One put's events as bytes in a stream file.
//!
//! ```text
//! header (56): body length u32 · crc32 of all that follows u32 · first seq u64 · ingestion u64
//!              · earliest u64 · latest u64 · events u32 · billed bytes u32 · magic u64
//! body:        for each event: timestamp u64 · message length u32 · message
//! ```
//! Little endian. **Invariant:** the decoder believes no length that it has not checked.

use bytes::{Bytes, BytesMut};

use crate::event::{Event, InputEvent};
use crate::limits::{EVENT_OVERHEAD_BYTES, RECORD_BYTES_MAX};

pub(crate) const HEADER_BYTES: usize = 56;
const MAGIC: u64 = u64::from_le_bytes(*b"lslogs01");

/// A frame's first bytes, enough to index it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) body_len: u32,
    crc: u32,
    pub(crate) first_seq: u64,
    pub(crate) ingestion_ms: u64,
    pub(crate) min_ms: u64,
    pub(crate) max_ms: u64,
    pub(crate) events: u32,
    pub(crate) billed_bytes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadFrame(pub(crate) &'static str);

impl Header {
    /// Bytes of the whole frame.
    pub(crate) fn frame_len(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.body_len)
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<Self, BadFrame> {
        let mut at = Reader { bytes };
        let header = Self {
            body_len: at.u32()?,
            crc: at.u32()?,
            first_seq: at.u64()?,
            ingestion_ms: at.u64()?,
            min_ms: at.u64()?,
            max_ms: at.u64()?,
            events: at.u32()?,
            billed_bytes: at.u32()?,
        };
        if at.u64()? != MAGIC {
            return Err(BadFrame("no frame begins here"));
        }
        if header.body_len as usize > RECORD_BYTES_MAX {
            return Err(BadFrame("a frame is longer than any can be"));
        }
        Ok(header)
    }
}

/// The frame of `events`, which are in order of time and not empty.
pub(crate) fn encode(events: &[InputEvent], first_seq: u64, ingestion_ms: u64) -> Bytes {
    let size = |len: usize| u32::try_from(len).expect("a put is at most 1 MiB");
    let body: usize = events.iter().map(|event| 12 + event.message.len()).sum();
    let billed: usize = events.iter().map(|e| e.message.len() + EVENT_OVERHEAD_BYTES).sum();
    let mut out = BytesMut::with_capacity(HEADER_BYTES + body);
    out.extend_from_slice(&size(body).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    for field in [
        first_seq,
        ingestion_ms,
        events.first().map_or(0, |event| event.timestamp_ms),
        events.last().map_or(0, |event| event.timestamp_ms),
    ] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(&size(events.len()).to_le_bytes());
    out.extend_from_slice(&size(billed).to_le_bytes());
    out.extend_from_slice(&MAGIC.to_le_bytes());
    for event in events {
        out.extend_from_slice(&event.timestamp_ms.to_le_bytes());
        out.extend_from_slice(&size(event.message.len()).to_le_bytes());
        out.extend_from_slice(&event.message);
    }
    let crc = crc32fast::hash(&out[8..]);
    out[4..8].copy_from_slice(&crc.to_le_bytes());
    out.freeze()
}

/// The events of the frame at the start of `bytes`, and the frame's length.
pub(crate) fn decode(bytes: &Bytes) -> Result<(Vec<Event>, usize), BadFrame> {
    let header = Header::read(bytes)?;
    let end = HEADER_BYTES + header.body_len as usize;
    let frame = bytes.get(..end).ok_or(BadFrame("a frame is cut short"))?;
    if crc32fast::hash(&frame[8..]) != header.crc {
        return Err(BadFrame("a frame's checksum is wrong"));
    }
    let mut events = Vec::with_capacity(header.events.min(16_384) as usize);
    let mut at = Reader { bytes: &frame[HEADER_BYTES..] };
    for seq in (header.first_seq..).take(header.events as usize) {
        let timestamp_ms = at.u64()?;
        let len = at.u32()? as usize;
        let from = end - at.bytes.len();
        at.take(len)?;
        events.push(Event {
            timestamp_ms,
            ingestion_ms: header.ingestion_ms,
            seq,
            message: bytes.slice(from..from + len),
        });
    }
    Ok((events, end))
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], BadFrame> {
        let (head, rest) =
            self.bytes.split_at_checked(len).ok_or(BadFrame("a frame is cut short"))?;
        self.bytes = rest;
        Ok(head)
    }

    fn u32(&mut self) -> Result<u32, BadFrame> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes(bytes.try_into().expect("four bytes were taken")))
    }

    fn u64(&mut self) -> Result<u64, BadFrame> {
        let bytes = self.take(8)?;
        Ok(u64::from_le_bytes(bytes.try_into().expect("eight bytes were taken")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events() -> impl Strategy<Value = Vec<InputEvent>> {
        let event = (0u64..1 << 45, ".{1,40}");
        let event = event.prop_map(|(timestamp_ms, message)| InputEvent {
            timestamp_ms,
            message: message.into(),
        });
        prop::collection::vec(event, 1..20).prop_map(|mut events| {
            events.sort_by_key(|event| event.timestamp_ms);
            events
        })
    }

    proptest! {
        #[test]
        fn a_frame_gives_back_what_was_put(events in events()) {
            let bytes = encode(&events, 7, 99);
            let (read, len) = decode(&bytes).unwrap();
            prop_assert_eq!(len, bytes.len());
            prop_assert_eq!(read.len(), events.len());
            for (n, (read, put)) in read.iter().zip(&events).enumerate() {
                prop_assert_eq!(read.timestamp_ms, put.timestamp_ms);
                prop_assert_eq!(&read.text(), &put.message);
                prop_assert_eq!(read.seq, 7 + n as u64);
            }
        }

        #[test]
        fn one_flipped_bit_is_noticed(events in events(), at: prop::sample::Index, bit in 0u8..8) {
            let mut bytes = encode(&events, 7, 99).to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(decode(&Bytes::from(bytes)).is_err());
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes: Vec<u8>) {
            let _ = decode(&Bytes::from(bytes));
        }
    }
}
