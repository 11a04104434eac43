//! The condition keys that a request has. A key that is not here is absent; nothing adds any.

use std::borrow::Cow;
use std::net::IpAddr;

use base64::Engine as _;
use longshore_types::Timestamp;

/// One value of a condition key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(Cow<'static, str>),
    Integer(i64),
    Bool(bool),
    Time(Timestamp),
    Address(IpAddr),
    Bytes(Vec<u8>),
}

impl Value {
    /// As operators on strings see it.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Integer(number) => Cow::Owned(number.to_string()),
            Self::Bool(true) => Cow::Borrowed("true"),
            Self::Bool(false) => Cow::Borrowed("false"),
            Self::Time(time) => Cow::Owned(time.iso8601()),
            Self::Address(address) => Cow::Owned(address.to_string()),
            Self::Bytes(bytes) => {
                Cow::Owned(base64::engine::general_purpose::STANDARD.encode(bytes))
            }
        }
    }
}

macro_rules! value_from {
    ($($from:ty => $to:expr),* $(,)?) => {
        $(impl From<$from> for Value {
            fn from(value: $from) -> Self {
                $to(value)
            }
        })*
    };
}

value_from! {
    i64 => Self::Integer,
    bool => Self::Bool,
    Timestamp => Self::Time,
    IpAddr => Self::Address,
    Vec<u8> => Self::Bytes,
    &'static str => |text| Self::Text(Cow::Borrowed(text)),
    String => |text| Self::Text(Cow::Owned(text)),
    Cow<'static, str> => Self::Text,
}

/// What a key has: one value, or a list where the key is one that may have several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Values {
    One(Value),
    Many(Vec<Value>),
}

impl Values {
    pub fn as_slice(&self) -> &[Value] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

/// The name of a condition key as policies write it, with what it is found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    text: Box<str>,
    hash: u64,
}

impl Key {
    pub(crate) fn new(text: &str) -> Self {
        Self { text: text.into(), hash: hash(text) }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

/// The same for a name in whatever case.
fn hash(key: &str) -> u64 {
    key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A request's condition keys. Their names, and the tag keys in them, are found in whatever case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    entries: Vec<(Cow<'static, str>, Values)>,
    /// Of the entries' names, in their order.
    hashes: Vec<u64>,
}

impl Context {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn with_capacity(keys: usize) -> Self {
        Self { entries: Vec::with_capacity(keys), hashes: Vec::with_capacity(keys) }
    }

    /// Gives a key its one value, in place of what it had.
    pub fn set(&mut self, key: impl Into<Cow<'static, str>>, value: impl Into<Value>) {
        self.put(key.into(), Values::One(value.into()));
    }

    /// Gives a key that may have several values those that it has.
    pub fn set_list<V: Into<Value>>(
        &mut self,
        key: impl Into<Cow<'static, str>>,
        values: impl IntoIterator<Item = V>,
    ) {
        self.put(key.into(), Values::Many(values.into_iter().map(Into::into).collect()));
    }

    /// Gives a key what another context has for it.
    pub fn set_values(&mut self, key: impl Into<Cow<'static, str>>, values: Values) {
        self.put(key.into(), values);
    }

    fn put(&mut self, key: Cow<'static, str>, values: Values) {
        let hash = hash(&key);
        match self.place(&key, hash).and_then(|place| self.entries.get_mut(place)) {
            Some((_, known)) => *known = values,
            None => {
                self.entries.push((key, values));
                self.hashes.push(hash);
            }
        }
    }

    pub fn get(&self, key: &str) -> Option<&Values> {
        self.at(self.place(key, hash(key))?)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Values)> {
        self.entries.iter().map(|(key, values)| (&**key, values))
    }

    pub(crate) fn find(&self, key: &Key) -> Option<&Values> {
        self.at(self.place(&key.text, key.hash)?)
    }

    /// What a variable of this name stands for: lists have no text.
    pub(crate) fn single_text(&self, key: &Key) -> Option<Cow<'_, str>> {
        match self.find(key)? {
            Values::One(value) => Some(value.text()),
            Values::Many(_) => None,
        }
    }

    fn at(&self, place: usize) -> Option<&Values> {
        self.entries.get(place).map(|(_, values)| values)
    }

    /// Who sends a request may choose the names of tags, so that equal hashes say nothing yet.
    fn place(&self, key: &str, hash: u64) -> Option<usize> {
        let same = self.hashes.iter().enumerate().filter(|(_, known)| **known == hash);
        same.map(|(place, _)| place).find(|place| {
            self.entries.get(*place).is_some_and(|(known, _)| known.eq_ignore_ascii_case(key))
        })
    }
}
