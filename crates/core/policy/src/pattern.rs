//! A text of a policy with its wildcards and variables split, ready to be matched.
//!
//! A variable that the request has no value for, and that has no default, is nothing: never the empty
//! string. What it is part of matches nothing, and [`Pattern::matches`] says so as `None`.

use std::borrow::Cow;

use crate::context::{Contexts, Key};
use crate::glob::{self, Piece};
use crate::malformed::{Fault, Syntax};
use crate::sought::Pairs;

/// What of a text has a meaning of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grammar {
    pub(crate) wildcards: bool,
    pub(crate) variables: bool,
    /// Fields between colons: variables only in the sixth, stars inside the others stop at colons.
    pub(crate) arn: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Piece(Piece<'static>),
    Variable { key: Key, default: Option<Box<str>> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    source: Box<str>,
    shape: Shape,
    /// What is in every text that it matches.
    needed: Pairs,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    Any,
    Exact(Box<str>),
    Prefix(Box<str>),
    Glob { head: Box<str>, tail: Box<[Piece<'static>]> },
    Template { head: Box<str>, tail: Box<[Part]> },
}

impl Shape {
    fn needed(&self) -> Pairs {
        match self {
            Self::Any => Pairs::default(),
            Self::Exact(text) | Self::Prefix(text) => Pairs::of(text),
            Self::Glob { head, tail } => {
                let pieces = tail.iter().map(Pairs::of_piece);
                pieces.fold(Pairs::of(head), Pairs::or)
            }
            Self::Template { head, tail } => {
                let pieces = tail.iter().map(|part| match part {
                    Part::Piece(piece) => Pairs::of_piece(piece),
                    Part::Variable { .. } => Pairs::default(),
                });
                pieces.fold(Pairs::of(head), Pairs::or)
            }
        }
    }
}

impl Pattern {
    pub(crate) fn compile(source: &str, grammar: Grammar) -> Result<Self, Fault> {
        let mut tail = parts(source, grammar)?;
        let head: Box<str> = match tail.first_mut() {
            Some(Part::Piece(Piece::Text(text))) => std::mem::take(text).into(),
            Some(Part::Piece(_) | Part::Variable { .. }) | None => Box::default(),
        };
        tail.retain(|part| !matches!(part, Part::Piece(Piece::Text(text)) if text.is_empty()));
        let shape = match pieces(&tail) {
            None => Shape::Template { head, tail: tail.into() },
            Some(pieces) => match pieces.as_slice() {
                [] => Shape::Exact(head),
                [Piece::Star] if head.is_empty() => Shape::Any,
                [Piece::Star] => Shape::Prefix(head),
                _ => Shape::Glob { head, tail: pieces.into() },
            },
        };
        let needed = shape.needed();
        Ok(Self { source: source.into(), shape, needed })
    }

    /// What is in every text that it matches.
    pub(crate) fn needed(&self) -> Pairs {
        self.needed
    }

    /// Whether it matches whatever there is.
    pub(crate) fn is_any(&self) -> bool {
        self.shape == Shape::Any
    }

    /// As it was written.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// `None` if it has a variable without a value.
    pub(crate) fn matches(&self, subject: &str, context: Contexts<'_>) -> Option<bool> {
        match &self.shape {
            Shape::Any => Some(true),
            Shape::Exact(text) => Some(**text == *subject),
            Shape::Prefix(head) => Some(subject.starts_with(&**head)),
            Shape::Glob { head, tail } => Some(
                subject.strip_prefix(&**head).is_some_and(|subject| glob::matches(tail, subject)),
            ),
            Shape::Template { head, tail } => match subject.strip_prefix(&**head) {
                Some(subject) => Some(glob::matches(&resolve(tail, context)?, subject)),
                None => Some(false),
            },
        }
    }

    /// The text that it stands for, of a pattern that was compiled without wildcards.
    pub(crate) fn text(&self, context: Contexts<'_>) -> Option<Cow<'_, str>> {
        match &self.shape {
            Shape::Exact(text) => Some(Cow::Borrowed(text)),
            Shape::Template { head, tail } => {
                let mut text = String::from(&**head);
                for piece in resolve(tail, context)? {
                    match piece {
                        Piece::Text(part) => text.push_str(&part),
                        Piece::One | Piece::OneInSegment | Piece::Star | Piece::StarInSegment => {
                            return None;
                        }
                    }
                }
                Some(Cow::Owned(text))
            }
            Shape::Any | Shape::Prefix(_) | Shape::Glob { .. } => None,
        }
    }

    pub(crate) fn variables(&self) -> impl Iterator<Item = &str> {
        variables(self.variable_parts())
    }

    /// The parts, if there are variables among them.
    pub(crate) fn variable_parts(&self) -> &[Part] {
        match &self.shape {
            Shape::Template { tail, .. } => tail,
            Shape::Any | Shape::Exact(_) | Shape::Prefix(_) | Shape::Glob { .. } => &[],
        }
    }
}

/// How `ArnLike` and `ArnEquals` compare: six fields, each by itself, the last with its colons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ArnPattern {
    Fields(Vec<Vec<Piece<'static>>>),
    Template(Box<[Part]>),
}

impl ArnPattern {
    pub(crate) fn compile(source: &str, variables: bool) -> Result<Self, Fault> {
        let grammar = Grammar { wildcards: true, variables, arn: false };
        let parts = parts(source, grammar)?;
        Ok(match pieces(&parts) {
            Some(pieces) => Self::Fields(fields(&pieces)),
            None => Self::Template(parts.into()),
        })
    }

    pub(crate) fn matches(&self, subject: &str, context: Contexts<'_>) -> Option<bool> {
        match self {
            Self::Fields(fields) => Some(matches_arn(fields, subject)),
            Self::Template(parts) => Some(matches_arn(&fields(&resolve(parts, context)?), subject)),
        }
    }

    /// The parts, if there are variables among them.
    pub(crate) fn variable_parts(&self) -> &[Part] {
        match self {
            Self::Fields(_) => &[],
            Self::Template(parts) => parts,
        }
    }
}

/// The pieces between the first five colons of the texts.
fn fields(pieces: &[Piece<'_>]) -> Vec<Vec<Piece<'static>>> {
    let mut fields = vec![Vec::new()];
    for piece in pieces {
        let texts = match piece {
            Piece::Text(text) => text.splitn(7 - fields.len(), ':').map(Some).collect(),
            Piece::One | Piece::OneInSegment | Piece::Star | Piece::StarInSegment => vec![None],
        };
        for (index, text) in texts.into_iter().enumerate() {
            if index > 0 {
                fields.push(Vec::new());
            }
            let Some(field) = fields.last_mut() else { continue };
            match (text, piece) {
                (Some(""), _) => {}
                (Some(text), _) => field.push(Piece::Text(Cow::Owned(text.to_owned()))),
                (None, Piece::One | Piece::OneInSegment) => field.push(Piece::One),
                (None, Piece::Star | Piece::StarInSegment | Piece::Text(_)) => {
                    field.push(Piece::Star);
                }
            }
        }
    }
    fields
}

fn matches_arn(fields: &[Vec<Piece<'_>>], subject: &str) -> bool {
    let is_arn = subject.starts_with("arn:") && subject.splitn(6, ':').count() == 6;
    if !is_arn {
        return false;
    }
    // Not a pattern of an ARN, but nobody means anything else than "any" by it.
    if matches!(fields, [only] if only.as_slice() == [Piece::Star]) {
        return true;
    }
    fields.len() == 6
        && fields.iter().zip(subject.splitn(6, ':')).all(|(field, part)| glob::matches(field, part))
}

/// All pieces, or `None` if there is a variable among the parts.
fn pieces(parts: &[Part]) -> Option<Vec<Piece<'static>>> {
    let piece = |part: &Part| match part {
        Part::Piece(piece) => Some(piece.clone()),
        Part::Variable { .. } => None,
    };
    parts.iter().map(piece).collect()
}

pub(crate) fn variables(parts: &[Part]) -> impl Iterator<Item = &str> {
    parts.iter().filter_map(|part| match part {
        Part::Variable { key, .. } => Some(key.as_str()),
        Part::Piece(_) => None,
    })
}

/// What is in a variable is text: its stars are stars.
fn resolve<'a>(parts: &'a [Part], context: Contexts<'a>) -> Option<Vec<Piece<'a>>> {
    let mut pieces = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            Part::Piece(Piece::Text(text)) => pieces.push(Piece::Text(Cow::Borrowed(text))),
            Part::Piece(piece) => pieces.push(piece.clone()),
            Part::Variable { key, default } => {
                let value = context.single_text(key);
                let value = value.or(default.as_deref().map(Cow::Borrowed))?;
                if !value.is_empty() {
                    pieces.push(Piece::Text(value));
                }
            }
        }
    }
    Some(pieces)
}

/// Adds a character to the text that the parts end in.
fn push_char(parts: &mut Vec<Part>, c: char) {
    match parts.last_mut() {
        Some(Part::Piece(Piece::Text(text))) => text.to_mut().push(c),
        Some(Part::Piece(_) | Part::Variable { .. }) | None => {
            parts.push(Part::Piece(Piece::Text(Cow::Owned(c.to_string()))));
        }
    }
}

fn parts(source: &str, grammar: Grammar) -> Result<Vec<Part>, Fault> {
    let mut parts = Vec::new();
    let mut colons = 0;
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let is_in_fields = grammar.arn && colons < 5;
        if grammar.variables
            && let Some(opened) = rest.strip_prefix("${")
        {
            let (inner, after) = opened
                .split_once('}')
                .ok_or_else(|| Syntax::Variable(rest.chars().take(80).collect()))?;
            rest = after;
            match inner {
                "*" | "?" | "$" => inner.chars().for_each(|c| push_char(&mut parts, c)),
                _ if is_in_fields => {
                    variable(inner)?;
                    return Err(Fault::Legacy(source.to_owned()));
                }
                _ => parts.push(variable(inner)?),
            }
            continue;
        }
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
        let piece = match c {
            '*' if grammar.wildcards => {
                rest = rest.trim_start_matches('*');
                let ends_field = rest.is_empty() || rest.starts_with(':');
                if is_in_fields && !ends_field { Piece::StarInSegment } else { Piece::Star }
            }
            '?' if grammar.wildcards && is_in_fields => Piece::OneInSegment,
            '?' if grammar.wildcards => Piece::One,
            c => {
                colons += usize::from(c == ':');
                push_char(&mut parts, c);
                continue;
            }
        };
        parts.push(Part::Piece(piece));
    }
    Ok(parts)
}

/// What stands between `${` and `}`.
fn variable(inner: &str) -> Result<Part, Syntax> {
    let refuse = || Syntax::Variable(inner.chars().take(80).collect());
    let (key, default) = match inner.split_once(',') {
        Some((key, default)) => {
            let text = default.trim().strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
            (key, Some(text.filter(|text| !text.contains('\'')).ok_or_else(refuse)?))
        }
        None => (inner, None),
    };
    let key = key.trim();
    let is_odd = |c: char| c.is_control() || matches!(c, '\'' | '"' | '$' | '{' | '*' | '?');
    if key.is_empty() || key.contains(is_odd) {
        return Err(refuse());
    }
    Ok(Part::Variable { key: Key::new(key), default: default.map(Into::into) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Context;

    fn resource(source: &str) -> Pattern {
        let grammar = Grammar { wildcards: true, variables: true, arn: true };
        Pattern::compile(source, grammar).unwrap()
    }

    #[test]
    fn stars_of_resources_stop_at_colons_only_inside_a_field() {
        let context = Context::new();
        for (pattern, subject, wanted) in [
            ("*", "anything", true),
            ("arn:aws:ecs:*:1:cluster/x", "arn:aws:ecs:eu-west-1:1:cluster/x", true),
            ("arn:aws:ecs:us-*-1:1:cluster/x", "arn:aws:ecs:us-east-1:1:cluster/x", true),
            ("arn:aws:ecs:us-*1:1:cluster/x", "arn:aws:ecs:us-east-1:9:z1:1:cluster/x", false),
            ("arn:aws:ecs:us-*:1:cluster/x", "arn:aws:ecs:us-east-1:9:1:cluster/x", true),
            ("arn:aws:logs:*", "arn:aws:logs:us-east-1:1:log-group:a:b", true),
            ("arn:aws:logs:r:1:log-group:*x", "arn:aws:logs:r:1:log-group:a:bx", true),
            ("arn:aws:ecs:us-east-?:1:cluster/x", "arn:aws:ecs:us-east-1:1:cluster/x", true),
            ("arn:aws:ecs:us-east-1:1:cluster/?", "arn:aws:ecs:us-east-1:1:cluster/é", true),
        ] {
            assert_eq!(
                resource(pattern).matches(subject, (&context).into()),
                Some(wanted),
                "{pattern}"
            );
        }
    }

    #[test]
    fn a_variable_is_text_and_without_a_value_nothing() {
        let mut context = Context::new();
        context.set("aws:username", "a*c");
        context.set_list("aws:TagKeys", ["x"]);
        let matches =
            |pattern: &str, subject| resource(pattern).matches(subject, (&context).into());
        assert_eq!(matches("arn:aws:s3:::b/${aws:UserName}/*", "arn:aws:s3:::b/a*c/d"), Some(true));
        assert_eq!(matches("arn:aws:s3:::b/${aws:username}", "arn:aws:s3:::b/abc"), Some(false));
        assert_eq!(matches("arn:aws:s3:::b/${aws:userid}", "arn:aws:s3:::b/"), None);
        assert_eq!(matches("arn:aws:s3:::b/${aws:TagKeys}", "arn:aws:s3:::b/x"), None, "a list");
        assert_eq!(matches("arn:aws:s3:::b/${aws:userid, 'z'}", "arn:aws:s3:::b/z"), Some(true));
        assert_eq!(matches("arn:aws:s3:::b/${?}${$}{x}", "arn:aws:s3:::b/?${x}"), Some(true));
    }

    #[test]
    fn what_is_no_variable_is_refused() {
        let grammar = Grammar { wildcards: true, variables: true, arn: false };
        for bad in ["${", "${}", "${a:b", "${a:b, c}", "${a:b, 'c''}", "${'a'}", "${ }"] {
            assert!(Pattern::compile(bad, grammar).is_err(), "{bad}");
        }
        let early = "arn:aws:ecs:${aws:RequestedRegion}:1:x";
        let arn = Grammar { arn: true, ..grammar };
        assert_eq!(Pattern::compile(early, arn), Err(Fault::Legacy(early.to_owned())));
        let literal = Grammar { variables: false, ..grammar };
        assert!(Pattern::compile("${", literal).is_ok());
    }

    #[test]
    fn arns_are_compared_field_by_field() {
        let mut context = Context::new();
        context.set("aws:PrincipalArn", "arn:aws:iam::1:role/x");
        for (pattern, subject, wanted) in [
            ("arn:aws:s:*:1:f/*", "arn:aws:s:r:9:x:1:f/d", Some(false)),
            ("arn:aws:s:*:1:f/*", "arn:aws:s:r:1:f/d:e", Some(true)),
            ("arn:aws:s:r:1:a?c", "arn:aws:s:r:1:a:c", Some(true)),
            ("arn:aws:s:*", "arn:aws:s:r:1:x", Some(false)),
            ("*", "arn:aws:s:r:1:x", Some(true)),
            ("*", "no arn", Some(false)),
            ("${aws:PrincipalArn}", "arn:aws:iam::1:role/x", Some(true)),
            ("${aws:SourceArn}", "arn:aws:iam::1:role/x", None),
        ] {
            let compiled = ArnPattern::compile(pattern, true).unwrap();
            assert_eq!(compiled.matches(subject, (&context).into()), wanted, "{pattern} {subject}");
        }
    }
}
