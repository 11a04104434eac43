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

/// A request's condition keys. Their names, and the tag keys in them, are found in whatever case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    entries: Vec<(Cow<'static, str>, Values)>,
}

impl Context {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn with_capacity(keys: usize) -> Self {
        Self { entries: Vec::with_capacity(keys) }
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

    fn put(&mut self, key: Cow<'static, str>, values: Values) {
        match self.entries.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(&key)) {
            Some((_, known)) => *known = values,
            None => self.entries.push((key, values)),
        }
    }

    pub fn get(&self, key: &str) -> Option<&Values> {
        let found = self.entries.iter().find(|(known, _)| known.eq_ignore_ascii_case(key));
        found.map(|(_, values)| values)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Values)> {
        self.entries.iter().map(|(key, values)| (&**key, values))
    }

    /// What a variable of this name stands for: lists have no text.
    pub(crate) fn single_text(&self, key: &str) -> Option<Cow<'_, str>> {
        match self.get(key)? {
            Values::One(value) => Some(value.text()),
            Values::Many(_) => None,
        }
    }
}
