//! A listener made ready to be asked: rules in order, patterns split, regular expressions compiled.

use std::fmt;

use regex::{Regex, RegexBuilder};

use crate::balancer::Listener;
use crate::glob::{Case, Glob};
use crate::head::{Head, decoded, normal_path, query_pairs};
use crate::ids::RuleId;
use crate::limits::{REGEX_COMPILED_BYTES_MAX, REWRITTEN_BYTES_MAX};
use crate::rule::{Condition, Pattern, Rewrite, Rule};
use crate::source::Source;

/// Why a regular expression cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{regex}' is no regular expression that can be used: {why}")]
pub struct NotARegex {
    pub regex: String,
    pub why: String,
}

/// Compiles a regular expression as conditions and transforms take it. The API asks this before it takes one. Without the
/// case of letters, as hosts and headers are compared: that takes the most room.
pub fn check_regex(regex: &str) -> Result<(), NotARegex> {
    compile(regex, Case::Ignored).map(|_| ())
}

fn compile(regex: &str, case: Case) -> Result<Regex, NotARegex> {
    RegexBuilder::new(regex)
        .case_insensitive(case == Case::Ignored)
        .size_limit(REGEX_COMPILED_BYTES_MAX)
        .build()
        .map_err(|error| NotARegex { regex: regex.to_owned(), why: error.to_string() })
}

/// The rules of a listener, ready to be asked.
#[derive(Debug)]
pub struct Rules {
    /// By priority; the default is the last.
    rules: Vec<CompiledRule>,
    /// What could not be understood: such a rule never holds.
    pub faults: Vec<(RuleId, NotARegex)>,
}

/// A rule ready to be asked.
#[derive(Debug)]
pub struct CompiledRule {
    pub rule: Rule,
    tests: Vec<Test>,
    host: Option<CompiledRewrite>,
    url: Option<CompiledRewrite>,
}

#[derive(Debug)]
enum Test {
    Host(Vec<Matches>),
    Path(Vec<Matches>),
    Header(String, Vec<Matches>),
    Query(Vec<(Option<Glob>, Glob)>),
    Method(Vec<String>),
    Source(Vec<Source>),
}

enum Matches {
    Glob(Glob, Case),
    Exact(String),
    Regex(Regex),
}

impl fmt::Debug for Matches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Glob(glob, case) => write!(f, "{glob:?} {case:?}"),
            Self::Exact(text) => write!(f, "{text:?}"),
            Self::Regex(regex) => write!(f, "{}", regex.as_str()),
        }
    }
}

#[derive(Debug)]
struct CompiledRewrite {
    regex: Regex,
    replace: String,
}

impl Rules {
    pub fn new(listener: &Listener) -> Self {
        let (mut rules, mut faults) = (Vec::new(), Vec::new());
        for rule in &listener.rules {
            match CompiledRule::new(rule) {
                Ok(compiled) => rules.push(compiled),
                Err(why) => faults.push((rule.id.clone(), why)),
            }
        }
        rules.sort_by(|a, b| {
            let order = |rule: &Rule| (rule.priority.is_none(), rule.priority, rule.id.clone());
            order(&a.rule).cmp(&order(&b.rule))
        });
        Self { rules, faults }
    }

    /// The first rule that holds for a request; `None` only if the listener has no default.
    pub fn find(&self, head: &Head<'_>) -> Option<&CompiledRule> {
        let path = normal_path(head.path);
        self.rules.iter().find(|rule| rule.tests.iter().all(|test| test.holds(head, &path)))
    }

    /// The listener's default: all that a network balancer's listener has.
    pub fn default_rule(&self) -> Option<&CompiledRule> {
        self.rules.last().filter(|rule| rule.rule.priority.is_none())
    }

    pub fn all(&self) -> &[CompiledRule] {
        &self.rules
    }
}

impl CompiledRule {
    fn new(rule: &Rule) -> Result<Self, NotARegex> {
        let rewrite = |rewrite: &Option<Rewrite>, case| match rewrite {
            None => Ok(None),
            Some(Rewrite { regex, replace }) => {
                let regex = compile(regex, case)?;
                Ok(Some(CompiledRewrite { regex, replace: braced(replace) }))
            }
        };
        Ok(Self {
            rule: rule.clone(),
            tests: rule.conditions.iter().map(Test::new).collect::<Result<_, _>>()?,
            host: rewrite(&rule.transforms.host, Case::Ignored)?,
            url: rewrite(&rule.transforms.url, Case::Counts)?,
        })
    }

