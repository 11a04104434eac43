//! The model's constraints, checked by walking a decoded input once.
//!
//! The tables say what must hold; how a service words a violation is its [`Wording`]. ECS's own
//! checks are mostly not in its model: those are its handlers' work.

mod report;

use longshore_types::Timestamp;

use crate::codec::{Encode, Encoder};
use crate::error::ApiError;
use crate::shape::{Limits, List, Map, Member, Number, Shape, Structure, Text, TimestampFormat};

/// How a service reports what its model forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wording {
    /// "1 validation error detected: Value … at … failed to satisfy constraint: …"
    Standard { code: &'static str },
    /// Amazon ECR's "Invalid parameter at …".
    Ecr,
    /// Amazon ECS: lists and unknown values are left to the handlers.
    Ecs,
    /// Amazon EC2's `MissingParameter` and `InvalidParameterValue`.
    Ec2,
}

/// What a value fails to satisfy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Constraint {
    Present,
    LengthMin(u64),
    LengthMax(u64),
    Pattern(&'static str),
    OneOf(&'static [&'static str]),
    ValueMin(f64),
    ValueMax(f64),
    /// The same, of a map's keys.
    KeyLengthMin(u64),
    KeyLengthMax(u64),
    KeyPattern(&'static str),
}

/// One value, where it is, and what it fails to satisfy.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    /// The steps from the input, as `["tags", "1", "member", "key"]`.
    pub(crate) path: Vec<String>,
    /// The type that holds the member.
    pub(crate) owner: &'static str,
    /// The operation's input itself holds the member.
    pub(crate) is_top: bool,
    pub(crate) is_list: bool,
    pub(crate) value: Option<String>,
    pub(crate) constraint: Constraint,
}

/// How many violations are looked for; one request can hold very many.
const VIOLATIONS_MAX: usize = 10;
/// How much of a bad value is repeated to the caller.
const ECHO_CHARS_MAX: usize = 2048;

/// Checks an operation's input; the error is what the service would say.
pub fn check(
    value: &dyn Encode,
    table: &'static Structure,
    wording: Wording,
) -> Result<(), ApiError> {
    let mut walk = Walk {
        path: vec![],
        frames: vec![],
        shape: Shape::Structure(table),
        sensitive: false,
        containers: 0,
        echo: None,
        found: vec![],
    };
    value.encode(Shape::Structure(table), &mut walk);
    let mut found = walk.found;
    if wording == Wording::Ecs {
        found.retain(|violation| {
            let is_handlers = violation.is_top && violation.is_list && is_about_absence(violation);
            !is_handlers && !matches!(violation.constraint, Constraint::OneOf(_))
        });
    }
    if found.is_empty() { Ok(()) } else { Err(report::error(&found, wording)) }
}

/// Whether a list is missing or too short: ECS looks for the cluster before it says so.
fn is_about_absence(violation: &Violation) -> bool {
    matches!(violation.constraint, Constraint::Present | Constraint::LengthMin(_))
}

/// A step from the input to a value.
#[derive(Clone, Debug)]
enum Step {
    Member(&'static Member),
    /// Items are numbered from one, as AWS does.
    Item(usize),
    Key(String),
}

/// A structure that the walk is inside of, and how many of its members were passed.
struct Frame {
    table: &'static Structure,
    passed: usize,
}

/// A list or map that failed, whose items are collected to be shown.
struct Echo {
    violations: std::ops::Range<usize>,
    depth: usize,
    text: String,
}

struct Walk {
    path: Vec<Step>,
    frames: Vec<Frame>,
    /// Of the value that comes next.
    shape: Shape,
    sensitive: bool,
    containers: usize,
    echo: Option<Echo>,
    found: Vec<Violation>,
}

impl Walk {
    fn violation(&mut self, value: Option<String>, constraint: Constraint) {
        if self.found.len() < VIOLATIONS_MAX {
            let mut violation = self.at_here(constraint);
            violation.value = value.map(|value| self.shown(value));
            self.found.push(violation);
        }
    }

