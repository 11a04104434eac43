//! The cluster query language: expressions that select container instances.
//!
//! `attribute:ecs.instance-type =~ g2.* and attribute:ecs.availability-zone in [a, b]`, with `and`,
//! `or`, `not`, parentheses, and the long names of the operators too. A parsed [`Expression`] holds
//! typed operands and compiled patterns; evaluating it cannot fail.
//!
//! **Invariant:** parsing any text ends, in bounded depth, with an expression or a [`QueryError`].

mod eval;
mod parse;

use longshore_types::Timestamp;
use regex::Regex;

pub use eval::Facts;

/// The longest expression that is read.
pub const EXPRESSION_CHARS_MAX: usize = 2000;
/// How deep parentheses and `not` may nest.
pub const DEPTH_MAX: usize = 32;

/// Why a text is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    #[error("the expression is longer than {EXPRESSION_CHARS_MAX} characters")]
    TooLong,
    #[error("the expression nests deeper than {DEPTH_MAX} levels")]
    TooDeep,
    #[error("expected {expected} at character {at}")]
    Expected { expected: &'static str, at: usize },
    #[error("unknown subject '{subject}'")]
    UnknownSubject { subject: String },
    #[error("operator '{operator}' does not apply to '{subject}'")]
    WrongOperator { operator: &'static str, subject: &'static str },
    #[error("'{value}' is not {what}")]
    WrongValue { value: String, what: &'static str },
    #[error("pattern '{pattern}' is not a regular expression that can be used here")]
    Pattern { pattern: String },
}

/// What a test looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Attribute(String),
    AgentConnected,
    AgentVersion,
    Ec2InstanceId,
    RegisteredAt,
    RunningTasksCount,
    TaskGroup,
}

impl Subject {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Attribute(_) => "attribute",
            Self::AgentConnected => "agentConnected",
            Self::AgentVersion => "agentVersion",
            Self::Ec2InstanceId => "ec2InstanceId",
            Self::RegisteredAt => "registeredAt",
            Self::RunningTasksCount => "runningTasksCount",
            Self::TaskGroup => "task:group",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

/// An operand, of the type that its subject has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Bool(bool),
    Count(u32),
    Time(Timestamp),
}

#[derive(Clone, Debug)]
pub(crate) enum Test {
    Exists,
    Compare(Compare, Value),
    In(Vec<Value>),
    Matches(Regex),
}

#[derive(Clone, Debug)]
pub(crate) enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Test(Subject, Test),
}

/// An expression that was understood.
#[derive(Clone, Debug)]
pub struct Expression(Node);

impl std::str::FromStr for Expression {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        if text.chars().count() > EXPRESSION_CHARS_MAX {
            return Err(QueryError::TooLong);
        }
        parse::expression(text).map(Self)
    }
}

impl Expression {
    pub fn matches(&self, facts: &Facts<'_>) -> bool {
        eval::holds(&self.0, facts)
    }
}
