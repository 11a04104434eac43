//! Wildcards of conditions: `*` is any run of characters, also an empty one, `?` is exactly one.

/// How letters are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    Counts,
    /// Of ASCII letters only: hosts and header values have no others that would matter.
    Ignored,
}

/// A pattern split into what is compared one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glob(Vec<Piece>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Run,
    Any,
    Letter(char),
}

impl Glob {
    /// `has_escapes`: a backslash before `*`, `?` or another backslash makes the letter itself of it.
    pub(crate) fn new(pattern: &str, case: Case, has_escapes: bool) -> Self {
        let mut pieces = Vec::with_capacity(pattern.len());
        let mut letters = pattern.chars().peekable();
        while let Some(letter) = letters.next() {
            let escaped = match letter {
                '\\' if has_escapes => letters.next_if(|next| matches!(next, '*' | '?' | '\\')),
                _ => None,
            };
            pieces.push(match (letter, escaped) {
                (_, Some(escaped)) => Piece::Letter(escaped),
                ('*', None) if pieces.last() == Some(&Piece::Run) => continue,
                ('*', None) => Piece::Run,
                ('?', None) => Piece::Any,
                (letter, None) => Piece::Letter(folded(letter, case)),
            });
        }
        Self(pieces)
    }

    /// Whether the whole of `value` is of this form. Takes at most the product of both lengths.
    pub(crate) fn is_match(&self, value: &str, case: Case) -> bool {
        let pieces = &self.0;
        let (mut at, mut rest) = (0, value.chars());
        // Where to go back to: behind the last run seen, which then takes one letter more.
        let mut back: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            if let Some(Piece::Run) = pieces.get(at) {
                at += 1;
                back = Some((at, rest.clone()));
                continue;
            }
            let fits = match (pieces.get(at), rest.next()) {
                (None, None) => return true,
                (Some(Piece::Any), Some(_)) => true,
                (Some(Piece::Letter(wanted)), Some(letter)) => *wanted == folded(letter, case),
                (Some(_), None) => return false,
                (Some(Piece::Run), Some(_)) | (None, Some(_)) => false,
            };
            if fits {
                at += 1;
                continue;
            }
            let Some((after_run, mut longer)) = back else { return false };
            longer.next();
            (at, rest) = (after_run, longer.clone());
            back = Some((after_run, longer));
        }
    }
}

fn folded(letter: char, case: Case) -> char {
    match case {
        Case::Counts => letter,
        Case::Ignored => letter.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_match(pattern: &str, value: &str) -> bool {
        Glob::new(pattern, Case::Counts, false).is_match(value, Case::Counts)
    }

    #[test]
    fn wildcards_match_as_documented() {
        for (pattern, value, expected) in [
            ("/img/*", "/img/", true),
            ("/img/*", "/img/a/b.png", true),
            ("/img/*", "/img", false),
            ("/img/*/pics", "/img/x/y/pics", true),
            ("/img/*/pics", "/img/pics", false),
            ("/a?c", "/abc", true),
            ("/a?c", "/ac", false),
            ("/a?c", "/abbc", false),
            ("*.example.com", "test.example.com", true),
            ("*.example.com", "example.com", false),
            ("*", "", true),
            ("**a**", "bab", true),
            ("", "", true),
            ("", "a", false),
            ("?", "é", true),
            ("/A", "/a", false),
        ] {
            assert_eq!(is_match(pattern, value), expected, "{pattern} {value}");
        }
    }

    #[test]
    fn an_escaped_wildcard_is_the_letter_itself() {
        let glob = Glob::new(r"a\*\?\\b*", Case::Counts, true);
        assert!(glob.is_match(r"a*?\bcd", Case::Counts));
        assert!(!glob.is_match(r"axy\bcd", Case::Counts));
    }

    #[test]
    fn many_runs_do_not_take_long() {
        let pattern = "*a".repeat(64);
        assert!(!is_match(&pattern, &"a".repeat(63)));
        assert!(is_match(&pattern, &format!("{}a", "a".repeat(4000))));
        assert!(!is_match(&pattern, &format!("{}b", "a".repeat(4000))));
    }

    /// The definition, letter by letter: slow and plainly right.
    fn by_definition(pattern: &[char], value: &[char]) -> bool {
        match pattern.split_first() {
            None => value.is_empty(),
            Some(('*', rest)) => (0..=value.len()).any(|skip| by_definition(rest, &value[skip..])),
            Some(('?', rest)) => !value.is_empty() && by_definition(rest, &value[1..]),
            Some((letter, rest)) => {
                value.first() == Some(letter) && by_definition(rest, &value[1..])
            }
        }
    }

    proptest! {
        #[test]
        fn a_glob_matches_what_the_definition_matches(pattern in "[ab*?]{0,8}", value in "[abé]{0,8}") {
            let (p, v): (Vec<char>, Vec<char>) = (pattern.chars().collect(), value.chars().collect());
            prop_assert_eq!(is_match(&pattern, &value), by_definition(&p, &v));
        }
    }
}
