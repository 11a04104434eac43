//! Patterns in braces: conditions on the members of an event that is JSON.

use std::collections::BTreeMap;

use serde_json::Value;

use super::PatternError;
use super::cursor::Cursor;
use super::value::{Operand, Operator};

#[derive(Clone, Debug)]
pub(super) enum Condition {
    All(Vec<Self>),
    Any(Vec<Self>),
    Is(Selector, Test),
}

#[derive(Clone, Debug)]
pub(super) enum Test {
    Compares(Operator, Operand),
    IsNull,
    IsTrue,
    IsFalse,
    Exists,
    NotExists,
}

/// A path from the root of the event.
#[derive(Clone, Debug)]
pub(super) struct Selector {
    written: String,
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Step {
    Member(String),
    Element(usize),
    EveryElement,
}

/// The event, if it is a JSON object or array.
pub(super) fn read(message: &str) -> Option<Value> {
    message.trim_start().starts_with(['{', '[']).then(|| serde_json::from_str(message).ok())?
}

pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Condition, PatternError> {
    cursor.expect("{", "a brace is expected")?;
    let condition = any(cursor)?;
    cursor.expect("}", "a closing brace is expected")?;
    Ok(condition)
}

fn any(cursor: &mut Cursor<'_>) -> Result<Condition, PatternError> {
    let mut list = vec![all(cursor)?];
    loop {
        cursor.skip_spaces();
        if !cursor.eat("||") {
            return Ok(one_or(list, Condition::Any));
        }
        list.push(all(cursor)?);
    }
}

fn all(cursor: &mut Cursor<'_>) -> Result<Condition, PatternError> {
    let mut list = vec![single(cursor)?];
    loop {
        cursor.skip_spaces();
        if !cursor.eat("&&") {
            return Ok(one_or(list, Condition::All));
        }
        list.push(single(cursor)?);
    }
}

fn one_or(mut list: Vec<Condition>, many: fn(Vec<Condition>) -> Condition) -> Condition {
    if list.len() == 1 { list.remove(0) } else { many(list) }
}

fn single(cursor: &mut Cursor<'_>) -> Result<Condition, PatternError> {
    cursor.skip_spaces();
    if cursor.eat("(") {
        let inner = cursor.nested(any)?;
        cursor.expect(")", "a closing parenthesis is expected")?;
        return Ok(inner);
    }
    let selector = selector(cursor)?;
    cursor.skip_spaces();
    let test = if cursor.eat_word("IS") {
        cursor.skip_spaces();
        if cursor.eat_word("NULL") {
            Test::IsNull
        } else if cursor.eat_word("TRUE") {
            Test::IsTrue
        } else if cursor.eat_word("FALSE") {
            Test::IsFalse
        } else {
            return Err(cursor.error("NULL, TRUE or FALSE is expected"));
        }
    } else if cursor.eat_word("NOT") {
        cursor.skip_spaces();
        if !cursor.eat_word("EXISTS") {
            return Err(cursor.error("EXISTS is expected"));
        }
        Test::NotExists
    } else if cursor.eat_word("EXISTS") {
        Test::Exists
    } else {
        let operator =
            Operator::parse(cursor).ok_or_else(|| cursor.error("an operator is expected"))?;
        let operand = Operand::parse(cursor, operator, &[')', '}', '&', '|'])?;
        Test::Compares(operator, operand)
    };
    Ok(Condition::Is(selector, test))
}

fn selector(cursor: &mut Cursor<'_>) -> Result<Selector, PatternError> {
    let start = cursor.rest();
    if !cursor.eat("$") {
        return Err(cursor.error("a selector such as $.name is expected"));
    }
    let mut steps = Vec::new();
    loop {
        if cursor.eat(".") {
            let is_end = |c: char| c.is_whitespace() || ".[]=!<>()&|{}\"".contains(c);
            let name = cursor.take_while(|c| !is_end(c));
            if name.is_empty() {
                return Err(cursor.error("a member's name is expected"));
            }
            steps.push(Step::Member(name.to_owned()));
        } else if cursor.eat("[") {
            steps.push(bracket(cursor)?);
            cursor.expect("]", "a closing bracket is expected")?;
        } else {
            break;
        }
    }
    let written = start[..start.len() - cursor.rest().len()].to_owned();
    if steps.is_empty() {
        Err(cursor.error("a member is expected"))
    } else {
        Ok(Selector { written, steps })
    }
}

fn bracket(cursor: &mut Cursor<'_>) -> Result<Step, PatternError> {
    cursor.skip_spaces();
    match cursor.peek() {
        Some('*') => {
            cursor.bump();
            Ok(Step::EveryElement)
        }
        Some('"') => cursor.quoted().map(Step::Member),
        Some('\'') => {
            cursor.bump();
            let name = cursor.take_while(|c| c != '\'').to_owned();
            cursor.expect("'", "a quote is not closed")?;
            Ok(Step::Member(name))
        }
        _ => {
            let digits = cursor.take_while(|c| c.is_ascii_digit());
            let index = digits.parse().map_err(|_| cursor.error("an index is expected"))?;
            Ok(Step::Element(index))
        }
    }
}

impl Selector {
    fn find<'v>(&self, event: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![event];
        for step in &self.steps {
            let next = found.into_iter();
            found = match step {
                Step::Member(name) => next.filter_map(|value| value.get(name)).collect(),
                Step::Element(index) => next.filter_map(|value| value.get(index)).collect(),
                Step::EveryElement => next.filter_map(Value::as_array).flatten().collect(),
            };
        }
        found
    }
}

