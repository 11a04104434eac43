//! Names of the container image world: a content digest, a repository's name, a tag.
//!
//! They are here because rows, the registry and the image store all speak of them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::serde_as_text;

/// Why a text is no digest, repository name or tag. Its text completes "… must be".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OciNameError {
    #[error("sha256: or sha512: followed by its lowercase hexadecimal digits")]
    Digest,
    #[error(
        "up to 256 lowercase letters, digits and separators (a period, underscores or hyphens), \
         in components joined by slashes"
    )]
    Repository,
    #[error("up to 128 letters, digits, periods, underscores and hyphens, no leading punctuation")]
    Tag,
}

/// The hash of some content, which is also its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Digest {
    Sha256([u8; 32]),
    Sha512([u8; 64]),
}

impl Digest {
    /// `sha256` or `sha512`
    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
            Self::Sha512(_) => "sha512",
        }
    }

    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(bytes) => bytes,
            Self::Sha512(bytes) => bytes,
        }
    }

    /// The part behind the colon.
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
        self.bytes().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }
}

fn decode_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (slot, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *slot = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = OciNameError;

    fn from_str(text: &str) -> Result<Self, OciNameError> {
        let parsed = match text.split_once(':') {
            Some(("sha256", hex)) => decode_hex(hex).map(Self::Sha256),
            Some(("sha512", hex)) => decode_hex(hex).map(Self::Sha512),
            _ => None,
        };
        parsed.ok_or(OciNameError::Digest)
    }
}

serde_as_text!(Digest);

/// A repository's name without its registry: `team/web`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryName(Arc<str>);

impl RepositoryName {
    pub const LEN_MAX: usize = 256;

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Runs of letters and digits joined by one period, one or two underscores, or any hyphens.
fn is_path_component(component: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let edges = bytes.first().zip(bytes.last());
    if !edges.is_some_and(|(first, last)| is_word(*first) && is_word(*last)) {
        return false;
    }
    component.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(|separator| {
        matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
    })
}

impl FromStr for RepositoryName {
    type Err = OciNameError;

    fn from_str(text: &str) -> Result<Self, OciNameError> {
        if text.len() <= Self::LEN_MAX && text.split('/').all(is_path_component) {
            Ok(Self(text.into()))
        } else {
            Err(OciNameError::Repository)
        }
    }
}

/// An image's tag: `latest`, `v1.2`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageTag(Arc<str>);

impl ImageTag {
    pub const LEN_MAX: usize = 128;

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What a reference without tag and digest means.
    pub fn latest() -> Self {
        Self("latest".into())
    }
}

impl FromStr for ImageTag {
    type Err = OciNameError;

    fn from_str(text: &str) -> Result<Self, OciNameError> {
        let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let is_rest = |b: u8| is_word(b) || b == b'.' || b == b'-';
        let first_is_word = text.bytes().next().is_some_and(is_word);
        if first_is_word && text.len() <= Self::LEN_MAX && text.bytes().all(is_rest) {
            Ok(Self(text.into()))
        } else {
            Err(OciNameError::Tag)
        }
    }
}

macro_rules! text_like {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        serde_as_text!($name);
    };
}

text_like!(RepositoryName);
text_like!(ImageTag);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_round_trips_and_its_neighbours_do_not_parse() {
        let text = format!("sha256:{}", "0123456789abcdef".repeat(4));
        assert_eq!(text.parse::<Digest>().unwrap().to_string(), text);
        let long = format!("sha512:{}", "0123456789abcdef".repeat(8));
        assert_eq!(long.parse::<Digest>().unwrap().to_string(), long);
        for wrong in [
            text.to_uppercase(),
            text[..70].to_owned(),
            format!("{text}0"),
            text.replace("sha256", "md5"),
            text.replace(':', "-"),
            String::new(),
        ] {
            assert_eq!(wrong.parse::<Digest>(), Err(OciNameError::Digest), "{wrong}");
        }
    }

    #[test]
    fn repository_names_follow_the_distribution_grammar() {
        for right in ["a", "hello", "team/web", "a.b_c__d-e---f/0", "a--b"] {
            assert!(right.parse::<RepositoryName>().is_ok(), "{right}");
        }
        let long = "a".repeat(257);
        for wrong in
            ["", "A", "a/", "/a", "a//b", ".a", "a.", "a..b", "a___b", "a._b", "é", "a:b", &long]
        {
            assert!(wrong.parse::<RepositoryName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn tags_follow_the_distribution_grammar() {
        for right in ["latest", "1", "_a", "V1.2-rc_3", &"a".repeat(128)] {
            assert!(right.parse::<ImageTag>().is_ok(), "{right}");
        }
        for wrong in ["", ".a", "-a", "a b", "a/b", "a:b", "é", &"a".repeat(129)] {
            assert!(wrong.parse::<ImageTag>().is_err(), "{wrong}");
        }
    }
}
