//! A place in a pattern's text, and the lexical pieces that all three kinds of pattern share.

use regex::{Regex, RegexBuilder};

use super::{DEPTH_MAX, PatternError, REGEXES_MAX};

pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    regexes: usize,
    depth: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, regexes: 0, depth: 0 }
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn bump(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    pub(super) fn skip_spaces(&mut self) {
        self.take_while(char::is_whitespace);
    }

    pub(super) fn take_while(&mut self, is_part: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// Skips `token` if it comes next.
    pub(super) fn eat(&mut self, token: &str) -> bool {
        let is_next = self.rest().starts_with(token);
        if is_next {
            self.at += token.len();
        }
        is_next
    }

    /// Skips `word` if it comes next and ends there, whatever its case.
    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let rest = self.rest();
        let Some(head) = rest.get(..word.len()) else { return false };
        let follows = rest[word.len()..].chars().next();
        let is_next = head.eq_ignore_ascii_case(word)
            && follows.is_none_or(|c| !c.is_alphanumeric() && c != '_');
        if is_next {
            self.at += word.len();
        }
        is_next
    }

    pub(super) fn expect(&mut self, token: &str, what: &'static str) -> Result<(), PatternError> {
        self.skip_spaces();
        if self.eat(token) { Ok(()) } else { Err(self.error(what)) }
    }

    pub(super) fn error(&self, what: &'static str) -> PatternError {
        PatternError::Syntax { what, at: self.at }
    }

    /// Runs `inner` one level deeper, or refuses to.
    pub(super) fn nested<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, PatternError>,
    ) -> Result<T, PatternError> {
        if self.depth == DEPTH_MAX {
            return Err(self.error("too many parentheses"));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    /// What stands between double quotes, with `\"` and `\\` undone and other escapes kept.
    pub(super) fn quoted(&mut self) -> Result<String, PatternError> {
        self.expect("\"", "a quote is expected")?;
        let mut out = String::new();
        while let Some(next) = self.bump() {
            match next {
                '"' => return Ok(out),
                '\\' if matches!(self.peek(), Some('"' | '\\')) => out.extend(self.bump()),
                other => out.push(other),
            }
        }
        Err(self.error("a quote is not closed"))
    }

    /// What stands between percent signs, compiled.
    pub(super) fn regex(&mut self) -> Result<Regex, PatternError> {
        self.expect("%", "a percent sign is expected")?;
        let mut source = String::new();
        loop {
            match self.bump() {
                None => return Err(self.error("a regular expression is not closed")),
                Some('%') => break,
                Some('\\') => {
                    source.push('\\');
                    source.extend(self.bump());
                }
                Some(other) => source.push(other),
            }
        }
        self.regexes += 1;
        if self.regexes > REGEXES_MAX {
            return Err(PatternError::Regexes);
        }
        compile(&source)
    }
}

/// Amazon's subset: no groups, ASCII only. What is left runs in linear time.
fn compile(source: &str) -> Result<Regex, PatternError> {
    let refused = || PatternError::Regex(source.to_owned());
    let is_allowed = |c: char| {
        c.is_ascii_alphanumeric() || c.is_whitespace() || "_#=@/;,-:^$?[]{}|\\*+.\"'".contains(c)
    };
    let mut escaped = false;
    for c in source.chars() {
        // An escaped character stands for itself, whatever it is.
        if !escaped && !is_allowed(c) || !c.is_ascii() {
            return Err(refused());
        }
        escaped = c == '\\' && !escaped;
    }
    if source.is_empty() {
        return Err(refused());
    }
    RegexBuilder::new(source).size_limit(1 << 20).build().map_err(|_| refused())
}
