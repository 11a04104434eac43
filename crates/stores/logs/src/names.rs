//! Names of groups and streams: checked once, then a type.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("between 1 and 512 characters long")]
    Length,
    #[error("made of a-z, A-Z, 0-9, '_', '-', '/', '.' and '#'")]
    GroupCharacters,
    #[error("without ':' and '*'")]
    StreamCharacters,
}

fn check_length(text: &str) -> Result<(), NameError> {
    // Counted in characters; a byte count would refuse long names that Amazon takes.
    if text.is_empty() || text.chars().count() > 512 { Err(NameError::Length) } else { Ok(()) }
}

fn check_group(text: &str) -> Result<(), NameError> {
    check_length(text)?;
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-/#".contains(&b);
    if text.bytes().all(is_allowed) { Ok(()) } else { Err(NameError::GroupCharacters) }
}

fn check_stream(text: &str) -> Result<(), NameError> {
    check_length(text)?;
    if text.contains([':', '*']) { Err(NameError::StreamCharacters) } else { Ok(()) }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                $check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }
    };
}

name!(
    /// A log group's name, unique in its account.
    GroupName,
    check_group
);
name!(
    /// A log stream's name, unique in its group.
    StreamName,
    check_stream
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_amazon_takes() {
        assert!("/ecs/web-1.2_#3".parse::<GroupName>().is_ok());
        assert_eq!("a b".parse::<GroupName>(), Err(NameError::GroupCharacters));
        assert_eq!("".parse::<GroupName>(), Err(NameError::Length));
        assert_eq!("x".repeat(513).parse::<GroupName>(), Err(NameError::Length));
        assert!("web/app/0011 [x]é".parse::<StreamName>().is_ok());
        assert_eq!("a:b".parse::<StreamName>(), Err(NameError::StreamCharacters));
        assert_eq!("a*".parse::<StreamName>(), Err(NameError::StreamCharacters));
    }
}