impl Condition {
    pub(super) fn matches(&self, event: &Value) -> bool {
        match self {
            Self::All(list) => list.iter().all(|condition| condition.matches(event)),
            Self::Any(list) => list.iter().any(|condition| condition.matches(event)),
            Self::Is(selector, Test::NotExists) => selector.find(event).is_empty(),
            Self::Is(selector, test) => {
                selector.find(event).into_iter().any(|value| test.holds(value))
            }
        }
    }

    pub(super) fn extract(&self, event: &Value) -> BTreeMap<String, String> {
        match self {
            Self::All(list) | Self::Any(list) => {
                list.iter().flat_map(|condition| condition.extract(event)).collect()
            }
            Self::Is(selector, _) => {
                let value = selector.find(event).into_iter().find_map(scalar);
                value.map(|value| (selector.written.clone(), value)).into_iter().collect()
            }
        }
    }
}

impl Test {
    fn holds(&self, value: &Value) -> bool {
        match self {
            Self::IsNull => value.is_null(),
            Self::IsTrue => *value == Value::Bool(true),
            Self::IsFalse => *value == Value::Bool(false),
            Self::Exists => true,
            Self::NotExists => false,
            Self::Compares(operator, operand) => match (value, operand) {
                (Value::Number(number), Operand::Number(wanted, _)) => {
                    number.as_f64().is_some_and(|number| operator.holds(number, *wanted))
                }
                // A text is not a number, even if it looks like one: only its spelling counts.
                (Value::String(text), Operand::Number(_, written)) => match operator {
                    Operator::Equal => text == written,
                    Operator::NotEqual => text != written,
                    Operator::Less
                    | Operator::LessOrEqual
                    | Operator::Greater
                    | Operator::GreaterOrEqual => false,
                },
                _ => scalar(value).is_some_and(|text| operand.compares(*operator, &text)),
            },
        }
    }
}

