//! Tags of any resource: keys and values that the user chose.

use std::collections::BTreeMap;

/// Tags by key. What is allowed in them is checked where they arrive.
pub type Tags = BTreeMap<String, String>;

pub const TAGS_MAX: usize = 50;
pub const TAG_KEY_CHARS_MAX: usize = 128;
pub const TAG_VALUE_CHARS_MAX: usize = 256;