    fn shown(&self, value: String) -> String {
        if self.sensitive {
            return "***".to_owned();
        }
        match value.char_indices().nth(ECHO_CHARS_MAX) {
            Some((end, _)) => value[..end].to_owned(),
            None => value,
        }
    }

    fn at_here(&self, constraint: Constraint) -> Violation {
        let mut path = vec![];
        for step in &self.path {
            match step {
                Step::Member(member) => path.push(member.name.to_owned()),
                Step::Item(number) => path.extend([number.to_string(), "member".to_owned()]),
                Step::Key(key) => path.extend([key.clone(), "member".to_owned()]),
            }
        }
        Violation {
            path,
            owner: self.frames.last().map_or("", |frame| frame.table.name),
            is_top: self.frames.len() == 1,
            is_list: matches!(self.shape, Shape::List(_)),
            value: None,
            constraint,
        }
    }

    /// Reports the required members between those passed and `until`.
    fn missing(&mut self, until: usize) {
        let Some(frame) = self.frames.last() else { return };
        let (table, from) = (frame.table, frame.passed);
        for member in table.members.get(from..until).unwrap_or_default() {
            if member.required {
                let shape = std::mem::replace(&mut self.shape, member.shape);
                self.path.push(Step::Member(member));
                self.violation(None, Constraint::Present);
                self.path.pop();
                self.shape = shape;
            }
        }
    }

    fn count(&mut self, limits: Limits, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let before = self.found.len();
        if let Some(min) = limits.min.filter(|min| count < *min) {
            self.violation(Some(String::new()), Constraint::LengthMin(min));
        }
        if let Some(max) = limits.max.filter(|max| *max < count) {
            self.violation(Some(String::new()), Constraint::LengthMax(max));
        }
        if before < self.found.len() && self.echo.is_none() {
            let violations = before..self.found.len();
            self.echo = Some(Echo { violations, depth: self.containers, text: String::new() });
        }
    }

    fn enter(&mut self) {
        self.containers += 1;
    }

    fn leave(&mut self) {
        self.containers -= 1;
        if let Some(echo) = self.echo.take_if(|echo| echo.depth == self.containers) {
            for violation in &mut self.found[echo.violations] {
                violation.value = Some(format!("[{}]", echo.text));
            }
        }
    }

    /// Adds a scalar to the list that is being shown, if one is.
    fn echo(&mut self, value: &dyn std::fmt::Display) {
        let sensitive = self.sensitive;
        if let Some(echo) = &mut self.echo
            && echo.text.len() < ECHO_CHARS_MAX
        {
            let separator = if echo.text.is_empty() { "" } else { ", " };
            let shown = if sensitive { "***".to_owned() } else { value.to_string() };
            echo.text.push_str(&format!("{separator}{shown}"));
        }
    }

    fn number(&mut self, value: f64, text: &dyn std::fmt::Display) {
        self.echo(text);
        let Shape::Number(Number { min, max, .. }) = self.shape else { return };
        if let Some(min) = min.filter(|min| value < *min) {
            self.violation(Some(text.to_string()), Constraint::ValueMin(min));
        }
        if let Some(max) = max.filter(|max| *max < value) {
            self.violation(Some(text.to_string()), Constraint::ValueMax(max));
        }
    }

    fn key_text(&mut self, shape: &'static Text, key: &str) {
        let (min, max) = bad_length(shape.limits, key);
        let shown = || Some(key.to_owned());
        if let Some(min) = min {
            self.violation(shown(), Constraint::KeyLengthMin(min));
        }
        if let Some(max) = max {
            self.violation(shown(), Constraint::KeyLengthMax(max));
        }
        if let Some(pattern) = &shape.pattern
            && !pattern.matches(key)
        {
            self.violation(shown(), Constraint::KeyPattern(pattern.text));
        }
    }

