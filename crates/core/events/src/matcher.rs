//! What a pattern says of one value.

use std::net::IpAddr;

use crate::Json;
use crate::pattern::{PatternError, wrong};

/// One element of a leaf.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Matcher {
    /// A string, a number by its text, true, false or null.
    Literal(Json),
    Prefix {
        text: String,
        ignores_case: bool,
    },
    Suffix {
        text: String,
        ignores_case: bool,
    },
    /// In lower case.
    EqualsIgnoreCase(String),
    Wildcard(Wildcard),
    /// None of these.
    AnythingBut(Vec<Matcher>),
    Numeric(Range),
    Cidr {
        first: IpAddr,
        last: IpAddr,
    },
    Exists(bool),
}

const OPERATORS: [&str; 8] = [
    "prefix",
    "suffix",
    "equals-ignore-case",
    "wildcard",
    "anything-but",
    "numeric",
    "cidr",
    "exists",
];

/// Whether a name is one that says how to match, and so no field's beside `$or`.
pub(crate) fn is_operator(name: &str) -> bool {
    OPERATORS.contains(&name)
}

/// Reads a leaf.
pub(crate) fn list(items: Vec<Json>) -> Result<Vec<Matcher>, PatternError> {
    if items.is_empty() {
        return Err(wrong("Empty arrays are not allowed"));
    }
    items.into_iter().map(matcher).collect()
}

fn matcher(item: Json) -> Result<Matcher, PatternError> {
    match item {
        literal @ (Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_)) => {
            Ok(Matcher::Literal(literal))
        }
        Json::List(_) => Err(wrong("Match value must be String, number, true, false, or null")),
        Json::Object(members) => {
            let (name, value) = only(members, "Only one key allowed in match expression")?;
            operator(&name, value)
        }
    }
}

/// The one member of an object.
fn only(members: Vec<(String, Json)>, or: &str) -> Result<(String, Json), PatternError> {
    if members.is_empty() {
        return Err(wrong("Empty objects are not allowed"));
    }
    let [member] = <[_; 1]>::try_from(members).map_err(|_| wrong(or))?;
    Ok(member)
}

fn operator(name: &str, value: Json) -> Result<Matcher, PatternError> {
    match name {
        "prefix" | "suffix" | "equals-ignore-case" | "wildcard" => of_text(name, value),
        "anything-but" => anything_but(value),
        "numeric" => Range::read(value).map(Matcher::Numeric),
        "cidr" => match value {
            Json::Text(text) => cidr(&text),
            _ => Err(wrong("prefix match pattern must be a string")),
        },
        "exists" => match value {
            Json::Bool(exists) => Ok(Matcher::Exists(exists)),
            _ => Err(wrong("exists match pattern must be either true or false.")),
        },
        _ => Err(wrong(format!("Unrecognized match type {name}"))),
    }
}

/// Those of strings: `{"prefix": "x"}`, `{"prefix": {"equals-ignore-case": "x"}}`.
fn of_text(name: &str, value: Json) -> Result<Matcher, PatternError> {
    let (text, ignores_case) = match (value, name) {
        (Json::Text(text), _) => (text, false),
        (Json::Object(members), "prefix" | "suffix") => {
            let (inner, value) = only(members, "Only one key allowed in match expression")?;
            match (inner.as_str(), value) {
                ("equals-ignore-case", Json::Text(text)) => (text.to_lowercase(), true),
                ("equals-ignore-case", _) => {
                    return Err(wrong("equals-ignore-case match pattern must be a string"));
                }
                _ => return Err(wrong(format!("Unsupported {name} expression: {inner}"))),
            }
        }
        _ => return Err(wrong(format!("{name} match pattern must be a string"))),
    };
    match name {
        "prefix" => Ok(Matcher::Prefix { text, ignores_case }),
        "suffix" => Ok(Matcher::Suffix { text, ignores_case }),
        "wildcard" => Wildcard::read(&text).map(Matcher::Wildcard),
        _ => Ok(Matcher::EqualsIgnoreCase(text.to_lowercase())),
    }
}

const ANYTHING_BUT: &str = "Value of anything-but must be an array or single string/number value.";
const ANYTHING_BUT_LIST: &str =
    "Inside anything-but list, either all values are number or string, mixed type is not supported";

