//! The condition keys that a request has. A key that is not here is absent; nothing adds any.
//!
//! What is known of a request comes from several sides: of the caller, of the operation, of the resource. Each has its
//! own [`Context`], and [`Contexts`] lays one over the other without copying any.

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

const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;

/// The same for a name in whatever case.
const fn hash(key: &str) -> u64 {
    hash_on(HASH_START, key)
}

/// Of a name that has this text next.
const fn hash_on(hash: u64, text: &str) -> u64 {
    let (bytes, mut hash, mut at) = (text.as_bytes(), hash, 0);
    while at < bytes.len() {
        hash = (hash ^ bytes[at].to_ascii_lowercase() as u64).wrapping_mul(0x0100_0000_01b3);
        at += 1;
    }
    hash
}

/// The name of a condition key that is known when the program is made, so that it is hashed then.
#[derive(Clone, Copy, Debug)]
pub struct KeyName {
    text: &'static str,
    hash: u64,
}

impl KeyName {
    pub const fn new(text: &'static str) -> Self {
        Self { text, hash: hash(text) }
    }
}

/// Whether a key is one of what is asked about: `aws:ResourceTag/team`, `ecs:ResourceTag/team`, `aws:ResourceAccount`.
pub(crate) fn is_about_resource(key: &str) -> bool {
    const TAG: &str = "resourcetag/";
    let name = key.split_once(':').map_or("", |(_, name)| name);
    let is_tag = name.get(..TAG.len()).is_some_and(|start| start.eq_ignore_ascii_case(TAG));
    is_tag || name.eq_ignore_ascii_case("resourceaccount")
}

/// Condition keys that policies ask for, as bits of their names: what none asks for need not be found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyMask(u64);

impl KeyMask {
    pub const NONE: Self = Self(0);
    pub const ALL: Self = Self(u64::MAX);

    pub(crate) fn of<'k>(keys: impl IntoIterator<Item = &'k str>) -> Self {
        keys.into_iter().fold(Self::NONE, |mask, key| Self(mask.0 | bit(hash(key))))
    }

    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it may be asked for; surely not if this says so.
    pub fn may_have(self, key: KeyName) -> bool {
        self.0 & bit(key.hash) != 0
    }

    /// As [`KeyMask::may_have`], of a key whose name begins with `key`, such as `aws:PrincipalTag/`, and goes on.
    pub fn may_have_under(self, key: KeyName, rest: &str) -> bool {
        self.0 & bit(hash_on(key.hash, rest)) != 0
    }
}

/// The upper bits of a hash differ by this only where short names end alike.
fn bit(hash: u64) -> u64 {
    1 << ((hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58)
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

    /// As [`Context::set`], of a key whose name is known beforehand.
    pub fn set_known(&mut self, key: KeyName, value: impl Into<Value>) {
        self.put_hashed(Cow::Borrowed(key.text), key.hash, Values::One(value.into()));
    }

    /// Gives all keys that another context has what they have there.
    pub fn take(&mut self, other: &Self) {
        for ((key, values), hash) in other.entries.iter().zip(&other.hashes) {
            self.put_hashed(key.clone(), *hash, values.clone());
        }
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
        let hash = hash(&key);
        self.put_hashed(key, hash, values);
    }

    fn put_hashed(&mut self, key: Cow<'static, str>, hash: u64, values: Values) {
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

    fn find(&self, key: &Key) -> Option<&Values> {
        self.at(self.place(&key.text, key.hash)?)
    }

    fn at(&self, place: usize) -> Option<&Values> {
        self.entries.get(place).map(|(_, values)| values)
    }

    /// Who sends a request may choose the names of tags, so that equal hashes say nothing yet.
    fn place(&self, key: &str, hash: u64) -> Option<usize> {
        let same = self.hashes.iter().enumerate().filter(|(_, known)| **known == hash);
        same.map(|(place, _)| place).find(|place| {
            self.entries
                .get(*place)
                .is_some_and(|(known, _)| **known == *key || known.eq_ignore_ascii_case(key))
        })
    }
}

/// All that is known of a request: what a context has, and for keys that it has not, what those under it have.
#[derive(Clone, Copy, Debug)]
pub struct Contexts<'a> {
    own: &'a Context,
    under: Option<&'a Contexts<'a>>,
}

impl<'a> From<&'a Context> for Contexts<'a> {
    fn from(own: &'a Context) -> Self {
        Self { own, under: None }
    }
}

impl<'a> Contexts<'a> {
    pub fn over(own: &'a Context, under: &'a Contexts<'a>) -> Self {
        Self { own, under: Some(under) }
    }

    pub fn get(self, key: &str) -> Option<&'a Values> {
        self.own.get(key).or_else(|| self.under?.get(key))
    }

    pub(crate) fn find(self, key: &Key) -> Option<&'a Values> {
        self.own.find(key).or_else(|| self.under?.find(key))
    }

    /// What a variable of this name stands for: lists have no text.
    pub(crate) fn single_text(self, key: &Key) -> Option<Cow<'a, str>> {
        match self.find(key)? {
            Values::One(value) => Some(value.text()),
            Values::Many(_) => None,
        }
    }
}
