//! JSON as events need it: numbers as they are written, members in their order.

use std::fmt;

use crate::limits::DEPTH_MAX;

/// A JSON value. Of members with the same name the last one is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json {
    Null,
    Bool(bool),
    /// As it was written: `3.0e2` is not `300`.
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// Why a text is no JSON, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at line {line}, column {column}")]
pub struct NotJson {
    what: &'static str,
    /// Counted from one, as is the column.
    pub line: usize,
    pub column: usize,
}

impl Json {
    /// Reads one value, and nothing behind it.
    pub fn parse(text: &str) -> Result<Self, NotJson> {
        let mut reader = Reader { text, at: 0 };
        let value = reader.value(0)?;
        reader.skip_space();
        if reader.at < text.len() {
            return Err(reader.wrong("something follows the value"));
        }
        Ok(value)
    }

    /// The member of an object.
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.iter().find(|(key, _)| key == name).map(|(_, v)| v),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) | Self::List(_) => None,
        }
    }

    /// What it says if it is a string.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::List(_) | Self::Object(_) => None,
        }
    }

    pub fn is_object(&self) -> bool {
        matches!(self, Self::Object(_))
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u64> for Json {
    fn from(value: u64) -> Self {
        Self::Number(value.to_string())
    }
}

impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(value),
            serde_json::Value::Number(number) => Self::Number(number.to_string()),
            serde_json::Value::String(text) => Self::Text(text),
            serde_json::Value::Array(items) => {
                Self::List(items.into_iter().map(Self::from).collect())
            }
            serde_json::Value::Object(members) => {
                let members = members.into_iter();
                Self::Object(members.map(|(key, value)| (key, Self::from(value))).collect())
            }
        }
    }
}

/// Reads values one behind the other, with nothing but space between them; one at the least.
pub(crate) fn values(text: &str) -> Result<Vec<Json>, NotJson> {
    let mut reader = Reader { text, at: 0 };
    let mut found = Vec::new();
    loop {
        found.push(reader.value(0)?);
        reader.skip_space();
        if text.len() <= reader.at {
            return Ok(found);
        }
    }
}

/// Without any space, members in their order.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(text) => f.write_str(text),
            Self::Text(text) => write_text(f, text),
            Self::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma}{item}")?;
                }
                f.write_str("]")
            }
            Self::Object(members) => {
                f.write_str("{")?;
                for (index, (key, value)) in members.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { "," })?;
                    write_text(f, key)?;
                    write!(f, ":{value}")?;
                }
                f.write_str("}")
            }
        }
    }
}

fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    write_escaped(f, text)?;
    f.write_str("\"")
}

/// A text as it stands between the quotes of a JSON string.
fn write_escaped(to: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for each in text.chars() {
        match each {
            '"' => to.write_str("\\\"")?,
            '\\' => to.write_str("\\\\")?,
            '\n' => to.write_str("\\n")?,
            '\r' => to.write_str("\\r")?,
            '\t' => to.write_str("\\t")?,
            each if u32::from(each) < 0x20 => write!(to, "\\u{:04x}", u32::from(each))?,
            each => fmt::Write::write_char(to, each)?,
        }
    }
    Ok(())
}

/// Where a byte of a text is, by line and column from one.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// Reads a text from its beginning.
struct Reader<'a> {
    text: &'a str,
    /// The byte that comes next.
    at: usize,
}

impl Reader<'_> {
    fn wrong(&self, what: &'static str) -> NotJson {
        let (line, column) = place(self.text, self.at);
        NotJson { what, line, column }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8, or: &'static str) -> Result<(), NotJson> {
        self.skip_space();
        if self.peek() != Some(byte) {
            return Err(self.wrong(or));
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<Json, NotJson> {
        self.skip_space();
        match self.peek() {
            Some(b'{' | b'[') if DEPTH_MAX <= depth => Err(self.wrong("it nests too deep")),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => self.string().map(Json::Text),
            Some(b'-' | b'0'..=b'9') => self.number().map(Json::Number),
            Some(_) => self.word(),
            None => Err(self.wrong("the text ends where a value is missing")),
        }
    }

    fn word(&mut self) -> Result<Json, NotJson> {
        let left = self.text.get(self.at..).unwrap_or_default();
        let words =
            [("null", Json::Null), ("true", Json::Bool(true)), ("false", Json::Bool(false))];
        let found = words.into_iter().find(|(word, _)| left.starts_with(word));
        let (word, value) = found.ok_or_else(|| self.wrong("no value begins like this"))?;
        self.at += word.len();
        Ok(value)
    }

    fn list(&mut self, depth: usize) -> Result<Json, NotJson> {
        self.at += 1;
        let mut items = Vec::new();
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Json::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.skip_space();
            if self.peek() == Some(b',') {
                self.at += 1;
                continue;
            }
            self.take(b']', "an array goes on with a comma or ends with ]")?;
            return Ok(Json::List(items));
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, NotJson> {
        self.at += 1;
        let mut members = Members::default();
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Json::Object(Vec::new()));
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(self.wrong("a member begins with its name in quotes"));
            }
            let key = self.string()?;
            self.take(b':', "a colon follows a member's name")?;
            members.put(key, self.value(depth + 1)?);
            self.skip_space();
            if self.peek() == Some(b',') {
                self.at += 1;
                continue;
            }
            self.take(b'}', "an object goes on with a comma or ends with }")?;
            return Ok(Json::Object(members.found));
        }
    }

    fn number(&mut self) -> Result<String, NotJson> {
        let start = self.at;
        let is_part = |byte: u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        while self.peek().is_some_and(is_part) {
            self.at += 1;
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        if !is_number(text) {
            self.at = start;
            return Err(self.wrong("it is no number"));
        }
        Ok(text.to_owned())
    }

    /// From the quote that begins it to behind the one that ends it.
    fn string(&mut self) -> Result<String, NotJson> {
        let start = self.at;
        let mut is_escaped = false;
        self.at += 1;
        loop {
            let byte = self.peek().ok_or_else(|| self.wrong("the text ends within a string"))?;
            self.at += 1;
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => break,
                _ => {}
            }
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        let read: Result<String, _> = serde_json::from_str(text);
        read.map_err(|_| {
            self.at = start;
            self.wrong("it is no string")
        })
    }
}

/// `-`? digits without leading zeros, a fraction, an exponent.
fn is_number(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let exponent = exponent.map(|text| text.strip_prefix(['+', '-']).unwrap_or(text));
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(digits)
}

/// An object's members; of one name only the last.
#[derive(Default)]
struct Members {
    found: Vec<(String, Json)>,
    places: std::collections::BTreeMap<String, usize>,
}

impl Members {
    fn put(&mut self, key: String, value: Json) {
        match self.places.get(&key).and_then(|at| self.found.get_mut(*at)) {
            Some(member) => member.1 = value,
            None => {
                self.places.insert(key.clone(), self.found.len());
                self.found.push((key, value));
            }
        }
    }
}
