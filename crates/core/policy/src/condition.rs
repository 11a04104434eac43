//! Conditions: every operator, and what each says when its key is absent.
//!
//! | | absent | no values | present |
//! |---|---|---|---|
//! | positive | false | false | any value of the policy matches |
//! | negated | true | true | no value of the policy matches |
//! | `…IfExists` | true | as without | as without |
//! | `ForAllValues:` | true | true | each value of the request passes |
//! | `ForAnyValue:` | false | false | some value of the request passes |
//! | `Null` | key must be absent | absent | key must be there |

use std::borrow::Cow;
use std::net::IpAddr;

use base64::Engine as _;

use crate::context::{Contexts, Key, Value, Values, is_about_resource};
use crate::malformed::{Fault, Syntax};
use crate::pattern::{ArnPattern, Grammar, Pattern, variables};
use crate::scalar::{Compare, Decimal, Moment, Network};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    Text,
    TextAnyCase,
    Like,
    Number(Compare),
    Date(Compare),
    Bool,
    Binary,
    Address,
    Arn,
    Null,
}

/// Name, test, and whether it is the test's opposite.
const OPERATORS: &[(&str, Test, bool)] = &[
    ("StringEquals", Test::Text, false),
    ("StringNotEquals", Test::Text, true),
    ("StringEqualsIgnoreCase", Test::TextAnyCase, false),
    ("StringNotEqualsIgnoreCase", Test::TextAnyCase, true),
    ("StringLike", Test::Like, false),
    ("StringNotLike", Test::Like, true),
    ("NumericEquals", Test::Number(Compare::Equals), false),
    ("NumericNotEquals", Test::Number(Compare::Equals), true),
    ("NumericLessThan", Test::Number(Compare::Less), false),
    ("NumericLessThanEquals", Test::Number(Compare::LessEquals), false),
    ("NumericGreaterThan", Test::Number(Compare::Greater), false),
    ("NumericGreaterThanEquals", Test::Number(Compare::GreaterEquals), false),
    ("DateEquals", Test::Date(Compare::Equals), false),
    ("DateNotEquals", Test::Date(Compare::Equals), true),
    ("DateLessThan", Test::Date(Compare::Less), false),
    ("DateLessThanEquals", Test::Date(Compare::LessEquals), false),
    ("DateGreaterThan", Test::Date(Compare::Greater), false),
    ("DateGreaterThanEquals", Test::Date(Compare::GreaterEquals), false),
    ("Bool", Test::Bool, false),
    ("BinaryEquals", Test::Binary, false),
    ("IpAddress", Test::Address, false),
    ("NotIpAddress", Test::Address, true),
    ("ArnEquals", Test::Arn, false),
    ("ArnLike", Test::Arn, false),
    ("ArnNotEquals", Test::Arn, true),
    ("ArnNotLike", Test::Arn, true),
    ("Null", Test::Null, false),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    /// No prefix: all of the request's values are one.
    Whole,
    All,
    Any,
}

/// An operator with what may stand before and behind its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operator {
    name: Box<str>,
    set: Set,
    test: Test,
    is_negated: bool,
    if_exists: bool,
}

impl Operator {
    pub(crate) fn parse(name: &str) -> Result<Self, Syntax> {
        let refuse = || Syntax::Operator(name.to_owned());
        let (set, rest) = match name.split_once(':') {
            Some(("ForAllValues", rest)) => (Set::All, rest),
            Some(("ForAnyValue", rest)) => (Set::Any, rest),
            Some(_) => return Err(refuse()),
            None => (Set::Whole, name),
        };
        let (base, if_exists) = match rest.strip_suffix("IfExists") {
            Some(base) => (base, true),
            None => (rest, false),
        };
        let known = OPERATORS.iter().find(|(known, ..)| *known == base);
        let (_, test, is_negated) = *known.ok_or_else(refuse)?;
        if test == Test::Null && (if_exists || set != Set::Whole) {
            return Err(refuse());
        }
        Ok(Self { name: name.into(), set, test, is_negated, if_exists })
    }
}