fn anything_but(value: Json) -> Result<Matcher, PatternError> {
    let values = match value {
        Json::Object(members) => {
            let (name, value) = only(members, "Only one key allowed in match expression")?;
            return anything_but_of(&name, value).map(Matcher::AnythingBut);
        }
        Json::List(items) => items,
        single @ (Json::Text(_) | Json::Number(_)) => vec![single],
        Json::Null | Json::Bool(_) => return Err(wrong(ANYTHING_BUT)),
    };
    if values.is_empty() {
        return Err(wrong("Empty arrays are not allowed"));
    }
    let are_texts = values.iter().all(|value| matches!(value, Json::Text(_)));
    let are_numbers = values.iter().all(|value| matches!(value, Json::Number(_)));
    if !are_texts && !are_numbers {
        return Err(wrong(ANYTHING_BUT_LIST));
    }
    Ok(Matcher::AnythingBut(values.into_iter().map(Matcher::Literal).collect()))
}

/// `{"anything-but": {"prefix": ["a", "b"]}}`
fn anything_but_of(name: &str, value: Json) -> Result<Vec<Matcher>, PatternError> {
    if !matches!(name, "prefix" | "suffix" | "equals-ignore-case" | "wildcard") {
        return Err(wrong(format!("Unsupported anything-but pattern: {name}")));
    }
    let values = match value {
        Json::List(items) if items.is_empty() => return Err(wrong("Empty arrays are not allowed")),
        Json::List(items) => items,
        single => vec![single],
    };
    values.into_iter().map(|value| of_text(name, value)).collect()
}

impl Matcher {
    /// Whether it takes a value that is neither object nor array.
    pub(crate) fn matches(&self, value: &Json) -> bool {
        match self {
            Self::Literal(literal) => literal == value,
            Self::Prefix { text, ignores_case: false } => {
                value.as_text().is_some_and(|value| value.starts_with(text.as_str()))
            }
            Self::Prefix { text, ignores_case: true } => {
                value.as_text().is_some_and(|value| value.to_lowercase().starts_with(text.as_str()))
            }
            Self::Suffix { text, ignores_case: false } => {
                value.as_text().is_some_and(|value| value.ends_with(text.as_str()))
            }
            Self::Suffix { text, ignores_case: true } => {
                value.as_text().is_some_and(|value| value.to_lowercase().ends_with(text.as_str()))
            }
            Self::EqualsIgnoreCase(text) => {
                value.as_text().is_some_and(|value| value.to_lowercase() == *text)
            }
            Self::Wildcard(wildcard) => {
                value.as_text().is_some_and(|value| wildcard.matches(value))
            }
            Self::AnythingBut(those) => !those.iter().any(|each| each.matches(value)),
            Self::Numeric(range) => match value {
                Json::Number(text) => text.parse().is_ok_and(|number| range.has(number)),
                _ => false,
            },
            Self::Cidr { first, last } => {
                let address = value.as_text().and_then(|text| text.parse::<IpAddr>().ok());
                address.is_some_and(|address| {
                    address.is_ipv4() == first.is_ipv4() && (first..=last).contains(&&address)
                })
            }
            Self::Exists(exists) => *exists,
        }
    }

    /// What it takes to ask it about a value.
    pub(crate) fn effort(&self, value: &Json) -> usize {
        let length = match value {
            Json::Text(text) | Json::Number(text) => text.len(),
            Json::Null | Json::Bool(_) | Json::List(_) | Json::Object(_) => 0,
        };
        match self {
            Self::AnythingBut(those) => 1 + those.iter().map(|it| it.effort(value)).sum::<usize>(),
            Self::EqualsIgnoreCase(_)
            | Self::Prefix { ignores_case: true, .. }
            | Self::Suffix { ignores_case: true, .. } => 1 + length / 4,
            _ => 1 + length / 16,
        }
    }

    /// Whether it is that there is nothing.
    pub(crate) fn is_of_absence(&self) -> bool {
        *self == Self::Exists(false)
    }
}

/// Texts with anything between them, from the beginning to the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wildcard {
    /// As many as there are stars, and one more.
    texts: Vec<String>,
}

impl Wildcard {
    /// `*` is any run of characters; `\*` and `\\` are the characters themselves.
    fn read(text: &str) -> Result<Self, PatternError> {
        let mut texts = vec![String::new()];
        let mut chars = text.chars().enumerate().peekable();
        while let Some((at, each)) = chars.next() {
            let literal = match (each, chars.peek()) {
                ('*', Some((next, '*'))) => {
                    return Err(wrong(format!("Consecutive wildcard characters at pos {next}")));
                }
                ('*', _) => {
                    texts.push(String::new());
                    continue;
                }
                ('\\', Some((_, next @ ('*' | '\\')))) => {
                    let next = *next;
                    chars.next();
                    next
                }
                ('\\', _) => return Err(wrong(format!("Invalid escape character at pos {at}"))),
                (literal, _) => literal,
            };
            if let Some(last) = texts.last_mut() {
                last.push(literal);
            }
        }
        Ok(Self { texts })
    }

