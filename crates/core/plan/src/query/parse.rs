//! A recursive descent over the text; one function a level of precedence.

use longshore_types::Timestamp;
use regex::RegexBuilder;

use super::{Compare, DEPTH_MAX, Node, QueryError, Subject, Test, Value};

/// Memory that one compiled pattern may take.
const PATTERN_BYTES_MAX: usize = 1 << 18;

pub(super) fn expression(text: &str) -> Result<Node, QueryError> {
    let mut parser = Parser { text, at: 0 };
    let node = parser.any_of(0)?;
    parser.skip_space();
    if parser.at < text.len() {
        return Err(parser.expected("'and', 'or' or the end"));
    }
    Ok(node)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

/// An operator with its spellings, the longer of two that start alike first.
#[derive(Clone, Copy)]
enum Operator {
    Compare(Compare),
    Exists,
    In,
    Matches,
    Not(&'static Operator),
}

const OPERATORS: &[(&str, Operator)] = &[
    ("==", Operator::Compare(Compare::Equal)),
    ("!=", Operator::Compare(Compare::NotEqual)),
    (">=", Operator::Compare(Compare::GreaterOrEqual)),
    ("<=", Operator::Compare(Compare::LessOrEqual)),
    (">", Operator::Compare(Compare::Greater)),
    ("<", Operator::Compare(Compare::Less)),
    ("=~", Operator::Matches),
    ("!~", Operator::Not(&Operator::Matches)),
    ("!exists", Operator::Not(&Operator::Exists)),
    ("!in", Operator::Not(&Operator::In)),
    ("equals", Operator::Compare(Compare::Equal)),
    ("not_equals", Operator::Compare(Compare::NotEqual)),
    ("greater_than_equal", Operator::Compare(Compare::GreaterOrEqual)),
    ("greater_than", Operator::Compare(Compare::Greater)),
    ("less_than_equal", Operator::Compare(Compare::LessOrEqual)),
    ("less_than", Operator::Compare(Compare::Less)),
    ("not_exists", Operator::Not(&Operator::Exists)),
    ("exists", Operator::Exists),
    ("not_in", Operator::Not(&Operator::In)),
    ("in", Operator::In),
    ("not_matches", Operator::Not(&Operator::Matches)),
    ("matches", Operator::Matches),
];

impl<'a> Parser<'a> {
    fn any_of(&mut self, depth: usize) -> Result<Node, QueryError> {
        let first = self.all_of(depth)?;
        let mut nodes = vec![first];
        while self.eat_symbol("||") || self.eat_word("or") {
            nodes.push(self.all_of(depth)?);
        }
        Ok(one_or(nodes, Node::Any))
    }

    fn all_of(&mut self, depth: usize) -> Result<Node, QueryError> {
        let first = self.negated(depth)?;
        let mut nodes = vec![first];
        while self.eat_symbol("&&") || self.eat_word("and") {
            nodes.push(self.negated(depth)?);
        }
        Ok(one_or(nodes, Node::All))
    }

    fn negated(&mut self, depth: usize) -> Result<Node, QueryError> {
        if depth > DEPTH_MAX {
            return Err(QueryError::TooDeep);
        }
        if self.eat_symbol("!") || self.eat_word("not") {
            return Ok(Node::Not(Box::new(self.negated(depth + 1)?)));
        }
        if self.eat_symbol("(") {
            let inner = self.any_of(depth + 1)?;
            return if self.eat_symbol(")") { Ok(inner) } else { Err(self.expected("')'")) };
        }
        self.test()
    }

    fn test(&mut self) -> Result<Node, QueryError> {
        let subject = self.subject()?;
        let (spelling, operator) = self.operator()?;
        match operator {
            Operator::Not(inner) => {
                let test = self.operand(&subject, spelling, *inner)?;
                Ok(Node::Not(Box::new(Node::Test(subject, test))))
            }
            Operator::Compare(_) | Operator::Exists | Operator::In | Operator::Matches => {
                let test = self.operand(&subject, spelling, operator)?;
                Ok(Node::Test(subject, test))
            }
        }
    }

    fn subject(&mut self) -> Result<Subject, QueryError> {
        let word = self.word().ok_or_else(|| self.expected("a subject"))?;
        Ok(match word {
            "agentConnected" => Subject::AgentConnected,
            "agentVersion" => Subject::AgentVersion,
            "ec2InstanceId" => Subject::Ec2InstanceId,
            "registeredAt" => Subject::RegisteredAt,
            "runningTasksCount" => Subject::RunningTasksCount,
            "task:group" => Subject::TaskGroup,
            _ => match word.strip_prefix("attribute:") {
                Some(name) if !name.is_empty() => Subject::Attribute(name.to_owned()),
                Some(_) | None => {
                    return Err(QueryError::UnknownSubject { subject: word.to_owned() });
                }
            },
        })
    }

    fn operator(&mut self) -> Result<(&'static str, Operator), QueryError> {
        self.skip_space();
        for (spelling, operator) in OPERATORS {
            let is_word = spelling.ends_with(|last: char| last.is_ascii_alphabetic());
            let is_next = if is_word { self.eat_word(spelling) } else { self.eat_symbol(spelling) };
            if is_next {
                return Ok((spelling, *operator));
            }
        }
        Err(self.expected("an operator"))
    }

    fn operand(
        &mut self,
        subject: &Subject,
        spelling: &'static str,
        operator: Operator,
    ) -> Result<Test, QueryError> {
        let wrong = || QueryError::WrongOperator { operator: spelling, subject: subject.name() };
        let is_text = matches!(
            subject,
            Subject::Attribute(_)
                | Subject::Ec2InstanceId
                | Subject::TaskGroup
                | Subject::AgentVersion
        );
        match operator {
            Operator::Exists => match subject {
                Subject::Attribute(_) | Subject::Ec2InstanceId | Subject::AgentVersion => {
                    Ok(Test::Exists)
                }
                Subject::AgentConnected
                | Subject::RegisteredAt
                | Subject::RunningTasksCount
                | Subject::TaskGroup => Err(wrong()),
            },
            Operator::Compare(compare) => {
                let is_order = !matches!(compare, Compare::Equal | Compare::NotEqual);
                if is_order && matches!(subject, Subject::AgentConnected | Subject::TaskGroup) {
                    return Err(wrong());
                }
                Ok(Test::Compare(compare, self.value(subject)?))
            }
            Operator::In => self.list(subject).map(Test::In),
            Operator::Matches if is_text => self.pattern(),
            Operator::Matches | Operator::Not(_) => Err(wrong()),
        }
    }

    fn list(&mut self, subject: &Subject) -> Result<Vec<Value>, QueryError> {
        if !self.eat_symbol("[") {
            return Err(self.expected("'['"));
        }
        let mut values = vec![self.value(subject)?];
        while self.eat_symbol(",") {
            values.push(self.value(subject)?);
        }
        if self.eat_symbol("]") { Ok(values) } else { Err(self.expected("',' or ']'")) }
    }

    fn value(&mut self, subject: &Subject) -> Result<Value, QueryError> {
        let text = match self.quoted()? {
            Some(text) => text,
            None => self.word().ok_or_else(|| self.expected("a value"))?,
        };
        let wrong = |what| QueryError::WrongValue { value: text.to_owned(), what };
        match subject {
            Subject::Attribute(_)
            | Subject::AgentVersion
            | Subject::Ec2InstanceId
            | Subject::TaskGroup => Ok(Value::Text(text.to_owned())),
            Subject::AgentConnected => {
                text.parse().map(Value::Bool).map_err(|_| wrong("true or false"))
            }
            Subject::RunningTasksCount => {
                text.parse().map(Value::Count).map_err(|_| wrong("a number of tasks"))
            }
            Subject::RegisteredAt => time(text).map(Value::Time).ok_or_else(|| wrong("a time")),
        }
    }

    /// An unquoted pattern ends at a space, or at a parenthesis that it did not open itself.
    fn pattern(&mut self) -> Result<Test, QueryError> {
        let pattern = match self.quoted()? {
            Some(text) => text,
            None => {
                self.skip_space();
                let rest = &self.text[self.at..];
                let mut depth = 0_usize;
                let end = rest.find(|c: char| match c {
                    '(' => {
                        depth += 1;
                        false
                    }
                    ')' if depth == 0 => true,
                    ')' => {
                        depth -= 1;
                        false
                    }
                    c => c.is_whitespace(),
                });
                let pattern = &rest[..end.unwrap_or(rest.len())];
                if pattern.is_empty() {
                    return Err(self.expected("a pattern"));
                }
                self.at += pattern.len();
                pattern
            }
        };
        // The whole value must match, as Java's `matches` has it.
        RegexBuilder::new(&format!("^(?:{pattern})$"))
            .size_limit(PATTERN_BYTES_MAX)
            .build()
            .map(Test::Matches)
            .map_err(|_| QueryError::Pattern { pattern: pattern.to_owned() })
    }

    fn quoted(&mut self) -> Result<Option<&'a str>, QueryError> {
        self.skip_space();
        let rest = &self.text[self.at..];
        let Some(quote) = rest.chars().next().filter(|c| matches!(c, '\'' | '"')) else {
            return Ok(None);
        };
        let inner = &rest[1..];
        let end = inner.find(quote).ok_or_else(|| self.expected("a closing quote"))?;
        self.at += end + 2;
        Ok(Some(&inner[..end]))
    }

    /// Characters up to a space or one that means something.
    fn word(&mut self) -> Option<&'a str> {
        self.skip_space();
        let rest = &self.text[self.at..];
        let is_end = |c: char| c.is_whitespace() || "()[],'\"=!<>&|".contains(c);
        let word = &rest[..rest.find(is_end).unwrap_or(rest.len())];
        self.at += word.len();
        (!word.is_empty()).then_some(word)
    }

    fn eat_symbol(&mut self, symbol: &str) -> bool {
        self.skip_space();
        let is_next = self.text[self.at..].starts_with(symbol);
        if is_next {
            self.at += symbol.len();
        }
        is_next
    }

    /// As a symbol, but whole: `in` is not the start of `inner`.
    fn eat_word(&mut self, word: &str) -> bool {
        self.skip_space();
        let Some(after) = self.text[self.at..].strip_prefix(word) else { return false };
        let is_whole = !after.starts_with(|c: char| c.is_alphanumeric() || "_:.-".contains(c));
        if is_whole {
            self.at += word.len();
        }
        is_whole
    }

    fn skip_space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    fn expected(&self, expected: &'static str) -> QueryError {
        QueryError::Expected { expected, at: self.text[..self.at].chars().count() + 1 }
    }
}