/// One value that a policy compares with.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expected {
    Text(Pattern),
    TextAnyCase(Pattern),
    Number(Compare, Decimal),
    Date(Compare, Moment),
    Bytes(Vec<u8>),
    Network(Network),
    Arn(ArnPattern),
    Absent(bool),
}

/// An operator, a key, and the values that it is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    operator: Operator,
    key: Key,
    values: Vec<(Box<str>, Expected)>,
    /// It asks for the resource's tags or account.
    about_resource: bool,
}

impl Condition {
    pub(crate) fn compile(
        operator: &Operator,
        key: &str,
        values: &[String],
        variables: bool,
    ) -> Result<Self, Fault> {
        if !key.contains(':') {
            return Err(Fault::NoVendor(key.to_owned()));
        }
        let mut expected = Vec::with_capacity(values.len());
        for value in values {
            expected.push((value.as_str().into(), compile(operator, value, variables)?));
        }
        let asks = |(_, each): &(Box<str>, Expected)| each.variables().any(is_about_resource);
        let about_resource = is_about_resource(key) || expected.iter().any(asks);
        let key = Key::new(key);
        Ok(Self { operator: operator.clone(), key, values: expected, about_resource })
    }

    pub(crate) fn operator(&self) -> &str {
        &self.operator.name
    }

    /// It holds for some texts only, each of which it says more of than that there is one.
    pub(crate) fn narrows(&self) -> bool {
        let operator = &self.operator;
        let is_of_text = matches!(operator.test, Test::Text | Test::TextAnyCase | Test::Like);
        let needs_key = !operator.is_negated && !operator.if_exists && operator.set != Set::All;
        is_of_text
            && needs_key
            && !self.values.is_empty()
            && self.values.iter().all(|(value, _)| value.chars().any(|it| !matches!(it, '*' | '?')))
    }

    pub(crate) fn key(&self) -> &str {
        self.key.as_str()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(|(source, _)| &**source)
    }

    /// Whether it may hold for one resource and not for another: it asks for tags or the account of what is asked about.
    pub(crate) fn is_about_resource(&self) -> bool {
        self.about_resource
    }

    /// The keys that it asks for: its own, and those of its variables.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        let variables = self.values.iter().flat_map(|(_, expected)| expected.variables());
        std::iter::once(self.key.as_str()).chain(variables)
    }

    pub(crate) fn holds(&self, context: Contexts<'_>) -> bool {
        let operator = &self.operator;
        let found = context.find(&self.key);
        if operator.test == Test::Null {
            let is_absent = found.is_none_or(|values| values.as_slice().is_empty());
            return self.values.iter().any(|(_, wanted)| *wanted == Expected::Absent(is_absent));
        }
        let Some(values) = found else {
            return operator.if_exists
                || match operator.set {
                    Set::Whole => operator.is_negated,
                    Set::All => true,
                    Set::Any => false,
                };
        };
        let matches =
            |value: &Value| self.values.iter().any(|(_, wanted)| wanted.matches(value, context));
        let given = values.as_slice();
        match operator.set {
            Set::Whole => given.iter().any(matches) != operator.is_negated,
            Set::All => {
                is_null(values) || given.iter().all(|value| matches(value) != operator.is_negated)
            }
            Set::Any => {
                !is_null(values) && given.iter().any(|value| matches(value) != operator.is_negated)
            }
        }
    }
}

/// Set operators take a key that has empty strings only for one that has nothing.
fn is_null(values: &Values) -> bool {
    values.as_slice().iter().all(|value| matches!(value, Value::Text(text) if text.is_empty()))
}

