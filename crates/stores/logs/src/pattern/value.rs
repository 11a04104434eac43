//! Comparisons: what stands to the right of a selector or a field's name.

use regex::Regex;

use super::PatternError;
use super::cursor::Cursor;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug)]
pub(super) enum Operand {
    /// The number, and how it was written.
    Number(f64, String),
    Text(Wildcard),
    Regex(Regex),
}

/// A text in which `*` stands for any run of characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wildcard {
    parts: Vec<String>,
}

impl Wildcard {
    fn new(text: &str) -> Self {
        Self { parts: text.split('*').map(str::to_owned).collect() }
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        let [first, middle @ .., last] = self.parts.as_slice() else {
            return self.parts.first().is_some_and(|only| only == text);
        };
        let Some(rest) = text.strip_prefix(first.as_str()) else { return false };
        let Some(mut rest) = rest.strip_suffix(last.as_str()) else { return false };
        for part in middle {
            // The leftmost place leaves most room for the parts that follow.
            let Some(at) = rest.find(part.as_str()) else { return false };
            rest = &rest[at + part.len()..];
        }
        true
    }
}

impl Operator {
    pub(super) fn parse(cursor: &mut Cursor<'_>) -> Option<Self> {
        cursor.skip_spaces();
        let operators = [
            ("!=", Self::NotEqual),
            ("<=", Self::LessOrEqual),
            (">=", Self::GreaterOrEqual),
            ("=", Self::Equal),
            ("<", Self::Less),
            (">", Self::Greater),
        ];
        operators.into_iter().find(|(token, _)| cursor.eat(token)).map(|(_, operator)| operator)
    }

    pub(super) fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }
}

impl Operand {
    /// A quoted text, a regular expression, or whatever stands before one of `ends` or a space.
    pub(super) fn parse(
        cursor: &mut Cursor<'_>,
        operator: Operator,
        ends: &[char],
    ) -> Result<Self, PatternError> {
        cursor.skip_spaces();
        let operand = match cursor.peek() {
            Some('"') => Self::Text(Wildcard::new(&cursor.quoted()?)),
            Some('%') => Self::Regex(cursor.regex()?),
            _ => {
                let bare = cursor.take_while(|c| !c.is_whitespace() && !ends.contains(&c));
                if bare.is_empty() {
                    return Err(cursor.error("a value is expected"));
                }
                match bare.parse::<f64>() {
                    Ok(number) if number.is_finite() => Self::Number(number, bare.to_owned()),
                    _ => Self::Text(Wildcard::new(bare)),
                }
            }
        };
        let is_ordering = !matches!(operator, Operator::Equal | Operator::NotEqual);
        if is_ordering && !matches!(operand, Self::Number(..)) {
            return Err(cursor.error("only numbers can be compared by size"));
        }
        Ok(operand)
    }

    /// Whether `text` compares so to this operand.
    pub(super) fn compares(&self, operator: Operator, text: &str) -> bool {
        let is_equal = match self {
            Self::Number(number, written) => match text.parse::<f64>() {
                Ok(value) => return operator.holds(value, *number),
                Err(_) => text == written,
            },
            Self::Text(wildcard) => wildcard.matches(text),
            Self::Regex(regex) => regex.is_match(text),
        };
        match operator {
            Operator::Equal => is_equal,
            Operator::NotEqual => !is_equal,
            Operator::Less
            | Operator::LessOrEqual
            | Operator::Greater
            | Operator::GreaterOrEqual => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_star_stands_for_any_run() {
        let table = [
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*a", "a", false),
            ("*", "", true),
            ("*b*", "abc", true),
            ("*b*b*", "abc", false),
            ("abc", "abcd", false),
            ("", "", true),
            ("", "x", false),
            ("a**c", "abc", true),
        ];
        for (pattern, text, expected) in table {
            assert_eq!(Wildcard::new(pattern).matches(text), expected, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn a_wildcard_agrees_with_the_regular_expression(
            pattern in "[ab*]{0,6}", text in "[ab]{0,8}",
        ) {
            let regex = format!("^{}$", pattern.replace('*', ".*"));
            let expected = Regex::new(&regex).unwrap().is_match(&text);
            prop_assert_eq!(Wildcard::new(&pattern).matches(&text), expected);
        }
    }
}
