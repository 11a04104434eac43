//! Which part of an event is meant: `$.detail.containers[0].name`.

use crate::Json;

/// Why a text is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a path begins with $, and goes on with .name, [number] and [*]")]
pub struct NotAPath;

/// A path into an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Name(String),
    Index(usize),
    /// Every element of an array, or every member of an object.
    All,
}

impl InputPath {
    pub fn parse(text: &str) -> Result<Self, NotAPath> {
        let mut left = text.strip_prefix('$').ok_or(NotAPath)?;
        let mut steps = Vec::new();
        while !left.is_empty() {
            let (step, behind) = match left.strip_prefix('.') {
                Some(name) => {
                    let end = name.find(['.', '[']).unwrap_or(name.len());
                    let (name, behind) = name.split_at_checked(end).ok_or(NotAPath)?;
                    (named(name)?, behind)
                }
                None => {
                    let inside = left.strip_prefix('[').ok_or(NotAPath)?;
                    let (inside, behind) = inside.split_once(']').ok_or(NotAPath)?;
                    (bracketed(inside)?, behind)
                }
            };
            steps.push(step);
            left = behind;
        }
        Ok(Self(steps))
    }

    /// What is there, if anything is: with `*`, an array of all that is.
    pub fn of(&self, event: &Json) -> Option<Json> {
        let mut found = vec![event];
        for step in &self.0 {
            found = found.into_iter().flat_map(|value| step.of(value)).collect();
        }
        if self.0.contains(&Step::All) {
            return Some(Json::List(found.into_iter().cloned().collect()));
        }
        found.first().map(|value| (*value).clone())
    }
}

fn named(name: &str) -> Result<Step, NotAPath> {
    let is_part =
        |each: char| each.is_alphanumeric() || matches!(each, '-' | '_' | '/' | ':' | '$');
    match name {
        "*" => Ok(Step::All),
        name if !name.is_empty() && name.chars().all(is_part) => Ok(Step::Name(name.to_owned())),
        _ => Err(NotAPath),
    }
}

fn bracketed(inside: &str) -> Result<Step, NotAPath> {
    let quoted = |quote| inside.strip_prefix(quote).and_then(|rest: &str| rest.strip_suffix(quote));
    if let Some(name) = quoted('\'').or_else(|| quoted('"')).filter(|name| !name.is_empty()) {
        return Ok(Step::Name(name.to_owned()));
    }
    match inside {
        "*" => Ok(Step::All),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().map(Step::Index).map_err(|_| NotAPath)
        }
        _ => Err(NotAPath),
    }
}

impl Step {
    fn of<'a>(&self, value: &'a Json) -> Vec<&'a Json> {
        match (self, value) {
            (Self::Name(name), Json::Object(_)) => value.get(name).into_iter().collect(),
            (Self::Index(index), Json::List(items)) => items.get(*index).into_iter().collect(),
            (Self::All, Json::List(items)) => items.iter().collect(),
            (Self::All, Json::Object(members)) => members.iter().map(|(_, value)| value).collect(),
            (Self::Name(_) | Self::Index(_) | Self::All, _) => Vec::new(),
        }
    }
}