    /// The host after the rule's transform: `Ok(None)` if it has none or nothing matched.
    pub fn rewritten_host(&self, host: &str) -> Result<Option<String>, RewriteFailed> {
        let new = self.host.as_ref().and_then(|rewrite| rewrite.apply(host)).transpose()?;
        let is_host = |text: &String| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte))
        };
        new.map_or(Ok(None), |new| if is_host(&new) { Ok(Some(new)) } else { Err(RewriteFailed) })
    }

    /// Path and query after the rule's transform: `Ok(None)` if it has none or nothing matched.
    pub fn rewritten_url(&self, path_and_query: &str) -> Result<Option<String>, RewriteFailed> {
        let new =
            self.url.as_ref().and_then(|rewrite| rewrite.apply(path_and_query)).transpose()?;
        let is_url = |text: &String| {
            text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        new.map_or(Ok(None), |new| if is_url(&new) { Ok(Some(new)) } else { Err(RewriteFailed) })
    }
}

/// What a transform made is no host, no path, or too long: the request is answered with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a transform made something that is no host or path")]
pub struct RewriteFailed;

impl CompiledRewrite {
    /// The text with its first match replaced; `None` if nothing matches.
    fn apply(&self, text: &str) -> Option<Result<String, RewriteFailed>> {
        if !self.regex.is_match(text) {
            return None;
        }
        let new = self.regex.replace(text, self.replace.as_str());
        Some(if new.len() <= REWRITTEN_BYTES_MAX {
            Ok(new.into_owned())
        } else {
            Err(RewriteFailed)
        })
    }
}

/// `$1` to `$9` as the library reads them: it would take `$1a` for a group of that name. Any other `$` is itself.
fn braced(replace: &str) -> String {
    let mut out = String::with_capacity(replace.len() + 8);
    let mut letters = replace.chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, letters.peek().copied()) {
            ('$', Some(digit)) if digit.is_ascii_digit() => {
                letters.next();
                out.extend(["${", digit.to_string().as_str(), "}"]);
            }
            ('$', _) => out.push_str("$$"),
            (letter, _) => out.push(letter),
        }
    }
    out
}

impl Test {
    fn new(condition: &Condition) -> Result<Self, NotARegex> {
        let all = |patterns: &[Pattern], case: Case| -> Result<Vec<Matches>, NotARegex> {
            patterns
                .iter()
                .map(|pattern| match pattern {
                    Pattern::Wildcard(text) => {
                        Ok(Matches::Glob(Glob::new(text, case, false), case))
                    }
                    Pattern::Exact(text) => Ok(Matches::Exact(text.clone())),
                    Pattern::Regex(regex) => compile(regex, case).map(Matches::Regex),
                })
                .collect()
        };
        let escaped = |text: &str| Glob::new(text, Case::Ignored, true);
        Ok(match condition {
            Condition::HostHeader(values) => Self::Host(all(values, Case::Ignored)?),
            Condition::PathPattern(values) => Self::Path(all(values, Case::Counts)?),
            Condition::HttpHeader { name, values } => {
                Self::Header(name.to_ascii_lowercase(), all(values, Case::Ignored)?)
            }
            Condition::QueryString(pairs) => Self::Query(
                pairs
                    .iter()
                    .map(|(key, value)| (key.as_deref().map(escaped), escaped(value)))
                    .collect(),
            ),
            Condition::HttpRequestMethod(methods) => Self::Method(methods.clone()),
            Condition::SourceIp(sources) => Self::Source(sources.clone()),
        })
    }

    fn holds(&self, head: &Head<'_>, path: &str) -> bool {
        let any = |values: &[Matches], text: &str| values.iter().any(|value| value.is_match(text));
        match self {
            Self::Host(values) => any(values, head.host),
            Self::Path(values) => any(values, path),
            Self::Header(name, values) => head.headers.any(name, &mut |text| any(values, text)),
            Self::Query(pairs) => {
                let ignored = Case::Ignored;
                query_pairs(head.query.unwrap_or_default()).any(|(key, value)| {
                    let (key, value) = (decoded(key), decoded(value));
                    pairs.iter().any(|(wanted, glob)| {
                        wanted.as_ref().is_none_or(|wanted| wanted.is_match(&key, ignored))
                            && glob.is_match(&value, ignored)
                    })
                })
            }
            Self::Method(methods) => methods.iter().any(|method| method == head.method),
            Self::Source(sources) => sources.iter().any(|source| source.contains(head.peer)),
        }
    }
}

impl Matches {
    fn is_match(&self, text: &str) -> bool {
        match self {
            Self::Glob(glob, case) => glob.is_match(text, *case),
            Self::Exact(exact) => exact == text,
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}
