//! The filter pattern language: terms, JSON conditions and space-delimited fields.
//!
//! ```text
//! ERROR "went wrong" -DEBUG              all of these, none of those
//! ?ERROR ?WARN                           any of these
//! %5[0-9][0-9]%                          a regular expression
//! { $.code >= 500 && $.path = "/api/*" } conditions on a JSON event
//! [ip, user, ..., status=5*, bytes]      conditions on fields between spaces
//! ```
//! Parsing is total: any text is a pattern or a refusal that says where. Matching never fails.

mod cursor;
mod fields;
mod json;
mod terms;
mod value;

use std::collections::BTreeMap;

use cursor::Cursor;

/// The longest pattern, in characters.
pub const PATTERN_CHARS_MAX: usize = 1024;
/// Regular expressions in one pattern.
pub const REGEXES_MAX: usize = 2;
/// Parentheses within parentheses.
pub const DEPTH_MAX: usize = 32;

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("Invalid character(s) in term '{0}'")]
    Term(String),
    #[error("Invalid filter pattern: {what} at position {at}")]
    Syntax { what: &'static str, at: usize },
    #[error("Invalid regular expression '{0}' in filter pattern")]
    Regex(String),
    #[error("Filter pattern has more than {REGEXES_MAX} regular expressions")]
    Regexes,
    #[error("Filter pattern is longer than {PATTERN_CHARS_MAX} characters")]
    Length,
}

/// A parsed filter pattern. The default one matches everything.
#[derive(Clone, Debug, Default)]
pub struct Pattern(Kind);

#[derive(Clone, Debug, Default)]
enum Kind {
    #[default]
    All,
    Terms(terms::Terms),
    Json(json::Condition),
    Fields(fields::Fields),
}

impl Pattern {
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.chars().count() > PATTERN_CHARS_MAX {
            return Err(PatternError::Length);
        }
        let mut cursor = Cursor::new(text);
        cursor.skip_spaces();
        let kind = match cursor.peek() {
            None => Kind::All,
            Some('{') => Kind::Json(json::parse(&mut cursor)?),
            Some('[') => Kind::Fields(fields::parse(&mut cursor)?),
            Some(_) => Kind::Terms(terms::parse(&mut cursor)?),
        };
        cursor.skip_spaces();
        match cursor.peek() {
            None => Ok(Self(kind)),
            Some(_) => Err(cursor.error("unexpected text after the pattern")),
        }
    }

    pub fn matches(&self, message: &str) -> bool {
        match &self.0 {
            Kind::All => true,
            Kind::Terms(terms) => terms.matches(message),
            Kind::Json(condition) => {
                json::read(message).is_some_and(|event| condition.matches(&event))
            }
            Kind::Fields(fields) => fields.matches(message),
        }
    }

    /// The values that the pattern names in a message that it matches, by `$name` or selector.
    pub fn extract(&self, message: &str) -> BTreeMap<String, String> {
        match &self.0 {
            Kind::All | Kind::Terms(_) => BTreeMap::new(),
            Kind::Json(condition) => {
                json::read(message).map(|event| condition.extract(&event)).unwrap_or_default()
            }
            Kind::Fields(fields) => fields.extract(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,60}", message in ".{0,60}") {
            if let Ok(pattern) = Pattern::parse(&text) {
                let _ = pattern.matches(&message);
                let _ = pattern.extract(&message);
            }
        }

        #[test]
        fn nothing_like_a_pattern_makes_the_parser_panic(
            text in r#"[\[{( ]{0,3}([$.a0*"%?&|=<>!,\[\]{}() \\-]|IS|NOT|EXISTS|NULL|\.\.\.){0,20}[\]}) ]{0,2}"#,
            message in r#"[{"a0: \[\],}]{0,20}"#,
        ) {
            if let Ok(pattern) = Pattern::parse(&text) {
                let _ = pattern.matches(&message);
                let _ = pattern.extract(&message);
            }
        }

        #[test]
        fn a_quoted_phrase_matches_exactly_the_messages_that_contain_it(
            phrase in "[a-z \\[\\]{}?%-]{1,6}", before in "[a-z ]{0,4}", after in "[a-z ]{0,4}",
        ) {
            let pattern = Pattern::parse(&format!("\"{phrase}\"")).unwrap();
            let with_it = format!("{before}{phrase}{after}");
            prop_assert!(pattern.matches(&with_it));
            prop_assert_eq!(pattern.matches(&before), before.contains(&phrase));
        }
    }

    #[test]
    fn an_empty_pattern_matches_everything() {
        assert!(Pattern::parse("  ").unwrap().matches("anything"));
        assert!(Pattern::default().matches(""));
    }

    #[test]
    fn a_pattern_over_the_limits_is_refused() {
        assert_eq!(Pattern::parse(&"x".repeat(1025)).unwrap_err(), PatternError::Length);
        let deep = format!("{{ {}$.a = 1{} }}", "(".repeat(40), ")".repeat(40));
        assert!(matches!(Pattern::parse(&deep).unwrap_err(), PatternError::Syntax { .. }));
        let many = "{ $.a = %x% || $.a = %y% || $.a = %z% }";
        assert_eq!(Pattern::parse(many).unwrap_err(), PatternError::Regexes);
    }
}
