//! What containers and groups of containers are called here.
//!
//! **Invariant:** an id is a plain file name, so that it can be a directory, a socket and a cgroup.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Keeps `<run_dir>/<id>` within the 107 bytes of a unix socket's path.
const LEN_MAX: usize = 64;

/// Why a string cannot name a container or a group. Its text completes "… must be".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("1 to {LEN_MAX} letters, digits, hyphens, underscores or dots, and not begin with a dot")]
pub struct NotAName;

macro_rules! file_name_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = NotAName;

            fn from_str(text: &str) -> Result<Self, NotAName> {
                let is_allowed =
                    |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
                let is_name = (1..=LEN_MAX).contains(&text.len())
                    && !text.starts_with('.')
                    && text.bytes().all(is_allowed);
                if is_name { Ok(Self(text.into())) } else { Err(NotAName) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = NotAName;

            fn try_from(text: String) -> Result<Self, NotAName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }
    };
}

file_name_id!(
    /// Names one container for its whole life on this host.
    ContainerId
);
file_name_id!(
    /// Names the containers that share limits: a task.
    GroupId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_leave_its_directory_is_no_id() {
        for bad in ["", ".", "..", ".hidden", "a/b", "a b", "é", &"x".repeat(65)] {
            assert_eq!(bad.parse::<ContainerId>(), Err(NotAName), "{bad:?}");
        }
        assert_eq!("task-1_web.0".parse::<GroupId>().unwrap().as_str(), "task-1_web.0");
    }
}
