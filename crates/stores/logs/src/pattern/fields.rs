//! Patterns in brackets: conditions on the fields of an event that are divided by spaces.
//!
//! In an event, what stands between double quotes or brackets is one field.

use std::collections::BTreeMap;

use super::PatternError;
use super::cursor::Cursor;
use super::value::{Operand, Operator};

#[derive(Clone, Debug)]
pub(super) struct Fields {
    /// The fields before `...`, or all of them.
    first: Vec<Field>,
    /// The fields after `...`, if it is there.
    last: Option<Vec<Field>>,
}

#[derive(Clone, Debug)]
struct Field {
    name: String,
    condition: Option<Condition>,
}

#[derive(Clone, Debug)]
enum Condition {
    All(Vec<Self>),
    Any(Vec<Self>),
    Is { name: String, operator: Operator, operand: Operand },
}

pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Fields, PatternError> {
    cursor.expect("[", "a bracket is expected")?;
    let mut fields = Fields { first: Vec::new(), last: None };
    loop {
        cursor.skip_spaces();
        if cursor.eat("...") {
            if fields.last.is_some() {
                return Err(cursor.error("an ellipsis may stand only once"));
            }
            fields.last = Some(Vec::new());
        } else {
            let field = field(cursor)?;
            fields.last.as_mut().unwrap_or(&mut fields.first).push(field);
        }
        cursor.skip_spaces();
        if cursor.eat("]") {
            break;
        }
        cursor.expect(",", "a comma or a closing bracket is expected")?;
    }
    fields.check_names(cursor)?;
    Ok(fields)
}

fn field(cursor: &mut Cursor<'_>) -> Result<Field, PatternError> {
    let mut ahead = Cursor::new(cursor.rest());
    ahead.take_while(|c| c == '(' || c.is_whitespace());
    let name = name(&mut ahead)?;
    ahead.skip_spaces();
    // A bare name: nothing is asked of the field but that it is there.
    if matches!(ahead.peek(), Some(',' | ']')) && cursor.peek() != Some('(') {
        cursor.take_while(is_name);
        return Ok(Field { name, condition: None });
    }
    Ok(Field { name, condition: Some(any(cursor)?) })
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || "_-.@$#/:".contains(c)
}

fn name(cursor: &mut Cursor<'_>) -> Result<String, PatternError> {
    let name = cursor.take_while(is_name);
    if name.is_empty() {
        Err(cursor.error("a field's name is expected"))
    } else {
        Ok(name.to_owned())
    }
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
    let name = name(cursor)?;
    let operator =
        Operator::parse(cursor).ok_or_else(|| cursor.error("an operator is expected"))?;
    let operand = Operand::parse(cursor, operator, &[',', ']', ')', '&', '|'])?;
    Ok(Condition::Is { name, operator, operand })
}

impl Fields {
    fn all(&self) -> impl Iterator<Item = &Field> {
        self.first.iter().chain(self.last.iter().flatten())
    }

    /// A condition may only name fields of the pattern.
    fn check_names(&self, cursor: &Cursor<'_>) -> Result<(), PatternError> {
        let known: Vec<&str> = self.all().map(|field| field.name.as_str()).collect();
        let conditions = self.all().filter_map(|field| field.condition.as_ref());
        for condition in conditions {
            let mut named = Vec::new();
            condition.names(&mut named);
            if named.iter().any(|name| !known.contains(name)) {
                return Err(cursor.error("a condition names a field that is not there"));
            }
        }
        Ok(())
    }

    /// Each field of the pattern with its value, if the event has a fitting number of fields.
    fn assign<'a>(&'a self, message: &'a str) -> Option<Vec<(&'a Field, &'a str)>> {
        let values = split(message);
        let named = self.all().count();
        let fits = match self.last {
            None => values.len() == named,
            Some(_) => values.len() >= named,
        };
        let tail = self.last.as_ref().map_or(0, Vec::len);
        fits.then(|| {
            let last = values[values.len() - tail..].iter().copied();
            let first = values[..named - tail].iter().copied();
            self.all().zip(first.chain(last)).collect()
        })
    }

    pub(super) fn matches(&self, message: &str) -> bool {
        self.assign(message).is_some_and(|fields| {
            let by_name: BTreeMap<&str, &str> =
                fields.iter().map(|(field, value)| (field.name.as_str(), *value)).collect();
            let mut conditions = self.all().filter_map(|field| field.condition.as_ref());
            conditions.all(|condition| condition.holds(&by_name))
        })
    }

    pub(super) fn extract(&self, message: &str) -> BTreeMap<String, String> {
        let fields = self.assign(message).unwrap_or_default();
        let named = fields.into_iter();
        named.map(|(field, value)| (format!("${}", field.name), value.to_owned())).collect()
    }
}

