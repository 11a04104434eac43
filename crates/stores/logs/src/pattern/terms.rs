//! Unstructured patterns: words, phrases and regular expressions that a message has or has not.

use regex::Regex;

use super::PatternError;
use super::cursor::Cursor;

#[derive(Clone, Debug, Default)]
pub(super) struct Terms {
    wanted: Vec<Term>,
    unwanted: Vec<Term>,
    /// Count only if there is nothing else: Amazon ignores them beside other terms.
    optional: Vec<Term>,
}

#[derive(Clone, Debug)]
enum Term {
    Text(String),
    Regex(Regex),
}

impl Term {
    fn is_in(&self, message: &str) -> bool {
        match self {
            Self::Text(text) => message.contains(text.as_str()),
            Self::Regex(regex) => regex.is_match(message),
        }
    }
}

impl Terms {
    pub(super) fn matches(&self, message: &str) -> bool {
        if self.wanted.is_empty() && self.unwanted.is_empty() {
            return self.optional.iter().any(|term| term.is_in(message));
        }
        self.wanted.iter().all(|term| term.is_in(message))
            && !self.unwanted.iter().any(|term| term.is_in(message))
    }
}

pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Terms, PatternError> {
    let mut terms = Terms::default();
    loop {
        cursor.skip_spaces();
        let list = match cursor.peek() {
            None => return Ok(terms),
            Some('?') => {
                cursor.bump();
                &mut terms.optional
            }
            Some('-') => {
                cursor.bump();
                &mut terms.unwanted
            }
            Some(_) => &mut terms.wanted,
        };
        list.push(term(cursor)?);
    }
}

fn term(cursor: &mut Cursor<'_>) -> Result<Term, PatternError> {
    match cursor.peek() {
        Some('"') => cursor.quoted().map(Term::Text),
        Some('%') => cursor.regex().map(Term::Regex),
        _ => {
            let word = cursor.take_while(|c| !c.is_whitespace());
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            if word.is_empty() {
                return Err(cursor.error("a term is expected"));
            }
            if !word.chars().all(is_word) {
                return Err(PatternError::Term(word.to_owned()));
            }
            Ok(Term::Text(word.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pattern;
    use super::*;

    #[test]
    fn terms_match_as_the_table_says() {
        let events = [
            "[ERROR 400] BAD REQUEST",
            "[ERROR 401] UNAUTHORIZED REQUEST",
            "[ERROR 419] MISSING ARGUMENTS",
            "[WARN 1] slow",
            "[INFO] all \"well\"",
        ];
        let table: &[(&str, &[usize])] = &[
            ("ERROR", &[0, 1, 2]),
            ("error", &[]),
            ("ERROR REQUEST", &[0, 1]),
            ("REQUEST ERROR", &[0, 1]),
            ("?ERROR ?WARN", &[0, 1, 2, 3]),
            ("?slow", &[3]),
            ("\"BAD REQUEST\"", &[0]),
            ("ERROR -400", &[1, 2]),
            ("-ERROR", &[3, 4]),
            ("ERROR -\"MISSING ARG\" -401", &[0]),
            ("?WARN ERROR", &[0, 1, 2]),
            ("%40[01]%", &[0, 1]),
            ("%^\\[ERROR%", &[0, 1, 2]),
            ("-%4[0-9][0-9]%", &[3, 4]),
            ("\"\\\"well\\\"\"", &[4]),
        ];
        for (text, expected) in table {
            let pattern = Pattern::parse(text).unwrap();
            let hit: Vec<usize> =
                (0..events.len()).filter(|n| pattern.matches(events[*n])).collect();
            assert_eq!(hit, *expected, "{text}");
        }
    }

    #[test]
    fn a_term_with_other_characters_must_be_quoted() {
        for (text, term) in
            [("foo-bar", "foo-bar"), ("Error:", "Error:"), ("ok /health", "/health")]
        {
            assert_eq!(Pattern::parse(text).unwrap_err(), PatternError::Term(term.to_owned()));
        }
        for text in ["\"open", "%open", "-", "?", "%(a)%", "%a!%", "%é%", "%%", "%[%"] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }
}
