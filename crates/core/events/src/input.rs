//! What a target is given in an event's place.
//!
//! A template is JSON in which `<name>` stands for a value, by itself or within a string; or several such strings, a line
//! each. It is read once into a tree, so what comes out is JSON whatever an event holds.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::rc::Rc;

use longshore_types::Timestamp;

use crate::json::{self, Json};
use crate::limits::{INPUT_BYTES_MAX, VARIABLES_MAX};
use crate::{InputPath, NotAPath, NotJson};

/// Why paths and a template make no transformer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotATransformer {
    #[error("it has more than {VARIABLES_MAX} variables")]
    Many,
    #[error(
        "{name} is no variable's name: it has letters, digits, - and _, and does not begin with AWS"
    )]
    Name { name: String },
    #[error("the path of {name} is wrong: {why}")]
    Path { name: String, why: NotAPath },
    #[error("its template names <{name}>, which is no variable")]
    Unknown { name: String },
    #[error("its template has a variable as the name of a member")]
    Key,
    #[error("its template is neither JSON nor text in quotes: {0}")]
    Template(NotJson),
}

/// What came of a template is longer than any target takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what the template makes of the event has more than {INPUT_BYTES_MAX} bytes")]
pub struct TooLong;

/// What a template may say of the rule that matched.
#[derive(Clone, Copy, Debug)]
pub struct RuleInfo<'a> {
    pub arn: &'a str,
    pub name: &'a str,
    /// When the event came in.
    pub ingested: Timestamp,
}

/// An input transformer, read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputTransformer {
    paths: BTreeMap<String, InputPath>,
    lines: Vec<Part>,
}

/// A value of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Fixed(Json),
    /// A variable by itself.
    Hole(String),
    /// A string with variables in it.
    Text(Vec<Piece>),
    List(Vec<Part>),
    Object(Vec<(String, Part)>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Hole(String),
}

const RESERVED: [&str; 5] = [
    "aws.events.rule-arn",
    "aws.events.rule-name",
    "aws.events.event.ingestion-time",
    "aws.events.event",
    "aws.events.event.json",
];

/// Begins a string that stands for a variable by itself; of a plane that has no characters.
const MARK: char = '\u{f0000}';

impl InputTransformer {
    /// `paths` by the variables' names.
    pub fn parse(
        paths: &BTreeMap<String, String>,
        template: &str,
    ) -> Result<Self, NotATransformer> {
        if VARIABLES_MAX < paths.len() {
            return Err(NotATransformer::Many);
        }
        let mut read = BTreeMap::new();
        for (name, path) in paths {
            let is_reserved = name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("aws"));
            if is_reserved || name.is_empty() || !name.chars().all(is_of_name) {
                return Err(NotATransformer::Name { name: name.clone() });
            }
            let path = InputPath::parse(path);
            let path = path.map_err(|why| NotATransformer::Path { name: name.clone(), why })?;
            read.insert(name.clone(), path);
        }
        let values = json::values(&marked(template)).map_err(NotATransformer::Template)?;
        let is_known = |name: &str| paths.contains_key(name) || RESERVED.contains(&name);
        let lines: Result<_, _> = values.into_iter().map(|value| part(value, &is_known)).collect();
        Ok(Self { paths: read, lines: lines? })
    }

    /// The target's input. A variable of which the event has nothing is left out: with its member or element where it is by
    /// itself, as nothing within a string.
    /// `whole` is the event's envelope.
    pub fn apply(&self, whole: &Json, rule: RuleInfo<'_>) -> Result<String, TooLong> {
        let look_up = |name: &str| match name {
            "aws.events.rule-arn" => Some(Json::from(rule.arn)),
            "aws.events.rule-name" => Some(Json::from(rule.name)),
            "aws.events.event.ingestion-time" => {
                Some(Json::from(crate::event::seconds(rule.ingested)))
            }
            "aws.events.event.json" => Some(whole.clone()),
            "aws.events.event" => Some(without_detail(whole)),
            name => self.paths.get(name)?.of(whole),
        };
        let values = Values {
            look_up: &look_up,
            known: RefCell::default(),
            left: Cell::new(INPUT_BYTES_MAX),
        };
        let mut text = String::new();
        for (index, line) in self.lines.iter().enumerate() {
            let filled = line.filled(&values)?.unwrap_or(Json::Text(String::new()));
            // Writing to a string does not fail.
            let _ = write!(text, "{}{filled}", if index == 0 { "" } else { "\n" });
        }
        Ok(text)
    }
}

/// A variable's value, if it has one, and how long that is as text.
type Known = Option<Rc<(Json, usize)>>;

/// The values of variables, each looked up once, as far as there is room for them.
struct Values<'a> {
    look_up: &'a dyn Fn(&str) -> Option<Json>,
    known: RefCell<BTreeMap<String, Known>>,
    /// How much longer what is made may become.
    left: Cell<usize>,
}

