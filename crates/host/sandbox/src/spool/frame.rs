//! One frame: sixteen bytes of header and a payload.

use longshore_types::Timestamp;

pub(super) const HEADER_BYTES: usize = 16;
/// More than a pipe holds, so that what the shim read at once is one frame.
pub(super) const PAYLOAD_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Stdout,
    Stderr,
    /// The payload is the number of bytes lost before this frame, eight bytes, little endian.
    Dropped,
    /// Both pipes are closed; nothing follows.
    End,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
            Self::Dropped => 3,
            Self::End => 4,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::Stdout, Self::Stderr, Self::Dropped, Self::End]
            .into_iter()
            .find(|kind| kind.code() == code)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) at: Timestamp,
    pub(super) length: usize,
}

impl Header {
    pub(super) fn encode(self) -> [u8; HEADER_BYTES] {
        let length = u32::try_from(self.length).expect("payloads are bounded");
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes[4] = self.kind.code();
        bytes[8..].copy_from_slice(&self.at.0.to_le_bytes());
        bytes
    }

    /// `None` for what cannot be a header.
    pub(super) fn decode(bytes: [u8; HEADER_BYTES]) -> Option<Self> {
        let word = |at: usize| <[u8; 4]>::try_from(&bytes[at..at + 4]).ok().map(u32::from_le_bytes);
        let length = usize::try_from(word(0)?).ok().filter(|n| *n <= PAYLOAD_BYTES_MAX)?;
        let kind = Kind::from_code(bytes[4])?;
        let at = u64::from_le_bytes(bytes[8..].try_into().ok()?);
        Some(Self { kind, at: Timestamp(at), length })
    }
}