fn one_or(mut nodes: Vec<Node>, many: fn(Vec<Node>) -> Node) -> Node {
    if nodes.len() == 1 { nodes.remove(0) } else { many(nodes) }
}

/// `2026-11-20`, `2026-11-20T21:10`, with seconds, a fraction and a `Z`; or seconds since the epoch.
fn time(text: &str) -> Option<Timestamp> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Timestamp(seconds.checked_mul(1000)?));
    }
    let (date, clock) = text.split_once('T').unwrap_or((text, "00:00"));
    let mut date = date.splitn(3, '-');
    let year = date.next()?.parse().ok()?;
    let month = date.next()?.parse().ok()?;
    let day = Timestamp::from_civil(year, month, date.next()?.parse().ok()?)?;
    let clock = clock.strip_suffix('Z').unwrap_or(clock);
    let whole = clock.split_once('.').map_or(clock, |(whole, _)| whole);
    let mut parts = whole.splitn(3, ':');
    let hours: u64 = parts.next()?.parse().ok().filter(|hours| *hours < 24)?;
    let minutes: u64 = parts.next()?.parse().ok().filter(|minutes| *minutes < 60)?;
    let seconds: u64 = parts.next().unwrap_or("0").parse().ok().filter(|seconds| *seconds < 61)?;
    Some(day.plus_ms(((hours * 60 + minutes) * 60 + seconds) * 1000))
}