impl Values<'_> {
    /// The value for one more place.
    fn get(&self, name: &str) -> Result<Known, TooLong> {
        let known = self.known.borrow().get(name).cloned();
        let value = known.unwrap_or_else(|| {
            let value = (self.look_up)(name).map(|value| {
                let length = value.to_string().len();
                Rc::new((value, length))
            });
            self.known.borrow_mut().insert(name.to_owned(), value.clone());
            value
        });
        if let Some(value) = &value {
            let left = self.left.get().checked_sub(value.1).ok_or(TooLong)?;
            self.left.set(left);
        }
        Ok(value)
    }
}

fn is_of_name(each: char) -> bool {
    each.is_ascii_alphanumeric() || matches!(each, '-' | '_')
}

fn without_detail(event: &Json) -> Json {
    match event {
        Json::Object(members) => {
            Json::Object(members.iter().filter(|(name, _)| name != "detail").cloned().collect())
        }
        other => other.clone(),
    }
}

/// What stands behind a `<` if it is a variable, and what follows.
fn variable(behind: &str) -> Option<(&str, &str)> {
    let (name, rest) = behind.split_once('>')?;
    let is_name = !name.is_empty() && name.chars().all(|each| is_of_name(each) || each == '.');
    is_name.then_some((name, rest))
}

/// A template as JSON: variables that are by themselves become strings with a mark.
fn marked(template: &str) -> String {
    let mut marked = String::with_capacity(template.len());
    let (mut is_quoted, mut is_escaped) = (false, false);
    let mut left = template;
    while let Some(each) = left.chars().next() {
        let behind = left.get(each.len_utf8()..).unwrap_or_default();
        if let ('<', false, Some((name, rest))) = (each, is_quoted, variable(behind)) {
            // Writing to a string does not fail.
            let _ = write!(marked, "\"{MARK}{name}\"");
            left = rest;
            continue;
        }
        match each {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ => {}
        }
        marked.push(each);
        left = behind;
    }
    marked
}

fn part(value: Json, is_known: &dyn Fn(&str) -> bool) -> Result<Part, NotATransformer> {
    let known = |name: &str| match is_known(name) {
        true => Ok(name.to_owned()),
        false => Err(NotATransformer::Unknown { name: name.to_owned() }),
    };
    match value {
        Json::Text(text) => match text.strip_prefix(MARK) {
            Some(name) => known(name).map(Part::Hole),
            None => pieces(&text, &known),
        },
        Json::List(items) => {
            let items: Result<_, _> = items.into_iter().map(|item| part(item, is_known)).collect();
            Ok(Part::List(items?))
        }
        Json::Object(members) => {
            let mut found = Vec::new();
            for (name, value) in members {
                if name.starts_with(MARK) {
                    return Err(NotATransformer::Key);
                }
                found.push((name, part(value, is_known)?));
            }
            Ok(Part::Object(found))
        }
        scalar @ (Json::Null | Json::Bool(_) | Json::Number(_)) => Ok(Part::Fixed(scalar)),
    }
}

fn pieces(
    text: &str,
    known: &dyn Fn(&str) -> Result<String, NotATransformer>,
) -> Result<Part, NotATransformer> {
    let mut pieces = Vec::new();
    let (mut literal, mut left) = (String::new(), text);
    while let Some((before, behind)) = left.split_once('<') {
        literal.push_str(before);
        match variable(behind) {
            Some((name, rest)) => {
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
                pieces.push(Piece::Hole(known(name)?));
                left = rest;
            }
            None => {
                literal.push('<');
                left = behind;
            }
        }
    }
    literal.push_str(left);
    if pieces.is_empty() {
        return Ok(Part::Fixed(Json::Text(literal)));
    }
    pieces.push(Piece::Text(literal));
    Ok(Part::Text(pieces))
}

impl Part {
    /// With the variables' values; `None` if it is one that has none.
    fn filled(&self, values: &Values<'_>) -> Result<Option<Json>, TooLong> {
        let filled = match self {
            Self::Fixed(value) => value.clone(),
            Self::Hole(name) => return Ok(values.get(name)?.map(|value| value.0.clone())),
            Self::Text(pieces) => {
                let mut text = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Text(piece) => text.push_str(piece),
                        Piece::Hole(name) => match values.get(name)?.as_deref() {
                            Some((Json::Text(value), _)) => text.push_str(value),
                            Some((value, _)) => {
                                // Writing to a string does not fail.
                                let _ = write!(text, "{value}");
                            }
                            None => {}
                        },
                    }
                }
                Json::Text(text)
            }
            Self::List(items) => {
                let filled = items.iter().filter_map(|item| item.filled(values).transpose());
                Json::List(filled.collect::<Result<_, _>>()?)
            }
            Self::Object(members) => {
                let filled = members.iter().filter_map(|(name, part)| {
                    let value = part.filled(values).transpose()?;
                    Some(value.map(|value| (name.clone(), value)))
                });
                Json::Object(filled.collect::<Result<_, _>>()?)
            }
        };
        Ok(Some(filled))
    }
}