    /// Each text is looked for behind the one before, so a value is gone through once.
    fn matches(&self, value: &str) -> bool {
        let Some((first, rest)) = self.texts.split_first() else { return false };
        let Some((last, middle)) = rest.split_last() else { return first == value };
        let Some(mut left) = value.strip_prefix(first.as_str()) else { return false };
        for text in middle {
            let Some((_, behind)) = left.split_once(text.as_str()) else { return false };
            left = behind;
        }
        left.ends_with(last.as_str())
    }
}

/// A range of numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Range {
    /// And whether it is in the range itself.
    from: Option<(f64, bool)>,
    to: Option<(f64, bool)>,
}

impl Range {
    /// `["=", 5]`, `["<", 5]`, `[">", 0, "<=", 5]`
    fn read(value: Json) -> Result<Self, PatternError> {
        let Json::List(items) = value else {
            return Err(wrong("Value of numeric must be an array."));
        };
        let (first, rest) = match items.as_slice() {
            [Json::Text(first), rest @ ..] => (first.as_str(), rest),
            _ => return Err(wrong("Invalid member in numeric match: an operator comes first")),
        };
        let (bound, rest) = match rest {
            [Json::Number(text), rest @ ..] => (number(text)?, rest),
            _ => return Err(wrong(format!("Value of {first} must be numeric"))),
        };
        let range = match first {
            "=" => Self { from: Some((bound, true)), to: Some((bound, true)) },
            "<" | "<=" => Self { from: None, to: Some((bound, first == "<=")) },
            ">" | ">=" => Self { from: Some((bound, first == ">=")), to: None },
            _ => return Err(wrong(format!("Unrecognized numeric range operator: {first}"))),
        };
        match rest {
            [] => Ok(range),
            [Json::Text(second), Json::Number(text)] if range.to.is_none() => {
                if !matches!(second.as_str(), "<" | "<=") {
                    return Err(wrong(format!("Bad numeric range operator: {second}")));
                }
                let top = number(text)?;
                if top <= bound {
                    return Err(wrong("Bottom must be less than top"));
                }
                Ok(Self { to: Some((top, second == "<=")), ..range })
            }
            _ => Err(wrong("Too many terms in numeric range expression")),
        }
    }

    fn has(self, number: f64) -> bool {
        let is_above = |(from, with): (f64, bool)| from < number || with && from == number;
        let is_below = |(to, with): (f64, bool)| number < to || with && number == to;
        self.from.is_none_or(is_above) && self.to.is_none_or(is_below)
    }
}

fn number(text: &str) -> Result<f64, PatternError> {
    let number: Option<f64> = text.parse().ok();
    number.filter(|number| number.is_finite()).ok_or_else(|| wrong(format!("{text} is too large")))
}

/// `10.0.0.0/24`, `2001:db8::/32`
fn cidr(text: &str) -> Result<Matcher, PatternError> {
    let (address, prefix) =
        text.split_once('/').ok_or_else(|| wrong("Malformed CIDR, one '/' required"))?;
    let address: IpAddr =
        address.parse().map_err(|_| wrong("Malformed CIDR, the address is none"))?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    let is_number = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
    let prefix: Option<u32> = prefix.parse().ok().filter(|prefix| is_number && *prefix <= width);
    let prefix = prefix
        .ok_or_else(|| wrong(format!("Malformed CIDR, mask bits must be from 0 to {width}")))?;
    let (first, last) = match address {
        IpAddr::V4(address) => {
            let inside = u32::MAX.checked_shr(prefix).unwrap_or(0);
            let bits = u32::from(address);
            (
                IpAddr::from((bits & !inside).to_be_bytes()),
                IpAddr::from((bits | inside).to_be_bytes()),
            )
        }
        IpAddr::V6(address) => {
            let inside = u128::MAX.checked_shr(prefix).unwrap_or(0);
            let bits = u128::from(address);
            (
                IpAddr::from((bits & !inside).to_be_bytes()),
                IpAddr::from((bits | inside).to_be_bytes()),
            )
        }
    };
    Ok(Matcher::Cidr { first, last })
}