/// A value that has a text of its own.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pattern;

    const EVENT: &str = r#"{
        "eventType": "UpdateTrail", "sourceIPAddress": "111.111.111.111", "bandwidth": 75.5,
        "code": "200", "latency": 1e-3, "ok": true, "bad": false, "nothing": null,
        "arrayKey": ["value", "another value"], "a-b": 1, "a.b": "dotted",
        "objectList": [{"name": "a", "id": 1}, {"name": "b", "id": 2}], "empty": ""
    }"#;

    #[test]
    fn conditions_hold_as_the_table_says() {
        let table = [
            (r#"{ $.eventType = "UpdateTrail" }"#, true),
            (r#"{ $.eventType = UpdateTrail }"#, true),
            (r#"{$.eventType="Update*"}"#, true),
            (r#"{ $.eventType = "update*" }"#, false),
            (r#"{ $.eventType != "UpdateTrail" }"#, false),
            (r#"{ $.sourceIPAddress != 123.123.* }"#, true),
            (r#"{ $.sourceIPAddress = 111.* }"#, true),
            (r#"{ $.arrayKey[0] = "value" }"#, true),
            (r#"{ $.arrayKey[1] = "value" }"#, false),
            (r#"{ $.arrayKey[9] NOT EXISTS }"#, true),
            (r#"{ $.arrayKey[*] = "another*" }"#, true),
            (r#"{ $.arrayKey = "value" }"#, false),
            (r#"{ $.objectList[1].id = 2 }"#, true),
            (r#"{ $.objectList[*].name = "b" }"#, true),
            (r#"{ $.bandwidth > 75 }"#, true),
            (r#"{ $.bandwidth >= 75.5 && $.bandwidth <= 75.5 }"#, true),
            (r#"{ $.bandwidth < 75 }"#, false),
            (r#"{ $.bandwidth = 7.55e1 }"#, true),
            (r#"{ $.latency = 1e-3 }"#, true),
            (r#"{ $.latency < -1 }"#, false),
            (r#"{ $.code = 200 }"#, true),
            (r#"{ $.code > 100 }"#, false),
            (r#"{ $.ok IS TRUE }"#, true),
            (r#"{ $.ok = true }"#, true),
            (r#"{ $.bad IS FALSE }"#, true),
            (r#"{ $.nothing IS NULL }"#, true),
            (r#"{ $.missing IS NULL }"#, false),
            (r#"{ $.missing NOT EXISTS }"#, true),
            (r#"{ $.nothing NOT EXISTS }"#, false),
            (r#"{ $.missing != "x" }"#, false),
            (r#"{ $.empty = "" }"#, true),
            (r#"{ $.eventType = * }"#, true),
            (r#"{ $.a-b = 1 }"#, true),
            (r#"{ $["a.b"] = "dotted" && $['a.b'] = dotted }"#, true),
            (r#"{ $.eventType = %^Up[a-z]+Trail$% }"#, true),
            (r#"{ $.eventType != %Trail% }"#, false),
            (r#"{ $.ok IS FALSE || $.bad IS FALSE && $.code = 201 }"#, false),
            (r#"{ ($.ok IS TRUE || $.bad IS TRUE) && ($.code = 200) }"#, true),
        ];
        for (text, expected) in table {
            let pattern = Pattern::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(pattern.matches(EVENT), expected, "{text}");
        }
    }

    #[test]
    fn an_event_that_is_no_json_does_not_match() {
        let pattern = Pattern::parse("{ $.a NOT EXISTS }").unwrap();
        assert!(!pattern.matches("plain text"));
        assert!(!pattern.matches("{ broken"));
        assert!(!pattern.matches("prefix {\"b\": 1}"));
        assert!(pattern.matches("{\"b\": 1}"));
    }

    #[test]
    fn a_broken_condition_is_refused() {
        for text in [
            "{",
            "{}",
            "{ $.a }",
            "{ $.a = }",
            "{ $.a = 1",
            "{ a = 1 }",
            "{ $ = 1 }",
            "{ $.a IS }",
            "{ $.a IS 5 }",
            "{ $.a NOT }",
            "{ $.a > x }",
            "{ $.a = 1 & $.b = 2 }",
            "{ ($.a = 1 }",
            "{ $.a[x] = 1 }",
            "{ $.a = 1 } x",
            "{ $.a = \"x }",
            "{ $.a > \"1\" }",
            "{ $. = 1 }",
        ] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn selectors_give_their_values() {
        let pattern = Pattern::parse("{ $.code = 200 && $.bandwidth > 1 }").unwrap();
        let values = pattern.extract(EVENT);
        assert_eq!(values.get("$.code").map(String::as_str), Some("200"));
        assert_eq!(values.get("$.bandwidth").map(String::as_str), Some("75.5"));
    }
}
