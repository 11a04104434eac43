//! What the agent sends as a put's `sequenceToken`, so that our own log store takes it once.
//!
//! Amazon takes any token and asks for none; so does our region. But one of this form names the put: an
//! agent that does not know whether its put was taken, because one of the two was killed meanwhile, sends
//! it again under the same name.

use std::fmt;
use std::str::FromStr;

/// One put of a writer that sends its puts one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutToken {
    pub writer: u64,
    pub put: u64,
}

/// It is somebody else's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a put")]
pub struct NotAPut;

const PREFIX: &str = "longshore-";

impl PutToken {
    /// The `put`th put of the writer with this name.
    pub fn of(writer: &str, put: u64) -> Self {
        // FNV-1a: few writers share a stream, and each has a long name of its own.
        let writer = writer.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self { writer, put }
    }
}

impl fmt::Display for PutToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{:016x}-{:016x}", self.writer, self.put)
    }
}

impl FromStr for PutToken {
    type Err = NotAPut;

    fn from_str(text: &str) -> Result<Self, NotAPut> {
        let parts = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-'));
        let (writer, put) = parts.ok_or(NotAPut)?;
        let number = |digits: &str| match digits.len() {
            16 => u64::from_str_radix(digits, 16).map_err(|_| NotAPut),
            _ => Err(NotAPut),
        };
        Ok(Self { writer: number(writer)?, put: number(put)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_is_named_and_anything_else_is_no_name() {
        let token = PutToken::of("a-run", 7);
        assert_eq!(token.to_string().parse(), Ok(token));
        assert_ne!(token, PutToken::of("another", 7));
        for other in ["", "49540113507602451234", "longshore-1-2", "longshore-"] {
            assert_eq!(other.parse::<PutToken>(), Err(NotAPut), "{other}");
        }
    }
}