    fn next(&mut self, step: Step, member: &'static Member) {
        self.path.push(step);
        self.shape = member.shape;
        self.sensitive =
            member.sensitive || matches!(member.shape, Shape::Text(Text { sensitive: true, .. }));
    }
}

/// The bounds that a text's length breaks. Lengths are counted as Java does, in UTF-16 units.
fn bad_length(limits: Limits, text: &str) -> (Option<u64>, Option<u64>) {
    if limits.min.is_none() && limits.max.is_none() {
        return (None, None);
    }
    let units = text.encode_utf16().count();
    let units = u64::try_from(units).unwrap_or(u64::MAX);
    (limits.min.filter(|min| units < *min), limits.max.filter(|max| *max < units))
}

impl Encoder for Walk {
    fn begin_structure(&mut self, table: &'static Structure) {
        self.enter();
        self.frames.push(Frame { table, passed: 0 });
        // A place for the step of each member in turn.
        self.path.push(Step::Item(0));
    }

    fn member(&mut self, member: &'static Member) {
        self.path.pop();
        if let Some(frame) = self.frames.last() {
            let (table, passed) = (frame.table, frame.passed);
            let rest = &table.members[passed..];
            let ahead = rest.iter().position(|other| std::ptr::eq(other, member));
            let index = passed + ahead.unwrap_or(0);
            self.missing(index);
            if let Some(frame) = self.frames.last_mut() {
                frame.passed = index + 1;
            }
        }
        self.next(Step::Member(member), member);
    }

    fn end_structure(&mut self, table: &'static Structure) {
        self.path.pop();
        self.missing(table.members.len());
        self.frames.pop();
        self.leave();
    }

    fn begin_list(&mut self, list: &'static List, count: usize) {
        self.count(list.limits, count);
        self.enter();
        self.path.push(Step::Item(0));
    }

    fn item(&mut self, list: &'static List) {
        let number = match self.path.pop() {
            Some(Step::Item(number)) => number + 1,
            _ => 1,
        };
        self.next(Step::Item(number), &list.item);
    }

    fn end_list(&mut self, _: &'static List) {
        self.path.pop();
        self.leave();
    }

    fn begin_map(&mut self, map: &'static Map, count: usize) {
        self.count(map.limits, count);
        self.enter();
        self.path.push(Step::Item(0));
    }

    fn key(&mut self, map: &'static Map, key: &str) {
        self.path.pop();
        if let Shape::Text(shape) = map.key.shape {
            self.key_text(shape, key);
        }
        self.next(Step::Key(key.to_owned()), &map.value);
    }

    fn end_map(&mut self, _: &'static Map) {
        self.path.pop();
        self.leave();
    }

    fn text(&mut self, value: &str) {
        self.echo(&value);
        let Shape::Text(shape) = self.shape else { return };
        let shown = || Some(value.to_owned());
        if !shape.values.is_empty() && !shape.values.contains(&value) {
            self.violation(shown(), Constraint::OneOf(shape.values));
        }
        if let Some(pattern) = &shape.pattern
            && !pattern.matches(value)
        {
            self.violation(shown(), Constraint::Pattern(pattern.text));
        }
        let (min, max) = bad_length(shape.limits, value);
        if let Some(max) = max {
            self.violation(shown(), Constraint::LengthMax(max));
        }
        if let Some(min) = min {
            self.violation(shown(), Constraint::LengthMin(min));
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "bounds are small numbers")]
    fn integer(&mut self, value: i64) {
        self.number(value as f64, &value);
    }

    fn float(&mut self, value: f32) {
        self.number(f64::from(value), &value);
    }

    fn double(&mut self, value: f64) {
        self.number(value, &value);
    }

    fn boolean(&mut self, value: bool) {
        self.echo(&value);
    }

    fn timestamp(&mut self, value: Timestamp, _: Option<TimestampFormat>) {
        self.echo(&value);
    }

    fn blob(&mut self, value: &[u8]) {
        self.echo(&"java.nio.HeapByteBuffer");
        let Shape::Blob(limits) = self.shape else { return };
        let count = u64::try_from(value.len()).unwrap_or(u64::MAX);
        if let Some(min) = limits.min.filter(|min| count < *min) {
            self.violation(Some("a blob".to_owned()), Constraint::LengthMin(min));
        }
        if let Some(max) = limits.max.filter(|max| *max < count) {
            self.violation(Some("a blob".to_owned()), Constraint::LengthMax(max));
        }
    }

    fn document(&mut self, _: &serde_json::Value) {}

    fn null(&mut self) {}
}

#[cfg(test)]
mod tests;
