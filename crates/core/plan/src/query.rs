//! The cluster query language: expressions that select container instances.
//!
//! `attribute:ecs.instance-type =~ g2.* and attribute:ecs.availability-zone in [a, b]`, with `and`,
//! `or`, `not`, parentheses, and the long names of the operators too. A parsed [`Expression`] holds
//! typed operands and compiled patterns; evaluating it cannot fail.
//!
//! **Invariant:** parsing any text ends, in bounded depth, with an expression or a [`QueryError`].

mod eval;
mod parse;

use std::sync::Arc;

use longshore_types::Timestamp;
use regex::Regex;

pub use eval::{Facts, Groups};

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

    fn reach(&self) -> Reach {
        match self {
            Self::Attribute(_) | Self::AgentConnected | Self::AgentVersion => Reach::Kind,
            Self::Ec2InstanceId | Self::RegisteredAt => Reach::Instance,
            Self::RunningTasksCount | Self::TaskGroup => Reach::Tasks,
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

impl Node {
    fn reach(&self) -> Reach {
        match self {
            Self::All(nodes) | Self::Any(nodes) => {
                nodes.iter().map(Self::reach).max().unwrap_or(Reach::Kind)
            }
            Self::Not(node) => node.reach(),
            Self::Test(subject, _) => subject.reach(),
        }
    }
}

/// How much of an instance an expression looks at, from what changes least to what every task changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// What many instances have alike: attributes and the agent.
    Kind,
    /// What one instance has for good: its ids and when it came.
    Instance,
    /// Its tasks.
    Tasks,
}

/// An expression that was understood. Two are equal if their texts are.
#[derive(Clone, Debug)]
pub struct Expression(Arc<Parsed>);

#[derive(Debug)]
struct Parsed {
    text: String,
    node: Node,
    reach: Reach,
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.text == other.0.text
    }
}

impl Eq for Expression {}

impl std::str::FromStr for Expression {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        if text.chars().count() > EXPRESSION_CHARS_MAX {
            return Err(QueryError::TooLong);
        }
        let node = parse::expression(text)?;
        let reach = node.reach();
        Ok(Self(Arc::new(Parsed { text: text.to_owned(), node, reach })))
    }
}

impl Expression {
    pub fn matches(&self, facts: &Facts<'_>) -> bool {
        eval::holds(&self.0.node, facts)
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    pub(crate) fn reach(&self) -> Reach {
        self.0.reach
    }
}