fn compile(operator: &Operator, value: &str, variables: bool) -> Result<Expected, Fault> {
    let plain = Grammar { wildcards: false, variables, arn: false };
    let read = match operator.test {
        Test::Text => Some(Expected::Text(Pattern::compile(value, plain)?)),
        Test::TextAnyCase => Some(Expected::TextAnyCase(Pattern::compile(value, plain)?)),
        Test::Like => {
            let grammar = Grammar { wildcards: true, ..plain };
            Some(Expected::Text(Pattern::compile(value, grammar)?))
        }
        Test::Bool => {
            let pattern = Pattern::compile(value, plain)?;
            let is_bool = truth(value).is_some() || pattern.variables().next().is_some();
            is_bool.then_some(Expected::TextAnyCase(pattern))
        }
        Test::Arn => Some(Expected::Arn(ArnPattern::compile(value, variables)?)),
        Test::Number(compare) => Decimal::parse(value).map(|to| Expected::Number(compare, to)),
        Test::Date(compare) => Moment::parse(value).map(|to| Expected::Date(compare, to)),
        Test::Binary => decode(value).map(Expected::Bytes),
        Test::Address => Network::parse(value).map(Expected::Network),
        Test::Null => truth(value).map(Expected::Absent),
    };
    let refuse =
        || Syntax::Value { operator: operator.name.to_string(), value: value.to_owned() }.into();
    read.ok_or_else(refuse)
}

impl Expected {
    fn variables(&self) -> impl Iterator<Item = &str> {
        let parts = match self {
            Self::Text(pattern) | Self::TextAnyCase(pattern) => pattern.variable_parts(),
            Self::Arn(pattern) => pattern.variable_parts(),
            Self::Number(..)
            | Self::Date(..)
            | Self::Bytes(_)
            | Self::Network(_)
            | Self::Absent(_) => &[],
        };
        variables(parts)
    }

    fn matches(&self, value: &Value, context: Contexts<'_>) -> bool {
        match self {
            Self::Text(pattern) => pattern.matches(&value.text(), context) == Some(true),
            Self::TextAnyCase(pattern) => {
                pattern.text(context).is_some_and(|text| same_text(&text, &value.text()))
            }
            Self::Number(compare, wanted) => {
                number(value).is_some_and(|number| compare.holds(number, *wanted))
            }
            Self::Date(compare, wanted) => {
                moment(value).is_some_and(|moment| compare.holds(moment, *wanted))
            }
            Self::Bytes(wanted) => bytes(value).is_some_and(|bytes| *bytes == **wanted),
            Self::Network(network) => {
                address(value).is_some_and(|address| network.contains(address))
            }
            Self::Arn(pattern) => pattern.matches(&value.text(), context) == Some(true),
            Self::Absent(_) => false,
        }
    }
}

fn same_text(left: &str, right: &str) -> bool {
    let lower = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<Vec<char>>();
    left.eq_ignore_ascii_case(right) || (!left.is_ascii() && lower(left) == lower(right))
}

fn truth(text: &str) -> Option<bool> {
    match text {
        text if text.eq_ignore_ascii_case("true") => Some(true),
        text if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

fn number(value: &Value) -> Option<Decimal> {
    match value {
        Value::Text(text) => Decimal::parse(text),
        Value::Integer(number) => Some(Decimal::from_integer(*number)),
        Value::Bool(_) | Value::Time(_) | Value::Address(_) | Value::Bytes(_) => None,
    }
}

fn moment(value: &Value) -> Option<Moment> {
    match value {
        Value::Text(text) => Moment::parse(text),
        Value::Integer(seconds) => Moment::from_seconds(*seconds),
        Value::Time(time) => Moment::from_timestamp(*time),
        Value::Bool(_) | Value::Address(_) | Value::Bytes(_) => None,
    }
}

fn bytes(value: &Value) -> Option<Cow<'_, [u8]>> {
    match value {
        Value::Text(text) => decode(text).map(Cow::Owned),
        Value::Bytes(bytes) => Some(Cow::Borrowed(bytes)),
        Value::Integer(_) | Value::Bool(_) | Value::Time(_) | Value::Address(_) => None,
    }
}

fn address(value: &Value) -> Option<IpAddr> {
    match value {
        Value::Text(text) => text.parse().ok(),
        Value::Address(address) => Some(*address),
        Value::Integer(_) | Value::Bool(_) | Value::Time(_) | Value::Bytes(_) => None,
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}
