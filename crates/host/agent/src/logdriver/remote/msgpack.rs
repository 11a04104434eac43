//! As much of MessagePack as fluentd's protocol needs.

/// A value being written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Packed(pub(super) Vec<u8>);

impl Packed {
    pub(super) fn array(&mut self, length: u8) {
        debug_assert!(length < 16, "a message has a few members");
        self.0.push(0x90 | length);
    }

    pub(super) fn map(&mut self, length: usize) {
        match u16::try_from(length) {
            Ok(short) if short < 16 => self.0.push(0x80 | short.to_be_bytes()[1]),
            Ok(length) => {
                self.0.push(0xde);
                self.0.extend_from_slice(&length.to_be_bytes());
            }
            Err(_) => self.map(usize::from(u16::MAX)),
        }
    }

    pub(super) fn text(&mut self, text: &str) {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(length), _) if length < 32 => self.0.push(0xa0 | length),
            (Ok(length), _) => self.0.extend_from_slice(&[0xd9, length]),
            (_, Ok(length)) => {
                self.0.push(0xda);
                self.0.extend_from_slice(&length.to_be_bytes());
            }
            _ => {
                self.0.push(0xdb);
                self.0.extend_from_slice(&length.to_be_bytes());
            }
        }
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(super) fn number(&mut self, number: u64) {
        self.0.push(0xcf);
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    /// Fluentd's moment with nanoseconds: an extension of eight bytes and the kind 0.
    pub(super) fn moment(&mut self, ms: u64) {
        let seconds = u32::try_from(ms / 1000).unwrap_or(u32::MAX);
        let nanoseconds = u32::try_from(ms % 1000).unwrap_or(0) * 1_000_000;
        self.0.extend_from_slice(&[0xd7, 0x00]);
        self.0.extend_from_slice(&seconds.to_be_bytes());
        self.0.extend_from_slice(&nanoseconds.to_be_bytes());
    }
}

/// The text of the member `key` of a map of texts, as fluentd's acknowledgement is.
pub(super) fn member(bytes: &[u8], key: &str) -> Option<String> {
    let mut rest = bytes;
    let (first, more) = rest.split_first()?;
    let count = match first {
        0x80..=0x8f => first & 0x0f,
        _ => return None,
    };
    rest = more;
    for _ in 0..count {
        let (name, more) = read_text(rest)?;
        let (value, more) = read_text(more)?;
        rest = more;
        if name == key {
            return Some(value);
        }
    }
    None
}

fn read_text(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let (length, rest) = match first {
        0xa0..=0xbf => (usize::from(first & 0x1f), rest),
        0xd9 => {
            let (length, rest) = rest.split_first()?;
            (usize::from(*length), rest)
        }
        0xda => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        _ => return None,
    };
    let (text, rest) = rest.split_at_checked(length)?;
    Some((String::from_utf8_lossy(text).into_owned(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_in_their_shortest_form() {
        let mut packed = Packed::default();
        packed.array(3);
        packed.text("tag");
        packed.moment(1_500);
        packed.map(1);
        packed.text("log");
        packed.text(&"x".repeat(40));
        let mut expected =
            vec![0x93, 0xa3, b't', b'a', b'g', 0xd7, 0, 0, 0, 0, 1, 0x1d, 0xcd, 0x65, 0];
        expected.extend_from_slice(&[0x81, 0xa3, b'l', b'o', b'g', 0xd9, 40]);
        expected.extend_from_slice("x".repeat(40).as_bytes());
        assert_eq!(packed.0, expected);
        let mut long = Packed::default();
        long.text(&"y".repeat(70_000));
        assert_eq!(long.0[..5], [0xdb, 0, 1, 0x11, 0x70]);
    }

    #[test]
    fn an_acknowledgement_is_found_in_its_map() {
        let mut packed = Packed::default();
        packed.map(1);
        packed.text("ack");
        packed.text("abc=");
        assert_eq!(member(&packed.0, "ack").as_deref(), Some("abc="));
        assert_eq!(member(&packed.0, "other"), None);
        for end in 0..packed.0.len() {
            assert_eq!(member(&packed.0[..end], "ack"), None, "{end}");
        }
    }
}