impl Condition {
    fn holds(&self, values: &BTreeMap<&str, &str>) -> bool {
        match self {
            Self::All(list) => list.iter().all(|condition| condition.holds(values)),
            Self::Any(list) => list.iter().any(|condition| condition.holds(values)),
            Self::Is { name, operator, operand } => {
                values.get(name.as_str()).is_some_and(|value| operand.compares(*operator, value))
            }
        }
    }

    fn names<'a>(&'a self, into: &mut Vec<&'a str>) {
        match self {
            Self::All(list) | Self::Any(list) => {
                list.iter().for_each(|condition| condition.names(into));
            }
            Self::Is { name, .. } => into.push(name),
        }
    }
}

/// An event's fields. A quote or bracket that is never closed ends with the event.
fn split(message: &str) -> Vec<&str> {
    let mut fields = Vec::new();
    let mut rest = message.trim_start();
    while let Some(start) = rest.chars().next() {
        let close = match start {
            '"' => Some('"'),
            '[' => Some(']'),
            _ => None,
        };
        let (field, after) = match close {
            Some(close) => rest[1..].split_once(close).unwrap_or((&rest[1..], "")),
            None => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                rest.split_at(end)
            }
        };
        fields.push(field);
        rest = after.trim_start();
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::super::Pattern;
    use super::*;

    const LINE: &str =
        r#"127.0.0.1 Prod frank [10/Oct/2000:13:25:15 -0700] "GET /index.html HTTP/1.0" 404 1534"#;

    #[test]
    fn quotes_and_brackets_hold_a_field_together() {
        let fields = split(LINE);
        assert_eq!(fields.len(), 7);
        assert_eq!(fields[3], "10/Oct/2000:13:25:15 -0700");
        assert_eq!(fields[4], "GET /index.html HTTP/1.0");
        assert_eq!(split("  a   \"b c"), ["a", "b c"]);
        assert_eq!(split(""), [""; 0]);
    }

    #[test]
    fn fields_match_as_the_table_says() {
        let table = [
            ("[ip, user, username, timestamp, request, status_code, bytes]", true),
            ("[ip, user]", false),
            ("[ip, ...]", true),
            ("[...]", true),
            ("[..., status_code, bytes]", true),
            ("[ip, user, username, timestamp, request, status_code, bytes, more]", false),
            ("[ip, user, username, timestamp, request = *.html*, status_code = 4*, bytes]", true),
            ("[ip, user, username, timestamp, request = *.html*, status_code = 5*, bytes]", false),
            ("[..., status_code = 404 || status_code = 410, bytes]", true),
            ("[..., status_code = 4* && status_code != 404, bytes]", false),
            ("[..., (status_code = 404 || status_code = 410) && bytes > 1000, bytes]", true),
            ("[..., bytes > 1534]", false),
            ("[..., bytes >= 1534]", true),
            ("[ip != 10.*, ..., status, bytes]", true),
            (r"[ip=%127\.0\.0\.[1-9]%, ...]", true),
            ("[ip, ..., request = \"GET*\", status, bytes]", true),
            ("[w1 = \"127.0.0.1\", ...]", true),
        ];
        for (text, expected) in table {
            let pattern = Pattern::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(pattern.matches(LINE), expected, "{text}");
        }
    }

    #[test]
    fn broken_fields_are_refused() {
        for text in
            ["[", "[]", "[a", "[a,]", "[..., ...]", "[a=]", "[a=1, b=2 c]", "[a, b=x && c=1]"]
        {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn fields_give_their_values_by_name() {
        let values = Pattern::parse("[ip, ..., status, bytes]").unwrap().extract(LINE);
        assert_eq!(values.get("$ip").map(String::as_str), Some("127.0.0.1"));
        assert_eq!(values.get("$bytes").map(String::as_str), Some("1534"));
    }
}
